"""Internal snapshots: what is done with them.

Refcounts say how many L1 tables use a cluster. Creating, applying and deleting change refcounts all over the
image together with the COPIED flags that depend on them. `Core.switching` makes each of them one step: at a
crash the image is as before or as after.
"""

from __future__ import annotations

import time
from array import array
from typing import TYPE_CHECKING

from runtime.block.errors import ImageCorrupt, ImageExists, ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.core import Core
from runtime.block.format.qcow2.header import COMPRESSED, COPIED, OFFSET_MASK
from runtime.block.format.qcow2.reader import Reader
from runtime.block.format.qcow2.refcounts import swapped
from runtime.block.format.qcow2.snapshot_table import MAX_TABLE, NO_ICOUNT, Snapshot
from runtime.block.format.qcow2.tables import L2Table, first_entry, read_l1, read_table
from runtime.block.format.qcow2.writer import Writer
from runtime.block.node import Buffer, Extent, FormatNode, Node, Snapshots
from runtime.block.report import ImageInfo, SnapshotInfo
from runtime.records import replace

if TYPE_CHECKING:
    from collections.abc import Iterator


class Qcow2Snapshots(Snapshots):
    """The snapshots of one image."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.table = core.snapshot_table

    def store(self, items: list[Snapshot]) -> None:
        """Write the table at a new place and name it in the header (while switching)."""
        core, header = self.core, self.core.header
        data = b"".join(item.encode() for item in items)
        if len(items) > h.MAX_SNAPSHOTS or len(data) > MAX_TABLE:
            raise ImageUnsupported("there would be too many snapshots", where=core.name)
        if header.nb_snapshots:
            self._free(header.snapshots_offset, self.table.size)
        header.snapshots_offset = self.core.place(data) if items else 0
        header.nb_snapshots = len(items)

    def _free(self, offset: int, length: int) -> None:
        size = self.core.header.cluster_size
        if length:
            self.core.refcounts.add(offset // size, -(-length // size), -1)

    # --- what snapshots share ---

    def _count(self, l1: array[int], table_offset: int, delta: int) -> None:
        """Change the refcounts of the L2 tables of `l1`, and of all data below them."""
        core = self.core
        refcounts, mapping = core.refcounts, core.mapping
        step = 2 if mapping.extended else 1
        size, bits = mapping.cluster_size, mapping.cluster_bits
        for index, entry in enumerate(l1):
            if not entry & OFFSET_MASK:
                continue
            offset = core.tables.l2_offset(index, entry, table_offset)
            first = count = 0
            for item in read_table(core.file, offset, size // 8)[::step]:
                if item & COMPRESSED:
                    refcounts.add(*mapping.packed_clusters(item & (COMPRESSED - 1)), delta)
                    continue
                host = item & OFFSET_MASK
                if not host:
                    continue
                if count and host >> bits == first + count:
                    count += 1
                    continue
                refcounts.add(first, count, delta)
                first, count = host >> bits, 1
            refcounts.add(first, count, delta)
            refcounts.add(offset >> bits, 1, delta)

    def _settle_active(self, l1: array[int], table_offset: int, old_size: int, old_offset: int) -> None:
        """Write `l1`, with COPIED flags that fit the refcounts, as the new active table (while switching).

        An L2 table whose flags must change is copied: it may belong to a snapshot, or to the state that a
        crash shall leave.
        """
        core = self.core
        refcounts, mapping = core.refcounts, core.mapping
        step = 2 if mapping.extended else 1
        size, bits = mapping.cluster_size, mapping.cluster_bits
        new = array("Q", bytes(8)) * len(l1)
        for index, entry in enumerate(l1):
            if not entry & OFFSET_MASK:
                continue
            offset = core.tables.l2_offset(index, entry, table_offset)
            entries = read_table(core.file, offset, size // 8)
            changed = False
            for at in range(0, len(entries), step):
                item = entries[at]
                host = 0 if item & COMPRESSED else item & OFFSET_MASK
                copied = COPIED if host and refcounts.get(host >> bits) == 1 else 0
                if item & COPIED != copied:
                    entries[at] = item & ~COPIED | copied
                    changed = True
            if changed:
                refcounts.add(offset >> bits, 1, -1)
                start, _ = refcounts.allocate(1, exact=True)
                offset = start << bits
                core.file.pwrite(offset, swapped(entries))
            new[index] = offset | (COPIED if refcounts.get(offset >> bits) == 1 else 0)
        self._free(old_offset, old_size * 8)
        header = core.header
        header.l1_size = len(new)
        header.l1_table_offset = self.core.place(swapped(new))

    def _l1_of(self, item: Snapshot) -> array[int]:
        return read_l1(self.core.file, self.core.header, item.l1_offset, item.l1_size)

    # --- operations ---

    def entries(self) -> list[SnapshotInfo]:
        return self.table.entries()

    def create(
        self, name: str, *, vm_state_size: int = 0, vm_clock_ns: int = 0, icount: int | None = None
    ) -> SnapshotInfo:
        core = self.core
        core.writable_or_raise()
        if core.external:
            raise ImageUnsupported("an image with a data file can't have internal snapshots", where=core.name)
        if not name or len(name.encode(errors="surrogateescape")) > 0xFFFF:
            raise ImageUnsupported("a snapshot's name has 1 to 65535 bytes", where=core.name)
        with core.lock:
            if any(item.name == name for item in self.table.items):
                raise ImageExists(f"there is a snapshot {name!r} already", where=core.name)
            header = core.header
            ident = max((int(item.id) for item in self.table.items if item.id.isdigit()), default=0) + 1
            now = time.time_ns()
            with core.switching():
                l1, old_offset, old_size = core.tables.l1, header.l1_table_offset, header.l1_size
                guest = header.l1_entries_for(header.size)
                # The VM state behind the disk belongs to the snapshot alone from now on.
                mine = l1[:guest]
                self._count(mine, old_offset, 1)
                kept = array("Q", (entry & OFFSET_MASK for entry in (l1 if vm_state_size else mine)))
                if not vm_state_size:
                    self._count(array("Q", bytes(8)) * guest + l1[guest:], old_offset, -1)
                offset = self.core.place(swapped(kept))
                item = Snapshot(
                    offset,
                    len(kept),
                    str(ident),
                    name,
                    now // 10**9 & 0xFFFF_FFFF,
                    now % 10**9,
                    vm_clock_ns,
                    vm_state_size,
                    header.size,
                    NO_ICOUNT if icount is None else icount,
                )
                self._settle_active(mine, old_offset, old_size, old_offset)
                items = [*self.table.items, item]
                self.store(items)
            return item.info()

    def apply(self, snapshot: str) -> None:
        core = self.core
        core.writable_or_raise()
        with core.lock:
            item = self.table.find(snapshot)
            header = core.header
            size = item.disk_size or header.size
            if header.l1_entries_for(size) > item.l1_size:
                raise ImageCorrupt(
                    "a snapshot's L1 table is too small for its disk",
                    offset=header.snapshots_offset,
                    field=f"l1_size of snapshot {item.id}",
                    value=item.l1_size,
                    where=core.name,
                )
            with core.switching():
                old, old_offset, old_size = core.tables.l1, header.l1_table_offset, header.l1_size
                l1 = self._l1_of(item)
                self._count(l1, item.l1_offset, 1)
                self._count(old, old_offset, -1)
                self._settle_active(l1, item.l1_offset, old_size, old_offset)
                header.size = size
            core.note_dirty(0, size)

    def delete(self, snapshot: str) -> None:
        core = self.core
        core.writable_or_raise()
        with core.lock:
            item = self.table.find(snapshot)
            header = core.header
            with core.switching():
                self._count(self._l1_of(item), item.l1_offset, -1)
                self._free(item.l1_offset, item.l1_size * 8)
                self._settle_active(
                    core.tables.l1, header.l1_table_offset, header.l1_size, header.l1_table_offset
                )
                self.store([other for other in self.table.items if other is not item])

    def open(self, snapshot: str) -> Node:
        return SnapshotNode(self.core, self.table.find(snapshot))

    # --- VM state ---

    def _vm_state_offset(self, size: int) -> int:
        core = self.core
        return core.header.l1_entries_for(size) << core.mapping.l1_shift

    def read_vm_state(self, offset: int, length: int, *, snapshot: str | None = None) -> bytes:
        core = self.core
        target = bytearray(length)
        with core.lock:
            view = memoryview(target)
            if snapshot is None:
                Reader(core).read(core.tables, self._vm_state_offset(core.header.size) + offset, view)
            else:
                item = self.table.find(snapshot)
                below = SnapshotNode(core, item)
                size = item.disk_size or core.header.size
                Reader(core).read(below, self._vm_state_offset(size) + offset, view)
        return bytes(target)

    def write_vm_state(self, offset: int, data: Buffer) -> None:
        from runtime.block.format.qcow2.resize import grow_l1

        core = self.core
        core.writable_or_raise()
        view = memoryview(data).cast("B")
        with core.lock:
            core.begin_write()
            start = self._vm_state_offset(core.header.size) + offset
            grow_l1(core, core.header.l1_entries_for(start + len(view)))
            Writer(core).write(start, view)


class SnapshotNode(FormatNode):
    """A snapshot's disk, to be read."""

    format = "qcow2"

    def __init__(self, core: Core, item: Snapshot) -> None:
        self.core = core
        self.file = core.file
        self.backing = core.backing
        self.name = f"{core.name} (snapshot {item.name})"
        self.item = item
        self._l1 = read_l1(core.file, core.header, item.l1_offset, item.l1_size)
        self._tables: dict[int, L2Table] = {}

    def get(self, index: int) -> L2Table | None:
        """The L2 table of an L1 entry."""
        found = self._tables.get(index)
        if found is not None or index >= len(self._l1) or not self._l1[index] & OFFSET_MASK:
            return found
        core = self.core
        offset = core.tables.l2_offset(index, self._l1[index], self.item.l1_offset)
        if len(self._tables) * core.header.cluster_size > 8 << 20:
            self._tables.clear()
        found = L2Table(offset, read_table(core.file, offset, core.header.cluster_size // 8), linked=True)
        self._tables[index] = found
        return found

    def skip(self, index: int, end: int) -> int:
        """See `mapping.TableSource`."""
        return first_entry(self._l1, index, end)

    def length(self) -> int:
        return self.item.disk_size or self.core.header.size

    def pread(self, offset: int, length: int) -> bytes:
        target = bytearray(length)
        self.read_into(offset, memoryview(target))
        return bytes(target)

    def read_into(self, offset: int, target: memoryview) -> None:
        self.in_range_or_raise(offset, len(target))
        with self.core.lock:
            Reader(self.core).read(self, offset, target)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        length = self.length() - offset if length is None else length
        self.in_range_or_raise(offset, length)
        with self.core.lock:
            return iter(list(Reader(self.core).extents(self, offset, length)))

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()

    def flush(self) -> None:
        pass

    def info(self) -> ImageInfo:
        return replace(self.core.info(), virtual_size=self.length())

    def close(self) -> None:
        pass
