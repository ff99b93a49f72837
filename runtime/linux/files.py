"""System calls on files: opening, reading, writing, positions, sizes, and what files are."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.layouts import STATFS32_64, STATFS64, STATX
from runtime.linux.memory import CHUNK
from runtime.linux.paths import AT_FDCWD, host_directory, host_path, link_target, open_path
from runtime.linux.ports import READ, WRITE, AccessFault
from runtime.linux.signals import send

if TYPE_CHECKING:
    from runtime.linux.process import Process

LARGEST = 0x7FFF_F000
"""Bytes that one call transfers at most."""
MAX_VECTORS = 1024
AT_SYMLINK_NOFOLLOW, AT_REMOVEDIR, AT_SYMLINK_FOLLOW, AT_EMPTY_PATH = 0x100, 0x200, 0x400, 0x1000
AT_EACCESS = 0x200
NANOSECONDS = 1_000_000_000


# --- opening ------------------------------------------------------------------------------------------


@system_call("openat")
def openat(p: Process, directory: int, path_at: int, flags: int, mode: int) -> int:
    path = p.path(path_at)
    host_flags = p.abi.open_flags(flags)
    base = host_directory(p, directory, path)
    host = open_path(p, base, path, host_flags, mode & 0o7777)
    if base is None and not path.startswith(b"/"):
        full = os.path.join(os.getcwdb(), path)  # noqa: PTH118, PTH109 - bytes
    else:
        full = path
    return p.files.add(host, full, bool(host_flags & os.O_CLOEXEC))


@system_call("open")
def open_(p: Process, path: int, flags: int, mode: int) -> int:
    return openat(p, AT_FDCWD, path, flags, mode)


@system_call("creat")
def creat(p: Process, path_at: int, mode: int) -> int:
    path = p.path(path_at)
    return p.files.add(open_path(p, None, path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode & 0o7777), path)


@system_call("memfd_create")
def memfd_create(p: Process, name: int, flags: int) -> int:
    if flags & ~1:
        raise SystemCallError(errno.EINVAL)
    text = p.memory.string(name, 249)
    host = os.memfd_create(os.fsdecode(text), os.MFD_CLOEXEC)
    return p.files.add(host, b"/memfd:" + text, bool(flags & 1))


# --- reading and writing ------------------------------------------------------------------------------


def read_into(p: Process, host: int, address: int, size: int, offset: int | None) -> int:
    """Read from a file into the guest, as much as is there at once. `offset` None: at the file's position."""
    if signed(size, p.abi.bits) < 0:
        raise SystemCallError(errno.EINVAL)
    size = min(size, LARGEST)
    usable = p.memory.accessible(address, size, WRITE)
    if size and not usable:
        # Linux says so only after it knows that there is something to read; nobody depends on that.
        raise AccessFault(address, WRITE)
    done = 0
    while True:
        want = min(CHUNK, usable - done)
        data = os.read(host, want) if offset is None else os.pread(host, want, offset + done)
        if data:
            p.memory.pages.write(address + done, data)
        done += len(data)
        if len(data) < want or done >= usable:
            return done


def write_from(p: Process, host: int, address: int, size: int, offset: int | None) -> int:
    """Write from the guest to a file."""
    if signed(size, p.abi.bits) < 0:
        raise SystemCallError(errno.EINVAL)
    size = min(size, LARGEST)
    usable = p.memory.accessible(address, size, READ)
    if size and not usable:
        raise AccessFault(address, READ)
    done = 0
    while True:
        want = min(CHUNK, usable - done)
        data = p.memory.pages.read(address + done, want) if want else b""
        try:
            wrote = os.write(host, data) if offset is None else os.pwrite(host, data, offset + done)
        except BrokenPipeError:
            send(p, p.abi.signals["SIGPIPE"])
            raise
        done += wrote
        if wrote < want or done >= usable:
            return done


def vectors(p: Process, address: int, count: int) -> list[tuple[int, int]]:
    """The addresses and sizes of an ``iovec`` array."""
    if not 0 <= signed(count) <= MAX_VECTORS:
        raise SystemCallError(errno.EINVAL)
    word = p.abi.word
    data = p.memory.read(address, 2 * word * count)
    pairs = [
        (p.abi.unpack(data[i : i + word]), p.abi.unpack(data[i + word : i + 2 * word]))
        for i in range(0, len(data), 2 * word)
    ]
    if any(size >> (p.abi.bits - 1) for _, size in pairs) or sum(size for _, size in pairs) >> (
        p.abi.bits - 1
    ):
        raise SystemCallError(errno.EINVAL)
    return pairs


