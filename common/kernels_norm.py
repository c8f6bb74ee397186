"""A convolution with ReLU, dropout and BatchNorm behind it, for maps with the batch innermost, [C, H, W, N].

As in `common.kernels`, arrays are float32 and C-contiguous unless another type is named.
"""

import numpy as np
from numba import prange

from common import kernels as loops
from common.kernels import ZERO, inner, outer


@inner
def block(maps, kernels, bias, norm, momentum, epsilon, dropout, seed, border, before, out, statistics):
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
