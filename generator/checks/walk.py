"""Following a body in program order along all its paths, with what each path assumes.

A check keeps a *state* per path (any hashable value). Paths that took different sides of the same condition
are kept apart, so that ``if w { x = 1 } ... if !w { raise t() }`` is understood; when there are too many,
they are merged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from generator.ir.effects import subexpressions
from generator.ir.nodes import (
    Assign,
    Atomic,
    Binary,
    Block,
    CallStmt,
    Const,
    Expr,
    ForRange,
    ForSet,
    Goto,
    If,
    Let,
    Load,
    Local,
    Raise,
    ReadReg,
    Return,
    Skip,
    Stmt,
    Store,
    Unary,
    WriteReg,
)

MOST_PATHS = 48
"""Paths that are kept apart."""

Assumptions: TypeAlias = frozenset[tuple[Expr, bool]]
Plain: TypeAlias = Let | Assign | WriteReg | Load | Store | Goto | Skip | Raise | CallStmt | Return
"""Statements without statements inside."""

S = TypeVar("S")


@dataclass(frozen=True)
class Path(Generic[S]):
    """A state and what was assumed to get there."""

    assumed: Assumptions
    state: S


class Walk(Generic[S]):
    """Walks bodies. `step` gives the state behind a plain statement; `branch` sees a condition being
    evaluated.

    `join` merges two states. Statements behind a `raise` or `return` are on no path.
    """

    def __init__(
        self,
        step: Callable[[Plain, Path[S]], S],
        join: Callable[[S, S], S],
        condition: Callable[[Expr, Path[S]], S],
    ) -> None:
        self._step = step
        self._join = join
        self._condition = condition
        self._loops = 0

    def run(self, body: Block, start: S) -> list[Path[S]]:
        """The paths that reach the end of `body`."""
        return self._block(body, [Path(frozenset(), start)])

    def _block(self, body: Block, paths: list[Path[S]]) -> list[Path[S]]:
        for statement in body:
            if not paths:
                break
            paths = self._limit(self._statement(statement, paths))
        return paths

    def _limit(self, paths: list[Path[S]]) -> list[Path[S]]:
        paths = list(dict.fromkeys(paths))
        if len(paths) <= MOST_PATHS:
            return paths
        merged = paths[0].state
        assumed = paths[0].assumed
        for path in paths[1:]:
            merged = self._join(merged, path.state)
            assumed &= path.assumed
        return [Path(assumed, merged)]

    def _statement(self, statement: Stmt, paths: list[Path[S]]) -> list[Path[S]]:
        match statement:
            case If(condition=condition, then=then, otherwise=otherwise):
                paths = [Path(path.assumed, self._condition(condition, path)) for path in paths]
                yes = self._assume(condition, True, paths)
                no = self._assume(condition, False, paths)
                return self._block(then, yes) + self._block(otherwise, no)
            case ForRange(body=body):
                return self._loop(body, paths)
            case ForSet(mask=mask, body=body):
                paths = [Path(path.assumed, self._condition(mask, path)) for path in paths]
                return paths + self._loop(body, paths)
            case Atomic(body=body):
                return self._block(body, paths)
            case Raise() | Return():
                for path in paths:
                    self._step(statement, path)
                return []
        return [Path(path.assumed, self._step(statement, path)) for path in paths]

    def _loop(self, body: Block, paths: list[Path[S]]) -> list[Path[S]]:
        """Twice round: what one turn leaves behind meets the next one."""
        self._loops += 1
        once = self._limit(self._block(body, paths))
        twice = self._block(body, once)
        self._loops -= 1
        return once + twice

    def _assume(self, condition: Expr, value: bool, paths: list[Path[S]]) -> list[Path[S]]:
        """The paths on which `condition` may have `value`, with that assumed where it can't change."""
        plain, wanted = _normal(condition, value)
        if isinstance(plain, Const):
            return paths if bool(plain.value) == wanted else []
        kept = [path for path in paths if (plain, not wanted) not in path.assumed]
        if self._loops or not is_stable(plain):
            return kept
        return [Path(path.assumed | {(plain, wanted)}, path.state) for path in kept]


def _normal(condition: Expr, value: bool) -> tuple[Expr, bool]:
    """The condition without negations, and the value that it must have instead."""
    while True:
        match condition:
            case Unary(op="not", operand=operand):
                condition, value = operand, not value
            case Binary(op="eq", left=left, right=Const(width=1, value=constant)):
                condition, value = left, value == bool(constant)
            case Binary(op="ne", left=left, right=right):
                condition, value = Binary(1, "eq", left, right), not value
            case _:
                return condition, value


def is_stable(expr: Expr) -> bool:
    """Whether the value can't change within a body: no registers, and no locals (they may be `var`s)."""
    return not any(isinstance(node, ReadReg | Local) for node in subexpressions(expr))


def bound(statement: Stmt) -> tuple[Local, ...]:
    """The locals that a statement gives a value."""
    match statement:
        case Let(local=local) | Assign(local=local) | Load(local=local):
            return (local,)
        case CallStmt(results=results):
            return results
    return ()
