"""A convolution with the ReLU, BatchNorm and dropout behind it, in CHWN layout: forward, backward, masks.

As in `common.cpu_kernels.convolution`, arrays are float32 and C-contiguous unless another type is named. Three arrays
are common to both passes:

- `settings` (float64 [5]): BatchNorm's momentum and epsilon; the shares of the values that Dropout drops before and
  after it; and the share of the maps that Dropout2d drops whole after it;
- `seed` (uint64 [1]): says which these are, so that no mask need be kept;
- `statistics` (float64 [2, O]): the batch's means and 1 / sqrt(variance + epsilon).
"""

import numpy as np
from numba import prange

from common.cpu_kernels.compiler import compiled, compiled_parallel
from common.cpu_kernels.convolution import (
    ZERO,
    backward_weights,
    convolve,
    convolve_lines,
    dilate,
    forward_weights,
    lines_of,
    padded_line,
    strided_input_gradient,
    strided_lines,
    tasks,
    weight_gradient,
    weight_gradient_of_lines,
    window,
)

OTHER = np.uint64(0x9E3779B97F4A7C15)
FAR = 10.0  # standard deviations from 0 to the mean; from there on, sums of squares would lose over two digits

# The forward pass


@compiled
def conv_relu_bn_forward(maps, weight, bias, norm, settings, seed, stride, padding, normalised, out, statistics):
    """Convolution, ReLU, Dropout, BatchNorm and Dropout2d of maps as `convolve` takes them, to `out` [O, H, W, N].

    The convolution has that `stride`. `out` has `padding` zeros more on each side of its maps. `norm` is BatchNorm's
    weight, bias, running mean, running variance [O] and count of batches. `normalised` [O, H, W, N] gets what BatchNorm
    normalises, and `statistics` its statistics; the backward pass needs both.
    """
    sums = np.empty((2, normalised.shape[0], normalised.shape[1]))
    weights, size = forward_weights(weight), weight.shape[2]
    conv_relu_dropout(maps, weights, bias, size, stride, settings[2], seed[0], normalised, sums)
    normalise(normalised, sums, norm, settings, seed[0], padding, out, statistics)
    norm[4][()] += 1


@compiled_parallel
def conv_relu_dropout(maps, weights, bias, size, stride, dropped, seed, out, sums):
    """The convolution, ReLU and Dropout; the sums of each line's values and of their squares to `sums`.

    These are float64 [2, O, H]. Each line is in the nearest cache when ReLU and Dropout follow on the convolution.
    """
    outputs, height = out.shape[:2]
    offsets = window(maps.shape, size)
    threshold, scale = threshold_of(dropped), np.float32(1 / (1 - dropped))
    for task in prange(tasks(outputs, height)):
        channel, rows, y = lines_of(task, outputs, height)
        if stride == 1:
            convolve_lines(maps, offsets, weights, bias, channel, rows, y, out)
        else:
            strided_lines(maps, offsets, weights, bias, channel, rows, y, stride, out)
        for c in range(channel, channel + rows):
            line = out[c, y].reshape(-1)
            if dropped:
                total = _relu_dropout(line, threshold, scale, seed, np.uint32((c * height + y) * len(line)))
            else:
                total = _relu(line)
            sums[0, c, y], sums[1, c, y] = total


@compiled
def _relu(line):
    """ReLU in place; the sum of the values and of their squares."""
    total = squares = ZERO
    for n in range(len(line)):
        value = ZERO if line[n] < ZERO else line[n]
        line[n] = value
        total += value
        squares += value * value
    return total, squares


@compiled
def _relu_dropout(line, threshold, scale, seed, first):
    """ReLU and Dropout in place, the first value at that position of all; the sums as above."""
    total = squares = ZERO
    for n in range(len(line)):
        value = ZERO if line[n] < ZERO or draw(seed, first + np.uint32(n)) < threshold else line[n] * scale
        line[n] = value
        total += value
        squares += value * value
    return total, squares


