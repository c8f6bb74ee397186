"""A network's training passes with the batch innermost in memory, by the loops of `common.kernels`, on a CPU.

`arrange` turns a model's `nn.Sequential` containers into ones that know a faster way to their layers: 3x3 and 1x1
convolutions, alone or with ReLU, BatchNorm and dropout behind them, and 2x2 pools. Between these, maps lie in memory
in the order [C, H, W, N]; a layer with no faster way gets them as [N, C, H, W], as always. Weights, gradients and
running means are the plain layers', up to rounding, and in evaluation mode the layers are the plain ones.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's name for it

from common.layers import Dropout

WIDEST = 32  # channels; with more of them a library's convolution, with the channels in a vector's lanes, is as fast


def fits(model: nn.Module) -> bool:
    """Whether all of the model's convolutions have a faster way here, and are narrow enough for it to be faster."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    known = all(_is_3x3(layer) or _is_pointwise(layer) for layer in layers)
    return bool(layers) and known and max(layer.out_channels for layer in layers) <= WIDEST


def arrange(model: nn.Module) -> None:
    """Have the model's containers train with the batch innermost, from now on; its values stay as they are."""
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    for container in model.modules():
        if type(container) is nn.Sequential:
            container.__class__ = Innermost


class Innermost(nn.Sequential):
    """An nn.Sequential that computes its layers with the batch innermost while it trains."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float32 [N, C, H, W]; what the layers give."""
        if not self.training or maps.dim() != 4:
            return super().forward(maps)
        return _outermost(self.compute(_innermost(maps)))

    def compute(self, values: Tensor) -> Tensor:
        """Maps [C, H, W, N] to maps in the same order, or to rows [N, F] if there is an nn.Flatten among the layers."""
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            if values.dim() != 4:
                values = layer(values)
            elif isinstance(layer, Innermost):
                values = layer.compute(values)
            elif _is_3x3(layer) or _is_pointwise(layer):
                layers, rest = layers[_block_length(layers) :], layers[: _block_length(layers)]
                values = _convolved(values, layer, rest)
            elif _is_2x2_pool(layer):
                values = Pool.apply(values)
            elif isinstance(layer, (nn.ReLU, nn.Dropout)):  # value by value, in any order
                values = layer(values)
            else:
                values = _innermost(layer(_outermost(values)))
        return values


def _block_length(layers: list[nn.Module]) -> int:
    """How many layers `Block` computes with the convolution before them: ReLU[, Dropout], BatchNorm2d[, Dropout2d]."""
    kinds = [type(layer) for layer in layers]
    length = 2 if kinds[1:2] == [Dropout] else 1
    norm = layers[length] if kinds[:1] == [nn.ReLU] and kinds[length : length + 1] == [nn.BatchNorm2d] else None
    if norm is None or norm.momentum is None or not norm.affine or not norm.track_running_stats:
        return 0
    return length + (2 if kinds[length + 1 : length + 2] == [nn.Dropout2d] else 1)


def _convolved(maps: Tensor, convolution: nn.Conv2d, rest: list[nn.Module]) -> Tensor:
    kernels, padding = convolution.weight, convolution.padding[0]
    bias = kernels.new_zeros(len(kernels)) if convolution.bias is None else convolution.bias
    if not rest:
        return Convolution.apply(maps, kernels, bias, padding)
    norm = next(layer for layer in rest if isinstance(layer, nn.BatchNorm2d))
    shares = [sum(layer.p for layer in rest if isinstance(layer, kind)) for kind in (Dropout, nn.Dropout2d)]
    seed = np.uint64(int(torch.randint(2**63 - 1, ())) if any(shares) else 0)
    return Block.apply(maps, kernels, bias, norm.weight, norm.bias, norm, padding, (*shares, seed))


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
        from common import kernels as loops

        maps = _with_border(maps, padding)
        convolved = _convolve(maps, kernels, bias)
        out, mean, inverse = torch.empty_like(convolved), np.empty(len(weight)), np.empty(len(weight))
        before, parameters = _array(convolved), (_array(weight), _array(shift))
        loops.normalise(before, *parameters, mean, inverse, norm.eps, *dropout, _array(out))
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
    def backward(ctx, gradient: Tensor):
        """See `common.kernels.normalise_gradient` and `_convolution_gradients`."""
        from common import kernels as loops

        maps, kernels, convolved, weight = ctx.saved_tensors
        border, sums = _border_of_gradient(ctx, kernels), weight.new_empty(3, len(weight))
        channels, height, width, batch = convolved.shape
        before = weight.new_empty(channels, height + 2 * border, width + 2 * border, batch)
        arrays = _array(gradient.contiguous()), _array(convolved), _array(weight)
        loops.normalise_gradient(*arrays, *ctx.statistics, *ctx.dropout, border, _array(before), _array(sums))
        of_weight, of_shift, of_bias = sums
        return *_convolution_gradients(maps, kernels, before, border), of_bias, of_weight, of_shift, None, None, None


