"""State rows: what a format has to tell, and how a case of it is checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from conformance.known import matching
from conformance.results import Failure, Row
from conformance.setup import Setup
from conformance.tasks import Task
from conformance.vectors import reader
from conformance.vectors.decoding import repeat
from conformance.vectors.machine import After, Before, Place, VectorMachine
from runtime.assembly.disassembler import Disassembler

VECTOR: Final = 0xFF
"""The bits of a trap's code that number it; what is above tells more of it."""
REPETITIONS: Final = 4096
"""Steps of an instruction that repeats itself after which it is given up."""


@dataclass(frozen=True)
class Case:
    """Instructions at `pc` with registers and memory before, and what has to hold afterwards.

    `final`: value and mask of each register told; `final_memory`: bytes told (`all_memory`: all that aren't
    0). `steps` instructions are executed; one that `repeats` itself is, as often as it does. `trap`: the
    number of the trap that it ends in, before anything else that it does; `invalid`: that of what is no
    instruction. `contexts`: what a disassembler has to be told.
    """

    pc: int
    code: bytes
    registers: dict[Place, int]
    memory: dict[int, int]
    final: dict[Place, tuple[int, int]]
    final_memory: dict[int, int] = field(default_factory=dict)
    all_memory: bool = False
    steps: int = 1
    repeats: bool = False
    final_pc: int | None = None
    contexts: Mapping[str, int] = field(default_factory=dict)
    trap: int | None = None
    invalid: bool = False


class StateFormat(ABC):
    """A file format with results of instructions. `features`: what the CPU that they are of has (None:
    all).
    """

    features: tuple[str, ...] | None = None

    def __init__(self, task: Task) -> None:
        self.task = task
        self.setup: Setup = task.setup

    @abstractmethod
    def machine(self) -> VectorMachine:
        """The machine that runs the cases."""

    @abstractmethod
    def case(self, row: reader.Row) -> Case | str:
        """The case of a row, or why there is none."""

    @cached_property
    def _disassembler(self) -> Disassembler:
        features = None if self.features is None else frozenset(self.features)
        return Disassembler(self.setup.syntax, features=features)

    @cached_property
    def _machine(self) -> VectorMachine:
        return self.machine()

    def described(self, case: Case) -> bool:
        """Whether the target has the instructions of a case: our disassembler takes all of them."""
        at = 0
        for _ in range(case.steps):
            line = self._disassembler.line(case.code[at:], case.pc + at, case.contexts)
            if line.form is None:
                return False
            at += line.length
        return True

    def check(self, row: Row, data: reader.Row) -> None:
        """Check one row of the file, and count it in `row`."""
        case = self.case(data)
        if isinstance(case, str):
            row.count(case)
            return
        if not case.invalid and not self.described(case):
            row.count("not described")
            return
        row.cases += 1
        memory = dict(case.memory)
        memory.update({case.pc + i: byte for i, byte in enumerate(case.code)})
        steps = REPETITIONS if case.repeats else case.steps
        before = Before(case.pc, case.registers, memory)
        afters = self._machine.run(before, steps, list(case.final), case.repeats)
        lines = [line for after in afters for line in self.differences(case, after)]
        if not lines:
            return
        expected = matching("vectors", self.setup.target, data["id"])
        if expected:
            row.count("expected")
            row.notes.append(f"{data['id']}: {expected[0].reason}")
            return
        asm: Any = data.get("asm", data.get("mnem", ""))
        text = f"{data['id']}: {asm if isinstance(asm, str) else '; '.join(asm)}"
        row.fail(Failure("recorded results", text, tuple(lines[:10]), repeat(self.task, row)))

    @staticmethod
    def differences(case: Case, after: After) -> list[str]:
        """How a machine's state differs from what was recorded."""
        lines = []
        if case.trap is not None:
            illegal = after.ending.kind == "illegal" or after.ending.name == "invalid_opcode"
            taken = after.ending.code & VECTOR if after.ending.kind == "trap" else None
            if taken != case.trap and not (illegal and case.invalid):
                return [f"{after.who}: {after.ending}, recorded trap {case.trap}"]
        elif after.ending.kind != "completed":
            return [f"{after.who}: {after.ending}"]
        for place, (value, mask) in case.final.items():
            found = after.registers[place]
            if (found ^ value) & mask:
                name = place.name if place.index is None else f"{place.name}[{place.index}]"
                lines.append(f"{name}: recorded {value:#x}, {after.who} {found:#x}")
        told = case.final_memory
        addresses = sorted(told.keys() | after.memory.keys()) if case.all_memory else told
        for address in addresses:
            byte = told.get(address, 0)
            if after.memory.get(address, 0) != byte:
                lines.append(
                    f"byte at {address:#x}: recorded {byte:#x}, {after.who} {after.memory.get(address, 0):#x}"
                )
        if case.final_pc is not None and after.pc != case.final_pc:
            lines.append(f"pc: recorded {case.final_pc:#x}, {after.who} {after.pc:#x}")
        return lines
