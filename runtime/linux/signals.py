"""Signals: handlers and masks are kept; default actions happen. Handlers aren't called yet."""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import TYPE_CHECKING

from runtime.errors import NotYetError
from runtime.linux.calls import signed, system_call
from runtime.linux.errors import GuestExit, SystemCallError
from runtime.linux.ports import EXECUTE, WRITE, Stop

if TYPE_CHECKING:
    from runtime.linux.process import Process

SIG_DFL, SIG_IGN = 0, 1
COUNT = 64
IGNORED_BY_DEFAULT = {"SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH"}
STOPPING = {"SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"}
SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2

DESCRIPTIONS = {
    "SIGSEGV": "segmentation fault",
    "SIGBUS": "bus error",
    "SIGILL": "illegal instruction",
    "SIGFPE": "arithmetic exception",
    "SIGTRAP": "breakpoint",
}


class Signals:
    """A process's signal state. `actions` holds ``struct sigaction`` as the guest wrote it, by signal
    number.
    """

    def __init__(self) -> None:
        self.actions: dict[int, bytes] = {}
        self.blocked = 0
        self.pending: list[int] = []
        self.alternate_stack = (0, 2, 0)  # address, flags (SS_DISABLE), size


def handler_of(process: Process, number: int) -> int:
    """The address of a signal's handler, `SIG_DFL` or `SIG_IGN`."""
    action = process.signals.actions.get(number)
    return process.abi.unpack(action[: process.abi.word]) if action else SIG_DFL


def send(process: Process, number: int) -> None:
    """Make the signal pending: it is delivered when the system call under way returns."""
    if number:
        process.signals.pending.append(number)


def deliver(process: Process) -> None:
    """Deliver pending signals that aren't blocked."""
    state = process.signals
    waiting = []
    for number in state.pending:
        if state.blocked >> (number - 1) & 1 and process.abi.signal_names.get(number) != "SIGKILL":
            waiting.append(number)
            continue
        act(process, number)
    state.pending = waiting


def act(process: Process, number: int, report: str = "") -> None:
    """Take the action of a signal. Raises `GuestExit` where that kills the process; `report` is then
    printed.
    """
    name = process.abi.signal_names.get(number, f"SIGRT{number}")
    handler = handler_of(process, number)
    if name not in ("SIGKILL", "SIGSTOP"):
        if handler == SIG_IGN and not report:
            return
        if handler not in (SIG_DFL, SIG_IGN):
            raise NotYetError(
                f"the program wants its handler for {name} called, which isn't supported yet",
                where=os.fsdecode(process.executable),
            )
    if name in IGNORED_BY_DEFAULT:
        return
    if name in STOPPING:
        raise NotYetError(f"{name} stops the program, which isn't supported yet")
    if report:
        sys.stdout.flush()
        sys.stderr.write(report)
        sys.stderr.flush()
    raise GuestExit(128 + number)


def fault(process: Process, stop: Stop) -> None:
    """An exception that isn't a system call: the program's signal."""
    name = process.abi.signal_of(stop)
    act(process, process.abi.signals[name], report=describe(process, stop, name))


def describe(process: Process, stop: Stop, name: str) -> str:
    """What happened, where, and the registers, as text of several lines."""
    abi = process.abi
    digits = abi.bits // 4
    what = DESCRIPTIONS.get(name, name)
    cause = ""
    if stop.kind == "fault":
        verb = {WRITE: "writing", EXECUTE: "executing"}.get(stop.access, "reading")
        cause = f", {verb} {stop.address:#x}"
    else:
        cause = f" ({stop.name}, code {stop.code})" if stop.name else f" (code {stop.code})"
    area = process.memory.find(stop.pc)
    place = ""
    if area is not None and area.name:
        place = f" in {area.name}"
    lines = [f"isagen: guest: {what} ({name}) at pc {stop.pc:#x}{place}{cause}"]
    row: list[str] = []
    for register in abi.shown_registers:
        try:
            value = process.cpu.get(register)
        except KeyError:
            continue
        row.append(f"{register:>4} {value & abi.mask:0{digits}x}")
        if len(row) == 4:
            lines.append("  " + "  ".join(row))
            row = []
    if row:
        lines.append("  " + "  ".join(row))
    return "\n".join(lines) + "\n"


