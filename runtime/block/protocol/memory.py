"""An image file in memory: for tests, and for disks that nobody needs to keep."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from runtime.block.node import Buffer, Extent, ExtentKind, Preallocation, ProtocolNode

_PAGE = 1 << 16


class MemoryNode(ProtocolNode):
    """A sparse file in memory. `content` is what it starts with."""

    def __init__(self, content: Buffer = b"", *, name: str = "memory", read_only: bool = False) -> None:
        self.name = name
        self.read_only = False
        self._pages: dict[int, bytearray] = {}
        self._length = 0
        self._lock = threading.RLock()
        if len(content):
            self.pwrite(0, content)
        self.read_only = read_only

    def length(self) -> int:
        return self._length

    def allocated(self) -> int:
        return len(self._pages) * _PAGE

    def pread(self, offset: int, length: int) -> bytes:
        result = bytearray(length)
        with self._lock:
            at = 0
            while at < length:
                number, inside = divmod(offset + at, _PAGE)
                part = min(_PAGE - inside, length - at)
                page = self._pages.get(number)
                if page is not None:
                    result[at : at + part] = page[inside : inside + part]
                at += part
        return bytes(result)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()
        view = memoryview(data).cast("B")
        with self._lock:
            at = 0
            while at < len(view):
                number, inside = divmod(offset + at, _PAGE)
                part = min(_PAGE - inside, len(view) - at)
                page = self._pages.get(number)
                if page is None:
                    page = self._pages[number] = bytearray(_PAGE)
                page[inside : inside + part] = view[at : at + part]
                at += part
            if len(view):
                self._length = max(self._length, offset + len(view))

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.writable_or_raise()
        if length <= 0:
            return
        with self._lock:
            self._clear(offset, offset + length)
            self._length = max(self._length, offset + length)

    def punch(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        with self._lock:
            if offset < self._length:
                self._clear(offset, min(offset + length, self._length))

    def discard(self, offset: int, length: int) -> None:
        self.punch(offset, length)

    def _clear(self, start: int, end: int) -> None:
        for number in [n for n in self._pages if n * _PAGE < end and (n + 1) * _PAGE > start]:
            low, high = max(start - number * _PAGE, 0), min(end - number * _PAGE, _PAGE)
            if high - low == _PAGE:
                del self._pages[number]
            else:
                self._pages[number][low:high] = bytes(high - low)

    def flush(self) -> None:
        pass

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        self.writable_or_raise()
        with self._lock:
            if length < self._length:
                self._clear(length, max(self._length, (length // _PAGE + 1) * _PAGE))
            self._length = length

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        end = self._length if length is None else offset + length
        at = offset
        with self._lock:
            pages = sorted(n for n in self._pages if n * _PAGE < end and (n + 1) * _PAGE > offset)
        for number in pages:
            low, high = max(number * _PAGE, at), min((number + 1) * _PAGE, end)
            if low > at:
                yield Extent(at, low - at, ExtentKind.HOLE)
            yield Extent(low, high - low, ExtentKind.DATA, host_offset=low)
            at = high
        if at < end:
            yield Extent(at, end - at, ExtentKind.HOLE)

    def close(self) -> None:
        pass
