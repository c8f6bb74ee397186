"""A convolution with BatchNorm and then an activation behind it, in CHWN layout: forward and backward.

As in `common.cpu_kernels.convolution`, arrays are float32 and C-contiguous unless another type is named. The
convolution is one of `convolve`, or a depthwise one: those have a weight [C, 1, 3, 3]. Arrays and numbers of both
passes:

- `convolved` [O, H, W, N]: what the convolution gives, which BatchNorm normalises;
- `settings` (float64 [2]): BatchNorm's momentum and epsilon;
- `statistics` (float64 [2, O]): the batch's means and 1 / sqrt(variance + epsilon);
- `activation`: `NONE`, `RELU` or `SILU`.
"""

import numpy as np
from numba import prange

from common.cpu_kernels.batchnorm import FAR, mean_and_variance
from common.cpu_kernels.compiler import compiled, compiled_parallel
from common.cpu_kernels.convolution import (
    ZERO,
    backward_weights,
    convolve,
    convolve_lines,
    forward_weights,
    lines_of,
    padded_line,
    strided_lines,
    tasks,
    weight_gradient,
    window,
)
from common.cpu_kernels.depthwise import channel_backward, depthwise_line

NONE, RELU, SILU = 0, 1, 2
ONE, HALF, INFINITY = np.float32(1), np.float32(0.5), np.float32(np.inf)


@compiled
def conv_bn_forward(maps, weight, bias, norm, settings, activation, padding, convolved, out, statistics):
    """A dense convolution, BatchNorm and the activation of maps as `convolve` takes them, to `out` [O, H, W, N].

    `out` has `padding` zeros more on each side of its maps. `norm` is BatchNorm's weight, bias, running mean, running
    variance [O] and count of batches.
    """
    sums = np.empty((2, convolved.shape[0], convolved.shape[1]))
    _convolve_and_sum(maps, forward_weights(weight), bias, weight.shape[2], convolved, sums)
    _normalise(convolved, sums, norm, settings, activation, padding, out, statistics)
    norm[4][()] += 1


@compiled_parallel
def _convolve_and_sum(maps, weights, bias, size, out, sums):
    """`convolve`; the sum of each line's values and of their squares to `sums` (float64 [2, O, H])."""
    outputs, height = out.shape[:2]
    offsets = window(maps.shape, size)
    for task in prange(tasks(outputs, height)):
        channel, rows, y = lines_of(task, outputs, height)
        convolve_lines(maps, offsets, weights, bias, channel, rows, y, out)
        for c in range(channel, channel + rows):
            sums[0, c, y], sums[1, c, y] = line_sums(out[c, y].reshape(-1))


@compiled
def line_sums(line):
    """Of the values and of their squares."""
    total = squares = ZERO
    for n in range(len(line)):
        total += line[n]
        squares += line[n] * line[n]
    return total, squares


@compiled_parallel
def _normalise(maps, sums, norm, settings, activation, padding, out, statistics):
    """BatchNorm and the activation, with the sums [2, C, H] of the lines of maps [C, H, W, N] and of their squares."""
    for c in prange(len(maps)):
        normalise_channel(maps[c], sums[:, c], norm, settings, activation, padding, out[c], statistics, np.intp(c))


@compiled_parallel
def depthwise_bn_forward(maps, weight, bias, norm, settings, activation, padding, convolved, out, statistics):
    """The same with a depthwise convolution; a channel stays in the core's second cache all the way."""
    channels, height, _, _ = convolved.shape
    for c in prange(channels):
        sums = np.empty((2, height))
        for y in range(height):
            line = convolved[c, y].reshape(-1)
            depthwise_line(maps[c], weight[c, 0], bias[c], y, line)
            sums[0, y], sums[1, y] = line_sums(line)
        normalise_channel(convolved[c], sums, norm, settings, activation, padding, out[c], statistics, np.intp(c))
    norm[4][()] += 1


@compiled
def normalise_channel(maps, sums, norm, settings, activation, padding, out, statistics, c):
    """Channel c's maps [H, W, N], from the sums [2, H] of its lines, to `out`."""
    height, count = len(maps), maps.size
    weight, bias, running_mean, running_variance, _ = norm
    momentum, epsilon = settings[0], settings[1]
    total = squares = 0.0
    for y in range(height):
        total += sums[0, y]
        squares += sums[1, y]
    mean = total / count
    variance = max(squares / count - mean**2, 0.0)
    if abs(mean) > FAR * np.sqrt(variance):  # the difference of two large numbers has too few digits left
        mean, variance = mean_and_variance(maps, mean)
    inverse = 1 / np.sqrt(variance + epsilon)
    statistics[0, c], statistics[1, c] = mean, inverse
    running_mean[c] += momentum * (mean - running_mean[c])
    running_variance[c] += momentum * (variance * count / (count - 1) - running_variance[c])
    scale, shift = np.float32(inverse * weight[c]), np.float32(bias[c] - mean * inverse * weight[c])
    for y in range(height):
        activate(maps[y], scale, shift, activation, padded_line(out, y, padding))


