"""An engine's CPU as a debuggee, and the loop that runs it under a debugger.

`CpuDebuggee.run` stands in for `Cpu.run`: what is above (a Linux process, a machine) doesn't notice the
debugger.
"""

from __future__ import annotations

from collections.abc import Callable
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
SYSTEM_ONLY: Final = frozenset({"priv"})
"""Registers that a program without a system doesn't see, beside those of banks."""
_ACCESS: Final[dict[WatchKind, int]] = {"read": 1, "write": 2, "access": 3}


class CpuDebuggee:
    """One CPU; see `Debuggee`.

    Traps and faults are the business of those above, who may be `thread`s that take turns. `kill`: ends the
    program, by raising. `run`: stands in for `Cpu.run`.
    """

    def __init__(
        self,
        cpu: Cpu,
        *,
        kill: Callable[[], None] = lambda: None,
        run: Callable[[int], Exit] | None = None,
    ) -> None:
        self.adopt(cpu, run or cpu.run)
        self._kill = kill
        self._watches: frozenset[tuple[WatchKind, int, int]] = frozenset()
        self.server: GdbServer | None = None
        self._resume: Resume | None = None
        self._stepped = 0
        """The thread whose step ended in something that those above deal with."""

    def adopt(self, cpu: Cpu, run: Callable[[int], Exit]) -> None:
        """This is the CPU from now on."""
        self.cpu = cpu
        self._run = run
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

    slots: tuple[RegisterSlot, ...]

    # --- threads --------------------------------------------------------------------------------------------

    @property
    def thread(self) -> int:
        """The number of the thread that has the CPU."""
        return 1

    def held(self, thread: int) -> bool:
        """Whether the debugger doesn't want the thread to run now."""
        resume, server = self._resume, self.server
        if resume is None or resume.only is None or server is None or not server.connected:
            return False
        return thread not in resume.only

    def waits_above(self) -> bool:
        """Whether those above have something to do before the CPU goes on."""
        return False

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
        return None

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
        self._resume = server.stopped(StopEvent(thread=self.thread), report=False)

    def run(self, budget: int) -> Exit:
        """As `Cpu.run`, with stops where the debugger wants them."""
        server = self.server
        if server is None:
            return self._run(budget)
        thread = self.thread
        if self._stepped == thread:
            self._stop(StopEvent(SIGNAL_TRAP, thread))
        while budget > 0:
            resume = self._resume
            if resume is None or resume.how == "detach" or not server.connected:
                return self._run(budget)
            if self.held(thread) or self.waits_above():
                break
            before = self.cpu.executed
            stepping = resume.how == "step" and (resume.thread or server.thread) == thread
            end = self._run(1 if stepping else min(budget, SLICE))
            budget -= self.cpu.executed - before
            match end.reason:
                case Reason.BUDGET:
                    if stepping and not (resume.within and resume.within[0] <= end.pc < resume.within[1]):
                        self._stop(StopEvent(SIGNAL_TRAP, thread))
                    elif server.interrupted():
                        self._stop(StopEvent(SIGNAL_INTERRUPT, thread))
                case Reason.BREAKPOINT:
                    self._stop(StopEvent(SIGNAL_TRAP, thread, breakpoint=True))
                case Reason.WATCH:
                    self._watched(end, thread)
                case _:
                    self._stepped = thread if stepping else 0
                    return end
        return Exit(Reason.BUDGET, self.cpu.pc)

    def _stop(self, event: StopEvent) -> None:
        assert self.server is not None
        self._stepped = 0
        self._resume = self.server.stopped(event)

    def _watched(self, end: Exit, thread: int) -> None:
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
            self._stop(StopEvent(SIGNAL_TRAP, thread, watch=hit))
