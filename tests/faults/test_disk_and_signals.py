"""The disk full at each write, a stop from outside, a laptop that sleeps, two runs in one folder, a loss gone wild."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time

import faulty
import psutil
import pytest
import torch
from jupyter_client.manager import start_new_kernel

from common import data, models, records
from common.data.loaders import InMemoryLoader
from common.recipe import Options, Recipe
from common.system import files
from common.system.errors import UserError
from common.training import loops
from common.training.checkpoints import Checkpoint
from common.training.metrics import MetricSums

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither fork nor these signals")


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """The folders of two undisturbed runs: of seed 1, and of seed 2."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for seed in (1, 2):
        run = faulty.Run(faulty.lesson, f"--out={folder / str(seed)}", f"--seed={seed}", "--epochs=3")
        assert run.end() == 0, run.said
    return folder / "1", folder / "2"


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@posix
@pytest.mark.parametrize("write", range(1, 7))  # 1 + 3 checkpoints, the record, the weights
def test_a_disk_that_is_full_at_any_write_harms_no_earlier_file(tmp_path, two_runs, write, full):
    if write in (2, 3) and not full:
        pytest.skip(
            "the last epoch's checkpoint, the fourth write, is written like these; `course.py faults` fills all"
        )
    old, new = two_runs
    out = tmp_path / "run"
    shutil.copytree(old, out)
    before = contents(out)
    run = faulty.Run(faulty.lesson, f"--out={out}", "--seed=2", "--epochs=3", fault="full", write=write)
    assert run.end() == 2, run.said
    assert run.said.splitlines()[-1].startswith(f"Cannot write {out}"), run.said
    assert "File too large" in run.said and "Traceback" not in run.said
    after = contents(out)
    for name in ("record.json", "weights.safetensors"):  # both of the run before
        assert after[name] == before[name], name
    assert after.keys() == before.keys()  # no temporary file
    again = faulty.Run(
        faulty.lesson, f"--out={out}", "--seed=2", "--epochs=3", *(["--resume"] if write > 1 else [])
    )  # at the first write the checkpoint was still the old run's
    assert again.end() == 0, again.said
    assert faulty.results(out) == faulty.results(new)


PRETENDED = """
import json, os, pathlib, resource, sys

resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))  # full for the study alone
options = dict(argument.lstrip("-").split("=", 1) for argument in sys.argv[1:] if "=" in argument)
seed, out = int(options["seed"]), pathlib.Path(options["out"])
out.mkdir(parents=True, exist_ok=True)
row = dict(epoch=1, test_correct=9_900 + seed, test_total=10_000, test_loss=0.5, train_correct=1, train_total=2)
run = dict(seed=seed, protocol="held-out", seconds=1.0, history=[row])
record = dict(step="S7/block3", recipe={}, fingerprint="a", data=dict(name="mnist"), parameters=1, runs=[run])
(out / "record.json").write_text(json.dumps(record))
(out / "weights.safetensors").write_bytes(bytes([seed]) * 1000)
"""


@posix
@pytest.mark.parametrize("write", range(1, 7))  # the weights and the record of each of three seeds
def test_a_study_on_a_full_disk_keeps_what_it_has_and_goes_on(tmp_path, write):
    lesson, kept = tmp_path / "sessions" / "S7" / "block3.py", tmp_path / "sessions" / "S7" / "weights"
    lesson.parent.mkdir(parents=True)
    lesson.write_text(PRETENDED, encoding="utf-8")
    study = faulty.Run(faulty.study, tmp_path, seeds=3, jobs=1, fault="full", write=write)
    assert study.end() == 2
    assert study.said.splitlines()[-1].startswith(f"Cannot write {lesson.parent}"), study.said
    assert "File too large" in study.said and "Traceback" not in study.said
    done = (write - 1) // 2
    recorded = lesson.parent / "records" / "block3.json"
    assert recorded.exists() == (kept / "block3.safetensors").exists() == (done > 0)
    if done:  # one seed is its own mean, and of two the first is kept
        record = records.load(recorded)
        assert [run["seed"] for run in record["runs"]] == list(range(1, done + 1))
        assert (kept / "block3.safetensors").read_bytes()[0] == record["weights"]["seed"]
    again = faulty.Run(faulty.study, tmp_path, seeds=3, jobs=1)
    assert again.end() == 0, again.said
    assert f"{done} of 3 seeds recorded already" in again.said
    record = records.load(recorded)
    assert [run["seed"] for run in record["runs"]] == [1, 2, 3]
    assert (kept / "block3.safetensors").read_bytes()[0] == record["weights"]["seed"] == 2
    assert faulty.strays(tmp_path) == []


