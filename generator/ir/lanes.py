"""Lane by lane: what a body computes from one lane of each operand, on all lanes at once.

`lifted` turns the behaviour of one lane into the IR's lane-wise operators (`nodes.Unary`, `nodes.Binary`),
which become vector instructions. Where a body does what these can't, it answers None, and lowering writes the
body once for each lane instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from generator.ir import build
from generator.ir.arithmetic import COMPARISONS
from generator.ir.nodes import Binary, Const, Expr, Let, Local, Select, Slice, Stmt, Unary

WIDEST = 512
"""Bits of the widest value that executors hold."""

_WHOLE = frozenset(("and", "or", "xor"))
_LANEWISE = frozenset(("add", "sub", "mul", "shl", "lshr", "ashr")) | COMPARISONS
_SHIFTS = frozenset(("shl", "lshr", "ashr"))


class _Unliftable(Exception):
    """No lane-wise operator does this."""


def lifted(
    statements: Sequence[Stmt],
    results: Sequence[Expr],
    lanes: Mapping[Local, Expr],
    count: int,
    fresh: Callable[[str, int], Local],
) -> tuple[list[Let], list[Expr]] | None:
    """`statements` and `results` of one lane for all `count` lanes, or None.

    `lanes` gives the whole value for each local that stands for a lane of it; `fresh` makes locals. Each of
    the answered values is the concatenation of the lanes' results, the first one lowest.
    """
    lift = _Lift(lanes, count, fresh)
    try:
        for statement in statements:
            if not isinstance(statement, Let):
                return None
            lift.bind(statement)
        return lift.out, [lift.value(result) for result in results]
    except _Unliftable:
        return None


class _Lift:
    def __init__(self, lanes: Mapping[Local, Expr], count: int, fresh: Callable[[str, int], Local]) -> None:
        self.out: list[Let] = []
        self._lanes = dict(lanes)
        self._count = count
        self._fresh = fresh

    def bind(self, let: Let) -> None:
        """A local of the lane becomes one of all lanes; what is the same in all of them stays as it is."""
        if self._differs(let.value):
            self._lanes[let.local] = self._named(let.local.name, self.value(let.value))
        else:
            self.out.append(let)

    def _named(self, name: str, value: Expr) -> Expr:
        if isinstance(value, Local | Const):
            return value
        local = self._fresh(name, value.width)
        self.out.append(Let(local, value))
        return local

    def _differs(self, expr: Expr) -> bool:
        """Whether `expr` depends on a lane."""
        match expr:
            case Local():
                return expr in self._lanes
            case Unary(operand=operand) | Slice(operand=operand):
                return self._differs(operand)
            case Binary(left=left, right=right):
                return self._differs(left) or self._differs(right)
            case Select(condition=condition, then=then, otherwise=otherwise):
                return any(map(self._differs, (condition, then, otherwise)))
            case _:
                return False  # a dynamic index of a register file is the same for all lanes, or a mistake

    def _all(self, width: int) -> int:
        if width * self._count > WIDEST:
            raise _Unliftable
        return width * self._count

    def value(self, expr: Expr) -> Expr:
        """`expr` of all lanes."""
        if not self._differs(expr):
            return build.unary(f"splat.{expr.width}", expr, self._all(expr.width))
        match expr:
            case Local():
                return self._lanes[expr]
            case Unary(op="not", operand=operand):
                return build.not_(self.value(operand))
            case Unary(op="neg", operand=operand, width=width):
                zero = Const(self._all(width), 0)
                return build.binary(f"sub.{width}", zero, self.value(operand))
            case Unary(op="zext" | "sext" as op, operand=operand, width=width):
                return self._resized(op, operand.width, self.value(operand), width)
            case Slice(width=width, operand=operand, low=low):
                chosen = self._chosen(expr)
                if chosen is not None:
                    return chosen
                whole = self.value(operand)
                if low:
                    amount = self._all(operand.width)
                    by = build.unary(f"splat.{operand.width}", Const(operand.width, low), amount)
                    whole = build.binary(f"lshr.{operand.width}", whole, by)
                return self._resized("trunc", operand.width, whole, width)
            case Binary(op=op, left=left, right=right):
                return self._binary(op, left, right)
            case Select(condition=condition, then=then, otherwise=otherwise, strict=strict):
                return self._select(condition, then, otherwise, strict)
        raise _Unliftable

    def _resized(self, op: str, have: int, value: Expr, width: int) -> Expr:
        return value if have == width else build.unary(f"{op}.{have}", value, self._all(width))

    def _binary(self, op: str, left: Expr, right: Expr) -> Expr:
        if op in _WHOLE:
            return build.binary(op, self.value(left), self.value(right))
        if op == "concat":
            self._all(left.width + right.width)
            return build.binary(f"concat.{left.width}", self.value(left), self.value(right))
        if op in ("rotl", "rotr") and isinstance(right, Const):
            return self._rotated(op, left, right.value % left.width)
        if op not in _LANEWISE:
            raise _Unliftable
        if op in _SHIFTS:
            right = _amount(right, left.width)
        return build.binary(f"{op}.{left.width}", self.value(left), self.value(right))

    def _rotated(self, op: str, operand: Expr, amount: int) -> Expr:
        width = operand.width
        value = self._named("turned", self.value(operand))
        parts = []
        for shift, distance in (("shl", amount), ("lshr", width - amount)):
            if op == "rotr":
                distance = width - distance
            by = build.unary(f"splat.{width}", Const(width, distance), self._all(width))
            parts.append(build.binary(f"{shift}.{width}", value, by))
        return build.or_(*parts)

    def _chosen(self, expr: Slice) -> Expr | None:
        """A lane of a value that all lanes share, e.g. ``x[(k @ 0b000) +: 8]``: a permutation."""
        match expr:
            case Slice(
                width=width,
                low=0,
                operand=Binary(
                    op="lshr",
                    left=whole,
                    right=Binary(op="concat", left=index, right=Const(width=scale, value=0)),
                ),
            ) if width == 1 << scale and whole.width == width << index.width and not self._differs(whole):
                self._all(width)
                return build.binary(f"permute.{width}", whole, self.value(index))
        return None

    def _select(self, condition: Expr, then: Expr, otherwise: Expr, strict: bool) -> Expr:
        yes, no = self.value(then), self.value(otherwise)
        if not self._differs(condition):
            return build.select(condition, yes, no, strict)
        chosen = self._resized("sext", 1, self.value(condition), then.width)
        chosen = self._named("chosen", chosen)
        return build.or_(build.and_(yes, chosen), build.and_(no, build.not_(chosen)))


def _amount(amount: Expr, width: int) -> Expr:
    """A shift amount in as many bits as the value that it shifts has."""
    if amount.width <= width:
        return build.zext(amount, width)
    if isinstance(amount, Const):
        return Const(width, min(amount.value, width))
    fits = build.binary("ult", amount, Const(amount.width, width))
    return build.select(fits, build.slice_(amount, 0, width), Const(width, width), strict=True)
