"""The innermost loops of a convolution: blocks of sums that stay in the processor's registers until they are done.

A core with AVX-512 can multiply and add 32 numbers in a cycle, but load only 32. A loop that loads two numbers for each
product therefore computes at half the speed, and one that also loads and stores the sum at less. A block of sums needs
less: with four values of weights and four vectors of maps, eight loads make sixteen vectors of products. LLVM, which
compiles numba's loops, turns a loop over numbers into one over vectors by itself, but does not find such a block; here
it is written out, in LLVM's own instructions (https://llvm.org/docs/LangRef.html). "Anatomy of High-Performance Matrix
Multiplication" (Goto and van de Geijn, 2008) has the idea.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from common.cpu_kernels import compiler

WIDE = "+avx512f" in compiler.CPU_FEATURES  # 32 registers of 16 numbers; elsewhere LLVM splits the vectors of 8
LANES, VECTORS = (16, 4) if WIDE else (8, 2)
AT_ONCE = LANES * VECTORS  # so many numbers of a line `weighted_sums` computes
PRODUCTS = 9 if WIDE else 3  # of so many places with a line it pays to ask `dot_products` for the products, at once

INT, FLOAT = ir.IntType(64), ir.FloatType()
VECTOR = ir.VectorType(FLOAT, LANES)
CONTRACT = ("contract",)  # a product and a sum in one instruction


@intrinsic
def weighted_sums(typing, rows, maps, at, offsets, weights, bias, channel, out, to, apart):
    """`rows` lines of `AT_ONCE` numbers: to out[to + r * apart + n], bias[c] + the sum of weights[k, c] * maps[p + n].

    Here c = channel + r is less than channel + `rows`, and p = at + offsets[k]; the sum runs over all k. `rows` is a
    constant, maps and out are flat, weights are [K, C], offsets [K].
    """
    if not isinstance(rows, types.IntegerLiteral):
        return None
    count = rows.literal_value

    def generate(context, builder, signature, values):
        arrays = {i: context.make_array(signature.args[i])(context, builder, values[i]) for i in (1, 3, 4, 5, 7)}
        maps, offsets, weights, bias, out = (arrays[i].data for i in (1, 3, 4, 5, 7))
        at, channel, to, apart = (values[i] for i in (2, 6, 8, 9))
        length, channels = (builder.extract_value(arrays[4].shape, axis) for axis in (0, 1))
        sums = [[_splat(builder, _at(builder, bias, channel, row))] * VECTORS for row in range(count)]

        def step(k, sums):
            place = builder.gep(maps, [builder.add(at, builder.load(builder.gep(offsets, [k])))])
            vectors = [_load(builder, place, LANES * v) for v in range(VECTORS)]
            first = builder.add(builder.mul(k, channels), channel)
            factors = [_splat(builder, _at(builder, weights, first, row)) for row in range(count)]
            return [
                [_multiply_add(builder, factor, vector, one) for vector, one in zip(vectors, line, strict=True)]
                for factor, line in zip(factors, sums, strict=True)
            ]

        for row, line in enumerate(_loop(builder, length, 1, sums, step)):
            place = builder.gep(out, [builder.add(to, builder.mul(apart, INT(row)))])
            for v, one in enumerate(line):
                builder.store(one, _vector_at(builder, place, LANES * v), align=4)
        return context.get_dummy_value()

    return types.void(rows, maps, at, offsets, weights, bias, channel, out, to, apart), generate


@intrinsic
def dot_products(typing, rows, gradient, of, apart, maps, at, offsets, first, places, length, out, to, columns):
    """`rows` times `places` dot products of lines of `length` numbers: to out[to + r * columns + p].

    Each is the sum over n of gradient[of + r * apart + n] * maps[at + offsets[first + p] + n]. `rows` and `places` are
    constants, `length` is a multiple of LANES, at least LANES; gradient, maps and out are flat.
    """
    if not isinstance(rows, types.IntegerLiteral) or not isinstance(places, types.IntegerLiteral):
        return None
    counts = rows.literal_value, places.literal_value

    def generate(context, builder, signature, values):
        arrays = {i: context.make_array(signature.args[i])(context, builder, values[i]) for i in (1, 4, 6, 10)}
        gradient, maps, offsets, out = (arrays[i].data for i in (1, 4, 6, 10))
        of, apart, at, first, length, to, columns = (values[i] for i in (2, 3, 5, 7, 9, 11, 12))
        lines = [builder.gep(gradient, [builder.add(of, builder.mul(apart, INT(row)))]) for row in range(counts[0])]
        starts = [
            builder.gep(maps, [builder.add(at, _at(builder, offsets, first, place))]) for place in range(counts[1])
        ]
        zeros = [[VECTOR([0.0] * LANES)] * counts[1] for _ in range(counts[0])]

        def step(n, sums):
            vectors = [_load(builder, builder.gep(start, [n])) for start in starts]
            factors = [_load(builder, builder.gep(line, [n])) for line in lines]
            return [
                [_multiply_add(builder, factor, vector, one) for vector, one in zip(vectors, line, strict=True)]
                for factor, line in zip(factors, sums, strict=True)
            ]

        for row, line in enumerate(_loop(builder, length, LANES, zeros, step)):
            place = builder.gep(out, [builder.add(to, builder.mul(columns, INT(row)))])
            for column, one in enumerate(line):
                builder.store(_total(builder, one), builder.gep(place, [INT(column)]))
        return context.get_dummy_value()

    signature = (rows, gradient, of, apart, maps, at, offsets, first, places, length, out, to, columns)
    return types.void(*signature), generate


def _loop(builder, length, stride: int, sums: list, step) -> list:
    """What `step` makes of the sums, called for 0, stride, ... below length, at least once."""
    before, inside, behind = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(inside)
    builder.position_at_end(inside)
    index = builder.phi(INT)
    index.add_incoming(INT(0), before)
    carried = [[builder.phi(VECTOR) for _ in line] for line in sums]
    results = step(index, carried)
    following = builder.add(index, INT(stride))
    index.add_incoming(following, inside)
    for row, line in enumerate(carried):
        for column, one in enumerate(line):
            one.add_incoming(sums[row][column], before)
            one.add_incoming(results[row][column], inside)
    builder.cbranch(builder.icmp_signed("<", following, length), inside, behind)
    builder.position_at_end(behind)
    return results


def _multiply_add(builder, factor, vector, total):
    return builder.fadd(total, builder.fmul(factor, vector, flags=CONTRACT), flags=CONTRACT)


def _at(builder, array, index, further: int):
    """The number array[index + further]."""
    return builder.load(builder.gep(array, [builder.add(index, INT(further))]))


def _load(builder, place, further: int = 0):
    """The vector of LANES numbers from there on."""
    return builder.load(_vector_at(builder, place, further), align=4)


def _vector_at(builder, place, further: int):
    return builder.bitcast(builder.gep(place, [INT(further)]), VECTOR.as_pointer())


def _splat(builder, number):
    """A vector with the number in all lanes."""
    some = builder.insert_element(VECTOR(ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(some, VECTOR(ir.Undefined), ir.VectorType(ir.IntType(32), LANES)([0] * LANES))


def _total(builder, vector):
    """The sum of a vector's numbers: halves are added until one is left."""
    width = LANES
    while width > 1:
        width //= 2
        lanes = ir.VectorType(ir.IntType(32), width)
        low, high = (
            builder.shuffle_vector(vector, vector, lanes(list(range(start, start + width)))) for start in (0, width)
        )
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, ir.IntType(32)(0))
