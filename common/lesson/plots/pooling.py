"""Figures of what a network's last maps say for each class, and of digits that do not lie in the middle."""

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from common.lesson.plots.style import plt


def class_maps(
    images: Tensor, maps: Tensor, captions: list[str], scores: Tensor, title: str, cell: int, field: int, rows: int
) -> Figure:
    """A row for each image: the digit [28, 28], then its class map [height, width] for each of the ten classes.

    `maps` is [N, 10, height, width], `scores` [N, 10]: what stands over each map. All have one scale. The solid square
    on a digit is the place of the middle cell, `cell` pixels wide, the dashed one what it sees, `field` pixels wide.
    There is always room for `rows` images.
    """
    figure, axes = plt.subplots(rows, 11, figsize=(11, 1.12 * rows + 0.5), squeeze=False)
    figure.suptitle(title)
    limit = float(maps.abs().max())
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for row, (image, ten, caption, score) in enumerate(zip(images, maps, captions, scores, strict=True)):
        left = axes[row][0]
        left.imshow(image.reshape(28, 28).cpu().numpy(), extent=(0, 28, 28, 0))
        middle = (ten.shape[-1] // 2 + 0.5) * cell
        for side, style in ((cell, "-"), (field, "--")):
            corner = (middle - side / 2, middle - side / 2)
            left.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="#d95f02", linestyle=style))
        left.set(xlim=(-5, 31), ylim=(31, -5))
        left.set_ylabel(caption, rotation=0, ha="right", va="center", fontsize="small")
        for digit, axis in enumerate(axes[row][1:]):
            drawn = axis.imshow(ten[digit].cpu().numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
            heading = f"class {digit}\n" if row == 0 else ""
            axis.set_title(f"{heading}{score[digit]:.1f}", fontsize="small", pad=3)
            axis.spines[:].set(visible=True, color="#bbbbbb", linewidth=0.6)
    if len(images):
        figure.colorbar(drawn, ax=axes, label="what a cell adds to the score", shrink=0.8, aspect=30)
    return figure


def shift_maps(shifts: list[int], accuracies: dict[str, Tensor]) -> Figure:
    """A panel for each network: its accuracy in per cent, where a row is a shift down and a column one to the right.

    The panels have one scale.
    """
    figure, axes = plt.subplots(1, len(accuracies), figsize=(3.5 * len(accuracies) + 0.6, 3.7), squeeze=False)
    lowest = min(float(values.min()) for values in accuracies.values())
    for axis, (name, values) in zip(axes[0], accuracies.items(), strict=True):
        drawn = axis.imshow(values.numpy(), cmap="viridis", vmin=lowest, vmax=100)
        for row, column in np.ndindex(*values.shape):
            value = float(values[row, column])
            color = "black" if value > (lowest + 100) / 2 else "white"
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize="small", color=color)
        axis.set(title=name, xlabel="shift to the right in pixels", ylabel="shift down in pixels")
        axis.set_xticks(range(len(shifts)), [f"{shift:+d}" if shift else "0" for shift in shifts])
        axis.set_yticks(range(len(shifts)), [f"{shift:+d}" if shift else "0" for shift in shifts])
    figure.colorbar(drawn, ax=axes, label="accuracy in %", aspect=30)
    return figure


def many_tests(counts: Tensor, marks: dict[str, list[int]], images: int) -> Figure:
    """How many of many simulated tests found how many wrong images; the `marks` are counts to be held against them."""
    figure, axis = plt.subplots(figsize=(8, 3.4))
    lowest = min(int(counts.min()), *(min(values) for values in marks.values()))
    highest = max(int(counts.max()), *(max(values) for values in marks.values()))
    axis.hist(counts.numpy(), bins=np.arange(lowest - 0.5, highest + 1.5), color="lightgray", label="simulated tests")
    top = axis.get_ylim()[1]
    for (name, values), color in zip(marks.items(), ("#d95f02", "#1f77b4", "#7570b3"), strict=False):
        axis.vlines(values, 0, 0.9 * top, color=color, label=name)
    axis.set(xlabel=f"wrong images of {images:,}", ylabel="number of simulated tests")
    axis.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def intervals(rows: dict[str, tuple[float, float, float]], xlabel: str) -> Figure:
    """A line for each row (value, low, high), from its low end to its high end, with a dot at the value."""
    figure, axis = plt.subplots(figsize=(8, 0.42 * len(rows) + 1.1))
    for row, (value, low, high) in enumerate(rows.values()):
        axis.plot([low, high], [row, row], color="#1f77b4", linewidth=2)
        axis.plot(value, row, "o", color="#1f77b4")
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set(xlabel=xlabel, ylim=(len(rows) - 0.5, -0.5))
    return figure
