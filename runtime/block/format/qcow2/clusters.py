"""Sets of host clusters, small enough for the largest images."""

from __future__ import annotations

from collections.abc import Iterator


class ClusterSet:
    """A set of cluster numbers, mostly in runs: a bit each."""

    _BITS = 15  # of the numbers in one page

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, first: int, count: int) -> None:
        """Add the numbers [first, first + count)."""
        for cluster in range(first, first + count):
            page = self._pages.setdefault(cluster >> self._BITS, bytearray(1 << self._BITS - 3))
            page[(cluster >> 3) & ((1 << self._BITS - 3) - 1)] |= 1 << (cluster & 7)

    def __contains__(self, cluster: int) -> bool:
        page = self._pages.get(cluster >> self._BITS)
        return page is not None and bool(
            page[(cluster >> 3) & ((1 << self._BITS - 3) - 1)] >> (cluster & 7) & 1
        )

    def __iter__(self) -> Iterator[int]:
        for number in sorted(self._pages):
            for at, byte in enumerate(self._pages[number]):
                if byte:
                    for bit in range(8):
                        if byte >> bit & 1:
                            yield (number << self._BITS) + at * 8 + bit

    def end(self) -> int:
        """Behind the highest number."""
        last = -1
        for number in sorted(self._pages)[-1:]:
            page = self._pages[number].rstrip(b"\0")
            last = (number << self._BITS) + (len(page) - 1) * 8 + page[-1].bit_length() - 1
        return last + 1
