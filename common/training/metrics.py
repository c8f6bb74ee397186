"""What is counted in a pass over some images: their loss, and how many were classified correctly."""

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What a pass over some images gave: mean loss per image, and how many of them were classified correctly."""

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
    """Sums over an epoch that stay on the device: reading a number after every batch would make an accelerator wait."""

    def __init__(self, device: torch.device):
        """See the class."""
        exact = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        self.loss = torch.zeros((), dtype=exact, device=device)
        self.correct = torch.zeros((), dtype=torch.int64, device=device)
        self.total = 0

    def add(self, mean_loss: Tensor, log_probabilities: Tensor, labels: Tensor) -> None:
        """Count a batch of log-probabilities [B, 10] and labels [B]."""
        self.loss += mean_loss * len(labels)
        self.correct += (log_probabilities.argmax(dim=1) == labels).sum()
        self.total += len(labels)

    def score(self) -> Metrics:
        """All that was added; this reads the sums back."""
        return Metrics(self.loss.item() / self.total, int(self.correct), self.total)
