"""System calls that tell what files are: status, filesystems, access, extended attributes."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from runtime.linux import host
from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.layouts import STATFS32, STATFS32_64, STATFS64, STATX
from runtime.linux.namespace import AT_FDCWD
from runtime.linux.paths import place

if TYPE_CHECKING:
    from runtime.linux.process import Process

AT_SYMLINK_NOFOLLOW, AT_EACCESS, AT_EMPTY_PATH = 0x100, 0x200, 0x1000
NANOSECONDS = 1_000_000_000
ATTRIBUTE_LIMIT = 65536
"""Largest extended attribute, in bytes."""


def pack_stat(p: Process, status: os.stat_result) -> bytes:
    """The guest's ``struct stat`` (``stat64`` on 32-bit architectures)."""
    values = {
        "dev": status.st_dev,
        "ino": status.st_ino,
        "ino_low": status.st_ino,
        "mode": status.st_mode,
        "nlink": status.st_nlink,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "rdev": status.st_rdev,
        "size": status.st_size,
        "blksize": status.st_blksize,
        "blocks": status.st_blocks,
    }
    for name in ("atime", "mtime", "ctime"):
        seconds, rest = divmod(getattr(status, f"st_{name}_ns"), NANOSECONDS)
        values[name], values[f"{name}_ns"] = seconds, rest
    return p.abi.stat.pack(p.abi.order, values)


def status_at(p: Process, directory: int, path: bytes, flags: int) -> os.stat_result:
    """The host's answer. With AT_EMPTY_PATH, an empty path means the descriptor itself."""
    if not path and flags & AT_EMPTY_PATH:
        if signed(directory) == AT_FDCWD:
            return os.stat(".")  # noqa: PTH116
        return os.fstat(p.files.host(directory))
    follow = not flags & AT_SYMLINK_NOFOLLOW
    with place(p, directory, path, follow) as (name, base):
        return os.stat(name, dir_fd=base, follow_symlinks=follow)


@system_call("newfstatat", "fstatat64")
def newfstatat(p: Process, directory: int, path: int, buffer: int, flags: int) -> int:
    p.memory.write(buffer, pack_stat(p, status_at(p, directory, p.path(path), flags)))
    return 0


@system_call("stat", "stat64")
def stat_(p: Process, path: int, buffer: int) -> int:
    return newfstatat(p, AT_FDCWD, path, buffer, 0)


@system_call("lstat", "lstat64")
def lstat(p: Process, path: int, buffer: int) -> int:
    return newfstatat(p, AT_FDCWD, path, buffer, AT_SYMLINK_NOFOLLOW)


@system_call("fstat", "fstat64")
def fstat(p: Process, number: int, buffer: int) -> int:
    p.memory.write(buffer, pack_stat(p, os.fstat(p.files.host(number))))
    return 0


@system_call("statx")
def statx(p: Process, directory: int, path_at: int, flags: int, mask: int, buffer: int) -> int:
    path = p.path(path_at) if path_at else b""
    status = status_at(p, directory, path, flags | (0 if path_at else AT_EMPTY_PATH))
    values = {
        "mask": 0x7FF,  # STATX_BASIC_STATS
        "blksize": status.st_blksize,
        "nlink": status.st_nlink,
        "uid": status.st_uid,
        "gid": status.st_gid,
        "mode": status.st_mode,
        "ino": status.st_ino,
        "size": status.st_size,
        "blocks": status.st_blocks,
        "rdev_major": os.major(status.st_rdev),
        "rdev_minor": os.minor(status.st_rdev),
        "dev_major": os.major(status.st_dev),
        "dev_minor": os.minor(status.st_dev),
    }
    for name in ("atime", "mtime", "ctime"):
        seconds, rest = divmod(getattr(status, f"st_{name}_ns"), NANOSECONDS)
        values[name], values[f"{name}_ns"] = seconds, rest
    p.memory.write(buffer, STATX.pack(p.abi.order, values))
    return 0


# --- filesystems --------------------------------------------------------------------------------------------


