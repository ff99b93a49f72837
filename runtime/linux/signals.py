"""Sending signals to the guest's threads, and what happens when they arrive: handlers, or what the kernel
does without one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from runtime.linux import faults
from runtime.linux.abi.base import SignalCall
from runtime.linux.errors import GuestExit
from runtime.linux.messages import say
from runtime.linux.ports import WRITE, AccessFault
from runtime.linux.process import Process
from runtime.linux.siginfo import SI_TKILL, SI_USER, SignalInfo
from runtime.linux.thread import SS_DISABLE, SS_ONSTACK, Action, Thread

if TYPE_CHECKING:
    from runtime.linux.ports import Stop

SIG_DFL, SIG_IGN = 0, 1
COUNT: Final = 64
FIRST_REALTIME: Final = 32
MAXIMUM_QUEUED: Final = 1024
IGNORED_BY_DEFAULT = frozenset({"SIGCHLD", "SIGCONT", "SIGURG", "SIGWINCH"})
STOPPING = frozenset({"SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"})
SA_NOCLDSTOP, SA_NOCLDWAIT, SA_SIGINFO, SA_RESTORER = 1, 2, 4, 0x0400_0000
SA_ONSTACK, SA_RESTART, SA_NODEFER, SA_RESETHAND = 0x0800_0000, 0x1000_0000, 0x4000_0000, 0x8000_0000
SS_AUTODISARM: Final = 1 << 31
NONE: Final = Action()


def name_of(p: Process, number: int) -> str:
    """``SIGTERM``; ``SIGRT34`` of real-time signals."""
    return p.abi.signal_names.get(number, f"SIGRT{number}")


def is_ignored(p: Process, number: int) -> bool:
    """Whether the signal does nothing, handled so or by default."""
    handler = p.actions.get(number, NONE).handler
    return handler == SIG_IGN or (handler == SIG_DFL and name_of(p, number) in IGNORED_BY_DEFAULT)


def unblockable(p: Process) -> int:
    """The mask of the signals that can't be blocked."""
    return sum(1 << (p.abi.signals[name] - 1) for name in ("SIGKILL", "SIGSTOP"))


def set_mask(p: Process, thread: Thread, mask: int) -> None:
    thread.blocked = mask & ~unblockable(p)
    p.attention = True


# --- sending --------------------------------------------------------------------------------------------


def own_info(number: int, code: int = SI_USER) -> SignalInfo:
    """A signal from this process."""
    return SignalInfo(number, code, os.getpid(), os.getuid())


def send(p: Process, info: SignalInfo, thread: Thread | None = None) -> None:
    """Make a signal pending, for `thread` or whichever takes it first. Without an effect where it is ignored
    and nobody blocks it; standard signals wait once only.
    """
    number = info.number
    if is_ignored(p, number) and not _blocked_somewhere(p, number):
        return
    queue = p.pending if thread is None else thread.pending
    if len(queue) >= MAXIMUM_QUEUED or (number < FIRST_REALTIME and any(i.number == number for i in queue)):
        return
    queue.append(info)
    p.attention = True


def send_to_thread(p: Process, name: str) -> None:
    """The kernel's signal to the running thread (``SIGPIPE``)."""
    send(p, own_info(p.abi.signals[name], SI_TKILL), p.thread)


def _blocked_somewhere(p: Process, number: int) -> bool:
    """Whether a thread blocks the signal, or waits for it."""
    return any((thread.blocked | thread.awaited) >> (number - 1) & 1 for thread in p.threads)


def pending_mask(p: Process, thread: Thread) -> int:
    return sum({1 << (info.number - 1) for info in (*thread.pending, *p.pending)})


def has_signal(p: Process, thread: Thread) -> bool:
    """Whether a signal waits that the thread doesn't block and that does something."""
    return any(
        not thread.blocked >> (info.number - 1) & 1 and not is_ignored(p, info.number)
        for info in (*thread.pending, *p.pending)
    )


def has_awaited(p: Process, thread: Thread) -> bool:
    """Whether a signal waits that the thread waits for."""
    return bool(thread.awaited and pending_mask(p, thread) & thread.awaited)


def take(p: Process, thread: Thread, wanted: int) -> SignalInfo | None:
    """Remove the next pending signal of those in the mask `wanted`: the lowest number first."""
    best: tuple[int, list[SignalInfo], SignalInfo] | None = None
    for queue in (thread.pending, p.pending):
        for info in queue:
            if wanted >> (info.number - 1) & 1 and (best is None or info.number < best[0]):
                best = info.number, queue, info
    if best is None:
        return None
    best[1].remove(best[2])
    return best[2]


# --- delivering -----------------------------------------------------------------------------------------


