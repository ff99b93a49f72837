"""x86: names of sizes, prefixes that operands rule out, targets as far as can be. Bytes as GNU as 2.40 or
LLVM 19 make them, but for the order of prefixes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtime.assembly.assembler import Assembler
from runtime.assembly.disassembler import Disassembler
from runtime.assembly.tables import Syntax
from runtime.errors import IsagenError

SyntaxOf = Callable[[str, str], Syntax]

PRINTED = [  # mode, code, Intel's, AT&T's: a size that isn't the mode's is in the name
    (32, "c3", "ret", "ret"),
    (32, "66c3", "retw", "retw"),
    (16, "66c3", "retd", "retl"),
    (64, "669d", "popfw", "popfw"),
    (16, "9d", "popf", "popfw"),
    (16, "66cf", "iretd", "iretl"),
    (32, "66cf", "iretw", "iretw"),
    (64, "48cb", "retfq", "lretq"),
    (64, "666a05", "pushw 5", "pushw $5"),
    (64, "64d7", "xlat byte ptr fs:[rbx]", "xlat %fs:(%rbx)"),
    (64, "67e200", "loopd 0x3", "loopl 0x3"),
    (32, "6203", "bound eax, qword ptr [ebx]", "bound %eax, (%ebx)"),
]
READ = [  # names that compilers and other disassemblers use
    (64, "", "mov ds, eax", "8ed8"),
    (64, "", "lsl rdx, r14", "490f03d6"),
    (64, "att", "movl %eax, %ds", "8ed8"),
    (64, "att", "movsxd %ebp, %eax", "63c5"),
    (16, "att", "iret", "cf"),
    (16, "att", "popa", "61"),
    (16, "att", "ljmp $1, $2", "ea02000100"),
    (64, "att", "retq", "c3"),
    (64, "att", "callq 5", "e800000000"),
    (64, "att", "rdseedq %rax", "480fc7f8"),
    (64, "att", "movl (,%rbp), %eax", "8b042d00000000"),
    (64, "att", "fucompi %st(1), %st", "dfe9"),
    (64, "att", "mov %db3, %rax", "0f21d8"),
    (32, "", "xlat byte ptr [ebx]", "d7"),
    (64, "", "mov rax, cr8", "440f20c0"),  # bits that are ignored, and should be 11
    (32, "", "pclmulhqlqdq xmm1, xmm2", "660f3a44ca01"),
]
IMPLIED = [  # what is left out: Intel's, AT&T's (whose subtractions from st(i) change names), code
    ("aad", "aad", "d50a"),
    ("aam", "aam", "d40a"),
    ("aam 16", "aam $16", "d410"),
    ("shl eax", "shll %eax", "d1e0"),
    ("rcr byte ptr [ebx]", "rcrb (%ebx)", "d01b"),
    ("fxch", "fxch", "d9c9"),
    ("fcom", "fcom", "d8d1"),
    ("fucomp", "fucomp", "dde9"),
    ("fcomi", "fcomi", "dbf1"),
    ("faddp", "faddp", "dec1"),
    ("fsubp", "fsubrp", "dee9"),
    ("fdivrp st(3)", "fdivp %st(3)", "def3"),
    ("fsub st(3)", "fsub %st(3)", "d8e3"),
    ("fadd", "fadd", "dec1"),
    ("fdivr", "fdiv", "def1"),
]


@pytest.mark.parametrize(("mode", "code", "intel", "att"), PRINTED)
def test_sizes_are_told(syntax_of: SyntaxOf, mode: int, code: str, intel: str, att: str) -> None:
    """Printed so, and assembled to the same bytes."""
    syntax = syntax_of("x86", "x86_64")
    for dialect, text in (("", intel), ("att", att)):
        line = Disassembler(syntax, dialect).line(bytes.fromhex(code), 0, contexts={"mode": mode})
        assert line.text == text
        assert Assembler(syntax, dialect, contexts={"mode": mode}).assemble(text).hex() == code


@pytest.mark.parametrize(("mode", "dialect", "text", "code"), READ)
def test_names_that_are_read(syntax_of: SyntaxOf, mode: int, dialect: str, text: str, code: str) -> None:
    assembler = Assembler(syntax_of("x86", "x86_64"), dialect, contexts={"mode": mode})
    assert assembler.assemble(text).hex() == code


WORDS = [  # prefixes as words, as GNU as reads them
    ("i386", 32, "", "rep ret", "f3c3"),
    ("i386", 32, "att", "repz retl", "f3c3"),
    ("x86_64", 64, "att", "notrack jmp *%rax", "3effe0"),
    ("i386", 16, "", "notrack jmp word ptr [bp + 40]", "3eff6628"),
    ("i386", 16, "", "notrack jmp word ptr ds:[bp + 40]", "3eff6628"),
    ("x86_64", 64, "att", "data16 leaq 0x100(%rip), %rdi", "66488d3d00010000"),
    ("i386", 32, "", "data16 mov eax, ebx", "6689d8"),
    ("i386", 16, "", "addr32 rcr word ptr [0x16783a61], 1", "67d11d613a7816"),
    ("i386", 16, "att", "addr32 movw 14945, %ax", "67a1613a0000"),
    ("i386", 16, "", "data32 jmp 0x10", "66eb0d"),
    ("x86_64", 64, "", "xacquire lock inc dword ptr [rax]", "f2f0ff00"),
    ("x86_64", 64, "att", "fs movsb", "64a4"),
    ("x86_64", 64, "att", "rep movsb", "f3a4"),
    ("x86_64", 64, "att", "rep", "f3"),
    ("i8086", 16, "", "lock inc word ptr [bx]", "f0ff07"),
    ("i8086", 16, "", "jmp dword ptr [bx]", "ff2f"),
    ("i386", 16, "", "jmp dword ptr [bx]", "66ff27"),
    ("i386", 32, "", "jmp fword ptr [ebx]", "ff2b"),
    ("i386", 16, "", "jmpd 0xfffff006", "66e900f0ffff"),
]


@pytest.mark.parametrize(("target", "mode", "dialect", "text", "code"), WORDS)
def test_prefixes_as_words(
    syntax_of: SyntaxOf, target: str, mode: int, dialect: str, text: str, code: str
) -> None:
    contexts = {"mode": mode} if target != "i8086" else {}
    assert Assembler(syntax_of("x86", target), dialect, contexts=contexts).assemble(text).hex() == code


def test_words_that_are_no_prefixes_in_a_mode(syntax_of: SyntaxOf) -> None:
    for mode, text in ((16, "data16 nop"), (32, "addr32 nop"), (32, "rex nop")):
        with pytest.raises(IsagenError, match="unknown instruction"):
            Assembler(syntax_of("x86", "i386"), contexts={"mode": mode}).assemble(text)


@pytest.mark.parametrize(("intel", "att", "code"), IMPLIED)
def test_operands_that_are_implied(syntax_of: SyntaxOf, intel: str, att: str, code: str) -> None:
    syntax = syntax_of("x86", "i386")
    for dialect, text in (("", intel), ("att", att)):
        assert Assembler(syntax, dialect, contexts={"mode": 32}).assemble(text).hex() == code


def test_the_farthest_target_of_a_short_branch(syntax_of: SyntaxOf) -> None:
    """127 bytes behind the end, which only the right length reaches; one further needs the long one."""
    assembler = Assembler(syntax_of("x86", "x86_64"))
    assert assembler.assemble("jmp 0x81").hex() == "eb7f"
    assert assembler.assemble("jmp 0x82").hex() == "e97d000000"
    assert assembler.assemble("loop 0x81").hex() == "e27f"
    assert assembler.assemble("jecxz 0x82").hex() == "67e37f"
    with pytest.raises(IsagenError):
        assembler.assemble("loop 0x82")


def test_prefixes_that_operands_ask_for_or_rule_out(syntax_of: SyntaxOf) -> None:
    assembler = Assembler(syntax_of("x86", "x86_64"))
    assert assembler.assemble("mov sil, 1").hex() == "40b601"
    assert assembler.assemble("mov ah, 1").hex() == "b401"
    assert assembler.assemble("add word ptr fs:[r8d], 1").hex() == "66676441830001"
    with pytest.raises(IsagenError):
        assembler.assemble("mov ah, r8b")  # with REX there is no ah (SDM volume 1, 3.4.1.1)
    assert assembler.assemble("lock add dword ptr [rax], ecx").hex() == "f00108"
    with pytest.raises(IsagenError):
        assembler.assemble("lock add eax, ecx")
