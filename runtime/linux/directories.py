"""System calls on directories and names: listing, creating, removing, renaming, linking, permissions,
times.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.files import AT_EMPTY_PATH, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW
from runtime.linux.paths import AT_FDCWD, host_directory, host_path, link_target

if TYPE_CHECKING:
    from runtime.linux.descriptors import OpenFile
    from runtime.linux.process import Process

DT_DIR = 4
UTIME_NOW, UTIME_OMIT = 0x3FFF_FFFF, 0x3FFF_FFFE
NANOSECONDS = 1_000_000_000


# --- listing ------------------------------------------------------------------------------------------


def entries_of(file: OpenFile) -> list[tuple[bytes, int, int]]:
    """Name, inode and ``d_type`` of a directory's entries; read once, until the guest rewinds."""
    if file.directory is None:
        own = os.fstat(file.host)
        if not stat.S_ISDIR(own.st_mode):
            raise SystemCallError(errno.ENOTDIR)
        parent = os.stat("..", dir_fd=file.host)
        found = [(b".", own.st_ino, DT_DIR), (b"..", parent.st_ino, DT_DIR)]
        with os.scandir(file.host) as listing:
            for entry in listing:
                kind = entry.stat(follow_symlinks=False).st_mode >> 12
                found.append((os.fsencode(entry.name), entry.inode(), kind))
        file.directory = found
        file.position = 0
    return file.directory


@system_call("getdents64")
def getdents64(p: Process, number: int, address: int, size: int) -> int:
    """``struct linux_dirent64``: inode, offset of the next, length, type, name."""
    file = p.files.get(number)
    entries = entries_of(file)
    parts: list[bytes] = []
    room = size & 0xFFFF_FFFF
    position = file.position
    for name, inode, kind in entries[position:]:
        length = (8 + 8 + 2 + 1 + len(name) + 1 + 7) & ~7
        if length > room:
            break
        position += 1
        head = p.abi.pack(inode, 8) + p.abi.pack(position, 8) + p.abi.pack(length, 2) + bytes([kind])
        parts.append((head + name).ljust(length, b"\0"))
        room -= length
    if not parts and position < len(entries):
        raise SystemCallError(errno.EINVAL)
    data = b"".join(parts)
    p.memory.write(address, data)
    file.position = position
    return len(data)


@system_call("getcwd")
def getcwd(p: Process, address: int, size: int) -> int:
    path = os.getcwdb() + b"\0"  # noqa: PTH109 - bytes
    if len(path) > size:
        raise SystemCallError(errno.ERANGE)
    p.memory.write(address, path)
    return len(path)


@system_call("chdir")
def chdir(p: Process, path: int) -> int:
    os.chdir(host_path(p, p.path(path)))
    return 0


@system_call("fchdir")
def fchdir(p: Process, number: int) -> int:
    os.fchdir(p.files.host(number))
    return 0


# --- names --------------------------------------------------------------------------------------------


@system_call("mkdirat")
def mkdirat(p: Process, directory: int, path_at: int, mode: int) -> int:
    path = p.path(path_at)
    os.mkdir(host_path(p, path), mode & 0o7777 & ~p.umask, dir_fd=host_directory(p, directory, path))
    return 0


@system_call("mkdir")
def mkdir(p: Process, path: int, mode: int) -> int:
    return mkdirat(p, AT_FDCWD, path, mode)


@system_call("unlinkat")
def unlinkat(p: Process, directory: int, path_at: int, flags: int) -> int:
    if flags & ~AT_REMOVEDIR:
        raise SystemCallError(errno.EINVAL)
    path = p.path(path_at)
    base = host_directory(p, directory, path)
    if flags & AT_REMOVEDIR:
        os.rmdir(host_path(p, path), dir_fd=base)
    else:
        os.unlink(host_path(p, path), dir_fd=base)
    return 0


@system_call("unlink")
def unlink(p: Process, path: int) -> int:
    return unlinkat(p, AT_FDCWD, path, 0)


@system_call("rmdir")
def rmdir(p: Process, path: int) -> int:
    return unlinkat(p, AT_FDCWD, path, AT_REMOVEDIR)


@system_call("renameat2")
def renameat2(p: Process, old_dir: int, old_at: int, new_dir: int, new_at: int, flags: int) -> int:
    if flags:
        raise SystemCallError(errno.EINVAL)
    old, new = p.path(old_at), p.path(new_at)
    os.rename(
        host_path(p, old),
        host_path(p, new),
        src_dir_fd=host_directory(p, old_dir, old),
        dst_dir_fd=host_directory(p, new_dir, new),
    )
    return 0


@system_call("renameat")
def renameat(p: Process, old_dir: int, old_at: int, new_dir: int, new_at: int) -> int:
    return renameat2(p, old_dir, old_at, new_dir, new_at, 0)


