"""The networks of S6 part 2, as the published solution has them.

Each takes normalised images [N, 1, 28, 28] and gives log-probabilities [N, 10], but for one, which says so. The
comments give the shapes of one image, [channels, height, width].
"""

from torch import Tensor, nn

from common.cpu_kernels.dropout import Dropout


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

    So it gives log-probabilities [N, 16], where no label ever asks for the last six.
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
