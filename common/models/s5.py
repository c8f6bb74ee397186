"""The network of S5: a first one, wide and simple.

It takes normalised images [N, 1, 28, 28] and gives log-probabilities [N, 10]. The comments give the shapes of one
image, [channels, height, width].
"""

from torch import Tensor, nn


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
