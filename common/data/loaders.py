"""Batches of digits, made in two ways: torchvision's DataLoader image by image, and whole batches in memory.

`classic_loader` is what most tutorials teach and what the sources of this course use. `InMemoryLoader` draws from the
same distribution many times faster: the whole set is one tensor on the device and each batch is augmented in one go.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.data import handwriting
from common.data.augmentation import affine_resample, central_crop, draw, inverse_matrix, is_affine
from common.recipe import Augmentation

MEAN, STD = 0.1307, 0.3081  # of the pixels of MNIST's 60,000 training images, with white = 1
UNCHANGED = Augmentation()


def classic_loader(
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    *,
    augmentation=UNCHANGED,
    shuffle=False,
    seed=0,
    workers=0,
    classes=10,
) -> DataLoader:
    """A DataLoader over uint8 images [N, S, S] and int64 labels [N], augmented as the sources do it.

    Both may be tensors or NumPy arrays; labels are from 0 to `classes` - 1. Its batches are float32 images
    [B, 1, S, S], normalised, and int64 labels [B]. `seed` governs the order, and with workers also the augmentation;
    without workers torchvision draws from torch's global generator. Raises ValueError for arguments that do not fit.
    """
    images, labels = _checked(images, labels, batch_size, augmentation, classes)
    dataset = DigitDataset(images, labels, image_transform(augmentation, images.shape[-1]))
    generator, stay = torch.Generator().manual_seed(seed), workers > 0  # workers that stay start once, not every epoch
    return DataLoader(dataset, batch_size, shuffle, num_workers=workers, persistent_workers=stay, generator=generator)


class DigitDataset(Dataset):
    """Pairs (transformed image, label) of uint8 images [N, S, S]; `decode` makes the PIL image that is transformed."""

    def __init__(self, images: Tensor, labels: Tensor, transform):
        """`transform` makes a tensor [1, S, S] of a PIL image."""
        self.images, self.labels, self.transform = images.cpu().numpy(), labels.tolist(), transform
        self.decode = Image.fromarray

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image, changed anew at each call, and its label."""
        return self.transform(self.decode(self.images[index])), self.labels[index]


def normalise(images: Tensor) -> Tensor:
    """Digits as bytes [N, 28, 28] in the form that the networks take: float [N, 1, 28, 28], mean 0, deviation 1."""
    return images.unsqueeze(1).float().div_(255).sub_(MEAN).div_(STD)


def image_transform(augmentation: Augmentation, side: int):
    """The sources' chain of torchvision transforms, from a PIL image to a normalised tensor [1, side, side]."""
    from torchvision import transforms  # here, since it takes over a second to import, and few need it
    from torchvision.transforms import InterpolationMode

    mode, shift, shear = InterpolationMode(augmentation.interpolation), augmentation.translation, augmentation.shear
    steps = []
    if handwriting.changes(augmentation):
        raise ValueError("torchvision's chain has no change of the hand; InMemoryLoader has.")
    if augmentation.crop_probability:
        crop = transforms.CenterCrop(augmentation.crop_size)
        steps += [transforms.RandomApply([crop], augmentation.crop_probability), transforms.Resize((side, side))]
    if shift or shear or augmentation.scale != (1, 1):
        shifts = (shift, shift) if shift else None
        steps += [transforms.RandomAffine(augmentation.rotation, shifts, augmentation.scale, shear or None, mode)]
    elif augmentation.rotation:
        steps += [transforms.RandomRotation(augmentation.rotation, mode)]
    return transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])


