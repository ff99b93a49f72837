"""The remote protocol: answers packets while the debuggee stands still.

The server has no thread of its own: whoever runs the debuggee calls `stopped` when it stands still and goes
on as the returned `Resume` says, and looks at `interrupted` now and then.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from runtime.errors import IsagenError
from runtime.monitor.gdb.debuggee import Debuggee, RegisterSlot, StopEvent, WatchKind
from runtime.monitor.gdb.packets import INTERRUPT, LIMIT, Connection, Disconnected, escape, unescape

OK: Final = b"OK"
BAD: Final = b"E16"
"""EINVAL: the packet makes no sense."""
FAULT: Final = b"E0e"
"""EFAULT: no memory there."""
UNKNOWN: Final = b""
MAX_POINTS: Final = 1024
"""Breakpoints, and watchpoints."""
MAX_WATCH: Final = 1 << 20
"""Bytes of a watchpoint."""
_WATCHES: Final[dict[bytes, WatchKind]] = {b"2": "write", b"3": "read", b"4": "access"}
_WATCH_NAMES: Final = {"write": "watch", "read": "rwatch", "access": "awatch"}


class BadPacket(Exception):
    """A packet that can't be understood."""


@dataclass(frozen=True, slots=True)
class Resume:
    """How to go on: "continue", "step", or "detach" (without debugger). `signal`: gdb's number of the one to
    deliver, 0 for none. `within`: keep on stepping while the program counter is in this range.
    """

    how: Literal["continue", "step", "detach"]
    signal: int = 0
    thread: int = 0
    within: tuple[int, int] | None = None


def number(data: bytes) -> int:
    """A hexadecimal number of at most 64 bits."""
    text = data.strip()
    if not text or len(text) > 16:
        raise BadPacket
    try:
        return int(text, 16)
    except ValueError:
        raise BadPacket from None


def pair(data: bytes) -> tuple[int, int]:
    """Two numbers with a comma between them."""
    first, comma, second = data.partition(b",")
    if not comma:
        raise BadPacket
    return number(first), number(second)


def octets(data: bytes) -> bytes:
    """Bytes from hexadecimal digits."""
    try:
        return bytes.fromhex(data.decode("ascii"))
    except ValueError:
        raise BadPacket from None


