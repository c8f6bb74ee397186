"""Figures of measurements: the ladder of speed, and accuracy against parameters."""

import itertools

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from common.lesson.plots.style import plt


def ladder(names: list[str], seconds: list[list[float]], limit: float | None = None) -> Figure:
    """An ablation ladder of speed: a bar for each rung, the median of its seconds an epoch.

    The gray line on a bar goes from minimum to maximum. A dotted line is the roofline limit of the machine, in seconds.
    """
    middle = [float(np.median(values)) for values in seconds]
    spread = [[m - min(values) for m, values in zip(middle, seconds, strict=True)]]
    spread += [[max(values) - m for m, values in zip(middle, seconds, strict=True)]]
    figure, axis = plt.subplots(figsize=(9, 0.45 * len(names) + 1))
    axis.barh(names, middle, xerr=spread, color="#1f77b4", ecolor="gray")
    if limit is not None:
        axis.axvline(limit, color="gray", linestyle=":", label=f"roofline limit: {limit:.1f} s")
        axis.legend(loc="lower right")
    for row, value in enumerate(middle):
        axis.annotate(f" {value:.1f}", (max(seconds[row]), row), va="center")
    axis.set(xlabel="seconds an epoch of 60,000 images", xlim=(0, 1.15 * max(map(max, seconds))))
    axis.invert_yaxis()
    return figure


def frontier(ours: list, published: list) -> Figure:
    """Accuracy against parameters, both axes logarithmic; the points come from `common.experiments.frontier`.

    Ours are means over the seeds, with a line from the lowest seed to the highest. The published ones are single runs.
    """
    figure, axis = plt.subplots(figsize=(9, 5))
    kinds = {"networks of the course": False, "networks of the sources, trained anew": True}
    for label, retold in kinds.items():
        some = [point for point in ours if point.retold == retold]
        errors = [100 - point.mean for point in some]
        reach = [[max(p.accuracies) - p.mean for p in some], [p.mean - min(p.accuracies) for p in some]]
        style = {"fmt": "o", "color": "#7f7f7f" if retold else "#1f77b4", "capsize": 3}
        axis.errorbar([point.parameters for point in some], errors, yerr=reach, label=f"{label}: mean, range", **style)
    places = [point.parameters for point in published], [100 - point.mean for point in published]
    axis.plot(*places, "x", color="#d95f02", label="published, single runs")
    ticks = {100 - accuracy: f"{accuracy:.1f}" for accuracy in (98.8, 99.0, 99.2, 99.4, 99.5, 99.6)}
    for error in ticks:
        axis.axhline(error, color="gray", linestyle=":", linewidth=0.6)
    axis.set(xlabel="parameters", ylabel="test accuracy in per cent", xscale="log", yscale="log", xlim=(400, 3e6))
    axis.set_yticks(list(ticks), ticks.values())
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    axis.invert_yaxis()
    axis.legend(loc="lower right")
    _name_points(axis, ours, published)
    return figure


def _name_points(axis: Axes, ours: list, published: list) -> None:
    """Write each network's name beside its point, at the first place where it covers no point, bar or other name."""
    axis.figure.canvas.draw()  # places on the page are known from now on
    renderer = axis.figure.canvas.get_renderer()
    taken = []
    for point in (*ours, *published):
        reach = 100 - max(point.accuracies), 100 - min(point.accuracies)
        (x, top), (_, bottom) = (axis.transData.transform((point.parameters, error)) for error in reach)
        taken.append(Bbox.from_extents(x - 4, bottom - 4, x + 4, top + 4))
    for point in ours:
        place = point.parameters, 100 - point.mean
        line = {"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        style = {"textcoords": "offset points", "fontsize": "x-small", "arrowprops": line}
        name = axis.annotate(point.whose, place, (0, 0), **style)
        for height, side in itertools.product((-3, 6, -12, 15, 24, 33, 42, -21, -30), (7, -7)):
            name.set(position=(side, height), ha="left" if side > 0 else "right")
            name.update_positions(renderer)
            box = Text.get_window_extent(name, renderer)  # without the line
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
