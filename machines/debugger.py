"""gdb on a machine: harts are threads, and while they stand still the machine's inputs are served as ever.

Breakpoints, watchpoints and steps are the engine's; going backwards is `machines.history`'s. At a watchpoint
the machine stands in front of the access, and on the way back behind it: gdb steps over it itself, as it does
on RISC-V (gdb: `gdbarch_have_nonsteppable_watchpoint`).
"""

from __future__ import annotations

import contextlib
import selectors
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from machines.hart import Hart
from machines.history import History, Hit
from machines.inspection import HartView
from machines.machine import Goal, Machine, RunState
from runtime.cpu.exits import Exit, Reason
from runtime.monitor.address import Address
from runtime.monitor.gdb.debuggee import RegisterSlot, StopEvent, WatchKind
from runtime.monitor.gdb.descriptions import description_of
from runtime.monitor.gdb.server import GdbServer, Resume

TRAP, INTERRUPT = 5, 2
"""gdb's numbers of signals."""
ACCESS: Final[dict[WatchKind, int]] = {"read": 1, "write": 2, "access": 3}


class MachineDebuggee:
    """A machine's harts as a debugger sees them (`runtime.monitor.gdb.Debuggee`): hart n is thread n + 1.

    `command`: executes a line of the monitor's.
    """

    def __init__(self, machine: Machine, history: History | None, command: Callable[[str], str]) -> None:
        self._machine = machine
        self._history = history
        self._command = command
        self.views = tuple(HartView(hart) for hart in machine.harts)
        package = machine.harts[0].cpu.package
        self.byte_order: Literal["little", "big"] = "big" if package.big_endian else "little"
        names = {name for bank in package.banks.values() for name in bank}
        self.slots: tuple[RegisterSlot, ...]
        self.description, self.slots = description_of(
            self.views[0],
            package.family,
            package.name,
            package.pc_width,
            Path(package.directory),
            absent=names - set(self.views[0].system_names) - {"fflags", "frm", "fcsr"},
            single=names,
        )
        self.physical = False
        self.watches: frozenset[tuple[WatchKind, int, int]] = frozenset()

    def threads(self) -> tuple[int, ...]:
        return tuple(range(1, len(self.views) + 1))

    def thread_name(self, thread: int) -> str:
        hart = self.views[thread - 1].hart
        return f"hart {hart.number}{' [waits]' if hart.waiting else ''}"

    def read_register(self, thread: int, name: str) -> int | None:
        return self.views[thread - 1].read(name)

    def write_register(self, thread: int, name: str, value: int) -> bool:
        return self._may_change() and self.views[thread - 1].write(name, value)

    def read_memory(self, thread: int, address: int, size: int) -> bytes:
        return self.views[thread - 1].read_memory(address, size, virtual=not self.physical)

    def write_memory(self, thread: int, address: int, data: bytes) -> bool:
        return self._may_change() and self.views[thread - 1].write_memory(
            address, data, virtual=not self.physical
        )

    def _may_change(self) -> bool:
        """The past stays as it is."""
        if self._history is None:
            return True
        if self._history.in_past:
            return False
        self._history.changed = True
        return True

    def set_breakpoints(self, addresses: frozenset[int]) -> None:
        for view in self.views:
            view.cpu.breakpoints = tuple(addresses)

    def set_watchpoints(self, watches: frozenset[tuple[WatchKind, int, int]]) -> None:
        self.watches = watches
        rows = [(address, address + size - 1, ACCESS[kind]) for kind, address, size in watches]
        for view in self.views:
            view.cpu.set_watches(rows)

    def kill(self) -> None:
        self._machine.stop()

    def object(self, kind: str) -> bytes | None:
        return None

    def command(self, text: str) -> str | None:
        if (
            self._history is not None
            and self._history.in_past
            and text.split()[:1] in (["loadvm"], ["savevm"])
        ):
            return "not in the past: continue to its end first\n"
        return self._command(text)

    def hit(self, stop: Exit) -> tuple[WatchKind, int] | None:
        """The watchpoint that an access hits, and where."""
        last = stop.address + stop.size - 1
        return next(
            (
                (kind, max(address, stop.address))
                for kind, address, size in sorted(self.watches)
                if address <= last
                and stop.address < address + size
                and kind != ("read" if stop.write else "write")
            ),
            None,
        )


