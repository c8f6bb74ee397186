"""A convolution with ReLU, dropout and BatchNorm behind it, for maps with the batch innermost, [C, H, W, N].

As in `common.cpu_kernels.convolution`, arrays are float32 and C-contiguous unless another type is named.
"""

import numpy as np
from numba import prange

from common.cpu_kernels import convolution as loops
from common.cpu_kernels.convolution import ZERO, inner, outer


@inner
def conv_relu_bn_forward(maps, kernels, bias, norm, momentum, epsilon, dropout, seed, border, before, out, statistics):
    """Convolution, ReLU, Dropout, BatchNorm and Dropout2d of maps as in `kernels.convolve`, to `out` [O, H, W, N].

    `out` has `border` zeros more on each side of its maps. `norm` is BatchNorm's weight, bias, running mean, running
    variance [O] and count of batches; `dropout` [2] the shares of the values that Dropout drops and of the maps that
    Dropout2d drops whole, and `seed` (uint64 [1]) says which. `before` [O, H, W, N] gets what BatchNorm sees,
    `statistics` (float64 [2, O]) its mean and 1 / sqrt(variance + epsilon).
    """
    sums = np.empty((2, before.shape[0], before.shape[1]))
    convolve_and_rectify(
        maps, loops.forward_weights(kernels), bias, kernels.shape[2], dropout[0], seed[0], before, sums
    )
    normalise(before, sums, norm, momentum, epsilon, dropout[1], seed[0], border, out, statistics)
    norm[4][()] += 1


@outer
def convolve_and_rectify(maps, weights, bias, size, dropped, seed, out, sums):
    """`kernels.convolve`, ReLU and Dropout; the sum of each line's values and of their squares to `sums` [2, O, H].

    Each line is in the nearest cache when ReLU and Dropout follow on the convolution.
    """
    outputs, height = out.shape[:2]
    offsets = loops.window(maps.shape, size)
    threshold, scale = _threshold(dropped), np.float32(1 / (1 - dropped))
    for task in prange(loops.tasks(outputs, height)):
        channel, rows, y = loops.lines_of(task, outputs, height)
        loops.convolve_lines(maps, offsets, weights, bias, channel, rows, y, out)
        for c in range(channel, channel + rows):
            line = out[c, y].reshape(-1)
            if dropped:
                total = _rectify_and_drop(line, threshold, scale, seed, np.uint32((c * height + y) * len(line)))
            else:
                total = _rectify(line)
            sums[0, c, y], sums[1, c, y] = total


@outer
def normalise(maps, sums, norm, momentum, epsilon, dropped_maps, seed, border, out, statistics):
    """BatchNorm and Dropout2d, with the sums [2, C, H] of the lines of maps [C, H, W, N] and of their squares."""
    channels, height, width, batch = maps.shape
    count = height * width * batch
    weight, bias, running_mean, running_variance, _ = norm
    for c in prange(channels):
        total = squares = 0.0
        for y in range(height):
            total += sums[0, c, y]
            squares += sums[1, c, y]
        mean = total / count
        variance = max(squares / count - mean**2, 0.0)
        inverse = 1 / np.sqrt(variance + epsilon)
        statistics[0, c], statistics[1, c] = mean, inverse
        running_mean[c] += momentum * (mean - running_mean[c])
        running_variance[c] += momentum * (variance * count / (count - 1) - running_variance[c])
        scale, shift = np.float32(inverse * weight[c]), np.float32(bias[c] - mean * inverse * weight[c])
        scales = kept(dropped_maps, seed, c, batch, scale)
        shifts = kept(dropped_maps, seed, c, batch, shift)
        for y in range(height):
            _scale_and_shift(maps[c, y], scales, shifts, loops.bordered_line(out[c], y, border))


@inner
def _rectify(line):
    """ReLU in place; the sum of the values and of their squares."""
    total = squares = ZERO
    for n in range(len(line)):
        value = ZERO if line[n] < ZERO else line[n]
        line[n] = value
        total += value
        squares += value * value
    return total, squares


