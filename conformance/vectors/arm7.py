"""A32 state rows of an ARM7TDMI (SingleStepTests): one instruction in any mode, with its bus transactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from conformance.vectors.machine import Place, VectorMachine
from conformance.vectors.reader import Row
from conformance.vectors.states import Case, StateFormat

READ, WRITE = 1, 2
BANKS: Final = {17: ("fiq", 8), 18: ("irq", 13), 19: ("svc", 13), 23: ("abt", 13), 27: ("und", 13)}
"""The registers that a mode has of its own: their name and the first one's number (DDI 0100, A2.3)."""
FLAGS: Final = {"n": 31, "z": 30, "c": 29, "v": 28}
TRAPS: Final = {0x04: 0x00, 0x08: 0x11}
"""Traps by the address of their vectors (DDI 0100, A2.6)."""
AHEAD: Final = 8
"""How far r15 is ahead of the instruction."""
USER: Final = 0x10
MULTIPLICATION: Final = ("arm7/mul", "arm7/mull")


class Arm7(StateFormat):
    """`init` and `final`: `R` as user mode has it, the other modes' own registers, CPSR; `tx`: what went over
    the bus, as kind, size, address and data; `opcode` at `base`.
    """

    def machine(self) -> VectorMachine:
        return VectorMachine(self.setup)

    def case(self, row: Row) -> Case | str:
        before, after = row["init"], row["final"]
        memory: dict[int, int] = {}
        told: dict[int, int] = {}
        for kind, size, address, data in row["tx"]:
            if kind in (READ, WRITE) and (address % size or halved(row, size)):
                return "unaligned addresses, which ARMv4 rotates or ignores"
            for i, byte in enumerate((data & ((1 << 8 * size) - 1)).to_bytes(size, "little")):
                place = (address + i) & 0xFFFF_FFFF
                if kind == READ:
                    memory.setdefault(place, byte)
                elif kind == WRITE:
                    memory.setdefault(place, 0)
                    told[place] = byte
        status, next_status = before["CPSR"], after["CPSR"]
        final = {place: (value, -1) for place, value in registers(after).items()}
        final |= {Place(f): (next_status >> bit & 1, -1) for f, bit in FLAGS.items()}
        final[Place("t")] = next_status >> 5 & 1, -1
        if row["id"].startswith(MULTIPLICATION):
            del final[Place("c")]  # has no meaning (DDI 0100, A4.1.40)
        thumb = next_status >> 5 & 1
        pc = (after["R"][15] - (AHEAD // 2 if thumb else AHEAD)) & 0xFFFF_FFFF
        if pc & 3 and not thumb:
            return "UNPREDICTABLE targets"  # DDI 0100, A2.4.3: bits 1:0 of an address in A32
        if row["id"].startswith("arm7/data_proc_register") and 15 in operands(row["opcode"]):
            return "UNPREDICTABLE operands"  # DDI 0100, A5.1.5: r15 in a shift by a register
        if stores_pc(row["opcode"]):
            return "a stored pc"  # DDI 0100, A2.4.3: 8 or 12 bytes ahead, IMPLEMENTATION DEFINED
        if row["id"].startswith("arm7/mrs") and status & 0xFF != USER:
            return "control bits that user mode doesn't have"
        trap = TRAPS.get(pc)
        if trap is not None:
            return Case(row["base"], code(row), start(before), memory, {}, trap=trap)
        return Case(
            row["base"],
            code(row),
            start(before),
            memory,
            final,
            final_memory={**memory, **told},
            final_pc=pc,
        )


def operands(opcode: int) -> list[int]:
    """Rn, Rd, Rs and Rm of data processing."""
    return [opcode >> low & 15 for low in (16, 12, 8, 0)]


def stores_pc(opcode: int) -> bool:
    """Whether STR or STM stores r15."""
    if opcode >> 20 & 1:
        return False
    return bool(opcode >> 25 & 7 == 4 and opcode >> 15 & 1) or (
        opcode >> 26 & 3 == 1 and opcode >> 12 & 15 == 15
    )


def halved(row: Row, size: int) -> bool:
    """Whether LDRSH reads a byte, which it does at odd addresses."""
    return bool(row["id"].startswith("arm7/ldrsb") and row["opcode"] >> 5 & 3 == 3 and size == 1)


def code(row: Row) -> bytes:
    """The instruction's bytes."""
    opcode: int = row["opcode"]
    return opcode.to_bytes(4, "little")


def registers(state: Mapping[str, Any]) -> dict[Place, int]:
    """r0 to r14 as the mode in CPSR sees them."""
    values = list(state["R"][:15])
    bank = BANKS.get(state["CPSR"] & 31)
    if bank is not None:
        name, first = bank
        values[first:15] = state[name]
    return {Place("r", i): value for i, value in enumerate(values)}


def start(state: Mapping[str, Any]) -> dict[Place, int]:
    """Registers and flags."""
    flags = {Place(name): state["CPSR"] >> bit & 1 for name, bit in FLAGS.items()}
    return {**registers(state), **flags}
