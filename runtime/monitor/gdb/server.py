"""The remote protocol: answers packets while the debuggee stands still.

The server has no thread of its own: whoever runs the debuggee calls `stopped` when it stands still and goes
on as the returned `Resume` says, and looks at `interrupted` now and then.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Final, Literal

from runtime.monitor.address import Address
from runtime.monitor.gdb.debuggee import Debuggee, RegisterSlot, StopEvent, WatchKind
from runtime.monitor.gdb.packets import INTERRUPT, LIMIT, Connection, Disconnected, escape, unescape

OK: Final = b"OK"
BAD: Final = b"E16"
"""EINVAL: the packet makes no sense."""
FAULT: Final = b"E0e"
"""EFAULT: no memory there."""
REFUSED: Final = b"E01"
"""EPERM: not now."""
UNKNOWN: Final = b""
PHYSICAL: Final = b"qemu.PhyMemMode"
MAX_POINTS: Final = 1024
"""Breakpoints, and watchpoints."""
MAX_LISTED: Final = 512
"""Threads in a packet."""
MAX_WATCH: Final = 1 << 20
"""Bytes of a watchpoint."""
_WATCHES: Final[dict[bytes, WatchKind]] = {b"2": "write", b"3": "read", b"4": "access"}
_WATCH_NAMES: Final = {"write": "watch", "read": "rwatch", "access": "awatch"}


class BadPacket(Exception):
    """A packet that can't be understood."""


@dataclass(frozen=True, slots=True)
class Resume:
    """How to go on: "continue", "step", backwards the same, or "detach" (without debugger). `signal`: gdb's
    number of the one to deliver, 0 for none. `thread`: the one that steps (0: that of the last stop).
    `within`: keep on stepping while the program counter is in this range. `only`: the threads that run (None:
    all).
    """

    how: Literal["continue", "step", "reverse-continue", "reverse-step", "detach"]
    signal: int = 0
    thread: int = 0
    within: tuple[int, int] | None = None
    only: frozenset[int] | None = None


HEXADECIMAL: Final = frozenset(b"0123456789abcdefABCDEF")


