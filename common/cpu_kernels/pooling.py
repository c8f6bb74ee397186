"""Pooling of feature maps in CHWN layout, [C, H, W, N], forward and backward.

As in `common.cpu_kernels.convolution`, arrays are float32 and C-contiguous unless another type is named.
"""

import numpy as np
from numba import prange

from common.cpu_kernels.compiler import compiled, compiled_parallel
from common.cpu_kernels.convolution import ZERO, clear, padded_line


@compiled_parallel
def max_pool_forward(maps, padding, out, index):
    """The largest of each 2x2 values of maps [C, 2H or 2H + 1, ..., N], and which of the four it was (uint8).

    To `out`, with `padding` zeros on each side, and to `index` [C, H, W, N]. As in PyTorch, the first of equal values
    counts as the largest, and NaN as larger than any number.
    """
    channels, height, _, _ = index.shape
    for line in prange(channels * height):
        c, y = line // height, line % height
        _largest_of_four(maps[c, 2 * y], maps[c, 2 * y + 1], padded_line(out[c], y, padding), index[c, y])


@compiled
def _largest_of_four(upper, lower, out, index):
    """Of two lines [2 W or more, N], one line [W, N]."""
    width, batch = out.shape
    for x in range(width):
        for n in range(batch):
            largest, which = upper[2 * x, n], 0
            if _is_larger(upper[2 * x + 1, n], largest):
                largest, which = upper[2 * x + 1, n], 1
            if _is_larger(lower[2 * x, n], largest):
                largest, which = lower[2 * x, n], 2
            if _is_larger(lower[2 * x + 1, n], largest):
                largest, which = lower[2 * x + 1, n], 3
            out[x, n], index[x, n] = largest, which


@compiled
def _is_larger(value, largest):
    """Whether the value takes the place of the largest so far; NaN always does."""
    return (value > largest) | (value != value)


@compiled_parallel
def max_pool_backward(grad_output, index, grad_input):
    """`grad_output` [C, H, W, N] sent to where the largest value was, and zeros to all other places of `grad_input`."""
    channels, height, width, _ = grad_output.shape
    for line in prange(channels * height):
        c, y = line // height, line % height
        for which in range(4):
            _gradient_of_one(grad_output[c, y], index[c, y], which, grad_input[c, 2 * y + which // 2])
    _clear_behind(grad_input, 2 * height, 2 * width)


@compiled
def _gradient_of_one(gradient, index, which, out):
    """What one of the four gets: to the even or the odd pixels of a line [2 W or more, N]."""
    width, batch = gradient.shape
    for x in range(width):
        for n in range(batch):
            out[2 * x + which % 2, n] = gradient[x, n] if index[x, n] == which else ZERO


@compiled
def average_pool_forward(maps, size, out):
    """The mean of each size x size values of maps [C, size * H or more, ..., N], to `out` [C, H, W, N].

    Such maps come late in a network and are small: to share them out between threads would take longer.
    """
    channels, height, width, batch = out.shape
    share = np.float32(1 / size**2)
    for c in range(channels):
        clear(out[c], 0, height, 0, width)
        for y in range(height * size):
            for x in range(width * size):
                for n in range(batch):
                    out[c, y // size, x // size, n] += share * maps[c, y, x, n]


@compiled
def average_pool_backward(grad_output, size, grad_input):
    """Each value of `grad_output` [C, H, W, N] shared out among those that it is the mean of; the rest gets zeros."""
    channels, height, width, batch = grad_output.shape
    share = np.float32(1 / size**2)
    for c in range(channels):
        for y in range(height * size):
            for x in range(width * size):
                for n in range(batch):
                    grad_input[c, y, x, n] = share * grad_output[c, y // size, x // size, n]
    _clear_behind(grad_input, height * size, width * size)


@compiled
def _clear_behind(maps, height, width):
    """Zeros in the rows and columns from there on, which no pool looked at."""
    for c in range(len(maps)):
        clear(maps[c], height, maps.shape[1], 0, maps.shape[2])
        clear(maps[c], 0, maps.shape[1], width, maps.shape[2])
