"""The gradients of `common.kernels_norm`: of a convolution with ReLU, dropout and BatchNorm behind it.

As in `common.kernels`, arrays are float32 and C-contiguous unless another type is named.
"""

import numpy as np
from numba import prange

from common import kernels as loops
from common.kernels import ZERO, inner, outer
from common.kernels_norm import kept


@inner
def block_gradient(gradient, maps, kernels, before, weight, statistics, dropout, seed, border, results, of_channels):
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
