"""Digits spoilt on purpose, each in one known way: how far from its training images does a network still read?

After Mu and Gilmer's MNIST-C (2019, https://arxiv.org/abs/1906.02337) and Castro and others' Morpho-MNIST (2019,
https://arxiv.org/abs/1809.10780), with changes of the hand, the pen and the scanner. A recipe is chosen by these, made
of validation images, so that the digits of other writers are never needed for a choice. The code shares nothing with
the augmentation that they judge. Noise is left out: what prepares an image removes it.
"""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

ENLARGED = 4  # line widths are changed on an image as many times larger


def corrupt(images: Tensor, kind: str, seed: int = 0) -> Tensor:
    """The images, uint8 [N, 28, 28], spoilt in the way `kind`; `seed` is for what is random.

    `kind` is one of `CORRUPTIONS` or of `TOGETHER`.
    """
    random = np.random.default_rng(seed)
    spoilt = np.stack([(CORRUPTIONS | TOGETHER)[kind](image, random) for image in images.numpy().astype(np.float64)])
    return torch.from_numpy(np.clip(np.rint(spoilt), 0, 255).astype(np.uint8))


def _line(pixels: float):
    """Lines wider by so many pixels on each side, or narrower; the thinnest that a line can become is half a pixel."""

    def change(image, _random):
        large = ndimage.zoom(image, ENLARGED, order=1, grid_mode=True, mode="grid-constant") > 127
        inside, outside = ndimage.distance_transform_edt(large), ndimage.distance_transform_edt(~large)
        edge = min(-pixels * ENLARGED, inside.max() - ENLARGED / 4)
        ink = 255.0 * (inside - outside > edge)
        side = image.shape[0]
        return ink.reshape(side, ENLARGED, side, ENLARGED).mean(axis=(1, 3))

    return change


def _affine(rows: list[list[float]], offset: tuple[float, float] = (0, 0)):
    """Each pixel (row, column), from the centre, is read at `rows` times it plus `offset`."""

    def change(image, _random):
        matrix, centre = np.array(rows), (np.array(image.shape) - 1) / 2
        return ndimage.affine_transform(image, matrix, centre - matrix @ centre + np.array(offset), order=1)

    return change


def _turned(degrees: float):
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return _affine([[cos, -sin], [sin, cos]])


def _slanted(degrees: float):
    return _affine([[1, 0], [np.tan(np.deg2rad(degrees)), 1]])


def _bent(image, random):
    """Elastic: random shifts, smoothed over 4 pixels, of 1.2 pixels' standard deviation along each axis."""
    shifts = ndimage.gaussian_filter(random.standard_normal((2, *image.shape)), (0, 4, 4))
    shifts *= 1.2 / shifts.std(axis=(1, 2), keepdims=True)
    return ndimage.map_coordinates(image, np.indices(image.shape) + shifts, order=1)


def _scanned(pixels: int):
    """The middle 20x20 as a scanner with `pixels` x `pixels` dots has it, enlarged again without steps."""

    def change(image, _random):
        # Each dot is the mean of what it covers: from 20 x 20, each cut into `pixels`, to `pixels` x `pixels`.
        fine = np.kron(image[4:24, 4:24], np.ones((pixels, pixels)))
        dots = fine.reshape(pixels, 20, pixels, 20).mean(axis=(1, 3))
        spoilt = np.zeros_like(image)
        spoilt[4:24, 4:24] = ndimage.zoom(dots, 20 / pixels, order=1, grid_mode=True, mode="nearest")
        return spoilt

    return change


CORRUPTIONS = {
    "thin line": _line(-0.8),
    "thick line": _line(0.8),
    "slanted right": _slanted(25),
    "slanted left": _slanted(-25),
    "turned": _turned(15),
    "wide": _affine([[1, 0], [0, 1 / 1.3]]),
    "narrow": _affine([[1, 0], [0, 1 / 0.7]]),
    "bent": _bent,
    "small, off centre": _affine([[1.3, 0], [0, 1.3]], (2, -2)),
    "faint": lambda image, _random: 0.4 * image,
    "coarse, 10 dots": _scanned(10),
    "coarse, 7 dots": _scanned(7),
}


def _both(first, then):
    """One spoiling after the other."""
    return lambda image, random: np.clip(then(np.clip(first(image, random), 0, 255), random), 0, 255)


HANDS = ("thin line", "thick line", "slanted right", "slanted left", "turned", "wide", "narrow", "bent")
# Other people's digits, scanned coarsely: two changes at once, as the digits of another set have them.
TOGETHER = {f"{kind}, 8 dots": _both(CORRUPTIONS[kind], _scanned(8)) for kind in HANDS}
