"""Several disks one behind the other as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from runtime.block.errors import ImageReadOnly
from runtime.block.node import Buffer, Extent, Node


class JoinedNode(Node):
    """A read-only node of `parts`, which it doesn't own."""

    read_only = True

    def __init__(self, parts: Sequence[Node]) -> None:
        self.name = " + ".join(part.name for part in parts)
        self._parts = list(parts)
        self._starts: list[int] = []
        at = 0
        for part in parts:
            self._starts.append(at)
            at += part.length()
        self._length = at

    def length(self) -> int:
        return self._length

    def _ranges(self, offset: int, length: int) -> Iterator[tuple[Node, int, int, int]]:
        """The parts of a range: node, offset in it, offset in the whole, length."""
        self.in_range_or_raise(offset, length)
        at = offset
        while at < offset + length:
            number = bisect_right(self._starts, at) - 1
            part, start = self._parts[number], self._starts[number]
            size = min(start + part.length(), offset + length) - at
            yield part, at - start, at, size
            at += size

    def pread(self, offset: int, length: int) -> bytes:
        return b"".join(part.pread(inside, size) for part, inside, _, size in self._ranges(offset, length))

    def pwrite(self, offset: int, data: Buffer) -> None:
        raise ImageReadOnly("joined disks can only be read", where=self.name)

    def flush(self) -> None:
        pass

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        for part, inside, at, size in self._ranges(
            offset, self._length - offset if length is None else length
        ):
            for extent in part.extents(inside, size):
                yield extent._replace(offset=extent.offset - inside + at, host_offset=None)

    def close(self) -> None:
        pass
