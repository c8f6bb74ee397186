"""Loss and accuracy over a set of images, added up batch by batch."""

import dataclasses
import math

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Metrics:
    """The mean loss per image, and how many of `total` images were classified correctly."""

    loss: float
    correct: int
    total: int

    @property
    def accuracy(self) -> float:
        """In per cent: correct / total, never a mean of batch means."""
        return 100 * self.correct / self.total

    def row(self, part: str) -> dict:
        """The three numbers as a history keeps them: `test_loss`, `test_correct`, `test_total` for the part "test"."""
        return {f"{part}_{name}": value for name, value in dataclasses.asdict(self).items()}


class MetricSums:
    """Sums over an epoch. They stay on the device, since an accelerator waits whenever a number is read back."""

    def __init__(self, device: torch.device):
        """Empty sums on the device of the network."""
        exact = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        self.loss = torch.zeros((), dtype=exact, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.total = 0
        self.loss_after: list[Tensor] = []  # the sum of losses after each batch
        self.look_every = 1 if device.type == "cpu" else 50  # batches between two looks for a loss that is no number

    def add(self, mean_loss: Tensor, log_probabilities: Tensor, labels: Tensor) -> None:
        """Count a batch: its mean loss, log-probabilities [B, 10] and labels [B]."""
        self.loss += mean_loss * len(labels)
        self.correct += (log_probabilities.argmax(dim=1) == labels).sum()
        self.total += len(labels)
        self.loss_after.append(self.loss.clone())

    def divergence(self, last: bool = False) -> tuple[float, int] | None:
        """The first loss that was inf or NaN and the number of its batch, from 1; None while there is none.

        On an accelerator it looks at every 50th batch only, and at the `last`.
        """
        looks = last or len(self.loss_after) % self.look_every == 0
        if not looks or not self.loss_after or math.isfinite(self.loss):  # a sum that is NaN or inf stays so
            return None
        finite = int(torch.stack(self.loss_after).isfinite().sum())
        return self.loss_after[finite].item(), finite + 1

    def metrics(self) -> Metrics:
        """The mean loss and the counts; reads the sums back from the device."""
        return Metrics(self.loss.item() / max(1, self.total), int(self.correct), self.total)