class Debugger:
    """Serves gdb at an address while the machine runs. The machine stops when gdb connects."""

    def __init__(
        self,
        machine: Machine,
        address: Address,
        command: Callable[[str], str],
        history: History | None = None,
    ) -> None:
        self._machine = machine
        self._history = history
        self.debuggee = MachineDebuggee(machine, history, command)
        self.server = GdbServer(self.debuggee, address, reverse=history is not None)
        self._registered: int | None = None
        self._resume: Resume | None = None
        self._started: dict[int, int] = {}
        """Where each hart was when the debugger let it go (`Hart.spent`)."""
        self.server.listener.setblocking(False)
        self._listen(True)

    def close(self, status: int = 0) -> None:
        """The machine has ended."""
        machine = self._machine
        self._forget()
        self._listen(False)
        self.server.ended(status)
        machine.on_stop = None

    # --- the connection ---------------------------------------------------------------------------------

    def _listen(self, listening: bool) -> None:
        """One debugger at a time: the next one waits until this one is gone."""
        selector, listener = self._machine.selector, self.server.listener
        if listening:
            selector.register(listener, selectors.EVENT_READ, self._come)
        else:
            with contextlib.suppress(KeyError, ValueError):
                selector.unregister(listener)

    def _come(self) -> None:
        if not self.server.accept_ready():
            return
        self._listen(False)
        peer = self.server.peer
        assert peer is not None
        self._registered = peer.fileno()
        self._machine.selector.register(peer, selectors.EVENT_READ, self._ready)
        self._machine.on_stop = self._stopped
        self._resume = None
        self._machine.pause(RunState.DEBUG)
        self.server.stand(StopEvent(thread=1))

    def _forget(self) -> None:
        if self._registered is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._machine.selector.unregister(self._registered)
            self._registered = None

    def _ready(self) -> None:
        """gdb sent something."""
        if self._resume is None:
            resume = self.server.serve_ready()
            if resume is not None:
                self._go(resume)
        elif self.server.interrupted():
            self._halt(StopEvent(INTERRUPT, self._thread_now()))
        if not self.server.connected:
            self._leave()

    def _leave(self) -> None:
        """The debugger is gone."""
        if self._registered is None:
            return
        self._forget()
        self._listen(True)
        self._machine.on_stop = None
        self._machine.goal = None
        self._machine.held = frozenset()
        self._resume = None
        if self._history is not None and self._history.in_past:
            self._history.go_to_present()
        self._machine.resume()

    # --- going on ---------------------------------------------------------------------------------------

    def _go(self, resume: Resume) -> None:
        if resume.how == "detach":
            self._leave()
            return
        if resume.how in ("reverse-step", "reverse-continue"):
            self._go_back(resume)
            return
        machine, history = self._machine, self._history
        if history is not None:
            if history.in_past and history.at_end:
                history.go_to_present()
            history.before_going(self._at_end)
        self._resume = resume
        self._started = {hart.number: hart.spent for hart in machine.harts}
        machine.held = frozenset(
            hart.number
            for hart in machine.harts
            if resume.only is not None and hart.number + 1 not in resume.only
        )
        if resume.how == "step":
            self._step(machine.harts[(resume.thread or self.server.thread) - 1])
        machine.resume()

    def _step(self, hart: Hart) -> None:
        self._machine.goal = Goal(hart.number, hart.spent + 1)

    def _thread_now(self) -> int:
        """The thread that a stop without a reason is about: the one that debugs, else the first awake."""
        chosen = self.server.thread
        if not self._machine.harts[chosen - 1].waiting:
            return chosen
        return next((hart.number + 1 for hart in self._machine.harts if not hart.waiting), chosen)

    def _stopped(self, hart: Hart, stop: Exit) -> None:
        """The machine's `on_stop`."""
        thread = hart.number + 1
        moved = self._started.get(hart.number) != hart.spent
        if stop.reason is Reason.WATCH:
            hit = self.debuggee.hit(stop)
            if hit is not None and moved and self._resume is not None and not hart.cpu.answered:
                self._halt(StopEvent(TRAP, thread, watch=hit))
            else:
                hart.cpu.answer()
        elif self._resume is None:
            return
        elif stop.reason is Reason.BREAKPOINT:
            if moved:
                self._halt(StopEvent(TRAP, thread, breakpoint=True))
        else:
            within = self._resume.within
            if within is not None and within[0] <= hart.cpu.pc < within[1] and not self._machine.paused:
                self._step(hart)
            else:
                self._halt(StopEvent(TRAP, thread))

    def _at_end(self) -> None:
        """The past has been replayed."""
        self._halt(StopEvent(TRAP, self._thread_now(), history="end"))

    def _halt(self, event: StopEvent) -> None:
        self._resume = None
        self._machine.goal = None
        self._machine.pause(RunState.DEBUG)
        self.server.report(event)

    # --- backwards --------------------------------------------------------------------------------------

    def _go_back(self, resume: Resume) -> None:
        history = self._history
        assert history is not None
        thread = resume.thread or self.server.thread
        history.interrupted = self.server.interrupted
        if resume.how == "reverse-step":
            done = history.step_back(thread - 1)
            event = StopEvent(TRAP, thread, history="" if done else "begin")
        else:
            event = self._event_of(history.run_back(self.debuggee.hit), thread)
        self.server.report(event)

    @staticmethod
    def _event_of(hit: Hit | None, thread: int) -> StopEvent:
        if hit is None:
            return StopEvent(TRAP, thread, history="begin")
        if hit.interrupted:
            return StopEvent(INTERRUPT, thread)
        return StopEvent(TRAP, hit.hart + 1, watch=hit.watch, breakpoint=hit.watch is None)
