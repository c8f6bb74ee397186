"""The loops of `common.kernels` as functions of PyTorch, with their gradients: maps [C, H, W, N], float32, on a CPU."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from common import kernels as loops
from common import kernels_norm


class Convolution(torch.autograd.Function):
    """A convolution of maps [I, H, W, N] that have `padding` zeros around them, with kernels [O, I, 3, 3] or 1x1."""

    @staticmethod
    def forward(ctx, maps: Tensor, kernels: Tensor, bias: Tensor, padding: int) -> Tensor:
        """See the class."""
        maps = _with_border(maps, padding)
        ctx.save_for_backward(maps, kernels)
        ctx.padding = padding
        return _convolve(maps, kernels, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        """See `_convolution_gradients`."""
        maps, kernels = ctx.saved_tensors
        border = _border_of_gradient(ctx, kernels)
        gradient = gradient.contiguous()
        of_maps, of_kernels = _convolution_gradients(maps, kernels, _with_border(gradient, border), border)
        return of_maps, of_kernels, gradient.sum((1, 2, 3)), None


class Block(torch.autograd.Function):
    """A convolution as above, then ReLU, Dropout, BatchNorm and Dropout2d, by `common.kernels.normalise`."""

    @staticmethod
    def forward(ctx, maps, kernels, bias, weight, shift, norm: nn.BatchNorm2d, padding: int, dropout: tuple) -> Tensor:
        """BatchNorm's `weight` and `shift` are arguments for autograd's sake; `dropout` is two shares and a seed."""
        maps = _with_border(maps, padding)
        convolved = _convolve(maps, kernels, bias)
        out, mean, inverse = torch.empty_like(convolved), np.empty(len(weight)), np.empty(len(weight))
        before, parameters = _array(convolved), (_array(weight), _array(shift))
        kernels_norm.normalise(before, *parameters, mean, inverse, norm.eps, *dropout, _array(out))
        count = before[0].size
        variance = (inverse**-2.0 - norm.eps) * (count / (count - 1))
        for running, value in ((norm.running_mean, mean), (norm.running_var, variance)):
            array = running.numpy()
            array += norm.momentum * (value - array)
        norm.num_batches_tracked.add_(1)
        ctx.save_for_backward(maps, kernels, convolved, weight)
        ctx.padding, ctx.statistics, ctx.dropout = padding, (mean, inverse), dropout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        """See `common.kernels.normalise_gradient` and `_convolution_gradients`."""
        maps, kernels, convolved, weight = ctx.saved_tensors
        border, sums = _border_of_gradient(ctx, kernels), weight.new_empty(3, len(weight))
        channels, height, width, batch = convolved.shape
        before = weight.new_empty(channels, height + 2 * border, width + 2 * border, batch)
        arrays = _array(gradient.contiguous()), _array(convolved), _array(weight)
        kernels_norm.normalise_gradient(*arrays, *ctx.statistics, *ctx.dropout, border, _array(before), _array(sums))
        of_weight, of_shift, of_bias = sums
        return *_convolution_gradients(maps, kernels, before, border), of_bias, of_weight, of_shift, None, None, None


class Pool(torch.autograd.Function):
    """The largest of each 2x2 values of maps [C, H, W, N]; an odd last row or column is left out."""

    @staticmethod
    def forward(ctx, maps: Tensor) -> Tensor:
        """See the class."""
        channels, height, width, batch = ctx.shape = maps.shape
        out = maps.new_empty(channels, height // 2, width // 2, batch)
        index = torch.empty_like(out, dtype=torch.uint8)
        loops.pool(_array(maps), _array(out), _array(index))
        ctx.save_for_backward(index)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        """The gradient goes to the value that was the largest."""
        (index,), odd = ctx.saved_tensors, ctx.shape[1] % 2 or ctx.shape[2] % 2
        out = gradient.new_zeros(ctx.shape) if odd else gradient.new_empty(ctx.shape)
        loops.pool_gradient(_array(gradient.contiguous()), _array(index), _array(out))
        return out


def _convolve(maps: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
    """Maps [I, H, W, N], with their border, as new maps [O, H - 2, W - 2, N], or [O, H, W, N] by 1x1 kernels."""
    outputs, _, size, _ = kernels.shape
    out = maps.new_empty(outputs, maps.shape[1] - size + 1, maps.shape[2] - size + 1, maps.shape[3])
    if size == 1:  # one product of [O, I] and [I, H * W * N]
        torch.addmm(bias[:, None], kernels.flatten(1), maps.flatten(1), out=out.view(outputs, -1))
    else:
        loops.convolve(_array(maps), _array(kernels), _array(bias), _array(out))
    return out


def _border_of_gradient(ctx, kernels: Tensor) -> int:
    """How many zeros around the outputs' gradient let a convolution turn it into the inputs', if that is wanted."""
    return kernels.shape[2] - 1 - ctx.padding if ctx.needs_input_grad[0] else 0


def _convolution_gradients(maps: Tensor, kernels: Tensor, gradient: Tensor, border: int) -> tuple:
    """Of the maps without their border, and of the kernels, from the outputs' gradient with its border.

    The inputs' gradient is a convolution of the outputs', with kernels turned by half a turn. Without a border, 3x3
    kernels mean that nobody wants it.
    """
    if kernels.shape[2] == 1:
        columns = gradient.flatten(1)
        of_kernels = (columns @ maps.flatten(1).t()).view_as(kernels)
        return (kernels.flatten(1).t() @ columns).view_as(maps), of_kernels
    parts = kernels.new_empty(maps.shape[1] - 2, *kernels.shape)
    loops.kernel_gradient(_array(maps), _array(gradient), border, _array(parts))
    of_kernels = parts.sum(0)
    if not border:
        return None, of_kernels
    turned = kernels.flip(2, 3).transpose(0, 1).contiguous()
    return _convolve(gradient, turned, kernels.new_zeros(len(turned))), of_kernels


def _with_border(maps: Tensor, width: int) -> Tensor:
    """Maps [C, H, W, N] with so many zeros on each side."""
    return F.pad(maps, (0, 0, width, width, width, width)) if width else maps


def _array(tensor: Tensor) -> np.ndarray:
    """The same numbers in the same place, behind autograd's back."""
    return tensor.detach().numpy()
