"""The layers that a chain can have: for each, its arrays in CHWN layout, and the loops that compute it.

All arrays of maps are float32, [C, H, W, N].
"""

import numpy as np
import torch
from torch import Tensor, nn

from common.cpu_kernels import batchnorm, bn_activation, convolution, depthwise, elementwise, pooling


class Layer:
    """What an execution plan needs to know of a layer; each class adds a `forward` and a `backward`."""

    padding = 0  # the zeros that it wants around its maps
    pads_output = False  # whether it can put zeros around what it fills, for the next layer

    def parameters(self) -> list[Tensor]:
        """Those that it has at this moment and computes the gradients of."""
        return []

    def buffers(self) -> list[Tensor]:
        """Other tensors that it reads and writes, at this moment."""
        return []

    def settings(self) -> tuple[float, ...]:
        """Numbers that may change from step to step; the calls read them from an array."""
        return ()

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape [C, H, W, N] that maps of that shape become; None where PyTorch's layer would raise an error."""
        raise NotImplementedError


class Convolution(Layer):
    """A 3x3 or 1x1 convolution, from all channels to all."""

    loop = staticmethod(convolution.conv_forward)

    def __init__(self, module: nn.Conv2d):
        self.module, self.padding, self.size = module, module.padding[0], module.kernel_size[0]
        self.stride = module.stride[0]

    def parameters(self) -> list[Tensor]:
        """The weight, and a bias if there is one."""
        weight, bias = self._weight_and_bias()
        return [weight] if bias is None else [weight, bias]

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """See `Layer`."""
        weight, _ = self._weight_and_bias()
        height, width = (self._places(length + 2 * self.padding) for length in shape[1:3])
        fits = shape[0] == weight.shape[1] and min(height, width) > 0
        return (len(weight), height, width, shape[3]) if fits else None

    def forward(self, maps: np.ndarray, _padding: int, _settings: np.ndarray, _seed: np.ndarray) -> tuple:
        """The call that computes the layer, the array that it fills, [O, H, W, N], and what `backward` needs.

        A call is a function and its arguments. `maps` [I, H, W, N] have the zeros around them that the layer wants.
        Where the layer `pads_output`, `padding` zeros come around what it fills. `settings` are the layer's numbers,
        and `seed` says what dropout drops: both are filled in before each call.
        """
        weight, bias = self._arrays()
        out = empty(len(weight), *(length - self.size + 1 for length in maps.shape[1:3]), maps.shape[3])
        return (self.loop, (maps, weight, bias, out)), out, (maps, weight)

    def backward(self, grad_output: np.ndarray, grads: list[np.ndarray], input_grad: bool, kept: tuple) -> tuple:
        """The call that computes the gradients, and the array for that of the maps, without their padding.

        `grad_output` is the gradient of what `forward` fills, without padding; `grads` get the parameters' gradients.
        Unless `input_grad`, that of the maps may be left out. `kept` is what `forward` says that this needs.
        """
        maps, weight = kept
        grad_weight, *grad_bias = grads
        padding = self.size - 1 - self.padding if input_grad else 0  # so padded, it is convolved to the maps' gradient
        height, width = (length - 2 * self.padding for length in maps.shape[1:3])
        grad_input = empty(len(maps), height if input_grad else 0, width, maps.shape[3])
        padded, (grad_bias,) = (
            with_padding(grad_output.shape, padding),
            grad_bias or [np.empty(len(grad_output), np.float32)],
        )
        arguments = grad_output, maps, weight, padding, padded, grad_input, grad_weight, grad_bias
        return (convolution.conv_backward, arguments), grad_input

    def _places(self, length: int) -> int:
        """How many places the kernel has along a line of so many values, padded."""
        return (length - self.size) // self.stride + 1

    def _weight_and_bias(self) -> tuple[Tensor, Tensor | None]:
        parameters = self.module._parameters  # ten times as fast as the module's attributes
        return parameters["weight"], parameters["bias"]

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The weight and the bias, or zeros."""
        weight, bias = self._weight_and_bias()
        return _array(weight), np.zeros(len(weight), np.float32) if bias is None else _array(bias)


class DepthwiseConvolution(Convolution):
    """A 3x3 convolution of each channel by itself."""

    loop = staticmethod(depthwise.depthwise_forward)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """See `Layer`."""
        weight, _ = self._weight_and_bias()
        height, width = (length + 2 * self.padding - self.size + 1 for length in shape[1:3])
        return (len(weight), height, width, shape[3]) if shape[0] == len(weight) and min(height, width) > 0 else None

    def backward(self, grad_output: np.ndarray, grads: list[np.ndarray], input_grad: bool, kept: tuple) -> tuple:
        """As a `Convolution`'s."""
        maps, weight = kept
        grad_weight, *grad_bias = grads
        height, width = (length - 2 * self.padding for length in maps.shape[1:3])
        grad_input = empty(len(weight), height if input_grad else 0, width, maps.shape[3])
        (grad_bias,) = grad_bias or [np.empty(len(weight), np.float32)]
        arguments = grad_output, maps, weight, grad_input, grad_weight, grad_bias
        return (depthwise.depthwise_backward, arguments), grad_input