class Pool(torch.autograd.Function):
    """The largest of each 2x2 values of maps [C, H, W, N]; an odd last row or column is left out."""

    @staticmethod
    def forward(ctx, maps: Tensor) -> Tensor:
        """See the class."""
        from common import kernels as loops

        channels, height, width, batch = ctx.shape = maps.shape
        out = maps.new_empty(channels, height // 2, width // 2, batch)
        index = torch.empty_like(out, dtype=torch.uint8)
        loops.pool(_array(maps), _array(out), _array(index))
        ctx.save_for_backward(index)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        """The gradient goes to the value that was the largest."""
        from common import kernels as loops

        (index,), odd = ctx.saved_tensors, ctx.shape[1] % 2 or ctx.shape[2] % 2
        out = gradient.new_zeros(ctx.shape) if odd else gradient.new_empty(ctx.shape)
        loops.pool_gradient(_array(gradient.contiguous()), _array(index), _array(out))
        return out


def _convolve(maps: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
    """Maps [I, H, W, N], with their border, as new maps [O, H - 2, W - 2, N], or [O, H, W, N] by 1x1 kernels."""
    from common import kernels as loops

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


def _convolution_gradients(maps: Tensor, kernels: Tensor, gradient: Tensor, border: int):
    """Of the maps without their border, and of the kernels, from the outputs' gradient with its border.

    The inputs' gradient is a convolution of the outputs', with kernels turned by half a turn. Without a border, 3x3
    kernels mean that nobody wants it.
    """
    from common import kernels as loops

    if kernels.shape[2] == 1:
        columns = gradient.flatten(1)
        of_kernels = (columns @ maps.flatten(1).t()).view_as(kernels)
        return (kernels.flatten(1).t() @ columns).view_as(maps), of_kernels
    of_kernels = torch.empty_like(kernels)
    loops.kernel_gradient(_array(maps), _array(gradient), border, _array(of_kernels))
    if not border:
        return None, of_kernels
    turned = kernels.flip(2, 3).transpose(0, 1).contiguous()
    return _convolve(gradient, turned, kernels.new_zeros(len(turned))), of_kernels


def _with_border(maps: Tensor, width: int) -> Tensor:
    """Maps [C, H, W, N] with so many zeros on each side."""
    return F.pad(maps, (0, 0, width, width, width, width)) if width else maps


def _innermost(maps: Tensor) -> Tensor:
    """Maps [N, C, H, W] as [C, H, W, N], also in memory; anything else as it is."""
    return maps.permute(1, 2, 3, 0).contiguous() if maps.dim() == 4 else maps


def _outermost(maps: Tensor) -> Tensor:
    """Maps [C, H, W, N] as [N, C, H, W], where they lie; anything else as it is."""
    return maps.permute(3, 0, 1, 2) if maps.dim() == 4 else maps


def _array(tensor: Tensor) -> np.ndarray:
    """The same numbers in the same place, behind autograd's back."""
    return tensor.detach().numpy()


def _is_3x3(layer: nn.Module) -> bool:
    """Whether it is a 3x3 convolution that `Convolution` computes; a border of 2 would leave its gradient none."""
    return (
        _is_dense(layer)
        and layer.kernel_size == (3, 3)
        and layer.padding in ((0, 0), (1, 1))
        and layer.padding_mode == "zeros"
    )


def _is_pointwise(layer: nn.Module) -> bool:
    """Whether it is a 1x1 convolution that `Convolution` computes."""
    return _is_dense(layer) and layer.kernel_size == (1, 1) and layer.padding == (0, 0)


def _is_dense(layer: nn.Module) -> bool:
    """Whether it is a convolution from all channels to all, at every pixel."""
    return type(layer) is nn.Conv2d and (layer.stride, layer.dilation, layer.groups) == ((1, 1), (1, 1), 1)


def _is_2x2_pool(layer: nn.Module) -> bool:
    """Whether it is a max-pool that `Pool` computes."""
    if type(layer) is not nn.MaxPool2d or layer.return_indices or layer.ceil_mode:
        return False
    return (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == (2, 2, 0, 1)
