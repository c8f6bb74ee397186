"""A digit's ink as MNIST's authors would have made an image of it.

They scaled each digit into 20x20 pixels with its proportions kept, antialiased, and placed it into 28x28 so that the
centre of mass lies in the middle (http://yann.lecun.com/exdb/mnist/).
"""

import numpy as np
from skimage.transform import resize

from common.data.digits import centre
from common.data.strokes import BOX, SIDE


def scaled(ink: np.ndarray) -> np.ndarray:
    """The ink [height, width], 0 to 1, with its longer side scaled to 20 pixels: float [h, w], its brightest pixel 1.

    The line of a thin pen covers a part of a pixel only. Left so, its brightest pixel would have 88 to 190 of 255,
    which no line in MNIST has; so the brightest becomes 1.
    """
    factor = BOX / max(ink.shape)
    shape = tuple(max(1, round(factor * side)) for side in ink.shape)
    blur = [max(0.0, (large / small - 1) / 3) for large, small in zip(ink.shape, shape, strict=True)]
    small = np.clip(resize(ink, shape, order=1, anti_aliasing=True, anti_aliasing_sigma=blur), 0, 1)
    return small / max(small.max(), 1e-9)


def centred(small: np.ndarray) -> np.ndarray:
    """The digit of at most 20x20, 0 to 1, in 28x28 with its centre of mass in the middle, as uint8 0 to 255."""
    return centre(np.floor(255 * small + 0.5).astype(np.uint8), small)


def has_it_already(values: np.ndarray) -> bool:
    """Whether an image [height, width], 0 is the background and 1 full ink, is a digit in MNIST's form."""
    if values.shape != (SIDE, SIDE) or values.max() < 0.5:
        return False
    marked = values > 0.02
    rows, columns = (np.flatnonzero(marked.any(axis=axis)) for axis in (1, 0))
    mass = [values.sum(axis=axis) @ np.arange(SIDE) / values.sum() for axis in (1, 0)]
    return max(np.ptp(rows), np.ptp(columns)) < BOX + 1 and max(abs(place - SIDE / 2) for place in mass) < 1.5
