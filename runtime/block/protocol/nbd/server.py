"""An NBD server: block nodes as exports, over a Unix socket or TCP, TLS where asked for.

Each connection has a thread, and handles a request at a time in pieces of at most `PIECE` bytes, so a client
costs little memory whatever it asks for. Clients are strangers: handshakes have a deadline, connections a
number, and what isn't NBD ends the connection.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runtime.block.errors import ImageError, ImageIOError, ImageNotFound, ImageReadOnly
from runtime.block.node import Extent, ExtentKind, Node
from runtime.block.protocol.nbd import wire
from runtime.block.protocol.nbd.wire import (
    Chunk,
    Command,
    CommandFlag,
    HandshakeFlag,
    Info,
    Option,
    Reply,
    State,
    TransmissionFlag,
)
from runtime.records import field, record

PIECE = 1 << 20
"""Bytes that are read or written at a time."""
MAXIMUM_CONNECTIONS = 64
HANDSHAKE_SECONDS = 20.0
SEND_SECONDS = 60
MAXIMUM_EXTENTS = 2048
"""Extents in one answer; clients ask again for the rest."""

_MAXIMUM_OPTION = 64 << 10
_CONTEXTS = (wire.BASE_ALLOCATION, wire.ALLOCATION_DEPTH)

log = logging.getLogger(__name__)


@record(frozen=True)
class Export:
    """A node that clients may open by `name`. Writable if the node is and `read_only` isn't set."""

    name: str
    node: Node
    description: str = ""
    read_only: bool = False

    @property
    def is_read_only(self) -> bool:
        return self.read_only or self.node.read_only

    @property
    def flags(self) -> TransmissionFlag:
        flag = TransmissionFlag
        flags = flag.HAS_FLAGS | flag.SEND_FLUSH | flag.SEND_DF | flag.CAN_MULTI_CONN | flag.SEND_CACHE
        if self.is_read_only:
            return flags | flag.READ_ONLY
        return flags | flag.SEND_FUA | flag.SEND_TRIM | flag.SEND_WRITE_ZEROES


class Server:
    """Serves `exports` to everybody who connects to `listener`.

    ``with Server(...) as server: server.serve_forever()``, or `start` for a thread of its own. `tls` makes
    TLS compulsory. Nodes aren't closed.
    """

    def __init__(
        self,
        exports: Iterable[Export],
        listener: socket.socket,
        *,
        tls: ssl.SSLContext | None = None,
        maximum_connections: int = MAXIMUM_CONNECTIONS,
        until_idle: bool = False,
    ) -> None:
        self.exports: Mapping[str, Export] = {export.name: export for export in exports}
        self.listener = listener
        self.tls = tls
        self._maximum = maximum_connections
        self._until_idle = until_idle
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def start(self) -> threading.Thread:
        """Serve in a thread until `close`."""
        thread = threading.Thread(target=self.serve_forever, name="nbd server", daemon=True)
        thread.start()
        return thread

    def serve_forever(self) -> None:
        """Accept connections until `close` (or, with `until_idle`, until the last client leaves)."""
        while not self._closed:
            try:
                stream, _ = self.listener.accept()
            except OSError as error:
                if self._closed or error.errno in (errno.EBADF, errno.EINVAL):
                    return
                # For instance no file descriptors left: wait for clients to leave.
                log.warning("accept: %s", error)
                time.sleep(0.1)
                continue
            with self._lock:
                full = self._closed or len(self._sockets) >= self._maximum
                if not full:
                    self._sockets.add(stream)
            if full:
                log.warning("connection refused: %d are open", self._maximum)
                stream.close()
                continue
            thread = threading.Thread(target=self._serve, args=(stream,), name="nbd client", daemon=True)
            with self._lock:
                self._threads.add(thread)
            thread.start()

    def _serve(self, stream: socket.socket) -> None:
        opened = False
        try:
            if stream.family != socket.AF_UNIX:
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            handshake = _Handshake(self, stream)
            session = handshake.run()
            if handshake.stream is not stream:
                with self._lock:
                    self._sockets.discard(stream)
                    self._sockets.add(handshake.stream)
                stream = handshake.stream
            if session is not None:
                opened = True
                _Transmission(stream, session).run()
        except (OSError, ssl.SSLError, wire.Disconnected, _Refused) as error:
            log.info("client: %s", error)
        finally:
            with self._lock:
                # In this order: a client that sees its connection's end finds room for the next one.
                self._sockets.discard(stream)
                with contextlib.suppress(OSError):
                    stream.close()
                self._threads.discard(threading.current_thread())
                idle = not self._sockets
            if opened and idle and self._until_idle:
                self.close()

    def close(self) -> None:
        """Stop listening, drop all clients, wait until their requests are done. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            sockets, threads = list(self._sockets), list(self._threads)
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for stream in sockets:
            with contextlib.suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(timeout=30)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def listen_unix(path: str | Path) -> socket.socket:
    """A listening Unix socket at `path`; one that nobody listens on any more is replaced."""
    name = str(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        try:
            listener.bind(name)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_abandoned(name):
                raise
            Path(name).unlink()
            listener.bind(name)
        listener.listen(16)
    except OSError as error:
        listener.close()
        raise ImageIOError(
            f"can't listen: {error.strerror or error}", errno=error.errno or errno.EIO, where=name
        ) from None
    return listener


def _is_abandoned(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def listen_tcp(host: str, port: int) -> socket.socket:
    """A listening TCP socket; `port` 0 takes a free one."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ImageIOError(
            f"can't listen: {error.strerror or error}", errno=error.errno or errno.EIO, where=f"{host}:{port}"
        ) from None


