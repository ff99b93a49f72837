"""IR expressions as the language writes them: for messages and manuals."""

from __future__ import annotations

from generator.ir.arithmetic import lane_op
from generator.ir.nodes import (
    Binary,
    Const,
    Context,
    Expr,
    Field,
    Local,
    NextPc,
    Pc,
    ReadReg,
    Select,
    Slice,
    Unary,
)

_BINARY = {  # operator: (text, precedence; a higher one binds tighter)
    "or": ("|", 4),
    "xor": ("^", 5),
    "and": ("&", 6),
    "concat": ("@", 7),
    "shl": ("<<", 8),
    "lshr": (">>u", 8),
    "ashr": (">>s", 8),
    "rotl": ("<<<", 8),
    "rotr": (">>>", 8),
    "add": ("+", 9),
    "sub": ("-", 9),
    "mul": ("*", 10),
    "udiv": ("/u", 10),
    "sdiv": ("/s", 10),
    "urem": ("%u", 10),
    "srem": ("%s", 10),
    "eq": ("==", 3),
    "ne": ("!=", 3),
    "ult": ("<u", 3),
    "ule": ("<=u", 3),
    "slt": ("<s", 3),
    "sle": ("<=s", 3),
}
_TERNARY, _UNARY, _ATOM = 1, 11, 12


def show(expr: Expr) -> str:
    """`expr` in the language's notation, e.g. ``x[rs1.n] + sext(imm)``. Long ones are cut with `...`
    inside.
    """
    return _show(expr, 0, 6)


def _show(expr: Expr, outer: int, depth: int) -> str:
    if depth == 0:
        return "..."
    text, own = _text(expr, depth - 1)
    return f"({text})" if own < outer else text


def _text(expr: Expr, depth: int) -> tuple[str, int]:
    match expr:
        case Const(value=value):
            return (str(value) if value < 10 else hex(value)), _ATOM
        case Field(name=name) | Context(name=name) | Local(name=name):
            return name, _ATOM
        case Pc():
            return "pc", _ATOM
        case NextPc():
            return "next_pc", _ATOM
        case ReadReg(register=register, index=None):
            return register, _ATOM
        case ReadReg(register=register, index=index):
            return f"{register}[{_show(index, 0, depth)}]" if index is not None else register, _ATOM
        case Unary(op="not", operand=operand):
            return f"~{_show(operand, _UNARY, depth)}", _UNARY
        case Unary(op="neg", operand=operand):
            return f"-{_show(operand, _UNARY, depth)}", _UNARY
        case Unary(op=op, operand=operand):
            return f"{op}({_show(operand, 0, depth)})", _ATOM
        case Slice(width=1, operand=operand, low=low):
            return f"{_show(operand, _ATOM, depth)}[{low}]", _ATOM
        case Slice(width=width, operand=operand, low=low):
            return f"{_show(operand, _ATOM, depth)}[{low + width - 1}:{low}]", _ATOM
        case Binary(op=op, left=left, right=right):
            base, lane = lane_op(op)
            if base == "permute":
                return f"{op}({_show(left, 0, depth)}, {_show(right, 0, depth)})", _ATOM
            sign, own = _BINARY[base]
            sign = f"{sign}.{lane}" if lane else sign
            return f"{_show(left, own, depth)} {sign} {_show(right, own + 1, depth)}", own
        case Select(condition=condition, then=then, otherwise=otherwise, strict=strict):
            parts = [_show(part, _TERNARY + 1, depth) for part in (condition, then, otherwise)]
            if strict:
                return f"pick({', '.join(parts)})", _ATOM
            return f"{parts[0]} ? {parts[1]} : {parts[2]}", _TERNARY
