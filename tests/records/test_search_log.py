"""The log of a search: which of its trials a recipe means, and how it is listed."""

import dataclasses
import statistics

import pytest

from common import records
from common.recipe import ROOT, Augmentation, Recipe
from common.records import comparison, search_log, store

TEXTS = ("block4.py", "README.md")
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


def test_what_the_texts_say_of_block_4s_ladder_is_what_its_log_says():
    """The numbers that the lesson's prose and the session's page repeat from the table that the lesson computes."""
    top = records.recipe_of("S7/block4", records.load("S7/block4")["recipe"])
    dense = dataclasses.replace(top, network="S7/block4_dense", teacher="")
    fifth = dataclasses.replace(dense, ema_decay=0.0)
    plain = Augmentation(rotation=5, crop_probability=0.1)
    second = dataclasses.replace(fifth, augmentation=plain, weight_decay=0.0, nesterov=False)
    first = dataclasses.replace(second, one_cycle=0.0, epochs=14, lr=0.02, momentum=0.8)
    lowest = records.recipe_of("S7/block3", records.load("S7/block3")["recipe"])
    ladder = {0: lowest, 1: first, 2: second, 5: fifth, 6: dense, 10: top}
    ladder[8] = dataclasses.replace(top, network="S7/block4_one_view", teacher="")
    scores = {number: search_log.validated(recipe) for number, recipe in ladder.items()}
    assert {len(by_seed) for by_seed in scores.values()} == {5}

    def gain(below, above):
        return comparison.paired(scores[below], scores[above]).difference

    lesson, page = (" ".join((ROOT / "sessions/S7" / name).read_text("utf-8").split("\n# ")) for name in TEXTS)
    assert f"the ladder gains {gain(0, 10):.2f} points" in lesson
    assert f"together they gain {gain(0, 10):.2f} points" in page
    assert f"the one-cycle rate's, {gain(1, 2):.3f} points" in lesson
    assert f"one seed of rung 1, which read {min(scores[1].values()):.2f} %" in lesson
    assert f"have {gain(6, 8):.3f} and {gain(8, 10):.3f} points" in lesson
    means = [statistics.fmean(scores[number].values()) for number in (2, 5)]
    assert f"{means[0]:.3f} % at rung 2, {means[1]:.3f} % at rung 5" in lesson
    assert f"these two differ by {-gain(2, 5):.3f} points" in lesson
    assert all(scores[5][seed] < scores[2][seed] for seed in scores[2])
    assert f"read {min(scores[5].values()):.2f} to {max(scores[5].values()):.2f} %" in lesson
