"""Whether two encodings do the same: both are executed by the evaluator from the same random states."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final

from conformance.builtins import BUILTINS
from conformance.setup import Setup, all_features
from generator.ir.evaluate import Evaluator
from generator.ir.state import SparseMemory, stored_width

STATES: Final = 6
"""Random states from which they are compared."""
MODE_REGISTERS: Final = {"thumb": "t", "mode": "code_size", "fp": "fs_on"}
"""The registers behind decode contexts."""


class Effects:
    """Compares encodings of a target in a mode (`contexts`)."""

    def __init__(self, setup: Setup, contexts: Mapping[str, int]) -> None:
        self.evaluator = Evaluator(setup.model, BUILTINS, all_features(setup.model))
        self.contexts = contexts

    def same(self, first: bytes, second: bytes, pc: int) -> bool:
        """Whether two instructions at `pc` have the same effects, and each goes on behind itself or to the
        same place.
        """
        return all(self._after(first, pc, seed) == self._after(second, pc, seed) for seed in range(STATES))

    def _after(self, code: bytes, pc: int, seed: int) -> tuple[object, ...]:
        model = self.evaluator.target
        memory = SparseMemory(model.pc_width)
        memory.map(0, 1 << model.pc_width)
        memory.poke(pc, code)
        state = self.evaluator.reset(memory)
        random = Random(seed)
        for register in model.registers:
            if register.hidden or register.name == "pc":
                continue
            width = stored_width(register)
            if register.count is None:
                if width == 1 or register.lazy is not None:  # flags; what else is single steers the machine
                    state.registers[register.name] = random.getrandbits(width)
                continue
            for index in range(register.count):
                if index != register.zero:
                    state.files[register.name][index] = random.getrandbits(width)
        for name, value in self.contexts.items():
            state.registers[MODE_REGISTERS[name]] = value
        state.pc = pc
        outcome = self.evaluator.step(state)
        memory.bytes = {address: byte for address, byte in memory.bytes.items() if byte}
        for at in range(len(code)):
            memory.bytes.pop(pc + at & memory.address_mask, None)
        if state.pc == pc + len(code) & memory.address_mask:
            state.pc = -1
        return outcome, state.registers, state.files, state.contexts, memory.bytes
