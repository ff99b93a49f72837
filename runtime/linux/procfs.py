"""What ``/proc`` says about the guest itself: made up here, for the host's is about the emulator."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.linux.errors import SystemCallError
from runtime.linux.memory import Area
from runtime.linux.ports import EXECUTE, READ, WRITE

if TYPE_CHECKING:
    from runtime.linux.process import Process

_OWN = re.compile(rb"/proc/(?:self|thread-self|(\d+))(?:/task/(\d+))?(/.*)?")
_TASKS = re.compile(rb"/proc/(?:self|thread-self|(\d+))/task")
_ALIASES: Final = {
    b"/dev/stdin": b"/proc/self/fd/0",
    b"/dev/stdout": b"/proc/self/fd/1",
    b"/dev/stderr": b"/proc/self/fd/2",
    b"/dev/fd": b"/proc/self/fd",
}
HOST_MEMORY = re.compile(rb"/proc/\d+/(task/\d+/)?(mem|pagemap|map_files/.*|clear_refs)")
"""Files of any process that reach the emulator's own memory."""
FD_FOLDER: Final = b"/proc/self/fd"
TASK_FOLDER: Final = b"/proc/self/task"
DT_DIR, DT_LNK = 4, 10


def normal(path: bytes) -> bytes:
    """An absolute path without ``.``, ``..`` and doubled slashes, and with the devices' other names."""
    path = os.path.normpath(path)
    if path.startswith(b"/dev/"):
        if path.startswith(b"/dev/fd/"):
            return FD_FOLDER + path[7:]
        return _ALIASES.get(path, path)
    return path[1:] if path.startswith(b"//") else path


def own_entry(p: Process, path: bytes) -> bytes | None:
    """What an absolute path names in the process's own folder of ``/proc`` ("/exe", "" for the folder, ...);
    None for other paths.
    """
    if not path.startswith((b"/proc", b"/dev/", b"//")):
        return None
    path = normal(path)
    tasks = _TASKS.fullmatch(path)
    if tasks is not None and (tasks[1] is None or int(tasks[1]) == os.getpid()):
        return b"/task"
    found = _OWN.fullmatch(path)
    if found is None or (found[1] is not None and int(found[1]) != os.getpid()):
        return None
    if found[2] is not None:
        try:
            p.thread_of(int(found[2]))
        except SystemCallError:
            return b"/task/none"
    return found[3] or b""


def descriptor_of(entry: bytes) -> int | None:
    """The guest's descriptor that an entry is ("/fd/3")."""
    return int(entry[4:]) if entry.startswith(b"/fd/") and entry[4:].isdigit() else None


def contents(p: Process, entry: bytes) -> bytes | None:
    """The contents of the files in ``/proc/self`` that are about the guest; None of others."""
    if entry == b"/maps":
        return b"".join(_map_line(area) for area in p.memory)
    if entry == b"/smaps":
        return b"".join(
            _map_line(area) + b"Size: %15d kB\nRss: %16d kB\n" % ((area.end - area.start) // 1024, 0)
            for area in p.memory
        )
    if entry == b"/cmdline":
        return b"".join(argument + b"\0" for argument in p.arguments)
    if entry == b"/environ":
        return b"".join(setting + b"\0" for setting in p.environment)
    if entry == b"/auxv":
        return p.auxiliary
    if entry == b"/comm":
        return p.thread.name + b"\n"
    if entry == b"/status":
        return _status(p)
    if entry == b"/stat":
        return _stat(p)
    if entry == b"/statm":
        pages = p.memory.mapped // p.memory.page_size
        return b"%d %d 0 0 0 %d 0\n" % (pages, pages, pages)
    return None


def _map_line(area: Area) -> bytes:
    letters = "".join(
        letter if area.permissions & bit else "-"
        for letter, bit in (("r", READ), ("w", WRITE), ("x", EXECUTE))
    )
    kind = "s" if area.shared else "p"
    head = f"{area.start:08x}-{area.end:08x} {letters}{kind} {area.offset:08x} 00:00 {int(bool(area.name))} "
    return os.fsencode(f"{head.ljust(73)}{area.name}\n" if area.name else f"{head}\n")


def _status(p: Process) -> bytes:
    """The host's, with what is the guest's own in its place."""
    size = p.memory.mapped // 1024
    catched = sum(1 << (n - 1) for n, action in p.actions.items() if action.handler > 1)
    ignored = sum(1 << (n - 1) for n, action in p.actions.items() if action.handler == 1)
    own = {
        b"Name": p.thread.name,
        b"Threads": b"%d" % len(p.threads),
        b"VmPeak": b"%8d kB" % size,
        b"VmSize": b"%8d kB" % size,
        b"SigPnd": b"%016x" % sum({1 << (i.number - 1) for i in p.thread.pending}),
        b"ShdPnd": b"%016x" % sum({1 << (i.number - 1) for i in p.pending}),
        b"SigBlk": b"%016x" % p.thread.blocked,
        b"SigIgn": b"%016x" % ignored,
        b"SigCgt": b"%016x" % catched,
    }
    lines = []
    for line in Path("/proc/self/status").read_bytes().splitlines(keepends=True):
        name, _, _ = line.partition(b":")
        lines.append(b"%s:\t%s\n" % (name, own[name]) if name in own else line)
    return b"".join(lines)


def _stat(p: Process) -> bytes:
    """The host's line, with the guest's name, number of threads and sizes."""
    text = Path("/proc/self/stat").read_bytes()
    fields = text[text.rindex(b")") + 2 :].split()
    fields[17] = b"%d" % len(p.threads)
    fields[20] = b"%d" % p.memory.mapped
    fields[25] = b"%d" % p.memory.high
    return b"%d (%s) %s\n" % (os.getpid(), p.thread.name, b" ".join(fields))


def listing(p: Process, entry: bytes) -> list[tuple[bytes, int, int]] | None:
    """The entries of folders that are about the guest: name, inode, type."""
    if entry == b"/fd":
        numbers, kind = sorted(p.files.table), DT_LNK
    elif entry == b"/task":
        numbers, kind = [thread.id for thread in p.threads if not thread.gone], DT_DIR
    else:
        return None
    entries = [(b"%d" % number, number + 1000, kind) for number in numbers]
    return [(b".", 1, DT_DIR), (b"..", 2, DT_DIR), *entries]
