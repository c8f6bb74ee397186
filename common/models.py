"""The networks of the course, one plain class each, named after their step. Shapes are [channels, height, width].

Every network takes normalised images, float32 [N, 1, 28, 28], and gives log-probabilities, float32 [N, 10].
"""

import inspect

from torch import Tensor, nn

from common.errors import UserError
from common.layers import Dropout
from common.recipe import ROOT


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


NETWORKS = {
    "S5/step1_first_network": S5Step1,
    "S6/part2_step3_global_pooling": S6Part2Step3,
    "S7/block3": S7Block3,
}


def build(step: str) -> nn.Module:
    """The step's untrained network, its weights from torch's global generator. Raises UserError for an unknown step."""
    if step not in NETWORKS:
        raise UserError(f"There is no network for the step {step!r}; there is one for each of {', '.join(NETWORKS)}.")
    return NETWORKS[step]()


def source(step: str) -> str:
    """The Python source of the step's network, as it runs: shown in a lesson, it cannot drift from the code."""
    return inspect.getsource(NETWORKS[step]).rstrip()


def load_trained(step: str) -> nn.Module:
    """The step's network with the weights that the course trained, on the CPU, in eval mode.

    Raises UserError when the step has no weights or they do not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    network = build(step)
    session, name = step.split("/")
    path = ROOT / "sessions" / session / "weights" / f"{name}.safetensors"
    try:
        load_model(network, path)
    except FileNotFoundError:
        raise UserError(f"The step {step} has no trained weights: {path} is missing.") from None
    except (SafetensorError, RuntimeError):
        raise UserError(f"The weights in {path} do not fit the network {step}; restore the file.") from None
    return network.eval()
