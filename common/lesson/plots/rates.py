"""Figures of S8 step 1: the learning rate over a run, spreads in a network, ways down a valley, averaged weights."""

import numpy as np
from matplotlib import ticker
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

from common.lesson.plots.style import plt


def effective_rates(rates: dict[str, tuple[float, list[float]]]) -> Figure:
    """The effective learning rate over the epochs, a curve for each recipe.

    `rates` has for each name the number of epochs and the effective rate of every step.
    """
    figure, axis = plt.subplots(figsize=(8, 3.2))
    for name, (epochs, values) in rates.items():
        axis.plot(np.arange(len(values)) * epochs / len(values), values, label=name)
    axis.set(xlabel="epochs", ylabel="effective rate: rate / (1 - momentum)", ylim=(0, None))
    axis.legend()
    return figure


def swings(walks: dict[str, list[float]], first: int = 8) -> Figure:
    """Ways down the valley w²/2: the `first` places of each on the curve, and all of them over the steps.

    `walks` has the places w, step by step, by the name of the way. The places of each way on the curve are drawn a
    little above those of the one before, so that none is hidden.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), width_ratios=(1, 1.4))
    reach = 1.05 * max(abs(place) for walk in walks.values() for place in walk)
    line = np.linspace(-reach, reach, 101)
    left.plot(line, line**2 / 2, color="gray", linewidth=1)
    for number, (name, walk) in enumerate(walks.items()):
        some = np.array(walk[: first + 1])
        left.plot(some, some**2 / 2 + 0.02 * number, "o", markersize=5, label=name)
        for step in range(1, 4):
            place = (some[step], some[step] ** 2 / 2)
            offset = (6, 8) if number else (6, -11)
            left.annotate(f"{step}", place, textcoords="offset points", xytext=offset, color=f"C{number}", size="small")
        right.plot(walk, marker="o", markersize=3, label=name)
    right.axhline(0, color="gray", linestyle=":")
    left.set(xlabel="w", ylabel="loss w²/2", title=f"the first {first} steps")
    right.set(xlabel="step", ylabel="w", title="more steps; the goal is 0")
    right.legend()
    return figure


def raw_and_averaged(panels: dict[str, tuple[list[int], list[float], list[float]]], ylabel: str) -> Figure:
    """A panel for each name: the accuracy of the weights and of their average over the epochs.

    Each panel has the epochs, then an accuracy in per cent for each: of the weights, and of their average. All panels
    share the upright axis. It is logarithmic in the errors: half of the mistakes is the same distance everywhere.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.4 * len(panels), 3.3), sharey=True, squeeze=False)
    for axis, (name, (epochs, raw, averaged)) in zip(axes[0], panels.items(), strict=True):
        for values, label in ((raw, "the weights"), (averaged, "their average")):
            errors = [max(100 - value, 0.01) for value in values]
            axis.plot(epochs, errors, marker="o", markersize=4, label=label)
        axis.set(title=name, xlabel="epoch", yscale="log")
        axis.grid(axis="y", color="0.9")
        axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    low, high = axes[0, 0].get_ylim()
    errors = [error for error in (90, 75, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1) if low < error < high]
    axes[0, 0].set_yticks(errors, [f"{100 - error:g}" for error in errors])
    axes[0, 0].yaxis.set_minor_locator(ticker.NullLocator())
    axes[0, 0].invert_yaxis()
    axes[0, 0].set_ylabel(ylabel)
    axes[0, -1].legend(loc="lower right")
    return figure


def spreads(panels: dict[str, list[Tensor]]) -> Figure:
    """A panel for each training: how far the values of each block spread, step by step.

    `panels` has for each name, block by block, the standard deviations of the channels [steps, channels]. A colour is
    the mean over the channels: white is 1, red more, blue less. Black is 0, or no number. All panels share one scale,
    from 1/32 to 32.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(3 * len(panels), 2.7), sharey=True, squeeze=False)
    colors, scale = plt.get_cmap("RdBu_r").with_extremes(bad="black"), LogNorm(1 / 32, 32)
    for axis, (name, blocks) in zip(axes[0], panels.items(), strict=True):
        means = np.ma.masked_invalid([block.float().mean(dim=1).tolist() for block in blocks])
        reach = (0.5, means.shape[1] + 0.5, len(blocks) + 0.5, 0.5)
        drawn = axis.imshow(means, cmap=colors, norm=scale, extent=reach, aspect="auto", interpolation="nearest")
        axis.set(title=name, xlabel="step", yticks=range(1, len(blocks) + 1))
    axes[0, 0].set_ylabel("block")
    bar = figure.colorbar(drawn, ax=axes, label="standard deviation (black: 0)", extend="both", aspect=20)
    bar.set_ticks([1 / 32, 1 / 8, 1 / 2, 2, 8, 32], labels=["1/32", "1/8", "1/2", "2", "8", "32"])
    bar.minorticks_off()
    return figure
