"""A page's small experiment: both sides trained alike, on images apart from those that are measured."""

import dataclasses

import pytest
import torch

from common import data
from common.lesson import experiment
from common.recipe import Options, Recipe

RECIPE = Recipe("S7/block3", epochs=14, batch_size=64, lr=0.02, momentum=0.8)
CPU = torch.device("cpu")


@pytest.fixture
def options(tmp_path):
    return Options("builtin", None, "cpu", "held-out", "recorded", False, tmp_path, precision="float32")


def test_the_same_recipe_on_both_sides_gives_no_difference_and_another_one_does(options, capsys):
    digits = data.load("builtin")
    sizes = {"images": 1_000, "epochs": 3, "seeds": (1, 2)}
    same = experiment(RECIPE, options, digits, CPU, **sizes)
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    other = experiment(RECIPE, options, digits, CPU, "lr=0.00001", prediction=-40.0, **sizes)
    assert other.first == same.first
    assert other.difference < 0
    said = capsys.readouterr().out
    assert "lr=1e-05" in said
    assert "You made no prediction." in said
    assert f"You predicted -40.00: {abs(-40 - other.difference):.2f} points away." in said
    assert "Trained on 1,000 images, 3 epochs, batches of 64; measured on 359 others of the training images" in said
    assert list(options.out.iterdir()) == []


def test_a_quick_run_shrinks_it(options, capsys):
    quick, digits = dataclasses.replace(options, train="quick"), data.load("builtin")
    experiment(RECIPE, quick, digits, CPU, "lr=0.1", seeds=(1, 2), held_out=100)
    said = capsys.readouterr().out
    assert "Trained on 128 images, 1 epochs" in said
    assert "measured on 100 others of the training images" in said


def test_it_prints_the_accuracies_in_training_where_they_are_asked_for(options, capsys):
    digits = data.load("builtin")
    experiment(RECIPE, options, digits, CPU, images=200, epochs=1, seeds=(1, 2), in_training=True)
    assert "in training, last epoch, mean of the seeds: as it is " in capsys.readouterr().out
    experiment(RECIPE, options, digits, CPU, images=200, epochs=1, seeds=(1, 2))
    assert "in training" not in capsys.readouterr().out


def test_the_images_that_are_measured_can_be_spoilt(options, capsys):
    digits = data.load("builtin")
    sizes = {"images": 1_000, "epochs": 3, "seeds": (1, 2)}
    clean = experiment(RECIPE, options, digits, CPU, **sizes)
    black = experiment(RECIPE, options, digits, CPU, spoil=torch.zeros_like, **sizes)
    assert black.first < 20 < clean.first, "a network that is shown black images can only guess"
    assert "others of the training images, spoilt" in capsys.readouterr().out
