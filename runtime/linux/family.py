"""The processes that one `isagen run` started: a table that they share. A guest may only signal these."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator

from runtime.linux.errors import SystemCallError


class Family:
    """At most `limit` processes at a time. All of them are this process and what it forks."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._file = os.memfd_create("family", os.MFD_CLOEXEC)
        os.ftruncate(self._file, 4 * limit)
        self._table = mmap.mmap(self._file, 4 * limit)
        self._put(0, os.getpid())

    def _get(self, place: int) -> int:
        return int(struct.unpack_from("=i", self._table, 4 * place)[0])

    def _put(self, place: int, pid: int) -> None:
        struct.pack_into("=i", self._table, 4 * place, pid)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def members(self) -> list[int]:
        """The processes that live (a number of one that ended may be another's by now, for a moment)."""
        return [pid for place in range(self.limit) if (pid := self._get(place)) and _lives(pid)]

    def fork(self) -> int:
        """fork(2). Raises EAGAIN beyond the limit."""
        with self._locked():
            place = next((n for n in range(self.limit) if not (pid := self._get(n)) or not _lives(pid)), None)
            if place is None:
                raise SystemCallError(errno.EAGAIN)
            pid = os.fork()
            if pid:
                self._put(place, pid)
        if not pid:
            with self._locked():  # not before the parent has written the number
                pass
        return pid

    def leave(self) -> None:
        """This process ends: nobody signals its number by mistake."""
        own = os.getpid()
        for place in range(self.limit):
            if self._get(place) == own:
                self._put(place, 0)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False
    return True
