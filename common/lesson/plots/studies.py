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
    ticks = {100 - accuracy: f"{accuracy:.1f}" for accuracy in (98.0, 98.5, 99.0, 99.2, 99.4, 99.5, 99.6)}
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


def schedules(plans: dict[str, list[tuple[int, float, float]]], unit: str, seconds: float) -> Figure:
    """For each plan a row of machines over time, with a bar for each run: triples of machine, begin and end in seconds.

    The axis is in `unit`, which has so many `seconds`. The last run to end is drawn in another colour.
    """
    figure, axes = plt.subplots(len(plans), 1, figsize=(9, 1.6 * len(plans)), sharex=True, squeeze=False)
    for axis, (title, plan) in zip(axes.flat, plans.items(), strict=True):
        last = max(end for _, _, end in plan)
        for machine, begin, end in plan:
            style = {"color": "#d95f02" if end == last else "#1f77b4", "edgecolor": "white"}
            axis.barh(machine, (end - begin) / seconds, left=begin / seconds, **style)
        machines = sorted({machine for machine, _, _ in plan})
        axis.set(title=f"{title}: done after {last / seconds:.0f} {unit}", yticks=machines)
        axis.set_yticks(machines, [f"machine {machine + 1}" for machine in machines])
        axis.invert_yaxis()
    axes[-1, 0].set_xlabel(unit)
    return figure


def cost_fit(measured: dict, cost) -> Figure:
    """What `common.experiments.scaling` measured, as dots, and its fitted `Cost`, as lines; all axes logarithmic.

    Left: seconds of a step of one process, by images. Right: seconds of an all-reduce between two, by bytes.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    for axis, points, line, name in (
        (left, measured["one process"], cost.compute, "images in a step of one process"),
        (right, measured["all-reduce"]["2"], lambda size: cost.all_reduce(size, 2), "bytes between two processes"),
    ):
        places = np.array([float(place) for place in points])
        axis.plot(places, [1e3 * seconds for seconds in points.values()], "o", label="measured")
        fine = np.geomspace(places.min(), places.max(), 100)
        axis.plot(fine, 1e3 * line(fine), color="#d95f02", label="the model")
        axis.set(xlabel=name, ylabel="milliseconds", xscale="log", yscale="log")
        axis.legend()
    left.set_title("computing")
    right.set_title("the all-reduce")
    return figure


def speedups(faster: dict[str, dict[int, float]]) -> Figure:
    """For each curve: how many times as fast as one process, by the number of processes. Dotted: one for one."""
    figure, axis = plt.subplots(figsize=(7, 3.5))
    most = max(max(curve.values()) for curve in faster.values())
    for name, curve in faster.items():
        axis.plot(list(curve), list(curve.values()), "o-", label=name)
    counts = sorted({count for curve in faster.values() for count in curve})
    ideal = [count for count in counts if count <= 2 * most]
    axis.plot(ideal, ideal, ":", color="gray", label="as many times as processes")
    axis.set(xlabel="processes, each with a core of its own", ylabel="times as fast", xscale="log", yscale="log")
    axis.set_xticks(counts, [str(count) for count in counts])
    axis.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.xaxis.set_minor_locator(ticker.NullLocator())
    axis.legend()
    return figure
