"""Whole programs: layout, data, labels, relaxation, and messages with file and line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtime.assembly.assembler import Assembler
from runtime.assembly.disassembler import Disassembler
from runtime.assembly.program import Image, Program
from runtime.assembly.tables import Syntax
from runtime.assembly.values import AssemblyError
from runtime.errors import IsagenError

SyntaxOf = Callable[[str, str], Syntax]


def assemble(syntax: Syntax, source: str) -> Image:
    return Program(Assembler(syntax), base=0x10000).assemble(source, "test.s")


def test_sections_labels_and_data(syntax_of: SyntaxOf) -> None:
    image = assemble(
        syntax_of("riscv", "riscv64"),
        """
        .globl _start
        size = 3 * 4
        _start: la a0, table       # a comment; not a statement
            lw a1, %lo(size)(a0); j 1f
            nop
        1:  beqz a1, 1b            /* two
                                      lines */
            .data
        table: .word 1, 2, -1
            .byte 'a', size
            .balign 8
            .dword table + 1
            .asciz "hi\\n\\x21"
            .bss
        room: .space 64
        """,
    )
    text, data, bss = image.sections
    assert (text.address, data.address, bss.address) == (0x10000, 0x11000, 0x12000)
    assert image.entry == 0x10000 and image.global_symbols == {"_start"}
    assert image.symbols["table"] == 0x11000 and image.symbols["room"] == 0x12000
    assert data.data[:14] == bytes.fromhex("0100000002000000ffffffff") + b"a\x0c"
    assert data.data[16:] == (0x11001).to_bytes(8, "little") + b"hi\n!\0"
    assert bss.size == 64 and not bss.data
    lines, at = [], 0
    disassembler = Disassembler(syntax_of("riscv", "riscv64"))
    while at < len(text.data):
        line = disassembler.line(bytes(text.data[at:]), text.address + at)
        lines.append(line.text)
        at += line.length
    assert lines[2:] == ["lw a1, 12(a0)", "j 0x10014", "nop", "beqz a1, 0x10014"]


def test_big_endian_data(syntax_of: SyntaxOf) -> None:
    image = assemble(syntax_of("ppc", "ppc"), ".data\n.word 0x01020304\n.half 0x0506")
    assert bytes(image.sections[0].data) == bytes([1, 2, 3, 4, 5, 6])


def test_jumps_grow_until_their_targets_are_in_reach(syntax_of: SyntaxOf) -> None:
    syntax = syntax_of("x86", "x86_64")
    near = assemble(syntax, "jmp end\n.space 100\nend: nop")
    far = assemble(syntax, "jmp end\n.space 200\nend: nop")
    assert near.symbols["end"] == 0x10000 + 2 + 100
    assert far.symbols["end"] == 0x10000 + 5 + 200
    back = assemble(syntax, "start: nop\njmp start\njmp start")
    assert bytes(back.sections[0].data) == bytes.fromhex("90ebfdebfb")


def test_pcrel_lo_names_the_label_of_its_pcrel_hi(syntax_of: SyntaxOf) -> None:
    image = assemble(
        syntax_of("riscv", "riscv64"),
        "1: nop\nhere: auipc a0, %pcrel_hi(far)\nnop\naddi a0, a0, %pcrel_lo(here)\n"
        ".data\n.space 0x804\nfar: .byte 0",
    )
    code = bytes(image.sections[0].data)
    high = int.from_bytes(code[4:8], "little") & 0xFFFFF000
    low = int.from_bytes(code[12:16], "little") >> 20
    assert 0x10004 + high + low - (low >> 11 << 12) == image.symbols["far"]


@pytest.mark.parametrize(
    ("source", "place", "message"),
    [
        ("nop\nfoo a0", "test.s:2", "unknown instruction 'foo'"),
        ("addi a0, a0, 5000", "test.s:1", "5000"),
        ("j nowhere", "test.s:1", "undefined symbol nowhere"),
        ("a: nop\na: nop", "test.s:2", "label a is defined twice"),
        (".frobnicate 3", "test.s:1", "unknown directive .frobnicate"),
        ('.asciz "a', "test.s:1", "not a string"),
        (".balign 3", "test.s:1", "alignment 3"),
        (".word (1", "test.s:1", "not an expression"),
        (".word 1 / 0", "", "division by zero"),
        (".space 1 << 40", "test.s:1", "a space of"),
        (".bss\n.word 1", "test.s:2", "contents in .bss"),
    ],
)
def test_mistakes(syntax_of: SyntaxOf, source: str, place: str, message: str) -> None:
    with pytest.raises(AssemblyError) as caught:
        assemble(syntax_of("riscv", "riscv64"), source)
    assert message in str(caught.value)
    assert caught.value.where == place


@pytest.mark.parametrize(
    ("family", "target", "line", "code"),
    [
        # bytes by GNU as
        ("riscv", "riscv64", "amoadd.d.aqrl a0, a1, (a2)", "2f35b606"),
        ("riscv", "riscv64", "fcvt.w.d a0, fa0, rtz", "531505c2"),
        ("riscv", "riscv32", "c.lui a0, 0xfffff", "7d75"),
        ("ppc", "ppc", "slwi r3, r4, 5", "54832834"),
        ("ppc", "ppc", "add. r3, r4, r5", "7c642a15"),
        ("sparc", "sparc", "save %sp, -96, %sp", "9de3bfa0"),
        ("arm", "arm", "ldmia sp!, {r4-r6, pc}", "7080bde8"),
        ("arm", "arm", "addseq r0, r1, r2, lsl #3", "82019100"),
        ("arm", "aarch64", "and x0, x1, #0xff00ff00ff00ff", "209c0092"),
        ("x86", "x86_64", "mov rax, qword ptr fs:[0x28]", "64488b042528000000"),
        ("x86", "x86_64", "lock add dword ptr [rax + rcx*4 + 8], 1", "f083448808 01".replace(" ", "")),
        ("x86", "x86_64", "add si, word ptr [rdi - 108]", "66037794"),
        ("x86", "x86_64", "adc si, word ptr cs:[rbx - 184]", "662e13b348ffffff"),
        ("x86", "i8086", "mov ax, word ptr [bx + si + 2]", "8b4002"),
    ],
)
def test_encodings(syntax_of: SyntaxOf, family: str, target: str, line: str, code: str) -> None:
    syntax = syntax_of(family, target)
    data = Assembler(syntax).assemble(line)
    assert data.hex() == code
    printed = Disassembler(syntax).line(data, 0)
    assert printed.length == len(data)
    assert "4294967" not in printed.text
    assert Assembler(syntax).assemble(printed.text) == data


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("f0 01 08", "lock add dword ptr [rax], ecx"),
        ("f0 01 c8", None),  # the destination is a register
        ("f0 03 08", None),  # memory is the source
        ("f0 39 08", None),  # nothing is written
        ("f0 0f ba 28 05", "lock bts dword ptr [rax], 5"),
        ("f0 0f ba ed 05", None),
        ("f0 86 ce", None),
        ("66 66 f2 0f 10 08", "movsd xmm1, qword ptr [rax]"),  # F2 and F3 beat 66
        ("66 f3 0f 10 08", "movss xmm1, dword ptr [rax]"),
        ("f2 f3 0f 10 08", "movss xmm1, dword ptr [rax]"),  # the last of them counts
        ("f3 f2 0f 10 08", "movsd xmm1, qword ptr [rax]"),
        ("66 0f 38 f0 18", "movbe bx, word ptr [rax]"),
        ("66 f2 0f 38 f1 c1", "crc32 eax, cx"),
        ("41 63 d6", "movsxd edx, r14d"),
        ("26" * 13 + "01 ce", "add esi, ecx"),
        ("26" * 14 + "01 ce", None),  # 16 bytes
        ("26" * 7 + "48 b8 0415263775a51234", None),
    ],
)
def test_prefixes(syntax_of: SyntaxOf, code: str, text: str | None) -> None:
    """Which prefixes an encoding takes, and how they choose among encodings (SDM volume 2, 2.1.1, 2.3.11)."""
    data = bytes.fromhex(code)
    line = Disassembler(syntax_of("x86", "x86_64")).line(data, 0)
    assert (line.text if line.form else None) == text
    assert text is None or line.length == len(data)


@pytest.mark.parametrize("line", ["lock add eax, ecx", "lock add eax, dword ptr [rbx]", "lock nop"])
def test_lock_is_refused(syntax_of: SyntaxOf, line: str) -> None:
    with pytest.raises(IsagenError):
        Assembler(syntax_of("x86", "x86_64")).assemble(line)


def test_dialects(syntax_of: SyntaxOf) -> None:
    syntax = syntax_of("x86", "x86_64")
    data = Assembler(syntax, "att").assemble("addq $8, 16(%rsp)")
    assert data.hex() == "4883442410 08".replace(" ", "")
    assert Disassembler(syntax, "att").line(data, 0).text == "addq $8, 16(%rsp)"
    assert Disassembler(syntax).line(data, 0).text == "add qword ptr [rsp + 16], 8"
