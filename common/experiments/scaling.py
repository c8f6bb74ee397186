"""How long a step of one network takes on several processes, and a model of that: compute, latency, bytes.

`python -m common.experiments.scaling --record` measures, in six to eight minutes. Each process has one thread. They
share the gradients as `torchrun` has them share a lesson's: by `common.training.distributed`. A machine may be faster
in one minute than in the next, so everything is measured in several rounds, and the median over the rounds counts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.recipe import ROOT
from common.system.errors import UserError
from common.system.files import write_atomically

STEP = "S7/block3"
RECORDED = ROOT / "sessions" / "S11" / "scaling.json"
BATCHES = (8, 16, 32, 64, 128, 256)  # images in a step of one process
SIZES = (4, 4_096, 31_616, 2**18, 2**20, 2**22, 2**24)  # bytes of an all-reduce; the third are block 3's gradients
PROCESSES = (2, 3)
TOGETHER = (64, 256)  # images in a step of all processes
ROUNDS = 5  # of what is recorded
KINDS = ("steps", "our loops")  # by PyTorch's layers, by the course's own loops
APART = "apart"  # by PyTorch's layers, side by side with the other processes, but without a message


@dataclass(frozen=True)
class Cost:
    """What a step of data-parallel training is made of; seconds, and bytes a second."""

    per_step: float  # whatever the batch is: Python, the calls, the optimizer
    per_image: float
    latency: float  # of one message
    bandwidth: float  # bytes a second from one process to the next

    def compute(self, images: float) -> float:
        """Seconds of one process for its images of a batch."""
        return self.per_step + self.per_image * images

    def all_reduce(self, size: float, processes: int) -> float:
        """Seconds until each process has the sum of all processes' `size` bytes.

        In a ring each process sends 2 (n - 1) messages to its neighbour, each an n-th of the bytes (Patarasuk and Yuan
        2009, https://doi.org/10.1016/j.jpdc.2008.09.002).
        """
        messages = 2 * (processes - 1)
        return messages * (self.latency + size / processes / self.bandwidth)

    def step(self, images: int, size: float, processes: int, cores: int | None = None) -> float:
        """Seconds of a step over a batch of `images`. With fewer `cores` than processes these take turns."""
        turns = max(1, processes / (cores or processes))
        return turns * self.compute(images / processes) + self.all_reduce(size, processes)


def fit(record: dict) -> Cost:
    """The four numbers, by least squares of the relative errors: two from one process's steps, two from all-reduces."""
    steps = {int(images): seconds for images, seconds in record["one process"].items()}
    per_step, per_image = _line(list(steps), list(steps.values()))
    reduces = {int(size): seconds for size, seconds in record["all-reduce"]["2"].items()}
    two_latencies, per_byte = _line(list(reduces), list(reduces.values()))  # two messages, each of half the bytes
    return Cost(per_step, per_image, two_latencies / 2, 1 / per_byte)


def _line(x: list[float], y: list[float]) -> tuple[float, float]:
    """Intercept and slope of the line whose relative errors have the least sum of squares."""
    x, y = np.array(x, dtype=float), np.array(y, dtype=float)
    (intercept, slope), *_ = np.linalg.lstsq(np.stack([1 / y, x / y], axis=1), np.ones(len(y)), rcond=None)
    return float(intercept), float(slope)


def measure(step: str = STEP, repeats: int = 40, rounds: int = 1) -> dict:
    """Seconds of a step on one process and on several, and of the all-reduce: the median over the rounds.

    It starts the processes itself; a round takes more than a minute. Raises UserError where they do not get to the end.
    """
    found = [_measure_once(step, repeats) for _ in range(rounds)]
    return {**_median_of(found), "rounds": rounds}


def _median_of(rounds: list) -> dict | float | str | int:
    """One record of several that are alike: of each number of seconds the median, all else as it is."""
    first = rounds[0]
    if isinstance(first, dict):
        return {key: _median_of([one[key] for one in rounds]) for key in first}
    return statistics.median(rounds) if isinstance(first, float) else first


def _measure_once(step: str, repeats: int) -> dict:
    """Median seconds in one round, each way once after the other."""
    import torch

    from common import models, records
    from common.models import anatomy

    parameters = anatomy.count_parameters(models.build(step))
    one = _torchrun(1, step, repeats, BATCHES)
    all_cores = _in_this_process(step, repeats, _cores())
    found = {
        **records.machine(torch.device("cpu")),
        "cores": _cores(),
        "step": step,
        "parameters": parameters,
        "bytes": 4 * parameters,
        "one process": one["steps"],
        "one process, our loops": one["our loops"],
        "one process, all cores": {"PyTorch's layers": all_cores["steps"], "our loops": all_cores["our loops"]},
        "all-reduce": {},
        "together": {},
        "together, our loops": {},
        "side by side, no messages": {},
    }
    for count in PROCESSES:
        several = _torchrun(count, step, repeats, TOGETHER, SIZES, (*KINDS, APART))
        found["all-reduce"][str(count)] = several["all-reduce"]
        found["together"][str(count)] = several["steps"]
        found["together, our loops"][str(count)] = several["our loops"]
        found["side by side, no messages"][str(count)] = several[APART]
    return found


def one_and_two(repeats: int, images: int = 64, step: str = STEP) -> tuple[float, float]:
    """Median seconds of a step over so many images by one thread of this process, and by two processes that share it.

    Both compute PyTorch's layers. Raises UserError where the processes do not get to the end.
    """
    one = _in_this_process(step, repeats, 1, images, ("steps",))
    two = _torchrun(2, step, repeats, (images,), kinds=("steps",))
    return one["steps"], two["steps"][str(images)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _torchrun(processes: int, step: str, repeats: int, batches=(), sizes=(), kinds=KINDS) -> dict:
    """What the worker below measures on so many processes. Raises UserError where they do not get to the end."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "measured.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command += ["-m", "common.experiments.scaling", "--worker", f"--step={step}", f"--repeats={repeats}"]
        command += [f"--out={out}", f"--batches={json.dumps(batches)}", f"--sizes={json.dumps(sizes)}"]
        command += [f"--kinds={json.dumps(kinds)}"]
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        if done.returncode or not out.exists():
            said = done.stderr.partition("Traceback")[0].strip()  # what follows is torchrun's own
            raise UserError(f"{said[-1_000:]}\n{processes} processes did not get to the end (see above).")
        return json.loads(out.read_text(encoding="utf-8"))


def _worker(options: argparse.Namespace) -> None:
    """One of the processes. All do the same; the first one writes down what it measured."""
    import torch
    from torch import distributed

    from common.training.distributed import Group

    torch.set_num_threads(1)
    group = Group(torch.device("cpu"))
    together = distributed.barrier if group.count > 1 else _no_others
    kinds = json.loads(options.kinds)
    found = {**{kind: {} for kind in kinds}, "all-reduce": {}}
    for images in json.loads(options.batches):
        for kind in kinds:
            step = _training_step(options.step, images, kind, group)
            found[kind][images] = _median(step, options.repeats, together)
    for size in json.loads(options.sizes):
        numbers = torch.ones(size // 4)
        found["all-reduce"][size] = _median(
            lambda numbers=numbers: distributed.all_reduce(numbers), options.repeats, together
        )
    if group.rank == 0:
        write_atomically(options.out, json.dumps(found).encode())
    together()  # none leaves while another still measures


def _in_this_process(step: str, repeats: int, threads: int, images: int = 64, kinds=KINDS) -> dict[str, float]:
    """Median seconds of a step by so many threads of this process: by PyTorch's layers, by the course's own loops."""
    import torch

    from common.training.distributed import Group

    before, group = torch.get_num_threads(), Group(torch.device("cpu"))
    torch.set_num_threads(threads)
    try:
        return {kind: _median(_training_step(step, images, kind, group), repeats) for kind in kinds}
    finally:
        torch.set_num_threads(before)


def _training_step(step: str, images: int, kind: str, group):
    """A function that does one step over this process's share of so many random images: forward, backward, update."""
    import torch

    from common import models
    from common.cpu_kernels import chwn
    from common.training.steps import make_forward_backward, nll_loss

    torch.manual_seed(1)
    model = models.build(step).train()
    forward = chwn.ChwnForward(model) if kind == "our loops" else model
    if group.count > 1 and kind != APART:
        forward_backward = group.forward_backward(model, forward, nll_loss)
    else:
        forward_backward = make_forward_backward(forward)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    ((batch, labels),) = group.shares([(torch.randn(images, 1, 28, 28), torch.randint(10, (images,)))])

    def one_step() -> None:
        optimizer.zero_grad()
        forward_backward(batch, labels)
        optimizer.step()

    return one_step


def _no_others() -> None:
    """One process waits for nobody."""


def _median(action, repeats: int, together=_no_others) -> float:
    """The median seconds of an action after five that do not count; `together` waits for the other processes."""
    seconds = []
    for _ in range(5 + repeats):
        together()
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[5:])


def main(arguments: list[str] | None = None) -> None:
    """The command line: measure, print, and keep with --record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--record", action="store_true", help=f"keep it in {RECORDED.relative_to(ROOT)}")
    parser.add_argument("--step", default=STEP, help=f"whose network (default: {STEP})")
    parser.add_argument("--repeats", type=int, default=40, help="steps of each kind (default: 40)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of all kinds (default: {ROUNDS})")
    for hidden in ("--batches", "--sizes", "--kinds"):
        parser.add_argument(hidden, default="[]", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        _worker(options)
        return
    text = json.dumps(measure(options.step, options.repeats, options.rounds), indent=1) + "\n"
    if options.record:
        write_atomically(RECORDED, text.encode())
    print(text, end="")


if __name__ == "__main__":
    main()
