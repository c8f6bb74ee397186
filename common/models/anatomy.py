"""Tables that take a network apart: its layers, its true number of parameters, the receptive field of each layer."""

import contextlib
import copy
import io
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Layers that look at one pixel at a time and keep the shape: they change no receptive field and cost no multiply-adds.
POINTWISE = (nn.ReLU, nn.SiLU, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.LogSoftmax)


@dataclass(frozen=True)
class Layer:
    """One row of the receptive-field table; sizes in pixels of the layer's input, fields in pixels of the image."""

    name: str
    shape: tuple[int, ...]  # of one image's output, [channels, height, width] or [features]
    kernel: int
    stride: int
    jump: int  # distance in the image between the centres of two neighbouring outputs
    receptive_field: int  # side of the square of the image that one output can see, padding included
    centre: float  # of the first output's square, in pixels from the image's edge; that of the first pixel is 0.5
    parameters: int
    multiply_adds: int  # for one image


def count_parameters(network: nn.Module) -> int:
    """How many parameters the module holds, those included that `forward` never uses."""
    return sum(parameter.numel() for parameter in network.parameters())


def summary(network: nn.Module, input_shape: tuple[int, ...] = (1, 28, 28)) -> str:
    """torchsummary's table, under it the true number of parameters, and a warning when the two differ.

    torchsummary sends random images through the network and counts the layers that are called. A layer that is built
    and never called is missing from its table. It gets a copy of the network, because its forward pass would change
    BatchNorm's running mean and variance. `input_shape` is that of one image, [channels, height, width].
    """
    import torchsummary

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), torch.random.fork_rng(devices=[]), torch.no_grad():
        torchsummary.summary(copy.deepcopy(network).cpu(), input_shape, device="cpu")
    table = "\n".join(line.rstrip() for line in printed.getvalue().strip("\n").splitlines())
    counted = next(int(line.split(":")[1].replace(",", "")) for line in table.splitlines() if "Total params" in line)
    held = count_parameters(network)
    table += f"\nParameters that the module holds: {held:,}"
    if held != counted:
        table += (
            f"\n!!! torchsummary counts {counted:,}, the module holds {held:,}: "
            f"{held - counted:,} parameters sit in layers that forward() never calls, or calls more than once !!!"
        )
    return table


def layer_rows(network: nn.Module, input_shape: tuple[int, ...] = (1, 28, 28)) -> list[Layer]:
    """A row for each convolution, pooling and dense layer, in the order in which a forward pass meets them.

    A layer is called as in torchsummary's table, which numbers every layer that is called, ReLU and the like too.
    For a chain of layers, with r the receptive field, j the jump, k the kernel and s the stride:
    r_out = r_in + (k - 1) * j_in and j_out = j_in * s, from r = j = 1 at the image. With padding p the centre moves by
    ((k - 1) / 2 - p) * j_in, from 0.5 at the image
    (Araujo, Norris, Sim: "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019).
    Raises TypeError for a layer whose effect on the receptive field is not known here.
    """
    network = copy.deepcopy(network).cpu().eval()
    rows: list[Layer] = []
    field, jump, centre, flattened_reach, called = 1, 1, 0.5, 0, 0

    def count(*_) -> None:
        nonlocal called
        called += 1

    def add(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal field, jump, centre, flattened_reach
        side = inputs[0].shape[-1]
        if isinstance(module, nn.Flatten):
            flattened_reach = (side - 1) * jump  # a dense layer behind it sees from the first position to the last
        if isinstance(module, (*POINTWISE, nn.Flatten)):
            return
        kernel, stride, padding, fan_in = 1, 1, 0, 0  # fan_in: multiply-adds for one output value
        if isinstance(module, nn.Conv2d):
            kernel, stride, padding = module.kernel_size[0], module.stride[0], module.padding[0]
            fan_in = module.weight[0].numel()
            kernel_reach = module.dilation[0] * (kernel - 1)
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            kernel, stride, padding = module.kernel_size, module.stride, module.padding
            kernel_reach = kernel - 1
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            kernel = stride = side // output.shape[-1]
            kernel_reach = kernel - 1
        elif isinstance(module, nn.Linear):
            fan_in = module.in_features
            centre += flattened_reach / 2
            field, flattened_reach, kernel_reach = field + flattened_reach, 0, 0
        else:
            raise TypeError(f"anatomy.layer_rows does not know how {type(module).__name__} changes the receptive field")
        centre += (kernel_reach / 2 - padding) * jump
        field, jump = field + kernel_reach * jump, jump * stride
        rows.append(
            Layer(
                name=f"{type(module).__name__}-{called}",
                shape=tuple(output.shape[1:]),
                kernel=kernel,
                stride=stride,
                jump=jump,
                receptive_field=field,
                centre=centre,
                parameters=count_parameters(module),
                multiply_adds=output[0].numel() * fan_in,
            )
        )

    for module in network.modules():  # of a copy: nobody else meets these hooks
        if module is not network and not isinstance(module, nn.Sequential | nn.ModuleList):
            module.register_forward_hook(count)  # as torchsummary does
        if not list(module.children()):
            module.register_forward_hook(add)
    with torch.no_grad():
        network(torch.zeros(1, *input_shape))
    return rows


def layer_table(network: nn.Module, input_shape: tuple[int, ...] = (1, 28, 28)) -> str:
    """The rows of `layer_rows` as aligned text. The parameters of the other layers (BatchNorm) share one row."""
    rows = layer_rows(network, input_shape)
    lines = [
        f"{'layer':<14}{'output shape':>14}{'kernel':>8}{'stride':>8}{'jump':>6}"
        f"{'receptive field':>17}{'parameters':>12}{'multiply-adds':>15}"
    ]
    for row in rows:
        shape = "x".join(map(str, row.shape))
        field = f"{row.receptive_field}x{row.receptive_field}"
        lines.append(
            f"{row.name:<14}{shape:>14}{row.kernel:>8}{row.stride:>8}{row.jump:>6}"
            f"{field:>17}{row.parameters:>12,}{row.multiply_adds:>15,}"
        )
    held = count_parameters(network)
    lines.append(f"{'between them':<14}{'':>53}{held - sum(row.parameters for row in rows):>12,}")
    lines.append(f"{'total':<14}{'':>53}{held:>12,}{sum(row.multiply_adds for row in rows):>15,}")
    return "\n".join(lines)


def batchnorm_sizes(network: nn.Module) -> list[tuple[int, int]]:
    """For each BatchNorm its channels, and how many values of one image [1, 28, 28] it normalises in all of them."""
    sizes: list[tuple[int, int]] = []

    def note(layer: nn.Module, _inputs, output: Tensor) -> None:
        sizes.append((layer.num_features, output.numel()))

    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    hooks = [layer.register_forward_hook(note) for layer in norms]
    training, parameter = network.training, next(network.parameters())
    with torch.no_grad():  # in evaluation mode, which draws nothing and changes no running mean
        network.eval()(torch.zeros(1, 1, 28, 28, dtype=parameter.dtype, device=parameter.device))
    network.train(training)
    for hook in hooks:
        hook.remove()
    return sizes
