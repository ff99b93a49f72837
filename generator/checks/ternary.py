"""Expressions whose leaves are only partly known: what can be said about their bits.

A `Known` is a set of values: all that agree with `value` on the bits of `known`. Operations give a set that
contains every possible result (it may contain more). The solver narrows leaves bit by bit until conditions
are certain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from generator.ir.arithmetic import binary, mask, unary
from generator.ir.nodes import Binary, Const, Expr, Select, Slice, Unary


@dataclass(frozen=True, slots=True)
class Known:
    """`width` bits of which those in `known` are those of `value` (whose other bits are 0)."""

    width: int
    known: int
    value: int

    @property
    def certain(self) -> bool:
        """Whether there is one value only."""
        return self.known == (1 << self.width) - 1

    @property
    def smallest(self) -> int:
        """The smallest value of the set."""
        return self.value

    @property
    def largest(self) -> int:
        """The largest value of the set."""
        return self.value | (mask(self.width) & ~self.known)


def exactly(width: int, value: int) -> Known:
    """One value."""
    return Known(width, mask(width), value)


def unknown(width: int) -> Known:
    """Any value."""
    return Known(width, 0, 0)


Leaves = Callable[[Expr], Known]
"""What is known about a leaf: Field, Context, Pc, NextPc, Local or ReadReg."""

_TRUE, _FALSE, _EITHER = exactly(1, 1), exactly(1, 0), unknown(1)


def evaluate_known(expr: Expr, leaves: Leaves) -> Known:
    """What is known about `expr` where `leaves` says what is known about its leaves."""
    match expr:
        case Const(width=width, value=value):
            return exactly(width, value)
        case Unary(width=width, op=op, operand=operand):
            return _unary(op, width, evaluate_known(operand, leaves))
        case Slice(width=width, operand=operand, low=low):
            whole = evaluate_known(operand, leaves)
            return Known(width, whole.known >> low & mask(width), whole.value >> low & mask(width))
        case Binary(width=width, op=op, left=left, right=right):
            return _binary(op, width, evaluate_known(left, leaves), evaluate_known(right, leaves))
        case Select(condition=condition, then=then, otherwise=otherwise):
            which = evaluate_known(condition, leaves)
            if which.certain:
                return evaluate_known(then if which.value else otherwise, leaves)
            return _either(evaluate_known(then, leaves), evaluate_known(otherwise, leaves))
        case _:
            return leaves(expr)


def _either(a: Known, b: Known) -> Known:
    same = a.known & b.known & ~(a.value ^ b.value)
    return Known(a.width, same, a.value & same)


def _unary(op: str, width: int, operand: Known) -> Known:
    if operand.certain:
        return exactly(width, unary(op, width, operand.width, operand.value))
    match op:
        case "not":
            return Known(width, operand.known, operand.known & ~operand.value)
        case "zext":
            return Known(width, operand.known | mask(width) & ~mask(operand.width), operand.value)
        case "sext":
            top = 1 << (operand.width - 1)
            if not operand.known & top:
                return Known(width, operand.known, operand.value)
            above = mask(width) & ~mask(operand.width)
            return Known(width, operand.known | above, operand.value | (above if operand.value & top else 0))
        case "neg":
            zero = exactly(width, 0)
            return _add(zero, _unary("not", width, operand), 1)
    return unknown(width)


def _add(a: Known, b: Known, carry: int) -> Known:
    """a + b + carry. The largest and smallest sums, carries included, say which carries are certain."""
    width = a.width
    high = (a.largest + b.largest + carry) & mask(width)
    low = (a.smallest + b.smallest + carry) & mask(width)
    carry_zero = mask(width) & ~(high ^ a.largest ^ b.largest)
    carry_one = low ^ a.smallest ^ b.smallest
    known = a.known & b.known & (carry_zero | carry_one)
    return Known(width, known, low & known)


def _binary(op: str, width: int, a: Known, b: Known) -> Known:
    if a.certain and b.certain:
        return exactly(width, binary(op, a.width, a.value, b.value, b.width))
    match op:
        case "and":
            zeros = (a.known & ~a.value) | (b.known & ~b.value)
            value = a.value & b.value
            return Known(width, zeros | value, value)
        case "or":
            zeros = a.known & ~a.value & b.known & ~b.value
            value = a.value | b.value
            return Known(width, zeros | value, value)
        case "xor":
            known = a.known & b.known
            return Known(width, known, (a.value ^ b.value) & known)
        case "add":
            return _add(a, b, 0)
        case "sub":
            return _add(a, _unary("not", width, b), 1)
        case "concat":
            return Known(width, a.known << b.width | b.known, a.value << b.width | b.value)
        case "shl" | "lshr" | "ashr" | "rotl" | "rotr" if b.certain:
            return _shift(op, a, b)
        case "eq" | "ne":
            if (a.value ^ b.value) & a.known & b.known:
                return exactly(1, op == "ne")
        case "ult":
            return _less(a.largest < b.smallest, a.smallest >= b.largest)
        case "ule":
            return _less(a.largest <= b.smallest, a.smallest > b.largest)
        case "slt" | "sle":
            # Signed order is unsigned order with the top bits inverted.
            return _binary("ult" if op == "slt" else "ule", 1, _flip_top(a), _flip_top(b))
    return unknown(width)


def _less(yes: bool, no: bool) -> Known:
    return _TRUE if yes else _FALSE if no else _EITHER


def _flip_top(a: Known) -> Known:
    top = 1 << (a.width - 1)
    return Known(a.width, a.known, a.value ^ (top & a.known))


def _shift(op: str, a: Known, amount: Known) -> Known:
    """Shift what is known and what it says by the same amount; bits that come in are known (but an unknown
    sign).
    """
    width, by = a.width, amount.value
    if op in ("rotl", "rotr"):
        known = binary(op, width, a.known, by, amount.width)
        return Known(width, known, binary(op, width, a.value, by, amount.width))
    if op == "ashr":
        known = binary("ashr", width, a.known, by, amount.width)
        return Known(width, known, binary("ashr", width, a.value, by, amount.width) & known)
    incoming = mask(width) & ~binary(op, width, mask(width), by, amount.width)
    known = binary(op, width, a.known, by, amount.width) | incoming
    return Known(width, known, binary(op, width, a.value, by, amount.width))
