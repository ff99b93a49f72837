"""System calls that open, read and write files."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.linux import host
from runtime.linux.calls import signed, system_call
from runtime.linux.descriptors import OpenFile
from runtime.linux.errors import SystemCallError
from runtime.linux.events import read_signals
from runtime.linux.namespace import AT_FDCWD
from runtime.linux.paths import open_path, place
from runtime.linux.transfer import LARGEST, Vectors, complain, one_vector, read_file, vectors, write_file
from runtime.linux.waiting import READABLE, WRITABLE, Interrupted, Steps, Wait, is_ready, now

if TYPE_CHECKING:
    from runtime.linux.process import Process

HOST_ORDER = sys.byteorder
Copier = Callable[[int, int, int, int | None, int | None], int]
RWF_APPEND = 0x10
RETRY = 2_000_000
COPY_CHUNK = 1 << 20
PIPE_PIECE = 1 << 16
FALLOCATE_MODES = 1 | 2 | 8 | 16
"""KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE."""


# --- opening ----------------------------------------------------------------------------------------------


def open_file(p: Process, directory: int, path_at: int, host_flags: int, mode: int) -> int:
    path = p.path(path_at)
    file = open_path(p, directory, path, host_flags, mode & 0o7777)
    if host_flags & os.O_TRUNC:
        p.memory.pages.shrunk(file.host, 0)
    return p.files.add_file(file, bool(host_flags & os.O_CLOEXEC))


@system_call("openat")
def openat(p: Process, directory: int, path: int, flags: int, mode: int) -> int:
    return open_file(p, directory, path, p.abi.open_flags(flags), mode)


@system_call("open")
def open_(p: Process, path: int, flags: int, mode: int) -> int:
    return openat(p, AT_FDCWD, path, flags, mode)


@system_call("creat")
def creat(p: Process, path: int, mode: int) -> int:
    return open_file(p, AT_FDCWD, path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)


@system_call("openat2")
def openat2(p: Process, directory: int, path: int, how: int, size: int) -> int:
    """Without the restrictions of ``resolve``: programs then do without it."""
    if size < 24:
        raise SystemCallError(errno.EINVAL)
    data = p.memory.read(how, 24)
    flags, mode, resolve = (p.abi.unpack(data[i : i + 8]) for i in (0, 8, 16))
    if resolve:
        raise SystemCallError(errno.ENOSYS)
    return openat(p, directory, path, flags, mode)


@system_call("memfd_create")
def memfd_create(p: Process, name: int, flags: int) -> int:
    if flags & ~3:
        raise SystemCallError(errno.EINVAL)
    text = p.memory.string(name, 249)
    host = os.memfd_create(os.fsdecode(text), os.MFD_CLOEXEC | flags & os.MFD_ALLOW_SEALING)
    return p.files.add_file(OpenFile(host, b"/memfd:" + text + b" (deleted)"), bool(flags & 1))


# --- reading and writing ----------------------------------------------------------------------------------


def transfer(p: Process, reading: bool, number: int, parts: Vectors, offset: int | None) -> int | Steps:
    file = p.files.get(number)
    if offset is not None and offset < 0:
        raise SystemCallError(errno.EINVAL)
    if reading and file.kind == "signalfd":
        return read_signals(p, file, parts)
    if file.kind in ("eventfd", "timerfd"):
        return counter(p, file, reading, parts)
    return (read_file if reading else write_file)(p, file, parts, offset)


def counter(p: Process, file: OpenFile, reading: bool, parts: Vectors) -> int | Steps:
    """eventfd and timerfd: a number of 8 bytes, which the host and the guest write differently."""
    if sum(size for _, size in parts) < 8:
        raise SystemCallError(errno.EINVAL)
    address = parts[0][0]
    if not reading:
        value = p.abi.unpack(p.memory.read(address, 8))
        if file.kind == "timerfd" or value == (1 << 64) - 1:
            raise SystemCallError(errno.EINVAL)

    def move() -> int:
        if reading:
            p.memory.write(address, p.abi.pack(int.from_bytes(os.read(file.host, 8), HOST_ORDER), 8))
        else:
            os.write(file.host, value.to_bytes(8, HOST_ORDER))
        return 8

    events = READABLE if reading else WRITABLE

    def steps() -> Steps:
        while True:
            while not is_ready(file.host, events):
                yield Wait({file.host: events})
            os.set_blocking(file.host, False)
            try:
                return move()
            except BlockingIOError:  # the sum would be too much, though a smaller one wouldn't
                yield Wait(deadline=now() + RETRY)
            finally:
                os.set_blocking(file.host, True)

    return steps() if file.blocking else move()


@system_call("read")
def read(p: Process, number: int, address: int, size: int) -> int | Steps:
    return transfer(p, True, number, one_vector(p, address, size), None)


@system_call("write")
def write(p: Process, number: int, address: int, size: int) -> int | Steps:
    return transfer(p, False, number, one_vector(p, address, size), None)


def positive(p: Process, a: int, b: int, c: int) -> int:
    offset = p.long_pair(a, b, c)
    if offset < 0:
        raise SystemCallError(errno.EINVAL)
    return offset


@system_call("pread64")
def pread64(p: Process, number: int, address: int, size: int, a: int, b: int, c: int) -> int | Steps:
    return transfer(p, True, number, one_vector(p, address, size), positive(p, a, b, c))


@system_call("pwrite64")
def pwrite64(p: Process, number: int, address: int, size: int, a: int, b: int, c: int) -> int | Steps:
    return transfer(p, False, number, one_vector(p, address, size), positive(p, a, b, c))


@system_call("readv")
def readv(p: Process, number: int, address: int, count: int) -> int | Steps:
    return transfer(p, True, number, vectors(p, address, count), None)


@system_call("writev")
def writev(p: Process, number: int, address: int, count: int) -> int | Steps:
    return transfer(p, False, number, vectors(p, address, count), None)


def vector_offset(p: Process, low: int, high: int) -> int:
    """Offsets of ``preadv`` come as two words, the lower first, whatever the byte order."""
    value = low if p.abi.bits == 64 else high << 32 | low
    return signed(value, 64)


@system_call("preadv")
def preadv(p: Process, number: int, address: int, count: int, low: int, high: int) -> int | Steps:
    return transfer(p, True, number, vectors(p, address, count), vector_offset(p, low, high))


@system_call("pwritev")
def pwritev(p: Process, number: int, address: int, count: int, low: int, high: int) -> int | Steps:
    return transfer(p, False, number, vectors(p, address, count), vector_offset(p, low, high))


def vectors_with_flags(
    p: Process, reading: bool, number: int, address: int, count: int, offset: int, flags: int
) -> int | Steps:
    if flags & ~0x1F or flags & RWF_APPEND:
        raise SystemCallError(errno.EOPNOTSUPP)
    return transfer(p, reading, number, vectors(p, address, count), None if offset == -1 else offset)


@system_call("preadv2")
def preadv2(
    p: Process, number: int, address: int, count: int, low: int, high: int, flags: int
) -> int | Steps:
    return vectors_with_flags(p, True, number, address, count, vector_offset(p, low, high), flags)


@system_call("pwritev2")
def pwritev2(
    p: Process, number: int, address: int, count: int, low: int, high: int, flags: int
) -> int | Steps:
    return vectors_with_flags(p, False, number, address, count, vector_offset(p, low, high), flags)


# --- from descriptor to descriptor ------------------------------------------------------------------------


def copy(
    p: Process,
    source: OpenFile,
    target: OpenFile,
    count: int,
    move: Callable[[int], int],
    done: Callable[[int], None],
) -> Steps:
    """Let the host `move` bytes, in pieces, as both sides become ready; `done` is told how many it were."""
    total = 0
    try:
        while total < count:
            for file, events in ((source, READABLE), (target, WRITABLE)):
                while file.waits and file.blocking and not is_ready(file.host, events):
                    if total and file is source:
                        return total
                    yield Wait({file.host: events})
            piece = min(count - total, PIPE_PIECE if target.waits else COPY_CHUNK)
            moved = move(piece)
            total += moved
            if not moved or (source.waits and moved < piece):  # a terminal tells its end only once
                break
    except Interrupted:
        if not total:
            raise
    except OSError as error:
        complain(p, error)
        if not total:
            raise
    finally:
        done(total)
    return total


@system_call("sendfile", "sendfile64")
def sendfile(p: Process, target: int, source: int, offset_at: int, count: int) -> int | Steps:
    word = 8 if p.abi.bits == 64 or p.abi.name_of_call(p.cpu) == "sendfile64" else 4
    start = p.abi.unpack(p.memory.read(offset_at, word), signed=True) if offset_at else None
    to, of = p.files.get(target), p.files.get(source)
    if start is not None and start < 0:
        raise SystemCallError(errno.EINVAL)
    position = start

    def move(size: int) -> int:
        nonlocal position
        moved = os.sendfile(to.host, of.host, position, size)
        if position is not None:
            position += moved
        return moved

    def done(total: int) -> None:
        if offset_at and position is not None:
            p.memory.write(offset_at, p.abi.pack(position, word))

    return copy(p, of, to, min(count, LARGEST), move, done)


def copy_between(
    p: Process, source: int, source_at: int, target: int, target_at: int, size: int, function: Copier
) -> Steps:
    """splice and copy_file_range: with offsets in memory or the files' own positions."""
    of, to = p.files.get(source), p.files.get(target)
    positions = [
        p.abi.unpack(p.memory.read(address, 8), signed=True) if address else None
        for address in (source_at, target_at)
    ]
    if any(position is not None and position < 0 for position in positions):
        raise SystemCallError(errno.EINVAL)

    def move(count: int) -> int:
        moved = function(of.host, to.host, count, positions[0], positions[1])
        for i in range(2):
            position = positions[i]
            if position is not None:
                positions[i] = position + moved
        return moved

    def done(total: int) -> None:
        for address, position in zip((source_at, target_at), positions, strict=True):
            if position is not None:
                p.memory.write(address, p.abi.pack(position, 8))

    return copy(p, of, to, min(size, LARGEST), move, done)


