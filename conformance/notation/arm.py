"""Arm: LLVM takes offsets where we write addresses, and both write them with a number sign."""

from __future__ import annotations

import re

from conformance.notation import AssemblerPeer, DisassemblerPeer, Notation
from conformance.toolchains import Llvm, Objdump

_FAR = re.compile(r"0x[0-9a-f]{9,}$")
_TARGETED = re.compile(r"(?:b|bl|b\.\w+|cbn?z|tbn?z|adrp?|ldr|ldrsw) ")
_TARGET = re.compile(r"^((?:b|bl|b\.\w+|cbn?z|tbn?z|adrp?) .*?)#(-?[0-9][0-9a-fx]*)$")


def inward(text: str, code: bytes) -> str:
    """A peer's A64 text for our assembler: targets without a number sign, cs and cc for hs and lo."""
    text = re.sub(r"\b(hs|lo)$", lambda found: {"hs": "cs", "lo": "cc"}[found[1]], text)
    return _TARGET.sub(r"\1\2", text)


def outward(text: str, code: bytes) -> str:
    """Our A64 text for llvm-mc: targets behind address 0 as negative offsets."""
    match = _FAR.search(text) if _TARGETED.match(text) else None
    if match and int(match[0], 16) >> 63:
        return text[: match.start()] + "#" + str(int(match[0], 16) - (1 << 64))
    return text


def describe(target: str) -> Notation:
    """The peers of aarch64."""
    if target != "aarch64":
        return Notation()
    llvm = Llvm("aarch64", ("-M", "no-aliases"))
    return Notation(
        (AssemblerPeer(llvm, outward),),
        (DisassemblerPeer(Objdump("aarch64", ("-M", "no-aliases")), inward), DisassemblerPeer(llvm, inward)),
    )
