"""Harts in threads of the host, one each.

A `Team` runs all harts of a machine at the same time, until there is something that the machine has to look
at while they stand still: inputs, monitors and debuggers, its end. Devices and the clock's timers are used by
one thread at a time (`Team.lock`). A hart looks at what others want of it (interrupts, changed code, to stand
still) at least every `SLICE` instructions; it always finishes an instruction that has asked a device.

The harts' translated code runs without Python's lock; what they do in Python they do one after the other.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Protocol

from machines.inputs import PATIENCE
from runtime.clock import NANOSECONDS
from runtime.cpu.exits import Exit, Reason
from runtime.errors import IsagenError

if TYPE_CHECKING:
    import selectors
    from collections.abc import Callable, Sequence

    from machines.hart import Hart
    from machines.inputs import Poll
    from machines.timebase import Ticks
    from runtime.clock import Clock

SLICE: Final = 1 << 15
"""Most instructions of a hart between two looks at what others want of it."""


class Teamed(Protocol):
    """What a team has of its machine (`machines.machine.Machine`)."""

    harts: list[Hart]
    clock: Clock
    ticks: Ticks
    selector: selectors.BaseSelector
    spent: int
    on_stop: Callable[[Hart, Exit], None] | None

    @property
    def halting(self) -> bool: ...

    def poll(self, timeout: float) -> Poll: ...

    def is_asleep(self) -> bool: ...

    def is_called(self, ready: Sequence[tuple[selectors.SelectorKey, int]]) -> bool: ...

    def access(self, hart: Hart, stop: Exit) -> None: ...

    def wake_up(self) -> None: ...


class Team:
    """The threads of a machine's harts. Made with the first `run`; `close` ends them."""

    def __init__(self, machine: Teamed) -> None:
        self.machine = machine
        self.lock = threading.RLock()
        """Whoever has it uses devices, timers, and lists of this class."""
        self._gate = threading.Condition()
        self._going = False
        self._closing = False
        self._running = 0
        """Threads in front of the gate's other side."""
        self._threads: list[threading.Thread] = []
        self._stops: list[tuple[Hart, Exit]] = []
        """What a debugger is to be told of."""
        self._errors: list[BaseException] = []
        self._deadline: int | None = None
        """What the thread that waits for inputs and timers waits for."""
        self._last: int | None = None

    def run(self, last: int | None) -> None:
        """Serve inputs and let all harts run, until there are more inputs, the machine is to halt, a debugger
        is to be told of something, or so much is spent (some more may be: harts finish their slices). Raises
        what a hart's thread raised.
        """
        machine = self.machine
        if machine.poll(0).halted or machine.halting:
            return
        self._start()
        before = self._spent()
        self._last = None if last is None else last - machine.spent + before
        for hart in machine.harts:
            hart.begin_parallel()
        self._open()
        try:
            while self._going:
                self._wait()
        finally:
            self._close_gate()
            for hart in machine.harts:
                hart.end_parallel()
            machine.spent += self._spent() - before
        if self._errors:
            raise self._errors.pop()
        stops, self._stops = self._stops, []
        for hart, stop in stops:
            if machine.on_stop is not None:
                machine.on_stop(hart, stop)

    def close(self) -> None:
        """End the threads."""
        with self._gate:
            self._closing = True
            self._gate.notify_all()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    # --- the thread that waits for inputs and timers ------------------------------------------------------

    def _start(self) -> None:
        if self._threads:
            return
        # Imported by no thread: the translator's worker is a fork, which must find no import under way.
        import runtime.cpu.translator.worker  # noqa: F401

        for hart in self.machine.harts:
            thread = threading.Thread(
                target=self._serve, args=(hart,), name=f"hart {hart.number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _open(self) -> None:
        with self._gate:
            self._going = True
            self._gate.notify_all()

    def halt(self) -> None:
        """Have everything stand still soon. From any thread."""
        if not self._going:
            return  # harts that finish an instruction aren't to be interrupted again and again
        self._going = False
        for hart in self.machine.harts:
            hart.nudge()
        self.machine.wake_up()

    def _close_gate(self) -> None:
        self.halt()
        with self._gate:
            while self._running:
                self._gate.wait()

    def _wait(self) -> None:
        """Serve the timers that are due, and wait for the next one or for an input."""
        machine = self.machine
        with self.lock:
            machine.clock.run_due()
            self._deadline = deadline = machine.clock.next_deadline()
            wait = PATIENCE
            if deadline is not None:
                wait = min(wait, max(0, deadline - machine.clock.now()) / NANOSECONDS)
            if machine.halting:
                self.halt()
                return
        if self._last is not None and machine.is_asleep():
            self.halt()
            return
        if machine.is_called(machine.selector.select(wait)):
            self.halt()  # they are served when harts stand still: monitors look at these, too

    # --- a hart's thread ----------------------------------------------------------------------------------

    def _serve(self, hart: Hart) -> None:
        while True:
            with self._gate:
                while not (self._going or self._closing):
                    self._gate.wait()
                if self._closing:
                    return
                self._running += 1
            try:
                self._run(hart)
            except BaseException as error:
                self._errors.append(error)
                self.halt()
            finally:
                with self._gate:
                    self._running -= 1
                    self._gate.notify_all()

    def _run(self, hart: Hart) -> None:
        """Let a hart execute until all are to stand still."""
        machine, cpu = self.machine, hart.cpu
        while self._going or cpu.answered:
            if not cpu.answered:
                hart.take_lines()
                if hart.waiting:
                    hart.sleep()
                    continue
                hart.follow(machine.ticks.now(), SLICE)
            # What is done in between, and lines that the instruction under way has changed, are to be told
            # of: only that instruction is finished.
            allowed = 1 if not self._going or (cpu.answered and hart.has_news) else SLICE
            stop = cpu.run(allowed)
            hart.spent += allowed - cpu.unused
            if stop.reason is Reason.MMIO:
                self._access(hart, stop)
            elif stop.reason is Reason.WAITING:
                hart.waiting = True
            elif stop.reason in (Reason.BREAKPOINT, Reason.WATCH) and machine.on_stop is not None:
                self._stops.append((hart, stop))
                self.halt()
                if not cpu.answered:
                    return
            elif stop.reason not in (Reason.BUDGET, Reason.INTERRUPTED):
                raise IsagenError(
                    f"hart {hart.number} can't go on: {stop.reason.name.lower()}", where=f"pc {stop.pc:#x}"
                )
            if self._last is not None and self._spent() >= self._last:
                self.halt()

    def _access(self, hart: Hart, stop: Exit) -> None:
        machine = self.machine
        with self.lock:
            machine.ticks.running = hart
            try:
                machine.access(hart, stop)
            finally:
                machine.ticks.running = None
            deadline = machine.clock.next_deadline()
            earlier = deadline is not None and (self._deadline is None or deadline < self._deadline)
        if machine.halting:
            self.halt()
        elif earlier:
            machine.wake_up()

    def _spent(self) -> int:
        return sum(hart.spent for hart in self.machine.harts)
