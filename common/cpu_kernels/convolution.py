"""Convolutions of feature maps in CHWN layout, [C, H, W, N]: loops that numba compiles for this processor.

A vector unit computes 8 or 16 numbers at once, and a library's convolution gives it as many channels of a pixel. These
networks have 8, 10 or 16 channels, which leaves lanes empty, and short rows, which leave a rest at every edge. But they
have 64 images in a batch, and all go through the same arithmetic: with a pixel of all images side by side in memory,
every lane is full, and a row of a map is one long line.

All arrays are float32 and C-contiguous unless another type is named. Lines or channels are shared out between the
threads, and each sum is computed by one of them in a fixed order: results do not depend on how many there are.

A convolution's input comes with its zero padding around it. Its weight is [O, I, size, size], as in PyTorch.
"""

import numpy as np
from numba import prange

from common.cpu_kernels.compiler import compiled, compiled_parallel
from common.cpu_kernels.registers import AT_ONCE, LANES, PRODUCTS, dot_products, weighted_sums

ZERO = np.float32(0)


@compiled_parallel
def convolve(maps, weights, bias, size, out):
    """Maps [I, H + size - 1, W + size - 1, N] to `out` [O, H, W, N], with `forward_weights` or `backward_weights`."""
    outputs, height = out.shape[:2]
    offsets = window(maps.shape, size)
    for task in prange(tasks(outputs, height)):
        channel, rows, y = lines_of(task, outputs, height)
        convolve_lines(maps, offsets, weights, bias, channel, rows, y, out)


