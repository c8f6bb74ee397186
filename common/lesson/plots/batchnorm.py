"""Figures of S6 part 2, step 1: a layer's values before and after BatchNorm, and the epochs that people report."""

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure
from torch import Tensor

from common.lesson.plots.style import plt

MARKS = (  # marker, its size, its edge and its face; several may lie on one point
    ("s", 11, "#d95f02", "none"),
    ("o", 15, "black", "none"),
    ("^", 7, "#7570b3", "#7570b3"),
    ("*", 10, "#1b9e77", "#1b9e77"),
)


def histograms(before: Tensor, after: Tensor, channels: list[int]) -> Figure:
    """How the values of some channels are spread before a layer (upper row) and after it (lower row).

    `before` and `after` are [N, channels, height, width]. Each row has one scale; its line is the channel's mean, and
    the band reaches one standard deviation to either side.
    """
    figure, axes = plt.subplots(2, len(channels), figsize=(2.5 * len(channels), 4.4), sharex="row", sharey=True)
    for row, (values, name) in enumerate(((before, "before"), (after, "after"))):
        chosen = values.detach().float().cpu()[:, channels].transpose(0, 1).flatten(1).numpy()
        bins = np.linspace(*np.quantile(chosen, (0, 0.999)), 41)
        for axis, channel, some in zip(axes[row], channels, chosen, strict=True):
            mean, deviation = some.mean(), some.std()
            axis.axvspan(mean - deviation, mean + deviation, color="#fbd9bd", zorder=0)
            axis.hist(some, bins, weights=np.full(len(some), 100 / len(some)), color="#1f77b4", log=True)
            axis.axvline(mean, color="#d95f02")
            title = f"{name}, channel {channel}\nmean {round(float(mean), 2) + 0.0:.2f}, deviation {deviation:.2f}"
            axis.set_title(title, fontsize="small")
            axis.set_xlabel("value", fontsize="small")
            axis.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axes[row, 0].set_ylabel("share of the values, in %", fontsize="small")
    return figure


def picked_epochs(
    tested: dict[int, list[float]],
    validated: dict[int, list[float]],
    picks: dict[int, dict[str, int | None]],
    lowest: float,
) -> Figure:
    """The test accuracy of each seed over the epochs, in a panel of its own, and the epochs that were picked on it.

    `tested` and `validated` have an accuracy in per cent for each epoch, by seed; `picks` the number of an epoch by the
    name of the rule that picked it, or None, for up to four rules. All panels share their axes, which begin at `lowest`
    per cent.
    """
    highest = max(max(values) for side in (tested, validated) for values in side.values()) + 0.04
    size = (3.6 * len(tested), 3.9)
    figure, axes = plt.subplots(1, len(tested), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axis, (seed, accuracies) in zip(axes.flat, tested.items(), strict=True):
        for values, color, line, name in (
            (validated[seed], "#1b9e77", "--", "validation accuracy"),
            (accuracies, "#1f77b4", "-", "test accuracy"),
        ):
            axis.plot(range(1, 1 + len(values)), values, line, color=color, linewidth=1.2, label=name)
        for (rule, epoch), (mark, points, edge, face) in zip(picks[seed].items(), MARKS, strict=False):
            place = ([epoch], [accuracies[epoch - 1]]) if epoch else ([], [])
            axis.plot(*place, mark, markersize=points, markeredgecolor=edge, markerfacecolor=face, label=rule)
        axis.set(title=f"seed {seed}", xlabel="epoch", ylim=(lowest, highest))
        axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        axis.grid(axis="y", color="0.9")
    axes[0, 0].set_ylabel("accuracy in %")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, fontsize="small")
    return figure
