"""System calls on directories and names: listing, creating, removing, renaming, linking, permissions,
times.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.linux import host
from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.namespace import AT_FDCWD
from runtime.linux.paths import link_target, place

if TYPE_CHECKING:
    from runtime.linux.descriptors import OpenFile
    from runtime.linux.process import Process

AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x100, 0x200, 0x400, 0x1000
DT_DIR, DT_REG, DT_LNK = 4, 8, 10
Packer = Callable[[bytes, int, int, int], bytes]
UTIME_NOW, UTIME_OMIT = 0x3FFF_FFFF, 0x3FFF_FFFE
NANOSECONDS = 1_000_000_000


# --- listing ------------------------------------------------------------------------------------------


def entries_of(file: OpenFile) -> list[tuple[bytes, int, int]]:
    """Name, inode and ``d_type`` of a directory's entries; read once, until the guest rewinds."""
    if file.directory is None:
        own = os.fstat(file.host)
        if not stat.S_ISDIR(own.st_mode):
            raise SystemCallError(errno.ENOTDIR)
        try:
            parent = os.stat("..", dir_fd=file.host).st_ino
        except OSError:
            parent = own.st_ino
        found = [(b".", own.st_ino, DT_DIR), (b"..", parent, DT_DIR)]
        with os.scandir(file.host) as listing:
            found += [(os.fsencode(entry.name), entry.inode(), kind_of(entry)) for entry in listing]
        file.directory = found
        file.position = 0
    return file.directory


def kind_of(entry: os.DirEntry[str]) -> int:
    """``d_type``; 0 where it isn't known."""
    if entry.is_symlink():
        return DT_LNK
    if entry.is_dir(follow_symlinks=False):
        return DT_DIR
    if entry.is_file(follow_symlinks=False):
        return DT_REG
    try:
        return entry.stat(follow_symlinks=False).st_mode >> 12
    except OSError:
        return 0


def give_entries(p: Process, number: int, address: int, room: int, pack: Packer) -> int:
    """Write as many records as fit; `pack` makes one of name, inode, type and the position behind it."""
    file = p.files.get(number)
    entries = entries_of(file)
    parts: list[bytes] = []
    position = file.position
    for name, inode, kind in entries[position:]:
        record = pack(name, inode, kind, position + 1)
        if len(record) > room:
            break
        position += 1
        parts.append(record)
        room -= len(record)
    if not parts and position < len(entries):
        raise SystemCallError(errno.EINVAL)
    data = b"".join(parts)
    p.memory.write(address, data)
    file.position = position
    return len(data)


@system_call("getdents64")
def getdents64(p: Process, number: int, address: int, size: int) -> int:
    """``struct linux_dirent64``: inode, offset of the next, length, type, name."""

    def pack(name: bytes, inode: int, kind: int, position: int) -> bytes:
        length = (8 + 8 + 2 + 1 + len(name) + 1 + 7) & ~7
        head = p.abi.pack(inode, 8) + p.abi.pack(position, 8) + p.abi.pack(length, 2) + bytes([kind])
        return (head + name).ljust(length, b"\0")

    return give_entries(p, number, address, size & 0xFFFF_FFFF, pack)


@system_call("getdents")
def getdents(p: Process, number: int, address: int, size: int) -> int:
    """``struct linux_dirent``: inode and offset are words, the type is the last byte."""
    word = p.abi.word

    def pack(name: bytes, inode: int, kind: int, position: int) -> bytes:
        length = (2 * word + 2 + len(name) + 2 + word - 1) // word * word
        head = p.abi.pack_words(inode, position) + p.abi.pack(length, 2)
        return (head + name).ljust(length - 1, b"\0") + bytes([kind])

    return give_entries(p, number, address, size & 0xFFFF_FFFF, pack)


@system_call("getcwd")
def getcwd(p: Process, address: int, size: int) -> int:
    path = p.namespace.working_directory() + b"\0"
    if len(path) > size:
        raise SystemCallError(errno.ERANGE)
    p.memory.write(address, path)
    return len(path)


@system_call("chdir")
def chdir(p: Process, path: int) -> int:
    with place(p, AT_FDCWD, p.path(path)) as (name, base):
        if base is None:
            os.chdir(name)
        else:
            descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=base)
            try:
                os.fchdir(descriptor)
            finally:
                os.close(descriptor)
    return 0


@system_call("fchdir")
def fchdir(p: Process, number: int) -> int:
    os.fchdir(p.files.host(number))
    return 0


# --- names --------------------------------------------------------------------------------------------


@system_call("mkdirat")
def mkdirat(p: Process, directory: int, path: int, mode: int) -> int:
    with place(p, directory, p.path(path), False, write=True) as (name, base):
        os.mkdir(name, mode & 0o7777 & ~p.umask, dir_fd=base)
    return 0


@system_call("mkdir")
def mkdir(p: Process, path: int, mode: int) -> int:
    return mkdirat(p, AT_FDCWD, path, mode)


