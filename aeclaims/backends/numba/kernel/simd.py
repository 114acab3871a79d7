"""Vectors of 512 bits as values in Numba code, with operators: 16 lanes of float32 or 8 of float64.

If LLVM vectorises loops by itself, it uses half of the possible width on many processors. The order of its sums depends
on that width. Here each vector operation is explicit, so code fills the registers and gives the same numbers on every
machine. If a machine's vectors are shorter, LLVM splits each operation.

An operator copies a scalar operand to all lanes. Sums over lanes are in horizontal_sums.py.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"
import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin, models, register_model

BITS = 512
# Compiled code passes other arguments than the definition names, so mypy cannot check these calls.
intrinsic: Any = extending.intrinsic


class Lanes(types.Type):
    """Numba's type of a vector of `count` numbers, or of booleans as the result of a comparison."""

    def __init__(self, dtype: Any, count: int) -> None:
        self.dtype, self.count = dtype, count
        super().__init__(name=f"Lanes({dtype}, {count})")


@register_model(Lanes)
class _Vector(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        of = ir.IntType(1) if lanes.dtype == types.boolean else manager.lookup(lanes.dtype).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(of, lanes.count))


def _lanes(dtype: Any) -> Lanes:
    return Lanes(dtype, BITS // dtype.bitwidth)


# ------------------------------------------------------------------------------------------- memory
# Functions pass memory as pointers, of one word each. Arrays have seven words and would fill all registers.


@intrinsic
def numbers(typing, array):
    """A pointer to the numbers of a contiguous array; an index counts through all axes."""
    return _pointer(array, array.dtype)


@intrinsic
def vectors(typing, array):
    """A pointer to the lanes of a contiguous array; the length of its last axis is the number of lanes."""
    return _pointer(array, _lanes(array.dtype))


def _pointer(array, element):
    if array.layout != "C":
        return None
    result = types.CPointer(element)

    def emit(context, builder, signature, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.bitcast(data, context.get_value_type(result))

    return result(array), emit


def _address(context, builder, pointer, index, element):
    return builder.bitcast(builder.gep(pointer, [index]), context.get_value_type(types.CPointer(element)))


def _alignment(element):
    """The alignment of one number, in bytes; arrays guarantee no more for lanes."""
    return (element.dtype if isinstance(element, Lanes) else element).bitwidth // 8


def _reader(pointer, element):
    def emit(context, builder, signature, args):
        pointer_at, index = args
        return builder.load(_address(context, builder, pointer_at, index, element), align=_alignment(element))

    return element(pointer, types.intp), emit


def _writer(pointer, element, value):
    if value != element:
        return None

    def emit(context, builder, signature, args):
        pointer_at, index, written = args
        builder.store(written, _address(context, builder, pointer_at, index, element), align=_alignment(element))
        return context.get_dummy_value()

    return types.void(pointer, types.intp, value), emit


@intrinsic
def get(typing, pointer, index):
    """Read the element `index` elements behind a pointer: a number or lanes, by the pointer's type."""
    return _reader(pointer, pointer.dtype)


@intrinsic
def put(typing, pointer, index, value):
    """Write an element at the address from which `get` reads it."""
    return _writer(pointer, pointer.dtype, value)


@intrinsic
def load(typing, pointer, index):
    """Read the lanes that begin `index` numbers behind a pointer to numbers."""
    return _reader(pointer, _lanes(pointer.dtype))


@intrinsic
def store(typing, pointer, index, lanes):
    """Write lanes at the address from which `load` reads them."""
    return _writer(pointer, _lanes(pointer.dtype), lanes)


@intrinsic
def zeros(typing, pointer):
    """A vector of zeros, of the type of a pointer's numbers."""
    result = _lanes(pointer.dtype)
    return result(pointer), lambda context, builder, signature, args: ir.Constant(context.get_value_type(result), None)


@intrinsic
def offset(typing, pointer, count):
    """A pointer to the element `count` elements further on."""
    return pointer(pointer, types.intp), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])


@intrinsic
def prefetch(typing, pointer, index):
    """Start to load the element `index` elements behind a pointer into the cache."""

    def emit(context, builder, signature, args):
        whole, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, whole, whole, whole])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # LLVM's arguments: read (not write), locality 1 (of 0 to 3), data (not instructions).
        how = [ir.Constant(whole, value) for value in (0, 1, 1)]
        builder.call(function, [builder.bitcast(builder.gep(args[0], [args[1]]), byte), *how])
        return context.get_dummy_value()

    return types.void(pointer, types.intp), emit


def _splat(context, builder, scalar, lanes):
    vector = context.get_value_type(lanes)
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), lanes.count), [0] * lanes.count)
    )


@intrinsic
def splat(typing, value):
    """Copy a number to all lanes; lanes are returned unchanged."""
    if isinstance(value, Lanes):
        return value(value), lambda context, builder, signature, args: args[0]
    result = _lanes(value)
    return result(value), lambda context, builder, signature, args: _splat(context, builder, args[0], result)


@intrinsic
def least_normal(typing, pointer):
    """The least positive number of a pointer's type that is not denormal."""
    return _constant(pointer, types.float64, float(np.finfo(pointer.dtype.name).tiny))


