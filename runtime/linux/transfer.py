"""Moving bytes between the guest's memory and the host's files, without ever waiting inside the host's
kernel: what isn't ready is waited for by the scheduler.
"""

from __future__ import annotations

import errno
import os
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.linux.calls import signed
from runtime.linux.descriptors import OpenFile
from runtime.linux.errors import SystemCallError
from runtime.linux.memory import CHUNK
from runtime.linux.ports import READ, WRITE, AccessFault
from runtime.linux.signals import send_to_thread
from runtime.linux.waiting import READABLE, WRITABLE, Interrupted, Steps, Wait, is_ready

if TYPE_CHECKING:
    from runtime.linux.process import Process

LARGEST = 0x7FFF_F000
"""Bytes that one call transfers at most."""
MAX_VECTORS = 1024
PIPE_ROOM = 4096
"""Bytes that a pipe takes at least, without waiting, when it is ready to be written."""

Vectors = list[tuple[int, int]]
Take = Callable[[int], bytes]
"""Reads at most so many bytes from the host, at once."""
Give = Callable[[bytes], int]
"""Writes to the host what fits at once, and says how much that was."""


# --- the guest's memory -----------------------------------------------------------------------------------


def one_vector(p: Process, address: int, size: int) -> Vectors:
    if signed(size, p.abi.bits) < 0:
        raise SystemCallError(errno.EINVAL)
    return [(address, min(size, LARGEST))]


def vectors(p: Process, address: int, count: int) -> Vectors:
    """The addresses and sizes of an ``iovec`` array."""
    if not 0 <= signed(count) <= MAX_VECTORS:
        raise SystemCallError(errno.EINVAL)
    count = signed(count)
    word = p.abi.word
    data = p.memory.read(address, 2 * word * count)
    pairs = [
        (p.abi.unpack(data[i : i + word]), p.abi.unpack(data[i + word : i + 2 * word]))
        for i in range(0, len(data), 2 * word)
    ]
    largest = 1 << (p.abi.bits - 1)
    if any(size >= largest for _, size in pairs) or sum(size for _, size in pairs) >= largest:
        raise SystemCallError(errno.EINVAL)
    room = LARGEST
    cut = []
    for start, size in pairs:
        cut.append((start, min(size, room)))
        room -= min(size, room)
    return cut


def usable(p: Process, parts: Vectors, permission: int) -> Vectors:
    """The parts up to the first address that the guest may not access. Raises `AccessFault` where that is the
    very first one.
    """
    found: Vectors = []
    for start, size in parts:
        if not size:
            continue
        length = p.memory.accessible(start, size, permission)
        if not length and not found:
            raise AccessFault(start, permission)
        if length:
            found.append((start, length))
        if length < size:
            break
    return found


def gather(p: Process, parts: Vectors, skip: int, most: int) -> bytes:
    """At most `most` bytes of the parts, behind the first `skip`."""
    pieces = []
    for start, size in parts:
        if skip >= size:
            skip -= size
            continue
        length = min(size - skip, most)
        pieces.append(p.memory.pages.read(start + skip, length))
        skip = 0
        most -= length
        if not most:
            break
    return b"".join(pieces)


def scatter(p: Process, parts: Vectors, skip: int, data: bytes) -> None:
    """Write `data` to the parts, behind their first `skip` bytes."""
    done = 0
    for start, size in parts:
        if skip >= size:
            skip -= size
            continue
        length = min(size - skip, len(data) - done)
        p.memory.pages.write(start + skip, data[done : done + length])
        done += length
        skip = 0
        if done == len(data):
            return


# --- reading ----------------------------------------------------------------------------------------------


