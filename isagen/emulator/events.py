"""What hooks are told, and what a run ends with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from isagen.emulator.errors import AccessKind


class StopReason(Enum):
    """Why `Emulator.run` returned."""

    UNTIL = "until"
    """`pc` is the address that was given as `until`."""
    COUNT = "count"
    """As many instructions as asked for were executed."""
    TIMEOUT = "timeout"
    STOPPED = "stopped"
    """`Emulator.stop` was called."""
    WAITING = "waiting"
    """System mode: the CPU waits for an interrupt."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The end of a run: why, where, and how many instructions it executed."""

    reason: StopReason
    pc: int
    instructions: int


@dataclass(frozen=True, slots=True)
class MemoryAccess:
    """An access of the guest's to memory, before it happens.

    `size` in bytes. `value` is a number in the guest's byte order: of writes what will be written, of reads
    what lies there (0 for fetches, and where the access isn't possible). `pc`: the instruction.
    """

    kind: AccessKind
    address: int
    size: int
    value: int
    pc: int


@dataclass(frozen=True, slots=True)
class Fault:
    """An access that isn't possible. `mapped`: something is mapped at `address`, but forbids it. `size`: of
    the access in bytes, 0 for fetches; `value`: of writes what would be written, 0 where it isn't known yet.
    """

    kind: AccessKind
    address: int
    mapped: bool
    pc: int
    size: int = 0
    value: int = 0


@dataclass(frozen=True, slots=True)
class Trap:
    """An exception of the architecture: the spec's name, code and arguments (unsigned)."""

    name: str
    code: int
    arguments: tuple[int, ...]
    pc: int


@dataclass(frozen=True, slots=True)
class SystemCall:
    """A system call by the Linux conventions of the target: number, name ("" if unknown), the argument
    registers' values.
    """

    number: int
    name: str
    arguments: tuple[int, ...]
    pc: int


class Device(Protocol):
    """Memory-mapped hardware. `offset`: from the device's first address; `size`: 1, 2, 4 or 8 bytes; values
    are numbers in the guest's byte order.
    """

    def read(self, offset: int, size: int) -> int: ...

    def write(self, offset: int, size: int, value: int) -> None: ...