@intrinsic
def lanes_of(typing, memory):
    """The number of lanes in a vector of an array's or a pointer's numbers."""
    element = memory.dtype
    return _constant(memory, types.intp, element.count if isinstance(element, Lanes) else _lanes(element).count)


@intrinsic
def has_lanes(typing, pointer):
    """Whether a pointer points to lanes."""
    return _constant(pointer, types.boolean, isinstance(pointer.dtype, Lanes))


def _constant(argument, kind, value):
    return kind(argument), lambda context, builder, signature, args: context.get_constant(kind, value)


# -------------------------------------------------------------------------------------- operations


def _is_operand(one: Any, lanes: Any) -> bool:
    return one == lanes or isinstance(one, types.Number)


def _operation(signature_of, emit):
    """The typing and the code of an operation on lanes; it copies scalar operands to all lanes."""

    def typed(operands, otherwise=None):
        lanes = next((one for one in operands if isinstance(one, Lanes)), otherwise)
        if lanes is None or not all(_is_operand(one, lanes) for one in operands):
            return None

        def emit_splat(context, builder, signature, args):
            vectors = [
                arg if one == lanes else _splat(context, builder, context.cast(builder, arg, one, lanes.dtype), lanes)
                for arg, one in zip(args, operands, strict=True)
            ]
            return emit(builder, lanes, vectors)

        return signature_of(lanes)(*operands), emit_splat

    return typed


def _extend(operation, signature_of, emit):
    """Extend an operator or a builtin function to lanes."""
    typed = _operation(signature_of, emit)

    @infer_global(operation)
    class Lanewise(AbstractTemplate):
        def generic(self, args, kws):
            found = typed(args)
            return found and found[0]

    def emit_typed(context, builder, signature, args):
        return typed(signature.args)[1](context, builder, signature, args)

    lower_builtin(operation, Lanes)(emit_typed)
    for left, right in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(operation, left, right)(emit_typed)


def _is_float(lanes: Lanes) -> bool:
    return isinstance(lanes.dtype, types.Float)


def _call(builder, name, vectors):
    vector = vectors[0].type
    width = 32 if isinstance(vector.element, ir.FloatType) else 64
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [v.type for v in vectors]), f"llvm.{name}.v{vector.count}f{width}"
    )
    return builder.call(function, vectors)


def _arithmetic(of_floats, of_integers):
    return lambda builder, lanes, vectors: getattr(builder, of_floats if _is_float(lanes) else of_integers)(*vectors)


def _comparison(sign):
    # Ordered: comparisons with NaN are false.
    return lambda builder, lanes, vectors: builder.fcmp_ordered(sign, *vectors)


for _operator, _names in {
    operator.add: ("fadd", "add"),
    operator.sub: ("fsub", "sub"),
    operator.mul: ("fmul", "mul"),
    operator.truediv: ("fdiv", "sdiv"),
    operator.lshift: ("", "shl"),
    operator.rshift: ("", "ashr"),
}.items():
    _extend(_operator, lambda lanes: lanes, _arithmetic(*_names))
for _operator, _sign in {operator.lt: "<", operator.le: "<=", operator.eq: "=="}.items():
    _extend(_operator, lambda lanes: Lanes(types.boolean, lanes.count), _comparison(_sign))
_extend(operator.neg, lambda lanes: lanes, lambda builder, lanes, vectors: builder.fneg(*vectors))
_extend(abs, lambda lanes: lanes, lambda builder, lanes, vectors: _call(builder, "fabs", vectors))


@intrinsic
def sqrt(typing, lanes):
    """The square root of each lane, correctly rounded."""
    return _operation(lambda lanes: lanes, lambda builder, lanes, vectors: _call(builder, "sqrt", vectors))((lanes,))


@intrinsic
def fma(typing, left, right, addend):
    """left * right + addend, rounded once."""
    return _operation(lambda lanes: lanes, lambda builder, lanes, vectors: _call(builder, "fma", vectors))(
        (left, right, addend)
    )


@intrinsic
def where(typing, condition, then, otherwise):
    """`then` in lanes in which the condition is true, `otherwise` in the others."""
    both = _operation(lambda lanes: lanes, lambda builder, lanes, vectors: vectors)
    typed = both((then, otherwise), Lanes(then, condition.count))
    if typed is None:
        return None
    signature, spread_both = typed

    def emit(context, builder, _, args):
        return builder.select(args[0], *spread_both(context, builder, signature, args[1:]))

    return signature.return_type(condition, then, otherwise), emit


@intrinsic
def bits(typing, lanes):
    """The bits of floating-point numbers, read as integers."""
    whole = {types.float32: types.int32, types.float64: types.int64}[lanes.dtype]
    result = Lanes(whole, lanes.count)
    return result(lanes), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(result)
    )


@intrinsic
def from_bits(typing, lanes):
    """The floating-point numbers that have these bits."""
    floating = {types.int32: types.float32, types.int64: types.float64}[lanes.dtype]
    result = Lanes(floating, lanes.count)
    return result(lanes), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(result)
    )


@intrinsic
def to_floats(typing, lanes):
    """Integers as floating-point numbers of the same value, rounded if they are not representable."""
    floating = {types.int32: types.float32, types.int64: types.float64}[lanes.dtype]
    result = Lanes(floating, lanes.count)
    return result(lanes), lambda context, builder, signature, args: builder.sitofp(
        args[0], context.get_value_type(result)
    )
