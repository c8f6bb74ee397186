"""The figure of paired comparisons: what each change added, seed by seed."""

from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from common.lesson.plots.style import plt
from common.records import comparison


def forest(rows: dict[str, Iterable[float]], xlabel: str, limit: float | None = None) -> Figure:
    """A row for each change: its paired differences as dots, their mean and 95 % interval as a line, and a line at 0.

    `rows` maps a name to its differences, the first row on top. The axis reaches to `limit` on either side of 0; where
    that is left out, as far as the farthest interval. So a single dot cannot squeeze all others: one that lies farther
    out is drawn at the edge as a triangle, with its value.
    """
    rows = {name: list(values) for name, values in rows.items()}
    means = {name: float(np.mean(values)) for name, values in rows.items()}
    reaches = {name: comparison.interval(values) for name, values in rows.items()}
    ends = [abs(end) for reach in reaches.values() for end in reach if np.isfinite(end)]
    limit = limit or 1.1 * max([*ends, 0.01])
    figure, axis = plt.subplots(figsize=(8, 0.44 * len(rows) + 1.0))
    axis.axvline(0, color="gray", linewidth=1, zorder=0)
    for row, (name, values) in enumerate(rows.items()):
        low, high = reaches[name]
        axis.plot(np.clip([low, high], -limit, limit), [row, row], color="#1f77b4", linewidth=2.4, zorder=1)
        axis.plot(np.clip(means[name], -limit, limit), row, "D", color="#1f77b4", markersize=6, zorder=3)
        inside = [value for value in values if abs(value) <= limit]
        axis.plot(inside, [row + 0.26] * len(inside), "o", color="#d95f02", markersize=4.5, alpha=0.6, zorder=2)
        for value in values:
            if abs(value) > limit:
                side = np.sign(value)
                axis.plot(side * limit, row + 0.26, ">" if side > 0 else "<", color="#d95f02", clip_on=False, zorder=2)
                place = {"xytext": (-7 * side, 0), "textcoords": "offset points", "va": "center"}
                horizontal = "right" if side > 0 else "left"
                axis.annotate(f"{value:+.2f}", (side * limit, row + 0.26), ha=horizontal, fontsize="x-small", **place)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set(xlabel=xlabel, xlim=(-limit, limit), ylim=(len(rows) - 0.4, -0.6))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.1f}" if abs(value) > 1e-9 else "0"))
    return figure
