"""The solver over encodings: assignments are real, and none is found only where there is none."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from generator.checks.encodings import Encodings, conjunction
from generator.checks.solve import All, Any, Atom, Cube, Formula, GaveUpError, Not, Solver
from generator.ir.nodes import Binary, Const, Context, Expr, Field, ReadReg, Unary
from generator.model.target import ContextVariable, Target

MakeTarget = Callable[..., Target]
A, B = Field(4, "a"), Field(4, "b")
FIELDS = {"a": ((0, 0, 4),), "b": ((2, 4, 2), (0, 6, 2))}  # b's halves lie the other way round


def eq(left: Expr, right: Expr | int) -> Expr:
    return Binary(1, "eq", left, Const(left.width, right) if isinstance(right, int) else right)


def atom(condition: Expr) -> Atom:
    return Atom(condition, FIELDS)


def values(word: int) -> tuple[int, int]:
    return word & 15, (word >> 4 & 3) << 2 | word >> 6


@pytest.fixture
def solver(bare_target: MakeTarget) -> Solver:
    return Solver(bare_target())


FORMULAS: list[tuple[Formula, Callable[[int, int, int], bool]]] = [
    (atom(eq(A, B)), lambda w, a, b: a == b),
    (
        All((Cube(0x0F, 0x05), atom(Binary(1, "ult", B, A)))),
        lambda w, a, b: a == 5 and b < a,
    ),
    (
        All((atom(eq(Binary(4, "add", A, B), 9)), atom(eq(Binary(4, "xor", A, B), 15)))),
        lambda w, a, b: (a + b) & 15 == 9 and a ^ b == 15,
    ),
    (
        All((Any((Cube(0xF0, 0x30), atom(eq(A, 3)))), Not(Cube(0x01, 0x01)))),
        lambda w, a, b: (w & 0xF0 == 0x30 or a == 3) and not w & 1,
    ),
    (
        All((Not(atom(eq(A, 1))), atom(Binary(1, "slt", A, Const(4, 0xA))))),
        lambda w, a, b: a != 1 and a - 16 * (a >> 3) < -6,
    ),
    (
        All((atom(eq(Unary(4, "popcount", A), 3)), atom(eq(Binary(4, "mul", A, B), 6)))),
        lambda w, a, b: a.bit_count() == 3 and a * b & 15 == 6,
    ),
]


@pytest.mark.parametrize("number", range(len(FORMULAS)))
def test_as_trying_all_words(solver: Solver, number: int) -> None:
    formula, holds = FORMULAS[number]
    words = [word for word in range(256) if holds(word, *values(word))]
    solution = solver.solve(formula)
    if solution is None:
        assert not words
    else:
        assert solution.word in words
        free = [bit for bit in range(8) if not solution.known >> bit & 1]
        for bits in product((0, 1), repeat=len(free)):  # bits that don't matter really don't
            assert solution.word | sum(v << b for v, b in zip(bits, free, strict=True)) in words


def test_contexts_are_what_they_are_derived_from(bare_target: MakeTarget) -> None:
    mode = ContextVariable(
        name="mode", width=7, value=ReadReg(7, "x", Const(3, 1)), next=None, rest=None, domain=(16, 32, 64)
    )
    wide = ContextVariable(
        name="wide", width=1, value=eq(Context(7, "mode"), 64), next=None, rest=None, domain=()
    )
    solver = Solver(bare_target(contexts=(mode, wide)))
    is_wide = atom(eq(Context(1, "wide"), 1))
    assert solver.solve(All((is_wide, atom(eq(Context(7, "mode"), 64))))) is not None
    assert solver.solve(All((is_wide, atom(eq(Context(7, "mode"), 32))))) is None
    assert solver.solve(atom(eq(Context(7, "mode"), 8))) is None  # not in its domain
    free = Solver(bare_target(contexts=(mode, wide)), free=True)
    assert free.solve(All((is_wide, atom(eq(Context(7, "mode"), 32))))) is not None


def test_it_gives_up_rather_than_run_for_ever(solver: Solver) -> None:
    a, b = Field(24, "a"), Field(24, "b")
    fields = {"a": ((0, 0, 24),), "b": ((0, 24, 24),)}
    product_ = Binary(48, "mul", Unary(48, "zext", a), Unary(48, "zext", b))
    with pytest.raises(GaveUpError):
        solver.solve(Atom(eq(product_, 0xFFFFFFFFFFFF), fields))


def test_cubes_are_merged_or_contradict() -> None:
    merged = conjunction([Cube(1, 1), All((Cube(2, 0), Cube(4, 4)))])
    assert merged == Cube(7, 5)
    assert conjunction([Cube(1, 1), Cube(1, 0)]) == Any(()) or not conjunction([Cube(1, 1), Cube(1, 0)]).parts


APPENDING = """isa toy le unit 8 stream
target toy { } elf 243 class 32
regs x[8] : bits(32)
reg  pc : bits(32)
operand ea (m: 5) : bits(32) {
    case 00 r:3        "[{r}]"          => x[r]
    case 01 r:3 + d:8  "[{r} + {d}]"    => x[r] + sext(d)
    case 10 r:3 + d:16 "[{r} + {d}]"    => x[r] + sext(d)
}
insn first {
    bits  00000001 a[4:3] n:3 a[2:0]:ea k:8
    asm   "first {n}, {a}, {k}"
    when  k == 0x5a
    exec  x[n] = a + zext(k)
}
insn second {
    bits  00000001 01 n:3 r:3 d:8 01011010
    asm   "second {n}, {r}, {d}"
    exec  x[n] = x[r] + zext(d)
}
insn third {
    bits  00000001 00 n:3 r:3 d:8 01011011
    asm   "third {n}, {r}, {d}"
    when  d != 0x5a
    exec  x[n] = x[r] + zext(d)
}
"""


def test_positions_behind_appended_units(toy: Callable[..., Target]) -> None:
    """`k` lies behind as many displacement bytes as the operand's case appends."""
    target = toy(APPENDING, "")
    encodings, solver = Encodings(target), Solver(target)
    first, second, third = target.forms
    both = solver.solve(conjunction([encodings.matches(first), encodings.matches(second)]))
    assert both is not None and both.word >> 24 & 0xFF == 0x5A
    assert solver.solve(conjunction([encodings.matches(first), encodings.matches(third)])) is None
