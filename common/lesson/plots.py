"""The course's figures, in one style. Each function returns a figure; `show` displays it or writes it as PNG."""

import io
import os
from pathlib import Path

from common.models.anatomy import Layer
from common.system.errors import UserError
from common.system.files import write_atomically
from common.system.streams import in_notebook

try:
    import matplotlib
except ValueError:  # it reads the variable when it is imported
    raise UserError(
        f"MPLBACKEND must name a backend of matplotlib, such as agg, not {os.environ.get('MPLBACKEND')!r}; unset it."
    ) from None
import numpy as np
from matplotlib import pyplot as plt
from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

if not in_notebook():
    matplotlib.use("Agg")  # no window, so that a script also runs where there is no screen

STYLE = {
    "figure.dpi": 80,
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": "medium",
    "legend.frameon": False,
    "image.cmap": "gray_r",
    "axes.prop_cycle": matplotlib.cycler(color=["#1f77b4", "#d95f02", "#7570b3", "#1b9e77"]),
}
plt.rcParams.update(STYLE)


def show(figure: Figure, folder: Path, name: str) -> None:
    """In a notebook, display the figure; in a script, write it to `folder`/figures/`name`.png."""
    if in_notebook():
        plt.show()
    else:
        png = io.BytesIO()
        figure.savefig(png, format="png")
        write_atomically(Path(folder) / "figures" / f"{name}.png", png.getvalue())
    plt.close(figure)


def grid(images: Tensor, captions: list[str], columns: int = 6, title: str = "", places: int = 1) -> Figure:
    """Images [N, 28, 28] or [N, 1, 28, 28] with their captions, dark ink on white, `columns` in a row.

    The grid has room for at least `places` images, also where there are fewer.
    """
    rows = -(-max(places, len(images)) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.45 * columns, 1.7 * rows + 0.3 * bool(title)), squeeze=False)
    figure.suptitle(title)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        axis.imshow(image.reshape(28, 28).cpu().numpy())
        axis.set_title(caption, fontsize="small")
    return figure


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
    left.set(title="loss", xlabel="epoch", ylabel="negative log-likelihood", yscale="log")
    right.set(title="errors", xlabel="epoch", ylabel="per cent wrong", yscale="log")
    for axis in (left, right):
        axis.legend()
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.yaxis.set_minor_locator(ticker.NullLocator())
        axis.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    return figure


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


def mistakes(images: Tensor, labels: Tensor, log_probabilities: Tensor, count: int = 12) -> Figure:
    """The misread images on which the network was surest, each with its label, what was read, and how probable.

    `log_probabilities` is [N, classes]. There is always room for `count` images, so that a lesson's figure has the
    same size in every run.
    """
    confidence, predictions = log_probabilities.exp().max(dim=1)
    wrong = (predictions != labels).nonzero().flatten()
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)][:count]
    captions = [f"{labels[i]} as {predictions[i]}, {100 * confidence[i]:.0f} %" for i in worst]
    return grid(images[worst], captions, title="surest mistakes", places=count)


def receptive_fields(image: Tensor, rows: list[Layer]) -> Figure:
    """The receptive field of each layer, a square around the middle of the image [28, 28].

    `rows` come from `models.layer_rows`. A layer that does not widen the field is left out.
    """
    fields = [1, *(row.receptive_field for row in rows)]
    grown = [row for row, before in zip(rows, fields, strict=False) if row.receptive_field > before]
    figure, axis = plt.subplots(figsize=(6.4, 4.6))
    axis.imshow(image.reshape(28, 28).cpu().numpy(), extent=(0, 28, 28, 0), alpha=0.6)
    for row, color in zip(grown, plt.colormaps["viridis"](np.linspace(0, 0.9, len(grown))), strict=True):
        side = row.receptive_field
        corner = (14 - side / 2, 14 - side / 2)
        label = f"{row.name}: {side}x{side}"
        axis.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=color, linewidth=2, label=label))
    reach = max(28, grown[-1].receptive_field) / 2 + 0.5
    axis.set(xlim=(14 - reach, 14 + reach), ylim=(14 + reach, 14 - reach), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), title="one output sees")
    return figure


def neurons(layers: list[list[str]], connections: list[dict[tuple[int, int], str]]) -> Figure:
    """A small network: a column of circles for each layer, from left to right, and its labelled connections.

    `connections[k]` maps (from, to), neurons of layer k and k + 1 counted from the top, to the label of the line.
    """
    figure, axis = plt.subplots(figsize=(2.6 * len(layers), 3))
    for column, pairs in enumerate(connections):
        for (source, target), label in pairs.items():
            axis.plot([column, column + 1], [-source, -target], color="gray", linewidth=1, zorder=1)
            share = 0.3 if source != target else 0.5  # of the way: where lines cross, two labels would meet
            place = (column + share, -source - share * (target - source))
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            axis.text(*place, label, ha="center", va="center", fontsize="small", bbox=box)
    for column, names in enumerate(layers):
        axis.scatter([column] * len(names), [-row for row in range(len(names))], s=2600, color="#dce9f5", zorder=2)
        for row, name in enumerate(names):
            axis.text(column, -row, name, ha="center", va="center", fontsize="small")
    axis.set(xlim=(-0.35, len(layers) - 0.65), ylim=(0.6 - max(map(len, layers)), 0.4))
    axis.set_axis_off()
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
