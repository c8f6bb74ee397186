"""3x3 convolutions in CHWN layout with 16 products in the place of 36: Winograd's F(2x2, 3x3).

Four neighbouring outputs of a 3x3 kernel see 4x4 inputs. Seen as a product of polynomials, they need 16
multiplications, not 4 x 9: the inputs of a tile are added and subtracted to 16 numbers, each is multiplied by a number
that depends on the kernel alone, and sums of the products are the outputs (Lavin and Gray 2015,
https://arxiv.org/abs/1509.09308, section 4.1, whose B, G and A stand below). The additions are paid once for each input
map and once for each output map, the products for each pair of them: it pays where there are many of both.

Arrays as in `common.cpu_kernels.convolution`.
"""

import numpy as np
from numba import prange

from common.cpu_kernels.compiler import compiled, compiled_parallel
from common.cpu_kernels.convolution import forward_weights
from common.cpu_kernels.registers import AT_ONCE, LANES, tile_from_products, tile_to_factors, weighted_sums

FEWEST = 32  # input maps and output maps, from which on it is faster
ROOM = 8192  # numbers of all input maps at one of the 16 places: 32 kB, which fit into the nearest cache


def fits(batch: int) -> bool:
    """Whether such a batch fills the processor's vectors."""
    return batch >= AT_ONCE and batch % LANES == 0


@compiled
def kernel_factors(weight):
    """The 16 numbers of each kernel of a weight [O, I, 3, 3], as [16, I, O]: G g G^T."""
    outputs, inputs = weight.shape[:2]
    plain, factors = forward_weights(weight).reshape(inputs, 3, 3, outputs), np.empty((16, inputs, outputs), np.float32)
    rows, half = np.empty((4, 3, outputs), np.float32), np.float32(0.5)
    for i in range(inputs):
        for x in range(3):
            _three_to_four(plain[i, 0, x], plain[i, 1, x], plain[i, 2, x], half, rows, x)
        for y in range(4):
            a, b, c = rows[y, 0], rows[y, 1], rows[y, 2]
            p, q, r, s = factors[4 * y, i], factors[4 * y + 1, i], factors[4 * y + 2, i], factors[4 * y + 3, i]
            for o in range(outputs):
                p[o], s[o] = a[o], c[o]
                q[o], r[o] = half * (a[o] + b[o] + c[o]), half * (a[o] - b[o] + c[o])
    return factors


@compiled
def _three_to_four(a, b, c, half, rows, x):
    """Column x of G g: of three lines [O] the first, half of their sum, the same with the second negative, the last."""
    p, q, r, s = rows[0, x], rows[1, x], rows[2, x], rows[3, x]
    for o in range(len(a)):
        p[o], s[o] = a[o], c[o]
        q[o], r[o] = half * (a[o] + b[o] + c[o]), half * (a[o] - b[o] + c[o])


@compiled_parallel
def convolve_winograd(maps, factors, bias, out):
    """Maps [I, H + 2, W + 2, N] to `out` [O, H, W, N], with `kernel_factors`, for batches that it `fits`.

    Each row of tiles, two rows of the output, is a task.
    """
    inputs, (outputs, height, _, batch) = len(maps), out.shape
    across = max(1, ROOM // (inputs * batch))  # tiles at a time
    for row in prange((height + 1) // 2):
        of_inputs = np.empty((16, inputs, across * batch), np.float32)
        of_outputs = np.empty((16, outputs, across * batch), np.float32)
        _row_of_tiles(maps, factors, bias, np.intp(row), across, of_inputs, of_outputs, out)


@compiled
def _row_of_tiles(maps, factors, bias, row, across, of_inputs, of_outputs, out):
    """The outputs of one row of tiles, with room for `across` tiles at a time."""
    inputs, (outputs, height, width, batch) = len(maps), out.shape
    flat_inputs, flat_outputs, flat_out = of_inputs.reshape(-1), of_outputs.reshape(-1), out.reshape(-1)
    lines, nothing = np.arange(inputs) * (across * batch), np.zeros(outputs, np.float32)
    below = width * batch if 2 * row + 1 < height else 0
    for first in range(0, (width + 1) // 2, across):
        tiles = min(across, (width + 1) // 2 - first)
        for i in range(inputs):
            for tile in range(tiles):
                to = (i * across + tile) * batch
                _tile_of_inputs(maps[i], 2 * row, 2 * (first + tile), flat_inputs, to, inputs * across * batch)
        for k in range(16):
            _multiply(of_inputs[k].reshape(-1), lines, factors[k], nothing, tiles * batch, of_outputs[k])
        for o in range(outputs):
            for tile in range(tiles):
                x, at = 2 * (first + tile), (o * across + tile) * batch
                to, right = ((o * height + 2 * row) * width + x) * batch, batch if x + 1 < width else 0
                apart = outputs * across * batch
                tile_from_products(
                    flat_outputs, at, apart, bias, o, batch, flat_out, to, np.intp(right), np.intp(below)
                )


@compiled
def _tile_of_inputs(channel, y, x, out, to, apart):
    """The 4x4 places from (y, x) of a channel [., ., N], with zeros beyond its edge, to 16 lines of `out`."""
    high, wide, batch = channel.shape
    if y + 3 < high and x + 3 < wide:
        tile_to_factors(channel.reshape(-1), (y * wide + x) * batch, wide * batch, batch, batch, out, to, apart)
        return
    tile = np.zeros((4, 4, batch), np.float32)
    for v in range(min(4, high - y)):
        for u in range(min(4, wide - x)):
            for n in range(batch):
                tile[v, u, n] = channel[y + v, x + u, n]
    tile_to_factors(tile.reshape(-1), np.intp(0), 4 * batch, batch, batch, out, to, apart)


@compiled
def _multiply(maps, lines, factors, nothing, count, out):
    """Factors [I, O] times `count` numbers of maps, which begin at the lines, to the first ones of `out` [O, .]."""
    outputs, apart = out.shape
    flat, whole = out.reshape(-1), outputs // 4 * 4
    for start in range(0, count, AT_ONCE):
        n = min(start, count - AT_ONCE)  # the last ones overlap those before, and are computed twice
        for o in range(0, whole, 4):
            weighted_sums(4, maps, n, lines, factors, nothing, o, flat, o * apart + n, apart)
        for o in range(whole, outputs):
            weighted_sums(1, maps, n, lines, factors, nothing, o, flat, o * apart + n, apart)