def pack_statfs(p: Process, status: os.statvfs_result, kind: int, wide: bool) -> bytes:
    """``struct statfs``, or if `wide` the ``statfs64`` of 32-bit architectures."""
    values = {
        "type": kind,
        "bsize": status.f_bsize,
        "blocks": status.f_blocks,
        "bfree": status.f_bfree,
        "bavail": status.f_bavail,
        "files": status.f_files,
        "ffree": status.f_ffree,
        "fsid": status.f_fsid,
        "namelen": status.f_namemax,
        "frsize": status.f_frsize,
        "flags": status.f_flag | 0x20,  # ST_VALID
    }
    if p.abi.bits == 64:
        layout = STATFS64
    elif wide:
        layout = STATFS32_64
    else:
        layout = STATFS32
        if values["blocks"] >> 32 or values["files"] >> 32:
            raise SystemCallError(errno.EOVERFLOW)
    return layout.pack(p.abi.order, values)


def write_statfs(p: Process, path: bytes | int, buffer: int, wide: bool) -> int:
    """Of a path or of the host's descriptor."""
    if isinstance(path, int):
        status, kind = os.fstatvfs(path), host.filesystem_type(path)
    else:
        with place(p, AT_FDCWD, path) as (name, base):
            descriptor = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=base)
        try:
            status, kind = os.fstatvfs(descriptor), host.filesystem_type(descriptor)
        finally:
            os.close(descriptor)
    p.memory.write(buffer, pack_statfs(p, status, kind, wide))
    return 0


@system_call("statfs")
def statfs(p: Process, path: int, buffer: int) -> int:
    return write_statfs(p, p.path(path), buffer, False)


@system_call("fstatfs")
def fstatfs(p: Process, number: int, buffer: int) -> int:
    return write_statfs(p, p.files.host(number), buffer, False)


@system_call("statfs64")
def statfs64(p: Process, path: int, size: int, buffer: int) -> int:
    return write_statfs(p, p.path(path), buffer, True)


@system_call("fstatfs64")
def fstatfs64(p: Process, number: int, size: int, buffer: int) -> int:
    return write_statfs(p, p.files.host(number), buffer, True)


# --- access -------------------------------------------------------------------------------------------------


@system_call("faccessat")
def faccessat(p: Process, directory: int, path_at: int, mode: int) -> int:
    return faccessat2(p, directory, path_at, mode, 0)


@system_call("faccessat2")
def faccessat2(p: Process, directory: int, path_at: int, mode: int, flags: int) -> int:
    mode = signed(mode)
    if mode & ~7:
        raise SystemCallError(errno.EINVAL)
    path = p.path(path_at)
    follow = not flags & AT_SYMLINK_NOFOLLOW
    effective = bool(flags & AT_EACCESS)
    if not path and flags & AT_EMPTY_PATH:
        path, directory = b"/proc/self/fd/%d" % signed(directory), AT_FDCWD
    with place(p, directory, path, follow) as (name, base):
        os.stat(name, dir_fd=base, follow_symlinks=follow)  # says why, where access only says no
        if not os.access(name, mode, dir_fd=base, effective_ids=effective, follow_symlinks=follow):
            raise SystemCallError(errno.EACCES)
    if mode & os.W_OK and "write" in p.settings.denied:
        raise SystemCallError(errno.EROFS)
    return 0


@system_call("access")
def access(p: Process, path: int, mode: int) -> int:
    return faccessat2(p, AT_FDCWD, path, mode, 0)


# --- extended attributes ------------------------------------------------------------------------------------


def give(p: Process, data: bytes, address: int, size: int) -> int:
    """Write what fits; size 0 asks how much there is."""
    if size:
        if len(data) > size:
            raise SystemCallError(errno.ERANGE)
        p.memory.write(address, data)
    return len(data)


def attribute_name(p: Process, address: int) -> bytes:
    try:
        return p.memory.string(address, 255)
    except SystemCallError:
        raise SystemCallError(errno.ERANGE) from None


