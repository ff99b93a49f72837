"""PowerPC, with the names of registers that GNU's tools write."""

from __future__ import annotations

import re
from functools import partial

from conformance.notation import AssemblerPeer, DisassemblerPeer, Notation
from conformance.toolchains import Llvm, Objdump

_FAR = re.compile(r"0x[0-9a-f]{7,}$")
_HINTED = re.compile(r"b(?!c)\w+(?:lr|ctr)l?[-+]? cr\d,\d$")
_ABSOLUTE = re.compile(r"^(b\w*a[-+]? .*)0x([89a-f][0-9a-f]{7})$")
_REGISTER = re.compile(r"(?<![*\w])((?:cr|r|f)\d+)\b")


def outward(bits: int, text: str) -> str | None:
    """Our text for llvm-mc: registers with a percent sign, no targets below address 0."""
    if _HINTED.match(text):
        return None  # it knows no hint BH behind an extended mnemonic; GNU as does
    text = _REGISTER.sub(r"%\1", text)
    match = _FAR.search(text)
    if match and int(match[0], 16) >> (bits - 1):
        return None  # it takes the sign for a part of the mnemonic
    return text


def inward(bits: int, text: str, code: bytes) -> str:
    """objdump's text for our assembler: absolute targets, which it writes with 32 bits, in all bits."""
    match = _ABSOLUTE.match(text) if bits == 64 else None
    return f"{match[1]}{(1 << 64) - (1 << 32) + int(match[2], 16):#x}" if match else text


def describe(target: str) -> Notation:
    """The peers of a PowerPC target."""
    bits = 32 if target == "ppc" else 64
    triple = {"ppc": "powerpc", "ppc64": "powerpc64", "ppc64le": "powerpc64le"}[target]
    llvm = Llvm(triple, ("--ppc-asm-full-reg-names",))
    machine = "powerpc:common" if bits == 32 else "powerpc:common64"
    return Notation(
        (AssemblerPeer(llvm, lambda text, code: outward(bits, text)),),
        (DisassemblerPeer(Objdump(machine, (), big_endian=target != "ppc64le"), partial(inward, bits)),),
    )
