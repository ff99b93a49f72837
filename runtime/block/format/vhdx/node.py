"""An open VHDX image."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageCorrupt, ImageError, ImageUnsupported
from runtime.block.format.mapped.bitmap import SectorBitmaps, Sectors, packed, unpacked
from runtime.block.format.mapped.node import ABSENT, ZERO, Interval, MappedNode
from runtime.block.format.mapped.table import PagedTable
from runtime.block.format.parents import open_parent
from runtime.block.format.vhdx import header as vhdx
from runtime.block.format.vhdx.header import MIB, Header, Region
from runtime.block.format.vhdx.log import PAGE, Log, ReplayedFile, pending, replay
from runtime.block.format.vhdx.metadata import MAX_DISK, Metadata, pack_metadata, read_metadata
from runtime.block.format.vhdx.parent import find_parent, make_locator, verify_parent
from runtime.block.node import Preallocation, ProtocolNode, Repair
from runtime.block.report import CheckReport, ImageInfo, may_stop
from runtime.records import replace

if TYPE_CHECKING:
    from runtime.block.format.mapped.table import Entries

# Payload block states ([MS-VHDX] 2.5.1.1); a sector bitmap block is there in state 6.
_NOT_PRESENT, _UNDEFINED, _ZERO, _UNMAPPED, _FULL, _PARTIAL = 0, 1, 2, 3, 6, 7
_MISPLACED = 1 << 62


class VhdxBitmaps(SectorBitmaps):
    """In blocks of 1 MiB, each for one chunk of payload blocks; the least significant bit first."""

    def __init__(self, node: VhdxNode) -> None:
        super().__init__(node.file, node.block_size, node.metadata.logical_sector)
        self._node = node
        self.pages: dict[int, bytearray] = {}  # that `store` has changed

    def _at(self, block: int) -> tuple[int, int]:
        """(chunk, byte in its bitmap block)"""
        chunk, number = divmod(block, self._node.metadata.chunk_ratio)
        return chunk, number * (self._sectors // 8)

    def load(self, block: int, place: int) -> Sectors | None:
        if self._node.state_of(block) == _FULL:
            return None
        chunk, at = self._at(block)
        start = self._node.bitmap_block(chunk)
        if start is None:
            raise ImageCorrupt(
                f"block {block} is partially present, and its sector bitmap isn't there",
                offset=self._node.entry_offset(block),
                field="sector bitmap entry",
                where=self._node.name,
            )
        return unpacked(self._file.pread(start + at, self._sectors // 8), lowest_first=True)

    def store(self, block: int, place: int, present: Sectors) -> None:
        """Into `pages`: the log writes them."""
        chunk, at = self._at(block)
        start = self._node.bitmap_block(chunk)
        assert start is not None
        raw = packed(present, lowest_first=True)
        done = 0
        while done < len(raw):
            page, within = divmod(start + at + done, PAGE)
            held = self.pages.get(page * PAGE)
            if held is None:
                held = self.pages[page * PAGE] = bytearray(self._file.pread(page * PAGE, PAGE))
            step = min(PAGE - within, len(raw) - done)
            held[within : within + step] = raw[done : done + step]
            done += step

    def waiting(self) -> list[int]:
        """The blocks whose bitmaps differ from the file."""
        return sorted(self._dirty)


class VhdxNode(MappedNode):
    """Payload blocks in a table where after each chunk an entry for its sector bitmap block comes."""

    format = "vhdx"
    notes_content_below = True
    can_mark_zero = True

    def __init__(self, file: ProtocolNode, context: OpenContext) -> None:
        if file.pread(0, 8) != vhdx.IDENTIFIER:
            raise ImageCorrupt(
                "this is no VHDX image", offset=0, field="Signature", value=file.pread(0, 8), where=file.name
            )
        self.header, self._slot, self._bad_headers = vhdx.read_headers(file)
        file = self._replayed(file, context)
        regions, self._bad_regions = vhdx.read_regions(file)
        metadata = read_metadata(file, regions[vhdx.METADATA])
        super().__init__(file, file.name, metadata.disk_size, writable=context.writable, backing=None)
        self._context = context
        self._regions = regions
        self._log: Log | None = None
        self._reference: str | None = None
        self._data_start = MIB
        self._validate_layout(metadata)
        self._adopt(metadata)
        if metadata.has_parent:
            self.bitmaps = VhdxBitmaps(self)
            self._open_parent()

    def _replayed(self, file: ProtocolNode, context: OpenContext) -> ProtocolNode:
        """The file with everything that its log holds in place."""
        if self.header.log == vhdx.NO_GUID:
            return file
        entries = pending(file, self.header)
        if not context.writable:
            return ReplayedFile(file, entries) if entries else file
        replay(file, entries)
        self._write_header(file, self.header.changed(log=vhdx.NO_GUID))
        return file

    def _validate_layout(self, metadata: Metadata) -> None:
        """Regions and log may not overlap, and the table must be long enough."""
        bat = self._regions[vhdx.BAT]
        if metadata.entries * 8 > bat.length:
            raise ImageCorrupt(
                f"the block table needs {metadata.entries} entries, and its region has {bat.length // 8}",
                offset=metadata.size_offset,
                field="VirtualDiskSize",
                value=metadata.disk_size,
                where=self.name,
            )
        places = sorted(self._regions.values(), key=lambda region: region.offset)
        places.append(Region(b"", self.header.log_offset, self.header.log_length))
        places.sort(key=lambda region: region.offset)
        for one, other in pairwise(places):
            if one.offset + one.length > other.offset:
                raise ImageCorrupt(
                    "two regions of the file overlap",
                    offset=vhdx.REGION_TABLES[0],
                    field="FileOffset",
                    value=other.offset,
                    where=self.name,
                )

    def _adopt(self, metadata: Metadata) -> None:
        self.metadata = metadata
        self._size = metadata.disk_size
        self.block_size = self.entry_step = metadata.block_size
        self.table = PagedTable(self.file, self._regions[vhdx.BAT].offset, metadata.entries, "<u8")

    def _open_parent(self) -> None:
        if not self._context.backing:
            with contextlib.suppress(ImageError):  # only to tell its name
                self._reference = find_parent(self.metadata.locator, self._context, self.name)
            return
        self._reference = find_parent(self.metadata.locator, self._context, self.name)
        parent = cast(VhdxNode, open_parent("vhdx", self._reference, None, self._context, self.name))
        if not self._context.check:
            try:
                verify_parent(self.metadata.locator, parent.header.data_write, self.name)
            except BaseException:
                parent.close()
                raise
        self.backing = parent

    # The table

    def _index(self, block: int) -> int:
        return block + block // self.metadata.chunk_ratio

    def _row(self, block: int) -> int:
        return self.metadata.chunk_ratio - block % self.metadata.chunk_ratio

    def _raw(self, first: int, count: int) -> Entries:
        import numpy as np

        low, high = self._index(first), self._index(first + count - 1)
        every = self.table.read(low, high - low + 1)
        if high - low + 1 == count:
            return every
        blocks = np.arange(first, first + count)
        picked: Entries = every[blocks + blocks // self.metadata.chunk_ratio - low]
        return picked

    def _bind(self, first: int, count: int, place: int) -> None:
        if self.bitmaps is not None and place >= 0:
            for block in range(first, first + count):
                here = place + (block - first) * self.block_size
                state = _FULL if self.bitmaps.is_full(block, here) else _PARTIAL
                self.table.write(self._index(block), here | state)
            return
        step = self.block_size if place >= 0 else 0
        done = 0
        while done < count:
            part = min(count - done, self._row(first + done))
            self.table.write(self._index(first + done), self._encode(place) + done * step, part, step)
            done += part

    def _decode(self, raw: int) -> int:
        state = raw & 7
        if state == _FULL or (state == _PARTIAL and self.metadata.has_parent):
            return raw >> 20 << 20 if raw >= 0 else _MISPLACED
        if state == _NOT_PRESENT:
            return ABSENT
        return ZERO if state <= _UNMAPPED else _MISPLACED  # there are no states 4 and 5

    def _decode_all(self, raw: Entries) -> Entries:
        import numpy as np

        state = raw & 7
        places: Entries = ((raw.view(np.uint64) >> np.uint64(20)) << np.uint64(20)).view(np.int64)
        places[places < 0] = _MISPLACED
        places[state == _NOT_PRESENT] = ABSENT
        places[(state >= _UNDEFINED) & (state <= _UNMAPPED)] = ZERO
        places[(state == 4) | (state == 5)] = _MISPLACED
        if not self.metadata.has_parent:
            places[state == _PARTIAL] = _MISPLACED
        return places

    def _encode(self, place: int) -> int:
        if place < 0:
            return _NOT_PRESENT if place == ABSENT else _ZERO
        return place | _FULL

    def state_of(self, block: int) -> int:
        """The state in the block's entry."""
        return self.table.entry(self._index(block)) & 7

    def _bitmap_index(self, chunk: int) -> int:
        ratio = self.metadata.chunk_ratio
        return chunk * (ratio + 1) + ratio

    def bitmap_block(self, chunk: int) -> int | None:
        """Where the chunk's sector bitmap block lies. Raises ImageCorrupt."""
        raw = self.table.entry(self._bitmap_index(chunk))
        if raw & 7 != _FULL:
            return None
        place = raw >> 20 << 20
        if not MIB <= place < self._limit():
            raise ImageCorrupt(
                f"the sector bitmap of chunk {chunk} lies outside of the image's data",
                offset=self._regions[vhdx.BAT].offset + 8 * self._bitmap_index(chunk),
                field="sector bitmap entry",
                value=raw,
                where=self.name,
            )
        return place

    def entry_offset(self, block: int) -> int:
        return self._regions[vhdx.BAT].offset + 8 * self._index(block)

    # Writing

    def _write_header(self, file: ProtocolNode, header: Header) -> None:
        """The other header gets the next number: whichever of the two survives is right."""
        self._slot ^= 1
        self.header = header.changed(sequence=header.sequence + 1)
        file.pwrite(vhdx.HEADERS[self._slot], self.header.pack())
        file.flush()

    def _before_first_write(self) -> None:
        self._end = -(-self.file.length() // MIB) * MIB
        self._write_header(
            self.file, self.header.changed(file_write=vhdx.new_guid(), data_write=vhdx.new_guid())
        )

    def _mark_clean(self) -> None:
        if self._log is not None:
            self._write_header(self.file, self.header.changed(log=vhdx.NO_GUID))
            self._log = None

    def _log_pages(self, pages: dict[int, bytes]) -> None:
        """Change metadata. All that it points to is durable already."""
        log = self._log
        if log is None:
            if self.header.log_length < 4 * PAGE:
                raise ImageUnsupported("the image has no log and can't be written", where=self.name)
            guid = vhdx.new_guid()
            log = Log(self.file, self.header, guid)
            for _ in log.write(pages):
                if self.header.log != guid:
                    self._write_header(self.file, self.header.changed(log=guid))
            self._log = log
        else:
            for _ in log.write(pages):
                pass

    def _commit(self) -> None:
        bitmaps = cast(VhdxBitmaps | None, self.bitmaps)
        if bitmaps is not None:
            for block in bitmaps.waiting():
                self._need_bitmap_block(block // self.metadata.chunk_ratio)
        if not self.table.dirty_bytes and (bitmaps is None or not bitmaps.dirty_bytes):
            return
        self._finish_data()
        self.file.flush()
        table = cast(PagedTable, self.table)
        pages = dict(_split(table.changes(PAGE)))
        if bitmaps is not None:
            bitmaps.write_back(self.file)
            pages.update((offset, bytes(page)) for offset, page in bitmaps.pages.items())
        self._log_pages(pages)
        table.forget_changes()
        if bitmaps is not None:
            bitmaps.pages.clear()
        self._unsynced = True

    def _commit_drops(self) -> None:
        self._commit()  # through the log, as all changes of the table

    def _need_bitmap_block(self, chunk: int) -> None:
        if self.bitmap_block(chunk) is not None:
            return
        place = self._end
        if self._file_length > place:
            self.file.write_zeroes(place, MIB)
        self._end += MIB
        self.table.write(self._bitmap_index(chunk), place | _FULL)

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        """Size and, if it has to move, the table change in one entry of the log."""
        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        sector = self.metadata.logical_sector
        size = -(-length // sector) * sector
        if size > MAX_DISK:
            raise ImageUnsupported(f"a VHDX image can't have a disk of {length} bytes", where=self.name)
        metadata = replace(self.metadata, disk_size=size)
        with self._lock:
            self._start_writing()
            old = self._size
            if size < old:
                self._drop_blocks(metadata.blocks)
            self.flush()
            pages = self._size_page(metadata)
            before = self._regions
            if metadata.entries * 8 > before[vhdx.BAT].length:
                pages |= self._move_table(metadata)
            else:
                self._clear_entries(metadata)
            self._log_pages(pages)
            if before is not self._regions:
                self.file.punch(before[vhdx.BAT].offset, before[vhdx.BAT].length)
            self._adopt(metadata)
            if size > old:
                if metadata.fixed and preallocation == "off":
                    preallocation = "metadata"
                self._grow_content(old, size, preallocation)
            self.flush()

    def _size_page(self, metadata: Metadata) -> dict[int, bytes]:
        at = metadata.size_offset
        pages: dict[int, bytes] = {}
        first, last = at // PAGE * PAGE, (at + 7) // PAGE * PAGE
        data = bytearray(self.file.pread(first, last + PAGE - first))
        data[at - first : at - first + 8] = metadata.disk_size.to_bytes(8, "little")
        for page in range(first, last + PAGE, PAGE):
            pages[page] = bytes(data[page - first : page - first + PAGE])
        return pages

    def _clear_entries(self, metadata: Metadata) -> None:
        """The region's entries behind the table may hold anything until they're the table's."""
        table = PagedTable(
            self.file, self._regions[vhdx.BAT].offset, max(metadata.entries, self.metadata.entries), "<u8"
        )
        for first in range(self.metadata.entries, metadata.entries, 1 << 16):
            count = min(1 << 16, metadata.entries - first)
            if table.read(first, count).any():
                table.write(first, 0, count)
        if table.dirty_bytes:
            self._log_pages(dict(_split(table.changes(PAGE))))

    def _move_table(self, metadata: Metadata) -> dict[int, bytes]:
        """A longer copy of the table at the end of the file; gives the pages that make the region tables say
        so.
        """
        length = -(-metadata.entries * 8 // MIB) * MIB
        start = self._end
        if self._file_length > start:
            self.file.write_zeroes(start, length)
        old = self._regions[vhdx.BAT]
        used = self.metadata.entries * 8
        for at in range(0, used, MIB):
            self.file.pwrite(start + at, self.file.pread(old.offset + at, min(MIB, used - at)))
        self._end += length
        self._finish_data()
        self.file.flush()
        self._regions = {**self._regions, vhdx.BAT: Region(vhdx.BAT, start, length)}
        return self._region_pages()

    def _region_pages(self) -> dict[int, bytes]:
        record = vhdx.pack_regions(list(self._regions.values()))
        return {
            base + at: record[at : at + PAGE]
            for base in vhdx.REGION_TABLES
            for at in range(0, PAGE, PAGE)  # the rest is zero
        }

    # About the image

    def _metadata(self) -> list[Interval]:
        found = [(0, MIB), (self.header.log_offset, self.header.log_offset + self.header.log_length)]
        found += [(region.offset, region.offset + region.length) for region in self._regions.values()]
        if self.metadata.has_parent:
            for chunk in range(-(-self.blocks() // self.metadata.chunk_ratio)):
                place = self.bitmap_block(chunk)
                if place is not None:
                    found.append((place, place + MIB))
        return found

    @may_stop
    def check(self, repair: Repair | None = None) -> CheckReport:
        from runtime.block.format.mapped.check import BlockCheck

        with self._lock:
            if repair:
                self.writable_or_raise()
                self._start_writing()
            self.flush()
            check = BlockCheck(self, repair, self._metadata(), align=MIB)
            starts = check.blocks()
            check.leaks(starts, self.file.length())
            report = check.report
            bad_headers = [
                n for n, base in enumerate(vhdx.HEADERS) if Header.parse(self.file.pread(base, 4096)) is None
            ]
            for number in bad_headers:
                if repair:
                    self._write_header(self.file, self.header)
                # One good copy is enough, and a crash may cost the other: nothing is lost.
                report.note(
                    "leak",
                    f"header {number + 1} is damaged",
                    offset=vhdx.HEADERS[number],
                    fixed=repair is not None,
                )
            for number in self._bad_regions:
                if repair:
                    self.file.pwrite(
                        vhdx.REGION_TABLES[number], vhdx.pack_regions(list(self._regions.values()))
                    )
                report.note(
                    "leak",
                    f"region table {number + 1} is damaged",
                    offset=vhdx.REGION_TABLES[number],
                    fixed=repair is not None,
                )
            if repair:
                self._bad_regions = []
                self.flush()
                # Copies of blocks may have needed further bitmap blocks.
                last = max([report.image_end_offset or 0, *(stop for _, stop in self._metadata())])
                end = -(-last // MIB) * MIB
                if not self.file.fixed_length and self.file.length() > end:
                    self.file.resize(end, shrink=True)
                self._end = max(end, -(-self.file.length() // MIB) * MIB)
                self.file.flush()
            return report

    def info(self) -> ImageInfo:
        metadata = self.metadata
        kind = "differencing" if metadata.has_parent else "fixed" if metadata.fixed else "dynamic"
        return ImageInfo(
            filename=self.name,
            format=self.format,
            virtual_size=self._size,
            actual_size=self.file.allocated(),
            cluster_size=self.block_size,
            dirty_flag=self.header.log != vhdx.NO_GUID,
            backing_filename=self._reference,
            full_backing_filename=None if self.backing is None else self.backing.name,
            backing_filename_format="vhdx" if metadata.has_parent else None,
            format_specific={
                "type": "vhdx",
                "data": {
                    "subformat": kind,
                    "logical-sector-size": metadata.logical_sector,
                    "physical-sector-size": metadata.physical_sector,
                    "log-size": self.header.log_length,
                    "data-write-guid": vhdx.show_guid(self.header.data_write),
                },
            },
        )

    def set_backing(self, reference: str | None, format: str | None) -> None:
        self.writable_or_raise()
        if not self.metadata.has_parent or reference is None:
            raise ImageUnsupported(
                "a differencing VHDX image always has a parent, and others never",
                where=self.name,
                remedy="convert it to a dynamic image",
            )
        parent = cast(VhdxNode, open_parent("vhdx", reference, format, self._context, self.name))
        with self._lock:
            self._start_writing()
            self.flush()
            metadata = replace(self.metadata, locator=make_locator(reference, parent.header.data_write))
            region = self._regions[vhdx.METADATA]
            raw = pack_metadata(metadata)
            if len(raw) > region.length:
                raise ImageUnsupported("the parent's name is too long", where=self.name)
            old_raw = self.file.pread(region.offset, len(raw))
            self._log_pages(
                {
                    region.offset + at: raw[at : at + PAGE]
                    for at in range(0, len(raw), PAGE)
                    if raw[at : at + PAGE] != old_raw[at : at + PAGE]
                }
            )
            self.metadata = read_metadata(self.file, region)
            old, self.backing, self._reference = self.backing, parent, reference
            if old is not None:
                old.close()


def _split(changes: object) -> list[tuple[int, bytes]]:
    """Pieces of a table as single pages, the last one filled up."""
    pages: list[tuple[int, bytes]] = []
    for offset, piece in cast("list[tuple[int, bytes]]", changes):
        pages += [
            (offset + at, piece[at : at + PAGE].ljust(PAGE, b"\0")) for at in range(0, len(piece), PAGE)
        ]
    return pages
