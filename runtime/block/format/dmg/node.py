"""An open DMG file."""

from __future__ import annotations

import bz2
import lzma

import numpy as np

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.chunks import ChunkNode
from runtime.block.format.deflate import inflate
from runtime.block.format.dmg import trailer
from runtime.block.format.dmg.trailer import SECTOR
from runtime.block.node import ProtocolNode
from runtime.block.report import ImageInfo
from runtime.errors import NotYetError

_NAMES = {
    trailer.RAW: "raw",
    trailer.ADC: "ADC",
    trailer.ZLIB: "zlib",
    trailer.BZIP2: "bzip2",
    trailer.LZFSE: "LZFSE",
    trailer.XZ: "xz",
}


class DmgNode(ChunkNode):
    """Ranges that no chunk covers are zero."""

    format = "dmg"

    def __init__(self, file: ProtocolNode, context: OpenContext) -> None:
        if context.writable:
            raise ImageUnsupported(
                "DMG images can't be written",
                where=file.name,
                remedy="convert it, or write an overlay on top of it",
            )
        sectors, chunks = trailer.read_chunks(file)
        begin = chunks["sector"].astype(np.int64)
        end = begin + chunks["sectors"].astype(np.int64)
        if (end[:-1] > begin[1:]).any():
            at = int(np.flatnonzero(end[:-1] > begin[1:])[0])
            raise ImageCorrupt(
                "two chunks are the same part of the disk",
                offset=None,
                field="SectorNumber",
                value=int(begin[at + 1]),
                where=file.name,
            )
        for kind in set(chunks["kind"].tolist()) - {trailer.ZERO, trailer.IGNORE, *_NAMES}:
            raise ImageUnsupported(f"chunks of type {kind:#x} aren't known", where=file.name)
        # Every edge starts a piece; which chunk (if any) a piece belongs to follows from where it lies.
        starts = np.unique(np.concatenate([begin, end, np.array([0, sectors], np.int64)]))
        owner = np.searchsorted(begin, starts[:-1], "right") - 1
        covered = np.zeros(len(owner), np.bool_)
        if len(begin):
            covered = (owner >= 0) & (starts[:-1] < end[np.maximum(owner, 0)])
        self._owner = owner
        self._chunks = chunks
        zero = ~covered
        if len(begin):
            zero |= np.isin(chunks["kind"][np.maximum(owner, 0)], (trailer.ZERO, trailer.IGNORE))
        super().__init__(file, starts * SECTOR, zero)

    def _unpack(self, chunk: int, length: int) -> bytes:
        record = self._chunks[self._owner[chunk]]
        kind, offset, size = int(record["kind"]), int(record["offset"]), int(record["length"])
        if kind == trailer.LZFSE:
            raise NotYetError("LZFSE chunks (ULFO images) can't be unpacked yet", where=self.name)
        packed = self.file.pread(offset, min(size, max(0, self.file.length() - offset)))
        try:
            data = _unpacked(kind, packed, length)
        except (OSError, EOFError, lzma.LZMAError, IndexError):
            data = None
        if data is None or len(data) < length:
            raise ImageCorrupt(
                f"a chunk of sector {int(record['sector'])} can't be unpacked ({_NAMES[kind]})",
                offset=offset,
                field="chunk",
                where=self.name,
            )
        return data[:length]

    def info(self) -> ImageInfo:
        kinds = set(self._chunks["kind"].tolist()) & set(_NAMES)
        return ImageInfo(
            filename=self.name,
            format=self.format,
            virtual_size=self.length(),
            actual_size=self.file.allocated(),
            compressed=bool(kinds - {trailer.RAW}),
            format_specific={
                "type": "dmg",
                "data": {"chunks": len(self._chunks), "kinds": sorted(_NAMES[kind] for kind in kinds)},
            },
        )


def _unpacked(kind: int, packed: bytes, length: int) -> bytes | None:
    """At most `length` bytes; None if damaged."""
    if kind == trailer.RAW:
        return packed
    if kind == trailer.ZLIB:
        return inflate(packed, length)
    if kind == trailer.BZIP2:
        return bz2.BZ2Decompressor().decompress(packed, length)
    if kind == trailer.XZ:
        return lzma.LZMADecompressor(memlimit=48 << 20).decompress(packed, length)
    return _adc(packed, length)


def _adc(packed: bytes, length: int) -> bytes | None:
    """Apple data compression: runs of plain bytes, and copies of what came before in two or three bytes."""
    out = bytearray()
    at = 0
    while at < len(packed) and len(out) < length:
        code = packed[at]
        if code & 0x80:
            count = (code & 0x7F) + 1
            out += packed[at + 1 : at + 1 + count]
            at += 1 + count
            continue
        if code & 0x40:
            count, distance = (code & 0x3F) + 4, (packed[at + 1] << 8 | packed[at + 2]) + 1
            at += 3
        else:
            count, distance = (code >> 2) + 3, ((code & 3) << 8 | packed[at + 1]) + 1
            at += 2
        if distance > len(out):
            return None
        for _ in range(count):
            out.append(out[-distance])
    return bytes(out[:length])
