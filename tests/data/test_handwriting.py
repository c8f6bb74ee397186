"""Augmentation of the hand and the pen: worked by hand, and held against other code."""

import pytest
import torch
from scipy import ndimage

from common import data
from common.data import augmentation, handwriting
from common.data.handwriting import HandDraws
from common.recipe import Augmentation

EVERYTHING = Augmentation(stretch=0.25, elastic=0.8, stroke=0.7, blur=0.6, scan=6, contrast=0.5)


def draws(count=2000, seed=1, **amounts):
    return handwriting.draw(count, Augmentation(**amounts), torch.Generator().manual_seed(seed))


def test_what_is_drawn_lies_where_the_recipe_says():
    drawn = handwriting.draw(4000, EVERYTHING, torch.Generator().manual_seed(3))
    assert 0.8 <= drawn.stretch.min() < 0.81 and 1.24 < drawn.stretch.max() <= 1.25
    assert (drawn.stretch > 1).float().mean() == pytest.approx(0.5, abs=0.04)  # as often wider as narrower
    assert drawn.grid.shape == (4000, 2, 5, 5) and float(drawn.grid.std()) == pytest.approx(0.8, abs=0.02)
    assert -0.7 <= drawn.stroke.min() < -0.69 and 0.69 < drawn.stroke.max() <= 0.7
    assert drawn.blur.min() >= 0 and 0.59 < drawn.blur.max() <= 0.6
    assert drawn.contrast.min() >= 0.5 and drawn.contrast.max() <= 1


def test_a_recipe_without_a_hand_draws_what_it_always_drew():
    generator = torch.Generator().manual_seed(5)
    assert handwriting.draw(10, Augmentation(rotation=10), generator) == HandDraws()
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(5).get_state())


def test_a_share_of_the_images_keeps_its_hand():
    drawn = draws(stretch=0.3, elastic=1.0, stroke=0.5, blur=0.5, scan=6, contrast=0.5, hand_probability=0.25)
    kept = drawn.stroke == 0
    assert kept.float().mean() == pytest.approx(0.75, abs=0.03)
    for values, neutral in zip(drawn, (1, 0, 0, 0, 0, 1), strict=True):
        assert torch.equal((values.flatten(1) if values.ndim > 1 else values[:, None]).eq(neutral).all(dim=1), kept)


def test_stretch_makes_a_digit_wider_and_leaves_its_height():
    image = torch.zeros(1, 1, 28, 28)
    image[..., 8:20, 10:18] = 255  # 8 wide, 12 high
    neutral = torch.ones(1), torch.zeros(1)
    matrix = augmentation.inverse_matrix(neutral[1], torch.zeros(1, 2), neutral[0], neutral[1])
    wide = augmentation.affine_resample(
        image, handwriting.stretched(matrix, HandDraws(stretch=torch.tensor([1.5]))), "bilinear"
    )
    assert float(wide[0, 0, 14].sum()) / 255 == pytest.approx(12, abs=0.05)
    assert float(wide[0, 0, :, 14].sum()) / 255 == pytest.approx(12, abs=0.05)


def test_a_bend_is_exact_at_the_corners_of_its_cells_and_smooth_between():
    grid = draws(3, elastic=1.0).grid
    bend = handwriting.bend(HandDraws(grid=grid), 29)  # of 29 pixels every seventh is a corner
    assert torch.allclose(bend[:, ::7, ::7].permute(0, 3, 1, 2), grid, atol=1e-5)
    assert float((bend[:, 1:] - bend[:, :-1]).abs().max()) < float(grid.abs().max()) / 2


def test_a_bend_of_one_shift_for_all_is_a_translation():
    image = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(2)) * 255
    grid = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 5, 5)  # is read two to the right and one above
    still = augmentation.inverse_matrix(torch.zeros(1), torch.zeros(1, 2), torch.ones(1), torch.zeros(1))
    bend = handwriting.bend(HandDraws(grid=grid.contiguous()), 28)
    moved = augmentation.affine_resample(image, still, "bilinear", bend)
    assert torch.allclose(moved[..., 1:, :-2], image[..., :-1, 2:], atol=0.05)


