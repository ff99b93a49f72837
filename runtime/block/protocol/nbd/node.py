"""A disk on an NBD server as a protocol node.

Requests are split at the server's largest block and widened to its smallest. If the server keeps several
connections coherent, threads get one each, up to `CONNECTIONS`; otherwise they take turns.
"""

from __future__ import annotations

import errno
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.block.errors import ImageError, ImageIOError, ImageRange
from runtime.block.node import Buffer, Extent, ExtentKind, ProtocolNode
from runtime.block.protocol.nbd import wire
from runtime.block.protocol.nbd.connection import Connection
from runtime.block.protocol.nbd.uri import parse
from runtime.block.protocol.nbd.wire import Command, CommandFlag, State, TransmissionFlag

CONNECTIONS = 4
_STATUS_STEP = 1 << 30


class NbdNode(ProtocolNode):
    """The export that `uri` names. Raises `ImageIOError` and `ImageNotFound`."""

    fixed_length = True

    def __init__(self, uri: str, *, writable: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self.name = uri
        self._address = parse(uri)
        self._tls = tls
        first = Connection(self._address, tls=tls, where=uri)
        try:
            self.export = first.open()
            self._flags = self.export.flags
            if writable and self._flags & TransmissionFlag.READ_ONLY:
                raise ImageIOError(
                    "the server exports this disk for reading only", errno=errno.EPERM, where=uri
                )
        except BaseException:
            first.close()
            raise
        self.read_only = not writable
        self.block_size = self.export.minimum_block
        self._idle = [first]
        several = bool(self._flags & TransmissionFlag.CAN_MULTI_CONN)
        self._limit = CONNECTIONS if several else 1
        self._slots = threading.BoundedSemaphore(self._limit)
        self._lock = threading.Lock()
        self._edge_lock = threading.Lock()
        self._closed = False

    def length(self) -> int:
        return self.export.size

    def allocated(self) -> int:
        return sum(extent.length for extent in self.extents() if extent.kind is not ExtentKind.HOLE)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A connection that nobody else uses."""
        with self._slots:
            with self._lock:
                if self._closed:
                    raise ImageIOError("the node is closed", errno=errno.EBADF, where=self.name)
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                connection = Connection(self._address, tls=self._tls, where=self.name)
                connection.open()
            try:
                yield connection
            except ImageError:
                raise
            except BaseException:
                # Interrupted in the middle of a reply: nobody can use this connection any more.
                connection.abort()
                raise
            finally:
                with self._lock:
                    keep = connection.is_open and not self._closed
                    if keep:
                        self._idle.append(connection)
                if not keep:
                    connection.close()

    def pread(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, target: memoryview) -> None:
        if offset < 0:
            raise ImageRange(f"offset {offset} is negative", where=self.name)
        inside = max(0, min(len(target), self.export.size - offset))
        if inside < len(target):
            target[inside:] = bytes(len(target) - inside)
        if not inside:
            return
        least = self.export.minimum_block
        start, end = offset // least * least, -(-(offset + inside) // least) * least
        with self._connection() as connection:
            for at in range(start, end, self.export.maximum_block):
                size = min(self.export.maximum_block, end - at)
                data = memoryview(connection.read(at, size))
                first, last = max(at, offset), min(at + size, offset + inside)
                target[first - offset : last - offset] = data[first - at : last - at]

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, len(data))
        view = memoryview(data)
        least = self.export.minimum_block
        if not view:
            return
        if offset % least or len(view) % least:
            self._write_unaligned(offset, view)
            return
        with self._connection() as connection:
            for at in range(0, len(view), self.export.maximum_block):
                connection.write(offset + at, view[at : at + self.export.maximum_block])

    def _write_unaligned(self, offset: int, view: memoryview) -> None:
        """Read, change, write whole blocks. One at a time: two may share a block."""
        least = self.export.minimum_block
        start, end = offset // least * least, -(-(offset + len(view)) // least) * least
        with self._edge_lock:
            whole = bytearray(self.pread(start, end - start))
            whole[offset - start : offset - start + len(view)] = view
            self.pwrite(start, whole)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)
        if not self._flags & TransmissionFlag.SEND_WRITE_ZEROES:
            super().write_zeroes(offset, length, unmap=unmap)
            return
        start, end = self._whole_blocks(offset, length)
        if start >= end:
            super().write_zeroes(offset, length, unmap=unmap)
            return
        if start > offset:
            super().write_zeroes(offset, start - offset)
        self._command(Command.WRITE_ZEROES, start, end, 0 if unmap else CommandFlag.NO_HOLE)
        if end < offset + length:
            super().write_zeroes(end, offset + length - end)

    def discard(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)
        if self._flags & TransmissionFlag.SEND_TRIM:
            start, end = self._whole_blocks(offset, length)
            self._command(Command.TRIM, start, end)

    def flush(self) -> None:
        if self._flags & TransmissionFlag.SEND_FLUSH and not self.read_only:
            with self._connection() as connection:
                connection.command(Command.FLUSH)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self.export.size if length is None else offset + length
        if wire.BASE_ALLOCATION not in self.export.contexts:
            yield from super().extents(offset, length)
            return
        least = self.export.minimum_block
        at = offset
        while at < end:
            start = at // least * least
            stop = min(start + _STATUS_STEP, -(-end // least) * least, self.export.size)
            with self._connection() as connection:
                found = connection.status(start, stop - start, wire.BASE_ALLOCATION)
            for size, state in found:
                low, high = max(start, at), min(start + size, end)
                if high > low:
                    yield Extent(low, high - low, _kind(state), 0, low if not state else None)
                start += size
            at = max(at, min(start, end))

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
        try:
            self.flush()
        finally:
            with self._lock:
                self._closed = True
                idle, self._idle = self._idle, []
            for connection in idle:
                connection.close()

    def _whole_blocks(self, offset: int, length: int) -> tuple[int, int]:
        least = self.export.minimum_block
        return -(-offset // least) * least, (offset + length) // least * least

    def _command(self, command: Command, start: int, end: int, flags: int = 0) -> None:
        """`command` for all of [start, end), in steps that its 32 bits of length can hold."""
        step = (1 << 31) // self.export.minimum_block * self.export.minimum_block
        with self._connection() as connection:
            for at in range(start, end, step):
                connection.command(command, at, min(step, end - at), flags)


def _kind(state: int) -> ExtentKind:
    if not state & State.ZERO:
        return ExtentKind.DATA
    return ExtentKind.HOLE if state & State.HOLE else ExtentKind.ZERO


def open_uri(uri: str, *, writable: bool = False) -> NbdNode:
    """For `runtime.block.location`."""
    return NbdNode(uri, writable=writable)
