"""Where metadata lay when the image was opened, so that a damaged image can't make us write over it.

Only corrupt images ever trip over this: a cluster in use with refcount 0, or an entry that points at a table.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right


class Guard:
    """Cluster ranges of metadata. `fixed` is everything but L2 tables."""

    def __init__(self, cluster_bits: int) -> None:
        self._bits = cluster_bits
        self._fixed: list[tuple[int, int]] = []
        self._l2: array[int] = array("Q")

    def set(self, fixed: list[tuple[int, int]], l2_offsets: array[int]) -> None:
        """`fixed`: (offset, length) in bytes. `l2_offsets`: of the L2 tables, in bytes; zeroes are ignored.
        """
        clusters = sorted(
            (offset >> self._bits, (offset + length + (1 << self._bits) - 1) >> self._bits)
            for offset, length in fixed
            if length
        )
        self._fixed = []
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

    def overlaps_fixed(self, offset: int, length: int) -> bool:
        """Whether the bytes hold the header, an L1, refcount or snapshot table, or a refcount block."""
        last = (offset + length - 1) >> self._bits
        at = bisect_right(self._fixed, (last, 1 << 64)) - 1
        return at >= 0 and self._fixed[at][1] > offset >> self._bits

    def overlaps(self, offset: int, length: int) -> bool:
        """Whether the bytes hold any metadata."""
        at = bisect_right(self._l2, (offset + length - 1) >> self._bits) - 1
        return (at >= 0 and self._l2[at] >= offset >> self._bits) or self.overlaps_fixed(offset, length)