@system_call("mknodat")
def mknodat(p: Process, directory: int, path: int, mode: int, device: int) -> int:
    """Files, FIFOs and sockets; no devices, which would open more than the guest has."""
    mode &= 0xFFFF_FFFF
    kind = stat.S_IFMT(mode) or stat.S_IFREG
    if kind not in (stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK):
        raise SystemCallError(errno.EPERM if kind in (stat.S_IFCHR, stat.S_IFBLK) else errno.EINVAL)
    with place(p, directory, p.path(path), False, write=True) as (name, base):
        os.mknod(name, kind | mode & 0o7777 & ~p.umask, dir_fd=base)
    return 0


@system_call("mknod")
def mknod(p: Process, path: int, mode: int, device: int) -> int:
    return mknodat(p, AT_FDCWD, path, mode, device)


@system_call("unlinkat")
def unlinkat(p: Process, directory: int, path: int, flags: int) -> int:
    if flags & ~AT_REMOVEDIR:
        raise SystemCallError(errno.EINVAL)
    with place(p, directory, p.path(path), False, write=True) as (name, base):
        if flags & AT_REMOVEDIR:
            os.rmdir(name, dir_fd=base)
        else:
            os.unlink(name, dir_fd=base)
    return 0


@system_call("unlink")
def unlink(p: Process, path: int) -> int:
    return unlinkat(p, AT_FDCWD, path, 0)


@system_call("rmdir")
def rmdir(p: Process, path: int) -> int:
    return unlinkat(p, AT_FDCWD, path, AT_REMOVEDIR)


@system_call("renameat2")
def renameat2(p: Process, old_dir: int, old_at: int, new_dir: int, new_at: int, flags: int) -> int:
    old, new = p.path(old_at), p.path(new_at)
    with (
        place(p, old_dir, old, False, write=True) as (source, source_base),
        place(p, new_dir, new, False, write=True) as (target, target_base),
    ):
        if flags:
            host.rename(source_base, source, target_base, target, flags)
        else:
            os.rename(source, target, src_dir_fd=source_base, dst_dir_fd=target_base)
    return 0


@system_call("renameat")
def renameat(p: Process, old_dir: int, old_at: int, new_dir: int, new_at: int) -> int:
    return renameat2(p, old_dir, old_at, new_dir, new_at, 0)


@system_call("rename")
def rename(p: Process, old: int, new: int) -> int:
    return renameat2(p, AT_FDCWD, old, AT_FDCWD, new, 0)


@system_call("linkat")
def linkat(p: Process, old_dir: int, old_at: int, new_dir: int, new_at: int, flags: int) -> int:
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
        raise SystemCallError(errno.EINVAL)
    old, new = p.path(old_at), p.path(new_at)
    follow = bool(flags & AT_SYMLINK_FOLLOW)
    if not old and flags & AT_EMPTY_PATH:
        old, old_dir, follow = b"/proc/self/fd/%d" % signed(old_dir), AT_FDCWD, True
    with (
        place(p, old_dir, old, follow, write=True) as (source, source_base),
        place(p, new_dir, new, False, write=True) as (target, target_base),
    ):
        os.link(source, target, src_dir_fd=source_base, dst_dir_fd=target_base, follow_symlinks=follow)
    return 0


@system_call("link")
def link(p: Process, old: int, new: int) -> int:
    return linkat(p, AT_FDCWD, old, AT_FDCWD, new, 0)


@system_call("symlinkat")
def symlinkat(p: Process, target: int, directory: int, path: int) -> int:
    text = p.path(target)
    if not text:
        raise SystemCallError(errno.ENOENT)
    with place(p, directory, p.path(path), False, write=True) as (name, base):
        os.symlink(text, name, dir_fd=base)
    return 0


@system_call("symlink")
def symlink(p: Process, target: int, path: int) -> int:
    return symlinkat(p, target, AT_FDCWD, path)


@system_call("readlinkat")
def readlinkat(p: Process, directory: int, path_at: int, buffer: int, size: int) -> int:
    if signed(size) <= 0:
        raise SystemCallError(errno.EINVAL)
    path = p.path(path_at)
    if path:
        target = link_target(p, directory, path)
        if target is None:
            with place(p, directory, path, False) as (name, base):
                target = os.readlink(name, dir_fd=base)
    else:
        target = os.readlink(b"", dir_fd=p.files.host(directory))
    target = target[: signed(size)]
    p.memory.write(buffer, target)
    return len(target)


@system_call("readlink")
def readlink(p: Process, path: int, buffer: int, size: int) -> int:
    return readlinkat(p, AT_FDCWD, path, buffer, size)


# --- permissions, owners, times -----------------------------------------------------------------------


@system_call("umask")
def umask(p: Process, mask: int) -> int:
    before, p.umask = p.umask, mask & 0o777
    return before


@system_call("fchmodat")
def fchmodat(p: Process, directory: int, path: int, mode: int) -> int:
    with place(p, directory, p.path(path), write=True) as (name, base):
        os.chmod(name, mode & 0o7777, dir_fd=base)
    return 0


