"""ReLU, dropout and BatchNorm of maps with the batch innermost, [C, H, W, N], in two passes over a map.

As in `common.kernels`, arrays are float32 and C-contiguous unless another type is named.
"""

import numpy as np
from numba import prange

from common.kernels import ZERO, inner, outer


@outer
def normalise(maps, weight, bias, mean, inverse, epsilon, dropped, dropped_maps, seed, out):
    """ReLU, Dropout, BatchNorm and Dropout2d, one after the other: maps [C, H, W, N] to `out`.

    `dropped` is the share of values that Dropout drops, `dropped_maps` that of the maps which Dropout2d drops whole,
    and `seed` (uint64) says which. `weight` and `bias` [C] are BatchNorm's. `maps` are left as BatchNorm saw them;
    `mean` and `inverse` (float64 [C]) get its mean and 1 / sqrt(variance + epsilon).
    """
    channels, height, width, batch = maps.shape
    count = height * width * batch
    threshold, scale = _threshold(dropped), np.float32(1 / (1 - dropped))
    for c in prange(channels):
        total = squares = 0.0
        for y in range(height):
            line = maps[c, y].reshape(-1)
            if dropped:
                sums = _rectify_and_drop(line, threshold, scale, seed, np.uint32((c * height + y) * len(line)))
            else:
                sums = _rectify(line)
            total += sums[0]
            squares += sums[1]
        mean[c] = total / count
        inverse[c] = 1 / np.sqrt(max(squares / count - mean[c] ** 2, 0.0) + epsilon)
        scales = _kept(dropped_maps, seed, c, batch)
        shifts = scales * np.float32(bias[c] - mean[c] * inverse[c] * weight[c])
        scales *= np.float32(inverse[c] * weight[c])
        for y in range(height):
            _scale_and_shift(maps[c, y], scales, shifts, out[c, y])


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
def _kept(dropped_maps, seed, channel, batch):
    """What Dropout2d multiplies the channel's map of each image with: 0 for a dropped one."""
    factors, threshold = np.ones(batch, np.float32), _threshold(dropped_maps)
    if dropped_maps:
        for n in range(batch):  # the seed's complement: draws that Dropout does not use
            draw = _draw(~seed, np.uint32(channel * batch + n))
            factors[n] = ZERO if draw < threshold else np.float32(1 / (1 - dropped_maps))
    return factors


@inner
def _scale_and_shift(line, scale, shift, out):
    """A line [W, N] of a map, each image's times its scale [N] plus its shift [N]."""
    width, batch = line.shape
    for x in range(width):
        for n in range(batch):
            out[x, n] = scale[n] * line[x, n] + shift[n]


@outer
def normalise_gradient(gradient, maps, weight, mean, inverse, dropped, dropped_maps, seed, border, out, sums):
    """From the gradient [C, H, W, N] of what `normalise` gave, that of its maps as they came.

    It goes to `out`, with `border` zeros on each side; `sums` [3, C] gets the gradients of weight and bias, and the sum
    of `out`, the gradient of a bias before the ReLU. `maps` are as `normalise` left them: where one is 0, ReLU or
    Dropout stopped it. Ioffe and Szegedy (2015), section 3, have the gradient through the batch's mean and variance.
    """
    channels, height, width, batch = gradient.shape
    count = height * width * batch
    for c in prange(channels):
        kept = _kept(dropped_maps, seed, c, batch)
        plain, products = np.zeros(batch, np.float32), np.zeros(batch, np.float32)
        for y in range(height):
            _add_sums(gradient[c, y], maps[c, y], plain, products)
        of_bias = np.sum((kept * plain).astype(np.float64))
        of_weight = (np.sum((kept * products).astype(np.float64)) - mean[c] * of_bias) * inverse[c]
        factor = weight[c] * inverse[c] / (1 - dropped)
        slope = -factor * inverse[c] * of_weight / count
        shift = np.float32(-factor * of_bias / count - slope * mean[c])
        kept *= np.float32(factor)
        total = 0.0
        if border:
            out[c, :border], out[c, height + border :] = ZERO, ZERO
        for y in range(height):
            line = out[c, y + border]
            if border:
                line[:border], line[width + border :] = ZERO, ZERO
            inside = line[border : border + width]
            total += _gradient_before(gradient[c, y], maps[c, y], kept, np.float32(slope), shift, inside)
        sums[0, c], sums[1, c], sums[2, c] = of_weight, of_bias, total


@inner
def _add_sums(gradient, line, plain, products):
    """Over the pixels of a line [W, N], each image's sum of the gradient [N], and of its products with the values."""
    width, batch = line.shape
    for x in range(width):
        for n in range(batch):
            plain[n] += gradient[x, n]
            products[n] += gradient[x, n] * line[x, n]


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
