"""Paths in system calls: the namespace's, but for what ``/proc`` says about the process itself."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtime.linux import procfs
from runtime.linux.descriptors import OpenFile
from runtime.linux.errors import SystemCallError
from runtime.linux.namespace import AT_FDCWD, Place

if TYPE_CHECKING:
    from runtime.linux.process import Process

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_HARMLESS = (b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/tty", b"/dev/ptmx")
"""What may be opened for writing although writing is denied."""


def directory_of(p: Process, number: int, path: bytes) -> tuple[int | None, bytes]:
    """The host's directory that `path` is relative to (None: the working directory), and the path: absolute
    where the descriptor is a folder that is made up. Raises EBADF.
    """
    number &= 0xFFFF_FFFF
    if path.startswith(b"/") or number == AT_FDCWD & 0xFFFF_FFFF:
        return None, path
    file = p.files.get(number)
    return (None, file.folder + b"/" + path) if file.folder else (file.host, path)


def link_target(p: Process, number: int, path: bytes) -> bytes | None:
    """Where the links of the process's own folder in ``/proc`` point; None for other paths."""
    _, path = directory_of(p, number, path)
    entry = procfs.own_entry(p, path)
    if entry is None:
        return b"%d" % os.getpid() if path == b"/proc/self" else None
    if entry == b"" and procfs.normal(path) in (b"/proc/self", b"/proc/thread-self"):
        return b"%d" % os.getpid()
    if entry == b"/exe":
        return p.executable
    if entry == b"/cwd":
        return p.namespace.working_directory()
    if entry == b"/root":
        return b"/"
    opened = procfs.descriptor_of(entry)
    if opened is not None:
        return name_of(p, p.files.get(opened))
    return None


def name_of(p: Process, file: OpenFile) -> bytes:
    return file.path or p.namespace.name_of(file.host)


@contextlib.contextmanager
def place(
    p: Process, number: int, path: bytes, follow: bool = True, *, write: bool = False
) -> Iterator[Place]:
    """The host's path for the guest's, relative to the descriptor `number` (`Namespace.place`).

    `write`: the call is going to change something there.
    """
    if write:
        p.need("write")
    directory, path = directory_of(p, number, path)
    if path.startswith(b"/"):
        entry = procfs.own_entry(p, path)
        if entry is not None and follow:
            opened = procfs.descriptor_of(entry)
            if opened is not None:
                yield b"/proc/self/fd/%d" % p.files.host(opened), None
                return
            if entry == b"/exe" and p.program_file is not None:
                yield b"/proc/self/fd/%d" % p.program_file, None
                return
            if entry == b"/cwd":
                yield b".", None
                return
            if entry == b"/root":
                path = b"/"
            elif p.namespace.root is not None and _is_made_up(p, entry):
                yield b"/proc/self" + (b"/maps" if entry not in (b"/fd", b"/task", b"") else entry), None
                return
        elif entry is not None and p.namespace.root is not None:
            yield b"/proc/self" + entry, None
            return
    with p.namespace.place(directory, path, follow) as found:
        yield found


def _is_made_up(p: Process, entry: bytes) -> bool:
    return entry == b"" or procfs.contents(p, entry) is not None or procfs.listing(p, entry) is not None


def open_path(p: Process, number: int, path: bytes, flags: int, mode: int) -> OpenFile:
    """Open a file by the host's flags. Refuses (EACCES) what would reach the emulator's own memory."""
    directory, path = directory_of(p, number, path)
    mode &= ~p.umask
    if path.startswith(b"/"):
        special = _open_own(p, path, flags)
        if special is not None:
            return special
    if flags & _WRITING and "write" in p.settings.denied:
        host = _open_for_denied(p, directory, path, flags)
    else:
        host = p.namespace.open(directory, path, flags, mode)
    try:
        status = os.fstat(host)
        if status.st_dev == os.stat("/proc").st_dev:  # noqa: PTH116
            real = os.readlink(b"/proc/self/fd/%d" % host)  # noqa: PTH115
            if procfs.HOST_MEMORY.fullmatch(real):
                raise SystemCallError(errno.EACCES)
    except BaseException:
        os.close(host)
        raise
    return OpenFile(host)


def _open_for_denied(p: Process, directory: int | None, path: bytes, flags: int) -> int:
    """Open a device that may be written anyway; else EROFS, or what is wrong with the path."""
    if path in _HARMLESS:
        return p.namespace.open(directory, path, flags & ~(os.O_CREAT | os.O_EXCL), 0)
    with p.namespace.place(directory, path, True) as (name, base):
        try:
            os.stat(name, dir_fd=base)
        except FileNotFoundError:
            if flags & os.O_CREAT:
                raise SystemCallError(errno.EROFS) from None
            raise
    raise SystemCallError(errno.EROFS)


def _open_own(p: Process, path: bytes, flags: int) -> OpenFile | None:
    """Open what is about the guest itself."""
    entry = procfs.own_entry(p, path)
    if entry is None:
        return None
    opened = procfs.descriptor_of(entry)
    if opened is not None:
        host = p.files.host(opened)
        if flags & _WRITING and stat.S_ISREG(os.fstat(host).st_mode):
            p.need("write")
        return OpenFile(os.open(b"/proc/self/fd/%d" % host, flags & ~os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY))
    if entry == b"/exe" and p.program_file is not None:
        if flags & _WRITING & ~os.O_CREAT:
            raise SystemCallError(errno.ETXTBSY)
        return OpenFile(os.open(b"/proc/self/fd/%d" % p.program_file, flags & ~os.O_CREAT | os.O_CLOEXEC))
    entries = procfs.listing(p, entry)
    if entries is not None:
        host = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        folder = b"/proc/self" + entry
        return OpenFile(host, path=b"/proc/%d%s" % (os.getpid(), entry), directory=entries, folder=folder)
    text = procfs.contents(p, entry)
    if text is None:
        return None
    if flags & _WRITING & ~os.O_CREAT:
        raise SystemCallError(errno.EACCES)
    return OpenFile(memory_file(text), path=b"/proc/%d%s" % (os.getpid(), entry))


def memory_file(text: bytes) -> int:
    """A host descriptor from which `text` can be read."""
    host = os.memfd_create("proc", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(host), "wb") as stream:
        stream.write(text)
    os.lseek(host, 0, os.SEEK_SET)
    return host
