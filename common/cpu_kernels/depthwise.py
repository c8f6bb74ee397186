"""Depthwise 3x3 convolutions in CHWN layout: each channel has one kernel of its own, and meets no other channel.

As in `common.cpu_kernels.convolution`, arrays are float32 and C-contiguous, maps come with their zero padding around
them, and results do not depend on the number of threads: each channel is one task. A channel's maps fit into a core's
second cache, so all that is done to a channel is done at once.
"""

import numpy as np
from numba import prange

from common.cpu_kernels.compiler import compiled, compiled_parallel
from common.cpu_kernels.convolution import ZERO, copy_line, padded_line, weight_gradient_of_lines, window


@compiled_parallel
def depthwise_forward(maps, weight, bias, out):
    """Maps [C, H + 2, W + 2, N] with a weight [C, 1, 3, 3] and a bias [C] to `out` [C, H, W, N]."""
    channels, height, _, _ = out.shape
    for c in prange(channels):
        for y in range(height):
            depthwise_line(maps[c], weight[c, 0], bias[c], y, out[c, y].reshape(-1))


@compiled
def depthwise_line(channel, kernel, bias, y, out):
    """Line y of what a channel [H + 2, W + 2, N] becomes, flat."""
    batch = channel.shape[2]
    upper, middle, lower = channel[y].reshape(-1), channel[y + 1].reshape(-1), channel[y + 2].reshape(-1)
    # Shifted lines rather than shifted indices, and numbers rather than an array: so LLVM computes vectors.
    upper_1, middle_1, lower_1 = upper[batch:], middle[batch:], lower[batch:]
    upper_2, middle_2, lower_2 = upper[2 * batch :], middle[2 * batch :], lower[2 * batch :]
    a, b, c, d, e = kernel[0, 0], kernel[0, 1], kernel[0, 2], kernel[1, 0], kernel[1, 1]
    f, g, h, i = kernel[1, 2], kernel[2, 0], kernel[2, 1], kernel[2, 2]
    for n in range(len(out)):
        total = bias + a * upper[n] + b * upper_1[n] + c * upper_2[n]
        total += d * middle[n] + e * middle_1[n] + f * middle_2[n]
        out[n] = total + g * lower[n] + h * lower_1[n] + i * lower_2[n]


@compiled_parallel
def depthwise_backward(grad_output, maps, weight, grad_input, grad_weight, grad_bias):
    """From the gradient [C, H, W, N] of what `depthwise_forward` gave, those of its maps, weight and bias.

    `grad_input` is that of the maps without their padding, and has no lines where it is not wanted.
    """
    channels, height, width, batch = grad_output.shape
    padding = (grad_input.shape[1] - height + 2) // 2 if grad_input.shape[1] else 0
    for c in prange(channels):
        padded, total = np.empty((height + 2 * padding, width + 2 * padding, batch), np.float32), ZERO
        for y in range(height):
            total += copy_line(grad_output[c, y], padded_line(padded, y, padding))
        grad_bias[c] = total
        channel_backward(padded, padding, maps[c], weight[c, 0], grad_input[c], grad_weight[c, 0])


@compiled
def channel_backward(grad_output, padding, channel, kernel, grad_input, grad_kernel):
    """A channel's part of `depthwise_backward`; `grad_output` [H + 2 p, W + 2 p, N] has `padding` p zeros around it.

    The gradient of the maps is left out where `grad_input` is empty.
    """
    high, wide, batch = grad_output.shape
    height, width = high - 2 * padding, wide - 2 * padding
    turned, part = np.empty((3, 3), np.float32), np.empty(9, np.float32)
    for k in range(9):
        turned[k // 3, k % 3] = kernel[2 - k // 3, 2 - k % 3]
        grad_kernel[k // 3, k % 3] = ZERO
    for y in range(len(grad_input)):
        depthwise_line(grad_output, turned, ZERO, y, grad_input[y].reshape(-1))
    offsets = window((1, *channel.shape), 3)
    flat_gradient, flat_channel, zero = grad_output.reshape(-1), channel.reshape(-1), np.intp(0)
    for y in range(height):
        of, at = ((y + padding) * wide + padding) * batch, y * channel.shape[1] * batch
        weight_gradient_of_lines(flat_gradient, of, zero, flat_channel, at, offsets, width * batch, np.intp(1), part)
        for k in range(9):
            grad_kernel[k // 3, k % 3] += part[k]