class _Refused(Exception):
    """The client doesn't speak NBD, or what it wants ends the connection."""


@record
class _Session:
    """What a handshake agreed on."""

    export: Export
    structured: bool = False
    contexts: list[str] = field(default_factory=list)


class _Handshake:
    """Fixed newstyle negotiation with one client."""

    def __init__(self, server: Server, stream: socket.socket) -> None:
        self.stream = stream
        self._server = server
        self._deadline = time.monotonic() + HANDSHAKE_SECONDS
        self._structured = False
        self._contexts: list[str] = []
        self._contexts_of = ""
        self._secure = False
        self._zeroes = True

    def run(self) -> _Session | None:
        """The session, None if the client leaves."""
        self.stream.settimeout(HANDSHAKE_SECONDS)
        ours = HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES
        self.stream.sendall(wire.MAGIC + wire.OPTION_MAGIC + wire.U16.pack(ours))
        (flags,) = wire.U32.unpack(wire.receive(self.stream, 4))
        if flags & ~ours:
            raise _Refused(f"unknown handshake flags {flags:#x}")
        self._zeroes = not flags & HandshakeFlag.NO_ZEROES
        while time.monotonic() < self._deadline:
            magic, option, length = wire.OPTION.unpack(wire.receive(self.stream, wire.OPTION.size))
            if magic != wire.OPTION_MAGIC:
                raise _Refused("no option where one should be")
            if length > _MAXIMUM_OPTION:
                raise _Refused(f"an option of {length} bytes")
            data = bytes(wire.receive(self.stream, length))
            if option == Option.ABORT:
                self._reply(option, Reply.ACK)
                return None
            session = self._handle(option, data)
            if session is not None:
                return session
        raise _Refused("the handshake takes too long")

    def _handle(self, option: int, data: bytes) -> _Session | None:
        if self._server.tls is not None and not self._secure and option != Option.STARTTLS:
            if option == Option.EXPORT_NAME:
                raise _Refused("TLS is compulsory")
            self._reply(option, Reply.ERR_TLS_REQD, b"this server wants TLS")
        elif option == Option.EXPORT_NAME:
            return self._export_name(data)
        elif option in (Option.INFO, Option.GO):
            return self._info(option, data)
        elif option == Option.LIST:
            self._list(data)
        elif option == Option.STARTTLS:
            self._start_tls(data)
        elif option == Option.STRUCTURED_REPLY:
            if data:
                self._reply(option, Reply.ERR_INVALID)
            else:
                self._structured = True
                self._reply(option, Reply.ACK)
        elif option in (Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT):
            self._meta_context(option, data)
        else:
            self._reply(option, Reply.ERR_UNSUP)
        return None

    def _find(self, name: str) -> Export | None:
        """The export of that name; "" is the only one where there is one."""
        exports = self._server.exports
        if name not in exports and not name and len(exports) == 1:
            return next(iter(exports.values()))
        return exports.get(name)

    def _session(self, export: Export) -> _Session:
        contexts = self._contexts if self._contexts_of == export.name else []
        return _Session(export, self._structured, contexts)

    def _export_name(self, data: bytes) -> _Session:
        export = self._find(data.decode("utf-8", "replace"))
        if export is None:
            raise _Refused("no such export")
        answer = wire.EXPORT.pack(export.node.length(), export.flags)
        self.stream.sendall(answer + (bytes(124) if self._zeroes else b""))
        return self._session(export)

    def _info(self, option: int, data: bytes) -> _Session | None:
        try:
            (length,) = wire.U32.unpack_from(data)
            name = data[4 : 4 + length].decode()
            (count,) = wire.U16.unpack_from(data, 4 + length)
            wanted = struct.unpack_from(f">{count}H", data, 6 + length)
            if len(data) != 6 + length + 2 * count or length > wire.MAXIMUM_STRING:
                raise ValueError
        except (struct.error, ValueError):
            self._reply(option, Reply.ERR_INVALID)
            return None
        export = self._find(name)
        if export is None:
            self._reply(option, Reply.ERR_UNKNOWN, b"no export has this name")
            return None
        if Info.NAME in wanted:
            self._reply(option, Reply.INFO, wire.U16.pack(Info.NAME) + export.name.encode())
        if Info.DESCRIPTION in wanted and export.description:
            self._reply(option, Reply.INFO, wire.U16.pack(Info.DESCRIPTION) + export.description.encode())
        sizes = wire.BLOCK_SIZES.pack(Info.BLOCK_SIZE, 1, 65536, wire.MAXIMUM_PAYLOAD)
        self._reply(option, Reply.INFO, sizes)
        size = wire.EXPORT.pack(export.node.length(), export.flags)
        self._reply(option, Reply.INFO, wire.U16.pack(Info.EXPORT) + size)
        self._reply(option, Reply.ACK)
        return self._session(export) if option == Option.GO else None

    def _list(self, data: bytes) -> None:
        if data:
            self._reply(Option.LIST, Reply.ERR_INVALID)
            return
        for export in self._server.exports.values():
            name = export.name.encode()
            self._reply(
                Option.LIST, Reply.SERVER, wire.U32.pack(len(name)) + name + export.description.encode()
            )
        self._reply(Option.LIST, Reply.ACK)

    def _start_tls(self, data: bytes) -> None:
        if data or self._secure:
            self._reply(Option.STARTTLS, Reply.ERR_INVALID)
            return
        if self._server.tls is None:
            self._reply(Option.STARTTLS, Reply.ERR_POLICY, b"this server has no certificate")
            return
        self._reply(Option.STARTTLS, Reply.ACK)
        self.stream = self._server.tls.wrap_socket(self.stream, server_side=True)
        self._secure = True
        # What was agreed in the clear doesn't count.
        self._structured, self._contexts, self._contexts_of = False, [], ""

    def _meta_context(self, option: int, data: bytes) -> None:
        try:
            name, queries = _parse_queries(data)
        except (struct.error, ValueError):
            self._reply(option, Reply.ERR_INVALID)
            return
        export = self._find(name)
        if export is None:
            self._reply(option, Reply.ERR_UNKNOWN, b"no export has this name")
            return
        if not self._structured:
            self._reply(option, Reply.ERR_INVALID, b"structured replies come first")
            return
        listing = option == Option.LIST_META_CONTEXT
        chosen = [
            context
            for context in _CONTEXTS
            if any(
                query == context or (listing and query == context.partition(":")[0] + ":")
                for query in queries
            )
            or (listing and not queries)
        ]
        for context in chosen:
            number = 0 if listing else _CONTEXTS.index(context)
            self._reply(option, Reply.META_CONTEXT, wire.U32.pack(number) + context.encode())
        if not listing:
            self._contexts, self._contexts_of = chosen, export.name
        self._reply(option, Reply.ACK)

    def _reply(self, option: int, kind: Reply, data: bytes = b"") -> None:
        self.stream.sendall(wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, option, kind, len(data)) + data)


