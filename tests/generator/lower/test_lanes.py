"""`lanes`: the same values whether a body becomes vector operators or is written out for each lane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import pytest

from generator.ir.effects import expressions, subexpressions
from generator.ir.expressions import evaluate
from generator.ir.nodes import Binary, Let, Unary, WriteReg
from tests.generator.lower.specs import insn, mistakes, toy

M8, M16 = 0xFF, 0xFFFF


class Registers:
    """An environment in which rs1 and rs2 are x[1] and x[2]."""

    pc = next_pc = 0
    fields: Mapping[str, int] = {"rd.n": 3, "rs1.n": 1, "rs2.n": 2}

    def __init__(self, first: int, second: int) -> None:
        self.values = {1: first, 2: second}
        self.locals: dict[str, int] = {}

    def context(self, name: str) -> int:
        return 0

    def read(self, register: str, index: int | None, width: int) -> int:
        return self.values[index or 0]


def result(statements: str, first: int, second: int) -> int:
    """What the statements leave in rd."""
    (form,) = toy(insn(statements)).forms
    env = Registers(first, second)
    written = 0
    for stmt in form.variants[0].body:
        if isinstance(stmt, Let):
            env.locals[stmt.local.name] = evaluate(stmt.value, env)
        elif isinstance(stmt, WriteReg):
            written = evaluate(stmt.value, env)
    return written


def signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> (width - 1) else value


def by_lanes(lane: int, out: int, of: Callable[[int, int], int]) -> Callable[[int, int], int]:
    def whole(first: int, second: int) -> int:
        parts = (
            of(first >> at & (1 << lane) - 1, second >> at & (1 << lane) - 1) & (1 << out) - 1
            for at in range(0, 32, lane)
        )
        return sum(part << position * out for position, part in enumerate(parts))

    return whole


CASES = {
    "lanes a, b : bits(8) in rs1, rs2 => a + b": by_lanes(8, 8, lambda a, b: a + b),
    "lanes a, b : bits(16) in rs1, rs2 => a * b - b": by_lanes(16, 16, lambda a, b: a * b - b),
    "lanes a, b : bits(8) in rs1, rs2 => pick(a <u b, a, b)": by_lanes(8, 8, min),
    "lanes a, b : bits(8) in rs1, rs2 => a <s 0 ? -a : ~b": by_lanes(8, 8, lambda a, b: -a if a >> 7 else ~b),
    "lanes a, b : bits(16) in rs1, rs2 => (a << 3) | (b >>s 5)": by_lanes(
        16, 16, lambda a, b: a << 3 | signed(b, 16) >> 5
    ),
    "lanes a, b : bits(8) in rs1, rs2 => a >>u b": by_lanes(8, 8, lambda a, b: a >> b if b < 8 else 0),
    "lanes a, b : bits(8) in rs1, rs2 => a >>u rs2[4:0]": None,  # one amount for all
    "zext(lanes a, b : bits(8) in rs1, rs2 => a >s b)": by_lanes(
        8, 1, lambda a, b: signed(a, 8) > signed(b, 8)
    ),
    "lanes a, b : bits(8) in rs1[15:0], rs2[15:0] => b @ a": lambda x, y: (
        (x & M8) | (y & M8) << 8 | (x >> 8 & M8) << 16 | (y >> 8 & M8) << 24
    ),
    "lanes a : bits(16) in rs1 => low(sext(a, 32) * sext(a) >>u 16, 16)": by_lanes(
        16, 16, lambda a, b: signed(a, 16) ** 2 >> 16
    ),
    "lanes a : bits(8) in rs1 => rs2[(a[1:0] @ 0b000) +: 8]": None,  # a permutation
    "lanes a : bits(8) in rs1 => a <<< 3": by_lanes(8, 8, lambda a, b: a << 3 | a >> 5),
    "lanes a : bits(8) in rs1 => zext(popcount(a))": by_lanes(8, 8, lambda a, b: a.bit_count()),
    "lanes k in 0..3 => rs1[(3 - k) * 8 +: 8]": lambda x, y: int.from_bytes(x.to_bytes(4, "little"), "big"),
    "zext(lanes(+) a : bits(8) in rs1 => zext(a, 16))": lambda x, y: sum(x.to_bytes(4, "little")),
    "zext(lanes(|) a : bits(8) in rs1 => a)": lambda x, y: x & M8 | x >> 8 & M8 | x >> 16 & M8 | x >> 24,
    "lanes x, y : bits(16) in rs1, rs2 => zext(lanes(^) a, b : bits(4) in x, y => a ^ b)": None,
}
SPECIAL: dict[str, Callable[[int, int], int]] = {
    "lanes a, b : bits(8) in rs1, rs2 => a >>u rs2[4:0]": lambda x, y: sum(
        ((x >> at & M8) >> (y & 31)) << at for at in range(0, 32, 8)
    ),
    "lanes a : bits(8) in rs1 => rs2[(a[1:0] @ 0b000) +: 8]": lambda x, y: sum(
        (y >> 8 * (x >> at & 3) & M8) << at for at in range(0, 32, 8)
    ),
    "lanes x, y : bits(16) in rs1, rs2 => zext(lanes(^) a, b : bits(4) in x, y => a ^ b)": lambda x, y: sum(
        (v & 15 ^ v >> 4 & 15 ^ v >> 8 & 15 ^ v >> 12) << at for at in (0, 16) for v in [(x ^ y) >> at & M16]
    ),
}


@pytest.mark.parametrize("text", CASES)
def test_lanes_compute_what_their_body_does(text: str) -> None:
    expected = CASES[text] or SPECIAL[text]
    random = Random(text)
    for _ in range(40):
        first, second = (random.choice((random.getrandbits(32), 0x80FF017F, 0xFFFFFFFF)) for _ in "ab")
        assert result(f"rd = {text}", first, second) == expected(first, second), (hex(first), hex(second))


def operators(statements: str) -> set[str]:
    """The operators in the behaviour of an instruction with these statements."""
    (form,) = toy(insn(statements)).forms
    return {
        part.op
        for stmt in form.variants[0].body
        for expr in expressions(stmt)
        for part in subexpressions(expr)
        if isinstance(part, Unary | Binary)
    }


def test_integer_bodies_become_vector_operators_and_others_are_written_out() -> None:
    assert operators("rd = lanes a, b : bits(8) in rs1, rs2 => a + b") == {"add.8"}
    assert "popcount" in operators("rd = lanes a : bits(8) in rs1 => zext(popcount(a))")


def test_columns_may_name_lanes_that_hide_other_names() -> None:
    text = """enum letter : bits(2) { a, b, c }
    insn t[op, value] {
        bits 0000000 rs2 rs1 000 rd 0110011
        exec rd = lanes a, b : bits(8) in rs1, rs2 => value
    } each { sum, a + b }
    """
    (form,) = toy(text.replace("each { sum, a + b }", "each {\n sum, a + b\n }")).forms
    assert any("+" in str(stmt) or "add.8" in str(stmt) for stmt in form.variants[0].body)


def test_lanes_have_to_fit() -> None:
    (message,) = mistakes(insn("rd = lanes a, b : bits(12) in rs1, rs2 => a + b"))
    assert "lanes" in message
    (message,) = mistakes(insn("rd = zext(lanes a, b : bits(8) in rs1, rs2[15:0] => a + b)"))
    assert "lanes" in message
