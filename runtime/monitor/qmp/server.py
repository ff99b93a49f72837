"""Serves QMP clients beside a running machine: in its thread, between two slices of instructions."""

from __future__ import annotations

import selectors
import time
from typing import Any, Final

from runtime.monitor.address import Address
from runtime.monitor.link import Link, Listener
from runtime.monitor.qmp.messages import BadMessage, Splitter, decode, encode
from runtime.monitor.qmp.registry import QmpError, Registry

MEMBERS: Final = frozenset({"execute", "arguments", "id"})
NEGOTIATE: Final = "qmp_capabilities"
MICROSECONDS: Final = 1_000_000


class Client:
    """One connection: it negotiates, then it commands."""

    def __init__(self, registry: Registry, link: Link) -> None:
        self._registry = registry
        self._link = link
        self._splitter = Splitter()
        self.negotiated = False
        link.received = self._received

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, when the client reads."""
        self._link.send(encode(message))

    def _received(self, data: bytes) -> None:
        for message in self._splitter.feed(data):
            if not self._link.is_open:
                return
            self.send(self.answer(message))

    def answer(self, message: bytes | BadMessage) -> dict[str, Any]:
        """The response to one message."""
        identity: dict[str, Any] = {}
        try:
            if isinstance(message, BadMessage):
                raise QmpError(str(message))
            try:
                request = decode(message)
            except BadMessage as error:
                raise QmpError(str(error)) from None
            if "id" in request:
                identity = {"id": request["id"]}
            return {"return": self._execute(request), **identity}
        except QmpError as error:
            return {"error": {"class": error.kind, "desc": str(error)}, **identity}

    def _execute(self, request: dict[str, Any]) -> Any:
        for member in request:
            if member == "exec-oob":
                raise QmpError("out-of-band execution wasn't negotiated")
            if member not in MEMBERS:
                raise QmpError(f"a request has no member '{member}'")
        if "execute" not in request:
            raise QmpError("a request has a member 'execute'")
        name, arguments = request["execute"], request.get("arguments", {})
        if not isinstance(name, str):
            raise QmpError("the member 'execute' is a string")
        if not isinstance(arguments, dict):
            raise QmpError("the member 'arguments' is an object")
        if name == NEGOTIATE:
            return self._negotiate(arguments)
        if not self.negotiated:
            raise QmpError(f"capabilities are negotiated first, with '{NEGOTIATE}'", "CommandNotFound")
        return self._registry.execute(name, arguments)

    def _negotiate(self, arguments: dict[str, Any]) -> Any:
        if self.negotiated:
            raise QmpError("capabilities were negotiated already", "CommandNotFound")
        result = self._registry.execute(NEGOTIATE, arguments)
        self.negotiated = True
        return result


class QmpServer:
    """Listens at an address. Its callbacks are registered at `selector`; whoever runs that calls them.

    `version`: (major, minor, micro, package) for the greeting.
    """

    def __init__(
        self,
        address: Address,
        registry: Registry,
        selector: selectors.BaseSelector,
        version: tuple[int, int, int, str],
    ) -> None:
        self._registry = registry
        self._clients: set[Client] = set()
        major, minor, micro, package = version
        numbers = {"micro": micro, "minor": minor, "major": major}
        self._greeting = {"QMP": {"version": {"qemu": numbers, "package": package}, "capabilities": []}}
        self.listener = Listener(address, selector, self._come)

    def _come(self, link: Link) -> None:
        client = Client(self._registry, link)
        self._clients.add(client)
        link.closed = lambda: self._clients.discard(client)
        client.send(self._greeting)

    def event(self, name: str, data: dict[str, Any]) -> None:
        """Tell all clients that negotiated."""
        now = time.time_ns() // 1000
        stamp = {"seconds": now // MICROSECONDS, "microseconds": now % MICROSECONDS}
        message: dict[str, Any] = {"timestamp": stamp, "event": name}
        if data:
            message["data"] = data
        for client in tuple(self._clients):
            if client.negotiated:
                client.send(message)

    def close(self) -> None:
        """Dismiss all clients and stop listening."""
        self.listener.close()
