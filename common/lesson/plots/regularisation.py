"""Figures of S8 step 2: what Dropout drops, and how far a step moves a kernel."""

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from common.lesson.plots.style import plt


def masked_maps(maps: Tensor, masks: dict[str, Tensor]) -> Figure:
    """The maps [channels, height, width] in a row for each mask of the same shape; what is dropped is orange."""
    figure, axes = plt.subplots(
        len(masks), len(maps), figsize=(1.35 * len(maps), 1.5 * len(masks) + 0.2), squeeze=False
    )
    for number, (row, (name, mask)) in enumerate(zip(axes, masks.items(), strict=True)):
        for channel, axis in enumerate(row):
            axis.imshow(maps[channel].cpu().numpy())
            dropped = np.ma.masked_equal((mask[channel] == 0).cpu().numpy(), False)
            axis.imshow(dropped, cmap=ListedColormap(["#d95f02"]), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            if number == 0:
                axis.set_title(f"channel {channel}", fontsize="small")
        row[0].set_ylabel(name)
    return figure


def kernel_steps(walks: dict[str, tuple[list[float], list[float]]]) -> Figure:
    """Over the steps of a run: the length of a kernel, and the update-to-weight ratio of each step.

    `walks` has both lists by the name of the run.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.3))
    for name, (lengths, ratios) in walks.items():
        left.plot(lengths, label=name)
        right.plot(ratios, linewidth=1, label=name)
    left.set(xlabel="step", ylabel="length of the kernel", ylim=(0, None))
    right.set(xlabel="step", ylabel="length of the step / length of the kernel", yscale="log")
    left.legend()
    return figure
