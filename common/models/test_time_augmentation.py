"""Test-time augmentation: a network gets several views of each image, and its logits are averaged over them."""

from collections.abc import Callable

import torch
from torch import Tensor

from common.data.augmentation import warp
from common.data.loaders import MEAN, STD

BACKGROUND = (0 - MEAN) / STD  # what a pixel without ink is, once normalised
# A row for each view: degrees clockwise, pixels to the right, pixels down, scale. The first is the image as it is.
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
    """The `VIEWS` of normalised images [B, 1, S, S], as [len(VIEWS) * B, 1, S, S]: the whole batch, view by view."""
    moves = torch.tensor(VIEWS, device=images.device).repeat_interleave(len(images), 0)
    ink = (images - BACKGROUND).repeat(len(VIEWS), 1, 1, 1)  # `warp` fills with 0
    return warp(ink, moves[:, 0], moves[:, 1:3], moves[:, 3], torch.zeros_like(moves[:, 0]), "bilinear") + BACKGROUND


def predict_with_tta(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Log-probabilities [B, C] for images [B, 1, S, S], from the average over their views.

    `network` gives the log-probabilities of a single view. They are averaged, and normalised again by a softmax. That
    equals averaging the logits, because the two differ by one number for each view, and softmax ignores such a
    number. Krizhevsky, Sutskever and Hinton (2012, section 4.1) averaged the probabilities of ten views, five crops
    and their mirror images. A digit has no mirror image.
    """
    log_probabilities = network(augment_views(images)).unflatten(0, (len(VIEWS), len(images)))
    return log_probabilities.mean(dim=0).log_softmax(dim=1)
