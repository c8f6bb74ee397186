"""How much slower a training is beside other programs: `course.py bench --beside`.

Each training runs in a process of its own, as `course.py run` trains. When all are ready, all begin. Each counts its
steps for some seconds, from a moment on at which all train.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from common.experiments.roofline import IMAGES
from common.recipe import ROOT
from common.system.errors import UserError

RECORDED = ROOT / "sessions/S9/bench_beside.json"
STEPS = ("S7/block3", "S7/block1")
WAYS = {  # what a thread does that waits for another: variables of OpenMP's, and whether the threads follow the load
    "spinning": ({}, False),
    "GOMP_SPINCOUNT=1000": ({"GOMP_SPINCOUNT": "1000"}, False),
    "OMP_WAIT_POLICY=PASSIVE": ({"OMP_WAIT_POLICY": "PASSIVE"}, False),
    "as many threads as idle cores": ({}, True),
}
SITUATIONS = {"alone": (1, 0), "two at once": (2, 0), "three at once": (3, 0), "beside a busy program": (1, 1)}
SECONDS = 6.0  # of counting the steps, after a third of it without


def compare(steps: tuple[str, ...] = STEPS) -> dict:
    """Seconds an epoch, for each step, way and situation: a list with one number for each training."""
    found = {step: {way: {} for way in WAYS} for step in steps}
    for step in steps:
        for way, (variables, follows) in WAYS.items():
            for situation, (trainings, busy) in SITUATIONS.items():
                seconds = measure(step, variables, follows, trainings, busy)
                found[step][way][situation] = seconds
                said = f"{step}, {way}, {situation}: {statistics.fmean(seconds):.1f} s an epoch"
                print(f"{'measured':<11}{said}", file=sys.stderr)
    return {**machine(), "steps": found}


def machine() -> dict:
    """This machine, as the records describe it."""
    import torch

    from common import records

    return records.machine(torch.device("cpu"))


def measure(
    step: str, variables: dict, follows: bool, trainings: int, busy: int, seconds: float = SECONDS
) -> list[float]:
    """Seconds an epoch of each of so many trainings at once, beside so many programs that do nothing but work."""
    environment = {**{name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}, **variables}
    command = [sys.executable, "-m", "common.experiments.beside", step, f"--seconds={seconds}"]
    command += ["--follow"] if follows else []
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    started = [subprocess.Popen(command, env=environment, **pipes) for _ in range(trainings)]
    others = []
    try:
        for process in started:
            if process.stdout.readline().strip() != "ready":
                raise UserError(f"The training of {step} did not begin (see above).")
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        for process in started:
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    finally:
        for process in [*others, *started]:
            process.kill()
            process.wait()


def ratio(result: dict, step: str, word: str, follows: bool) -> float:
    """How many times as long as alone an epoch takes in the situation with this word in its name."""
    (situation,) = (name for name in SITUATIONS if word in name.split())
    way = [name for name, (_, following) in WAYS.items() if following == follows][0]
    found = result["steps"][step]
    return statistics.fmean(found[way][situation]) / statistics.fmean(found["spinning"]["alone"])


def table(result: dict) -> str:
    """A block for each step: seconds an epoch, as a mean over the trainings, and how many times those alone."""
    lines = []
    for step, ways in result["steps"].items():
        lines.append(f"{step + ', seconds an epoch':<34}" + "".join(f"{situation:>22}" for situation in SITUATIONS))
        alone = statistics.fmean(ways["spinning"]["alone"])
        for way, found in ways.items():
            means = [statistics.fmean(found[situation]) for situation in SITUATIONS]
            cells = [f"{mean:.1f} ({mean / alone:.2f})" for mean in means]
            lines.append(f"  {way:<32}" + "".join(f"{cell:>22}" for cell in cells))
    lines.append(f"{result['threads']} threads, {result['machine']}, torch {result['torch']}")
    return "\n".join(lines)


def main() -> None:
    """One training: prints "ready", waits for a line, trains, and prints seconds an epoch."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("step")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of counting; before it a third of it")
    parser.add_argument("--follow", action="store_true", help="use as many threads as cores are idle")
    options = parser.parse_args()
    train = _training(options.step, options.follow)
    print("ready", flush=True)
    sys.stdin.readline()
    train(options.seconds / 3)
    started = time.perf_counter()
    images = train(options.seconds)
    print(IMAGES * (time.perf_counter() - started) / images)


def _training(step: str, follows: bool):
    """A function that trains the step's network for so many seconds and returns how many images it took."""
    import torch

    from common import data, models, records
    from common.recipe import Options
    from common.training import acceleration, loops
    from common.training.optimizers import make_optimizer

    if not follows:
        loops.beside_others = iter
    recipe = records.recipe_of(step, records.load(step)["recipe"])
    network, count = models.of(recipe), 20_000
    images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,))
    options = Options("mnist", None, "cpu", "held-out", "full", False, Path(), network=network)
    model = models.build(network)
    training_step = acceleration.make_training_step(model, recipe, options, steps_per_epoch=10_000)
    optimizer = make_optimizer(model, recipe, training_step.fused_optimizer)
    loader = data.InMemoryLoader(images, labels, recipe.batch_size, augmentation=recipe.augmentation, shuffle=True)
    taken = 0

    def until(end: float):
        nonlocal taken
        while True:
            for batch in loader:
                taken += len(batch[1])
                yield batch
                if time.perf_counter() > end:
                    return

    def train(seconds: float) -> int:
        nonlocal taken
        taken = 0
        loops.train_epoch(model, until(time.perf_counter() + seconds), optimizer, training_step)
        return taken

    train(0.5)  # the first steps pay for memory and for the loops
    return train


if __name__ == "__main__":
    main()
