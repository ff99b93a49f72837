"""An open Parallels expanding image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.block.errors import ImageUnsupported
from runtime.block.format.mapped.node import ABSENT, MappedNode
from runtime.block.format.mapped.table import PagedTable
from runtime.block.format.parallels import header as parallels
from runtime.block.format.parallels.header import SECTOR, Header
from runtime.block.node import Node, Preallocation, ProtocolNode, Repair
from runtime.block.report import CheckReport, ImageInfo, may_stop

if TYPE_CHECKING:
    from runtime.block.format.mapped.table import Entries


class ParallelsNode(MappedNode):
    """Clusters in a table behind the header. The "in use" mark is never set by us: the table only ever
    points to
    what is durable, so that no check is needed after a crash.
    """

    format = "parallels"

    def __init__(
        self, file: ProtocolNode, *, writable: bool, backing: Node | None = None, check: bool = False
    ) -> None:
        header = Header.parse(file.pread(0, parallels.LAYOUT.size), file.name, file.length())
        super().__init__(file, file.name, header.sectors * SECTOR, writable=writable, backing=backing)
        self._adopt(header)
        if header.in_use == parallels.IN_USE and writable and not check:
            self.check("all")

    def _adopt(self, header: Header) -> None:
        self.header = header
        self._size = header.sectors * SECTOR
        self.block_size = header.cluster_sectors * SECTOR
        self.entry_step = header.cluster_sectors // header.multiplier
        self._data_start = header.data_start
        self.table = PagedTable(self.file, parallels.LAYOUT.size, header.entries, "<u4")

    # The table

    def _decode_all(self, raw: Entries) -> Entries:
        places = raw * (self.header.multiplier * SECTOR)
        places[raw == 0] = ABSENT
        return places

    def _decode(self, raw: int) -> int:
        return raw * self.header.multiplier * SECTOR if raw else ABSENT

    def _encode(self, place: int) -> int:
        return place // (self.header.multiplier * SECTOR) if place >= 0 else 0

    def entry_offset(self, block: int) -> int:
        return parallels.LAYOUT.size + 4 * block

    # Writing

    def _before_first_write(self) -> None:
        if self.header.extension:
            # Dirty bitmaps of the disk, which writes would make wrong: as if there had never been any.
            self._write_header(self.header.changed(extension=0))
        self._end = self._aligned(max(self.file.length(), self._data_start))

    def _aligned(self, offset: int) -> int:
        unit = self.header.multiplier * SECTOR
        return -(-offset // unit) * unit

    def _write_header(self, header: Header) -> None:
        self.header = header
        self.file.pwrite(0, header.pack())
        self.file.flush()

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        """The table grows over the first clusters, which move to the end before; one sector says that it
        has.
        """
        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        sectors = -(-length // SECTOR)
        entries = -(-sectors // self.header.cluster_sectors)
        if entries > parallels.MAX_ENTRIES or (self.header.magic == parallels.MAGIC_OLD and sectors >> 32):
            raise ImageUnsupported(f"a Parallels image can't have a disk of {length} bytes", where=self.name)
        with self._lock:
            self._start_writing()
            old = self._size
            header = self.header.changed(sectors=sectors)
            if sectors * SECTOR < old:
                self._drop_blocks(entries)
            elif entries > self.header.entries:
                header = self._longer_table(header, entries)
            self.flush()
            self._write_header(header)
            self._adopt(header)
            if self._size > old:
                self._grow_content(old, self._size, preallocation)
                self.flush()

    def _longer_table(self, header: Header, entries: int) -> Header:
        import numpy as np

        self.flush()
        needed = parallels.LAYOUT.size + 4 * entries
        start = self._data_start
        if needed > start:
            start = -(-needed // self.block_size) * self.block_size
            self._end = max(self._end, self._aligned(start))
            for first in range(0, self.blocks(), 1 << 16):
                places = self.places(first, min(1 << 16, self.blocks() - first))
                for at in np.flatnonzero((places >= 0) & (places < start)).tolist():
                    self._relocate(first + at, int(places[at]))
            self.flush()
        table_end = parallels.LAYOUT.size + 4 * self.header.entries
        self.file.write_zeroes(table_end, start - table_end)
        self.file.flush()
        return header.changed(entries=entries, data_offset=start // SECTOR)

    def _relocate(self, block: int, source: int) -> None:
        place = self._end
        for at in range(0, self.block_size, 1 << 20):
            part = min(1 << 20, self.block_size - at)
            self.file.pwrite(place + at, self.file.pread(source + at, part))
        self._end += self.block_size
        self._bind(block, 1, place)

    # About the image

    @may_stop
    def check(self, repair: Repair | None = None) -> CheckReport:
        from runtime.block.format.mapped.check import BlockCheck

        with self._lock:
            if repair:
                self.writable_or_raise()
                self._start_writing()
            self.flush()
            table = (0, parallels.LAYOUT.size + 4 * self.header.entries)
            align = self.header.multiplier * SECTOR if self._data_start % self.block_size == 0 else SECTOR
            check = BlockCheck(self, repair, [table], align=align)
            check.leaks(check.blocks(), self.file.length())
            report = check.report
            if self.header.in_use == parallels.IN_USE:
                report.note(
                    "leak",
                    "the image wasn't closed by who wrote it last",
                    offset=parallels.LAYOUT.offset("in_use"),
                    fixed=repair is not None,
                )
            if repair:
                self.flush()
                end = max(report.image_end_offset or 0, self._data_start)
                if not self.file.fixed_length and self.file.length() > end:
                    self.file.resize(end, shrink=True)
                    self._end = self._aligned(end)
                self._write_header(self.header.changed(in_use=0))
            return report

    def info(self) -> ImageInfo:
        return ImageInfo(
            filename=self.name,
            format=self.format,
            virtual_size=self._size,
            actual_size=self.file.allocated(),
            cluster_size=self.block_size,
            dirty_flag=self.header.in_use == parallels.IN_USE,
        )
