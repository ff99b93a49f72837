"""Connections that are served between two slices of a machine: nothing here ever waits for a peer."""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
from collections.abc import Callable
from typing import Final

from runtime.monitor.address import Address

UNREAD: Final = 4 << 20
"""Bytes that wait for a peer that doesn't read; one with more is dismissed."""
PIECE: Final = 1 << 16
PATIENCE: Final = 0.2
"""Seconds between two looks at whether to go on waiting."""


class Link:
    """A connected socket. `received` is called with what comes, `closed` when the peer is gone."""

    def __init__(self, peer: socket.socket, selector: selectors.BaseSelector) -> None:
        self._socket = peer
        self._selector = selector
        self._unsent = bytearray()
        self.received: Callable[[bytes], None] = lambda data: None
        self.closed: Callable[[], None] = lambda: None
        peer.setblocking(False)
        if peer.family != socket.AF_UNIX:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(peer, selectors.EVENT_READ, self._ready)

    @property
    def is_open(self) -> bool:
        return self._socket.fileno() >= 0

    def send(self, data: bytes) -> None:
        """Send what can be sent now; the rest waits."""
        if self.is_open:
            self._unsent += data
            self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._unsent) > UNREAD:
            self.close()
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if len(self._unsent) > PIECE:
            events = selectors.EVENT_WRITE  # whoever doesn't read isn't listened to
        if self._selector.get_key(self._socket).events != events:
            self._selector.modify(self._socket, events, self._ready)

    def _ready(self) -> None:
        """Something may be read or written."""
        self._flush()
        if not self.is_open or len(self._unsent) > PIECE:
            return
        try:
            data = self._socket.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.received(data)
        else:
            self.close()

    def close(self) -> None:
        """End the connection. What can be sent without waiting is sent."""
        if not self.is_open:
            return
        if self._unsent:
            with contextlib.suppress(OSError):
                self._socket.send(self._unsent)
        self._selector.unregister(self._socket)
        self._socket.close()
        self.closed()


class Listener:
    """Accepts connections at an address; `come` is called with each."""

    def __init__(
        self, address: Address, selector: selectors.BaseSelector, come: Callable[[Link], None]
    ) -> None:
        self._address = address
        self._selector = selector
        self._come = come
        self._socket = address.listen()
        self._links: set[Link] = set()
        self.port: int = 0 if address.path is not None else self._socket.getsockname()[1]
        """The TCP port, chosen by the system where 0 was asked for."""
        self._socket.setblocking(False)
        selector.register(self._socket, selectors.EVENT_READ, self._accept)

    def __str__(self) -> str:
        return str(self._address) if self._address.path else f"tcp:{self._address.host}:{self.port}"

    def wait(self, give_up: Callable[[], bool]) -> None:
        """Wait for a connection, as long as `give_up` doesn't say otherwise."""
        while not self._links and not give_up():
            if select.select([self._socket], [], [], PATIENCE)[0]:
                self._accept()

    def _accept(self) -> None:
        try:
            peer, _ = self._socket.accept()
        except OSError:
            return
        self._take(peer)

    def _take(self, peer: socket.socket) -> None:
        link = Link(peer, self._selector)
        self._links = {other for other in self._links if other.is_open} | {link}
        self._come(link)

    def close(self) -> None:
        """End all connections and stop listening."""
        if self._socket.fileno() < 0:
            return
        for link in self._links:
            link.close()
        self._selector.unregister(self._socket)
        self._socket.close()
        self._address.release()
