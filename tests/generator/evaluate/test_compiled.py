"""Expressions as Python functions, against `evaluate`, which says what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from generator.ir.compiled import OFTEN, compiled, value
from generator.ir.expressions import evaluate
from generator.ir.nodes import Binary, Const, Context, Expr, Field, Local, NextPc, Pc, ReadReg, Select, Slice
from tests.generator.executors.test_expressions import cases

LEAVES: tuple[Expr, ...] = (
    Const(32, 0xFFFF_FFFE),
    Field(5, "f"),
    Context(7, "c"),
    Pc(32),
    NextPc(32),
    Local(32, "l"),
    ReadReg(64, "a", None),
    ReadReg(64, "file", Field(5, "f")),
)


@dataclass
class Drawn:
    """Leaves whose values are random, but the same each time."""

    seed: int
    locals: Mapping[str, int] = field(default_factory=lambda: {"l": 0x8000_0001})
    pc: int = (1 << 32) + 16
    next_pc: int = (1 << 32) + 20

    @property
    def fields(self) -> Mapping[str, int]:
        return {name: self._draw(name, 128) for name in ("f", "imm", "wide")}

    def context(self, name: str) -> int:
        return self._draw(name, 64)

    def read(self, register: str, index: int | None, width: int) -> int:
        return self._draw(f"{register}[{index}]", width)

    def _draw(self, name: str, width: int) -> int:
        random = Random(f"{self.seed}/{name}")
        return random.choice((random.getrandbits(width), 0, (1 << width) - 1, 1 << width - 1))


def test_every_operator() -> None:
    exprs = cases()
    assert len(exprs) > 300
    for expr in (*LEAVES, *exprs):
        function = compiled(expr)
        for seed in range(6):
            env = Drawn(seed)
            assert function(env) == evaluate(expr, env), expr


def test_choices_look_at_one_side_only() -> None:
    unknown = Local(8, "unknown")
    chosen = Select(8, Const(1, 1), Slice(8, Pc(32), 0), unknown)
    assert compiled(chosen)(Drawn(1)) == 16


def test_deep_expressions() -> None:
    expr: Expr = ReadReg(64, "a", None)
    for number in range(400):
        expr = Binary(64, "add" if number % 3 else "xor", expr, Const(64, number))
    assert compiled(expr)(Drawn(1)) == evaluate(expr, Drawn(1))


def test_what_is_asked_for_often_stays_the_same() -> None:
    expr = Binary(64, "sub", ReadReg(64, "a", None), ReadReg(64, "b", None))
    for _ in range(3 * OFTEN):
        assert value(expr, Drawn(2)) == evaluate(expr, Drawn(2))