@posix
def test_weights_that_are_not_the_records_are_put_right_by_the_next_seed(tmp_path):
    """A study that is killed between the renames of its two files leaves the weights of another seed."""
    lesson, kept = tmp_path / "sessions" / "S7" / "block3.py", tmp_path / "sessions" / "S7" / "weights"
    lesson.parent.mkdir(parents=True)
    lesson.write_text(PRETENDED, encoding="utf-8")
    assert faulty.Run(faulty.study, tmp_path, seeds=3, jobs=1).end() == 0
    (kept / "block3.safetensors").write_bytes(bytes([9]) * 1000)
    faulty.INJECTED.append("other weights")
    assert faulty.Run(faulty.study, tmp_path, seeds=4, jobs=1).end() == 0
    seed = records.load(lesson.parent / "records" / "block3.json")["weights"]["seed"]
    assert (kept / "block3.safetensors").read_bytes() == bytes([seed]) * 1000


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can set another process's limits")
def test_a_full_disk_harms_no_notebook(tmp_path):
    lesson = tmp_path / "sessions" / "S1" / "small.py"
    lesson.parent.mkdir(parents=True)
    (lesson.parents[1] / "lessons.txt").write_text("S1/small\n", encoding="utf-8")
    lesson.write_text("# %%\nprint('before')\n", encoding="utf-8")
    assert faulty.Run(faulty.notebooks, lesson.parent.parent).end() == 0
    before = lesson.with_suffix(".ipynb").read_bytes()
    fill = "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (100, -1))\n"
    lesson.write_text(f"# %%\n{fill}", encoding="utf-8")
    faulty.INJECTED.append("full")
    run = faulty.Run(faulty.notebooks, lesson.parent.parent)
    assert run.end() == 2
    assert run.said.splitlines()[-1].startswith(f"Cannot write {lesson.with_suffix('.ipynb')}: File too"), run.said
    assert "Traceback" not in run.said
    assert lesson.with_suffix(".ipynb").read_bytes() == before
    assert {path.name for path in lesson.parent.iterdir()} == {"small.py", "small.ipynb"}
    lesson.write_text("# %%\nprint('after')\n", encoding="utf-8")
    assert faulty.Run(faulty.notebooks, lesson.parent.parent).end() == 0
    assert b"after" in lesson.with_suffix(".ipynb").read_bytes()


@posix
def test_a_full_disk_harms_no_figure(tmp_path):
    assert faulty.Run(faulty.figure, tmp_path, "before").end() == 0
    path = tmp_path / "figures" / "blank.png"
    before = path.read_bytes()
    run = faulty.Run(faulty.figure, tmp_path, "after", fault="full", write=1)
    assert run.end() == 2
    assert run.said.startswith(f"Cannot write {path}: File too large;") and run.said.count("\n") == 1
    assert (path.read_bytes(), [each.name for each in path.parent.iterdir()]) == (before, ["blank.png"])
    assert faulty.Run(faulty.figure, tmp_path, "after").end() == 0
    assert path.read_bytes() != before


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_script_that_is_stopped_goes_on_where_it_was(tmp_path, two_runs, number, code):
    run = faulty.Run(faulty.lesson, f"--out={tmp_path}", "--epochs=3")
    run.wait_for("epoch       1/3")
    run.send(number)
    assert run.end() == code, run.said
    assert "Traceback" not in run.said
    if number == signal.SIGINT:
        assert "the same command with --resume goes on" in run.said.splitlines()[-1]
    again = faulty.Run(faulty.lesson, f"--out={tmp_path}", "--epochs=3", "--resume")
    assert again.end() == 0, again.said
    assert faulty.results(tmp_path) == faulty.results(two_runs[0])
    assert faulty.strays(tmp_path) == []


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_study_that_is_stopped_takes_its_runs_along(tmp_path, full, number):
    if not full:
        pytest.skip("tests/test_study.py stops a study with stand-in lessons; `course.py faults` this one")
    root = tmp_path / "course"
    lesson = root / "sessions" / "S7" / "block3.py"
    lesson.parent.mkdir(parents=True)
    shutil.copy(faulty.LESSON, lesson)
    study = faulty.Run(faulty.study, root, "--limit=96", "--epochs=40")
    checkpoints = [root / "runs" / "study" / "S7" / "block3" / f"seed-{seed}" / "checkpoint.pt" for seed in (1, 2)]
    assert faulty.wait_until(lambda: all(path.exists() for path in checkpoints))
    lessons = psutil.Process(study.pid).children()
    assert len(lessons) == 2
    study.send(number)
    assert study.end() == {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM}[number], study.said
    assert faulty.wait_until(lambda: not any(each.is_running() for each in lessons), 10)
    again = faulty.Run(faulty.study, root, "--limit=96", "--epochs=40")
    assert again.end() == 0, again.said
    assert faulty.strays(root) == []


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_notebook_that_is_stopped_stays_and_its_training_goes_on(tmp_path, full, number, code):
    if not full:
        pytest.skip("tests/test_notebooks.py stops a lesson without training; `course.py faults` this one")
    lesson = faulty.a_lesson_for_a_notebook(tmp_path)
    path, out = lesson.with_suffix(".ipynb"), faulty.out_of(lesson)
    path.write_text("what was there before", encoding="utf-8")
    run = faulty.Run(faulty.notebooks, lesson.parent.parent)
    assert faulty.wait_until((out / "checkpoint.pt").exists)
    kernels = psutil.Process(run.pid).children()
    run.send(number)
    assert run.end() == code, run.said
    assert faulty.wait_until(lambda: not any(each.is_running() for each in kernels), 30)
    assert path.read_text(encoding="utf-8") == "what was there before"
    again = faulty.Run(faulty.lesson, f"--out={out}", "--resume")
    assert again.end() == 0, again.said
    undisturbed = faulty.Run(faulty.lesson, f"--out={tmp_path / 'undisturbed'}")
    assert undisturbed.end() == 0, undisturbed.said
    assert faulty.results(out) == faulty.results(tmp_path / "undisturbed")
    assert faulty.strays(tmp_path) == []