@system_call("splice")
def splice(
    p: Process, source: int, source_at: int, target: int, target_at: int, size: int, flags: int
) -> int | Steps:
    return copy_between(p, source, source_at, target, target_at, size, os.splice)


@system_call("copy_file_range")
def copy_file_range(
    p: Process, source: int, source_at: int, target: int, target_at: int, size: int, flags: int
) -> int | Steps:
    if flags:
        raise SystemCallError(errno.EINVAL)
    return copy_between(p, source, source_at, target, target_at, size, os.copy_file_range)


# --- positions and sizes ------------------------------------------------------------------------------


def seek(p: Process, number: int, offset: int, whence: int) -> int:
    file = p.files.get(number)
    if file.directory is not None:
        if whence == os.SEEK_SET:
            file.position = max(0, offset)
            if not offset and not file.folder:
                file.directory = None  # rewound: to be read again
        return file.position
    return os.lseek(file.host, offset, whence)


@system_call("lseek")
def lseek(p: Process, number: int, offset: int, whence: int) -> int:
    return seek(p, number, signed(offset, p.abi.bits), signed(whence))


@system_call("_llseek", "llseek")
def llseek(p: Process, number: int, high: int, low: int, result_at: int, whence: int) -> int:
    result = seek(p, number, signed(high << 32 | low, 64), signed(whence))
    p.memory.write(result_at, p.abi.pack(result, 8))
    return 0


