"""The digits and their batches: `load` gets the images, `InMemoryLoader` makes augmented batches of them.

Read `loaders`, then `augmentation`; `digits` and `mnist_files` say where the images come from.
"""

from common.data.digits import Digits, builtin, load, mnist
from common.data.loaders import MEAN, STD, DigitDataset, InMemoryLoader, classic_loader, image_transform, normalise

__all__ = [
    "MEAN",
    "STD",
    "DigitDataset",
    "Digits",
    "InMemoryLoader",
    "builtin",
    "classic_loader",
    "image_transform",
    "load",
    "mnist",
    "normalise",
]
