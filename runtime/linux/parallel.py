"""Runs a process with its threads on several threads of the host (``--threads host``).

As many workers as the host has CPUs, each a thread of the host with a CPU of the engine over the same memory.
A worker takes a thread of the guest that can go on and lets it execute, without any lock; everything else
(system calls, signals, choosing, waiting) is done by whoever has the process's lock, exactly as where threads
take turns. What must not happen while others execute (mappings that change, fork, execve, the end) makes
them stand still first: a CPU only begins to run with the lock held.

As long as there is one thread, all is as in `Scheduler`: the team is made with the second one.
"""

from __future__ import annotations

import os
import threading
from typing import Final

from runtime.linux import faults, signals
from runtime.linux.errors import GuestExit
from runtime.linux.ports import Cpu, Stop
from runtime.linux.process import Process
from runtime.linux.scheduler import CALL_COST, End, Observer, Scheduler
from runtime.linux.siginfo import SignalInfo
from runtime.linux.thread import Thread
from runtime.linux.waiting import READABLE, now, ready

SLICE: Final = 1 << 16
"""Most instructions of a CPU between two looks at what other CPUs have changed."""
TURN: Final = 1_000_000
"""Instructions of a thread before another one, for which there is no CPU, has its turn."""
MOST_CPUS: Final = 64


def host_cpus() -> int:
    """How many threads should run at a time: two at least, so that they do so everywhere."""
    return min(max(2, len(os.sched_getaffinity(0))), MOST_CPUS)


class Worker:
    """A thread of the host that runs the guest's threads on a CPU."""

    __slots__ = ("called", "cpu", "holds", "retired", "still", "thread")

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu
        self.thread: Thread | None = None
        """The thread that is having its turn."""
        self.holds: Thread | None = None
        """The thread whose registers the CPU has."""
        self.called = False
        """It is to take the lock, and see why."""
        self.retired = False
        """It is to end."""
        self.still = threading.Event()
        """Set while the CPU doesn't run."""
        self.still.set()

    def call(self) -> None:
        """Have it take the lock soon, if its CPU runs. With the lock held."""
        if not self.still.is_set():
            self.called = True
            self.cpu.interrupt()


