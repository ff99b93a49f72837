"""``isagen run --gdb``: a Linux program, or a bare machine, under gdb."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn
from xml.sax.saxutils import quoteattr

from runtime.cpu.exits import Exit
from runtime.linux import signals
from runtime.linux.errors import GuestExit
from runtime.monitor.gdb import CpuDebuggee, GdbServer, StopEvent
from runtime.monitor.gdb.cpu import SIGNAL_INTERRUPT, SIGNAL_TRAP
from runtime.monitor.gdb.server import Resume
from runtime.monitor.gdb.signals import name_of, number_of, realtime_of

if TYPE_CHECKING:
    from runtime.cpu.engine import Cpu
    from runtime.linux.engine import EngineCpu
    from runtime.linux.process import Process
    from runtime.linux.siginfo import SignalInfo
    from runtime.linux.thread import Thread

KILLED: Final = 128 + 9


class Call:
    """A thread's system call, put aside because a debugger changes the registers: of its end nothing is to be
    seen until they are `registers` again, as they are after gdb has called a function of the program.
    """

    def __init__(self, thread: Thread, registers: list[int]) -> None:
        self.thread = thread
        self.registers = registers
        self._state = thread.stop, thread.steps, thread.wait, thread.mask_after
        thread.stop = thread.steps = thread.wait = thread.mask_after = None

    def take_up(self) -> None:
        """Go on with it."""
        thread = self.thread
        thread.stop, thread.steps, thread.wait, thread.mask_after = self._state


class ProgramDebuggee(CpuDebuggee):
    """A process and its threads under gdb: it supervises them (`runtime.linux.supervisor`)."""

    def __init__(self, process: Process, cpu: EngineCpu) -> None:
        super().__init__(cpu.engine, kill=self._end, run=cpu.step)
        self._process = process
        self._information: SignalInfo | None = None
        """Of the signal that the debugger was told of last."""
        self._told = False
        """It was told of that by the stop that is now."""
        self._sent: list[SignalInfo] = []
        """Signals on their way that it has sent itself."""
        self._calls: dict[int, Call] = {}
        """System calls put aside, by thread."""

    def _end(self) -> NoReturn:
        raise GuestExit(KILLED)

    # --- the process's CPUs ---------------------------------------------------------------------------------

    def follow(self, cpu: EngineCpu) -> None:
        """The process may run on this CPU: see what it does there."""
        step = cpu.step

        def run(budget: int) -> Exit:
            if self.server is not None and cpu.engine is not self.cpu:
                self._executed(cpu, step)
            return self.run(budget)

        cpu.step = run

    def _executed(self, cpu: EngineCpu, step: Callable[[int], Exit]) -> None:
        """The process has another program, on another CPU."""
        server = self.server
        assert server is not None
        before = self.description
        self._watches, server.watchpoints, server.breakpoints = frozenset(), frozenset(), frozenset()
        self.adopt(cpu.engine, step)
        if not server.connected:
            return
        if self.description != before:
            name = cpu.package.name
            sys.stderr.write(f"isagen: gdb is let go: the program executes another one, for {name}\n")
            server.close()
            return
        self._stop(StopEvent(SIGNAL_TRAP, self.thread, executing=self.object("exec-file")))

    # --- Debuggee -------------------------------------------------------------------------------------------

    @property
    def thread(self) -> int:
        return self._process.thread.id

    def threads(self) -> tuple[int, ...]:
        return tuple(thread.id for thread in self._process.threads)

    def thread_name(self, thread: int) -> str:
        name = next((one.name for one in self._process.threads if one.id == thread), b"")
        return "".join(letter if letter.isprintable() else "?" for letter in name.decode("utf-8", "replace"))

    @contextmanager
    def _registers_of(self, number: int) -> Iterator[Thread]:
        """Have a thread's registers in the CPU."""
        process = self._process
        thread = next((one for one in process.threads if one.id == number), process.thread)
        if thread is process.thread or thread.registers is None:
            yield thread
            return
        own = process.cpu.save()
        process.cpu.restore(thread.registers)
        try:
            yield thread
        finally:
            thread.registers = process.cpu.save()
            process.cpu.restore(own)

    def read_register(self, thread: int, name: str) -> int | None:
        with self._registers_of(thread):
            return super().read_register(thread, name)

    def write_register(self, thread: int, name: str, value: int) -> bool:
        with self._registers_of(thread) as changed:
            if changed.stop is not None:
                # Its end would change registers, too. The program counter is still at it.
                self._calls[changed.id] = Call(changed, self._visible())
            return super().write_register(thread, name, value)

    def _visible(self) -> list[int]:
        """What the debugger takes for the registers in the CPU."""
        return [self.registers.read(slot.ours) for slot in self.slots if slot.ours is not None and slot.bulk]

    def _take_up_calls(self) -> None:
        """Threads whose registers are what they were go on with the system call that they were in."""
        for number, call in list(self._calls.items()):
            if call.thread not in self._process.threads:
                del self._calls[number]
                continue
            with self._registers_of(number):
                same = self._visible() == call.registers
            if same and call.thread.stop is None:
                call.take_up()
                del self._calls[number]

    def object(self, kind: str) -> bytes | None:
        process = self._process
        match kind:
            case "auxv":
                return process.auxiliary
            case "exec-file":
                file = process.program_file
                return process.executable if file is None else bytes(Path(f"/proc/self/fd/{file}").readlink())
            case "siginfo":
                abi, information = process.abi, self._information if self._told else None
                return b"" if information is None else information.pack(abi.pack, abi.word)
            case "threads":
                rows = (
                    f'<thread id="{one:x}" name={quoteattr(self.thread_name(one))}/>\n'
                    for one in self.threads()
                )
                return f"<threads>\n{''.join(rows)}</threads>\n".encode()
        return None

    # --- Supervisor -----------------------------------------------------------------------------------------

    @property
    def descriptor(self) -> int | None:
        peer = None if self.server is None else self.server.peer
        return None if peer is None else peer.fileno()

    def called(self) -> None:
        if self.server is not None and self.server.interrupted():
            self._stop(StopEvent(SIGNAL_INTERRUPT, self._somebody()))

    def stuck(self) -> None:
        self._stop(StopEvent(0, self._somebody(), stuck=True))

    def _somebody(self) -> int:
        """The thread that a stop is about which isn't about any."""
        threads = self.threads()
        return self.thread if self.thread in threads else threads[0]

    def holds(self, thread: Thread) -> bool:
        return self.held(thread.id)

    def waits_above(self) -> bool:
        thread = self._process.thread
        return thread.wait is not None or (bool(self._sent) and signals.has_signal(self._process, thread))

    def signal(self, info: SignalInfo) -> SignalInfo | None:
        server, process = self.server, self._process
        if server is None or not server.connected:
            return info
        if any(one is info for one in self._sent):
            self._sent = [one for one in self._sent if one is not info]
            return info
        number = self._number(info)
        if info.number == process.abi.signals["SIGKILL"]:
            return info
        if number not in server.passed:
            self._information, self._told = info, True
            super()._stop(StopEvent(number, self.thread))
            self._told = False
            self._take_up_calls()
            resume = self._resume
            if resume is None or resume.how == "detach" or not server.connected:
                return info
            if resume.signal != number or process.thread.wait is not None:
                self._send(resume)
                return None
        if self._steps_now() and process.actions.get(info.number, signals.NONE).handler > signals.SIG_IGN:
            self._stepped = self.thread  # the step ends where the handler begins
        return info

    def _steps_now(self) -> bool:
        resume, server = self._resume, self.server
        if resume is None or server is None or resume.how != "step":
            return False
        return (resume.thread or server.thread) == self.thread

    def _number(self, info: SignalInfo) -> int:
        return number_of(self._process.abi.signal_names.get(info.number), info.number)

    def _of_gdb(self, number: int) -> int | None:
        """The guest's number of the signal that gdb numbers so."""
        name = name_of(number)
        found = self._process.abi.signals.get(name) if name is not None else None
        return realtime_of(number) if found is None else found

    def _stop(self, event: StopEvent) -> None:
        """At stops that no signal is the reason of, the debugger may send one all the same."""
        super()._stop(event)
        self._take_up_calls()
        if self._resume is not None:
            self._send(self._resume)

    def _send(self, resume: Resume) -> None:
        """Send the signal that the debugger wants to go on with."""
        number = self._of_gdb(resume.signal) if resume.signal else None
        if number is None or self.server is None:
            return
        process, known = self._process, self._information
        info = known if known is not None and known.number == number else signals.own_info(number)
        info = info._replace()  # it is told apart from others by its identity
        wanted = resume.thread or self.server.thread
        target = next((one for one in process.threads if one.id == wanted), None)
        signals.send(process, info, target)
        if any(info is one for one in (process.pending if target is None else target.pending)):
            self._sent.append(info)  # else it is ignored, or pending already


