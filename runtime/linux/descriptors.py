"""The table of file descriptors, and the calls that only concern descriptors."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import termios
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.layouts import TERMIOS, Layout

if TYPE_CHECKING:
    from runtime.linux.process import Process

MAX_DESCRIPTORS = 1024

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW = range(8)
F_DUPFD_CLOEXEC = 1030
FLOCK = Layout("type:h whence:h 4 start:q len:q pid:i 4")
SPARC_LOCKS = {7: F_GETLK, 8: F_SETLK, 9: F_SETLKW}


@dataclass(slots=True)
class OpenFile:
    """An open file description: a host descriptor that descriptors of the guest share."""

    host: int
    path: bytes = b""
    directory: list[tuple[bytes, int, int]] | None = None
    """For directories being read: name, inode and type of each entry."""
    position: int = 0
    users: int = 1
    keep: bool = False
    """Never closed: the host's own standard streams."""


@dataclass(slots=True)
class Descriptor:
    file: OpenFile
    close_on_exec: bool = False


@dataclass
class Descriptors:
    """A process's descriptors by number."""

    process: Process = field(repr=False)
    table: dict[int, Descriptor] = field(default_factory=dict)
    limit: int = MAX_DESCRIPTORS

    def __post_init__(self) -> None:
        for number in range(3):
            try:
                os.fstat(number)
            except OSError:
                continue
            self.table[number] = Descriptor(OpenFile(number, keep=True))

    def get(self, number: int) -> OpenFile:
        """The open file of a descriptor. Raises EBADF."""
        found = self.table.get(signed(number))
        if found is None:
            raise SystemCallError(errno.EBADF)
        return found.file

    def host(self, number: int) -> int:
        """The host's descriptor for the guest's. Raises EBADF."""
        return self.get(number).host

    def free_number(self, lowest: int = 0) -> int:
        for number in range(lowest, self.limit):
            if number not in self.table:
                return number
        raise SystemCallError(errno.EMFILE)

    def add(self, host: int, path: bytes = b"", close_on_exec: bool = False) -> int:
        """Give a new host descriptor the lowest free number; it is closed where there is none (EMFILE)."""
        try:
            number = self.free_number()
        except SystemCallError:
            os.close(host)
            raise
        self.table[number] = Descriptor(OpenFile(host, path), close_on_exec)
        return number

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
        found = self.table.pop(signed(number), None)
        if found is None:
            raise SystemCallError(errno.EBADF)
        found.file.users -= 1
        if not found.file.users and not found.file.keep:
            os.close(found.file.host)


@system_call("close")
def close(p: Process, number: int) -> int:
    p.files.close(number)
    return 0


@system_call("close_range")
def close_range(p: Process, first: int, last: int, flags: int) -> int:
    first, last = first & 0xFFFF_FFFF, last & 0xFFFF_FFFF
    if first > last or flags & ~6:
        raise SystemCallError(errno.EINVAL)
    for number in [n for n in p.files.table if first <= n <= last]:
        if flags & 4:  # CLOSE_RANGE_CLOEXEC
            p.files.table[number].close_on_exec = True
        else:
            p.files.close(number)
    return 0


@system_call("dup")
def dup(p: Process, old: int) -> int:
    p.files.get(old)
    return p.files.duplicate(old, p.files.free_number(), False)


@system_call("dup2")
def dup2(p: Process, old: int, new: int) -> int:
    p.files.get(old)
    new = signed(new)
    return new if new == signed(old) else p.files.duplicate(old, new, False)


@system_call("dup3")
def dup3(p: Process, old: int, new: int, flags: int) -> int:
    host_flags = p.abi.open_flags(flags & ~3)
    if signed(old) == signed(new) or host_flags & ~os.O_CLOEXEC or flags & 3:
        raise SystemCallError(errno.EINVAL)
    return p.files.duplicate(old, signed(new), bool(host_flags))


@system_call("pipe2")
def pipe2(p: Process, address: int, flags: int) -> int:
    host_flags = p.abi.open_flags(flags & ~3)
    if flags & 3 or host_flags & ~(os.O_CLOEXEC | os.O_NONBLOCK | os.O_DIRECT):
        raise SystemCallError(errno.EINVAL)
    ends = os.pipe2(host_flags | os.O_CLOEXEC)
    closing = bool(host_flags & os.O_CLOEXEC)
    first = p.files.add(ends[0], close_on_exec=closing)
    second = p.files.add(ends[1], close_on_exec=closing)
    try:
        p.memory.write(address, p.abi.pack(first, 4) + p.abi.pack(second, 4))
    except BaseException:
        p.files.close(first)
        p.files.close(second)
        raise
    return 0


