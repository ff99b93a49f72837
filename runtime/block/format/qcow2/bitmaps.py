"""Persistent dirty bitmaps: what is done with them (docs/interop/qcow2.txt, "Bitmaps").

Bitmaps whose bits are loaded, and the directory, are written to new places; the header's write switches.
"""

from __future__ import annotations

from array import array

from runtime.block.errors import ImageExists, ImageOption, ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.bitmap_directory import (
    AUTO,
    ENTRY,
    EXTENSION,
    IN_USE,
    MAX_BYTES,
    MAX_NAME,
    ONES,
    Bitmap,
)
from runtime.block.format.qcow2.core import Core
from runtime.block.format.qcow2.refcounts import swapped


class Bitmaps:
    """The bitmaps of one image."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.directory = core.bitmap_directory

    # --- what others see ---

    def entries(self) -> list[Bitmap]:
        """All bitmaps, in the directory's order."""
        return list(self.directory.items)

    def find(self, name: str) -> Bitmap:
        """Raises ImageNotFound."""
        return self.directory.find(name)

    def dirty(self, name: str) -> list[tuple[int, int]]:
        """The dirty parts of the disk: (offset, length) in ascending order. Raises ImageUnsupported."""
        item = self.find(name)
        with self.core.lock:
            data = self.directory.bits_of(item)
        result: list[tuple[int, int]] = []
        size = self.core.header.size
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
        core = self.core
        core.writable_or_raise()
        if core.header.version < 3:
            raise ImageUnsupported(
                "version 2 has no bitmaps", where=core.name, remedy="amend it to compat=1.1"
            )
        if granularity & (granularity - 1) or not 512 <= granularity <= 1 << 31:
            raise ImageOption("a granularity is a power of two from 512 to 2G", where=core.name)
        if not name or len(name.encode(errors="surrogateescape")) > MAX_NAME:
            raise ImageOption(f"a bitmap's name has 1 to {MAX_NAME} bytes", where=core.name)
        with core.lock:
            if any(item.name == name for item in self.directory.items):
                raise ImageExists(f"there is a bitmap {name!r} already", where=core.name)
            item = Bitmap(name, AUTO if enabled else 0, granularity.bit_length() - 1)
            item.data = bytearray(item.bytes_for(core.header.size))
            if len(item.data) > MAX_BYTES:
                raise ImageOption(
                    "the bitmap would be too large", where=core.name, remedy="a larger granularity"
                )
            item.data[: len(bits)] = bits[: len(item.data)]
            core.begin_write()
            item.recording = enabled
            self.directory.items.append(item)
            self._rewrite(in_use=True)
        return item

    def copy_from(self, source: Bitmaps, *, skip_broken: bool = False) -> None:
        """Take over all bitmaps of another image; those of the same names go. Raises ImageUnsupported for
        bitmaps that mean nothing, unless `skip_broken`.
        """
        for item in source.directory.items:
            if skip_broken and (item.inconsistent or not item.known):
                continue
            with source.core.lock:
                bits = bytes(source.directory.bits_of(item))
            if any(mine.name == item.name for mine in self.directory.items):
                self.remove(item.name)
            self.add(item.name, granularity=item.granularity, enabled=item.enabled, bits=bits)

    def remove(self, name: str) -> None:
        """Raises ImageNotFound."""
        core = self.core
        core.writable_or_raise()
        with core.lock:
            item = self.find(name)
            core.begin_write()
            self.directory.items.remove(item)
            self._rewrite(in_use=True, gone=item)

    def clear(self, name: str) -> None:
        """Let everything be clean. Raises ImageNotFound, ImageUnsupported."""
        core = self.core
        core.writable_or_raise()
        with core.lock:
            item = self.find(name)
            core.begin_write()
            self.directory.bits_of(item)
            item.data = bytearray(item.bytes_for(core.header.size))
            self._rewrite(in_use=True)

    def enable(self, name: str, enabled: bool = True) -> None:
        """Let the bitmap record changes, or stop. Raises ImageNotFound, ImageUnsupported."""
        core = self.core
        core.writable_or_raise()
        with core.lock:
            item = self.find(name)
            core.begin_write()
            self.directory.bits_of(item)
            item.recording = enabled
            item.flags = item.flags & ~AUTO | (AUTO if enabled else 0)
            self._rewrite(in_use=True)

    # --- while the image is written ---

    def resize(self) -> None:
        """The disk has another size: fit all bitmaps to it."""
        size = self.core.header.size
        for item in self.directory.items:
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

    def store(self) -> None:
        """Write the recorded bitmaps, no longer in use."""
        if any(item.recording for item in self.directory.items):
            self._rewrite(in_use=False)

    def _rewrite(self, *, in_use: bool, gone: Bitmap | None = None) -> None:
        """Put all bitmaps whose bits are loaded, and the directory, at new places, and name them in the
        header.
        """
        core = self.core
        core.commit()
        frees = [self.directory.place] if self.directory.place[1] else []
        if gone is not None:
            frees += self.directory.places(gone)
        parts: list[bytes] = []
        for item in self.directory.items:
            if item.recording:
                item.flags = item.flags | IN_USE if in_use else item.flags & ~IN_USE
            if item.data is not None:
                frees += self.directory.places(item)
                self._write_bits(item)
            name = item.name.encode(errors="surrogateescape")
            entry = ENTRY.pack(
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
        header = core.header
        if directory:
            offset = core.place(directory)
            self.directory.place = (offset, len(directory))
            pointer = EXTENSION.pack(len(self.directory.items), 0, len(directory), offset)
            header.set_extension(h.EXT_BITMAPS, pointer)
            header.autoclear |= h.BITMAPS
        else:
            self.directory.place = (0, 0)
            header.set_extension(h.EXT_BITMAPS, None)
            header.autoclear &= ~h.BITMAPS
        core.commit()  # refcounts and content of what the header is about to name
        try:
            core.write_header()
            core.file.flush()
        except BaseException:
            core.fail()
            raise
        size = header.cluster_size
        for offset, length in frees:
            core.refcounts.defer(offset // size, -(-length // size))
        core.commit()

    def _write_bits(self, item: Bitmap) -> None:
        assert item.data is not None
        size = self.core.header.cluster_size
        table = array("Q")
        for low in range(0, len(item.data), size):
            piece = bytes(item.data[low : low + size])
            if not any(piece):
                table.append(0)
            elif piece == b"\xff" * size:
                table.append(ONES)
            else:
                table.append(self.core.place(piece))
        item.table_size = len(table)
        item.table_offset = self.core.place(swapped(table)) if table else 0