class Debugger:
    """gdb's hold on a program that is about to run on `cpu`."""

    def __init__(self, process: Process, cpu: EngineCpu, port: int) -> None:
        self.debuggee = ProgramDebuggee(process, cpu)
        self.server = GdbServer(self.debuggee, port)
        self.debuggee.follow(cpu)
        process.supervisor = self.debuggee
        process.after_fork.append(self.server.abandon)

    def follow(self, cpu: EngineCpu) -> None:
        """The program may execute another one, on this CPU."""
        self.debuggee.follow(cpu)

    def wait(self) -> None:
        """Wait for gdb."""
        wait(self.debuggee, self.server)

    def ended(self, status: int, killer: int) -> None:
        """Tell gdb that the program has ended, with a status or by the host's signal `killer`."""
        name = signal.Signals(killer).name if killer in set(signal.Signals) else None
        self.server.ended(status, signal=number_of(name, killer) if killer else 0)


def wait(debuggee: CpuDebuggee, server: GdbServer) -> None:
    """Say where the server is, and wait for gdb."""
    sys.stderr.write(f"isagen: waiting for gdb: target remote localhost:{server.port}\n")
    sys.stderr.flush()
    debuggee.serve(server)


def debug_machine(cpu: Cpu, port: int, run: Callable[[int], Exit]) -> Callable[[int], Exit]:
    """Wait for gdb; what stands in for the CPU's run then. Traps are the machine's own business."""

    def kill() -> NoReturn:
        raise SystemExit(KILLED)

    debuggee = CpuDebuggee(cpu, kill=kill, run=run)
    wait(debuggee, GdbServer(debuggee, port))
    return debuggee.run
