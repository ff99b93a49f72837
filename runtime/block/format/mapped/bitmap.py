"""Bitmaps that say which sectors of a block are in a differencing image, and which are still its parent's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from runtime.block.node import ProtocolNode

Sectors = NDArray[np.bool_]

_CLEAN_BLOCKS = 64


class SectorBitmaps(ABC):
    """One bool a sector for each allocated block. Changes stay in memory until `write_back`."""

    def __init__(self, file: ProtocolNode, block_size: int, sector: int = 512) -> None:
        self._file = file
        self.sector = sector  # bytes
        self._sectors = block_size // sector
        self._present: OrderedDict[int, Sectors] = OrderedDict()
        self._dirty: dict[int, int] = {}  # block: where its data lies

    @abstractmethod
    def load(self, block: int, place: int) -> Sectors | None:
        """The bitmap of a block whose data lies at `place`, from the file. None: the block has all sectors.
        """

    @abstractmethod
    def store(self, block: int, place: int, present: Sectors) -> None:
        """Write it."""

    def present(self, block: int, place: int) -> Sectors | None:
        """Which sectors of the block are here; None for all of them."""
        known = self._present.get(block)
        if known is not None:
            return known
        found = self.load(block, place)
        return None if found is None else self._keep(block, found)

    def _keep(self, block: int, present: Sectors) -> Sectors:
        if len(self._present) - len(self._dirty) >= _CLEAN_BLOCKS:
            for old in [n for n in self._present if n not in self._dirty][: _CLEAN_BLOCKS // 4]:
                del self._present[old]
        self._present[block] = present
        return present

    def create(self, block: int, place: int, *, filled: bool) -> None:
        """The block is new and has all of its sectors, or none yet."""
        self._keep(block, np.full(self._sectors, filled, np.bool_))
        self._dirty[block] = place

    def mark(self, block: int, place: int, first: int, stop: int) -> None:
        """Sectors first to stop - 1 are here from now on."""
        present = self.present(block, place)
        if present is not None:
            present[first:stop] = True
            self._dirty[block] = place

    def is_full(self, block: int, place: int) -> bool:
        """The block has all of its sectors."""
        present = self.present(block, place)
        return present is None or bool(present.all())

    def forget(self, block: int) -> None:
        """The block isn't in the image any more."""
        self._present.pop(block, None)
        self._dirty.pop(block, None)

    def clear(self) -> None:
        """No block is in the image any more."""
        self._present.clear()
        self._dirty.clear()

    def runs(self, block: int, place: int, offset: int, length: int) -> Iterator[tuple[int, int, bool]]:
        """(begin, end, present) of the parts of a range of the block; bytes from the block's start."""
        present = self.present(block, place)
        if present is None:
            yield offset, offset + length, True
            return
        sector = self.sector
        first, stop = offset // sector, -(-(offset + length) // sector)
        part = present[first:stop]
        edges = [0, *(np.flatnonzero(part[1:] != part[:-1]) + 1).tolist(), stop - first]
        for begin, end in pairwise(edges):
            yield (
                max(offset, (first + begin) * sector),
                min(offset + length, (first + end) * sector),
                bool(part[begin]),
            )

    @property
    def dirty_bytes(self) -> int:
        return len(self._dirty) * self._sectors

    def write_back(self, file: ProtocolNode) -> None:
        """Write all changes. The sectors' data must be durable before."""
        for block in sorted(self._dirty):
            self.store(block, self._dirty[block], self._present[block])
        self._dirty.clear()
