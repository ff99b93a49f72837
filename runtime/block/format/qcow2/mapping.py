"""What L2 entries say (docs/interop/qcow2.txt, "L2 table entry", "Extended L2 Entries").

A standard entry describes a whole cluster, an extended one 32 subclusters. `Cluster` is either, decoded:
masks of subclusters that are allocated and that read as zeroes (one bit for standard entries).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from runtime.block.errors import ImageCorrupt
from runtime.block.format.qcow2.header import COMPRESSED, COPIED, OFFSET_MASK, ZERO, Header
from runtime.block.format.qcow2.tables import L2Table

HOLE, ZEROES, DATA, PACKED = range(4)
_LOW32 = 0xFFFF_FFFF
_NOTHING = array("Q", bytes(8 * 64))


class TableSource(Protocol):
    """L2 tables by their L1 index."""

    def get(self, index: int) -> L2Table | None:
        """The table; None if there is none."""

    def skip(self, index: int, end: int) -> int:
        """The first index from `index` on, before `end`, that has a table; `end` if none has."""


class Run(NamedTuple):
    """Guest bytes of one kind: HOLE (below), ZEROES, DATA (at `host`) or PACKED (descriptor in `host`)."""

    kind: int
    offset: int
    length: int
    host: int


class Cluster(NamedTuple):
    """One decoded L2 entry."""

    host: int  # offset of the host cluster, or the compressed descriptor; 0 for none
    copied: bool  # may be written in place
    packed: bool
    present: bool  # there is a host cluster
    allocated: int  # mask of subclusters
    zero: int  # mask of subclusters


class Mapping:
    """Decodes and encodes the entries of one image."""

    def __init__(self, header: Header, name: str, *, external: bool) -> None:
        self.cluster_bits = header.cluster_bits
        self.cluster_size = header.cluster_size
        self.l2_bits = header.l2_bits
        self.l1_shift = header.cluster_bits + header.l2_bits
        self.l2_mask = (1 << header.l2_bits) - 1
        self.extended = header.extended_l2
        self.subclusters = 32 if self.extended else 1
        self.subcluster_size = self.cluster_size // self.subclusters
        self.full = (1 << self.subclusters) - 1
        self.name = name
        self.external = external  # with a data file, host offset 0 is a place like any other
        self.packed_bits = 62 - (header.cluster_bits - 8)

    def corrupt(self, table: L2Table, index: int, what: str, value: int) -> ImageCorrupt:
        return ImageCorrupt(
            what,
            offset=table.offset + index * (16 if self.extended else 8),
            field=f"L2 entry {index}",
            value=value,
            where=self.name,
            remedy="run `isagen image check --repair all`",
        )

    def cluster(self, table: L2Table, index: int) -> Cluster:
        """The entry of the cluster number `index` in `table`. Raises ImageCorrupt."""
        entry = table.entries[index << self.extended]
        bitmap = table.entries[2 * index + 1] if self.extended else 0
        if entry & COMPRESSED:
            if bitmap:
                raise self.corrupt(table, index, "a compressed cluster with a subcluster bitmap", bitmap)
            return Cluster(entry & (COMPRESSED - 1), False, True, True, self.full, 0)
        host = entry & OFFSET_MASK
        copied = bool(entry & COPIED)
        present = bool(host) or (self.external and copied)
        if host & (self.cluster_size - 1):
            raise self.corrupt(table, index, "a data cluster's offset isn't a cluster's", entry)
        if self.extended:
            allocated, zero = bitmap & _LOW32, bitmap >> 32
            if allocated & zero:
                raise self.corrupt(table, index, "a subcluster is both allocated and zero", bitmap)
            if allocated and not present:
                raise self.corrupt(table, index, "subclusters are allocated in no cluster", bitmap)
        else:
            zero = entry & ZERO
            allocated = 0 if zero or not present else 1
        return Cluster(host, copied and present, False, present, allocated, zero)

    def store(
        self, table: L2Table, index: int, host: int, allocated: int, zero: int, *, present: bool
    ) -> None:
        """Make the entry a plain cluster of its own (or, if not `present`, no cluster)."""
        entry = host | COPIED if present else 0
        if self.extended:
            table.entries[2 * index] = entry
            table.entries[2 * index + 1] = allocated | zero << 32
            table.changed(2 * index, 2 * index + 2)
        else:
            table.entries[index] = entry | zero
            table.changed(index, index + 1)

    def store_run(self, table: L2Table, index: int, count: int, host: int) -> None:
        """Make `count` entries fully allocated clusters that follow each other from `host`."""
        first = host | COPIED
        size = self.cluster_size
        if self.extended:
            for number in range(count):
                table.entries[2 * (index + number)] = first + number * size
                table.entries[2 * (index + number) + 1] = _LOW32
            table.changed(2 * index, 2 * (index + count))
        else:
            table.entries[index : index + count] = array("Q", range(first, first + count * size, size))
            table.changed(index, index + count)

    def store_packed(self, table: L2Table, index: int, descriptor: int) -> None:
        entry = descriptor | COMPRESSED
        if self.extended:
            table.entries[2 * index] = entry
            table.entries[2 * index + 1] = 0
            table.changed(2 * index, 2 * index + 2)
        else:
            table.entries[index] = entry
            table.changed(index, index + 1)

    # --- compressed clusters ---

    def pack(self, offset: int, size: int) -> int:
        """The descriptor of `size` compressed bytes at `offset`."""
        sectors = ((offset + size - 1) >> 9) - (offset >> 9)
        return offset | sectors << self.packed_bits

    def unpack(self, descriptor: int) -> tuple[int, int]:
        """(offset, most bytes) of a compressed descriptor."""
        offset = descriptor & ((1 << self.packed_bits) - 1)
        sectors = (descriptor >> self.packed_bits) + 1
        return offset, sectors * 512 - (offset & 511)

    def packed_clusters(self, descriptor: int) -> tuple[int, int]:
        """(first, count) of the host clusters that a compressed cluster touches."""
        offset, size = self.unpack(descriptor)
        first = offset >> self.cluster_bits
        return first, ((offset + size - 1) >> self.cluster_bits) - first + 1

    # --- runs ---

    def runs(self, tables: TableSource, offset: int, length: int) -> Iterator[Run]:
        """The range as runs, none over the end of an L2 table that is there."""
        end = offset + length
        while offset < end:
            index = offset >> self.l1_shift
            stop = min(end, (index + 1) << self.l1_shift)
            table = tables.get(index)
            if table is None:
                if stop < end:
                    last = ((end - 1) >> self.l1_shift) + 1
                    stop = min(end, tables.skip(index + 1, last) << self.l1_shift)
                yield Run(HOLE, offset, stop - offset, 0)
            elif self.extended:
                yield from self._extended(table, offset, stop)
            else:
                yield from self._standard(table, offset, stop)
            offset = stop

    def _standard(self, table: L2Table, offset: int, stop: int) -> Iterator[Run]:
        entries, size = table.entries, self.cluster_size
        index = (offset >> self.cluster_bits) & self.l2_mask
        last = ((stop - 1) >> self.cluster_bits) & self.l2_mask
        while offset < stop:
            entry = entries[index]
            first = index
            index += 1
            host = 0
            if entry & COMPRESSED:
                kind, host = PACKED, entry & (COMPRESSED - 1)
            elif entry & ZERO:
                kind = ZEROES
                while index <= last and entries[index] & (ZERO | COMPRESSED) == ZERO:
                    index += 1
            elif entry & OFFSET_MASK or (self.external and entry & COPIED):
                kind = DATA
                host = entry & OFFSET_MASK
                if host & (size - 1):
                    raise self.corrupt(table, first, "a data cluster's offset isn't a cluster's", entry)
                expected = entry + size
                while index <= last and entries[index] == expected:
                    index += 1
                    expected += size
                host += offset & (size - 1)
            else:
                kind = HOLE
                while index <= last and entries[index] == 0:
                    index += 1
                    while index + 64 <= last and entries[index : index + 64] == _NOTHING:
                        index += 64
            end = min(stop, (offset & -size) + (index - first) * size)
            yield Run(kind, offset, end - offset, host)
            offset = end

    def _extended(self, table: L2Table, offset: int, stop: int) -> Iterator[Run]:
        sub = self.subcluster_size
        pending: Run | None = None
        while offset < stop:
            cluster = self.cluster(table, (offset >> self.cluster_bits) & self.l2_mask)
            base = offset & -self.cluster_size
            end = min(stop, base + self.cluster_size)
            while offset < end:
                number = (offset - base) // sub
                here = min(end, base + (number + 1) * sub)
                if cluster.packed:
                    here, kind, host = end, PACKED, cluster.host
                elif cluster.allocated >> number & 1:
                    kind, host = DATA, cluster.host + offset - base
                    if cluster.allocated == self.full:
                        here = end
                else:
                    kind, host = (ZEROES if cluster.zero >> number & 1 else HOLE), 0
                if (
                    pending is not None
                    and pending.kind == kind
                    and kind != PACKED
                    and (kind != DATA or pending.host + pending.length == host)
                ):
                    pending = pending._replace(length=pending.length + here - offset)
                else:
                    if pending is not None:
                        yield pending
                    pending = Run(kind, offset, here - offset, host)
                offset = here
        if pending is not None:
            yield pending
