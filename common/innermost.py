"""A network's training passes with the batch innermost in memory, on a CPU: which layers can, and how they are told.

`arrange` turns a model's `nn.Sequential` containers into ones that know a faster way to their layers: 3x3 and 1x1
convolutions, alone or with ReLU, BatchNorm and dropout behind them, and 2x2 pools (`common.differentiable`). Between
these, maps lie in memory in the order [C, H, W, N]; any other layer gets them as [N, C, H, W], as always. Weights,
gradients and running means are the plain layers', up to rounding, and in evaluation mode the layers are the plain ones.
"""

import functools
import importlib.util

import numpy as np
import torch
from torch import Tensor, nn

from common import models
from common.layers import Dropout

WIDEST = 32  # channels; with more of them a library's convolution, with the channels in a vector's lanes, is as fast


def fits(model: nn.Module) -> bool:
    """Whether all that takes time in the model has a faster way here, and is narrow enough for it to be faster."""
    known = set()
    for container in model.modules():
        layers = list(container) if isinstance(container, nn.Sequential) else []
        for index, layer in enumerate(layers):
            if _is_3x3(layer) or _is_pointwise(layer):
                behind = layers[index + 1 :]
                known |= {layer, *behind[: _block_length(behind)]}
    slow = {layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d, nn.Dropout))}
    narrow = all(layer.out_channels <= WIDEST for layer in known if isinstance(layer, nn.Conv2d))
    return bool(known) and slow <= known and narrow


@functools.cache
def fits_network(name: str) -> bool:
    """Whether the network of that name (`common.models`) fits, and numba is there."""
    if name not in models.NETWORKS or not importlib.util.find_spec("numba"):
        return False
    with torch.device("meta"):  # draws no random numbers
        return fits(models.build(name))


def arrange(model: nn.Module) -> None:
    """Have the model train with the batch innermost, from now on; its values stay as they are.

    Hooks of the layers in its containers are then called in evaluation mode only.
    """
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    for container in model.modules():
        if type(container) is nn.Sequential:
            container.__class__ = Innermost


class Innermost(nn.Sequential):
    """An nn.Sequential that computes its layers with the batch innermost while it trains."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W]; what the layers give."""
        if not self.training or maps.dim() != 4 or maps.dtype != torch.float32:
            return super().forward(maps)
        return _outermost(self.compute(_innermost(maps)))

    def compute(self, values: Tensor) -> Tensor:
        """Maps [C, H, W, N] to maps in the same order, or to rows [N, F] if there is an nn.Flatten among the layers."""
        from common import differentiable  # here, since numba takes a while to import

        layers = list(self)
        while layers:
            layer = layers.pop(0)
            if values.dim() != 4:
                values = layer(values)
            elif isinstance(layer, Innermost):
                values = layer.compute(values)
            elif _is_3x3(layer) or _is_pointwise(layer):
                count = _block_length(layers)
                values = _convolved(values, layer, layers[:count])
                layers = layers[count:]
            elif _is_2x2_pool(layer):
                values = differentiable.Pool.apply(values)
            elif isinstance(layer, (nn.ReLU, nn.Dropout)):  # value by value, in any order
                values = layer(values)
            else:
                values = _innermost(layer(_outermost(values)))
        return values


def _block_length(layers: list[nn.Module]) -> int:
    """How many layers are computed with the convolution before them: ReLU[, Dropout], BatchNorm2d[, Dropout2d]."""
    kinds = [type(layer) for layer in layers]
    length = 2 if kinds[1:2] == [Dropout] else 1
    if kinds[:1] != [nn.ReLU] or kinds[length : length + 1] != [nn.BatchNorm2d]:
        return 0
    norm = layers[length]
    if norm.momentum is None or not norm.affine or not norm.track_running_stats:
        return 0
    return length + (2 if kinds[length + 1 : length + 2] == [nn.Dropout2d] else 1)


def _convolved(maps: Tensor, convolution: nn.Conv2d, behind: list[nn.Module]) -> Tensor:
    """Maps [I, H, W, N] through the convolution and the layers that belong to it."""
    from common import differentiable

    kernels, padding = convolution.weight, convolution.padding[0]
    bias = kernels.new_zeros(len(kernels)) if convolution.bias is None else convolution.bias
    if not behind:
        return differentiable.Convolution.apply(maps, kernels, bias, padding)
    norm = next(layer for layer in behind if isinstance(layer, nn.BatchNorm2d))
    shares = [sum(layer.p for layer in behind if isinstance(layer, kind)) for kind in (nn.Dropout, nn.Dropout2d)]
    seed = np.uint64(int(torch.randint(2**63 - 1, ())) if any(shares) else 0)
    return differentiable.Block.apply(maps, kernels, bias, norm.weight, norm.bias, norm, padding, (*shares, seed))


def _innermost(maps: Tensor) -> Tensor:
    """Maps [N, C, H, W] as [C, H, W, N], also in memory; anything else as it is."""
    return maps.permute(1, 2, 3, 0).contiguous() if maps.dim() == 4 else maps


def _outermost(maps: Tensor) -> Tensor:
    """Maps [C, H, W, N] as [N, C, H, W], where they lie; anything else as it is."""
    return maps.permute(3, 0, 1, 2) if maps.dim() == 4 else maps


def _is_3x3(layer: nn.Module) -> bool:
    """Whether it is a 3x3 convolution that `common.differentiable` computes."""
    return (
        _is_dense(layer)
        and layer.kernel_size == (3, 3)
        and layer.padding in ((0, 0), (1, 1))
        and layer.padding_mode == "zeros"
    )


def _is_pointwise(layer: nn.Module) -> bool:
    """Whether it is a 1x1 convolution that `common.differentiable` computes."""
    return _is_dense(layer) and layer.kernel_size == (1, 1) and layer.padding == (0, 0)


def _is_dense(layer: nn.Module) -> bool:
    """Whether it is a convolution from all channels to all, at every pixel."""
    return type(layer) is nn.Conv2d and (layer.stride, layer.dilation, layer.groups) == ((1, 1), (1, 1), 1)


def _is_2x2_pool(layer: nn.Module) -> bool:
    """Whether it is a max-pool that `common.differentiable` computes."""
    if type(layer) is not nn.MaxPool2d or layer.return_indices or layer.ceil_mode:
        return False
    return (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == (2, 2, 0, 1)
