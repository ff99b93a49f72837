"""System calls on descriptors as such: closing, duplicating, their flags, record locks, pipes."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.layouts import Layout
from runtime.linux.waiting import Steps, Wait, now

if TYPE_CHECKING:
    from runtime.linux.process import Process

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW = range(8)
F_SETOWN, F_GETOWN = 8, 9
F_GETLK64, F_SETLK64, F_SETLKW64 = 12, 13, 14
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
F_GETLEASE, F_DUPFD_CLOEXEC = 1025, 1030
F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS = 1031, 1032, 1033, 1034
LOCKS = {
    F_GETLK: F_GETLK, F_SETLK: F_SETLK, F_SETLKW: F_SETLKW, F_GETLK64: F_GETLK, F_SETLK64: F_SETLK,
    F_SETLKW64: F_SETLKW, F_OFD_GETLK: F_OFD_GETLK, F_OFD_SETLK: F_OFD_SETLK, F_OFD_SETLKW: F_OFD_SETLKW,
}  # fmt: skip
UNLOCKED = 2
FLOCK64 = Layout("type:h whence:h 4 start:q len:q pid:i 4")
FLOCK32 = Layout("type:h whence:h start:i len:i pid:i")
FLOCK32_64 = Layout("type:h whence:h 4 start:q len:q pid:i 4")
FLOCK32_64_PACKED = Layout("type:h whence:h start:q len:q pid:i")
HOST_FLOCK = FLOCK64
SPARC_LOCKS = {7: F_GETLK, 8: F_SETLK, 9: F_SETLKW, 5: F_GETOWN, 6: F_SETOWN}
LOCK_RETRY = 5_000_000
"""Nanoseconds between two tries to get a lock: nothing tells when one becomes free."""


@system_call("close")
def close(p: Process, number: int) -> int:
    p.files.close(number)
    return 0


@system_call("close_range")
def close_range(p: Process, first: int, last: int, flags: int) -> int:
    first, last = first & 0xFFFF_FFFF, last & 0xFFFF_FFFF
    if first > last or flags & ~6:
        raise SystemCallError(errno.EINVAL)
    for number in [n for n in p.files.table if first <= n <= last]:
        if flags & 4:  # CLOSE_RANGE_CLOEXEC
            p.files.table[number].close_on_exec = True
        else:
            p.files.close(number)
    return 0


@system_call("dup")
def dup(p: Process, old: int) -> int:
    p.files.get(old)
    return p.files.duplicate(old, p.files.free_number(), False)


@system_call("dup2")
def dup2(p: Process, old: int, new: int) -> int:
    p.files.get(old)
    new = signed(new)
    return new if new == signed(old) else p.files.duplicate(old, new, False)


@system_call("dup3")
def dup3(p: Process, old: int, new: int, flags: int) -> int:
    host_flags = p.abi.open_flags(flags & ~3)
    if signed(old) == signed(new) or host_flags & ~os.O_CLOEXEC or flags & 3:
        raise SystemCallError(errno.EINVAL)
    return p.files.duplicate(old, signed(new), bool(host_flags))


def new_pipe(p: Process, flags: int) -> tuple[int, int]:
    host_flags = p.abi.open_flags(flags & ~3)
    if flags & 3 or host_flags & ~(os.O_CLOEXEC | os.O_NONBLOCK | os.O_DIRECT):
        raise SystemCallError(errno.EINVAL)
    return p.files.add_pair(os.pipe2(host_flags | os.O_CLOEXEC), bool(host_flags & os.O_CLOEXEC))


@system_call("pipe2")
def pipe2(p: Process, address: int, flags: int) -> int:
    ends = new_pipe(p, flags)
    try:
        p.memory.write(address, p.abi.pack(ends[0], 4) + p.abi.pack(ends[1], 4))
    except BaseException:
        for end in ends:
            p.files.close(end)
        raise
    return 0


@system_call("pipe")
def pipe(p: Process, address: int) -> int:
    if p.abi.pipe_in_registers:
        ends = new_pipe(p, 0)
        p.abi.second_result(p.cpu, ends[1])
        return ends[0]
    return pipe2(p, address, 0)


@system_call("fcntl", "fcntl64")
def fcntl_(p: Process, number: int, command: int, argument: int) -> int | Steps:
    file = p.files.get(number)
    number, command = signed(number), signed(command)
    if p.abi.name.startswith("sparc"):
        command = SPARC_LOCKS.get(command, command)
    if command in (F_DUPFD, F_DUPFD_CLOEXEC):
        lowest = signed(argument)
        if not 0 <= lowest < p.files.limit:
            raise SystemCallError(errno.EINVAL)
        return p.files.duplicate(number, p.files.free_number(lowest), command == F_DUPFD_CLOEXEC)
    if command == F_GETFD:
        return int(p.files.table[number].close_on_exec)
    if command == F_SETFD:
        p.files.table[number].close_on_exec = bool(argument & 1)
        return 0
    if command == F_GETFL:
        return p.abi.guest_open_flags(fcntl.fcntl(file.host, fcntl.F_GETFL)) | p.abi.large_file_flag
    if command == F_SETFL:
        fcntl.fcntl(file.host, fcntl.F_SETFL, p.abi.open_flags(argument))
        return 0
    if command in LOCKS:
        layout = FLOCK64
        if p.abi.bits == 32:
            wide = command >= F_GETLK64
            layout = FLOCK32 if not wide else FLOCK32_64_PACKED if p.abi.packs_locks else FLOCK32_64
        return lock(p, file.host, LOCKS[command], argument, layout)
    if command == F_GETOWN:
        return fcntl.fcntl(file.host, fcntl.F_GETOWN)
    if command in (F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS):
        return fcntl.fcntl(file.host, command, signed(argument))
    if command == F_GETLEASE:
        return UNLOCKED
    raise SystemCallError(errno.EINVAL)


def lock(p: Process, host: int, command: int, argument: int, layout: Layout) -> int | Steps:
    values = layout.unpack(p.abi.order, p.memory.read(argument, layout.size))
    values["start"], values["len"] = (
        signed(values[name], 64 if layout is not FLOCK32 else 32) for name in ("start", "len")
    )
    data = HOST_FLOCK.pack("<", values)
    if command in (F_SETLKW, F_OFD_SETLKW):
        return wait_for_lock(host, command - 1, data)
    answer = fcntl.fcntl(host, command, data)
    if command in (F_GETLK, F_OFD_GETLK):
        p.memory.write(argument, layout.pack(p.abi.order, HOST_FLOCK.unpack("<", answer)))
    return 0


def wait_for_lock(host: int, command: int, data: bytes) -> Steps:
    while True:
        try:
            fcntl.fcntl(host, command, data)
            return 0
        except (BlockingIOError, PermissionError):
            yield Wait(deadline=now() + LOCK_RETRY)


@system_call("flock")
def flock(p: Process, number: int, operation: int) -> int | Steps:
    host = p.files.host(number)
    operation = signed(operation)
    if operation & fcntl.LOCK_NB:
        fcntl.flock(host, operation)
        return 0
    return wait_for_flock(host, operation)


def wait_for_flock(host: int, operation: int) -> Steps:
    while True:
        try:
            fcntl.flock(host, operation | fcntl.LOCK_NB)
            return 0
        except BlockingIOError:
            yield Wait(deadline=now() + LOCK_RETRY)
