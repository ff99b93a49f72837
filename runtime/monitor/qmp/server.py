"""Serves QMP clients beside a running machine: in its thread, between two slices of instructions."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from typing import Any, Final

from runtime.monitor.address import Address
from runtime.monitor.qmp.messages import BadMessage, Splitter, decode, encode
from runtime.monitor.qmp.registry import QmpError, Registry

UNREAD: Final = 4 << 20
"""Bytes that wait for a client that doesn't read; one with more is dismissed."""
PIECE: Final = 1 << 16
MEMBERS: Final = frozenset({"execute", "arguments", "id"})
NEGOTIATE: Final = "qmp_capabilities"
MICROSECONDS: Final = 1_000_000


class Client:
    """One connection: it negotiates, then it commands."""

    def __init__(self, server: QmpServer, peer: socket.socket) -> None:
        self._server = server
        self._socket = peer
        self._splitter = Splitter()
        self._unsent = bytearray()
        self.negotiated = False
        peer.setblocking(False)
        self.send(server.greeting)

    def send(self, message: dict[str, Any]) -> None:
        """Send what can be sent now; the rest waits."""
        self._unsent += encode(message)
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
        self._server.watch(self._socket, self, writing=bool(self._unsent))

    def ready(self) -> None:
        """Something may be read or written."""
        self._flush()
        if self._socket.fileno() < 0 or len(self._unsent) > PIECE:
            return  # whoever doesn't read isn't listened to
        try:
            data = self._socket.recv(PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        for message in self._splitter.feed(data):
            if self._socket.fileno() < 0:
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
        return self._server.registry.execute(name, arguments)

    def _negotiate(self, arguments: dict[str, Any]) -> Any:
        if self.negotiated:
            raise QmpError("capabilities were negotiated already", "CommandNotFound")
        result = self._server.registry.execute(NEGOTIATE, arguments)
        self.negotiated = True
        return result

    def close(self) -> None:
        """Dismiss the client. What can be sent without waiting is sent."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.send(self._unsent)
        self._server.forget(self._socket, self)
        self._socket.close()


class QmpServer:
    """Listens at an address. `ready` callbacks are registered at `selector`; whoever runs it calls them.

    `version`: (major, minor, micro, package) for the greeting.
    """

    def __init__(
        self,
        address: Address,
        registry: Registry,
        selector: selectors.BaseSelector,
        version: tuple[int, int, int, str],
    ) -> None:
        self.address = address
        self.registry = registry
        self._selector = selector
        self._clients: set[Client] = set()
        major, minor, micro, package = version
        numbers = {"micro": micro, "minor": minor, "major": major}
        self.greeting = {"QMP": {"version": {"qemu": numbers, "package": package}, "capabilities": []}}
        self._listener = address.listen()
        self.port: int = 0 if address.path is not None else self._listener.getsockname()[1]
        """The TCP port, chosen by the system where 0 was asked for."""
        self._listener.setblocking(False)
        selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def wait(self) -> None:
        """Wait for the first client."""
        self._listener.setblocking(True)
        self._take(self._listener.accept()[0])
        self._listener.setblocking(False)

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except OSError:
            return
        self._take(peer)

    def _take(self, peer: socket.socket) -> None:
        self._selector.register(peer, selectors.EVENT_READ, lambda: None)
        self._clients.add(Client(self, peer))

    def watch(self, peer: socket.socket, client: Client, *, writing: bool) -> None:
        """Have `client.ready` called when `peer` can be read, or written if there is something to write."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        key = self._selector.get_key(peer)
        if key.events != events or key.data != client.ready:
            self._selector.modify(peer, events, client.ready)

    def forget(self, peer: socket.socket, client: Client) -> None:
        """A client is gone."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(peer)
        self._clients.discard(client)

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
        for client in tuple(self._clients):
            client.close()
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._listener)
        self._listener.close()
        if self.address.path is not None:
            import os

            with contextlib.suppress(OSError):
                os.unlink(self.address.path)  # noqa: PTH108
