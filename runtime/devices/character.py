"""Character backends: where a serial port's or console's bytes go, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PENDING: Final = 1 << 16
"""Most bytes that wait for a guest that doesn't read."""


class Character:
    """Two byte streams. `output` is called with what the guest sends; `feed` hands bytes to the guest.

    The device sets `on_input` and `on_connection`, and takes bytes with `take` when it has room. Who feeds
    may set `on_room`, to be called when bytes were taken.
    """

    def __init__(self, output: Callable[[bytes], None] | None = None) -> None:
        self.output = output or (lambda data: None)
        self.on_input: Callable[[], None] = lambda: None
        self.on_room: Callable[[], None] = lambda: None
        self.on_connection: Callable[[], None] = lambda: None
        self._connected = True
        self._waiting = bytearray()
        self.gate: Callable[[bytes], None] | None = None
        """Where what is fed goes first: a recorder that calls `deliver` in its time."""
        self.muted = False
        """What the guest sends goes nowhere: a part of the run is repeated."""

    def send(self, data: bytes) -> None:
        """The guest sends bytes."""
        if not self.muted:
            self.output(data)

    @property
    def connected(self) -> bool:
        """Whether somebody is at the other end."""
        return self._connected

    @connected.setter
    def connected(self, connected: bool) -> None:
        if connected != self._connected:
            self._connected = connected
            self.on_connection()

    @property
    def room(self) -> int:
        """Bytes that may be fed."""
        return PENDING - len(self._waiting)

    def feed(self, data: bytes) -> None:
        """Bytes for the guest; those beyond `room` are dropped."""
        if self.gate is not None:
            self.gate(data)
        else:
            self.deliver(data)

    def deliver(self, data: bytes) -> None:
        """`feed`, past the gate."""
        self._waiting += data[: self.room]
        self.on_input()

    @property
    def available(self) -> int:
        """Bytes that wait."""
        return len(self._waiting)

    def take(self, most: int) -> bytes:
        """At most `most` of the bytes that wait."""
        data = bytes(self._waiting[:most])
        if data:
            del self._waiting[: len(data)]
            self.on_room()
        return data

    @property
    def waiting(self) -> bytes:
        """The bytes that wait, for a snapshot."""
        return bytes(self._waiting)

    @waiting.setter
    def waiting(self, data: bytes) -> None:
        self._waiting[:] = data[:PENDING]
