"""The value of an IR expression, on Python integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from generator.ir.arithmetic import binary, mask, unary
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


class Environment(Protocol):
    """What an expression's leaves stand for."""

    @property
    def fields(self) -> Mapping[str, int]:
        """Raw fields by path."""
        ...

    @property
    def locals(self) -> Mapping[str, int]:
        """Values bound in the body."""
        ...

    @property
    def pc(self) -> int:
        """The instruction's address."""
        ...

    @property
    def next_pc(self) -> int:
        """The address behind the instruction."""
        ...

    def context(self, name: str) -> int:
        """A decode context's or prefix variable's value."""
        ...

    def read(self, register: str, index: int | None, width: int) -> int:
        """A state element."""
        ...


def evaluate(expr: Expr, env: Environment) -> int:
    """The value of `expr`: ``0 <= value < 2**expr.width``. KeyError for a leaf that `env` doesn't know."""
    return _RULES[type(expr)](expr, env)


def _const(expr: Const, env: Environment) -> int:
    return expr.value


def _field(expr: Field, env: Environment) -> int:
    return env.fields[expr.name] & mask(expr.width)


def _context(expr: Context, env: Environment) -> int:
    return env.context(expr.name) & mask(expr.width)


def _pc(expr: Pc, env: Environment) -> int:
    return env.pc & mask(expr.width)


def _next_pc(expr: NextPc, env: Environment) -> int:
    return env.next_pc & mask(expr.width)


def _local(expr: Local, env: Environment) -> int:
    return env.locals[expr.name]


def _read(expr: ReadReg, env: Environment) -> int:
    index = None if expr.index is None else evaluate(expr.index, env)
    return env.read(expr.register, index, expr.width)


def _unary(expr: Unary, env: Environment) -> int:
    return unary(expr.op, expr.width, expr.operand.width, evaluate(expr.operand, env))


def _slice(expr: Slice, env: Environment) -> int:
    return evaluate(expr.operand, env) >> expr.low & mask(expr.width)


def _binary(expr: Binary, env: Environment) -> int:
    left, right = evaluate(expr.left, env), evaluate(expr.right, env)
    return binary(expr.op, expr.left.width, left, right, expr.right.width)


def _select(expr: Select, env: Environment) -> int:
    return evaluate(expr.then if evaluate(expr.condition, env) else expr.otherwise, env)


_RULES: dict[type, Callable[[Any, Environment], int]] = {
    Const: _const,
    Field: _field,
    Context: _context,
    Pc: _pc,
    NextPc: _next_pc,
    Local: _local,
    ReadReg: _read,
    Unary: _unary,
    Slice: _slice,
    Binary: _binary,
    Select: _select,
}
