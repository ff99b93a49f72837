"""Host memory for the cold code: primitives over int64. Build time only: imports numba.

Addresses are host addresses; nothing is checked. Arithmetic is in `runtime.cpu.primitives`.
"""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir

from runtime.cpu import primitives
from runtime.cpu.primitives import INT, NONE, primitive

_I64 = ir.IntType(64)
_BITS = {size: ir.IntType(8 * size) for size in (1, 2, 4, 8)}


def _pointer(builder: Any, address: Any, size: int) -> Any:
    return builder.inttoptr(address, _BITS[size].as_pointer())


def _load(name: str, size: int, signed: bool) -> Any:
    def load(builder: Any, address: Any) -> Any:
        value = builder.load(_pointer(builder, address, size), align=1)
        if size == 8:
            return value
        return builder.sext(value, _I64) if signed else builder.zext(value, _I64)

    load.__name__ = name
    return primitive(INT, INT)(load)


def _store(name: str, size: int) -> Any:
    def store(builder: Any, address: Any, value: Any) -> None:
        narrow = value if size == 8 else builder.trunc(value, _BITS[size])
        builder.store(narrow, _pointer(builder, address, size), align=1)

    store.__name__ = name
    return primitive(NONE, INT, INT)(store)


load8, load16 = _load("load8", 1, False), _load("load16", 2, False)
load32, load64 = _load("load32", 4, False), _load("load64", 8, False)
"""``loadN(address)``: N bits, zero-extended."""
store8, store16, store32, store64 = (_store(f"store{8 * n}", n) for n in (1, 2, 4, 8))
"""``storeN(address, value)``: the low N bits of `value`."""


def _swap(size: int) -> Any:
    count = 2 if size == 16 else 1

    def swap(builder: Any, host: Any, *words: Any) -> Any:
        kind = ir.IntType(8 * size)
        numbers = []
        for place in (0, count):
            number = builder.trunc(words[place], kind) if size < 8 else words[place]
            if size == 16:
                low, high = (builder.zext(word, kind) for word in words[place : place + 2])
                number = builder.or_(low, builder.shl(high, ir.Constant(kind, 64)))
            numbers.append(number)
        return builder.zext(primitives.swapped(builder, host, 8 * size, *numbers), _I64)

    def swap_one(builder: Any, host: Any, expected: Any, new: Any) -> Any:
        return swap(builder, host, expected, new)

    def swap_two(builder: Any, host: Any, expected: Any, expected_high: Any, new: Any, new_high: Any) -> Any:
        return swap(builder, host, expected, expected_high, new, new_high)

    made = swap_one if count == 1 else swap_two
    made.__name__ = f"swap{8 * size}"
    return primitive(INT, *([INT] * (1 + 2 * count)))(made)


swap8, swap16, swap32, swap64, swap128 = (_swap(size) for size in (1, 2, 4, 8, 16))
"""``swapN(address, expected, new)``: write N bits if those expected are there, in one access: 1, else 0. The
address is aligned. 128 bits are passed in two halves each, the low one first.
"""


@primitive(NONE, INT, INT)
def set_bits8(builder: Any, address: Any, bits: Any) -> None:
    """Set bits of a byte that other CPUs write, too."""
    byte = _BITS[1]
    builder.atomic_rmw("or", _pointer(builder, address, 1), builder.trunc(bits, byte), "seq_cst")


@primitive(NONE, INT, INT)
def clear_bits8(builder: Any, address: Any, bits: Any) -> None:
    """Clear bits of a byte that other CPUs write, too."""
    kept = builder.not_(builder.trunc(bits, _BITS[1]))
    builder.atomic_rmw("and", _pointer(builder, address, 1), kept, "seq_cst")


@primitive(NONE, INT, INT)
def publish64(builder: Any, address: Any, value: Any) -> None:
    """Write an aligned word that other CPUs read, behind everything that was written before."""
    builder.store_atomic(value, _pointer(builder, address, 8), "seq_cst", 8)


@primitive(INT, INT)
def observe64(builder: Any, address: Any) -> Any:
    """Read an aligned word that other CPUs write, and nothing behind it before it."""
    return builder.load_atomic(_pointer(builder, address, 8), "seq_cst", 8)


@primitive(NONE, INT, INT)
def zero_bytes(builder: Any, address: Any, size: Any) -> None:
    """Clear `size` bytes."""
    byte = ir.IntType(8)
    function_type = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), byte, _I64, ir.IntType(1)])
    name = "llvm.memset.p0i8.i64"
    function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
    pointer = builder.inttoptr(address, byte.as_pointer())
    builder.call(function, [pointer, byte(0), size, ir.IntType(1)(0)])


@primitive(INT, INT, INT)
def invoke(builder: Any, function: Any, argument: Any) -> Any:
    """Call the C function at an address with one argument of 64 bits; its result."""
    pointer = builder.inttoptr(function, ir.FunctionType(_I64, [_I64]).as_pointer())
    return builder.call(pointer, [argument])


external: Final = primitives.external
"""``external(symbol, count)``: a C function of the module, to be called with `count` integers."""
