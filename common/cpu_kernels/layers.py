"""Layers of maps [C, H, W, N], float32, on a CPU: their arrays, and which loops of `common.cpu_kernels.convolution` compute them."""

import numpy as np
import torch
from torch import Tensor, nn

from common.cpu_kernels import batchnorm, convolution, pooling


class Layer:
    """What a chain needs to know of a layer; each class adds `forward` and `backward`, which make the calls."""

    padding = 0  # the zeros that it wants around its maps
    gives_border = False  # whether it can put zeros around what it fills, for the next one's convolution

    def parameters(self) -> list[nn.Parameter]:
        """Those whose gradients it computes."""
        return []

    def buffers(self) -> list[Tensor]:
        """Other tensors that it reads and writes."""
        return []

    def dropout(self) -> tuple[float, float]:
        """The shares that Dropout and Dropout2d drop."""
        return 0.0, 0.0


class Convolution(Layer):
    """A 3x3 or 1x1 convolution; alone, without what a `Block` adds, it must be 1x1."""

    def __init__(self, convolution: nn.Conv2d):
        """See the class."""
        self.convolution, self.padding = convolution, convolution.padding[0]

    def parameters(self) -> list[nn.Parameter]:
        """The kernels and, if there is one, the bias."""
        return [*self.convolution.parameters()]

    def forward(self, maps: np.ndarray, _border: int, _seed: np.ndarray) -> tuple:
        """The call, what it fills [O, H, W, N], and what the way back needs.

        Maps [I, H, W, N] have the zeros around them that the layer wants, and so many as `border` says come around what
        it fills, if it gives some; the seed says what dropout drops.
        """
        weights, bias = self._arrays()
        out = empty(len(weights), *maps.shape[1:])
        return (convolution.pointwise, (maps, weights, bias, out)), out, (maps, weights)

    def backward(self, gradient: np.ndarray, results: list[np.ndarray], _wanted: bool, kept: tuple) -> tuple:
        """The call, and the gradient of the maps that it fills, from that of `out` without its border.

        `results` get the gradients of the parameters. Where the maps' is not wanted, it may be left out.
        """
        of_kernels, *of_bias = results
        of_maps, of_bias = empty(*kept[0].shape), of_bias or [np.empty(len(gradient), np.float32)]
        return (convolution.pointwise_gradient, (gradient, *kept, 0, of_maps, of_kernels, *of_bias)), of_maps

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The kernels and the bias, or zeros."""
        weights, bias = self.convolution.weight, self.convolution.bias
        return _array(weights), np.zeros(len(weights), np.float32) if bias is None else _array(bias)


class ConvReluBatchNorm(Convolution):
    """A convolution, then ReLU, Dropout, BatchNorm and Dropout2d: `common.cpu_kernels.batchnorm.conv_relu_bn_forward`."""

    gives_border = True

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, dropouts: list[nn.Module]):
        """`dropouts` are the nn.Dropout and the nn.Dropout2d, if there are any."""
        super().__init__(convolution)
        self.norm, self.dropouts = norm, dropouts

    def parameters(self) -> list[nn.Parameter]:
        """The kernels, a bias if there is one, BatchNorm's weight and bias."""
        return [*super().parameters(), self.norm.weight, self.norm.bias]

    def buffers(self) -> list[Tensor]:
        """BatchNorm's running mean and variance, and its count of batches."""
        return [self.norm.running_mean, self.norm.running_var, self.norm.num_batches_tracked]

    def dropout(self) -> tuple[float, float]:
        """See `Layer`."""
        shares = [0.0, 0.0]
        for layer in self.dropouts:
            shares[isinstance(layer, nn.Dropout2d)] += layer.p
        return tuple(shares)

    def forward(self, maps: np.ndarray, border: int, seed: np.ndarray) -> tuple:
        """As a `Convolution`'s."""
        weights, bias = self._arrays()
        norm, (outputs, _, size, _), (_, height, width, batch) = self.norm, weights.shape, maps.shape
        of_norm = tuple(map(_array, (norm.weight, norm.bias, *self.buffers())))
        before = empty(outputs, height - size + 1, width - size + 1, batch)
        out = with_border(before.shape, border)
        statistics, dropout = np.empty((2, outputs)), np.array(self.dropout())
        inputs = maps, weights, bias, of_norm, norm.momentum, norm.eps, dropout, seed, border
        call = batchnorm.conv_relu_bn_forward, (*inputs, before, out, statistics)
        return call, out, (maps, weights, before, of_norm[0], statistics, dropout, seed)

    def backward(self, gradient: np.ndarray, results: list[np.ndarray], wanted: bool, kept: tuple) -> tuple:
        """As a `Convolution`'s. Of what `forward` kept, one array may be overwritten: the gradient."""
        maps, weights, before, *_ = kept
        outputs, inputs, size, _ = weights.shape
        border = size - 1 - self.padding if wanted else 0  # with these, a convolution turns it into the inputs'
        after = with_border(before.shape, border) if border else gradient  # in the same place: half the memory
        height, width = (length - 2 * self.padding for length in maps.shape[1:3])
        of_maps = empty(inputs if wanted else 0, height, width, maps.shape[3])
        of_kernels, *of_bias, of_weight, of_shift = results
        sums = of_weight, of_shift, *(of_bias or [np.empty(outputs, np.float32)])
        arguments = gradient, *kept, border, (after, of_maps, of_kernels), sums
        return (batchnorm.conv_relu_bn_backward, arguments), of_maps


class MaxPool(Layer):
    """The largest of each 2x2 values; an odd last row or column is left out."""

    gives_border = True

    def forward(self, maps: np.ndarray, border: int, _seed: np.ndarray) -> tuple:
        """As a `Convolution`'s, to [C, H // 2, W // 2, N]."""
        channels, height, width, batch = maps.shape
        index = np.empty((channels, height // 2, width // 2, batch), np.uint8)
        out = with_border(index.shape, border)
        return (pooling.pool, (maps, border, out, index)), out, (index, maps.shape)

    def backward(self, gradient: np.ndarray, _results: list, _wanted: bool, kept: tuple) -> tuple:
        """As a `Convolution`'s: the gradient goes to the value that was the largest."""
        index, shape = kept
        out = empty(*shape)
        return (pooling.pool_gradient, (gradient, index, out)), out


class AveragePool(Layer):
    """The mean of each size x size values; rows and columns that are too many for that are left out."""

    def __init__(self, size: int):
        """See the class."""
        self.size = size

    def forward(self, maps: np.ndarray, _border: int, _seed: np.ndarray) -> tuple:
        """As a `Convolution`'s, to [C, H // size, W // size, N]."""
        channels, height, width, batch = maps.shape
        out = empty(channels, height // self.size, width // self.size, batch)
        return (pooling.average, (maps, self.size, out)), out, (maps.shape,)

    def backward(self, gradient: np.ndarray, _results: list, _wanted: bool, kept: tuple) -> tuple:
        """As a `Convolution`'s: each value gets its share."""
        out = empty(*kept[0])
        return (pooling.average_gradient, (gradient, self.size, out)), out


def _array(tensor: Tensor) -> np.ndarray:
    """The same numbers in the same place, behind autograd's back."""
    return tensor.detach().numpy()


def empty(*shape: int) -> np.ndarray:
    """A float32 array without values; in memory that begins where a vector may, which NumPy's need not."""
    return torch.empty(shape).numpy()


def with_border(shape: tuple, border: int) -> np.ndarray:
    """Zeros for maps [C, H, W, N] and so many more on each side."""
    channels, height, width, batch = shape
    return torch.zeros(channels, height + 2 * border, width + 2 * border, batch).numpy()
