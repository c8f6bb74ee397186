"""Batches of digits, made in two ways: torchvision's DataLoader image by image, and whole batches in memory.

`classic_loader` is what most tutorials teach and what the sources of this course use. `InMemoryLoader` draws from the
same distribution many times faster: the whole set is one tensor on the device and each batch is augmented in one go.
"""

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from common.recipe import Augmentation

MEAN, STD = 0.1307, 0.3081  # of the pixels of MNIST's 60,000 training images, with white = 1
UNCHANGED = Augmentation()


def classic_loader(
    images: Tensor, labels: Tensor, batch_size: int, *, augmentation=UNCHANGED, shuffle=False, seed=0, workers=0
) -> DataLoader:
    """A DataLoader over uint8 images [N, S, S] and int64 labels [N], augmented as the sources do it.

    Its batches are float32 images [B, 1, S, S], normalised, and int64 labels [B]. `seed` governs the order, and with
    workers also the augmentation; without workers torchvision draws from torch's global generator. Raises ValueError
    for arguments that do not fit together.
    """
    _check(images, labels, batch_size, augmentation)
    dataset = DigitDataset(images, labels, image_transform(augmentation, images.shape[-1]))
    generator, stay = torch.Generator().manual_seed(seed), workers > 0  # workers that stay start once, not every epoch
    return DataLoader(dataset, batch_size, shuffle, num_workers=workers, persistent_workers=stay, generator=generator)


class DigitDataset(Dataset):
    """Pairs (transformed image, label) of uint8 images [N, S, S]; `decode` makes the PIL image that is transformed."""

    def __init__(self, images: Tensor, labels: Tensor, transform):
        """See the class."""
        self.images, self.labels, self.transform = images.cpu().numpy(), labels.tolist(), transform
        self.decode = Image.fromarray

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The image, changed anew at each call, and its label."""
        return self.transform(self.decode(self.images[index])), self.labels[index]


def image_transform(augmentation: Augmentation, side: int) -> transforms.Compose:
    """The sources' chain of torchvision transforms, from a PIL image to a normalised tensor [1, side, side]."""
    mode, shift, shear = InterpolationMode(augmentation.interpolation), augmentation.translation, augmentation.shear
    steps = []
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

    Takes uint8 images [N, S, S] and int64 labels [N]; gives float32 images [B, 1, S, S], normalised, and int64 labels
    [B], both on the device; the last batch may be short. Each iteration is an epoch with new draws. They come from a
    CPU generator of its own, so they depend on `seed` alone, not on the device or on torch's global generator. Raises
    ValueError for arguments that do not fit together.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, batch_size, *, augmentation=UNCHANGED, shuffle=False, seed=0, device="cpu"
    ):
        """See the class."""
        _check(images, labels, batch_size, augmentation)
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
        if _warps(augmentation):
            matrices = inverse_matrix(draws.angle, draws.translation, draws.scale, draws.shear).to(device).split(size)
        for part, row in enumerate(rows):
            images = self.images.index_select(0, row).unsqueeze(1).float()
            if augmentation.crop_probability:
                images[crops[part]] = central_crop(images[crops[part]], augmentation.crop_size)
            if _warps(augmentation):
                images = _resample(images, matrices[part], augmentation.interpolation)
            images, labels = images.div_(255).sub_(MEAN).div_(STD), self.labels.index_select(0, row)
            yield from zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True)

    def state_dict(self) -> dict[str, Tensor]:
        """The generator's state, a ByteTensor. Saved between two epochs, it is all that the next epoch depends on."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a saved state: the next epoch is bit for bit the one that would have followed there."""
        self.generator.set_state(state["generator"].cpu())


class Draws(NamedTuple):
    """Everything random in one epoch; row i belongs to the i-th image that is given out, not to the i-th stored."""

    order: Tensor  # int64 [N], which stored image
    crop: Tensor  # bool [N]
    angle: Tensor  # degrees, float32 [N], like the rest
    translation: Tensor  # pixels along x and y, [N, 2]
    scale: Tensor  # [N]
    shear: Tensor  # degrees, [N]


def draw(count: int, side: int, augmentation: Augmentation, generator: torch.Generator, shuffle: bool) -> Draws:
    """One epoch's draws for `count` images, all uniform; shifts in whole pixels, as RandomAffine rounds them."""

    def uniform(low, high, *shape):
        return torch.empty(count, *shape).uniform_(low, high, generator=generator)

    reach = augmentation.translation * side
    return Draws(
        order=torch.randperm(count, generator=generator) if shuffle else torch.arange(count),
        crop=uniform(0, 1) < augmentation.crop_probability,
        angle=uniform(-augmentation.rotation, augmentation.rotation),
        translation=uniform(-reach, reach, 2).round_(),
        scale=uniform(*augmentation.scale),
        shear=uniform(-augmentation.shear, augmentation.shear),
    )


def central_crop(images: Tensor, size: int) -> Tensor:
    """The central `size` x `size` pixels of [B, 1, S, S], whole grey values 0-255 as floats, enlarged to [B, 1, S, S].

    Equal to torchvision's CenterCrop and bilinear Resize of PIL images; on MPS, which has no float64, a value at a half
    may come out one grey level off.
    """
    side = images.shape[-1]
    start = round((side - size) / 2)  # a half goes to the even number, as in CenterCrop
    weights = _enlargement(size, side, images.device)
    wide = (images[..., start : start + size, start : start + size].to(weights) @ weights).add_(0.5).floor_()
    return (weights.T @ wide).add_(0.5).floor_().to(images)


