"""What is done with one batch: the loss and its gradients in training, smaller parts in testing."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of images, log-probabilities and labels


def nll_loss(_images: Tensor, log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """The mean negative log-likelihood of the labels. (`distillation` has a loss that asks a teacher as well.)"""
    return F.nll_loss(log_probabilities, labels)


def make_forward_backward(forward: Callable, loss: Loss = nll_loss, micro_batch_size: int | None = None) -> Callable:
    """A function of images [B, 1, S, S] and labels [B] that computes the mean loss and calls its `backward()`.

    The gradients are added to each weight's `.grad`. It returns the mean loss and the log-probabilities [B, 10], both
    detached from the graph. `forward` gives the log-probabilities of images: the model itself, or a faster way to the
    same. With `micro_batch_size` a batch goes through in micro-batches of at most so many images. Their gradients add
    up to the batch's, unless the network has BatchNorm, which would see other means.
    """

    def forward_backward(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        losses, outputs, size = [], [], micro_batch_size or len(labels)
        for some_images, some_labels in zip(images.split(size), labels.split(size), strict=True):
            log_probabilities = forward(some_images)
            share = len(some_labels) / len(labels)
            part = loss(some_images, log_probabilities, some_labels) * share
            part.backward()
            losses.append(part.detach())
            outputs.append(log_probabilities.detach())
        return (losses[0], outputs[0]) if len(losses) == 1 else (sum(losses), torch.cat(outputs))

    return forward_backward


def for_testing(batches: Iterable, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches on the device; for a CPU in parts of 32 images.

    Small parts stay in the CPU's cache from one layer to the next. (They also keep blocks of memory under 32 MB, above
    which memory is slow to get: see `acceleration.keep_memory`.)
    """
    for images, labels in batches:
        size = 32 if device.type == "cpu" else max(1, len(labels))
        yield from zip(images.to(device).split(size), labels.to(device).split(size), strict=True)
