"""Pictures of digits, and of what a network reads in them."""

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from common.lesson.plots.style import plt


def grid(
    images: Tensor, captions: list[str], columns: int = 6, title: str = "", places: int = 1, ink: float | None = None
) -> Figure:
    """Images [N, 28, 28] or [N, 1, 28, 28] with their captions, dark ink on white, `columns` in a row.

    The grid has room for at least `places` images, also where there are fewer. Each image is drawn from white, its
    least value, to black, its largest; with `ink` from 0 to that value, so that pale ink looks pale.
    """
    rows = -(-max(places, len(images)) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.45 * columns, 1.7 * rows + 0.3 * bool(title)), squeeze=False)
    figure.suptitle(title)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        axis.imshow(image.reshape(28, 28).cpu().numpy(), vmin=None if ink is None else 0, vmax=ink)
        axis.set_title(caption, fontsize="small")
    return figure


def pictures(shown: list, captions: list[str], columns: int = 6, title: str = "") -> Figure:
    """Pictures of any sizes, each [height, width], or [height, width, 3] in colour, with their captions.

    Bytes are drawn from 0, black, to 255, white; other numbers from 0 to 1.
    """
    rows = -(-len(shown) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.6 * columns, 1.85 * rows + 0.3 * bool(title)), squeeze=False)
    figure.suptitle(title)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, picture, caption in zip(axes.flat, map(np.asarray, shown), captions, strict=False):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=255 if picture.dtype == np.uint8 else 1)
        axis.set_title(caption, fontsize="small")
    return figure


def mistakes(images: Tensor, labels: Tensor, log_probabilities: Tensor, count: int = 12) -> Figure:
    """The misread images on which the network was surest, each with its label, what was read, and how probable.

    `log_probabilities` is [N, classes]. There is always room for `count` images, so that a lesson's figure has the
    same size in every run.
    """
    confidence, predictions = log_probabilities.exp().max(dim=1)
    wrong = (predictions != labels).nonzero().flatten()
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)][:count]
    captions = [f"{labels[i]} as {predictions[i]}, {percent(float(confidence[i]))}" for i in worst]
    return grid(images[worst], captions, title="surest mistakes", places=count)


def confusion(labels: Tensor, predictions: Tensor) -> Figure:
    """The confusion matrix: a row for what a digit is, a column for what it was read as.

    The diagonal, thousands of correct answers, is left blank. `labels` and `predictions` are [N], from 0 to 9.
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels.cpu(), predictions.cpu(), labels=range(10))
    np.fill_diagonal(counts, 0)
    figure, axis = plt.subplots(figsize=(5, 4.6))
    axis.imshow(counts, cmap="Oranges")
    for row, column in zip(*counts.nonzero(), strict=True):
        dark = counts[row, column] > counts.max() / 2
        axis.text(column, row, counts[row, column], ha="center", va="center", color="white" if dark else "black")
    axis.set(title="mistakes", xlabel="read as", ylabel="is", xticks=range(10), yticks=range(10))
    return figure


def percent(probability: float) -> str:
    """A probability in per cent, as many digits as it needs: what rounds to 100 % is not yet certain."""
    if probability > 0.999:
        return ">99.9 %"
    return f"{100 * probability:.{1 if probability > 0.99 else 0}f} %"


def probabilities(image: Tensor, log_probabilities: Tensor, label: int | None = None) -> Figure:
    """A digit [28, 28] beside the ten probabilities that a network gives it; `log_probabilities` is [10].

    The bar of the label, where there is one, has the accent colour.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.4, 2.4), width_ratios=(1, 2.2))
    left.imshow(image.reshape(28, 28).cpu().numpy())
    left.set_axis_off()
    values = log_probabilities.exp().cpu().numpy()
    right.bar(range(10), 100 * values, color=["#d95f02" if digit == label else "#1f77b4" for digit in range(10)])
    right.set(xticks=range(10), xlabel="digit", ylabel="probability in %", ylim=(0, 112))
    best = int(values.argmax())
    right.annotate(percent(float(values[best])), (best, 100 * values[best]), ha="center", va="bottom")
    return figure
