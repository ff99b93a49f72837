"""Persistent dirty bitmaps (docs/interop/qcow2.txt, "Bitmaps").

A bitmap has a bit for each granule of the disk; enabled ones record what the guest changes. They are true
only while the autoclear bit is set. While an image is written, its enabled bitmaps are marked as in use; a
crash leaves the mark, and such a bitmap is known to be inconsistent.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runtime.block.errors import ImageCorrupt, ImageExists, ImageNotFound, ImageOption, ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.refcounts import swapped
from runtime.block.format.qcow2.tables import read_table

if TYPE_CHECKING:
    from runtime.block.format.qcow2.node import Qcow2Node

_EXTENSION = struct.Struct(">IIQQ")
_ENTRY = struct.Struct(">QIIBBHI")  # 24 bytes
IN_USE, AUTO, EXTRA_COMPATIBLE = 1, 2, 4
_DIRTY = 1  # the one type of bitmap
_MAX_BITMAPS, _MAX_NAME, _MAX_DIRECTORY, _MAX_BYTES = 65535, 1023, 16 << 20, 32 << 20
_ONES = 1  # a table entry without offset: all bits set


@dataclass
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


class Bitmaps:
    """The bitmaps of `node`."""

    def __init__(self, node: Qcow2Node) -> None:
        self.node = node
        self.items: list[Bitmap] = []
        self.directory = (0, 0)  # offset, bytes
        if node.header.autoclear & h.BITMAPS and node.header.extension(h.EXT_BITMAPS) is not None:
            self._load()

    def _corrupt(self, what: str, offset: int | None, name: str, value: object) -> ImageCorrupt:
        return ImageCorrupt(what, offset=offset, field=name, value=value, where=self.node.name)

    def _load(self) -> None:
        node = self.node
        data = node.header.extension(h.EXT_BITMAPS) or b""
        if len(data) < _EXTENSION.size:
            raise self._corrupt("the bitmaps extension is too short", None, "bitmaps extension", len(data))
        count, _, size, offset = _EXTENSION.unpack_from(data)
        if not 1 <= count <= _MAX_BITMAPS or size > _MAX_DIRECTORY or size < count * _ENTRY.size:
            raise self._corrupt("the bitmap directory's size can't be", None, "bitmap_directory_size", size)
        if offset % node.header.cluster_size or not offset or offset + size > node.file.length():
            raise self._corrupt(
                "the bitmap directory isn't in the file", None, "bitmap_directory_offset", offset
            )
        directory = node.file.pread(offset, size)
        at = 0
        for _ in range(count):
            if at + _ENTRY.size > size:
                raise self._corrupt("the bitmap directory is cut short", offset + at, "nb_bitmaps", count)
            table, entries, flags, kind, bits, name_size, extra_size = _ENTRY.unpack_from(directory, at)
            end = at + _ENTRY.size + extra_size + name_size
            if end > size or name_size > _MAX_NAME:
                raise self._corrupt(
                    "a bitmap's name exceeds the directory", offset + at, "name_size", name_size
                )
            if not 9 <= bits <= 31:
                raise self._corrupt(
                    "a bitmap's granularity can't be", offset + at + 17, "granularity_bits", bits
                )
            body = directory[at + _ENTRY.size : end]
            name = body[extra_size:].decode(errors="surrogateescape")
            item = Bitmap(name, flags, bits, table, entries, kind, body[:extra_size])
            clusters = -(-item.bytes_for(node.header.size) // node.header.cluster_size)
            if (
                entries > max(clusters, 1)
                or table % node.header.cluster_size
                or table + entries * 8 > node.file.length()
            ):
                raise self._corrupt(
                    "a bitmap's table isn't in the file", offset + at, "bitmap_table_offset", table
                )
            self.items.append(item)
            at = -(-end // 8) * 8
        self.directory = (offset, size)

    def ranges(self) -> Iterator[tuple[int, int, str]]:
        """Everything in the file that belongs to bitmaps: (offset, bytes, what)."""
        node = self.node
        if not self.items:
            return
        yield (*self.directory, "the bitmap directory")
        for item in self.items:
            if item.table_size:
                yield item.table_offset, item.table_size * 8, f"the table of bitmap {item.name!r}"
            for index, entry in enumerate(read_table(node.file, item.table_offset, item.table_size)):
                if entry & h.OFFSET_MASK:
                    if entry & (node.header.cluster_size - 1):
                        place = item.table_offset + index * 8
                        raise self._corrupt(
                            "a bitmap's data isn't at a cluster", place, "bitmap table entry", entry
                        )
                    yield entry & h.OFFSET_MASK, node.header.cluster_size, f"the data of bitmap {item.name!r}"

    # --- what others see ---

    def entries(self) -> list[Bitmap]:
        return list(self.items)

    def find(self, name: str) -> Bitmap:
        """Raises ImageNotFound."""
        for item in self.items:
            if item.name == name:
                return item
        raise ImageNotFound(f"there is no bitmap {name!r}", where=self.node.name)

    def dirty(self, name: str) -> list[tuple[int, int]]:
        """The dirty parts of the disk: (offset, length) in ascending order. Raises ImageUnsupported."""
        item = self.find(name)
        with self.node.lock:
            data = self._bits(item)
        result: list[tuple[int, int]] = []
        size = self.node.header.size
        for number, byte in enumerate(data):
            if not byte:
                continue
            for bit in range(8):
                start = (number * 8 + bit) << item.granularity_bits
                if byte >> bit & 1 and start < size:
                    length = min(item.granularity, size - start)
                    if result and sum(result[-1]) == start:
                        result[-1] = (result[-1][0], result[-1][1] + length)
                    else:
                        result.append((start, length))
        return result

    def add(self, name: str, *, granularity: int = 65536, enabled: bool = True, bits: bytes = b"") -> Bitmap:
        """A new bitmap, clean but for `bits` (low ones first). Raises ImageExists, ImageOption,
        ImageUnsupported.
        """
        node = self.node
        node.writable_or_raise()
        if node.header.version < 3:
            raise ImageUnsupported(
                "version 2 has no bitmaps", where=node.name, remedy="amend it to compat=1.1"
            )
        if granularity & (granularity - 1) or not 512 <= granularity <= 1 << 31:
            raise ImageOption("a granularity is a power of two from 512 to 2G", where=node.name)
        if not name or len(name.encode(errors="surrogateescape")) > _MAX_NAME:
            raise ImageOption(f"a bitmap's name has 1 to {_MAX_NAME} bytes", where=node.name)
        with node.lock:
            if any(item.name == name for item in self.items):
                raise ImageExists(f"there is a bitmap {name!r} already", where=node.name)
            item = Bitmap(name, AUTO if enabled else 0, granularity.bit_length() - 1)
            item.data = bytearray(item.bytes_for(node.header.size))
            if len(item.data) > _MAX_BYTES:
                raise ImageOption(
                    "the bitmap would be too large", where=node.name, remedy="a larger granularity"
                )
            item.data[: len(bits)] = bits[: len(item.data)]
            node.begin_write()
            item.recording = enabled
            self.items.append(item)
            self._rewrite(in_use=True)
        return item

    def copy_from(self, source: Bitmaps, *, skip_broken: bool = False) -> None:
        """Take over all bitmaps of another image; those of the same names go. Raises ImageUnsupported for
        bitmaps that mean nothing, unless `skip_broken`.
        """
        for item in source.items:
            if skip_broken and (item.inconsistent or not item.known):
                continue
            with source.node.lock:
                bits = bytes(source._bits(item))
            if any(mine.name == item.name for mine in self.items):
                self.remove(item.name)
            self.add(item.name, granularity=item.granularity, enabled=item.enabled, bits=bits)

    def remove(self, name: str) -> None:
        """Raises ImageNotFound."""
        node = self.node
        node.writable_or_raise()
        with node.lock:
            item = self.find(name)
            node.begin_write()
            self.items.remove(item)
            self._rewrite(in_use=True, gone=item)

    def clear(self, name: str) -> None:
        """Let everything be clean. Raises ImageNotFound, ImageUnsupported."""
        node = self.node
        node.writable_or_raise()
        with node.lock:
            item = self.find(name)
            node.begin_write()
            self._bits(item)
            item.data = bytearray(item.bytes_for(node.header.size))
            self._rewrite(in_use=True)

    def enable(self, name: str, enabled: bool = True) -> None:
        """Let the bitmap record changes, or stop. Raises ImageNotFound, ImageUnsupported."""
        node = self.node
        node.writable_or_raise()
        with node.lock:
            item = self.find(name)
            node.begin_write()
            self._bits(item)
            item.recording = enabled
            item.flags = item.flags & ~AUTO | (AUTO if enabled else 0)
            self._rewrite(in_use=True)

    def _bits(self, item: Bitmap) -> bytearray:
        """The bitmap's bits, loaded now if need be."""
        if item.inconsistent or not item.known:
            raise ImageUnsupported(
                f"bitmap {item.name!r} was left in use: its bits mean nothing"
                if item.known
                else f"bitmap {item.name!r} is of an unknown kind",
                where=self.node.name,
                remedy="remove it",
            )
        if item.data is None:
            node = self.node
            size, cluster = item.bytes_for(node.header.size), node.header.cluster_size
            if size > _MAX_BYTES:
                raise ImageUnsupported(f"bitmap {item.name!r} is too large", where=node.name)
            data = bytearray(size)
            for index, entry in enumerate(read_table(node.file, item.table_offset, item.table_size)):
                low = index * cluster
                length = min(cluster, size - low)
                if length <= 0:
                    break
                offset = entry & h.OFFSET_MASK
                if offset & (cluster - 1) or offset >= node.file.length():
                    place = item.table_offset + index * 8
                    raise self._corrupt(
                        "a bitmap's data isn't in the file", place, "bitmap table entry", entry
                    )
                if offset:
                    data[low : low + length] = node.file.pread(offset, length)
                elif entry & _ONES:
                    data[low : low + length] = b"\xff" * length
            item.data = data
        return item.data

    # --- while the image is written ---

    def begin(self) -> None:
        """Mark the enabled bitmaps as in use, durably, and record from now on."""
        node = self.node
        offset = self.directory[0]
        changed = False
        for item in self.items:
            if item.enabled and item.known and not item.inconsistent:
                self._bits(item)
                item.recording = True
                item.flags |= IN_USE
                node.file.pwrite(offset + 12, struct.pack(">I", item.flags))
                changed = True
            length = _ENTRY.size + len(item.extra) + len(item.name.encode(errors="surrogateescape"))
            offset += -(-length // 8) * 8
        if changed:
            node.file.flush()

    def note(self, offset: int, length: int) -> None:
        """The guest changes these bytes."""
        length = min(length, self.node.header.size - offset)
        if length <= 0:
            return
        for item in self.items:
            if item.recording and item.data is not None:
                first = offset >> item.granularity_bits
                _set_bits(item.data, first, ((offset + length - 1) >> item.granularity_bits) + 1)

    def resize(self) -> None:
        """The disk has another size: fit all bitmaps to it."""
        size = self.node.header.size
        for item in self.items:
            if not item.known or item.inconsistent:
                continue
            assert item.data is not None
            wanted = item.bytes_for(size)
            del item.data[wanted:]
            item.data.extend(bytes(wanted - len(item.data)))
            granules = -(-size // item.granularity)
            if granules % 8 and item.data:
                item.data[-1] &= (1 << granules % 8) - 1
        self._rewrite(in_use=True)

    def load_all(self) -> None:
        """Have the bits of all bitmaps in memory (before the disk's size changes). Raises ImageUnsupported.
        """
        for item in self.items:
            if item.known and not item.inconsistent:
                self._bits(item)
            else:
                raise ImageUnsupported(
                    f"bitmap {item.name!r} is inconsistent or unknown, so the disk can't change its size",
                    where=self.node.name,
                    remedy="remove the bitmap",
                )

    def store(self) -> None:
        """Write the recorded bitmaps, no longer in use."""
        if any(item.recording for item in self.items):
            self._rewrite(in_use=False)

    def _rewrite(self, *, in_use: bool, gone: Bitmap | None = None) -> None:
        """Put all bitmaps whose bits are loaded, and the directory, at new places, and name them in the
        header.
        """
        node = self.node
        node.commit()
        frees = [(self.directory[0], self.directory[1])] if self.directory[1] else []
        if gone is not None:
            frees += self._places(gone)
        parts: list[bytes] = []
        for item in self.items:
            if item.recording:
                item.flags = item.flags | IN_USE if in_use else item.flags & ~IN_USE
            if item.data is not None:
                frees += self._places(item)
                self._write_bits(item)
            name = item.name.encode(errors="surrogateescape")
            entry = _ENTRY.pack(
                item.table_offset,
                item.table_size,
                item.flags,
                item.kind,
                item.granularity_bits,
                len(name),
                len(item.extra),
            )
            entry += item.extra + name
            parts.append(entry + bytes(-len(entry) % 8))
        directory = b"".join(parts)
        header = node.header
        if directory:
            offset = self._place(directory)
            self.directory = (offset, len(directory))
            pointer = _EXTENSION.pack(len(self.items), 0, len(directory), offset)
            header.set_extension(h.EXT_BITMAPS, pointer)
            header.autoclear |= h.BITMAPS
        else:
            self.directory = (0, 0)
            header.set_extension(h.EXT_BITMAPS, None)
            header.autoclear &= ~h.BITMAPS
        node.commit()  # refcounts and content of what the header is about to name
        try:
            node.write_header()
            node.file.flush()
        except BaseException:
            node.fail()
            raise
        size = header.cluster_size
        for offset, length in frees:
            node.refcounts.defer(offset // size, -(-length // size))
        node.commit()

    def _place(self, data: bytes) -> int:
        node, size = self.node, self.node.header.cluster_size
        start, _ = node.refcounts.allocate(-(-len(data) // size), exact=True)
        node.file.pwrite(start * size, data + bytes(-len(data) % size))
        return start * size

    def _places(self, item: Bitmap) -> list[tuple[int, int]]:
        """Where a bitmap's table and data lie: (offset, bytes)."""
        if not item.table_size:
            return []
        table = read_table(self.node.file, item.table_offset, item.table_size)
        size = self.node.header.cluster_size
        places = [(entry & h.OFFSET_MASK, size) for entry in table if entry & h.OFFSET_MASK]
        return [*places, (item.table_offset, item.table_size * 8)]

    def _write_bits(self, item: Bitmap) -> None:
        assert item.data is not None
        size = self.node.header.cluster_size
        table = array("Q")
        for low in range(0, len(item.data), size):
            piece = bytes(item.data[low : low + size])
            if not any(piece):
                table.append(0)
            elif piece == b"\xff" * size:
                table.append(_ONES)
            else:
                table.append(self._place(piece))
        item.table_size = len(table)
        item.table_offset = self._place(swapped(table)) if table else 0


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
