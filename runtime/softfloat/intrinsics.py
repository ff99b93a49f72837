"""Bit-level and host floating-point primitives for numba code that works on int64 only.

numba promotes mixed signed and unsigned integers to float64, so all values are int64 (bit patterns in two's
complement) and whatever needs an unsigned reading is a primitive here. So is arithmetic that may overflow:
numba marks its own additions, subtractions and multiplications "no signed wrap", for LLVM to assume that they
don't. Shift counts must be 0 to 63 (0 to 127 where the name says 128). The floating-point primitives take and
return bit patterns, zero-extended for binary32; they are the host's single operations, in its default
environment (round to nearest, no flush to zero), without fast-math.

Imported at build time only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, cast

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_I64 = ir.IntType(64)
_I128 = ir.IntType(128)
_I256 = ir.IntType(256)
_F32 = ir.FloatType()
_F64 = ir.DoubleType()
_PAIR: Any = cast(Any, types).UniTuple(types.int64, 2)

FIXED_BITS = 126
"""Fraction bits of the fixed-point primitives; numbers are signed, of 128 bits."""

_Emit = Callable[..., Any]
_Unary = Callable[[int], int]
_Binary = Callable[[int, int], int]
_Pair = tuple[int, int]


def _primitive(arity: int, emit: _Emit, result: Any = types.int64) -> Any:
    """A numba function of ``arity`` int64 arguments whose code ``emit(builder, *values)`` writes."""

    def signature_and_code(arguments: tuple[Any, ...]) -> tuple[Any, Callable[..., Any]]:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            value = emit(builder, *values)
            if result is _PAIR:
                return context.make_tuple(builder, signature.return_type, value)
            return value

        return result(*[types.int64] * len(arguments)), code

    # numba reads the parameters' names and number from the function itself, so there is one shape an arity.
    if arity == 1:

        def one(typingctx: Any, a: Any) -> Any:
            return signature_and_code((a,))

        return intrinsic(one)
    if arity == 2:

        def two(typingctx: Any, a: Any, b: Any) -> Any:
            return signature_and_code((a, b))

        return intrinsic(two)
    if arity == 3:

        def three(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
            return signature_and_code((a, b, c))

        return intrinsic(three)

    def four(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        return signature_and_code((a, b, c, d))

    return intrinsic(four)


def _wide(builder: Any, high: Any, low: Any) -> Any:
    upper = builder.shl(builder.zext(high, _I128), ir.Constant(_I128, 64))
    return builder.or_(upper, builder.zext(low, _I128))


def _halves(builder: Any, wide: Any) -> list[Any]:
    high = builder.trunc(builder.lshr(wide, ir.Constant(_I128, 64)), _I64)
    return [high, builder.trunc(wide, _I64)]


def _shift_left_128(builder: Any, high: Any, low: Any, count: Any) -> list[Any]:
    return _halves(builder, builder.shl(_wide(builder, high, low), builder.zext(count, _I128)))


def _shift_right_sticky_128(builder: Any, high: Any, low: Any, count: Any) -> list[Any]:
    wide = _wide(builder, high, low)
    amount = builder.zext(count, _I128)
    shifted = builder.lshr(wide, amount)
    lost = builder.icmp_unsigned("!=", builder.shl(shifted, amount), wide)
    return _halves(builder, builder.or_(shifted, builder.zext(lost, _I128)))


def _float_operation(kind: Any, operation: str) -> _Emit:
    """Two-operand host arithmetic on bit patterns of ``kind`` (binary32 or binary64)."""

    def emit(builder: Any, a: Any, b: Any) -> Any:
        value = getattr(builder, operation)(_to_float(builder, a, kind), _to_float(builder, b, kind))
        return _to_bits(builder, value)

    return emit


def _to_float(builder: Any, bits: Any, kind: Any) -> Any:
    if kind is _F32:
        return builder.bitcast(builder.trunc(bits, ir.IntType(32)), _F32)
    return builder.bitcast(bits, _F64)


def _to_bits(builder: Any, value: Any) -> Any:
    if value.type == _F32:
        return builder.zext(builder.bitcast(value, ir.IntType(32)), _I64)
    return builder.bitcast(value, _I64)


def _square_root(kind: Any) -> _Emit:
    def emit(builder: Any, a: Any) -> Any:
        root = builder.module.declare_intrinsic("llvm.sqrt", [kind])
        return _to_bits(builder, builder.call(root, [_to_float(builder, a, kind)]))

    return emit


def _fixed(builder: Any, x: Any, y: Any) -> Any:
    """The product of two signed 128-bit numbers with `FIXED_BITS` fraction bits, cut."""
    product = builder.mul(builder.sext(x, _I256), builder.sext(y, _I256))
    return builder.trunc(builder.ashr(product, ir.Constant(_I256, FIXED_BITS)), _I128)


def _multiply_high_128(builder: Any, high: Any, low: Any, high_2: Any, low_2: Any) -> list[Any]:
    x, y = _wide(builder, high, low), _wide(builder, high_2, low_2)
    product = builder.mul(builder.zext(x, _I256), builder.zext(y, _I256))
    return _halves(builder, builder.trunc(builder.lshr(product, ir.Constant(_I256, 128)), _I128))


def polynomial(coefficients: Sequence[Fraction]) -> Callable[[int, int], _Pair]:
    """A function of a fixed-point number (high, low) of `FIXED_BITS` fraction bits: the sum of coefficients
    times powers, the constant first, by Horner's scheme. All intermediate values must be below 2 in
    magnitude.
    """
    fixed = [round(coefficient * (1 << FIXED_BITS)) for coefficient in coefficients]

    def emit(builder: Any, high: Any, low: Any) -> list[Any]:
        x = _wide(builder, high, low)
        total: Any = ir.Constant(_I128, fixed[-1])
        for coefficient in fixed[-2::-1]:
            total = builder.add(_fixed(builder, total, x), ir.Constant(_I128, coefficient))
        return _halves(builder, total)

    return cast(Callable[[int, int], _Pair], _primitive(2, emit, _PAIR))


unsigned_less: Callable[[int, int], bool] = _primitive(
    2, lambda b, x, y: b.icmp_unsigned("<", x, y), types.boolean
)
"""x < y as unsigned numbers."""
shift_right: _Binary = _primitive(2, lambda b, x, n: b.lshr(x, n))
"""x shifted right by n, zeros coming in."""
leading_zeros: _Unary = _primitive(1, lambda b, x: b.ctlz(x, ir.Constant(ir.IntType(1), 0)))
"""Number of zero bits above the highest one; 64 for 0."""
multiply_low: _Binary = _primitive(2, lambda b, x, y: b.mul(x, y))
"""The lower half of the product (numba's own `*`, `+` and `-` are undefined where int64 overflows)."""
wrapping_add: _Binary = _primitive(2, lambda b, x, y: b.add(x, y))
"""x + y modulo 2**64."""
wrapping_subtract: _Binary = _primitive(2, lambda b, x, y: b.sub(x, y))
"""x - y modulo 2**64."""
multiply_high: _Binary = _primitive(
    2, lambda b, x, y: _halves(b, b.mul(b.zext(x, _I128), b.zext(y, _I128)))[0]
)
"""The upper half of the 128-bit unsigned product."""
unsigned_divide: _Binary = _primitive(2, lambda b, x, y: b.udiv(x, y))
"""x divided by y as unsigned numbers, cut; y must not be 0."""
add_128: Callable[[int, int, int, int], _Pair] = _primitive(
    4, lambda b, h, w, i, x: _halves(b, b.add(_wide(b, h, w), _wide(b, i, x))), _PAIR
)
"""(high, low) + (high, low), as (high, low)."""
subtract_128: Callable[[int, int, int, int], _Pair] = _primitive(
    4, lambda b, h, w, i, x: _halves(b, b.sub(_wide(b, h, w), _wide(b, i, x))), _PAIR
)
"""(high, low) - (high, low), as (high, low)."""
shift_left_128: Callable[[int, int, int], _Pair] = _primitive(3, _shift_left_128, _PAIR)
"""(high, low) << count."""
shift_right_sticky_128: Callable[[int, int, int], _Pair] = _primitive(3, _shift_right_sticky_128, _PAIR)
"""(high, low) >> count, the lowest bit set if a one was shifted out."""
multiply_high_128: Callable[[int, int, int, int], _Pair] = _primitive(4, _multiply_high_128, _PAIR)
"""The upper half of the 256-bit unsigned product of two (high, low)."""
fixed_multiply: Callable[[int, int, int, int], _Pair] = _primitive(
    4, lambda b, h, w, i, x: _halves(b, _fixed(b, _wide(b, h, w), _wide(b, i, x))), _PAIR
)
"""The product of two signed fixed-point numbers (high, low) of `FIXED_BITS` fraction bits, cut."""

f64_add: _Binary = _primitive(2, _float_operation(_F64, "fadd"))
f64_subtract: _Binary = _primitive(2, _float_operation(_F64, "fsub"))
f64_multiply: _Binary = _primitive(2, _float_operation(_F64, "fmul"))
f64_divide: _Binary = _primitive(2, _float_operation(_F64, "fdiv"))
f64_square_root: _Unary = _primitive(1, _square_root(_F64))
f32_add: _Binary = _primitive(2, _float_operation(_F32, "fadd"))
f32_subtract: _Binary = _primitive(2, _float_operation(_F32, "fsub"))
f32_divide: _Binary = _primitive(2, _float_operation(_F32, "fdiv"))
f32_square_root: _Unary = _primitive(1, _square_root(_F32))
widen: _Unary = _primitive(1, lambda b, x: _to_bits(b, b.fpext(_to_float(b, x, _F32), _F64)))
"""binary32 to binary64."""
narrow: _Unary = _primitive(1, lambda b, x: _to_bits(b, b.fptrunc(_to_float(b, x, _F64), _F32)))
"""binary64 to binary32, to nearest even."""
to_int64: _Unary = _primitive(1, lambda b, x: b.fptosi(_to_float(b, x, _F64), _I64))
"""binary64 truncated to an int64; its magnitude must be below 2**63."""
from_int64: _Unary = _primitive(1, lambda b, x: _to_bits(b, b.sitofp(x, _F64)))
"""An int64 to binary64, to nearest even."""
