"""Internal snapshots (docs/interop/qcow2.txt, "Snapshots").

A snapshot is an L1 table; refcounts say how many L1 tables use a cluster. Creating, applying and deleting
change refcounts all over the image together with the COPIED flags that depend on them. `Qcow2Node.switching`
makes each of them one step: at a crash the image is as before or as after.
"""

from __future__ import annotations

import struct
import time
from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runtime.block.errors import ImageCorrupt, ImageExists, ImageNotFound, ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.header import COMPRESSED, COPIED, OFFSET_MASK
from runtime.block.format.qcow2.refcounts import swapped
from runtime.block.format.qcow2.tables import L2Table, first_entry, read_l1, read_table
from runtime.block.node import Buffer, Extent, FormatNode, Node, Snapshots
from runtime.block.report import ImageInfo, SnapshotInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.block.format.qcow2.node import Qcow2Node

_ENTRY = struct.Struct(">QIHHIIQII")  # 40 bytes
_EXTRA = struct.Struct(">QQQ")
_MAX_EXTRA = 1024
_MAX_TABLE = 16 << 20  # of ours; enough for 65536 snapshots of usual names
_LARGEST = _ENTRY.size + _MAX_EXTRA + 2 * 0xFFFF  # bytes of an entry
_AHEAD = 256 << 10
_NO_ICOUNT = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One entry of the snapshot table. `disk_size` is 0 where the entry doesn't say it (version 2)."""

    l1_offset: int
    l1_size: int
    id: str
    name: str
    date_sec: int
    date_nsec: int
    vm_clock_ns: int
    vm_state_size: int
    disk_size: int = 0
    icount: int = _NO_ICOUNT
    rest: bytes = b""  # extra data that we don't know

    def encode(self) -> bytes:
        extra = _EXTRA.pack(self.vm_state_size, self.disk_size, self.icount) + self.rest
        name, ident = (text.encode(errors="surrogateescape") for text in (self.name, self.id))
        fixed = _ENTRY.pack(
            self.l1_offset,
            self.l1_size,
            len(ident),
            len(name),
            self.date_sec,
            self.date_nsec,
            self.vm_clock_ns,
            min(self.vm_state_size, 0xFFFF_FFFF),
            len(extra),
        )
        data = fixed + extra + ident + name
        return data + bytes(-len(data) % 8)

    def info(self) -> SnapshotInfo:
        return SnapshotInfo(
            id=self.id,
            name=self.name,
            vm_state_size=self.vm_state_size,
            date_sec=self.date_sec,
            date_nsec=self.date_nsec,
            vm_clock_sec=self.vm_clock_ns // 10**9,
            vm_clock_nsec=self.vm_clock_ns % 10**9,
            icount=None if self.icount == _NO_ICOUNT else self.icount,
            disk_size=self.disk_size or None,
        )


