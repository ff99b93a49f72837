"""Runs recorded instructions on the evaluator and on the built engine at once, so that a row tests both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from conformance.builtins import BUILTINS
from conformance.oracles.evaluated import ending
from conformance.oracles.outcome import COMPLETED, Ending
from conformance.setup import Setup, all_features
from generator.ir.evaluate import Completed, Evaluator
from generator.ir.state import SparseMemory
from runtime.cpu.engine import Cpu
from runtime.cpu.exits import Reason
from runtime.memory.space import AddressSpace

PAGE = 4096


@dataclass(frozen=True)
class Place:
    """A register by its name in the model: an entry of a file, or a single register."""

    name: str
    index: int | None = None


@dataclass(frozen=True)
class After:
    """A machine's state after a row: how it ended, registers by place, and memory bytes."""

    who: str
    ending: Ending
    registers: Mapping[Place, int]
    pc: int
    memory: Mapping[int, int]


class VectorMachine:
    """The evaluator and the engine of a target, in user mode over one area of memory."""

    def __init__(self, setup: Setup, base: int, size: int) -> None:
        self.model = setup.model
        self.features = all_features(self.model)
        self.evaluator = Evaluator(self.model, BUILTINS, self.features)
        self.base, self.size = base, size
        self.space = AddressSpace()
        self.space.map(base, size)
        self.cpu = Cpu(setup.package, self.space, features=self.features)
        self._touched: set[int] = set()

    def run(
        self,
        pc: int,
        memory: Mapping[int, int],
        registers: Mapping[Place, int],
        steps: int,
        wanted: list[Place],
    ) -> list[After]:
        """Run `steps` instructions from `pc` on, from the reset state with `registers` and memory bytes as
        given.

        Both machines' states: `wanted` registers, and the bytes of memory that aren't 0.
        """
        return [
            self._evaluate(pc, memory, registers, steps, wanted),
            self._engine(pc, memory, registers, steps, wanted),
        ]

    def _evaluate(
        self,
        pc: int,
        memory: Mapping[int, int],
        registers: Mapping[Place, int],
        steps: int,
        wanted: list[Place],
    ) -> After:
        sparse = SparseMemory(self.model.pc_width)
        sparse.map(self.base, self.size)
        sparse.bytes.update(memory)
        state = self.evaluator.reset(sparse)
        for place, value in registers.items():
            if place.index is None:
                state.registers[place.name] = value
            else:
                state.files[place.name][place.index] = value
        state.pc = pc
        end = COMPLETED
        for _ in range(steps):
            outcome = self.evaluator.step(state)
            if not isinstance(outcome, Completed):
                end = ending(outcome)
                break
        found = {
            p: state.registers[p.name] if p.index is None else state.files[p.name][p.index] for p in wanted
        }
        return After("evaluator", end, found, state.pc, {a: b for a, b in sparse.bytes.items() if b})

    def _engine(
        self,
        pc: int,
        memory: Mapping[int, int],
        registers: Mapping[Place, int],
        steps: int,
        wanted: list[Place],
    ) -> After:
        cpu = self.cpu
        for page in self._touched:
            self.space.write(page, bytes(PAGE))
        self._touched = {address // PAGE * PAGE for address in memory} | {self.base}
        for address, byte in memory.items():
            self.space.write(address, bytes([byte]))
        cpu.reset()
        for place, value in registers.items():
            cpu.set(named(place), value)
        cpu.pc = pc
        stop = cpu.run(steps)
        if stop.reason in (Reason.BUDGET, Reason.WAITING):
            end = COMPLETED
        elif stop.reason is Reason.TRAP:
            end = Ending("trap", cpu.package.traps[stop.trap], stop.code, stop.arguments)
        elif stop.reason is Reason.FAULT:
            end = Ending("fault", arguments=(stop.address, stop.access))
        else:
            end = Ending("other", stop.reason.name)
        found = {place: cpu.get(named(place)) for place in wanted}
        area = self.space.read(self.base, self.size)
        nonzero = self._nonzero(area)
        self._touched |= {address // PAGE * PAGE for address in nonzero}
        return After("engine", end, found, stop.pc, nonzero)

    def _nonzero(self, area: bytes) -> dict[int, int]:
        found = {}
        for start in range(0, len(area), PAGE):
            page = area[start : start + PAGE]
            if page.count(0) != PAGE:
                found.update({self.base + start + i: byte for i, byte in enumerate(page) if byte})
        return found


def named(place: Place) -> str:
    """The engine's name of a place."""
    return place.name if place.index is None else f"{place.name}[{place.index}]"
