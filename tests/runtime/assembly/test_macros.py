"""Macros and further names: constants as GNU as makes them, pseudo-instructions, what is only accepted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from runtime.assembly.assembler import Assembler
from runtime.assembly.program import Program
from runtime.assembly.tables import Syntax
from runtime.assembly.values import AssemblyError

SyntaxOf = Callable[[str, str], Syntax]


def constants(bits: int) -> list[int]:
    """Extremes, and numbers of any length with zeros at the bottom or not."""
    random = Random(bits)
    found = [0, -1, 2047, 2048, -2048, -2049, 0x7FFF_F800, -(1 << bits - 1), (1 << bits) - 1, 1 << bits - 1]
    for _ in range(150):
        width = random.randrange(1, bits + 1)
        number = random.getrandbits(width) << random.choice((0, 0, random.randrange(bits - width + 1)))
        found.append(random.choice((1, -1)) * number)
    return [number for number in found if -(1 << bits - 1) <= number < 1 << bits]


def gnu(source: str, bits: int, folder: Path) -> bytes:
    """The code that GNU as makes, without compressed instructions."""
    (folder / "a.s").write_text(source)
    abi = {32: "ilp32d", 64: "lp64d"}[bits]
    command = ["riscv64-linux-gnu-as", f"-march=rv{bits}g", f"-mabi={abi}", "a.s", "-o", "a.o"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    command = ["riscv64-linux-gnu-objcopy", "-O", "binary", "-j", ".text", "a.o", "a.bin"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return (folder / "a.bin").read_bytes()


@pytest.mark.parametrize("bits", [32, 64])
def test_li_is_what_gnu_makes(
    syntax_of: SyntaxOf, require_tool: Callable[..., str], tmp_path: Path, bits: int
) -> None:
    require_tool("riscv64-linux-gnu-as")
    assembler = Assembler(syntax_of("riscv", f"riscv{bits}"))
    lines = [f"li a{number % 8}, {number}" for number in constants(bits)]
    expected, at = gnu("\n".join(lines) + "\n", bits, tmp_path), 0
    for line in lines:
        code = assembler.assemble(line)
        assert expected[at : at + len(code)].hex() == code.hex(), line
        at += len(code)
    assert at == len(expected)


def test_a_macro_knows_symbols_and_grows(syntax_of: SyntaxOf) -> None:
    source = """
        li a0, big - 1
        li a1, (end - start) << 40
    start:
        lw a2, start
        sw a2, end, t0
    end:
        nop
        .equ big, 0x12345678
    """
    image = Program(Assembler(syntax_of("riscv", "riscv64")), base=0x10000).assemble(source)
    assembler = Assembler(syntax_of("riscv", "riscv64"))
    lines = ["lui a0, 0x12345", "addiw a0, a0, 0x677", "addiw a1, zero, 1", "slli a1, a1, 44",
             "auipc a2, 0", "lw a2, 0(a2)", "auipc t0, 0", "sw a2, 8(t0)", "nop"]  # fmt: skip
    assert image.sections[0].data.hex() == b"".join(map(assembler.assemble, lines)).hex()


@pytest.mark.parametrize(
    ("bits", "line"),
    [
        (32, "li a0, 1 << 32"),
        (32, "li a0, -(1 << 31) - 4096"),
        (64, "li a0, (1 << 64) + 4096"),
        (64, "li a0, 5 - (1 << 64)"),
        (64, "li a0, nothing"),
        (64, "li a0"),
        (64, "addi a0, a1, 4096"),
    ],
)
def test_what_no_macro_fits_is_an_error(syntax_of: SyntaxOf, bits: int, line: str) -> None:
    with pytest.raises(AssemblyError):
        Program(Assembler(syntax_of("riscv", f"riscv{bits}"))).assemble(line)


@pytest.mark.parametrize(
    ("family", "target", "line", "same"),
    [
        ("riscv", "riscv64", "add x10, x11, fp", "add a0, a1, s0"),
        ("riscv", "riscv64", "fadd.d f10, f0, f31", "fadd.d fa0, ft0, ft11"),
        ("arm", "aarch64", "add fp, lr, ip0", "add x29, x30, x16"),
        ("arm", "aarch64", "b.hs 0x40", "b.cs 0x40"),
        ("arm", "arm", "addlo fp, ip, r13", "addcc r11, r12, sp"),
        ("sparc", "sparc", "addcc %r1, %o6, %i6", "addcc %g1, %sp, %fp"),
        ("ppc", "ppc", "cmpwi 3, 4, 5", "cmpwi cr3,r4,5"),
        ("ppc", "ppc", "lfd %f1, 8(%r2)", "lfd f1,8(r2)"),
        ("x86", "x86_64", "jnae 0x40", "jb 0x40"),
        ("x86", "x86_64", "cmovpo rax, rbx", "cmovnp rax, rbx"),
    ],
)
def test_other_names(syntax_of: SyntaxOf, family: str, target: str, line: str, same: str) -> None:
    assembler = Assembler(syntax_of(family, target))
    assert assembler.assemble(line) == assembler.assemble(same)


def test_a_mnemonics_names_are_free_for_labels(syntax_of: SyntaxOf) -> None:
    image = Program(Assembler(syntax_of("x86", "x86_64"))).assemble("a: nop\nnz: jz nz\njmp a\n")
    assert image.sections[0].data.hex() == "9074feebfb"


@pytest.mark.parametrize(
    ("family", "target", "dialect", "line", "code"),
    [
        # bytes by LLVM 19 and GNU as
        ("arm", "aarch64", "", "bfi x0, x1, #3, #5", "20107db3"),
        ("arm", "aarch64", "", "mov x0, #-3", "40008092"),
        ("arm", "aarch64", "", "mov x1, #0x1234000000000000", "8146e2d2"),
        ("arm", "aarch64", "", "cset w0, lo", "e0279f1a"),
        ("arm", "arm", "", "bfc r1, #2, #3", "1f11c4e7"),
        ("arm", "arm", "", "bfi r5, r2, #3, #17", "9251d3e7"),
        ("arm", "arm", "", "ubfx r0, r1, #3, #4", "d101e3e7"),
        ("arm", "arm", "", "sxtb r0, r1, ror #8", "7104afe6"),
        ("x86", "x86_64", "", "lodsb al, byte ptr fs:[rsi]", "64ac"),
        ("x86", "x86_64", "", "mov eax, [rbp]", "8b4500"),
        ("x86", "x86_64", "att", "mov %rax, %rbx", "4889c3"),
        ("x86", "x86_64", "att", "movzbl (%rdx, %rax), %eax", "0fb60402"),
        ("x86", "x86_64", "att", "rclq (%rdx)", "48d112"),
    ],
)
def test_what_others_write(
    syntax_of: SyntaxOf, family: str, target: str, dialect: str, line: str, code: str
) -> None:
    assert Assembler(syntax_of(family, target), dialect).assemble(line).hex() == code


@pytest.mark.parametrize(
    "line", ["add x0, x1, #-1", "movz x0, #-3", "bfi w0, w1, #30, #3", "mov x0, #0x123456789"]
)
def test_what_does_not_fit(syntax_of: SyntaxOf, line: str) -> None:
    with pytest.raises(AssemblyError):
        Assembler(syntax_of("arm", "aarch64")).assemble(line)