@posix
def test_a_cell_that_is_interrupted_can_be_run_again_in_its_kernel(tmp_path, full):
    """JupyterLab's stop button: Ctrl-C to the kernel alone, which lives on and holds no folder."""
    if not full:
        pytest.skip("`course.py faults` starts a kernel for it")
    lesson = faulty.a_lesson_for_a_notebook(tmp_path)
    out = faulty.out_of(lesson)
    code = lesson.read_text(encoding="utf-8")
    manager, client = start_new_kernel(kernel_name="python3", env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        cell = client.execute(code)
        assert faulty.wait_until((out / "checkpoint.pt").exists)
        manager.interrupt_kernel()
        faulty.INJECTED.append("interrupt")
        while (reply := client.get_shell_msg(timeout=60))["parent_header"].get("msg_id") != cell:
            pass
        assert reply["content"].get("ename") == "Interrupted", reply
        code = code.replace("command_line(recipe)", 'command_line(recipe, "full", ["--resume"])')
        assert client.execute(code, reply=True, timeout=120)["content"]["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    undisturbed = faulty.Run(faulty.lesson, f"--out={tmp_path / 'undisturbed'}")
    assert undisturbed.end() == 0, undisturbed.said
    assert faulty.results(out) == faulty.results(tmp_path / "undisturbed")


@posix
def test_a_laptop_that_sleeps_while_training(tmp_path, two_runs, full):
    run = faulty.Run(faulty.lesson, f"--out={tmp_path}", "--epochs=3")
    run.wait_for("epoch       1/3")
    run.send(signal.SIGSTOP)
    time.sleep(60 if full else 0.5)
    run.send(signal.SIGCONT)
    assert run.end() == 0, run.said
    assert faulty.results(tmp_path) == faulty.results(two_runs[0])


@posix
def test_a_second_run_in_the_same_folder_is_refused_at_once_and_harms_nothing(tmp_path, two_runs):
    first = faulty.Run(faulty.lesson, f"--out={tmp_path}", "--epochs=3")
    first.wait_for("epoch       1/3")
    first.send(signal.SIGSTOP)  # it lives and holds the folder
    for more in ([], ["--resume"], ["--seed=2"]):
        second = faulty.Run(faulty.lesson, f"--out={tmp_path}", "--epochs=3", *more)
        assert second.end() == 2
        assert second.said.startswith(f"Another run is training in {tmp_path};") and "--out" in second.said
        assert second.said.count("\n") == 1
    first.send(signal.SIGCONT)
    assert first.end() == 0, first.said
    assert faulty.results(tmp_path) == faulty.results(two_runs[0])


def fitted(folder, batches=None, epochs=3, resume=False):
    """Train in this process; returns the history and the weights."""
    torch.manual_seed(1)
    digits, recipe = data.load("builtin", limit=96), Recipe("S7/block3", epochs=epochs, batch_size=32, lr=0.02)
    options = Options("builtin", None, "cpu", "held-out", True, resume, folder, precision="float32")
    train = InMemoryLoader(digits.train_images, digits.train_labels, 32, shuffle=True, seed=1)
    train = batches(train) if batches else train
    test = {"held-out": InMemoryLoader(digits.test_images[:50], digits.test_labels[:50], 50)}
    model = models.build("S7/block3")
    checkpoint = Checkpoint(options, recipe, digits, torch.device("cpu"))
    if isinstance(train, Poisoned):
        train.model = model
    return loops.fit(model, train, test, recipe, options, checkpoint), model.state_dict()


@dataclasses.dataclass
class Poisoned:
    """A loader of which one batch holds a NaN, or breaks the network after its loss was computed."""

    loader: InMemoryLoader
    epoch: int
    batch: int
    silently: bool = False
    seen: int = 0

    def __post_init__(self):
        self.generator = self.loader.generator

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self.seen += 1
        for number, (images, labels) in enumerate(self.loader, 1):
            if (self.seen, number) == (self.epoch, self.batch):
                faulty.INJECTED.append("NaN")
            if (self.seen, number) == (self.epoch, self.batch) and self.silently:
                next(self.model.parameters()).register_hook(lambda gradient: gradient * float("nan"))
            elif (self.seen, number) == (self.epoch, self.batch):
                images = images * float("nan")
            yield images, labels


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_loss_that_is_no_number_names_its_batch_and_keeps_the_last_good_epoch(tmp_path, batch):
    whole = fitted(tmp_path / "whole")
    with pytest.raises(UserError, match=rf"training loss is nan in epoch 2/3, batch {batch}; .* than 0\.02\.$"):
        fitted(tmp_path / "run", lambda loader: Poisoned(loader, 2, batch))
    history, weights = fitted(tmp_path / "run", resume=True)
    assert [{**row, "seconds": 0} for row in history] == [{**row, "seconds": 0} for row in whole[0]]
    assert all(torch.equal(weights[name], whole[1][name]) for name in weights)


def test_a_network_broken_by_an_epochs_last_step_is_not_kept(tmp_path):
    """The losses were numbers, the weights are none: only the test shows it."""
    with pytest.raises(UserError, match="test loss is nan after epoch 2/3"):
        fitted(tmp_path, lambda loader: Poisoned(loader, 2, 3, silently=True))
    history, weights = fitted(tmp_path, resume=True)
    assert len(history) == 3
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_the_batch_is_found_where_not_every_loss_is_looked_at():
    """As on an accelerator: of the losses of an epoch, the third is the first that is no number."""
    sums = MetricSums(torch.device("cpu"))
    sums.look_every = 50
    for loss in (1.0, 2.0, float("inf"), float("nan")):
        assert sums.divergence() is None
        sums.add(torch.tensor(loss), torch.zeros(2, 10), torch.zeros(2, dtype=torch.int64))
    assert sums.divergence(last=True) == (float("inf"), 3)


# What a folder that was left in disorder looks like afterwards.


@pytest.fixture
def living():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate(b"\n")


def test_temporary_files_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path, living):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    long_ago = psutil.Process(living).create_time() - 1000
    names = {
        f".weights.safetensors.{dead.pid}.tmp": False,
        f".weights.safetensors.{living}.tmp": True,
        f".record.json.{living}.tmp": False,  # of an earlier process with the same number
        f".figure.png.{os.getpid()}.tmp": True,
        ".checkpoint.pt.99999999999999999999.tmp": False,
        "notes.tmp": True,
        ".notes.12x.tmp": True,
    }
    for name in names:
        (tmp_path / name).write_text("part of a file")
    os.utime(tmp_path / f".record.json.{living}.tmp", (long_ago, long_ago))
    files.write_atomically(tmp_path / "other.json", "{}")
    assert {name: (tmp_path / name).exists() for name in names} == names


@pytest.mark.skipif(os.name == "nt", reason="Windows has no zombies")
def test_a_process_that_is_dead_and_not_yet_buried_counts_as_dead(tmp_path):
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    assert faulty.wait_until(lambda: psutil.Process(zombie.pid).status() == psutil.STATUS_ZOMBIE)
    stray = tmp_path / f".record.json.{zombie.pid}.tmp"
    stray.touch()
    files.remove_leftovers(tmp_path)
    assert not stray.exists()
    zombie.wait()


def test_training_twice_in_one_process_and_folder_is_no_second_run(tmp_path):
    first, second = (fitted(tmp_path, epochs=1) for _ in range(2))
    assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


def test_a_folder_is_free_again_after_a_cell_that_failed(tmp_path):
    with pytest.raises(UserError):
        fitted(tmp_path, lambda loader: Poisoned(loader, 1, 1))
    assert len(fitted(tmp_path, epochs=1)[0]) == 1
