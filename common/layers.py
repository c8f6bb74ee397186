"""Layers that PyTorch does not have, or has slower on a CPU; a vote of several looks at one image."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from common.loaders import MEAN, STD, warp

BACKGROUND = (0 - MEAN) / STD  # what a pixel without ink is, once normalised
# Degrees clockwise, pixels to the right, pixels down, size: as it is, shifted, turned, made smaller and larger.
LOOKS = (
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


class Dropout(nn.Dropout):
    """nn.Dropout whose mask is drawn with NumPy's SFC64 on a CPU: PyTorch draws it there number by number.

    Each value is kept or not by 16 random bits of its own, so `p` is met to within 2**-17; what is kept is scaled by
    1 / (1 - p), as in PyTorch. The bits follow from torch's global generator: equal seeds give equal masks, and a
    resumed run goes on with the masks that would have followed. On other devices, and compiled, this is nn.Dropout.
    """

    def forward(self, values: Tensor) -> Tensor:
        """`values` of any shape, in training with a share of `p` set to zero."""
        if not self.training or values.device.type != "cpu" or self.p in (0, 1) or torch.compiler.is_compiling():
            return super().forward(values)
        seed = int(torch.randint(2**63 - 1, ()))
        words = np.random.SFC64(seed).random_raw(-(-values.numel() // 4))  # 64 bits are four draws
        kept = words.view(np.int16) >= round(self.p * 2**16) - 2**15  # from -2**15 on; four times faster than in torch
        kept = torch.from_numpy(kept.view(np.uint8)[: values.numel()]).view(values.shape)
        mask = torch.empty_like(values).copy_(kept)  # laid out like the values, else each product takes twice the time
        return values * mask.mul_(1 / (1 - self.p))


class Twice(nn.Module):
    """The same layer on its own output once more: depth without parameters. Inputs and outputs have one shape."""

    def __init__(self, layer: nn.Module):
        """See the class."""
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape [...] in and out."""
        return self.layer(self.layer(inputs))


class TwiceNormalised(nn.Module):
    """The same convolutions on their own output once more, with a BatchNorm and a SiLU of its own for each use.

    The two uses see values of different means and variances. In training each batch is normalised by its own; a
    BatchNorm that is shared as well would take one mixture of both for the tests, and fit neither.
    """

    def __init__(self, convolutions: nn.Module, channels: int):
        """`convolutions` keep the shape [B, channels, H, W]."""
        super().__init__()
        self.convolutions = convolutions
        self.norms = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(channels), nn.SiLU()) for _ in range(2))

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape [B, channels, H, W] in and out."""
        for norm in self.norms:
            inputs = norm(self.convolutions(inputs))
        return inputs


def looks(images: Tensor) -> Tensor:
    """Normalised images [B, 1, S, S] as `LOOKS` shows them, float [len(LOOKS) * B, 1, S, S]: a whole batch per look."""
    moves = torch.tensor(LOOKS, device=images.device).repeat_interleave(len(images), 0)
    ink = (images - BACKGROUND).repeat(len(LOOKS), 1, 1, 1)  # `warp` fills with 0
    return warp(ink, moves[:, 0], moves[:, 1:3], moves[:, 3], torch.zeros_like(moves[:, 0]), "bilinear") + BACKGROUND


def vote(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The log-probabilities [B, C] that several looks at each image of [B, 1, S, S] agree on; `network` has one look.

    Their scores before the softmax are averaged, which is the same as to average log-probabilities and to normalise
    them again. Krizhevsky, Sutskever and Hinton averaged ten looks (2012, section 4.1: five crops and their mirror
    images); a digit has no mirror image.
    """
    log_probabilities = network(looks(images)).unflatten(0, (len(LOOKS), len(images)))
    return log_probabilities.mean(dim=0).log_softmax(dim=1)
