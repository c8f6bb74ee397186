"""A digit drawn by a pen, as MNIST's authors would have made an image of it.

A drawing is a list of strokes, a stroke a list of points (x, y), x to the right and y down, in any unit. MNIST's digits
were scaled into 20x20 pixels with their proportions kept, and placed into 28x28 so that the centre of mass of the ink
lies in the middle (http://yann.lecun.com/exdb/mnist/). Their lines are 2 to 3 pixels wide. Points have no width, so the
pen is as wide whatever the size of the drawing was.
"""

import numpy as np
import torch
from torch import Tensor

from common.system.errors import UserError

SIDE, BOX, PEN = 28, 20, 2.6  # pixels: of the image, of the digit in it, the width of the pen
MOST_POINTS = 5_000


def draw(strokes: list, pen: float = PEN) -> Tensor:
    """The drawing as an image of MNIST's form: uint8 [28, 28], 0 is the background and 255 full ink.

    `pen` is the width of the lines in pixels. No strokes give an empty image. Raises UserError for what is no drawing:
    points that are no pair of finite numbers, or more than 5,000 of them.
    """
    lines = _checked(strokes)
    if not lines:
        return torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = (BOX - pen) / max((high - low).max(), 1e-9)  # the pen's width belongs to the digit
    if (high - low).max() == 0:
        scale = 1.0  # a dot
    lines = [(line - (low + high) / 2) * scale + SIDE / 2 for line in lines]
    ink = _ink(lines, pen)
    centres = np.arange(SIDE) + 0.5
    mass = np.array([ink.sum(axis=0) @ centres, ink.sum(axis=1) @ centres]) / ink.sum()
    ink = _ink([line + SIDE / 2 - mass for line in lines], pen)
    # A half is rounded up. Straight lines meet it exactly, so the last digits of `ink` must not decide.
    return torch.from_numpy(np.floor(255 * ink + 0.5 + 1e-6).astype(np.uint8))


def _checked(strokes: list) -> list[np.ndarray]:
    """The strokes as arrays [N, 2], without empty ones."""
    try:
        lines = [np.asarray(stroke, dtype=np.float64).reshape(-1, 2) for stroke in strokes if len(stroke)]
    except (TypeError, ValueError):
        lines = None
    if lines is None or not all(np.isfinite(line).all() for line in lines):
        raise UserError("A drawing is a list of strokes, and a stroke a list of points (x, y) of finite numbers.")
    if sum(map(len, lines)) > MOST_POINTS:
        raise UserError(f"A drawing may have {MOST_POINTS:,} points, and this one has {sum(map(len, lines)):,}.")
    return lines


def _ink(lines: list[np.ndarray], pen: float) -> np.ndarray:
    """How much of each pixel is ink, [28, 28] from 0 to 1, by the distance of its centre from the nearest line.

    A pixel whose centre lies half a pixel inside the edge of a line is full, half a pixel outside it is empty, and
    between them it is in proportion.
    """
    columns, rows = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    centres = np.stack([columns, rows], axis=-1).reshape(-1, 1, 2)  # [784, 1, 2]
    nearest = np.full(len(centres), np.inf)
    for line in lines:
        start, way = line[:-1], np.diff(line, axis=0)
        if len(line) == 1:
            start, way = line, np.zeros_like(line)
        length = np.maximum((way**2).sum(axis=1), 1e-12)
        along = np.clip((((centres - start) * way).sum(axis=2) / length), 0, 1)  # [784, segments]
        apart = centres - (start + along[..., None] * way)
        nearest = np.minimum(nearest, np.sqrt((apart**2).sum(axis=2)).min(axis=1))
    return np.clip(pen / 2 + 0.5 - nearest, 0, 1).reshape(SIDE, SIDE)