@compiled
def activate(line, scale, shift, activation, out):
    """The activation of scale * line + shift, for a line [W, N]."""
    width, batch = line.shape
    if activation == SILU:
        for x in range(width):
            for n in range(batch):
                value = scale * line[x, n] + shift
                out[x, n] = value / (ONE + exp(-value))
    elif activation == RELU:
        for x in range(width):
            for n in range(batch):
                value = scale * line[x, n] + shift
                out[x, n] = ZERO if value < ZERO else value
    else:
        for x in range(width):
            for n in range(batch):
                out[x, n] = scale * line[x, n] + shift


@compiled
def exp(x):
    """e to the power x, to 2e-7 of the result; written so that LLVM computes a vector of them at once.

    e^x = 2^n e^r with a whole n and r within ln(2) / 2 of 0: the bits of a float32 hold n + 127, a Taylor polynomial
    gives e^r. ln(2) is taken away in two parts, the first of which has few bits, so that r keeps its digits (Cody and
    Waite 1980, "Software Manual for the Elementary Functions"). Of NaN it may give any number.
    """
    limited = min(max(x, np.float32(-87)), np.float32(88))  # what a float32 holds
    n = np.floor(limited * np.float32(1.442695041) + HALF)
    r = (limited - n * np.float32(0.693359375)) + n * np.float32(2.1219444e-4)
    power = np.float32(1 / 5040)
    power = power * r + np.float32(1 / 720)
    power = power * r + np.float32(1 / 120)
    power = power * r + np.float32(1 / 24)
    power = power * r + np.float32(1 / 6)
    power = power * r + HALF
    power = power * r + ONE
    power = power * r + ONE
    power *= np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return INFINITY if x > np.float32(88) else power


@compiled_parallel
def conv_bn_testing(maps, weight, bias, norm, settings, stride, before, after, padding, convolved, out):
    """The same in evaluation mode: BatchNorm by its running statistics, and an activation before and after it.

    The convolution has that `stride`.     Each line is in the nearest cache all the way; `convolved` is room for it.
    """
    outputs, height = convolved.shape[:2]
    weights, size = forward_weights(weight), weight.shape[2]
    offsets = window(maps.shape, size)
    for task in prange(tasks(outputs, height)):
        channel, rows, y = lines_of(task, outputs, height)
        if stride == 1:
            convolve_lines(maps, offsets, weights, bias, channel, rows, y, convolved)
        else:
            strided_lines(maps, offsets, weights, bias, channel, rows, y, stride, convolved)
        for c in range(channel, channel + rows):
            scale, shift = scale_and_shift(norm, settings, c)
            if before == RELU:
                _relu(convolved[c, y].reshape(-1))
            activate(convolved[c, y], scale, shift, after, padded_line(out[c], y, padding))


@compiled_parallel
def depthwise_bn_testing(maps, weight, bias, norm, settings, _stride, before, after, padding, convolved, out):
    """The same with a depthwise convolution; nothing comes before BatchNorm."""
    channels, height, _, _ = convolved.shape
    for c in prange(channels):
        scale, shift = scale_and_shift(norm, settings, c)
        for y in range(height):
            depthwise_line(maps[c], weight[c, 0], bias[c], y, convolved[c, y].reshape(-1))
            activate(convolved[c, y], scale, shift, after, padded_line(out[c], y, padding))


@compiled
def scale_and_shift(norm, settings, c):
    """What BatchNorm by its running statistics does to channel c: scale * value + shift."""
    weight, bias, running_mean, running_variance, _ = norm
    scale = np.float32(weight[c] / np.sqrt(running_variance[c] + settings[1]))
    return scale, np.float32(bias[c] - running_mean[c] * scale)


@compiled
def _relu(line):
    """ReLU in place."""
    for n in range(len(line)):
        line[n] = ZERO if line[n] < ZERO else line[n]


# The backward pass