def number(data: bytes) -> int:
    """A hexadecimal number of at most 64 bits."""
    text = data.strip()
    if not 0 < len(text) <= 16 or set(text) - HEXADECIMAL:  # `int` takes signs and underscores, too
        raise BadPacket
    return int(text, 16)


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
    """Serves one debugger at a time on a TCP port of this machine, a path of a Unix socket, or an address.

    `host` is the address that it listens on; only this machine's by default: whoever connects has the guest
    in hand. `reverse`: the debuggee can go backwards.
    """

    def __init__(
        self,
        debuggee: Debuggee,
        port: int | str | Path | Address,
        host: str = "127.0.0.1",
        *,
        reverse: bool = False,
    ) -> None:
        self.debuggee = debuggee
        self._reverse = reverse
        self.breakpoints: frozenset[int] = frozenset()
        self.watchpoints: frozenset[tuple[WatchKind, int, int]] = frozenset()
        self._connection: Connection | None = None
        self._chosen = 0  # the thread that register packets are about; 0: any
        self._unlisted: list[int] = []
        """Threads that a list in several packets still lacks."""
        self._event = StopEvent()
        self._features: frozenset[bytes] = frozenset()
        self.passed: frozenset[int] = frozenset()
        """Signals (gdb's numbers) that it doesn't want to hear of: they just reach the program."""
        if isinstance(port, int):
            port = Address(host=host, port=port)
        elif not isinstance(port, Address):
            port = Address(path=str(port))
        self._address = port
        self._listener = port.listen()
        self.port: int = self._listener.getsockname()[1] if port.path is None else 0
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
            b"b": self._backwards,
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
        self._adopt(peer)

    @property
    def listener(self) -> socket.socket:
        """The socket that debuggers connect to."""
        return self._listener

    @property
    def peer(self) -> socket.socket | None:
        """The debugger's socket."""
        return None if self._connection is None else self._connection.socket

    def accept_ready(self) -> bool:
        """Somebody connects: take it as the debugger, unless there is one. Whether it is."""
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return False
        if self._connection is not None:
            peer.close()
            return False
        self._adopt(peer)
        return True

    def _adopt(self, peer: socket.socket) -> None:
        if peer.family != getattr(socket, "AF_UNIX", None):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = Connection(peer)

    def close(self) -> None:
        """End the connection and stop listening."""
        self._disconnect()
        if self._listener.fileno() >= 0:
            self._listener.close()
            self._address.release()

    def abandon(self) -> None:
        """The same in a forked process, whose parent goes on with the debugger."""
        self._disconnect()
        self._listener.close()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.clear_points()

    def clear_points(self) -> None:
        """Forget all breakpoints and watchpoints."""
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

    def report(self, event: StopEvent) -> None:
        """The debuggee stands still, and the debugger waits to be told. For callers of `serve_ready`."""
        self.stand(event)
        if self._connection is not None:
            with suppress(Disconnected):
                self._connection.send(self._stop_reply())

    def stand(self, event: StopEvent) -> None:
        """The debuggee stands still before the debugger let it go."""
        self._event = event
        self._chosen = event.thread

    def serve_ready(self) -> Resume | None:
        """The debugger's socket has something to read, while the debuggee stands still: answer the packets
        that are there; how to go on, if one says so. A debugger that goes away detaches.
        """
        connection = self._connection
        if connection is None:
            return None
        try:
            for packet in connection.receive_ready():
                resume = self._answer(connection, packet)
                if resume is not None:
                    return resume
        except Disconnected:
            self._disconnect()
            return Resume("detach")
        return None

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
            resume = self._answer(connection, connection.receive())
            if resume is not None:
                return resume

    def _answer(self, connection: Connection, packet: bytes) -> Resume | None:
        if packet == INTERRUPT:
            return None
        answer = self.handle(packet)
        if isinstance(answer, Resume):
            if answer.how == "detach":
                connection.send(OK)
                self._disconnect()
            return answer
        connection.send(answer)
        if packet == b"QStartNoAckMode":
            connection.acknowledges = False
        return None

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
        if event.stuck and b"no-resumed+" in self._features:
            return b"N"
        reply = b"T%02xthread:%x;" % (event.signal, event.thread)
        if event.watch is not None:
            kind, address = event.watch
            reply += b"%s:%x;" % (_WATCH_NAMES[kind].encode(), address)
        elif event.executing is not None and b"exec-events+" in self._features:
            reply += b"exec:%s;" % event.executing.hex().encode()
        elif event.breakpoint and b"swbreak+" in self._features:
            reply += b"swbreak:;"
        if event.history:
            reply += b"replaylog:%s;" % event.history.encode()
        return reply

    def _backwards(self, data: bytes) -> bytes | Resume:
        if not self._reverse:
            return UNKNOWN
        if data == b"s":
            return Resume("reverse-step", thread=self._chosen)
        return Resume("reverse-continue") if data == b"c" else UNKNOWN

    def _resume(self, how: Literal["continue", "step"], address: bytes, signal: int) -> Resume:
        if address:
            self.debuggee.write_register(self._event.thread, "pc", number(address))
        return Resume(how, signal)

    def _resume_with(self, how: Literal["continue", "step"], data: bytes) -> Resume:
        signal, _, address = data.partition(b";")
        return self._resume(how, address, number(signal) & 0xFF)

    def _detach(self) -> Resume:
        self.clear_points()
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
        """vCont: the first thread that is to step does, those that have an action run with it."""
        known = self.debuggee.threads()
        running: set[int] = set()
        step: Resume | None = None
        signal = chosen = 0
        for action in data.split(b";"):
            what, _, thread = action.partition(b":")
            letter, rest = what[:1], what[1:]
            wanted = 0
            if thread and not thread.startswith(b"-"):
                wanted = number(thread.rpartition(b".")[2])
            if wanted and wanted not in known:
                raise BadPacket
            if letter in (b"s", b"S", b"r"):
                within = pair(rest) if letter == b"r" else None
                signal = number(rest) & 0xFF if letter == b"S" else 0
                step = step or Resume("step", signal, wanted, within)
                running |= {wanted or self._event.thread}
            elif letter in (b"c", b"C"):
                signal = signal or (number(rest) & 0xFF if rest else 0)
                chosen = chosen or wanted
                running |= {wanted} if wanted else set(known)
            else:
                raise BadPacket
        only = None if running.issuperset(known) else frozenset(running)
        if step is not None:
            return replace(step, only=only)
        return Resume("continue", signal, chosen, None, only)

    # --- registers --------------------------------------------------------------------------------------

    @property
    def thread(self) -> int:
        """The thread that the last stop was about."""
        return self._event.thread

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
        if value is None:
            return b"xx" * slot.size
        mask = (1 << 8 * slot.size) - 1
        return (value & mask).to_bytes(slot.size, self.debuggee.byte_order).hex().encode()

    def _write(self, slot: RegisterSlot, data: bytes) -> bool:
        if slot.ours is None:
            return True
        value = int.from_bytes(data, self.debuggee.byte_order)
        return self.debuggee.write_register(self._thread(), slot.ours, value)

    def _all_registers(self) -> bytes:
        return b"".join(self._read(slot) for slot in takewhile(lambda slot: slot.bulk, self.debuggee.slots))

    def _set_all_registers(self, data: bytes) -> bytes:
        at = 0
        for slot in self.debuggee.slots:
            digits = data[at : at + 2 * slot.size]
            at += 2 * slot.size
            if len(digits) < 2 * slot.size:
                break
            if b"x" not in digits and not self._write(slot, octets(digits)):
                return REFUSED
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
        return OK if self._write(slot, octets(digits)) else REFUSED

    # --- memory -----------------------------------------------------------------------------------------

    def _memory(self, data: bytes) -> bytes:
        address, size = pair(data)
        found = self.debuggee.read_memory(self._thread(), address, min(size, LIMIT // 2 - 8))
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
        return OK if not content or self.debuggee.write_memory(self._thread(), address, content) else FAULT

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
            if self._reverse:
                features += [b"ReverseStep+", b"ReverseContinue+"]
            features += [
                b"qXfer:%s:read+" % kind.encode()
                for kind in ("auxv", "exec-file", "siginfo", "threads")
                if self.debuggee.object(kind) is not None
            ]
            if self.debuggee.object("exec-file") is not None:
                features += [b"exec-events+", b"QPassSignals+", b"no-resumed+"]
            return b";".join(features)
        if name == b"Xfer":
            return self._transfer(rest)
        if data == b"C":
            return b"QC%x" % self._thread()
        if data == b"fThreadInfo":
            self._unlisted = list(self.debuggee.threads())
        if data in (b"fThreadInfo", b"sThreadInfo"):
            part, self._unlisted = self._unlisted[:MAX_LISTED], self._unlisted[MAX_LISTED:]
            return b"m" + b",".join(b"%x" % thread for thread in part) if part else b"l"
        if name == b"Attached":
            return b"1"
        if data == b"qemu.Supported" and self._can_be_physical:
            return b"PhyMemMode"
        if data == PHYSICAL and self._can_be_physical:
            return b"1" if getattr(self.debuggee, "physical", False) else b"0"
        if data.startswith(b"Rcmd,"):
            text = octets(data[5:]).decode("utf-8", "replace")
            answer = self.debuggee.command(text)
            return UNKNOWN if answer is None else answer.encode()[: LIMIT // 2 - 8].hex().encode() or OK
        if data.startswith(b"ThreadExtraInfo,"):
            thread = number(data[16:].rpartition(b".")[2])
            if thread not in self.debuggee.threads():
                return BAD
            return self.debuggee.thread_name(thread).encode().hex().encode()
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

    @property
    def _can_be_physical(self) -> bool:
        return hasattr(self.debuggee, "physical")

    def _set(self, data: bytes) -> bytes:
        name, _, value = data.partition(b":")
        if name == b"PassSignals":
            self.passed = frozenset(number(text) for text in value.split(b";") if text)
            return OK
        if name == PHYSICAL and self._can_be_physical:
            if value not in (b"0", b"1"):
                return BAD
            self.debuggee.physical = value == b"1"  # type: ignore[attr-defined]
            return OK
        return OK if data == b"StartNoAckMode" else UNKNOWN
