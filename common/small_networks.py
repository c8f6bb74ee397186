"""The networks of S8, in the form of `common.own_networks`: the sprint's, and those of the frontier."""

from torch import Tensor, nn

from common.layers import Twice, TwiceNormalised


class S8Sprint(nn.Module):
    """7,600 parameters, few of its multiply-adds on large maps: the first convolution already halves the image."""

    def __init__(self):
        super().__init__()

        def convolution(inputs, outputs, kernel_size, stride=1, padding=0):
            kernels = nn.Conv2d(inputs, outputs, kernel_size, stride, padding, bias=False)
            return nn.Sequential(kernels, nn.BatchNorm2d(outputs), nn.SiLU())

        self.layers = nn.Sequential(  # [1, 28, 28]
            convolution(1, 16, 5, stride=2),  # [16, 12, 12]
            convolution(16, 16, 3, padding=1),  # [16, 12, 12]
            nn.MaxPool2d(2),  # [16, 6, 6]
            convolution(16, 16, 3, padding=1),  # [16, 6, 6]
            convolution(16, 16, 3),  # [16, 4, 4]
            nn.AvgPool2d(4),  # [16, 1, 1]
            nn.Conv2d(16, 10, 1, bias=False),  # [10, 1, 1]
            nn.Flatten(),  # [10]
            nn.LogSoftmax(dim=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S8Frontier(nn.Module):
    """4,500 parameters: block 4's blueprint with narrower layers, and no BatchNorm inside a separable convolution."""

    widths = (12, 18, 24, 24, 30, 30)

    def __init__(self):
        super().__init__()
        first, *_, last = self.widths
        self.layers = nn.Sequential(  # [1, 28, 28]
            nn.Sequential(nn.Conv2d(1, first, 3, bias=False), nn.BatchNorm2d(first), nn.SiLU()),  # [., 26, 26]
            self.separable(0, padding=0),  # [., 24, 24]
            self.pool(1),  # [., 12, 12]
            self.separable(1, padding=1),  # [., 12, 12]
            self.separable(2, padding=1),  # [., 12, 12]
            self.pool(3),  # [., 6, 6]
            self.separable(3, padding=1),  # [., 6, 6]
            self.separable(4, padding=0),  # [., 4, 4]
            nn.AvgPool2d(4),  # [., 1, 1]
            nn.Conv2d(last, 10, 1, bias=False),  # [10, 1, 1]
            nn.Flatten(),  # [10]
            nn.LogSoftmax(dim=1),
        )

    def separable(self, index: int, padding: int) -> nn.Module:
        """From the width at `index` to the next: a 3x3 kernel for each channel, then a 1x1 convolution that mixes."""
        inputs, outputs = self.widths[index : index + 2]
        return nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, padding=padding, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(),
        )

    def pool(self, index: int) -> nn.Module:
        """What halves a map whose channels are the width at `index`."""
        return nn.MaxPool2d(2)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S8Frontier2784(S8Frontier):
    """2,784 parameters."""

    widths = (8, 14, 18, 18, 22, 22)


class S8Frontier1782(S8Frontier):
    """1,782 parameters."""

    widths = (6, 10, 14, 14, 16, 16)


class S8Frontier1196(S8Frontier):
    """1,196 parameters."""

    widths = (6, 8, 10, 10, 12, 12)


class S8FrontierOverlapping(S8Frontier1782):
    """1,782 parameters, and pools that overlap: the largest of 3x3 values, two steps apart."""

    def pool(self, index: int) -> nn.Module:
        """See the class."""
        return nn.MaxPool2d(3, stride=2, padding=1)


class S8FrontierStrided(S8Frontier1782):
    """1,878 parameters: instead of a pool, a 2x2 kernel for each channel that takes two steps at a time."""

    def pool(self, index: int) -> nn.Module:
        """See the class."""
        return nn.Conv2d(self.widths[index], self.widths[index], 2, stride=2, groups=self.widths[index], bias=False)


class S8FrontierShared(S8Frontier1782):
    """1,782 parameters, of which one layer's are used twice: a layer more, for no parameters."""

    def separable(self, index: int, padding: int) -> nn.Module:
        """See the class."""
        layer = super().separable(index, padding)
        return Twice(layer) if index == 2 else layer


class S8FrontierSharedConvolutions(S8Frontier1782):
    """1,810 parameters: the same layer's convolutions used twice, each time with a BatchNorm of its own."""

    def separable(self, index: int, padding: int) -> nn.Module:
        """See the class."""
        layer = super().separable(index, padding)
        return TwiceNormalised(layer[:2], self.widths[index]) if index == 2 else layer
