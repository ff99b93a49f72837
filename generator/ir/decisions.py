"""Decode-time conditions along one path through a behaviour: which of them are still open.

Conditions over few bits are tried out over all values of their fields that the path allows, so that branches
no encoding reaches are not explored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any

from generator.ir import arithmetic, build, nodes
from generator.ir.effects import subexpressions
from generator.ir.nodes import Expr

LIMIT = 1 << 11
"""Most combinations of values that are tried."""

Leaf = nodes.Field | nodes.Context
Values = Mapping[Any, int]
"""By field or context."""


@cache
def compiled(expr: Expr) -> Callable[[Values], int]:
    """A function that evaluates a decode-time expression over fields and contexts."""
    match expr:
        case nodes.Const(value=value):
            return lambda values: value
        case nodes.Field() | nodes.Context():
            return lambda values: values[expr]
        case nodes.Unary(width=width, op=op, operand=operand):
            inner, inner_width = compiled(operand), operand.width
            return lambda values: arithmetic.unary(op, width, inner_width, inner(values))
        case nodes.Slice(width=width, operand=operand, low=low):
            inner, mask = compiled(operand), (1 << width) - 1
            return lambda values: inner(values) >> low & mask
        case nodes.Binary(op=op, left=left, right=right):
            first, second, width, right_width = compiled(left), compiled(right), left.width, right.width
            return lambda values: arithmetic.binary(op, width, first(values), second(values), right_width)
        case nodes.Select(condition=condition, then=then, otherwise=otherwise):
            test, yes, no = compiled(condition), compiled(then), compiled(otherwise)
            return lambda values: yes(values) if test(values) else no(values)
    raise TypeError(f"not a decode-time expression: {expr}")


@cache
def leaves(expr: Expr) -> frozenset[Leaf] | None:
    """The fields and contexts that `expr` depends on; None if it depends on the address too."""
    found: set[Leaf] = set()
    for part in subexpressions(expr):
        if isinstance(part, nodes.Pc | nodes.NextPc):
            return None
        if isinstance(part, nodes.Field | nodes.Context):
            found.add(part)
    return frozenset(found)


class Facts:
    """What is known on a path: conditions that hold. `domains`: the values of contexts that have few."""

    def __init__(self, conditions: Iterable[Expr], domains: Mapping[str, Sequence[int]]) -> None:
        self._conditions = list(conditions)
        self._domains = domains

    def add(self, condition: Expr) -> None:
        """From here on, `condition` holds."""
        self._conditions.append(condition)

    def settled(self, condition: Expr) -> bool | None:
        """Whether `condition` is certain (True), impossible (False), or open."""
        if condition in self._conditions:
            return True
        if build.not_(condition) in self._conditions:
            return False
        names = leaves(condition)
        if names is None:
            return None
        choices = self._choices(names)
        if choices is None:
            return None
        relevant: list[Expr] = []
        for fact in self._conditions:
            named = leaves(fact)
            if named is None or not named & names:
                continue
            wider = self._choices(names | named)
            if wider is None:
                continue
            names, choices = names | named, wider
            relevant.append(fact)
        order = sorted(names, key=lambda leaf: leaf.name)
        tests = [compiled(fact) for fact in relevant]
        wanted = compiled(condition)
        seen = [False, False]
        for values in product(*(self._domain(leaf) for leaf in order)):
            bound = dict(zip(order, values, strict=True))
            if all(test(bound) for test in tests):
                seen[wanted(bound)] = True
                if all(seen):
                    return None
        return seen[1]

    def _domain(self, leaf: Leaf) -> Sequence[int]:
        if isinstance(leaf, nodes.Context) and self._domains.get(leaf.name):
            return self._domains[leaf.name]
        return range(1 << leaf.width)

    def _choices(self, names: Iterable[Leaf]) -> int | None:
        """How many combinations of values there are; None if too many."""
        count = 1
        for leaf in names:
            if leaf.width > 16 and not (isinstance(leaf, nodes.Context) and self._domains.get(leaf.name)):
                return None
            count *= len(self._domain(leaf))
            if count > LIMIT:
                return None
        return count
