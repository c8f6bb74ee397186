"""One look beside nine: what is counted, what is recorded, and what is left to train."""

import json

import pytest
import torch

from common import data, models
from common.experiments import looks


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setattr(looks, "RECORD", tmp_path / "looks.json")
    return tmp_path / "looks.json"


def run(seed: int, one: int) -> dict:
    return {"seed": seed, "one": one, "nine": one + 1, "mended": 2, "broken": 1, "total": 100}


def test_the_counts_are_those_of_the_nine_looks_and_of_the_first():
    nine_looks = models.load_trained("S8/step7_two_budgets")
    images = data.load("builtin").train_images[:200]  # many are hard for it, so that the looks disagree
    with torch.no_grad():
        one = nine_looks.layers(data.normalise(images)).argmax(dim=1)
        nine = nine_looks(data.normalise(images)).argmax(dim=1)
    labels = torch.where(torch.arange(200) % 3 > 0, one, nine)
    found = looks.counts(nine_looks.layers, images, labels)
    assert found["one"] == int((one == labels).sum()) and found["nine"] == int((nine == labels).sum())
    assert found["one"] + found["mended"] - found["broken"] == found["nine"] and found["total"] == 200
    assert found["mended"] > 0 < found["broken"]  # else the test would hold nothing


def test_a_run_is_added_in_the_order_of_the_seeds_and_replaces_its_own(record):
    for seed, one in ((2, 90), (1, 80), (2, 95)):
        looks.keep("with a teacher", run(seed, one))
    assert looks.accuracies("with a teacher", "one") == {1: 80.0, 2: 95.0}
    assert json.loads(record.read_text())["without a teacher"] == []


def test_only_missing_seeds_are_trained(record, monkeypatch):
    looks.keep("with a teacher", run(1, 90))
    asked = []
    monkeypatch.setattr(looks, "train", lambda how, seed, threads: asked.append((how, seed)))
    monkeypatch.setattr("sys.argv", ["looks", "--seeds", "2", "--jobs", "1"])
    looks.main()
    ways = ("without a teacher", "with a teacher", "large, without a teacher", "frontier, with a teacher")
    assert asked == [(how, seed) for how in ways for seed in (1, 2) if (how, seed) != ("with a teacher", 1)]


def test_each_way_trains_its_own_network_with_its_teacher_or_without(record, monkeypatch):
    asked = []

    def trained(run, threads, heard):
        asked.append(next(option for option in run.options if option.startswith("--override")))
        raise InterruptedError

    monkeypatch.setattr(looks.SeedRun, "train", trained)
    for how in looks.NETWORKS:
        with pytest.raises(InterruptedError):
            looks.train(how, 1, 1)
    assert asked == [
        "--override=network='S8/under_8k_one_view' teacher=''",
        "--override=network='S8/under_8k_one_view'",
        "--override=network='S8/under_20k_one_view' teacher=''",
        "--override=network='S8/frontier_3716'",
    ]


def test_the_record_holds_the_same_seeds_both_ways_and_its_counts_agree():
    for runs in looks.recorded().values():
        assert [one["seed"] for one in runs] == list(range(1, 11))
        for one in runs:
            assert one["one"] + one["mended"] - one["broken"] == one["nine"]
            assert abs(one["one"] - one["one look by epoch"][-1]) <= 1  # BatchNorm in the kernels rounds otherwise
