"""Character backends: where a serial port's or console's bytes go, and where they come from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

PENDING: Final = 1 << 16
"""Most bytes that wait for a guest that doesn't read."""


class Character:
    """Two byte streams. `output` is called with what the guest sends; `feed` hands bytes to the guest.

    The device sets `on_input`, and takes bytes with `take` when it has room.
    """

    def __init__(self, output: Callable[[bytes], None] | None = None) -> None:
        self.output = output or (lambda data: None)
        self.on_input: Callable[[], None] = lambda: None
        self._waiting: deque[int] = deque()

    def send(self, data: bytes) -> None:
        """The guest sends bytes."""
        self.output(data)

    @property
    def room(self) -> int:
        """Bytes that may be fed."""
        return PENDING - len(self._waiting)

    def feed(self, data: bytes) -> None:
        """Bytes for the guest; those beyond `room` are dropped."""
        self._waiting.extend(data[: self.room])
        self.on_input()

    @property
    def available(self) -> int:
        """Bytes that wait."""
        return len(self._waiting)

    def take(self, most: int) -> bytes:
        """At most `most` of the bytes that wait."""
        return bytes(self._waiting.popleft() for _ in range(min(most, len(self._waiting))))
