"""Small nodes that formats put together: a part of another node, and nothing but zeroes."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.block.node import Buffer, Extent, ExtentKind, Node, Preallocation


class Window(Node):
    """`size` bytes from byte `start` of `node`. Whoever made it closes the node."""

    def __init__(self, node: Node, start: int, size: int) -> None:
        self.node = node
        self.name = node.name
        self.read_only = node.read_only
        self._start = start
        self._size = size

    def length(self) -> int:
        return self._size

    def pread(self, offset: int, length: int) -> bytes:
        self.in_range_or_raise(offset, length)
        return self.node.pread(self._start + offset, length)

    def read_into(self, offset: int, target: memoryview) -> None:
        self.in_range_or_raise(offset, len(target))
        self.node.read_into(self._start + offset, target)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.in_range_or_raise(offset, memoryview(data).nbytes)
        self.node.pwrite(self._start + offset, data)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.in_range_or_raise(offset, length)
        self.node.write_zeroes(self._start + offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        self.in_range_or_raise(offset, length)
        self.node.discard(self._start + offset, length)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self._size - offset if length is None else length
        self.in_range_or_raise(offset, size)
        for part in self.node.extents(self._start + offset, size):
            yield part._replace(offset=part.offset - self._start)

    def flush(self) -> None:
        self.node.flush()

    def close(self) -> None:
        pass


class ZeroNode(Node):
    """`size` zeroes, which can't be written."""

    name = "zeroes"

    def __init__(self, size: int) -> None:
        self._size = size

    def length(self) -> int:
        return self._size

    def pread(self, offset: int, length: int) -> bytes:
        self.in_range_or_raise(offset, length)
        return bytes(length)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self._size - offset if length is None else length
        self.in_range_or_raise(offset, size)
        if size:
            yield Extent(offset, size, ExtentKind.ZERO)

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        self._size = length

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class Borrowed(Node):
    """Another node that is read, but not owned: closing this changes nothing."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.name = node.name
        self.read_only = True

    def length(self) -> int:
        return self.node.length()

    def pread(self, offset: int, length: int) -> bytes:
        return self.node.pread(offset, length)

    def read_into(self, offset: int, target: memoryview) -> None:
        self.node.read_into(offset, target)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        return self.node.extents(offset, length)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
