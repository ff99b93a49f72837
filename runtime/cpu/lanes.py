"""Lane-wise primitives: LLVM's vector instructions on values of 64 to 512 bits. Build time only.

A value is what `runtime.cpu.primitives` calls one: an integer of up to 64 bits, or a tuple of 64-bit parts;
here it is seen as n lanes of equal width, the lowest first. Primitives are made when they are imported, from
their names: ``add8x16`` adds 16 lanes of 8 bits, ``sext8to16x8`` widens 8 of them, ``concat8with16x4`` puts 8
bits on top of 16 in each of 4 lanes, ``splat16x8`` repeats 16 bits, ``ult32x4`` gives 4 bits,
``permute8of16x16`` chooses 16 times one of 16 lanes of 8 bits, by numbers of 4 bits.
"""

from __future__ import annotations

import re
from typing import Any, Final

from llvmlite import ir

from runtime.cpu.primitives import GIANT, HUGE, INT, WIDE, _pack, _unpack, primitive

Value = Any

_NAME: Final = re.compile(r"([a-z]+?)(\d+)(?:(?:to|with|of)(\d+))?x(\d+)")
_KINDS: Final = {64: INT, 128: WIDE, 256: HUGE, 512: GIANT}
_PLAIN: Final = frozenset(("add", "sub", "mul"))
_SHIFTS: Final = {"shl": "shl", "lshr": "lshr", "ashr": "ashr"}
_RELATIONS: Final = {"eq": "==", "ne": "!=", "ult": "<", "ule": "<=", "slt": "<", "sle": "<="}


def _size(bits: int) -> int:
    """The size of the values that hold `bits` bits."""
    return next(size for size in _KINDS if bits <= size)


def _vector(b: Any, value: Value, lane: int, count: int) -> Value:
    """The lanes of a value."""
    number = value if isinstance(value.type, ir.IntType) else _pack(b, value)
    bits = ir.IntType(lane * count)
    number = number if number.type.width == bits.width else b.trunc(number, bits)
    return b.bitcast(number, ir.VectorType(ir.IntType(lane), count))


def _value(b: Any, vector: Value) -> Value:
    """A value from its lanes."""
    bits = vector.type.element.width * vector.type.count
    size = _size(bits)
    number = b.bitcast(vector, ir.IntType(bits))
    number = number if bits == size else b.zext(number, ir.IntType(size))
    return number if size == 64 else _unpack(b, number, size // 64)


def _splatted(b: Any, scalar: Value, count: int) -> Value:
    kind = ir.VectorType(scalar.type, count)
    index = ir.Constant(ir.IntType(32), 0)
    first = b.insert_element(ir.Constant(kind, ir.Undefined), scalar, index)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count)
    return b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def _all(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value & (1 << kind.element.width) - 1] * kind.count)


def _shift(b: Any, base: str, value: Value, amounts: Value) -> Value:
    """Shifts by the lane's width or more give 0, or copies of the sign."""
    kind = value.type
    lane = kind.element.width
    small = b.icmp_unsigned("<", amounts, _all(kind, lane))
    distance = b.select(small, amounts, _all(kind, lane - 1))
    moved = getattr(b, _SHIFTS[base])(value, distance)
    return moved if base == "ashr" else b.select(small, moved, _all(kind, 0))


def _concat(b: Any, upper: Value, lower: Value) -> Value:
    count = lower.type.count
    above, below = upper.type.element.width, lower.type.element.width
    if above == below:  # an interleaving
        index = [part for n in range(count) for part in (n, count + n)]
        order = ir.Constant(ir.VectorType(ir.IntType(32), 2 * count), index)
        return b.shuffle_vector(lower, upper, order)
    kind = ir.VectorType(ir.IntType(above + below), count)
    return b.or_(b.shl(b.zext(upper, kind), _all(kind, below)), b.zext(lower, kind))


def _unary(name: str, base: str, lane: int, other: int, count: int) -> Any:
    def build(b: Any, operand: Value) -> Value:
        if base == "splat":
            scalar = operand if isinstance(operand.type, ir.IntType) else _pack(b, operand)
            scalar = scalar if scalar.type.width == lane else b.trunc(scalar, ir.IntType(lane))
            return _value(b, _splatted(b, scalar, count))
        kind = ir.VectorType(ir.IntType(other), count)
        return _value(b, getattr(b, base)(_vector(b, operand, lane, count), kind))

    build.__name__ = name
    build.__doc__ = f"{base} of {count} lanes of {lane} bits."
    if base == "splat":
        return primitive(_KINDS[_size(lane * count)], _KINDS[_size(lane)])(build)
    return primitive(_KINDS[_size(other * count)], _KINDS[_size(lane * count)])(build)


def _binary(name: str, base: str, lane: int, other: int, count: int) -> Any:
    def build(b: Any, left: Value, right: Value) -> Value:
        one, two = _vector(b, left, lane, count), _vector(b, right, other, count)
        if base in _PLAIN:
            return _value(b, getattr(b, base)(one, two))
        if base in _SHIFTS:
            return _value(b, _shift(b, base, one, two))
        if base == "concat":
            return _value(b, _concat(b, one, two))
        compare = b.icmp_signed if base[0] == "s" else b.icmp_unsigned
        return _value(b, compare(_RELATIONS[base], one, two))

    build.__name__ = name
    build.__doc__ = f"{base} of {count} lanes of {lane} bits."
    result = lane + other if base == "concat" else 1 if base in _RELATIONS else lane
    kinds = [_KINDS[_size(bits * count)] for bits in (result, lane, other)]
    return primitive(kinds[0], *kinds[1:])(build)


def _permutation(name: str, lane: int, choices: int, count: int) -> Any:
    index = choices.bit_length() - 1

    def build(b: Any, value: Value, numbers: Value) -> Value:
        source = _vector(b, value, lane, choices)
        chosen = b.zext(_vector(b, numbers, index, count), ir.VectorType(ir.IntType(32), count))
        result = ir.Constant(ir.VectorType(ir.IntType(lane), count), ir.Undefined)
        for position in range(count):
            at = ir.Constant(ir.IntType(32), position)
            part = b.extract_element(source, b.extract_element(chosen, at))
            result = b.insert_element(result, part, at)
        return _value(b, result)

    build.__name__ = name
    build.__doc__ = f"{count} times one of {choices} lanes of {lane} bits."
    kinds = [_KINDS[_size(bits)] for bits in (lane * count, lane * choices, index * count)]
    return primitive(kinds[0], *kinds[1:])(build)


def __getattr__(name: str) -> Any:
    """The primitive of a name; it is kept."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise AttributeError(name)
    base = found.group(1)
    lane, count = int(found.group(2)), int(found.group(4))
    other = int(found.group(3) or lane)
    if base in ("zext", "sext", "trunc", "splat"):
        made = _unary(name, base, lane, other, count)
    elif base in _PLAIN or base in _SHIFTS or base in _RELATIONS or base == "concat":
        made = _binary(name, base, lane, other, count)
    elif base == "permute":
        made = _permutation(name, lane, other, count)
    else:
        raise AttributeError(name)
    globals()[name] = made
    return made
