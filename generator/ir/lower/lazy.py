"""Lazy flags: which argument to store so that the flag's definition gives the assigned value."""

from __future__ import annotations

from generator.ir import build
from generator.ir.nodes import Binary, Const, Expr, Local, Select, Slice, Unary


def substitute(expr: Expr, local: Local, value: Expr) -> Expr:
    """`expr` with `value` for `local`."""
    match expr:
        case Local():
            return value if expr == local else expr
        case Unary(width=width, op=op, operand=operand):
            return build.unary(op, substitute(operand, local, value), width)
        case Slice(width=width, operand=operand, low=low):
            return build.slice_(substitute(operand, local, value), low, width)
        case Binary(op=op, left=left, right=right):
            return build.binary(op, substitute(left, local, value), substitute(right, local, value))
        case Select(condition=condition, then=then, otherwise=otherwise, strict=strict):
            return build.select(
                substitute(condition, local, value),
                substitute(then, local, value),
                substitute(otherwise, local, value),
                strict,
            )
        case _:
            return expr


def argument_for(definition: Expr, argument: Local, value: Expr) -> Expr | None:
    """An argument for which `definition` equals `value`; None if the definition cannot have both values."""
    found = _unify(definition, argument, value)
    if found is not None:
        return found
    if isinstance(definition, Slice) and definition.operand == argument:
        return build.binary(
            "shl", build.zext(value, argument.width), build.const(argument.width, definition.low)
        )
    true, false = _witness(definition, argument, 1), _witness(definition, argument, 0)
    if true is None or false is None:
        return None
    return build.select(value, true, false)


def _unify(pattern: Expr, argument: Local, value: Expr) -> Expr | None:
    """What `argument` must be for `pattern` to be, by its form, `value`; None: the forms differ.

    Sides may be narrower than the pattern where the wider argument means the same: compared with 0, and its
    top bit.
    """
    if pattern == argument:
        return value if value.width == argument.width else None
    match pattern, value:
        case Binary(op=("eq" | "ne") as op, left=left, right=Const(value=0)), Binary(
            op=other, left=inner, right=Const(value=0)
        ) if op == other:
            if left == argument and inner.width <= argument.width:
                return build.zext(inner, argument.width)
            return _unify(left, argument, inner)
        case Binary(op=op, left=left, right=Const() as right), Binary(
            op=other, left=inner, right=constant
        ) if op == other and right == constant:
            return _unify(left, argument, inner)
        case Slice(width=width, operand=operand, low=low), Slice(
            width=other_width, operand=inner, low=inner_low
        ) if width == other_width:
            if operand == argument and inner.width <= argument.width and inner_low <= low:
                wide = build.zext(inner, argument.width)
                return build.binary("shl", wide, build.const(argument.width, low - inner_low))
            if low == inner_low:
                return _unify(operand, argument, inner)
        case Unary(op=op, operand=operand), Unary(op=other, operand=inner) if op == other:
            return _unify(operand, argument, inner)
    return None


def _witness(definition: Expr, argument: Local, wanted: int) -> Const | None:
    """A constant for which the definition is `wanted`: one of the usual corner values."""
    width = argument.width
    candidates = [0, 1, (1 << width) - 1, *(1 << n for n in range(1, width)), 2, 3]
    for candidate in candidates:
        constant = Const(width, candidate)
        if substitute(definition, argument, constant) == Const(1, wanted):
            return constant
    return None
