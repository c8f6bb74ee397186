"""Digits that people outside MNIST wrote, in MNIST's form: to measure how far a network's accuracy goes.

Nothing is ever trained on them or chosen by them. Both sets were scanned more coarsely than MNIST: each digit is
enlarged to fit into 20x20 and centred by its mass in 28x28.
"""

import bz2
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from common.data.digits import builtin, centre
from common.data.mnist_files import Received, UnavailableError, cache_folder, in_words, receive
from common.system.errors import UserError
from common.system.files import write_atomically


def scikit_learn() -> tuple[Tensor, Tensor]:
    """The 1,797 digits of 43 people that come with scikit-learn: uint8 [1797, 28, 28], labels int64 [1797].

    8x8 grey values (Alpaydin and Kaynak 1998, https://doi.org/10.24432/C50P49). Those of the built-in set, all in one.
    """
    digits = builtin()
    images, labels = (digits.train_images, digits.test_images), (digits.train_labels, digits.test_labels)
    return torch.cat(images), torch.cat(labels)


def usps() -> tuple[Tensor, Tensor]:
    """The 2,007 test digits of USPS, from envelopes: uint8 [2007, 28, 28], labels int64 [2007].

    16x16 grey values (Hull 1994, https://doi.org/10.1109/34.291440), cut to the pixels with more than a quarter of full
    ink and enlarged by bicubic interpolation with their proportions kept, as MNIST's authors kept them. Read by
    `torchvision.datasets.USPS` from usps.t.bz2 in the folder USPS_DIR when that is set, else in the cache, where it is
    downloaded to. Raises UserError when USPS_DIR does not hold it, and UnavailableError when a download is needed and
    fails.
    """
    from torchvision.datasets import USPS

    own = os.environ.get("USPS_DIR")
    folder = Path(own).expanduser() if own else cache_folder() / "USPS"
    path = folder / "usps.t.bz2"
    if not own and not path.exists():
        write_atomically(path, _download(USPS.split_list["test"][0]))
    try:
        source = USPS(folder, train=False)
    except (OSError, ValueError, EOFError) as error:
        source_of_it = "USPS_DIR" if own else "COURSE_CACHE, or the user's cache folder,"
        raise UserError(
            f"{path} is not USPS's test file ({getattr(error, 'strerror', None) or 'damaged'}): {source_of_it} must "
            "name a folder that holds it, or delete it there and have it downloaded."
        ) from None
    images = np.stack([centre(_fitted(image).astype(np.int64)) for image in source.data])
    return torch.from_numpy(images), torch.tensor(source.targets)


def _fitted(image: np.ndarray) -> np.ndarray:
    """What is inked of an image, bytes, so enlarged that its longer side has 20 pixels."""
    rows, columns = (np.flatnonzero((image > 64).any(axis=axis)) for axis in (1, 0))
    ink = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = (round(20 * side / max(ink.shape)) for side in ink.shape)
    return np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC))


def _download(url: str) -> bytes:
    """The file, once it is seen to be whole."""
    received = Received()
    try:
        receive(url, received)
        bz2.decompress(received.getvalue())
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"USPS is not at hand: it cannot be downloaded ({in_words(error)}); a folder with its file usps.t.bz2 can "
            "be named in USPS_DIR."
        ) from None
    return received.getvalue()
