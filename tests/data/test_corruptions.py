"""Spoilt digits: each way does what its name says, and no more."""

import numpy as np
import pytest
import torch

from common import data
from common.data.corruptions import CORRUPTIONS, corrupt

DIGITS = data.builtin().test_images[:40]


def square(left, right, top, bottom):
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    image[:, top:bottom, left:right] = 255
    return image


def extent(image, axis):
    """How many columns (axis 0) or rows (axis 1) have ink, with the shares at the edges."""
    return float(image[0].numpy().max(axis=axis).sum()) / 255


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_spoils_every_digit_and_keeps_it_a_digit(kind):
    spoilt = corrupt(DIGITS, kind)
    assert spoilt.dtype == torch.uint8 and spoilt.shape == DIGITS.shape
    assert not any(torch.equal(one, other) for one, other in zip(spoilt, DIGITS, strict=True))
    assert (spoilt.amax(dim=(1, 2)) > 60).all()
    assert torch.equal(spoilt, corrupt(DIGITS, kind)), "the same seed, the same images"


def test_lines_change_by_as_many_pixels_on_each_side():
    line = square(12, 16, 4, 24)  # 4 wide, 20 high
    assert extent(corrupt(line, "thick line"), 0) == pytest.approx(5.6, abs=0.5)
    assert extent(corrupt(line, "thin line"), 0) == pytest.approx(2.4, abs=0.5)


def test_the_thinnest_line_is_still_there():
    assert corrupt(square(14, 15, 4, 24), "thin line").sum() > 20 * 255 * 0.4


def test_wide_and_narrow_change_the_width_alone():
    box = square(9, 19, 9, 19)
    for kind, factor in (("wide", 1.3), ("narrow", 0.7)):
        changed = corrupt(box, kind)
        assert int(changed[0, 14].sum()) / 255 == pytest.approx(10 * factor, abs=0.1)
        assert int(changed[0, :, 14].sum()) / 255 == pytest.approx(10, abs=0.1)


def test_slants_go_to_either_side_and_a_turn_goes_round():
    line = square(13, 15, 4, 24)
    right, left = (corrupt(line, f"slanted {side}")[0].float() for side in ("right", "left"))
    columns = torch.arange(28.0)

    def at(image, row):
        return float(image[row] @ columns / image[row].sum())

    assert at(right, 6) > 16 and at(right, 21) < 11, "the top of what is slanted to the right lies to the right"
    assert at(left, 6) == pytest.approx(27 - at(right, 6), abs=0.2)
    turned = corrupt(line, "turned")[0].float()
    assert abs(at(turned, 6) - at(turned, 21)) == pytest.approx(15 * np.tan(np.deg2rad(15)), abs=0.6)


def test_a_coarse_scan_keeps_the_ink_and_loses_the_edges():
    box = square(8, 20, 8, 20)
    coarse = corrupt(box, "coarse, 7 dots")
    assert int(coarse.sum()) == pytest.approx(int(box.sum()), rel=0.05)
    assert len(torch.unique(coarse)) > 10 and len(torch.unique(box)) == 2


def test_faint_ink_is_two_fifths():
    assert int(corrupt(square(8, 20, 8, 20), "faint").max()) == 102
