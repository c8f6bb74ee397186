"""Figures of S6 part 1: how the error falls, and what steps of different lengths do on its surface."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from common.lesson.plots.style import plt

LEVELS = (0, 0.0005, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125)  # of one output's error, at most 1/8
PATH = "#d95f02"


def error_curves(errors: dict[float, list[float]], start: int, floor: float) -> Figure:
    """The error over the steps, a curve for each learning rate.

    The left panel has the first `start` steps. The right one has all, on a logarithmic axis, down to `floor`: what
    lies below is rounding.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    colors = plt.colormaps["viridis"](np.linspace(0, 0.9, len(errors)))
    for (rate, values), color in zip(errors.items(), colors, strict=True):
        left.plot(values[: start + 1], color=color, label=f"{rate:,g}")
        right.plot([value if value >= floor else np.nan for value in values], color=color, label=f"{rate:,g}")
    left.set(title=f"the first {start:,} steps", xlabel="step", ylabel="error E", ylim=(0, None))
    right.set(title="more steps, on a logarithmic axis", xlabel="step", ylabel="error E, logarithmic", yscale="log")
    right.legend(title="learning rate", loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure


def valley(
    output: Callable[[float, float], tuple[float, float]],
    walks: dict[float, list[tuple[float, float]]],
    reaches: dict[float, float] | None = None,
) -> Figure:
    """The error of output 1 over the weights w5 and w6, from above and from the side, with a path for each rate.

    `output(w5, w6)` gives the net input of the output and its error. `walks` has the pairs (w5, w6) of each learning
    rate, step by step. The panels of a rate show the weights from minus its reach to its reach; where reaches differ, a
    dashed frame in the larger area shows the smallest one.
    """
    widest = {rate: max(abs(weight) for pair in walk for weight in pair) for rate, walk in walks.items()}
    reaches = reaches or {rate: max(0.7, 1.15 * far) for rate, far in widest.items()}
    figure, axes = plt.subplots(
        2, len(walks), figsize=(3.2 * len(walks) + 1, 5.8), height_ratios=(1.4, 1), squeeze=False
    )
    for (above, side), (rate, walk) in zip(axes.T, walks.items(), strict=True):
        reach = reaches[rate]
        line = np.linspace(-reach, reach, 61)
        drawn = _surface(above, line, line, lambda w5, w6: output(w5, w6)[1])
        above.plot(*zip(*walk, strict=True), color=PATH, marker="o", markersize=4, linewidth=1)
        above.plot(*walk[0], color=PATH, marker="s", markersize=8)
        above.set(title=f"learning rate {rate:,.4g}", xlabel="w5", xlim=(-reach, reach), ylim=(-reach, reach), aspect=1)
        if reach > 1.5 * min(reaches.values()):
            small = min(reaches.values())
            above.add_patch(
                Rectangle((-small, -small), 2 * small, 2 * small, fill=False, color="white", linestyle="--")
            )
        curve = [output(weight, weight) for weight in line]
        side.plot(*zip(*curve, strict=True), color="gray")
        steps = [output(*pair) for pair in walk]
        side.plot(*zip(*steps, strict=True), color=PATH, marker="o", markersize=4, linewidth=1)
        side.plot(*steps[0], color=PATH, marker="s", markersize=8)
        for step in range(1, min(4, len(steps))):
            side.annotate(f"{step}", steps[step], textcoords="offset points", xytext=(5, 4), fontsize="small")
        side.set(xlabel="net input o1", ylim=(0, None))
    axes[0, 0].set(ylabel="w6")
    axes[1, 0].set(ylabel="error E1")
    figure.colorbar(drawn, ax=axes[0, :], label="error E1", ticks=LEVELS, format="%g")
    return figure


def widening(
    error: Callable[[float, float], float],
    path: list[tuple[float, float]],
    limit: float,
    rate: float,
) -> Figure:
    """The error of output 1 over the mean hidden activation and the mean of w5 and w6, with the path of one run.

    Left of `limit` a step of this learning rate ends nearer to the goal than it began.
    """
    x, y = (np.array(values) for values in zip(*path, strict=True))
    figure, axis = plt.subplots(figsize=(8, 4.2))
    across = np.linspace(x.min() - 0.02, x.max() + 0.02, 61)
    along = np.linspace(-1.15 * np.abs(y).max(), 1.15 * np.abs(y).max(), 61)
    drawn = _surface(axis, across, along, error)
    axis.axvline(limit, color="white", linestyle="--", label=f"left of here {rate:g} x curvature is below 2")
    axis.plot(x, y, color=PATH, marker="o", markersize=4, linewidth=1, label=f"learning rate {rate:g}")
    axis.plot(x[0], y[0], color=PATH, marker="s", markersize=8)
    for step in range(1, min(5, len(x))):
        axis.annotate(f"{step}", (x[step], y[step]), textcoords="offset points", xytext=(6, 3), color="white")
    axis.set(xlabel="mean of the hidden activations a_h1 and a_h2", ylabel="mean of the weights w5 and w6")
    axis.legend(loc="lower left", labelcolor="white")
    figure.colorbar(drawn, label="error E1", ticks=LEVELS, format="%g")
    return figure


def _surface(axis: Axes, x: np.ndarray, y: np.ndarray, error: Callable[[float, float], float]):
    """Coloured contours of `error` over x and y, dark where it is small; the same levels in every panel."""
    heights = [[error(float(one), float(other)) for one in x] for other in y]
    norm = BoundaryNorm(LEVELS, plt.colormaps["cividis"].N)
    return axis.contourf(x, y, heights, levels=LEVELS, norm=norm, cmap="cividis")
