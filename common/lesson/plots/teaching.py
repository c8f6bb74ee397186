"""Figures of what a teacher says about a digit, at several temperatures."""

from matplotlib.figure import Figure
from torch import Tensor

from common.lesson.plots.images import percent
from common.lesson.plots.style import plt


def softened(image: Tensor, answers: dict[str, Tensor], label: int) -> Figure:
    """A digit [28, 28], and beside it a panel for each entry of `answers`: its ten probabilities as bars.

    The bar of the label has the accent colour.
    """
    figure, axes = plt.subplots(1, 1 + len(answers), figsize=(2 + 2.4 * len(answers), 2.5))
    axes[0].imshow(image.reshape(28, 28).cpu().numpy())
    axes[0].set_axis_off()
    axes[0].set_title(f"label {label}")
    for axis, (name, ten) in zip(axes[1:], answers.items(), strict=True):
        values = [float(value) for value in ten]
        axis.bar(range(10), [100 * value for value in values], color="#1f77b4")
        axis.patches[label].set_facecolor("#d95f02")
        best = max(range(10), key=values.__getitem__)
        axis.annotate(percent(values[best]), (best, 100 * values[best]), ha="center", va="bottom", fontsize="small")
        axis.set(title=name, xticks=range(10), xlabel="digit", ylim=(0, 115))
    axes[1].set_ylabel("probability in %")
    return figure
