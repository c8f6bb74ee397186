"""The networks of S7, as the published solutions have them.

Each takes normalised images [N, 1, 28, 28] and gives log-probabilities [N, 10]. The comments give the shapes of one
image, [channels, height, width].
"""

from torch import Tensor, nn

from common.cpu_kernels.dropout import Dropout


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
