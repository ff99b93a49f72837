"""Signals that the program causes itself: its faults, and those that it sends itself. Handlers, masks,
alternate stacks, and what happens without a handler."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from runtime.errors import NotYetError
from runtime.linux.abi.base import SignalCall
from runtime.linux.calls import signed, system_call
from runtime.linux.errors import CallTookOver, GuestExit, SystemCallError
from runtime.linux.messages import say
from runtime.linux.ports import EXECUTE, WRITE, AccessFault, Stop

if TYPE_CHECKING:
    from runtime.linux.process import Process

SIG_DFL, SIG_IGN = 0, 1
COUNT = 64
IGNORED_BY_DEFAULT = {"SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH"}
STOPPING = {"SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"}
SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2
SA_ONSTACK, SA_NODEFER, SA_RESETHAND = 0x0800_0000, 0x4000_0000, 0x8000_0000
SS_ONSTACK, SS_DISABLE = 1, 2
SI_TKILL = -6

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
        self.pending: list[tuple[int, bytes]] = []
        """Signals that wait: number and ``siginfo_t``."""
        self.alternate_stack = (0, 2, 0)  # address, flags (SS_DISABLE), size


def handler_of(process: Process, number: int) -> int:
    """The address of a signal's handler, `SIG_DFL` or `SIG_IGN`."""
    action = process.signals.actions.get(number)
    return process.abi.unpack(action[: process.abi.word]) if action else SIG_DFL


def send(process: Process, number: int, information: bytes = b"") -> None:
    """Make the signal pending: it is delivered when the system call under way returns."""
    if number:
        process.signals.pending.append((number, information or sent_information(process, number)))


def deliver(process: Process) -> None:
    """Deliver pending signals that aren't blocked."""
    state = process.signals
    waiting, state.pending = state.pending, []
    for number, information in waiting:
        if state.blocked >> (number - 1) & 1 and process.abi.signal_names.get(number) != "SIGKILL":
            state.pending.append((number, information))
        else:
            act(process, number, information)


def act(process: Process, number: int, information: bytes, report: str = "") -> None:
    """Take the action of a signal: call its handler, or what happens without one.

    Raises `GuestExit` where it kills the process; `report` is then printed. A fault (one with a report)
    kills where its signal is ignored or blocked.
    """
    name = process.abi.signal_names.get(number, f"SIGRT{number}")
    handler = handler_of(process, number)
    blocked = bool(process.signals.blocked >> (number - 1) & 1)
    if name not in ("SIGKILL", "SIGSTOP") and not (report and blocked):
        if handler == SIG_IGN and not report:
            return
        if handler not in (SIG_DFL, SIG_IGN):
            call_handler(process, number, handler, information, name)
            return
    if name in IGNORED_BY_DEFAULT:
        return
    if name in STOPPING:
        raise NotYetError(f"{name} stops the program, which isn't supported yet")
    if report:
        say(report)
    raise GuestExit(128 + number)


def call_handler(process: Process, number: int, handler: int, information: bytes, name: str) -> None:
    """Put a frame on the stack and go on at the handler. Raises `GuestExit` where there is no room for the
    frame.
    """
    abi, state, cpu = process.abi, process.signals, process.cpu
    size = abi.frame_size()
    if not size:
        raise NotYetError(
            f"the program wants its handler for {name} called, which isn't supported for {abi.name} yet",
            where=os.fsdecode(process.executable),
        )
    action = state.actions[number]
    word = abi.word
    flags = abi.unpack(action[word : 2 * word])
    mask = unpack_mask(process, action[-8:])
    restorer = abi.unpack(action[2 * word : 3 * word]) if abi.has_restorer else 0
    stack = cpu.get(abi.stack_pointer)
    address, stack_flags, length = state.alternate_stack
    on_alternate = bool(length) and address <= stack < address + length
    if flags & SA_ONSTACK and not stack_flags & SS_DISABLE and not on_alternate:
        stack = address + length
    frame = (stack - size & abi.mask) // 16 * 16
    shown = (address, SS_ONSTACK if on_alternate else stack_flags, length)
    call = SignalCall(number, handler, restorer, information, state.blocked, shown)
    try:
        process.memory.check(frame, size, WRITE)
        abi.enter_handler(cpu, process.memory.pages, frame, call)
    except AccessFault:
        say(f"isagen: guest: no room on the stack for the frame of {name}\n")
        raise GuestExit(128 + abi.signals["SIGSEGV"]) from None
    if flags & SA_RESETHAND:
        del state.actions[number]
    state.blocked |= mask | (0 if flags & SA_NODEFER else 1 << (number - 1))
    state.blocked &= ~unblockable(process)


