"""RISC-V: LLVM takes offsets where we write addresses (the same at address 0, but for their sign)."""

from __future__ import annotations

import re

from conformance.notation import AssemblerPeer, DisassemblerPeer, Notation
from conformance.toolchains import Llvm, Objdump

EXTENSIONS = "+m,+a,+f,+d,+zba,+zbb,+zbc,+zbs,+zbkb,+zfh,+zicond,+zihintpause"
_NUMBER = re.compile(r"0x[0-9a-f]{8,}$")


def outward(bits: int, text: str) -> str:
    """Our text for llvm-mc."""
    match = _NUMBER.search(text)
    if match and int(match[0], 16) >> (bits - 1):
        text = text[: match.start()] + str(int(match[0], 16) - (1 << bits))
    return text


def describe(target: str) -> Notation:
    """The peers of riscv32 or riscv64. Without C, LLVM doesn't shorten what it assembles."""
    bits = 64 if target == "riscv64" else 32
    options = ("--riscv-no-aliases",)
    wide = Llvm(target, (f"--mattr={EXTENSIONS}", *options))
    short = Llvm(target, (f"--mattr={EXTENSIONS},+c,+zcb", *options))
    return Notation(
        (
            AssemblerPeer(wide, lambda text, code: outward(bits, text), lambda code: len(code) == 4),
            AssemblerPeer(short, lambda text, code: outward(bits, text), lambda code: len(code) == 2),
        ),
        (
            DisassemblerPeer(short),
            DisassemblerPeer(Objdump(f"riscv:rv{bits}", ("-M", "no-aliases"))),
        ),
    )
