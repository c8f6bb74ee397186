"""Figures of networks on digits that MNIST's authors did not prepare."""

from matplotlib.figure import Figure
from torch import Tensor

from common.lesson.plots.style import plt
from common.records.comparison import wilson


def rows_of_digits(rows: dict[str, Tensor]) -> Figure:
    """A row of images [N, 28, 28] for each name, all rows of the same N."""
    count = len(next(iter(rows.values())))
    figure, axes = plt.subplots(len(rows), count, figsize=(0.8 * count + 1.6, 0.85 * len(rows)), squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image.reshape(28, 28).cpu().numpy())
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def against(points: dict[str, tuple[float, float]], xlabel: str, ylabel: str, marked: str = "") -> Figure:
    """A dot for each name at (x, y), with the name beside it; `marked` in another colour."""
    figure, axis = plt.subplots(figsize=(8, 4.6))
    for name, (x, y) in points.items():
        color = "#d95f02" if name == marked else "#1f77b4"
        axis.plot(x, y, "o", color=color)
        axis.annotate(name, (x, y), xytext=(6, -3), textcoords="offset points", fontsize="x-small", color=color)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.margins(x=0.15)
    return figure


def spoilt(counts: dict[str, dict[str, tuple[int, int]]]) -> Figure:
    """A line for each way of spoiling, with a dot for each network at what it still reads, and its 95 % interval.

    `counts[network][way]` is how many images were right, out of how many.
    """
    ways = list(next(iter(counts.values())))
    figure, axis = plt.subplots(figsize=(8, 0.42 * len(ways) + 1))
    for number, (network, found) in enumerate(counts.items()):
        rows = [row + 0.24 * (number - (len(counts) - 1) / 2) for row in range(len(ways))]
        shares = [100 * found[way][0] / found[way][1] for way in ways]
        low, high = zip(*(wilson(*found[way]) for way in ways), strict=True)
        color = ("#1f77b4", "#d95f02", "#7570b3", "#1b9e77")[number % 4]
        axis.hlines(rows, low, high, color=color, linewidth=2)
        axis.plot(shares, rows, "o", color=color, label=network, markersize=4)
    axis.set_yticks(range(len(ways)), ways)
    axis.set(xlabel="read correctly in %", ylim=(len(ways) - 0.4, -0.6))
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
