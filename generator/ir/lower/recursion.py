"""The recursion of the syntax: calls stand in expressions, statements in the functions that calls inline."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from generator.ir.lower.places import Place
from generator.ir.lower.scope import Scope
from generator.ir.nodes import Expr
from generator.language import syntax as s

Widths: TypeAlias = tuple[int | None, ...]
"""The widths of an expression's values in bits; None: it takes the width of its surroundings."""


class Recursion(Protocol):
    """What a part of the lowering asks of those that build on it. `body.Body` is it.

    `want`, `wants`: the widths that the surroundings ask for. All raise Mistake, or Poisoned where something
    was mistaken before.
    """

    def call_widths(self, node: s.Call, scope: Scope) -> Widths:
        """The widths of a call's results."""

    def expr(self, node: s.Expr, scope: Scope, want: int | None = None) -> Expr:
        """An expression's one value."""

    def values(self, node: s.Expr, scope: Scope, wants: Widths | None = None) -> tuple[Expr, ...]:
        """All values of an expression."""

    def place(self, node: s.Expr, scope: Scope, want: int | None = None) -> Place:
        """What an expression reads or, left of `=`, writes."""

    def call(self, node: s.Call, scope: Scope, wants: Widths | None) -> tuple[Expr, ...]:
        """A call's results."""

    def run(self, statements: list[s.Stmt], scope: Scope) -> tuple[tuple[Expr, ...] | None, bool]:
        """A function's statements in place: its results (None: no path returns), and whether a path gets to
        the end without returning or trapping.
        """
