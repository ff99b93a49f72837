"""System calls on signals: actions, masks, waiting for them, sending them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from runtime.linux import host
from runtime.linux.calls import signed, system_call
from runtime.linux.errors import CallTookOver, SystemCallError
from runtime.linux.processes import group_of, pid_of
from runtime.linux.siginfo import SI_TKILL, SI_USER, SignalInfo
from runtime.linux.signals import (
    COUNT,
    SA_RESTORER,
    SIG_IGN,
    SS_AUTODISARM,
    alternate_stack,
    is_ignored,
    own_info,
    pending_mask,
    send,
    set_mask,
    take,
    unblockable,
)
from runtime.linux.thread import SS_DISABLE, SS_ONSTACK, Action
from runtime.linux.time import deadline_of
from runtime.linux.waiting import Steps, Wait, now

if TYPE_CHECKING:
    from runtime.linux.process import Process
    from runtime.linux.thread import Thread

SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2
SPARC_HOW = {1: SIG_BLOCK, 2: SIG_UNBLOCK, 4: SIG_SETMASK}
SMALLEST_STACK = 2048


def check_signal(number: int) -> int:
    number = signed(number)
    if not 1 <= number <= COUNT:
        raise SystemCallError(errno.EINVAL)
    return number


# --- actions ----------------------------------------------------------------------------------------------


def change_action(p: Process, number: int, action: Action) -> None:
    if p.abi.signal_names.get(number) in ("SIGKILL", "SIGSTOP"):
        raise SystemCallError(errno.EINVAL)
    before = p.actions.get(number, Action()).handler
    action.mask &= ~unblockable(p)
    p.actions[number] = action
    if action.handler == SIG_IGN or before == SIG_IGN:
        p.on_action(number, action.handler)
    p.on_mask()
    if is_ignored(p, number):
        for queue in (p.pending, *(thread.pending for thread in p.threads)):
            queue[:] = [info for info in queue if info.number != number]


@system_call("rt_sigaction")
def rt_sigaction(p: Process, number: int, new: int, old: int, a3: int, a4: int) -> int:
    """``struct sigaction``: handler and flags (words), restorer where the architecture has it, mask. SPARC
    passes (number, new, old, restorer, size of the mask).
    """
    number = check_signal(number)
    abi, word = p.abi, p.abi.word
    sparc = abi.name.startswith("sparc")
    if (a4 if sparc else a3) != 8:
        raise SystemCallError(errno.EINVAL)
    length = word * (3 if abi.has_restorer else 2) + 8
    before = p.actions.get(number, Action())
    if new:
        data = p.memory.read(new, length)
        handler, flags = (abi.unpack(data[i * word : (i + 1) * word]) for i in range(2))
        restorer = abi.unpack(data[2 * word : 3 * word]) if abi.has_restorer else 0
        if sparc:
            restorer = a3
        elif not flags & SA_RESTORER:
            restorer = 0
        generic = abi.generic_action_flags(flags & 0xFFFF_FFFF)
        change_action(p, number, Action(handler, generic, abi.unpack_mask(data[-8:]), restorer))
    if old:
        words = (before.handler, abi.own_action_flags(before.flags)) + (
            (before.restorer,) if abi.has_restorer else ()
        )
        p.memory.write(old, abi.pack_words(*words) + abi.pack_mask(before.mask))
    return 0


@system_call("sigaction")
def sigaction(p: Process, number: int, new: int, old: int) -> int:
    """The old call of 32-bit architectures: handler, mask (one word), flags, restorer."""
    number = check_signal(abs(signed(number)))
    before = p.actions.get(number, Action())
    if new:
        data = p.memory.read(new, 16)
        handler, mask, flags, restorer = (p.abi.unpack(data[i : i + 4]) for i in range(0, 16, 4))
        change_action(p, number, Action(handler, p.abi.generic_action_flags(flags), mask, restorer))
    if old:
        flags = p.abi.own_action_flags(before.flags)
        p.memory.write(old, p.abi.pack_words(before.handler, before.mask, flags, before.restorer))
    return 0


@system_call("signal")
def signal_(p: Process, number: int, handler: int) -> int:
    number = check_signal(number)
    before = p.actions.get(number, Action()).handler
    change_action(p, number, Action(handler, 0xC000_0000))  # SA_RESETHAND, SA_NODEFER
    return before


def leave(p: Process, with_info: bool) -> int:
    """Back from a handler: registers, mask and alternate stack are those of the frame, and the call itself
    changes none.
    """
    found = p.abi.leave_handler(p.cpu, p.memory.read, with_info)
    set_mask(p, p.thread, found.blocked)
    if found.stack is not None and not found.stack[1] & ~(SS_ONSTACK | SS_DISABLE | SS_AUTODISARM):
        address, flags, size = found.stack
        p.thread.alternate_stack = (address, flags & ~SS_ONSTACK, size)
    p.on_mask()
    raise CallTookOver


@system_call("rt_sigreturn")
def rt_sigreturn(p: Process) -> int:
    return leave(p, True)


@system_call("sigreturn")
def sigreturn(p: Process) -> int:
    return leave(p, False)


@system_call("sigaltstack")
def sigaltstack(p: Process, new: int, old: int) -> int:
    """``stack_t``: address, flags (an int), size, each in a word."""
    before = alternate_stack(p, p.thread)
    if new:
        address, flags, size = p.abi.unpack_stack(p.memory.read(new, 3 * p.abi.word))
        if before[1] & SS_ONSTACK:
            raise SystemCallError(errno.EPERM)
        if flags & ~(SS_ONSTACK | SS_DISABLE | SS_AUTODISARM):
            raise SystemCallError(errno.EINVAL)
        if flags & SS_DISABLE:
            address, size = 0, 0
        elif size < SMALLEST_STACK:
            raise SystemCallError(errno.ENOMEM)
        p.thread.alternate_stack = (address, flags & ~SS_ONSTACK, size)
    if old:
        p.memory.write(old, p.abi.pack_stack(before))
    return 0


# --- masks ------------------------------------------------------------------------------------------------


def change_mask(p: Process, how: int, mask: int) -> None:
    how = signed(how)
    if p.abi.name.startswith("sparc"):
        how = SPARC_HOW.get(how, -1)
    blocked = p.thread.blocked
    if how == SIG_BLOCK:
        blocked |= mask
    elif how == SIG_UNBLOCK:
        blocked &= ~mask
    elif how == SIG_SETMASK:
        blocked = mask
    else:
        raise SystemCallError(errno.EINVAL)
    set_mask(p, p.thread, blocked)
    p.on_mask()


@system_call("rt_sigprocmask")
def rt_sigprocmask(p: Process, how: int, new: int, old: int, size: int) -> int:
    if size != 8:
        raise SystemCallError(errno.EINVAL)
    before = p.thread.blocked
    if new:
        change_mask(p, how, p.abi.unpack_mask(p.memory.read(new, 8)))
    if old:
        p.memory.write(old, p.abi.pack_mask(before))
    return 0


@system_call("sigprocmask")
def sigprocmask(p: Process, how: int, new: int, old: int) -> int:
    """The old call: the lowest 32 signals only."""
    before = p.thread.blocked
    if new:
        high = before >> 32 << 32 if signed(how) == SIG_SETMASK else 0
        change_mask(p, how, high | p.abi.unpack(p.memory.read(new, 4)))
    if old:
        p.memory.write(old, p.abi.pack(before, 4))
    return 0


@system_call("rt_sigpending")
def rt_sigpending(p: Process, address: int, size: int) -> int:
    if size > 8:
        raise SystemCallError(errno.EINVAL)
    mask = p.abi.pack_mask(pending_mask(p, p.thread) & p.thread.blocked)
    p.memory.write(address, mask[:size])
    return 0


@system_call("sigpending")
def sigpending(p: Process, address: int) -> int:
    p.memory.write(address, p.abi.pack(pending_mask(p, p.thread) & p.thread.blocked, p.abi.word))
    return 0


# --- waiting ----------------------------------------------------------------------------------------------


def suspend(p: Process, mask: int | None) -> Steps:
    """Wait for a handler to be called, with the mask `mask` meanwhile."""
    if mask is not None:
        p.thread.mask_after = p.thread.blocked
        set_mask(p, p.thread, mask)
    while True:
        yield Wait(restart=False)


@system_call("rt_sigsuspend")
def rt_sigsuspend(p: Process, address: int, size: int) -> int | Steps:
    if size != 8:
        raise SystemCallError(errno.EINVAL)
    return suspend(p, p.abi.unpack_mask(p.memory.read(address, 8)))


@system_call("sigsuspend")
def sigsuspend(p: Process, a0: int, a1: int, a2: int) -> int | Steps:
    """The old call: the mask is the last of three arguments (i386, ARM), or the only one."""
    return suspend(p, a2 if p.abi.name in ("i386", "arm") else a0)


@system_call("pause")
def pause(p: Process) -> int | Steps:
    return suspend(p, None)


def wait_for_signal(
    p: Process, mask_at: int, info_at: int, timeout: int, size: int, word: int
) -> int | Steps:
    if size != 8:
        raise SystemCallError(errno.EINVAL)
    mask = p.abi.unpack_mask(p.memory.read(mask_at, 8)) & ~unblockable(p)
    deadline = deadline_of(p, timeout, word)

    def steps() -> Steps:
        thread = p.thread
        while True:
            found = take(p, thread, mask)
            if found is not None:
                break
            if deadline is not None and now() >= deadline:
                raise SystemCallError(errno.EAGAIN)
            thread.awaited = mask
            try:
                yield Wait(deadline=deadline, restart=False)
            finally:
                thread.awaited = 0
        if info_at:
            p.memory.write(info_at, found.pack(p.abi.pack, p.abi.word))
        return found.number

    return steps()


@system_call("rt_sigtimedwait")
def rt_sigtimedwait(p: Process, mask: int, info: int, timeout: int, size: int) -> int | Steps:
    return wait_for_signal(p, mask, info, timeout, size, p.abi.word)


@system_call("rt_sigtimedwait_time64")
def rt_sigtimedwait_time64(p: Process, mask: int, info: int, timeout: int, size: int) -> int | Steps:
    return wait_for_signal(p, mask, info, timeout, size, 8)


# --- sending ----------------------------------------------------------------------------------------------


def deliver_to(p: Process, pid: int, number: int, value: int | None = None) -> None:
    """Send a signal to a process of the family (ESRCH, EPERM for others)."""
    if pid == os.getpid():
        if number:
            info = own_info(number) if value is None else SignalInfo(number, -1, pid, os.getuid(), value)
            send(p, info)
        return
    if number and pid not in p.family.members():
        os.kill(pid, 0)  # ESRCH where there is none
        raise SystemCallError(errno.EPERM)
    if value is None:
        os.kill(pid, p.abi.host_signal(number) if number else 0)
    else:
        host.queue_signal(pid, p.abi.host_signal(number), value)


@system_call("kill")
def kill(p: Process, pid: int, number: int) -> int:
    target, number = signed(pid), signed(number)
    if not 0 <= number <= COUNT:
        raise SystemCallError(errno.EINVAL)
    if target > 0:
        deliver_to(p, target, number)
        return 0
    own = os.getpid()
    members = p.family.members()
    if target == -1:
        chosen = [member for member in members if member != own]
    else:
        group = -target or os.getpgrp()
        chosen = [member for member in members if group_of(member) == group]
    if not chosen:
        raise SystemCallError(errno.ESRCH)
    for member in sorted(chosen, key=lambda member: member == own):
        deliver_to(p, member, number)
    return 0


def kill_thread(p: Process, group: int | None, number: int, signal: int) -> int:
    if not 0 <= signal <= COUNT or number <= 0:
        raise SystemCallError(errno.EINVAL)
    own = group is None or group == os.getpid()
    thread: Thread | None = next((t for t in p.threads if t.id == number), None) if own else None
    if thread is None:
        if number == os.getpid() and group in (None, number):
            raise SystemCallError(errno.ESRCH)  # the first thread has ended
        if group is not None and group != number:
            raise SystemCallError(errno.ESRCH)
        deliver_to(p, number, signal)
    elif signal:
        send(p, own_info(signal, SI_TKILL), thread)
    return 0


@system_call("tkill")
def tkill(p: Process, number: int, signal: int) -> int:
    return kill_thread(p, None, signed(number), signed(signal))


@system_call("tgkill")
def tgkill(p: Process, group: int, number: int, signal: int) -> int:
    if signed(group) <= 0:
        raise SystemCallError(errno.EINVAL)
    return kill_thread(p, signed(group), signed(number), signed(signal))


def information(p: Process, number: int, address: int) -> SignalInfo:
    """The ``siginfo_t`` that the guest made up. Raises EPERM for one that only the kernel may send."""
    word = p.abi.word
    data = p.memory.read(address, 32)
    code = p.abi.unpack(data[8:12], signed=True)
    if code >= SI_USER or code == SI_TKILL:
        raise SystemCallError(errno.EPERM)
    at = 16 if word == 8 else 12
    pid, uid, value = data[at : at + 4], data[at + 4 : at + 8], data[at + 8 : at + 8 + word]
    return SignalInfo(number, code, p.abi.unpack(pid), p.abi.unpack(uid), p.abi.unpack(value))


@system_call("rt_sigqueueinfo")
def rt_sigqueueinfo(p: Process, pid: int, number: int, address: int) -> int:
    number = check_signal(number)
    info = information(p, number, address)
    if signed(pid) == os.getpid():
        send(p, info)
    else:
        deliver_to(p, signed(pid), number, info.value)
    return 0


@system_call("rt_tgsigqueueinfo")
def rt_tgsigqueueinfo(p: Process, group: int, thread: int, number: int, address: int) -> int:
    number = check_signal(number)
    if signed(group) != os.getpid():
        raise SystemCallError(errno.ESRCH)
    send(p, information(p, number, address), p.thread_of(signed(thread)))
    return 0


@system_call("pidfd_send_signal")
def pidfd_send_signal(p: Process, number: int, signal: int, info: int, flags: int) -> int:
    pid = pid_of(p.files.host(number))
    deliver_to(p, pid, signed(signal))
    return 0
