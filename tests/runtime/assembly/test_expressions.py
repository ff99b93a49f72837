"""Decode-time expressions: inverting is the inverse of evaluating."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.assembly.expressions import Tree, evaluate, invert, may_hold, names

FIELD = ("field", 12, "n")
PC = ("field", 64, "pc")
BRANCH = ("add", 64, PC, ("sext", 64, ("concat", 13, ("field", 12, "n"), ("const", 1, 0))))
INVERTIBLE: list[Tree] = [
    FIELD,
    ("zext", 32, FIELD),
    ("sext", 64, FIELD),
    BRANCH,
    ("sub", 64, PC, ("zext", 64, FIELD)),
    ("xor", 12, FIELD, ("const", 12, 0xABC)),
    ("not", 12, FIELD),
    ("neg", 12, FIELD),
    ("shl", 32, ("zext", 32, FIELD), ("const", 5, 7)),
    ("concat", 20, ("slice", 8, ("field", 8, "n"), 0), ("const", 12, 5)),
]


@pytest.mark.parametrize("tree", INVERTIBLE, ids=str)
@given(st.integers(0, 4095), st.integers(0, 2**64 - 1))
def test_inverse(tree: Tree, n: int, pc: int) -> None:
    n &= (1 << 8) - 1 if "('field', 8" in str(tree) else 4095
    value = evaluate(tree, {"n": n, "pc": pc})
    solution = invert(tree, value, {"pc": pc})
    assert solution is not None
    assert evaluate(tree, {**solution, "pc": pc}) == value


@given(st.integers(0, 2**64 - 1))
def test_what_is_out_of_reach_is_not_solved(value: int) -> None:
    known = {"pc": 0x1000}
    solution = invert(BRANCH, value, known)
    distance = (value - 0x1000 + 2**63) % 2**64 - 2**63
    assert (solution is not None) == (-4096 <= distance <= 4094 and distance % 2 == 0)


def test_a_field_solved_twice_must_agree() -> None:
    twice = ("concat", 8, ("field", 4, "n"), ("field", 4, "n"))
    assert invert(twice, 0x33, {}) == {"n": 3}
    assert invert(twice, 0x34, {}) is None


def test_a_select_is_solved_by_the_arm_whose_condition_holds() -> None:
    amount = ("field", 5, "n")
    tree = ("select", 8, ("eq", 1, amount, ("const", 5, 0)), ("const", 8, 32), ("zext", 8, amount))
    assert invert(tree, 32, {}) == {"n": 0}
    assert invert(tree, 5, {}) == {"n": 5}
    assert invert(tree, 0, {}) is None


@pytest.mark.parametrize(
    ("operator", "left", "right", "expected"),
    [
        ("udiv", 7, 0, 0xFF),
        ("urem", 7, 0, 7),
        ("sdiv", 0x80, 0xFF, 0x80),
        ("srem", 0x80, 0xFF, 0),
        ("sdiv", 0xF9, 2, 0xFD),
        ("srem", 0xF9, 2, 0xFF),
        ("shl", 1, 8, 0),
        ("lshr", 0x80, 9, 0),
        ("ashr", 0x80, 200, 0xFF),
        ("rotr", 0x81, 9, 0xC0),
        ("rotl", 0x81, 1, 0x03),
    ],
)
def test_nothing_is_undefined(operator: str, left: int, right: int, expected: int) -> None:
    assert evaluate((operator, 8, ("const", 8, left), ("const", 8, right)), {}) == expected


def test_conditions_on_unknown_state_may_hold() -> None:
    condition = ("eq", 1, ("field", 1, "fp_on"), ("const", 1, 1))
    assert may_hold(None, {})
    assert may_hold(condition, {})
    assert not may_hold(condition, {"fp_on": 0})
    assert names(condition) == {"fp_on"}


@pytest.mark.parametrize("value", [0x1000, 0x1234, 0x0, 0xFFFF, 0x9002])
def test_addresses_that_wrap(value: int) -> None:
    distance = ("sext", 64, ("field", 16, "d"))
    tree = ("and", 64, ("add", 64, ("field", 64, "next_pc"), distance), ("const", 64, 0xFFFF))
    solution = invert(tree, value, {"next_pc": 0x1003})
    assert solution is not None
    assert evaluate(tree, {**solution, "next_pc": 0x1003}) == value
