"""The study: every seed once, side by side, finished seeds kept, a record of another recipe refused."""

import os
import re
import signal
import subprocess
import sys
import time

import filelock
import pytest

from common import records
from common.experiments import study
from common.recipe import ROOT
from common.records import store
from common.system import locks
from common.system.errors import UserError
from common.training import loops

FAKE_LESSON = """
import json, pathlib, sys, time

options = dict(argument.lstrip("-").split("=", 1) for argument in sys.argv[1:] if "=" in argument)
seed, out = int(options["seed"]), pathlib.Path(options["out"])
with open({log!r}, "a") as log:
    log.write(f"{{seed}}{{' resumed' if '--resume' in sys.argv else ''}}\\n")
out.mkdir(parents=True, exist_ok=True)
pathlib.Path({log!r}).with_name("asked").write_text("|".join(a for a in sys.argv[1:] if "seed" not in a))
(out / "checkpoint.pt").write_text("half way")
print("epoch       1/1  lr 0.1", flush=True)
{then}
if seed == {failing}:
    sys.exit("no luck")
validate = "--validate" in sys.argv
correct = 4_900 if validate else 9_900
row = dict(epoch=1, test_correct=correct + seed, test_total=correct + 100, test_loss=0.5)
row |= dict(train_correct=1, train_total=2)
protocols = ["validation"] if validate else ["held-out", "source"]
runs = [dict(seed=seed, protocol=name, precision="float32", seconds=1.0, history=[row]) for name in protocols]
recipe = dict(epochs=1, batch_size=64, lr={lr}, augmentation=dict(scale=[1, 1]))
record = dict(step="S7/block3", recipe=recipe, fingerprint={fingerprint!r}, data=dict(name="mnist"), parameters=1)
(out / "record.json").write_text(json.dumps(record | dict(runs=runs)))
(out / "weights.safetensors").write_bytes(bytes([seed]))
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one stand-in lesson; returns a function that (re)writes the lesson."""
    for module in (study, store):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    lesson = tmp_path / "sessions" / "S7" / "block3.py"
    lesson.parent.mkdir(parents=True)

    def write(failing=None, fingerprint="a", then="", lr=0.1):
        log = str(tmp_path / "log")
        text = FAKE_LESSON.format(failing=failing, fingerprint=fingerprint, log=log, then=then, lr=lr)
        lesson.write_text(text, encoding="utf-8")
        return tmp_path

    return write


def one_by_one(*arguments):
    study.main(["S7/block3", "--jobs", "1", *arguments])


def log(root):
    return (root / "log").read_text().splitlines()


def test_each_seed_runs_once_and_goes_into_the_record(course):
    root = course()
    study.main(["sessions/S7/block3.py", "--seeds", "2", "--jobs", "1"])
    one_by_one("--seeds", "3")
    assert log(root) == ["1", "2", "3"]
    record = records.load("S7/block3")
    assert [(run["protocol"], run["seed"]) for run in record["runs"]] == [
        (protocol, seed) for protocol in ("held-out", "source") for seed in (1, 2, 3)
    ]
    assert records.summarise(record).accuracies == pytest.approx((99.01, 99.02, 99.03))


def test_the_weights_kept_are_those_of_the_seed_nearest_the_mean(course):
    root = course()
    one_by_one("--seeds", "1")
    assert records.load("S7/block3")["weights"]["seed"] == 1
    one_by_one("--seeds", "3")
    record = records.load("S7/block3")
    assert record["weights"] == {
        "file": "weights/block3.safetensors",
        "seed": 2,
        "test_correct": 9_902,
        "test_total": 10_000,
    }
    assert (root / "sessions" / "S7" / record["weights"]["file"]).read_bytes() == bytes([2])


def test_a_failing_seed_loses_no_finished_one_and_the_next_call_goes_on(course):
    root = course(failing=2)
    with pytest.raises(UserError, match="no luck\n.*seed 2 failed"):
        one_by_one()
    assert [run["seed"] for run in records.runs(records.load("S7/block3"))] == [1]
    course()
    one_by_one()
    assert log(root) == ["1", "2", "2 resumed", "3"]


