"""Primitives on wide (128-bit), huge (256-bit) and giant (512-bit) values: see `runtime.cpu.primitives`.
Build time only.

Names end in the size that they work on. Like all values these are zero-extended from their width: `cut`
restores that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir

from runtime.cpu.primitives import BOOL, GIANT, HUGE, INT, WIDE, _pack, _unpack, primitive

_TYPES: Final = {128: WIDE, 256: HUGE, 512: GIANT}
_KINDS: Final = {bits: ir.IntType(bits) for bits in (64, 128, 256, 512)}
_SIZES: Final = tuple(_TYPES)

Value = Any


@primitive(WIDE, INT, INT)
def wide(b: Any, low: Value, high: Value) -> Value:
    """A wide value from its halves."""
    parts = ir.Constant(ir.ArrayType(_KINDS[64], 2), ir.Undefined)
    return b.insert_value(b.insert_value(parts, low, 0), high, 1)


def _both(b: Any, low: Value, high: Value, bits: int) -> Value:
    kind = _KINDS[bits]
    upper = b.shl(b.zext(_pack(b, high), kind), ir.Constant(kind, bits // 2))
    return _unpack(b, b.or_(b.zext(_pack(b, low), kind), upper), bits // 64)


@primitive(HUGE, WIDE, WIDE)
def huge(b: Any, low: Value, high: Value) -> Value:
    """A huge value from its halves."""
    return _both(b, low, high, 256)


@primitive(GIANT, HUGE, HUGE)
def giant(b: Any, low: Value, high: Value) -> Value:
    """A giant value from its halves."""
    return _both(b, low, high, 512)


def _named(name: str, text: str, build: Callable[..., Any], result: Any, *arguments: Any) -> Any:
    build.__name__ = name
    build.__doc__ = text
    return primitive(result, *arguments)(build)


def _operator(bits: int, name: str, text: str, method: str) -> Any:
    def build(b: Any, left: Value, right: Value) -> Value:
        return _unpack(b, getattr(b, method)(_pack(b, left), _pack(b, right)), bits // 64)

    kind = _TYPES[bits]
    return _named(f"{name}{bits}", text, build, kind, kind, kind)


def _comparison(bits: int, name: str, sign: str, *, signed: bool) -> Any:
    def build(b: Any, left: Value, right: Value) -> Value:
        compare = b.icmp_signed if signed else b.icmp_unsigned
        return compare(sign, _pack(b, left), _pack(b, right))

    kind = _TYPES[bits]
    return _named(f"{name}{bits}", f"left {sign} right, {bits} bits.", build, BOOL, kind, kind)


def _shift(bits: int, name: str, text: str) -> Any:
    full = _KINDS[bits]

    def build(b: Any, value: Value, amount: Value) -> Value:
        number = _pack(b, value)
        small = b.icmp_unsigned("<", amount, ir.Constant(_KINDS[64], bits))
        last = ir.Constant(_KINDS[64], bits - 1)
        distance = b.zext(b.select(small, amount, last), full)
        if name == "sar":
            return _unpack(b, b.ashr(number, distance), bits // 64)
        shifted = b.shl(number, distance) if name == "shl" else b.lshr(number, distance)
        return _unpack(b, b.select(small, shifted, ir.Constant(full, 0)), bits // 64)

    kind = _TYPES[bits]
    return _named(f"{name}{bits}", text, build, kind, kind, INT)


def _extension(bits: int, *, signed: bool) -> Any:
    """Keep `width` bits and extend from there."""

    def build(b: Any, value: Value, width: Value) -> Value:
        distance = b.zext(b.sub(ir.Constant(_KINDS[64], bits), width), _KINDS[bits])
        shifted = b.shl(_pack(b, value), distance)
        restored = b.ashr(shifted, distance) if signed else b.lshr(shifted, distance)
        return _unpack(b, restored, bits // 64)

    kind = _TYPES[bits]
    name = "sext" if signed else "cut"
    return _named(
        f"{name}{bits}",
        f"The low `width` bits, {'sign' if signed else 'zero'}-extended.",
        build,
        kind,
        kind,
        INT,
    )


def _low(bits: int) -> Any:
    def build(b: Any, value: Value) -> Value:
        return b.extract_value(value, 0)

    return _named(f"low{bits}", "The low 64 bits.", build, INT, _TYPES[bits])


def _pick(bits: int) -> Any:
    def build(b: Any, condition: Value, then: Value, otherwise: Value) -> Value:
        return b.select(condition, then, otherwise)

    kind = _TYPES[bits]
    return _named(f"pick{bits}", "`then` if the condition holds.", build, kind, BOOL, kind, kind)


def _wrap(bits: int) -> Any:
    def build(b: Any, value: Value) -> Value:
        return _unpack(b, b.zext(value, _KINDS[bits]), bits // 64)

    return _named(f"widen{bits}", "A 64-bit value, zero-extended.", build, _TYPES[bits], INT)


def _count(bits: int, name: str, text: str) -> Any:
    def build(b: Any, value: Value) -> Value:
        kind = _KINDS[bits]
        number = _pack(b, value)
        flags = [ir.IntType(1)] if name in ("ctlz", "cttz") else []
        function_type = ir.FunctionType(kind, [kind, *flags])
        symbol = f"llvm.{name}.i{bits}"
        function = b.module.globals.get(symbol) or ir.Function(b.module, function_type, symbol)
        counted = b.call(function, [number, *(ir.Constant(flag, 0) for flag in flags)])
        return b.trunc(counted, _KINDS[64])

    short = {"ctlz": "clz", "cttz": "ctz", "ctpop": "popcount"}[name]
    return _named(f"{short}{bits}", text, build, INT, _TYPES[bits])


add128, add256, add512 = (_operator(n, "add", "left + right.", "add") for n in _SIZES)
sub128, sub256, sub512 = (_operator(n, "sub", "left - right.", "sub") for n in _SIZES)
mul128, mul256, mul512 = (_operator(n, "mul", "left * right.", "mul") for n in _SIZES)
and128, and256, and512 = (_operator(n, "and", "left & right.", "and_") for n in _SIZES)
or128, or256, or512 = (_operator(n, "or", "left | right.", "or_") for n in _SIZES)
xor128, xor256, xor512 = (_operator(n, "xor", "left ^ right.", "xor") for n in _SIZES)
eq128, eq256, eq512 = (_comparison(n, "eq", "==", signed=False) for n in _SIZES)
ult128, ult256, ult512 = (_comparison(n, "ult", "<", signed=False) for n in _SIZES)
ule128, ule256, ule512 = (_comparison(n, "ule", "<=", signed=False) for n in _SIZES)
slt128, slt256, slt512 = (_comparison(n, "slt", "<", signed=True) for n in _SIZES)
sle128, sle256, sle512 = (_comparison(n, "sle", "<=", signed=True) for n in _SIZES)
shl128, shl256, shl512 = (_shift(n, "shl", "value << amount; 0 beyond the size.") for n in _SIZES)
shr128, shr256, shr512 = (_shift(n, "shr", "value >> amount, unsigned; 0 beyond the size.") for n in _SIZES)
sar128, sar256, sar512 = (_shift(n, "sar", "value >> amount, signed.") for n in _SIZES)
cut128, cut256, cut512 = (_extension(n, signed=False) for n in _SIZES)
sext128, sext256, sext512 = (_extension(n, signed=True) for n in _SIZES)
low128, low256, low512 = (_low(n) for n in _SIZES)
pick128, pick256, pick512 = (_pick(n) for n in _SIZES)
widen128, widen256, widen512 = (_wrap(n) for n in _SIZES)
clz128, clz256, clz512 = (_count(n, "ctlz", "Leading zeros.") for n in _SIZES)
ctz128, ctz256, ctz512 = (_count(n, "cttz", "Trailing zeros.") for n in _SIZES)
popcount128, popcount256, popcount512 = (_count(n, "ctpop", "How many bits are set.") for n in _SIZES)


def _rotate(bits: int, *, left: bool) -> Any:
    full = _KINDS[bits]

    def build(b: Any, value: Value, amount: Value, width: Value) -> Value:
        number = _pack(b, value)
        distance = b.urem(amount, width)
        rest = b.sub(width, distance)
        forward, back = (distance, rest) if left else (rest, distance)

        def shift(method: Any, by: Value) -> Value:
            fits = b.icmp_unsigned("<", by, ir.Constant(_KINDS[64], bits))
            safe = b.select(fits, by, ir.Constant(_KINDS[64], 0))
            return b.select(fits, method(number, b.zext(safe, full)), ir.Constant(full, 0))

        turned = b.or_(shift(b.shl, forward), shift(b.lshr, back))
        spare = b.zext(b.sub(ir.Constant(_KINDS[64], bits), width), full)
        return _unpack(b, b.lshr(b.shl(turned, spare), spare), bits // 64)

    kind = _TYPES[bits]
    name = f"rot{'l' if left else 'r'}{bits}"
    return _named(name, "Rotate `width` bits, by the amount modulo `width`.", build, kind, kind, INT, INT)


rotl128, rotl256, rotl512 = (_rotate(n, left=True) for n in _SIZES)
rotr128, rotr256, rotr512 = (_rotate(n, left=False) for n in _SIZES)


def _division(name: str) -> Any:
    """128-bit division, by a function of `runtime.cpu.support`: LLVM has none without a library."""

    def build(b: Any, left: Value, right: Value) -> Value:
        part = _KINDS[64]
        pair = ir.ArrayType(part, 2)
        symbol = f"isagen_{name}128"
        kind = ir.FunctionType(pair, [part] * 4)
        function = b.module.globals.get(symbol) or ir.Function(b.module, kind, symbol)
        halves = [b.extract_value(value, position) for value in (left, right) for position in (0, 1)]
        return b.call(function, halves)

    return _named(f"{name}128", f"{name} of 128 bits; total like the 64-bit one.", build, WIDE, WIDE, WIDE)


udiv128, urem128, sdiv128, srem128 = (_division(name) for name in ("udiv", "urem", "sdiv", "srem"))


def _half(bits: int) -> Any:
    def build(b: Any, value: Value) -> Value:
        return _unpack(b, b.trunc(_pack(b, value), _KINDS[bits // 2]), bits // 128)

    kind = _TYPES[bits // 2]
    return _named(f"half{bits}", f"The low {bits // 2} bits.", build, kind, _TYPES[bits])


half256, half512 = (_half(n) for n in (256, 512))