class ParallelScheduler(Scheduler):
    """A `Scheduler` whose process's threads run at the same time, `Settings.cpus` at most."""

    def __init__(
        self, process: Process, *, host_signals: bool = False, observer: Observer | None = None
    ) -> None:
        super().__init__(process, host_signals=host_signals, observer=observer)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        """Idle workers wait for it."""
        self._workers: list[Worker] = []
        """The host's main thread's first; empty where there is one thread of the guest."""
        self._idle = 0
        """Workers that wait for `_changed`."""
        self._bell = -1
        """An eventfd: wakes the worker that looks out for what happens outside."""
        self._looking_until: float | None = None
        """When that worker looks around by itself (CLOCK_MONOTONIC, nanoseconds); None: nobody looks out."""
        self._last: Thread | None = None
        """The thread that had the last turn."""
        self._changes = 0
        """How often all stood still."""
        self._ended: BaseException | None = None
        """What a worker has raised: the end of the process."""
        if self.host is not None:
            self.host.on_change = self._call_all

    # --- the life of a team -----------------------------------------------------------------------------

    def _turn(self) -> None:
        """While there is one thread, as usual; else the main thread's part in the team's work, to its end."""
        if not self._workers and len(self.p.threads) == 1:
            super()._turn()
            return
        with self._lock:
            if not self._workers:
                self._begin()
            self._work(self._workers[0])

    def _begin(self) -> None:
        """The main thread is the first worker."""
        # Imported by no worker: the translator's process is a fork, which must find no import under way.
        import runtime.cpu.translator.worker  # noqa: F401

        p = self.p
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        first = Worker(p.cpu)
        if not p.thread.gone:
            first.holds, p.thread.home = p.thread, p.cpu
        self._workers = [first]
        self._last = p.thread
        p.stand_still = p.memory.pages.stand_still = self._stand_still
        p.after_fork.append(self._forked)

    def _hire(self) -> None:
        """One more worker."""
        self._stand_still()
        worker = Worker(self.p.cpu.beside())
        self._workers.append(worker)
        threading.Thread(target=self._serve, args=(worker,), name="guest CPU", daemon=True).start()

    def _serve(self, worker: Worker) -> None:
        """The life of a thread of the host beside the main one."""
        process = os.getpid()
        try:
            with self._lock:
                self._work(worker)
        except BaseException as error:
            self._ended = error
            with self._lock:
                self._call_all()
        if os.getpid() != process:  # a fork of the guest's: this is its only thread now
            try:
                self.run(self._limit)
            finally:
                os._exit(70)

    def _forked(self) -> None:
        """This is a new process, which has but the calling thread."""
        self._changed = threading.Condition(self._lock)
        self._idle, self._looking_until = 0, None
        self.p.after_fork.remove(self._forked)
        self._disband()

    def _disband(self) -> None:
        """The workers end, and all CPUs but the process's. While they stand still."""
        for worker in self._workers:
            worker.retired = True
            if worker.cpu is not self.p.cpu:
                worker.cpu.close()
        self._call_all()
        self._workers = []
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1

    def _end(self, ended: GuestExit) -> End:
        with self._lock:
            self._stand_still()
            self._disband()
        return super()._end(ended)

    def _is_over(self) -> bool:
        return self._ended is not None or (self._limit is not None and self.p.instructions >= self._limit)

    # --- standing still ---------------------------------------------------------------------------------

    def _stand_still(self) -> None:
        """Have all CPUs return. They don't run again before the caller has given the lock back."""
        self._changes += 1
        for worker in self._workers:
            worker.call()
        for worker in self._workers:
            worker.still.wait()

    def _call_all(self) -> None:
        """Have all workers look around. With the lock held, if there are any."""
        if not self._workers:
            return
        for worker in self._workers:
            worker.call()
        self._changed.notify_all()
        self._ring()

    def _ring(self) -> None:
        if self._looking_until is not None and self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    # --- a worker's work: all with the lock held, but for CPUs that run and waiting ------------------------

    def _work(self, worker: Worker) -> None:
        """Give threads their turns until the worker is retired, or the process is over: the main thread then
        raises why.
        """
        p = self.p
        while not worker.retired:
            if self._is_over():
                if worker is not self._workers[0]:
                    self._call_all()
                    return
                if self._ended is not None:
                    raise self._ended
                self._stand_still()
                self._gather(worker)
                return
            if self.host is not None:
                self.host.apply()
            thread = self._choose()
            if thread is None:
                continue
            worker.thread = self._last = thread
            self._bring(worker, thread)
            p.thread, p.cpu = thread, worker.cpu
            if thread.wait is None or self._resume(thread):
                self._give_turn(worker, thread)
            worker.thread = None
            if p.cpu is not worker.cpu and not worker.retired:  # execve
                p.after_fork.remove(self._forked)
                p.stand_still = p.memory.pages.stand_still = lambda: None
                self._disband()

    def _gather(self, worker: Worker) -> None:
        """Leave a state that `run` can be called with again: one CPU, which the main thread has."""
        p = self.p
        self._bring(worker, p.thread)
        p.cpu = worker.cpu
        for other in self._workers:
            if other.holds is not None and other is not worker:
                other.holds.registers, other.holds.home = other.cpu.save(), None
        p.thread.home = None
        p.after_fork.remove(self._forked)
        p.stand_still = p.memory.pages.stand_still = lambda: None
        self._disband()

    def _choose(self) -> Thread | None:
        """The thread that has the next turn. None: there was none, and something has happened since."""
        p = self.p
        if self._looking_until is None:
            self._look_around(wait=False)
            self._alert()
        busy = [worker.thread for worker in self._workers]
        candidates = [thread for thread in p.threads if thread not in busy and self._can_go_on(thread)]
        if candidates:
            if len(candidates) > 1:
                self._share(len(candidates) - 1)
            elif self._idle and self._looking_until is None:
                self._changed.notify()  # to look out
            return self._next(candidates)
        if self._looking_until is None:
            self._look_out()
        else:
            self._wait()
        return None

    def _next(self, candidates: list[Thread]) -> Thread:
        order = self.p.threads
        last = order.index(self._last) if self._last in order else -1
        return next(thread for thread in (*order[last + 1 :], *order) if thread in candidates)

    def _wait(self) -> None:
        self._idle += 1
        try:
            self._changed.wait()
        finally:
            self._idle -= 1

    def _look_out(self) -> None:
        """Wait for what happens outside."""
        awake = self._waits()
        wanted = self._wanted(awake, wait=True)
        wanted[self._bell] = READABLE
        patience, bell = self._patience(awake), self._bell
        self._looking_until = self._due()
        self._lock.release()
        try:
            found = ready(wanted, patience)
        finally:
            self._lock.acquire()
            self._looking_until = None
        if found.get(bell) and bell == self._bell:
            os.eventfd_read(bell)
        if self._bell >= 0:  # else the team was disbanded
            self._note(awake, found)
            self._alert()

    def _due(self) -> float:
        """When something is due that nobody outside tells of (CLOCK_MONOTONIC, nanoseconds)."""
        deadlines = [wait.deadline for wait in self._waits() if wait.deadline is not None]
        timer = self.p.timers.next_due()
        if timer is not None:
            deadlines.append(now() + timer)
        return min(deadlines, default=float("inf"))

    def _share(self, count: int) -> None:
        """There are `count` threads for other workers to take."""
        if self._idle:
            self._changed.notify(count)
        elif self._looking_until is not None:
            self._ring()
        elif len(self._workers) < self.p.settings.cpus:
            self._hire()

    def _share_others(self) -> None:
        """A call has ended, and its thread goes on: what it has brought about is for others."""
        p = self.p
        if p.attention:
            self._alert()
        if not self._idle and self._looking_until is None and len(self._workers) >= p.settings.cpus:
            return
        busy = [worker.thread for worker in self._workers]
        count = sum(thread not in busy and self._can_go_on(thread) for thread in p.threads)
        if count:
            self._share(count)
        elif self._looking_until is not None and p.timers.running() and self._due() < self._looking_until:
            self._ring()

    def _alert(self) -> None:
        """Signals wait: let those take them who may."""
        p = self.p
        for worker in self._workers:
            if worker.thread is not None and signals.has_signal(p, worker.thread):
                worker.call()
        if any(thread.wait is not None and self._can_go_on(thread) for thread in p.threads):
            self._ring()

    def _bring(self, worker: Worker, thread: Thread) -> None:
        """Give the worker's CPU the thread's registers."""
        p = self.p
        if worker.holds is thread:
            return
        if thread.home is not None:
            for other in self._workers:
                if other.holds is thread:
                    other.holds = None
            thread.registers = thread.home.save()
        if worker.holds is not None and not worker.holds.gone:
            worker.holds.registers, worker.holds.home = worker.cpu.save(), None
        if thread.registers is not None:
            worker.cpu.restore(thread.registers)
            thread.registers = None
        for register, value in p.abi.reservation.items():
            p.abi.write_if_there(worker.cpu, register, value)
        worker.holds, thread.home = thread, worker.cpu

    def _give_turn(self, worker: Worker, thread: Thread) -> None:
        """Let the thread execute until it waits, ends, or others may have their turn."""
        p = self.p
        left = TURN
        p.attention = True
        while not (thread.gone or worker.retired or self._is_over()):
            if p.attention or thread.pending or p.pending or thread.stop is not None:
                self._deliver()
                self._share_others()
            if left <= 0:
                break
            changes = self._changes
            stop, executed = self._execute(worker, left)
            if worker.retired:
                break
            p.thread, p.cpu = thread, worker.cpu
            p.instructions += executed
            left -= executed
            if self.host is not None:
                self.host.apply()
            if stop.kind == "budget":
                continue
            if p.abi.is_system_call(stop):
                p.instructions += 1
                left -= CALL_COST
                self.answer(stop)
                if p.cpu is not worker.cpu or worker.retired or thread.gone:
                    break
                if thread.wait is not None:
                    self._ring()  # whoever looks out should know for what it waits
                    break
                self._share_others()
            elif not self._is_past(stop, changes) and not self._grown(stop):
                if self.observer is not None:
                    name, code, address = faults.cause(p, stop)
                    self.observer.signalled(
                        p, SignalInfo(p.abi.signals[name], code, address=address, fault=True)
                    )
                signals.fault(p, stop)

    def _is_past(self, stop: Stop, changes: int) -> bool:
        """Whether mappings have changed since the CPU began to run, so that a fault may be none any more."""
        if stop.kind != "fault" or changes == self._changes:
            return False
        area = self.p.memory.find(stop.address)
        return area is not None and bool(area.permissions & stop.access)

    def _execute(self, worker: Worker, budget: int) -> tuple[Stop, int]:
        """Let the worker's CPU run, without the lock. Returns why it stopped, and after how many
        instructions.
        """
        cpu, total = worker.cpu, 0
        if self._limit is not None:
            budget = min(budget, self._limit - self.p.instructions)
        worker.called = False
        worker.still.clear()
        self._lock.release()
        try:
            while True:
                stop = cpu.run(min(SLICE, budget - total))
                total += stop.instructions
                if stop.kind != "budget" or worker.called or total >= budget:
                    return stop, total
        finally:
            worker.still.set()
            self._lock.acquire()

    def _deliver(self) -> None:
        super()._deliver()
        self._alert()
