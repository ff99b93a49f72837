"""Every operator at many widths, compiled, against the IR's arithmetic on Python integers."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from generator.ir import build
from generator.ir.expressions import evaluate
from generator.ir.nodes import Binary, Const, Expr, Field, ReadReg, Select, Slice, Unary, WriteReg
from generator.model.target import Register, Target
from runtime.cpu.exits import Reason
from tests.generator.executors.harness import HERE, Compiled, forms, leaf_of, values_of

WIDTHS = (1, 5, 8, 16, 31, 32, 33, 48, 63, 64, 65, 80, 127, 128)
ARITHMETIC = ("add", "sub", "mul", "and", "or", "xor", "udiv", "sdiv", "urem", "srem")
SHIFTS = ("shl", "lshr", "ashr", "rotl", "rotr")
RELATIONS = ("eq", "ne", "ult", "ule", "slt", "sle")


@dataclass
class Values:
    """Leaves of an expression."""

    registers: Mapping[str, int]
    fields: Mapping[str, int]
    locals: Mapping[str, int] = field(default_factory=dict)
    pc: int = 0
    next_pc: int = 0

    def context(self, name: str) -> int:
        raise KeyError(name)

    def read(self, register: str, index: int | None, width: int) -> int:
        return self.registers[register]


def reg(name: str, width: int) -> ReadReg:
    return ReadReg(width, f"{name}{width}", None)


def cases() -> list[Expr]:
    """One expression for each operator, width, and kind of operand."""
    found: list[Expr] = []
    for width in WIDTHS:
        a, b = reg("a", width), reg("b", width)
        for op in ARITHMETIC:
            found.append(Binary(width, op, a, b))
        for op in RELATIONS:
            found.append(Binary(1, op, a, b))
        for op in SHIFTS:
            found.append(Binary(width, op, a, reg("b", 8)))
            found.append(Binary(width, op, a, reg("b", 5)))
            found.append(Binary(width, op, a, Const(8, width - 1)))
            found.append(Binary(width, op, Binary(width, "sub", a, b), reg("b", 64)))
        for op in ("not", "neg"):
            found.append(Unary(width, op, a))
        for op in ("clz", "ctz", "popcount"):
            found.append(Unary(width, op, a))
        if width <= 64:
            found.append(Unary(width, "bitreverse", a))
            if width % 8 == 0:
                found.append(Unary(width, "byteswap", a))
        found.append(Select(width, reg("a", 1), a, b, True))
        found.append(Select(width, Binary(1, "slt", a, b), Binary(width, "add", a, b), b))
        for other in WIDTHS:
            if other > width:
                found += [Unary(other, "zext", a), Unary(other, "sext", a), Slice(width, reg("a", other), 0)]
                found.append(Slice(width, reg("a", other), other - width))
                found.append(Slice(width, Binary(other, "add", reg("a", other), reg("b", other)), 1))
            if other + width <= 128:
                found.append(Binary(other + width, "concat", a, reg("b", other)))
        if width in (33, 64, 80, 128):
            product = Binary(2 * width, "mul", Unary(2 * width, "sext", a), Unary(2 * width, "zext", b))
            found += [Slice(width, product, width), Slice(width, product, 0)]
        # Decode-time operands, signed and unsigned.
        if width <= 64:
            found.append(Binary(width, "add", a, build.sext(Field(min(width, 12), "imm"), width)))
            found.append(Binary(1, "ult", a, build.zext(Field(min(width, 20), "wide"), width)))
            found.append(Binary(1, "eq", a, build.sext(Field(min(width, 20), "wide"), width)))
    flags = Binary(1, "and", Binary(1, "eq", reg("a", 8), reg("b", 8)), reg("a", 1))
    found += [flags, Binary(1, "or", Unary(1, "not", flags), Binary(1, "xor", reg("a", 1), reg("b", 1)))]
    return found


def corner(random_: random.Random, width: int) -> int:
    """A value that is often at an edge."""
    top = (1 << width) - 1
    edges = (0, 1, top, top >> 1, (top >> 1) + 1, top - 1, width, width - 1, 64, 63, 32)
    return random_.choice((*edges, random_.getrandbits(width), random_.getrandbits(width))) & top


BATCH = 12
"""Expressions in one body."""


def batches() -> list[list[Expr]]:
    """The cases, some at a time: that compiles faster."""
    every = cases()
    return [every[start : start + BATCH] for start in range(0, len(every), BATCH)]


@pytest.fixture(scope="module")
def everything(bare_target: Callable[..., Target], tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    registers = [Register(name=f"{name}{width}", width=width, span=HERE) for name in "ab" for width in WIDTHS]
    wanted = {(expr.width, n) for batch in batches() for n, expr in enumerate(batch)}
    registers += [Register(name=f"r{width}_{n}", width=width, span=HERE) for width, n in sorted(wanted)]
    bodies = [
        tuple(WriteReg(f"r{expr.width}_{n}", None, expr) for n, expr in enumerate(batch))
        for batch in batches()
    ]
    target = bare_target(registers=tuple(registers), forms=forms(bodies), pc_width=64)
    return Compiled(target, tmp_path_factory.mktemp("everything"))


@pytest.mark.slow
def test_operators_agree_with_the_evaluator(everything: Compiled) -> None:
    random_ = random.Random(7)
    wrong = []
    for number, batch in enumerate(batches()):
        for _ in range(40):
            imm, wide = random_.getrandbits(12), random_.getrandbits(20)
            names = {
                field: value & ((1 << field.width) - 1)
                for width in WIDTHS
                for field, value in (
                    (Field(min(width, 12), "imm"), imm),
                    (Field(min(width, 20), "wide"), wide),
                )
            }
            registers = {f"{n}{w}": corner(random_, w) for n in "ab" for w in WIDTHS}
            for name, value in registers.items():
                everything.set(name, value)
            leaf = leaf_of(everything.plan.variants[number].body, names)
            behind = everything.record(0, leaf, values_of(names))
            everything.stop(behind)
            assert everything.run() == (99, Reason.BREAKPOINT, behind)
            for n, expr in enumerate(batch):
                expected = evaluate(expr, Values(registers, {"imm": imm, "wide": wide}))
                got = everything.get(f"r{expr.width}_{n}")
                if got != expected:
                    wrong.append((expr, registers, hex(got), hex(expected)))
    assert not wrong, f"{len(wrong)} wrong, first: {wrong[0]}"
