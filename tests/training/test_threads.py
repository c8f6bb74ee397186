"""A training beside other programs uses the cores that they leave idle, and ends with the same weights."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from common import data, models
from common.recipe import Options, Recipe
from common.training import acceleration, loops, threads


@pytest.fixture
def machine(monkeypatch):
    """A machine of four cores whose clocks a test sets: seconds, busy core-seconds, and those of this process."""
    clock = SimpleNamespace(now=0.0, busy=0.0, own=0.0)
    monkeypatch.setattr(threads, "cores", lambda: 4)
    monkeypatch.setattr(threads, "_busy_seconds", lambda: clock.busy)
    monkeypatch.setattr(
        threads, "time", SimpleNamespace(perf_counter=lambda: clock.now, process_time=lambda: clock.own)
    )
    return clock


def advance(clock, own: float, others: float, seconds: float = 1.0):
    """So many seconds, in which this process and others keep so many cores busy."""
    clock.now, clock.own, clock.busy = (
        clock.now + seconds,
        clock.own + own * seconds,
        clock.busy + (own + others) * seconds,
    )


@pytest.mark.parametrize(
    ("most", "own", "others", "expected"),
    [
        (4, 4, 0.0, 4),
        (4, 4, 0.25, 4),  # a little of another program is no reason to wait for less
        (4, 3.5, 0.5, 3),
        (4, 2, 2.0, 2),  # two trainings, each with half of the machine
        (4, 1, 3.0, 1),
        (4, 0.5, 3.9, 1),  # one thread is the least
        (2, 2, 1.0, 2),  # asked for two, and three cores are idle
    ],
)
def test_as_many_threads_as_idle_cores(machine, most, own, others, expected):
    watch = threads.Watch(most)
    advance(machine, own, others)
    assert watch.threads() == expected


def test_what_was_found_stays_until_the_next_look_and_follows_the_load_both_ways(machine):
    watch = threads.Watch(4)
    advance(machine, 2, 2)
    assert watch.threads() == 2
    advance(machine, 2, 0, seconds=threads.INTERVAL / 2)
    assert watch.threads() == 2  # too early to tell
    advance(machine, 2, 0, seconds=threads.INTERVAL)
    assert watch.threads() == 4
    advance(machine, 0, 4, seconds=600)  # a pause: nobody asked
    assert watch.threads() == 4
    advance(machine, 1, 3)
    assert watch.threads() == 1


@pytest.fixture
def two_threads():
    asked = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(asked)


@pytest.mark.usefixtures("two_threads")
def test_the_threads_change_between_batches_and_come_back(monkeypatch):
    found = iter([2, 1, 1, 2, 1])
    monkeypatch.setattr(threads, "_watch", lambda _: SimpleNamespace(threads=lambda: next(found)))
    assert [torch.get_num_threads() for _ in threads.beside_others(range(4))] == [2, 1, 1, 2]
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError):
        _count_and_fail()
    assert torch.get_num_threads() == 2


def _count_and_fail():
    for _ in threads.beside_others(range(4)):
        assert torch.get_num_threads() == 1
        raise KeyError


def test_who_asked_for_one_thread_has_one(monkeypatch):
    monkeypatch.setattr(threads, "_watch", lambda _: pytest.fail("nothing to decide"))
    asked = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert [torch.get_num_threads() for _ in threads.beside_others(range(3))] == [1, 1, 1]
    finally:
        torch.set_num_threads(asked)


def test_beside_programs_that_keep_every_core_busy_one_thread_is_used():
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(threads.cores())]
    try:
        watch, until = threads.Watch(2), time.monotonic() + 60
        while watch.threads() > 1 and time.monotonic() < until:
            time.sleep(0.1)
        assert watch.threads() == 1
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("step", ["S7/block3", "S8/under_8k_one_view"])
def test_threads_that_come_and_go_leave_the_weights_bit_for_bit(monkeypatch, tmp_path, step):
    """Where the loops of `common.cpu_kernels` train: each sum is computed by one thread, in a fixed order."""
    pytest.importorskip("numba")
    monkeypatch.setattr(acceleration, "MIN_STEPS_CHWN", 0)
    digits = data.load("builtin", limit=400)
    results = []
    for pattern in ([2], [1], [2, 1, 1]):
        count = iter(pattern * 1000)
        monkeypatch.setattr(threads, "_watch", lambda _, count=count: SimpleNamespace(threads=lambda: next(count)))
        torch.manual_seed(1)
        model = models.build(step)
        recipe = Recipe(step=step, epochs=2, batch_size=64, lr=0.05)
        options = Options("builtin", None, "cpu", "held-out", "full", False, tmp_path, network=step)
        train = data.InMemoryLoader(digits.train_images, digits.train_labels, 64, shuffle=True, seed=1)
        test = {"held-out": data.InMemoryLoader(digits.test_images, digits.test_labels, 100)}
        history = loops.fit(model, train, test, recipe, options)
        assert model.trained_with.layers == "chwn"
        results.append((torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()]), history))
    for state, history in results[1:]:
        assert torch.equal(state, results[0][0])
        assert [row["test_loss"] for row in history] == [row["test_loss"] for row in results[0][1]]
