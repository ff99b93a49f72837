"""Signals that ask a machine's process to end: the machine stops, and all that it holds is given back."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from machines.machine import Machine

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Termination:
    """While this context lasts, signals stop the machine, not the process. `signal`: which one came, or 0."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._before: dict[signal.Signals, Any] = {}
        self.signal = 0

    def __enter__(self) -> Termination:
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _end(self, number: int, _: FrameType | None) -> None:
        if self.signal:  # it doesn't obey: the second one ends the process
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.signal = number
        self._machine.post(lambda: self._machine.announce("SHUTDOWN", guest=False, reason="host-signal"))
        self._machine.stop()
