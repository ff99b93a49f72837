"""Descriptors that events are read from: eventfd, timerfd, signalfd, inotify."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from runtime.linux import host
from runtime.linux.calls import signed, system_call
from runtime.linux.descriptors import OpenFile
from runtime.linux.errors import SystemCallError
from runtime.linux.namespace import AT_FDCWD
from runtime.linux.paths import place
from runtime.linux.siginfo import SIZE
from runtime.linux.signals import pending_mask, take, unblockable
from runtime.linux.time import host_clock
from runtime.linux.timer_calls import read_setting
from runtime.linux.waiting import READABLE, Steps, Wait, is_ready

if TYPE_CHECKING:
    from runtime.linux.process import Process
    from runtime.linux.transfer import Vectors

EFD_SEMAPHORE = 1
SECOND = 10**9
IN_DONT_FOLLOW = 0x0200_0000


def host_flags(p: Process, flags: int, others: int = 0) -> int:
    """O_CLOEXEC and O_NONBLOCK in the host's numbers, besides the flags in `others`. Raises EINVAL."""
    found = p.abi.open_flags(flags & ~others & ~3)
    if found & ~(os.O_CLOEXEC | os.O_NONBLOCK) or flags & 3 & ~others:
        raise SystemCallError(errno.EINVAL)
    return found


@system_call("eventfd2")
def eventfd2(p: Process, value: int, flags: int) -> int:
    found = host_flags(p, flags, EFD_SEMAPHORE)
    descriptor = os.eventfd(value & 0xFFFF_FFFF, found | os.O_CLOEXEC | flags & EFD_SEMAPHORE)
    return p.files.add_file(
        OpenFile(descriptor, b"anon_inode:[eventfd]", kind="eventfd"), bool(found & os.O_CLOEXEC)
    )


@system_call("eventfd")
def eventfd(p: Process, value: int) -> int:
    return eventfd2(p, value, 0)


# --- timerfd ----------------------------------------------------------------------------------------------


@system_call("timerfd_create")
def timerfd_create(p: Process, clock: int, flags: int) -> int:
    found = host_flags(p, flags)
    descriptor = host.timer_descriptor(host_clock(clock), found | os.O_CLOEXEC)
    return p.files.add_file(
        OpenFile(descriptor, b"anon_inode:[timerfd]", kind="timerfd"), bool(found & os.O_CLOEXEC)
    )


def timer_file(p: Process, number: int) -> OpenFile:
    file = p.files.get(number)
    if file.kind != "timerfd":
        raise SystemCallError(errno.EINVAL)
    return file


def write_timer(p: Process, address: int, setting: tuple[int, int], word: int) -> None:
    values = (*divmod(setting[0], SECOND), *divmod(setting[1], SECOND))
    p.memory.write(address, b"".join(p.abi.pack(value, word) for value in values))


def settime(p: Process, number: int, flags: int, new: int, old: int, word: int) -> int:
    interval, value = read_setting(p, new, word)
    before = host.set_timer(timer_file(p, number).host, signed(flags), interval, value)
    if old:
        write_timer(p, old, before, word)
    return 0


@system_call("timerfd_settime")
def timerfd_settime(p: Process, number: int, flags: int, new: int, old: int) -> int:
    return settime(p, number, flags, new, old, p.abi.word)


@system_call("timerfd_settime64")
def timerfd_settime64(p: Process, number: int, flags: int, new: int, old: int) -> int:
    return settime(p, number, flags, new, old, 8)


@system_call("timerfd_gettime")
def timerfd_gettime(p: Process, number: int, address: int) -> int:
    write_timer(p, address, host.get_timer(timer_file(p, number).host), p.abi.word)
    return 0


@system_call("timerfd_gettime64")
def timerfd_gettime64(p: Process, number: int, address: int) -> int:
    write_timer(p, address, host.get_timer(timer_file(p, number).host), 8)
    return 0


# --- signalfd ---------------------------------------------------------------------------------------------


@system_call("signalfd4")
def signalfd4(p: Process, number: int, mask_at: int, size: int, flags: int) -> int:
    """An eventfd of the host stands for it: 1 while a signal of the mask is pending."""
    found = host_flags(p, flags)
    if size != 8:
        raise SystemCallError(errno.EINVAL)
    mask = p.abi.unpack_mask(p.memory.read(mask_at, 8)) & ~unblockable(p)
    if signed(number) != -1:
        file = p.files.get(number)
        if file.kind != "signalfd":
            raise SystemCallError(errno.EINVAL)
        file.mask = mask
        p.attention = True
        return signed(number)
    descriptor = os.eventfd(0, found | os.O_CLOEXEC)
    file = OpenFile(descriptor, b"anon_inode:[signalfd]", kind="signalfd", mask=mask)
    p.attention = True
    p.signal_files.append(file)
    return p.files.add_file(file, bool(found & os.O_CLOEXEC))


@system_call("signalfd")
def signalfd(p: Process, number: int, mask_at: int, size: int) -> int:
    return signalfd4(p, number, mask_at, size, 0)


def read_signals(p: Process, file: OpenFile, parts: Vectors) -> int | Steps:
    """As many ``struct signalfd_siginfo`` as there are and fit."""
    address, size = parts[0]
    if size < SIZE:
        raise SystemCallError(errno.EINVAL)

    def move() -> int:
        records: list[bytes] = []
        while (len(records) + 1) * SIZE <= size and (info := take(p, p.thread, file.mask)) is not None:
            records.append(info.pack_for_signalfd(p.abi.pack))
        p.memory.write(address, b"".join(records))
        show_signals(p)
        return len(records) * SIZE

    def steps() -> Steps:
        while not pending_mask(p, p.thread) & file.mask:
            yield Wait({file.host: READABLE})
        return move()

    if pending_mask(p, p.thread) & file.mask:
        return move()
    if not file.blocking:
        raise SystemCallError(errno.EAGAIN)
    return steps()


def show_signals(p: Process) -> None:
    """Make the signalfds readable that have something to read, and the others not."""
    p.signal_files = [file for file in p.signal_files if file.users]
    for file in p.signal_files:
        value = any(pending_mask(p, thread) & file.mask for thread in p.threads)
        shown = is_ready(file.host, READABLE)
        if value and not shown:
            os.eventfd_write(file.host, 1)
        elif shown and not value:
            os.eventfd_read(file.host)


# --- inotify ----------------------------------------------------------------------------------------------


@system_call("inotify_init1")
def inotify_init1(p: Process, flags: int) -> int:
    if p.abi.order != "<":
        raise SystemCallError(errno.ENOSYS)  # its records would have to be turned round
    found = host_flags(p, flags)
    descriptor = host.call("inotify_init1", found | os.O_CLOEXEC)
    return p.files.add(descriptor, bool(found & os.O_CLOEXEC))


@system_call("inotify_init")
def inotify_init(p: Process) -> int:
    return inotify_init1(p, 0)


@system_call("inotify_add_watch")
def inotify_add_watch(p: Process, number: int, path: int, mask: int) -> int:
    descriptor = p.files.host(number)
    with place(p, AT_FDCWD, p.path(path), not mask & IN_DONT_FOLLOW) as (name, base):
        where = name if base is None else b"/proc/self/fd/%d/%s" % (base, name)
        return host.call("inotify_add_watch", descriptor, where, mask & 0xFFFF_FFFF)


@system_call("inotify_rm_watch")
def inotify_rm_watch(p: Process, number: int, watch: int) -> int:
    return host.call("inotify_rm_watch", p.files.host(number), signed(watch))