class GdbServer:
    """Serves one debugger at a time on a TCP port of this machine (or a path of a Unix socket).

    `host` is the address that it listens on; only this machine's by default: whoever connects has the guest
    in hand.
    """

    def __init__(self, debuggee: Debuggee, port: int | str | Path, host: str = "127.0.0.1") -> None:
        self.debuggee = debuggee
        self.breakpoints: frozenset[int] = frozenset()
        self.watchpoints: frozenset[tuple[WatchKind, int, int]] = frozenset()
        self._connection: Connection | None = None
        self._chosen = 0  # the thread that register packets are about; 0: any
        self._event = StopEvent()
        self._features: frozenset[bytes] = frozenset()
        try:
            if isinstance(port, int):
                self._listener = socket.create_server((host, port))
            else:
                self._listener = socket.socket(socket.AF_UNIX)
                self._listener.bind(str(port))
                self._listener.listen()
        except (OSError, OverflowError) as error:
            raise IsagenError(f"the debugger's port can't be opened: {error}", where=str(port)) from None
        self.port: int = self._listener.getsockname()[1] if isinstance(port, int) else 0
        """The TCP port, chosen by the system where 0 was given."""
        self._handlers: dict[bytes, Callable[[bytes], bytes | Resume]] = {
            b"?": lambda _: self._stop_reply(),
            b"g": lambda _: self._all_registers(),
            b"G": self._set_all_registers,
            b"p": self._register,
            b"P": self._set_register,
            b"m": self._memory,
            b"M": self._set_memory,
            b"X": self._set_memory_binary,
            b"c": lambda data: self._resume("continue", data, 0),
            b"s": lambda data: self._resume("step", data, 0),
            b"C": lambda data: self._resume_with("continue", data),
            b"S": lambda data: self._resume_with("step", data),
            b"Z": lambda data: self._point(data, add=True),
            b"z": lambda data: self._point(data, add=False),
            b"H": self._choose_thread,
            b"T": lambda data: OK if number(data) in self.debuggee.threads() else BAD,
            b"D": lambda _: self._detach(),
            b"k": lambda _: self._kill(),
            b"!": lambda _: UNKNOWN,
            b"q": self._query,
            b"Q": self._set,
            b"v": self._verbose,
        }

    # --- connecting -------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def accept(self) -> None:
        """Wait for a debugger."""
        peer, _ = self._listener.accept()
        if peer.family != getattr(socket, "AF_UNIX", None):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = Connection(peer)

    def close(self) -> None:
        """End the connection and stop listening."""
        self._disconnect()
        self._listener.close()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._clear_points()

    def _clear_points(self) -> None:
        if self.breakpoints or self.watchpoints:
            self.breakpoints, self.watchpoints = frozenset(), frozenset()
            self.debuggee.set_breakpoints(self.breakpoints)
            self.debuggee.set_watchpoints(self.watchpoints)

    # --- what the runner calls --------------------------------------------------------------------------

    def stopped(self, event: StopEvent, *, report: bool = True) -> Resume:
        """The debuggee stands still: serve the debugger until it lets it go on. A debugger that goes away
        detaches. `report`: it waits to be told (it has let the debuggee run before).
        """
        self._event = event
        self._chosen = event.thread
        try:
            if report and self._connection is not None:
                self._connection.send(self._stop_reply())
            return self._serve()
        except Disconnected:
            self._disconnect()
            return Resume("detach")

    def interrupted(self) -> bool:
        """Whether the debugger asks the running debuggee to stop."""
        try:
            return self._connection is not None and self._connection.interrupted()
        except Disconnected:
            self._disconnect()
            return False

    def ended(self, status: int, *, signal: int = 0) -> None:
        """The debuggee is gone: with an exit status, or by a signal (gdb's number)."""
        if self._connection is not None:
            with suppress(Disconnected):
                self._connection.send(b"X%02x" % signal if signal else b"W%02x" % (status & 0xFF))
        self.close()

    def _serve(self) -> Resume:
        connection = self._connection
        if connection is None:
            raise Disconnected
        while True:
            packet = connection.receive()
            if packet == INTERRUPT:
                continue
            answer = self.handle(packet)
            if isinstance(answer, Resume):
                if answer.how == "detach":
                    connection.send(OK)
                    self._disconnect()
                return answer
            connection.send(answer)
            if packet == b"QStartNoAckMode":
                connection.acknowledges = False

    def handle(self, packet: bytes) -> bytes | Resume:
        """The answer to one packet, or how to go on."""
        if len(packet) > LIMIT:
            return BAD
        handler = self._handlers.get(packet[:1])
        if handler is None:
            return UNKNOWN
        try:
            return handler(packet[1:])
        except BadPacket:
            return BAD

    # --- stopping and going on --------------------------------------------------------------------------

    def _stop_reply(self) -> bytes:
        event = self._event
        reply = b"T%02xthread:%x;" % (event.signal, event.thread)
        if event.watch is not None:
            kind, address = event.watch
            reply += b"%s:%x;" % (_WATCH_NAMES[kind].encode(), address)
        elif event.breakpoint and b"swbreak+" in self._features:
            reply += b"swbreak:;"
        return reply

    def _resume(self, how: Literal["continue", "step"], address: bytes, signal: int) -> Resume:
        if address:
            self.debuggee.write_register(self._event.thread, "pc", number(address))
        return Resume(how, signal)

    def _resume_with(self, how: Literal["continue", "step"], data: bytes) -> Resume:
        signal, _, address = data.partition(b";")
        return self._resume(how, address, number(signal) & 0xFF)

    def _detach(self) -> Resume:
        self._clear_points()
        return Resume("detach")

    def _kill(self) -> bytes:
        self._disconnect()
        self.debuggee.kill()
        raise Disconnected

    def _verbose(self, data: bytes) -> bytes | Resume:
        if data == b"Cont?":
            return b"vCont;c;C;s;S;r"
        if data.startswith(b"Cont;"):
            return self._continue(data[5:])
        if data.startswith(b"Kill;"):
            connection = self._connection
            if connection is not None:
                connection.send(OK)
            return self._kill()
        return UNKNOWN

    def _continue(self, data: bytes) -> Resume:
        """vCont: the first action for the thread that has the event, or for all, counts: they run
        together.
        """
        for action in data.split(b";"):
            what, _, thread = action.partition(b":")
            letter, rest = what[:1], what[1:]
            wanted = 0
            if thread and not thread.startswith(b"-"):
                wanted = number(thread.rpartition(b".")[2])
            if letter in (b"s", b"S"):
                return Resume("step", number(rest) & 0xFF if rest else 0, wanted)
            if letter in (b"c", b"C"):
                return Resume("continue", number(rest) & 0xFF if rest else 0, wanted)
            if letter == b"r":
                return Resume("step", 0, wanted, pair(rest))
        raise BadPacket

    # --- registers --------------------------------------------------------------------------------------

    def _thread(self) -> int:
        return self._chosen if self._chosen in self.debuggee.threads() else self._event.thread

    def _choose_thread(self, data: bytes) -> bytes:
        text = data[1:].rpartition(b".")[2].removeprefix(b"p")
        if data[:1] == b"g":
            chosen = 0 if text in (b"-1", b"0", b"") else number(text)
            if chosen and chosen not in self.debuggee.threads():
                return BAD
            self._chosen = chosen
        return OK

    def _read(self, slot: RegisterSlot) -> bytes:
        if slot.ours is None:
            return b"xx" * slot.size
        value = self.debuggee.read_register(self._thread(), slot.ours)
        mask = (1 << 8 * slot.size) - 1
        return (value & mask).to_bytes(slot.size, self.debuggee.byte_order).hex().encode()

    def _write(self, slot: RegisterSlot, data: bytes) -> None:
        if slot.ours is not None:
            value = int.from_bytes(data, self.debuggee.byte_order)
            self.debuggee.write_register(self._thread(), slot.ours, value)

    def _all_registers(self) -> bytes:
        return b"".join(self._read(slot) for slot in self.debuggee.slots)

    def _set_all_registers(self, data: bytes) -> bytes:
        at = 0
        for slot in self.debuggee.slots:
            digits = data[at : at + 2 * slot.size]
            at += 2 * slot.size
            if len(digits) < 2 * slot.size:
                break
            if b"x" not in digits:
                self._write(slot, octets(digits))
        return OK

    def _slot(self, data: bytes) -> RegisterSlot:
        index = number(data)
        if index >= len(self.debuggee.slots):
            raise BadPacket
        return self.debuggee.slots[index]

    def _register(self, data: bytes) -> bytes:
        return self._read(self._slot(data))

    def _set_register(self, data: bytes) -> bytes:
        index, equals, digits = data.partition(b"=")
        slot = self._slot(index)
        if not equals or len(digits) != 2 * slot.size:
            raise BadPacket
        self._write(slot, octets(digits))
        return OK

    # --- memory -----------------------------------------------------------------------------------------

    def _memory(self, data: bytes) -> bytes:
        address, size = pair(data)
        found = self.debuggee.read_memory(address, min(size, LIMIT // 2 - 8))
        return found.hex().encode() if found or not size else FAULT

    def _set_memory(self, data: bytes) -> bytes:
        place, colon, digits = data.partition(b":")
        return self._store(place, octets(digits)) if colon else BAD

    def _set_memory_binary(self, data: bytes) -> bytes:
        place, colon, content = data.partition(b":")
        return self._store(place, unescape(content)) if colon else BAD

    def _store(self, place: bytes, content: bytes) -> bytes:
        address, size = pair(place)
        if size != len(content):
            return BAD
        return OK if not content or self.debuggee.write_memory(address, content) else FAULT

    # --- breakpoints and watchpoints --------------------------------------------------------------------

    def _point(self, data: bytes, *, add: bool) -> bytes:
        fields = data.split(b";")[0].split(b",")
        if len(fields) != 3:
            return BAD
        kind, address, size = fields[0], number(fields[1]), number(fields[2])
        if kind in (b"0", b"1"):
            points = self.breakpoints | {address} if add else self.breakpoints - {address}
            if len(points) > MAX_POINTS:
                return BAD
            if points != self.breakpoints:
                self.breakpoints = points
                self.debuggee.set_breakpoints(points)
            return OK
        if kind not in _WATCHES:
            return UNKNOWN
        watch = (_WATCHES[kind], address, size)
        watches = self.watchpoints | {watch} if add else self.watchpoints - {watch}
        if not 0 < size <= MAX_WATCH or len(watches) > MAX_POINTS:
            return BAD
        if watches != self.watchpoints:
            self.watchpoints = watches
            self.debuggee.set_watchpoints(watches)
        return OK

    # --- questions --------------------------------------------------------------------------------------

    def _query(self, data: bytes) -> bytes:
        name, _, rest = data.partition(b":")
        if name == b"Supported":
            self._features = frozenset(rest.split(b";"))
            features = [
                *(
                    b"PacketSize=%x" % LIMIT,
                    b"QStartNoAckMode+",
                    b"vContSupported+",
                    b"swbreak+",
                    b"hwbreak+",
                ),
                b"qXfer:features:read+",
            ]
            features += [
                b"qXfer:%s:read+" % kind.encode()
                for kind in ("auxv", "exec-file")
                if self.debuggee.object(kind) is not None
            ]
            return b";".join(features)
        if name == b"Xfer":
            return self._transfer(rest)
        if data == b"C":
            return b"QC%x" % self._thread()
        if data == b"fThreadInfo":
            return b"m" + b",".join(b"%x" % thread for thread in self.debuggee.threads())
        if data == b"sThreadInfo":
            return b"l"
        if name == b"Attached":
            return b"1"
        if data.startswith(b"Rcmd,"):
            text = octets(data[5:]).decode("utf-8", "replace")
            answer = self.debuggee.command(text)
            return UNKNOWN if answer is None else answer.encode()[: LIMIT // 2 - 8].hex().encode() or OK
        if data.startswith(b"ThreadExtraInfo,"):
            return f"thread {number(data[16:].rpartition(b'.')[2])}".encode().hex().encode()
        if name == b"Symbol":
            return OK
        return UNKNOWN

    def _transfer(self, data: bytes) -> bytes:
        """qXfer:object:read:annex:offset,length"""
        fields = data.split(b":")
        if len(fields) != 4 or fields[1] != b"read":
            return UNKNOWN
        kind, annex = fields[0].decode("ascii", "replace"), fields[2]
        offset, length = pair(fields[3])
        if kind == "features":
            content: bytes | None = self.debuggee.description if annex == b"target.xml" else None
            if content is None:
                return b"E00"
        else:
            content = self.debuggee.object(kind)
            if content is None:
                return UNKNOWN
        length = min(length, LIMIT // 2)
        part = content[offset : offset + length]
        return (b"m" if offset + length < len(content) else b"l") + escape(part)

    def _set(self, data: bytes) -> bytes:
        return OK if data == b"StartNoAckMode" else UNKNOWN
