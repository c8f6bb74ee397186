"""The log of a search: which of its trials a recipe means, and how it is listed."""

import dataclasses

import pytest

from common import records
from common.recipe import ROOT, Augmentation, Recipe
from common.records import comparison, search_log, store

OWN = Recipe("S7/block9", 15, 64, 0.2, 0.9, augmentation=Augmentation(rotation=10, scale=(0.9, 1.1)))


def trial(change, recipe, *runs):
    """A trial with a run for each (seed, correct of 5,000, loss, arithmetic)."""
    kept = {name: value for name, value in dataclasses.asdict(recipe).items() if name not in ("step", "seed")}
    names = ("seed", "correct", "loss", "precision")
    found = [dict(zip(names, run, strict=True)) | {"correct": [4_000, run[1]], "total": 5_000} for run in runs]
    return {"overrides": change, "recipe": kept, "runs": found}


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "ROOT", tmp_path)
    slower = dataclasses.replace(OWN, lr=0.1)
    own_runs = (2, 4_960, 0.25, "float32"), (1, 4_950, 0.125, "bfloat16")
    tried = [trial("lr=0.1", slower, (1, 4_900, 0.5, "float32")), trial("", OWN, *own_runs)]
    record = {"step": OWN.step, "runs": [], "search": tried}
    path = records.path_of(OWN.step)
    path.parent.mkdir(parents=True)
    records.write(path, record)


def test_a_recipe_means_its_own_trial_alone(log):
    assert search_log.validated(OWN) == search_log.validated(OWN, epoch=2) == {1: 99.0, 2: 99.2}
    assert search_log.validated(OWN, epoch=1) == {1: 80.0, 2: 80.0}
    assert search_log.validated(dataclasses.replace(OWN, lr=0.1, seed=7)) == {1: 98.0}
    assert search_log.validated(dataclasses.replace(OWN, augmentation=Augmentation(rotation=10))) == {}
    assert search_log.validated(dataclasses.replace(OWN, step="S7/block8")) == {}


def test_the_listing_by_hand(log):
    assert search_log.listing(OWN).splitlines() == [
        "recorded   2 recipes tried, 3 runs",
        "recorded    1 seeds   98.000 %  loss 0.50000  float32  lr=0.1",
        "recorded    2 seeds   99.100 %  loss 0.18750  bfloat16 and float32  the recipe as it stands",
    ]
    assert search_log.listing(OWN, {"": "rung 10", "lr=0.1": "rung 3"}).split("  ")[-1] == "rung 10"
    assert search_log.listing(dataclasses.replace(OWN, step="S7/block8")) == "recorded   0 recipes tried, 0 runs"


def test_what_the_sessions_page_says_of_the_ladder_is_what_its_log_says():
    """The number that S8's page repeats; the lessons print theirs."""
    top = records.recipe_of("S8/step7_two_budgets", records.load("S8/step7_two_budgets")["recipe"])
    lowest = records.recipe_of("S7/block3", records.load("S7/block3")["recipe"])
    gain = comparison.paired(search_log.validated(lowest), search_log.validated(top)).difference
    page = (ROOT / "sessions/S8/README.md").read_text("utf-8")
    assert f"the whole way gains {gain:.3f} points" in page