@pytest.mark.parametrize("stroke", [1.0, -1.0, 0.4, -0.4])
def test_a_line_becomes_thicker_or_thinner_as_by_scipy(stroke):
    image = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(7)) * 255
    changed = handwriting.pen(image, HandDraws(stroke=torch.full((2,), stroke)))
    cross = ndimage.generate_binary_structure(2, 1)
    by_scipy = ndimage.grey_dilation if stroke > 0 else ndimage.grey_erosion
    for one, other in zip(image[:, 0], changed[:, 0], strict=True):
        whole = torch.from_numpy(by_scipy(one.numpy(), footprint=cross, mode="nearest"))
        assert torch.allclose(other, torch.lerp(one, whole, abs(stroke)), atol=1e-3)


def test_blur_is_a_gaussian_and_keeps_the_ink():
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 14, 14] = 255
    blurred = handwriting.pen(image, HandDraws(blur=torch.ones(1)))
    assert float(blurred.sum()) == pytest.approx(255, rel=1e-5)
    expected = ndimage.gaussian_filter(image[0, 0].numpy(), handwriting.SIGMA, truncate=3 / handwriting.SIGMA)
    assert torch.allclose(blurred[0, 0], torch.from_numpy(expected), atol=0.05)


def test_contrast_makes_the_ink_fainter():
    image = torch.full((2, 1, 28, 28), 200.0)
    faint = handwriting.pen(image, HandDraws(contrast=torch.tensor([0.5, 1.0])))
    assert float(faint[0].max()) == 100 and float(faint[1].max()) == 200


def loader(**arguments):
    digits = data.builtin()
    return data.InMemoryLoader(digits.train_images, digits.train_labels, 32, shuffle=True, **arguments)


def test_a_loader_changes_the_hand_of_each_image_by_its_own_draws():
    plain, changed = (
        next(iter(loader(seed=4, augmentation=Augmentation(interpolation="bilinear", **amounts))))
        for amounts in ({}, {"stroke": 0.8, "contrast": 0.3})
    )
    assert torch.equal(plain[1], changed[1])  # the same images in the same order
    ink = [images.sum(dim=(1, 2, 3)) for images in (plain[0] + 0.4242, changed[0] + 0.4242)]
    assert (ink[0] / ink[1]).std() > 0.05


def test_saved_and_loaded_it_goes_on_with_the_same_hands():
    batches = loader(seed=6, augmentation=EVERYTHING)
    list(batches)
    state, expected = batches.state_dict(), [images for images, _ in batches]
    again = loader(seed=99, augmentation=EVERYTHING)
    again.load_state_dict(state)
    assert all(torch.equal(one, other[0]) for one, other in zip(expected, again, strict=True))


def test_the_chain_of_torchvision_says_that_it_cannot():
    with pytest.raises(ValueError, match="InMemoryLoader has"):
        data.image_transform(EVERYTHING, 28)


def test_a_coarse_scanner_has_the_mean_under_each_dot_and_goes_smoothly_from_dot_to_dot():
    """Ten dots along 20 pixels, two pixels each: the line 0 0 0 0 1 1 0 0 ... is one full dot, and its neighbours'."""
    line = torch.zeros(28)
    line[4:6] = 1
    scanners = handwriting._scanners(28)
    expected = torch.zeros(28)
    expected[3:7] = torch.tensor([0.25, 0.75, 0.75, 0.25])
    torch.testing.assert_close(scanners[1 + 10 * handwriting.PHASES] @ line, expected)
    half = scanners[1 + 10 * handwriting.PHASES + 2] @ line  # begins a pixel later: two dots, each half full
    expected[2:8] = torch.tensor([0.125, 0.375, 0.5, 0.5, 0.375, 0.125])
    torch.testing.assert_close(half, expected)
    assert torch.equal(scanners[0] @ line, line)


def test_rows_and_columns_are_scanned_and_a_kept_hand_keeps_its_sharpness():
    augmentation = Augmentation(scan=6, hand_probability=0.5)
    draws = handwriting.draw(4000, augmentation, torch.Generator().manual_seed(1))
    kept = draws.scan.eq(0).all(dim=1)
    assert kept.float().mean() == pytest.approx(0.5, abs=0.04)
    dots = (draws.scan[~kept] - 1) // handwriting.PHASES
    assert torch.equal(dots[:, 0], dots[:, 1]) and dots.min() == 6 and dots.max() == 20
    images = torch.rand(4000, 1, 28, 28)
    changed = handwriting.pen(images, draws)
    assert torch.equal(changed[kept], images[kept])
    one = int(torch.nonzero(~kept)[0])
    rows, columns = handwriting._scanners(28)[draws.scan[one]]
    torch.testing.assert_close(changed[one, 0], rows @ images[one, 0] @ columns.T)
