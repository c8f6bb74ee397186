"""Curves: loss and errors over the epochs."""

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
