"""Drawings of networks: their layers, what one output sees, and a small network neuron by neuron."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from common.lesson.plots.style import plt
from common.models.anatomy import Layer


def network(rows: list[Layer], input_shape: tuple[int, ...] = (1, 28, 28)) -> Figure:
    """The network as a row of blocks, from the image to the ten outputs; `rows` come from `models.layer_rows`.

    A block is as high as its map, in pixels, and as wide as the square root of its number of channels. Outputs without
    height are drawn as thin bars.
    """
    names, shapes = ["image", *(row.name for row in rows)], [input_shape, *(row.shape for row in rows)]
    counts = [None, *(row.parameters for row in rows)]
    figure, axis = plt.subplots(figsize=(max(7.0, 0.95 * len(names)), 2.9))
    left = 0.0
    for name, shape, parameters in zip(names, shapes, counts, strict=True):
        channels, height = (shape[0], shape[1]) if len(shape) == 3 else (1, 28 * min(1, shape[0] / 50))
        width = 1.0 + 0.6 * channels**0.5
        color = "#dddddd" if parameters is None else "#9ecae1" if parameters else "#fdd0a2"
        axis.add_patch(Rectangle((left, -height / 2), width, height, facecolor=color, edgecolor="gray", linewidth=0.8))
        axis.text(left + width / 2, 16, name.replace("-", "\n"), ha="center", va="bottom", fontsize="x-small")
        text = "x".join(map(str, shape)) + (f"\n{parameters:,}" if parameters else "")
        axis.text(left + width / 2, -16, text, ha="center", va="top", fontsize="x-small")
        left += max(width, 4.2) + 2.2
    axis.set(xlim=(-2, left), ylim=(-25, 25))
    axis.set_axis_off()
    return figure


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