@compiled_parallel
def normalise(maps, sums, norm, settings, seed, padding, out, statistics):
    """BatchNorm and Dropout2d, with the sums [2, C, H] of the lines of maps [C, H, W, N] and of their squares."""
    channels, height, width, batch = maps.shape
    count = height * width * batch
    weight, bias, running_mean, running_variance, _ = norm
    momentum, epsilon, dropped_after, dropped_maps = settings[0], settings[1], settings[3], settings[4]
    for c in prange(channels):
        total = squares = 0.0
        for y in range(height):
            total += sums[0, c, y]
            squares += sums[1, c, y]
        mean = total / count
        variance = max(squares / count - mean**2, 0.0)
        if mean > FAR * np.sqrt(variance):  # the difference of two large numbers has too few digits left
            mean, variance = mean_and_variance(maps[c], mean)
        inverse = 1 / np.sqrt(variance + epsilon)
        statistics[0, c], statistics[1, c] = mean, inverse
        running_mean[c] += momentum * (mean - running_mean[c])
        running_variance[c] += momentum * (variance * count / (count - 1) - running_variance[c])
        scale, shift = np.float32(inverse * weight[c]), np.float32(bias[c] - mean * inverse * weight[c])
        scales = channel_mask(dropped_maps, seed, c, batch, scale)
        shifts = channel_mask(dropped_maps, seed, c, batch, shift)
        for y in range(height):
            line = padded_line(out[c], y, padding)
            _scale_and_shift(maps[c, y], scales, shifts, line)
            if dropped_after:
                drop_in_place(line, dropped_after, ~seed, np.uint32(np.intp(c) * height + y))


@compiled
def mean_and_variance(maps, about):
    """Of a map [H, W, N], in a second pass, from the offsets to a number near the mean."""
    total, squares, centre = 0.0, 0.0, np.float32(about)
    for y in range(len(maps)):
        line, of_line, squares_of_line = maps[y].reshape(-1), ZERO, ZERO
        for n in range(len(line)):
            offset = line[n] - centre
            of_line += offset
            squares_of_line += offset * offset
        total += of_line
        squares += squares_of_line
    mean_offset = total / maps.size
    return centre + mean_offset, max(squares / maps.size - mean_offset**2, 0.0)


@compiled
def _scale_and_shift(line, scale, shift, out):
    """A line [W, N] of a map, each image's times its scale [N] plus its shift [N]."""
    width, batch = line.shape
    for x in range(width):
        for n in range(batch):
            out[x, n] = scale[n] * line[x, n] + shift[n]


# The backward pass


@compiled
def conv_relu_bn_backward(
    grad_output,
    maps,
    weight,
    normalised,
    norm_weight,
    settings,
    seed,
    statistics,
    stride,
    padding,
    results,
    of_channels,
):
    """From the gradient [O, H, W, N] of what `conv_relu_bn_forward` gave, those of all it had.

    To `results`: the gradient before the ReLU, with `padding` zeros on each side (without, it goes to where
    `grad_output` is; with a stride it is dilated); that of the maps as they were without their padding, unless the
    array is empty; the weight's. To `of_channels`, [O] each: the gradients of BatchNorm's weight and bias, and of the
    convolution's bias.
    """
    grad_convolved, grad_input, grad_weight = results
    sums = np.empty((3, len(normalised)))
    norm = norm_weight, settings, seed[0], statistics
    if stride > 1:
        normalise_backward(grad_output, normalised, norm, 0, grad_output, sums)
        dilate(grad_output, stride, padding, grad_convolved)
        weight_gradient(maps, grad_convolved, padding, stride, grad_weight)
        if grad_input.size:
            strided_input_gradient(grad_convolved, backward_weights(weight), stride, padding, grad_input)
    elif grad_input.size:
        normalise_backward(grad_output, normalised, norm, padding, grad_convolved, sums)
        weight_gradient(maps, grad_convolved, padding, 1, grad_weight)
        zeros = np.zeros(weight.shape[1], np.float32)
        convolve(grad_convolved, backward_weights(weight), zeros, weight.shape[2], grad_input)
    else:
        first_layer_backward(grad_output, normalised, norm, maps, grad_weight, sums)
    grad_norm_weight, grad_norm_bias, grad_bias = of_channels
    for o in range(len(normalised)):
        grad_norm_weight[o], grad_norm_bias[o], grad_bias[o] = sums[0, o], sums[1, o], sums[2, o]


