"""What the server needs of what is debugged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

WatchKind = Literal["write", "read", "access"]


@dataclass(frozen=True, slots=True)
class StopEvent:
    """Why a debuggee stands still. `signal`: gdb's number (gdb/signals.def: 5 TRAP, 2 INT, 11 SEGV, ...)."""

    signal: int = 5
    thread: int = 1
    watch: tuple[WatchKind, int] | None = None
    """A watchpoint that was hit: its kind and the address."""
    breakpoint: bool = False
    history: Literal["", "begin", "end"] = ""
    """An end of what can be replayed was reached."""
    executing: bytes | None = None
    """The path of another program that takes the place of the one before."""
    stuck: bool = False
    """None of the threads that were to go on is left."""


@dataclass(frozen=True, slots=True)
class RegisterSlot:
    """A register in the debugger's order: bytes, and our name (None: always unavailable)."""

    name: str
    size: int
    ours: str | None
    bulk: bool = True
    """Whether the debugger gets it with all others; else only when it asks for it."""


class PhysicalMemory(Protocol):
    """What a debuggee with address translation has besides."""

    physical: bool
    """Whether addresses of memory are physical now (QEMU's ``qqemu.PhyMemMode``)."""


class Debuggee(Protocol):
    """Something with registers and memory that can be stopped. Addresses are the program's."""

    slots: tuple[RegisterSlot, ...]
    """The registers in the order of the description."""
    description: bytes
    """The target description, as XML (gdb manual, appendix "Target Descriptions")."""
    byte_order: Literal["little", "big"]

    def threads(self) -> tuple[int, ...]:
        """Numbers of the threads, above 0."""
        ...

    def thread_name(self, thread: int) -> str:
        """What people call a thread."""
        ...

    def read_register(self, thread: int, name: str) -> int | None:
        """None: it isn't there now."""
        ...

    def write_register(self, thread: int, name: str, value: int) -> bool:
        """Whether it was possible."""
        ...

    def read_memory(self, thread: int, address: int, size: int) -> bytes:
        """Up to `size` bytes: as far as memory goes on."""
        ...

    def write_memory(self, thread: int, address: int, data: bytes) -> bool:
        """Write all or nothing; whether it was possible."""
        ...

    def set_breakpoints(self, addresses: frozenset[int]) -> None: ...

    def set_watchpoints(self, watches: frozenset[tuple[WatchKind, int, int]]) -> None:
        """Kind, address, bytes."""
        ...

    def kill(self) -> None:
        """End what is debugged; may raise what does that."""
        ...

    def object(self, kind: str) -> bytes | None:
        """What ``qXfer:<kind>:read`` gives (auxv, exec-file, ...), or None."""
        ...

    def command(self, text: str) -> str | None:
        """The answer to gdb's ``monitor`` command; None: there is no such command."""
        ...
