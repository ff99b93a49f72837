"""Compressed extents (streamOptimized): grains with markers, tables behind them, the directory and a footer
last.

They are made to be written once, from start to end. A new one takes writes in any order until it's closed;
one that holds data is read only. Without its footer (its writer died) the extent is found again by its
markers: `check` does.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

from runtime.block.errors import ImageCorrupt, ImageReadOnly, ImageUnsupported
from runtime.block.format.deflate import deflate, inflate
from runtime.block.format.mapped.table import Coding, PagedTable, TwoLevelTable
from runtime.block.format.vmdk import header as vmdk
from runtime.block.format.vmdk.header import SECTOR, SparseHeader
from runtime.block.node import Buffer, Compression, Extent, ExtentKind, FormatNode, Node, ProtocolNode, Repair
from runtime.block.report import CheckReport, ImageInfo, may_stop

_GRAIN_MARKER = struct.Struct("<QI")  # first sector, bytes of compressed data, which follow
_MARKER = struct.Struct("<QII496x")  # sectors that follow, 0, type
_END_OF_STREAM, _TABLE, _DIRECTORY, _FOOTER = 0, 1, 2, 3
_TRAILER = 3 * SECTOR  # footer marker, footer, end of stream
_CACHED_GRAINS = 32
_BATCH = 1 << 14  # grains looked at in one go
_OPEN_GRAINS = 64  # grains written in part that wait for the rest


class GrainCompression(Compression):
    """Packs grains; the extent takes them in any order."""

    always = True

    def __init__(self, extent: StreamExtent) -> None:
        self._extent = extent
        self.cluster_size = extent.header.grain_bytes

    def compress(self, data: Buffer) -> bytes:
        view = memoryview(data).cast("B")
        if len(view) < self.cluster_size:
            return deflate(bytes(view) + bytes(self.cluster_size - len(view)))
        return deflate(view)

    def write(self, clusters: Sequence[tuple[int, bytes]]) -> None:
        self._extent.store(clusters)


class StreamExtent(FormatNode):
    """See the module."""

    format = "vmdk"

    def __init__(
        self, file: ProtocolNode, header: SparseHeader, *, writable: bool, backing: Node | None
    ) -> None:
        self.file = file
        self.name = file.name
        self.read_only = not writable
        self.backing = backing
        self._lock = threading.RLock()
        self._head = header
        self._size = header.capacity * SECTOR
        self._closed = False
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._partial: OrderedDict[int, bytearray] = OrderedDict()
        self._places: dict[int, int] = {}  # sector of each table that has been written
        self._stale: set[int] = set()  # tables whose last copy in the file isn't right any more
        self._current = -1  # table of the grain written last
        self._unfinished = False  # the trailer isn't written
        self.broken: ImageCorrupt | None = None  # why the trailer couldn't be used
        try:
            self.header = self._with_directory(header)
        except ImageCorrupt as error:
            self.broken = error
            self.header = header
        self._grain = self.header.grain_bytes
        self._bound = 2 * self._grain + SECTOR  # of compressed data
        self._open_table()
        self._end = header.overhead * SECTOR or SECTOR
        self._fresh = writable and self.broken is None and self._is_empty()

    def _with_directory(self, header: SparseHeader) -> SparseHeader:
        """The header that says where the directory is: the footer, if there is one."""
        if header.directory != vmdk.AT_END:
            return header
        base = self.file.length() - 2 * SECTOR
        marker = self.file.pread(max(0, base - SECTOR), SECTOR)
        if base < SECTOR or _MARKER.unpack(marker)[1:] != (0, _FOOTER):
            raise ImageCorrupt(
                "the footer is missing: whoever wrote this image didn't finish",
                offset=max(0, base - SECTOR),
                field="footer marker",
                where=self.name,
                remedy="`isagen image check --repair all` finds the data again",
            )
        footer = SparseHeader.parse(self.file.pread(base, SECTOR), self.name, self.file.length(), base)
        for name in ("capacity", "grain_size", "table_entries", "flags"):
            if getattr(footer, name) != getattr(header, name):
                raise vmdk.SPARSE.wrong(
                    "header and footer disagree", name, getattr(footer, name), where=self.name, base=base
                )
        if footer.directory == vmdk.AT_END:
            raise vmdk.SPARSE.wrong(
                "the footer doesn't say where the grain directory is",
                "directory",
                footer.directory,
                where=self.name,
                base=base,
            )
        return footer

    def _open_table(self) -> None:
        header = self.header
        at_end = header.directory == vmdk.AT_END
        directory = PagedTable(
            self.file, (1 << 62) if at_end else header.directory * SECTOR, header.tables, "<u4"
        )
        self.table = TwoLevelTable(
            directory, entries_per_table=header.table_entries, code="<u4", count=header.grains, unit=SECTOR
        )

    def _is_empty(self) -> bool:
        directory = self.table.directory
        for first in range(0, directory.count, 1 << 14):
            if directory.read(first, min(1 << 14, directory.count - first)).any():
                return False
        return True

    # Reading

    def length(self) -> int:
        return self._size

    def pread(self, offset: int, length: int) -> bytes:
        target = bytearray(length)
        self.read_into(offset, memoryview(target))
        return bytes(target)

    def read_into(self, offset: int, target: memoryview) -> None:
        self.in_range_or_raise(offset, len(target))
        done = 0
        while done < len(target):
            grain, within = divmod(offset + done, self._grain)
            part = min(self._grain - within, len(target) - done)
            view = target[done : done + part]
            data = self._content(grain)
            if data is None:
                self.read_backing(offset + done, view)
            else:
                view[:] = data[within : within + part]
            done += part

    def _content(self, grain: int) -> bytes | bytearray | None:
        """The grain's bytes, None if it isn't in this extent. Raises ImageCorrupt."""
        with self._lock:
            written = self._partial.get(grain)
            if written is not None:
                return written
            cached = self._cache.get(grain)
            if cached is not None:
                self._cache.move_to_end(grain)
                return cached
            sector = self.table.entry(grain)
        if sector <= 1:
            return None if sector == 0 or not self.header.flags & vmdk.ZEROED_GRAINS else bytes(self._grain)
        data = self._unpack(grain, sector * SECTOR)
        with self._lock:
            self._cache[grain] = data
            if len(self._cache) > _CACHED_GRAINS:
                self._cache.popitem(last=False)
        return data

    def _unpack(self, grain: int, offset: int) -> bytes:
        if self.header.flags & vmdk.MARKERS:
            size = self.grain_at(grain, offset)
            packed = self.file.pread(offset + _GRAIN_MARKER.size, size)
        elif offset < self.file.length():
            packed = self.file.pread(offset, min(self._bound, self.file.length() - offset))
        else:
            raise self._damaged(grain, offset, "lies behind the file's end")
        data = inflate(packed, self._grain)
        if data is None or len(data) < min(self._grain, self._size - grain * self._grain):
            raise self._damaged(grain, offset, "can't be unpacked")
        return data

    def grain_at(self, grain: int, offset: int) -> int:
        """The size of the grain's compressed data, from its marker. Raises ImageCorrupt."""
        first, size = _GRAIN_MARKER.unpack(self.file.pread(offset, _GRAIN_MARKER.size))
        if offset < SECTOR or first != grain * self.header.grain_size:
            raise self._damaged(grain, offset, f"isn't there: the marker is of sector {first}")
        if not 0 < size <= self._bound or offset + _GRAIN_MARKER.size + size > self.file.length():
            raise self._damaged(grain, offset, f"can't have {size} bytes of compressed data")
        return int(size)

    def _damaged(self, grain: int, offset: int, what: str) -> ImageCorrupt:
        return ImageCorrupt(f"grain {grain} {what}", offset=offset, field="grain", where=self.name)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self._size - offset if length is None else length
        self.in_range_or_raise(offset, size)
        end = offset + size
        while offset < end:
            first = offset // self._grain
            with self._lock:
                kind, count = self._same(first, -(-end // self._grain) - first)
            stop = min(end, (first + count) * self._grain)
            if kind is ExtentKind.DATA:
                yield Extent(offset, stop - offset, kind, compressed=True)
            elif kind is ExtentKind.ZERO:
                yield Extent(offset, stop - offset, kind)
            else:
                yield from self.backing_extents(offset, stop - offset)
            offset = stop

    def _kind(self, grain: int) -> ExtentKind:
        entry = self.table.entry(grain)
        if entry == 0 and grain not in self._partial:
            return ExtentKind.HOLE
        marked = entry == 1 and grain not in self._partial and self.header.flags & vmdk.ZEROED_GRAINS
        return ExtentKind.ZERO if marked else ExtentKind.DATA

    def _same(self, first: int, count: int) -> tuple[ExtentKind, int]:
        """What a grain is, and how many of `count` (at least) from it on are so too."""
        kind = self._kind(first)
        if kind is ExtentKind.HOLE:
            empty = max(self.table.empty_run(first, count), self.table.run(first, count, 0))
            return kind, min([empty, *(grain - first for grain in self._partial if grain > first)])
        same = 1
        while same < min(count, _BATCH) and self._kind(first + same) is kind:
            same += 1
        return kind, same

    # Writing

    @property
    def compression(self) -> Compression | None:
        return GrainCompression(self)

    def _fresh_or_raise(self) -> None:
        self.writable_or_raise()
        if not self._fresh:
            raise ImageReadOnly(
                "a streamOptimized image is written once, and this one holds data already",
                where=self.name,
                remedy="write to an overlay on top of it, or convert it to monolithicSparse",
            )

    def pwrite(self, offset: int, data: Buffer) -> None:
        self._fresh_or_raise()
        view = memoryview(data).cast("B")
        self.in_range_or_raise(offset, len(view))
        done = 0
        with self._lock:
            while done < len(view):
                grain, within = divmod(offset + done, self._grain)
                part = min(self._grain - within, len(view) - done)
                piece = view[done : done + part]
                if part == self._grain:
                    self._partial.pop(grain, None)
                    self._append([(grain, deflate(piece))])
                else:
                    self._write_part(grain, within, piece)
                done += part

    def _write_part(self, grain: int, within: int, data: memoryview) -> None:
        held = self._partial.get(grain)
        if held is None:
            held = bytearray(self._grain)
            before = self._content(grain)
            if before is not None:
                held[: len(before)] = before
            elif self.backing is not None:
                below = min(self._grain, self._size - grain * self._grain)
                self.read_backing(grain * self._grain, memoryview(held)[:below])
            self._partial[grain] = held
            if len(self._partial) > _OPEN_GRAINS:
                old, content = self._partial.popitem(last=False)
                self._append([(old, deflate(content))])
        held[within : within + len(data)] = data

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._fresh_or_raise()
        self.in_range_or_raise(offset, length)
        zeroes = memoryview(bytes(self._grain))
        done = 0
        while done < length:
            grain, within = divmod(offset + done, self._grain)
            part = min(self._grain - within, length - done)
            with self._lock:
                if self.backing is not None or grain in self._partial or self.table.entry(grain):
                    self.pwrite(offset + done, zeroes[:part])
            done += part

    def store(self, clusters: Sequence[tuple[int, bytes]]) -> None:
        """Append packed grains, (offset in the disk, packed)."""
        self._fresh_or_raise()
        with self._lock:
            grains = []
            for offset, packed in clusters:
                grain, within = divmod(offset, self._grain)
                if within or offset >= self._size:
                    raise ImageUnsupported("only whole grains can be stored packed", where=self.name)
                self._partial.pop(grain, None)
                grains.append((grain, packed))
            self._append(grains)

    def _append(self, grains: Sequence[tuple[int, bytes]]) -> None:
        self._unfinished = True
        parts: list[bytes] = []
        at = start = self._end
        places: list[tuple[int, int]] = []
        for grain, packed in grains:
            number = grain // self.header.table_entries
            if number != self._current:
                if self._current >= 0 and places:
                    self._put(start, parts, places)
                    parts, places, start = [], [], at
                at = start = self._leave_table(number, at)
            places.append((grain, at))
            length = _GRAIN_MARKER.size + len(packed)
            padding = -length % SECTOR
            parts += [_GRAIN_MARKER.pack(grain * self.header.grain_size, len(packed)), packed, bytes(padding)]
            at += length + padding
        self._put(start, parts, places)

    def _put(self, start: int, parts: list[bytes], places: list[tuple[int, int]]) -> None:
        """Write grains in a row, then note where they are."""
        data = b"".join(parts)
        self.file.pwrite(start, data)
        self._end = start + len(data)
        if self._end // SECTOR > 0xFFFFFFFF:
            raise ImageUnsupported("a streamOptimized image can't have more than 2 TiB", where=self.name)
        for grain, place in places:
            self.table.write(grain, place // SECTOR)
            self._cache.pop(grain, None)
            self._stale.add(grain // self.header.table_entries)

    def _leave_table(self, number: int, at: int) -> int:
        """The next grain belongs to another table: the one before is complete, and written as streams have
        it.
        """
        if self._current in self._stale:
            self._end = at
            self._write_table(self._current)
            at = self._end
        self._current = number
        return at

    def _write_table(self, number: int) -> None:
        content = self.table.content(number)
        assert content is not None
        content += bytes(-len(content) % SECTOR)
        self.file.pwrite(self._end, _MARKER.pack(len(content) // SECTOR, 0, _TABLE) + content)
        self._places[number] = self._end // SECTOR + 1
        self._end += SECTOR + len(content)
        self._stale.discard(number)

    def flush(self) -> None:
        """Writes the trailer. What is written afterwards goes behind it, and a new trailer behind that."""
        if self.read_only:
            return
        with self._lock:
            while self._partial:
                grain, content = next(iter(self._partial.items()))
                self._append([(grain, deflate(content))])
                del self._partial[grain]
            if self._unfinished:
                self._finish()
            self.file.flush()

    def _finish(self) -> None:
        for number in sorted(self._stale):
            self._write_table(number)
        coding = Coding("<u4")
        tables = coding.zeroes(self.header.tables)
        for number, sector in self._places.items():
            tables[number] = sector
        self._end = write_trailer(self.file, self._end, self._head, coding.encoded(tables))
        if not self.file.fixed_length and self.file.length() > self._end:
            self.file.resize(self._end, shrink=True)
        self._unfinished = False

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self.flush()
            finally:
                self.file.close()

    # About the extent

    def info(self) -> ImageInfo:
        return ImageInfo(
            filename=self.name,
            format="vmdk",
            virtual_size=self._size,
            actual_size=self.file.allocated(),
            cluster_size=self._grain,
            compressed=True,
        )

    @may_stop
    def check(self, repair: Repair | None = None) -> CheckReport:
        """Reads the markers of all grains. A missing trailer is made anew from them."""
        report = CheckReport(filename=self.name, format="vmdk", total_clusters=self.header.grains)
        with self._lock:
            if repair:
                self.writable_or_raise()
            if not self.read_only:
                self.flush()
            if self.broken is not None:
                found = self._scan()
                fixed = repair == "all"
                if fixed:
                    self._rebuild(found)
                report.note("corruption", self.broken.what, offset=self.broken.offset, fixed=fixed)
                report.allocated_clusters = len(found)
                if fixed:
                    self.broken = None
                return report
            stored = 0
            for grain, sector in self._stored():
                stored += 1
                if not self.header.flags & vmdk.MARKERS:
                    continue
                try:
                    self.grain_at(grain, sector * SECTOR)
                except ImageCorrupt as error:
                    report.note("corruption", error.what, offset=error.offset)
            report.allocated_clusters = report.compressed_clusters = stored
            report.image_end_offset = self.file.length()
        return report

    def _stored(self) -> Iterator[tuple[int, int]]:
        """All grains that are stored, with their sectors."""
        first = 0
        while first < self.header.grains:
            kind, count = self._same(first, self.header.grains - first)
            if kind is ExtentKind.DATA:
                for grain in range(first, first + count):
                    sector = self.table.entry(grain)
                    if sector > 1:
                        yield grain, sector
            first += count

    def _scan(self) -> dict[int, int]:
        """Grain: its sector, by the markers in the file, the last of each."""
        found: dict[int, int] = {}
        at, length = self._end, self.file.length()
        while at + SECTOR <= length:
            first, size = _GRAIN_MARKER.unpack(self.file.pread(at, _GRAIN_MARKER.size))
            if size:
                grain, within = divmod(first, self.header.grain_size)
                step = -(-(_GRAIN_MARKER.size + size) // SECTOR) * SECTOR
                if within or grain >= self.header.grains or size > self._bound or at + step > length:
                    break
                found[grain] = at // SECTOR
            else:
                step = SECTOR + (first * SECTOR if first <= length // SECTOR else length)
            at += step
        self._scan_end = at
        return found

    def _rebuild(self, found: dict[int, int]) -> None:
        self._open_table()
        for grain, sector in sorted(found.items()):
            self.table.write(grain, sector)
            self._stale.add(grain // self.header.table_entries)
        self._end = self._scan_end
        self._finish()
        self.file.flush()
        self.header = self._with_directory(self._head)
        self._open_table()


def write_trailer(file: ProtocolNode, at: int, header: SparseHeader, directory: bytes) -> int:
    """Directory, footer and end of stream at byte `at`; gives the end. `directory` holds the tables'
    sectors.
    """
    directory += bytes(-len(directory) % SECTOR)
    footer = header.changed(directory=at // SECTOR + 1).pack()
    trailer = [
        _MARKER.pack(len(directory) // SECTOR, 0, _DIRECTORY),
        directory,
        _MARKER.pack(1, 0, _FOOTER),
        footer,
        _MARKER.pack(0, 0, _END_OF_STREAM),
    ]
    data = b"".join(trailer)
    file.pwrite(at, data)
    return at + len(data)
