"""How texts of x86 are compared and handed over between us and the peers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.notation.x86 import VZEROUPPER, canonical, chosen_by_size, from_llvm, from_objdump, outward
from conformance.toolchains import LLVM_VERSIONS, Llvm


@pytest.mark.parametrize(
    ("mode", "one", "other"),
    [
        (64, "mov qword ptr ss:[0x10], rax", "mov qword ptr [16], rax"),
        (64, "mov eax, dword ptr ds:[rbx + 0]", "mov eax, dword ptr [rbx]"),
        (64, "movl %cs:0(%rbx), %eax", "movl (%rbx), %eax"),
        (32, "mov eax, dword ptr ds:[ebx]", "mov eax, dword ptr [ebx]"),
        (32, "mov eax, dword ptr ss:[ebp]", "mov eax, dword ptr ss:[ebp + 0]"),
        (32, "rep movsb byte ptr es:[edi], byte ptr [esi]", "rep movsb"),
        (16, "xlat byte ptr [bx]", "xlatb"),
        (64, "mov al, -1", "mov al, 255"),
        (64, "movl $-1, %eax", "movl $0xffffffff, %eax"),
        (64, "xchg rax, rbx", "xchg rbx, rax"),
        (64, "fadd st, st(0)", "fadd st(0), st(0)"),
    ],
)
def test_the_same(mode: int, one: str, other: str) -> None:
    assert canonical(one, {"mode": mode}) == canonical(other, {"mode": mode})


@pytest.mark.parametrize(
    ("mode", "one", "other"),
    [
        (64, "mov eax, dword ptr fs:[rbx]", "mov eax, dword ptr [rbx]"),
        (32, "mov eax, dword ptr ds:[ebp]", "mov eax, dword ptr [ebp]"),
        (32, "mov eax, dword ptr ss:[ebx]", "mov eax, dword ptr [ebx]"),
        (32, "rep movsb byte ptr es:[di], byte ptr [si]", "rep movsb"),
        (32, "movsb byte ptr es:[edi], byte ptr fs:[esi]", "movsb"),
        (32, "xlat byte ptr [bx]", "xlatb"),
        (64, "mov al, -1", "mov ax, 255"),
        (64, "xchg rax, rbx", "xchg rax, rcx"),
    ],
)
def test_not_the_same(mode: int, one: str, other: str) -> None:
    assert canonical(one, {"mode": mode}) != canonical(other, {"mode": mode})


@pytest.mark.parametrize(
    ("text", "code", "ours"),
    [
        ("ds add eax, ebx", "3e 01 d8", "add eax, ebx"),
        ("lock es dec QWORD PTR [r10]", "f0 26 49 ff 0a", "lock dec QWORD PTR [r10]"),
        ("mov eax, ds:0x10", "8b 04 25 10 00 00 00", "mov eax, [0x10]"),
        ("mov eax, fs:0x10", "64 8b 04 25 10 00 00 00", "mov eax, fs:[0x10]"),
    ],
)
def test_text_of_objdump(text: str, code: str, ours: str) -> None:
    assert from_objdump(64, True, text, bytes.fromhex(code)) == ours


def test_far_addresses_of_16_bit_code() -> None:
    code = bytes.fromhex("67d11d613a7816")
    for intel, text in ((True, "rcr word ptr [0x16783a61], 1"), (False, "rcrw $1, 0x16783a61")):
        assert outward(16, intel, text, code) is None
        assert outward(32, intel, text, code) == text
    for intel, text in ((True, "mov eax, 0x16783a61"), (False, "movl $0x16783a61, 0x16783a61(%eax)")):
        assert outward(16, intel, text, b"") == text


def test_branches_of_llvm_have_targets() -> None:
    assert from_llvm(64, True, "jne 5", bytes.fromhex("7505")) == "jne 0x7"
    assert from_llvm(16, True, "jmp -3", bytes.fromhex("ebfd")) == "jmp 0xffff"


def test_66_that_is_part_of_the_opcode() -> None:
    assert not chosen_by_size(bytes.fromhex("660f58c1"))  # addpd
    assert chosen_by_size(bytes.fromhex("660fafc1"))  # imul ax, cx
    assert chosen_by_size(bytes.fromhex("6601c1"))


def test_llvm_writes_prefixes_on_lines_of_their_own(require_tool: Callable[..., str]) -> None:
    require_tool(*(f"llvm-mc{version}" for version in LLVM_VERSIONS))
    llvm = Llvm("x86_64", ("--output-asm-variant=1",), sentinel=VZEROUPPER)
    words = [bytes.fromhex(code) for code in ("f00103", "06", "0103")]
    assert llvm.disassemble(words) == ["lock add dword ptr [rbx], eax", None, "add dword ptr [rbx], eax"]