def unblockable(process: Process) -> int:
    return sum(1 << (process.abi.signals[name] - 1) for name in ("SIGKILL", "SIGSTOP"))


def sent_information(process: Process, number: int) -> bytes:
    """``siginfo_t`` of a signal that a process sent itself: number, error, code SI_TKILL, pid, uid."""
    abi = process.abi
    head = [number, 0, SI_TKILL] + ([0] if abi.bits == 64 else [])
    return b"".join(abi.pack(v, 4) for v in (*head, os.getpid(), os.getuid())).ljust(128, b"\0")


def fault_information(process: Process, number: int, stop: Stop) -> bytes:
    """``siginfo_t`` of a fault: number, error, code (1 or 2: not mapped, not permitted), address."""
    abi = process.abi
    mapped = process.memory.find(stop.address) is not None
    code = 2 if stop.kind == "fault" and mapped else 1
    head = [number, 0, code] + ([0] if abi.bits == 64 else [])
    address = stop.address if stop.kind == "fault" else stop.pc
    return (b"".join(abi.pack(v, 4) for v in head) + abi.pack_words(address)).ljust(128, b"\0")


def fault(process: Process, stop: Stop) -> None:
    """An exception that isn't a system call: the program's signal."""
    name = process.abi.signal_of(stop)
    number = process.abi.signals[name]
    act(process, number, fault_information(process, number, stop), report=describe(process, stop, name))


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


@system_call("rt_sigreturn")
def rt_sigreturn(p: Process) -> int:
    """Back from a handler: registers and mask are those of the frame, and the call itself changes none."""
    if not p.abi.frame_size():
        raise SystemCallError(errno.ENOSYS)
    p.signals.blocked = p.abi.leave_handler(p.cpu, p.memory.pages) & ~unblockable(p)
    raise CallTookOver


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
    return unpack_mask(p, p.memory.read(address, 8))


def unpack_mask(p: Process, data: bytes) -> int:
    """A signal mask: an array of words, the lowest signals in the first."""
    word = p.abi.word
    return sum(p.abi.unpack(data[i : i + word]) << (8 * i) for i in range(0, 8, word))


def write_mask(p: Process, address: int, mask: int) -> None:
    words = [mask >> shift for shift in range(0, 64, p.abi.bits)]
    p.memory.write(address, p.abi.pack_words(*words))


@system_call("rt_sigpending")
def rt_sigpending(p: Process, address: int, size: int) -> int:
    write_mask(p, address, sum({1 << (n - 1) for n, _ in p.signals.pending}))
    return 0


@system_call("sigaltstack")
def sigaltstack(p: Process, new: int, old: int) -> int:
    """``stack_t``: address, flags (an int), size, each in a word."""
    word = p.abi.word
    before = p.signals.alternate_stack
    stack = p.cpu.get(p.abi.stack_pointer)
    active = bool(before[2]) and before[0] <= stack < before[0] + before[2]
    if active:
        before = (before[0], SS_ONSTACK, before[2])
    if new:
        data = p.memory.read(new, 3 * word)
        flags = p.abi.unpack(data[word : word + 4])
        if active:
            raise SystemCallError(errno.EPERM)
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
