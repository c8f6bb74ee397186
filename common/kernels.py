"""Convolutions and pools of maps with the batch innermost, [C, H, W, N]: loops that numba compiles for this processor.

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
if not numba.config.CPU_FEATURES:  # NUMBA_CPU_FEATURES would set them
    numba.config.CPU_NAME = binding.get_host_cpu_name()
    numba.config.CPU_FEATURES = binding.get_host_cpu_features().flatten() + ",-prefer-256-bit"

# Sums may be computed in lanes, and a product and a sum in one instruction; unlike fastmath=True, NaN stays NaN.
OPTIONS = {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}


def inner(function, parallel=False):
    """Have numba compile a loop over a row or over the images of a pixel, and keep the result on the disk."""
    try:
        return numba.njit(parallel=parallel, cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder for it can be written: compiled anew by every process
        return numba.njit(parallel=parallel, **OPTIONS)(function)


def outer(function):
    """The same for the loops around it, which are shared out between threads."""
    return inner(function, parallel=True)


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
    """The gradient of `convolve`'s kernels: each line's part of it to `out` [H, O, I, 3, 3], whose sum it is.

    Maps are [I, H + 2, W + 2, N]; the gradient of the convolution, [O, H, W, N], has `border` more values on each side.
    """
    outputs, high, wide, batch = gradient.shape
    height, width = high - 2 * border, wide - 2 * border
    flat_maps, flat_gradient = maps.reshape(-1), gradient.reshape(-1)
    count, step, line = uintp(width * batch), uintp(batch), uintp((width + 2) * batch)
    for y in prange(height):
        for i in range(len(maps)):
            at = uintp(i * (height + 2) + y) * line
            for o in range(outputs):
                of = uintp(((o * high + y + border) * wide + border) * batch)
                _dot_products(flat_gradient, of, count, flat_maps, at, line, step, out[y, o, i])


@inner
def _dot_products(gradient, of, count, maps, at, line, step, out):
    """To `out` [3, 3], the dot products of a line of the gradient with the nine lines that a kernel meets."""
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
    out[0, 0], out[0, 1], out[0, 2] = a, b, c
    out[1, 0], out[1, 1], out[1, 2] = d, e, f
    out[2, 0], out[2, 1], out[2, 2] = g, h, i


@outer
def pool(maps, out, index):
    """The largest of each 2x2 values of maps [C, 2H or 2H + 1, ..., N], and which of the four it was (uint8)."""
    channels, height, width, _ = out.shape
    for line in prange(channels * height):
        c, y = line // height, line % height
        _largest_of_four(maps[c, 2 * y], maps[c, 2 * y + 1], out[c, y], index[c, y])


@inner
def _largest_of_four(upper, lower, out, index):
    """Of two lines [2 W or more, N], one line [W, N]."""
    width, batch = out.shape
    for x in range(width):
        for n in range(batch):
            largest, which = upper[2 * x, n], 0
            if upper[2 * x + 1, n] > largest:
                largest, which = upper[2 * x + 1, n], 1
            if lower[2 * x, n] > largest:
                largest, which = lower[2 * x, n], 2
            if lower[2 * x + 1, n] > largest:
                largest, which = lower[2 * x + 1, n], 3
            out[x, n], index[x, n] = largest, which


@outer
def pool_gradient(gradient, index, out):
    """The gradient [C, H, W, N] sent to where the largest value was; an odd last row or column of `out` stays."""
    channels, height, width, _ = gradient.shape
    for line in prange(channels * height):
        c, y = line // height, line % height
        for which in range(4):
            _gradient_of_one(gradient[c, y], index[c, y], which, out[c, 2 * y + which // 2])


@inner
def _gradient_of_one(gradient, index, which, out):
    """What one of the four gets: to the even or the odd pixels of a line [2 W or more, N]."""
    width, batch = gradient.shape
    for x in range(width):
        for n in range(batch):
            out[2 * x + which % 2, n] = gradient[x, n] if index[x, n] == which else ZERO
