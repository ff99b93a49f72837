"""Addresses of streams: ``unix:PATH`` or ``tcp:HOST:PORT`` (``HOST:PORT`` is the same)."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.errors import IsagenError

FORMS: Final = "take unix:PATH or tcp:HOST:PORT"
LOCAL: Final = "127.0.0.1"
LONGEST_UNIX_PATH: Final = 107


@dataclass(frozen=True)
class Address:
    """A path, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises ValueError that says what is wrong."""
        kind, colon, rest = text.partition(":")
        if kind == "unix" and colon:
            if not rest or len(os.fsencode(rest)) > LONGEST_UNIX_PATH:
                raise ValueError(f"{rest!r} is no path of a socket: 1 to {LONGEST_UNIX_PATH} bytes")
            return cls(path=rest)
        host, colon, port = (rest if kind == "tcp" else text).rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"{text!r} is no address: {FORMS}")
        return cls(host=host.removeprefix("[").removesuffix("]") or LOCAL, port=int(port))

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"tcp:{self.host}:{self.port}"

    def connect(self) -> socket.socket:
        """A connection, which doesn't block from now on. Raises IsagenError."""
        try:
            if self.path:
                connection = socket.socket(socket.AF_UNIX)
                connection.connect(self.path)
            else:
                connection = socket.create_connection((self.host, self.port), timeout=10)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            what = f"can't be connected to: {(error.strerror or str(error)).lower()}"
            raise IsagenError(what, where=str(self), remedy="start what listens there first") from error
        connection.setblocking(False)
        return connection

    def listen(self) -> socket.socket:
        """A listening socket, which doesn't block. A socket that nobody listens on any more is replaced.
        Raises IsagenError.
        """
        try:
            if self.path:
                self._remove_stale()
                listening = socket.socket(socket.AF_UNIX)
                listening.bind(self.path)
            else:
                family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
                listening = socket.socket(family)
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind((self.host, self.port))
            listening.listen(1)
        except OSError as error:
            what = f"can't be listened on: {(error.strerror or str(error)).lower()}"
            raise IsagenError(what, where=str(self)) from error
        listening.setblocking(False)
        return listening

    def _remove_stale(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(Path(self.path).lstat().st_mode):
                return
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(self.path)
                except ConnectionRefusedError:
                    Path(self.path).unlink()

    def forget(self) -> None:
        """Remove what `listen` left in the file system."""
        if self.path:
            with contextlib.suppress(OSError):
                Path(self.path).unlink()
