"""An engine's CPU as a debuggee, and the loop that runs it under a debugger.

`CpuDebuggee.run` stands in for `Cpu.run`: what is above (a Linux process, a machine) doesn't notice the
debugger.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

from runtime.cpu.engine import Cpu
from runtime.cpu.exits import Exit, Reason
from runtime.memory.space import AddressError
from runtime.monitor.gdb.debuggee import RegisterSlot, StopEvent, WatchKind
from runtime.monitor.gdb.descriptions import description_of
from runtime.monitor.gdb.server import GdbServer, Resume
from runtime.registers import RegisterFile

SLICE: Final = 5_000_000
"""Instructions between two looks at whether the debugger asks for a stop."""
SIGNAL_TRAP: Final = 5
SIGNAL_INTERRUPT: Final = 2
SIGNALS: Final = {
    **{"SIGHUP": 1, "SIGINT": 2, "SIGQUIT": 3, "SIGILL": 4, "SIGTRAP": 5, "SIGABRT": 6, "SIGFPE": 8},
    **{"SIGKILL": 9, "SIGBUS": 10, "SIGSEGV": 11, "SIGSYS": 12, "SIGPIPE": 13, "SIGALRM": 14},
    **{"SIGTERM": 15, "SIGCHLD": 20, "SIGUSR1": 30, "SIGUSR2": 31},
}
"""gdb's numbers of signals, which are those of no system (gdb: include/gdb/signals.def)."""
SYSTEM_ONLY: Final = frozenset({"priv"})
"""Registers that a program without a system doesn't see, beside those of banks."""
_ACCESS: Final[dict[WatchKind, int]] = {"read": 1, "write": 2, "access": 3}


