"""Changed recipes: by name, of the right kind, and back from the difference."""

import pytest

from common.recipe import Augmentation, Recipe, non_default_fields, overrides_between, with_overrides
from common.system.errors import UserError

RECIPE = Recipe("S7/block3", 14, 64, 0.02, 0.8, augmentation=Augmentation(rotation=7.5, crop_probability=0.1))


def test_values_are_replaced_and_nothing_else():
    recipe = with_overrides(RECIPE, "lr=1e-1 nesterov=True augmentation.scale=(0.9,1.1) lr_step=6 epochs=15")
    assert (recipe.lr, recipe.nesterov, recipe.lr_step, recipe.epochs) == (0.1, True, 6, 15)
    assert recipe.augmentation == Augmentation(rotation=7.5, crop_probability=0.1, scale=(0.9, 1.1))
    assert (recipe.momentum, recipe.step, recipe.batch_size) == (0.8, "S7/block3", 64)
    assert with_overrides(RECIPE, "") == RECIPE


@pytest.mark.parametrize(
    "changes",
    ["lr=0.05 one_cycle=0.25", "augmentation.interpolation='bilinear'", "augmentation.scale=(0.9,1.1) lr_step=6", ""],
)
def test_a_difference_makes_the_same_recipe_again(changes):
    other = with_overrides(RECIPE, changes)
    assert with_overrides(RECIPE, overrides_between(RECIPE, other)) == other


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ("speed=3", "speed"),
        ("augmentation=3", "augmentation"),
        ("augmentation.spin=3", "augmentation.spin"),
        ("lr.rate=3", "lr.rate"),
        ("step=S7/block9", "step"),
        ("lr=fast", "lr must"),
        ("lr=-1", "lr must"),
        ("lr=1e999", "lr must"),
        ("lr", "lr must"),
        ("lr=True", "lr must"),
        ("epochs=1.5", "epochs must"),
        ("nesterov=1", "nesterov must"),
        ("augmentation.scale=0.9", "augmentation.scale must"),
        ("augmentation.scale=(0.9,'a')", "augmentation.scale must"),
        ("lr=__import__('os').getcwd()", "lr must"),
    ],
)
def test_a_change_that_makes_no_sense_is_one_sentence(changes, named):
    with pytest.raises(UserError, match=named) as error:
        with_overrides(RECIPE, changes)
    assert "\n" not in str(error.value)


def test_stated_leaves_the_defaults_out():
    assert non_default_fields(RECIPE) == {
        "step": "S7/block3",
        "epochs": 14,
        "batch_size": 64,
        "lr": 0.02,
        "momentum": 0.8,
        "augmentation": {"rotation": 7.5, "crop_probability": 0.1},
    }
