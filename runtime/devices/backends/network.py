"""Wires for network cards: back to the card itself, or a stream socket to another machine.

On a stream each frame has its length before it, 32 bits, big endian: as QEMU's netdevs `stream` and `socket`
send them.
"""

from __future__ import annotations

import selectors
import struct
from collections.abc import Callable
from typing import Final

from runtime.devices.backends.address import Address
from runtime.devices.backends.stream import Peer

LENGTH: Final = struct.Struct(">I")
LARGEST_FRAME: Final = (64 << 10) + 4096
"""A peer that announces a longer one doesn't speak this protocol."""


class Loopback:
    """What the card sends comes back to it."""

    is_up = True
    description = ""

    def __init__(self) -> None:
        self.on_frame: Callable[[bytes], None] = lambda frame: None
        self.on_link: Callable[[], None] = lambda: None

    def start(self, selector: selectors.BaseSelector) -> None:
        """Nothing to wait for."""

    def send(self, frame: bytes) -> None:
        """Take a frame."""
        self.on_frame(frame)

    def close(self) -> None:
        """Nothing to give back."""


class StreamWire:
    """A wire to the peer of a socket; the link is up as long as there is one."""

    def __init__(self, address: Address, *, listen: bool) -> None:
        self.on_frame: Callable[[bytes], None] = lambda frame: None
        self.on_link: Callable[[], None] = lambda: None
        self._peer = Peer(address, listen=listen)
        self._peer.on_data = self._receive
        self._peer.on_change = self._changed
        self._partial = bytearray()
        at = f"tcp:{address.host}:{self._peer.port}" if address.host else str(address)
        self.description = f"listens at {at}" if listen else ""

    @property
    def is_up(self) -> bool:
        """Whether a peer is there."""
        return self._peer.stream is not None

    def start(self, selector: selectors.BaseSelector) -> None:
        """Serve the socket by this loop from now on."""
        self._peer.start(selector)

    def _changed(self) -> None:
        self._partial.clear()
        self.on_link()

    def send(self, frame: bytes) -> None:
        """Take a frame; it is lost where nobody is there or the peer is far behind."""
        if self._peer.stream is not None:
            self._peer.stream.send(LENGTH.pack(len(frame)) + frame)

    def _receive(self, data: bytes) -> None:
        self._partial += data
        at = 0
        while len(self._partial) - at >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._partial, at)
            if size > LARGEST_FRAME:
                self._peer.drop()
                return
            end = at + LENGTH.size + size
            if end > len(self._partial):
                break
            self.on_frame(bytes(self._partial[at + LENGTH.size : end]))
            at = end
        del self._partial[:at]

    def close(self) -> None:
        """End the connection."""
        self._peer.close()
