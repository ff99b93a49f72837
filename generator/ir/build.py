"""Constructors of IR expressions that fold constants and drop identities, so that equal behaviours come out
equal.

Every function takes expressions of the right widths (lowering has checked them) and returns one of the width
that its
name and arguments imply.
"""

from __future__ import annotations

from generator.ir import arithmetic
from generator.ir.arithmetic import mask
from generator.ir.nodes import Binary, Const, Expr, Select, Slice, Unary

COMMUTATIVE = frozenset(("add", "mul", "and", "or", "xor", "eq", "ne"))
TRUE = Const(1, 1)
FALSE = Const(1, 0)


def const(width: int, value: int) -> Const:
    """`value` cut to `width` bits."""
    return Const(width, value & mask(width))


def unary(op: str, operand: Expr, width: int | None = None) -> Expr:
    """not, neg, zext, sext, clz, ctz, popcount, bitreverse, byteswap; `width` for the extensions only."""
    w = operand.width if width is None else width
    if isinstance(operand, Const):
        return Const(w, arithmetic.unary(op, w, operand.width, operand.value))
    if op in ("zext", "sext"):
        if w == operand.width:
            return operand
        if isinstance(operand, Unary) and operand.op == "zext":
            return Unary(w, "zext", operand.operand)
        if op == "sext" and isinstance(operand, Unary) and operand.op == "sext":
            return Unary(w, "sext", operand.operand)
    if op == "not":
        if isinstance(operand, Unary) and operand.op == "not":
            return operand.operand
        if isinstance(operand, Binary) and operand.op in ("eq", "ne"):
            return Binary(1, "ne" if operand.op == "eq" else "eq", operand.left, operand.right)
        if isinstance(operand, Binary) and operand.op in ("ult", "ule", "slt", "sle"):
            swapped = {"ult": "ule", "ule": "ult", "slt": "sle", "sle": "slt"}[operand.op]
            return Binary(1, swapped, operand.right, operand.left)
    if op in ("bitreverse",) and operand.width == 1:
        return operand
    if op == "neg" and operand.width == 1:
        return operand
    return Unary(w, op, operand)


def zext(operand: Expr, width: int) -> Expr:
    return unary("zext", operand, width)


def sext(operand: Expr, width: int) -> Expr:
    return unary("sext", operand, width)


def resize(operand: Expr, width: int) -> Expr:
    """Zero-extended, or cut to the low bits."""
    return zext(operand, width) if width >= operand.width else slice_(operand, 0, width)


def not_(operand: Expr) -> Expr:
    return unary("not", operand)


def slice_(operand: Expr, low: int, width: int) -> Expr:
    """`width` bits of `operand` from bit `low` up."""
    if low == 0 and width == operand.width:
        return operand
    match operand:
        case Const(value=value):
            return Const(width, value >> low & mask(width))
        case Slice(operand=inner, low=inner_low):
            return slice_(inner, inner_low + low, width)
        case Unary(op="zext", operand=inner):
            if low >= inner.width:
                return Const(width, 0)
            if low + width <= inner.width:
                return slice_(inner, low, width)
            return zext(slice_(inner, low, inner.width - low), width)
        case Unary(op="sext", operand=inner):
            if low + width <= inner.width:
                return slice_(inner, low, width)
        case Binary(op="concat", left=left, right=right):
            if low >= right.width:
                return slice_(left, low - right.width, width)
            if low + width <= right.width:
                return slice_(right, low, width)
            part = right.width - low
            return concat(slice_(left, 0, width - part), slice_(right, low, part))
        case Binary(op=("and" | "or" | "xor") as op, left=left, right=Const() as right):
            return binary(op, slice_(left, low, width), slice_(right, low, width))
        case Select(condition=condition, then=Const() as then, otherwise=Const() as otherwise, strict=strict):
            return select(condition, slice_(then, low, width), slice_(otherwise, low, width), strict)
        case _:
            pass
    return Slice(width, operand, low)


