"""RISC-V: LLVM takes offsets where we write addresses (the same at address 0, but for their sign)."""

from __future__ import annotations

import re
from functools import partial

from conformance.notation import AssemblerPeer, DisassemblerPeer, Notation
from conformance.toolchains import Llvm, Objdump

EXTENSIONS = "+m,+a,+f,+d,+zba,+zbb,+zbc,+zbs,+zbkb,+zfh,+zicond,+zihintpause"
_NUMBER = re.compile(r"0x[0-9a-f]{8,}$")


_CSR = re.compile(r"^(csrr\w+ \w+, )\w+")


def is_custom(csr: int) -> bool:
    """Whether a CSR's number is one for users' own (privileged manual, CSR address mapping conventions)."""
    return csr >> 8 == 8 or (csr >> 6 & 3 == 3 and csr >> 8 not in (0, 1, 2, 3, 4))


def outward(bits: int, text: str, code: bytes) -> str:
    """Our text for llvm-mc, which knows no names of users' own CSRs."""
    csr = int.from_bytes(code, "little") >> 20
    if is_custom(csr):
        text = _CSR.sub(rf"\g<1>{csr:#x}", text)
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
            AssemblerPeer(wide, partial(outward, bits), lambda code: len(code) == 4),
            AssemblerPeer(short, partial(outward, bits), lambda code: len(code) == 2),
        ),
        (
            DisassemblerPeer(short),
            DisassemblerPeer(Objdump(f"riscv:rv{bits}", ("-M", "no-aliases"))),
        ),
    )
