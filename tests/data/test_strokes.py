"""A drawing becomes an image as MNIST's were made: size, place, width and invariance, checked on the pixels."""

import numpy as np
import pytest
import torch
from drawings import DIGITS

from common import models
from common.data import normalise
from common.data.strokes import draw
from common.system.errors import UserError


def ink(image):
    return image.numpy().astype(float)


def centre(image):
    places, mass = np.arange(28) + 0.5, ink(image)
    return mass.sum(axis=1) @ places / mass.sum(), mass.sum(axis=0) @ places / mass.sum()


@pytest.mark.parametrize("digit", range(10))
def test_the_ink_lies_in_the_middle_and_is_twenty_pixels_high(digit):
    image = draw(DIGITS[digit])
    assert image.dtype == torch.uint8
    assert image.shape == (28, 28)
    assert centre(image) == pytest.approx((14, 14), abs=0.15)
    rows, columns = (np.flatnonzero(ink(image).sum(axis=axis) > 127) for axis in (1, 0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (20, 21)  # a pixel more where the edge falls between two
    assert image.max() == 255


def test_size_and_place_of_the_drawing_do_not_matter_and_its_proportions_do():
    strokes = DIGITS[4]
    moved = [[(300 + 40 * x, -7 + 40 * y) for x, y in stroke] for stroke in strokes]
    assert (ink(draw(moved)) - ink(draw(strokes))).max() <= 1  # rounding
    flat = draw([[(x, 0.5 * y) for x, y in stroke] for stroke in strokes])
    assert (flat != draw(strokes)).any()


def test_a_line_is_as_wide_as_the_pen():
    upright = draw([[(0.5, 0.1), (0.5, 0.9)]], pen=3.0)
    assert ink(upright)[14].sum() / 255 == pytest.approx(3.0, abs=0.02)
    lying = draw([[(0.1, 0.5), (0.9, 0.5)]], pen=2.0)
    assert ink(lying)[:, 14].sum() / 255 == pytest.approx(2.0, abs=0.02)


def test_a_dot_is_a_dot_and_nothing_is_nothing():
    dot = draw([[(0.3, 0.8)]])
    assert centre(dot) == pytest.approx((14, 14), abs=0.05)
    assert 0 < (dot > 0).sum() < 20
    assert not draw([]).any()
    assert not draw([[], []]).any()


@pytest.mark.parametrize(
    "strokes",
    [[[(0.1, float("nan"))]], [[(1, 2, 3)]], [["ab"]], 7, [[(float("inf"), 0)]], [[(0.1, 0.2)] * 5_001], [None]],
    ids=["nan", "three", "text", "number", "inf", "many", "none"],
)
def test_what_is_no_drawing_is_refused_in_one_sentence(strokes):
    with pytest.raises(UserError, match="drawing"):
        draw(strokes)


@pytest.mark.parametrize("step", ["S5/step1_first_network", "S7/block3", "S8/step7_two_budgets", "S8/frontier_1196"])
def test_the_networks_read_ten_drawn_digits(step):
    images = torch.stack([draw(DIGITS[digit]) for digit in range(10)])
    with torch.no_grad():
        assert models.load_trained(step)(normalise(images)).argmax(dim=1).tolist() == list(range(10))