def transfer_vectors(
    p: Process, reading: bool, number: int, address: int, count: int, offset: int | None
) -> int:
    host = p.files.host(number)
    move = read_into if reading else write_from
    if offset is not None and offset < 0:
        raise SystemCallError(errno.EINVAL)
    total = 0
    for start, size in vectors(p, address, count):
        if not size:
            continue
        try:
            done = move(p, host, start, size, None if offset is None else offset + total)
        except (AccessFault, OSError):
            if total:
                return total
            raise
        total += done
        if done < size:
            break
    return total


@system_call("read")
def read(p: Process, number: int, address: int, size: int) -> int:
    return read_into(p, p.files.host(number), address, size, None)


@system_call("write")
def write(p: Process, number: int, address: int, size: int) -> int:
    return write_from(p, p.files.host(number), address, size, None)


@system_call("pread64")
def pread64(p: Process, number: int, address: int, size: int, a: int, b: int, c: int) -> int:
    offset = p.long_pair(a, b, c)
    if offset < 0:
        raise SystemCallError(errno.EINVAL)
    return read_into(p, p.files.host(number), address, size, offset)


@system_call("pwrite64")
def pwrite64(p: Process, number: int, address: int, size: int, a: int, b: int, c: int) -> int:
    offset = p.long_pair(a, b, c)
    if offset < 0:
        raise SystemCallError(errno.EINVAL)
    return write_from(p, p.files.host(number), address, size, offset)


@system_call("readv")
def readv(p: Process, number: int, address: int, count: int) -> int:
    return transfer_vectors(p, True, number, address, count, None)


@system_call("writev")
def writev(p: Process, number: int, address: int, count: int) -> int:
    return transfer_vectors(p, False, number, address, count, None)


def vector_offset(p: Process, low: int, high: int) -> int:
    """Offsets of ``preadv`` come as two words, the lower first, whatever the byte order."""
    value = low if p.abi.bits == 64 else high << 32 | low
    return signed(value, 64)


@system_call("preadv")
def preadv(p: Process, number: int, address: int, count: int, low: int, high: int) -> int:
    return transfer_vectors(p, True, number, address, count, vector_offset(p, low, high))


@system_call("pwritev")
def pwritev(p: Process, number: int, address: int, count: int, low: int, high: int) -> int:
    return transfer_vectors(p, False, number, address, count, vector_offset(p, low, high))


@system_call("sendfile", "sendfile64")
def sendfile(p: Process, target: int, source: int, offset_at: int, count: int) -> int:
    word = p.abi.word
    offset = p.abi.unpack(p.memory.read(offset_at, word), signed=True) if offset_at else None
    sent = os.sendfile(p.files.host(target), p.files.host(source), offset, min(count, LARGEST))
    if offset is not None:
        p.memory.write(offset_at, p.abi.pack(offset + sent, word))
    return sent


# --- positions and sizes ------------------------------------------------------------------------------


def seek(p: Process, number: int, offset: int, whence: int) -> int:
    file = p.files.get(number)
    result = os.lseek(file.host, offset, whence)
    if file.directory is not None:
        file.position = offset if whence == os.SEEK_SET else file.position
        if offset == 0:
            file.directory = None
    return result


@system_call("lseek")
def lseek(p: Process, number: int, offset: int, whence: int) -> int:
    return seek(p, number, signed(offset, p.abi.bits), signed(whence))


@system_call("_llseek", "llseek")
def llseek(p: Process, number: int, high: int, low: int, result_at: int, whence: int) -> int:
    result = seek(p, number, signed(high << 32 | low, 64), signed(whence))
    p.memory.write(result_at, p.abi.pack(result, 8))
    return 0


@system_call("ftruncate")
def ftruncate(p: Process, number: int, size: int) -> int:
    os.ftruncate(p.files.host(number), signed(size, p.abi.bits))
    return 0


@system_call("ftruncate64")
def ftruncate64(p: Process, number: int, a: int, b: int, c: int) -> int:
    os.ftruncate(p.files.host(number), p.long_pair(a, b, c))
    return 0


@system_call("truncate")
def truncate(p: Process, path: int, size: int) -> int:
    os.truncate(host_path(p, p.path(path)), signed(size, p.abi.bits))
    return 0


@system_call("truncate64")
def truncate64(p: Process, path: int, a: int, b: int, c: int) -> int:
    os.truncate(host_path(p, p.path(path)), p.long_pair(a, b, c))
    return 0


