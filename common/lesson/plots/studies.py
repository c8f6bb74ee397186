"""Figures of measurements: the ladder of speed, and accuracy against parameters."""

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from common.lesson.plots.style import plt


def ladder(names: list[str], seconds: list[list[float]], limit: float) -> Figure:
    """An ablation ladder of speed: a bar for each rung, the median of its seconds an epoch.

    The gray line on a bar goes from minimum to maximum. The dotted line is the roofline limit of the machine, in
    seconds.
    """
    middle = [float(np.median(values)) for values in seconds]
    spread = [[m - min(values) for m, values in zip(middle, seconds, strict=True)]]
    spread += [[max(values) - m for m, values in zip(middle, seconds, strict=True)]]
    figure, axis = plt.subplots(figsize=(9, 0.45 * len(names) + 1))
    axis.barh(names, middle, xerr=spread, color="#1f77b4", ecolor="gray")
    axis.axvline(limit, color="gray", linestyle=":", label=f"least possible here: {limit:.1f} s")
    for row, value in enumerate(middle):
        axis.annotate(f" {value:.1f}", (max(seconds[row]), row), va="center")
    axis.set(xlabel="seconds an epoch of 60,000 images", xlim=(0, 1.15 * max(map(max, seconds))))
    axis.invert_yaxis()
    axis.legend(loc="lower right")
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
    for point in ours:
        place = (point.parameters, 100 - point.mean)
        crossed = any(  # a published cross stands where the name would be
            0.5 < other.parameters / point.parameters <= 1 and abs(other.mean - point.mean) < 0.03
            for other in published
        )
        on_the_right = crossed or point.retold or point.parameters > 10_000  # the others have room on the left
        side = {"ha": "left", "xytext": (6, -3)} if on_the_right else {"ha": "right", "xytext": (-6, -3)}
        axis.annotate(point.whose, place, textcoords="offset points", fontsize="x-small", **side)
    ticks = {100 - accuracy: f"{accuracy:.1f}" for accuracy in (98.8, 99.0, 99.2, 99.4, 99.5, 99.6)}
    for error in ticks:
        axis.axhline(error, color="gray", linestyle=":", linewidth=0.6)
    axis.set(xlabel="parameters", ylabel="test accuracy in per cent", xscale="log", yscale="log", xlim=(400, 3e6))
    axis.set_yticks(list(ticks), ticks.values())
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    axis.invert_yaxis()
    axis.legend(loc="lower right")
    return figure
