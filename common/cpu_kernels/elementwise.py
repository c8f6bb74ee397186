"""ReLU, Dropout and BatchNorm as layers of their own, in CHWN layout, where no convolution stands right before them.

As in `common.cpu_kernels.convolution`, arrays are float32 and C-contiguous unless another type is named. What is filled
gets `padding` zeros around its maps, for a convolution behind it.
"""

import numpy as np
from numba import prange

from common.cpu_kernels.batchnorm import drop_line
from common.cpu_kernels.bn_activation import (
    NONE,
    activate,
    channel_normalise_backward,
    line_sums,
    normalise_channel,
    scale_and_shift,
)
from common.cpu_kernels.compiler import compiled_parallel
from common.cpu_kernels.convolution import ZERO, padded_line


@compiled_parallel
def relu_forward(maps, padding, out):
    """Maps [C, H, W, N] to `out`, NaN to NaN."""
    channels, height, width, batch = maps.shape
    for line in prange(channels * height):
        c, y = line // height, line % height
        to = padded_line(out[c], y, padding)
        for x in range(width):
            for n in range(batch):
                to[x, n] = ZERO if maps[c, y, x, n] < ZERO else maps[c, y, x, n]


@compiled_parallel
def relu_backward(grad_output, maps, grad_input):
    """The gradient where the maps were above 0, and zeros elsewhere."""
    channels, height, width, batch = maps.shape
    for line in prange(channels * height):
        c, y = line // height, line % height
        for x in range(width):
            for n in range(batch):
                grad_input[c, y, x, n] = grad_output[c, y, x, n] if maps[c, y, x, n] > ZERO else ZERO


@compiled_parallel
def dropout_forward(maps, settings, seed, padding, out):
    """A share settings[0] of the values to 0, and the others scaled up; `seed` (uint64 [1]) says which these are."""
    channels, height, _, _ = maps.shape
    for line in prange(channels * height):
        c, y = line // height, line % height
        drop_line(maps[c, y], settings[0], seed[0], np.uint32(line), padded_line(out[c], y, padding))


@compiled_parallel
def dropout_backward(grad_output, settings, seed, grad_input):
    """The same values of the gradient to 0, and the others scaled up."""
    channels, height, _, _ = grad_output.shape
    for line in prange(channels * height):
        c, y = line // height, line % height
        drop_line(grad_output[c, y], settings[0], seed[0], np.uint32(line), grad_input[c, y])


@compiled_parallel
def bn_forward(maps, norm, settings, padding, out, statistics):
    """BatchNorm of maps [C, H, W, N]; `norm`, `settings` and `statistics` as in `common.cpu_kernels.bn_activation`."""
    channels, height, _, _ = maps.shape
    for c in prange(channels):
        sums = np.empty((2, height))
        for y in range(height):
            sums[0, y], sums[1, y] = line_sums(maps[c, y].reshape(-1))
        normalise_channel(maps[c], sums, norm, settings, NONE, padding, out[c], statistics, np.intp(c))
    norm[4][()] += 1


@compiled_parallel
def bn_backward(grad_output, maps, norm, statistics, grad_input, grad_weight, grad_bias):
    """From the gradient of what `bn_forward` gave, those of its maps, weight and bias; it is overwritten."""
    of_channels = grad_weight, grad_bias, np.empty(len(maps), np.float32)
    for c in prange(len(maps)):
        channel_normalise_backward(
            grad_output[c], maps[c], norm, NONE, statistics, np.intp(0), grad_input[c], of_channels, np.intp(c)
        )


@compiled_parallel
def bn_testing(maps, norm, settings, padding, out):
    """`bn_forward` in evaluation mode: by the running statistics."""
    channels, height, _, _ = maps.shape
    for c in prange(channels):
        scale, shift = scale_and_shift(norm, settings, c)
        for y in range(height):
            activate(maps[c, y], scale, shift, NONE, padded_line(out[c], y, padding))
