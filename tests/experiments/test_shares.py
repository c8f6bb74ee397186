"""BatchNorm by shares: what is recorded, what is left to train, and how two processes are compared with one."""

import json

import pytest

from common.experiments import shares


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setattr(shares, "RECORD", tmp_path / "shares.json")
    monkeypatch.setattr(shares, "FOLDER", tmp_path / "runs")
    return tmp_path / "shares.json"


def run(processes: int, seed: int, correct: int) -> dict:
    return {"processes": processes, "seed": seed, "correct": correct, "total": 200}


def test_a_run_replaces_its_own_and_two_processes_are_compared_with_one_by_seed(record):
    for one in (run(2, 1, 190), run(1, 2, 180), run(1, 1, 194), run(2, 2, 182), run(2, 1, 191)):
        shares.keep(one)
    kept = json.loads(record.read_text())["runs"]
    assert [(one["processes"], one["seed"]) for one in kept] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert shares.accuracies(2) == {1: 95.5, 2: 91.0}
    assert shares.paired().difference == pytest.approx((-1.5 + 1.0) / 2)


def test_only_missing_seeds_are_trained(record, monkeypatch):
    shares.keep(run(1, 1, 190))
    shares.keep(run(2, 2, 190))
    asked = []
    monkeypatch.setattr(shares, "train", lambda processes, seed: asked.append((processes, seed)))
    monkeypatch.setattr("sys.argv", ["shares", "--seeds=2"])
    shares.main()
    assert asked == [(1, 2), (2, 1)]


def test_a_trained_seed_is_recorded_with_its_last_epoch_and_its_machine(record, monkeypatch):
    def trained(run, threads, heard):
        assert threads == 1 and {"--validate", "--processes=2", "--seed=3"} <= set(run.options)
        rows = [{"test_correct": correct, "test_total": 5_000} for correct in (4_000, 4_800)]
        machine = dict.fromkeys(("device", "machine", "host", "torch", "python", "precision", "layers"), "here")
        run.out.mkdir(parents=True)
        found = {**machine, "threads": 1, "processes": 2, "seconds": 4.06, "history": rows}
        run.record.write_text(json.dumps({"runs": [found]}))

    monkeypatch.setattr(shares.SeedRun, "train", trained)
    shares.train(2, 3)
    (kept,) = shares.recorded()
    assert (kept["processes"], kept["seed"], kept["correct"], kept["total"]) == (2, 3, 4_800, 5_000)
    assert (kept["seconds"], kept["threads"], kept["machine"]) == (4.1, 1, "here")


def test_the_record_holds_the_same_seeds_both_ways_on_validation_images_and_one_kind_of_machine():
    runs = shares.recorded()
    for processes in shares.PROCESSES:
        assert [one["seed"] for one in runs if one["processes"] == processes] == [1, 2, 3, 4, 5]
    assert {one["total"] for one in runs} == {5_000} and all(one["correct"] < 5_000 for one in runs)
    assert len({(one["threads"], one["machine"], one["torch"], one["precision"], one["layers"]) for one in runs}) == 1
    assert "--validate" in json.loads(shares.RECORD.read_text(encoding="utf-8"))["options"]
