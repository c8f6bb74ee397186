"""Augmentation of whole batches at once: what is drawn for each image, the crop, and the affine warp."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from common.data import handwriting
from common.recipe import Augmentation


class Draws(NamedTuple):
    """Everything random in one epoch; row i belongs to the i-th image that is given out, not to the i-th stored."""

    order: Tensor  # int64 [N], which stored image
    crop: Tensor  # bool [N]
    angle: Tensor  # degrees, float32 [N], like the rest
    translation: Tensor  # pixels along x and y, [N, 2]
    scale: Tensor  # [N]
    shear: Tensor  # degrees, [N]
    hand: handwriting.HandDraws


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
        hand=handwriting.draw(count, augmentation, generator),  # last: a recipe without it draws what it always drew
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
    return affine_resample(images, inverse_matrix(angle, translation, scale, shear).to(images), interpolation)


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


def affine_resample(images: Tensor, matrix: Tensor, interpolation: str, bend: Tensor | None = None) -> Tensor:
    """The images [B, 1, H, W] read at the places that the matrices [B, 2, 3] point to, 0 outside.

    `bend` [B, H, W, 2] is added to these places, in pixels along x and y.

    A place is the sum of one part that depends on the column and one that depends on the row, so the grid of
    `grid_sample` is one broadcast sum. On a CPU this takes half the time of `affine_grid`, and no setting of the
    accelerator's matrix products can blur it.
    """
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device).view(-1, 1) - (width - 1) / 2
    y = torch.arange(height, device=images.device).view(-1, 1, 1) - (height - 1) / 2
    halves = torch.stack([matrix[:, 0] / (width / 2), matrix[:, 1] / (height / 2)], dim=2)  # grid_sample's unit
    along_x, along_y, shift = halves[:, :, None, None].unbind(1)  # [B, 1, 1, 2] each
    places = along_x * x + shift + along_y * y
    if bend is not None:
        places = places + bend / torch.tensor([width / 2, height / 2], device=images.device)
    return functional.grid_sample(images, places, interpolation, align_corners=False)


def is_affine(augmentation: Augmentation) -> bool:
    """Whether the pixels of images move: turned, shifted, scaled, sheared, stretched or bent."""
    moves = (augmentation.rotation, augmentation.translation, augmentation.scale, augmentation.shear)
    return moves != (0, 0, (1, 1), 0) or bool(augmentation.stretch or augmentation.elastic)
