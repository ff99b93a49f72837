"""Sockets, by the host's. Addresses and messages pass as bytes; what differs between architectures is turned
round here. The host's kernel is never waited in: every call is made with MSG_DONTWAIT, or when it is ready.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from runtime.linux import host
from runtime.linux.calls import HANDLERS, signed, system_call
from runtime.linux.descriptors import OpenFile
from runtime.linux.errors import SystemCallError
from runtime.linux.memory import CHUNK
from runtime.linux.namespace import AT_FDCWD
from runtime.linux.paths import place
from runtime.linux.ports import READ, WRITE
from runtime.linux.time import read_timespec
from runtime.linux.transfer import Vectors, complain, gather, one_vector, scatter, usable, vectors
from runtime.linux.waiting import READABLE, WRITABLE, Interrupted, Steps, Wait, is_ready, now

if TYPE_CHECKING:
    from runtime.linux.process import Process

ADDRESS_LIMIT: Final = 128
"""Size of ``struct sockaddr_storage``."""
CONTROL_LIMIT: Final = 1 << 16
MSG_CTRUNC, MSG_DONTWAIT, MSG_WAITALL, MSG_NOSIGNAL, MSG_WAITFORONE = 0x8, 0x40, 0x100, 0x4000, 0x10000
MSG_CMSG_CLOEXEC = 0x4000_0000
SCM_RIGHTS, SCM_CREDENTIALS = 1, 2
TYPE_MASK = 0xF
FAMILIES: Final = frozenset({socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK})
HOST_ORDER: Final = "<" if sys.byteorder == "little" else ">"
PATH_AT: Final = 2
"""Where the path begins in ``struct sockaddr_un``."""

# SOL_SOCKET's options: the host's (asm-generic), and SPARC's and PowerPC's differences (asm/socket.h).
SOL_SOCKET: Final = 1
SO_RCVTIMEO, SO_SNDTIMEO, SO_LINGER = 20, 21, 13
SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW = 66, 67
PPC_OPTIONS: Final = {16: 18, 17: 19, 18: 20, 19: 21, 20: 16, 21: 17}
SPARC_LEVEL: Final = 0xFFFF
SPARC_OPTIONS: Final = {
    0x0001: 1, 0x0002: 16, 0x0004: 2, 0x0008: 9, 0x0010: 5, 0x0020: 6, 0x0040: 17, 0x0080: 13, 0x0100: 10,
    0x0200: 15, 0x0400: 14, 0x0800: 18, 0x1000: 19, 0x2000: 20, 0x4000: 21, 0x1001: 7, 0x1002: 8, 0x1007: 4,
    0x1008: 3, 0x1028: 38, 0x1029: 39, 0x8000: 30,
}  # fmt: skip


# --- addresses --------------------------------------------------------------------------------------------


def host_address(p: Process, address: int, size: int) -> bytes:
    """The host's form of a ``struct sockaddr``: the family in the host's order."""
    size = signed(size)
    if not 0 <= size <= ADDRESS_LIMIT:
        raise SystemCallError(errno.EINVAL)
    data = p.memory.read(address, size)
    if size < 2:
        return data
    return struct.pack("=H", p.abi.unpack(data[:2])) + data[2:]


def guest_address(p: Process, data: bytes) -> bytes:
    """The guest's form of an address of the host."""
    if len(data) < 2:
        return data
    family = struct.unpack("=H", data[:2])[0]
    if family == socket.AF_UNIX and data[PATH_AT : PATH_AT + 1] == b"/":
        path = p.namespace.guest_name(data[PATH_AT:].split(b"\0")[0])
        data = data[:2] + path + b"\0"
    return p.abi.pack(family, 2) + data[2:]


def give_address(p: Process, data: bytes, address: int, size_at: int) -> None:
    """Write an address as far as it fits, and how long it is."""
    if not address:
        return
    room = p.int_at(size_at)
    if room < 0:
        raise SystemCallError(errno.EINVAL)
    found = guest_address(p, data)
    p.memory.write(address, found[:room])
    p.put_int(size_at, len(found))


