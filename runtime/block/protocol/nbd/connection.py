"""One connection to an NBD server: the handshake, then a request at a time.

Everything the server sends is checked: sizes, offsets, cookies and the order of chunks. Whatever doesn't fit
is an `ImageIOError` and ends the connection.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import NoReturn

from runtime.block.errors import ImageIOError, ImageNotFound
from runtime.block.protocol.nbd import wire
from runtime.block.protocol.nbd.uri import Address
from runtime.block.protocol.nbd.wire import Chunk, Command, Info, Option, Reply
from runtime.records import field, record

_TIMEOUT = 60.0
_MAXIMUM_CONTEXTS = 16
_MAXIMUM_EXPORTS = 10_000
# What an old-style server's flags are believed; they are 16 bits of other flags and 16 bits of these.
_OLD_STYLE_FLAGS = 0x1F


@record
class Export:
    """What the server tells of an export. Sizes in bytes."""

    name: str = ""
    size: int = 0
    flags: int = 0
    description: str = ""
    minimum_block: int = 1
    preferred_block: int = 4096
    maximum_block: int = wire.MAXIMUM_PAYLOAD
    contexts: dict[str, int] = field(default_factory=dict)


class Connection:
    """A connection in transmission phase (or, after `listing`, in the handshake). Not safe for threads."""

    def __init__(self, address: Address, *, tls: ssl.SSLContext | None = None, where: str = "") -> None:
        self._where = where or address.socket or f"{address.host}:{address.port}"
        self._cookie = 0
        self._structured = False
        self._zeroes = True
        self._socket = self._connect(address)
        try:
            self._flags = self._greet()
            if address.tls and self._flags is not None:
                self._start_tls(address, tls)
        except BaseException:
            self._socket.close()
            raise
        self.export = Export(name=address.export)

    def _connect(self, address: Address) -> socket.socket:
        try:
            if address.socket:
                stream = socket.socket(socket.AF_UNIX)
                stream.settimeout(_TIMEOUT)
                stream.connect(address.socket)
            else:
                stream = socket.create_connection((address.host, address.port), timeout=_TIMEOUT)
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise ImageIOError(
                f"no connection: {error.strerror or error}", errno=error.errno or errno.EIO, where=self._where
            ) from None
        return stream

    def close(self) -> None:
        """Tell the server, then close."""
        try:
            request = wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, Command.DISC, 0, 0, 0)
            self._socket.sendall(request)
        except OSError:
            pass
        self._socket.close()

    def abort(self) -> None:
        """Close without a word."""
        self._socket.close()

    # Handshake

    def _greet(self) -> wire.HandshakeFlag | None:
        """The server's handshake flags, None if it is an old-style server."""
        magic, kind = self._receive(8), self._receive(8)
        if magic != wire.MAGIC:
            self._refuse("this is no NBD server")
        if kind != wire.OPTION_MAGIC:
            if int.from_bytes(kind, "big") != wire.OLD_STYLE_MAGIC:
                self._refuse("the server speaks an unknown version of NBD")
            return None
        flags = wire.HandshakeFlag(wire.U16.unpack(self._receive(2))[0] & 3)
        self._zeroes = not flags & wire.HandshakeFlag.NO_ZEROES
        self._send(wire.U32.pack(flags))
        return flags

    def _start_tls(self, address: Address, context: ssl.SSLContext | None) -> None:
        self._option(Option.STARTTLS)
        replies = self._replies(Option.STARTTLS)
        if replies[-1][0] != Reply.ACK:
            self._refuse("the server offers no TLS")
        context = context or ssl.create_default_context()
        try:
            self._socket = context.wrap_socket(self._socket, server_hostname=address.host or None)
        except (OSError, ssl.SSLError) as error:
            raise ImageIOError(f"TLS failed: {error}", errno=errno.EPROTO, where=self._where) from None

    def listing(self) -> list[Export]:
        """The exports that the server names."""
        if self._flags is None:
            return [Export()]
        self._option(Option.LIST)
        exports = []
        for kind, data in self._replies(Option.LIST, _MAXIMUM_EXPORTS):
            if kind == Reply.SERVER:
                (length,) = wire.U32.unpack_from(data.ljust(4, b"\0"))
                name = data[4 : 4 + length]
                exports.append(
                    Export(
                        name.decode("utf-8", "replace"),
                        description=data[4 + length :].decode("utf-8", "replace"),
                    )
                )
            elif kind != Reply.ACK:
                self._refuse("the server doesn't list its exports")
        return exports

    def open(self) -> Export:
        """Go over to transmission of the address's export. Raises `ImageNotFound` if there is none."""
        export = self.export
        if self._flags is None:
            export.size, flags = wire.OLD_STYLE.unpack(self._receive(wire.OLD_STYLE.size))
            export.flags = flags & _OLD_STYLE_FLAGS
            return export
        self._option(Option.STRUCTURED_REPLY)
        self._structured = self._replies(Option.STRUCTURED_REPLY)[-1][0] == Reply.ACK
        if self._structured:
            self._choose_contexts()
        name = export.name.encode()
        self._option(
            Option.GO, wire.U32.pack(len(name)) + name + wire.U16.pack(1) + wire.U16.pack(Info.BLOCK_SIZE)
        )
        replies = self._replies(Option.GO)
        for kind, data in replies:
            if kind == Reply.INFO:
                self._note(data)
        last, message = replies[-1]
        if last == Reply.ERR_UNSUP:
            self._open_by_name(name)
        elif last == Reply.ERR_UNKNOWN:
            raise ImageNotFound(
                f"the server has no export {export.name!r}{_told(message)}", where=self._where
            )
        elif last == Reply.ERR_TLS_REQD:
            self._refuse("the server wants TLS", "use nbds:// or nbds+unix://")
        elif last != Reply.ACK:
            self._refuse(f"the server refuses the export{_told(message)}")
        if export.size >= 1 << 63:
            self._refuse(f"the server offers {export.size} bytes")
        return export

    def _open_by_name(self, name: bytes) -> None:
        self._option(Option.EXPORT_NAME, name)
        size, flags = wire.EXPORT.unpack(self._receive(wire.EXPORT.size))
        if self._zeroes:
            self._receive(124)
        self.export.size, self.export.flags = size, flags

    def _choose_contexts(self) -> None:
        name = self.export.name.encode()
        queries = [wire.BASE_ALLOCATION, wire.ALLOCATION_DEPTH]
        data = wire.U32.pack(len(name)) + name + wire.U32.pack(len(queries))
        for query in queries:
            data += wire.U32.pack(len(query)) + query.encode()
        self._option(Option.SET_META_CONTEXT, data)
        for kind, reply in self._replies(Option.SET_META_CONTEXT, _MAXIMUM_CONTEXTS):
            if kind == Reply.META_CONTEXT and len(reply) > 4:
                self.export.contexts[reply[4:].decode("utf-8", "replace")] = wire.U32.unpack_from(reply)[0]

    def _note(self, data: bytes) -> None:
        """Keep what a piece of information about the export says."""
        (kind,) = wire.U16.unpack_from(data.ljust(2, b"\0"))
        if kind == Info.EXPORT and len(data) == 12:
            size, flags = wire.EXPORT.unpack_from(data, 2)
            self.export.size, self.export.flags = size, flags
        elif kind == Info.BLOCK_SIZE and len(data) == wire.BLOCK_SIZES.size:
            _, least, preferred, most = wire.BLOCK_SIZES.unpack(data)
            if not 1 <= least <= 65536 or least & (least - 1) or most < least:
                self._refuse("the server's block sizes can't be")
            self.export.minimum_block, self.export.preferred_block = least, preferred
            self.export.maximum_block = min(most, wire.MAXIMUM_PAYLOAD) // least * least

    def _option(self, option: Option, data: bytes = b"") -> None:
        self._send(wire.OPTION.pack(wire.OPTION_MAGIC, option, len(data)) + data)

    def _replies(self, option: Option, limit: int = 64) -> list[tuple[int, bytes]]:
        """All replies to `option`, kind and data; the last is ACK or an error."""
        replies: list[tuple[int, bytes]] = []
        while len(replies) <= limit:
            magic, of, kind, length = wire.OPTION_REPLY.unpack(self._receive(wire.OPTION_REPLY.size))
            if magic != wire.OPTION_REPLY_MAGIC or of != option or length > 2 * wire.MAXIMUM_STRING + 64:
                self._refuse("the server's answer makes no sense")
            replies.append((kind, bytes(self._receive(length))))
            if kind == Reply.ACK or kind >= 0x8000_0000:
                return replies
        self._refuse("the server's answer has no end")

    # Transmission

    def read(self, offset: int, size: int) -> bytearray:
        """`size` bytes (at most `export.maximum_block`) from `offset`."""
        data = bytearray(size)
        self._request(Command.READ, offset, size)
        self._answer(offset, memoryview(data))
        return data

    def write(self, offset: int, data: bytes | memoryview, flags: int = 0) -> None:
        self._request(Command.WRITE, offset, len(data), flags, data)
        self._answer()

    def command(self, command: Command, offset: int = 0, size: int = 0, flags: int = 0) -> None:
        """A request without data either way: flush, trim, write zeroes."""
        self._request(command, offset, size, flags)
        self._answer()

    def status(self, offset: int, size: int, context: str) -> list[tuple[int, int]]:
        """Lengths and flags of extents from `offset` on, as `context` sees them; at least one."""
        self._request(Command.BLOCK_STATUS, offset, size)
        extents = self._answer(context=self.export.contexts[context])
        if not extents:
            self._refuse("the server names no extents")
        return extents

    def _request(
        self, command: Command, offset: int, size: int, flags: int = 0, data: bytes | memoryview = b""
    ) -> None:
        self._cookie += 1
        head = wire.REQUEST.pack(wire.REQUEST_MAGIC, flags, command, self._cookie, offset, size)
        if len(data) < 65536:
            self._send(head + bytes(data))
        else:
            self._send(head)
            self._send(data)

    def _answer(
        self, offset: int = 0, into: memoryview | None = None, context: int | None = None
    ) -> list[tuple[int, int]]:
        """The reply to the last request: data `into` a buffer that stands for `offset`, or extents."""
        extents: list[tuple[int, int]] = []
        missing = 0 if into is None else len(into)
        failure: tuple[int, str] | None = None
        while True:
            (magic,) = wire.U32.unpack(self._receive(4))
            if magic == wire.SIMPLE_REPLY_MAGIC:
                error, cookie = struct_simple(self._receive(12))
                self._check_cookie(cookie)
                if error:
                    self._fail(error, "")
                if context is not None:
                    self._refuse("the server answers block status without extents")
                if into is not None:
                    self._receive_into(into)
                return extents
            if magic != wire.STRUCTURED_REPLY_MAGIC or not self._structured:
                self._refuse("the server's reply makes no sense")
            head = wire.U32.pack(magic) + self._receive(wire.STRUCTURED_REPLY.size - 4)
            _, flags, kind, cookie, length = wire.STRUCTURED_REPLY.unpack(head)
            self._check_cookie(cookie)
            if kind == Chunk.OFFSET_DATA and into is not None and length > 8:
                (start,) = wire.U64.unpack(self._receive(8))
                self._receive_into(self._part(into, offset, start, length - 8))
                missing -= length - 8
            elif kind == Chunk.OFFSET_HOLE and into is not None and length == 12:
                start, size = wire.HOLE.unpack(self._receive(12))
                part = self._part(into, offset, start, size)
                part[:] = bytes(len(part))
                missing -= size
            elif (
                kind == Chunk.BLOCK_STATUS
                and context is not None
                and 4 < length <= 8 << 20
                and length % 8 == 4
            ):
                data = self._receive(length)
                if wire.U32.unpack_from(data)[0] == context:
                    extents = list(wire.EXTENT.iter_unpack(data[4:]))
                    if any(not size for size, _ in extents):
                        self._refuse("the server names an empty extent")
            elif kind >= 0x8000 and 6 <= length <= 6 + 8 + wire.MAXIMUM_STRING:
                data = self._receive(length)
                (size,) = wire.U16.unpack_from(data, 4)
                failure = failure or (
                    wire.U32.unpack_from(data)[0],
                    data[6 : 6 + size].decode("utf-8", "replace"),
                )
            elif kind != Chunk.NONE or length:
                self._refuse("the server's reply makes no sense")
            if flags & wire.CHUNK_DONE:
                break
        if failure is not None:
            self._fail(*failure)
        if missing:
            self._refuse("the server sent too little or too much")
        return extents

    def _part(self, into: memoryview, offset: int, start: int, size: int) -> memoryview:
        if start < offset or start + size > offset + len(into):
            self._refuse("the server sends data that nobody asked for")
        return into[start - offset : start - offset + size]

    def _check_cookie(self, cookie: int) -> None:
        if cookie != self._cookie:
            self._refuse("the server answers another request")

    def _fail(self, number: int, message: str) -> NoReturn:
        """Raise the server's error; the connection stays usable."""
        number = number if number in wire.ERRORS else errno.EIO
        raise ImageIOError(message or os.strerror(number), errno=number, where=self._where)

    def _refuse(self, what: str, remedy: str = "") -> NoReturn:
        self._socket.close()
        raise ImageIOError(what, errno=errno.EPROTO, where=self._where, remedy=remedy)

    # The socket

    @property
    def is_open(self) -> bool:
        return self._socket.fileno() >= 0

    def _receive(self, size: int) -> bytearray:
        data = bytearray(size)
        self._receive_into(memoryview(data))
        return data

    def _receive_into(self, view: memoryview) -> None:
        try:
            wire.receive_into(self._socket, view)
        except wire.Disconnected:
            self._socket.close()
            raise wire.Disconnected(self._where) from None
        except OSError as error:
            self._lost(error)

    def _send(self, data: bytes | memoryview) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> NoReturn:
        self._socket.close()
        what = f"the NBD connection failed: {error.strerror or error}"
        raise ImageIOError(what, errno=error.errno or errno.EIO, where=self._where) from None


def struct_simple(data: bytes | bytearray) -> tuple[int, int]:
    """Error and cookie of a simple reply behind its magic."""
    return int.from_bytes(data[:4], "big"), int.from_bytes(data[4:], "big")


def _told(message: bytes) -> str:
    """What a server added to its refusal."""
    return f": {message.decode('utf-8', 'replace')}" if message else ""
