"""Figures of runs that differ in their seed: what a comparison paired by seed is made of."""

from matplotlib.figure import Figure

from common.lesson.plots.style import plt


def paired_dots(rows: dict[str, tuple[list[float], float, float]], xlabel: str) -> Figure:
    """A line for each comparison (differences, low, high): a ring for each seed, a dot for the mean, its interval.

    The line at 0 is where two equal sides would lie.
    """
    figure, axis = plt.subplots(figsize=(8, 0.6 * len(rows) + 1.2))
    axis.axvline(0, color="gray", linestyle=":")
    for row, (differences, low, high) in enumerate(rows.values()):
        axis.plot([low, high], [row, row], color="#1f77b4", linewidth=2, label="" if row else "95 % interval")
        mean = sum(differences) / len(differences)
        axis.plot(mean, row, "o", color="#1f77b4", label="" if row else "mean")
        rings = {"markersize": 7, "markerfacecolor": "none", "color": "#d95f02", "linestyle": "none"}
        axis.plot(differences, [row - 0.22] * len(differences), marker="o", label="" if row else "one seed", **rings)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.set(xlabel=xlabel, ylim=(len(rows) - 0.5, -0.6))
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
