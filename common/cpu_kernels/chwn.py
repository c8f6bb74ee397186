"""A network's training passes with the batch innermost in memory, on a CPU: which layers can, and how they are told.

`arrange` turns a model's `nn.Sequential` containers into ones that know a faster way to their layers: 3x3 and 1x1
convolutions with ReLU, BatchNorm and dropout behind them, and pools (`common.cpu_kernels.layers`). Between these, maps
lie in memory in the order [C, H, W, N]; any other layer gets them as [N, C, H, W], as always. Weights, gradients and
running means are the plain layers', up to rounding, and in evaluation mode the layers are the plain ones.
"""

import torch
from torch import Tensor, nn

from common.cpu_kernels.dropout import Dropout

WIDEST = 32  # channels; with more of them a library's convolution, with the channels in a vector's lanes, is as fast


def supports(model: nn.Module) -> bool:
    """Whether all that takes time in the model has a faster way here, and is narrow enough for it to be faster."""
    known = set()
    for container in model.modules():
        layers = list(container) if isinstance(container, nn.Sequential) else []
        for index, layer in enumerate(layers):
            behind = layers[index + 1 :]
            length = _block_length(layer, behind)
            if length or _is_pointwise(layer):  # alone, it is a matrix product, which is fast as it is
                known |= {layer, *behind[:length]}
    slow = {layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d, nn.Dropout))}
    narrow = all(layer.out_channels <= WIDEST for layer in known if isinstance(layer, nn.Conv2d))
    return bool(known) and slow <= known and narrow


def use_chwn(model: nn.Module) -> None:
    """Have the model train with the batch innermost, from now on; its values stay as they are.

    Hooks of the layers in its containers are then called in evaluation mode only, and a layer that is put into a
    container, or taken out of it, is not noticed by the training passes until the next `arrange`.
    """
    import numba

    numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
    for container in model.modules():
        if type(container) in (nn.Sequential, ChwnSequential):
            container.__class__, container.stages = ChwnSequential, _stages(_flat(container))


class ChwnSequential(nn.Sequential):
    """An nn.Sequential that computes its layers with the batch innermost while it trains.

    `stages` are its layers: chains of `common.cpu_kernels.autograd`, and between them layers that get maps [N, C, H, W].
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W]; what the layers give."""
        if not self.training or maps.dim() != 4 or maps.dtype != torch.float32:
            return super().forward(maps)
        for stage in self.stages:
            maps = stage(maps)
        return maps


def _flat(container: nn.Sequential) -> list[nn.Module]:
    """The layers of the container and of those in it."""
    return [
        layer for one in container for layer in (_flat(one) if type(one) in (nn.Sequential, ChwnSequential) else [one])
    ]


def _stages(layers: list[nn.Module]) -> list:
    """The layers with those that have a faster way joined to chains."""
    from common.cpu_kernels import layers as known  # here, since numba takes a while to import
    from common.cpu_kernels.autograd import Chain

    stages, chain = [], []
    while layers:
        layer, *layers = layers
        length = _block_length(layer, layers)
        if length:
            norm = next(one for one in layers if isinstance(one, nn.BatchNorm2d))
            dropouts = [one for one in layers[:length] if isinstance(one, (nn.Dropout, nn.Dropout2d))]
            faster, layers = known.ConvReluBatchNorm(layer, norm, dropouts), layers[length:]
        elif _is_pointwise(layer):
            faster = known.Convolution(layer)
        elif _is_2x2_pool(layer):
            faster = known.MaxPool()
        elif _is_average_pool(layer):
            faster = known.AveragePool(layer.kernel_size)
        else:
            faster = None
        if chain and (faster is None or (faster.padding and not chain[-1].gives_border)):
            stages.append(Chain(chain))
            chain = []
        if faster is None:
            stages.append(layer)
        else:
            chain.append(faster)
    return [*stages, Chain(chain)] if chain else stages


def _block_length(convolution: nn.Module, layers: list[nn.Module]) -> int:
    """How many layers are computed with the convolution before them: ReLU[, Dropout], BatchNorm2d[, Dropout2d]."""
    if not (_is_3x3(convolution) or _is_pointwise(convolution)):
        return 0
    kinds = [type(layer) for layer in layers]
    length = 2 if kinds[1:2] == [Dropout] else 1
    if kinds[:1] != [nn.ReLU] or kinds[length : length + 1] != [nn.BatchNorm2d]:
        return 0
    norm = layers[length]
    if norm.momentum is None or not norm.affine or not norm.track_running_stats:
        return 0
    return length + (2 if kinds[length + 1 : length + 2] == [nn.Dropout2d] else 1)


def _is_3x3(layer: nn.Module) -> bool:
    """Whether it is a 3x3 convolution that `common.cpu_kernels.layers` computes."""
    return (
        _is_dense(layer)
        and layer.kernel_size == (3, 3)
        and layer.padding in ((0, 0), (1, 1))
        and layer.padding_mode == "zeros"
    )


def _is_pointwise(layer: nn.Module) -> bool:
    """Whether it is a 1x1 convolution that `common.cpu_kernels.layers` computes."""
    return _is_dense(layer) and layer.kernel_size == (1, 1) and layer.padding == (0, 0)


def _is_dense(layer: nn.Module) -> bool:
    """Whether it is a convolution from all channels to all, at every pixel."""
    return type(layer) is nn.Conv2d and (layer.stride, layer.dilation, layer.groups) == ((1, 1), (1, 1), 1)


def _is_2x2_pool(layer: nn.Module) -> bool:
    """Whether it is a max-pool that `common.cpu_kernels.layers` computes."""
    if type(layer) is not nn.MaxPool2d or layer.return_indices or layer.ceil_mode:
        return False
    return (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == (2, 2, 0, 1)


def _is_average_pool(layer: nn.Module) -> bool:
    """Whether it is an average pool that `common.cpu_kernels.layers` computes: of squares side by side."""
    if type(layer) is not nn.AvgPool2d or layer.padding or layer.ceil_mode or layer.divisor_override:
        return False
    return isinstance(layer.kernel_size, int) and layer.stride == layer.kernel_size


class ChwnForward:
    """The model's forward pass in CHWN layout."""

    def __init__(self, model: nn.Module):
        """Shares the model's weights."""
        self.model = model
        use_chwn(model)

    def __call__(self, images: Tensor) -> Tensor:
        """Log-probabilities."""
        return self.model(images)