def test_the_bar_counts_the_lines_that_a_training_run_prints():
    row = dict.fromkeys(("lr", "train_loss", "test_loss", "seconds"), 0.1) | {"train_correct": 1, "train_total": 2}
    row |= {"epoch": 3, "test_correct": 1, "test_total": 2}
    assert study.EPOCH.match(loops.log_line(row, 14))[1] == "14"


def test_seeds_run_side_by_side(course):
    # Each waits until the other has begun, which it never would if they came one after the other.
    root = course(then="while len(open({log!r}).readlines()) < 2: time.sleep(0.01)".format(log="LOG"))
    lesson = root / "sessions" / "S7" / "block3.py"
    lesson.write_text(lesson.read_text().replace("'LOG'", repr(str(root / "log"))))
    study.main(["S7/block3", "--seeds", "2", "--jobs", "2"])
    assert [run["seed"] for run in records.runs(records.load("S7/block3"))] == [1, 2]


def test_validated_runs_go_into_the_log_of_the_search_alone(course):
    root = course()
    one_by_one("--seeds", "2", "--validate", "--override", "lr=0.2 nesterov=True")
    one_by_one("--seeds", "1", "--validate")
    one_by_one("--seeds", "1", "--validate")
    assert log(root) == ["1", "2", "1"]
    record = records.load("S7/block3")
    assert record["runs"] == []
    assert [(trial["overrides"], len(trial["runs"])) for trial in record["search"]] == [
        ("lr=0.2 nesterov=True", 2),
        ("", 1),
    ]
    assert record["search"][0]["runs"][1]["correct"] == [4_902]
    assert not (root / "sessions" / "S7" / "weights").exists()
    one_by_one("--seeds", "1")
    record = records.load("S7/block3")
    assert len(record["search"]) == 2
    assert [run["protocol"] for run in record["runs"]] == ["held-out", "source"]


def test_another_network_by_the_same_recipe_has_a_record_of_its_own(course):
    root = course()
    one_by_one("--seeds", "1", "--network", "S8/under_8k_relu")
    assert not records.path_of("S7/block3").exists()
    assert records.load("S8/under_8k_relu")["weights"]["file"] == "weights/under_8k_relu.safetensors"
    assert (root / "sessions/S8/weights/under_8k_relu.safetensors").exists()
    assert (root / "asked").read_text().split("|")[1:3] == ["--override=network='S8/under_8k_relu'", "--protocol=both"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--network=S7/block9"], "no network 'S7/block9'"),
        (["--network=S7/block3"], "S7/block3 is a step of its own"),
        (["--network=S8/under_8k_relu", "--validate"], "use --override \"network='S8/under_8k_relu'\""),
        (["--network=../../etc"], "A step has a name such as S7/block3"),
    ],
)
def test_a_network_that_cannot_be_studied_is_one_sentence(course, given, said):
    course()
    with pytest.raises(UserError, match=re.escape(said)):
        one_by_one(*given)


def test_trials_of_another_recipe_are_not_mixed_in(course):
    course()
    one_by_one("--seeds", "1", "--validate")
    record = records.load("S7/block3")
    record["search"][0]["recipe"]["network"] = ""  # a field with its default is the same recipe as one without it
    records.write(records.path_of("S7/block3"), record)
    one_by_one("--seeds", "2", "--validate")
    course(lr=0.3)
    with pytest.raises(UserError, match="another recipe under ''; --validate --anew"):
        one_by_one("--seeds", "3", "--validate")
    one_by_one("--seeds", "3", "--validate", "--anew")
    assert [run["seed"] for run in records.load("S7/block3")["search"][0]["runs"]] == [1, 2, 3]


