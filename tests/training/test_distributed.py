"""One network on several processes: one process's gradients, one voice, one set of files, one end for all."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
from faults import faulty
from shared_step import CPU, batch, network, short_run, step_over
from taught_run import taught_run
from torch import nn

from common import data, records
from common.data.loaders import InMemoryLoader
from common.recipe import ROOT, Recipe
from common.system import processes
from common.system.errors import UserError
from common.training import distillation, distributed, loops
from common.training.metrics import Metrics

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither fork nor these signals")
in_full = pytest.mark.in_full
LESSON, TORCHRUN = str(faulty.LESSON), ("-m", "torch.distributed.run")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "COURSE_DATA": "builtin", "TORCH_CPP_LOG_LEVEL": "ERROR"}
SHORT = ("--limit=96", "--epochs=3")


class Command:
    """A Python command with what it says, standard output and error in one."""

    def __init__(self, *arguments):
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self.said = ""

    def wait_for(self, text: str) -> None:
        while text not in self.said and (line := self.process.stdout.readline()):
            self.said += line

    def end(self) -> int:
        self.said += self.process.stdout.read()
        return self.process.wait()

    def workers(self) -> list[psutil.Process]:
        """The processes that train, by their rank."""
        found = [child for child in psutil.Process(self.process.pid).children() if LESSON in child.cmdline()]
        return sorted(found, key=lambda child: int(child.environ()["RANK"]))


def ended(*arguments) -> str:
    command = Command(*arguments)
    assert command.end() == 0, command.said
    return command.said


def run_in(out, *more) -> str:
    return ended(LESSON, "--processes=2", f"--out={out}", *SHORT, *more)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of an undisturbed run of two processes, and what was said."""
    out = tmp_path_factory.mktemp("two")
    return out, run_in(out)


# What is computed.


