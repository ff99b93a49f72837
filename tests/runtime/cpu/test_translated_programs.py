"""Programs written by hand, translated and interpreted in lockstep: loops of all kinds, and code that changes
itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from isagen.generated import load_syntax
from runtime.assembly.assembler import Assembler
from runtime.assembly.program import Program
from runtime.cpu.engine import Cpu, TargetPackage, load_target
from runtime.cpu.exits import Reason
from runtime.cpu.translator.store import VARIABLE
from runtime.memory.space import AddressSpace
from tests.runtime.cpu.lockstep import registers_of

CODE, DATA, SIZE = 0x10000, 0x40000, 0x4000

NESTED = """
    li a0, 0
    li s0, 300
outer:
    li s1, 40
    lui a5, 0x40
    addi a5, a5, -3
inner:
    ld a1, 8(a5)
    add a1, a1, s1
    sd a1, 16(a5)
    lw a2, 21(a5)
    sb a2, 1000(a5)
    add a0, a0, a2
    addi a5, a5, 97
    addi s1, s1, -1
    bnez s1, inner
    addi s0, s0, -1
    bnez s0, outer
    ebreak
"""
"""Loops in loops, with accesses that aren't aligned and go over the ends of pages. The first ones fault."""
CALLS = """
    lui sp, 0x42
    li a0, 15
    jal ra, fib
    ebreak
fib:
    li a1, 2
    bltu a0, a1, small
    addi sp, sp, -24
    sd ra, 0(sp)
    sd a0, 8(sp)
    addi a0, a0, -1
    jal ra, fib
    sd a0, 16(sp)
    ld a0, 8(sp)
    addi a0, a0, -2
    jal ra, fib
    ld a1, 16(sp)
    add a0, a0, a1
    ld ra, 0(sp)
    addi sp, sp, 24
small:
    ret
"""
COMPUTED = """
    li s0, 4000
    li a0, 1
again:
    andi a1, a0, 3
    slli a1, a1, 4
    auipc a2, 0
    add a2, a2, a1
    jalr zero, 12(a2)
    nop
    addi a0, a0, 5
    xor a0, a0, s0
    j next
    nop
    slli a0, a0, 1
    addi a0, a0, 3
    j next
    nop
    srli a0, a0, 1
    addi a0, a0, 7
    j next
    nop
    mul a0, a0, s0
    addi a0, a0, 9
    j next
next:
    addi s0, s0, -1
    bnez s0, again
    ebreak
"""
"""Jumps to addresses that are computed."""
CHANGING = """
    li s0, 12
    li a0, 0
    lui a3, 0x10
    addi a3, a3, 512
    lw s2, 256(a3)
    lw s3, 260(a3)
round:
    sw s2, 0(a3)
    lui s1, 2
loop:
    j 0x10200
back:
    addi s1, s1, -1
    bnez s1, loop
    xor s2, s2, s3
    xor s3, s2, s3
    xor s2, s2, s3
    addi s0, s0, -1
    bnez s0, round
    ebreak
    .zero {}
    nop
    addi a0, a0, 64
    j back
    .zero {}
    addi a0, a0, 1
    addi a0, a0, 2
"""
"""Changes an instruction of a hot loop again and again."""


def assembled(text: str) -> bytes:
    """The program's bytes, all instructions of four: `.zero {}` fills up to places that CHANGING names."""
    parts = [part.strip("\n") for part in text.split(".zero {}")]
    assembler = Assembler(load_syntax("riscv64"))
    if len(parts) == 1:
        return Program(assembler, base=CODE).assemble(text, "test").flat()
    gaps = [0, 0]
    for position, place in enumerate((0x200, 0x300)):
        made = parts[0]
        for number in range(position):
            made += f"\n    .zero {gaps[number]}\n" + parts[number + 1]
        label = "" if "back:" in made else "\nback:\n"
        gaps[position] = place - len(Program(assembler, base=CODE).assemble(made + label, "test").flat())
    full = parts[0] + "".join(f"\n    .zero {gap}\n{part}" for gap, part in zip(gaps, parts[1:], strict=True))
    return Program(assembler, base=CODE).assemble(full, "test").flat()


@pytest.fixture(scope="module")
def riscv64(built: Callable[[str], Path]) -> TargetPackage:
    return load_target(built("riscv64"))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "regions"))


def made(package: TargetPackage, code: bytes, *, translate: bool) -> Cpu:
    memory = AddressSpace()
    memory.map(CODE, 0x1000)
    memory.map(DATA, SIZE, 3)
    memory.write(CODE, code)
    cpu = Cpu(package, memory, features=[n for n in package.features if n not in ("c", "zca", "zcd")])
    cpu.pc = CODE
    if translate:
        cpu.translate(background=False)
        translator = cpu.translator
        assert translator is not None
        translator.hot, translator.cost = 500, 0
        translator._slice = translator._passed = cpu._slice_left = 200
    return cpu


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "text", [NESTED, CALLS, COMPUTED, CHANGING], ids=["nested", "calls", "computed", "changing"]
)
def test_lockstep(riscv64: TargetPackage, text: str, seed: int) -> None:
    """The same state and count at every stop, wherever budgets cut."""
    code = assembled(text)
    plain, other = (made(riscv64, code, translate=translate) for translate in (False, True))
    choose = random.Random(seed)
    translator = other.translator
    assert translator is not None
    for _ in range(100_000):
        budget = choose.choice((1, 2, 3, 7, 30, 500, 4000, choose.randrange(1, 9000)))
        stops = plain.run(budget), other.run(budget)
        assert stops[0] == stops[1]
        assert plain.executed == other.executed
        assert registers_of(plain) == registers_of(other)
        if choose.random() < 0.2:
            translator._slice = translator._passed = 200
            if other._slice_left > 200:
                other._slice_left = 200
        if stops[0].reason is Reason.FAULT:  # over the end of what is mapped
            for cpu in (plain, other):
                cpu.pc = stops[0].pc + 4
        elif stops[0].reason is not Reason.BUDGET:
            break
    else:
        pytest.fail("the program doesn't end")
    assert plain.memory.read(DATA, SIZE) == other.memory.read(DATA, SIZE)
    assert plain.memory.read(CODE, 0x1000) == other.memory.read(CODE, 0x1000)
    assert translator.statistics.regions >= 1
