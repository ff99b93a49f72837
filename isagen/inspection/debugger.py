"""``isagen run --gdb``: a Linux program under gdb."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from runtime.cpu.exits import Exit, Reason
from runtime.linux.errors import GuestExit
from runtime.linux.ports import EXECUTE, READ, WRITE, Stop
from runtime.memory.space import AddressError
from runtime.monitor.gdb import CpuDebuggee, GdbServer

if TYPE_CHECKING:
    from runtime.cpu.engine import Cpu
    from runtime.linux.abi.base import Abi

KILLED = 128 + 9
MAX_WORDS = 1 << 16
"""Words of the initial stack that are looked at for the auxiliary vector."""


def signal_names(cpu: Cpu, abi: Abi) -> Callable[[Exit], str | None]:
    """The signal that an exit of the engine means to a program; None for system calls and what isn't a
    fault.
    """
    accesses = (READ, WRITE, EXECUTE)

    def name(end: Exit) -> str | None:
        if end.reason is Reason.TRAP:
            value = end.arguments[0] if end.arguments else 0
            stop = Stop("trap", end.pc, 0, name=cpu.package.traps[end.trap], code=end.code, value=value)
        elif end.reason is Reason.FAULT:
            stop = Stop("fault", end.pc, 0, address=end.address, access=accesses[end.access])
        else:
            return None
        return None if abi.is_system_call(stop) else abi.signal_of(stop)

    return name


def auxiliary_vector(cpu: Cpu, abi: Abi) -> bytes:
    """The auxiliary vector of a program that is about to start: it lies on the stack behind the
    environment.
    """
    word = abi.word
    at = cpu.get(abi.stack_pointer) + getattr(abi, "bias", 0)
    at += abi.stack_frame() if abi.stack_frame() == 16 * word else 0
    try:
        count = abi.unpack(cpu.memory.read(at, word))
        if count > MAX_WORDS:
            return b""
        at += (count + 2) * word
        for _ in range(MAX_WORDS):  # the environment
            value = abi.unpack(cpu.memory.read(at, word))
            at += word
            if value == 0:
                break
        found = b""
        while len(found) < 128 * word:
            entry = cpu.memory.read(at, 2 * word)
            found += entry
            at += 2 * word
            if abi.unpack(entry[:word]) == 0:
                return found
    except AddressError:
        pass
    return b""


class Debugger:
    """gdb's hold on a program."""

    def __init__(self, cpu: Cpu, abi: Abi, executable: Path, port: int, run: Callable[[int], Exit]) -> None:
        self.debuggee = CpuDebuggee(
            cpu,
            signal_of=signal_names(cpu, abi),
            objects={
                "auxv": auxiliary_vector(cpu, abi),
                "exec-file": str(executable.resolve()).encode(),
            },
            kill=self._kill,
            run=run,
        )
        self.server = GdbServer(self.debuggee, port)

    def _kill(self) -> NoReturn:
        raise GuestExit(KILLED)

    def wait(self) -> None:
        """Wait for gdb."""
        wait(self.debuggee, self.server)

    @property
    def run(self) -> Callable[[int], Exit]:
        """Stands in for `Cpu.run`."""
        return self.debuggee.run

    def ended(self, status: int) -> None:
        """Tell gdb that the program has ended."""
        self.server.ended(status)


def wait(debuggee: CpuDebuggee, server: GdbServer) -> None:
    """Say where the server is, and wait for gdb."""
    sys.stderr.write(f"isagen: waiting for gdb: target remote localhost:{server.port}\n")
    sys.stderr.flush()
    debuggee.serve(server)


def debug_machine(cpu: Cpu, port: int, run: Callable[[int], Exit]) -> Callable[[int], Exit]:
    """Wait for gdb; what stands in for the CPU's run then. Traps are the machine's own business."""

    def kill() -> NoReturn:
        raise SystemExit(KILLED)

    debuggee = CpuDebuggee(cpu, signal_of=lambda end: None, kill=kill, run=run)
    wait(debuggee, GdbServer(debuggee, port))
    return debuggee.run
