"""Curves: loss and errors over the epochs, the error over the steps."""

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from common.lesson.plots.style import plt


def curves(history: list[dict], bound: float | None = None) -> Figure:
    """Loss and error rate over the epochs, for training and test.

    `history` has a row for each epoch, as `training.fit` returns it. `bound` is the target's accuracy in per cent, a
    dotted line.
    """
    epochs = [row["epoch"] for row in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    for part in ("train", "test"):
        left.plot(epochs, [row[f"{part}_loss"] for row in history], marker="o", markersize=3, label=part)
        errors = [100 * (1 - row[f"{part}_correct"] / row[f"{part}_total"]) for row in history]
        right.plot(epochs, errors, marker="o", markersize=3, label=part)
    if bound is not None:
        right.axhline(100 - bound, color="gray", linestyle=":", label=f"target {bound:g} %")
    left.set(title="loss", xlabel="epoch", ylabel="mean negative log-likelihood (nats)", yscale="log")
    right.set(title="errors", xlabel="epoch", ylabel="wrong images in %", yscale="log")
    for axis in (left, right):
        axis.legend()
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.yaxis.set_minor_locator(ticker.NullLocator())
        axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    return figure


def error_curves(errors: dict[float, list[float]], start: int, floor: float) -> Figure:
    """The error over the steps, a curve for each learning rate.

    The left panel has the first `start` steps. The right one has all, on a logarithmic axis, down to `floor`: what
    lies below is rounding.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    colors = plt.colormaps["viridis"](np.linspace(0, 0.9, len(errors)))
    for (rate, values), color in zip(errors.items(), colors, strict=True):
        left.plot(values[: start + 1], color=color, label=f"{rate:g}")
        right.plot([value if value >= floor else np.nan for value in values], color=color, label=f"{rate:g}")
    left.set(title=f"the first {start:,} steps", xlabel="step", ylabel="error", ylim=(0, None))
    right.set(title="on a logarithmic axis", xlabel="step", yscale="log")
    right.legend(title="learning rate", loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