class ConvReluBatchNorm(Convolution):
    """A convolution, then ReLU, Dropout, BatchNorm, and Dropout or Dropout2d: see `common.cpu_kernels.batchnorm`."""

    pads_output = True

    def __init__(
        self, module: nn.Conv2d, norm: nn.BatchNorm2d, before: nn.Module | None = None, after: nn.Module | None = None
    ):
        """`before` BatchNorm comes an nn.Dropout, and `after` it an nn.Dropout or an nn.Dropout2d, if there are any."""
        super().__init__(module)
        self.norm, self.dropped_maps = norm, isinstance(after, nn.Dropout2d)
        self.before, self.after = before, after

    def parameters(self) -> list[Tensor]:
        """The convolution's, then BatchNorm's weight and bias."""
        parameters = self.norm._parameters
        return [*super().parameters(), parameters["weight"], parameters["bias"]]

    def buffers(self) -> list[Tensor]:
        """BatchNorm's running mean and variance, and its count of batches."""
        buffers = self.norm._buffers
        return [buffers["running_mean"], buffers["running_var"], buffers["num_batches_tracked"]]

    def settings(self) -> tuple[float, ...]:
        """What `common.cpu_kernels.batchnorm` calls so."""
        before, after = (layer.p if layer else 0.0 for layer in (self.before, self.after))
        shares = (before, 0.0, after) if self.dropped_maps else (before, after, 0.0)
        return (self.norm.momentum, self.norm.eps, *shares)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """See `Layer`: BatchNorm wants as many channels as it has weights, and in each more than one value."""
        shape = super().output_shape(shape)
        fits = shape and shape[0] == len(self.norm._parameters["weight"]) and shape[1] * shape[2] * shape[3] > 1
        return shape if fits else None

    def forward(self, maps: np.ndarray, padding: int, settings: np.ndarray, seed: np.ndarray) -> tuple:
        """As a `Convolution`'s."""
        weight, bias = self._arrays()
        norm = tuple(map(_array, (*self.parameters()[-2:], *self.buffers())))
        outputs, height, width, batch = len(weight), *map(self._places, maps.shape[1:3]), maps.shape[3]
        normalised = empty(outputs, height, width, batch)
        out, statistics = with_padding(normalised.shape, padding), np.empty((2, outputs))
        arguments = maps, weight, bias, norm, settings, seed, self.stride, padding, normalised, out, statistics
        return (
            (batchnorm.conv_relu_bn_forward, arguments),
            out,
            (maps, weight, normalised, norm[0], settings, seed, statistics),
        )

    def backward(self, grad_output: np.ndarray, grads: list[np.ndarray], input_grad: bool, kept: tuple) -> tuple:
        """As a `Convolution`'s; the call may overwrite `grad_output`."""
        maps, weight, normalised, *_ = kept
        padding = self.size - 1 - self.padding if input_grad else 0  # so padded, it is convolved to the maps' gradient
        in_place = not padding and self.stride == 1  # which takes half the memory
        undivided = *(length - self.size + 1 for length in maps.shape[1:3]), maps.shape[3]  # as with a stride of 1
        grad_convolved = grad_output if in_place else with_padding((len(weight), *undivided), padding)
        height, width = (length - 2 * self.padding for length in maps.shape[1:3])
        grad_input = empty(weight.shape[1] if input_grad else 0, height, width, maps.shape[3])
        grad_weight, *grad_bias, grad_norm_weight, grad_norm_bias = grads
        of_channels = grad_norm_weight, grad_norm_bias, *(grad_bias or [np.empty(len(weight), np.float32)])
        arguments = grad_output, *kept, self.stride, padding, (grad_convolved, grad_input, grad_weight), of_channels
        return (batchnorm.conv_relu_bn_backward, arguments), grad_input


