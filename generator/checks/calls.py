"""Check 4, second part: no shared function calls itself, directly or through others.

Each call takes a piece of the host's stack, and how deep the calls go would be the guest's to choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from generator.checks.report import Reporter
from generator.errors import Diagnostic
from generator.ir import nodes
from generator.ir.effects import statements
from generator.model.target import Function, Target


def check(target: Target, report: Reporter) -> Iterator[Diagnostic]:
    """A diagnostic for each circle of shared functions, at the one that stands first."""
    functions = {function.name: function for function in target.functions}
    told: set[str] = set()
    for function in target.functions:
        circle = _circle(function.name, functions)
        if not circle or told & set(circle):
            continue
        told |= set(circle)
        through = f" through {', '.join(f'`{name}`' for name in circle[1:])}" if circle[1:] else ""
        yield report.make(
            function.span,
            f"`{function.name}` calls itself{through}",
            related=tuple((functions[name].span, "called on the way") for name in circle[1:]),
            remedy="write it as a loop: the depth of calls is bounded by the spec, not by what a guest does",
        )


def _circle(start: str, functions: Mapping[str, Function]) -> list[str]:
    """The names on the shortest way from `start` back to it; empty if there is none."""
    ways: list[list[str]] = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for statement in statements(functions[way[-1]].body):
            if not isinstance(statement, nodes.CallStmt) or statement.builtin:
                continue
            if statement.function == start:
                return way
            if statement.function not in seen:
                seen.add(statement.function)
                ways.append([*way, statement.function])
    return []
