"""Image files of the host: regular files and block devices.

Locks are open-file-description locks on the bytes that QEMU's file driver uses (facts: byte 100 + n is held
by whoever has permission n, byte 200 + n by whoever doesn't let others have it; n is 0 for reading consistent
data, 1 for writing, 3 for resizing). They exclude QEMU and ourselves alike, and the kernel drops them with
the last descriptor, so that nothing stays behind when a process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import stat
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runtime.block.errors import (
    ImageError,
    ImageExists,
    ImageInUse,
    ImageIOError,
    ImageNotFound,
    ImageUnsupported,
)
from runtime.block.node import Buffer, Extent, ExtentKind, FileRange, Preallocation, ProtocolNode

_FALLOC_KEEP_SIZE, _FALLOC_PUNCH_HOLE, _FALLOC_ZERO_RANGE = 1, 2, 0x10  # linux/falloc.h
_HAVE, _EXCLUDE = 100, 200
_READ, _WRITE, _RESIZE = 0, 1, 3
_NAMES = {_READ: "reading", _WRITE: "writing", _RESIZE: "resizing"}
_FLOCK = "hhqqi4x"  # struct flock, 64-bit Linux
_FICLONERANGE, _CLONE_RANGE = 0x4020940D, "qQQQ"  # linux/fs.h: descriptor, from, length, to
PAGE = 4096
"""Bytes of the kernel's page cache that are one. No file system's blocks are larger."""
_COPY_BYTES = 1 << 20
_LARGE = 1 << 20
"""Writes of so many bytes get their storage before, by one request instead of one for each block, and are
done in such steps. For larger ones the kernel's cache takes pages of 2 MiB, which are slow to get where a
host takes free memory back from its virtual machines: 680 MiB took 0.7 s instead of 0.2 s.
"""
_buffers = threading.local()
_CANNOT = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.EPERM, errno.ENOTTY}


@functools.cache
def _fallocate() -> Any:
    import ctypes

    function = ctypes.CDLL(None, use_errno=True).fallocate
    function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    function.restype = ctypes.c_int
    return function


def _flock(kind: int, start: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, start, 1, 0)


class FileNode(ProtocolNode):
    """A host file or block device, opened by path.

    `lock`: take the locks that say what we do with it and that nobody else may write meanwhile. Raises
    ImageNotFound, ImageInUse, ImageIOError, ImageUnsupported (a folder, a pipe).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        writable: bool = False,
        create: bool = False,
        overwrite: bool = False,
        lock: bool = True,
    ) -> None:
        self.path = Path(path)
        self.name = str(path)
        self.read_only = not writable
        self._lost = False
        self._sharing: dict[tuple[int, int], bool] = {}
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | (0 if overwrite else os.O_EXCL)
        # Never waits for a pipe's other end, nor takes a terminal.
        flags |= os.O_NONBLOCK | os.O_NOCTTY
        try:
            self._fd = os.open(path, flags, 0o644)
        except FileNotFoundError as error:
            raise ImageNotFound("no such file", where=self.name) from error
        except FileExistsError as error:
            raise ImageExists(
                "the file exists already", where=self.name, remedy="choose another name"
            ) from error
        except OSError as error:
            raise self._failure("open", error) from error
        except ValueError as error:
            raise ImageNotFound("that is no file name", where=repr(self.name)) from error
        try:
            mode = os.fstat(self._fd).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                kind = "folder" if stat.S_ISDIR(mode) else "device or pipe that has no blocks"
                raise ImageUnsupported(f"a {kind} can't be an image", where=self.name)
            os.set_blocking(self._fd, True)
            self.fixed_length = stat.S_ISBLK(mode)
            self.identity: tuple[int, int] = self._identity()
            if lock:
                self._lock()
            self._length = os.lseek(self._fd, 0, os.SEEK_END)
            if create and overwrite and not self.fixed_length and self._length:
                os.ftruncate(self._fd, 0)
                self._length = 0
        except OSError as error:
            os.close(self._fd)
            raise self._failure("open", error) from error
        except ImageError:
            os.close(self._fd)
            raise

    def _identity(self) -> tuple[int, int]:
        status = os.fstat(self._fd)
        return (-1, status.st_rdev) if stat.S_ISBLK(status.st_mode) else (status.st_dev, status.st_ino)

    def _failure(self, what: str, error: OSError) -> ImageIOError:
        remedies = {errno.ENOSPC: "free some space", errno.EACCES: "check the file's permissions"}
        number = error.errno or errno.EIO
        return ImageIOError(
            f"can't {what}: {os.strerror(number)}",
            errno=number,
            where=self.name,
            remedy=remedies.get(number, ""),
        )

    # --- locks ---

    def _lock(self) -> None:
        have = [_READ] if self.read_only else [_READ, _WRITE, _RESIZE]
        exclude = [_WRITE, _RESIZE]
        try:
            for start in [_HAVE + n for n in have] + [_EXCLUDE + n for n in exclude]:
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_RDLCK, start))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise self._in_use(_WRITE) from error
            return  # the file system has no locks, as for QEMU
        for permission in have:
            if self._held(_EXCLUDE + permission):
                raise self._in_use(permission)
        for permission in exclude:
            if self._held(_HAVE + permission):
                raise self._in_use(permission)

    def _held(self, start: int) -> bool:
        answer = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, start))
        return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)

    def _in_use(self, permission: int) -> ImageInUse:
        purpose = "reading" if self.read_only else "writing"
        return ImageInUse(
            f"can't be opened for {purpose}: another process has it open and excludes {_NAMES[permission]}"
            if permission in (_READ, _WRITE) and not self.read_only
            else f"can't be opened for {purpose}: another process has it open for writing",
            where=self.name,
            remedy="stop the virtual machine or tool that uses it",
        )

    # --- requests ---

    def length(self) -> int:
        return self._length

    def allocated(self) -> int:
        return self._length if self.fixed_length else os.fstat(self._fd).st_blocks * 512

    def fileno(self) -> int:
        """The descriptor, for transfers by the kernel. Don't write with it: the length is remembered."""
        return self._fd

    def pread(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._fd, length, offset)
            if len(data) == length:
                return data
            parts = [data]
            have = len(data)
            while data and have < length:
                data = os.pread(self._fd, length - have, offset + have)
                parts.append(data)
                have += len(data)
        except OSError as error:
            raise self._failure(f"read {length} bytes at offset {offset}", error) from error
        parts.append(bytes(length - have))
        return b"".join(parts)

    def read_into(self, offset: int, target: memoryview) -> None:
        have = 0
        try:
            while have < len(target):
                count = os.preadv(self._fd, [target[have:]], offset + have)
                if count == 0:
                    target[have:] = bytes(len(target) - have)
                    return
                have += count
        except OSError as error:
            raise self._failure(f"read {len(target)} bytes at offset {offset}", error) from error

    def pread_many(self, requests: Sequence[tuple[int, int]]) -> list[bytes]:
        pread, fd = os.pread, self._fd
        try:
            result = [pread(fd, length, offset) for offset, length in requests]
        except OSError:
            return [self.pread(offset, length) for offset, length in requests]
        for number, ((offset, length), data) in enumerate(zip(requests, result, strict=True)):
            if len(data) != length:
                result[number] = self.pread(offset, length)
        return result

    def prefetch(self, offset: int, length: int) -> None:
        """Let the kernel begin to read a range that will be needed."""
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._fd, offset, length, os.POSIX_FADV_WILLNEED)

    def pwrite(self, offset: int, data: Buffer) -> None:
        if self.read_only:
            self.writable_or_raise()
        size = len(data) if isinstance(data, bytes | bytearray) else data.nbytes
        if size >= _LARGE:
            self._reserve(offset, size)
        try:
            count = os.pwrite(self._fd, data, offset) if size <= _LARGE else 0
            if count != size:
                view = memoryview(data).cast("B")
                while count < size:
                    count += os.pwrite(self._fd, view[count : count + _LARGE], offset + count)
        except OSError as error:
            self._length = os.lseek(self._fd, 0, os.SEEK_END)
            raise self._failure(f"write {size} bytes at offset {offset}", error) from error
        if offset + size > self._length:
            self._length = offset + size

    def pwrite_range(self, offset: int, data: FileRange) -> None:
        self.writable_or_raise()
        done = 0
        if isinstance(data.file, FileNode) and self.shares_with(data.file):
            done = self._share(offset, data, data.file)
        if done < len(data):
            self._copy(offset + done, data[done:])

    def shares_with(self, other: FileNode) -> bool:
        """Whether the file system lets both files share blocks, so that `pwrite_range` copies nothing."""
        answer = self._sharing.get(other.identity)
        if answer is None:
            # No range in blocks: nothing is done, and the error tells who minds it (ioctl_ficlonerange(2)).
            question = struct.pack(_CLONE_RANGE, other._fd, 1, 1, 1)
            answer = True
            try:
                fcntl.ioctl(self._fd, _FICLONERANGE, question)
            except OSError as error:
                answer = error.errno == errno.EINVAL
            self._sharing[other.identity] = answer
        return answer

    def _share(self, offset: int, data: FileRange, source: FileNode) -> int:
        """Let both files have the same blocks. Gives the bytes done."""
        done = 0
        if (offset - data.offset) % PAGE:
            return done
        with contextlib.suppress(OSError):  # a full disk, ...: writing it in the usual way tells
            while done < len(data):
                count = os.copy_file_range(
                    source.fileno(), self._fd, len(data) - done, data.offset + done, offset + done
                )
                if not count:
                    break
                done += count
        self._length = max(self._length, offset + done)
        return done

    def _copy(self, offset: int, data: FileRange) -> None:
        """Write bytes of a file, through a buffer of this thread."""
        size = min(_COPY_BYTES, len(data))
        buffer: bytearray | None = getattr(_buffers, "copy", None)
        if buffer is None or len(buffer) < size:
            buffer = _buffers.copy = bytearray(size)
        view = memoryview(buffer)
        # Ends of pages of this file: no page is written twice.
        first = size - (offset + size) % PAGE
        at = 0
        while at < len(data):
            part = view[: min(first if not at and first > 0 else size, len(data) - at)]
            data.file.read_into(data.offset + at, part)
            self.pwrite(offset + at, part)
            at += len(part)

    def pwrite_vector(self, offset: int, parts: Sequence[Buffer]) -> None:
        self.writable_or_raise()
        for start in range(0, len(parts), 512):
            group = parts[start : start + 512]
            size = sum(memoryview(part).nbytes for part in group)
            if size >= _LARGE:
                self._reserve(offset, size)
            try:
                count = os.pwritev(self._fd, group, offset)
            except OSError as error:
                self._length = os.lseek(self._fd, 0, os.SEEK_END)
                raise self._failure(f"write {size} bytes at offset {offset}", error) from error
            if count != size:
                self.pwrite(offset + count, b"".join(group)[count:])
            offset += size
            self._length = max(self._length, offset)

    def pwrite_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        for offset, data in requests:
            self.pwrite(offset, data)

    def _reserve(self, offset: int, length: int) -> None:
        """Storage for a large write, where the file system wants to."""
        if not self.fixed_length:
            with contextlib.suppress(ImageIOError):  # writing it tells
                self._change(_FALLOC_KEEP_SIZE, offset, length, "reserve")

    def _change(self, mode: int, offset: int, length: int, what: str) -> bool:
        """fallocate(2); False if the file system can't do it."""
        if length <= 0:
            return True
        import ctypes

        while _fallocate()(self._fd, mode, offset, length) != 0:
            number = ctypes.get_errno()
            if number == errno.EINTR:
                continue
            if number in _CANNOT:
                return False
            raise self._failure(f"{what} {length} bytes at offset {offset}", OSError(number, "")) from None
        return True

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.writable_or_raise()
        end = offset + length
        inside = min(end, self._length) - offset
        if inside > 0:
            mode = _FALLOC_KEEP_SIZE | (_FALLOC_PUNCH_HOLE if unmap else _FALLOC_ZERO_RANGE)
            if not self._change(mode, offset, inside, "zero"):
                super().write_zeroes(offset, inside, unmap=unmap)
        if end > self._length:
            self.resize(end)

    def punch(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        inside = min(offset + length, self._length) - offset
        if inside > 0:
            mode = _FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE
            if not self._change(mode, offset, inside, "discard"):
                super().write_zeroes(offset, inside)

    def discard(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        inside = min(offset + length, self._length) - offset
        self._change(_FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE, offset, inside, "discard")

    def allocate(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        if self.fixed_length:
            return
        if not self._change(0, offset, length, "reserve") and offset + length > self._length:
            self.resize(offset + length)
        self._length = max(self._length, offset + length)

    def flush(self) -> None:
        if self.read_only or not self.durable:
            return
        if self._lost:
            raise ImageIOError(
                "an earlier flush failed: what was written before it may be lost",
                errno=errno.EIO,
                where=self.name,
                remedy="open the image again, and check it",
            )
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            # The kernel forgets what it couldn't write: a later flush would succeed without it.
            self._lost = True
            raise self._failure("flush", error) from error

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        self.writable_or_raise()
        if self.fixed_length:
            if length > self._length:
                raise ImageUnsupported(
                    f"the device has {self._length} bytes and can't grow to {length}", where=self.name
                )
            return
        try:
            os.ftruncate(self._fd, length)
        except OSError as error:
            raise self._failure(f"resize to {length} bytes", error) from error
        before, self._length = self._length, length
        if preallocation in ("falloc", "full") and length > before:
            if preallocation == "falloc":
                self.allocate(before, length - before)
            else:
                zeroes = bytes(1 << 20)
                for at in range(before, length, 1 << 20):
                    self.pwrite(at, zeroes[: min(1 << 20, length - at)])

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self._length if length is None else offset + length
        at = offset
        while at < end:
            if at >= self._length:
                yield Extent(at, end - at, ExtentKind.HOLE)
                return
            data = min(self._seek(at, os.SEEK_DATA), end)
            if data > at:
                yield Extent(at, data - at, ExtentKind.HOLE)
            if data < end:
                hole = min(max(self._seek(data, os.SEEK_HOLE), data + 1), end)
                yield Extent(data, hole - data, ExtentKind.DATA, host_offset=data, file=self)
                data = hole
            at = data

    def _seek(self, offset: int, whence: int) -> int:
        try:
            return os.lseek(self._fd, offset, whence)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return self._length if self._length > offset else offset
            if error.errno in _CANNOT:  # a device without holes
                return offset if whence == os.SEEK_DATA else self._length
            raise self._failure(f"look for data at offset {offset}", error) from error

    def close(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                os.close(fd)
            except OSError as error:
                raise self._failure("close", error) from error
