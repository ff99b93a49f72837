"""PowerPC state rows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar, Final

from conformance.vectors.machine import Place, VectorMachine
from conformance.vectors.reader import Row
from conformance.vectors.states import Case, StateFormat

CODE: Final = 0x10000
_REGISTER = re.compile(r"r(\d+)$")


def places(name: str, value: int) -> dict[Place, int] | None:
    """A register in the model's terms; None for one that the slice doesn't have."""
    match = _REGISTER.match(name)
    if match:
        return {Place("r", int(match[1])): value}
    if name == "cr":
        return {Place("crb", i): value >> (31 - i) & 1 for i in range(32)}
    if name == "xer":
        return {Place("so"): value >> 31 & 1, Place("ov"): value >> 30 & 1, Place("ca"): value >> 29 & 1}
    return {Place(name): value} if name in ("lr", "ctr") else None


class Ppc(StateFormat):
    """Rows with `init` and `final` by register: dingusppc's."""

    width: ClassVar[int] = 32

    def machine(self) -> VectorMachine:
        return VectorMachine(self.setup, CODE, 0x10000)

    def case(self, row: Row) -> Case | str:
        if not row.get("bytes"):
            return "no bytes"
        width = self.width
        registers: dict[Place, int] = {}
        final: dict[Place, tuple[int, int]] = {}
        for source in (row["init"], row["final"]):
            for name, text in source.items():
                if not isinstance(text, str) or not re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)", text):
                    return "registers that the slice doesn't have"
                found = places(name, int(text, 0) & ((1 << width) - 1))
                if found is None:
                    return "registers that the slice doesn't have"
                if source is row["init"]:
                    registers.update(found)
                else:
                    final.update({place: (value, -1) for place, value in found.items()})
        code = bytes.fromhex(row["bytes"])
        return Case(CODE, code, registers, {}, final, steps=len(code) // 4)


class Xenia(Ppc):
    """Rows of a 64-bit CPU in 32-bit mode: CR0 and carries look at 32 bits (Power ISA Book I, 1.5.1)."""

    width = 64
    _halves = re.compile(r"(?:mulhwu?|divwu?)\.? r(\d+),")
    """Instructions that leave the upper half of their result undefined (Book I, 3.3.9)."""

    def case(self, row: Row) -> Case | str:
        found = super().case(row)
        if isinstance(found, str):
            return found
        msr = next(r for r in self.setup.model.registers if r.name == "msr")
        registers = {Place("msr"): msr.reset & ~(1 << (msr.width - 1)), **found.registers}
        undefined = {int(number) for line in row["asm"] for number in self._halves.findall(line)}
        final = {
            place: (value, mask & 0xFFFF_FFFF if place.name == "r" and place.index in undefined else mask)
            for place, (value, mask) in found.final.items()
        }
        return replace(found, registers=registers, final=final)
