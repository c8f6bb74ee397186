"""Test-time augmentation: several views of one image, and the average of what a network says of them."""

from collections.abc import Callable

import torch
from torch import Tensor

from common.data.augmentation import warp
from common.data.loaders import MEAN, STD

BACKGROUND = (0 - MEAN) / STD  # what a pixel without ink is, once normalised
# Degrees clockwise, pixels to the right, pixels down, size: as it is, shifted, turned, made smaller and larger.
VIEWS = (
    (0, 0, 0, 1.0),
    (0, 1, 0, 1.0),
    (0, -1, 0, 1.0),
    (0, 0, 1, 1.0),
    (0, 0, -1, 1.0),
    (8, 0, 0, 1.0),
    (-8, 0, 0, 1.0),
    (0, 0, 0, 0.92),
    (0, 0, 0, 1.08),
)


def augment_views(images: Tensor) -> Tensor:
    """Normalised images [B, 1, S, S] as `LOOKS` shows them, float [len(LOOKS) * B, 1, S, S]: a whole batch per look."""
    moves = torch.tensor(VIEWS, device=images.device).repeat_interleave(len(images), 0)
    ink = (images - BACKGROUND).repeat(len(VIEWS), 1, 1, 1)  # `warp` fills with 0
    return warp(ink, moves[:, 0], moves[:, 1:3], moves[:, 3], torch.zeros_like(moves[:, 0]), "bilinear") + BACKGROUND


def predict_with_tta(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The log-probabilities [B, C] that several looks at each image of [B, 1, S, S] agree on; `network` has one look.

    Their scores before the softmax are averaged, which is the same as to average log-probabilities and to normalise
    them again. Krizhevsky, Sutskever and Hinton averaged ten looks (2012, section 4.1: five crops and their mirror
    images); a digit has no mirror image.
    """
    log_probabilities = network(augment_views(images)).unflatten(0, (len(VIEWS), len(images)))
    return log_probabilities.mean(dim=0).log_softmax(dim=1)
