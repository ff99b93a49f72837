"""Arm: LLVM takes offsets where we write addresses, and both peers write them with a number sign."""

from __future__ import annotations

import re
from functools import partial

from conformance.notation import AssemblerPeer, DisassemblerPeer, Notation
from conformance.toolchains import Llvm, Objdump

_FAR = re.compile(r"0x[0-9a-f]{9,}$")
_TARGETED = re.compile(r"(?:b|bl|b\.\w+|cbn?z|tbn?z|adrp?|ldr|ldrsw) ")
_TARGET = re.compile(r"^((?:b|bl|b\.\w+|cbn?z|tbn?z|adrp?) .*?)#(-?[0-9][0-9a-fx]*)$")
_BRANCH32 = re.compile(r"^((?:bl?x?(?:[a-z]{2})?|cbn?z)(?:\.[nw])? (?:\w+, ?)?)#?(-?(?:0x)?[0-9a-f]+)$")
_REGISTER_SHIFT = (0x0E000090, 0x00000010)
"""Bits of A32's data processing with a shift by a register (DDI 0406, A5.2.2)."""
A32, T32 = (("thumb", 0),), (("thumb", 1), ("it", 0))


def inward(text: str, code: bytes) -> str:
    """A peer's A64 text for our assembler: targets without a number sign."""
    return _TARGET.sub(r"\1\2", text)


def outward(text: str, code: bytes) -> str:
    """Our A64 text for llvm-mc: targets behind address 0 as negative offsets."""
    match = _FAR.search(text) if _TARGETED.match(text) else None
    if match and int(match[0], 16) >> 63:
        return text[: match.start()] + "#" + str(int(match[0], 16) - (1 << 64))
    return text


def inward32(ahead: int, text: str, code: bytes) -> str:
    """LLVM's A32 or T32 text for our assembler: a target is written as its distance from `ahead`."""
    match = _BRANCH32.match(text)
    return f"{match[1]}{(int(match[2], 0) + ahead) % (1 << 32)}" if match else text


def outward32(ahead: int, text: str, code: bytes) -> str:
    """The reverse."""
    match = _BRANCH32.match(text)
    if match is None:
        return text
    distance = int(match[2], 0) - ahead
    return f"{match[1]}#{(distance + (1 << 31)) % (1 << 32) - (1 << 31)}"


def in_order(code: bytes) -> bool:
    """Whether an A32 encoding is one that LLVM assembles: not with the pc in a shift by a register, which is
    UNPREDICTABLE (DDI 0406, A8.8: d, n, m or s is 15).
    """
    word = int.from_bytes(code, "little")
    mask, value = _REGISTER_SHIFT
    return word & mask != value or 15 not in (word >> low & 15 for low in (0, 8, 12, 16))


def describe(target: str) -> Notation:
    """The peers of aarch64 or arm."""
    if target == "aarch64":
        own, plain = Llvm("aarch64"), ("-M", "no-aliases")
        return Notation(
            (AssemblerPeer(own, outward),),
            (
                DisassemblerPeer(Objdump("aarch64"), inward),
                DisassemblerPeer(own, inward),
                DisassemblerPeer(Objdump("aarch64", plain), inward),
                DisassemblerPeer(Llvm("aarch64", plain), inward),
            ),
        )
    a32 = Llvm("armv7a", ("--mattr=+hwdiv-arm,+hwdiv",))
    t32 = Llvm("thumbv7a", ("--mattr=+hwdiv",))
    return Notation(
        (
            AssemblerPeer(a32, partial(outward32, 8), in_order, A32),
            AssemblerPeer(t32, partial(outward32, 4), contexts=T32),
        ),
        (
            DisassemblerPeer(a32, partial(inward32, 8), contexts=A32),
            DisassemblerPeer(Objdump("arm"), contexts=A32),
            DisassemblerPeer(t32, partial(inward32, 4), contexts=T32),
            DisassemblerPeer(Objdump("arm", ("-M", "force-thumb")), contexts=T32),
        ),
    )