@system_call("pipe")
def pipe(p: Process, address: int) -> int:
    return pipe2(p, address, 0)


@system_call("fcntl", "fcntl64")
def fcntl_(p: Process, number: int, command: int, argument: int) -> int:
    file = p.files.get(number)
    number = signed(number)
    if p.abi.name.startswith("sparc"):
        command = SPARC_LOCKS.get(command, command)
    if command in (F_DUPFD, F_DUPFD_CLOEXEC):
        lowest = signed(argument)
        if not 0 <= lowest < p.files.limit:
            raise SystemCallError(errno.EINVAL)
        return p.files.duplicate(number, p.files.free_number(lowest), command == F_DUPFD_CLOEXEC)
    if command == F_GETFD:
        return int(p.files.table[number].close_on_exec)
    if command == F_SETFD:
        p.files.table[number].close_on_exec = bool(argument & 1)
        return 0
    if command == F_GETFL:
        return p.abi.guest_open_flags(fcntl.fcntl(file.host, fcntl.F_GETFL))
    if command == F_SETFL:
        fcntl.fcntl(file.host, fcntl.F_SETFL, p.abi.open_flags(argument))
        return 0
    if command in (F_GETLK, F_SETLK, F_SETLKW) and p.abi.bits == 64:
        values = FLOCK.unpack(p.abi.order, p.memory.read(argument, FLOCK.size))
        host_command = {F_GETLK: fcntl.F_GETLK, F_SETLK: fcntl.F_SETLK, F_SETLKW: fcntl.F_SETLKW}[command]
        answer = fcntl.fcntl(file.host, host_command, FLOCK.pack("<", values))
        if command == F_GETLK:
            p.memory.write(argument, FLOCK.pack(p.abi.order, FLOCK.unpack("<", answer)))
        return 0
    raise SystemCallError(errno.EINVAL)


@system_call("ioctl")
def ioctl(p: Process, number: int, request: int, argument: int) -> int:
    """Terminals' and descriptors' requests; others are ENOTTY, as for files that don't know them."""
    host = p.files.host(number)
    name = next((n for n, value in p.abi.ioctls.items() if value == request & 0xFFFF_FFFF), "")
    if name in ("FIOCLEX", "FIONCLEX"):
        p.files.table[signed(number)].close_on_exec = name == "FIOCLEX"
    elif name == "FIONBIO":
        os.set_blocking(host, not p.abi.unpack(p.memory.read(argument, 4)))
    elif name in ("FIONREAD", "TIOCGPGRP"):
        value = array.array("i", [0])
        fcntl.ioctl(host, getattr(termios, name), value)
        p.memory.write(argument, p.abi.pack(value[0], 4))
    elif name == "TIOCSPGRP":
        fcntl.ioctl(host, termios.TIOCSPGRP, array.array("i", [p.abi.unpack(p.memory.read(argument, 4))]))
    elif name == "TIOCGWINSZ":
        sizes = array.array("H", [0] * 4)
        fcntl.ioctl(host, termios.TIOCGWINSZ, sizes)
        p.memory.write(argument, b"".join(p.abi.pack(size, 2) for size in sizes))
    elif name == "TCGETS":
        buffer = bytearray(64)
        fcntl.ioctl(host, termios.TCGETS, buffer)
        p.memory.write(argument, guest_termios(p, bytes(buffer)))
    elif name.startswith("TCSETS"):
        data = host_termios(p, p.memory.read(argument, TERMIOS.size + 20))
        fcntl.ioctl(host, getattr(termios, name), data)
    else:
        raise SystemCallError(errno.ENOTTY)
    return 0


def guest_termios(p: Process, data: bytes) -> bytes:
    """The host's ``struct termios`` (four flag words, line, 19 control characters) in the guest's form.

    PowerPC has the line behind the control characters, SPARC 17 of these. (Flags are passed as they are:
    PowerPC's and SPARC's differ in some bits.)
    """
    flags = TERMIOS.pack(p.abi.order, TERMIOS.unpack("<", data[: TERMIOS.size]))
    line, characters = data[TERMIOS.size : TERMIOS.size + 1], data[TERMIOS.size + 1 : TERMIOS.size + 20]
    if p.abi.name.startswith("ppc"):
        return flags + characters + line
    if p.abi.name.startswith("sparc"):
        return flags + line + characters[:17]
    return flags + line + characters


def host_termios(p: Process, data: bytes) -> bytes:
    flags = TERMIOS.pack("<", TERMIOS.unpack(p.abi.order, data[: TERMIOS.size]))
    rest = data[TERMIOS.size :]
    if p.abi.name.startswith("ppc"):
        rest = rest[19:20] + rest[:19]
    elif p.abi.name.startswith("sparc"):
        rest = rest[:18] + b"\0\0"
    return (flags + rest).ljust(64, b"\0")


