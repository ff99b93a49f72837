"""Tables that claim more than their file can hold: what they point to must be shared, over and over.

A few shared blocks are for `check` to find, and the image can still be read. But a small file whose tables
lead to the same few places millions of times would keep whoever walks through it busy for hours. Such an
image is refused as soon as that is certain.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import islice, pairwise
from operator import eq

from runtime.block.errors import ImageCorrupt
from runtime.block.node import ProtocolNode

LONG = 1 << 16
"""Entries from which on a table of tables is looked at as a whole when it is opened."""
SHARED = 1 << 12
"""How often a walk finds a block on the one before it until it gives up."""
_REMEDY = "most of what it claims to hold can't exist: restore the image from a copy"


def crowded(pieces: Iterable[array[int]], room: int) -> bool:
    """Whether a table of tables (in pieces, in order; 0: no table) points to more of them than the `room` in
    its file, or too often from an entry to the place of the one before.
    """
    tables = same = 0
    for piece in pieces:
        if len(places := set(piece)) == len(piece):  # as in most tables that are full
            tables += len(piece) - (0 in places)
        else:
            tables += len(piece) - piece.count(0)
            if sum(map(eq, piece, islice(piece, 1, None))):
                same += sum(one == other != 0 for one, other in pairwise(piece))
        if tables > room or same > SHARED:
            return True
    return False


def crowded_table(what: str, offset: int, where: str) -> ImageCorrupt:
    """The error that says so of a table."""
    return ImageCorrupt(
        f"{what} leads to more tables than the file has room for",
        offset=offset,
        field=what,
        where=where,
        remedy=_REMEDY,
    )


class Claims:
    """What one walk over a disk finds stored in `file`. `unit`: bytes that the last piece may go beyond it.
    """

    def __init__(self, file: ProtocolNode, unit: int, where: str) -> None:
        self._file = file
        self._unit = unit
        self._where = where
        self._bytes = 0
        self._shared = 0
        self._last = (-1, -1)

    def add(self, place: int, length: int) -> None:
        """`length` bytes are at `place` of the file. Raises ImageCorrupt if that can't be true any more."""
        low, high = self._last
        if place < high and low < place + length:
            self._shared += 1
        self._last = place, place + length
        self._bytes += length
        if self._shared > SHARED or self._bytes > self._file.length() + self._unit:
            raise ImageCorrupt(
                "the tables lead to more data than the file has room for",
                offset=place,
                field="block table entry",
                where=self._where,
                remedy=_REMEDY,
            )
