"""Partly known values: what is claimed of a result is true of every value that the operands may have."""

from itertools import product

import pytest

from generator.checks.ternary import Known, evaluate_known
from generator.ir.arithmetic import binary, mask, unary
from generator.ir.nodes import Binary, Const, Expr, Field, Select, Slice, Unary

WIDTH = 3
SETS = [Known(WIDTH, known, value) for known in range(8) for value in range(8) if value & ~known == 0]


def members(known: Known) -> list[int]:
    return [v for v in range(1 << known.width) if v & known.known == known.value]


def claim_holds(result: Known, value: int) -> bool:
    return value & result.known == result.value


A, B = Field(WIDTH, "a"), Field(WIDTH, "b")


def known_of(expr: Expr, a: Known, b: Known) -> Known:
    return evaluate_known(expr, lambda leaf: a if leaf == A else b)


OPERATORS = [
    "add",
    "sub",
    "mul",
    "and",
    "or",
    "xor",
    "udiv",
    "sdiv",
    "urem",
    "srem",
    "shl",
    "lshr",
    "ashr",
    "rotl",
    "rotr",
    "eq",
    "ne",
    "ult",
    "ule",
    "slt",
    "sle",
    "concat",
]


@pytest.mark.parametrize("op", OPERATORS)
def test_binary_is_sound(op: str) -> None:
    width = 1 if op in ("eq", "ne", "ult", "ule", "slt", "sle") else 2 * WIDTH if op == "concat" else WIDTH
    expr = Binary(width, op, A, B)
    for a, b in product(SETS, repeat=2):
        result = known_of(expr, a, b)
        for x, y in product(members(a), members(b)):
            assert claim_holds(result, binary(op, WIDTH, x, y, WIDTH)), (a, b, x, y, result)


@pytest.mark.parametrize(
    "op", ["and", "or", "xor", "add", "sub", "eq", "ult", "ule", "slt", "sle", "concat", "shl", "ashr"]
)
def test_binary_is_exact_where_operands_are_certain(op: str) -> None:
    width = 1 if op in ("eq", "ult", "ule", "slt", "sle") else 2 * WIDTH if op == "concat" else WIDTH
    for x, y in product(range(8), repeat=2):
        result = known_of(Binary(width, op, A, B), Known(WIDTH, 7, x), Known(WIDTH, 7, y))
        assert result == Known(width, mask(width), binary(op, WIDTH, x, y, WIDTH))


def test_comparisons_are_as_sharp_as_their_ranges() -> None:
    """An unsigned comparison is certain exactly where all members agree (ranges of known bits decide it)."""
    for a, b in product(SETS, repeat=2):
        result = known_of(Binary(1, "ult", A, B), a, b)
        outcomes = {int(x < y) for x, y in product(members(a), members(b))}
        assert result.certain == (len(outcomes) == 1)


@pytest.mark.parametrize("op", ["not", "neg", "zext", "sext", "clz", "ctz", "popcount", "bitreverse"])
def test_unary_is_sound(op: str) -> None:
    width = 5 if op in ("zext", "sext") else WIDTH
    for a in SETS:
        result = known_of(Unary(width, op, A), a, a)
        assert all(claim_holds(result, unary(op, width, WIDTH, x)) for x in members(a))


def test_select_and_slice() -> None:
    condition = Slice(1, A, 2)
    expr = Select(WIDTH, condition, Const(WIDTH, 5), Const(WIDTH, 4))
    assert known_of(expr, Known(WIDTH, 4, 4), Known(WIDTH, 0, 0)) == Known(WIDTH, 7, 5)
    assert known_of(expr, Known(WIDTH, 0, 0), Known(WIDTH, 0, 0)) == Known(WIDTH, 6, 4)
