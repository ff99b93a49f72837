"""Preferred texts: what LLVM 19 and GNU objdump 2.40 print, not what the encoding is called."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtime.assembly.assembler import Assembler
from runtime.assembly.disassembler import Disassembler
from runtime.assembly.tables import Syntax

SyntaxOf = Callable[[str, str], Syntax]

A64 = [  # DDI 0487, C6.2: the alias conditions of each instruction
    ("lsl w0, w1, #3", "20701d53"),
    ("lsr x0, x1, #3", "20fc43d3"),
    ("ubfiz w22, w3, #11, #15", "76381553"),
    ("ubfx x0, x1, #4, #8", "202c44d3"),
    ("sbfx w25, w15, #15, #1", "f93d0f13"),
    ("sxtw x0, w1", "207c4093"),
    ("bfi w2, w0, #29, #3", "02080333"),
    ("bfxil w24, w22, #2, #30", "d87e0233"),
    ("cinc w14, w14, ge", "ceb58e1a"),
    ("cset w0, lo", "e0279f1a"),
    ("csinc w0, w1, w1, al", "20e4811a"),  # al has no inverse
    ("mov w24, #1792081919", "f8a5b212"),
    ("mov x10, #-1", "0a008092"),
    ("movz x0, #0, lsl #16", "0000a0d2"),  # mov would be another encoding
    ("orr x0, xzr, #0x1", "e00340b2"),  # likewise
    ("add w8, w0, w17, uxtw", "0840310b"),
    ("add sp, sp, x1", "ff63218b"),
]
A32 = [
    ("lslslo r5, r4, #15", "8457b031"),
    ("mov r3, #240, #30", "f03fa0e3"),  # a needless rotation is written (DDI 0406, A5.2.4)
    ("cmpvc r8, #-536870906", "6e025873"),
    ("ldm r2, {r0, r8}", "010192e8"),
    ("push {r4, r5, r6, lr}", "70402de9"),
    ("ldr r2, [r6]", "002096e5"),
]
V9 = [
    ("membar #LoadLoad | #StoreStore", "8143e009"),
    ("lduba [ %g2 + %g3 ] #ASI_PNF, %g1", "c2889043"),
    ("prefetch [ %g1 + 0x40 ], #one_read", "c3686040"),
]


@pytest.mark.parametrize(
    ("family", "target", "text", "code"),
    [("arm", "aarch64", *row) for row in A64]
    + [("arm", "arm", *row) for row in A32]
    + [("sparc", "sparc64", *row) for row in V9],
)
def test_preferred(syntax_of: SyntaxOf, family: str, target: str, text: str, code: str) -> None:
    """Printed so, and assembled to the same bytes."""
    syntax = syntax_of(family, target)
    assert Disassembler(syntax).line(bytes.fromhex(code), 0).text == text
    assert Assembler(syntax).assemble(text).hex() == code
