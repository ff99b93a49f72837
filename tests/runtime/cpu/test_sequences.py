"""Random programs of real targets: delay slots, guards, contexts, prefixes in sequence. See `sequences`."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.builtins import BUILTINS
from generator.ir.evaluate import Evaluator, Faulted, NotAnInstruction, Trapped
from generator.ir.state import SparseMemory, reset_state
from generator.load import load_target as load_model
from runtime.cpu.engine import load_target
from runtime.cpu.exits import Reason
from tests.runtime.cpu.sequences import CODE, Sequences

ISA = Path(__file__).resolve().parents[3] / "isa"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "name"),
    [("riscv", "riscv64"), ("sparc", "sparc"), ("ppc", "ppc64le"), ("arm", "arm"), ("x86", "x86_64")],
)
def test_random_programs(built: Callable[[str], Path], family: str, name: str) -> None:
    sequences = Sequences(load_model(ISA, family, name), load_target(built(name)))
    executed = sum(sequences.check(seed, 100) for seed in range(150))
    assert executed > 300


@pytest.mark.slow
def test_random_programs_in_machine_mode(built: Callable[[str], Path]) -> None:
    """RISC-V from reset, traps delivered by the spec, step by step; illegal instructions included."""
    sequences = Sequences(load_model(ISA, "riscv", "riscv64"), load_target(built("riscv64")))
    machine = Evaluator(sequences.target, BUILTINS, system=True)
    for seed in range(60):
        choose = random.Random(seed)
        start = sequences.start(choose)
        vector = CODE + 4 * choose.randrange(100)
        start.registers = {**reset_state(sequences.target, SparseMemory()).registers, "mtvec": vector}
        del start.registers["pc"]
        start.files = {"x": start.files["x"]}
        state, cpu = sequences.state(start), sequences.cpu(start, system=True)
        for step in range(100):
            outcome = machine.step(state)
            if isinstance(outcome, NotAnInstruction):
                size = 4 if state.memory.read(state.pc, 1, "fetch")[0] & 3 == 3 else 2
                bits = int.from_bytes(state.memory.read(state.pc, size, "fetch"), "little")
                outcome = Trapped("illegal", 2, (bits,))
            if isinstance(outcome, Faulted):
                break
            if isinstance(outcome, Trapped):
                machine.deliver(state, outcome)
            if cpu.step().reason is Reason.WAITING:
                cpu.set("waiting", 0)
                state.registers["waiting"] = 0
            where = f"seed {seed}, step {step}, {outcome}"
            assert sequences.registers(cpu) == sequences.values(state), where
