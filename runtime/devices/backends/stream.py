"""A byte stream that the machine's loop serves: a socket, accepted or connected, or a terminal."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable
from typing import Final

from runtime.devices.backends.address import Address
from runtime.errors import IsagenError

LARGEST_READ: Final = 1 << 16
BACKLOG: Final = 1 << 20
"""Most bytes that wait for a peer that doesn't read; more are refused."""


class Stream:
    """An open descriptor that doesn't block. `on_data` is called with what comes in, `on_end` when the peer
    is gone. `room` says how many bytes may come; after it has said 0, nothing is read until `resume`.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        file: int,
        on_data: Callable[[bytes], None],
        on_end: Callable[[], None],
        room: Callable[[], int] = lambda: LARGEST_READ,
    ) -> None:
        self._selector = selector
        self._file = file
        self._on_data = on_data
        self._on_end = on_end
        self._backlog = bytearray()
        self._events = 0
        self._room = room
        self._reading = True
        self._update()

    def resume(self) -> None:
        """There is room again."""
        if not self._reading:
            self._reading = True
            self._update()

    def _update(self) -> None:
        """Wait for what there is to wait for."""
        events = selectors.EVENT_READ if self._reading else 0
        events |= selectors.EVENT_WRITE if self._backlog else 0
        if self._file < 0 or events == self._events:
            return
        if not self._events:
            self._selector.register(self._file, events, self._ready)
        elif events:
            self._selector.modify(self._file, events, self._ready)
        else:
            self._selector.unregister(self._file)
        self._events = events

    def _ready(self) -> None:
        self._flush()
        if not self._reading or self._file < 0:
            return
        room = min(self._room(), LARGEST_READ)
        if room <= 0:
            self._reading = False
            self._update()
            return
        try:
            data = os.read(self._file, room)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_data(data)
        else:
            self.close()
            self._on_end()

    def send(self, data: bytes) -> bool:
        """Send, as soon as the peer takes it. False: it takes nothing, and too much waits already."""
        if self._file < 0 or len(self._backlog) + len(data) > BACKLOG:
            return False
        self._backlog += data
        self._flush()
        return True

    def _flush(self) -> None:
        try:
            while self._backlog and self._file >= 0:
                del self._backlog[: os.write(self._file, self._backlog)]
        except BlockingIOError:
            pass
        except OSError:
            self._backlog.clear()  # the peer is gone: reading finds out
        self._update()

    def close(self) -> None:
        """Stop. The descriptor stays open; it is the owner's."""
        if self._events:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(self._file)
        self._events = 0
        self._file = -1


class Peer:
    """One peer at a time, at an address: it is connected to at once, or accepted whenever one comes.

    Raises IsagenError when made where the address can't be used.
    """

    def __init__(self, address: Address, *, listen: bool) -> None:
        self._address = address
        self._listening = address.listen() if listen else None
        self._socket = None if listen else address.connect()
        self._selector: selectors.BaseSelector | None = None
        self.stream: Stream | None = None
        """The peer, if there is one."""
        self.on_data: Callable[[bytes], None] = lambda data: None
        self.on_change: Callable[[], None] = lambda: None
        """The peer has come or gone."""
        self.room: Callable[[], int] = lambda: LARGEST_READ
        """See `Stream`."""

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return int(self._listening.getsockname()[1]) if self._listening is not None else self._address.port

    def wait(self) -> None:
        """Wait until somebody connects."""
        if self._listening is not None and self._socket is None:
            self._listening.setblocking(True)
            self._socket = self._listening.accept()[0]
            self._socket.setblocking(False)
            self._listening.setblocking(False)

    def start(self, selector: selectors.BaseSelector) -> None:
        """Serve the peer by this loop from now on."""
        self._selector = selector
        if self._socket is not None:
            self._begin(self._socket)
        else:
            self._await()

    def _await(self) -> None:
        if self._listening is not None and self._selector is not None:
            self._selector.register(self._listening, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        assert self._listening is not None and self._selector is not None
        try:
            connection, _ = self._listening.accept()
        except OSError:
            return
        connection.setblocking(False)
        self._selector.unregister(self._listening)
        self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        assert self._selector is not None
        self._socket = connection
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(
            self._selector, connection.fileno(), lambda data: self.on_data(data), self.drop, self.room
        )
        self.on_change()

    def resume(self) -> None:
        """There is room for what the peer sends again."""
        if self.stream is not None:
            self.stream.resume()

    def drop(self) -> None:
        """End the connection; another peer may come, where one is listened for."""
        if self.stream is None:
            return
        self.stream.close()
        self.stream = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.on_change()
        self._await()

    def close(self) -> None:
        """Give everything back."""
        if self.stream is not None:
            self.stream.close()
            self.stream = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._listening is not None:
            if self._selector is not None:
                with contextlib.suppress(KeyError, ValueError, RuntimeError):
                    self._selector.unregister(self._listening)
            self._listening.close()
            self._address.forget()
            self._listening = None


def unusable(what: str, where: str, error: OSError) -> IsagenError:
    """An error of the host, as one of ours."""
    return IsagenError(f"{what}: {(error.strerror or str(error)).lower()}", where=where)
