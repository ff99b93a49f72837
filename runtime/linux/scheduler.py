"""Runs a process: its threads take turns on the CPU, system calls are answered, what happened outside is
taken note of.

The turns depend on the numbers of executed instructions alone, so that a program whose input doesn't change
runs in the same order each time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from runtime.errors import IsagenError
from runtime.linux import faults, host, signals
from runtime.linux.calls import HANDLERS, Handler
from runtime.linux.errors import CallTookOver, GuestExit, SystemCallError
from runtime.linux.events import show_signals
from runtime.linux.handlers import load_all, load_usual
from runtime.linux.host_signals import HostSignals, die
from runtime.linux.ports import AccessFault, Stop
from runtime.linux.process import Process
from runtime.linux.siginfo import SignalInfo
from runtime.linux.thread import Thread
from runtime.linux.waiting import FAILURES, READABLE, Interrupted, Wait, now, ready

TURN: Final = 100_000
"""Instructions of a thread before the next one's turn."""
CALL_COST: Final = 200
"""Instructions that a system call counts as in a turn."""
FIRST_SLICE: Final = 1_000_000
LARGEST_SLICE: Final = 50_000_000
"""Instructions of a lone thread between two looks at what happens outside: milliseconds."""
SLICE_TIME: Final = 4_000_000
"""Nanoseconds that such a slice should take."""
LIMIT_STATUS: Final = 124


class End(NamedTuple):
    """How a process ended: by exit, with `status` 0 to 255; or killed by the host's signal `signal`, with
    128 + the guest's.
    """

    status: int
    signal: int = 0


class Observer(Protocol):
    """Is told of system calls and signals as they happen."""

    def entered(self, p: Process, name: str, arguments: list[int]) -> None:
        """A call begins. `name` is ``system_call_N`` where the number has none."""
        ...

    def left(self, p: Process, name: str, arguments: list[int], result: int, error: int) -> None:
        """It ends with `result`, or with the host's error number `error`."""
        ...

    def took_over(self, p: Process, name: str, arguments: list[int]) -> None:
        """It ends without a result: another program, a handler left, the end of the process."""
        ...

    def signalled(self, p: Process, info: SignalInfo) -> None:
        """A thread takes a signal."""
        ...

    def ended(self, p: Process, end: End) -> None: ...


