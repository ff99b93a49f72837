"""Expressions that are asked for again and again, as Python functions: the values are those of
`expressions.evaluate`, which says what expressions mean, at a fraction of its time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from generator.ir.arithmetic import binary, mask, unary
from generator.ir.expressions import Environment, evaluate
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

OFTEN: Final = 12
"""Evaluations before an expression is compiled, which takes as long as a few dozen."""

DEEPEST: Final = 30
"""Nested parts in one function; deeper ones get functions of their own (Python limits nested parentheses)."""

MOST: Final = 1 << 18
"""Expressions that are remembered."""

Function = Callable[[Environment], int]


class _Use:
    """How often an expression was asked for, and its function if that was often. (Holding the expression
    keeps its identity its own.)
    """

    __slots__ = ("count", "expr", "function")

    def __init__(self, expr: Expr) -> None:
        self.expr = expr
        self.count = 0
        self.function: Function | None = None


_USES: dict[int, _Use] = {}


def value(expr: Expr, env: Environment) -> int:
    """The value of `expr`, as `evaluate` gives it."""
    use = _USES.get(id(expr))
    if use is None:
        if len(_USES) >= MOST:
            _USES.clear()
        use = _USES[id(expr)] = _Use(expr)
    if use.function is not None:
        return use.function(env)
    use.count += 1
    if use.count > OFTEN:
        use.function = compiled(expr)
    return evaluate(expr, env)


def compiled(expr: Expr) -> Function:
    """`expr` as a function of what its leaves stand for."""
    names: dict[str, Any] = {"binary": binary, "unary": unary}
    source = _Source(names).text(expr, 0)
    function: Function = eval(f"lambda e: {source}", names)
    return function


class _Source:
    """Writes expressions as Python text; `names` collects the functions that it calls."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names

    def text(self, expr: Expr, depth: int) -> str:
        if depth > DEEPEST:
            name = f"part{len(self.names)}"
            self.names[name] = compiled(expr)
            return f"{name}(e)"
        match expr:
            case Const(value=number):
                return str(number)
            case Field(name=name, width=width):
                return f"(e.fields[{name!r}] & {mask(width)})"
            case Context(name=name, width=width):
                return f"(e.context({name!r}) & {mask(width)})"
            case Pc(width=width):
                return f"(e.pc & {mask(width)})"
            case NextPc(width=width):
                return f"(e.next_pc & {mask(width)})"
            case Local(name=name):
                return f"e.locals[{name!r}]"
            case ReadReg(register=register, index=index, width=width):
                place = "None" if index is None else self.text(index, depth + 1)
                return f"e.read({register!r}, {place}, {width})"
            case Slice(operand=operand, low=low, width=width):
                inner = self.text(operand, depth + 1)
                shifted = f"{inner} >> {low}" if low else inner
                return f"({shifted})" if low + width == operand.width else f"({shifted} & {mask(width)})"
            case Select(condition=condition, then=then, otherwise=otherwise):
                parts = [self.text(part, depth + 1) for part in (then, condition, otherwise)]
                return "({} if {} else {})".format(*parts)
            case Unary(op=op, operand=operand, width=width):
                return _unary(op, width, operand.width, self.text(operand, depth + 1))
            case Binary(op=op, left=left, right=right):
                a, b = self.text(left, depth + 1), self.text(right, depth + 1)
                return _binary(op, left.width, a, b, right.width)


def _unary(op: str, width: int, operand_width: int, inner: str) -> str:
    match op:
        case "not":
            return f"({inner} ^ {mask(width)})"
        case "zext":
            return inner
        case "trunc" | "neg":
            return f"({'-' if op == 'neg' else ''}{inner} & {mask(width)})"
        case "sext":
            sign = 1 << operand_width - 1
            return f"(({inner} ^ {sign}) - {sign} & {mask(width)})"
    return f"unary({op!r}, {width}, {operand_width}, {inner})"


_WRAPPING: Final = {"add": "+", "sub": "-", "mul": "*"}
_BITWISE: Final = {"and": "&", "or": "|", "xor": "^"}
_COMPARING: Final = {"eq": "==", "ne": "!=", "ult": "<", "ule": "<="}


def _binary(op: str, width: int, left: str, right: str, right_width: int) -> str:
    if op in _WRAPPING:
        return f"({left} {_WRAPPING[op]} {right} & {mask(width)})"
    if op in _BITWISE:
        return f"({left} {_BITWISE[op]} {right})"
    if op in _COMPARING:
        return f"(+({left} {_COMPARING[op]} {right}))"
    if op == "concat":
        return f"({left} << {right_width} | {right})"
    if op in ("shl", "lshr") and right.isdecimal() and int(right) < width:
        shifted = f"{left} {'<<' if op == 'shl' else '>>'} {right}"
        return f"({shifted} & {mask(width)})" if op == "shl" else f"({shifted})"
    return f"binary({op!r}, {width}, {left}, {right}, {right_width})"
