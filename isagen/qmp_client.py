"""A client of QMP, for the command line and for scripts."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from functools import cached_property
from types import TracebackType
from typing import Any, Final

from runtime.errors import IsagenError
from runtime.monitor.address import parse

LONGEST: Final = 64 << 20
"""Bytes of an answer."""


class CommandFailed(IsagenError):
    """The machine couldn't do a command. `kind`: the error's class."""

    def __init__(self, what: str, kind: str) -> None:
        super().__init__(what)
        self.kind = kind


class QmpClient:
    """Connects to the server at `address` and negotiates. `timeout`: seconds that an answer may take."""

    def __init__(self, address: str, timeout: float | None = 60.0) -> None:
        self._address = address
        self._timeout = timeout
        self._socket = parse(address).connect(timeout)
        self._data = bytearray()
        self._events: deque[dict[str, Any]] = deque()
        self._number = 0
        try:
            self.greeting = self._receive(self._end())
            if "QMP" not in self.greeting:
                raise IsagenError("no QMP server", where=address)
            self.execute("qmp_capabilities")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> QmpClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        return self._socket.fileno() >= 0

    def close(self) -> None:
        """End the connection. May be called again."""
        self._socket.close()

    @cached_property
    def commands(self) -> frozenset[str]:
        """Names of the server's commands."""
        return frozenset(row["name"] for row in self.execute("query-commands"))

    def _end(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """What a command returns. Raises CommandFailed, and IsagenError where the connection fails."""
        self._number += 1
        request: dict[str, Any] = {"execute": command, "id": self._number}
        if arguments:
            request["arguments"] = arguments
        self._send(json.dumps(request).encode() + b"\n")
        end = self._end()
        while True:
            message = self._receive(end)
            if "event" in message:
                self._events.append(message)
            elif "error" in message:
                error = message["error"]
                raise CommandFailed(str(error.get("desc")), str(error.get("class")))
            elif message.get("id") == self._number:
                return message.get("return")

    def events(self) -> Iterator[dict[str, Any]]:
        """The events that came meanwhile."""
        while self._events:
            yield self._events.popleft()

    def listen(self) -> Iterator[dict[str, Any]]:
        """All events, until the server goes away."""
        yield from self.events()
        while True:
            try:
                message = self._receive(None)
            except IsagenError:
                return
            if "event" in message:
                yield message

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: Exception | None = None) -> None:
        self.close()
        reason = f": {error}" if error is not None else ""
        raise IsagenError(f"the machine has closed the connection{reason}", where=self._address)

    def _receive(self, end: float | None) -> dict[str, Any]:
        """The next message. Raises IsagenError."""
        while (line := self._data.find(b"\n")) < 0:
            if len(self._data) > LONGEST:
                self.close()
                raise IsagenError(f"an answer of more than {LONGEST} bytes", where=self._address)
            try:
                left = None if end is None else max(0.001, end - time.monotonic())
                self._socket.settimeout(left)
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                self.close()
                raise IsagenError("no answer in time", where=self._address) from None
            except OSError as error:
                self._fail(error)
            if not data:
                self._fail()
            self._data += data
        text = bytes(self._data[:line])
        del self._data[: line + 1]
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            self.close()
            raise IsagenError("the server doesn't speak QMP", where=self._address)
        return found
