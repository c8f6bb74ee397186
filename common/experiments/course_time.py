"""How long the whole course takes, every lesson in full: `course.py bench --course`.

A lesson that trains is measured by a part: some seconds of training and some of testing by its recorded recipe, as
`course.py run` computes them, and of its teacher if it has one. From these follow its epochs. What a lesson does beside
its training is measured whole: it is run once as it stands, with the recorded training. The lessons of S9 are left out,
for in full they train nothing, and measure the machine for some eight minutes.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from common.experiments.roofline import IMAGES
from common.recipe import ROOT
from common.system.errors import UserError

RECORDED = ROOT / "sessions/S9/bench_course.json"
LEFT_OUT = "S9/"
SECONDS = 6.0  # of training, and at most of testing, by which an epoch is measured
TEST_IMAGES = 10_000


def compare() -> dict:
    """Minutes of each lesson: what is trained, its epochs, seconds an epoch, and the rest of the page."""
    from common import models
    from common.experiments.beside import machine
    from common.lesson.notebooks import lessons
    from common.records import store

    found = {}
    for lesson in lessons():
        if lesson.startswith(LEFT_OUT):
            continue
        row = {"page_seconds": page_seconds(lesson), "trainings": []}
        if store.path_of(lesson).exists():
            recipe = store.recipe_of(lesson, store.load(lesson)["recipe"])
            parts = [(models.of(recipe), recipe.epochs, bool(recipe.teacher))]
            parts += [(recipe.teacher, recipe.epochs, False)] if recipe.teacher else []
            for network, epochs, asks_teacher in parts:
                measured = in_process(lesson, network, asks_teacher)
                row["trainings"].append({"network": network, "epochs": epochs, **measured})
        found[lesson] = row
        print(f"{'measured':<11}{lesson}: {minutes(row):.1f} minutes", file=sys.stderr)
    return {**machine(), "lessons": found}


def minutes(row: dict) -> float:
    """A lesson's minutes in full."""
    trained = sum(one["epochs"] * (one["train_seconds"] + one["test_seconds"]) for one in row["trainings"])
    return (row["page_seconds"] + trained) / 60


def table(result: dict) -> str:
    """A line for each lesson, and the sum."""
    lines = [f"{'minutes, every lesson in full':<40}{'training':>10}{'testing':>10}{'the page':>10}{'all':>8}"]
    for lesson, row in result["lessons"].items():
        trained, tested = (
            sum(one["epochs"] * one[name] for one in row["trainings"]) / 60
            for name in ("train_seconds", "test_seconds")
        )
        lines.append(
            f"{lesson:<40}{trained:>10.1f}{tested:>10.1f}{row['page_seconds'] / 60:>10.1f}{minutes(row):>8.1f}"
        )
    total = sum(map(minutes, result["lessons"].values()))
    lines.append(f"{'the whole course but S9':<40}{total:>38.1f}")
    lines.append(f"{result['threads']} threads, {result['machine']}, torch {result['torch']}")
    return "\n".join(lines)


def page_seconds(lesson: str) -> float:
    """Seconds that the lesson's script takes with the recorded training."""
    started = time.perf_counter()
    command = [sys.executable, str(ROOT / "sessions" / f"{lesson}.py"), "--train", "recorded"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise UserError(f"{lesson} failed (see above).")
    return time.perf_counter() - started


def in_process(lesson: str, network: str, asks_teacher: bool) -> dict:
    """What `measure` gives, from a process of its own."""
    request = json.dumps([lesson, network, asks_teacher])
    command = [sys.executable, "-m", "common.experiments.course_time", request]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"The measurement of {network} for {lesson} failed (see above).")
    return json.loads(done.stdout.splitlines()[-1])


def measure(lesson: str, network: str, asks_teacher: bool) -> dict:
    """Seconds of an epoch's training and of its testing, and which layers compute it."""
    import torch

    from common import data, models
    from common.recipe import Options
    from common.records import store
    from common.training import acceleration, distillation, loops
    from common.training.optimizers import make_optimizer, weight_ema

    recipe = store.recipe_of(lesson, store.load(lesson)["recipe"])
    options = Options("mnist", None, "cpu", "held-out", "full", False, Path(), network=network)
    images, labels = torch.randint(0, 256, (IMAGES // 3, 28, 28), dtype=torch.uint8), torch.zeros(20_000, dtype=int)
    model, loss = models.build(network), loops.nll_loss
    if asks_teacher:
        loss = distillation.loss_with(models.build(recipe.teacher), recipe, options)
    training_step = acceleration.make_training_step(model, recipe, options, IMAGES // recipe.batch_size, loss)
    optimizer, ema = make_optimizer(model, recipe, training_step.fused_optimizer), weight_ema(model, recipe)
    loader = data.InMemoryLoader(images, labels, recipe.batch_size, augmentation=recipe.augmentation, shuffle=True)

    def timed(step, batches, seconds: float, of: int) -> float:
        """Seconds for so many images, from the batches that are done within the time."""
        done, started, end = 0, time.perf_counter(), time.perf_counter() + seconds

        def within():
            nonlocal done
            while True:
                for batch in batches:
                    yield batch
                    done += len(batch[1])
                    if time.perf_counter() > end:
                        return

        step(within())
        return of * (time.perf_counter() - started) / done

    def train(batches):
        loops.train_epoch(model, batches, optimizer, training_step, ema=ema)

    def test(batches):
        loops.evaluate(model, batches, forward=acceleration.forward_in_testing(model, training_step.chosen))

    timed(train, loader, 1.5, IMAGES)
    trained = timed(train, loader, SECONDS, IMAGES)
    tests = data.InMemoryLoader(images[:2_000], labels[:2_000], 200)
    timed(test, tests, 0.5, TEST_IMAGES)
    tested = timed(test, tests, SECONDS / 2, TEST_IMAGES)
    return {"train_seconds": trained, "test_seconds": tested, "layers": training_step.chosen.layers}


if __name__ == "__main__":
    print(json.dumps(measure(*json.loads(sys.argv[1]))))
