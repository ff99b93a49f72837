"""A server of 9P2000.L for one client (the 9P manual; Linux's Documentation/filesystems/9p.rst). Operations
mean what the Linux system calls of the same names do.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from typing import Any, Final

from runtime.devices.ninep.fids import Attribute, Fid, Fids
from runtime.devices.ninep.folder import LONGEST_PATH, Folder, Path, checked, failure
from runtime.devices.ninep.wire import (
    FIELDS,
    HEADER,
    LARGEST_MESSAGE,
    NO_FID,
    SMALLEST_MESSAGE,
    VERSION,
    BadMessage,
    Kind,
    decoded,
    message,
    text,
)

QID: Final = struct.Struct("<BIQ")
QID_FOLDER, QID_LINK = 0x80, 0x02
ACCESS_MODE, CREATE, EXCLUSIVE, TRUNCATE, APPEND = 3, 0o100, 0o200, 0o1000, 0o2000
DATA_SYNC, SYNC = 0o10000, 0o4010000
"""Flags of open, which the dialect numbers as Linux does on most architectures."""
HOST_FLAGS: Final = {
    EXCLUSIVE: os.O_EXCL,
    TRUNCATE: os.O_TRUNC,
    APPEND: os.O_APPEND,
    DATA_SYNC: os.O_DSYNC,
    SYNC: os.O_SYNC,
}
GETATTR_BASIC: Final = 0x7FF
"""All but the time of birth, generation and data version."""
SET_MODE, SET_USER, SET_GROUP, SET_SIZE, SET_ACCESSED, SET_MODIFIED = 1, 2, 4, 8, 16, 32
ACCESSED_GIVEN, MODIFIED_GIVEN = 128, 256
"""What a request sets; times without their GIVEN are now."""
REMOVE_FOLDER: Final = 0x200
LOCK_SUCCESS, UNLOCKED = 0, 2
MAGIC: Final = 0x01021997
NAME_MAX: Final = 255
SECOND: Final = 1_000_000_000
NO_OWNER: Final = 0xFFFFFFFF
READ_OVERHEAD: Final = HEADER.size + 4
WRITE_OVERHEAD: Final = HEADER.size + 16
LARGEST_ATTRIBUTE: Final = 1 << 16
USER_ATTRIBUTE: Final = b"user."
ENTRY_TYPES: Final = {
    stat.S_IFIFO: 1,
    stat.S_IFCHR: 2,
    stat.S_IFDIR: 4,
    stat.S_IFBLK: 6,
    stat.S_IFREG: 8,
    stat.S_IFLNK: 10,
    stat.S_IFSOCK: 12,
}


class Server:
    """Answers the messages of a guest that has mounted `folder`."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._fids = Fids(folder)
        self._limit = LARGEST_MESSAGE
        self._room = LARGEST_MESSAGE
        self._handlers: dict[Kind, Callable[..., bytes]] = {
            kind: getattr(self, f"_{kind.name.lower()}") for kind in FIELDS
        }

    def answer(self, request: bytes, room: int) -> bytes:
        """The answer to a message, at most `room` bytes. Raises BadMessage for bytes that are none."""
        if len(request) < HEADER.size:
            raise BadMessage
        size, number, tag = HEADER.unpack_from(request)
        if not HEADER.size <= size <= len(request):
            raise BadMessage
        self._room = min(room, self._limit)
        try:
            kind = Kind(number)
            fields = decoded(kind, request[HEADER.size : size])
            reply = message(kind + 1, tag, self._handlers[kind](*fields))
            if len(reply) > room:
                raise failure(errno.EMSGSIZE)
        except OSError as error:
            reply = self._error(tag, error.errno or errno.EIO)
        except (BadMessage, ValueError, KeyError, OverflowError, struct.error):
            # No such request, fields that aren't there, or a number or name that the host's calls can't take.
            reply = self._error(tag, errno.EOPNOTSUPP if number not in list(Kind) else errno.EINVAL)
        if len(reply) > room:
            raise BadMessage
        return reply

    @staticmethod
    def _error(tag: int, number: int) -> bytes:
        return message(Kind.LERROR + 1, tag, struct.pack("<I", number))

    # --- sessions ---------------------------------------------------------------------------------------

    def reset(self) -> None:
        """The client is gone."""
        self._fids.clear()
        self._limit = LARGEST_MESSAGE

    def _version(self, size: int, version: bytes) -> bytes:
        if size < SMALLEST_MESSAGE:
            raise failure(errno.EMSGSIZE)
        self.reset()
        self._limit = min(size, LARGEST_MESSAGE)
        return struct.pack("<I", self._limit) + text(VERSION if version == VERSION else b"unknown")

    def _auth(self, afid: int, user: bytes, tree: bytes, number: int) -> bytes:
        raise failure(errno.EOPNOTSUPP)

    def _attach(self, fid: int, afid: int, user: bytes, tree: bytes, number: int) -> bytes:
        if afid != NO_FID:
            raise failure(errno.EINVAL)
        qid = self._qid(self._folder.look(()))
        self._fids.add(fid, Fid(()))
        return qid

    def _flush(self, tag: int) -> bytes:
        return b""  # each request is answered before the next one is looked at

    # --- names ------------------------------------------------------------------------------------------

    def _qid(self, found: os.stat_result) -> bytes:
        kind = QID_FOLDER if stat.S_ISDIR(found.st_mode) else QID_LINK if stat.S_ISLNK(found.st_mode) else 0
        version = (found.st_mtime_ns ^ found.st_size << 8) & 0xFFFFFFFF
        # Inodes of other file systems that are mounted in the folder must not look alike.
        other = found.st_dev ^ self._folder.device
        return QID.pack(kind, version, (found.st_ino ^ other << 48) & (1 << 64) - 1)

    def _below(self, fid: int, name: bytes) -> Path:
        path = (*self._fids.get(fid).path, checked(name))
        if sum(map(len, path)) + len(path) > LONGEST_PATH:
            raise failure(errno.ENAMETOOLONG)
        return path

    def _walk(self, fid: int, new: int, names: list[bytes]) -> bytes:
        start = self._fids.get(fid)
        if start.attribute is not None or (new != fid and new in self._fids):
            raise failure(errno.EINVAL)
        path, qids = start.path, []
        for name in names:
            further = path[:-1] if name == b".." else path if name == b"." else (*path, name)
            try:
                if sum(map(len, further)) + len(further) > LONGEST_PATH:
                    raise failure(errno.ENAMETOOLONG)
                qids.append(self._qid(self._folder.look(further)))
            except OSError:
                if not qids:
                    raise
                break
            path = further
        if len(qids) == len(names):
            if new == fid:
                self._fids.replace(fid, Fid(path))
            else:
                self._fids.add(new, Fid(path))
        return struct.pack("<H", len(qids)) + b"".join(qids)

    def _clunk(self, fid: int) -> bytes:
        held = self._fids.drop(fid)
        if held.attribute is not None and held.attribute.name:
            self._set_attribute(held.path, held.attribute)
        return b""

    # --- files ------------------------------------------------------------------------------------------

    @staticmethod
    def _flags(flags: int) -> int:
        """A guest's flags as the host's; those that would make it wait or follow aren't passed on."""
        mode = flags & ACCESS_MODE
        if mode == ACCESS_MODE:
            raise failure(errno.EINVAL)
        for theirs, host in HOST_FLAGS.items():
            mode |= host if flags & theirs == theirs else 0
        return mode

    def _unopened(self, fid: int) -> Fid:
        held = self._fids.get(fid)
        if held.flags is not None or held.attribute is not None:
            raise failure(errno.EINVAL)
        return held

    def _lopen(self, fid: int, flags: int) -> bytes:
        held = self._unopened(fid)
        host = self._flags(flags) & ~os.O_EXCL
        file = self._folder.open(held.path, host)
        held.flags = host
        self._fids.opened(fid, file)
        return self._qid(os.fstat(file)) + struct.pack("<I", 0)

    def _lcreate(self, fid: int, name: bytes, flags: int, mode: int, group: int) -> bytes:
        held = self._unopened(fid)
        path, host = self._below(fid, name), self._flags(flags)
        file = self._folder.create(path, host, mode)
        held.path, held.flags = path, host
        self._fids.opened(fid, file)
        return self._qid(os.fstat(file)) + struct.pack("<I", 0)

    def _read(self, fid: int, offset: int, count: int) -> bytes:
        count = min(count, max(0, self._room - READ_OVERHEAD))
        attribute = self._fids.get(fid).attribute
        if attribute is not None:
            data = attribute.value[offset : offset + count]
        else:
            data = os.pread(self._fids.open_file(fid), count, offset)
        return struct.pack("<I", len(data)) + data

    def _write(self, fid: int, offset: int, data: bytes) -> bytes:
        attribute = self._fids.get(fid).attribute
        if attribute is not None:
            if not attribute.name or offset != len(attribute.value):
                raise failure(errno.EINVAL)
            if offset + len(data) > attribute.size:
                raise failure(errno.ENOSPC)
            attribute.value += data
            return struct.pack("<I", len(data))
        self._folder.writable_or_raise()
        return struct.pack("<I", os.pwrite(self._fids.open_file(fid), data, offset))

    def _fsync(self, fid: int, only_data: int) -> bytes:
        (os.fdatasync if only_data else os.fsync)(self._fids.open_file(fid))
        return b""

    def _lock(
        self, fid: int, kind: int, flags: int, start: int, length: int, process: int, client: bytes
    ) -> bytes:
        """One guest has the folder, and sorts its locks out by itself."""
        self._fids.get(fid)
        return bytes([LOCK_SUCCESS])

    def _getlock(self, fid: int, kind: int, start: int, length: int, process: int, client: bytes) -> bytes:
        self._fids.get(fid)
        return struct.pack("<BQQI", UNLOCKED, start, length, process) + text(client)

    # --- folders ----------------------------------------------------------------------------------------

    def _readdir(self, fid: int, offset: int, count: int) -> bytes:
        """Entries from a cookie on, which is the number of the entry before."""
        held = self._fids.get(fid)
        file = self._fids.open_file(fid)
        if not stat.S_ISDIR(os.fstat(file).st_mode):
            raise failure(errno.ENOTDIR)
        if offset == 0 or held.listing is None:
            held.listing = [b".", b"..", *sorted(map(os.fsencode, os.listdir(file)))]  # noqa: PTH208 - a descriptor
        room, entries = min(count, self._room - READ_OVERHEAD), []
        for cookie, name in enumerate(held.listing[offset:], offset + 1):
            try:
                found = self._entry(held.path, file, name)
            except OSError:
                continue  # it was removed meanwhile
            kind = ENTRY_TYPES.get(stat.S_IFMT(found.st_mode), 0)
            entry = self._qid(found) + struct.pack("<QB", cookie, kind) + text(name)
            if len(entry) > room:
                break
            entries.append(entry)
            room -= len(entry)
        data = b"".join(entries)
        return struct.pack("<I", len(data)) + data

    def _entry(self, path: Path, file: int, name: bytes) -> os.stat_result:
        if name == b"..":
            return self._folder.look(path[:-1])  # the root's parent is the root
        return os.stat(name, dir_fd=file, follow_symlinks=False)

    def _mkdir(self, fid: int, name: bytes, mode: int, group: int) -> bytes:
        path = self._below(fid, name)
        self._folder.make_folder(path, mode)
        return self._qid(self._folder.look(path))

    def _symlink(self, fid: int, name: bytes, target: bytes, group: int) -> bytes:
        path = self._below(fid, name)
        self._folder.make_link(path, target)
        return self._qid(self._folder.look(path))

    def _mknod(self, fid: int, name: bytes, mode: int, major: int, minor: int, group: int) -> bytes:
        path = self._below(fid, name)
        self._folder.make_special(path, mode)
        return self._qid(self._folder.look(path))

    def _readlink(self, fid: int) -> bytes:
        return text(self._folder.target(self._fids.get(fid).path))

    def _link(self, folder: int, fid: int, name: bytes) -> bytes:
        self._folder.link(self._fids.get(fid).path, self._below(folder, name))
        return b""

    def _rename(self, fid: int, folder: int, name: bytes) -> bytes:
        self._move(self._fids.get(fid).path, self._below(folder, name))
        return b""

    def _renameat(self, folder: int, name: bytes, other: int, new: bytes) -> bytes:
        self._move(self._below(folder, name), self._below(other, new))
        return b""

    def _move(self, old: Path, new: Path) -> None:
        self._folder.rename(old, new)
        self._fids.moved(old, new)

    def _unlinkat(self, folder: int, name: bytes, flags: int) -> bytes:
        self._folder.remove(self._below(folder, name), folder=bool(flags & REMOVE_FOLDER))
        return b""

    def _remove(self, fid: int) -> bytes:
        self._folder.remove(self._fids.drop(fid).path)
        return b""

    # --- attributes -------------------------------------------------------------------------------------

    def _look(self, fid: int) -> os.stat_result:
        """What a fid stands for: its open file, which may have no name any more, or what is at its path."""
        file = self._fids.file(fid)
        return os.fstat(file) if file is not None else self._folder.look(self._fids.get(fid).path)

    def _getattr(self, fid: int, wanted: int) -> bytes:
        found = self._look(fid)
        times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
        return (
            struct.pack("<Q", GETATTR_BASIC)
            + self._qid(found)
            + struct.pack("<III", found.st_mode, found.st_uid, found.st_gid)
            + struct.pack("<QQQ", found.st_nlink, found.st_rdev, found.st_size)
            + struct.pack("<QQ", found.st_blksize, found.st_blocks)
            + b"".join(struct.pack("<qQ", *divmod(time, SECOND)) for time in times)
            + bytes(32)
        )

    def _setattr(
        self,
        fid: int,
        valid: int,
        mode: int,
        user: int,
        group: int,
        size: int,
        accessed: int,
        accessed_ns: int,
        modified: int,
        modified_ns: int,
    ) -> bytes:
        self._folder.writable_or_raise()
        path, folder = self._fids.get(fid).path, self._folder
        if valid & SET_SIZE:
            file = self._fids.file(fid)
            if file is not None and (self._fids.get(fid).flags or 0) & ACCESS_MODE:
                os.ftruncate(file, size)
            else:
                folder.truncate(path, size)
        if valid & (SET_USER | SET_GROUP):
            chosen = user if valid & SET_USER else NO_OWNER, group if valid & SET_GROUP else NO_OWNER
            folder.change_owner(path, *(-1 if number == NO_OWNER else number for number in chosen))
        if valid & SET_MODE:
            folder.change_mode(path, mode)
        if valid & (SET_ACCESSED | SET_MODIFIED):
            found, now = self._look(fid), _now()
            times = [found.st_atime_ns, found.st_mtime_ns]
            if valid & SET_ACCESSED:
                times[0] = accessed * SECOND + accessed_ns if valid & ACCESSED_GIVEN else now
            if valid & SET_MODIFIED:
                times[1] = modified * SECOND + modified_ns if valid & MODIFIED_GIVEN else now
            folder.change_times(path, *times)
        return b""

    def _statfs(self, fid: int) -> bytes:
        self._fids.get(fid)
        space = self._folder.space()
        blocks = space.f_blocks, space.f_bfree, space.f_bavail, space.f_files, space.f_ffree
        identity = self._folder.device
        return struct.pack("<IIQQQQQQI", MAGIC, space.f_bsize, *blocks, identity, NAME_MAX)

    # --- extended attributes: those of users ---------------------------------------------------------------

    def _xattrwalk(self, fid: int, new: int, name: bytes) -> bytes:
        path = self._fids.get(fid).path
        if name and not name.startswith(USER_ATTRIBUTE):
            raise failure(errno.ENODATA)
        with self._folder.found(path) as (_, again):
            if name:
                value = os.getxattr(again, name)
            else:
                names = map(os.fsencode, os.listxattr(again))
                value = b"".join(n + b"\0" for n in names if n.startswith(USER_ATTRIBUTE))
        self._fids.add(new, Fid(path, attribute=Attribute(value)))
        return struct.pack("<Q", len(value))

    def _xattrcreate(self, fid: int, name: bytes, size: int, flags: int) -> bytes:
        self._folder.writable_or_raise()
        held = self._unopened(fid)
        if not name.startswith(USER_ATTRIBUTE):
            raise failure(errno.EOPNOTSUPP)
        if size > LARGEST_ATTRIBUTE:
            raise failure(errno.E2BIG)
        held.attribute = Attribute(b"", name, size, flags)
        return b""

    def _set_attribute(self, path: Path, attribute: Attribute) -> None:
        if len(attribute.value) != attribute.size:
            raise failure(errno.EINVAL)
        with self._folder.found(path) as (_, again):
            if attribute.size:
                os.setxattr(again, attribute.name, attribute.value, attribute.flags)
            else:
                os.removexattr(again, attribute.name)

    # --- state ------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any]:
        """What a snapshot keeps: everything but the files' contents."""
        return {"limit": self._limit, "fids": self._fids.save()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `save` returned."""
        self._limit = int(state["limit"])
        self._fids.restore(state["fids"])


def _now() -> int:
    import time

    return time.time_ns()