@inner
def _rectify_and_drop(line, threshold, scale, seed, first):
    """ReLU and Dropout in place, the first value at that position of all; the sums as above."""
    total = squares = ZERO
    for n in range(len(line)):
        value = ZERO if line[n] < ZERO or _draw(seed, first + np.uint32(n)) < threshold else line[n] * scale
        line[n] = value
        total += value
        squares += value * value
    return total, squares


@inner
def kept(dropped_maps, seed, channel, batch, factor):
    """The factor times what Dropout2d multiplies the channel's map of each image with: 0 for a dropped one."""
    factors, threshold = np.empty(batch, np.float32), _threshold(dropped_maps)
    scaled = np.float32(factor / (1 - dropped_maps))
    for n in range(batch):  # the seed's complement: draws that Dropout does not use
        dropped = dropped_maps > 0 and _draw(~seed, np.uint32(channel * batch + n)) < threshold
        factors[n] = ZERO if dropped else scaled
    return factors


@inner
def _scale_and_shift(line, scale, shift, out):
    """A line [W, N] of a map, each image's times its scale [N] plus its shift [N]."""
    width, batch = line.shape
    for x in range(width):
        for n in range(batch):
            out[x, n] = scale[n] * line[x, n] + shift[n]


@inner
def _draw(seed, position):
    """32 random bits that belong to a seed of 64 bits and a position: Wellons's lowbias32, keyed twice.

    https://github.com/skeeto/hash-prospector
    """
    bits = np.uint32(position) ^ np.uint32(seed)
    bits = np.uint32((bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D))
    bits = np.uint32((bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B))
    bits ^= np.uint32(seed >> np.uint64(32))
    bits = np.uint32((bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D))
    return bits ^ (bits >> np.uint32(15))


@inner
def _threshold(share):
    """What the draws of that share lie below."""
    return np.uint32(round(share * 2.0**32))


@inner
def conv_relu_bn_backward(
    gradient, maps, kernels, before, weight, statistics, dropout, seed, border, results, of_channels
):
    """From the gradient [O, H, W, N] of what `block` gave, those of all it had.

    To `results`: the gradient before the ReLU, with `border` zeros on each side (without, it goes to where `gradient`
    is); that of the maps as they were without the convolution's own border, unless it is empty; the kernels'. To
    `of_channels`, [O] each: BatchNorm's weight's and bias's, and the convolution's bias's.
    """
    after, of_maps, of_kernels = results
    sums = np.empty((3, len(before)))
    norm = weight, statistics, dropout, seed[0]  # as `block` had them
    if of_maps.size:
        normalise_gradient(gradient, before, norm, border, after, sums)
        loops.kernel_gradient(maps, after, border, of_kernels)
        none = np.zeros(kernels.shape[1], np.float32)
        loops.convolve(after, loops.backward_weights(kernels), none, kernels.shape[2], of_maps)
    else:
        first_gradient(gradient, before, norm, maps, of_kernels, sums)
    of_weight, of_shift, of_bias = of_channels
    for o in range(len(before)):
        of_weight[o], of_shift[o], of_bias[o] = sums[0, o], sums[1, o], sums[2, o]


@outer
def normalise_gradient(gradient, maps, norm, border, out, sums):
    """From the gradient [C, H, W, N] of what `normalise` gave, that of its maps before ReLU and Dropout.

    It goes to `out`, with `border` zeros on each side, or without a border to where `gradient` is. `sums` (float64
    [3, C]) gets the gradients of weight and bias, and the sum of the result, the gradient of a bias before the ReLU.
    `maps` are as `normalise` had them: where one is 0, ReLU or Dropout stopped it.
    """
    weight, statistics, dropout, seed = norm
    channels, height, _, _ = maps.shape
    for c in prange(channels):
        scale, slope, shift = _slopes(gradient[c], maps[c], weight, statistics, dropout, seed, np.intp(c), sums)
        total = 0.0
        for y in range(height):
            if border:
                line = loops.bordered_line(out[c], y, border)
                total += _gradient_before(gradient[c, y], maps[c, y], scale, slope, shift, line)
            else:
                total += _gradient_in_place(gradient[c, y], maps[c, y], scale, slope, shift)
        sums[2, c] = total


