"""Layers that PyTorch does not have: one that is used twice, with the same weights."""

from torch import Tensor, nn


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