def deliver(p: Process) -> None:
    """Let the running thread take its pending signals: set it up to call handlers, or end the process
    (`GuestExit`).
    """
    thread = p.thread
    while (info := take(p, thread, ~thread.blocked)) is not None:
        act(p, info)
    finish_interrupted(p, thread, restart=True)
    if thread.mask_after is not None:
        thread.blocked, thread.mask_after = thread.mask_after, None


def finish_interrupted(p: Process, thread: Thread, *, restart: bool) -> None:
    """End an interrupted call: it starts anew if it may and `restart`, else it fails with EINTR."""
    if thread.stop is None:
        return
    stop, thread.stop = thread.stop, None
    if not (restart and thread.restartable):
        p.abi.finish_call(p.cpu, stop, 0, p.abi.interrupted)


def act(p: Process, info: SignalInfo, stop: Stop | None = None) -> None:
    """Take the action of a signal. Of a fault (`stop`), blocked or ignored: it kills."""
    if p.supervisor is not None:
        taken = p.supervisor.signal(info)
        if taken is None:
            return
        info = taken
    number = info.number
    name = name_of(p, number)
    action = p.actions.get(number, NONE)
    handler = action.handler
    if name in ("SIGKILL", "SIGSTOP"):
        handler = SIG_DFL
    if stop is not None and (handler == SIG_IGN or p.thread.blocked >> (number - 1) & 1):
        handler = SIG_DFL
    elif handler == SIG_IGN or (handler == SIG_DFL and name in IGNORED_BY_DEFAULT):
        return
    if handler != SIG_DFL:
        call_handler(p, info, action, name)
        return
    if name in STOPPING:
        os.kill(os.getpid(), p.abi.host_signal(number))
        return
    if stop is not None:
        say(faults.describe(p, stop, name))
    raise GuestExit(128 + number, number)


def alternate_stack(p: Process, thread: Thread) -> tuple[int, int, int]:
    """The alternate stack as ``sigaltstack`` shows it: with SS_ONSTACK where the thread is on it."""
    address, flags, size = thread.alternate_stack
    if (
        size
        and not flags & SS_AUTODISARM
        and address < p.cpu.get(p.abi.stack_pointer) + p.abi.stack_bias <= address + size
    ):
        return address, SS_ONSTACK, size
    return address, flags, size


def call_handler(p: Process, info: SignalInfo, action: Action, name: str) -> None:
    """Put a frame on the stack and go on at the handler. Raises `GuestExit` where there is no room for the
    frame.
    """
    abi, cpu, thread = p.abi, p.cpu, p.thread
    finish_interrupted(p, thread, restart=bool(action.flags & SA_RESTART))
    stack = cpu.get(abi.stack_pointer) + abi.stack_bias & abi.mask
    shown = alternate_stack(p, thread)
    if action.flags & SA_ONSTACK and not shown[1] & (SS_ONSTACK | SS_DISABLE):
        stack = shown[0] + shown[2]
    else:
        stack -= abi.red_zone
    with_info = bool(action.flags & SA_SIGINFO)
    size = abi.frame_size(with_info)
    frame = (stack - size & abi.mask) // 16 * 16 - abi.frame_skew
    call = SignalCall(
        number=info.number,
        handler=action.handler,
        restorer=action.restorer,
        information=info.pack(abi.pack, abi.word),
        blocked=thread.blocked if thread.mask_after is None else thread.mask_after,
        stack=shown,
        with_info=with_info,
        address=info.address,
        exception=info.exception,
    )
    try:
        p.memory.check(frame, size, WRITE)
        abi.enter_handler(cpu, p.memory.pages, frame, call)
    except AccessFault:
        say(f"isagen: guest: no room on the stack for the frame of {name}\n")
        number = abi.signals["SIGSEGV"]
        raise GuestExit(128 + number, number) from None
    thread.mask_after = None
    if shown[1] & SS_AUTODISARM:
        thread.alternate_stack = (0, SS_DISABLE, 0)
    if action.flags & SA_RESETHAND:
        p.actions.pop(info.number, None)
    added = 0 if action.flags & SA_NODEFER else 1 << (info.number - 1)
    set_mask(p, thread, thread.blocked | action.mask | added)


def fault(p: Process, stop: Stop) -> None:
    """An exception that isn't a system call: the thread's signal."""
    name, code, address = faults.cause(p, stop)
    p.abi.after_trap(p.cpu, stop)
    area = p.memory.find(stop.address) if stop.kind == "fault" else None
    exception = p.abi.exception(stop, present=area is not None and area.permissions != 0)
    act(p, SignalInfo(p.abi.signals[name], code, address=address, fault=True, exception=exception), stop)
