"""A machine's one virtual clock, in nanoseconds since the machine was started, and the timers that hang on
it.

`HostClock` follows the host's monotonic clock while the machine runs; `CountedClock` counts instructions, so
that two runs of the same machine are alike to the instruction. Devices see only `Clock`.
"""

from __future__ import annotations

import heapq
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from runtime.state.journal import Journal

NANOSECONDS: Final = 1_000_000_000
"""A second."""


class Timer:
    """Something to do at a time. Made by `Clock.timer`; set it again as often as needed."""

    def __init__(self, clock: Clock, call: Callable[[], None]) -> None:
        self._clock = clock
        self._call = call
        self.deadline: int | None = None
        """When it goes off, in nanoseconds; None: it isn't set."""

    def set(self, deadline: int) -> None:
        """Go off once at `deadline` (nanoseconds; one that is past: as soon as the machine looks)."""
        if deadline != self.deadline:
            self.deadline = deadline
            self._clock.add(deadline, self)

    def cancel(self) -> None:
        """Don't go off."""
        self.deadline = None

    def fire(self) -> None:
        """Go off."""
        self.deadline = None
        self._call()


class Clock(ABC):
    """Virtual time and its timers."""

    def __init__(self) -> None:
        self._queue: list[tuple[int, int, Timer]] = []
        self._order = 0

    @abstractmethod
    def now(self) -> int:
        """Nanoseconds since the machine was started; never goes back."""

    @abstractmethod
    def set_now(self, nanoseconds: int) -> None:
        """Go on from here: a snapshot was restored."""

    def timer(self, call: Callable[[], None]) -> Timer:
        """A timer, not set yet."""
        return Timer(self, call)

    def add(self, deadline: int, timer: Timer) -> None:
        """Remember that `timer` goes off at `deadline`. For `Timer`."""
        self._order += 1
        heapq.heappush(self._queue, (deadline, self._order, timer))

    def next_deadline(self) -> int | None:
        """When the next timer goes off; None: none is set."""
        while self._queue and self._queue[0][2].deadline != self._queue[0][0]:
            heapq.heappop(self._queue)  # cancelled, or set to another time
        return self._queue[0][0] if self._queue else None

    def run_due(self) -> None:
        """Let the timers go off that are due, in the order of their times."""
        now = self.now()
        while (deadline := self.next_deadline()) is not None and deadline <= now:
            heapq.heappop(self._queue)[2].fire()


class HostClock(Clock):
    """Follows the host's clock, and stands still while the machine is paused."""

    def __init__(self) -> None:
        super().__init__()
        self._start = time.monotonic_ns()
        self._paused_at: int | None = self._start
        self.journal: Journal | None = None
        """Records what time it was."""

    def now(self) -> int:
        return self._now() if self.journal is None else self.journal.value("now", self._now)

    def _now(self) -> int:
        return (time.monotonic_ns() if self._paused_at is None else self._paused_at) - self._start

    def set_now(self, nanoseconds: int) -> None:
        self._start += self._now() - nanoseconds

    def resume(self) -> None:
        """The machine runs."""
        if self._paused_at is not None:
            self._start += time.monotonic_ns() - self._paused_at
            self._paused_at = None

    def pause(self) -> None:
        """The machine stands still."""
        if self._paused_at is None:
            self._paused_at = time.monotonic_ns()


class CountedClock(Clock):
    """Moves only by `advance`: by what instructions take, and across the time in which nothing runs."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0

    def now(self) -> int:
        return self._now

    def set_now(self, nanoseconds: int) -> None:
        self._now = nanoseconds

    def advance(self, to: int) -> None:
        """It is `to` now, if that isn't past."""
        self._now = max(self._now, to)
