"""A page's small experiment: both sides trained alike, on images apart from those that are measured."""

import contextlib
import dataclasses
import io
import sys

import pytest
import torch

from common import data
from common.lesson import experiment
from common.recipe import Options, Recipe
from common.training import evaluate

RECIPE = Recipe("S7/block3", epochs=14, batch_size=64, lr=0.05, momentum=0.9)
CPU = torch.device("cpu")
SIZES = {"images": 320, "epochs": 3, "seeds": (1, 2), "batch_size": 16, "held_out": 100}  # it learns a little
SMALL = {"images": 200, "epochs": 1, "seeds": (1, 2)}


def options_for(folder):
    return Options("builtin", None, "cpu", "held-out", "recorded", False, folder, precision="float32")


@pytest.fixture
def options(tmp_path):
    return options_for(tmp_path)


@pytest.fixture(scope="module")
def same(tmp_path_factory):
    """What the same recipe on both sides gives, and what is said of it."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        found = experiment(RECIPE, options_for(tmp_path_factory.mktemp("same")), data.load("builtin"), CPU, **SIZES)
    return found, said.getvalue()


def test_the_same_recipe_on_both_sides_gives_no_difference_and_another_one_does(same, options, capsys):
    found, said = same
    assert (found.difference, found.low, found.high) == (0, 0, 0)
    assert found.first > 20, "it learns"
    assert "You made no prediction." in said
    other = experiment(RECIPE, options, data.load("builtin"), CPU, "lr=0.00001", prediction=-40.0, **SIZES)
    assert other.first == found.first
    assert other.difference < 0
    said = capsys.readouterr().out
    assert "lr=1e-05" in said
    assert f"You predicted -40.00: {abs(-40 - other.difference):.2f} points away." in said
    assert "Trained on 320 images, 3 epochs, batches of 16; measured on 100 others of the training images" in said
    assert list(options.out.iterdir()) == []


def test_a_script_that_trains_in_full_shortens_it_and_says_so(options, capsys):
    full, digits = dataclasses.replace(options, train="full"), data.load("builtin")
    experiment(RECIPE, full, digits, CPU, "lr=0.1", seeds=(1, 2), held_out=100)
    said = capsys.readouterr().out
    assert said.startswith("experiment shortened")
    assert "Trained on 128 images, 1 epochs" in said
    pages_own = dataclasses.replace(RECIPE, step="S8/step1_learning_rate", network="S7/block3")  # it has nothing else
    experiment(pages_own, full, digits, CPU, "lr=0.1", images=200, epochs=1, seeds=(1, 2), held_out=100)
    assert "Trained on 200 images" in capsys.readouterr().out


def test_no_image_is_both_trained_on_and_measured(options, monkeypatch):
    module, digits, given = sys.modules["common.lesson.experiment"], data.load("builtin", limit=240), []
    loader = module.InMemoryLoader
    monkeypatch.setattr(
        module, "InMemoryLoader", lambda images, *more, **named: given.append(images) or loader(images, *more, **named)
    )
    everything, held_out = len(digits.train_labels), 60
    experiment(RECIPE, options, digits, CPU, "lr=0.1", images=everything, held_out=held_out, epochs=1, seeds=(1, 2))
    first = [(images.data_ptr() - digits.train_images.data_ptr()) // 28**2 for images in given]
    rows = [range(start, start + len(images)) for start, images in zip(first, given, strict=True)]
    assert rows == [range(everything - held_out, everything)] + 4 * [range(everything - held_out)]


def test_it_leaves_the_random_numbers_as_they_were(options):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    experiment(RECIPE, options, data.load("builtin"), CPU, "lr=0.1", **SMALL)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_quick_run_shrinks_it(options, capsys):
    quick, digits = dataclasses.replace(options, train="quick"), data.load("builtin")
    experiment(RECIPE, quick, digits, CPU, "lr=0.1", seeds=(1, 2), held_out=100)
    said = capsys.readouterr().out
    assert "Trained on 128 images, 1 epochs" in said
    assert "measured on 100 others of the training images" in said


def test_it_prints_the_accuracies_in_training_where_they_are_asked_for(same, options, capsys):
    experiment(RECIPE, options, data.load("builtin"), CPU, in_training=True, **SMALL)
    assert "in training, last epoch, mean of the seeds: as it is " in capsys.readouterr().out
    assert "in training" not in same[1]


def test_the_changed_side_can_have_another_loss(same, options, capsys):
    found = experiment(
        RECIPE, options, data.load("builtin"), CPU, loss=lambda images, said, labels: said.pow(2).mean(), **SIZES
    )
    assert found.first == same[0].first
    assert found.second < found.first - 20, "nothing asks for the labels"
    assert "by the other loss  seeds 1, 2:" in capsys.readouterr().out


def test_the_images_that_are_measured_can_be_spoilt(same, options, capsys, monkeypatch):
    measured = []

    def watched(model, batches):
        measured.append(batches.images)
        return evaluate(model, batches)

    monkeypatch.setattr(sys.modules[experiment.__module__], "evaluate", watched)
    experiment(RECIPE, options, data.load("builtin"), CPU, spoil=torch.zeros_like, **SMALL)
    assert [len(images) for images in measured] == [359] * 4
    assert not any(images.any() for images in measured)
    assert "others of the training images, spoilt" in capsys.readouterr().out
    assert "spoilt" not in same[1]