@system_call("fallocate")
def fallocate(p: Process, number: int, mode: int, a: int, b: int, c: int, d: int) -> int:
    if mode:
        raise SystemCallError(errno.EOPNOTSUPP)
    offset, size = (a, b) if p.abi.bits == 64 else (p.even_pair(a, b), p.even_pair(c, d))
    os.posix_fallocate(p.files.host(number), signed(offset, 64), signed(size, 64))
    return 0


@system_call("fsync")
def fsync(p: Process, number: int) -> int:
    os.fsync(p.files.host(number))
    return 0


@system_call("fdatasync")
def fdatasync(p: Process, number: int) -> int:
    os.fdatasync(p.files.host(number))
    return 0


@system_call("sync")
def sync(p: Process) -> int:
    os.sync()
    return 0


@system_call("fadvise64", "fadvise64_64", "arm_fadvise64_64", "readahead")
def fadvise64(p: Process, number: int) -> int:
    p.files.host(number)
    return 0


@system_call("flock")
def flock(p: Process, number: int, operation: int) -> int:
    import fcntl

    fcntl.flock(p.files.host(number), signed(operation))
    return 0


# --- what files are -----------------------------------------------------------------------------------


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


def stat_at(p: Process, directory: int, path: bytes, flags: int) -> os.stat_result:
    """The host's answer. With AT_EMPTY_PATH, an empty path means the descriptor itself."""
    if not path and flags & AT_EMPTY_PATH:
        if signed(directory) == AT_FDCWD:
            return os.stat(".")  # noqa: PTH116
        return os.fstat(p.files.host(directory))
    follow = not flags & AT_SYMLINK_NOFOLLOW
    if follow and link_target(p, path) is None:
        return os.stat(host_path(p, path), dir_fd=host_directory(p, directory, path))
    if follow:
        return os.stat(host_path(p, path))  # noqa: PTH116
    return os.stat(path, dir_fd=host_directory(p, directory, path), follow_symlinks=False)


@system_call("newfstatat", "fstatat64")
def newfstatat(p: Process, directory: int, path: int, buffer: int, flags: int) -> int:
    p.memory.write(buffer, pack_stat(p, stat_at(p, directory, p.path(path), flags)))
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
    status = stat_at(p, directory, path, flags | (0 if path_at else AT_EMPTY_PATH))
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


def pack_statfs(p: Process, status: os.statvfs_result) -> bytes:
    """The filesystem's type isn't known through Python; 0 says so."""
    values = {
        "bsize": status.f_bsize,
        "blocks": status.f_blocks,
        "bfree": status.f_bfree,
        "bavail": status.f_bavail,
        "files": status.f_files,
        "ffree": status.f_ffree,
        "fsid": status.f_fsid,
        "namelen": status.f_namemax,
        "frsize": status.f_frsize,
        "flags": status.f_flag,
    }
    layout = STATFS64 if p.abi.bits == 64 else STATFS32_64
    return layout.pack(p.abi.order, values)


@system_call("statfs")
def statfs(p: Process, path: int, buffer: int) -> int:
    if p.abi.bits == 32:
        raise SystemCallError(errno.ENOSYS)
    p.memory.write(buffer, pack_statfs(p, os.statvfs(host_path(p, p.path(path)))))
    return 0


@system_call("fstatfs")
def fstatfs(p: Process, number: int, buffer: int) -> int:
    if p.abi.bits == 32:
        raise SystemCallError(errno.ENOSYS)
    p.memory.write(buffer, pack_statfs(p, os.fstatvfs(p.files.host(number))))
    return 0


@system_call("statfs64")
def statfs64(p: Process, path: int, size: int, buffer: int) -> int:
    p.memory.write(buffer, pack_statfs(p, os.statvfs(host_path(p, p.path(path)))))
    return 0


@system_call("fstatfs64")
def fstatfs64(p: Process, number: int, size: int, buffer: int) -> int:
    p.memory.write(buffer, pack_statfs(p, os.fstatvfs(p.files.host(number))))
    return 0


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
    base = host_directory(p, directory, path)
    target = host_path(p, path)
    status = os.stat(target, dir_fd=base, follow_symlinks=follow)  # says why, where access only says no
    if os.access(target, mode, dir_fd=base, effective_ids=bool(flags & AT_EACCESS), follow_symlinks=follow):
        return 0
    del status
    raise SystemCallError(errno.EACCES)


@system_call("access")
def access(p: Process, path: int, mode: int) -> int:
    return faccessat2(p, AT_FDCWD, path, mode, 0)


@system_call("getxattr", "lgetxattr", "fgetxattr", "listxattr", "llistxattr", "flistxattr", "setxattr")
def getxattr(p: Process) -> int:
    raise SystemCallError(errno.EOPNOTSUPP)
