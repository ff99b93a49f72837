"""Where metadata lay when the image was opened, so that a damaged image can't make us write over it.

Only corrupt images ever trip over this: a cluster in use with refcount 0, or an entry that points at a table.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Guard:
    """Cluster ranges of metadata. `fixed` is everything but L2 tables."""

    def __init__(self, cluster_bits: int) -> None:
        self._bits = cluster_bits
        self._fixed: list[tuple[int, int]] = []
        self._l2: array[int] = array("Q")
        self._gone: set[int] = set()  # clusters that were freed since

    def set(self, fixed: list[tuple[int, int]], l2_offsets: array[int]) -> None:
        """`fixed`: (offset, length) in bytes. `l2_offsets`: of the L2 tables, in bytes; zeroes are ignored.
        """
        clusters = sorted(
            (offset >> self._bits, (offset + length + (1 << self._bits) - 1) >> self._bits)
            for offset, length in fixed
            if length
        )
        self._fixed = []
        self._gone.clear()
        for start, end in clusters:
            if self._fixed and start <= self._fixed[-1][1]:
                self._fixed[-1] = (self._fixed[-1][0], max(end, self._fixed[-1][1]))
            else:
                self._fixed.append((start, end))
        if len(l2_offsets) > 1 << 16:  # as Python numbers they would take too much memory
            import numpy

            numbers = numpy.frombuffer(l2_offsets, dtype=numpy.uint64) >> numpy.uint64(self._bits)
            numbers = numpy.unique(numbers[numbers != 0])
            self._l2 = array("Q", numbers.tobytes())
        else:
            self._l2 = array("Q", sorted({offset >> self._bits for offset in l2_offsets if offset}))

    def forget(self, cluster: int, count: int) -> None:
        """These clusters were freed, and may be used for anything."""
        self._gone.update(self._find(cluster, cluster + count))

    def _find(self, first: int, end: int) -> Iterator[int]:
        """The guarded clusters in [first, end)."""
        at = bisect_left(self._l2, first)
        while at < len(self._l2) and self._l2[at] < end:
            yield self._l2[at]
            at += 1
        yield from self._find_fixed(first, end)

    def _find_fixed(self, first: int, end: int) -> Iterator[int]:
        at = max(0, bisect_right(self._fixed, (first, 1 << 64)) - 1)
        while at < len(self._fixed) and self._fixed[at][0] < end:
            start, stop = self._fixed[at]
            yield from range(max(start, first), min(stop, end))
            at += 1

    def _clusters(self, offset: int, length: int) -> tuple[int, int]:
        return offset >> self._bits, ((offset + length - 1) >> self._bits) + 1

    def overlaps_fixed(self, offset: int, length: int) -> bool:
        """Whether the bytes hold the header, an L1, refcount or snapshot table, or a refcount block."""
        return any(cluster not in self._gone for cluster in self._find_fixed(*self._clusters(offset, length)))

    def overlaps(self, offset: int, length: int) -> bool:
        """Whether the bytes hold any metadata."""
        return any(cluster not in self._gone for cluster in self._find(*self._clusters(offset, length)))