@compiled_parallel
def normalise_backward(grad_output, maps, norm, padding, out, sums):
    """From the gradient [C, H, W, N] of what `normalise` gave, that of its maps before ReLU and Dropout.

    It goes to `out`, with `padding` zeros on each side, or without padding to where `grad_output` is. `sums` (float64
    [3, C]) gets the gradients of weight and bias, and the sum of the result, the gradient of a bias before the ReLU.
    `maps` are as `normalise` had them: where one is 0, ReLU or Dropout stopped it.
    """
    channels, height, _, _ = maps.shape
    for c in prange(channels):
        scale, slope, shift = _slopes(grad_output[c], maps[c], norm, np.intp(c), sums)
        total = 0.0
        for y in range(height):
            if padding:
                line = padded_line(out[c], y, padding)
                total += _line_backward(grad_output[c, y], maps[c, y], scale, slope, shift, line)
            else:
                total += _line_backward_in_place(grad_output[c, y], maps[c, y], scale, slope, shift)
        sums[2, c] = total


@compiled_parallel
def first_layer_backward(grad_output, normalised, norm, maps, grad_weight, sums):
    """`normalise_backward` and `weight_gradient` at once, for a layer whose maps need no gradient.

    Nothing else needs the gradient before the ReLU: a line of it at a time is enough.
    """
    outputs, height, width, batch = normalised.shape
    flat_maps, offsets = maps.reshape(-1), window(maps.shape, grad_weight.shape[2])
    for c in prange(outputs):
        scale, slope, shift = _slopes(grad_output[c], normalised[c], norm, np.intp(c), sums)
        total, line = 0.0, np.empty((width, batch), np.float32)
        flat_line, zero = line.reshape(-1), np.intp(0)
        part, kernels = np.empty(len(offsets), np.float32), grad_weight[c].reshape(-1)
        for k in range(len(kernels)):
            kernels[k] = ZERO
        for y in range(height):
            total += _line_backward(grad_output[c, y], normalised[c, y], scale, slope, shift, line)
            at = y * maps.shape[2] * batch
            weight_gradient_of_lines(flat_line, zero, zero, flat_maps, at, offsets, width * batch, np.intp(1), part)
            for k in range(len(kernels)):
                kernels[k] += part[k]
        sums[2, c] = total


@compiled
def _slopes(grad_output, maps, norm, c, sums):
    """Scale [N], slope and shift of channel c: the gradient before ReLU is scale * grad_output + slope * maps + shift.

    `grad_output` and `maps` are the channel's, [H, W, N]. Ioffe and Szegedy (2015), section 3, have the gradient
    through the batch's mean and variance.
    """
    weight, settings, seed, statistics = norm
    dropped, dropped_after, dropped_maps = settings[2], settings[3], settings[4]
    height, width, batch = maps.shape
    mean, inverse = statistics[0, c], statistics[1, c]
    centre = np.float32(mean) if mean * inverse > FAR else ZERO
    scale = channel_mask(dropped_maps, seed, c, batch, np.float32(1))
    plain = products = 0.0
    for y in range(height):
        if dropped_after:
            drop_in_place(grad_output[y], dropped_after, ~seed, np.uint32(c * height + y))
        of_line = _sums(grad_output[y], maps[y], scale, centre)
        plain += of_line[0]
        products += of_line[1]
    of_weight = (products - (mean - centre) * plain) * inverse
    factor = weight[c] * inverse / (1 - dropped)
    slope = -factor * inverse * of_weight / maps.size
    shift = -factor * plain / maps.size - slope * mean
    for n in range(batch):
        scale[n] *= np.float32(factor)
    sums[0, c], sums[1, c] = of_weight, plain
    return scale, np.float32(slope), np.float32(shift)


