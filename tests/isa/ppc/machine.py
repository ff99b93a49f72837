"""A PowerPC made of the spec and the evaluator."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from generator.ir.evaluate import Completed, Evaluator, Faulted, NotAnInstruction, Trapped
from generator.ir.state import SparseMemory, State, reset_state
from generator.load import load_target
from generator.model.target import Target

SPECS = Path(__file__).resolve().parents[3] / "isa"
CODE = 0x1000
DATA = 0x8000
SF_OFF = 0x4000  # MSR with PR only


@cache
def target(name: str) -> Target:
    return load_target(SPECS, "ppc", name)


@cache
def evaluator(name: str) -> Evaluator:
    return Evaluator(target(name))


def set_xer(state: State, value: int) -> None:
    """XER from its word: SO, OV, CA and the string length."""
    for name, bit in (("so", 31), ("ov", 30), ("ca", 29)):
        state.registers[name] = value >> bit & 1
    state.registers["strlen"] = value & 0x7F


def xer(state: State) -> int:
    """XER as mfxer reads it."""
    registers = state.registers
    return registers["so"] << 31 | registers["ov"] << 30 | registers["ca"] << 29 | registers["strlen"]


def set_cr(state: State, value: int) -> None:
    state.files["crb"] = [value >> (31 - bit) & 1 for bit in range(32)]


def cr(state: State) -> int:
    return sum(bit << (31 - number) for number, bit in enumerate(state.files["crb"]))


class Machine:
    """One CPU with a page of code and four of data. `target`: ppc, ppc64 or ppc64le."""

    def __init__(self, name: str = "ppc") -> None:
        self.evaluator = evaluator(name)
        model = self.evaluator.target
        self.mask = (1 << model.pc_width) - 1
        self.code_order = "big" if model.big_endian else "little"
        self.memory = SparseMemory(model.pc_width)
        self.memory.map(CODE, 0x1000)
        self.memory.map(DATA, 0x4000)
        self.state = reset_state(model, self.memory)
        self.state.pc = CODE
        self.r = self.state.files["r"]

    def __getitem__(self, name: str) -> int:
        return (
            {"cr": cr, "xer": xer}[name](self.state) if name in ("cr", "xer") else self.state.registers[name]
        )

    def __setitem__(self, name: str, value: int) -> None:
        if name == "cr":
            set_cr(self.state, value)
        elif name == "xer":
            set_xer(self.state, value)
        else:
            self.state.registers[name] = value

    def run(self, *words: int) -> Trapped | Faulted | NotAnInstruction | None:
        """Execute these words from CODE on; how the first one left that did not complete."""
        for number, word in enumerate(words):
            self.memory.poke(CODE + 4 * number, word.to_bytes(4, self.code_order))  # type: ignore[arg-type]
        self.state.pc = CODE
        for _ in words:
            outcome = self.evaluator.step(self.state)
            if not isinstance(outcome, Completed):
                return outcome
        return None
