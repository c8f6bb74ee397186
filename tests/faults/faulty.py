"""Processes to which faults happen: real ones, forked from one that has the imports behind it already."""

import contextlib
import json
import multiprocessing
import os
import runpy
import signal
import sys
import time
from pathlib import Path

INJECTED: list[str] = []  # the faults that the test that runs has injected so far; conftest.py counts them
LESSON = Path(__file__).with_name("small_lesson.py")
CONTEXT = multiprocessing.get_context("forkserver") if os.name != "nt" else None
if CONTEXT:
    CONTEXT.set_forkserver_preload(
        [
            "common.records.report",
            "common.lesson.notebooks",
            "common.experiments.study",
            "common.data.loaders",
            "torch._dynamo",  # the first optimizer imports it, and a fork would count it as its own growth
            "common.lesson.plots",
            "sklearn.datasets",  # the built-in digits
            "numba",  # not the loops themselves, whose threads a fork would lose
        ]
    )


class Run:
    """A process that does `target(*arguments)`, and what it has said so far.

    `fault` is done at its `write`-th write of a file, by the process itself: "kill" when the bytes are in the temporary
    file and the final name is still the old file's, "full" so that the disk takes no more than 100 bytes of it.
    """

    def __init__(self, target, *arguments, fault: str = "", write: int = 0, **named):
        self.output, theirs = CONTEXT.Pipe(duplex=False)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COURSE_DATA": "builtin", "TQDM_DISABLE": "1"}
        self.process = CONTEXT.Process(
            target=_child, args=(theirs, environment, fault, write, target, arguments, named), daemon=True
        )
        self.process.start()
        theirs.close()
        self.pid, self.said, self.fault = self.process.pid, "", fault

    def wait_for(self, text: str) -> None:
        """Return when it has said `text`, or has ended."""
        while text not in self.said and (more := os.read(self.output.fileno(), 65536)):
            self.said += more.decode()

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
            if number not in (signal.SIGKILL, signal.SIGCONT):  # `end` sees whether a kill came in time
                INJECTED.append(str(number))

    def end(self) -> int:
        """Wait for its end; the exit code, negative for the signal that ended it."""
        self.wait_for("\0")
        self.process.join()
        if self.process.exitcode == -signal.SIGKILL or self.fault == "full":
            INJECTED.append(self.fault)
        return self.process.exitcode


def _child(pipe, environment, fault, write, target, arguments, named):
    import resource

    import torch

    os.environ.clear()
    os.environ.update(environment)
    os.dup2(pipe.fileno(), 1)
    os.dup2(pipe.fileno(), 2)
    pipe.close()
    sys.stdout, sys.stderr = (os.fdopen(number, "w", 1, "utf-8", closefd=False) for number in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)

    def fill_the_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

    written, flush = [], os.fsync

    def counting_fsync(file):  # common.system.files calls it once for each file
        flush(file)
        written.append(file)
        if fault == "kill" and len(written) == write:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "full" and len(written) == write - 1:
            fill_the_disk()

    os.fsync = counting_fsync
    if fault == "full" and write == 1:
        fill_the_disk()
    try:
        target(*arguments, **named)
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())


# What can be run.


def lesson(*arguments):
    sys.argv = [str(LESSON), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")


def study(root: Path, *asked: str, seeds: int = 2, jobs: int = 2):
    from common.experiments import study as studies
    from common.records import store

    studies.ROOT = store.ROOT = root
    studies.Study("S7/block3", asked=asked).run(seeds, jobs)


def notebooks(sessions: Path, reuse: bool = False):
    from common.lesson import notebooks as module

    module.ROOT = sessions.parent
    module.update(sessions, reuse=reuse)


def figure(folder: Path, *captions: str):
    import torch

    from common.lesson import plots

    plots.show(plots.grid(torch.zeros(len(captions), 28, 28), captions), folder, "blank")


def download(sums: dict, together=None, as_nobody: bool = False, **settings):
    """Get MNIST, which is what `sums` says, with other `settings`, and print its fingerprint."""
    import hashlib

    from common import data
    from common.data import mnist_files

    if as_nobody and os.geteuid() == 0:
        os.seteuid(65534)  # root may write anywhere
    for name, value in {"MD5": sums, **settings}.items():
        setattr(mnist_files, name, value)
    if together:
        together.wait()
    data.load("mnist")
    files = mnist_files.mnist_files()
    print(hashlib.md5(b"".join(files[name] for name in sums)).hexdigest())


def grown(target, *arguments):
    """Print by how many MB of memory `target(*arguments)` made the process's peak grow, and what it raised."""
    import resource

    scale = 2**20 if sys.platform == "darwin" else 2**10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        said = target(*arguments)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / scale)
    print(said)


def a_lesson_for_a_notebook(root: Path) -> Path:
    """The small lesson, with its results under `root`: a notebook's kernel is not shown COURSE_OUT."""
    path = root / "sessions" / "S1" / "small.py"
    path.parent.mkdir(parents=True)
    (root / "sessions" / "lessons.txt").write_text("S1/small\n", encoding="utf-8")
    text = LESSON.read_text(encoding="utf-8")
    asked = "recipe, options = command_line(recipe)\n"
    here = "import dataclasses, pathlib\noptions = dataclasses.replace(options, out=pathlib.Path({!r}))\n"
    path.write_text(text.replace(asked, asked + here.format(str(out_of(path)))), encoding="utf-8")
    return path


def out_of(lesson: Path) -> Path:
    return lesson.parents[2] / "runs" / "S1" / "small"


# What is left behind.


def strays(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.tmp")]


def results(folder: Path) -> tuple[bytes, list]:
    """The weights that a run left, and its measurements but for how long they took."""
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    histories = [[{**row, "seconds": 0} for row in run["history"]] for run in record["runs"]]
    return (folder / "weights.safetensors").read_bytes(), histories


def wait_until(condition, seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()