def _parse_queries(data: bytes) -> tuple[str, list[str]]:
    """The export's name and the queries of a meta context option. Raises struct.error, ValueError."""
    (length,) = wire.U32.unpack_from(data)
    name = data[4 : 4 + length].decode()
    (count,) = wire.U32.unpack_from(data, 4 + length)
    at = 8 + length
    queries = []
    for _ in range(count):
        (size,) = wire.U32.unpack_from(data, at)
        if at + 4 + size > len(data):
            raise ValueError
        queries.append(data[at + 4 : at + 4 + size].decode())
        at += 4 + size
    if at != len(data):
        raise ValueError
    return name, queries


class _Transmission:
    """Requests of one client, one after the other."""

    def __init__(self, stream: socket.socket, session: _Session) -> None:
        self._stream = stream
        self._export = session.export
        self._node = session.export.node
        self._structured = session.structured
        self._contexts = session.contexts
        self._buffer = bytearray()
        stream.settimeout(None)
        # A client that doesn't take its replies mustn't hold the thread forever; an idle one may.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        self._requests: Any = stream.makefile("rb", 128 << 10)

    def run(self) -> None:
        """Until the client disconnects. Raises `_Refused` for what isn't a request."""
        while True:
            head = self._requests.read(wire.REQUEST.size)
            if len(head) < wire.REQUEST.size:
                return
            magic, flags, command, cookie, offset, size = wire.REQUEST.unpack(head)
            if magic != wire.REQUEST_MAGIC:
                raise _Refused("no request where one should be")
            if command == Command.DISC:
                return
            if command in (Command.READ, Command.WRITE) and size > wire.MAXIMUM_PAYLOAD:
                raise _Refused(f"a request of {size} bytes")
            if command == Command.READ:
                self._read(cookie, flags, offset, size)
            elif command == Command.WRITE:
                self._write(cookie, flags, offset, size)
            elif command == Command.BLOCK_STATUS:
                self._block_status(cookie, flags, offset, size)
            else:
                self._answer(cookie, self._perform(command, flags, offset, size))

    def _view(self, size: int) -> memoryview:
        """A buffer of `size` (at most PIECE) bytes, the same each time."""
        if len(self._buffer) < size:
            self._buffer = bytearray(min(max(size, 65536), PIECE))
        return memoryview(self._buffer)[:size]

    def _read(self, cookie: int, flags: int, offset: int, size: int) -> None:
        if flags & ~CommandFlag.DF or offset + size > self._node.length():
            self._answer(cookie, errno.EINVAL)
            return
        whole = not self._structured or bool(flags & CommandFlag.DF)
        done = 0
        while done < size or not done:
            view = self._view(min(size - done, PIECE))
            try:
                self._node.read_into(offset + done, view)
            except ImageError as error:
                if whole and done:
                    raise _Refused(f"reading failed in the middle of a reply: {error}") from None
                self._answer(cookie, _number(error), str(error))
                return
            head = self._head(cookie, offset, done, size, len(view), whole)
            if len(view) <= 65536:
                self._stream.sendall(head + view)
            else:
                self._stream.sendall(head)
                self._stream.sendall(view)
            done += len(view)
            if not size:
                return

    def _head(self, cookie: int, offset: int, done: int, size: int, part: int, whole: bool) -> bytes:
        """What stands before a piece of data in the reply to a read."""
        if whole and done:
            return b""
        if not self._structured:
            return wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, 0, cookie)
        if not size:
            return wire.STRUCTURED_REPLY.pack(
                wire.STRUCTURED_REPLY_MAGIC, wire.CHUNK_DONE, Chunk.NONE, cookie, 0
            )
        length = size if whole else part
        last = wire.CHUNK_DONE if done + length == size else 0
        return wire.STRUCTURED_REPLY.pack(
            wire.STRUCTURED_REPLY_MAGIC, last, Chunk.OFFSET_DATA, cookie, 8 + length
        ) + wire.U64.pack(offset + done)

    def _write(self, cookie: int, flags: int, offset: int, size: int) -> None:
        error = 0
        if self._export.is_read_only:
            error = errno.EPERM
        elif flags & ~CommandFlag.FUA:
            error = errno.EINVAL
        elif offset + size > self._node.length():
            error = errno.ENOSPC
        message = ""
        done = 0
        while done < size:
            view = self._view(min(size - done, PIECE))
            if self._requests.readinto(view) != len(view):
                raise wire.Disconnected
            if not error:
                try:
                    self._node.pwrite(offset + done, view)
                except ImageError as failure:
                    error, message = _number(failure), str(failure)
            done += len(view)
        if not error and flags & CommandFlag.FUA:
            error = self._perform(Command.FLUSH, 0, 0, 0)
        self._answer(cookie, error, message)

    def _perform(self, command: int, flags: int, offset: int, size: int) -> int:
        """A request without data; its error number or 0."""
        node = self._node
        allowed = {
            Command.FLUSH: 0,
            Command.CACHE: 0,
            Command.TRIM: CommandFlag.FUA,
            Command.WRITE_ZEROES: CommandFlag.FUA | CommandFlag.NO_HOLE,
        }.get(command)  # type: ignore[call-overload]
        if allowed is None or flags & ~allowed:
            return errno.EINVAL
        changes = command in (Command.TRIM, Command.WRITE_ZEROES)
        if changes and self._export.is_read_only:
            return errno.EPERM
        if command != Command.FLUSH and offset + size > node.length():
            return errno.ENOSPC if command == Command.WRITE_ZEROES else errno.EINVAL
        try:
            if command == Command.TRIM:
                node.discard(offset, size)
            elif command == Command.WRITE_ZEROES:
                node.write_zeroes(offset, size, unmap=not flags & CommandFlag.NO_HOLE)
            if (command == Command.FLUSH and not node.read_only) or (changes and flags & CommandFlag.FUA):
                node.flush()
        except ImageError as error:
            log.warning("%s: %s", self._export.name, error)
            return _number(error)
        return 0

    def _block_status(self, cookie: int, flags: int, offset: int, size: int) -> None:
        if (
            not self._contexts
            or not size
            or flags & ~CommandFlag.REQ_ONE
            or offset + size > self._node.length()
        ):
            self._answer(cookie, errno.EINVAL)
            return
        limit = 1 if flags & CommandFlag.REQ_ONE else MAXIMUM_EXTENTS
        for context in self._contexts:
            try:
                extents = list(_merged(self._node.extents(offset, size), context, limit))
            except ImageError as error:
                self._answer(cookie, _number(error), str(error))
                return
            data = wire.U32.pack(_CONTEXTS.index(context))
            data += b"".join(wire.EXTENT.pack(length, state) for length, state in extents)
            last = wire.CHUNK_DONE if context == self._contexts[-1] else 0
            self._stream.sendall(
                wire.STRUCTURED_REPLY.pack(
                    wire.STRUCTURED_REPLY_MAGIC, last, Chunk.BLOCK_STATUS, cookie, len(data)
                )
                + data
            )

    def _answer(self, cookie: int, error: int, message: str = "") -> None:
        """A reply without data."""
        if not self._structured:
            self._stream.sendall(wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, error, cookie))
            return
        kind, data = Chunk.NONE, b""
        if error:
            text = message.encode()[: wire.MAXIMUM_STRING]
            kind, data = Chunk.ERROR, wire.U32.pack(error) + wire.U16.pack(len(text)) + text
        self._stream.sendall(
            wire.STRUCTURED_REPLY.pack(wire.STRUCTURED_REPLY_MAGIC, wire.CHUNK_DONE, kind, cookie, len(data))
            + data
        )


def _state(extent: Extent, context: str) -> int:
    """An extent's flags, or depth, in a meta context."""
    if context == wire.ALLOCATION_DEPTH:
        return 0 if extent.kind is ExtentKind.HOLE else extent.depth + 1
    return 0 if extent.kind is ExtentKind.DATA else State.HOLE | State.ZERO


def _merged(extents: Iterable[Extent], context: str, limit: int) -> Iterator[tuple[int, int]]:
    """At most `limit` lengths with their states; neighbours of one state are one."""
    length, state, count = 0, 0, 0
    for extent in extents:
        current = _state(extent, context)
        if length and current != state:
            yield length, state
            count += 1
            length = 0
            if count == limit:
                return
        state = current
        length += extent.length
    if length:
        yield length, state


def _number(error: ImageError) -> int:
    """The error number that a client gets."""
    if isinstance(error, ImageReadOnly):
        return errno.EPERM
    if isinstance(error, ImageNotFound):
        return errno.EINVAL
    number = error.errno if isinstance(error, ImageIOError) else errno.EIO
    return number if number in wire.ERRORS else errno.EIO


__all__ = ["Export", "Server", "listen_tcp", "listen_unix"]
