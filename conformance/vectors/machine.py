"""Runs recorded instructions on the evaluator and on the built engine at once, so that a row tests both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from conformance.builtins import BUILTINS
from conformance.oracles.evaluated import ending
from conformance.oracles.outcome import COMPLETED, Ending
from conformance.setup import Setup, all_features
from generator.ir.evaluate import Completed, Evaluator
from generator.ir.state import Access, SparseMemory
from runtime.cpu.engine import Cpu
from runtime.cpu.exits import Reason
from runtime.memory.space import AddressSpace

PAGE = 4096


class PortMemory(SparseMemory):
    """Memory in whose range `ports` nothing answers: all ones are read there, and what is written is lost."""

    def __init__(self, ports: range) -> None:
        super().__init__()
        self.ports = ports

    def read(self, address: int, size: int, access: Access = "read") -> bytes:
        return b"\xff" * size if address in self.ports else super().read(address, size, access)

    def write(self, address: int, data: bytes) -> None:
        if address not in self.ports:
            super().write(address, data)

    def check(self, address: int, size: int, access: Access) -> None:
        if address not in self.ports:
            super().check(address, size, access)


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


@dataclass(frozen=True)
class Before:
    """A machine's state before a row; registers and memory bytes that aren't told are as after a reset."""

    pc: int
    registers: Mapping[Place, int]
    memory: Mapping[int, int]


class VectorMachine:
    """The evaluator and the engine of a target, in user mode over one area of memory, or (if `size` is 0)
    over the pages of each row's bytes. `features`: those that are on (None: all). `ports`: physical addresses
    of whole pages at which there are ports without devices.
    """

    def __init__(
        self,
        setup: Setup,
        base: int = 0,
        size: int = 0,
        features: tuple[str, ...] | None = None,
        ports: range = range(0),
    ) -> None:
        self.model = setup.model
        self.features = all_features(self.model) if features is None else features
        self.evaluator = Evaluator(self.model, BUILTINS, self.features)
        self._scratch = self.evaluator.reset(SparseMemory(self.model.pc_width))
        self.space = AddressSpace()
        self.cpu = Cpu(setup.package, self.space, features=self.features)
        self._fixed = range(base, base + size, PAGE) if size else None
        self._ports = ports
        if size:
            self.space.map(base, size)
        if ports:
            self.space.map(ports.start, len(ports))
        self._mapped: set[int] = set()
        self._touched: set[int] = set()

    def run(self, before: Before, steps: int, wanted: list[Place], repeats: bool = False) -> list[After]:
        """Run `steps` instructions from the state `before` on. `repeats`: only until one doesn't repeat
        itself any more.

        Both machines' states: `wanted` registers, and the bytes of memory that aren't 0. Of flags that are
        stored as what they are computed from, registers before and after are the flags.
        """
        stored = {place: self._stored(place, value) for place, value in before.registers.items()}
        before = replace(before, registers=stored)
        evaluated, taken = self._evaluate(before, steps, wanted, repeats)
        return [evaluated, self._engine(before, taken, wanted)]

    def _stored(self, place: Place, value: int) -> int:
        """What is stored for a lazy flag to have that value: 0, or one bit."""
        register = self.evaluator.registers[place.name]
        if register.lazy is None:
            return value
        width = register.lazy.argument.width
        candidates = (0, *(1 << bit for bit in range(width)))
        return next(stored for stored in candidates if self._visible(place, stored) == value)

    def _visible(self, place: Place, stored: int) -> int:
        """The value of a register that holds `stored`."""
        register = self.evaluator.registers[place.name]
        if register.lazy is None:
            return stored
        state = self._scratch
        state.registers[place.name] = stored
        return self.evaluator.read(state, place.name, place.index, register.lazy.definition.width)

    def _evaluate(self, before: Before, steps: int, wanted: list[Place], repeats: bool) -> tuple[After, int]:
        sparse = PortMemory(self._ports) if self._ports else SparseMemory(self.model.pc_width)
        if self._fixed is not None:
            sparse.map(self._fixed.start, len(self._fixed) * PAGE)
        for page in pages(before.memory) if self._fixed is None else ():
            sparse.map(page, PAGE)
        sparse.bytes.update(before.memory)
        state = self.evaluator.reset(sparse)
        for place, value in before.registers.items():
            if place.index is None:
                state.registers[place.name] = value
            else:
                state.files[place.name][place.index] = value
        state.pc = before.pc
        end = COMPLETED
        taken = 0
        while taken < steps and not (repeats and taken and state.pc != before.pc):
            taken += 1
            outcome = self.evaluator.step(state)
            if not isinstance(outcome, Completed):
                end = ending(outcome)
                break
        found = {
            p: state.registers[p.name] if p.index is None else state.files[p.name][p.index] for p in wanted
        }
        seen = {place: self._visible(place, value) for place, value in found.items()}
        nonzero = {a: b for a, b in sparse.bytes.items() if b}
        return After("evaluator", end, seen, state.pc, nonzero), taken

    def _engine(self, before: Before, steps: int, wanted: list[Place]) -> After:
        cpu = self.cpu
        self._clear(pages(before.memory))
        for address, byte in before.memory.items():
            self.space.write(address, bytes([byte]))
        cpu.reset()
        for place, value in before.registers.items():
            cpu.set(named(place), value)
        cpu.pc = before.pc
        stop = cpu.run(steps)
        if stop.reason in (Reason.BUDGET, Reason.WAITING):
            end = COMPLETED
        elif stop.reason is Reason.TRAP:
            end = Ending("trap", cpu.package.traps[stop.trap], stop.code, stop.arguments)
        elif stop.reason is Reason.FAULT:
            end = Ending("fault", arguments=(stop.address, stop.access))
        else:
            end = Ending("other", stop.reason.name)
        found = {place: self._visible(place, cpu.get(named(place))) for place in wanted}
        nonzero = self._nonzero()
        return After("engine", end, found, stop.pc, nonzero)

    def _clear(self, wanted: set[int]) -> None:
        """Zero the memory, and map the pages that are wanted."""
        for page in self._touched:
            self.space.write(page, bytes(PAGE))
        if self._ports:
            self.space.write(self._ports.start, b"\xff" * len(self._ports))
        self._touched = set(wanted)
        if self._fixed is None:
            for page in self._mapped - wanted:
                self.space.unmap(page, PAGE)
            for page in wanted - self._mapped:
                self.space.map(page, PAGE)
            self._mapped = set(wanted)
            self._touched = set(wanted)

    def _nonzero(self) -> dict[int, int]:
        """The bytes that aren't 0."""
        found = {}
        for start in self._fixed if self._fixed is not None else self._mapped:
            page = self.space.read(start, PAGE)
            if page.count(0) != PAGE:
                self._touched.add(start)
                found.update({start + i: byte for i, byte in enumerate(page) if byte})
        return found


def pages(memory: Mapping[int, int]) -> set[int]:
    """The pages of these bytes."""
    return {address // PAGE * PAGE for address in memory}


def named(place: Place) -> str:
    """The engine's name of a place."""
    return place.name if place.index is None else f"{place.name}[{place.index}]"
