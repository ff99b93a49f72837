"""Open VHD images."""

from __future__ import annotations

import contextlib
import struct
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, cast

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageCorrupt, ImageError, ImageUnsupported
from runtime.block.format.linear import LinearNode
from runtime.block.format.mapped.bitmap import SectorBitmaps, Sectors, packed, unpacked
from runtime.block.format.mapped.node import ABSENT, MappedNode
from runtime.block.format.mapped.table import PagedTable
from runtime.block.format.parents import open_parent
from runtime.block.format.vhd import header as vhd
from runtime.block.format.vhd.header import Footer, Header
from runtime.block.format.vhd.parent import describe, find_parent, verify_parent
from runtime.block.node import FileRange, FormatNode, Preallocation, ProtocolNode, Repair
from runtime.block.report import CheckReport, ImageInfo, may_stop
from runtime.records import replace

if TYPE_CHECKING:
    from runtime.block.format.mapped.table import Entries

_KINDS = {vhd.FIXED: "fixed", vhd.DYNAMIC: "dynamic", vhd.DIFFERENCING: "differencing"}


class VhdNode(FormatNode):
    """Any VHD image."""

    format = "vhd"
    footer: Footer

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """More for `info`."""

    def info(self) -> ImageInfo:
        data = {"subformat": _KINDS[self.footer.disk_type], "uuid": self.footer.uuid.hex(), **self.details()}
        return ImageInfo(
            filename=self.name,
            format=self.format,
            virtual_size=self.length(),
            actual_size=self.file.allocated(),
            cluster_size=data.pop("block-size", None),
            backing_filename=data.pop("parent", None),
            full_backing_filename=None if self.backing is None else self.backing.name,
            backing_filename_format="vhd" if self.footer.disk_type == vhd.DIFFERENCING else None,
            format_specific={"type": "vhd", "data": data},
        )

    def resized_footer(self, length: int, shrink: bool) -> Footer:
        """The footer for another size. Raises ImageRange, ImageUnsupported, ImageReadOnly."""
        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        if length > vhd.MAX_SIZE:
            raise ImageUnsupported(f"a VHD image can't have a disk of {length} bytes", where=self.name)
        return self.footer.resized(-(-length // vhd.SECTOR) * vhd.SECTOR)


class FixedVhdNode(LinearNode, VhdNode):
    """The disk's bytes, then the footer."""

    def __init__(self, file: ProtocolNode, footer: Footer, context: OpenContext) -> None:
        if footer.size() + vhd.SECTOR > file.length():
            raise vhd.FOOTER.wrong(
                "the disk is larger than the file",
                "current_size",
                footer.current_size,
                where=file.name,
                base=max(0, file.length() - vhd.SECTOR),
            )
        LinearNode.__init__(self, file, 0, footer.size(), writable=context.writable)
        self.footer = footer

    def details(self) -> dict[str, Any]:
        return {}

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        """The new footer is durable before anything of the old one is touched."""
        footer = self.resized_footer(length, shrink)
        old, new = self._size, footer.current_size
        if new > old:
            self.file.resize(new, preallocation=preallocation)
        self.file.pwrite(new, footer.pack())
        self.file.flush()
        if new > old:
            self.file.write_zeroes(old, min(vhd.SECTOR, new - old))
        elif not self.file.fixed_length:
            self.file.resize(new + vhd.SECTOR, shrink=True)
        self.file.flush()
        self.footer, self._size = footer, new

    @may_stop
    def check(self, repair: Repair | None = None) -> CheckReport:
        """Opening has validated the footer, which is all there is."""
        end = self.file.length()
        report = CheckReport(filename=self.name, format=self.format, image_end_offset=self._size + vhd.SECTOR)
        lost = end - self._size - vhd.SECTOR
        if lost > 0 and not self.file.fixed_length:
            if repair:
                self.writable_or_raise()
                self.file.pwrite(self._size, self.footer.pack())
                self.file.flush()
                self.file.resize(self._size + vhd.SECTOR, shrink=True)
                self.file.flush()
            report.note(
                "leak",
                f"{lost} bytes lie between disk and footer",
                offset=self._size,
                fixed=repair is not None,
            )
        return report


class VhdBitmaps(SectorBitmaps):
    """In the sectors before each block's data, the most significant bit first."""

    def __init__(self, file: ProtocolNode, header: Header) -> None:
        super().__init__(file, header.block_size)
        self._gap = header.bitmap_size

    def load(self, block: int, place: int) -> Sectors:
        return unpacked(self._file.pread(place - self._gap, self._gap), lowest_first=False)[: self._sectors]

    def store(self, block: int, place: int, present: Sectors) -> None:
        self._file.pwrite(place - self._gap, packed(present, lowest_first=False))


class DynamicVhdNode(MappedNode, VhdNode):
    """Blocks with a sector bitmap before each, found through the block allocation table (BAT)."""

    def __init__(
        self, file: ProtocolNode, footer: Footer, context: OpenContext, problems: list[ImageError]
    ) -> None:
        size = footer.size()
        super().__init__(file, file.name, size, writable=context.writable, backing=None)
        self.footer = footer
        self._context = context
        self._problems = problems
        data = file.pread(footer.data_offset, vhd.HEADER.size) if footer.data_offset < file.length() else b""
        self._adopt(Header.parse(data, footer, file.name, file.length(), lenient=context.check))
        if self.header.checksum != vhd.checksum(data, 36):
            problems.append(
                vhd.HEADER.wrong(
                    "the header's checksum is wrong",
                    "checksum",
                    self.header.checksum,
                    where=self.name,
                    base=footer.data_offset,
                )
            )
        self._full: set[int] = set()  # blocks whose bitmap is known to have all bits
        self._reference: str | None = None
        if footer.disk_type == vhd.DIFFERENCING:
            self.bitmaps = VhdBitmaps(file, self.header)
            self._open_parent()

    def _adopt(self, header: Header) -> None:
        self.header = header
        self.block_size = header.block_size
        self.gap = header.bitmap_size
        self.entry_step = (self.gap + self.block_size) // vhd.SECTOR
        self._data_start = vhd.SECTOR
        self.table: PagedTable = PagedTable(self.file, header.table_offset, header.max_entries, ">u4")

    def _open_parent(self) -> None:
        if not self._context.backing:
            with contextlib.suppress(ImageError):  # only to tell its name
                self._reference = find_parent(self.file, self.header, self._context)
            return
        self._reference = find_parent(self.file, self.header, self._context)
        parent = cast(VhdNode, open_parent("vhd", self._reference, None, self._context, self.name))
        if not self._context.check:
            try:
                verify_parent(self.header, parent.footer.uuid, self.name)
            except BaseException:
                parent.close()
                raise
        self.backing = parent

    # The table

    def _decode_all(self, raw: Entries) -> Entries:
        places = raw * vhd.SECTOR + self.gap
        places[raw == vhd.FREE] = ABSENT
        return places

    def _decode(self, raw: int) -> int:
        return ABSENT if raw == vhd.FREE else raw * vhd.SECTOR + self.gap

    def _encode(self, place: int) -> int:
        return (place - self.gap) // vhd.SECTOR if place >= 0 else vhd.FREE

    def entry_offset(self, block: int) -> int:
        return self.header.table_offset + 4 * block

    # Writing

    def _metadata(self) -> list[tuple[int, int]]:
        """What the file holds besides blocks and the footer at its end."""
        header = self.header
        found = [
            (0, vhd.SECTOR),
            (self.footer.data_offset, self.footer.data_offset + vhd.HEADER.size),
            (
                header.table_offset,
                header.table_offset + -(-4 * header.max_entries // vhd.SECTOR) * vhd.SECTOR,
            ),
        ]
        return found + self._locator_ranges()

    def _locator_ranges(self) -> list[tuple[int, int]]:
        """Where the names of the parent are."""
        found = []
        for at in range(0, 192, 24):
            code, space, _, _, offset = struct.unpack_from(
                ">4sIIIQ", self.header.locators.ljust(192, b"\0"), at
            )
            space = (
                space if space >= vhd.SECTOR else space * vhd.SECTOR
            )  # in bytes by most, in sectors by some
            if code != bytes(4) and offset + space <= self.file.length():
                found.append((offset, offset + space))
        return found

    def _blocks_end(self) -> int:
        """Where the last block or whatever else is last ends. Entries that lead out of the file mean nothing.
        """
        end = max(stop for _, stop in self._metadata())
        last = self.table.highest(min(vhd.FREE, -(-self.file.length() // vhd.SECTOR)))
        if last >= 0:
            end = max(end, self._decode(last) + self.block_size)
        return -(-end // vhd.SECTOR) * vhd.SECTOR

    def _before_first_write(self) -> None:
        self._end = self._blocks_end()

    def _before_block(self) -> bytes:
        return b"\xff" * self.gap

    def _write(self, offset: int, data: memoryview | FileRange) -> None:
        self._complete_bitmaps(offset, len(data))
        super()._write(offset, data)

    def _complete_bitmaps(self, offset: int, length: int) -> None:
        """Dynamic images have bitmaps too, where 0 means a sector of zeroes: blocks that are written get all
        bits.
        """
        if self.bitmaps is not None or self.read_only or offset < 0 or offset + length > self._size:
            return
        with self._lock:
            for block in range(offset // self.block_size, -(-(offset + length) // self.block_size)):
                if block in self._full:
                    continue
                place = self._place_of(block)
                if place >= 0 and self.file.pread(place - self.gap, self.gap) != self._before_block():
                    self._start_writing()
                    self.file.pwrite(place - self.gap, self._before_block())
                self._full.add(block)

    def _write_footer(self) -> None:
        """Behind the last block. What was there before is a block's by now."""
        self.file.pwrite(self._end, self.footer.pack())
        self._file_length = max(self._file_length, self._end + vhd.SECTOR)

    def _behind_blocks(self) -> bytes:
        return self.footer.pack()

    def _write_hollow_block(self, offset: int, data: memoryview) -> None:
        super()._write_hollow_block(offset, data)
        self._write_footer()

    def _finish_data(self) -> None:
        if not self.file.fixed_length:
            self.file.resize(self._end, shrink=True)
        self._file_length = self._end
        self._write_footer()

    def make_empty(self) -> None:
        super().make_empty()
        with self._lock:
            self._full.clear()
            self._end = self._blocks_end()
            self._finish_data()
            self.file.flush()

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        """Table first (a longer one at the end), then the header that points to it, then the footers."""
        footer = self.resized_footer(length, shrink)
        size = footer.current_size
        with self._lock:
            self._start_writing()
            old, blocks = self._size, -(-size // self.block_size)
            self._drop_blocks(blocks)
            self._full.clear()
            if blocks > self.header.max_entries:
                self._move_table(blocks)
            self._size, self.footer = size, footer
            self._end = self._blocks_end()
            self.file.pwrite(0, footer.pack())
            self.file.flush()
            self._finish_data()
            self.file.flush()
            if size > old:
                self._grow_content(old, size, preallocation)
                self.flush()

    def _move_table(self, entries: int) -> None:
        """A longer table behind the last block. It is durable before the header, in one sector, switches to
        it.
        """
        start = self._end
        room = -(-4 * entries // vhd.SECTOR) * vhd.SECTOR
        for at in range(0, room, 1 << 20):
            self.file.pwrite(start + at, b"\xff" * min(1 << 20, room - at))
        for first in range(0, self.header.max_entries, 1 << 16):
            raw = self._raw(first, min(1 << 16, self.header.max_entries - first))
            self.file.pwrite(start + 4 * first, raw.astype(">u4").tobytes())
        self._end = start + room
        self._finish_data()
        self.file.flush()
        before = self.header
        self._adopt(replace(before, table_offset=start, max_entries=entries))
        self.file.pwrite(self.footer.data_offset, self.header.pack())
        self.file.flush()
        self.file.punch(before.table_offset, -(-4 * before.max_entries // vhd.SECTOR) * vhd.SECTOR)

    # About the image

    def details(self) -> dict[str, Any]:
        return {"block-size": self.block_size, "parent": self._reference}

    @may_stop
    def check(self, repair: Repair | None = None) -> CheckReport:
        from runtime.block.format.mapped.check import BlockCheck

        with self._lock:
            if repair:
                self.writable_or_raise()
                self._start_writing()
            self.flush()
            check = BlockCheck(self, repair, self._metadata())
            starts = check.blocks()
            report = check.report
            end = max(self._blocks_end(), report.image_end_offset or 0)
            check.leaks(starts, self.file.length() - vhd.SECTOR)
            for problem in self._problems:
                report.note("corruption", problem.what, fixed=repair == "all")
            for problem in self._bad_footers():
                # One good copy is enough, and a crash may cost the other: nothing is lost.
                report.note("leak", problem.what, fixed=repair is not None)
            if repair:
                self.flush()
                self._end = end
                self.file.pwrite(0, self.footer.pack())
                if repair == "all":
                    self.file.pwrite(self.footer.data_offset, self.header.pack())
                self._finish_data()
                self.file.flush()
                self._problems.clear()
            return report

    def _bad_footers(self) -> list[ImageError]:
        problems: list[ImageError] = []
        for base in (0, max(0, self.file.length() - vhd.SECTOR)):
            try:
                Footer.parse(self.file.pread(base, vhd.SECTOR), self.name, base)
            except ImageCorrupt as error:
                problems.append(error)
        return problems

    def set_backing(self, reference: str | None, format: str | None) -> None:
        self.writable_or_raise()
        if self.bitmaps is None or reference is None:
            raise ImageUnsupported(
                "a differencing VHD image always has a parent, and a dynamic one never",
                where=self.name,
                remedy="convert it to a dynamic image",
            )
        parent = cast(VhdNode, open_parent("vhd", reference, format, self._context, self.name))
        with self._lock:
            self._start_writing()
            self.flush()
            name, when, locators, text = describe(reference, self._context.path, self._end)
            self.file.pwrite(self._end, text)
            self._end += len(text)
            self._finish_data()
            self.file.flush()
            before = self._locator_ranges()
            self.header = replace(
                self.header,
                parent_name=name,
                parent_timestamp=when,
                locators=locators,
                parent_uuid=parent.footer.uuid,
            )
            self.file.pwrite(self.footer.data_offset, self.header.pack())
            self.file.flush()
            for low, high in before:
                self.file.punch(low, high - low)
            old, self.backing, self._reference = self.backing, parent, reference
            if old is not None:
                old.close()


def open_vhd(file: ProtocolNode, context: OpenContext) -> VhdNode:
    """The disk in `file`.

    The footer at the end decides whether the image is fixed: the start of a fixed image is its guest's.
    Where the end has none (the image wasn't closed) the copy at the start does.
    """
    last = max(0, file.length() - vhd.SECTOR)
    problems: list[ImageError] = []
    try:
        footer = Footer.parse(file.pread(last, vhd.SECTOR), file.name, last)
    except ImageCorrupt as error:
        try:
            footer = Footer.parse(file.pread(0, vhd.SECTOR), file.name, 0)
        except ImageCorrupt:
            raise error from None
        if footer.disk_type == vhd.FIXED:
            raise error from None
    if footer.disk_type == vhd.FIXED:
        return FixedVhdNode(file, footer, context)
    return DynamicVhdNode(file, footer, context, problems)
