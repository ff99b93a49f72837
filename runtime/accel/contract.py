"""What a machine may expect of whatever executes its harts' instructions.

A `Vcpu` runs until something happens that the machine has to deal with, in the manner of KVM's ``KVM_RUN``,
and says what in an `Exit`. Its state lies in one block of bytes, laid out by the target's build
(`TargetPackage.registers`, `layout_digest`), so that snapshots, debuggers and monitors work with any of them.
An accelerator that keeps state elsewhere while it runs brings the block up to date before `run` returns, and
takes it from there when `run` is called.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from runtime.cpu.exits import Exit, Reason
from runtime.cpu.package import TargetPackage
from runtime.memory.space import AddressSpace

__all__ = ["Accelerator", "Exit", "Reason", "Vcpu"]


class Vcpu(Protocol):
    """One CPU of a guest, in system mode. Used by one thread at a time, but for `interrupt`."""

    @property
    def package(self) -> TargetPackage:
        """The target: names, places and widths of registers."""
        ...

    @property
    def memory(self) -> AddressSpace:
        """The guest's physical memory; `Reason.MMIO` is the exit for what isn't RAM in it."""
        ...

    # --- running

    def run(self, budget: int) -> Exit:
        """Execute at most `budget` instructions (delivered traps count, too), and exactly so many
        where nothing else happens. An instruction that leaves with MMIO or WATCH hasn't been executed: it is
        to be answered, and run again.
        """
        ...

    @property
    def unused(self) -> int:
        """What the last `run` left of its budget."""
        ...

    def answer(self, value: int = 0) -> None:
        """Answer the access that `run` returned with: the bytes in memory order as a little-endian number."""
        ...

    @property
    def answered(self) -> bool:
        """Whether an instruction is under way that was given answers."""
        ...

    def interrupt(self) -> None:
        """From any thread or a signal handler: `run` returns soon, or at once when it is called next."""
        ...

    # --- state

    @property
    def block(self) -> memoryview:
        """The header and the registers, as they are between two runs."""
        ...

    @property
    def state(self) -> memoryview:
        """The registers alone."""
        ...

    @property
    def address(self) -> int:
        """The block's host address: the spec's shared functions (`TargetPackage.shared_function`) take it."""
        ...

    @property
    def pc(self) -> int: ...

    @pc.setter
    def pc(self, value: int) -> None: ...

    @property
    def next_pc(self) -> int: ...

    @property
    def executed(self) -> int:
        """Instructions executed since it was made."""
        ...

    def get(self, name: str) -> int:
        """A register's value. Raises IsagenError for unknown names."""
        ...

    def set(self, name: str, value: int) -> None:
        """Change a register. Raises IsagenError for unknown names."""
        ...

    def names(self) -> tuple[str, ...]: ...

    def has(self, name: str) -> bool: ...

    def width(self, name: str) -> int: ...

    def place(self, name: str) -> int | None:
        """Where a register of at most 64 bits lies in `state`."""
        ...

    def changed(self, *, translations: bool = False) -> None:
        """`state` was written to; `translations`: address translation may be another."""
        ...

    def reset(self) -> None:
        """All registers at their reset values."""
        ...

    def save_counters(self) -> tuple[int, int]:
        """Instructions as the guest counts them, and all that were executed."""
        ...

    def load_state(self, registers: bytes, pc: int, next_pc: int, counters: tuple[int, int]) -> None:
        """Take over what another one of the same layout had."""
        ...

    @property
    def parallel(self) -> bool:
        """Whether other CPUs over the same memory run at the same time, in threads of their own."""
        ...

    @parallel.setter
    def parallel(self, on: bool) -> None: ...

    # --- debuggers

    @property
    def breakpoints(self) -> tuple[int, ...]: ...

    @breakpoints.setter
    def breakpoints(self, addresses: Iterable[int]) -> None: ...

    def set_watches(self, ranges: Iterable[tuple[int, int, int]]) -> None:
        """First and last virtual address, and 1 for reads, 2 for writes, 3 for both."""
        ...

    def close(self) -> None:
        """Give back what it holds of the host."""
        ...


class Accelerator(Protocol):
    """Makes CPUs."""

    @property
    def name(self) -> str: ...

    def vcpu(self, package: TargetPackage, memory: AddressSpace, features: Iterable[str] | None) -> Vcpu:
        """A CPU over `memory` with these features (None: the target's default ones). Raises IsagenError."""
        ...
