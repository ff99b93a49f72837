"""Timers that send signals: when they are due, and what they send."""

from __future__ import annotations

import time

from runtime.linux.siginfo import SI_KERNEL, SI_TIMER, SignalInfo

REAL, VIRTUAL, PROFILING = 0, 1, 2


class Timer:
    """One timer. Times are nanoseconds of the clock that `clock` names."""

    __slots__ = ("clock", "due", "interval", "number", "overrun", "signal", "thread", "value")

    def __init__(
        self,
        clock: int = time.CLOCK_MONOTONIC,
        due: int = 0,
        interval: int = 0,
        signal: int = 0,
        value: int = 0,
        number: int = -1,
        thread: int = 0,
        overrun: int = 0,
    ) -> None:
        self.clock = clock
        self.due = due
        """0: it isn't running."""
        self.interval = interval
        self.signal = signal
        """The guest's number; 0: none is sent."""
        self.value = value
        self.number = number
        """The timer's number, of ``timer_create``."""
        self.thread = thread
        """The thread to send to; 0: the process."""
        self.overrun = overrun

    def now(self) -> int:
        return time.clock_gettime_ns(self.clock)

    def left(self) -> int:
        """Nanoseconds to go; 0 where it isn't running."""
        return max(1, self.due - self.now()) if self.due else 0

    def info(self) -> SignalInfo:
        if self.number < 0:
            return SignalInfo(self.signal, SI_KERNEL)
        return SignalInfo(self.signal, SI_TIMER, value=self.value, timer=self.number, overrun=self.overrun)


class Timers:
    """A process's timers."""

    def __init__(self) -> None:
        self.interval: dict[int, Timer] = {}
        """setitimer(2). The emulator's user and system time can't be told from the guest's."""
        self.created: dict[int, Timer] = {}
        self.forget_all()

    def forget_created(self) -> None:
        """Another program begins."""
        self.created.clear()

    def forget_all(self) -> None:
        """A forked process begins."""
        self.interval = {
            REAL: Timer(),
            VIRTUAL: Timer(time.CLOCK_PROCESS_CPUTIME_ID),
            PROFILING: Timer(time.CLOCK_PROCESS_CPUTIME_ID),
        }
        self.created.clear()

    def running(self) -> list[Timer]:
        return [timer for timer in (*self.interval.values(), *self.created.values()) if timer.due]

    def next_due(self) -> int | None:
        """Nanoseconds to the next one that is due; None without any."""
        running = self.running()
        return max(0, min(timer.due - timer.now() for timer in running)) if running else None

    def expire(self) -> list[Timer]:
        """Those that are due by now, wound up again where they repeat."""
        expired = []
        for timer in self.running():
            late = timer.now() - timer.due
            if late >= 0:
                expired.append(timer)
                if timer.interval:
                    timer.overrun = late // timer.interval
                    timer.due += (timer.overrun + 1) * timer.interval
                else:
                    timer.due = 0
        return expired
