"""`lanes`: one behaviour for all lanes of some values, e.g. ``lanes a, b : bits(8) in x, y => a + b``."""

from __future__ import annotations

from functools import reduce

from generator.ir import build, lanes
from generator.ir.lower import builtins
from generator.ir.lower.draft import Draft
from generator.ir.lower.recursion import Recursion, Widths
from generator.ir.lower.report import Mistake, plural
from generator.ir.lower.scope import Number, Scope, Values
from generator.ir.lower.widths import WidthFinder
from generator.ir.nodes import Expr, Local
from generator.language import syntax as s


class LaneLowering:
    """Lane-wise expressions: all lanes at once where there are operators for it, else lane by lane."""

    def __init__(self, draft: Draft, widths: WidthFinder, recursion: Recursion) -> None:
        self.draft = draft
        self.widths = widths
        self.recursion = recursion

    def values(self, node: s.Lanes, scope: Scope, wants: Widths | None) -> tuple[Expr, ...]:
        """The values of a `lanes` expression: each part of the body's, joined over the lanes."""
        count, width = self.widths.lane_count(node, scope)
        inner = self._lane_wants(node, count, wants)
        if node.type is None:
            first = self.widths.require_const(node.values[0], scope, "the first number")
            rounds = [
                self._lane(node, scope, {node.names[0].name: Number(first + number)}, inner)
                for number in range(count)
            ]
            return self._joined(node, rounds)
        wholes = tuple(
            self.draft.settle(self.recursion.expr(value, scope, count * width), name.name, value.at)
            for name, value in zip(node.names, node.values, strict=True)
        )
        if count > 1:
            vector = self._lifted(node, scope, wholes, count, inner)
            if vector is not None:
                return vector
        rounds = []
        for number in range(count):
            parts = [build.slice_(whole, number * width, width) for whole in wholes]
            bound = {name.name: Values((part,)) for name, part in zip(node.names, parts, strict=True)}
            rounds.append(self._lane(node, scope, bound, inner))
        return self._joined(node, rounds)

    def _lane_wants(self, node: s.Lanes, count: int, wants: Widths | None) -> Widths | None:
        """The widths that are wanted of the body's values."""
        if wants is None or node.fold != "@":
            return wants
        for want in wants:
            if want is not None and want % count:
                raise Mistake(node.at, f"{plural(want, 'bit')} can't be {plural(count, 'equal lane')}")
        return tuple(None if want is None else want // count for want in wants)

    def _lane(
        self,
        node: s.Lanes,
        scope: Scope,
        bound: dict[str, Number] | dict[str, Values],
        wants: Widths | None,
    ) -> tuple[Expr, ...]:
        inner = scope.inner()
        inner.names.update(bound)
        values = self.recursion.values(node.body, inner, wants)
        return tuple(self.draft.settle(value, "lane", node.body.at) for value in values)

    def _lifted(
        self,
        node: s.Lanes,
        scope: Scope,
        wholes: tuple[Expr, ...],
        count: int,
        wants: Widths | None,
    ) -> tuple[Expr, ...] | None:
        """All lanes at once, if there are operators for what the body does."""
        inner = scope.inner()
        parts: dict[Local, Expr] = {}
        for name, whole in zip(node.names, wholes, strict=True):
            local = self.draft.fresh(name.name, whole.width // count)
            parts[local] = whole
            inner.names[name.name] = Values((local,))
        with self.draft.block() as statements:
            results = self.recursion.values(node.body, inner, wants)
        vector = lanes.lifted(statements, results, parts, count, self.draft.fresh)
        if vector is None:
            return None
        lets, values = vector
        for let in lets:
            self.draft.emit(let, node.at)
        return tuple(value if node.fold == "@" else self._folded(node, value, count) for value in values)

    def _folded(self, node: s.Lanes, value: Expr, count: int) -> Expr:
        """All lanes of a value combined, half by half while their number is even."""
        op = builtins.ARITHMETIC[node.fold]
        width = value.width // count
        while count % 2 == 0:
            value = self.draft.settle(value, "half", node.at)
            count //= 2
            half = count * width
            low, high = build.slice_(value, 0, half), build.slice_(value, half, half)
            lanewise = op in ("add", "mul") and count > 1
            value = build.binary(f"{op}.{width}" if lanewise else op, low, high)
        parts = [build.slice_(value, number * width, width) for number in range(count)]
        return reduce(lambda one, other: build.binary(op, one, other), parts)

    def _joined(self, node: s.Lanes, rounds: list[tuple[Expr, ...]]) -> tuple[Expr, ...]:
        op = "concat" if node.fold == "@" else builtins.ARITHMETIC[node.fold]
        return tuple(
            reduce(lambda lower, upper: build.binary(op, upper, lower), parts)
            for parts in zip(*rounds, strict=True)
        )
