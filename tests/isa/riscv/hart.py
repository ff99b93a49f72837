"""A RISC-V hart made of the spec and the evaluator, for tests of what single instructions don't show."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from conformance.builtins import BUILTINS
from generator.ir.evaluate import Completed, Evaluator, Faulted, NotAnInstruction, Trapped
from generator.ir.state import ACCESS_CODES, SparseMemory
from generator.load import load_target
from generator.model.target import Target

SPECS = Path(__file__).resolve().parents[3] / "isa"
CODE = 0x8000_0000


@cache
def target(name: str) -> Target:
    return load_target(SPECS, "riscv", name)


class Hart:
    """One hart with 16 MiB of memory at CODE. `xlen`: 32 or 64; `features`: None for the target's own."""

    def __init__(self, xlen: int, features: Iterable[str] | None = None) -> None:
        self.xlen = xlen
        self.evaluator = Evaluator(target(f"riscv{xlen}"), BUILTINS, features, system=True)
        self.memory = SparseMemory()
        self.memory.map(CODE, 16 << 20)
        self.state = self.evaluator.reset(self.memory)
        self.state.pc = CODE
        # All of memory is open to all modes, as firmware would leave it.
        self.state.files["pmpaddr"][15] = (1 << (54 if xlen == 64 else 32)) - 1
        self.state.files["pmpcfg"][15] = 0x1F
        self["mstatus"] = 0

    def __getitem__(self, name: str) -> int:
        return self.state.registers[name]

    def __setitem__(self, name: str, value: int) -> None:
        assert name in self.state.registers
        self.state.registers[name] = value & (1 << self.xlen) - 1

    def csr(self, number: int) -> int:
        """What a CSR reads as."""
        result = self.evaluator.call(self.state, "csr_read", (number,))
        assert isinstance(result, tuple), result
        return result[0]

    def set_csr(self, number: int, value: int) -> None:
        result = self.evaluator.call(self.state, "csr_write", (number, value))
        assert result == (), result

    def poke(self, address: int, value: int, size: int = 8) -> None:
        self.memory.poke(address, value.to_bytes(size, "little"))

    def translate(self, address: int, access: str) -> int | tuple[str, int]:
        """The physical address (bit 63: for these bytes only), or the trap's name and value."""
        result = self.evaluator.call(self.state, "translate", (address, ACCESS_CODES[access]))  # type: ignore[index]
        if isinstance(result, Trapped):
            return result.trap, result.arguments[0]
        assert isinstance(result, tuple), result
        return result[0]

    def step(self, word: int | None = None) -> tuple[str, int] | None:
        """Execute one instruction (`word`, or what lies at pc). Delivers a trap: its name and value."""
        if word is not None:
            self.poke(self.state.pc, word, 4)
        outcome = self.evaluator.step(self.state)
        if isinstance(outcome, Completed):
            return None
        if isinstance(outcome, NotAnInstruction):
            size = 4 if outcome.data[0] & 3 == 3 else 2  # what an instruction of its kind would have
            pc = self.state.pc
            outcome = Trapped("illegal", 2, (int.from_bytes(self.memory.read(pc, size), "little"),))
        if isinstance(outcome, Faulted):
            raised = self.evaluator.call(
                self.state, "access_fault", (outcome.address, ACCESS_CODES[outcome.access])
            )
            assert isinstance(raised, Trapped)
            outcome = raised
        self.evaluator.deliver(self.state, outcome)
        return outcome.trap, outcome.arguments[0]
