"""Calls of the host's kernel that Python has no function for. They fail with `OSError`."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from functools import cache
from typing import Any, Final

RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 0x02, 0x10
SYS_OPENAT2: Final = 437
SYS_FUTEX: Final = {"x86_64": 202, "aarch64": 98, "riscv64": 98, "ppc64le": 221}
FUTEX_WAIT, FUTEX_WAKE = 0, 1
SIGNAL_BYTES: Final = 128
"""Size of ``struct signalfd_siginfo``."""


@cache
def library() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> int:
    """The C function `name`'s result. Raises OSError for -1."""
    result = int(getattr(library(), name)(*arguments))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def openat2(directory: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """openat2(2). Raises OSError; ENOSYS where the host's kernel doesn't have it (before Linux 5.6)."""
    if flags & os.O_PATH:  # open(2) ignores all other flags there, openat2 refuses them
        flags &= os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    makes = flags & os.O_CREAT or flags & os.O_TMPFILE == os.O_TMPFILE  # which has O_DIRECTORY's bit, too
    how = struct.pack("=QQQ", flags, mode & 0o7777 if makes else 0, resolve)
    for _ in range(64):
        try:
            return call("syscall", SYS_OPENAT2, directory, path, how, len(how))
        except OSError as error:
            if error.errno != errno.EAGAIN:  # something was renamed meanwhile
                raise
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def new_signalfd(mask: set[int]) -> int:
    """A non-blocking descriptor from which the blocked signals in `mask` can be read."""
    return signalfd(-1, mask, os.O_NONBLOCK | os.O_CLOEXEC)


def signalfd(descriptor: int, mask: set[int], flags: int) -> int:
    words = bytearray(128)
    for number in mask:
        words[(number - 1) // 8] |= 1 << (number - 1) % 8
    if sys.byteorder == "big":
        for at in range(0, 128, 8):
            words[at : at + 8] = words[at : at + 8][::-1]
    buffer = (ctypes.c_char * 128).from_buffer(words)
    return call("signalfd", descriptor, buffer, flags)


def futex_word(address: int, operation: int, value: int, seconds: float = 0) -> int:
    """futex(2) on memory of this process at the host address `address`, shared with others.

    Only `FUTEX_WAIT` (for at most `seconds`) and `FUTEX_WAKE`.
    """
    number = SYS_FUTEX.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    timeout = struct.pack("=qq", int(seconds), int(seconds % 1 * 1e9))
    return call(
        "syscall", number, ctypes.c_void_p(address), operation, ctypes.c_uint32(value), timeout, None, 0
    )


def allocate(descriptor: int, mode: int, offset: int, size: int) -> int:
    """fallocate(2)."""
    return call("fallocate", descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(size))


def filesystem_type(descriptor: int) -> int:
    """``f_type`` of fstatfs(2); 0 where the host doesn't say."""
    buffer = ctypes.create_string_buffer(256)
    try:
        call("fstatfs", descriptor, buffer)
    except OSError:
        return 0
    size = ctypes.sizeof(ctypes.c_long)
    return int.from_bytes(buffer.raw[:size], sys.byteorder)


def set_times(
    directory: int | None, path: bytes | None, times: list[tuple[int, int]] | None, flags: int
) -> None:
    """utimensat(2). Each time is seconds and nanoseconds, with UTIME_NOW and UTIME_OMIT."""
    packed = None if times is None else struct.pack("=qqqq", *times[0], *times[1])
    if path is None:
        call("futimens", directory, packed)
        return
    call("utimensat", -100 if directory is None else directory, path, packed, flags)


def rename(
    source_base: int | None, source: bytes, target_base: int | None, target: bytes, flags: int
) -> None:
    """renameat2(2)."""
    bases = [-100 if base is None else base for base in (source_base, target_base)]
    call("renameat2", bases[0], source, bases[1], target, ctypes.c_uint(flags & 0xFFFF_FFFF))


def ignore_signal(number: int, ignored: bool) -> None:
    """Have this process ignore a signal, or do what the host does by default. (Python's own function is for
    its main thread alone.)
    """
    call_ = library().signal
    call_.restype, call_.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
    call_(number, 1 if ignored else None)


def queue_signal(pid: int, number: int, value: int) -> None:
    """sigqueue(3)."""
    call("sigqueue", pid, number, ctypes.c_void_p(value))


def set_name(name: bytes) -> None:
    """What ``ps`` shows this process as."""
    call("prctl", 15, name[:15] + b"\0", 0, 0, 0)


def timer_descriptor(clock: int, flags: int) -> int:
    return call("timerfd_create", clock, flags)


def set_timer(descriptor: int, flags: int, interval: int, value: int) -> tuple[int, int]:
    """timerfd_settime: nanoseconds. Returns what was set before."""
    new = struct.pack("=qqqq", *divmod(interval, 10**9), *divmod(value, 10**9))
    old = ctypes.create_string_buffer(32)
    call("timerfd_settime", descriptor, flags, new, old)
    return _nanoseconds(old.raw)


def get_timer(descriptor: int) -> tuple[int, int]:
    """timerfd_gettime: interval and value in nanoseconds."""
    old = ctypes.create_string_buffer(32)
    call("timerfd_gettime", descriptor, old)
    return _nanoseconds(old.raw)


def _nanoseconds(data: bytes) -> tuple[int, int]:
    words = struct.unpack("=qqqq", data)
    return words[0] * 10**9 + words[1], words[2] * 10**9 + words[3]