def concat(left: Expr, right: Expr) -> Expr:
    """`left` on top of `right`."""
    if isinstance(left, Const):
        if isinstance(right, Const):
            return Const(left.width + right.width, left.value << right.width | right.value)
        if left.value == 0:
            return zext(right, left.width + right.width)
        if isinstance(right, Binary) and right.op == "concat" and isinstance(right.left, Const):
            return Binary(left.width + right.width, "concat", concat(left, right.left), right.right)
    if isinstance(left, Slice) and isinstance(right, Slice):
        neighbours = left.low == right.low + right.width and left.operand == right.operand
        if neighbours:
            return slice_(left.operand, right.low, left.width + right.width)
    if isinstance(left, Binary) and left.op == "concat":
        # Left-leaning chains join their last two parts where these are neighbours.
        joined = concat(left.right, right)
        if not (isinstance(joined, Binary) and joined.op == "concat" and joined.left is left.right):
            return concat(left.left, joined)
    return Binary(left.width + right.width, "concat", left, right)


def binary(op: str, left: Expr, right: Expr) -> Expr:
    """Any operator of `nodes.Binary`."""
    if op == "concat":
        return concat(left, right)
    width = arithmetic.binary_width(op, left.width, right.width)
    if isinstance(left, Const):
        if isinstance(right, Const):
            return Const(width, arithmetic.binary(op, left.width, left.value, right.value, right.width))
        if op in COMMUTATIVE:
            left, right = right, left
    if isinstance(right, Const):
        return _with_constant(op, width, left, right)
    if isinstance(left, Const) and left.value == 0 and op in ("shl", "lshr", "ashr", "rotl", "rotr"):
        return left
    if left.width == 1 and op == "ne":
        return Binary(1, "xor", left, right)
    return Binary(width, op, left, right)


def _with_constant(op: str, width: int, left: Expr, right: Const) -> Expr:
    value = right.value
    ones = mask(right.width)
    if op in ("add", "sub", "or", "xor", "shl", "lshr", "ashr", "rotl", "rotr") and value == 0:
        return left
    if op == "sub":
        op, right = "add", const(right.width, -value)
        value = right.value
    match op:
        case "and" if value == 0:
            return right
        case "and" if value == ones:
            return left
        case "or" if value == ones:
            return right
        case "xor" if value == ones:
            return not_(left)
        case "mul" if value == 0:
            return right
        case "mul" | "udiv" if value == 1:
            return left
        case "shl" | "lshr" if value >= left.width:
            return Const(width, 0)
        case "rotl" | "rotr" if value % left.width == 0:
            return left
        case "add" if isinstance(left, Binary) and left.op == "add" and isinstance(left.right, Const):
            return binary("add", left.left, const(width, left.right.value + value))
        case "eq" | "ne" if left.width == 1:
            return left if (op == "eq") == (value == 1) else not_(left)
        case "eq" | "ne" if isinstance(left, Unary) and left.op == "zext":
            inner = left.operand
            if value > mask(inner.width):
                return Const(1, int(op == "ne"))
            return binary(op, inner, Const(inner.width, value))
        case "ult" if value == 0:
            return FALSE
        case "ule" if value == ones:
            return TRUE
        case "ult" if isinstance(left, Unary) and left.op == "zext" and value > mask(left.operand.width):
            return TRUE
        case _:
            pass
    return Binary(width, op, left, right)


def and_(left: Expr, right: Expr) -> Expr:
    return binary("and", left, right)


def or_(left: Expr, right: Expr) -> Expr:
    return binary("or", left, right)


def eq(left: Expr, right: Expr) -> Expr:
    return binary("eq", left, right)


def select(condition: Expr, then: Expr, otherwise: Expr, strict: bool = False) -> Expr:
    """condition ? then : otherwise."""
    if isinstance(condition, Const):
        return then if condition.value else otherwise
    if then == otherwise:
        return then
    if isinstance(condition, Unary) and condition.op == "not":
        return select(condition.operand, otherwise, then, strict)
    if then.width == 1 and not strict and isinstance(then, Const) and isinstance(otherwise, Const):
        return condition if then.value else not_(condition)
    return Select(then.width, condition, then, otherwise, strict)


def conjunction(conditions: list[Expr]) -> Expr | None:
    """All of them; None if there is none or all are certain."""
    result: Expr = TRUE
    for condition in conditions:
        result = condition if result == TRUE else and_(result, condition)
    return None if result == TRUE else result
