"""Host memory and unsigned arithmetic for the cold code, as numba intrinsics over int64.

Everything is int64: numba merges a uint64 with an int64 to float64. Addresses are host addresses; nothing is checked
here. Imported only when a target is built.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_I64 = ir.IntType(64)
_BITS = {1: ir.IntType(8), 2: ir.IntType(16), 4: ir.IntType(32), 8: _I64}
_int64 = types.int64


def _pointer(builder: Any, address: Any, size: int) -> Any:
    return builder.inttoptr(address, _BITS[size].as_pointer())


def _load(size: int, signed: bool) -> Any:
    @intrinsic  # type: ignore[misc]
    def load(_context: Any, _address: Any) -> Any:
        def code(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            value = builder.load(_pointer(builder, arguments[0], size), align=1)
            if size == 8:
                return value
            return builder.sext(value, _I64) if signed else builder.zext(value, _I64)

        return _int64(_int64), code

    return load


def _store(size: int) -> Any:
    @intrinsic  # type: ignore[misc]
    def store(_context: Any, _address: Any, _value: Any) -> Any:
        def code(target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            value = arguments[1] if size == 8 else builder.trunc(arguments[1], _BITS[size])
            builder.store(value, _pointer(builder, arguments[0], size), align=1)
            return target.get_dummy_value()

        return types.void(_int64, _int64), code

    return store


load8, load16, load32, load64 = _load(1, False), _load(2, False), _load(4, False), _load(8, False)
"""``loadN(address)``: N bits, zero-extended."""
signed16, signed32 = _load(2, True), _load(4, True)
"""``signedN(address)``: N bits, sign-extended."""
store8, store16, store32, store64 = _store(1), _store(2), _store(4), _store(8)
"""``storeN(address, value)``: the low N bits of `value`."""


def _binary(build: Callable[[Any, Any, Any], Any]) -> Any:
    @intrinsic  # type: ignore[misc]
    def operation(_context: Any, _left: Any, _right: Any) -> Any:
        def code(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return build(builder, arguments[0], arguments[1])

        return _int64(_int64, _int64), code

    return operation


def _comparison(operator: str) -> Any:
    @intrinsic  # type: ignore[misc]
    def compare(_context: Any, _left: Any, _right: Any) -> Any:
        def code(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.icmp_unsigned(operator, arguments[0], arguments[1])

        return types.boolean(_int64, _int64), code

    return compare


ult, ule = _comparison("<"), _comparison("<=")
"""Unsigned comparisons."""


def _shift(kind: str) -> Callable[[Any, Any, Any], Any]:
    def build(builder: Any, value: Any, amount: Any) -> Any:
        return getattr(builder, kind)(value, builder.and_(amount, ir.Constant(_I64, 63)))

    return build


shl, shr, sar = _binary(_shift("shl")), _binary(_shift("lshr")), _binary(_shift("ashr"))
"""Shifts; the amount is taken modulo 64, since more is undefined in LLVM."""
udiv, urem = _binary(lambda b, x, y: b.udiv(x, y)), _binary(lambda b, x, y: b.urem(x, y))
"""Unsigned division; the divisor must not be 0."""


def external(name: str, count: int) -> Any:
    """A C function `name` of `count` 64-bit integers with a 64-bit result, defined elsewhere in the module."""

    def code(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        function_type = ir.FunctionType(_I64, [_I64] * count)
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, function_type, name)
        return builder.call(function, list(arguments))

    signature = _int64(*[_int64] * count)
    if count == 1:

        @intrinsic  # type: ignore[misc]
        def call1(_context: Any, _a: Any) -> Any:
            return signature, code

        return call1
    if count == 3:

        @intrinsic  # type: ignore[misc]
        def call3(_context: Any, _a: Any, _b: Any, _c: Any) -> Any:
            return signature, code

        return call3
    if count == 4:

        @intrinsic  # type: ignore[misc]
        def call4(_context: Any, _a: Any, _b: Any, _c: Any, _d: Any) -> Any:
            return signature, code

        return call4
    raise ValueError(f"{name}: {count} arguments")


def _fill() -> Any:
    @intrinsic  # type: ignore[misc]
    def zero(_context: Any, _address: Any, _size: Any) -> Any:
        def code(target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            byte = ir.IntType(8)
            function_type = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), byte, _I64, ir.IntType(1)])
            name = "llvm.memset.p0i8.i64"
            function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
            pointer = builder.inttoptr(arguments[0], byte.as_pointer())
            builder.call(function, [pointer, byte(0), arguments[1], ir.IntType(1)(0)])
            return target.get_dummy_value()

        return types.void(_int64, _int64), code

    return zero


zero_bytes = _fill()
"""``zero_bytes(address, size)``."""
