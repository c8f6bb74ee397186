"""How a recipe is chosen by spoilt validation images, and how other writers are measured."""

import dataclasses
import json

import pytest
import torch

from common import data, models
from common.data.corruptions import CORRUPTIONS, TOGETHER, _scanned, corrupt
from common.experiments import other_writers, robustness
from common.recipe import ROOT
from common.records import comparison, store

OWN = "S10/step2_other_writers"


@pytest.fixture
def few(monkeypatch):
    """The built-in digits in the place of MNIST's, few of them."""
    digits = data.builtin()
    aside = dataclasses.replace(
        digits,
        train_images=digits.train_images[:320],
        train_labels=digits.train_labels[:320],
        test_images=digits.train_images[-60:],
        test_labels=digits.train_labels[-60:],
        measured_on="validation",
    )
    asked = []
    monkeypatch.setattr(robustness.data, "load", lambda *a, **k: asked.append((a, k)) or aside)
    return asked


def test_a_trial_is_written_once_and_never_looks_at_test_images(few, tmp_path, monkeypatch):
    monkeypatch.setattr(robustness, "LOG", tmp_path / "search.json")
    monkeypatch.setattr("sys.argv", ["robustness", "--override", "epochs=20", "--override", "epochs=20"])
    robustness.main()
    assert all(named.get("validate") for _, named in few), "the search reads validation images"
    (row,) = json.loads((tmp_path / "search.json").read_text())
    assert row["overrides"] == "epochs=20" and (row["epochs"], row["total"]) == (20, 60)
    assert set(row["spoilt"]) == set(CORRUPTIONS) | set(TOGETHER)
    assert 30 < row["clean"] <= 60 and all(0 <= count <= 60 for count in row["spoilt"].values())
    mean = sum(row["spoilt"].values()) / len(row["spoilt"]) / 60 * 100
    assert row["mean"] == pytest.approx(mean, abs=1e-3)


def test_an_image_without_a_digit_is_never_read():
    network = models.build(OWN)
    images = torch.zeros(10, 28, 28, dtype=torch.uint8)
    found = robustness.measure(network, {"empty": (images, torch.arange(10))})
    assert found == {"empty": 0}, "one of the ten labels is what the network says of an empty image"


def test_a_photo_of_none_or_of_two_digits_counts_as_not_read():
    from PIL import Image

    from common.data.photos import photo

    assert other_writers.only_digit(photo("7", seed=5)).max() == 255
    assert other_writers.only_digit(photo("35", seed=5)).max() == 0
    assert other_writers.only_digit(Image.new("RGB", (300, 200), "white")).max() == 0


def test_the_committed_record_holds_what_its_networks_read():
    """Two networks are measured again on scikit-learn's digits: the counts are those of the committed weights."""
    record = other_writers.recorded()
    pair = data.other_writers.scikit_learn()
    for name in ("S7/block3", "S8/frontier_1196"):
        again = robustness.measure(models.load_trained(name), {"scikit-learn": pair})
        assert abs(again["scikit-learn"] - record["networks"][name]["correct"][0]["scikit-learn"]) <= 1
    assert record["totals"]["scikit-learn"] == len(pair[1]) and record["totals"]["usps"] == 2007


def test_the_records_of_the_step_belong_together():
    """The seeds that met the other writers are the record's seeds, and the log's last choice is the recipe."""
    record, measured = store.load(OWN), other_writers.recorded()["networks"][OWN]["correct"]
    runs = store.runs(record)
    assert [run["history"][-1]["test_correct"] for run in runs] == pytest.approx(
        [row["mnist"] for row in measured], abs=2
    )
    assert comparison.summary(record)["seeds"] == len(measured) == 5


def test_the_search_has_no_way_to_the_test_images_or_the_other_writers():
    text = (ROOT / "common/experiments/robustness.py").read_text(encoding="utf-8")
    assert "scikit_learn" not in text and "usps" not in text and "validate=True" in text


def test_the_search_begins_at_block_4s_recipe_with_one_look():
    base, block4 = robustness.base(), store.load("S8/step7_two_budgets")["recipe"]
    assert (base.network, base.teacher, base.epochs) == ("S8/under_8k_one_view", "", 4)
    assert (base.lr, base.ema_decay, base.augmentation.rotation) == (block4["lr"], block4["ema_decay"], 10)


def test_a_hand_and_a_scanner_together_are_the_one_after_the_other():
    """Both steps by themselves give the same, but for the rounding to bytes between them."""
    images = data.builtin().test_images[:20]
    both = corrupt(images, "thick line, 8 dots").float()
    rounded = corrupt(images, "thick line")
    assert (both - corrupt(rounded, "coarse, 10 dots").float()).abs().mean() > 2  # another scanner is something else
    assert not torch.equal(both, corrupt(images, "thick line").float())
    eight = torch.stack([torch.from_numpy(_scanned(8)(image.numpy().astype(float), None)) for image in rounded])
    assert (both - eight).abs().max() <= 1.5


def test_coarse_digits_are_what_the_figure_says():
    images = data.builtin().test_images[:20]
    assert float(corrupt(images, "coarse, 7 dots").float().std()) < float(images.float().std())