class CpuDebuggee:
    """One CPU; see `Debuggee`.

    `signal_of`: the name of the signal that an exit of the engine means to the program, or None where it is
    none of the debugger's business (system calls). `objects`: what ``qXfer`` can read. `kill`: ends the
    program, by raising.
    """

    def __init__(
        self,
        cpu: Cpu,
        *,
        signal_of: Callable[[Exit], str | None] = lambda end: "SIGTRAP",
        objects: Mapping[str, bytes] | None = None,
        kill: Callable[[], None] = lambda: None,
        run: Callable[[int], Exit] | None = None,
    ) -> None:
        self.cpu = cpu
        self.registers = RegisterFile(cpu)
        package = cpu.package
        self.byte_order: Literal["little", "big"] = "big" if package.big_endian else "little"
        self.description, self.slots = description_of(
            self.registers,
            package.family,
            package.name,
            package.pc_width,
            Path(package.directory),
            absent=SYSTEM_ONLY.union(*package.banks.values()),
        )
        self._signal_of = signal_of
        self._objects = dict(objects or {})
        self._kill = kill
        self._watches: frozenset[tuple[WatchKind, int, int]] = frozenset()
        self.server: GdbServer | None = None
        self._resume: Resume | None = None
        self._stepping = False
        self._process = os.getpid()
        self._run = run or cpu.run

    slots: tuple[RegisterSlot, ...]

    # --- Debuggee -------------------------------------------------------------------------------------------

    def threads(self) -> tuple[int, ...]:
        return (1,)

    def thread_name(self, thread: int) -> str:
        return f"thread {thread}"

    def read_register(self, thread: int, name: str) -> int | None:
        return self.registers.read(name)

    def write_register(self, thread: int, name: str, value: int) -> bool:
        self.registers.write(name, value)
        return True

    def read_memory(self, thread: int, address: int, size: int) -> bytes:
        space, found = self.cpu.memory, b""
        while size > 0:
            region = space.find(address)
            if region is None or region.ram is None:
                break
            part = space.read(address, min(size, region.end - address))
            found += part
            address += len(part)
            size -= len(part)
        return found

    def write_memory(self, thread: int, address: int, data: bytes) -> bool:
        try:
            self.cpu.memory.write(address, data)
        except AddressError:
            return False
        return True

    def set_breakpoints(self, addresses: frozenset[int]) -> None:
        self.cpu.breakpoints = tuple(addresses)

    def set_watchpoints(self, watches: frozenset[tuple[WatchKind, int, int]]) -> None:
        self._watches = watches
        self.cpu.set_watches((address, address + size - 1, _ACCESS[kind]) for kind, address, size in watches)

    def kill(self) -> None:
        self._kill()

    def object(self, kind: str) -> bytes | None:
        return self._objects.get(kind)

    def command(self, text: str) -> str | None:
        words = text.split()
        if words == ["registers"]:
            rows = (f"{name} = {self.registers.read(name):#x}" for name in self.registers.names)
            return "\n".join(rows) + "\n"
        if words == ["regions"]:
            return "".join(
                f"{region.start:#x}-{region.end:#x} {region.permissions}\n" for region in self.cpu.memory
            )
        if words in (["help"], []):
            return "monitor commands: registers, regions, help\n"
        return None

    # --- running --------------------------------------------------------------------------------------------

    def serve(self, server: GdbServer) -> None:
        """Wait for the debugger; from then on `run` obeys it."""
        server.accept()
        self.server = server
        self._resume = server.stopped(StopEvent(), report=False)

    def run(self, budget: int) -> Exit:
        """As `Cpu.run`, with stops where the debugger wants them."""
        server = self.server
        if server is None or os.getpid() != self._process:  # the child of a fork has no debugger
            return self._run(budget)
        end = Exit(Reason.BUDGET, self.cpu.pc)
        if self._stepping and self._resume is not None and self._resume.how == "step":
            # The step ended in something that those above have dealt with meanwhile.
            self._stepping = False
            self._stop(StopEvent(SIGNAL_TRAP))
        while budget > 0:
            resume = self._resume
            if resume is None or resume.how == "detach":
                return self._run(budget)
            before = self.cpu.executed
            stepping = resume.how == "step"
            end = self._run(1 if stepping else min(budget, SLICE))
            budget -= self.cpu.executed - before
            match end.reason:
                case Reason.BUDGET:
                    if stepping and not (resume.within and resume.within[0] <= end.pc < resume.within[1]):
                        self._stop(StopEvent(SIGNAL_TRAP))
                    elif server.interrupted():
                        self._stop(StopEvent(SIGNAL_INTERRUPT))
                case Reason.BREAKPOINT:
                    self._stop(StopEvent(SIGNAL_TRAP, breakpoint=True))
                case Reason.WATCH:
                    self._watched(end)
                case _:
                    name = self._signal_of(end)
                    if name is None:
                        self._stepping = stepping
                        return end
                    signal = SIGNALS.get(name, SIGNAL_TRAP)
                    self._stop(StopEvent(signal))
                    chosen = self._resume
                    delivered = chosen is None or chosen.how == "detach" or chosen.signal == signal
                    if delivered and self.cpu.pc == end.pc:
                        self._stepping = chosen is not None and chosen.how == "step"
                        return end
        return end if end.reason is Reason.BUDGET else Exit(Reason.BUDGET, self.cpu.pc)

    def _stop(self, event: StopEvent) -> None:
        assert self.server is not None
        self._resume = self.server.stopped(event)
        if self._resume.how == "detach":
            self.cpu.breakpoints = ()
            self.cpu.set_watches(())

    def _watched(self, end: Exit) -> None:
        """Let the access happen, then tell which watchpoint it hit."""
        last = end.address + end.size - 1
        hit = next(
            (
                (kind, max(address, end.address))
                for kind, address, size in sorted(self._watches)
                if address <= last
                and end.address < address + size
                and kind != ("read" if end.write else "write")
            ),
            None,
        )
        stop = end
        while stop.reason is Reason.WATCH:
            self.cpu.answer()
            stop = self._run(1)
        if stop.reason is Reason.BUDGET and hit is not None:
            self._stop(StopEvent(SIGNAL_TRAP, watch=hit))
