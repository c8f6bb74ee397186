"""The networks that the course retells, one plain class each, named after their step.

Shapes are [channels, height, width]. Every network takes normalised images, float32
[N, 1, 28, 28], and gives log-probabilities, float32 [N, 10].
"""

from torch import Tensor, nn

from common.layers import Dropout


class S5Step1(nn.Module):
    """593,200 parameters: wider with every convolution, and a dense layer that holds a third of all weights."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(  # [1, 28, 28]
            nn.Conv2d(1, 32, 3),  # [32, 26, 26]
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),  # [64, 24, 24]
            nn.MaxPool2d(2),  # [64, 12, 12]
            nn.ReLU(),
            nn.Conv2d(64, 128, 3),  # [128, 10, 10]
            nn.ReLU(),
            nn.Conv2d(128, 256, 3),  # [256, 8, 8]
            nn.MaxPool2d(2),  # [256, 4, 4]
            nn.ReLU(),
            nn.Flatten(),  # [4096]
            nn.Linear(4096, 50),
            nn.ReLU(),
            nn.Linear(50, 10),
            nn.LogSoftmax(dim=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S6Part2Step1(nn.Module):
    """17,920 parameters: two max-pools, and a dense head of 490 -> 20 -> 10 that holds more than half of them."""

    def __init__(self):
        super().__init__()

        def convolution(inputs, outputs):
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs))

        def pool(channels):
            return nn.Sequential(nn.MaxPool2d(2), nn.ReLU(), nn.BatchNorm2d(channels))

        self.layers = nn.Sequential(  # [1, 28, 28]
            convolution(1, 16),  # [16, 28, 28]
            convolution(16, 32),  # [32, 28, 28]
            pool(32),  # [32, 14, 14]
            convolution(32, 10),  # [10, 14, 14]
            pool(10),  # [10, 7, 7]
            nn.Flatten(),  # [490]
            nn.Linear(490, 20),
            nn.ReLU(),
            nn.Linear(20, 10),
            nn.LogSoftmax(dim=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S6Part2Step2(nn.Module):
    """11,952 parameters: strided convolutions, 16 logits for 10 classes, and Dropout 0.25 even on the logits.

    The exception to the module's rule: it gives log-probabilities [N, 16]; no label ever asks for the last six.
    """

    def __init__(self):
        super().__init__()

        def stage(inputs):
            return nn.Sequential(
                nn.Conv2d(inputs, 16, 3, padding=1),
                nn.ReLU(),
                nn.BatchNorm2d(16),
                nn.Conv2d(16, 16, 3, stride=2, padding=1),  # half the height, half the width
                nn.ReLU(),
                nn.BatchNorm2d(16),
            )

        self.layers = nn.Sequential(  # [1, 28, 28]
            stage(1),  # [16, 14, 14]
            nn.MaxPool2d(2),  # [16, 7, 7]
            Dropout(0.25),
            stage(16),  # [16, 4, 4]
            nn.MaxPool2d(2),  # [16, 2, 2]
            Dropout(0.25),
            stage(16),  # [16, 1, 1]
            Dropout(0.25),
            nn.Flatten(),  # [16]
            nn.LogSoftmax(dim=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S6Part2Step3(nn.Module):
    """17,118 parameters: global average pooling, no dense head; ReLU, Dropout and BatchNorm even on the logits."""

    def __init__(self):
        super().__init__()

        def convolution(inputs, outputs):
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), Dropout(0.1), nn.BatchNorm2d(outputs)
            )

        self.layers = nn.Sequential(  # [1, 28, 28]
            convolution(1, 16),  # [16, 28, 28]
            nn.MaxPool2d(2),  # [16, 14, 14]
            convolution(16, 32),  # [32, 14, 14]
            nn.MaxPool2d(2),  # [32, 7, 7]
            convolution(32, 32),  # [32, 7, 7]
            convolution(32, 10),  # [10, 7, 7]
            nn.MaxPool2d(2),  # [10, 3, 3]
            nn.AvgPool2d(3),  # [10, 1, 1]
            nn.Flatten(),  # [10]
            nn.LogSoftmax(dim=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S7Block1(nn.Module):
    """16,562 parameters: two groups of 3x3 convolutions, each narrowed by a 1x1 convolution, and a small dense head."""

    def __init__(self):
        super().__init__()

        def convolution(inputs, outputs):
            return nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.ReLU(), nn.BatchNorm2d(outputs), Dropout(0.05))

        self.layers = nn.Sequential(  # [1, 28, 28]
            convolution(1, 16),  # [16, 26, 26]
            convolution(16, 32),  # [32, 24, 24]
            nn.Conv2d(32, 8, 1),  # [8, 24, 24]
            nn.MaxPool2d(2),  # [8, 12, 12]
            convolution(8, 16),  # [16, 10, 10]
            convolution(16, 32),  # [32, 8, 8]
            nn.Conv2d(32, 16, 1),  # [16, 8, 8]
            nn.MaxPool2d(2),  # [16, 4, 4]
            nn.Conv2d(16, 32, 3),  # [32, 2, 2]
            nn.ReLU(),
            nn.AvgPool2d(2),  # [32, 1, 1]
            nn.Flatten(),  # [32]
            nn.Linear(32, 10),
            nn.LogSoftmax(dim=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class S7Block3(nn.Module):
    """7,904 parameters: 3x3 convolutions, 1x1 convolutions to narrow them, global average pooling, no dense layer."""

    def __init__(self):
        super().__init__()

        def convolution(inputs, outputs, kernel_size, padding=0):
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, kernel_size, padding=padding, bias=False),
                nn.ReLU(),
                nn.BatchNorm2d(outputs),
                nn.Dropout2d(0.01),  # drops whole channels
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
