"""The core-local interruptor of SiFive and its successor: software interrupts and the timer of each hart.

RISC-V ACLINT specification 1.0-rc4, chapters 2 and 3 (the layout of SiFive's CLINT): ``MSIP`` at 0,
``MTIMECMP`` at 0x4000, ``MTIME`` at 0xbff8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final, Protocol

from pydantic import Field

from runtime.clock import Clock
from runtime.devices.device import Device, Line, State

MSIP: Final = 0x0000
MTIMECMP: Final = 0x4000
MTIME: Final = 0xBFF8
NEVER: Final = (1 << 64) - 1


class Counter(Protocol):
    """The time that all harts agree on."""

    def ticks(self) -> int:
        """``mtime``, as the hart sees it that executes now."""

    def set_ticks(self, value: int) -> None:
        """``mtime`` was written."""

    def deadline(self, ticks: int) -> int:
        """The clock's time, in nanoseconds, at which ``mtime`` reaches `ticks`."""


class AclintState(State):
    msip: list[bool]
    mtimecmp: list[int]
    due: list[bool] = Field(default_factory=list)
    """Whether each hart's timer interrupt is pending."""


class Aclint(Device[AclintState]):
    """`software` and `timer`: a line for each hart."""

    size: ClassVar = 0x10000
    state_type = AclintState

    def __init__(
        self, clock: Clock, counter: Counter, software: Sequence[Line], timer: Sequence[Line]
    ) -> None:
        self._counter = counter
        self._software = software
        self._lines = timer
        self._msip = [False] * len(software)
        self._compare = [NEVER] * len(timer)
        self._timers = [clock.timer(self._expiry(hart)) for hart in range(len(timer))]

    def _expiry(self, hart: int) -> Callable[[], None]:
        return lambda: self._compare_now(hart)

    def read(self, offset: int, size: int) -> int:
        word = self._word(offset & ~7)
        return word >> 8 * (offset & 7)

    def _word(self, offset: int) -> int:
        """The eight bytes at an offset."""
        if offset == MTIME:
            return self._counter.ticks()
        if offset < MTIMECMP:
            hart = (offset - MSIP) // 4
            return sum(bit << 32 * n for n, bit in enumerate(self._msip[hart : hart + 2]))
        hart = (offset - MTIMECMP) // 8
        return self._compare[hart] if hart < len(self._compare) else 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset < MTIMECMP:
            for hart in {offset // 4, (offset + size - 1) // 4}:
                if hart < len(self._msip) and hart * 4 >= offset:  # only bit 0 is there
                    self._msip[hart] = bool(value >> 8 * (hart * 4 - offset) & 1)
                    self._software[hart].set(self._msip[hart])
            return
        shift = 8 * (offset & 7)
        mask = ((1 << 8 * size) - 1) << shift & NEVER
        new = self._word(offset & ~7) & ~mask | value << shift & mask
        if offset & ~7 == MTIME:
            self._counter.set_ticks(new)
            for hart in range(len(self._compare)):
                self._compare_now(hart)
            return
        hart = (offset - MTIMECMP) // 8
        if hart < len(self._compare):
            self._compare[hart] = new
            self._compare_now(hart)

    def _compare_now(self, hart: int) -> None:
        due = self._counter.ticks() >= self._compare[hart]
        self._lines[hart].set(due)
        if due or self._compare[hart] == NEVER:
            self._timers[hart].cancel()
        else:
            self._timers[hart].set(self._counter.deadline(self._compare[hart]))

    def reset(self) -> None:
        self.restore(AclintState(msip=[False] * len(self._msip), mtimecmp=[NEVER] * len(self._compare)))

    def save(self) -> AclintState:
        due = [line.level for line in self._lines]
        return AclintState(msip=list(self._msip), mtimecmp=list(self._compare), due=due)

    def restore(self, state: AclintState) -> None:
        self._msip = list(state.msip)
        self._compare = list(state.mtimecmp)
        for hart, pending in enumerate(self._msip):
            self._software[hart].set(pending)
            if hart >= len(state.due):
                self._compare_now(hart)
                continue
            # A timer that is due and hasn't gone off yet goes off when the machine looks: as it would have.
            self._lines[hart].set(state.due[hart])
            if state.due[hart] or self._compare[hart] == NEVER:
                self._timers[hart].cancel()
            else:
                self._timers[hart].set(self._counter.deadline(self._compare[hart]))
