"""Arm: LLVM takes offsets where we write addresses, and both write them with a number sign."""

from __future__ import annotations

import re

from conformance.notation import AssemblerPeer, DisassemblerPeer, Notation
from conformance.toolchains import Llvm, Objdump

_FAR = re.compile(r"0x[0-9a-f]{9,}$")


def outward(text: str, code: bytes) -> str:
    """Our A64 text for llvm-mc: targets behind address 0 as negative offsets."""
    match = _FAR.search(text)
    if match and int(match[0], 16) >> 63:
        return text[: match.start()] + "#" + str(int(match[0], 16) - (1 << 64))
    return text


def describe(target: str) -> Notation:
    """The peers of aarch64."""
    if target != "aarch64":
        return Notation()
    llvm = Llvm("aarch64")
    return Notation(
        (AssemblerPeer(llvm, outward),), (DisassemblerPeer(Objdump("aarch64")), DisassemblerPeer(llvm))
    )
