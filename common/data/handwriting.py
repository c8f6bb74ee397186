"""Augmentation that changes the hand and the pen: digits as other people, with other pens, would have written them.

The affine warp of `augmentation` turns, shifts and scales a digit as a whole. Here it is made wider or narrower, bent
(elastic deformation: Simard, Steinkraus and Platt 2003, https://doi.org/10.1109/ICDAR.2003.1227801), and its line
thinner, thicker, softer or fainter. All work on float images [B, 1, S, S] with 0 as the background.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from common.recipe import Augmentation

BOX = 20  # pixels: along each side of the box into which MNIST's authors fitted a digit
PHASES = 4  # places of a coarse scanner's dots, a quarter of a dot apart
CELLS = 4  # of the coarse grid that bends an image, along each side: 7 pixels of 28, about a third of a digit
SIGMA = 1.5  # pixels: the standard deviation of the Gaussian that blurs


class HandDraws(NamedTuple):
    """What is random for each of N images; None where nothing is to change."""

    stretch: Tensor | None = None  # by how much it becomes wider, [N]
    grid: Tensor | None = None  # shifts along x and y at the corners of the cells, pixels, [N, 2, 5, 5]
    stroke: Tensor | None = None  # pixels by which the line becomes thicker on each side, [N], from -1 to 1
    blur: Tensor | None = None  # the blurred copy's share, [N], from 0 to 1
    scan: Tensor | None = None  # which of `_scanners` reads the rows and which the columns, [N, 2]
    contrast: Tensor | None = None  # what the ink is multiplied by, [N]


def changes(augmentation: Augmentation) -> bool:
    """Whether an image's hand or pen changes at all."""
    hand = augmentation.stretch, augmentation.elastic, augmentation.stroke
    return any((*hand, augmentation.blur, augmentation.scan, augmentation.contrast))


def draw(count: int, augmentation: Augmentation, generator: torch.Generator) -> HandDraws:
    """One epoch's draws for `count` images. Nothing is drawn for what the augmentation leaves as it is."""

    def uniform(low, high):
        return torch.empty(count).uniform_(low, high, generator=generator)

    stretch = grid = stroke = blur = scan = contrast = None
    if augmentation.stretch:
        stretch = (1 + augmentation.stretch) ** uniform(-1, 1)  # as often by 1.2 as by 1 / 1.2
    if augmentation.elastic:
        grid = torch.randn(count, 2, CELLS + 1, CELLS + 1, generator=generator) * augmentation.elastic
    if augmentation.stroke:
        stroke = uniform(-augmentation.stroke, augmentation.stroke)
    if augmentation.blur:
        blur = uniform(0, augmentation.blur)
    if augmentation.scan:
        dots = torch.randint(augmentation.scan, BOX + 1, (count, 1), generator=generator)
        phases = torch.randint(PHASES, (count, 2), generator=generator)
        scan = 1 + dots * PHASES + phases
    if augmentation.contrast:
        contrast = uniform(1 - augmentation.contrast, 1)
    if augmentation.hand_probability < 1 and changes(augmentation):
        kept = uniform(0, 1) >= augmentation.hand_probability
        for draws, neutral in ((stretch, 1), (grid, 0), (stroke, 0), (blur, 0), (scan, 0), (contrast, 1)):
            if draws is not None:
                draws[kept] = neutral
    return HandDraws(stretch, grid, stroke, blur, scan, contrast)


def split(draws: HandDraws, size: int, parts: int, device) -> list[HandDraws]:
    """The draws for each part of `size` images, on the device."""
    columns = [[None] * parts if draw is None else draw.to(device).split(size) for draw in draws]
    return [HandDraws(*row) for row in zip(*columns, strict=True)]


def stretched(matrices: Tensor, draws: HandDraws) -> Tensor:
    """The matrices [N, 2, 3] of `augmentation.inverse_matrix`, that now read an image made wider beforehand."""
    if draws.stretch is None:
        return matrices
    return torch.stack([matrices[:, 0] / draws.stretch.view(-1, 1), matrices[:, 1]], dim=1)


