"""A monitor for people: lines in, text out, a prompt between; over connections or on a terminal."""

from __future__ import annotations

import selectors
from collections.abc import Callable
from typing import Final

from runtime.monitor.address import Address
from runtime.monitor.link import Link, Listener

PROMPT: Final = "(isagen) "
LONGEST: Final = 8192
"""Bytes of a line; what is more of it is dropped."""

Execute = Callable[[str], str]
"""What a command's line prints."""


class LineSession:
    """Cuts bytes into lines, executes them, and sends what they print."""

    def __init__(self, execute: Execute, send: Callable[[bytes], None]) -> None:
        self._execute = execute
        self._send = send
        self._line = bytearray()

    def prompt(self) -> None:
        """Show that a command is waited for."""
        self._send(PROMPT.encode())

    def feed(self, data: bytes) -> None:
        """Bytes that were typed."""
        for piece in data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").splitlines(keepends=True):
            self._line += piece.rstrip(b"\n")[: LONGEST - len(self._line)]
            if piece.endswith(b"\n"):
                line = self._line.decode("utf-8", "replace")
                self._line.clear()
                text = self._execute(line)
                self._send(text.replace("\n", "\r\n").encode())
                self.prompt()


class LineServer:
    """Serves sessions at an address."""

    def __init__(
        self, address: Address, make: Callable[[], Execute], selector: selectors.BaseSelector, banner: str
    ) -> None:
        self._make = make
        self._banner = banner
        self.listener = Listener(address, selector, self._come)

    def _come(self, link: Link) -> None:
        session = LineSession(self._make(), link.send)
        link.received = session.feed
        link.send(self._banner.encode() + b"\r\n")
        session.prompt()

    def close(self) -> None:
        """End all sessions."""
        self.listener.close()
