"""The evaluator as a whole machine: RISC-V's own specs translate addresses, protect memory and take traps."""

from __future__ import annotations

from pathlib import Path

import pytest

from generator.ir.evaluate import Completed, Evaluator, Trapped
from generator.ir.state import SparseMemory, State
from generator.load import load_target
from generator.model.target import Target

SPECS = Path(__file__).resolve().parents[3] / "isa"
MACHINE, SUPERVISOR, USER = 3, 1, 0
V, R, W, X, U, A, D = (1 << i for i in (0, 1, 2, 3, 4, 6, 7))
RAM = 0x8000_0000
TABLE = RAM + 0x10000
LD = 0x0005B503  # ld a0, 0(a1)
SD = 0x00A5B023  # sd a0, 0(a1)


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target(SPECS, "riscv", "riscv64")


class Machine:
    """Supervisor mode with Sv39: code at RAM mapped to itself, data pages by `page`."""

    def __init__(self, target: Target) -> None:
        self.evaluator = Evaluator(target, system=True)
        self.memory = SparseMemory(64)
        self.memory.map(RAM, 0x20000)
        self.state: State = self.evaluator.reset(self.memory)
        self.state.registers.update(priv=SUPERVISOR, satp=8 << 60 | TABLE >> 12, mtvec=RAM + 0x100)
        self.state.files["pmpcfg"][0] = 0x1F  # everything, by one NAPOT entry
        self.state.files["pmpaddr"][0] = (1 << 54) - 1
        self.state.pc = RAM
        self.tables = 1
        self.page(RAM, RAM, V | R | X | A)

    def page(self, virtual: int, physical: int, flags: int) -> None:
        table = TABLE
        for level in (2, 1):
            place = table + 8 * (virtual >> (12 + 9 * level) & 511)
            entry = int.from_bytes(self.memory.read(place, 8), "little")
            if not entry:
                entry = (TABLE + 0x1000 * self.tables) >> 12 << 10 | V
                self.tables += 1
                self.memory.poke(place, entry.to_bytes(8, "little"))
            table = entry >> 10 << 12
        place = table + 8 * (virtual >> 12 & 511)
        self.memory.poke(place, (physical >> 12 << 10 | flags).to_bytes(8, "little"))

    def run(self, word: int, address: int, value: int = 0) -> object:
        self.memory.poke(RAM, word.to_bytes(4, "little"))
        self.state.pc = RAM
        self.state.files["x"][10] = value
        self.state.files["x"][11] = address
        return self.evaluator.step(self.state)


@pytest.fixture
def machine(target: Target) -> Machine:
    return Machine(target)


def test_translated_accesses(machine: Machine) -> None:
    machine.page(0x4000, RAM + 0x5000, V | R | W | A | D)
    machine.memory.poke(RAM + 0x5008, (0x1122334455667788).to_bytes(8, "little"))
    assert machine.run(LD, 0x4008) == Completed()
    assert machine.state.files["x"][10] == 0x1122334455667788
    assert machine.run(SD, 0x4010, 5) == Completed()
    assert machine.memory.read(RAM + 0x5010, 8) == (5).to_bytes(8, "little")
    assert machine.state.registers["instret"] == 2


@pytest.mark.parametrize(
    ("flags", "word", "trap"),
    [
        (0, LD, "load_page"),
        (V | R | A, SD, "store_page"),
        (V | R | W | A, SD, "store_page"),  # not dirty
        (V | R | W | D, LD, "load_page"),  # not accessed
        (V | R | W | A | D | U, LD, "load_page"),  # the user's, without SUM
        (V | W | A | D, LD, "load_page"),  # reserved
    ],
)
def test_page_faults(machine: Machine, flags: int, word: int, trap: str) -> None:
    machine.page(0x4000, RAM + 0x5000, flags)
    outcome = machine.run(word, 0x4008, 7)
    assert isinstance(outcome, Trapped)
    assert (outcome.trap, outcome.arguments) == (trap, (0x4008,))
    assert machine.state.pc == RAM
    assert machine.memory.read(RAM + 0x5008, 8) == bytes(8)


def test_an_access_over_two_pages_changes_nothing_where_the_second_faults(machine: Machine) -> None:
    machine.page(0x4000, RAM + 0x5000, V | R | W | A | D)
    outcome = machine.run(SD, 0x4FFC, (1 << 64) - 1)
    assert isinstance(outcome, Trapped) and outcome.arguments == (0x5000,)
    assert machine.memory.read(RAM + 0x5FFC, 4) == bytes(4)
    machine.page(0x5000, RAM + 0x2000, V | R | W | A | D)
    assert machine.run(SD, 0x4FFC, (1 << 64) - 1) == Completed()
    assert machine.memory.read(RAM + 0x5FFC, 4) + machine.memory.read(RAM + 0x2000, 4) == b"\xff" * 8


def test_nothing_behind_the_address(machine: Machine) -> None:
    """A page whose memory doesn't exist; a page table that doesn't."""
    machine.page(0x4000, 0x1000, V | R | W | A | D)
    outcome = machine.run(LD, 0x4010)
    assert isinstance(outcome, Trapped) and (outcome.trap, outcome.arguments) == ("load_access", (0x4010,))
    machine.memory.poke(TABLE + 8, (0x5000 >> 12 << 10 | V).to_bytes(8, "little"))
    outcome = machine.run(SD, (1 << 30) + 0x123)
    assert isinstance(outcome, Trapped)
    assert (outcome.trap, outcome.arguments) == ("store_access", ((1 << 30) + 0x123,))


def test_memory_protection_that_divides_a_page(machine: Machine) -> None:
    """Entry 0 forbids the 4 bytes at 0x...5010, also to an access that only ends there."""
    machine.page(0x4000, RAM + 0x5000, V | R | W | A | D)
    machine.state.files["pmpcfg"][:2] = [0x10, 0x1F]  # NA4 without permissions, then everything
    machine.state.files["pmpaddr"][:2] = [(RAM + 0x5010) >> 2, (1 << 54) - 1]
    assert machine.run(LD, 0x4008) == Completed()
    for address in (0x4010, 0x400C):
        outcome = machine.run(LD, address)
        assert isinstance(outcome, Trapped) and outcome.trap == "load_access"


def test_fetches_are_translated_too(machine: Machine) -> None:
    machine.state.pc = 0x4000
    outcome = machine.evaluator.step(machine.state)
    assert isinstance(outcome, Trapped) and (outcome.trap, outcome.arguments) == ("fetch_page", (0x4000,))


def test_taking_the_trap(machine: Machine) -> None:
    outcome = machine.run(LD, 0x7777)
    assert isinstance(outcome, Trapped)
    assert machine.evaluator.deliver(machine.state, outcome) == ()
    registers = machine.state.registers
    assert (registers["pc"], registers["mepc"], registers["mcause"], registers["mtval"]) == (
        RAM + 0x100,
        RAM,
        13,
        0x7777,
    )
    assert registers["priv"] == MACHINE