@system_call("fchmodat2")
def fchmodat2(p: Process, directory: int, path: int, mode: int, flags: int) -> int:
    if flags & AT_SYMLINK_NOFOLLOW:
        with place(p, directory, p.path(path), False) as (name, base):
            if stat.S_ISLNK(os.stat(name, dir_fd=base, follow_symlinks=False).st_mode):
                raise SystemCallError(errno.EOPNOTSUPP)
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise SystemCallError(errno.EINVAL)
    if flags & AT_EMPTY_PATH and not p.path(path):
        return fchmod(p, directory, mode)
    return fchmodat(p, directory, path, mode)


@system_call("chmod")
def chmod(p: Process, path: int, mode: int) -> int:
    return fchmodat(p, AT_FDCWD, path, mode)


@system_call("fchmod")
def fchmod(p: Process, number: int, mode: int) -> int:
    p.need("write")
    os.fchmod(p.files.host(number), mode & 0o7777)
    return 0


@system_call("fchownat")
def fchownat(p: Process, directory: int, path_at: int, owner: int, group: int, flags: int) -> int:
    path = p.path(path_at)
    if not path and flags & AT_EMPTY_PATH:
        return fchown(p, directory, owner, group)
    follow = not flags & AT_SYMLINK_NOFOLLOW
    with place(p, directory, path, follow, write=True) as (name, base):
        os.chown(name, signed(owner), signed(group), dir_fd=base, follow_symlinks=follow)
    return 0


@system_call("chown", "chown32")
def chown(p: Process, path: int, owner: int, group: int) -> int:
    return fchownat(p, AT_FDCWD, path, owner, group, 0)


@system_call("lchown", "lchown32")
def lchown(p: Process, path: int, owner: int, group: int) -> int:
    return fchownat(p, AT_FDCWD, path, owner, group, AT_SYMLINK_NOFOLLOW)


@system_call("fchown", "fchown32")
def fchown(p: Process, number: int, owner: int, group: int) -> int:
    p.need("write")
    os.fchown(p.files.host(number), signed(owner), signed(group))
    return 0


# --- times --------------------------------------------------------------------------------------------


def set_times(
    p: Process, directory: int, path_at: int, times: list[tuple[int, int]] | None, flags: int
) -> int:
    """Access and modification time, each (seconds, nanoseconds); None: both now."""
    p.need("write")
    path = p.path(path_at) if path_at else b""
    if path_at and not path and not flags & AT_EMPTY_PATH:
        raise SystemCallError(errno.ENOENT)
    if times is not None and any(
        ns not in (UTIME_NOW, UTIME_OMIT) and not 0 <= ns < NANOSECONDS for _, ns in times
    ):
        raise SystemCallError(errno.EINVAL)
    if path:
        follow = not flags & AT_SYMLINK_NOFOLLOW
        with place(p, directory, path, follow, write=True) as (name, base):
            host.set_times(base, name, times, 0 if follow else AT_SYMLINK_NOFOLLOW)
    else:
        host.set_times(p.files.host(directory), None, times, 0)
    return 0


def read_times(p: Process, address: int, word: int, unit: int) -> list[tuple[int, int]] | None:
    """Two pairs of seconds and smaller units of `unit` nanoseconds, whose members have `word` bytes."""
    if not address:
        return None
    data = p.memory.read(address, 4 * word)
    values = [p.abi.unpack(data[at : at + word], signed=True) for at in range(0, 4 * word, word)]
    if word == 8 and p.abi.bits == 32:
        values[1], values[3] = signed(values[1]), signed(values[3])  # the upper half is padding
    if unit > 1 and not all(0 <= value < NANOSECONDS // unit for value in (values[1], values[3])):
        raise SystemCallError(errno.EINVAL)
    return [(values[0], values[1] * unit), (values[2], values[3] * unit)]


@system_call("utimensat")
def utimensat(p: Process, directory: int, path: int, times: int, flags: int) -> int:
    return set_times(p, directory, path, read_times(p, times, p.abi.word, 1), flags)


@system_call("utimensat_time64")
def utimensat_time64(p: Process, directory: int, path: int, times: int, flags: int) -> int:
    return set_times(p, directory, path, read_times(p, times, 8, 1), flags)


@system_call("futimesat")
def futimesat(p: Process, directory: int, path: int, times: int) -> int:
    return set_times(p, directory, path, read_times(p, times, p.abi.word, 1000), 0)


@system_call("utimes")
def utimes(p: Process, path: int, times: int) -> int:
    return futimesat(p, AT_FDCWD, path, times)


@system_call("utime")
def utime(p: Process, path: int, times: int) -> int:
    pairs = None
    if times:
        word = p.abi.word
        data = p.memory.read(times, 2 * word)
        pairs = [(p.abi.unpack(data[at : at + word], signed=True), 0) for at in (0, word)]
    return set_times(p, AT_FDCWD, path, pairs, 0)
