"""Where servers listen: ``unix:PATH``, ``tcp:HOST:PORT``, a bare path or a bare port; options of QEMU's that
follow a comma are taken (``server``, ``nowait``, ``wait=off``).
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.errors import IsagenError

LOCAL: Final = "127.0.0.1"
"""Servers listen here if no host is named: whoever connects has the machine in hand."""
IGNORED: Final = frozenset({"server", "server=on", "nodelay", "nodelay=on", "telnet=off", "mode=control"})
WAIT: Final = {"wait": True, "wait=on": True, "nowait": False, "wait=off": False}


@dataclass(frozen=True, slots=True)
class Address:
    """A path of a Unix socket, or a host and TCP port. `wait`: the machine starts when somebody has come."""

    path: str | None = None
    host: str = LOCAL
    port: int = 0
    wait: bool = False

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path is not None else f"tcp:{self.host}:{self.port}"

    def listen(self) -> socket.socket:
        """A socket that listens here. Raises IsagenError."""
        try:
            if self.path is None:
                family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
                return socket.create_server((self.host, self.port), family=family)
            listener = socket.socket(socket.AF_UNIX)
            try:
                self._forget_dead()
                listener.bind(self.path)
                listener.listen()
            except BaseException:
                listener.close()
                raise
            return listener
        except (OSError, OverflowError) as error:
            raise IsagenError(f"can't listen: {_reason(error)}", where=str(self)) from error

    def release(self) -> None:
        """What listened here doesn't any more."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                Path(self.path).unlink()

    def _forget_dead(self) -> None:
        """Remove a socket that a server left behind which isn't there any more."""
        assert self.path is not None
        try:
            if not stat.S_ISSOCK(Path(self.path).stat().st_mode):
                return
        except OSError:
            return
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.path)
            except ConnectionRefusedError:
                with contextlib.suppress(OSError):
                    Path(self.path).unlink()
            except OSError:
                return

    def connect(self, timeout: float | None = None) -> socket.socket:
        """A socket that is connected to the server here. Raises IsagenError."""
        try:
            if self.path is None:
                return socket.create_connection((self.host, self.port), timeout)
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(timeout)
            try:
                peer.connect(self.path)
            except BaseException:
                peer.close()
                raise
            return peer
        except (OSError, OverflowError) as error:
            raise IsagenError(f"can't connect: {_reason(error)}", where=str(self)) from error


def _reason(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number is not None and number > 0 else str(error)


def parse(text: str) -> Address:
    """An address as users write it. Raises IsagenError."""
    place, *options = text.split(",")
    wait = False
    for option in options:
        if option in WAIT:
            wait = WAIT[option]
        elif option not in IGNORED:
            raise IsagenError(f"an address has no option {option!r}", where=text)
    kind, colon, rest = place.partition(":")
    if kind == "unix" and colon:
        return _unix(rest, wait, text)
    if kind in ("tcp", "telnet") and colon:
        place = rest
    elif not place.isdigit() and ("/" in place or not colon):
        return _unix(place, wait, text)
    host, _, port = place.rpartition(":")
    if not port.isdecimal() or not port.isascii() or int(port) > 0xFFFF:
        raise IsagenError(
            "no address of a server", where=text, remedy="write unix:PATH, tcp:HOST:PORT or a port"
        )
    return Address(host=host.removeprefix("[").removesuffix("]") or LOCAL, port=int(port), wait=wait)


def _unix(path: str, wait: bool, text: str) -> Address:
    if not path:
        raise IsagenError("no address of a server: the path is empty", where=text)
    if len(os.fsencode(path)) > 107:  # sockaddr_un.sun_path (unix(7))
        raise IsagenError("a path of a Unix socket has at most 107 bytes", where=text)
    return Address(path=path, wait=wait)