def get_attribute(p: Process, path: bytes | int, name: int, address: int, size: int, follow: bool) -> int:
    attribute = attribute_name(p, name)
    if isinstance(path, int):
        return give(p, os.getxattr(path, attribute), address, size)
    with place(p, AT_FDCWD, path, follow) as (where, base):
        return give(p, os.getxattr(at(where, base), attribute, follow_symlinks=follow), address, size)


def list_attributes(p: Process, path: bytes | int, address: int, size: int, follow: bool) -> int:
    if isinstance(path, int):
        names = os.listxattr(path)
    else:
        with place(p, AT_FDCWD, path, follow) as (where, base):
            names = os.listxattr(at(where, base), follow_symlinks=follow)
    return give(p, b"".join(os.fsencode(name) + b"\0" for name in names), address, size)


def set_attribute(
    p: Process, path: bytes | int, name: int, value: int, size: int, flags: int, follow: bool
) -> int:
    p.need("write")
    attribute = attribute_name(p, name)
    if size > ATTRIBUTE_LIMIT:
        raise SystemCallError(errno.E2BIG)
    data = p.memory.read(value, size)
    if isinstance(path, int):
        os.setxattr(path, attribute, data, signed(flags))
        return 0
    with place(p, AT_FDCWD, path, follow) as (where, base):
        os.setxattr(at(where, base), attribute, data, signed(flags), follow_symlinks=follow)
    return 0


def remove_attribute(p: Process, path: bytes | int, name: int, follow: bool) -> int:
    p.need("write")
    attribute = attribute_name(p, name)
    if isinstance(path, int):
        os.removexattr(path, attribute)
        return 0
    with place(p, AT_FDCWD, path, follow) as (where, base):
        os.removexattr(at(where, base), attribute, follow_symlinks=follow)
    return 0


def at(name: bytes, directory: int | None) -> bytes:
    """A path for calls that take no directory."""
    return name if directory is None else b"/proc/self/fd/%d/%s" % (directory, name)


@system_call("getxattr")
def getxattr(p: Process, path: int, name: int, address: int, size: int) -> int:
    return get_attribute(p, p.path(path), name, address, size, True)


@system_call("lgetxattr")
def lgetxattr(p: Process, path: int, name: int, address: int, size: int) -> int:
    return get_attribute(p, p.path(path), name, address, size, False)


@system_call("fgetxattr")
def fgetxattr(p: Process, number: int, name: int, address: int, size: int) -> int:
    return get_attribute(p, p.files.host(number), name, address, size, True)


@system_call("listxattr")
def listxattr(p: Process, path: int, address: int, size: int) -> int:
    return list_attributes(p, p.path(path), address, size, True)


@system_call("llistxattr")
def llistxattr(p: Process, path: int, address: int, size: int) -> int:
    return list_attributes(p, p.path(path), address, size, False)


@system_call("flistxattr")
def flistxattr(p: Process, number: int, address: int, size: int) -> int:
    return list_attributes(p, p.files.host(number), address, size, True)


@system_call("setxattr")
def setxattr(p: Process, path: int, name: int, value: int, size: int, flags: int) -> int:
    return set_attribute(p, p.path(path), name, value, size, flags, True)


@system_call("lsetxattr")
def lsetxattr(p: Process, path: int, name: int, value: int, size: int, flags: int) -> int:
    return set_attribute(p, p.path(path), name, value, size, flags, False)


@system_call("fsetxattr")
def fsetxattr(p: Process, number: int, name: int, value: int, size: int, flags: int) -> int:
    return set_attribute(p, p.files.host(number), name, value, size, flags, True)


@system_call("removexattr")
def removexattr(p: Process, path: int, name: int) -> int:
    return remove_attribute(p, p.path(path), name, True)


@system_call("lremovexattr")
def lremovexattr(p: Process, path: int, name: int) -> int:
    return remove_attribute(p, p.path(path), name, False)


@system_call("fremovexattr")
def fremovexattr(p: Process, number: int, name: int) -> int:
    return remove_attribute(p, p.files.host(number), name, True)
