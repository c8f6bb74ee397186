"""The study: every seed once, finished seeds kept, a record of another recipe refused."""

import pytest

from common import records, study
from common.errors import UserError

FAKE_LESSON = """
import json, pathlib, sys

options = dict(argument.lstrip("-").split("=") for argument in sys.argv[1:] if "=" in argument)
seed, out = int(options["seed"]), pathlib.Path(options["out"])
with open({log!r}, "a") as log:
    log.write(f"{{seed}}{{' resumed' if '--resume' in sys.argv else ''}}\\n")
out.mkdir(parents=True, exist_ok=True)
(out / "checkpoint.pt").write_text("half way")
if seed == {failing}:
    sys.exit(1)
row = dict(epoch=1, test_correct=9_900 + seed, test_total=10_000, train_correct=1, train_total=2, seconds=1.0)
runs = [dict(seed=seed, protocol=name, seconds=1.0, history=[row]) for name in ("held-out", "source")]
record = dict(step="S7/block3", source_sha256={fingerprint!r}, data=dict(name="mnist"), parameters=1, runs=runs)
(out / "record.json").write_text(json.dumps(record))
(out / "weights.safetensors").write_bytes(bytes([seed]))
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of one stand-in lesson; returns a function that (re)writes the lesson."""
    for module in (study, records):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    lesson = tmp_path / "sessions" / "S7" / "block3.py"
    lesson.parent.mkdir(parents=True)

    def write(failing=None, fingerprint="a"):
        log = str(tmp_path / "log")
        lesson.write_text(FAKE_LESSON.format(failing=failing, fingerprint=fingerprint, log=log), encoding="utf-8")
        return tmp_path

    return write


def log(root):
    return (root / "log").read_text().splitlines()


def test_each_seed_runs_once_and_goes_into_the_record(course):
    root = course()
    study.main(["sessions/S7/block3.py", "--seeds", "2"])
    study.main(["S7/block3", "--seeds", "3"])
    assert log(root) == ["1", "2", "3"]
    record = records.load("S7/block3")
    assert [(run["protocol"], run["seed"]) for run in record["runs"]] == [
        (protocol, seed) for protocol in ("held-out", "source") for seed in (1, 2, 3)
    ]
    assert records.summarise(record).accuracies == pytest.approx((99.01, 99.02, 99.03))
    assert record["weights"] == {
        "file": "weights/block3.safetensors",
        "seed": 1,
        "test_correct": 9_901,
        "test_total": 10_000,
    }
    assert (root / "sessions" / "S7" / record["weights"]["file"]).read_bytes() == bytes([1])


def test_a_failing_seed_loses_no_finished_one_and_the_next_call_goes_on(course):
    root = course(failing=2)
    with pytest.raises(UserError, match="seed 2 failed"):
        study.main(["S7/block3"])
    assert [run["seed"] for run in records.runs(records.load("S7/block3"))] == [1]
    course()
    study.main(["S7/block3"])
    assert log(root) == ["1", "2", "2 resumed", "3"]


def test_runs_of_another_recipe_are_not_mixed_in(course):
    root = course()
    study.main(["S7/block3", "--seeds", "1"])
    course(fingerprint="b")
    with pytest.raises(UserError, match="another network, recipe or data set; --anew"):
        study.main(["S7/block3", "--seeds", "2"])
    study.main(["S7/block3", "--seeds", "2", "--anew"])
    assert records.load("S7/block3")["source_sha256"] == "b"
    assert log(root)[-2:] == ["1", "2"]  # from the beginning, not from what an old run left


def test_an_unknown_step_is_named(course):
    course()
    with pytest.raises(UserError, match="no step S7/block9"):
        study.main(["S7/block9"])


def test_a_lesson_that_trains_no_network_is_refused_in_a_sentence(course):
    root = course()
    (root / "sessions" / "S7" / "block3.py").write_text("print('no network here')", encoding="utf-8")
    with pytest.raises(UserError, match="S7/block3 writes no record"):
        study.main(["S7/block3"])
