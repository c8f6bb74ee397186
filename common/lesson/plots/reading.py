"""A page of handwritten digits: each step from the photo to what the network sees, and what it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from common.lesson.plots.images import percent
from common.lesson.plots.style import plt

if TYPE_CHECKING:  # scikit-image takes half a second to import
    from common.data.images import PreparedDigit


def preparation(digits: list[PreparedDigit], probabilities: Tensor, title: str = "") -> Figure:
    """A row for each digit: its steps, then its ten probabilities as bars; `probabilities` is [N, 10], at least one."""
    names = list(digits[0].steps)
    columns = len(names) + 1
    figure, axes = plt.subplots(
        len(digits),
        columns,
        figsize=(1.5 * columns + 1.3, 1.55 * len(digits) + 0.4),
        width_ratios=[1] * len(names) + [1.8],
        squeeze=False,
    )
    figure.suptitle(title.replace("$", r"\$"), fontsize="medium")
    for row, digit, values in zip(axes, digits, probabilities, strict=True):
        for axis, (name, step) in zip(row, digit.steps.items(), strict=False):
            on_paper = name == "grey"  # the only one in which dark is dark
            axis.imshow(np.asarray(step, dtype=float), cmap="gray" if on_paper else "gray_r")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(visible=True, color="lightgray")  # where in 28x28 a digit lies is a part of its form
        best = int(values.argmax())
        row[-1].bar(range(10), 100 * values.numpy())
        row[-1].set(xticks=range(10), ylim=(0, 125), yticks=(0, 50, 100))
        row[-1].annotate(percent(float(values[best])), (best, 100 * float(values[best])), ha="center", va="bottom")
    for axis, name in zip(axes[0], [*names, "probability in %"], strict=True):
        axis.set_title(name, fontsize="small")
    axes[-1][-1].set_xlabel("digit")
    return figure