def test_anew_forgets_only_what_it_names(course):
    root = course()
    one_by_one("--seeds", "1")
    one_by_one("--seeds", "2", "--validate", "--override", "lr=0.2")
    one_by_one("--seeds", "1", "--validate", "--override", "lr=0.3")
    one_by_one("--seeds", "1", "--validate", "--override", "lr=0.2", "--anew")
    record = records.load("S7/block3")
    tried = [(trial["overrides"], [run["seed"] for run in trial["runs"]]) for trial in record["search"]]
    assert sorted(tried) == [("lr=0.2", [1]), ("lr=0.3", [1])]
    one_by_one("--seeds", "2", "--anew")
    record = records.load("S7/block3")
    assert len(record["search"]) == 2
    assert [run["seed"] for run in records.runs(record)] == [1, 2]
    assert log(root) == ["1", "1", "2", "1", "1", "1", "2"]


def test_changes_too_long_for_a_folders_name_have_a_folder_each(course):
    """The lowest of the rungs that S8 step 7 trains differs from its recipe in 14 values."""
    root = course()
    changes = [" ".join(f"augmentation.rotation={number}.0" for number in (*range(14), last)) for last in (20, 30)]
    for change in changes:
        one_by_one("--validate", "--seeds", "1", "--override", change)
    assert log(root) == ["1", "1"]
    assert len({study.Study("S7/block3", True, change).folder for change in [*changes, "lr=0.2"]}) == 3
    assert study.Study("S7/block3", True, "lr=0.2").folder.name == "lr=0.2"


def test_a_change_is_never_measured_on_the_test_images(course):
    course()
    with pytest.raises(UserError, match="--override needs --validate"):
        one_by_one("--override", "lr=0.2")


def test_runs_of_another_recipe_are_not_mixed_in(course):
    root = course()
    one_by_one("--seeds", "1")
    course(fingerprint="b")
    with pytest.raises(UserError, match="another network, recipe or data set; --anew"):
        one_by_one("--seeds", "2")
    one_by_one("--seeds", "2", "--anew")
    assert records.load("S7/block3")["fingerprint"] == "b"
    assert log(root)[-2:] == ["1", "2"]  # from the beginning, not from what an old run left


def test_an_unknown_step_is_named(course):
    course()
    with pytest.raises(UserError, match="no step S7/block9"):
        study.main(["S7/block9"])
    with pytest.raises(UserError, match="needs a step"):
        study.main([])
    with pytest.raises(UserError, match="at least 1"):
        one_by_one("--seeds", "0")


def test_a_lesson_that_trains_no_network_is_refused_in_a_sentence(course):
    root = course()
    (root / "sessions" / "S7" / "block3.py").write_text("print('no network here')", encoding="utf-8")
    with pytest.raises(UserError, match="S7/block3 writes no record"):
        one_by_one()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send to one process")
def test_ctrl_c_stops_every_run_and_is_one_sentence(tmp_path):
    """A real study of two real seeds on the built-in digits would need MNIST; here the lessons only sleep."""
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import pathlib
from common.records import store
from common.experiments import study
from common.system import locks
root = pathlib.Path({str(tmp_path)!r})
study.ROOT = store.ROOT = root
lesson = root / "sessions" / "S7" / "block3.py"
lesson.parent.mkdir(parents=True)
lesson.write_text("import os, time, sys; open(os.environ['BEGUN'] + str(os.getpid()), 'w'); time.sleep(600)")
study.main(["S7/block3", "--seeds", "2", "--jobs", "2"])
"""
    begun = tmp_path / "begun-"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, env={**os.environ, "BEGUN": str(begun)}
    )
    while len(list(tmp_path.glob("begun-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (130, "Interrupted; the same command goes on where it stopped.")
    for path in tmp_path.glob("begun-*"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.name.removeprefix("begun-")), 0)


def test_a_turn_is_waited_for_and_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    path = tmp_path / "new" / "turn.lock"
    with locks.wait_for_lock(path), pytest.raises(filelock.Timeout), locks.wait_for_lock(path, seconds=0):
        pytest.fail("two had their turn at once")
    with locks.wait_for_lock(path, seconds=0):
        pass

    def refuse(_lock, *_, **__):
        raise NotImplementedError("no locks here")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refuse)
    went_on = False
    with locks.wait_for_lock(path, seconds=0):
        went_on = True
    assert went_on