class InMemoryLoader:
    """Batches of a set that lives on `device`: one gather, the crop, one warp and one normalisation for each.

    Takes uint8 images [N, S, S] and int64 labels [N], as tensors or NumPy arrays. Gives float32 images [B, 1, S, S],
    normalised, and int64 labels [B], both on the device; the last batch may be short. Each iteration is an epoch with
    new draws. They come from a CPU generator of its own, so they depend on `seed` alone, not on the device or on
    torch's global generator. Raises ValueError for arguments that do not fit together.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        *,
        augmentation=UNCHANGED,
        shuffle=False,
        seed=0,
        device="cpu",
        classes=10,
    ):
        """Labels are from 0 to `classes` - 1."""
        images, labels = _checked(images, labels, batch_size, augmentation, classes)
        self.images, self.labels, self.total = images.to(device), labels.to(device), len(labels)
        self.batch_size, self.augmentation, self.shuffle = batch_size, augmentation, shuffle
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return math.ceil(self.total / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch. Everything random is drawn and moved to the device before the first batch, never in between."""
        augmentation, device = self.augmentation, self.images.device
        draws = draw(self.total, self.images.shape[-1], augmentation, self.generator, self.shuffle)
        size = self.batch_size * max(1, 512 // self.batch_size)  # a few batches at once: small ones cost mostly calls
        rows = draws.order.to(device).split(size)
        crops = _positions(draws.crop, size, device)
        if is_affine(augmentation):
            matrices = inverse_matrix(draws.angle, draws.translation, draws.scale, draws.shear)
            matrices = handwriting.stretched(matrices, draws.hand).to(device).split(size)
        hand = handwriting.split(draws.hand, size, len(rows), device)
        for part, row in enumerate(rows):
            images = self.images.index_select(0, row).unsqueeze(1).float()
            if augmentation.crop_probability:
                images[crops[part]] = central_crop(images[crops[part]], augmentation.crop_size)
            if is_affine(augmentation):
                bend = handwriting.bend(hand[part], images.shape[-1])
                images = affine_resample(images, matrices[part], augmentation.interpolation, bend)
            images = handwriting.pen(images, hand[part])
            images, labels = images.div_(255).sub_(MEAN).div_(STD), self.labels.index_select(0, row)
            yield from zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True)

    def state_dict(self) -> dict[str, Tensor]:
        """The generator's state, a ByteTensor. Saved between two epochs, it is all that the next epoch depends on."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved state: the next epoch is bit for bit the one that would have followed there."""
        self.generator.set_state(state["generator"].cpu())


def _positions(mask: Tensor, size: int, device) -> tuple[Tensor, ...]:
    """For each part of `size` the rows where `mask` is true: counted on the CPU, moved to the device in one copy."""
    counts = [int(part.sum()) for part in mask.split(size)]
    return (mask.nonzero().squeeze(1) % size).to(device).split(counts)


def _tensor(values, name: str) -> Tensor:
    """The values as a tensor, without a copy where a tensor can share their memory."""
    try:
        if isinstance(values, np.ndarray) and not (values.flags.writeable and min(values.strides, default=0) >= 0):
            values = values.copy()
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):  # what torch raises for text, None or lists of unequal lengths
        raise ValueError(
            f"{name} must be numbers in a tensor or a NumPy array, not a {type(values).__name__}."
        ) from None


def _checked(images, labels, batch_size: int, augmentation: Augmentation, classes: int) -> tuple[Tensor, Tensor]:
    """Images and labels as tensors; raises ValueError for arguments that do not fit together."""
    images, labels = _tensor(images, "Images"), _tensor(labels, "Labels")
    if images.dtype != torch.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise ValueError(f"Images must be uint8 of shape [N, S, S], not {images.dtype} of {list(images.shape)}.")
    if labels.is_floating_point() or labels.is_complex() or labels.ndim != 1:
        raise ValueError(f"Labels must be int64 of shape [N], not {labels.dtype} of {list(labels.shape)}.")
    if len(images) != len(labels) or len(labels) == 0:
        raise ValueError(f"There must be one label an image, and one image or more, not {len(images)}, {len(labels)}.")
    labels = labels.to(torch.int64)
    if wrong := labels[(labels < 0) | (labels >= classes)].tolist():
        raise ValueError(f"Labels must be from 0 to {classes - 1}, and {len(wrong)} are not, such as {wrong[0]}.")
    if batch_size < 1:
        raise ValueError(f"A batch must hold at least one image, not {batch_size}.")
    if augmentation.crop_probability and not 1 <= augmentation.crop_size <= images.shape[-1]:
        raise ValueError(f"Images of side {images.shape[-1]} have no central crop of side {augmentation.crop_size}.")
    return images, labels
