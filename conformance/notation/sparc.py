"""SPARC: GNU writes what we do; LLVM takes other numbers in branches."""

from __future__ import annotations

import re

from conformance.notation import AssemblerPeer, DisassemblerPeer, Notation
from conformance.toolchains import Llvm, Objdump

_BRANCH = re.compile(r"^(b\S* (?:%\S+,? ?)*)0x([0-9a-f]+)$")
_SPACE = re.compile(r"#ASI_(?!(?:N|AIU[PS]|[PS](?:NF)?)(?:_L)?\b)\w+")
_WRITE = re.compile(r"^(wr +%\w+), (%\w+)$")
_BIT_TEST = re.compile(r"^btst +(%\w+), (%\w+)$")
_HIGH = re.compile(r"%hi\(0x([0-9a-f]+)\)")


def outward(bits: int, text: str) -> str:
    """Our text for llvm-mc, which takes a number for a branch's displacement in words, and no number in
    ``%hi()``, and doesn't know CLRX.
    """
    text = text.replace("clrx [", "stx %g0, [")
    match = _BRANCH.match(text)
    if match:
        target = int(match[2], 16)
        return f"{match[1]}{(target - (1 << bits) if target >> (bits - 1) else target) // 4}"
    return _HIGH.sub(lambda found: str(int(found[1], 16) >> 10), text)


def inward(text: str, code: bytes) -> str:
    """objdump's text for our assembler: names of an UltraSPARC's address spaces as numbers; the one source
    that it prints of WR is the first (V9 A.62); BTST's registers the other way round (V9 table 41).
    """
    if match := _WRITE.match(text):
        word = int.from_bytes(code)
        second = "0" if word >> 13 & 1 else "%g0"
        text = f"{match[1]}, {second}, {match[2]}" if word >> 14 & 31 else text
    text = _BIT_TEST.sub(r"btst \2, \1", text)
    return _SPACE.sub(f"({int.from_bytes(code) >> 5 & 0xFF})", text)


def describe(target: str) -> Notation:
    """The peers of V8 or V9."""
    bits = 32 if target == "sparc" else 64
    llvm = Llvm("sparc" if bits == 32 else "sparcv9")
    machine = "sparc" if bits == 32 else "sparc:v9"
    return Notation(
        (AssemblerPeer(llvm, lambda text, code: outward(bits, text)),),
        (DisassemblerPeer(Objdump(machine, (), big_endian=True), inward),),
    )
