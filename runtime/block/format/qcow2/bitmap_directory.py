"""Persistent dirty bitmaps as they are in the file, and their bits (docs/interop/qcow2.txt, "Bitmaps").

A bitmap has a bit for each granule of the disk; enabled ones record what the guest changes. They are true
only while the autoclear bit is set. While an image is written, its enabled bitmaps are marked as in use; a
crash leaves the mark, and such a bitmap is known to be inconsistent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from runtime.block.errors import ImageCorrupt, ImageNotFound, ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.header import Header
from runtime.block.format.qcow2.tables import read_table
from runtime.block.node import ProtocolNode
from runtime.records import field, record

EXTENSION = struct.Struct(">IIQQ")
ENTRY = struct.Struct(">QIIBBHI")  # 24 bytes
IN_USE, AUTO, EXTRA_COMPATIBLE = 1, 2, 4
_DIRTY = 1  # the one type of bitmap
_MAX_BITMAPS, MAX_NAME, _MAX_DIRECTORY, MAX_BYTES = 65535, 1023, 16 << 20, 32 << 20
ONES = 1  # a table entry without offset: all bits set


@record
class Bitmap:
    """One bitmap. `granularity` is in bytes of the disk; `data` its bits, low bits first, once they are
    loaded.
    """

    name: str
    flags: int
    granularity_bits: int
    table_offset: int = 0
    table_size: int = 0  # entries
    kind: int = _DIRTY
    extra: bytes = b""
    data: bytearray | None = field(default=None, repr=False)
    recording: bool = False

    @property
    def granularity(self) -> int:
        return 1 << self.granularity_bits

    @property
    def enabled(self) -> bool:
        """Records changes."""
        return bool(self.flags & AUTO)

    @property
    def inconsistent(self) -> bool:
        """Was in use when its image was last left: its bits mean nothing."""
        return bool(self.flags & IN_USE) and not self.recording

    @property
    def known(self) -> bool:
        """We know what it is, and may write it."""
        return (
            self.kind == _DIRTY and (not self.extra or bool(self.flags & EXTRA_COMPATIBLE)) and self.flags < 8
        )

    def bytes_for(self, size: int) -> int:
        """How many bytes of bits a disk of `size` bytes has."""
        granules = -(-size // self.granularity)
        return -(-granules // 8)

    def describe(self) -> dict[str, Any]:
        flags = [name for bit, name in ((IN_USE, "in-use"), (AUTO, "auto")) if self.flags & bit]
        return {"flags": flags, "name": self.name, "granularity": self.granularity}


class BitmapDirectory:
    """The bitmaps in `file`, as its `header` names them. Raises ImageCorrupt if they can't be there."""

    def __init__(self, file: ProtocolNode, header: Header) -> None:
        self.file = file
        self.header = header
        self.items: list[Bitmap] = []
        self.place = (0, 0)  # of the directory: offset, bytes
        if header.autoclear & h.BITMAPS and header.extension(h.EXT_BITMAPS) is not None:
            self._load()

    def _corrupt(self, what: str, offset: int | None, name: str, value: object) -> ImageCorrupt:
        return ImageCorrupt(what, offset=offset, field=name, value=value, where=self.file.name)

    def _load(self) -> None:
        data = self.header.extension(h.EXT_BITMAPS) or b""
        if len(data) < EXTENSION.size:
            raise self._corrupt("the bitmaps extension is too short", None, "bitmaps extension", len(data))
        count, _, size, offset = EXTENSION.unpack_from(data)
        if not 1 <= count <= _MAX_BITMAPS or size > _MAX_DIRECTORY or size < count * ENTRY.size:
            raise self._corrupt("the bitmap directory's size can't be", None, "bitmap_directory_size", size)
        if offset % self.header.cluster_size or not offset or offset + size > self.file.length():
            raise self._corrupt(
                "the bitmap directory isn't in the file", None, "bitmap_directory_offset", offset
            )
        directory = self.file.pread(offset, size)
        at = 0
        for _ in range(count):
            if at + ENTRY.size > size:
                raise self._corrupt("the bitmap directory is cut short", offset + at, "nb_bitmaps", count)
            table, entries, flags, kind, bits, name_size, extra_size = ENTRY.unpack_from(directory, at)
            end = at + ENTRY.size + extra_size + name_size
            if end > size or name_size > MAX_NAME:
                raise self._corrupt(
                    "a bitmap's name exceeds the directory", offset + at, "name_size", name_size
                )
            if not 9 <= bits <= 31:
                raise self._corrupt(
                    "a bitmap's granularity can't be", offset + at + 17, "granularity_bits", bits
                )
            body = directory[at + ENTRY.size : end]
            name = body[extra_size:].decode(errors="surrogateescape")
            item = Bitmap(name, flags, bits, table, entries, kind, body[:extra_size])
            clusters = -(-item.bytes_for(self.header.size) // self.header.cluster_size)
            if (
                entries > max(clusters, 1)
                or table % self.header.cluster_size
                or table + entries * 8 > self.file.length()
            ):
                raise self._corrupt(
                    "a bitmap's table isn't in the file", offset + at, "bitmap_table_offset", table
                )
            self.items.append(item)
            at = -(-end // 8) * 8
        self.place = (offset, size)

    def ranges(self) -> Iterator[tuple[int, int, str]]:
        """Everything in the file that belongs to bitmaps: (offset, bytes, what)."""
        if not self.items:
            return
        yield (*self.place, "the bitmap directory")
        for item in self.items:
            if item.table_size:
                yield item.table_offset, item.table_size * 8, f"the table of bitmap {item.name!r}"
            for index, entry in enumerate(read_table(self.file, item.table_offset, item.table_size)):
                if entry & h.OFFSET_MASK:
                    if entry & (self.header.cluster_size - 1):
                        place = item.table_offset + index * 8
                        raise self._corrupt(
                            "a bitmap's data isn't at a cluster", place, "bitmap table entry", entry
                        )
                    yield entry & h.OFFSET_MASK, self.header.cluster_size, f"the data of bitmap {item.name!r}"

    def places(self, item: Bitmap) -> list[tuple[int, int]]:
        """Where a bitmap's table and data lie: (offset, bytes)."""
        if not item.table_size:
            return []
        table = read_table(self.file, item.table_offset, item.table_size)
        size = self.header.cluster_size
        places = [(entry & h.OFFSET_MASK, size) for entry in table if entry & h.OFFSET_MASK]
        return [*places, (item.table_offset, item.table_size * 8)]

    def find(self, name: str) -> Bitmap:
        """Raises ImageNotFound."""
        for item in self.items:
            if item.name == name:
                return item
        raise ImageNotFound(f"there is no bitmap {name!r}", where=self.file.name)

    def bits_of(self, item: Bitmap) -> bytearray:
        """The bitmap's bits, loaded now if need be."""
        if item.inconsistent or not item.known:
            raise ImageUnsupported(
                f"bitmap {item.name!r} was left in use: its bits mean nothing"
                if item.known
                else f"bitmap {item.name!r} is of an unknown kind",
                where=self.file.name,
                remedy="remove it",
            )
        if item.data is None:
            size, cluster = item.bytes_for(self.header.size), self.header.cluster_size
            if size > MAX_BYTES:
                raise ImageUnsupported(f"bitmap {item.name!r} is too large", where=self.file.name)
            data = bytearray(size)
            for index, entry in enumerate(read_table(self.file, item.table_offset, item.table_size)):
                low = index * cluster
                length = min(cluster, size - low)
                if length <= 0:
                    break
                offset = entry & h.OFFSET_MASK
                if offset & (cluster - 1) or offset >= self.file.length():
                    place = item.table_offset + index * 8
                    raise self._corrupt(
                        "a bitmap's data isn't in the file", place, "bitmap table entry", entry
                    )
                if offset:
                    data[low : low + length] = self.file.pread(offset, length)
                elif entry & ONES:
                    data[low : low + length] = b"\xff" * length
            item.data = data
        return item.data

    # --- while the image is written ---

    def begin(self) -> None:
        """Mark the enabled bitmaps as in use, durably, and record from now on."""
        offset = self.place[0]
        changed = False
        for item in self.items:
            if item.enabled and item.known and not item.inconsistent:
                self.bits_of(item)
                item.recording = True
                item.flags |= IN_USE
                self.file.pwrite(offset + 12, struct.pack(">I", item.flags))
                changed = True
            length = ENTRY.size + len(item.extra) + len(item.name.encode(errors="surrogateescape"))
            offset += -(-length // 8) * 8
        if changed:
            self.file.flush()

    def note(self, offset: int, length: int) -> None:
        """The guest changes these bytes."""
        length = min(length, self.header.size - offset)
        if length <= 0:
            return
        for item in self.items:
            if item.recording and item.data is not None:
                first = offset >> item.granularity_bits
                _set_bits(item.data, first, ((offset + length - 1) >> item.granularity_bits) + 1)

    def load_all(self) -> None:
        """Have the bits of all bitmaps in memory (before the disk's size changes). Raises ImageUnsupported.
        """
        for item in self.items:
            if item.known and not item.inconsistent:
                self.bits_of(item)
            else:
                raise ImageUnsupported(
                    f"bitmap {item.name!r} is inconsistent or unknown, so the disk can't change its size",
                    where=self.file.name,
                    remedy="remove the bitmap",
                )


def _set_bits(data: bytearray, first: int, end: int) -> None:
    """Set the bits [first, end)."""
    low, high = first >> 3, end >> 3
    if low == high:
        data[low] |= (1 << (end & 7)) - (1 << (first & 7))
        return
    data[low] |= 0x100 - (1 << (first & 7))
    data[low + 1 : high] = b"\xff" * (high - low - 1)
    if end & 7:
        data[high] |= (1 << (end & 7)) - 1
