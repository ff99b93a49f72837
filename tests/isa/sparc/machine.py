"""A SPARC made of the spec and the evaluator."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from generator.ir.evaluate import Completed, Evaluator, Faulted, NotAnInstruction, Trapped
from generator.ir.state import SparseMemory, reset_state
from generator.load import load_target
from generator.model.target import Target

SPECS = Path(__file__).resolve().parents[3] / "isa"
CODE = 0x1000
STACK = 0x8000
REGISTERS = {f"{kind}{n}": 8 * group + n for group, kind in enumerate("goli") for n in range(8)}


@cache
def target(name: str) -> Target:
    return load_target(SPECS, "sparc", name)


@cache
def evaluator(name: str) -> Evaluator:
    return Evaluator(target(name))


class Machine:
    """One CPU with code and stack. `name`: sparc or sparc64. ``cpu["o0"]`` is a register."""

    def __init__(self, name: str = "sparc") -> None:
        self.evaluator = evaluator(name)
        model = self.evaluator.target
        self.width = model.pc_width
        self.memory = SparseMemory(self.width)
        self.memory.map(CODE, 0x1000)
        self.memory.map(STACK - 0x4000, 0x4000)
        self.state = reset_state(model, self.memory)
        self.go(CODE)

    def go(self, pc: int, npc: int | None = None) -> None:
        """Continue at `pc`, and behind it at `npc`."""
        self.state.pc = pc
        self.state.contexts["npc"] = pc + 4 if npc is None else npc

    @property
    def pcs(self) -> tuple[int, int]:
        """pc and npc, from CODE."""
        return self.state.pc - CODE, self.evaluator.context(self.state, "npc") - CODE

    def __getitem__(self, name: str) -> int:
        return self.state.files["r"][REGISTERS[name]] if name in REGISTERS else self.state.registers[name]

    def __setitem__(self, name: str, value: int) -> None:
        if name in REGISTERS:
            self.state.files["r"][REGISTERS[name]] = value & (1 << self.width) - 1
        else:
            self.state.registers[name] = value

    def poke(self, *words: int) -> None:
        """Instructions from CODE on."""
        for number, word in enumerate(words):
            self.memory.poke(CODE + 4 * number, word.to_bytes(4))

    def step(self) -> Trapped | Faulted | NotAnInstruction | None:
        """One instruction; how it left if it did not complete."""
        outcome = self.evaluator.step(self.state)
        return None if isinstance(outcome, Completed) else outcome

    def execute(self, word: int) -> Trapped | Faulted | NotAnInstruction | None:
        """This instruction at CODE."""
        self.poke(word)
        self.go(CODE)
        return self.step()
