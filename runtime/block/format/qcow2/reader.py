"""Reading guest data (of one image, under its lock) through L2 tables: the disk's own, or a snapshot's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtime.block.errors import ImageCorrupt
from runtime.block.format.crowding import Claims
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.core import Core
from runtime.block.format.qcow2.mapping import DATA, HOLE, PACKED, ZEROES, Run, TableSource
from runtime.block.node import Extent, ExtentKind

if TYPE_CHECKING:
    from runtime.block.format.qcow2.cipher import Cipher

_PACKED_CACHE_BYTES = 4 << 20
_SMALLEST = 8  # bytes that a compressed cluster has at least
_KINDS = {DATA: ExtentKind.DATA, ZEROES: ExtentKind.ZERO, PACKED: ExtentKind.DATA}


class Reader:
    """The reading half of one image; `Qcow2Node` has short cuts for single plain clusters."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._sparse: bool | None = None  # much of the data file is holes

    def read(self, tables: TableSource, offset: int, target: memoryview) -> None:
        """Fill `target` from guest offset `offset` as `tables` (L2 tables by L1 index) map it."""
        core = self.core
        for run in core.mapping.runs(tables, offset, len(target)):
            start = run.offset - offset
            view = target[start : start + run.length]
            if run.kind == DATA:
                if core.checksums is not None:
                    core.checksums.verify(run.host, run.length)
                if core.cipher is None:
                    core.data.read_into(run.host, view)
                else:
                    self._read_encrypted(core.cipher, run, view)
            elif run.kind == HOLE:
                core.read_backing(run.offset, view)
            elif run.kind == ZEROES:
                view[:] = bytes(run.length)
            else:
                inside = run.offset & (core.header.cluster_size - 1)
                view[:] = self._unpacked(run.host)[inside : inside + run.length]

    def _read_encrypted(self, cipher: Cipher, run: Run, view: memoryview) -> None:
        """Whole sectors are read and decrypted; `run` may begin and end inside of some."""
        before = run.host & (h.SECTOR - 1)
        length = -(-(before + run.length) // h.SECTOR) * h.SECTOR
        raw = self.core.data.pread(run.host - before, length)
        plain = cipher.decrypt(run.host - before, run.offset - before, raw)
        view[:] = plain[before : before + run.length]

    def _unpacked(self, descriptor: int) -> bytes:
        """The content of a compressed cluster. Raises ImageCorrupt."""
        core = self.core
        plain = core.unpacked.get(descriptor)
        if plain is None:
            offset, size = core.mapping.unpack(descriptor)
            size = min(size, core.header.cluster_size + 512, core.file.length() - offset)
            if size <= 0:
                raise ImageCorrupt(
                    "a compressed cluster isn't inside of the file",
                    offset=offset,
                    field="compressed cluster descriptor",
                    value=descriptor,
                    where=core.name,
                )
            if core.checksums is not None:
                core.checksums.verify(offset, size)
            plain = core.codec.decompress(core.file.pread(offset, size), offset)
            if len(core.unpacked) * core.header.cluster_size >= _PACKED_CACHE_BYTES:
                core.unpacked.clear()
            core.unpacked[descriptor] = plain
        return plain

    def extents(self, tables: TableSource, offset: int, length: int) -> Iterator[Extent]:
        """The disk's extents (see `FormatNode.extents`) as `tables` map them."""
        core = self.core
        # The hole so far: joined, so that empty tables cost no calls of the backing node.
        start = end = offset
        claims = Claims(core.data, core.header.cluster_size, core.name)
        for run in core.mapping.runs(tables, offset, length):
            if run.kind == HOLE:
                end = run.offset + run.length
                continue
            if start < end:
                yield from core.backing_extents(start, end - start)
            start = end = run.offset + run.length
            if run.kind == DATA:
                # What lies behind the end of a file that was cut off reads as zeroes, and takes nothing.
                claims.add(run.host, max(0, min(run.length, core.data.length() - run.host)))
            elif run.kind == PACKED:
                claims.add(run.host, _SMALLEST)
            if run.kind == DATA and core.cipher is None:
                yield from self._data_extents(run)
            else:
                yield Extent(run.offset, run.length, _KINDS[run.kind], compressed=run.kind == PACKED)
        if start < end:
            yield from core.backing_extents(start, end - start)

    def _data_extents(self, run: Run) -> Iterator[Extent]:
        """Stored data, where holes of a file that is much larger than its storage read as zeroes."""
        core = self.core
        if self._sparse is None:
            self._sparse = core.data.allocated() * 10 < core.data.length() * 9
        if core.checksums is not None:  # clusters are read through us, who verify them
            yield Extent(run.offset, run.length, ExtentKind.DATA, host_offset=run.host)
            return
        if not self._sparse:
            yield Extent(run.offset, run.length, ExtentKind.DATA, host_offset=run.host, file=core.data)
            return
        for part in core.data.extents(run.host, run.length):
            kind = ExtentKind.ZERO if part.reads_zero else ExtentKind.DATA
            at = run.offset + part.offset - run.host
            yield Extent(at, part.length, kind, host_offset=part.offset, file=core.data)
