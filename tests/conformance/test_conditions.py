"""Conditions of the lists of known differences: what they mean, and that those we have make sense."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from random import Random

import pytest

from conformance.cases import CaseMaker, memory_pattern
from conformance.conditions import Case, absent_names, holds, signalling
from conformance.families import family_of
from conformance.known import load
from conformance.setup import Setup
from runtime.errors import IsagenError

ISA = str(Path(__file__).resolve().parents[2] / "isa")


@cache
def maker(family: str, target: str) -> CaseMaker:
    return CaseMaker(Setup(family, target, ISA, ""), family_of(family, target))


def case_of(family: str, target: str, form: str, seed: int = 1) -> Case:
    made, random = maker(family, target), Random(seed)
    word = made.word(made.form(form), random)
    assert word is not None
    start = made.start(word, memory_pattern(random), random)
    return Case(
        absent_names(made.model, word.decoded.form), b"\x66", word.decoded, start.registers, start.files
    )


def test_what_conditions_see() -> None:
    case = case_of("riscv", "riscv64", "addi")
    rs1 = case.decoded.fields["rs1"]
    case.files["x"][rs1] = 0x1003
    assert holds("", case)
    assert holds(f"rs1 == {rs1} and rs1 in (1, {rs1}) and opcode_bits & 127 == 19", case)
    assert holds("x[rs1] & 3 == 3 and x[rs1] >> 12 == 1 and not (x[rs1] - 1) % 2 != 0", case)
    assert holds("reserved == 7", Case(case.absent, b"", case.decoded, {"reserved": 7}, {}))
    assert not holds("rs1 < 0 or x[rs1] ^ 1 == 0x1003", case)


def test_absent_prefixes_count_as_0() -> None:
    case = case_of("x86", "x86_64", "lahf")
    present = {name for name in ("rex", "seg", "lock") if case.decoded.contexts.get(name)}
    assert {name for name in ("rex", "seg", "lock") if holds(f"{name} != 0", case)} == present


@pytest.mark.parametrize(
    "text", ["rs3 == 1", "rs1 ==", "__import__('os')", "rs1.real", "x", "x[99]", "f'{rs1}'", "rs1 ** 9"]
)
def test_conditions_that_make_no_sense(text: str) -> None:
    with pytest.raises(IsagenError):
        holds(text, case_of("riscv", "riscv64", "addi"))


def test_signalling_nans() -> None:
    assert signalling(0x7FA00000, 32) and signalling(0xFF800001, 32) and signalling(0x7C01, 16)
    assert not any(signalling(bits, 32) for bits in (0x7FC00000, 0x7F800000, 0x3F800000, 0xFFFFFFFF))
    quiet = struct.unpack("<Q", struct.pack("<d", float("nan")))[0]
    assert not signalling(quiet, 64) and signalling(quiet ^ (1 << 51) | 1, 64)


@pytest.mark.parametrize(
    ("family", "target"), [("riscv", "riscv64"), ("x86", "x86_64"), ("ppc", "ppc"), ("arm", "arm")]
)
def test_the_conditions_that_we_have(family: str, target: str) -> None:
    """Every name in them is known to every form that they are about."""
    for known in load("unicorn"):
        for form in maker(family, target).model.forms if known.condition else ():
            if known.covers(target, form.name, form.needs, form.instruction):
                assert holds(known.condition, case_of(family, target, form.name)) in (True, False)