@posix
@pytest.mark.parametrize("count", [2, pytest.param(3, marks=in_full)])
def test_gradients_of_shares_are_those_of_the_batch(tmp_path, count):
    """By torchrun: whole batches, shares of unequal size, and a batch with fewer images than three processes."""
    ended(
        *TORCHRUN, "--standalone", f"--nproc-per-node={count}", "tests/training/shared_step.py", tmp_path / "found.pt"
    )
    found = torch.load(tmp_path / "found.pt", weights_only=False)
    for images in (64, 63, 2):
        alone, shared = step_over("S5/step1_first_network", images), found[f"of {images}"]
        assert shared["images"] == -(-images // count)  # the first process has the larger shares
        for mine, its in zip(shared["gradients"], alone["gradients"], strict=True):
            assert (mine - its).abs().max() <= 2e-5 * its.abs().max(), images
    for mine, its in zip(found["history"], short_run(), strict=True):
        assert [mine[name] for name in ("train_total", "test_total")] == [48, 20]
        assert all(mine[name] == pytest.approx(its[name], rel=1e-4) for name in ("train_loss", "test_loss"))
    assert len({float(one) for one in found["drawn"]}) == count  # dropout's draws are each process's own
    assert all(torch.equal(one, found["statistics"][0]) for one in found["statistics"])
    alone = step_over("S7/block1", 64)["model"]
    assert not torch.allclose(  # each share has been normalised by itself, and that is no rounding
        found["statistics"][0],
        torch.cat([buffer.flatten() for buffer in alone.buffers() if buffer.is_floating_point()]),
        rtol=1e-3,
    )


@posix
@in_full
def test_a_teacher_is_trained_once_by_all_and_teaches_each_its_share(tmp_path, monkeypatch):
    said = ended(*TORCHRUN, "--standalone", "--nproc-per-node=2", "tests/training/taught_run.py", tmp_path)
    assert len(list((tmp_path / "runs" / "teachers").iterdir())) == 1
    teachers, told_again, students = [line for line in said.splitlines() if line.startswith("epoch ")]
    assert teachers == told_again != students  # with its seconds, so it is not another training
    found = torch.load(tmp_path / "found.pt", weights_only=False)
    first, second = found["weights"]
    assert torch.equal(first, second)
    teacher, again, student = first.chunk(3)
    assert torch.equal(teacher, again)
    monkeypatch.setattr(distillation, "ROOT", tmp_path / "alone")
    history, alone = taught_run()
    assert (first - alone).abs().max() <= 1e-5 * alone.abs().max()
    assert found["history"][0]["train_loss"] == pytest.approx(history[0]["train_loss"], rel=1e-4)
    assert not torch.allclose(teacher, student, rtol=1e-3)


def test_shares_are_neighbours_and_make_up_the_batch():
    images, labels = batch(7)
    group, taken = distributed.Group(CPU), []
    group.count = 3
    for group.rank in range(3):
        (share,) = group.shares([(images, labels)])
        assert group.whole == 7
        taken.append(share)
    assert [len(some_labels) for _, some_labels in taken] == [3, 2, 2]
    assert torch.equal(torch.cat([some_images for some_images, _ in taken]), images)
    assert torch.equal(torch.cat([some_labels for _, some_labels in taken]), labels)


def test_one_process_is_given_everything_as_it_is():
    group, batches = distributed.Group(CPU), [batch(2)]
    before = torch.get_rng_state()
    group.begin_epoch()
    assert group.shares(batches) is batches
    assert group.total(Metrics(0.5, 1, 2)) == Metrics(0.5, 1, 2)
    assert torch.equal(before, torch.get_rng_state())


def test_the_twin_for_gpus_shares_weights_and_statistics_and_leaves_the_network_as_it_is():
    model = network("S7/block1")
    kinds = [type(module) for module in model.modules()]
    twin = distributed.with_synchronised_batchnorm(model)
    assert [type(module) for module in model.modules()] == kinds
    assert nn.SyncBatchNorm in map(type, twin.modules()) and nn.BatchNorm2d not in map(type, twin.modules())
    ours, theirs = [*model.parameters(), *model.buffers()], [*twin.parameters(), *twin.buffers()]
    assert {id(tensor) for tensor in ours} == {id(tensor) for tensor in theirs}


# A run.


@posix
@in_full
def test_one_process_of_torchrun_trains_the_same_bits(tmp_path):
    for name, variables in (
        ("plain", {}),
        ("torchrun", {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}),
    ):
        run = faulty.Run(with_variables, variables, f"--out={tmp_path / name}", *SHORT)
        assert run.end() == 0, run.said
    assert faulty.results(tmp_path / "plain") == faulty.results(tmp_path / "torchrun")
    assert (tmp_path / "plain/checkpoint.pt").stat().st_size == (tmp_path / "torchrun/checkpoint.pt").stat().st_size


def with_variables(variables: dict, *arguments):
    os.environ.update(variables)
    faulty.lesson(*arguments)


@posix
def test_two_processes_speak_once_and_leave_one_set_of_files(two):
    out, said = two
    assert (
        said.count("epoch       1/3") == said.count("written    ") == said.count("processes  2 train this network") == 1
    )
    assert "each on 8 images of a batch of 16; BatchNorm normalises each share by itself" in said
    assert {path.name for path in out.iterdir()} == {".lock", "checkpoint.pt", "record.json", "weights.safetensors"}
    record = records.load(out / "record.json")
    assert record["runs"][0]["processes"] == 2
    assert [(row["train_total"], row["test_total"]) for row in record["runs"][0]["history"]] == [(96, 96)] * 3


@posix
@in_full
def test_two_nodes_that_meet_on_the_loopback_train_as_two_processes_of_one(tmp_path, two):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meet = ("--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}")
    nodes = [
        Command(*TORCHRUN, *meet, "--local-addr=localhost", f"--node-rank={rank}", LESSON, f"--out={tmp_path}", *SHORT)
        for rank in (0, 1)
    ]
    assert [node.end() for node in nodes] == [0, 0], [node.said for node in nodes]
    assert sorted(node.said.count("epoch       ") for node in nodes) == [0, 3]
    assert faulty.results(tmp_path) == faulty.results(two[0])


@posix
@pytest.mark.parametrize(
    ("number", "rank", "code", "sentence"),
    [
        (signal.SIGKILL, 0, 137, "A process of this training was ended, and all others with it; the same command with"),
        pytest.param(signal.SIGINT, None, 130, "Interrupted after ", marks=in_full),
    ],
)
def test_all_end_with_one_sentence_and_go_on_to_the_same_bits(tmp_path, two, number, rank, code, sentence):
    command = Command(LESSON, "--processes=2", f"--out={tmp_path}", *SHORT)
    command.wait_for("epoch       1/3")
    workers = command.workers()
    os.kill(command.process.pid if rank is None else workers[rank].pid, number)
    assert command.end() == code, command.said
    after = [line for line in command.said.splitlines() if not line.startswith(("epoch", "processes"))]
    assert len(after) == 1 and after[0].startswith(sentence) and "--resume goes on" in after[0], command.said
    assert not psutil.wait_procs(workers, timeout=30)[1]
    run_in(tmp_path, "--resume")
    assert faulty.results(tmp_path) == faulty.results(two[0])


@posix
@in_full
def test_another_number_of_processes_goes_on_with_a_run(tmp_path, two):
    shutil.copy(two[0] / "checkpoint.pt", tmp_path)
    run = faulty.Run(faulty.lesson, f"--out={tmp_path}", "--limit=96", "--epochs=4", "--resume")
    assert run.end() == 0, run.said
    assert run.said.count("epoch       ") == 4
    history = records.load(tmp_path / "record.json")["runs"][0]["history"]
    assert history[:3] == records.load(two[0] / "record.json")["runs"][0]["history"]


# What gets one sentence.


@pytest.mark.parametrize(
    ("batch_size", "images", "count", "name", "sentence"),
    [
        (2, 96, 3, "S5/step1_first_network", "A batch of 2 is not enough for 3 processes"),
        (16, 97, 2, "S7/block1", "leave a process with 0 of a batch's"),
        (2, 96, 2, "S6/part2_step2_strided", "leave a process with 1 of a batch's"),
        (16, 97, 2, "S5/step1_first_network", None),
        (16, 96, 2, "S7/block1", None),
    ],
)
def test_batches_that_cannot_be_shared_are_refused(batch_size, images, count, name, sentence):
    digits = data.load("builtin", limit=images)
    batches = InMemoryLoader(digits.train_images, digits.train_labels, batch_size)
    recipe = Recipe(name, epochs=1, batch_size=batch_size, lr=0.1)
    refused = pytest.raises(UserError, match=sentence) if sentence else contextlib.nullcontext()
    with refused:
        loops._refuse_impossible(network(name), batches, recipe, loops.nll_loss, count)


def test_a_step_that_trains_no_network_is_not_started_twice():
    for arguments, what in (
        (["S6/part1_backprop.py"], "part1_backprop"),
        (["S7/block1.py", "--train=recorded"], "--train recorded"),
    ):
        command = Command(ROOT / "sessions" / arguments[0], *arguments[1:], "--processes=2")
        assert command.end() == 2
        assert (
            command.said == f"{what} trains no network that several processes could share; start it in one process.\n"
        )


@pytest.fixture
def one_of_two(monkeypatch):
    """This process as torchrun's second of two, which never begin to speak to each other."""
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")


def test_all_but_the_first_have_a_folder_of_their_own(one_of_two, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "1" / "error.json"))
    assert processes.own_folder(Path("runs/S7")) == tmp_path / "rank-1" / "S7"
    monkeypatch.setenv("RANK", "0")
    assert processes.own_folder(Path("runs/S7")) == Path("runs/S7")


def test_of_several_sentences_one_is_told(one_of_two, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "1" / "error.json"))
    processes.tell("the first")
    processes.tell("the second")
    assert capsys.readouterr().err == "the first\n"


def test_devices_that_processes_cannot_share_are_refused(one_of_two, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="2 processes need as many GPUs, and this machine has 1"):
        distributed.take_place(torch.device("cuda"))
    with pytest.raises(UserError, match="add --device cpu"):
        distributed.take_place(torch.device("mps"))


def test_each_process_takes_its_part_of_the_cores(one_of_two, monkeypatch):
    before, taken = torch.get_num_threads(), []
    monkeypatch.setattr(distributed.threads, "cores", lambda: 9)
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    for asked in ("1", "3"):  # torchrun's own number, and somebody's
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        distributed.take_place(CPU)
    assert taken == [4] and torch.get_num_threads() == before