@compiled
def conv_bn_backward(grad_output, maps, weight, convolved, norm, settings, activation, statistics, padding, results):
    """From the gradient [O, H, W, N] of what `conv_bn_forward` gave, those of all it had; it is overwritten.

    To `results`: the gradient of what was convolved, with `padding` zeros on each side; that of the maps without their
    padding, unless the array is empty; the weight's; those of BatchNorm's weight and bias and of the convolution's
    bias, [O] each.
    """
    grad_convolved, grad_input, grad_weight, of_norm_weight, of_norm_bias, of_bias = results
    of_channels = of_norm_weight, of_norm_bias, of_bias
    _normalise_backward(
        grad_output, convolved, norm, settings, activation, statistics, padding, grad_convolved, of_channels
    )
    weight_gradient(maps, grad_convolved, padding, 1, grad_weight)
    if grad_input.size:
        zeros = np.zeros(weight.shape[1], np.float32)
        convolve(grad_convolved, backward_weights(weight), zeros, weight.shape[2], grad_input)


@compiled_parallel
def _normalise_backward(gradient, maps, norm, settings, activation, statistics, padding, out, of_channels):
    for c in prange(len(maps)):
        channel_normalise_backward(
            gradient[c], maps[c], norm, activation, statistics, padding, out[c], of_channels, np.intp(c)
        )


@compiled_parallel
def depthwise_bn_backward(
    grad_output, maps, weight, convolved, norm, settings, activation, statistics, padding, results
):
    """The same with a depthwise convolution."""
    _, grad_input, grad_weight, of_norm_weight, of_norm_bias, of_bias = results
    of_channels = of_norm_weight, of_norm_bias, of_bias
    channels, height, width, batch = convolved.shape
    for c in prange(channels):
        padded = np.empty((height + 2 * padding, width + 2 * padding, batch), np.float32)
        channel_normalise_backward(
            grad_output[c], convolved[c], norm, activation, statistics, padding, padded, of_channels, np.intp(c)
        )
        channel_backward(padded, padding, maps[c], weight[c, 0], grad_input[c], grad_weight[c, 0])


@compiled
def channel_normalise_backward(gradient, maps, norm, activation, statistics, padding, out, of_channels, c):
    """From the gradient [H, W, N] of what `normalise_channel` gave, that of its maps, to `out` with the padding.

    Ioffe and Szegedy (2015), section 3, have the gradient through the batch's mean and variance.
    """
    of_weight, of_bias, of_convolution_bias = of_channels
    mean, inverse = statistics[0, c], statistics[1, c]
    scale, shift = np.float32(inverse * norm[0][c]), np.float32(norm[1][c] - mean * inverse * norm[0][c])
    centre = np.float32(mean) if abs(mean) * inverse > FAR else ZERO
    plain = products = 0.0
    for y in range(len(maps)):
        of_line = _activate_backward(gradient[y], maps[y], scale, shift, centre, activation)
        plain += of_line[0]
        products += of_line[1]
    of_scale = (products - (mean - centre) * plain) * inverse
    of_weight[c], of_bias[c] = of_scale, plain
    slope = -scale * inverse * of_scale / maps.size
    offset = np.float32(-scale * plain / maps.size - slope * mean)
    total = 0.0
    for y in range(len(maps)):
        total += _line_backward(gradient[y], maps[y], scale, np.float32(slope), offset, padded_line(out, y, padding))
    of_convolution_bias[c] = total


@compiled
def _activate_backward(gradient, line, scale, shift, centre, activation):
    """The gradient of a line [W, N] before the activation, in place; its sum, and that of it times line - centre."""
    width, batch = line.shape
    plain = products = ZERO
    for x in range(width):
        if activation == SILU:
            for n in range(batch):
                value = scale * line[x, n] + shift
                sigmoid = ONE / (ONE + exp(-value))
                gradient[x, n] *= sigmoid * (ONE + value * (ONE - sigmoid))
        elif activation == RELU:
            for n in range(batch):
                gradient[x, n] = gradient[x, n] if scale * line[x, n] + shift > ZERO else ZERO
        for n in range(batch):
            plain += gradient[x, n]
            products += gradient[x, n] * (line[x, n] - centre)
    return plain, products


@compiled
def _line_backward(gradient, line, scale, slope, offset, out):
    """The gradient of a line [W, N] before BatchNorm, and its sum."""
    width, batch = line.shape
    total = ZERO
    for x in range(width):
        for n in range(batch):
            value = scale * gradient[x, n] + slope * line[x, n] + offset
            out[x, n] = value
            total += value
    return total
