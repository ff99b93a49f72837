"""Disks whose bytes lie in a row in one file: fixed VHD images, and the flat extents of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runtime.block.node import Buffer, Extent, ExtentKind, FileRange, FormatNode, ProtocolNode


class LinearNode(FormatNode):
    """`size` bytes from byte `start` of `file`. Holes of the file are zero."""

    def __init__(self, file: ProtocolNode, start: int, size: int, *, writable: bool) -> None:
        self.file = file
        self.name = file.name
        self.read_only = not writable
        self._start = start
        self._size = size

    def length(self) -> int:
        return self._size

    def pread(self, offset: int, length: int) -> bytes:
        self.in_range_or_raise(offset, length)
        return self.file.pread(self._start + offset, length)

    def read_into(self, offset: int, target: memoryview) -> None:
        self.in_range_or_raise(offset, len(target))
        self.file.read_into(self._start + offset, target)

    def pread_many(self, requests: Sequence[tuple[int, int]]) -> list[bytes]:
        for offset, length in requests:
            self.in_range_or_raise(offset, length)
        return self.file.pread_many([(self._start + offset, length) for offset, length in requests])

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()
        view = memoryview(data).cast("B")
        self.in_range_or_raise(offset, len(view))
        self.file.pwrite(self._start + offset, view)

    def pwrite_range(self, offset: int, data: FileRange) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, len(data))
        self.file.pwrite_range(self._start + offset, data)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)
        self.file.write_zeroes(self._start + offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)
        self.file.discard(self._start + offset, length)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self._size - offset if length is None else length
        self.in_range_or_raise(offset, size)
        for part in self.file.extents(self._start + offset, size):
            # A hole of the file is zeroes of the image, which is all there.
            kind = ExtentKind.ZERO if part.reads_zero else ExtentKind.DATA
            yield Extent(
                part.offset - self._start, part.length, kind, host_offset=part.offset, file=part.file
            )

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.file.close()