class Qcow2Snapshots(Snapshots):
    """The snapshots of `node`."""

    def __init__(self, node: Qcow2Node) -> None:
        self.node = node
        self.items: list[Snapshot] = []
        self.table_size = 0  # bytes
        if node.header.nb_snapshots:
            self.load()

    # --- the table ---

    def load(self) -> None:
        """Read the table. Raises ImageCorrupt."""
        header, file = self.node.header, self.node.file
        items: list[Snapshot] = []
        at = header.snapshots_offset
        window, base = b"", 0  # read ahead
        tables = 0
        for number in range(header.nb_snapshots):

            def corrupt(what: str, offset: int, field: str, value: int, number: int = number) -> ImageCorrupt:
                return ImageCorrupt(
                    what, offset=offset, field=f"{field} of snapshot {number}", value=value, where=file.name
                )

            if at + _ENTRY.size > file.length():
                raise corrupt("the snapshot table isn't inside of the file", at, "entry", at)
            if at + _LARGEST > base + len(window):
                window, base = file.pread(at, max(_LARGEST, _AHEAD)), at
            (l1_offset, l1_size, id_size, name_size, sec, nsec, clock, state_size, extra_size) = (
                _ENTRY.unpack_from(window, at - base)
            )
            if extra_size > _MAX_EXTRA:
                raise corrupt("a snapshot has too much extra data", at + 36, "extra_data_size", extra_size)
            if l1_size > h.MAX_L1_BYTES // 8:
                raise corrupt("a snapshot's L1 table is too large", at + 8, "l1_size", l1_size)
            end = l1_offset + l1_size * 8
            if l1_size and (l1_offset % header.cluster_size or l1_offset == 0):
                raise corrupt("a snapshot's L1 table isn't at a cluster", at, "l1_table_offset", l1_offset)
            if l1_size and end > file.length() + header.cluster_size - 1:
                raise corrupt(
                    "a snapshot's L1 table isn't inside of the file", at, "l1_table_offset", l1_offset
                )
            tables += l1_size * 8
            if tables > file.length():
                raise corrupt("the snapshots' L1 tables lie on each other", at + 8, "l1_size", l1_size)
            start = at - base + _ENTRY.size
            body = window[start : start + extra_size + id_size + name_size]
            extra = body[:extra_size]
            disk_size, icount = 0, _NO_ICOUNT
            if extra_size >= 8:
                (state_size,) = struct.unpack_from(">Q", extra)
            if extra_size >= 16:
                (disk_size,) = struct.unpack_from(">Q", extra, 8)
            elif header.version >= 3:
                raise corrupt("a snapshot lacks its disk's size", at + 36, "extra_data_size", extra_size)
            if extra_size >= 24:
                (icount,) = struct.unpack_from(">Q", extra, 16)
            if disk_size > (1 << 63) - 1:
                raise corrupt("a snapshot's disk is too big", at + 48, "disk size", disk_size)
            items.append(
                Snapshot(
                    l1_offset,
                    l1_size,
                    body[extra_size : extra_size + id_size].decode(errors="surrogateescape"),
                    body[extra_size + id_size :].decode(errors="surrogateescape"),
                    sec,
                    nsec,
                    clock,
                    state_size,
                    disk_size,
                    icount,
                    extra[24:],
                )
            )
            at += -(-(_ENTRY.size + len(body)) // 8) * 8
            if at - header.snapshots_offset > _MAX_TABLE:
                raise corrupt("the snapshot table is too large", at, "entry", at - header.snapshots_offset)
        self.items = items
        self.table_size = at - header.snapshots_offset

    def ranges(self) -> list[tuple[int, int]]:
        """Where the table and the L1 tables lie: (offset, bytes)."""
        mine = [(self.node.header.snapshots_offset, self.table_size)]
        return mine + [(item.l1_offset, item.l1_size * 8) for item in self.items]

    def store(self, items: list[Snapshot]) -> None:
        """Write the table at a new place and name it in the header (while switching)."""
        node, header = self.node, self.node.header
        data = b"".join(item.encode() for item in items)
        if len(items) > h.MAX_SNAPSHOTS or len(data) > _MAX_TABLE:
            raise ImageUnsupported("there would be too many snapshots", where=node.name)
        if header.nb_snapshots:
            self._free(header.snapshots_offset, self.table_size)
        header.snapshots_offset = self._place(data) if items else 0
        header.nb_snapshots = len(items)

    def _place(self, data: bytes) -> int:
        """Write `data` into new clusters; where."""
        node, size = self.node, self.node.header.cluster_size
        start, _ = node.refcounts.allocate(max(1, -(-len(data) // size)), exact=True)
        node.file.pwrite(start * size, data + bytes(-len(data) % size))
        return start * size

    def _free(self, offset: int, length: int) -> None:
        size = self.node.header.cluster_size
        if length:
            self.node.refcounts.add(offset // size, -(-length // size), -1)

    # --- what snapshots share ---

    def find(self, snapshot: str) -> Snapshot:
        """By id, else by name. Raises ImageNotFound."""
        for item in self.items:
            if item.id == snapshot:
                return item
        for item in self.items:
            if item.name == snapshot:
                return item
        raise ImageNotFound(
            f"there is no snapshot {snapshot!r}",
            where=self.node.name,
            remedy="there are: " + (", ".join(repr(item.name) for item in self.items) or "none"),
        )

    def _count(self, l1: array[int], table_offset: int, delta: int) -> None:
        """Change the refcounts of the L2 tables of `l1`, and of all data below them."""
        node = self.node
        refcounts, mapping = node.refcounts, node.mapping
        step = 2 if mapping.extended else 1
        size, bits = mapping.cluster_size, mapping.cluster_bits
        for index, entry in enumerate(l1):
            if not entry & OFFSET_MASK:
                continue
            offset = node.tables.l2_offset(index, entry, table_offset)
            first = count = 0
            for item in read_table(node.file, offset, size // 8)[::step]:
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
        node = self.node
        refcounts, mapping = node.refcounts, node.mapping
        step = 2 if mapping.extended else 1
        size, bits = mapping.cluster_size, mapping.cluster_bits
        new = array("Q", bytes(8)) * len(l1)
        for index, entry in enumerate(l1):
            if not entry & OFFSET_MASK:
                continue
            offset = node.tables.l2_offset(index, entry, table_offset)
            entries = read_table(node.file, offset, size // 8)
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
                node.file.pwrite(offset, swapped(entries))
            new[index] = offset | (COPIED if refcounts.get(offset >> bits) == 1 else 0)
        self._free(old_offset, old_size * 8)
        header = node.header
        header.l1_size = len(new)
        header.l1_table_offset = self._place(swapped(new))

    def _l1_of(self, item: Snapshot) -> array[int]:
        return read_l1(self.node.file, self.node.header, item.l1_offset, item.l1_size)

    # --- operations ---

    def entries(self) -> list[SnapshotInfo]:
        return [item.info() for item in self.items]

    def create(
        self, name: str, *, vm_state_size: int = 0, vm_clock_ns: int = 0, icount: int | None = None
    ) -> SnapshotInfo:
        node = self.node
        node.writable_or_raise()
        if node.external:
            raise ImageUnsupported("an image with a data file can't have internal snapshots", where=node.name)
        if not name or len(name.encode(errors="surrogateescape")) > 0xFFFF:
            raise ImageUnsupported("a snapshot's name has 1 to 65535 bytes", where=node.name)
        with node.lock:
            if any(item.name == name for item in self.items):
                raise ImageExists(f"there is a snapshot {name!r} already", where=node.name)
            header = node.header
            ident = max((int(item.id) for item in self.items if item.id.isdigit()), default=0) + 1
            now = time.time_ns()
            with node.switching():
                l1, old_offset, old_size = node.tables.l1, header.l1_table_offset, header.l1_size
                guest = header.l1_entries_for(header.size)
                # The VM state behind the disk belongs to the snapshot alone from now on.
                mine = l1[:guest]
                self._count(mine, old_offset, 1)
                kept = array("Q", (entry & OFFSET_MASK for entry in (l1 if vm_state_size else mine)))
                if not vm_state_size:
                    self._count(array("Q", bytes(8)) * guest + l1[guest:], old_offset, -1)
                offset = self._place(swapped(kept))
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
                    _NO_ICOUNT if icount is None else icount,
                )
                self._settle_active(mine, old_offset, old_size, old_offset)
                items = [*self.items, item]
                self.store(items)
            return item.info()

    def apply(self, snapshot: str) -> None:
        node = self.node
        node.writable_or_raise()
        with node.lock:
            item = self.find(snapshot)
            header = node.header
            size = item.disk_size or header.size
            if header.l1_entries_for(size) > item.l1_size:
                raise ImageCorrupt(
                    "a snapshot's L1 table is too small for its disk",
                    offset=header.snapshots_offset,
                    field=f"l1_size of snapshot {item.id}",
                    value=item.l1_size,
                    where=node.name,
                )
            with node.switching():
                old, old_offset, old_size = node.tables.l1, header.l1_table_offset, header.l1_size
                l1 = self._l1_of(item)
                self._count(l1, item.l1_offset, 1)
                self._count(old, old_offset, -1)
                self._settle_active(l1, item.l1_offset, old_size, old_offset)
                header.size = size
            node.note_dirty(0, size)

    def delete(self, snapshot: str) -> None:
        node = self.node
        node.writable_or_raise()
        with node.lock:
            item = self.find(snapshot)
            header = node.header
            with node.switching():
                self._count(self._l1_of(item), item.l1_offset, -1)
                self._free(item.l1_offset, item.l1_size * 8)
                self._settle_active(
                    node.tables.l1, header.l1_table_offset, header.l1_size, header.l1_table_offset
                )
                self.store([other for other in self.items if other is not item])

    def open(self, snapshot: str) -> Node:
        return SnapshotNode(self.node, self.find(snapshot))

    # --- VM state ---

    def _vm_state_offset(self, size: int) -> int:
        node = self.node
        return node.header.l1_entries_for(size) << node.mapping.l1_shift

    def read_vm_state(self, offset: int, length: int, *, snapshot: str | None = None) -> bytes:
        node = self.node
        target = bytearray(length)
        with node.lock:
            view = memoryview(target)
            if snapshot is None:
                node.read_mapped(node.tables, self._vm_state_offset(node.header.size) + offset, view)
            else:
                item = self.find(snapshot)
                below = SnapshotNode(node, item)
                size = item.disk_size or node.header.size
                node.read_mapped(below, self._vm_state_offset(size) + offset, view)
        return bytes(target)

    def write_vm_state(self, offset: int, data: Buffer) -> None:
        from runtime.block.format.qcow2.resize import grow_l1

        node = self.node
        node.writable_or_raise()
        view = memoryview(data).cast("B")
        with node.lock:
            node.begin_write()
            start = self._vm_state_offset(node.header.size) + offset
            grow_l1(node, node.header.l1_entries_for(start + len(view)))
            node.writer.write(start, view)


class SnapshotNode(FormatNode):
    """A snapshot's disk, to be read."""

    format = "qcow2"

    def __init__(self, node: Qcow2Node, item: Snapshot) -> None:
        self.node = node
        self.file = node.file
        self.backing = node.backing
        self.name = f"{node.name} (snapshot {item.name})"
        self.item = item
        self._l1 = read_l1(node.file, node.header, item.l1_offset, item.l1_size)
        self._tables: dict[int, L2Table] = {}

    def get(self, index: int) -> L2Table | None:
        """The L2 table of an L1 entry."""
        found = self._tables.get(index)
        if found is not None or index >= len(self._l1) or not self._l1[index] & OFFSET_MASK:
            return found
        node = self.node
        offset = node.tables.l2_offset(index, self._l1[index], self.item.l1_offset)
        if len(self._tables) * node.header.cluster_size > 8 << 20:
            self._tables.clear()
        found = L2Table(offset, read_table(node.file, offset, node.header.cluster_size // 8), linked=True)
        self._tables[index] = found
        return found

    def skip(self, index: int, end: int) -> int:
        """See `mapping.TableSource`."""
        return first_entry(self._l1, index, end)

    def length(self) -> int:
        return self.item.disk_size or self.node.header.size

    def pread(self, offset: int, length: int) -> bytes:
        target = bytearray(length)
        self.read_into(offset, memoryview(target))
        return bytes(target)

    def read_into(self, offset: int, target: memoryview) -> None:
        self.in_range_or_raise(offset, len(target))
        with self.node.lock:
            self.node.read_mapped(self, offset, target)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        length = self.length() - offset if length is None else length
        self.in_range_or_raise(offset, length)
        with self.node.lock:
            return iter(list(self.node.mapped_extents(self, offset, length)))

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()

    def flush(self) -> None:
        pass

    def info(self) -> ImageInfo:
        return replace(self.node.info(), virtual_size=self.length())

    def close(self) -> None:
        pass
