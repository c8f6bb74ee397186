"""Figures of how a network does away from its test images: changed digits, and how sure it is of its answers."""

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from common.lesson.plots.style import plt
from common.records.comparison import wilson


def accuracy_curves(changes: dict[str, dict[str, dict[float, tuple[int, int]]]]) -> Figure:
    """A panel for each change, and in it a line for each network: accuracy against the size of the change.

    `changes[change][network]` holds for each size how many images were right, out of how many. The bands are 95 %
    intervals.
    """
    columns = min(2, len(changes))
    rows = -(-len(changes) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 3 * rows + 0.4), squeeze=False, sharey=True)
    for axis, (change, networks) in zip(axes.flat, changes.items(), strict=False):
        for network, counts in networks.items():
            sizes = sorted(counts)
            low, high = zip(*(wilson(*counts[size]) for size in sizes), strict=True)
            (line,) = axis.plot(sizes, [100 * counts[size][0] / counts[size][1] for size in sizes], "o-", markersize=3)
            line.set_label(network)
            axis.fill_between(sizes, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axis.set(xlabel=change, ylim=(0, 102))
    for axis in axes[:, 0]:
        axis.set_ylabel("read correctly in %")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def reliability(answers: dict[str, tuple[Tensor, Tensor]], bins: int = 10) -> Figure:
    """A reliability diagram for each set of answers: how often they are right, against how sure the network was.

    `answers[name]` holds the probability of each answer [N], and whether it is right [N]. The answers are put into
    `bins` of equal width by their probability. A bar is as high as the share of a bin that is right, with the bin's
    number of answers above it. On the dotted line both would be equal.
    """
    figure, axes = plt.subplots(1, len(answers), figsize=(3.6 * len(answers), 3.4), squeeze=False, sharey=True)
    edges = np.linspace(0, 1, bins + 1)
    for axis, (name, (probabilities, right)) in zip(axes[0], answers.items(), strict=True):
        inside = np.clip((probabilities.numpy() * bins).astype(int), 0, bins - 1)
        for one in np.unique(inside):
            share = 100 * right.numpy()[inside == one].mean()
            axis.bar(100 * edges[one], share, width=100 / bins, align="edge", color="#9ecae1", edgecolor="white")
            place = (100 * (edges[one] + edges[one + 1]) / 2, share)
            axis.annotate(f"{(inside == one).sum():,}", place, ha="center", va="bottom", fontsize="x-small")
        axis.plot([0, 100], [0, 100], color="black", linestyle=":")
        axis.set(title=name, xlabel="probability of the answer in %", xlim=(0, 100), ylim=(0, 108))
    axes[0][0].set_ylabel("right answers in %")
    return figure