class ConvBatchNorm(ConvReluBatchNorm):
    """A convolution of any kind, then BatchNorm, then an activation: see `common.cpu_kernels.bn_activation`."""

    def __init__(self, module: nn.Conv2d, norm: nn.BatchNorm2d, activation: nn.Module | None):
        """`activation` is the nn.SiLU or the nn.ReLU behind them, if there is one."""
        super().__init__(module, norm)
        self.is_depthwise = module.groups > 1
        kinds = {nn.SiLU: bn_activation.SILU, nn.ReLU: bn_activation.RELU}
        self.activation = kinds.get(type(activation), bn_activation.NONE)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """See `Layer`."""
        return super().output_shape((1, *shape[1:]) if self.is_depthwise and shape[0] == self.module.groups else shape)

    def forward(self, maps: np.ndarray, padding: int, settings: np.ndarray, _seed: np.ndarray) -> tuple:
        """As a `Convolution`'s."""
        weight, bias = self._arrays()
        norm = tuple(map(_array, (*self.parameters()[-2:], *self.buffers())))
        convolved = empty(len(weight), *(n - self.size + 1 for n in maps.shape[1:3]), maps.shape[3])
        out, statistics = with_padding(convolved.shape, padding), np.empty((2, len(weight)))
        arguments = maps, weight, bias, norm, settings, self.activation, padding, convolved, out, statistics
        function = bn_activation.depthwise_bn_forward if self.is_depthwise else bn_activation.conv_bn_forward
        return (function, arguments), out, (maps, weight, convolved, norm, settings, self.activation, statistics)

    def backward(self, grad_output: np.ndarray, grads: list[np.ndarray], input_grad: bool, kept: tuple) -> tuple:
        """As a `Convolution`'s; the call overwrites `grad_output`."""
        maps, weight, convolved, *_ = kept
        padding = self.size - 1 - self.padding if input_grad else 0  # so padded, it is convolved to the maps' gradient
        grad_convolved = empty(0, 0, 0, 0) if self.is_depthwise else with_padding(convolved.shape, padding)
        height, width = (length - 2 * self.padding for length in maps.shape[1:3])
        grad_input = empty(len(maps), height if input_grad else 0, width, maps.shape[3])
        grad_weight, *grad_bias, grad_norm_weight, grad_norm_bias = grads
        (grad_bias,) = grad_bias or [np.empty(len(weight), np.float32)]
        results = grad_convolved, grad_input, grad_weight, grad_norm_weight, grad_norm_bias, grad_bias
        function = bn_activation.depthwise_bn_backward if self.is_depthwise else bn_activation.conv_bn_backward
        return (function, (grad_output, *kept, padding, results)), grad_input


class ConvBatchNormTesting(ConvBatchNorm):
    """`ConvBatchNorm` or `ConvReluBatchNorm` in evaluation mode, where nothing is dropped: forward alone."""

    def __init__(self, module: nn.Conv2d, norm: nn.BatchNorm2d, activation: nn.Module | None, relu_first: bool):
        """`activation` is what comes behind BatchNorm; with `relu_first` a ReLU comes before it."""
        super().__init__(module, norm, activation)
        self.first_activation = bn_activation.RELU if relu_first else bn_activation.NONE

    def forward(self, maps: np.ndarray, padding: int, settings: np.ndarray, _seed: np.ndarray) -> tuple:
        """As a `Convolution`'s."""
        weight, bias = self._arrays()
        norm = tuple(map(_array, (*self.parameters()[-2:], *self.buffers())))
        convolved = empty(len(weight), *map(self._places, maps.shape[1:3]), maps.shape[3])
        out = with_padding(convolved.shape, padding)
        function = bn_activation.depthwise_bn_testing if self.is_depthwise else bn_activation.conv_bn_testing
        numbers = self.stride, self.first_activation, self.activation, padding
        arguments = maps, weight, bias, norm, settings, *numbers, convolved, out
        return (function, arguments), out, ()


