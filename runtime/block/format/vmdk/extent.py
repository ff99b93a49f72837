"""The extents of a VMDK, each a node of its own: plain bytes, grains found through tables, nothing at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.crowding import LONG, crowded, crowded_table
from runtime.block.format.linear import LinearNode
from runtime.block.format.mapped.node import ABSENT, ZERO, Interval, MappedNode
from runtime.block.format.mapped.table import Coding, PagedTable, TwoLevelTable
from runtime.block.format.vmdk import header as vmdk
from runtime.block.format.vmdk.header import SECTOR, SeSparseHeader, SparseHeader
from runtime.block.node import Node, Preallocation, ProtocolNode, Repair
from runtime.block.report import CheckReport, ImageInfo, may_stop

if TYPE_CHECKING:
    from runtime.block.format.mapped.table import Entries

_MANY = 1 << 15  # intervals, before which those that touch are joined
_UNIT = 1 << 16  # new storage begins at multiples of this


class FlatExtent(LinearNode):
    """Plain bytes in a file of their own."""

    format = "vmdk"

    def info(self) -> ImageInfo:
        return ImageInfo(
            filename=self.name, format="vmdk", virtual_size=self._size, actual_size=self.file.allocated()
        )

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        self.file.resize(self._start + length, shrink=shrink, preallocation=preallocation)
        self.file.flush()
        self._size = length


class SparseExtent(MappedNode):
    """Grains found through a directory of tables, which most extents have twice (hosted sparse and COWD)."""

    format = "vmdk"

    def __init__(
        self, file: ProtocolNode, header: SparseHeader, *, writable: bool, backing: Node | None
    ) -> None:
        super().__init__(file, file.name, header.capacity * SECTOR, writable=writable, backing=backing)
        self._adopt(header)

    def _adopt(self, header: SparseHeader) -> None:
        self.header = header
        self._size = header.capacity * SECTOR
        self.block_size = header.grain_bytes
        self.entry_step = header.grain_bytes // SECTOR
        self.can_mark_zero = bool(header.flags & vmdk.ZEROED_GRAINS)
        self._data_start = SECTOR
        spare = None
        if header.flags & vmdk.REDUNDANT and header.spare_directory:
            spare = PagedTable(self.file, header.spare_directory * SECTOR, header.tables, "<u4")
        self.table: TwoLevelTable = TwoLevelTable(
            PagedTable(self.file, header.directory * SECTOR, header.tables, "<u4"),
            entries_per_table=header.table_entries,
            code="<u4",
            count=header.grains,
            unit=SECTOR,
            place=self._place_table,
            valid=self._valid_table,
            spare=spare,
        )
        room = self.file.length() // (4 * header.table_entries) + 1
        if header.tables >= LONG and crowded(self.table.directory.pieces(), room):
            raise crowded_table("the grain directory", header.directory * SECTOR, self.name)

    def _valid_table(self, number: int, sector: int) -> int:
        if sector * SECTOR + 4 * self.header.table_entries > max(self._limit(), self._end):
            raise ImageCorrupt(
                f"grain table {number} lies behind the file's end",
                offset=self.header.directory * SECTOR + 4 * number,
                field="grain directory entry",
                value=sector,
                where=self.name,
            )
        return sector

    def _place_table(self, length: int) -> int:
        place = self._end
        self._end += -(-length // SECTOR) * SECTOR
        return place

    def _directories(self) -> list[PagedTable]:
        """The directory, and the redundant one if there is one."""
        spare = self.table.spare
        return [self.table.directory] if spare is None else [self.table.directory, spare]

    # The tables

    def _decode_all(self, raw: Entries) -> Entries:
        places = raw * SECTOR
        places[raw == 0] = ABSENT
        if self.can_mark_zero:
            places[raw == 1] = ZERO
        return places

    def _decode(self, raw: int) -> int:
        if raw == 0:
            return ABSENT
        return ZERO if raw == 1 and self.can_mark_zero else raw * SECTOR

    def _encode(self, place: int) -> int:
        return place // SECTOR if place >= 0 else -1 - place

    def entry_offset(self, block: int) -> int | None:
        number, at = divmod(block, self.header.table_entries)
        table = self.table.table_offset(number)
        return None if table is None else table + 4 * at

    # Writing

    def _before_first_write(self) -> None:
        if self.header.magic != vmdk.SPARSE_MAGIC:
            raise ImageUnsupported("COWD extents can't be written", where=self.name)
        self._end = -(-self.file.length() // _UNIT) * _UNIT
        self._set_unclean(1)

    def _mark_clean(self) -> None:
        self._set_unclean(0)

    def _set_unclean(self, value: int) -> None:
        self.file.pwrite(vmdk.SPARSE.offset("unclean"), bytes([value]))
        self.header = self.header.changed(unclean=value)

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        """Longer directories and their tables go to the end of the file; one sector, the header, switches to
        them.
        """
        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        capacity = -(-length // SECTOR)
        with self._lock:
            self._start_writing()
            old = self._size
            header = self.header.changed(capacity=capacity)
            if capacity * SECTOR < old:
                self._drop_blocks(header.grains)
            self.flush()
            if header.tables > self.header.tables:
                header = self._longer_directories(header)
            before = [(part.offset, 4 * self.header.tables) for part in self._directories()]
            moved = header.directory != self.header.directory
            self._adopt(header)
            self.file.pwrite(0, header.pack())
            self.file.flush()
            kept = 0 if moved else 4 * header.tables
            for offset, had in before:
                if had > kept:
                    self.file.punch(offset + kept, had - kept)
            if self._size > old:
                self._grow_content(old, self._size, preallocation)
                self.flush()

    def _longer_directories(self, header: SparseHeader) -> SparseHeader:
        """`header` with directories for all of its tables. New tables are holes of the file: nothing but
        zeroes.
        """
        before = self.header.tables
        table = -(-4 * header.table_entries // SECTOR) * SECTOR
        places = []
        coding = Coding("<u4")
        for old in self._directories():
            start = self._end
            tables = start + -(-4 * header.tables // SECTOR) * SECTOR
            end = tables + (header.tables - before) * table
            entries = coding.entries(old.entry(number) for number in range(before))
            entries.extend(coding.entries(range(tables // SECTOR, end // SECTOR, table // SECTOR)))
            if self._file_length > tables:
                self.file.write_zeroes(tables, end - tables)
            self.file.pwrite(start, coding.encoded(entries))
            self._end = -(-end // _UNIT) * _UNIT
            places.append(start // SECTOR)
        self._finish_data()
        self.file.flush()
        fields = {"directory": places[0]}
        if len(places) > 1:
            fields["spare_directory"] = places[1]
        return header.changed(**fields)

    # About the extent

    def _metadata(self) -> list[Interval]:
        import numpy as np

        from runtime.block.format.mapped.check import merged

        header = self.header
        found = [(0, SECTOR)]
        if header.descriptor_offset:
            start = header.descriptor_offset * SECTOR
            found.append((start, start + header.descriptor_size * SECTOR))
        table = 4 * header.table_entries
        for directory in self._directories():
            found.append((directory.offset, directory.offset + 4 * header.tables))
            for first in range(0, header.tables, 1 << 14):
                places = directory.read(first, min(1 << 14, header.tables - first))
                places = np.unique(places[places != 0] * SECTOR)
                # Tables in a row are one interval: there may be very many of them.
                edges = np.flatnonzero(np.diff(places) != table) + 1
                if len(places):
                    low = places[np.append(0, edges)]
                    high = places[np.append(edges - 1, len(places) - 1)] + table
                    found += list(zip(low.tolist(), high.tolist(), strict=True))
                if len(found) > _MANY:
                    found = merged(found)
        return found

    @may_stop
    def check(self, repair: Repair | None = None) -> CheckReport:
        from runtime.block.format.mapped.check import BlockCheck

        with self._lock:
            if repair:
                self.writable_or_raise()
                self._start_writing()
            self.flush()
            check = BlockCheck(self, repair, self._metadata(), align=SECTOR)
            starts = check.blocks()
            check.leaks(starts, self.file.length())
            if repair:
                self.flush()
                end = -(-(check.report.image_end_offset or 0) // SECTOR) * SECTOR
                if not self.file.fixed_length and self.file.length() > end:
                    self.file.resize(end, shrink=True)
            self._check_spare(check.report, repair)
            if repair:
                self.flush()
            return check.report

    def _check_spare(self, report: CheckReport, repair: Repair | None) -> None:
        """The redundant tables. A crash may leave old ones behind: nobody reads them as long as the others
        are good.
        """
        spare = self.table.spare
        if spare is None:
            return
        length = 4 * self.header.table_entries
        for number in self._used_tables(spare):
            first, second = self.table.table_offset(number), self.table.table_offset(number, spare)
            if first is None or second is None:
                continue
            good = self.file.pread(first, length)
            if good == self.file.pread(second, length):
                continue
            if repair:
                self.file.pwrite(second, good)
            report.note(
                "leak",
                f"redundant grain table {number} is out of date",
                offset=second,
                fixed=repair is not None,
            )

    def _used_tables(self, spare: PagedTable) -> list[int]:
        """The tables of which one copy may hold anything."""
        header = self.header
        copies = TwoLevelTable(
            spare, entries_per_table=header.table_entries, code="<u4", count=header.grains, unit=SECTOR
        )
        found: set[int] = set()
        for table in (self.table, copies):
            first = 0
            while first < header.grains:
                first += table.empty_run(first, header.grains - first)
                if first < header.grains:
                    found.add(first // header.table_entries)
                first = (first // header.table_entries + 1) * header.table_entries
        return sorted(found)

    def info(self) -> ImageInfo:
        return ImageInfo(
            filename=self.name,
            format="vmdk",
            virtual_size=self._size,
            actual_size=self.file.allocated(),
            cluster_size=self.block_size,
        )


class SeSparseExtent(MappedNode):
    """Grains of vSphere's space-efficient sparse disks, read only."""

    format = "vmdk"
    can_mark_zero = True
    entry_step = 1 << 48  # as long as the low bits of the grain's number, which are up there, don't wrap

    def __init__(self, file: ProtocolNode, header: SeSparseHeader, *, backing: Node | None) -> None:
        super().__init__(file, file.name, header.capacity * SECTOR, writable=False, backing=backing)
        self.header = header
        self.block_size = header.grain_size * SECTOR
        self._data_start = header.grains * SECTOR
        per_table = header.table_size * SECTOR // 8
        grains = -(-header.capacity // header.grain_size)
        self.table = TwoLevelTable(
            PagedTable(file, header.directory * SECTOR, -(-grains // per_table), "<u8"),
            entries_per_table=per_table,
            code="<u8",
            count=grains,
            unit=SECTOR,
            valid=self._table_sector,
            mapped=True,
        )

    def _table_sector(self, number: int, value: int) -> int:
        if value == 0:
            return 0
        index = value & 0xFFFFFFFF
        sector = self.header.tables + index * self.header.table_size
        if value >> 32 != 0x10000000 or index * self.header.table_size >= self.header.tables_size:
            raise vmdk.SESPARSE.wrong(
                f"entry {number} of the grain directory is no grain table",
                "directory",
                value,
                where=self.name,
            )
        return sector

    def _decode(self, raw: int) -> int:
        kind = raw >> 60 & 15
        if kind in (1, 2):
            return ZERO
        if kind != 3:
            return ABSENT if raw == 0 else 1 << 62  # no such kind: misplaced
        grain = raw >> 48 & 0xFFF | (raw & 0xFFFFFFFFFFFF) << 12
        return (self.header.grains + min(grain, 1 << 48) * self.header.grain_size) * SECTOR

    def _decode_all(self, raw: Entries) -> Entries:
        import numpy as np

        bits = raw.view(np.uint64)
        kind = (bits >> np.uint64(60)).astype(np.int64)
        grain = ((bits >> np.uint64(48)) & np.uint64(0xFFF)) | (
            (bits & np.uint64(0xFFFFFFFFFFFF)) << np.uint64(12)
        )
        grain = np.minimum(grain, np.uint64(1 << 48)).astype(np.int64)
        places = (self.header.grains + grain * self.header.grain_size) * SECTOR
        places[(kind == 0) & (bits == 0)] = ABSENT
        places[(kind == 1) | (kind == 2)] = ZERO
        places[((kind == 0) & (bits != 0)) | (kind > 3)] = 1 << 62  # no such kind: misplaced
        return places

    def _encode(self, place: int) -> int:
        raise ImageUnsupported("SESparse extents can't be written", where=self.name)

    def info(self) -> ImageInfo:
        return ImageInfo(
            filename=self.name,
            format="vmdk",
            virtual_size=self._size,
            actual_size=self.file.allocated(),
            cluster_size=self.block_size,
        )


def open_sparse(
    file: ProtocolNode, *, writable: bool, backing: Node | None
) -> tuple[MappedNode | LinearNode, SparseHeader | None]:
    """The extent in `file`, told by its magic number, and its hosted header. Raises ImageCorrupt."""
    from runtime.block.format.vmdk.stream import StreamExtent

    head = file.pread(0, vmdk.COWD.size)
    if head[:4] == vmdk.COWD_MAGIC:
        header = vmdk.parse_cowd(head, file.name, file.length()).changed(magic=vmdk.COWD_MAGIC)
        if writable:
            raise ImageUnsupported(
                "COWD extents can't be written",
                where=file.name,
                remedy="convert the image, or write an overlay",
            )
        return SparseExtent(file, header, writable=False, backing=backing), None
    if int.from_bytes(head[:8], "little") == vmdk.SESPARSE_MAGIC:
        if writable:
            raise ImageUnsupported(
                "SESparse extents can't be written",
                where=file.name,
                remedy="convert the image, or write an overlay",
            )
        return SeSparseExtent(
            file, SeSparseHeader.parse(head, file.name, file.length()), backing=backing
        ), None
    hosted = SparseHeader.parse(head, file.name, file.length())
    if hosted.flags & vmdk.COMPRESSED:
        stream = StreamExtent(file, hosted, writable=writable, backing=backing)
        return cast(LinearNode, stream), hosted
    if hosted.directory == vmdk.AT_END:
        raise vmdk.SPARSE.wrong(
            "only compressed extents have their directory at the end",
            "directory",
            hosted.directory,
            where=file.name,
        )
    return SparseExtent(file, hosted, writable=writable, backing=backing), hosted
