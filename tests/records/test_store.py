"""The records' arithmetic and their files."""

import copy
import dataclasses
import re

import pytest
import torch
from made_up import record, run

from common import data, models, records
from common.recipe import Augmentation, Options, Recipe
from common.records import schema
from common.system.errors import UserError


def test_a_summary_is_of_the_last_epoch_not_the_best():
    best_is_not_last = run(1, correct=(9_990, 9_960, 9_950, 9_940))
    summary = records.summarise(record(best_is_not_last, run(2, correct=(0, 0, 0, 9_942))))
    assert summary.accuracies == pytest.approx((99.40, 99.42))
    assert summary.mean == pytest.approx(99.41)
    assert summary.deviation == pytest.approx(0.02 / 2**0.5)
    assert records.summarise(record(best_is_not_last), epoch=1).mean == pytest.approx(99.9)


def test_protocols_are_not_mixed():
    both = record(run(1), run(1, "source", correct=(1, 1, 1, 9_999)))
    assert records.summarise(both).mean == pytest.approx(99.5)
    assert records.summarise(both, "source").mean == pytest.approx(99.99)
    with pytest.raises(ValueError, match="no run"):
        records.summarise(record(run(1)), "source")


def test_a_run_replaces_only_the_one_of_its_seed_and_protocol():
    first = record(run(2), run(1), run(1, "source"))
    again = records.add_run(first, run(1, correct=(0, 0, 0, 1)))
    assert [(each["protocol"], each["seed"]) for each in again["runs"]] == [
        ("held-out", 1),
        ("held-out", 2),
        ("source", 1),
    ]
    assert records.accuracy(again["runs"][0]) == pytest.approx(0.01)


def test_consistency_is_the_worst_of_the_last_three_epochs():
    measured = records.measure(run(1, correct=(9_000, 9_935, 9_960, 9_950)), 7_904)
    assert measured["test accuracy in each of the last 3 epochs"] == pytest.approx(99.35)
    assert records.measure(run(1, correct=(9_941,)), 7_904)["test accuracy in each of the last 3 epochs"] == 99.41


def test_a_written_record_reads_back_and_has_a_line_for_each_epoch(tmp_path):
    path = records.write(tmp_path / "record.json", record(run(1), run(2)))
    assert records.load(path) == record(run(1), run(2))
    lines = path.read_text().splitlines()
    assert sum(line.strip().startswith('{ "epoch": 3,') for line in lines) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"runs": 3}', "\x00\xff"])
def test_a_damaged_record_gets_one_sentence(tmp_path, content):
    (tmp_path / "record.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match="damaged"):
        records.load(tmp_path / "record.json")


def test_the_fingerprint_knows_the_network_and_the_recipe_but_not_the_seed(monkeypatch):
    recipe = Recipe("S7/block3", epochs=14, batch_size=64, lr=0.02, augmentation=Augmentation(rotation=5))
    fingerprint = records.fingerprint(recipe)
    assert fingerprint == records.fingerprint(dataclasses.replace(recipe, seed=9))
    assert fingerprint != records.fingerprint(dataclasses.replace(recipe, augmentation=Augmentation(rotation=7)))
    assert fingerprint != records.fingerprint(dataclasses.replace(recipe, network="S7/block1"))
    monkeypatch.setitem(models.NETWORKS, "S7/block3", models.NETWORKS["S8/under_8k_dense"])
    assert fingerprint != records.fingerprint(recipe)


GOOD = {"step": "S7/block3", "parameters": 7_904, "data": {}, "runs": [run(1)]}
TRIED = {"seed": 1, "precision": "float32", "loss": 0.5, "correct": [8, 9], "total": 10}


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (["history", 1, "test_correct"], 10_001, "runs.0.history.1: more images are correct than there are"),
        (["history", 1, "test_correct"], True, "runs.0.history.1.test_correct: Input should be a valid integer"),
        (["history", 1, "train_total"], 0, "runs.0.history.1.train_total"),
        (["history", 1, "train_correct"], 60_001, "runs.0.history.1: more images are correct than there are"),
        (["history", 1, "epoch"], 3, "runs.0: an epoch is missing"),
        (["history"], [], "runs.0.history"),
        (["seconds"], float("nan"), "runs.0.seconds: Input should be a finite number"),
        (["seconds"], 10**400, "runs.0.seconds"),
        (["seed"], "1", "runs.0.seed"),
    ],
)
def test_a_record_of_another_form_is_refused_and_the_place_named(place, value, said):
    schema.check(GOOD)
    told = copy.deepcopy(GOOD)
    part = told["runs"][0]
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        schema.check(told)
    assert "\n" not in str(refused.value)


def test_runs_need_the_networks_size_and_their_data_and_a_search_needs_neither():
    trial = {"overrides": "lr=0.1", "recipe": {}, "runs": [TRIED]}
    schema.check({"runs": [], "search": [trial]})
    with pytest.raises(ValueError, match="its parameters or its data are missing"):
        schema.check({"runs": [run(1)]})
    with pytest.raises(ValueError, match=r"search\.0\.runs\.0: more images"):
        schema.check({"runs": [], "search": [{**trial, "runs": [{**TRIED, "correct": [11]}]}]})


@pytest.mark.parametrize("step", ["S5/step1_first_network", "S6/part2_step2_strided", "S7/block3"])
def test_a_recorded_run_is_the_one_whose_weights_are_kept(step, capsys, tmp_path):
    record = records.load(step)
    recipe = records.recipe_of(step, record["recipe"])
    options = Options("builtin", None, "cpu", "held-out", "recorded", False, tmp_path)
    model = models.build(step)
    history = records.restore(recipe, model)
    kept = models.load_trained(step).state_dict()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    assert len(capsys.readouterr().out.splitlines()) == len(history) == recipe.epochs
    assert history[-1]["test_correct"] == record["weights"]["test_correct"]
    digits = data.load("builtin")
    assert [run["seed"] for run in records.make(recipe, options, model, digits, history)["runs"]] == [
        record["weights"]["seed"]
    ]
    assert "Recorded run: the weights and the history of seed 1" in records.head(
        recipe, options, digits, torch.device("cpu")
    )
    with pytest.raises(UserError, match=r"not of this recipe, which has lr=0.5; set TRAIN to"):
        records.restore(dataclasses.replace(recipe, lr=0.5), model)
