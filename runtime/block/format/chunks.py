"""Read-only disks of compressed chunks: DMG and cloop."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from runtime.block.node import Buffer, Extent, ExtentKind, FormatNode, ProtocolNode

Numbers = NDArray[np.int64]
_CACHED_BYTES = 16 << 20


class ChunkNode(FormatNode):
    """Chunks in a row: chunk n is bytes starts[n] to starts[n + 1] of the disk. Subclasses unpack them."""

    def __init__(self, file: ProtocolNode, starts: Numbers, zero: NDArray[np.bool_]) -> None:
        self.file = file
        self.name = file.name
        self.read_only = True
        self._starts = starts  # one more than there are chunks
        self._zero = zero  # chunks that are nothing but zeroes
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._cached = 0

    @abstractmethod
    def _unpack(self, chunk: int, length: int) -> bytes:
        """The chunk's `length` bytes. Raises ImageCorrupt."""

    def length(self) -> int:
        return int(self._starts[-1])

    def pread(self, offset: int, length: int) -> bytes:
        self.in_range_or_raise(offset, length)
        parts: list[bytes] = []
        end = offset + length
        chunk = int(np.searchsorted(self._starts, offset, "right")) - 1
        while offset < end:
            start, stop = int(self._starts[chunk]), int(self._starts[chunk + 1])
            part = min(end, stop) - offset
            if self._zero[chunk]:
                parts.append(bytes(part))
            elif part > 0:
                data = self._content(chunk, stop - start)
                parts.append(data[offset - start : offset - start + part])
            offset, chunk = max(offset, min(end, stop)), chunk + 1
        return b"".join(parts)

    def _content(self, chunk: int, length: int) -> bytes:
        with self._lock:
            data = self._cache.get(chunk)
            if data is not None:
                self._cache.move_to_end(chunk)
                return data
        data = self._unpack(chunk, length)
        with self._lock:
            if chunk not in self._cache:
                self._cached += len(data)
            self._cache[chunk] = data
            while self._cached > _CACHED_BYTES and len(self._cache) > 1:
                self._cached -= len(self._cache.popitem(last=False)[1])
        return data

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self.length() - offset if length is None else length
        self.in_range_or_raise(offset, size)
        end = offset + size
        chunk = int(np.searchsorted(self._starts, offset, "right")) - 1
        while offset < end:
            last = chunk
            while last + 1 < len(self._zero) and self._zero[last + 1] == self._zero[chunk]:
                if self._starts[last + 1] >= end:
                    break
                last += 1
            stop = min(end, int(self._starts[last + 1]))
            if stop > offset:
                zero = bool(self._zero[chunk])
                yield Extent(
                    offset, stop - offset, ExtentKind.ZERO if zero else ExtentKind.DATA, compressed=not zero
                )
            offset, chunk = max(offset, stop), last + 1

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.file.close()