@functools.cache
def _enlargement(size: int, side: int, device: torch.device) -> Tensor:
    """The matrix [size, side] that enlarges rows of `size` grey values to `side` as PIL does (libImaging/Resample.c).

    PIL rounds the weights of linear interpolation to 22 binary digits, adds up exactly, and rounds halves up, first
    along the rows, then along the columns. Its antialiasing acts only when an image shrinks.
    """
    weights = functional.interpolate(torch.eye(size, dtype=torch.float64)[None], side, mode="linear")[0]
    exact = torch.float32 if device.type == "mps" else torch.float64
    return ((weights * 2**22).round() / 2**22).to(device, exact)


def warp(
    images: Tensor, angle: Tensor, translation: Tensor, scale: Tensor, shear: Tensor, interpolation: str
) -> Tensor:
    """Each float image of [B, 1, H, W] sheared along x, scaled, rotated and shifted by its own amounts; fill 0.

    Angle and shear [B] in degrees, translation [B, 2] in pixels along x and y, scale [B]; `interpolation` is "nearest"
    or "bilinear". Numbers and conventions are those of `torchvision.transforms.functional.affine` on tensors: about the
    image's centre, positive angles clockwise. PIL's nearest pixel is the same one but for about 20 pixels in a million,
    whose source lies so close to a half that PIL's 16-bit fractions round it to the other side.
    """
    return _resample(images, inverse_matrix(angle, translation, scale, shear).to(images), interpolation)


def inverse_matrix(angle: Tensor, translation: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """The matrices [B, 2, 3] that take an output pixel to the place in the source image where its value comes from.

    Both (x, y) are in pixels from the image's centre. With rotation a, scale s, shear k and shift t, the image is moved
    by p -> s R(a) K(k) p + t, where R = [cos a, -sin a; sin a, cos a] (y points down) and K = [1, -tan k; 0, 1]. The
    inverse is p -> A (p - t) with

        A = 1/s [cos a - sin a tan k, sin a + cos a tan k; -sin a, cos a]

    as in torchvision's `_get_inverse_affine_matrix` (transforms/functional.py) with no shear along y.
    """
    cos, sin, tan = angle.deg2rad().cos(), angle.deg2rad().sin(), shear.deg2rad().tan()
    rows = torch.stack([cos - sin * tan, sin + cos * tan, -sin, cos], dim=1).view(-1, 2, 2) / scale.view(-1, 1, 1)
    return torch.cat([rows, -rows @ translation.unsqueeze(2)], dim=2)


def _resample(images: Tensor, matrix: Tensor, interpolation: str) -> Tensor:
    """The images [B, 1, H, W] read at the places that the matrices [B, 2, 3] point to, 0 outside.

    A place is the sum of one part that depends on the column and one that depends on the row, so the grid of
    `grid_sample` is one broadcast sum. On a CPU this takes half the time of `affine_grid`, and no setting of the
    accelerator's matrix products can blur it.
    """
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device).view(-1, 1) - (width - 1) / 2
    y = torch.arange(height, device=images.device).view(-1, 1, 1) - (height - 1) / 2
    halves = torch.stack([matrix[:, 0] / (width / 2), matrix[:, 1] / (height / 2)], dim=2)  # grid_sample's unit
    along_x, along_y, shift = halves[:, :, None, None].unbind(1)  # [B, 1, 1, 2] each
    return functional.grid_sample(images, along_x * x + shift + along_y * y, interpolation, align_corners=False)


def _positions(mask: Tensor, size: int, device) -> tuple[Tensor, ...]:
    """For each part of `size` the rows where `mask` is true: counted on the CPU, moved to the device in one copy."""
    counts = [int(part.sum()) for part in mask.split(size)]
    return (mask.nonzero().squeeze(1) % size).to(device).split(counts)


def _warps(augmentation: Augmentation) -> bool:
    moves = (augmentation.rotation, augmentation.translation, augmentation.scale, augmentation.shear)
    return moves != (0, 0, (1, 1), 0)


def _check(images: Tensor, labels: Tensor, batch_size: int, augmentation: Augmentation) -> None:
    if images.dtype != torch.uint8 or images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise ValueError(f"Images must be uint8 of shape [N, S, S], not {images.dtype} of {list(images.shape)}.")
    if labels.dtype != torch.int64 or labels.ndim != 1:
        raise ValueError(f"Labels must be int64 of shape [N], not {labels.dtype} of {list(labels.shape)}.")
    if len(images) != len(labels) or len(labels) == 0:
        raise ValueError(f"There must be one label an image, and one image or more, not {len(images)}, {len(labels)}.")
    if batch_size < 1:
        raise ValueError(f"A batch must hold at least one image, not {batch_size}.")
    if augmentation.crop_probability and not 1 <= augmentation.crop_size <= images.shape[-1]:
        raise ValueError(f"Images of side {images.shape[-1]} have no central crop of side {augmentation.crop_size}.")
