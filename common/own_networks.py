"""The course's own networks, in the form of `common.networks`: one plain class each, named after their step."""

from torch import Tensor, nn


class S7Block4(nn.Module):
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