# --- waiting ------------------------------------------------------------------------------------------


def wait_for(p: Process, address: int, count: int, timeout: float | None) -> int:
    """``poll``: `count` entries of {fd, events, revents}; `timeout` in seconds, None for ever."""
    if count > p.files.limit:
        raise SystemCallError(errno.EINVAL)
    data = p.memory.read(address, 8 * count)
    poller = select.poll()
    wanted: dict[int, int] = {}
    answers: list[int] = []
    ready = 0
    numbers = []
    for i in range(count):
        entry = data[8 * i : 8 * i + 8]
        number = p.abi.unpack(entry[:4], signed=True)
        events = p.abi.unpack(entry[4:6])
        numbers.append(number)
        answers.append(0)
        if number < 0:
            continue
        if number not in p.files.table:
            answers[i] = select.POLLNVAL
            ready += 1
            continue
        host = p.files.table[number].file.host
        wanted[host] = wanted.get(host, 0) | events
    for host, events in wanted.items():
        poller.register(host, events)
    found = dict(poller.poll(0 if ready else None if timeout is None else timeout * 1000))
    for i, number in enumerate(numbers):
        if number >= 0 and number in p.files.table:
            events = p.abi.unpack(data[8 * i + 4 : 8 * i + 6])
            got = found.get(p.files.table[number].file.host, 0)
            answers[i] = got & (events | select.POLLERR | select.POLLHUP | select.POLLNVAL)
            ready += bool(answers[i])
    parts = [data[8 * i : 8 * i + 6] + p.abi.pack(answers[i], 2) for i in range(count)]
    p.memory.write(address, b"".join(parts))
    return ready


@system_call("poll")
def poll(p: Process, address: int, count: int, timeout: int) -> int:
    milliseconds = signed(timeout)
    return wait_for(p, address, count, None if milliseconds < 0 else milliseconds / 1000)


def timespec_timeout(p: Process, address: int, word: int) -> float | None:
    if not address:
        return None
    from runtime.linux.time import read_timespec

    return read_timespec(p, address, word) / 1e9


@system_call("ppoll")
def ppoll(p: Process, address: int, count: int, timeout: int) -> int:
    return wait_for(p, address, count, timespec_timeout(p, timeout, p.abi.word))


@system_call("ppoll_time64")
def ppoll_time64(p: Process, address: int, count: int, timeout: int) -> int:
    return wait_for(p, address, count, timespec_timeout(p, timeout, 8))


def wait_sets(p: Process, count: int, addresses: tuple[int, int, int], timeout: float | None) -> int:
    """``select``: three bit sets of `count` descriptors, arrays of words."""
    count = signed(count)
    if not 0 <= count <= p.files.limit:
        raise SystemCallError(errno.EINVAL)
    size = -(-count // p.abi.bits) * p.abi.word
    hosts: list[dict[int, int]] = []
    for address in addresses:
        bits = 0
        if address:
            data = p.memory.read(address, size)
            for i in range(0, size, p.abi.word):
                bits |= p.abi.unpack(data[i : i + p.abi.word]) << (8 * i)
        hosts.append({n: p.files.host(n) for n in range(count) if bits >> n & 1})
    readable, writable, special = ([*named.values()] for named in hosts)
    found = select.select(readable, writable, special, timeout)
    total = 0
    for address, named, got in zip(addresses, hosts, found, strict=True):
        bits = sum(1 << n for n, host in named.items() if host in got)
        total += bits.bit_count()
        if address:
            p.memory.write(address, p.abi.pack_words(*(bits >> s for s in range(0, 8 * size, p.abi.bits))))
    return total


@system_call("select", "_newselect")
def select_(p: Process, count: int, reading: int, writing: int, exceptional: int, timeout: int) -> int:
    seconds = None
    if timeout:
        data = p.memory.read(timeout, 2 * p.abi.word)
        seconds = p.abi.unpack(data[: p.abi.word]) + p.abi.unpack(data[p.abi.word :]) / 1e6
    return wait_sets(p, count, (reading, writing, exceptional), seconds)


@system_call("pselect6")
def pselect6(p: Process, count: int, reading: int, writing: int, exceptional: int, timeout: int) -> int:
    seconds = timespec_timeout(p, timeout, p.abi.word)
    return wait_sets(p, count, (reading, writing, exceptional), seconds)


@system_call("pselect6_time64")
def pselect6_time64(p: Process, count: int, reading: int, writing: int, exceptional: int, time: int) -> int:
    return wait_sets(p, count, (reading, writing, exceptional), timespec_timeout(p, time, 8))
