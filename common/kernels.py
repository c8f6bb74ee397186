"""Loops over maps with the batch innermost, [channels, height, width, batch], which numba compiles for this processor.

A vector unit computes 8 or 16 numbers at once, and a library's convolution gives it as many channels of a pixel. These
networks have 8, 10 or 16 channels, which leaves lanes empty, and short rows, which leave a rest at every edge. But they
have 64 images in a batch, and all go through the same arithmetic: with a pixel of all images side by side in memory,
every lane is full, and a row of a map is one long loop.

All arrays are float32 and C-contiguous unless another type is named. Channels or rows are shared out between the
threads, and each sum is computed by one of them in a fixed order: results do not depend on how many there are.
"""

import numba
import numpy as np
from llvmlite import binding
from numba import prange, uintp

# LLVM avoids AVX-512's widest vectors, since early processors slowed down for them; here they are up to twice as fast.
numba.config.CPU_NAME = binding.get_host_cpu_name()
numba.config.CPU_FEATURES = binding.get_host_cpu_features().flatten() + ",-prefer-256-bit"

# Sums may be computed in lanes, and a product and a sum in one instruction; unlike fastmath=True, NaN stays NaN.
OPTIONS = {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy", "cache": True}
inner = numba.njit(**OPTIONS)  # a loop over a row or over the images of a pixel
outer = numba.njit(parallel=True, **OPTIONS)  # the loops around it, shared out between threads

ZERO = np.float32(0)


@outer
def convolve(maps, kernels, bias, out):
    """Maps [I, H + 2, W + 2, N] with kernels [O, I, 3, 3] and bias [O] to `out` [O, H, W, N]."""
    outputs, height, width, batch = out.shape
    flat_maps, flat_out = maps.reshape(-1), out.reshape(-1)
    count, step, line = uintp(width * batch), uintp(batch), uintp((width + 2) * batch)
    for y in prange(height):
        for i in range(len(maps)):  # outside the outputs, so that three lines of a map stay in the nearest cache
            at = uintp(i * (height + 2) + y) * line
            for o in range(outputs):
                if i == 0:
                    out[o, y] = bias[o]
                to = uintp(o * height + y) * count
                _add_products(flat_out, to, count, flat_maps, at, line, step, _nine(kernels[o, i]))


@inner
def _add_products(out, to, count, maps, at, line, step, kernel):
    """Add to a line of `out` the products with a 3x3 kernel of the lines of `maps` that begin at `at`.

    These are positions in flat arrays, since to cut out a line as an array takes as long as to compute a short one,
    and unsigned, so that none needs to be looked at for whether it counts from the end.
    """
    for n in range(count):
        total = out[to + n]
        for y in range(3):
            for x in range(3):
                total += kernel[3 * y + x] * maps[at + uintp(y) * line + uintp(x) * step + n]
        out[to + n] = total


@inner
def _nine(kernel):
    """The values of a 3x3 kernel as a tuple, which the compiler keeps in registers."""
    upper, middle, lower = kernel[0], kernel[1], kernel[2]
    return upper[0], upper[1], upper[2], middle[0], middle[1], middle[2], lower[0], lower[1], lower[2]


@outer
def kernel_gradient(maps, gradient, border, out):
    """The gradient of `convolve`'s kernels, to `out` [O, I, 3, 3].

    Maps are [I, H + 2, W + 2, N]; the gradient of the convolution, [O, H, W, N], has `border` more values on each side.
    """
    outputs, high, wide, batch = gradient.shape
    height, width = high - 2 * border, wide - 2 * border
    flat_maps, flat_gradient = maps.reshape(-1), gradient.reshape(-1)
    count, step, line = uintp(width * batch), uintp(batch), uintp((width + 2) * batch)
    for i in prange(len(maps)):
        out[:, i] = 0
        for y in range(height):
            at = uintp(i * (height + 2) + y) * line
            for o in range(outputs):
                of = uintp(((o * high + y + border) * wide + border) * batch)
                _add_dot_products(flat_gradient, of, count, flat_maps, at, line, step, out[o, i])


@inner
def _add_dot_products(gradient, of, count, maps, at, line, step, out):
    """Add to `out` [3, 3] the dot products of a line of the gradient and the nine lines that a kernel meets."""
    a = b = c = d = e = f = g = h = i = ZERO
    at1, at2 = at + line, at + line + line
    for n in range(count):
        value = gradient[of + n]
        a += value * maps[at + n]
        b += value * maps[at + step + n]
        c += value * maps[at + step + step + n]
        d += value * maps[at1 + n]
        e += value * maps[at1 + step + n]
        f += value * maps[at1 + step + step + n]
        g += value * maps[at2 + n]
        h += value * maps[at2 + step + n]
        i += value * maps[at2 + step + step + n]
    out[0, 0] += a
    out[0, 1] += b
    out[0, 2] += c
    out[1, 0] += d
    out[1, 1] += e
    out[1, 2] += f
    out[2, 0] += g
    out[2, 1] += h
    out[2, 2] += i


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
            for x in range(width):
                _scale_and_shift(maps[c, y, x], scales, shifts, out[c, y, x])


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
def _scale_and_shift(values, scale, shift, out):
    for n in range(len(values)):
        out[n] = scale[n] * values[n] + shift[n]


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
        kept, plain, products = (
            _kept(dropped_maps, seed, c, batch),
            np.zeros(batch, np.float32),
            np.zeros(batch, np.float32),
        )
        for y in range(height):
            for x in range(width):
                _add_sums(gradient[c, y, x], maps[c, y, x], plain, products)
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
            for x in range(width):
                total += _gradient_before(
                    gradient[c, y, x], maps[c, y, x], kept, np.float32(slope), shift, line[x + border]
                )
        sums[0, c], sums[1, c], sums[2, c] = of_weight, of_bias, total


@inner
def _add_sums(gradient, values, plain, products):
    for n in range(len(gradient)):
        plain[n] += gradient[n]
        products[n] += gradient[n] * values[n]


@inner
def _gradient_before(gradient, values, scale, slope, shift, out):
    total = ZERO
    for n in range(len(gradient)):
        value = ZERO if values[n] == ZERO else scale[n] * gradient[n] + slope * values[n] + shift
        out[n] = value
        total += value
    return total


@outer
def pool(maps, out, index):
    """The largest of each 2x2 values of maps [C, 2H or 2H + 1, ..., N], and which of the four it was (uint8)."""
    channels, height, width, _ = out.shape
    for line in prange(channels * height):
        c, y = line // height, line % height
        upper, lower = maps[c, 2 * y], maps[c, 2 * y + 1]
        for x in range(width):
            left, right = 2 * x, 2 * x + 1
            _largest_of_four(upper[left], upper[right], lower[left], lower[right], out[c, y, x], index[c, y, x])


@inner
def _largest_of_four(first, second, third, fourth, out, index):
    for n in range(len(out)):
        largest, which = first[n], 0
        if second[n] > largest:
            largest, which = second[n], 1
        if third[n] > largest:
            largest, which = third[n], 2
        if fourth[n] > largest:
            largest, which = fourth[n], 3
        out[n], index[n] = largest, which


@outer
def pool_gradient(gradient, index, out):
    """The gradient [C, H, W, N] sent to where the largest value was; an odd last row or column of `out` stays."""
    channels, height, width, _ = gradient.shape
    for line in prange(channels * height):
        c, y = line // height, line % height
        for x in range(width):
            for which in range(4):
                to = out[c, 2 * y + which // 2, 2 * x + which % 2]
                _gradient_of_one(gradient[c, y, x], index[c, y, x], which, to)


@inner
def _gradient_of_one(gradient, index, which, out):
    for n in range(len(gradient)):
        out[n] = gradient[n] if index[n] == which else ZERO
