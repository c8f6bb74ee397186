"""kill -9 at any moment, then the same command again: the same bits, nothing lost, nothing left over.

Each test runs undisturbed first. Short: a few moments; full: some 30 for each of training, study and notebooks, of
which a few may come too late.
"""

import os
import random
import shutil
import signal
import time

import faulty
import pytest

from common import records

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has neither fork nor these signals")
SMALL = ("--limit=64", "--epochs=2")  # the study's lessons


def timed(target, *arguments) -> float:
    started = time.monotonic()
    run = faulty.Run(target, *arguments)
    assert run.end() == 0, run.said
    return time.monotonic() - started


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of a run that nothing happened to, and how long it took."""
    out = tmp_path_factory.mktemp("undisturbed")
    timed(faulty.lesson, f"--out={out / 'first'}")  # the first one also waits for the fork server
    seconds = timed(faulty.lesson, f"--out={out}")
    return faulty.results(out), seconds


def moments(full: bool, kinds: dict[str, tuple[list, int]]) -> list[tuple[str, object]]:
    """All moments, or one of each kind: pairs of a kind and one of its choices; "after" is a time in seconds."""
    chosen = []
    for kind, (choices, count) in kinds.items():
        for _ in range(count if full else 1):
            chosen.append((kind, random.uniform(*choices) if kind == "after" else random.choice(choices)))
    return chosen


def kill(target, arguments, moment) -> faulty.Run:
    """Start and kill at the moment: after some time, when a text is said, or in the middle of the n-th write."""
    kind, when = moment
    if kind == "in write":
        run = faulty.Run(target, *arguments, fault="kill", write=when)
    else:
        run = faulty.Run(target, *arguments)
        time.sleep(when) if kind == "after" else run.wait_for(when)
        run.send(signal.SIGKILL)
    assert run.end() in (-signal.SIGKILL, 0), run.said  # 0: it was faster than usual
    return run


def resume(out, *more) -> faulty.Run:
    again = ["--resume"] if (out / "checkpoint.pt").exists() else []
    run = faulty.Run(faulty.lesson, f"--out={out}", *again, *more)
    assert run.end() == 0, run.said
    return run


def test_killed_training_ends_with_the_same_bits(tmp_path, undisturbed, full):
    expected, seconds = undisturbed
    boundaries = [f"epoch       {number}/6" for number in range(1, 7)]  # its checkpoint is being written
    kinds = {"after": ((0, 0.9 * seconds), 14), "at": (boundaries, 8), "in write": (range(1, 10), 8)}
    for number, moment in enumerate(moments(full, kinds)):
        out = tmp_path / str(number)
        run = kill(faulty.lesson, [f"--out={out}"], moment)
        if moment[0] == "in write":
            assert faulty.strays(out), run.said
        again = resume(out)
        assert faulty.results(out) == expected, moment
        assert faulty.strays(out) == []
        assert again.said.count("epoch  ") == 6, moment  # it also says what came before


def a_study(root):
    lesson = root / "sessions" / "S7" / "block3.py"
    lesson.parent.mkdir(parents=True)
    shutil.copy(faulty.LESSON, lesson)
    return root


def studied(root) -> dict:
    """The study's runs but for their times, and the weights of every seed."""
    record = records.load(root / "sessions" / "S7" / "records" / "block3.json")
    seeds = sorted((root / "runs" / "study" / "S7" / "block3").glob("seed-*"))
    return {"record": [run["seed"] for run in record["runs"]], "seeds": [faulty.results(seed) for seed in seeds]}


def recorded(root) -> int:
    path = root / "sessions" / "S7" / "records" / "block3.json"
    return len(records.load(path)["runs"]) if path.exists() else 0


def test_a_killed_study_of_real_seeds_goes_on_and_loses_none(tmp_path, full):
    for seed in (1, 2):  # what each must end with: the lesson by itself
        timed(faulty.lesson, f"--out={tmp_path / f'alone-{seed}'}", *SMALL, f"--seed={seed}", "--protocol=both")
    expected = {"record": [1, 2], "seeds": [faulty.results(tmp_path / f"alone-{seed}") for seed in (1, 2)]}
    seconds = timed(faulty.study, a_study(tmp_path / "whole"), *SMALL) if full else 0
    said = ["seed 1: recorded", "seed 2: recorded"]
    kinds = {"after": ((0, 0.9 * seconds), 22), "at": (said, 5), "in write": ([1, 2, 3, 4], 5)}
    if not full:
        kinds = {"in write": ([1, 2], 1)}
    for number, moment in enumerate(moments(full, kinds)):
        root = a_study(tmp_path / str(number))
        kill(faulty.study, [root, *SMALL], moment)
        done = recorded(root)
        again = faulty.Run(faulty.study, root, *SMALL)
        assert again.end() == 0, (moment, again.said)
        assert f"{done} of 2 seeds recorded already" in again.said, moment
        assert studied(root) == expected, moment
        assert faulty.strays(root) == [], moment


@pytest.mark.in_full
def test_killed_notebook_generation_is_done_again(tmp_path, undisturbed, full):
    expected, _ = undisturbed
    seconds = timed(faulty.notebooks, faulty.a_lesson_for_a_notebook(tmp_path / "whole").parent.parent)
    kinds = {"after": ((0, 0.9 * seconds), 25), "in write": ([1], 5)}
    for number, moment in enumerate(moments(full, kinds)):
        path = faulty.a_lesson_for_a_notebook(tmp_path / str(number))
        kill(faulty.notebooks, [path.parent.parent], moment)
        run = faulty.Run(faulty.notebooks, path.parent.parent)
        assert run.end() == 0, (moment, run.said)
        assert faulty.results(faulty.out_of(path)) == expected, moment
        assert run.said.count("written ") + run.said.count("current ") == 1
        assert faulty.strays(tmp_path / str(number)) == [], moment
