"""The table of file descriptors: which of the host's each of the guest's stands for."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import Final

from runtime.linux.errors import SystemCallError

MAX_DESCRIPTORS: Final = 1024
LARGEST_LIMIT: Final = 1 << 16


class OpenFile:
    """An open file description: a host descriptor that descriptors of the guest share."""

    __slots__ = (
        "_waits", "directory", "folder", "host", "kind", "mask", "path", "position",
        "receive_timeout", "send_timeout", "users", "watched",
    )  # fmt: skip

    def __init__(
        self,
        host: int,
        path: bytes = b"",
        directory: list[tuple[bytes, int, int]] | None = None,
        position: int = 0,
        users: int = 1,
        folder: bytes = b"",
        kind: str = "",
        watched: dict[int, tuple[int, int]] | None = None,
        mask: int = 0,
        receive_timeout: int | None = None,
        send_timeout: int | None = None,
        _waits: bool | None = None,
    ) -> None:
        self.host = host
        self.path = path
        """The name to show in ``/proc/self/fd``, where it isn't the host's."""
        self.directory = directory
        """For directories being read: name, inode and type of each entry."""
        self.position = position
        self.users = users
        self.folder = folder
        """A folder of ``/proc`` that is made up: its path, to which relative ones are joined."""
        self.kind = kind
        """"epoll", "signalfd", "eventfd" or "timerfd"; else a file, pipe or socket."""
        self.watched = {} if watched is None else watched
        """epoll: by host descriptor, the events and the data of the guest."""
        self.mask = mask
        """signalfd: the signals that it takes."""
        self.receive_timeout = receive_timeout
        self.send_timeout = send_timeout
        """Sockets: SO_RCVTIMEO and SO_SNDTIMEO in nanoseconds."""
        self._waits = _waits

    @property
    def waits(self) -> bool:
        """Whether reading or writing may have to wait: files on disk, memory and devices never do."""
        if self._waits is None:
            mode = os.fstat(self.host).st_mode
            device = stat.S_ISCHR(mode) and not os.isatty(self.host)
            self._waits = not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode) or device)
        return self._waits

    @property
    def blocking(self) -> bool:
        return not fcntl.fcntl(self.host, fcntl.F_GETFL) & os.O_NONBLOCK


class Descriptor:
    __slots__ = ("close_on_exec", "file")

    def __init__(
        self,
        file: OpenFile,
        close_on_exec: bool = False,
    ) -> None:
        self.file = file
        self.close_on_exec = close_on_exec


def inherited() -> dict[int, Descriptor]:
    """What this process was given: those of its descriptors that aren't closed when it turns into another
    program.
    """
    table = {}
    try:
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    except OSError:
        numbers = [0, 1, 2]
    for number in sorted(numbers):
        with contextlib.suppress(OSError):
            if not fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                table[number] = Descriptor(OpenFile(number))
    return table


class Descriptors:
    """A process's descriptors by number."""

    def __init__(self) -> None:
        self.table: dict[int, Descriptor] = {}
        self.limit = MAX_DESCRIPTORS
        self.largest = LARGEST_LIMIT

    def find(self, number: int) -> Descriptor:
        """The descriptor of that number (an ``int`` in an argument word). Raises EBADF."""
        found = self.table.get(number & 0xFFFF_FFFF)
        if found is None:
            raise SystemCallError(errno.EBADF)
        return found

    def get(self, number: int) -> OpenFile:
        """The open file of a descriptor. Raises EBADF."""
        return self.find(number).file

    def host(self, number: int) -> int:
        """The host's descriptor for the guest's. Raises EBADF."""
        return self.find(number).file.host

    def free_number(self, lowest: int = 0) -> int:
        for number in range(lowest, self.limit):
            if number not in self.table:
                return number
        raise SystemCallError(errno.EMFILE)

    def add(self, host: int, close_on_exec: bool = False) -> int:
        """Give a new host descriptor the lowest free number; it is closed where there is none (EMFILE)."""
        return self.add_file(OpenFile(host), close_on_exec)

    def add_file(self, file: OpenFile, close_on_exec: bool = False) -> int:
        """Give an open file the lowest free number; its host descriptor is closed where there is none."""
        try:
            number = self.free_number()
        except SystemCallError:
            os.close(file.host)
            raise
        self.table[number] = Descriptor(file, close_on_exec)
        return number

    def add_pair(self, hosts: tuple[int, int], close_on_exec: bool) -> tuple[int, int]:
        """Numbers for both, or for none (EMFILE)."""
        try:
            first = self.add(hosts[0], close_on_exec)
        except SystemCallError:
            os.close(hosts[1])
            raise
        try:
            return first, self.add(hosts[1], close_on_exec)
        except SystemCallError:
            self.close(first)
            raise

    def duplicate(self, old: int, new: int, close_on_exec: bool) -> int:
        """Make `new` another name of the descriptor `old`; what `new` was is closed."""
        file = self.get(old)
        if not 0 <= new < self.limit:
            raise SystemCallError(errno.EBADF)
        file.users += 1
        if new in self.table:
            self.close(new)
        self.table[new] = Descriptor(file, close_on_exec)
        return new

    def close(self, number: int) -> None:
        found = self.find(number)
        del self.table[number & 0xFFFF_FFFF]
        found.file.users -= 1
        if not found.file.users:
            close_host(found.file.host)

    def close_for_exec(self) -> None:
        for number in [n for n, d in self.table.items() if d.close_on_exec]:
            with contextlib.suppress(OSError):
                self.close(number)


def close_host(host: int) -> None:
    """Close a descriptor of the host. The standard streams' numbers stay taken, so that messages never end in
    a file of the guest.
    """
    if host > 2:
        os.close(host)
        return
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, host)
    os.close(null)
