"""Packets: ``$data#checksum``, acknowledgements, escapes (gdb manual, "Overview" of the remote protocol).

What comes from the network is hostile: a packet has at most `LIMIT` bytes, and garbage between packets is
skipped.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from typing import Final

from runtime.errors import IsagenError

LIMIT: Final = 0x4000
"""Bytes of the longest packet, both ways (``PacketSize``)."""
INTERRUPT: Final = b"\x03"
_ESCAPED: Final = frozenset(b"$#}*")


class Disconnected(IsagenError):
    """The debugger has gone away."""

    def __init__(self) -> None:
        super().__init__("the debugger has closed the connection")


def escape(data: bytes) -> bytes:
    """Binary data as a packet may hold it."""
    found = bytearray()
    for byte in data:
        if byte in _ESCAPED:
            found += bytes((0x7D, byte ^ 0x20))
        else:
            found.append(byte)
    return bytes(found)


def unescape(data: bytes) -> bytes:
    """The contrary of `escape`; a lone escape at the end is dropped."""
    found = bytearray()
    escaped = False
    for byte in data:
        if escaped:
            found.append(byte ^ 0x20)
            escaped = False
        elif byte == 0x7D:
            escaped = True
        else:
            found.append(byte)
    return bytes(found)


class Connection:
    """Packets over a socket."""

    def __init__(self, peer: socket.socket) -> None:
        self._socket = peer
        self._data = bytearray()
        self.acknowledges = True
        """Until both sides agree to go without (QStartNoAckMode)."""

    def close(self) -> None:
        self._socket.close()

    def _fill(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            raise Disconnected
        self._data += data

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            raise Disconnected from None

    def send(self, data: bytes) -> None:
        """Send a packet (its data escaped where need be)."""
        self._send(b"$" + data + b"#%02x" % (sum(data) & 0xFF))

    def receive(self) -> bytes:
        """The next packet's data, still escaped; `INTERRUPT` for a break. Raises Disconnected."""
        while True:
            packet = self._take()
            if packet is not None:
                return packet
            self._fill()

    def _take(self) -> bytes | None:
        """A whole packet from what was received, if there is one."""
        data = self._data
        while data:
            if data[:1] == INTERRUPT:
                del data[:1]
                return INTERRUPT
            if data[:1] != b"$":  # acknowledgements and garbage
                del data[:1]
                continue
            end = data.find(b"#")
            if end < 0 or len(data) < end + 3:
                if len(data) > LIMIT + 4:
                    data.clear()
                return None
            packet, digits = bytes(data[1:end]), bytes(data[end + 1 : end + 3])
            del data[: end + 3]
            if not self.acknowledges:
                return packet
            try:
                right = int(digits, 16) == sum(packet) & 0xFF
            except ValueError:
                right = False
            self._send(b"+" if right else b"-")
            if right:
                return packet
        return None

    @property
    def socket(self) -> socket.socket:
        """The socket, to wait at."""
        return self._socket

    def receive_ready(self) -> Iterator[bytes]:
        """The packets that are whole, after one look at the socket, which must have something to read. Raises
        Disconnected.
        """
        self._fill()
        while (packet := self._take()) is not None:
            yield packet

    def interrupted(self) -> bool:
        """Whether the debugger asks for a stop, without waiting. Raises Disconnected."""
        while select.select([self._socket], [], [], 0)[0]:
            self._fill()
            if len(self._data) > LIMIT:
                break
        place = self._data.find(INTERRUPT)
        if place < 0:
            return False
        del self._data[: place + 1]
        return True