class NamedAddress:
    """An address for the host's kernel: of sockets in the file system, with the path resolved."""

    def __init__(self, p: Process, data: bytes, *, creates: bool) -> None:
        self._place = None
        self.data = data
        if len(data) <= PATH_AT or struct.unpack("=H", data[:2])[0] != socket.AF_UNIX or data[PATH_AT] == 0:
            return
        if p.namespace.root is None and not creates:
            return
        path = data[PATH_AT:].split(b"\0")[0]
        if p.namespace.root is None:
            p.need("write")
            return
        self._place = place(p, AT_FDCWD, path, not creates, write=creates)
        name, base = self._place.__enter__()
        if base is not None:
            name = b"/proc/self/fd/%d/%s" % (base, name)
        self.data = data[:2] + name + b"\0"

    def close(self) -> None:
        if self._place is not None:
            self._place.__exit__(None, None, None)


def with_address(p: Process, name: str, descriptor: int, data: bytes, *, creates: bool) -> int:
    """Call the C function `name` (descriptor, address, size)."""
    address = NamedAddress(p, data, creates=creates)
    try:
        return host.call(name, descriptor, address.data, len(address.data))
    finally:
        address.close()


# --- making sockets ---------------------------------------------------------------------------------------


def kind_and_flags(p: Process, kind: int) -> tuple[int, int]:
    """The type of a socket and the host's flags beside it."""
    flags = p.abi.open_flags(kind & ~TYPE_MASK)
    if flags & ~(os.O_NONBLOCK | os.O_CLOEXEC):
        raise SystemCallError(errno.EINVAL)
    return p.abi.socket_types.get(kind & TYPE_MASK, kind & TYPE_MASK), flags


@system_call("socket")
def socket_(p: Process, family: int, kind: int, protocol: int) -> int:
    p.need("net")
    if signed(family) not in FAMILIES:
        raise SystemCallError(errno.EAFNOSUPPORT)
    number, flags = kind_and_flags(p, kind)
    descriptor = host.call("socket", signed(family), number | flags | os.O_CLOEXEC, signed(protocol))
    return p.files.add(descriptor, bool(flags & os.O_CLOEXEC))


@system_call("socketpair")
def socketpair(p: Process, family: int, kind: int, protocol: int, address: int) -> int:
    """Two ends inside the guest: not denied with the net."""
    if signed(family) != socket.AF_UNIX:
        raise SystemCallError(errno.EOPNOTSUPP)
    number, flags = kind_and_flags(p, kind)
    ends = (ctypes.c_int * 2)()
    host.call("socketpair", socket.AF_UNIX, number | flags | os.O_CLOEXEC, signed(protocol), ends)
    first, second = p.files.add_pair((ends[0], ends[1]), bool(flags & os.O_CLOEXEC))
    try:
        p.memory.write(address, p.abi.pack(first, 4) + p.abi.pack(second, 4))
    except BaseException:
        p.files.close(first)
        p.files.close(second)
        raise
    return 0


@system_call("bind")
def bind(p: Process, number: int, address: int, size: int) -> int:
    descriptor = p.files.host(number)
    before = os.umask(p.umask)
    try:
        with_address(p, "bind", descriptor, host_address(p, address, size), creates=True)
    finally:
        os.umask(before)
    return 0


@system_call("listen")
def listen(p: Process, number: int, backlog: int) -> int:
    host.call("listen", p.files.host(number), signed(backlog))
    return 0


