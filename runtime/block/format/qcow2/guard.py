"""Where metadata lay when the image was opened, so that a damaged image can't make us write over it.

Only corrupt images ever trip over this: a cluster in use with refcount 0, or an entry that points at a table.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from runtime.block.format.qcow2.header import OFFSET_MASK

_CHUNK = 4096
_SMALL = 1 << 16
_ENOUGH = 1 << 20  # tables that are guarded; more would take too much memory for what is a safety net


class Guard:
    """Clusters of metadata. `fixed` is everything but L2 tables."""

    def __init__(self, cluster_bits: int) -> None:
        self._bits = cluster_bits
        self._ranges: list[tuple[int, int]] = []
        self._blocks: array[int] = array("Q")
        self._l2: array[int] = array("Q")
        self._gone: set[int] = set()  # clusters that were freed since
        self._few: set[int] | None = set()  # all of them, if they are few

    def set(self, ranges: list[tuple[int, int]], blocks: array[int], l2: array[int]) -> None:
        """`ranges`: (offset, length) in bytes. `blocks`, `l2`: the refcount table and the L1 table."""
        clusters = sorted(
            (offset >> self._bits, (offset + length + (1 << self._bits) - 1) >> self._bits)
            for offset, length in ranges
            if length
        )
        self._ranges = []
        for start, end in clusters:
            if self._ranges and start <= self._ranges[-1][1]:
                self._ranges[-1] = (self._ranges[-1][0], max(end, self._ranges[-1][1]))
            else:
                self._ranges.append((start, end))
        self._blocks = self._sorted(blocks)
        self._l2 = self._sorted(l2)
        self._gone.clear()
        count = len(self._blocks) + len(self._l2) + sum(end - start for start, end in self._ranges)
        self._few = set(self._find(0, 1 << 64)) if count <= _SMALL else None

    def _sorted(self, entries: array[int]) -> array[int]:
        """The clusters that a table's entries point at, in order. (The largest have millions.)"""
        zeroes = bytes(_CHUNK * 8)
        found = array("Q")
        for start in range(0, len(entries), _CHUNK):
            if len(found) > _ENOUGH:
                break
            chunk = entries[start : start + _CHUNK]
            if chunk.tobytes() != zeroes[: len(chunk) * 8]:
                found.extend((entry & OFFSET_MASK) >> self._bits for entry in chunk if entry & OFFSET_MASK)
        if len(found) <= _SMALL:
            return array("Q", sorted(found))
        import numpy

        numpy.frombuffer(found, dtype=numpy.uint64).sort()
        return found

    def forget(self, cluster: int, count: int) -> None:
        """These clusters were freed, and may be used for anything."""
        gone = set(self._find(cluster, cluster + count))
        self._gone |= gone
        if self._few is not None:
            self._few -= gone

    def _find(self, first: int, end: int) -> Iterator[int]:
        """The guarded clusters in [first, end)."""
        yield from self._find_in(self._l2, first, end)
        yield from self._find_fixed(first, end)

    def _find_in(self, numbers: array[int], first: int, end: int) -> Iterator[int]:
        at = bisect_left(numbers, first)
        while at < len(numbers) and numbers[at] < end:
            yield numbers[at]
            at += 1

    def _find_fixed(self, first: int, end: int) -> Iterator[int]:
        yield from self._find_in(self._blocks, first, end)
        at = max(0, bisect_right(self._ranges, (first, 1 << 64)) - 1)
        while at < len(self._ranges) and self._ranges[at][0] < end:
            start, stop = self._ranges[at]
            yield from range(max(start, first), min(stop, end))
            at += 1

    def _clusters(self, offset: int, length: int) -> tuple[int, int]:
        return offset >> self._bits, ((offset + length - 1) >> self._bits) + 1

    def overlaps_fixed(self, offset: int, length: int) -> bool:
        """Whether the bytes hold the header, an L1, refcount or snapshot table, or a refcount block."""
        return any(cluster not in self._gone for cluster in self._find_fixed(*self._clusters(offset, length)))

    def overlaps(self, offset: int, length: int) -> bool:
        """Whether the bytes hold any metadata."""
        if self._few is not None:
            bits = self._bits
            return not self._few.isdisjoint(range(offset >> bits, ((offset + length - 1) >> bits) + 1))
        return any(cluster not in self._gone for cluster in self._find(*self._clusters(offset, length)))