@compiled
def tasks(outputs, height):
    """Into how many tasks the lines of `outputs` maps are divided: the lines at one height of 4 or 5 maps are one."""
    rows = 5 if outputs % 5 == 0 else 4
    return (outputs // rows + outputs % rows) * height


@compiled
def lines_of(task, outputs, height):
    """Which lines a task has: its first map, the number of maps, and the lines' height in them."""
    rows = 5 if outputs % 5 == 0 else 4
    parts = outputs // rows + outputs % rows
    part, y = task % parts, task // parts
    whole = outputs // rows
    return (part * rows, rows, y) if part < whole else (whole * rows + part - whole, 1, y)


@compiled
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


@compiled
def strided_lines(maps, offsets, weights, bias, channel, rows, y, stride, out):
    """`convolve_lines` for a convolution that goes `stride` places at a time: with 2, every second.

    Only the images of one place lie side by side then.
    """
    _, height, width, batch = out.shape
    flat_maps, flat_out, apart = maps.reshape(-1), out.reshape(-1), height * width * batch
    for x in range(width):
        place, first = (y * maps.shape[2] + x) * stride * batch, ((channel * height + y) * width + x) * batch
        if batch < AT_ONCE:
            for c in range(rows):
                values = flat_out[first + c * apart : first + c * apart + batch]
                for n in range(batch):
                    values[n] = bias[channel + c]
                for k in range(len(offsets)):
                    weight, there = weights[k, channel + c], flat_maps[place + offsets[k] :]
                    for n in range(batch):
                        values[n] += weight * there[n]
            continue
        for start in range(0, batch, AT_ONCE):
            n = min(start, batch - AT_ONCE)
            at, to = place + n, first + n
            if rows == 5:
                weighted_sums(5, flat_maps, at, offsets, weights, bias, channel, flat_out, to, apart)
            elif rows == 4:
                weighted_sums(4, flat_maps, at, offsets, weights, bias, channel, flat_out, to, apart)
            else:
                weighted_sums(1, flat_maps, at, offsets, weights, bias, channel, flat_out, to, apart)


@compiled_parallel
def dilate(maps, stride, padding, out):
    """Maps [C, H, W, N] to every `stride`-th place of each side of `out`, from `padding` on; the rest is left as it is.

    With zeros there, a strided convolution's gradient becomes that of one that takes every place.
    """
    channels, height, width, batch = maps.shape
    for line in prange(channels * height):
        c, y = line // height, line % height
        for x in range(width):
            for n in range(batch):
                out[c, padding + y * stride, padding + x * stride, n] = maps[c, y, x, n]


@compiled_parallel
def strided_input_gradient(dilated, weights, stride, padding, out):
    """The gradient of the maps, from `dilate`'s, with `padding` zeros around it, and `backward_weights`, to `out`.

    Of the three rows that a kernel sees, those that hold only zeros are left out.
    """
    outputs, height = out.shape[:2]
    places = window(dilated.shape, 3)
    bias = np.zeros(outputs, np.float32)
    for task in prange(tasks(outputs, height)):
        channel, rows, y = lines_of(task, outputs, height)
        count, chosen = 0, np.empty(len(places), np.intp)
        for k in range(len(places)):
            if (y + k // 3 % 3 - padding) % stride == 0:
                chosen[count] = k
                count += 1
        offsets, kernels = np.empty(count, np.intp), np.empty((count, outputs), np.float32)
        for k in range(count):
            offsets[k] = places[chosen[k]]
            for o in range(outputs):
                kernels[k, o] = weights[chosen[k], o]
        convolve_lines(dilated, offsets, kernels, bias, channel, rows, y, out)


@compiled
def short_lines(flat_maps, line, offsets, weights, bias, channel, rows, y, out):
    """The same as a plain loop: for each output map, one of the window's places after the other."""
    for c in range(channel, channel + rows):
        values = out[c, y].reshape(-1)
        for n in range(len(values)):
            values[n] = bias[c]
        for k in range(len(offsets)):
            weight, there = weights[k, c], flat_maps[line + offsets[k] :]
            for n in range(len(values)):
                values[n] += weight * there[n]


@compiled
def window(shape, size):
    """Where in maps [I, H, W, N] the I * size * size numbers of a window lie, counted from its first one."""
    inputs, height, width, batch = shape
    offsets, k = np.empty(inputs * size * size, np.intp), 0
    for i in range(inputs):
        for y in range(size):
            for x in range(size):
                offsets[k] = ((i * height + y) * width + x) * batch
                k += 1
    return offsets


@compiled
def forward_weights(weight):
    """A weight [O, I, size, size] as `convolve` takes it, [I * size * size, O]."""
    outputs, inputs, size, _ = weight.shape
    weights = np.empty((inputs * size * size, outputs), np.float32)
    for o in range(outputs):
        for i in range(inputs):
            for y in range(size):
                for x in range(size):
                    weights[(i * size + y) * size + x, o] = weight[o, i, y, x]
    return weights


@compiled
def backward_weights(weight):
    """The same for the gradient: it goes from the outputs to the inputs, through kernels turned by half a turn."""
    outputs, inputs, size, _ = weight.shape
    weights = np.empty((outputs * size * size, inputs), np.float32)
    for o in range(outputs):
        for i in range(inputs):
            for y in range(size):
                for x in range(size):
                    weights[(o * size + y) * size + x, i] = weight[o, i, size - 1 - y, size - 1 - x]
    return weights


@compiled_parallel
def weight_gradient(maps, grad_output, padding, stride, grad_weight):
    """The gradient of a convolution's weight, to `grad_weight` [O, I, size, size].

    Maps are [I, H + size - 1, W + size - 1, N]; `grad_output`, [O, H, W, N], has `padding` more values on each side.
    With a stride it is `dilate`'s, and only every `stride`-th row is looked at. Each is a task; what they give is added
    up in their order.
    """
    outputs, high, wide, batch = grad_output.shape
    height, width = (high - 2 * padding + stride - 1) // stride, wide - 2 * padding
    flat_maps, flat_gradient, total = maps.reshape(-1), grad_output.reshape(-1), grad_weight.reshape(-1)
    offsets = window(maps.shape, grad_weight.shape[2])
    parts = np.empty((height, len(total)), np.float32)
    for y in prange(height):
        of, at = ((y * stride + padding) * wide + padding) * batch, y * stride * maps.shape[2] * batch
        weight_gradient_of_lines(
            flat_gradient, of, high * wide * batch, flat_maps, at, offsets, width * batch, outputs, parts[y]
        )
    for k in range(len(total)):
        total[k] = parts[0, k]
    for y in range(1, height):
        for k in range(len(total)):
            total[k] += parts[y, k]


@compiled
def weight_gradient_of_lines(gradient, of, apart, maps, at, offsets, count, outputs, out):
    """What one row of maps adds to the weight's gradient, to `out` [O * K], from a line of each output's gradient.

    `gradient` and `maps` are flat. The outputs' lines of `count` numbers begin at `of` and lie `apart`; the row's first
    window begins at `at`.
    """
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


@compiled
def conv_forward(maps, weight, bias, out):
    """A convolution of maps as `convolve` takes them, with a weight [O, I, size, size] and a bias [O], to `out`."""
    convolve(maps, forward_weights(weight), bias, weight.shape[2], out)


@compiled
def conv_backward(grad_output, maps, weight, padding, padded, grad_input, grad_weight, grad_bias):
    """From the gradient of what `conv_forward` gave, those of its maps, weight and bias.

    `padded` is room for the gradient with `padding` zeros around it. `grad_input` is the gradient of the maps without
    their padding, and has no lines where it is not wanted.
    """
    pad(grad_output, padding, padded, grad_bias)
    weight_gradient(maps, padded, padding, 1, grad_weight)
    if grad_input.size:
        zeros = np.zeros(weight.shape[1], np.float32)
        convolve(padded, backward_weights(weight), zeros, weight.shape[2], grad_input)


@compiled_parallel
def pad(maps, padding, out, sums):
    """Maps [C, H, W, N] with `padding` zeros around them, to `out`; the sum of each channel's values to `sums` [C]."""
    channels, height, _, _ = maps.shape
    for c in prange(channels):
        total = ZERO
        for y in range(height):
            total += copy_line(maps[c, y], padded_line(out[c], y, padding))
        sums[c] = total


@compiled
def copy_line(line, out):
    """A line [W, N] to another place, and its sum."""
    width, batch = line.shape
    total = ZERO
    for x in range(width):
        for n in range(batch):
            out[x, n] = line[x, n]
            total += line[x, n]
    return total


@compiled
def padded_line(out, y, padding):
    """Line y of a map [H + 2 * padding, W + 2 * padding, N], without its padding, which is set to 0 around it."""
    if padding:
        height = len(out) - 2 * padding
        clear(out, y + padding, y + padding + 1, 0, padding)
        clear(out, y + padding, y + padding + 1, out.shape[1] - padding, out.shape[1])
        if y == 0:
            clear(out, 0, padding, 0, out.shape[1])
        if y == height - 1:
            clear(out, height + padding, len(out), 0, out.shape[1])
    return out[y + padding, padding : out.shape[1] - padding]


@compiled
def clear(maps, top, bottom, left, right):
    """Zeros in these rows and columns of a map [H, W, N]."""
    for y in range(top, bottom):
        for x in range(left, right):
            for n in range(maps.shape[2]):
                maps[y, x, n] = ZERO
