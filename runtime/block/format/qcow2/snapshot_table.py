"""The table of internal snapshots (docs/interop/qcow2.txt, "Snapshots"), as it is in the file.

A snapshot is an L1 table of its own, with a name and the time at which it was taken.
"""

from __future__ import annotations

import struct

from runtime.block.errors import ImageCorrupt, ImageNotFound
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.header import Header
from runtime.block.node import ProtocolNode
from runtime.block.report import SnapshotInfo
from runtime.records import record

_ENTRY = struct.Struct(">QIHHIIQII")  # 40 bytes
_EXTRA = struct.Struct(">QQQ")
_MAX_EXTRA = 1024
MAX_TABLE = 16 << 20  # bytes, of ours; enough for 65536 snapshots of usual names
_LARGEST = _ENTRY.size + _MAX_EXTRA + 2 * 0xFFFF  # bytes of an entry
_AHEAD = 256 << 10
NO_ICOUNT = (1 << 64) - 1


@record(frozen=True)
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
    icount: int = NO_ICOUNT
    rest: bytes = b""  # extra data that we don't know

    def encode(self) -> bytes:
        """The entry's bytes, with what aligns the next one."""
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
            icount=None if self.icount == NO_ICOUNT else self.icount,
            disk_size=self.disk_size or None,
        )


class SnapshotTable:
    """The snapshots in `file`, as its `header` names them. Raises ImageCorrupt as `load` does."""

    def __init__(self, file: ProtocolNode, header: Header) -> None:
        self.file = file
        self.header = header
        self.items: list[Snapshot] = []
        self.size = 0  # bytes
        if header.nb_snapshots:
            self.load()

    def load(self) -> None:
        """Read the table. Raises ImageCorrupt."""
        header, file = self.header, self.file
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
            disk_size, icount = 0, NO_ICOUNT
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
            if at - header.snapshots_offset > MAX_TABLE:
                raise corrupt("the snapshot table is too large", at, "entry", at - header.snapshots_offset)
        self.items = items
        self.size = at - header.snapshots_offset

    def ranges(self) -> list[tuple[int, int]]:
        """Where the table and the L1 tables lie: (offset, bytes)."""
        mine = [(self.header.snapshots_offset, self.size)]
        return mine + [(item.l1_offset, item.l1_size * 8) for item in self.items]

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
            where=self.file.name,
            remedy="there are: " + (", ".join(repr(item.name) for item in self.items) or "none"),
        )

    def entries(self) -> list[SnapshotInfo]:
        """What there is to say of each, in the table's order."""
        return [item.info() for item in self.items]
