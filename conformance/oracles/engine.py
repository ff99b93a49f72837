"""The built engine as an oracle."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from conformance.cases import Start
from conformance.corners import CODE, CODE_SIZE, DATA, DATA_SIZE, MEMORY_SIZE
from conformance.memory import code_area
from conformance.oracles.outcome import COMPLETED, Ending
from generator.ir.state import State
from runtime.cpu.engine import COUNTER, Cpu
from runtime.cpu.exits import Exit, Reason
from runtime.cpu.package import RegisterInfo, TargetPackage
from runtime.memory.regions import EXECUTE, READ, WRITE
from runtime.memory.space import AddressSpace

MASK64 = (1 << 64) - 1


class EngineMachine:
    """A CPU of a built target in user mode, with the cases' memory. `features`: those that are on."""

    def __init__(self, package: TargetPackage, features: tuple[str, ...]) -> None:
        self.package = package
        self.memory = AddressSpace()
        self.memory.map(DATA, DATA_SIZE, READ | WRITE)
        self.memory.map(DATA + DATA_SIZE, MEMORY_SIZE - DATA_SIZE, READ)
        self.memory.map(CODE, CODE_SIZE, READ | EXECUTE)
        self.cpu = Cpu(package, self.memory, features=features)
        size = len(self.cpu.state) // 8
        self._format = struct.Struct(f"={size}Q")
        self._slots = _slots(package.registers.values())
        self._ignored: dict[frozenset[str], list[tuple[int, int]]] = {}
        self._base = list(self._format.unpack(self.cpu.state))

    def put_code(self, address: int, code: bytes) -> None:
        """Put an instruction at `address`."""
        self.memory.write(CODE, code_area(address, code))

    def words(self, registers: Mapping[str, int], files: Mapping[str, list[int]]) -> list[int]:
        """The CPU block's register words for these registers; those that aren't named are as after reset."""
        words = list(self._base)
        for name, values in files.items():
            first, stride, _ = self._slots[name]
            if stride == 1:
                words[first : first + len(values)] = values
            else:
                end = first + 2 * len(values)
                words[first:end:2] = [value & MASK64 for value in values]
                words[first + 1 : end : 2] = [value >> 64 for value in values]
        for name, value in registers.items():
            place = self._slots.get(name)
            if place is not None:
                words[place[0]] = value & MASK64
                if place[1] == 2:
                    words[place[0] + 1] = value >> 64
        return words

    def run(self, start: Start, pattern: bytes) -> tuple[Ending, list[int], bytes]:
        """How the instruction at `start.pc` ended, the register words after it, and the data area's
        contents.
        """
        self.memory.write(DATA, pattern)
        cpu = self.cpu
        words = self.words({**start.registers, **start.contexts}, start.files)
        cpu.state[:] = self._format.pack(*words)
        cpu.pc = start.pc
        if COUNTER in self.package.registers:
            cpu.set(COUNTER, start.registers[COUNTER])
        if "npc" in start.contexts:
            cpu.next_pc = start.contexts["npc"]
        stop = cpu.run(1)
        found = list(self._format.unpack(cpu.state))
        return self._ending(stop), found, self.memory.read(DATA, MEMORY_SIZE)

    def _ending(self, stop: Exit) -> Ending:
        if stop.reason in (
            Reason.BUDGET,
            Reason.WAITING,
        ):  # waiting: the instruction is done, the next one isn't due
            return COMPLETED
        if stop.reason is Reason.TRAP:
            return Ending("trap", self.package.traps[stop.trap], stop.code, stop.arguments)
        if stop.reason is Reason.FAULT:
            return Ending("fault", arguments=(stop.address, stop.access))
        return Ending("other", stop.reason.name)

    def differences(
        self, expected: State, found: list[int], ignore: frozenset[str]
    ) -> dict[str, tuple[int, int]]:
        """Registers that differ: name -> (expected, found). pc and npc too."""
        words = self.words({**expected.registers, **expected.contexts}, expected.files)
        result: dict[str, tuple[int, int]] = {}
        for first, end in self._places(ignore):
            words[first:end] = found[first:end]
        if words != found:
            for name, (first, stride, count) in self._slots.items():
                for i in range(count or 1):
                    at = first + i * stride
                    pair = tuple(w[at] | (w[at + 1] << 64 if stride == 2 else 0) for w in (words, found))
                    if pair[0] != pair[1]:
                        result[name if count is None else f"{name}[{i}]"] = pair[0], pair[1]
        if expected.pc != self.cpu.pc:
            result["pc"] = expected.pc, self.cpu.pc
        npc = expected.contexts.get("npc")
        if npc is not None and npc != self.cpu.next_pc:
            result["npc"] = npc, self.cpu.next_pc
        return result

    def _places(self, ignore: frozenset[str]) -> list[tuple[int, int]]:
        """Where the register words begin and end that aren't compared: `ignore`'s, and npc's, whose value is
        in the block's header.
        """
        if ignore not in self._ignored:
            slots = [slot for name, slot in self._slots.items() if name in ignore or name == "npc"]
            self._ignored[ignore] = [(first, first + stride * (count or 1)) for first, stride, count in slots]
        return self._ignored[ignore]


def _slots(registers: object) -> dict[str, tuple[int, int, int | None]]:
    """Register -> first word in the block, words an entry, entries (None: a single register)."""
    found: dict[str, tuple[int, int, int | None]] = {}
    for register in registers:  # type: ignore[attr-defined]
        assert isinstance(register, RegisterInfo)
        found[register.name] = register.offset // 8, register.stride // 8, register.count
    return found
