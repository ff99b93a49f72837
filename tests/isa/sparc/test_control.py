"""Delay slots, annulling, and branches in delay slots (V8 5.1 and 5.2, V9 6.3.4)."""

from __future__ import annotations

import pytest

from generator.ir.evaluate import Trapped
from tests.isa.sparc.machine import CODE, Machine

NOP = 0x01000000
TO_16 = 4  # displacement of the word 16 bytes on


def branch(condition: int, annul: int, displacement: int = TO_16) -> int:
    return annul << 29 | condition << 25 | 0b010 << 22 | displacement


# condition: 8 always, 0 never, 1 equal, 9 not equal
@pytest.mark.parametrize(
    ("condition", "annul", "z", "pcs"),
    [
        (8, 0, 0, (4, 16)),  # ba: the slot runs
        (8, 1, 0, (16, 20)),  # ba,a: it does not
        (0, 0, 0, (4, 8)),  # bn
        (0, 1, 0, (8, 12)),  # bn,a skips the slot
        (1, 0, 1, (4, 16)),  # be, taken
        (1, 1, 1, (4, 16)),  # be,a, taken: the slot runs
        (1, 0, 0, (4, 8)),  # be, not taken
        (1, 1, 0, (8, 12)),  # be,a, not taken: it does not
        (9, 1, 0, (4, 16)),
    ],
)
@pytest.mark.parametrize("name", ["sparc", "sparc64"])
def test_annul(name: str, condition: int, annul: int, z: int, pcs: tuple[int, int]) -> None:
    cpu = Machine(name)
    cpu["z"] = z
    assert cpu.execute(branch(condition, annul)) is None
    assert cpu.pcs == pcs


def test_condition_codes_decide() -> None:
    """All 16 conditions over all 16 codes, against V8's table 5-13 written out."""
    for nzvc in range(16):
        n, z, v, c = nzvc >> 3 & 1, nzvc >> 2 & 1, nzvc >> 1 & 1, nzvc & 1
        positive = [0, z, z | (n ^ v), n ^ v, c | z, c, n, v]
        for condition in range(16):
            cpu = Machine()
            cpu["n"], cpu["z"], cpu["v"], cpu["c"] = n, z, v, c
            assert cpu.execute(branch(condition, 0)) is None
            taken = positive[condition & 7] ^ condition >> 3
            assert cpu.pcs == ((4, 16) if taken else (4, 8)), (condition, nzvc)


def test_branch_in_a_delay_slot() -> None:
    """The first branch's target runs one instruction, then the second's."""
    cpu = Machine()
    cpu.poke(branch(8, 0, 4), branch(8, 0, 9), NOP, NOP, NOP)
    places = []
    for _ in range(3):
        places.append(cpu.pcs[0])
        assert cpu.step() is None
    assert [*places, cpu.pcs[0]] == [0, 4, 16, 40]


def test_v9_looks_at_the_codes_it_names() -> None:
    icc, xcc = 0x12480004, 0x12680004  # bne %icc and %xcc, +16
    cpu = Machine("sparc64")
    cpu["z"], cpu["xz"] = 1, 0
    assert cpu.execute(icc) is None
    assert cpu.pcs == (4, 8)
    assert cpu.execute(xcc) is None
    assert cpu.pcs == (4, 16)


def test_calls_and_returns() -> None:
    cpu = Machine()
    assert cpu.execute(0x40000004) is None  # call +16
    assert (cpu.pcs, cpu["o7"]) == ((4, 16), CODE)
    cpu["o7"] = CODE + 0x100
    assert cpu.execute(0x81C3E008) is None  # retl
    assert cpu.pcs == (4, 0x108)
    cpu["o7"] = CODE + 2
    cpu["g1"] = 5
    left = cpu.execute(0x83C3E000)  # jmpl %o7, %g1 to an odd place
    assert isinstance(left, Trapped) and (left.trap, left.code) == ("misaligned", 0x07)
    assert cpu["g1"] == 5


@pytest.mark.parametrize(("name", "code"), [("sparc", 0x80 + 0x10), ("sparc64", 0x100 + 0x10)])
def test_trap_instruction(name: str, code: int) -> None:
    cpu = Machine(name)
    left = cpu.execute(0x91D02010)  # ta 0x10
    assert isinstance(left, Trapped) and left.code == code
    assert cpu.pcs == (0, 4)
    cpu["z"] = 0
    assert cpu.execute(0x83D02010) is None  # te 0x10