@compiled
def _sums(gradient, line, scale, centre):
    """Over a line [W, N], the sums of the gradient times each image's scale [N], and of that times line - centre."""
    width, batch = line.shape
    plain = products = ZERO
    for x in range(width):
        for n in range(batch):
            value = scale[n] * gradient[x, n]
            plain += value
            products += value * (line[x, n] - centre)
    return plain, products


@compiled
def _line_backward(gradient, line, scale, slope, shift, out):
    """The gradient of a line [W, N] before ReLU, and its sum."""
    width, batch = line.shape
    total = ZERO
    for x in range(width):
        for n in range(batch):
            value = ZERO if line[x, n] == ZERO else scale[n] * gradient[x, n] + slope * line[x, n] + shift
            out[x, n] = value
            total += value
    return total


@compiled
def _line_backward_in_place(gradient, line, scale, slope, shift):
    """The same to where the gradient is: told of one array less, the compiler need not fear that they overlap."""
    width, batch = line.shape
    total = ZERO
    for x in range(width):
        for n in range(batch):
            value = ZERO if line[x, n] == ZERO else scale[n] * gradient[x, n] + slope * line[x, n] + shift
            gradient[x, n] = value
            total += value
    return total


# The masks of both passes


@compiled
def channel_mask(dropped_maps, seed, channel, batch, factor):
    """The factor times what Dropout2d multiplies the channel's map of each image with [N]: 0 for a dropped one."""
    factors, threshold = np.empty(batch, np.float32), threshold_of(dropped_maps)
    scaled = np.float32(factor / (1 - dropped_maps))
    for n in range(batch):  # another seed: draws that Dropout does not use
        dropped = dropped_maps > 0 and draw(seed ^ OTHER, np.uint32(channel * batch + n)) < threshold
        factors[n] = ZERO if dropped else scaled
    return factors


@compiled
def drop_line(line, dropped, seed, number, out):
    """That share of a line [W, N], the one with that number of all, to 0, and the rest scaled up, to `out`."""
    width, batch = line.shape
    threshold, scale = threshold_of(dropped), np.float32(1 / (1 - dropped))
    for x in range(width):
        first = (number * np.uint32(width) + np.uint32(x)) * np.uint32(batch)
        for n in range(batch):
            out[x, n] = ZERO if draw(seed, first + np.uint32(n)) < threshold else line[x, n] * scale


@compiled
def drop_in_place(line, dropped, seed, number):
    """The same where the line is: told of one array less, the compiler need not fear that they overlap."""
    width, batch = line.shape
    threshold, scale = threshold_of(dropped), np.float32(1 / (1 - dropped))
    for x in range(width):
        first = (number * np.uint32(width) + np.uint32(x)) * np.uint32(batch)
        for n in range(batch):
            line[x, n] = ZERO if draw(seed, first + np.uint32(n)) < threshold else line[x, n] * scale


@compiled
def draw(seed, position):
    """32 random bits that belong to a seed of 64 bits and a position: Wellons's lowbias32, keyed twice.

    https://github.com/skeeto/hash-prospector
    """
    bits = np.uint32(position) ^ np.uint32(seed)
    bits = np.uint32((bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D))
    bits = np.uint32((bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B))
    bits ^= np.uint32(seed >> np.uint64(32))
    bits = np.uint32((bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D))
    return bits ^ (bits >> np.uint32(15))


@compiled
def threshold_of(share):
    """What the draws of that share lie below."""
    return np.uint32(round(share * 2.0**32))
