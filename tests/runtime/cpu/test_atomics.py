"""Several CPUs at once over one memory, each in a thread of the host: what is atomic stays so.

The programs count in memory together. With plain accesses in place of the atomic ones they lose most of what
they count.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from isagen.generated import load_syntax
from runtime.assembly.assembler import Assembler
from runtime.assembly.program import Program
from runtime.cpu.engine import Cpu, load_target
from runtime.cpu.exits import Reason
from runtime.memory.space import AddressSpace

CODE, DATA = 0x10000, 0x20000
TURNS = 20_000
CPUS = 3

RISCV_LOCK = """
again:
    amoswap.w.aq t0, s2, (s0)
    bnez t0, again
    ld t1, 64(s0)
    addi t1, t1, 1
    sd t1, 64(s0)
    fence rw, w
    sw zero, 0(s0)
    addi s1, s1, -1
    bnez s1, again
    ebreak
"""
RISCV_RESERVED = """
again:
    lr.d t0, (s0)
    addi t0, t0, 1
    sc.d t1, t0, (s0)
    bnez t1, again
    addi s1, s1, -1
    bnez s1, again
    ebreak
"""
RISCV_ADD = """
again:
    amoadd.w t0, s2, (s0)
    addi s1, s1, -1
    bnez s1, again
    ebreak
"""
X86_PAIR = bytes.fromhex(
    "4889c3 4889d1 4883c301 4883d100"  # again: mov rbx, rax; mov rcx, rdx; add rbx, 1; adc rcx, 0
    "f0480fc70f 75eb 48ffce 75e6 cc"  # lock cmpxchg16b [rdi]; jnz again; dec rsi; jnz again; int3
)
SPARC = """
again:
    ldx [%g1], %g3
    add %g3, 1, %g4
    casx [%g1], %g3, %g4
    cmp %g3, %g4
    bne,pn %xcc, again
    nop
    subcc %g2, 1, %g2
    bne %xcc, again
    nop
    ta 1
"""
PPC = """
again:
    ldarx r3,0,r30
    addi r3,r3,1
    stdcx. r3,0,r30
    bne again
    addi r31,r31,-1
    cmpdi r31,0
    bne again
    trap
"""


def x86_loop(body: str) -> bytes:
    """The bytes, in a loop that rcx counts, and a breakpoint behind it."""
    code = bytes.fromhex(body) + bytes.fromhex("48ffc9")
    return code + bytes((0x75, 0x100 - len(code) - 2, 0xCC))


def assembled(target: str, text: str) -> bytes:
    return Program(Assembler(load_syntax(target)), base=CODE).assemble(text, "test").flat()


def counted(
    folder: Path,
    program: str | bytes,
    registers: dict[str, int],
    tier: str = "interpreter",
    start: bytes = b"",
) -> AddressSpace:
    """The memory after `CPUS` CPUs have run the program at the same time."""
    package = load_target(folder)
    memory = AddressSpace()
    memory.map(CODE, 0x1000)
    memory.map(DATA, 0x1000)
    memory.write(DATA, start)
    memory.write(CODE, program if isinstance(program, bytes) else assembled(folder.name, program))
    cpus = [Cpu(package, memory) for _ in range(CPUS)]
    for cpu in cpus:
        for name, value in registers.items():
            cpu.set(name, value)
        cpu.pc = CODE
        if tier == "translator":
            cpu.translate(background=False)
            assert cpu.translator is not None
        cpu.parallel = True
    reasons: list[Reason] = []

    def run(cpu: Cpu) -> None:
        if cpu.translator is not None:
            cpu.run(100)
            assert cpu.translator.force(cpu.package.function("isagen_decode")(cpu.address, CODE))
        while (stop := cpu.run(5_000)).reason is Reason.BUDGET:
            pass
        reasons.append(stop.reason)

    threads = [threading.Thread(target=run, args=(cpu,)) for cpu in cpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reasons == [Reason.TRAP] * CPUS
    return memory


def word(memory: AddressSpace, offset: int, order: str = "little", size: int = 8) -> int:
    return int.from_bytes(memory.read(DATA + offset, size), order)  # type: ignore[arg-type]


@pytest.mark.parametrize("tier", ["interpreter", "translator"])
@pytest.mark.parametrize(
    ("text", "offset"), [(RISCV_LOCK, 64), (RISCV_RESERVED, 0), (RISCV_ADD, 0)], ids=["lock", "lr", "amo"]
)
def test_riscv(built: Callable[[str], Path], text: str, offset: int, tier: str) -> None:
    memory = counted(built("riscv64"), text, {"s0": DATA, "s1": TURNS, "s2": 1}, tier)
    assert word(memory, offset) == CPUS * TURNS


@pytest.mark.parametrize("tier", ["interpreter", "translator"])
@pytest.mark.parametrize(
    ("body", "size", "step"),
    [
        ("f048ff07", 8, 1),  # lock inc qword ptr [rdi]
        ("f0830703", 4, 3),  # lock add dword ptr [rdi], 3
        ("f0480fc107 b802000000", 8, 2),  # lock xadd [rdi], rax; mov eax, 2
        ("f0802fff", 1, 1),  # lock sub byte ptr [rdi], 255
    ],
    ids=["inc", "add", "xadd", "sub"],
)
def test_x86(built: Callable[[str], Path], body: str, size: int, step: int, tier: str) -> None:
    registers = {"rdi": DATA, "rcx": TURNS, "rax": step}
    memory = counted(built("x86_64"), x86_loop(body), registers, tier)
    assert word(memory, 0, size=size) == CPUS * TURNS * step % (1 << 8 * size)


def test_x86_pair(built: Callable[[str], Path]) -> None:
    start = (1 << 64) - TURNS  # half of the way carries into the high half
    memory = counted(
        built("x86_64"), X86_PAIR, {"rdi": DATA, "rsi": TURNS}, start=start.to_bytes(16, "little")
    )
    assert word(memory, 0, size=16) == start + CPUS * TURNS


@pytest.mark.parametrize("tier", ["interpreter", "translator"])
def test_sparc(built: Callable[[str], Path], tier: str) -> None:
    memory = counted(built("sparc64"), SPARC, {"g1": DATA, "g2": TURNS}, tier)
    assert word(memory, 0, "big") == CPUS * TURNS


@pytest.mark.parametrize("tier", ["interpreter", "translator"])
@pytest.mark.parametrize(("target", "order"), [("ppc64", "big"), ("ppc64le", "little")])
def test_ppc(built: Callable[[str], Path], target: str, order: str, tier: str) -> None:
    memory = counted(built(target), PPC, {"r30": DATA, "r31": TURNS}, tier)
    assert word(memory, 0, order) == CPUS * TURNS
