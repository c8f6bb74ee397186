"""The course's own networks: a plain class for each, named after its step.

Each takes normalised images [N, 1, 28, 28] and gives log-probabilities [N, 10]. The comments give the shapes of one
image, [channels, height, width]. A network that differs from another in one thing is a subclass of it; the lessons
train both and compare them.
"""

from torch import Tensor, nn

from common.cpu_kernels.dropout import Dropout
from common.models.layers import Twice, TwiceNormalised
from common.models.test_time_augmentation import predict_with_tta


class S6Part2Step2Fixed(nn.Module):
    """11,050 parameters: the strided network with ten logits, and nothing between the last convolution and them."""

    def __init__(self):
        super().__init__()

        def convolution(inputs, stride=1):
            return nn.Sequential(nn.Conv2d(inputs, 16, 3, stride, padding=1), nn.ReLU(), nn.BatchNorm2d(16))

        self.layers = nn.Sequential(  # [1, 28, 28]
            convolution(1),  # [16, 28, 28]
            convolution(16, stride=2),  # [16, 14, 14]
            nn.MaxPool2d(2),  # [16, 7, 7]
            Dropout(0.25),
            convolution(16),  # [16, 7, 7]
            convolution(16, stride=2),  # [16, 4, 4]
            nn.MaxPool2d(2),  # [16, 2, 2]
            Dropout(0.25),
            convolution(16),  # [16, 2, 2]
            nn.Conv2d(16, 10, 3, stride=2, padding=1),  # [10, 1, 1]
            nn.Flatten(),  # [10]
            nn.LogSoftmax(dim=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S8Under8kDense(nn.Module):
    """7,904 parameters: block 3's network without its dropout."""

    def __init__(self):
        super().__init__()

        def convolution(inputs, outputs, kernel_size, padding=0):
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel_size, padding=padding, bias=False), nn.ReLU(), nn.BatchNorm2d(outputs)
            )

        self.layers = nn.Sequential(  # [1, 28, 28]
            convolution(1, 32, 3),  # [32, 26, 26]
            convolution(32, 8, 1),  # [8, 26, 26]
            convolution(8, 10, 3),  # [10, 24, 24]
            nn.MaxPool2d(2),  # [10, 12, 12]
            convolution(10, 16, 3, padding=1),  # [16, 12, 12]
            convolution(16, 10, 1),  # [10, 12, 12]
            convolution(10, 10, 3),  # [10, 10, 10]
            convolution(10, 16, 3),  # [16, 8, 8]
            convolution(16, 16, 3),  # [16, 6, 6]
            nn.AvgPool2d(6),  # [16, 1, 1]
            nn.Conv2d(16, 10, 1, bias=False),  # [10, 1, 1]
            nn.Flatten(),  # [10]
            nn.LogSoftmax(dim=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S8Under8kOneView(nn.Module):
    """7,552 parameters: separable convolutions, a 3x3 kernel for each channel and then 1x1 kernels that mix them."""

    activation = nn.SiLU

    def __init__(self):
        super().__init__()

        def separable(inputs, outputs, padding):
            return nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, padding=padding, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
                self.activation(),
            )

        self.layers = nn.Sequential(  # [1, 28, 28]
            nn.Sequential(nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), self.activation()),  # [16, 26, 26]
            separable(16, 24, padding=0),  # [24, 24, 24]
            nn.MaxPool2d(2),  # [24, 12, 12]
            separable(24, 32, padding=1),  # [32, 12, 12]
            separable(32, 32, padding=1),  # [32, 12, 12]
            nn.MaxPool2d(2),  # [32, 6, 6]
            separable(32, 40, padding=1),  # [40, 6, 6]
            separable(40, 40, padding=0),  # [40, 4, 4]
            nn.AvgPool2d(4),  # [40, 1, 1]
            nn.Conv2d(40, 10, 1, bias=False),  # [10, 1, 1]
            nn.Flatten(),  # [10]
            nn.LogSoftmax(dim=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S8Under8k(S8Under8kOneView):
    """The same 7,552 parameters; a test averages several views of each image (`models/test_time_augmentation.py`)."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) if self.training else predict_with_tta(super().forward, images)


class S8Under8kReLU(S8Under8kOneView):
    """S8 step 7's network with ReLU, the sources' activation, for the ablation."""

    activation = nn.ReLU


class S8Teacher(nn.Module):
    """288,160 parameters, all in dense 3x3 convolutions: too large for the assignment, and made to teach."""

    widths = (32, 64, 128)

    def __init__(self):
        super().__init__()
        fine, middle, coarse = self.widths

        def convolution(inputs, outputs, padding):
            kernels = nn.Conv2d(inputs, outputs, 3, padding=padding, bias=False)
            return nn.Sequential(kernels, nn.BatchNorm2d(outputs), nn.SiLU())

        self.layers = nn.Sequential(  # [1, 28, 28]
            convolution(1, fine, padding=0),  # [32, 26, 26]
            convolution(fine, fine, padding=0),  # [32, 24, 24]
            nn.MaxPool2d(2),  # [32, 12, 12]
            convolution(fine, middle, padding=1),  # [64, 12, 12]
            convolution(middle, middle, padding=1),  # [64, 12, 12]
            nn.MaxPool2d(2),  # [64, 6, 6]
            convolution(middle, coarse, padding=1),  # [128, 6, 6]
            convolution(coarse, coarse, padding=0),  # [128, 4, 4]
            nn.AvgPool2d(4),  # [128, 1, 1]
            nn.Conv2d(coarse, 10, 1, bias=False),  # [10, 1, 1]
            nn.Flatten(),  # [10]
            nn.LogSoftmax(dim=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S8Under20kOneView(nn.Module):
    """19,760 parameters: separable convolutions on three scales, and one average."""

    dropout = 0.1

    def __init__(self):
        super().__init__()

        def separable(inputs, outputs, padding):
            return nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, padding=padding, groups=inputs, bias=False),
                nn.BatchNorm2d(inputs),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.SiLU(),
            )

        self.layers = nn.Sequential(  # [1, 28, 28]
            nn.Sequential(nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.SiLU()),  # [16, 26, 26]
            separable(16, 32, padding=0),  # [32, 24, 24]
            nn.MaxPool2d(2),  # [32, 12, 12]
            separable(32, 48, padding=1),  # [48, 12, 12]
            separable(48, 48, padding=1),  # [48, 12, 12]
            nn.MaxPool2d(2),  # [48, 6, 6]
            separable(48, 64, padding=1),  # [64, 6, 6]
            separable(64, 64, padding=1),  # [64, 6, 6]
            separable(64, 60, padding=0),  # [60, 4, 4]
            nn.AvgPool2d(4),  # [60, 1, 1]
            nn.Dropout(self.dropout),  # behind the last BatchNorm, which therefore never sees it
            nn.Conv2d(60, 10, 1, bias=False),  # [10, 1, 1]
            nn.Flatten(),  # [10]
            nn.LogSoftmax(dim=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S8Under20k(S8Under20kOneView):
    """The same 19,760 parameters; a test averages several views of each image (`models/test_time_augmentation.py`)."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) if self.training else predict_with_tta(super().forward, images)


class S8Under20kNoDropout(S8Under20k):
    """The same without its dropout, for a comparison."""

    dropout = 0.0


class S9TimeToAccuracyOneView(nn.Module):
    """7,600 parameters. The first convolution already halves the image, so that few multiply-adds are on large maps."""

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


class S9TimeToAccuracy(S9TimeToAccuracyOneView):
    """The same 7,600 parameters; a test averages several views of each image (`models/test_time_augmentation.py`)."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) if self.training else predict_with_tta(super().forward, images)


class S8Frontier(nn.Module):
    """4,500 parameters: S8 step 7's blueprint with narrower layers, and no BatchNorm inside a separable convolution."""

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
        """The layer that halves a map of `widths[index]` channels."""
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


class S8Frontier693(S8Frontier):
    """693 parameters."""

    widths = (4, 6, 7, 7, 7, 8)


class S8Frontier693Shared(S8Frontier):
    """680 parameters: two layers from 7 to 7 channels are applied twice, each time with a BatchNorm of their own."""

    widths = (4, 5, 7, 7, 7, 7)

    def separable(self, index: int, padding: int) -> nn.Module:
        """The layer from the width at `index` to the next; the convolutions of two of them are applied twice."""
        layer = super().separable(index, padding)
        return TwiceNormalised(layer[:2], self.widths[index]) if index in (2, 3) else layer


class S8Frontier559(S8Frontier):
    """559 parameters."""

    widths = (4, 5, 5, 6, 6, 7)


class S8FrontierOverlapping(S8Frontier1782):
    """1,782 parameters, with overlapping max-pools: 3x3 windows with stride 2."""

    def pool(self, index: int) -> nn.Module:
        """A max-pool whose neighbouring windows share a row or a column."""
        return nn.MaxPool2d(3, stride=2, padding=1)


class S8FrontierStrided(S8Frontier1782):
    """1,878 parameters, with learned pools: depthwise 2x2 convolutions with stride 2."""

    def pool(self, index: int) -> nn.Module:
        """A 2x2 kernel for each of the `widths[index]` channels, instead of the maximum."""
        return nn.Conv2d(self.widths[index], self.widths[index], 2, stride=2, groups=self.widths[index], bias=False)


class S8FrontierShared(S8Frontier1782):
    """1,782 parameters, with weight sharing: the third separable layer is applied twice."""

    def separable(self, index: int, padding: int) -> nn.Module:
        """The plain network's layer; the one at index 2, from 14 to 14 channels, twice with the same weights."""
        layer = super().separable(index, padding)
        return Twice(layer) if index == 2 else layer


class S8FrontierSharedConvolutions(S8Frontier1782):
    """1,810 parameters: the same layer's convolutions are applied twice, each time with a BatchNorm of its own."""

    def separable(self, index: int, padding: int) -> nn.Module:
        """The plain network's layer; of the one at index 2 only the convolutions have the same weights."""
        layer = super().separable(index, padding)
        return TwiceNormalised(layer[:2], self.widths[index]) if index == 2 else layer


class S8Frontier3716(S8Frontier):
    """3,716 parameters."""

    widths = (11, 16, 20, 22, 26, 28)


class S8FrontierDense(S8Frontier):
    """3,570 parameters, in dense 3x3 convolutions, which have room for fewer channels."""

    widths = (6, 6, 8, 9, 10, 12)

    def separable(self, index: int, padding: int) -> nn.Module:
        """From the width at `index` to the next, by a 3x3 kernel for each pair of channels."""
        return self.dense(index, padding)

    def dense(self, index: int, padding: int) -> nn.Module:
        """A dense 3x3 convolution from the width at `index` to the next, BatchNorm and SiLU."""
        inputs, outputs = self.widths[index : index + 2]
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=padding, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
        )


class S8FrontierHybrid(S8FrontierDense):
    """3,622 parameters: dense where there are few channels, separable behind the first pool."""

    widths = (8, 8, 20, 20, 26, 28)

    def separable(self, index: int, padding: int) -> nn.Module:
        """Dense at index 0, separable after it."""
        return self.dense(index, padding) if index == 0 else S8Frontier.separable(self, index, padding)


class S8FrontierDeep(S8Frontier):
    """3,712 parameters: two separable convolutions more, and fewer channels in each."""

    widths = (8, 12, 12, 18, 18, 22, 22, 22)

    def __init__(self):
        nn.Module.__init__(self)
        first, *_, last = self.widths
        self.layers = nn.Sequential(  # [1, 28, 28]
            nn.Sequential(nn.Conv2d(1, first, 3, bias=False), nn.BatchNorm2d(first), nn.SiLU()),  # [., 26, 26]
            self.separable(0, padding=0),  # [., 24, 24]
            self.separable(1, padding=1),  # [., 24, 24]
            self.pool(2),  # [., 12, 12]
            self.separable(2, padding=1),  # [., 12, 12]
            self.separable(3, padding=1),  # [., 12, 12]
            self.pool(4),  # [., 6, 6]
            self.separable(4, padding=1),  # [., 6, 6]
            self.separable(5, padding=1),  # [., 6, 6]
            self.separable(6, padding=0),  # [., 4, 4]
            nn.AvgPool2d(4),  # [., 1, 1]
            nn.Conv2d(last, 10, 1, bias=False),  # [10, 1, 1]
            nn.Flatten(),  # [10]
            nn.LogSoftmax(dim=1),
        )


class S10OtherWriters(S8Frontier):
    """7,928 parameters: the frontier's blueprint with nearly all the width that 8,000 parameters allow."""

    widths = (16, 24, 32, 40, 40, 40)


class S10Teacher(S8Teacher):
    """72,656 parameters: S7's teacher with half the channels, a fourth of the time."""

    widths = (16, 32, 64)
