"""Convolutions of maps with the batch innermost, [C, H, W, N]: loops that numba compiles for this processor.

A vector unit computes 8 or 16 numbers at once, and a library's convolution gives it as many channels of a pixel. These
networks have 8, 10 or 16 channels, which leaves lanes empty, and short rows, which leave a rest at every edge. But they
have 64 images in a batch, and all go through the same arithmetic: with a pixel of all images side by side in memory,
every lane is full, and a row of a map is one long line.

All arrays are float32 and C-contiguous unless another type is named. Channels or rows are shared out between the
threads, and each sum is computed by one of them in a fixed order: results do not depend on how many there are.
"""

import numba
import numpy as np
from numba import prange

from common.cpu_kernels.registers import AT_ONCE, LANES, PRODUCTS, dot_products, weighted_sums

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
def convolve(maps, weights, bias, size, out):
    """Maps [I, H + size - 1, W + size - 1, N] to `out` [O, H, W, N], with `forward_weights` or `backward_weights`."""
    outputs, height = out.shape[:2]
    offsets = window(maps.shape, size)
    for task in prange(tasks(outputs, height)):
        channel, rows, y = lines_of(task, outputs, height)
        convolve_lines(maps, offsets, weights, bias, channel, rows, y, out)


@inner
def tasks(outputs, height):
    """Into how many parts the lines of `outputs` maps are divided: a few maps' lines of equal height are one."""
    rows = 5 if outputs % 5 == 0 else 4
    return (outputs // rows + outputs % rows) * height


@inner
def lines_of(task, outputs, height):
    """Which lines a part has: its first map, the number of maps, and the lines' height in them."""
    rows = 5 if outputs % 5 == 0 else 4
    parts = outputs // rows + outputs % rows
    part, y = task % parts, task // parts
    whole = outputs // rows
    return (part * rows, rows, y) if part < whole else (whole * rows + part - whole, 1, y)


@inner
def convolve_lines(maps, offsets, weights, bias, channel, rows, y, out):
    """The lines at height y of as many output maps as `rows` says, 1, 4 or 5, from that channel on."""
    _, height, width, batch = out.shape
    flat_maps, flat_out = maps.reshape(-1), out.reshape(-1)
    count, line, apart = width * batch, y * maps.shape[2] * batch, height * width * batch
    if count < AT_ONCE:
        short_lines(flat_maps, line, offsets, weights, bias, channel, rows, y, out)
        return
    for start in range(0, count, AT_ONCE):
        n = min(start, count - AT_ONCE)  # the last ones overlap those before, and are computed twice
        at, to = line + n, (channel * height + y) * count + n
        if rows == 5:  # the numbers of rows must be constants
            weighted_sums(5, flat_maps, at, offsets, weights, bias, channel, flat_out, to, apart)
        elif rows == 4:
            weighted_sums(4, flat_maps, at, offsets, weights, bias, channel, flat_out, to, apart)
        else:
            weighted_sums(1, flat_maps, at, offsets, weights, bias, channel, flat_out, to, apart)


@inner
def short_lines(flat_maps, line, offsets, weights, bias, channel, rows, y, out):
    """The same, one place that the kernel looks at after the other."""
    for c in range(channel, channel + rows):
        values = out[c, y].reshape(-1)
        for n in range(len(values)):
            values[n] = bias[c]
        for k in range(len(offsets)):
            weight, there = weights[k, c], flat_maps[line + offsets[k] :]
            for n in range(len(values)):
                values[n] += weight * there[n]


@inner
def window(shape, size):
    """Where in maps [I, H, W, N] the I * size * size numbers lie that a kernel looks at, counted from the first one."""
    inputs, height, width, batch = shape
    offsets, k = np.empty(inputs * size * size, np.intp), 0
    for i in range(inputs):
        for y in range(size):
            for x in range(size):
                offsets[k] = ((i * height + y) * width + x) * batch
                k += 1
    return offsets


@inner
def forward_weights(kernels):
    """Kernels [O, I, size, size] as `convolve` takes them, [I * size * size, O]."""
    outputs, inputs, size, _ = kernels.shape
    weights = np.empty((inputs * size * size, outputs), np.float32)
    for o in range(outputs):
        for i in range(inputs):
            for y in range(size):
                for x in range(size):
                    weights[(i * size + y) * size + x, o] = kernels[o, i, y, x]
    return weights


@inner
def backward_weights(kernels):
    """The same for the gradient: it goes from the outputs to the inputs, through kernels turned by half a turn."""
    outputs, inputs, size, _ = kernels.shape
    weights = np.empty((outputs * size * size, inputs), np.float32)
    for o in range(outputs):
        for i in range(inputs):
            for y in range(size):
                for x in range(size):
                    weights[(o * size + y) * size + x, i] = kernels[o, i, size - 1 - y, size - 1 - x]
    return weights


@outer
def kernel_gradient(maps, gradient, border, out):
    """The gradient of `convolve`'s kernels, to `out` [O, I, size, size].

    Maps are [I, H + size - 1, W + size - 1, N]; the gradient of the convolution, [O, H, W, N], has `border` more values
    on each side. Each row is a task; what they find is added up in their order.
    """
    outputs, high, wide, batch = gradient.shape
    height, width = high - 2 * border, wide - 2 * border
    flat_maps, flat_gradient, flat_out = maps.reshape(-1), gradient.reshape(-1), out.reshape(-1)
    offsets = window(maps.shape, out.shape[2])
    parts = np.empty((height, len(flat_out)), np.float32)
    for y in prange(height):
        of, at = (y + border) * wide * batch + border * batch, y * maps.shape[2] * batch
        kernel_gradient_of_lines(
            flat_gradient, of, high * wide * batch, flat_maps, at, offsets, width * batch, outputs, parts[y]
        )
    for k in range(len(flat_out)):
        flat_out[k] = parts[0, k]
    for y in range(1, height):
        for k in range(len(flat_out)):
            flat_out[k] += parts[y, k]


@inner
def kernel_gradient_of_lines(gradient, of, apart, maps, at, offsets, count, outputs, out):
    """What one row of maps adds to the kernels' gradient, to `out` [O * K], from a line of each output's gradient."""
    columns, whole = len(offsets), count // LANES * LANES
    places = PRODUCTS if columns >= PRODUCTS else 1
    rows = 2 if outputs >= 2 and places > 1 else 1
    for k in range(len(out)):
        out[k] = ZERO
    for first in range(0, columns, places):
        first = min(first, columns - places)  # the last ones may overlap those before, and are computed twice
        for o in range(0, outputs, rows):
            o = min(o, outputs - rows)
            start, to = of + o * apart, o * columns + first
            if whole and rows == 2:  # the numbers must be constants
                dot_products(2, gradient, start, apart, maps, at, offsets, first, PRODUCTS, whole, out, to, columns)
            elif whole and places > 1:
                dot_products(1, gradient, start, apart, maps, at, offsets, first, PRODUCTS, whole, out, to, columns)
            elif whole:
                dot_products(1, gradient, start, apart, maps, at, offsets, first, 1, whole, out, to, columns)
    for o in range(outputs):
        for k in range(columns):
            for n in range(whole, count):
                out[o * columns + k] += gradient[of + o * apart + n] * maps[at + offsets[k] + n]


@inner
def bordered_line(out, y, border):
    """Of a map [H + 2 * border, W + 2 * border, N] the line y without its border, which is set to 0 around it."""
    if border:
        height = len(out) - 2 * border
        clear(out, y + border, y + border + 1, 0, border)
        clear(out, y + border, y + border + 1, out.shape[1] - border, out.shape[1])
        if y == 0:
            clear(out, 0, border, 0, out.shape[1])
        if y == height - 1:
            clear(out, height + border, len(out), 0, out.shape[1])
    return out[y + border, border : out.shape[1] - border]


@inner
def clear(maps, top, bottom, left, right):
    """Zeros in these rows and columns of a map [H, W, N]."""
    for y in range(top, bottom):
        for x in range(left, right):
            for n in range(maps.shape[2]):
                maps[y, x, n] = ZERO


@inner
def pointwise(maps, kernels, bias, out):
    """A 1x1 convolution of maps [I, H, W, N] with kernels [O, I, 1, 1] and bias [O] to `out` [O, H, W, N]."""
    convolve(maps, forward_weights(kernels), bias, kernels.shape[2], out)


@inner
def pointwise_gradient(gradient, maps, kernels, border, of_maps, of_kernels, of_bias):
    """From the gradient of what `pointwise` gave, with no border, those of all it had."""
    kernel_gradient(maps, gradient, border, of_kernels)
    convolve(gradient, backward_weights(kernels), np.zeros(kernels.shape[1], np.float32), kernels.shape[2], of_maps)
    for o in range(len(gradient)):
        line, total = gradient[o].reshape(-1), ZERO
        for n in range(len(line)):
            total += line[n]
        of_bias[o] = total
