"""Figures of where a network looks: where digits lie, what all cells of a map share, how many paths lead from where."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from common.lesson.plots.style import plt

IMAGE = 28


def where_digits_lie(mean: Tensor, sides: list[int], shares: dict[str, list[float]], marked: list[int]) -> Figure:
    """The mean digit [28, 28] with squares of `marked` sides, and what share of the digits squares in the middle hold.

    `shares` has for each name the per cents that belong to `sides`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(1, 1.5))
    left.imshow(mean.cpu().numpy(), extent=(0, IMAGE, IMAGE, 0))
    for side, color in zip(marked, ("#d95f02", "#7570b3", "#1b9e77"), strict=False):
        corner = ((IMAGE - side) / 2,) * 2
        square = Rectangle(corner, side, side, fill=False, edgecolor=color, linewidth=2, label=f"{side}x{side}")
        left.add_patch(square)
    left.set(title="the mean of all digits", xticks=[], yticks=[])
    left.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    for name, values in shares.items():
        right.plot(sides, values, "o-", label=name)
    right.set(xlabel="side of the square in the middle", ylabel="per cent of the digits inside", ylim=(-3, 103))
    right.set_xticks(sides)
    right.legend(loc="upper left")
    return figure


def shared_squares(image: Tensor, plans: dict[str, tuple[int, int, int]], shared: list[int]) -> Figure:
    """For each name and its (field, cells, jump): the fields of the four corner cells on the image, and what all share.

    `shared` has the sides of the shared squares, which are drawn filled.
    """
    figure, axes = plt.subplots(1, len(plans), figsize=(4.0 * len(plans), 4.4), squeeze=False)
    reach = max(field + (cells - 1) * jump for field, cells, jump in plans.values()) / 2 + 1
    middle = IMAGE / 2
    for axis, (name, (field, cells, jump)), side in zip(axes[0], plans.items(), shared, strict=True):
        axis.imshow(image.reshape(IMAGE, IMAGE).cpu().numpy(), extent=(0, IMAGE, IMAGE, 0), alpha=0.55)
        axis.add_patch(Rectangle((0, 0), IMAGE, IMAGE, fill=False, edgecolor="black", linestyle=":"))
        places = [middle + (index - (cells - 1) / 2) * jump for index in range(cells)]
        corners = [(x, y) for x in (places[0], places[-1]) for y in (places[0], places[-1])]
        for (x, y), color in zip(corners, ("#1f77b4", "#d95f02", "#7570b3", "#1b9e77"), strict=True):
            corner = (x - field / 2, y - field / 2)
            axis.add_patch(Rectangle(corner, field, field, fill=False, edgecolor=color, linewidth=1.5))
        axis.add_patch(Rectangle((middle - side / 2,) * 2, side, side, color="#f2c14e", alpha=0.35, linewidth=0))
        axis.plot(*zip(*[(x, y) for x in places for y in places], strict=True), "k.", markersize=3)
        axis.set(xlim=(middle - reach, middle + reach), ylim=(middle + reach, middle - reach), xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_title(f"{name}\n{cells}x{cells} cells see {field}x{field}, share {side}x{side}", fontsize="medium")
    return figure


def path_bells(paths: list[int], centres: dict[str, float], ink: Tensor) -> Figure:
    """How many paths lead from each pixel of a row to a cell, as a share of all, for cells at the given centres.

    Pixels are counted from 0 to 27; what lies outside of the grey band is padding. The dotted line is how much ink the
    digits have in each column, `ink` [28], in a scale of its own.
    """
    figure, axis = plt.subplots(figsize=(8, 3.4))
    axis.axvspan(-0.5, IMAGE - 0.5, color="#eeeeee", zorder=0, label="the image")
    shares = 100 * np.array(paths, dtype=float) / sum(paths)
    for name, centre in centres.items():
        pixels = centre + np.arange(len(paths)) - (len(paths) - 1) / 2
        axis.plot(pixels, shares, "-", linewidth=2, label=name)
    profile = ink.cpu().numpy() / float(ink.max().clamp(min=1e-9)) * shares.max()
    axis.plot(range(IMAGE), profile, ":", color="black", label="ink of the digits")
    axis.set(xlabel="pixel of a row, from the left", ylabel="per cent of the paths", ylim=(0, None))
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def votes(panels: dict[str, Tensor]) -> Figure:
    """A number for each cell of a map [height, width], once for each name; each panel has its own scale, from 0."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.3 * len(panels), 3.3), squeeze=False)
    for axis, (name, values) in zip(axes[0], panels.items(), strict=True):
        axis.imshow(values.numpy(), vmin=0, vmax=1.5 * max(float(values.max()), 1e-9), cmap="Oranges")
        for row, column in np.ndindex(*values.shape):
            axis.text(column, row, f"{values[row, column]:.1f}", ha="center", va="center", fontsize="small")
        axis.set(title=name, xticks=[], yticks=[])
    return figure