def read_file(p: Process, file: OpenFile, parts: Vectors, offset: int | None) -> int | Steps:
    """Read from a file, as much as is there. `offset` None: at the file's position."""
    total = sum(size for _, size in parts)
    parts = usable(p, parts, WRITE)
    room = sum(size for _, size in parts)
    if offset is None and file.waits and total and not readable_now(file):
        return wait_and_read(p, file, parts)
    done = 0
    while True:
        want = min(CHUNK, room - done)
        if offset is not None:
            data = os.pread(file.host, want, offset + done)
        elif file.waits:
            try:
                data = read_now(file.host, want)
            except BlockingIOError:
                return wait_and_read(p, file, parts)
        else:
            data = os.read(file.host, want)
        if data:
            scatter(p, parts, done, data)
        done += len(data)
        if len(data) < want or done >= room or file.waits:
            return done


def wait_and_read(p: Process, file: OpenFile, parts: Vectors) -> Steps:
    if not file.blocking:
        raise SystemCallError(errno.EAGAIN)
    size = min(CHUNK, sum(size for _, size in parts))
    while True:
        while not readable_now(file):
            yield Wait({file.host: READABLE})
        try:
            data = read_now(file.host, size)
            break
        except BlockingIOError:  # somebody else was faster
            yield Wait({file.host: READABLE})
    scatter(p, usable(p, parts, WRITE), 0, data)
    return len(data)


def read_now(descriptor: int, size: int) -> bytes:
    """Read what is there. Raises BlockingIOError without any, whatever the descriptor's flags (but for
    terminals, which are asked when they are ready).
    """
    buffer = bytearray(size)
    try:
        got = os.preadv(descriptor, [buffer], -1, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        return os.read(descriptor, size)
    return bytes(buffer[:got])


def readable_now(file: OpenFile) -> bool:
    """Whether reading ends at once: because something is there, or because the terminal says so."""
    if is_ready(file.host, READABLE):
        return True
    if not os.isatty(file.host):
        return False
    try:
        _, _, _, local, _, _, characters = termios.tcgetattr(file.host)
        if not local & termios.ICANON and characters[termios.VMIN] in (0, b"\0"):
            return True
        return os.tcgetpgrp(file.host) != os.getpgrp()  # the kernel stops this process
    except (OSError, termios.error):
        return False


# --- writing ----------------------------------------------------------------------------------------------


def write_file(p: Process, file: OpenFile, parts: Vectors, offset: int | None) -> int | Steps:
    """Write to a file. Raises OSError, and sends SIGPIPE where nobody reads."""
    total = sum(size for _, size in parts)
    parts = usable(p, parts, READ)
    room = sum(size for _, size in parts)
    try:
        if file.waits and total:
            if not file.blocking:
                return os.write(file.host, gather(p, parts, 0, min(room, CHUNK)))
            if room > PIPE_ROOM or not is_ready(file.host, WRITABLE):
                return wait_and_write(p, file, parts, room)
            return os.write(file.host, gather(p, parts, 0, room))
        done = 0
        while True:
            want = min(CHUNK, room - done)
            data = gather(p, parts, done, want) if want else b""
            try:
                wrote = (
                    os.write(file.host, data) if offset is None else os.pwrite(file.host, data, offset + done)
                )
            except OSError:
                if done:
                    return done
                raise
            done += wrote
            if wrote < want or done >= room:
                return done
    except OSError as error:
        complain(p, error)
        raise


def wait_and_write(p: Process, file: OpenFile, parts: Vectors, room: int) -> Steps:
    done = 0
    while done < room:
        try:
            while not is_ready(file.host, WRITABLE):
                yield Wait({file.host: WRITABLE})
            done += os.write(file.host, gather(p, parts, done, PIPE_ROOM))
        except Interrupted:
            if done:
                return done
            raise
        except OSError as error:
            complain(p, error)
            if done:
                return done
            raise
    return done


def complain(p: Process, error: OSError) -> None:
    """The signal that goes with some of the failures of writing."""
    if error.errno == errno.EPIPE:
        send_to_thread(p, "SIGPIPE")
    elif error.errno == errno.EFBIG:
        send_to_thread(p, "SIGXFSZ")