class ReLU(Layer):
    """ReLU by itself."""

    pads_output = True

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Layer`."""
        return shape

    def forward(self, maps: np.ndarray, padding: int, _settings: np.ndarray, _seed: np.ndarray) -> tuple:
        """As a `Convolution`'s."""
        out = with_padding(maps.shape, padding)
        return (elementwise.relu_forward, (maps, padding, out)), out, (maps,)

    def backward(self, grad_output: np.ndarray, _grads: list, _input_grad: bool, kept: tuple) -> tuple:
        """As a `Convolution`'s."""
        grad_input = empty(*grad_output.shape)
        return (elementwise.relu_backward, (grad_output, *kept, grad_input)), grad_input


class Dropout(ReLU):
    """Dropout by itself."""

    def __init__(self, module: nn.Dropout):
        self.module = module

    def settings(self) -> tuple[float, ...]:
        """The share of the values that are dropped."""
        return (self.module.p,)

    def forward(self, maps: np.ndarray, padding: int, settings: np.ndarray, seed: np.ndarray) -> tuple:
        """As a `Convolution`'s."""
        out = with_padding(maps.shape, padding)
        return (elementwise.dropout_forward, (maps, settings, seed, padding, out)), out, (settings, seed)

    def backward(self, grad_output: np.ndarray, _grads: list, _input_grad: bool, kept: tuple) -> tuple:
        """As a `Convolution`'s."""
        grad_input = empty(*grad_output.shape)
        return (elementwise.dropout_backward, (grad_output, *kept, grad_input)), grad_input


class BatchNorm(Layer):
    """BatchNorm by itself."""

    pads_output = True

    def __init__(self, norm: nn.BatchNorm2d, training: bool):
        self.norm, self.training = norm, training

    buffers = ConvReluBatchNorm.buffers

    def parameters(self) -> list[Tensor]:
        """The weight and the bias."""
        parameters = self.norm._parameters
        return [parameters["weight"], parameters["bias"]]

    def settings(self) -> tuple[float, ...]:
        """The momentum and epsilon."""
        return (self.norm.momentum, self.norm.eps)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """See `Layer`: as many channels as there are weights, and in each more than one value."""
        return shape if shape[0] == len(self.parameters()[0]) and shape[1] * shape[2] * shape[3] > 1 else None

    def forward(self, maps: np.ndarray, padding: int, settings: np.ndarray, _seed: np.ndarray) -> tuple:
        """As a `Convolution`'s."""
        norm = tuple(map(_array, (*self.parameters(), *self.buffers())))
        out, statistics = with_padding(maps.shape, padding), np.empty((2, len(maps)))
        if not self.training:
            return (elementwise.bn_testing, (maps, norm, settings, padding, out)), out, ()
        arguments = maps, norm, settings, padding, out, statistics
        return (elementwise.bn_forward, arguments), out, (maps, norm, statistics)

    def backward(self, grad_output: np.ndarray, grads: list[np.ndarray], _input_grad: bool, kept: tuple) -> tuple:
        """As a `Convolution`'s; the call overwrites `grad_output`."""
        grad_input = empty(*grad_output.shape)
        return (elementwise.bn_backward, (grad_output, *kept, grad_input, *grads)), grad_input


class MaxPool(Layer):
    """The largest of each 2x2 values; an odd last row or column is left out."""

    pads_output = True

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """See `Layer`."""
        return _pooled(shape, 2)

    def forward(self, maps: np.ndarray, padding: int, _settings: np.ndarray, _seed: np.ndarray) -> tuple:
        """As a `Convolution`'s, to [C, H // 2, W // 2, N]."""
        index = np.empty(_pooled(maps.shape, 2), np.uint8)
        out = with_padding(index.shape, padding)
        return (pooling.max_pool_forward, (maps, padding, out, index)), out, (index, maps.shape)

    def backward(self, grad_output: np.ndarray, _grads: list, _input_grad: bool, kept: tuple) -> tuple:
        """As a `Convolution`'s: the gradient goes to the value that was the largest."""
        index, shape = kept
        grad_input = empty(*shape)
        return (pooling.max_pool_backward, (grad_output, index, grad_input)), grad_input


class AveragePool(Layer):
    """The mean of each size x size values; rows and columns that are too many for that are left out."""

    def __init__(self, size: int):
        self.size = size

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """See `Layer`."""
        return _pooled(shape, self.size)

    def forward(self, maps: np.ndarray, _padding: int, _settings: np.ndarray, _seed: np.ndarray) -> tuple:
        """As a `Convolution`'s, to [C, H // size, W // size, N]."""
        out = empty(*_pooled(maps.shape, self.size))
        return (pooling.average_pool_forward, (maps, self.size, out)), out, (maps.shape,)

    def backward(self, grad_output: np.ndarray, _grads: list, _input_grad: bool, kept: tuple) -> tuple:
        """As a `Convolution`'s: each value gets its share."""
        grad_input = empty(*kept[0])
        return (pooling.average_pool_backward, (grad_output, self.size, grad_input)), grad_input


def _pooled(shape: tuple[int, ...], size: int) -> tuple[int, ...] | None:
    """The shape of maps after a pool of size x size values; None where there is no such square."""
    channels, height, width, batch = shape
    return (channels, height // size, width // size, batch) if min(height, width) >= size else None


def _array(tensor: Tensor) -> np.ndarray:
    """The same numbers in the same place, behind autograd's back."""
    return tensor.detach().numpy()


def empty(*shape: int) -> np.ndarray:
    """A float32 array without values; in memory that begins where a vector may, which NumPy's need not."""
    return torch.empty(shape).numpy()


def with_padding(shape: tuple, padding: int) -> np.ndarray:
    """Zeros for maps [C, H, W, N] and so many more on each side."""
    channels, height, width, batch = shape
    return torch.zeros(channels, height + 2 * padding, width + 2 * padding, batch).numpy()