def bend(draws: HandDraws, side: int) -> Tensor | None:
    """By how many pixels along x and y each place of an image is shifted, [B, side, side, 2].

    The corners of a coarse grid are shifted at random, and the places between them smoothly, by bicubic interpolation.
    """
    if draws.grid is None:
        return None
    curves = _curves(side).to(draws.grid)
    return (curves @ draws.grid @ curves.T).permute(0, 2, 3, 1)


@functools.cache
def _curves(side: int) -> Tensor:
    """The matrix [side, CELLS + 1] of bicubic interpolation along one axis."""
    corners = torch.eye(CELLS + 1).view(1, CELLS + 1, CELLS + 1, 1)
    return F.interpolate(corners, (side, 1), mode="bicubic", align_corners=True)[0, :, :, 0].T.contiguous()


def pen(images: Tensor, draws: HandDraws) -> Tensor:
    """The images with another pen and scanner: line width, then sharpness, then dots, then the ink's strength.

    The largest value of a pixel and its four neighbours widens a line by one pixel on each side, and the smallest
    narrows it as much (grey-scale dilation and erosion). A fraction of a pixel is that share of the way.
    """
    if draws.stroke is not None:
        stroke = draws.stroke.view(-1, 1, 1, 1)
        thicker = stroke > 0
        signed = torch.where(thicker, images, -images)  # the smallest value is the largest of the negatives
        largest = _largest_of_five(signed)
        images = torch.lerp(images, torch.where(thicker, largest, -largest), stroke.abs())
    if draws.blur is not None:
        images = torch.lerp(images, _blurred(images), draws.blur.view(-1, 1, 1, 1))
    if draws.scan is not None:
        rows, columns = _scanners(images.shape[-1]).to(images)[draws.scan].unbind(dim=1)
        images = (rows @ images[:, 0] @ columns.mT)[:, None]
    if draws.contrast is not None:
        images = images * draws.contrast.view(-1, 1, 1, 1)
    return images


@functools.cache
def _scanners(side: int) -> Tensor:
    """What scanners make of a line of `side` pixels, [., side, side]: at 1 + PHASES d + p, one with d dots a box.

    Each dot is the mean of what it covers; between the dots' centres it is interpolated linearly. `p` says where the
    dots begin. At 0 is a scanner that leaves the line as it is.
    """
    pixels, scanners = torch.arange(side, dtype=torch.float64), [torch.eye(side)]
    for dots in range(BOX + 1):
        pitch = BOX / max(dots, 1)
        for phase in range(PHASES):
            starts = (torch.arange(-2.0, side / pitch + 2, dtype=torch.float64) + phase / PHASES) * pitch
            covered = torch.minimum(pixels + 1, starts[:, None] + pitch) - torch.maximum(pixels, starts[:, None])
            distance = (pixels[:, None] + 0.5 - (starts + pitch / 2)).abs() / pitch
            scanners.append(((1 - distance).clamp(min=0) @ (covered.clamp(min=0) / pitch)).float())
    return torch.stack(scanners)


def _largest_of_five(images: Tensor) -> Tensor:
    """The largest value of each pixel and the four beside, above and below it."""
    largest = images.clone()
    for pixels, axis in ((images, 2), (images, 3)):
        count = pixels.shape[axis] - 1
        before, after = pixels.narrow(axis, 0, count), pixels.narrow(axis, 1, count)
        for own, neighbour in ((largest.narrow(axis, 0, count), after), (largest.narrow(axis, 1, count), before)):
            torch.maximum(own, neighbour, out=own)
    return largest


def _blurred(images: Tensor) -> Tensor:
    """A Gaussian over 7 x 7 pixels; its weights add up to 1."""
    places = torch.arange(-3.0, 4.0, device=images.device)
    weights = torch.softmax(-(places**2) / (2 * SIGMA**2), dim=0)
    wide = F.conv2d(images, weights.view(1, 1, 1, 7), padding=(0, 3))
    return F.conv2d(wide, weights.view(1, 1, 7, 1), padding=(3, 0))
