"""The handwritten digits: MNIST from wherever it can be had, or the small set inside scikit-learn."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from common.data.mnist_files import UnavailableError, mnist_files
from common.system.errors import UserError
from common.system.streams import labelled

if TYPE_CHECKING:
    import torch

TITLES = {"mnist": "MNIST", "builtin": "built-in digits"}


@dataclass(frozen=True, eq=False, repr=False)
class Digits:
    """Handwritten digits in a training and a test set; printed, one line that names them."""

    train_images: torch.Tensor  # uint8 [N, 28, 28], 0 is the background and 255 full ink
    train_labels: torch.Tensor  # int64 [N], 0 to 9
    test_images: torch.Tensor
    test_labels: torch.Tensor
    name: str  # "mnist" or "builtin"
    sha256: str  # of the bytes of the four tensors in this order, before any limit
    measured_on: str = "test"  # or "validation": then the test images are training images that were set aside

    @property
    def title(self) -> str:
        """The name as a reader sees it."""
        return TITLES.get(self.name, self.name)

    def __str__(self) -> str:
        """One line; in a script, its first word is padded to the column where the lines of a run's head begin."""
        counts = f"{len(self.train_images):,} training and {len(self.test_images):,} {self.measured_on} images"
        return labelled("data", f"{self.title}: {counts}, sha256 {self.sha256[:12]}")

    __repr__ = __str__


def load(source: str = "auto", limit: int | None = None, validate: bool = False) -> Digits:
    """The digits of `source`, with the first `limit` training images (all of them when there are fewer).

    Of the built-in digits, which are for trying things, no more than `limit` test images are taken either.
    With `validate` the test images are left out altogether, and the last twelfth of the training images, 5,000 of
    MNIST's 60,000, take their place: whatever is chosen by looking at numbers is chosen by looking at these.
    "mnist" looks into the folder MNIST_DIR when that variable is set, else into the cache, else downloads. "builtin"
    is the small set that needs no network. "auto" is MNIST where it can be had, else the built-in set and a line that
    says why. Raises UserError: for a `limit` under 1, another `source`, a MNIST_DIR that does not hold the four files
    (in "auto" too: who sets it means it), and in "mnist" when MNIST cannot be had.
    """
    if source not in ("auto", "mnist", "builtin"):
        raise UserError(f"--data must be one of auto, mnist, builtin, not {source!r}.")
    if limit is not None and limit < 1:
        raise UserError(f"--limit must be a whole number of at least 1, not {limit}.")
    try:
        digits = builtin() if source == "builtin" else mnist()
    except UnavailableError as reason:
        if source == "mnist":
            advice = "name a folder with the four files in MNIST_DIR, or use --data builtin"
            raise UserError(f"MNIST is not at hand: {reason}; {advice}.") from None
        print(f"MNIST is not at hand, so this run uses the built-in digits: {reason}.")
        digits = builtin()
    if validate:
        digits = _set_aside(digits)
    tested = limit if digits.name == "builtin" else None
    return replace(
        digits,
        train_images=digits.train_images[:limit],
        train_labels=digits.train_labels[:limit],
        test_images=digits.test_images[:tested],
        test_labels=digits.test_labels[:tested],
    )


def _set_aside(digits: Digits) -> Digits:
    """The last twelfth of the training images instead of the test images."""
    images, labels = digits.train_images, digits.train_labels
    kept = len(labels) - len(labels) // 12
    return Digits(images[:kept], labels[:kept], images[kept:], labels[kept:], digits.name, digits.sha256, "validation")


def mnist() -> Digits:
    """MNIST's 60,000 training and 10,000 test images; raises what `mnist_files` raises."""
    files = mnist_files()
    images = [_parse_idx(files[f"{half}-images-idx3-ubyte"], 3) for half in ("train", "t10k")]
    labels = [_parse_idx(files[f"{half}-labels-idx1-ubyte"], 1) for half in ("train", "t10k")]
    return _digits("mnist", images[0], labels[0], images[1], labels[1])


def builtin() -> Digits:
    """scikit-learn's 1,797 handwritten digits, made to look like MNIST: 1,437 training and 360 test images.

    MNIST's authors scaled each digit into 20x20 pixels, keeping its proportions, and placed it in 28x28 so that its
    centre of mass lies in the middle (http://yann.lecun.com/exdb/mnist/). Here each 8x8 image, whose digits fill the
    height already, is enlarged to 20x20 bilinearly and placed in the same way. All of it is integer arithmetic, so
    every machine gets the same bytes. With the images sorted by label, every fifth one is a test image: both sets hold
    each digit equally often. The order within a set is scikit-learn's.
    """
    from sklearn.datasets import load_digits

    source = load_digits()
    labels = source.target
    images = np.stack([centre(image) for image in enlarge(source.images.astype(np.int64), white=16)])
    is_test = np.zeros(len(labels), dtype=bool)
    is_test[np.argsort(labels, kind="stable")[::5]] = True
    return _digits("builtin", images[~is_test], labels[~is_test], images[is_test], labels[is_test])


def enlarge(images, white: int):
    """From [N, S, S] with values 0 to `white` to [N, 20, 20] with values 0 to 255, both int64; S is at most 20."""
    # Pixel i of 20 has its centre at (2 i + 1) S / 40 - 1/2 of the S; in fortieths, positions and weights are whole.
    side = images.shape[-1]
    position = np.clip((2 * np.arange(20) + 1) * side - 20, 0, 40 * (side - 1))
    weights = np.maximum(0, 40 - np.abs(position[:, None] - 40 * np.arange(side)))
    return (weights @ images @ weights.T * 255 + 800 * white) // (1600 * white)  # + 800 white rounds to the nearest


def centre(image, ink=None):
    """A digit of bytes, at most 20x20, in 28x28: its centre of mass rounds to pixel (14, 14), where MNIST has it.

    At the edge it stays inside. `ink` is the same digit in finer steps, by which the mass is weighed.
    """
    ink = image if ink is None else ink
    mass = (ink.sum(axis=axis) @ np.arange(ink.shape[1 - axis]) / ink.sum() for axis in (1, 0))
    top, left = (min(max(round(14 - at), 0), 28 - side) for at, side in zip(mass, image.shape, strict=True))
    canvas = np.zeros((28, 28), dtype=np.uint8)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _digits(name, train_images, train_labels, test_images, test_labels) -> Digits:
    import torch

    arrays = [
        np.array(train_images, dtype=np.uint8),
        np.array(train_labels, dtype=np.int64),
        np.array(test_images, dtype=np.uint8),
        np.array(test_labels, dtype=np.int64),
    ]
    fingerprint = hashlib.sha256()
    for array in arrays:
        fingerprint.update(array.tobytes())
    return Digits(*map(torch.from_numpy, arrays), name=name, sha256=fingerprint.hexdigest())


def _parse_idx(content: bytes, dimensions: int):
    """The uint8 array in an idx file: two zeros, type 8, the number of dimensions, big-endian sizes, the values."""
    start = 4 + 4 * dimensions
    shape = [int(size) for size in np.frombuffer(content[4:start].ljust(4 * dimensions, b"\0"), ">u4")]
    if content[:4] != bytes((0, 0, 8, dimensions)) or not start < len(content) == start + math.prod(shape):
        raise UserError(f"This is not an idx file of bytes in {dimensions} dimensions; get the MNIST files again.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
