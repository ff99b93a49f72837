"""x86 in Intel syntax."""

from __future__ import annotations

from conformance.notation import AssemblerPeer, DisassemblerPeer, Notation
from conformance.toolchains import Llvm, Objdump


def describe(target: str) -> Notation:
    """The peers of a target's widest mode."""
    mode = {"x86_64": 64, "i386": 32, "i8086": 16}[target]
    triple = {64: "x86_64", 32: "i686", 16: "i686-unknown-unknown-code16"}[mode]
    machine = {64: "i386:x86-64:intel", 32: "i386:intel", 16: "i8086"}[mode]
    llvm = Llvm(triple, ("--output-asm-variant=1",), (".intel_syntax noprefix",))
    return Notation(
        (AssemblerPeer(llvm),),
        (DisassemblerPeer(Objdump(machine, ("-M", "intel"), padding=b"\x90")),),
        contexts=(("mode", mode),),
    )