class Scheduler:
    """Runs `process`. `host_signals`: this process of the host is the guest's alone: its signals are the
    guest's, and a guest's death by a signal is its own.
    """

    def __init__(
        self, process: Process, *, host_signals: bool = False, observer: Observer | None = None
    ) -> None:
        load_usual()
        self.p = process
        self.host = HostSignals(process) if host_signals else None
        if self.host is not None:
            with contextlib.suppress(OSError, AttributeError):
                host.set_name(process.thread.name)
            process.on_action = self.host.set_action
            process.on_mask = self.host.update
        self.observer = observer
        self._slice = FIRST_SLICE
        self._limit: int | None = None

    # --- the life of a process ------------------------------------------------------------------------

    def run(self, limit: int | None = None) -> End | None:
        """Run until the process ends. Returns None where `limit` instructions were executed before that.

        Forked processes never come back from here.
        """
        self._limit = limit
        try:
            while limit is None or self.p.instructions < limit:
                self._turn()
            end = None
        except GuestExit as ended:
            end = self._end(ended)
        if not self.p.is_child:
            return end
        if end is not None and end.signal:
            die(end.signal)
        os._exit(LIMIT_STATUS if end is None else end.status)

    def _end(self, ended: GuestExit) -> End:
        p = self.p
        for action in p.before_end:
            action()
        p.before_end.clear()
        p.family.leave()
        end = End(ended.status, p.abi.host_signal(ended.signal) if ended.signal else 0)
        if self.observer is not None:
            self.observer.ended(p, end)
        return end

    def _turn(self) -> None:
        """One thread's turn, or waiting until one can go on."""
        p = self.p
        candidates = [thread for thread in p.threads if self._can_go_on(thread)]
        if not candidates and p.supervisor is not None and all(map(p.supervisor.holds, p.threads)):
            p.supervisor.stuck()
            return
        self._look_around(wait=not candidates)
        if not candidates:
            candidates = [thread for thread in p.threads if self._can_go_on(thread)]
            if not candidates:
                return
        thread = self._next(candidates)
        self._switch(thread)
        if thread.wait is not None and not self._resume(thread):
            return
        if p.attention or thread.stop is not None:
            self._deliver()
        lone = len(p.threads) == 1
        self._run_thread(thread, self._slice if lone else TURN, lone)

    def _next(self, candidates: list[Thread]) -> Thread:
        """The first candidate behind the thread that had the last turn."""
        p = self.p
        if len(candidates) == 1:
            return candidates[0]
        order = p.threads
        last = order.index(p.thread) if p.thread in order else -1
        for thread in (*order[last + 1 :], *order[: last + 1]):
            if thread in candidates:
                return thread
        return candidates[0]

    def _can_go_on(self, thread: Thread) -> bool:
        if self.p.supervisor is not None and self.p.supervisor.holds(thread):
            return False
        wait = thread.wait
        if wait is None or wait.woken or wait.ready:
            return True
        if signals.has_awaited(self.p, thread):
            wait.woken = True
            return True
        if wait.deadline is not None and now() >= wait.deadline:
            return True
        return wait.interruptible and signals.has_signal(self.p, thread)

    def _switch(self, thread: Thread) -> None:
        p = self.p
        before = p.thread
        if before is thread:
            return
        if not before.gone:
            before.registers = p.cpu.save()
        p.thread = thread
        if thread.registers is not None:
            p.cpu.restore(thread.registers)
            thread.registers = None
        for register, value in p.abi.reservation.items():
            p.abi.write_if_there(p.cpu, register, value)
        p.attention = True

    def _run_thread(self, thread: Thread, budget: int, lone: bool) -> None:
        p = self.p
        started = time.perf_counter_ns() if lone else 0
        left = budget
        while left > 0:
            allowed = left if self._limit is None else min(left, self._limit - p.instructions)
            if allowed <= 0:
                return
            stop = p.cpu.run(allowed)
            p.instructions += stop.instructions
            left -= stop.instructions
            if stop.kind == "budget":
                if p.supervisor is None:
                    continue
                if thread.wait is not None or p.supervisor.holds(thread):
                    return
            elif p.abi.is_system_call(stop):
                p.instructions += 1
                left -= CALL_COST
                self.answer(stop)
                thread = p.thread
                if thread.gone or thread.wait is not None:
                    return
                if len(p.threads) > 1:
                    left = min(left, TURN)
            elif not self._grown(stop):
                if self.observer is not None:
                    name, code, address = faults.cause(p, stop)
                    number = p.abi.signals[name]
                    self.observer.signalled(p, SignalInfo(number, code, address=address, fault=True))
                signals.fault(p, stop)
                if thread.wait is not None:  # the supervisor has put it back into its call
                    return
            if p.attention:
                self._deliver()
        if lone:
            self._adapt(time.perf_counter_ns() - started)

    def _adapt(self, taken: int) -> None:
        if taken < SLICE_TIME // 2:
            self._slice = min(2 * self._slice, LARGEST_SLICE)
        elif taken > 2 * SLICE_TIME:
            self._slice = max(self._slice // 2, TURN)

    def _grown(self, stop: Stop) -> bool:
        """Whether a fault is over because the file that is mapped there has grown."""
        if stop.kind != "fault":
            return False
        area = self.p.memory.find(stop.address)
        if area is None or not area.shared or not area.permissions & stop.access:
            return False
        return self.p.memory.pages.grown(stop.address, area.permissions)

    def _deliver(self) -> None:
        p = self.p
        p.attention = False
        if self.observer is not None:
            wanted = ~p.thread.blocked
            for info in (*p.thread.pending, *p.pending):
                if wanted >> (info.number - 1) & 1:
                    self.observer.signalled(p, info)
        if p.signal_files:
            show_signals(p)
        signals.deliver(p)
        if p.pending:
            p.attention = len(p.threads) > 1 and any(signals.has_signal(p, t) for t in p.threads)
        if self.host is not None:
            self.host.update()

    # --- what happens outside -------------------------------------------------------------------------

    def _look_around(self, *, wait: bool) -> None:
        """Take note of descriptors that are ready, of signals and timers; if `wait`, until there is something
        to note.
        """
        supervisor = self.p.supervisor
        awake = self._waits()
        if supervisor is not None:  # what held threads wait for can come later
            awake = [t.wait for t in self.p.threads if t.wait is not None and not supervisor.holds(t)]
        wanted = self._wanted(awake, wait=wait)
        calling = supervisor.descriptor if supervisor is not None and wait else None
        if calling is not None:
            wanted[calling] = READABLE
        found = ready(wanted, self._patience(awake) if wait else 0)
        self._note(awake, found)
        if supervisor is not None and calling in found:
            supervisor.called()

    def _waits(self) -> list[Wait]:
        return [thread.wait for thread in self.p.threads if thread.wait is not None]

    def _wanted(self, awake: list[Wait], *, wait: bool) -> dict[int, int]:
        """The descriptors to look at, and for which events."""
        wanted: dict[int, int] = {}
        for one in awake:
            for descriptor, events in one.descriptors.items():
                wanted[descriptor] = wanted.get(descriptor, 0) | events
        if self.host is not None and wait:
            wanted[self.host.descriptor] = READABLE
        return wanted

    def _note(self, awake: list[Wait], found: Mapping[int, int]) -> None:
        """Note the descriptors that were found ready, signals that have arrived, timers that are due."""
        p = self.p
        for one in awake:
            for descriptor, events in one.descriptors.items():
                got = found.get(descriptor, 0) & (events | FAILURES)
                if got:
                    one.ready[descriptor] = got
        if self.host is not None:
            for info in self.host.read():
                self._arrived(info, self._waits())
        for timer in p.timers.expire():
            if timer.signal:
                target = next((t for t in p.threads if t.id == timer.thread), None)
                signals.send(p, timer.info(), target)
        if p.signal_files and p.attention:
            show_signals(p)

    def _patience(self, waits: list[Wait]) -> float | None:
        """Milliseconds to wait for the host; None for ever."""
        times = [wait.deadline - now() for wait in waits if wait.deadline is not None]
        due = self.p.timers.next_due()
        if due is not None:
            times.append(due)
        if self.host is None and any(wait.children for wait in waits):
            times.append(10_000_000)
        return max(0, min(times)) / 1e6 if times else None

    def _arrived(self, info: SignalInfo, waits: list[Wait]) -> None:
        if info.child and not self.p.knows_child(info.pid):
            return
        if info.child:
            for wait in waits:
                wait.woken |= wait.children
        signals.send(self.p, info)

    # --- system calls ---------------------------------------------------------------------------------

    def answer(self, stop: Stop) -> None:
        """Begin the system call at `stop`."""
        p = self.p
        abi, cpu = p.abi, p.cpu
        number = abi.call_number(cpu)
        name = abi.call_names.get(number, f"system_call_{number}")
        found: tuple[Handler, int] | None = HANDLERS.get(name)
        if found is None:
            load_all()
            found = HANDLERS.get(name)
        count = found[1] if found is not None else 6
        arguments = abi.arguments(cpu, count)
        thread = p.thread
        thread.stop = stop
        if self.observer is not None:
            self.observer.entered(p, name, abi.arguments(cpu, 6))
        if found is None:
            self._finish(thread, 0, errno.ENOSYS)
            return
        try:
            result = found[0](p, *arguments)
        except Exception as failure:
            self._failed(thread, failure)
            return
        if isinstance(result, int):
            self._finish(thread, result, 0)
            return
        thread.steps = result
        self._advance(thread, None)

    def _resume(self, thread: Thread) -> bool:
        """Go on with a call whose wait is over, or that a signal interrupts. Returns whether it ended."""
        wait = thread.wait
        assert wait is not None
        over = wait.woken or wait.ready or (wait.deadline is not None and now() >= wait.deadline)
        thread.wait = None
        self._advance(thread, None if over else wait)
        return thread.wait is None and not thread.gone

    def _advance(self, thread: Thread, interrupted: Wait | None) -> None:
        """Let a call take its next step; `interrupted` is the wait that a signal ends."""
        steps = thread.steps
        assert steps is not None
        try:
            if interrupted is not None:
                thread.wait = steps.throw(Interrupted())
            else:
                thread.wait = next(steps)
            return
        except StopIteration as end:
            thread.steps = None
            self._finish(thread, end.value, 0)
            if self.host is not None and self.host.any_pending():
                self._look_around(wait=False)
        except Interrupted:
            thread.steps = None
            thread.restartable = interrupted is not None and interrupted.restart
            if self.observer is not None:
                name, arguments = self._call_of(thread)
                self.observer.left(self.p, name, arguments, 0, errno.EINTR)
            self.p.attention = True  # `signals.deliver` ends it
        except Exception as failure:
            thread.steps = None
            self._failed(thread, failure)

    def _failed(self, thread: Thread, failure: Exception) -> None:
        """End a call by what its handler raised."""
        p = self.p
        if isinstance(failure, GuestExit):
            self._took_over(p)
            raise failure
        if isinstance(failure, CallTookOver):
            self._took_over(p)
            p.thread.stop = None
            p.attention = True
        elif isinstance(failure, SystemCallError):
            self._finish(thread, 0, failure.number)
        elif isinstance(failure, AccessFault):
            self._finish(thread, 0, errno.EFAULT)
        elif isinstance(failure, OSError):
            self._finish(thread, 0, failure.errno or errno.EIO)
        elif isinstance(failure, ValueError | OverflowError):
            # The host's Python refuses what no kernel takes either: embedded zeros, numbers beyond C types.
            self._finish(thread, 0, errno.EINVAL)
        elif isinstance(failure, MemoryError | IsagenError):  # the host has no memory for a mapping
            self._finish(thread, 0, errno.ENOMEM)
        else:
            raise failure

    def _finish(self, thread: Thread, result: int, error: int) -> None:
        p = self.p
        if self.observer is not None:
            name, arguments = self._call_of(thread)
            self.observer.left(p, name, arguments, result, error)
        stop, thread.stop = thread.stop, None
        assert stop is not None
        p.abi.finish_call(p.cpu, stop, result, p.abi.error_numbers.get(error, error))
        if thread.mask_after is not None:
            signals.set_mask(p, thread, thread.mask_after)
            thread.mask_after = None

    def _took_over(self, p: Process) -> None:
        if self.observer is not None:
            self.observer.took_over(p, "", [])

    def _call_of(self, thread: Thread) -> tuple[str, list[int]]:
        """Name and arguments of the call under way."""
        abi, cpu = self.p.abi, self.p.cpu
        number = abi.call_number(cpu)
        return abi.call_names.get(number, f"system_call_{number}"), abi.arguments(cpu, 6)
