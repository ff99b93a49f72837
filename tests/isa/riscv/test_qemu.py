"""Single instructions here and under qemu's user mode, a peer: all forms but jumps and privileged ones."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from generator.ir.decode import Illegal, field_widths
from generator.ir.effects import Analysis, Jump
from generator.model.target import Form
from tests.isa.riscv.hart import Hart

CASES = 10
TEXT, TABLE, BUFFER = 0x10000, 0x400000, 0x800000
MIDDLE = BUFFER + 0x1000
CPU = "rv{},zba=true,zbb=true,zbc=true,zbs=true,zbkb=true,Zfh=true"
ABSENT = {"Zicond", "Zcb", "Zca"}  # features that qemu 7.2 lacks; Zca's instructions it has as C's
SKIPPED = {"ecall", "ebreak", "c.ebreak", "wfi", "mret", "sret", "sfence.vma", "fence.i", "pause"}

# operand -> its register's number: x10 and f10 are first sources, 11 second, 12 third ones or results
REGISTERS = {
    "rd": 12, "rs1": 10, "rs2": 11, "crd": 2, "crs1": 2, "crs2": 3, "fd": 12, "cfd": 4, "cfs2": 3,
    **{f"{kind}{n}": 9 + n for kind in ("fs", "single", "half") for n in (1, 2, 3)},
}  # fmt: skip

INTEGERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
INTEGERS += [1 << 63, (1 << 63) - 1, (1 << 64) - 1, (1 << 64) - 2, 0x8000000080000000]
FLOATS = {
    16: [0, 0x8000, 1, 0x3FF, 0x400, 0x3C00, 0xBC00, 0x7BFF, 0x7C00, 0xFC00, 0x7E00, 0x7C01, 0x3555, 0x6400],
    32: [0, 0x80000000, 1, 0x7FFFFF, 0x800000, 0x3F800000, 0xBF800000, 0x7F7FFFFF, 0x7F800000, 0xFF800000,
         0x7FC00000, 0x7F800001, 0x3EAAAAAB, 0x4F000000, 0x5F000000, 0xCF000000, 0x477FE000, 0x33000000],
    64: [0, 1 << 63, 1, 0xFFFFFFFFFFFFF, 0x10000000000000, 0x3FF0000000000000, 0xBFF0000000000000,
         0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0x7FF0000000000001,
         0x3FD5555555555555, 0x41E0000000000000, 0x43E0000000000000, 0xC3E0000000000000, 0x47EFFFFFE0000000,
         0x40EFFC0000000000, 0x3690000000000000],
}  # fmt: skip


@dataclass
class Case:
    """One execution: the instruction, x10 to x12, f10 to f12, fcsr before; where to look in memory after."""

    form: Form
    code: bytes
    x: list[int]
    f: list[int]
    fcsr: int
    touched: int = MIDDLE


def encode(form: Form, fields: dict[str, int]) -> bytes:
    word = width = 0
    for piece in form.picture:
        value = piece.value
        if piece.kind == "field":
            value = fields[piece.name] >> piece.low & (1 << piece.width) - 1
        elif piece.kind == "ignored":
            value = 0
        word, width = word << piece.width | value, width + piece.width
    return word.to_bytes(width // 8, "little")


def wanted(form: Form, analysis: Analysis) -> bool:
    effects = analysis.body(form.variants[0].body)
    return (
        form.mnemonic not in SKIPPED
        and not ABSENT & set(form.needs) - {"Zca"}
        and not effects.jumps - {Jump.NONE}
    )


def cases(hart: Hart, rng: random.Random) -> list[Case]:
    xlen, target = hart.xlen, hart.evaluator.target
    analysis = Analysis(target)
    result = []
    for form in target.forms:
        if not wanted(form, analysis):
            continue
        widths = field_widths(form.picture)
        effects = analysis.body(form.variants[0].body)
        memory = effects.loads or effects.stores
        found = tries = 0
        while found < CASES and tries < 40 * CASES:
            tries += 1
            fields = {}
            for name, width in widths.items():
                usual = REGISTERS.get(name, -1)
                fields[name] = (
                    usual if usual >= 0 else rng.choice([0, 1, (1 << width) - 1, rng.getrandbits(width)])
                )
                if name == "csr":
                    fields[name] = rng.randint(1, 3)
                if name in ("rd", "fd") and form.mnemonic[:2] != "c." and rng.random() < 0.3:
                    fields[name] = rng.choice([10, 11])
            code = encode(form, fields)
            x = [rng.choice([*INTEGERS, rng.getrandbits(64), rng.getrandbits(32)]) for _ in range(3)]
            x = [value & (1 << xlen) - 1 for value in x]
            if memory:
                x[0] = MIDDLE
            f = []
            for _ in range(3):
                width = rng.choice([16, 32, 64])
                value = rng.choice([*FLOATS[width], rng.getrandbits(width)])
                boxed = value | (1 << 64) - (1 << width) if rng.random() < 0.95 else value
                f.append(boxed & (1 << 64) - 1)
            if ".s" in form.mnemonic or ".h" in form.mnemonic:
                width = 32 if ".s" in form.mnemonic else 16
                f = [rng.choice([v, rng.choice(FLOATS[width]) | (1 << 64) - (1 << width)]) for v in f]
            case = Case(form, code, x, f, rng.randint(0, 4) << 5 | rng.choice([0, 0, rng.getrandbits(5)]))
            prepare(hart, case)
            decoded = hart.evaluator.decode(hart.state)
            if isinstance(decoded, Illegal) or decoded.form.name != form.name:
                continue
            result.append(case)
            found += 1
        assert found, f"{form.name}: no legal word found"
    return result


def prepare(hart: Hart, case: Case) -> None:
    hart.state = hart.evaluator.reset(hart.memory)
    hart.memory.bytes.clear()
    hart.memory.poke(BUFFER, FILLING)
    hart.memory.poke(TEXT, case.code)
    hart["fs_on"], hart["fflags"], hart["frm"], hart.state.pc = 1, case.fcsr & 31, case.fcsr >> 5, TEXT
    hart.state.files["x"][2] = hart.state.files["x"][8] = MIDDLE
    hart.state.files["x"][10:13] = case.x
    hart.state.files["f"][10:13] = case.f


FILLING = random.Random(1).randbytes(0x2000)


def run_here(hart: Hart, case: Case, pc: int) -> bytes:
    """Execute it at `pc`: x2, x10 to x12, f10 to f12, fcsr and 16 bytes of memory after it."""
    prepare(hart, case)
    hart.memory.poke(pc, case.code)
    hart.state.pc = pc
    before = dict(hart.memory.bytes)
    if hart.step() is not None:
        raise AssertionError(f"{case.form.name} {case.code.hex()} traps")
    changed = [a for a, byte in hart.memory.bytes.items() if before.get(a, 0) != byte]
    case.touched = min(changed, default=MIDDLE) & ~7
    x, f = hart.state.files["x"], hart.state.files["f"]
    memory = bytes(hart.memory.bytes.get(case.touched + i, 0) for i in range(16))
    return struct.pack("<8Q", x[2], *x[10:13], *f[10:13], hart["frm"] << 5 | hart["fflags"]) + memory


def program(hart: Hart, todo: list[Case]) -> str:
    """Each case loads its registers from the table, runs, and writes what is left over its row."""
    load, store = ("ld", "sd") if hart.xlen == 64 else ("lw", "sw")
    lines = [".option norelax", ".option norvc", ".globl _start", "_start:", "la s1, table"]
    for number, case in enumerate(todo):
        lines += ["sc.w zero, zero, (s1)"]  # fails, and forgets what an earlier case reserved
        lines += [f"la s2, buffer+{MIDDLE - BUFFER}", "mv sp, s2", "mv s0, s2"]
        lines += [f"{load} x{10 + i}, {8 * (1 + i)}(s1)" for i in range(3)]
        lines += [f"fld f{10 + i}, {8 * (4 + i)}(s1)" for i in range(3)]
        lines += [f"{load} t0, 56(s1)", "csrw fcsr, t0"]
        padding = b"" if len(case.code) == 4 else b"\x01\x00"  # c.nop
        lines += [f"case{number}: .byte " + ", ".join(map(str, case.code + padding))]
        lines += ["csrr t0, fcsr", f"{store} sp, 0(s1)"]
        lines += [f"{store} x{10 + i}, {8 * (1 + i)}(s1)" for i in range(3)]
        lines += [f"fsd f{10 + i}, {8 * (4 + i)}(s1)" for i in range(3)]
        lines += [f"{store} t0, 56(s1)", f"li s3, {case.touched}"]
        lines += [f"{load} t0, {i}(s3)\n{store} t0, {64 + i}(s1)" for i in range(0, 16, hart.xlen // 8)]
        # the buffer as it was, for the next case
        lines += [f"li s4, {case.touched - BUFFER}", "la s5, filling", "add s4, s4, s5"]
        lines += [f"{load} t0, {i}(s4)\n{store} t0, {i}(s3)" for i in range(0, 16, hart.xlen // 8)]
        lines += ["addi s1, s1, 80"]
    lines += ["li a0, 1", "la a1, table", f"li a2, {80 * len(todo)}", "li a7, 64", "ecall"]
    lines += ["li a0, 0", "li a7, 93", "ecall", ".data", "filling:"]
    lines += [".byte " + ", ".join(map(str, FILLING)), '.section .buffer, "aw"', "buffer:"]
    lines += [".byte " + ", ".join(map(str, FILLING)), '.section .table, "aw"', "table:"]
    for case in todo:
        lines += [".quad " + ", ".join(map(hex, [0, *case.x, *case.f, case.fcsr, 0, 0]))]
    return "\n".join(lines) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("xlen", [32, 64])
def test_same_results(xlen: int, require_tool: Callable[..., str], tmp_path: Path) -> None:
    assembler, linker = require_tool("riscv64-linux-gnu-as"), require_tool("riscv64-linux-gnu-ld")
    symbols, qemu = require_tool("riscv64-linux-gnu-nm"), require_tool(f"qemu-riscv{xlen}")
    hart = Hart(xlen)
    hart.memory.map(0, 0x1000000)
    todo = cases(hart, random.Random(xlen))
    for case in todo:
        run_here(hart, case, TEXT)  # finds the memory that it touches
    source, image = tmp_path / "a.s", tmp_path / "a"
    source.write_text(program(hart, todo))
    abi, emulation = ("lp64d", "elf64lriscv") if xlen == 64 else ("ilp32d", "elf32lriscv")
    subprocess.run(
        [assembler, f"-march=rv{xlen}imafdc_zicsr", f"-mabi={abi}", source, "-o", tmp_path / "a.o"],
        check=True,
    )
    places = [
        f"-Ttext={TEXT:#x}",
        f"--section-start=.buffer={BUFFER:#x}",
        f"--section-start=.table={TABLE:#x}",
    ]
    subprocess.run(
        [linker, "-m", emulation, "--no-relax", *places, tmp_path / "a.o", "-o", image], check=True
    )
    listing = subprocess.run([symbols, image], check=True, capture_output=True, text=True).stdout
    address = {line.split()[2]: int(line.split()[0], 16) for line in listing.splitlines()}
    run = subprocess.run([qemu, "-cpu", CPU.format(xlen), image], capture_output=True, timeout=60)
    assert run.returncode == 0, run
    wrong = []
    for number, case in enumerate(todo):
        there = run.stdout[80 * number : 80 * number + 80]
        here = run_here(hart, case, address[f"case{number}"])
        if here != there:
            wrong.append(
                f"{case.form.name} {case.code.hex()} x {[hex(v) for v in case.x]} "
                f"f {[hex(v) for v in case.f]} fcsr {case.fcsr:#x}: {struct.unpack('<10Q', here)}, "
                f"qemu {struct.unpack('<10Q', there)}"
            )
    assert not wrong, f"{len(wrong)} of {len(todo)}\n" + "\n".join(wrong[:20])
