"""An open QED image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageCorrupt, ImageOption, ImageUnsupported
from runtime.block.format.crowding import LONG, crowded, crowded_table
from runtime.block.format.mapped.node import ABSENT, ZERO, Interval, MappedNode
from runtime.block.format.mapped.table import PagedTable, TwoLevelTable
from runtime.block.format.qed import header as qed
from runtime.block.format.qed.header import Header
from runtime.block.node import Preallocation, ProtocolNode, Repair
from runtime.block.report import CheckReport, ImageInfo, may_stop

if TYPE_CHECKING:
    from runtime.block.format.mapped.table import Entries


class QedNode(MappedNode):
    """The "need check" bit is never set by us: tables only ever point to what is durable."""

    format = "qed"
    can_mark_zero = True

    def __init__(self, file: ProtocolNode, context: OpenContext) -> None:
        header = Header.parse(file.pread(0, qed.LAYOUT.size), file.name, file.length())
        super().__init__(file, file.name, header.disk_size, writable=context.writable, backing=None)
        self._context = context
        self.header = header
        self.block_size = self.entry_step = header.cluster_size
        self._data_start = header.header_size * header.cluster_size
        self.table: TwoLevelTable = TwoLevelTable(
            PagedTable(file, header.directory, header.table_entries, "<u8"),
            entries_per_table=header.table_entries,
            code="<u8",
            count=header.table_entries**2,
            place=self._place_table,
            valid=self._valid_table,
        )
        room = file.length() // header.cluster_size
        if header.table_entries >= LONG and crowded(self.table.directory.pieces(), room):
            raise crowded_table("the L1 table", header.directory, file.name)
        self._reference: str | None = None
        if header.features & qed.HAS_BACKING:
            raw = file.pread(header.backing_offset, header.backing_length)
            self._reference = raw.decode("utf-8", "surrogateescape")
            if context.backing:
                form = "raw" if header.features & qed.BACKING_IS_RAW else None
                self.backing = context.references.open_image(self._reference, "backing file", format=form)
        if header.features & qed.NEED_CHECK and context.writable and not context.check:
            try:
                self.check("all")
            except BaseException:
                if self.backing is not None:
                    self.backing.close()
                raise

    def _valid_table(self, number: int, value: int) -> int:
        if value == 0:
            return 0
        if value % self.block_size or not self._data_start <= value < self._limit():
            raise ImageCorrupt(
                f"table {number} lies outside of the image's data",
                offset=self.header.directory + 8 * number,
                field="directory entry",
                value=value & 0xFFFFFFFFFFFFFFFF,
                where=self.name,
            )
        return value

    def _place_table(self, length: int) -> int:
        place = self._end
        self._end += length
        return place

    # The tables

    def _decode_all(self, raw: Entries) -> Entries:
        places = raw.copy()
        places[raw < 0] = 1 << 62
        places[raw == 0] = ABSENT
        places[raw == 1] = ZERO
        return places

    def _decode(self, raw: int) -> int:
        if raw > 1:
            return raw
        return -1 - raw if raw >= 0 else 1 << 62

    def _encode(self, place: int) -> int:
        return place if place >= 0 else -1 - place

    def entry_offset(self, block: int) -> int | None:
        number, at = divmod(block, self.header.table_entries)
        table = self.table.directory.entry(number)
        return table + 8 * at if table else None

    # Writing

    def _before_first_write(self) -> None:
        self._end = -(-self.file.length() // self.block_size) * self.block_size
        if self.header.autoclear:
            self._write_header(self.header.changed(autoclear=0))

    def _write_header(self, header: Header) -> None:
        self.header = header
        self.file.pwrite(0, header.pack())
        self.file.flush()

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        size = -(-length // 512) * 512
        if size > self.header.max_size:
            raise ImageUnsupported(
                f"this QED image can't have a disk of {length} bytes",
                where=self.name,
                remedy="convert it to QCOW2",
            )
        with self._lock:
            self._start_writing()
            old = self._size
            if size < old:
                self._drop_blocks(-(-size // self.block_size))
            self.flush()
            self._size = size
            self._write_header(self.header.changed(disk_size=size))
            if size > old:
                self._grow_content(old, size, preallocation)
                self.flush()

    # About the image

    def _metadata(self) -> list[Interval]:
        header = self.header
        found = [(0, header.header_size * header.cluster_size)]
        found.append((header.directory, header.directory + header.table_bytes))
        for first in range(0, header.table_entries, 1 << 16):
            tables = self.table.directory.read(first, min(1 << 16, header.table_entries - first))
            found += [(place, place + header.table_bytes) for place in tables[tables > 0].tolist()]
        return found

    def _tables(self) -> Iterator[tuple[int, int]]:
        """All directory entries but empty ones; also those behind the disk's end."""
        directory, number = self.table.directory, 0
        while number < directory.count:
            value = directory.entry(number)
            if value:
                yield number, value
                number += 1
            else:
                number += directory.run(number, directory.count - number, 0)

    def _check_tables(self, report: CheckReport, repair: Repair | None) -> None:
        """Tables outside of the file, or in each other's place: their parts of the disk are lost."""
        seen: set[int] = set()
        for number, value in self._tables():
            try:
                self._valid_table(number, value)
                if value not in seen:
                    seen.add(value)
                    continue
                text = f"table {number} is another one's too"
            except ImageCorrupt as error:
                text = error.what
            if repair == "all":
                self.table.directory.write(number, 0)
                self.table.directory.write_back()
            offset = self.header.directory + 8 * number
            report.note("corruption", text, offset=offset, fixed=repair == "all")

    @may_stop
    def check(self, repair: Repair | None = None) -> CheckReport:
        from runtime.block.format.mapped.check import BlockCheck

        with self._lock:
            if repair:
                self.writable_or_raise()
                self._start_writing()
            self.flush()
            tables = CheckReport(filename=self.name, format=self.format)
            self._check_tables(tables, repair)
            if tables.corruptions:
                return tables
            check = BlockCheck(self, repair, self._metadata(), align=self.block_size)
            report = check.report
            report.corruptions_fixed = tables.corruptions_fixed
            report.problems += tables.problems
            check.leaks(check.blocks(), self.file.length())
            if repair:
                self.flush()
                end = report.image_end_offset or 0
                if not self.file.fixed_length and self.file.length() > end:
                    self.file.resize(end, shrink=True)
                    self._end = end
                if self.header.features & qed.NEED_CHECK and not report.corruptions:
                    self._write_header(self.header.changed(features=self.header.features & ~qed.NEED_CHECK))
                self.file.flush()
            return report

    def info(self) -> ImageInfo:
        header = self.header
        return ImageInfo(
            filename=self.name,
            format=self.format,
            virtual_size=self._size,
            actual_size=self.file.allocated(),
            cluster_size=self.block_size,
            dirty_flag=bool(header.features & qed.NEED_CHECK),
            backing_filename=self._reference,
            full_backing_filename=None if self.backing is None else self.backing.name,
            backing_filename_format="raw" if header.features & qed.BACKING_IS_RAW else None,
            format_specific={"type": "qed", "data": {"table-size": header.table_size}},
        )

    def set_backing(self, reference: str | None, format: str | None) -> None:
        self.writable_or_raise()
        header, name = with_backing(self.header, reference, format, self.name)
        backing = None
        if reference is not None:
            backing = self._context.references.open_image(reference, "backing file", format=format)
        with self._lock:
            self._start_writing()
            self.flush()
            self.header = header
            # One write: the header and the name behind it.
            self.file.pwrite(0, header.pack() + name)
            self.file.flush()
            old, self.backing, self._reference = self.backing, backing, reference
            if old is not None:
                old.close()


def with_backing(
    header: Header, reference: str | None, format: str | None, where: str
) -> tuple[Header, bytes]:
    """The header that names a backing file, and the name's bytes, which follow it. Raises ImageOption."""
    features = header.features & ~(qed.HAS_BACKING | qed.BACKING_IS_RAW)
    if reference is None:
        return header.changed(features=features, backing_offset=0, backing_length=0), b""
    name = reference.encode("utf-8", "surrogateescape")
    if not 0 < len(name) <= qed.MAX_NAME:
        raise ImageOption("the backing file's name is empty or too long", where=where)
    features |= qed.HAS_BACKING | (qed.BACKING_IS_RAW if format == "raw" else 0)
    return header.changed(features=features, backing_offset=qed.LAYOUT.size, backing_length=len(name)), name
