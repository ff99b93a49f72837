"""An open VDI image."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageError, ImageUnsupported
from runtime.block.format.mapped.node import ABSENT, ZERO, MappedNode
from runtime.block.format.mapped.table import PagedTable
from runtime.block.format.parents import open_parent
from runtime.block.format.vdi import header as vdi
from runtime.block.format.vdi.header import Header
from runtime.block.format.vdi.parent import comment_of, find_parent, verify_parent
from runtime.block.node import Preallocation, ProtocolNode, Repair
from runtime.block.report import CheckReport, ImageInfo, may_stop

if TYPE_CHECKING:
    from runtime.block.format.mapped.table import Entries


class VdiNode(MappedNode):
    """Blocks are numbered in the file; the map says which block of the file is which of the disk."""

    format = "vdi"
    notes_content_below = True
    can_mark_zero = True
    entry_step = 1

    def __init__(self, file: ProtocolNode, context: OpenContext) -> None:
        self._sector = file.pread(0, vdi.SIZE)
        header = Header.parse(self._sector, file.name, file.length())
        super().__init__(file, file.name, header.disk_size, writable=context.writable, backing=None)
        self.header = header
        self._context = context
        self.block_size = header.block_size
        self._reference: str | None = None
        self._adopt(header)
        if header.is_child:
            self._open_parent()

    def _adopt(self, header: Header) -> None:
        """Take over where the map and the data are."""
        self.header = header
        self._size = -(-header.disk_size // 512) * 512
        self._data_start = header.data_offset
        self.table: PagedTable = PagedTable(self.file, header.map_offset, header.blocks, "<u4")

    def _open_parent(self) -> None:
        if not self._context.backing:
            with contextlib.suppress(ImageError):  # only to tell its name
                self._reference = find_parent(self.header, self._context, self.name)
            return
        self._reference = find_parent(self.header, self._context, self.name)
        parent = cast(VdiNode, open_parent("vdi", self._reference, None, self._context, self.name))
        try:
            if not self._context.check:
                verify_parent(self.header, parent.header, self.name)
        except BaseException:
            parent.close()
            raise
        self.backing = parent

    # The map

    def _decode_all(self, raw: Entries) -> Entries:
        places = self._data_start + raw * self.block_size
        places[raw == vdi.FREE] = ABSENT
        places[raw == vdi.ZERO] = ZERO
        return places

    def _decode(self, raw: int) -> int:
        if raw >= vdi.ZERO:
            return ABSENT if raw == vdi.FREE else ZERO
        return self._data_start + raw * self.block_size

    def _encode(self, place: int) -> int:
        if place < 0:
            return vdi.FREE if place == ABSENT else vdi.ZERO
        return (place - self._data_start) // self.block_size

    def entry_offset(self, block: int) -> int:
        return self.header.map_offset + 4 * block

    # Writing

    def _before_first_write(self) -> None:
        """The content gets another UUID, so that children notice. New blocks go behind the last one in use.
        """
        self.header = self.header.changed(modified=vdi.new_uuid())
        self._write_header()
        self._end = self._data_start + (self._highest() + 1) * self.block_size

    def _highest(self) -> int:
        """The highest block of the file that the map names; -1 if there is none. Not those behind its end."""
        return self.table.highest(min(vdi.ZERO, -(-(self._limit() - self._data_start) // self.block_size)))

    def _write_header(self) -> None:
        self._sector = self.header.pack(self._sector)
        self.file.pwrite(0, self._sector)

    def _commit_table(self) -> None:
        """The header's count of blocks is durable before the map: VirtualBox and QEMU place new blocks by
        it. A
        count that is too high loses a block, one that is too low would let them overwrite data.
        """
        self.header = self.header.changed(blocks_allocated=(self._end - self._data_start) // self.block_size)
        self._write_header()
        self.file.flush()
        self.table.write_back()

    def make_empty(self) -> None:
        super().make_empty()
        with self._lock:
            self._compact()

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        size = -(-length // 512) * 512
        blocks = -(-size // self.block_size)
        if blocks > vdi.MAX_BLOCKS:
            raise ImageUnsupported(f"a VDI image can't have a disk of {length} bytes", where=self.name)
        with self._lock:
            self._start_writing()
            old = self._size
            if size < old:
                self._drop_blocks(blocks)
                self._compact()
            elif self.header.map_offset + 4 * blocks > self._data_start:
                self._move_map(blocks)
            else:
                self._clear_entries(self.header.blocks, blocks)
            self.flush()
            self._adopt(self.header.changed(disk_size=size, blocks=blocks))
            self._write_header()
            self.flush()
            if size > old:
                if self.header.image_type == vdi.FIXED and preallocation == "off":
                    preallocation = "metadata"
                self._grow_content(old, size, preallocation)
                self.flush()

    def _clear_entries(self, old: int, new: int) -> None:
        """The map grows where it is: its new entries may lie on anything."""
        if new > old:
            self.file.pwrite(self.header.map_offset + 4 * old, b"\xff" * (4 * (new - old)))

    def _move_map(self, blocks: int) -> None:
        """Make room for a longer map, at the start of the data.

        The blocks there move to the end first. Then the new map is written where they were, and at last the
        header switches to it, in one sector: before that all is as it was, after that all is as it shall
        be.
        """
        import numpy as np

        self.flush()
        room = -(-4 * blocks // self.block_size)
        old_start = self._data_start
        for first in range(0, self.blocks(), 1 << 16):
            raw = self._raw(first, min(1 << 16, self.blocks() - first))
            for at in np.flatnonzero(raw < room).tolist():
                self._relocate(first + at, self._end)
                self._end += self.block_size
        self._end = max(self._end, old_start + room * self.block_size)
        self.flush()
        at = old_start
        for first in range(0, blocks, 1 << 16):
            count = min(1 << 16, blocks - first)
            have = max(0, min(count, self.blocks() - first))
            raw = np.full(count, vdi.FREE, np.int64)
            raw[:have] = self._raw(first, have)
            raw[raw < vdi.ZERO] -= room
            self.file.pwrite(at, raw.astype("<u4").tobytes())
            at += 4 * count
        self._finish_data()
        self.file.flush()
        start = old_start + room * self.block_size
        self._adopt(
            self.header.changed(
                map_offset=old_start,
                data_offset=start,
                blocks=blocks,
                blocks_allocated=(self._end - start) // self.block_size,
            )
        )
        self._write_header()
        self.file.flush()

    def _relocate(self, block: int, place: int) -> None:
        source = self._place_of(block)
        for at in range(0, self.block_size, 1 << 20):
            part = min(1 << 20, self.block_size - at)
            self.file.pwrite(place + at, self.file.pread(source + at, part))
        self._bind(block, 1, place)

    def _compact(self) -> None:
        """Fill gaps between the blocks in the file with its last blocks, and cut it behind them.

        The count in the header has to be that of the blocks and the place of the next one, so there may be
        no gaps.
        """
        import numpy as np

        used: dict[int, int] = {}  # block of the file: block of the disk
        for first in range(0, self.blocks(), 1 << 16):
            raw = self._raw(first, min(1 << 16, self.blocks() - first))
            for at in np.flatnonzero(raw < vdi.ZERO).tolist():
                used[int(raw[at])] = first + at
        gaps = [number for number in range(len(used)) if number not in used]
        last = sorted((number for number in used if number >= len(used)), reverse=True)
        for gap, number in zip(gaps, last, strict=True):
            self._relocate(used[number], self._data_start + gap * self.block_size)
        end = self._data_start + len(used) * self.block_size
        if gaps:
            self.flush()
        if end == self._end and self.file.length() == end:
            return
        self._end = end
        self.header = self.header.changed(blocks_allocated=len(used))
        self._write_header()
        self.file.flush()
        if not self.file.fixed_length:
            self.file.resize(end, shrink=True)
        self._file_length = end

    # About the image

    @may_stop
    def check(self, repair: Repair | None = None) -> CheckReport:
        from runtime.block.format.mapped.check import BlockCheck

        with self._lock:
            if repair:
                self.writable_or_raise()
                self._start_writing()
            self.flush()
            metadata = [
                (0, vdi.SIZE),
                (self.header.map_offset, self.header.map_offset + 4 * self.header.blocks),
            ]
            check = BlockCheck(self, repair, metadata, align=self.block_size)
            count = len(check.blocks())
            report = check.report
            length = self.file.length()
            stored = -(-max(0, length - self._data_start) // self.block_size)
            highest = self._highest() + 1
            lost = max(highest, min(stored, self._stored_end())) - count
            if repair and (lost > 0 or self.header.blocks_allocated != count):
                self.flush()
                self._compact()
            if self.header.blocks_allocated < highest:
                report.note(
                    "corruption",
                    f"the header counts {self.header.blocks_allocated} blocks, but {highest - 1} is in use",
                    offset=vdi.LAYOUT.offset("blocks_allocated"),
                    fixed=repair == "all",
                )
            elif lost > 0 or self.header.blocks_allocated > count:
                report.note(
                    "leak",
                    f"{max(lost, 1)} blocks of the file belong to nothing",
                    offset=vdi.LAYOUT.offset("blocks_allocated"),
                    count=max(lost, self.header.blocks_allocated - count),
                    fixed=repair is not None,
                )
            self._check_parent(report, repair)
            if repair:
                self.flush()
            return report

    def _check_parent(self, report: CheckReport, repair: Repair | None) -> None:
        """An image that isn't a differencing one names no parent: others refuse to open it if it does."""
        header = self.header
        if header.is_child or not any(header.parent + header.parent_modified):
            return
        if repair == "all":
            self.header = header.changed(parent=bytes(16), parent_modified=bytes(16))
            self._write_header()
        report.note(
            "corruption",
            "the image names a parent, and its type has none",
            offset=vdi.LAYOUT.offset("parent"),
            fixed=repair == "all",
        )

    def _stored_end(self) -> int:
        """How many blocks of the file there are up to the last one that holds data."""
        end = self._data_start
        for part in self.file.extents(self._data_start, max(0, self.file.length() - self._data_start)):
            if not part.reads_zero:
                end = part.end
        return -(-(end - self._data_start) // self.block_size)

    def info(self) -> ImageInfo:
        header = self.header
        kinds = {
            vdi.DYNAMIC: "dynamic",
            vdi.FIXED: "fixed",
            vdi.UNDO: "undo",
            vdi.DIFFERENCING: "differencing",
        }
        return ImageInfo(
            filename=self.name,
            format=self.format,
            virtual_size=self._size,
            actual_size=self.file.allocated(),
            cluster_size=self.block_size,
            backing_filename=self._reference,
            full_backing_filename=None if self.backing is None else self.backing.name,
            backing_filename_format="vdi" if header.is_child else None,
            format_specific={
                "type": "vdi",
                "data": {
                    "subformat": kinds[header.image_type],
                    "uuid": vdi.show_uuid(header.uuid),
                    "parent-uuid": vdi.show_uuid(header.parent) if header.is_child else None,
                    "blocks-allocated": header.blocks_allocated,
                },
            },
        )

    def set_backing(self, reference: str | None, format: str | None) -> None:
        self.writable_or_raise()
        if self.header.image_type == vdi.FIXED:
            raise ImageUnsupported("a fixed VDI image has no parent", where=self.name)
        parent = (
            None
            if reference is None
            else cast(VdiNode, open_parent("vdi", reference, format, self._context, self.name))
        )
        with self._lock:
            self.flush()
            if parent is None:
                fields = {
                    "image_type": vdi.DYNAMIC,
                    "parent": bytes(16),
                    "parent_modified": bytes(16),
                    "comment": b"",
                }
            else:
                fields = {
                    "image_type": vdi.DIFFERENCING,
                    "parent": parent.header.uuid,
                    "parent_modified": parent.header.modified,
                    "comment": comment_of(reference or ""),
                }
            self.header = self.header.changed(**fields)
            self._write_header()
            self.file.flush()
            old, self.backing = self.backing, parent
            self._reference = reference
            if old is not None:
                old.close()


def create_header(size: int, image_type: int, parent: Header | None) -> Header:
    """The header of a new image. The data begin at a multiple of the block size behind the map."""
    blocks = -(-size // vdi.BLOCK_SIZE)
    return Header(
        map_offset=vdi.SIZE,
        data_offset=-(-(vdi.SIZE + 4 * blocks) // vdi.BLOCK_SIZE) * vdi.BLOCK_SIZE,
        disk_size=size,
        blocks=blocks,
        image_type=image_type,
        blocks_allocated=blocks if image_type == vdi.FIXED else 0,
        uuid=vdi.new_uuid(),
        modified=vdi.new_uuid(),
        parent=bytes(16) if parent is None else parent.uuid,
        parent_modified=bytes(16) if parent is None else parent.modified,
    )
