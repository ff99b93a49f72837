"""Tagged arithmetic, division, doublewords and both sets of condition codes."""

from __future__ import annotations

import pytest

from generator.ir.evaluate import NotAnInstruction, Trapped
from tests.isa.sparc.machine import STACK, Machine

TADDCC, TADDCCTV, SUBCC = 0x87004002, 0x87104002, 0x86A04002  # %g1, %g2, %g3
UDIVCC, SDIVCC = 0x86F04002, 0x86F84002
LDD, STD = 0xC4184000, 0xC4384000  # %g2 and %g3 at %g1


@pytest.mark.parametrize(
    ("a", "b", "v"), [(4, 8, 0), (5, 8, 1), (4, 2, 1), (0x7FFF_FFFC, 4, 1), (0x8000_0000, 0x8000_0000, 1)]
)
def test_tags(a: int, b: int, v: int) -> None:
    cpu = Machine()
    cpu["g1"], cpu["g2"], cpu["g3"] = a, b, 1234
    assert cpu.execute(TADDCC) is None
    assert (cpu["g3"], cpu["v"]) == (a + b & 0xFFFF_FFFF, v)
    cpu["g3"] = 1234
    left = cpu.execute(TADDCCTV)
    if v:
        assert isinstance(left, Trapped) and (left.trap, left.code) == ("tag_overflow", 0x0A)
        assert cpu["g3"] == 1234
    else:
        assert left is None


def test_tag_overflow_is_not_one_of_64_bits() -> None:
    cpu = Machine("sparc64")
    cpu["g1"], cpu["g2"] = 0x7FFF_FFFC, 4
    assert cpu.execute(TADDCC) is None
    assert (cpu["v"], cpu["xv"], cpu["n"], cpu["xn"]) == (1, 0, 1, 0)


def test_both_sets_of_codes() -> None:
    cpu = Machine("sparc64")
    cpu["g1"], cpu["g2"] = 0x1_0000_0000, 1
    assert cpu.execute(SUBCC) is None
    assert cpu["g3"] == 0xFFFF_FFFF
    assert [cpu[flag] for flag in ("n", "z", "v", "c")] == [1, 0, 0, 1]
    assert [cpu[flag] for flag in ("xn", "xz", "xv", "xc")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("word", "y", "a", "b", "quotient", "v"),
    [
        (UDIVCC, 0, 100, 7, 14, 0),
        (UDIVCC, 7, 0, 7, 0xFFFF_FFFF, 1),
        (SDIVCC, 0xFFFF_FFFF, -100 & 0xFFFF_FFFF, 7, -14 & 0xFFFF_FFFF, 0),
        (SDIVCC, 0xFFFF_FFFF, 0x8000_0000, 1, 0x8000_0000, 0),
        (SDIVCC, 0, 0x8000_0000, 1, 0x7FFF_FFFF, 1),
        (SDIVCC, 0x8000_0000, 0, 0xFFFF_FFFF, 0x7FFF_FFFF, 1),  # -2**63 / -1
        (SDIVCC, 0x8000_0000, 0, 1, 0x8000_0000, 1),
    ],
)
def test_division_of_64_bits_by_32(word: int, y: int, a: int, b: int, quotient: int, v: int) -> None:
    cpu = Machine()
    cpu["y"], cpu["g1"], cpu["g2"] = y, a, b
    assert cpu.execute(word) is None
    assert (cpu["g3"], cpu["v"], cpu["c"]) == (quotient, v, 0)


@pytest.mark.parametrize(("name", "code"), [("sparc", 0x2A), ("sparc64", 0x28)])
def test_division_by_zero(name: str, code: int) -> None:
    left = Machine(name).execute(UDIVCC)
    assert isinstance(left, Trapped) and (left.trap, left.code) == ("division_by_zero", code)


def test_g0_stays_zero() -> None:
    cpu = Machine()
    assert cpu.execute(0x80102005) is None  # mov 5, %g0
    assert cpu["g0"] == 0


@pytest.mark.parametrize("name", ["sparc", "sparc64"])
def test_doublewords(name: str) -> None:
    cpu = Machine(name)
    place = STACK - 64
    cpu["g1"], cpu["g2"], cpu["g3"] = place, 0x0123_4567, 0x89AB_CDEF
    assert cpu.execute(STD) is None
    assert cpu.memory.read(place, 8).hex() == "0123456789abcdef"
    cpu["g2"] = cpu["g3"] = -1
    assert cpu.execute(LDD) is None
    assert (cpu["g2"], cpu["g3"]) == (0x0123_4567, 0x89AB_CDEF)
    cpu["g1"] = place + 4
    left = cpu.execute(LDD)
    assert isinstance(left, Trapped) and left.trap == "misaligned" and left.arguments == (place + 4,)
    assert isinstance(cpu.execute(LDD | 1 << 25), NotAnInstruction)  # an odd register


def test_compare_and_swap() -> None:
    cpu = Machine("sparc64")
    place = STACK - 64
    cpu.memory.poke(place, (7).to_bytes(8))
    cpu["g1"], cpu["g2"], cpu["g3"] = place, 6, 99
    assert cpu.execute(0xC7F05002) is None  # casx [%g1], %g2, %g3
    assert (cpu["g3"], cpu.memory.read(place, 8)) == (7, (7).to_bytes(8))
    cpu["g2"], cpu["g3"] = 7, 99
    assert cpu.execute(0xC7F05002) is None
    assert (cpu["g3"], cpu.memory.read(place, 8)) == (7, (99).to_bytes(8))
