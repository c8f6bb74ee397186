"""The generator of photos: reproducible, with its label, pen and lines; and what a network reads in its photos."""

import numpy as np
import pytest
import torch

from common import models
from common.data import normalise
from common.data.images import grey_and_resize, prepare
from common.data.photos import HANDS, photo, photos
from common.system.errors import UserError


def pixels(image):
    return np.asarray(image, dtype=np.int64)


def test_the_same_arguments_give_the_same_pixels_and_another_seed_gives_others():
    assert (pixels(photo("7", seed=3)) == pixels(photo("7", seed=3))).all()
    assert not np.array_equal(pixels(photo("7", seed=3)), pixels(photo("7", seed=4)))


def test_a_thicker_pen_leaves_more_ink_and_chalk_is_lighter_than_its_board():
    def ink(pen):
        return sum((prepare(photo("0", seed=seed, pen=pen)).images > 127).sum().item() for seed in range(3))

    assert ink("thin") < ink("medium") < ink("thick")
    board = pixels(photo("8", seed=1, pen="thick", light_on_dark=True)).mean(axis=2)
    assert board.max() - np.median(board) > 100


def test_every_digit_has_three_hands_and_a_photo_has_the_size_that_was_asked_for():
    assert {digit: len(hands) for digit, hands in HANDS.items()} == {str(digit): 3 for digit in range(10)}
    assert photo("1", size=(300, 200)).size == (300, 200)


@pytest.mark.parametrize(
    "wrong",
    [{"digits": ""}, {"digits": "7a"}, {"digits": 7}, {"digits": "1\n\n2"}, {"pen": "brush"}, {"pen": 3}]
    + [{"size": (10, 10)}, {"size": (9_999, 100)}],
    ids=str,
)
def test_what_cannot_be_photographed_is_refused_in_one_sentence(wrong):
    with pytest.raises(UserError, match=r"^[^\n]*\.$"):
        photo(**wrong)


@pytest.fixture(scope="module")
def forty():
    made = photos(40, seed=5)
    return [one.image for one in made], torch.tensor([one.label for one in made])


def correct(step, images, labels):
    with torch.no_grad():
        return int((models.load_trained(step)(normalise(torch.stack(images))).argmax(dim=1) == labels).sum())


@pytest.mark.parametrize("step", ["S7/block3", "S8/step7_two_budgets"])
def test_prepared_photos_are_read_and_squeezed_ones_are_not(forty, step):
    images, labels = forty
    assert correct(step, [prepare(image).digits[0].image for image in images], labels) >= 38
    for inverted in (False, True):
        assert correct(step, [grey_and_resize(image, inverted) for image in images], labels) <= 16


def test_a_thin_pen_is_read():
    made = photos(20, seed=6, pen="thin")
    images = [prepare(one.image).digits[0].image for one in made]
    assert correct("S7/block3", images, torch.tensor([one.label for one in made])) >= 19


def test_a_line_of_one_or_two_pixels_is_a_pens():
    """It has no sharp edges: it is as wide as the blur."""
    assert len(prepare(photo("5", seed=20_215, pen="thin", size=(240, 240))).digits) == 1
