"""The host's signals to this process, and the guest's settings for them.

All are blocked and read from a descriptor at points of the scheduler's choice, so that none arrives in the
middle of anything. But job control by a terminal stays the host's as long as the guest leaves it as it is.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import struct
import threading
from collections.abc import Callable
from typing import Final

from runtime.linux import host
from runtime.linux.process import Process
from runtime.linux.siginfo import CLD_DUMPED, CLD_KILLED, CLD_STOPPED, SI_USER, SignalInfo
from runtime.linux.signals import SIG_DFL, SIG_IGN
from runtime.linux.thread import Action

ALL: Final = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
JOB_CONTROL: Final = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})
UNTOUCHED: Final = frozenset({signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ})
"""The last two come from calls of the emulator's own, which sends the guest its own."""
_INFO: Final = struct.Struct("=IiiIIiIIIIiiQQQQ")


class HostSignals:
    """Takes over this process's signals for the guest `p`."""

    def __init__(self, p: Process) -> None:
        self.p = p
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ALL)
        p.thread.blocked = sum(1 << (p.abi.guest_signal(int(number)) - 1) for number in before)
        for number in ALL - UNTOUCHED:
            with contextlib.suppress(OSError, ValueError):
                if signal.getsignal(number) == signal.SIG_IGN:
                    p.actions[p.abi.guest_signal(int(number))] = Action(SIG_IGN)
                elif signal.getsignal(number) != signal.SIG_DFL:
                    signal.signal(number, signal.SIG_DFL)  # Python's own, for SIGINT
        self.descriptor = host.new_signalfd({int(number) for number in ALL})
        self.on_change: Callable[[], None] = lambda: None
        """Is called when other threads of the host should `apply` what is new."""
        self._free: frozenset[signal.Signals] = frozenset()
        """The signals that are left to the host."""
        self._applied: dict[int, frozenset[signal.Signals]] = {}
        """The same, as the host's threads have it in their masks."""
        self.update()

    def update(self) -> None:
        """Tell the host what the guest has set for the signals that the host acts on by itself."""
        free = frozenset(filter(self._is_free, JOB_CONTROL))
        if free != self._free:
            self._free = free
            self.on_change()
        self.apply()

    def _is_free(self, number: signal.Signals) -> bool:
        """Whether nothing handles or ignores the signal, and a thread doesn't block it."""
        p = self.p
        guest = p.abi.guest_signal(int(number))
        if guest in p.actions and p.actions[guest].handler != SIG_DFL:
            return False
        return any(not thread.blocked >> (guest - 1) & 1 for thread in p.threads)

    def apply(self) -> None:
        """Set the calling thread's mask."""
        free = self._free
        if self._applied.get(threading.get_ident()) == free:
            return
        self._applied[threading.get_ident()] = free
        signal.pthread_sigmask(signal.SIG_BLOCK, JOB_CONTROL - free)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, free)

    def set_action(self, number: int, handler: int) -> None:
        """The guest ignores a signal, or doesn't any more: then so does the host."""
        host_number = self.p.abi.host_signal(number)
        if host_number not in ALL - UNTOUCHED:
            return
        host.ignore_signal(host_number, handler == SIG_IGN)

    def any_pending(self) -> bool:
        """Whether signals have arrived. What a system call found out may be what a signal tells, too (a child
        that has ended): as a kernel does, the guest gets that before it goes on.
        """
        return bool(signal.sigpending())

    def read(self) -> list[SignalInfo]:
        """The signals that have arrived, by the guest's numbers."""
        found: list[SignalInfo] = []
        while True:
            try:
                data = os.read(self.descriptor, 16 * host.SIGNAL_BYTES)
            except BlockingIOError:
                return found
            for at in range(0, len(data), host.SIGNAL_BYTES):
                found.append(self._info(data[at : at + host.SIGNAL_BYTES]))

    def _info(self, data: bytes) -> SignalInfo:
        number, _, code, pid, uid, _, _, _, _, _, status, _, pointer, *_ = _INFO.unpack_from(data)
        abi = self.p.abi
        guest = abi.guest_signal(number)
        if number == signal.SIGCHLD and code > SI_USER:
            if code in (CLD_KILLED, CLD_DUMPED, CLD_STOPPED):
                status = abi.guest_signal(status)
            return SignalInfo(guest, code, pid, uid, value=status, child=True)
        return SignalInfo(guest, code, pid, uid, value=pointer)


def die(number: int) -> None:
    """End this process by the host's signal `number`, so that its parent sees just that."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # where it doesn't kill
