"""x86 in Intel's and AT&T's syntax, and in the modes that a target has."""

from __future__ import annotations

from conformance.notation import AssemblerPeer, DisassemblerPeer, Notation
from conformance.toolchains import Llvm, Objdump

MODES = {"x86_64": (64, 32, 16), "i386": (32, 16), "i8086": (16,)}
TRIPLES = {64: "x86_64", 32: "i686", 16: "i686-unknown-unknown-code16"}
MACHINES = {64: "i386:x86-64", 32: "i386", 16: "i8086"}


def notation(target: str, dialect: str) -> Notation:
    """The peers of a target in our `dialect`, "" (Intel's) or "att"."""
    intel = not dialect
    options, directives = (("--output-asm-variant=1",), (".intel_syntax noprefix",)) if intel else ((), ())
    assemblers, disassemblers = [], []
    for mode in MODES[target]:
        contexts = (("mode", mode),)
        llvm = Llvm(TRIPLES[mode], options, directives)
        objdump = Objdump(MACHINES[mode], ("-M", "intel" if intel else "att"), padding=b"\x90")
        assemblers.append(AssemblerPeer(llvm, contexts=contexts))
        disassemblers += [
            DisassemblerPeer(llvm, contexts=contexts),
            DisassemblerPeer(objdump, contexts=contexts),
        ]
    return Notation(tuple(assemblers), tuple(disassemblers), dialect)


def describe(target: str) -> Notation:
    """The peers of a target."""
    intel, att = notation(target, ""), notation(target, "att")
    return Notation(intel.assemblers, intel.disassemblers, others=(att,))
