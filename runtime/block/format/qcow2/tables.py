"""L1 and L2 tables: from guest clusters to host clusters (docs/interop/qcow2.txt, "Cluster mapping").

Tables are changed in memory and written by `Core.commit`: `write_new` puts out tables that nothing in the
file points at yet; `write_links`, after a barrier, what makes them and new data reachable.
"""

from __future__ import annotations

import sys
from array import array

from runtime.block.errors import ImageCorrupt
from runtime.block.format.crowding import LONG, crowded, crowded_table
from runtime.block.format.qcow2.header import COPIED, OFFSET_MASK, Header
from runtime.block.format.qcow2.refcounts import Refcounts, swapped
from runtime.block.node import ProtocolNode

_LITTLE = sys.byteorder == "little"
CACHE_BYTES = 24 << 20
_CHUNK = 256
_ZEROES = bytes(8 * _CHUNK)


class L2Table:
    """One L2 table. `entries`: one item a cluster, or two with extended entries (descriptor, bitmap)."""

    __slots__ = ("entries", "high", "linked", "low", "offset")

    def __init__(self, offset: int, entries: array[int], *, linked: bool) -> None:
        self.offset = offset
        self.entries = entries
        self.linked = linked  # the file's L1 table points at it
        self.low = len(entries)  # items [low, high) differ from the file
        self.high = 0

    def changed(self, low: int, high: int) -> None:
        if low < self.low:
            self.low = low
        if high > self.high:
            self.high = high

    @property
    def dirty(self) -> bool:
        return self.low < self.high

    def clean(self) -> None:
        self.low, self.high = len(self.entries), 0


def read_table(file: ProtocolNode, offset: int, count: int) -> array[int]:
    """`count` big-endian 64-bit numbers."""
    table = array("Q", bytes(8)) * count
    if count:
        file.read_into(offset, memoryview(table).cast("B"))
        if _LITTLE:
            table.byteswap()
    return table


def read_l1(file: ProtocolNode, header: Header, offset: int, count: int) -> array[int]:
    """An L1 table. Raises ImageCorrupt if it leads to more L2 tables than the file can have."""
    table = read_table(file, offset, count)
    if count > LONG and crowded((table,), file.length() >> header.cluster_bits):
        raise crowded_table("the L1 table", offset, file.name)
    return table


def first_entry(l1: array[int], index: int, end: int) -> int:
    """The first of the entries [index, end) that isn't 0; `end` if all are."""
    end_here = min(end, len(l1))
    while index < end_here:
        if l1[index]:
            return index
        step = min(_CHUNK, end_here - index)
        if l1[index : index + step].tobytes() == _ZEROES[: step * 8]:
            index += step
        else:
            index += 1
    return end


class Tables:
    """The active L1 table and a cache of the L2 tables below it."""

    def __init__(self, file: ProtocolNode, header: Header, refcounts: Refcounts) -> None:
        self.file = file
        self.header = header
        self.refcounts = refcounts
        self.items_per_table = header.cluster_size // 8
        self.limit = max(8, CACHE_BYTES // header.cluster_size)
        self.l1: array[int] = array("Q")
        self.l1_dirty: set[int] = set()
        self.cache: dict[int, L2Table] = {}

    def load(self) -> None:
        """Read the active L1 table."""
        self.l1 = read_l1(self.file, self.header, self.header.l1_table_offset, self.header.l1_size)
        self.forget()

    def forget(self) -> None:
        self.l1_dirty.clear()
        self.cache.clear()

    def l2_offset(self, index: int, entry: int, table_offset: int) -> int:
        """Where L1 entry `index` says that its L2 table is; 0 for none. Raises ImageCorrupt."""
        offset = entry & OFFSET_MASK
        if offset & (self.header.cluster_size - 1) or (offset and offset >= self.file.length()):
            raise ImageCorrupt(
                "an L2 table isn't at a cluster of the file",
                offset=table_offset + index * 8,
                field=f"L1 entry {index}",
                value=entry,
                where=self.file.name,
                remedy="run `isagen image check --repair all`",
            )
        return offset

    def get(self, index: int) -> L2Table | None:
        """The L2 table of L1 entry `index`; None if there is none."""
        table = self.cache.get(index)
        if table is not None:
            return table
        if index >= len(self.l1):
            return None
        entry = self.l1[index]
        if not entry & OFFSET_MASK:
            return None
        offset = self.l2_offset(index, entry, self.header.l1_table_offset)
        table = L2Table(offset, read_table(self.file, offset, self.items_per_table), linked=True)
        self._add(index, table)
        return table

    def skip(self, index: int, end: int) -> int:
        """See `mapping.TableSource`."""
        return first_entry(self.l1, index, end)

    def _add(self, index: int, table: L2Table) -> None:
        if len(self.cache) >= self.limit:
            for old in [
                number for number, have in list(self.cache.items()) if not have.dirty and have.linked
            ][: max(1, self.limit // 8)]:
                self.cache.pop(old, None)
        self.cache[index] = table

    @property
    def pressed(self) -> bool:
        """True when so much is dirty that the node should commit."""
        return len(self.cache) > self.limit

    def for_writing(self, index: int) -> L2Table:
        """The L2 table of L1 entry `index`, made or unshared if need be."""
        table = self.cache.get(index)
        entry = self.l1[index]
        if entry & COPIED:
            if table is None:
                table = self.get(index)
                assert table is not None
            if self.refcounts.guard.overlaps_fixed(table.offset, 1):
                raise ImageCorrupt(
                    "an L2 table lies on other metadata",
                    offset=self.header.l1_table_offset + index * 8,
                    field=f"L1 entry {index}",
                    value=entry,
                    where=self.file.name,
                    remedy="run `isagen image check --repair all`",
                )
            return table
        old = self.get(index)
        start, _ = self.refcounts.allocate(1, exact=True)
        entries = array("Q", bytes(8)) * self.items_per_table if old is None else old.entries[:]
        table = L2Table(start << self.header.cluster_bits, entries, linked=False)
        table.changed(0, len(entries))
        if old is not None:
            self.refcounts.defer(old.offset >> self.header.cluster_bits, 1)
            self.cache.pop(index, None)
        self._add(index, table)
        self.l1[index] = table.offset | COPIED
        self.l1_dirty.add(index)
        return table

    def write_new(self) -> None:
        """Write the tables that the file doesn't point at yet."""
        for _, table in sorted(self.cache.items()):
            if not table.linked and table.dirty:
                self.file.pwrite(table.offset, swapped(table.entries))
                table.clean()

    @property
    def links_dirty(self) -> bool:
        return bool(self.l1_dirty) or any(table.dirty and table.linked for table in self.cache.values())

    def write_links(self) -> None:
        """Write changed entries of reachable tables, then the changed L1 entries."""
        for _, table in sorted(self.cache.items()):
            if table.dirty and table.linked:
                self.file.pwrite(table.offset + table.low * 8, swapped(table.entries[table.low : table.high]))
                table.clean()
        self.write_l1()

    def write_l1(self) -> None:
        start = self.header.l1_table_offset
        pending = sorted(self.l1_dirty)
        at = 0
        while at < len(pending):
            first = last = pending[at]
            while at < len(pending) and pending[at] <= last + 64:
                last = pending[at]
                at += 1
            self.file.pwrite(start + first * 8, swapped(self.l1[first : last + 1]))
        for index in pending:
            table = self.cache.get(index)
            if table is not None:
                table.linked = True
        self.l1_dirty.clear()