@outer
def first_gradient(gradient, before, norm, maps, of_kernels, sums):
    """The same for the first layer, and at once its kernels' gradient, as `kernels.kernel_gradient` has it.

    Nothing else needs the gradient before the ReLU: a line of it at a time is enough.
    """
    outputs, height, width, batch = before.shape
    flat_maps, offsets = maps.reshape(-1), loops.window(maps.shape, of_kernels.shape[2])
    weight, statistics, dropout, seed = norm
    for c in prange(outputs):
        scale, slope, shift = _slopes(gradient[c], before[c], weight, statistics, dropout, seed, np.intp(c), sums)
        total, line = 0.0, np.empty((width, batch), np.float32)
        flat_line, zero = line.reshape(-1), np.intp(0)
        part, kernels = np.empty(len(offsets), np.float32), of_kernels[c].reshape(-1)
        for k in range(len(kernels)):
            kernels[k] = ZERO
        for y in range(height):
            total += _gradient_before(gradient[c, y], before[c, y], scale, slope, shift, line)
            at = y * maps.shape[2] * batch
            loops.kernel_gradient_of_lines(
                flat_line, zero, zero, flat_maps, at, offsets, width * batch, np.intp(1), part
            )
            for k in range(len(kernels)):
                kernels[k] += part[k]
        sums[2, c] = total


@inner
def _slopes(gradient, maps, weight, statistics, dropout, seed, c, sums):
    """Of channel c, with gradient and maps [H, W, N], scale [N], slope and shift: before ReLU the gradient is
    scale * gradient + slope * maps + shift.

    Ioffe and Szegedy (2015), section 3, have the gradient through the batch's mean and variance.
    """
    height, width, batch = maps.shape
    mean, inverse = statistics[0, c], statistics[1, c]
    scale = kept(dropout[1], seed, c, batch, np.float32(1))
    plain = products = 0.0
    for y in range(height):
        of_line = _sums(gradient[y], maps[y], scale)
        plain += of_line[0]
        products += of_line[1]
    of_weight = (products - mean * plain) * inverse
    factor = weight[c] * inverse / (1 - dropout[0])
    slope = -factor * inverse * of_weight / maps.size
    shift = -factor * plain / maps.size - slope * mean
    for n in range(batch):
        scale[n] *= np.float32(factor)
    sums[0, c], sums[1, c] = of_weight, plain
    return scale, np.float32(slope), np.float32(shift)


@inner
def _sums(gradient, line, scale):
    """Over a line [W, N], the sums of the gradient times each image's scale [N], and of its products with the line."""
    width, batch = line.shape
    plain = products = ZERO
    for x in range(width):
        for n in range(batch):
            value = scale[n] * gradient[x, n]
            plain += value
            products += value * line[x, n]
    return plain, products


@inner
def _gradient_before(gradient, line, scale, slope, shift, out):
    """The gradient of a line [W, N] before ReLU, and its sum."""
    width, batch = line.shape
    total = ZERO
    for x in range(width):
        for n in range(batch):
            value = ZERO if line[x, n] == ZERO else scale[n] * gradient[x, n] + slope * line[x, n] + shift
            out[x, n] = value
            total += value
    return total


@inner
def _gradient_in_place(gradient, line, scale, slope, shift):
    """The same to where the gradient is: told of one array less, the compiler need not fear that they overlap."""
    width, batch = line.shape
    total = ZERO
    for x in range(width):
        for n in range(batch):
            value = ZERO if line[x, n] == ZERO else scale[n] * gradient[x, n] + slope * line[x, n] + shift
            gradient[x, n] = value
            total += value
    return total