@system_call("rename")
def rename(p: Process, old: int, new: int) -> int:
    return renameat2(p, AT_FDCWD, old, AT_FDCWD, new, 0)


@system_call("linkat")
def linkat(p: Process, old_dir: int, old_at: int, new_dir: int, new_at: int, flags: int) -> int:
    old, new = p.path(old_at), p.path(new_at)
    os.link(
        host_path(p, old),
        host_path(p, new),
        src_dir_fd=host_directory(p, old_dir, old),
        dst_dir_fd=host_directory(p, new_dir, new),
        follow_symlinks=bool(flags & AT_SYMLINK_FOLLOW),
    )
    return 0


@system_call("link")
def link(p: Process, old: int, new: int) -> int:
    return linkat(p, AT_FDCWD, old, AT_FDCWD, new, 0)


@system_call("symlinkat")
def symlinkat(p: Process, target: int, directory: int, path_at: int) -> int:
    path = p.path(path_at)
    os.symlink(p.path(target), host_path(p, path), dir_fd=host_directory(p, directory, path))
    return 0


@system_call("symlink")
def symlink(p: Process, target: int, path: int) -> int:
    return symlinkat(p, target, AT_FDCWD, path)


@system_call("readlinkat")
def readlinkat(p: Process, directory: int, path_at: int, buffer: int, size: int) -> int:
    if signed(size) <= 0:
        raise SystemCallError(errno.EINVAL)
    path = p.path(path_at)
    target = link_target(p, path)
    if target is None:
        target = os.readlink(host_path(p, path), dir_fd=host_directory(p, directory, path))
    target = target[:size]
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
def fchmodat(p: Process, directory: int, path_at: int, mode: int) -> int:
    path = p.path(path_at)
    os.chmod(host_path(p, path), mode & 0o7777, dir_fd=host_directory(p, directory, path))
    return 0


@system_call("chmod")
def chmod(p: Process, path: int, mode: int) -> int:
    return fchmodat(p, AT_FDCWD, path, mode)


@system_call("fchmod")
def fchmod(p: Process, number: int, mode: int) -> int:
    os.fchmod(p.files.host(number), mode & 0o7777)
    return 0


@system_call("fchownat")
def fchownat(p: Process, directory: int, path_at: int, owner: int, group: int, flags: int) -> int:
    path = p.path(path_at)
    if not path and flags & AT_EMPTY_PATH:
        return fchown(p, directory, owner, group)
    base = host_directory(p, directory, path)
    follow = not flags & AT_SYMLINK_NOFOLLOW
    os.chown(host_path(p, path), signed(owner), signed(group), dir_fd=base, follow_symlinks=follow)
    return 0


@system_call("chown", "chown32")
def chown(p: Process, path: int, owner: int, group: int) -> int:
    return fchownat(p, AT_FDCWD, path, owner, group, 0)


@system_call("lchown", "lchown32")
def lchown(p: Process, path: int, owner: int, group: int) -> int:
    return fchownat(p, AT_FDCWD, path, owner, group, AT_SYMLINK_NOFOLLOW)


@system_call("fchown", "fchown32")
def fchown(p: Process, number: int, owner: int, group: int) -> int:
    os.fchown(p.files.host(number), signed(owner), signed(group))
    return 0


def set_times(p: Process, directory: int, path_at: int, times_at: int, flags: int, word: int) -> int:
    """``utimensat`` with times whose members have `word` bytes."""
    import time

    path = p.path(path_at) if path_at else b""
    now = time.time_ns()
    times = [now, now]
    base = host_directory(p, directory, path)
    follow = not flags & AT_SYMLINK_NOFOLLOW
    if times_at:
        data = p.memory.read(times_at, 4 * word)
        for i in range(2):
            seconds = p.abi.unpack(data[2 * i * word : (2 * i + 1) * word], signed=True)
            rest = p.abi.unpack(data[(2 * i + 1) * word : (2 * i + 2) * word]) & 0xFFFF_FFFF
            if rest == UTIME_OMIT:
                status = os.stat(path, dir_fd=base, follow_symlinks=follow) if path else os.fstat(base or 0)
                times[i] = (status.st_atime_ns, status.st_mtime_ns)[i]
            elif rest != UTIME_NOW:
                if rest >= NANOSECONDS:
                    raise SystemCallError(errno.EINVAL)
                times[i] = seconds * NANOSECONDS + rest
    if path:
        os.utime(path, ns=(times[0], times[1]), dir_fd=base, follow_symlinks=follow)
    else:
        os.utime(p.files.host(directory), ns=(times[0], times[1]))
    return 0


@system_call("utimensat")
def utimensat(p: Process, directory: int, path: int, times: int, flags: int) -> int:
    return set_times(p, directory, path, times, flags, p.abi.word)


@system_call("utimensat_time64")
def utimensat_time64(p: Process, directory: int, path: int, times: int, flags: int) -> int:
    return set_times(p, directory, path, times, flags, 8)
