"""A user's image of handwritten digits, prepared as MNIST's authors prepared theirs: `prepare` shows each step.

`opening` reads any image, `pages` finds the digits in it, `mnist_form` brings each into 28x28.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from common.data.images import mnist_form, pages
from common.data.images.opening import SUFFIXES, brightness

__all__ = ["SUFFIXES", "Page", "PreparedDigit", "grey_and_resize", "prepare"]


@dataclass(frozen=True, eq=False)
class PreparedDigit:
    """One digit, and what it looked like after each step; arrays are float [height, width] where they do not say."""

    image: Tensor  # uint8 [28, 28] in MNIST's form: 0 is the background and 255 full ink
    box: tuple[int, int, int, int]  # left, top, right, bottom in pixels of the image as it is seen upright
    grey: np.ndarray  # 0 is black and 1 white
    evened: np.ndarray  # lighting evened out: 0 is paper and 1 black
    ink: np.ndarray  # bool: the pixels that are this digit's ink
    crop: np.ndarray  # its ink alone, 1 where it is full
    scaled: np.ndarray  # the longer side is 20 pixels
    parts: tuple["PreparedDigit", ...] = ()  # where it is so wide that it may be two digits that touch: those two

    @property
    def steps(self) -> dict[str, np.ndarray]:
        """The steps by their names, in order; ink is light from the second on."""
        return {
            "grey": self.grey,
            "lighting evened out": self.evened,
            "ink": self.ink,
            "crop": self.crop,
            "20x20": self.scaled,
            "28x28, centred": self.image.numpy(),
        }


@dataclass(frozen=True, eq=False)
class Page:
    """What was found in an image."""

    digits: tuple[PreparedDigit, ...]  # left to right, lines from top to bottom; at least one
    grey: np.ndarray  # the whole image, float [height, width], 0 is black and 1 white
    light_on_dark: bool

    @property
    def images(self) -> Tensor:
        """The digits as uint8 [N, 28, 28], ready for `common.data.normalise`."""
        return torch.stack([digit.image for digit in self.digits])


def prepare(source) -> Page:
    """Find the digits in an image and bring each into MNIST's form.

    `source` is a path, bytes, a PIL image or an array; see `opening.brightness`. The digits may be dark on light or
    light on dark. An image in MNIST's form already, 28x28 with a digit of 20x20 in its middle, is left as it is. Raises
    UserError in one sentence for what is no image, and for an image without digits.
    """
    grey, scale = brightness(source)
    for light_on_dark, values in ((True, grey), (False, 1 - grey)):
        if mnist_form.has_it_already(values):
            return Page((_as_it_is(values, grey),), grey, light_on_dark)
    found = pages.find(grey)
    scale *= len(found.grey) / len(grey)
    digits = tuple(_prepared(found, piece, scale) for piece in found.digits)
    return Page(digits, found.grey, found.light_on_dark)


def _as_it_is(values: np.ndarray, grey: np.ndarray) -> PreparedDigit:
    image = torch.from_numpy(np.floor(255 * values + 0.5).astype(np.uint8))
    return PreparedDigit(image, (0, 0, 28, 28), grey, values, values > 0.5, values, values)


def _prepared(found: pages.Found, piece: pages.Piece, scale: float, is_part: bool = False) -> PreparedDigit:
    """The digit whose ink is `piece`; `scale` is by how much the page was made larger."""
    room = 2
    window = piece.window(found.ink.shape, room)
    mask, evened = piece.mask(window), found.evened[window]
    level = np.percentile(evened[mask], 60)
    others = found.ink[window] & ~mask
    own = ndimage.binary_dilation(mask, iterations=room) & ~others
    crop = np.clip(evened / level, 0, 1) * own
    rows, columns = (np.flatnonzero((crop > 0.3).any(axis=axis)) for axis in (1, 0))
    crop = crop[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    small = mnist_form.scaled(crop)
    image = torch.from_numpy(mnist_form.centred(small))
    box = tuple(round(edge / scale) for edge in (piece.left, piece.top, piece.right, piece.bottom))
    parts = pages.apart(piece, found.evened) if piece.width > pages.WIDE * piece.height and not is_part else []
    parts = tuple(_prepared(found, part, scale, is_part=True) for part in parts)
    return PreparedDigit(image, box, found.grey[window], evened, mask, crop, small, parts)


def grey_and_resize(source, inverted: bool = True) -> Tensor:
    """What is mostly tried first: the whole image in grey, squeezed into 28x28, as uint8 [28, 28].

    With `inverted` dark ink becomes light, as MNIST's is. Raises UserError for what is no image.
    """
    grey, _ = brightness(source)
    grey = 1 - grey if inverted else grey
    small = Image.fromarray(np.ascontiguousarray(grey)).resize((28, 28), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.floor(255 * np.clip(np.asarray(small), 0, 1) + 0.5).astype(np.uint8))
