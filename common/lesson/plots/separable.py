"""Figures of separable convolutions: the two layers as a diagram, kernels as a table, activations and their slopes."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from common.lesson.plots.style import plt

COLORS = ("#1f77b4", "#d95f02", "#7570b3", "#1b9e77", "#8c6d31", "#7f7f7f")


def split_convolution(inputs: int = 3, outputs: int = 4) -> Figure:
    """A dense 3x3 convolution beside a separable one, as maps and lines; a small 3x3 grid on a line is a kernel."""
    figure, (dense, split) = plt.subplots(1, 2, figsize=(10, 3.7), width_ratios=(6, 7.6))
    before, behind = _places(inputs), _places(outputs)
    for index, (color, low) in enumerate(zip(COLORS, before, strict=False)):
        share = 0.3 + 0.13 * index
        _line(split, (0, low), (2.4, low), color)
        _kernel(split, 1.2, low, color)
        for high in behind:
            _line(dense, (0, low), (5, high), color)
            _kernel(dense, 5 * share, low + share * (high - low), color)
            _line(split, (2.4, low), (6.6, high), color)
            split.plot(2.4 + 4.2 * share, low + share * (high - low), "o", color=color, markersize=5)
        for axis, x in ((dense, 0), (split, 0), (split, 2.4)):
            _map(axis, x, low, color)
    for high in behind:
        _map(dense, 5, high, "#444444")
        _map(split, 6.6, high, "#444444")
    both = inputs * outputs
    dense.set_title(f"dense: a kernel for each line\n{inputs} x {outputs} x 9 = {9 * both} weights")
    total = f"{inputs} x 9 + {inputs} x {outputs} = {9 * inputs + both} weights"
    split.set_title(f"separable: depthwise, then pointwise\n{total}")
    for x, text in ((1.2, "a kernel for\neach channel"), (4.5, "one number\nfor each dot")):
        split.text(x, -2.1, text, ha="center", va="top", fontsize="small")
    for axis, right in ((dense, 5), (split, 6.6)):
        axis.set(xlim=(-0.5, right + 0.5), ylim=(-3, 2.5), aspect="equal")
        axis.set_axis_off()
    return figure


def kernel_tables(tables: dict[str, Tensor]) -> Figure:
    """A panel for each name: kernels [outputs, inputs, rows, columns] as a table, a row for each output.

    All have one scale; red is above zero, blue below.
    """
    figure = plt.figure(figsize=(3.1 * len(tables), 3.7))
    limit = max(float(kernels.abs().max()) for kernels in tables.values())
    for panel, (name, kernels) in zip(figure.subfigures(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        panel.suptitle(name, fontsize="medium")
        outputs, inputs = kernels.shape[:2]
        axes = panel.subplots(outputs, inputs, squeeze=False)
        for row in range(outputs):
            for column in range(inputs):
                axis = axes[row][column]
                axis.imshow(kernels[row, column].numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set(visible=True, color="#bbbbbb", linewidth=0.6)
            axes[row][0].set_ylabel(f"output {row + 1}", fontsize="x-small")
        for column in range(inputs):
            axes[0][column].set_title(f"input {column + 1}", fontsize="x-small")
    return figure


def slopes(points: Tensor, functions: dict[str, tuple[Tensor, Tensor]]) -> Figure:
    """Functions on the left, their slopes on the right; `functions` has (values, slopes) at the points."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    for name, (values, steepness) in functions.items():
        left.plot(points, values, label=name)
        right.plot(points, steepness, label=name)
    left.set(title="what comes out", xlabel="x")
    right.set(title="the slope: what the gradient is multiplied by", xlabel="x")
    for axis in (left, right):
        axis.axhline(0, color="gray", linewidth=0.6)
        axis.axvline(0, color="gray", linewidth=0.6)
    left.legend()
    return figure


def _places(count: int) -> list[float]:
    """Heights of so many maps, spread around 0."""
    return [1.25 * ((count - 1) / 2 - index) for index in range(count)]


def _map(axis: Axes, x: float, y: float, color: str) -> None:
    axis.add_patch(Rectangle((x - 0.4, y - 0.4), 0.8, 0.8, facecolor="white", edgecolor=color, linewidth=2, zorder=3))


def _line(axis: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    axis.plot(*zip(start, end, strict=True), color=color, linewidth=1, alpha=0.7, zorder=1)


def _kernel(axis: Axes, x: float, y: float, color: str, side: float = 0.11) -> None:
    for row in range(3):
        for column in range(3):
            corner = (x + (column - 1.5) * side, y + (row - 1.5) * side)
            axis.add_patch(Rectangle(corner, side, side, facecolor="white", edgecolor=color, linewidth=0.8, zorder=2))
