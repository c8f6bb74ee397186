"""Weight sharing: layers that are applied twice with the same weights."""

from torch import Tensor, nn


class Twice(nn.Module):
    """Applies a layer, and then the same layer to its own output: a deeper network, and no parameter more."""

    def __init__(self, layer: nn.Module):
        """`layer` keeps the shape of what it gets."""
        super().__init__()
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        """Shape [...] in and out."""
        return self.layer(self.layer(inputs))


class TwiceNormalised(nn.Module):
    """Applies the same convolutions twice, each time with a BatchNorm of its own, and a SiLU, behind them.

    The two uses see values of different means and variances. In training, BatchNorm normalises each batch by its own
    mean and variance. In a test it uses running ones. A BatchNorm that is shared as well would keep a mixture of the
    two uses there, which fits neither.
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
