"""Bitmaps that say which sectors of a block are in a differencing image, and which are still its parent's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator

from runtime.block.node import ProtocolNode

Sectors = bytearray
"""A byte for each sector: 1 is here, 0 is the parent's."""

_CLEAN_BLOCKS = 64
_TO_TEXT = bytes.maketrans(b"\0\1", b"01")
_FROM_TEXT = bytes.maketrans(b"01", b"\0\1")


def unpacked(data: bytes, *, lowest_first: bool) -> Sectors:
    """The bits of `data`, a byte each."""
    bits = f"{int.from_bytes(data, 'little' if lowest_first else 'big'):0{8 * len(data)}b}"
    return bytearray((bits[::-1] if lowest_first else bits).encode().translate(_FROM_TEXT))


def packed(sectors: Sectors, *, lowest_first: bool) -> bytes:
    """The other way round; the last byte is filled up with zero bits."""
    bits = sectors.translate(_TO_TEXT) + b"0" * (-len(sectors) % 8)
    number = int((bits[::-1] if lowest_first else bits) or b"0", 2)
    return number.to_bytes(len(bits) // 8, "little" if lowest_first else "big")


class SectorBitmaps(ABC):
    """A byte a sector for each allocated block. Changes stay in memory until `write_back`."""

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
        self._keep(block, bytearray(bytes([filled])) * self._sectors)
        self._dirty[block] = place

    def mark(self, block: int, place: int, first: int, stop: int) -> None:
        """Sectors first to stop - 1 are here from now on."""
        present = self.present(block, place)
        if present is not None:
            present[first:stop] = b"\1" * (stop - first)
            self._dirty[block] = place

    def is_full(self, block: int, place: int) -> bool:
        """The block has all of its sectors."""
        present = self.present(block, place)
        return present is None or 0 not in present

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
        while first < stop:
            state = present[first]
            edge = present.find(1 - state, first, stop)
            edge = stop if edge < 0 else edge
            yield max(offset, first * sector), min(offset + length, edge * sector), bool(state)
            first = edge

    @property
    def dirty_bytes(self) -> int:
        return len(self._dirty) * self._sectors

    def write_back(self, file: ProtocolNode) -> None:
        """Write all changes. The sectors' data must be durable before."""
        for block in sorted(self._dirty):
            self.store(block, self._dirty[block], self._present[block])
        self._dirty.clear()
