"""RISC-V state rows: one instruction, registers in and out, and notes on memory (valgrind's test
programs).
"""

from __future__ import annotations

from conformance.vectors.machine import Place, VectorMachine
from conformance.vectors.reader import Row
from conformance.vectors.states import Case, StateFormat

CODE = 0x8000_0000
AREA = 0x8010_0000
NAMES = [
    "zero",
    "ra",
    "sp",
    "gp",
    "tp",
    "t0",
    "t1",
    "t2",
    "s0",
    "s1",
    "a0",
    "a1",
    "a2",
    "a3",
    "a4",
    "a5",
    "a6",
    "a7",
    "s2",
    "s3",
    "s4",
    "s5",
    "s6",
    "s7",
    "s8",
    "s9",
    "s10",
    "s11",
    "t3",
    "t4",
    "t5",
    "t6",
]
FLOATS = [
    "ft0",
    "ft1",
    "ft2",
    "ft3",
    "ft4",
    "ft5",
    "ft6",
    "ft7",
    "fs0",
    "fs1",
    "fa0",
    "fa1",
    "fa2",
    "fa3",
    "fa4",
    "fa5",
    "fa6",
    "fa7",
    "fs2",
    "fs3",
    "fs4",
    "fs5",
    "fs6",
    "fs7",
    "fs8",
    "fs9",
    "fs10",
    "fs11",
    "ft8",
    "ft9",
    "ft10",
    "ft11",
]


class Valgrind(StateFormat):
    """none/tests/riscv64: `in` and `out` by register, ``[offset] bytes`` notes on memory around
    ``&area_mid``.
    """

    def machine(self) -> VectorMachine:
        return VectorMachine(self.setup, CODE, 2 << 20)

    def case(self, row: Row) -> Case | str:
        inputs = {k: AREA if v == "&area_mid" else v for k, v in row.get("in", {}).items()}
        outputs = row.get("out", {})
        notes = row.get("notes", [])
        values = (*inputs.values(), *outputs.values())
        if "bytes" not in row or not all(isinstance(v, int) or v.startswith("0x") for v in values):
            return "hidden inputs"
        if any("target" in note or "branch" in note for note in notes):
            return "addresses in the recording program"
        mnemonic = row["asm"].split()[0].removeprefix("c.")
        if AREA in inputs.values() and not mnemonic.startswith(("s", "fs")):
            return "hidden inputs"
        registers = {Place("fs_on"): 1}
        for name, value in inputs.items():
            registers.update(places(name, value if isinstance(value, int) else int(value, 16)))
        if mnemonic.startswith("sc") and notes:  # it stored: after a load-reserved
            registers.update({Place("reserved"): 1, Place("reservation"): AREA})
        final: dict[Place, tuple[int, int]] = {}
        for name, value in outputs.items():
            for place, number in places(name, int(value, 16)).items():
                final[place] = number, -1
        memory = {}
        for note in notes:
            if note.startswith("["):
                offset, _, contents = note[1:].partition("]")
                for i, byte in enumerate(contents.split()):
                    if byte != "..":
                        memory[AREA + int(offset) + i] = int(byte, 16)
        return Case(CODE, bytes.fromhex(row["bytes"]), registers, {}, final, memory)


def places(name: str, value: int) -> dict[Place, int]:
    """A register's name and value in the model's terms; `zero` is none."""
    if name == "fcsr":
        return {Place("fflags"): value & 31, Place("frm"): value >> 5 & 7}
    if name in FLOATS:
        return {Place("f", FLOATS.index(name)): value}
    return {} if name == "zero" else {Place("x", NAMES.index(name)): value}