def set_size(p: Process, number: int, size: int) -> int:
    host = p.files.host(number)
    if size < 0:
        raise SystemCallError(errno.EINVAL)
    p.memory.pages.shrunk(host, size)
    try:
        os.ftruncate(host, size)
    except OSError as error:
        complain(p, error)
        raise
    return 0


def set_size_of_path(p: Process, path: int, size: int) -> int:
    if size < 0:
        raise SystemCallError(errno.EINVAL)
    with place(p, AT_FDCWD, p.path(path), write=True) as (name, base):
        host = os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=base)
        try:
            p.memory.pages.shrunk(host, size)
            os.ftruncate(host, size)
        finally:
            os.close(host)
    return 0


@system_call("ftruncate")
def ftruncate(p: Process, number: int, size: int) -> int:
    return set_size(p, number, signed(size, p.abi.bits))


@system_call("ftruncate64")
def ftruncate64(p: Process, number: int, a: int, b: int, c: int) -> int:
    return set_size(p, number, p.long_pair(a, b, c))


@system_call("truncate")
def truncate(p: Process, path: int, size: int) -> int:
    return set_size_of_path(p, path, signed(size, p.abi.bits))


@system_call("truncate64")
def truncate64(p: Process, path: int, a: int, b: int, c: int) -> int:
    return set_size_of_path(p, path, p.long_pair(a, b, c))


@system_call("fallocate")
def fallocate(p: Process, number: int, mode: int, a: int, b: int, c: int, d: int) -> int:
    if mode & ~FALLOCATE_MODES:
        raise SystemCallError(errno.EOPNOTSUPP)
    offset, size = (a, b) if p.abi.bits == 64 else (p.even_pair(a, b), p.even_pair(c, d))
    host.allocate(p.files.host(number), mode, signed(offset, 64), signed(size, 64))
    return 0


@system_call("fsync")
def fsync(p: Process, number: int) -> int:
    os.fsync(p.files.host(number))
    return 0


@system_call("fdatasync")
def fdatasync(p: Process, number: int) -> int:
    os.fdatasync(p.files.host(number))
    return 0


@system_call("sync", "syncfs")
def sync(p: Process) -> int:
    """The host's disks are the host's business: what the guest wrote is where other programs see it."""
    return 0


@system_call("sync_file_range", "sync_file_range2", "arm_sync_file_range")
def sync_file_range(p: Process, number: int) -> int:
    p.files.host(number)
    return 0


@system_call("fadvise64", "fadvise64_64", "arm_fadvise64_64", "readahead")
def fadvise64(p: Process, number: int) -> int:
    p.files.host(number)
    return 0