@system_call("connect")
def connect(p: Process, number: int, address: int, size: int) -> int | Steps:
    """With O_NONBLOCK for a moment, so that it doesn't wait inside the host."""
    file = p.files.get(number)
    data = host_address(p, address, size)
    flags = fcntl.fcntl(file.host, fcntl.F_GETFL)
    if flags & os.O_NONBLOCK:
        with_address(p, "connect", file.host, data, creates=False)
        return 0
    fcntl.fcntl(file.host, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        with_address(p, "connect", file.host, data, creates=False)
        return 0
    except BlockingIOError as error:
        if error.errno == errno.EAGAIN:  # AF_UNIX: the backlog is full
            return retry_connect(p, file, data)
    finally:
        fcntl.fcntl(file.host, fcntl.F_SETFL, flags)

    def steps() -> Steps:
        while not is_ready(file.host, WRITABLE):
            yield Wait({file.host: WRITABLE})
        with socket.socket(fileno=os.dup(file.host)) as own:
            problem = own.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem:
            raise SystemCallError(problem)
        return 0

    return steps()


def retry_connect(p: Process, file: OpenFile, data: bytes) -> Steps:
    while True:
        yield Wait(deadline=now() + 2_000_000)
        flags = fcntl.fcntl(file.host, fcntl.F_GETFL)
        fcntl.fcntl(file.host, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        try:
            with_address(p, "connect", file.host, data, creates=False)
            return 0
        except BlockingIOError:
            continue
        finally:
            fcntl.fcntl(file.host, fcntl.F_SETFL, flags)


def accept_(p: Process, number: int, address: int, size_at: int, flags: int) -> int | Steps:
    file = p.files.get(number)

    def take() -> int:
        buffer = ctypes.create_string_buffer(ADDRESS_LIMIT)
        size = ctypes.c_int(ADDRESS_LIMIT)
        descriptor = host.call("accept4", file.host, buffer, ctypes.byref(size), flags | os.O_CLOEXEC)
        result = p.files.add(descriptor, bool(flags & os.O_CLOEXEC))
        try:
            give_address(p, buffer.raw[: size.value], address, size_at)
        except BaseException:
            p.files.close(result)
            raise
        return result

    def steps() -> Steps:
        while not is_ready(file.host, READABLE):
            yield Wait({file.host: READABLE})
        return take()

    return take() if not file.blocking or is_ready(file.host, READABLE) else steps()


@system_call("accept")
def accept(p: Process, number: int, address: int, size_at: int) -> int | Steps:
    return accept_(p, number, address, size_at, 0)


@system_call("accept4")
def accept4(p: Process, number: int, address: int, size_at: int, flags: int) -> int | Steps:
    kind, host_flags = kind_and_flags(p, flags)
    if kind:
        raise SystemCallError(errno.EINVAL)
    return accept_(p, number, address, size_at, host_flags)


def ask_name(p: Process, function: str, number: int, address: int, size_at: int) -> int:
    buffer = ctypes.create_string_buffer(ADDRESS_LIMIT)
    size = ctypes.c_int(ADDRESS_LIMIT)
    host.call(function, p.files.host(number), buffer, ctypes.byref(size))
    give_address(p, buffer.raw[: size.value], address, size_at)
    return 0


@system_call("getsockname")
def getsockname(p: Process, number: int, address: int, size_at: int) -> int:
    return ask_name(p, "getsockname", number, address, size_at)


@system_call("getpeername")
def getpeername(p: Process, number: int, address: int, size_at: int) -> int:
    return ask_name(p, "getpeername", number, address, size_at)


@system_call("shutdown")
def shutdown(p: Process, number: int, how: int) -> int:
    host.call("shutdown", p.files.host(number), signed(how))
    return 0


# --- messages ---------------------------------------------------------------------------------------------


class Message:
    """The host's ``struct msghdr`` over buffers of its own (64-bit hosts)."""

    def __init__(self, data: bytes | int, address: bytes = b"", control: bytes = b"", room: int = 0) -> None:
        """`data`: what to send, or how much to take at most; `room`: bytes of control data to take."""
        size = data if isinstance(data, int) else len(data)
        self.data = ctypes.create_string_buffer(data if isinstance(data, bytes) else b"", max(1, size))
        self.address = ctypes.create_string_buffer(address, ADDRESS_LIMIT)
        self.control = ctypes.create_string_buffer(control, max(1, room, len(control)))
        self.vector = struct.pack("=QQ", ctypes.addressof(self.data), size)
        self.vector_buffer = ctypes.create_string_buffer(self.vector, 16)
        taking = isinstance(data, int)
        address_size = ADDRESS_LIMIT if taking else len(address)
        control_size = room if taking else len(control)
        self.header = ctypes.create_string_buffer(
            struct.pack(
                "=QIxxxxQQQQIxxxx",
                ctypes.addressof(self.address) if address_size else 0,
                address_size,
                ctypes.addressof(self.vector_buffer),
                1,
                ctypes.addressof(self.control) if control_size else 0,
                control_size,
                0,
            ),
            56,
        )

    def taken(self) -> tuple[bytes, bytes, int]:
        """After recvmsg: the address, the control data, the flags."""
        _, size, _, _, _, control, flags = struct.unpack("=QIxxxxQQQQIxxxx", self.header.raw)
        return self.address.raw[:size], self.control.raw[:control], flags


def deadline_of(file: OpenFile, reading: bool) -> int | None:
    limit = file.receive_timeout if reading else file.send_timeout
    return now() + limit if limit else None


def waiting(file: OpenFile, flags: int, reading: bool, attempt: Callable[[], int]) -> int | Steps:
    """`attempt` at once, and again whenever the socket is ready, unless the guest doesn't want to wait."""
    try:
        return attempt()
    except BlockingIOError:
        if flags & MSG_DONTWAIT or not file.blocking:
            raise

    def steps() -> Steps:
        deadline = deadline_of(file, reading)
        while True:
            yield Wait({file.host: READABLE if reading else WRITABLE}, deadline, restart=deadline is None)
            try:
                return attempt()
            except BlockingIOError:
                if deadline is not None and now() >= deadline:
                    raise

    return steps()


def send_message(
    p: Process, number: int, parts: Vectors, address: bytes, control: bytes, flags: int
) -> int | Steps:
    file = p.files.get(number)
    flags = signed(flags)
    parts = usable(p, parts, READ)
    size = sum(length for _, length in parts)
    stream = is_stream(file)
    done = 0

    def attempt() -> int:
        """All of it, or EAGAIN: streams take parts."""
        nonlocal done, control
        while True:
            message = Message(gather(p, parts, done, CHUNK) if size else b"", control=control)
            target = NamedAddress(p, address, creates=False) if address else None
            try:
                if target is not None:
                    message = Message(gather(p, parts, done, CHUNK) if size else b"", target.data, control)
                sent = host.call(
                    "sendmsg", file.host, message.header, flags & ~MSG_WAITALL | MSG_DONTWAIT | MSG_NOSIGNAL
                )
            except BlockingIOError:
                if done and (flags & MSG_DONTWAIT or not file.blocking):
                    return done
                raise
            except OSError as error:
                if done:
                    return done
                if not flags & MSG_NOSIGNAL:
                    complain(p, error)
                raise
            finally:
                if target is not None:
                    target.close()
            done += sent
            control = b""
            if done >= size or not stream:
                return done

    result = waiting(file, flags, False, attempt)
    if isinstance(result, int):
        return result

    def steps() -> Steps:
        try:
            return (yield from result)
        except Interrupted:
            if done:
                return done
            raise

    return steps()


def is_stream(file: OpenFile) -> bool:
    kind = ctypes.c_int()
    size = ctypes.c_int(4)
    host.call(
        "getsockopt", file.host, socket.SOL_SOCKET, socket.SO_TYPE, ctypes.byref(kind), ctypes.byref(size)
    )
    return kind.value == socket.SOCK_STREAM


Finish = Callable[[bytes, bytes, int], None]
"""Is given the address, the control data and the flags of a message that came."""


def receive_message(
    p: Process, number: int, parts: Vectors, room: int, flags: int, finish: Finish
) -> int | Steps:
    file = p.files.get(number)
    flags = signed(flags)
    parts = usable(p, parts, WRITE)
    size = min(sum(length for _, length in parts), CHUNK)
    done = 0
    whole = bool(flags & MSG_WAITALL) and not flags & socket.MSG_PEEK and is_stream(file)

    def attempt() -> int:
        nonlocal done
        while True:
            message = Message(size - done, room=room)
            host_flags = flags & ~MSG_WAITALL | MSG_DONTWAIT | MSG_CMSG_CLOEXEC
            try:
                got = host.call("recvmsg", file.host, message.header, host_flags)
            except BlockingIOError:
                if done and (flags & MSG_DONTWAIT or not file.blocking):
                    return done
                raise
            kept = min(got, size - done)  # with MSG_TRUNC, the message may be longer
            scatter(p, parts, done, message.data.raw[:kept])
            done += got
            if not whole or not got or done >= size:
                finish(*message.taken())
                return done

    result = waiting(file, flags, True, attempt)
    if isinstance(result, int):
        return result

    def steps() -> Steps:
        try:
            return (yield from result)
        except Interrupted:
            if done:
                return done
            raise

    return steps()


@system_call("sendto")
def sendto(
    p: Process, number: int, data: int, size: int, flags: int, address: int, length: int
) -> int | Steps:
    target = host_address(p, address, length) if address else b""
    return send_message(p, number, one_vector(p, data, size), target, b"", flags)


@system_call("send")
def send(p: Process, number: int, data: int, size: int, flags: int) -> int | Steps:
    return send_message(p, number, one_vector(p, data, size), b"", b"", flags)


@system_call("recvfrom")
def recvfrom(
    p: Process, number: int, data: int, size: int, flags: int, address: int, size_at: int
) -> int | Steps:
    def finish(sender: bytes, control: bytes, host_flags: int) -> None:
        give_address(p, sender, address, size_at)

    return receive_message(p, number, one_vector(p, data, size), 0, flags, finish)


@system_call("recv")
def recv(p: Process, number: int, data: int, size: int, flags: int) -> int | Steps:
    return recvfrom(p, number, data, size, flags, 0, 0)


class Header:
    """The guest's ``struct msghdr``: name, its size, vectors, their number, control data, their size, flags.

    All are words; the sizes of 32-bit fields have padding behind them where words have 64 bits.
    """

    def __init__(self, p: Process, address: int) -> None:
        self.p, self.address, self.word = p, address, p.abi.word
        data = p.memory.read(address, self.size)
        word = self.word
        unpack = p.abi.unpack
        self.name = unpack(data[:word])
        self.name_size = unpack(data[word : word + 4])
        self.vectors = unpack(data[2 * word : 3 * word])
        self.count = unpack(data[3 * word : 4 * word])
        self.control = unpack(data[4 * word : 5 * word])
        self.control_size = unpack(data[5 * word : 6 * word])

    @property
    def size(self) -> int:
        return 7 * self.word

    def parts(self) -> Vectors:
        if self.count > 1024:
            raise SystemCallError(errno.EMSGSIZE)
        return vectors(self.p, self.vectors, self.count)

    def finish(self, sender: bytes, control: bytes, flags: int) -> None:
        """Write back what recvmsg gave."""
        p, word = self.p, self.word
        if self.name:
            found = guest_address(p, sender)
            p.memory.write(self.name, found[: self.name_size])
            p.put_int(self.address + word, len(found))
        data, cut = guest_control(p, control, self.control_size)
        if data:
            p.memory.write(self.control, data)
        p.memory.write(self.address + 5 * word, p.abi.pack_words(len(data)))
        p.put_int(self.address + 6 * word, flags & ~MSG_CMSG_CLOEXEC | (MSG_CTRUNC if cut else 0))


def align(size: int, word: int) -> int:
    return -(-size // word) * word


def host_control(p: Process, data: bytes) -> bytes:
    """Control messages for the host (cmsg(3)): length (a word), level, type, data padded to a word. Of
    descriptors the host's.
    """
    word = p.abi.word
    head = word + 8
    out = b""
    at = 0
    while at + head <= len(data):
        length = p.abi.unpack(data[at : at + word])
        level, kind = (p.abi.unpack(data[i : i + 4], signed=True) for i in (at + word, at + word + 4))
        if length < head or at + length > len(data):
            raise SystemCallError(errno.EINVAL)
        body = data[at + head : at + length]
        if level == p.abi.socket_level:
            level = SOL_SOCKET
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            numbers = [p.abi.unpack(body[i : i + 4]) for i in range(0, len(body) // 4 * 4, 4)]
            body = b"".join(struct.pack("=i", p.files.host(number)) for number in numbers)
        else:
            body = swap(p, body)
        out += struct.pack("=Qii", 16 + len(body), level, kind) + body.ljust(align(len(body), 8), b"\0")
        at += align(length, word)
    return out


def guest_control(p: Process, data: bytes, room: int) -> tuple[bytes, bool]:
    """The guest's form of the host's control messages, and whether some didn't fit. Descriptors become the
    guest's.
    """
    word = p.abi.word
    out = b""
    at = 0
    cut = False
    while at + 16 <= len(data):
        length, level, kind = struct.unpack_from("=Qii", data, at)
        body = data[at + 16 : at + length]
        at += align(max(length, 16), 8)
        if level == SOL_SOCKET:
            level = p.abi.socket_level
            if kind == SCM_RIGHTS:
                descriptors = [value for (value,) in struct.iter_unpack("=i", body)]
                fit = max(0, (room - len(out) - word - 8) // 4)
                for extra in descriptors[fit:]:
                    os.close(extra)
                    cut = True
                body = b"".join(p.abi.pack(p.files.add(one), 4) for one in descriptors[:fit])
                if not body:
                    continue
            else:
                body = swap(p, body)
        else:
            body = swap(p, body)
        record = p.abi.pack_words(word + 8 + len(body)) + p.abi.pack(level, 4) + p.abi.pack(kind, 4) + body
        if len(out) + len(record) > room:
            cut = True
            break
        out += record.ljust(align(len(record), word), b"\0")
    return out[:room], cut


def swap(p: Process, data: bytes) -> bytes:
    """Numbers of 4 bytes between the guest's order and the host's."""
    if p.abi.order == HOST_ORDER or len(data) % 4:
        return data
    return b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))


@system_call("sendmsg")
def sendmsg(p: Process, number: int, address: int, flags: int) -> int | Steps:
    header = Header(p, address)
    target = host_address(p, header.name, header.name_size) if header.name and header.name_size else b""
    if header.control_size > CONTROL_LIMIT:
        raise SystemCallError(errno.ENOBUFS)
    control = p.memory.read(header.control, header.control_size) if header.control else b""
    return send_message(p, number, header.parts(), target, host_control(p, control), flags)


@system_call("recvmsg")
def recvmsg(p: Process, number: int, address: int, flags: int) -> int | Steps:
    header = Header(p, address)
    room = 2 * min(header.control_size, CONTROL_LIMIT) if header.control else 0
    return receive_message(p, number, header.parts(), room, flags, header.finish)


def several(p: Process, address: int, count: int, one: Callable[[int, bool], int | Steps]) -> Steps:
    """sendmmsg and recvmmsg: an array of {msghdr, int}; `one` sends or takes the message there, and is told
    whether it is the first."""
    size = align(7 * p.abi.word + 4, p.abi.word)
    done = 0
    try:
        while done < min(count, 1024):
            at = address + done * size
            result = one(at, not done)
            got = result if isinstance(result, int) else (yield from result)
            p.put_int(at + 7 * p.abi.word, got)
            done += 1
    except (SystemCallError, OSError, Interrupted):
        if not done:
            raise
    return done


@system_call("sendmmsg")
def sendmmsg(p: Process, number: int, address: int, count: int, flags: int) -> int | Steps:
    return several(p, address, count & 0xFFFF_FFFF, lambda at, first: sendmsg(p, number, at, flags))


def receive_several(
    p: Process, number: int, address: int, count: int, flags: int, timeout: int, word: int
) -> int | Steps:
    deadline = now() + read_timespec(p, timeout, word) if timeout else None

    def one(at: int, first: bool) -> int | Steps:
        if deadline is not None and not first and now() >= deadline:
            raise SystemCallError(errno.EAGAIN)
        wait = first or not flags & MSG_WAITFORONE
        return recvmsg(p, number, at, flags & ~MSG_WAITFORONE | (0 if wait else MSG_DONTWAIT))

    return several(p, address, count & 0xFFFF_FFFF, one)


@system_call("recvmmsg")
def recvmmsg(p: Process, number: int, address: int, count: int, flags: int, timeout: int) -> int | Steps:
    return receive_several(p, number, address, count, flags, timeout, p.abi.word)


@system_call("recvmmsg_time64")
def recvmmsg_time64(
    p: Process, number: int, address: int, count: int, flags: int, timeout: int
) -> int | Steps:
    return receive_several(p, number, address, count, flags, timeout, 8)


# --- options ----------------------------------------------------------------------------------------------


def host_option(p: Process, level: int, option: int) -> tuple[int, int]:
    level, option = signed(level), signed(option)
    if level == p.abi.socket_level:
        if p.abi.name.startswith("sparc"):
            option = SPARC_OPTIONS.get(option, option)
        elif p.abi.name.startswith("ppc"):
            option = PPC_OPTIONS.get(option, option)
        level = SOL_SOCKET
    return level, option


@system_call("setsockopt")
def setsockopt(p: Process, number: int, level: int, option: int, value: int, size: int) -> int:
    file = p.files.get(number)
    level, option = host_option(p, level, option)
    if not 0 <= signed(size) <= CONTROL_LIMIT:
        raise SystemCallError(errno.EINVAL)
    data = p.memory.read(value, signed(size))
    if level == SOL_SOCKET and option in (SO_RCVTIMEO, SO_SNDTIMEO, SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW):
        word = p.abi.word if option in (SO_RCVTIMEO, SO_SNDTIMEO) else 8
        if len(data) < 2 * word:
            raise SystemCallError(errno.EINVAL)
        seconds, rest = (p.abi.unpack(data[i : i + word], signed=True) for i in (0, word))
        if not 0 <= rest < 10**6:
            raise SystemCallError(errno.EDOM)
        limit = max(0, seconds * 10**9 + rest * 1000)
        if option in (SO_RCVTIMEO, SO_RCVTIMEO_NEW):
            file.receive_timeout = limit
        else:
            file.send_timeout = limit
        data = struct.pack("=qq", max(0, seconds), rest)
        option = {SO_RCVTIMEO_NEW: SO_RCVTIMEO, SO_SNDTIMEO_NEW: SO_SNDTIMEO}.get(option, option)
    else:
        data = swap(p, data)
    host.call("setsockopt", file.host, level, option, data, len(data))
    return 0


@system_call("getsockopt")
def getsockopt(p: Process, number: int, level: int, option: int, value: int, size_at: int) -> int:
    descriptor = p.files.host(number)
    level, option = host_option(p, level, option)
    room = p.int_at(size_at)
    if not room >= 0:
        raise SystemCallError(errno.EINVAL)
    buffer = ctypes.create_string_buffer(max(1, min(room, CONTROL_LIMIT)))
    wide = level == SOL_SOCKET and option in (SO_RCVTIMEO, SO_SNDTIMEO)
    if wide:
        buffer = ctypes.create_string_buffer(16)
    size = ctypes.c_int(len(buffer) if wide else min(room, CONTROL_LIMIT))
    host.call("getsockopt", descriptor, level, option, buffer, ctypes.byref(size))
    data = buffer.raw[: size.value]
    data = p.abi.pack_words(*struct.unpack("=qq", data)) if wide else swap(p, data)
    if level == SOL_SOCKET and option == socket.SO_TYPE:
        types = {theirs: ours for ours, theirs in p.abi.socket_types.items()}
        kind = p.abi.unpack(data)
        data = p.abi.pack(types.get(kind, kind), 4)
    elif level == SOL_SOCKET and option == socket.SO_ERROR:
        problem = p.abi.unpack(data)
        data = p.abi.pack(p.abi.error_numbers.get(problem, problem), 4)
    p.memory.write(value, data[:room])
    p.put_int(size_at, min(len(data), room))
    return 0


# --- all of them in one -----------------------------------------------------------------------------------

MULTIPLEXED: Final = (
    *(
        "",
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
    ),
    *("recv", "sendto", "recvfrom", "shutdown", "setsockopt", "getsockopt", "sendmsg", "recvmsg", "accept4"),
    *("recvmmsg", "sendmmsg"),
)


@system_call("socketcall")
def socketcall(p: Process, which: int, address: int) -> int | Steps:
    """The call of 32-bit architectures: a number, and the arguments in memory."""
    if not 0 < which < len(MULTIPLEXED):
        raise SystemCallError(errno.EINVAL)
    handler, count = HANDLERS[MULTIPLEXED[which]]
    word = p.abi.word
    data = p.memory.read(address, count * word)
    return handler(p, *(p.abi.unpack(data[i : i + word]) for i in range(0, len(data), word)))
