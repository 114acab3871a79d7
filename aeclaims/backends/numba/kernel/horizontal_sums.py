"""Sums over the lanes of several vectors at once, halves first: the order is the same on every machine."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
from llvmlite import ir
from numba import types

from aeclaims.backends.numba.kernel.simd import intrinsic


def _halve(builder, left, right, runs):
    """Combine two vectors of `runs` runs each into one of twice as many: each run's first half plus its second half."""
    count = left.type.count
    half = count // runs // 2
    begins = range(0, 2 * count, 2 * half)
    halves = [[at for begin in begins for at in range(begin + shift, begin + shift + half)] for shift in (0, half)]
    if left is right:
        halves = [indices[: count // 2] for indices in halves]
    first, second = (
        builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(ir.IntType(32), len(indices)), indices))
        for indices in halves
    )
    return builder.fadd(first, second)


def _horizontal_sums(builder, vectors):
    """Sum the lanes of each vector into one vector of sums, each ((l0 + l8) + (l4 + l12)) + ...

    The number of vectors is a power of two.
    """
    runs = 1
    while len(vectors) > 1:
        vectors = [_halve(builder, left, right, runs) for left, right in zip(vectors[::2], vectors[1::2], strict=True)]
        runs *= 2
    (sums,) = vectors
    while sums.type.count > runs:
        sums = _halve(builder, sums, sums, runs)
    return sums


@intrinsic
def horizontal_sums(typing, a, b, c, d):
    """The sums over the lanes of four vectors, each ((l0 + l8) + (l4 + l12)) + ...

    Halves are added until one number is left.
    """
    result = types.UniTuple(a.dtype, 4)

    def emit(context, builder, signature, args):
        sums = _horizontal_sums(builder, args)
        return context.make_tuple(
            builder, result, [builder.extract_element(sums, ir.Constant(ir.IntType(32), at)) for at in range(4)]
        )

    return result(a, b, c, d), emit


@intrinsic
def add_horizontal_sums(typing, pointer, at, below, a0, a1, a2, a3, b0, b1, b2, b3):
    """Add the sums over lanes of a0 to a3 to the numbers at pointer[at], and those of b0 to b3 `below` further on."""

    def emit(context, builder, signature, args):
        sums = _horizontal_sums(builder, args[3:])
        begin = args[1]
        for first in (0, 4):
            four = ir.Constant(ir.VectorType(ir.IntType(32), 4), list(range(first, first + 4)))
            own = builder.shuffle_vector(sums, sums, four)
            place = builder.bitcast(builder.gep(args[0], [begin]), own.type.as_pointer())
            align = pointer.dtype.bitwidth // 8
            builder.store(builder.fadd(builder.load(place, align=align), own), place, align=align)
            begin = builder.add(begin, args[2])
        return context.get_dummy_value()

    return types.void(pointer, types.intp, types.intp, a0, a1, a2, a3, b0, b1, b2, b3), emit
