"""x86 state rows of real hardware: 8086 and 80286 in real mode (SingleStepTests)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from conformance.vectors.machine import Place, VectorMachine
from conformance.vectors.reader import Row
from conformance.vectors.states import Case, StateFormat

MEMORY: Final = 0x11_0000
"""Bytes that a segment and an offset reach: 1 MiB, and nearly 64 KiB more on an 80286."""
MOST_CODE: Final = 0x1_0000
"""Bytes of a segment, at whose end the instruction pointer wraps."""
PORTS: Final = range(1 << 52, (1 << 52) + 0x1_1000)
"""Where the spec has the ports, and what a word at the last one reaches. They read as all ones."""
GENERAL: Final = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
SEGMENTS: Final = ("es", "cs", "ss", "ds")
FLAGS: Final = {"cf": 0, "pf": 2, "af": 4, "zf": 6, "sf": 7, "df": 10, "of": 11}
OTHER_FLAGS: Final = Place("flag_bits")
CONTROL: Final = 0x0300
"""IF and TF, which are kept apart from the flags of arithmetic."""
LIMIT: Final = 13
"""The exception for what lies beyond a segment's limit (SDM volume 3, 20.1.4)."""
LONGEST: Final = 10
"""Bytes of an 80286's instruction, prefixes included (volume 3, 22.25)."""
INVALID: Final = 6
"""The exception for what is no instruction."""
HLT: Final = b"\xf4"
PREFIXES: Final = frozenset((0x26, 0x2E, 0x36, 0x3E, 0xF0, 0xF2, 0xF3))
STRINGS: Final = frozenset(bytes([op]) for op in (*range(0x6C, 0x70), *range(0xA4, 0xA8), *range(0xAA, 0xB0)))
"""Opcodes of string instructions (SDM volume 2, "REP/REPE/REPZ/REPNE/REPNZ")."""


class RealMode(StateFormat):
    """`init` and `final` with 16-bit registers (`final`: what changed) and `ram`; `flags_mask`: bits of the
    flags that are defined. `addresses`: those that the CPU has.

    Where a CPU `halts`, its rows execute a HLT behind the instruction, at its target, or at the handler of an
    exception, which `exc` tells.
    """

    halts: bool
    addresses: int

    def machine(self) -> VectorMachine:
        return VectorMachine(self.setup, 0, MEMORY, self.features, PORTS)

    def linear(self, registers: Mapping[str, int]) -> int:
        """The address of the instruction."""
        return ((registers["cs"] << 4) + registers["ip"]) & self.addresses

    def case(self, row: Row) -> Case | str:
        if row.get("exc", {}).get("n") == LIMIT and len(row["bytes"]) // 2 > LONGEST:
            return "instructions of more than 10 bytes"  # which later CPUs have
        before: dict[str, int] = row["init"]["regs"]
        after = {**before, **row["final"]["regs"]}
        ram = dict(row["init"]["ram"])
        code = bytes.fromhex(row["bytes"])
        if before["ip"] + len(code.removesuffix(HLT)) > MOST_CODE and "exc" not in row:
            return "an instruction across its segment's end"  # docs/engine.md, "Limits"
        known = row.get("flags_mask", 0xFFFF)
        flags = before["flags"]
        if self.halts:
            code = code.removesuffix(HLT)
            flags &= 0x0FFF  # bits 12 to 15 are 0 in real mode
            if opcode(code) != HLT:  # else it is the HLT that is tested
                after["ip"] = (after["ip"] - len(HLT)) & 0xFFFF
        registers = {**general(before), **segments(before), **flag_places(flags), OTHER_FLAGS: flags}
        trap = taken(row, before, after, ram)
        final = {place: (value, -1) for place, value in general(after).items()}
        final |= {place: (value, -1) for place, value in segments(after).items()}
        final |= {Place(f): (after["flags"] >> bit & 1, known >> bit & 1) for f, bit in FLAGS.items()}
        if trap is not None:  # the handler is entered by the machine, which the case doesn't have
            del final[Place("gpr", 4)], final[Place("seg_base", 1)], final[Place("selector", 1)]
            if trap == LIMIT and opcode(code) in STRINGS:
                # An 80286 has counted already; later ones leave the registers (volume 3, 6.5: faults)
                del final[Place("gpr", 1)], final[Place("gpr", 6)], final[Place("gpr", 7)]
            invalid, repeats = trap == INVALID, is_repeated(code)
            return Case(
                self.linear(before), code, registers, ram, final, trap=trap, invalid=invalid, repeats=repeats
            )
        final[OTHER_FLAGS] = (after["flags"], CONTROL & known)
        return Case(
            self.linear(before),
            code,
            registers,
            ram,
            final,
            final_memory={**ram, **dict(row["final"]["ram"])},
            all_memory=True,
            final_pc=self.linear(after),
            repeats=is_repeated(code),
        )


class Intel8086(RealMode):
    """An Intel P80C86A-2."""

    features = ()
    halts = False
    addresses = 0xF_FFFF


class Intel80286(RealMode):
    """A Harris 80C286, whose addresses do not wrap."""

    features = ("I186", "I286")
    halts = True
    addresses = 0xFF_FFFF


def general(registers: Mapping[str, int]) -> dict[Place, int]:
    """The general registers in the model's terms."""
    return {Place("gpr", i): registers[name] for i, name in enumerate(GENERAL)}


def segments(registers: Mapping[str, int]) -> dict[Place, int]:
    """The segments' selectors and bases (SDM volume 3, 20.1.1: 16 times the selector)."""
    selectors = {Place("selector", i): registers[name] for i, name in enumerate(SEGMENTS)}
    return selectors | {Place("seg_base", i): registers[name] << 4 for i, name in enumerate(SEGMENTS)}


def flag_places(flags: int) -> dict[Place, int]:
    """The flags that are registers of their own."""
    return {Place(name): flags >> bit & 1 for name, bit in FLAGS.items()}


def taken(
    row: Row, before: Mapping[str, int], after: Mapping[str, int], ram: Mapping[int, int]
) -> int | None:
    """The number of the interrupt or exception that was taken. The 8086's rows don't tell it: three words
    were pushed, and the row ends at an address that stands in the table at 0.
    """
    if "exc" in row:
        return int(row["exc"]["n"])
    if (before["sp"] - after["sp"]) & 0xFFFF != 6:
        return None
    entry = after["ip"].to_bytes(2, "little") + after["cs"].to_bytes(2, "little")
    vectors = (n for n in range(256) if all(ram.get(4 * n + i) == entry[i] for i in range(4)))
    return next(vectors, None)


def is_repeated(code: bytes) -> bool:
    """Whether it is a string instruction that repeats itself."""
    op = opcode(code)
    prefixes = code[: code.index(op)]
    return op in STRINGS and not {0xF2, 0xF3}.isdisjoint(prefixes)


def opcode(code: bytes) -> bytes:
    """The first byte behind the prefixes; none: nothing."""
    return next((bytes([byte]) for byte in code if byte not in PREFIXES), b"")
