"""Where a serial port or a console's port leads to: a socket, a pseudo-terminal, a file, or nowhere."""

from __future__ import annotations

import contextlib
import os
import selectors
import tty
from pathlib import Path
from typing import Final, Protocol

from runtime.devices.backends.address import Address
from runtime.devices.backends.stream import Peer, Stream, unusable
from runtime.devices.character import Character

KEPT: Final = 1 << 16
"""Bytes of output that are kept for the first who connects."""
FORMS: Final = (
    "none, pty, file:PATH, unix:PATH or tcp:HOST:PORT (with ,server to listen, ,wait to wait for a peer)"
)


class Connector(Protocol):
    """Connects a port. `description` is what the user should know, or empty."""

    description: str

    def start(self, character: Character, selector: selectors.BaseSelector) -> None: ...

    def close(self) -> None: ...


class Nowhere:
    """Output is dropped."""

    description = ""

    def start(self, character: Character, selector: selectors.BaseSelector) -> None:
        character.connected = False

    def close(self) -> None:
        pass


class File:
    """Output goes to a file, which is emptied first."""

    description = ""

    def __init__(self, path: str) -> None:
        try:
            self._file = Path(path).open("wb", buffering=0)  # noqa: SIM115 - for as long as the machine
        except OSError as error:
            raise unusable("can't be written", path, error) from error

    def start(self, character: Character, selector: selectors.BaseSelector) -> None:
        character.output = self._write

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the disk is full: the guest goes on
            self._file.write(data)

    def close(self) -> None:
        self._file.close()


class Pty:
    """A pseudo-terminal of the host."""

    def __init__(self) -> None:
        try:
            self._ours, self._theirs = os.openpty()
            tty.setraw(self._theirs)
        except OSError as error:
            raise unusable("no pseudo-terminal", "pty", error) from error
        os.set_blocking(self._ours, False)
        self.path = os.ttyname(self._theirs)
        self.description = f"at {self.path}"
        self._stream: Stream | None = None

    def start(self, character: Character, selector: selectors.BaseSelector) -> None:
        stream = Stream(selector, self._ours, character.feed, lambda: None, lambda: character.room)
        self._stream = stream
        character.output = lambda data: _sent(stream.send(data))
        character.on_room = stream.resume

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        os.close(self._ours)
        os.close(self._theirs)


class Socket:
    """A socket. What the guest sends before somebody is there is kept for the first who comes."""

    def __init__(self, address: Address, *, listen: bool, wait: bool = False) -> None:
        self._peer = Peer(address, listen=listen)
        self._kept: bytearray | None = bytearray()
        self._wait = wait
        at = f"tcp:{address.host}:{self._peer.port}" if address.host else str(address)
        self.description = f"listens at {at}" if listen else ""

    def start(self, character: Character, selector: selectors.BaseSelector) -> None:
        if self._wait:
            self._peer.wait()

        def changed() -> None:
            stream = self._peer.stream
            if stream is not None and self._kept is not None:
                stream.send(bytes(self._kept))
                self._kept = None
            character.connected = stream is not None

        def output(data: bytes) -> None:
            if self._peer.stream is not None:
                self._peer.stream.send(data)
            elif self._kept is not None and len(self._kept) + len(data) <= KEPT:
                self._kept += data

        character.output = output
        character.connected = False
        self._peer.on_data = character.feed
        self._peer.on_change = changed
        self._peer.room = lambda: character.room
        character.on_room = self._peer.resume
        self._peer.start(selector)

    def close(self) -> None:
        self._peer.close()


def _sent(done: bool) -> None:
    """Terminals that nobody reads lose output."""


def connector(text: str) -> Connector:
    """What a text says (`FORMS`), opened. Raises IsagenError where it can't be, and ValueError for a text
    that says nothing.
    """
    kind, _, rest = text.partition(":")
    if text == "none":
        return Nowhere()
    if text == "pty":
        return Pty()
    if kind == "file" and rest:
        return File(rest)
    address, listen, wait = socket_form(text)
    return Socket(address, listen=listen, wait=wait)


def socket_form(text: str) -> tuple[Address, bool, bool]:
    """``unix:/tmp/s,server,wait`` as an address, whether to listen, and whether to wait. QEMU's ``server=on``
    and ``nowait`` are understood. Raises ValueError.
    """
    place, *options = text.split(",")
    chosen = {"server": False, "wait": False}
    for option in options:
        name, equals, value = option.partition("=")
        name, value = ("wait", "off") if option == "nowait" else (name, value if equals else "on")
        if name not in chosen or value not in ("on", "off"):
            raise ValueError(f"{option!r} is no option of a socket: take server or wait")
        chosen[name] = value == "on"
    if chosen["wait"] and not chosen["server"]:
        raise ValueError("only a server can wait for a peer")
    if place.partition(":")[0] not in ("unix", "tcp"):
        raise ValueError(f"{text!r} is nothing to connect a port to: take {FORMS}")
    return Address.parse(place), chosen["server"], chosen["wait"]
