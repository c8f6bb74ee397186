"""The forward and the backward pass over one batch: what happens between `zero_grad` and the optimizer's step."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's name for it

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]  # of images, log-probabilities and labels


def nll_loss(_images: Tensor, log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """The mean negative log-likelihood of the labels. (`distillation` has a loss that asks a teacher as well.)"""
    return F.nll_loss(log_probabilities, labels)


def make_forward_backward(forward: Callable, loss: Loss = nll_loss, micro_batch_size: int | None = None) -> Callable:
    """A function of images [B, 1, S, S] and labels [B] that adds the gradient of the mean loss to the weights' own.

    It returns the mean loss and the log-probabilities [B, 10]. `forward` gives the log-probabilities of images: the
    model itself, or a faster way to the same. With `micro_batch_size` a batch goes through in parts of at most so many
    images, whose gradients add up to the batch's.
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

    What a layer has written is then still in the cache when the next layer reads it. (Some networks see nine views of
    each image, and the heap ends at blocks of 32 MB: see `acceleration.keep_memory`.)
    """
    for images, labels in batches:
        size = 32 if device.type == "cpu" else len(labels)
        yield from zip(images.to(device).split(size), labels.to(device).split(size), strict=True)
