"""Paths: the guest's files are the host's, but for what ``/proc`` says about the process itself."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from runtime.linux.errors import SystemCallError
from runtime.linux.ports import EXECUTE, READ, WRITE

if TYPE_CHECKING:
    from runtime.linux.process import Process

AT_FDCWD = -100
_OWN = re.compile(rb"/proc/(?:self|thread-self|(\d+))(?:/task/\d+)?(/.*)?")
_HOST_MEMORY = re.compile(r"/proc/\d+/(task/\d+/)?(mem|pagemap|map_files/.*)")


def own_entry(path: bytes) -> bytes | None:
    """What an absolute path names in the process's own folder of ``/proc`` ("/exe", ...); None for other
    paths.
    """
    if not path.startswith(b"/proc/"):
        return None
    found = _OWN.fullmatch(os.path.normpath(path))
    if found is None or (found[1] is not None and int(found[1]) != os.getpid()):
        return None
    return found[2] or b""


def generated_text(p: Process, entry: bytes) -> bytes | None:
    """The contents of the files in ``/proc/self`` that are about the guest."""
    if entry == b"/maps":
        lines = []
        for area in p.memory:
            letters = "".join(
                letter if area.permissions & bit else "-"
                for letter, bit in (("r", READ), ("w", WRITE), ("x", EXECUTE))
            )
            kind = "s" if area.shared else "p"
            head = f"{area.start:08x}-{area.end:08x} {letters}{kind} {area.offset:08x} 00:00 0 "
            lines.append(f"{head.ljust(72)} {area.name}\n" if area.name else f"{head}\n")
        return os.fsencode("".join(lines))
    if entry == b"/cmdline":
        return b"".join(argument + b"\0" for argument in p.arguments)
    if entry == b"/comm":
        return os.path.basename(p.executable)[:15] + b"\n"  # noqa: PTH119 - bytes
    return None


def link_target(p: Process, path: bytes) -> bytes | None:
    """Where the links of the process's own folder in ``/proc`` point."""
    entry = own_entry(path)
    if entry == b"/exe":
        return p.executable
    if entry is not None and entry.startswith(b"/fd/"):
        return p.files.get(int(entry[4:])).path if entry[4:].isdigit() else None
    return None


def host_path(p: Process, path: bytes) -> bytes:
    """The host's path for the guest's. Raises ENOENT for the empty path."""
    if not path:
        raise SystemCallError(errno.ENOENT)
    if own_entry(path) == b"/exe":
        return p.executable
    return path


def host_directory(p: Process, number: int, path: bytes) -> int | None:
    """The host descriptor that `path` is relative to: None for the working directory and for absolute
    paths.
    """
    number &= 0xFFFF_FFFF
    if path.startswith(b"/") or number == AT_FDCWD & 0xFFFF_FFFF:
        return None
    return p.files.host(number)


def open_path(p: Process, directory: int | None, path: bytes, flags: int, mode: int) -> int:
    """Open a file and return the host's descriptor. Refuses (EACCES) what would reach this program's own
    memory.
    """
    entry = own_entry(path)
    if entry is not None:
        text = generated_text(p, entry)
        if text is not None:
            return memory_file(text)
        if entry.startswith(b"/fd/") and entry[4:].isdigit():
            return os.dup(p.files.host(int(entry[4:])))
    host = os.open(host_path(p, path), flags | os.O_CLOEXEC | os.O_NOCTTY, mode & ~p.umask, dir_fd=directory)
    try:
        if os.fstat(host).st_dev == os.stat("/proc").st_dev:  # noqa: PTH116
            real = os.readlink(f"/proc/self/fd/{host}")  # noqa: PTH115
            if _HOST_MEMORY.fullmatch(real):
                raise SystemCallError(errno.EACCES)
    except BaseException:
        os.close(host)
        raise
    return host


def memory_file(text: bytes) -> int:
    """A host descriptor from which `text` can be read."""
    host = os.memfd_create("proc", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(host), "wb") as stream:
        stream.write(text)
    os.lseek(host, 0, os.SEEK_SET)
    return host
