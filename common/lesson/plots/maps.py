"""Pictures of what is inside of a network: kernels, feature maps, and maps of what speaks for a class."""

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from common.lesson.plots.style import plt
from common.models.anatomy import Layer


def maps(values: Tensor, captions: list[str], columns: int = 6, title: str = "", shared: bool = True) -> Figure:
    """Feature maps or kernels [N, height, width] with one colour bar: blue is negative, white 0, red positive.

    With `shared` all have one scale. Without it each has its own, the largest of its absolute values; the colour bar
    then says so.
    """
    values = values.detach().float().cpu()
    reach = values.abs().amax(dim=(1, 2)).clamp(min=1e-12)
    rows = -(-len(values) // columns)
    size = (1.3 * columns + 0.8, 1.5 * rows + 0.35 * bool(title))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    figure.suptitle(title)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, value, own, caption in zip(axes.flat, values, reach, captions, strict=False):
        limit = float(reach.max() if shared else own)
        drawn = axis.imshow(value.numpy() if shared else (value / limit).numpy(), cmap="RdBu_r")
        drawn.set_clim(*((-limit, limit) if shared else (-1, 1)))
        axis.set_title(caption, fontsize="small")
    label = "value" if shared else "value / largest absolute value of its own picture"
    figure.colorbar(drawn, ax=axes, label=label, shrink=0.9, aspect=30)
    return figure


def feature_maps(image: Tensor, values: Tensor, columns: int = 8, title: str = "", shared: bool = True) -> Figure:
    """A digit [28, 28] and a layer's maps of it, [channels, height, width], as `models.feature_maps` gives them.

    The digit comes first, drawn dark on white, then the maps with their numbers as in `maps`.
    """
    captions = ["the digit", *(str(number) for number in range(len(values)))]
    figure = maps(torch.cat([torch.zeros_like(values[:1]), values]), captions, columns, title, shared)
    first = figure.axes[0]
    first.images[0].remove()
    first.imshow(image.reshape(28, 28).cpu().numpy(), extent=first.get_xlim() + first.get_ylim())
    return figure


def kernels(convolution: nn.Conv2d, columns: int = 8, title: str = "", most: int = 64) -> Figure:
    """The learned kernels of a convolution, all with one colour scale: blue is negative, white 0, red positive.

    A kernel for each pair of an output and one of its inputs, captioned "output" where an output has one input, else
    "output, input". 1x1 kernels are one picture: a row for each output, a column for each input. At most `most`
    kernels are drawn, the first ones; the title then says of how many.
    """
    weight = convolution.weight.detach().cpu()  # [outputs, inputs of one output, height, width]
    outputs, inputs = weight.shape[:2]
    if weight.shape[2:] == (1, 1):
        return maps(weight[None, :, :, 0, 0], [f"{outputs} outputs x {inputs} inputs"], 1, title)
    pairs = [(output, one) for output in range(outputs) for one in range(inputs)][:most]
    captions = [str(output) if inputs == 1 else f"{output}, {one}" for output, one in pairs]
    if len(pairs) < outputs * inputs:
        title = f"{title} (the first {len(pairs)} of {outputs * inputs} kernels)".strip()
    return maps(torch.stack([weight[pair] for pair in pairs]), captions, columns, title)


def heatmaps(images: Tensor, values: Tensor, captions: list[str], layer: Layer, columns: int = 6) -> Figure:
    """Maps laid over their digits: what `models.grad_cam` or one class of `models.class_maps` says, cell by cell.

    `images` is [N, 28, 28], `values` [N, height, width]. `layer` is the row of `models.layer_rows` whose maps these
    are: each cell is drawn where the middle of what it sees lies, as wide as the distance to its neighbour. A grey
    frame is around all cells; those of a layer without padding do not reach to the margin. Each picture has its own
    scale, the largest of its absolute values: red speaks for the class, blue against it.
    """
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.5 * columns + 0.8, 1.75 * rows), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    height, width = values.shape[1:]
    first = layer.centre - layer.jump / 2
    extent = (first, first + width * layer.jump, first + height * layer.jump, first)
    for axis, image, value, caption in zip(axes.flat, images, values, captions, strict=False):
        axis.imshow(image.reshape(28, 28).cpu().numpy(), extent=(0, 28, 28, 0))
        own = (value / value.abs().max().clamp(min=1e-12)).cpu().numpy()
        drawn = axis.imshow(own, cmap="RdBu_r", vmin=-1, vmax=1, alpha=0.75 * abs(own), extent=extent)
        size = (width * layer.jump, height * layer.jump)
        axis.add_patch(Rectangle((first, first), *size, fill=False, edgecolor="gray", linewidth=0.6))
        axis.set(xlim=(0, 28), ylim=(28, 0))
        axis.set_title(caption, fontsize="small")
    if len(images):
        figure.colorbar(drawn, ax=axes, label="value / largest of its picture", shrink=0.9, aspect=20)
    return figure
