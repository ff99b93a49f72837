"""The time that a machine's harts read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runtime.clock import NANOSECONDS, Clock

if TYPE_CHECKING:
    from machines.hart import Hart

TIMEBASE: Final = 10_000_000
"""Ticks of the harts' time in a second."""
TICK: Final = NANOSECONDS // TIMEBASE
"""In nanoseconds."""


class Ticks:
    """The timebase: `mtime` counts ticks of the clock, and can be set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.offset = 0
        self.running: Hart | None = None
        """The hart that executes now: its time is a little ahead of the clock's."""

    def now(self) -> int:
        """Ticks by the clock."""
        return self._clock.now() // TICK + self.offset

    def ticks(self) -> int:
        """See `runtime.devices.aclint.Counter`. A hart that asks goes on from there: one that was behind the
        clock would find that the timer which it has just set went off too early, and set it again and again.
        """
        now = self.now()
        hart = self.running
        if hart is None:
            return now
        if now > hart.time:
            hart.set_time(now)
        return hart.time

    def set_ticks(self, value: int) -> None:
        """See `runtime.devices.aclint.Counter`."""
        self.offset += value - self.ticks()
        if self.running is not None:
            self.running.set_time(value)

    def deadline(self, ticks: int) -> int:
        """See `runtime.devices.aclint.Counter`."""
        return max(0, ticks - self.offset) * TICK
