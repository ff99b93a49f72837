"""A part of a file as a file of its own: a member of an archive, a partition."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.block.errors import ImageRange
from runtime.block.node import Buffer, Extent, Node, Preallocation, ProtocolNode


class SliceNode(ProtocolNode):
    """`length` bytes of `below` from `offset` on. The node below stays open when this one is closed."""

    fixed_length = True

    def __init__(
        self, below: Node, offset: int, length: int, *, name: str = "", read_only: bool = True
    ) -> None:
        if offset < 0 or length < 0 or offset + length > below.length():
            raise ImageRange(f"{length} bytes at offset {offset} aren't inside of the file", where=below.name)
        self.name = name or below.name
        self.read_only = read_only or below.read_only
        self._below = below
        self._offset = offset
        self._length = length

    def length(self) -> int:
        return self._length

    def pread(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def read_into(self, offset: int, target: memoryview) -> None:
        inside = max(0, min(len(target), self._length - offset))
        if inside:
            self._below.read_into(self._offset + offset, target[:inside])
        if inside < len(target):
            target[inside:] = bytes(len(target) - inside)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, len(data))
        self._below.pwrite(self._offset + offset, data)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)
        self._below.write_zeroes(self._offset + offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)
        self._below.discard(self._offset + offset, length)

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        raise ImageRange("a part of a file can't be resized", where=self.name)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self._length - offset if length is None else length
        self.in_range_or_raise(offset, size)
        for extent in self._below.extents(self._offset + offset, size):
            yield extent._replace(offset=extent.offset - self._offset, host_offset=None)

    def flush(self) -> None:
        self._below.flush()

    def close(self) -> None:
        pass