# --- system calls -------------------------------------------------------------------------------------


def check_signal(number: int) -> int:
    number = signed(number)
    if not 1 <= number <= COUNT:
        raise SystemCallError(errno.EINVAL)
    return number


@system_call("rt_sigaction")
def rt_sigaction(p: Process, number: int, new: int, old: int, a3: int, a4: int) -> int:
    """SPARC passes (number, new, old, restorer, size of the mask); the others have no restorer."""
    number = check_signal(number)
    size = a4 if p.abi.name.startswith("sparc") else a3
    if size != 8:
        raise SystemCallError(errno.EINVAL)
    length = p.abi.word * (3 if p.abi.has_restorer else 2) + 8
    before = p.signals.actions.get(number, bytes(length))
    if new:
        if p.abi.signal_names.get(number) in ("SIGKILL", "SIGSTOP"):
            raise SystemCallError(errno.EINVAL)
        action = p.memory.read(new, length)
        p.signals.actions[number] = action
    if old:
        p.memory.write(old, before)
    return 0


@system_call("rt_sigprocmask")
def rt_sigprocmask(p: Process, how: int, new: int, old: int, size: int) -> int:
    if size != 8:
        raise SystemCallError(errno.EINVAL)
    before = p.signals.blocked
    if new:
        mask = read_mask(p, new)
        how = signed(how)
        if p.abi.name.startswith("sparc"):
            how = {1: SIG_BLOCK, 2: SIG_UNBLOCK, 4: SIG_SETMASK}.get(how, -1)
        if how == SIG_BLOCK:
            p.signals.blocked |= mask
        elif how == SIG_UNBLOCK:
            p.signals.blocked &= ~mask
        elif how == SIG_SETMASK:
            p.signals.blocked = mask
        else:
            raise SystemCallError(errno.EINVAL)
    if old:
        write_mask(p, old, before)
    return 0


def read_mask(p: Process, address: int) -> int:
    """A signal mask: an array of words, the lowest signals in the first."""
    data = p.memory.read(address, 8)
    word = p.abi.word
    return sum(p.abi.unpack(data[i : i + word]) << (8 * i) for i in range(0, 8, word))


def write_mask(p: Process, address: int, mask: int) -> None:
    words = [mask >> shift for shift in range(0, 64, p.abi.bits)]
    p.memory.write(address, p.abi.pack_words(*words))


@system_call("rt_sigpending")
def rt_sigpending(p: Process, address: int, size: int) -> int:
    write_mask(p, address, sum({1 << (n - 1) for n in p.signals.pending}))
    return 0


@system_call("sigaltstack")
def sigaltstack(p: Process, new: int, old: int) -> int:
    """``stack_t``: address, flags (an int), size, each in a word."""
    word = p.abi.word
    before = p.signals.alternate_stack
    if new:
        data = p.memory.read(new, 3 * word)
        flags = p.abi.unpack(data[word : word + 4])
        p.signals.alternate_stack = (p.abi.unpack(data[:word]), flags, p.abi.unpack(data[2 * word :]))
    if old:
        data = p.abi.pack(before[0], word) + p.abi.pack(before[1], 4).ljust(word, b"\0")
        p.memory.write(old, data + p.abi.pack(before[2], word))
    return 0


@system_call("kill", "tkill")
def kill(p: Process, pid: int, number: int) -> int:
    target = signed(pid)
    if target not in (0, os.getpid(), -os.getpgrp()):
        raise SystemCallError(errno.ESRCH)
    number = signed(number)
    if not 0 <= number <= COUNT:
        raise SystemCallError(errno.EINVAL)
    send(p, number)
    return 0


@system_call("tgkill")
def tgkill(p: Process, group: int, thread: int, number: int) -> int:
    return kill(p, thread, number)


@system_call("pause")
def pause(p: Process) -> int:
    while True:
        time.sleep(3600)
