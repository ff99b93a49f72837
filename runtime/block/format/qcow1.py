"""QCOW version 1 (QEMU before 0.8.3), read only: clusters through two levels of tables, plain or deflated."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.layout import Layout
from runtime.block.node import Buffer, Extent, ExtentKind, FormatNode, ProtocolNode

if TYPE_CHECKING:
    from runtime.block.report import ImageInfo

_HEADER = Layout(
    ">",
    48,
    magic=(0, "4s"),
    version=(4, "I"),
    backing_offset=(8, "Q"),
    backing_length=(16, "I"),
    disk_size=(24, "Q"),
    cluster_bits=(32, "B"),
    table_bits=(33, "B"),
    encryption=(36, "I"),
    directory=(40, "Q"),
)
_COMPRESSED = 1 << 63
_CACHED = 32


class Qcow1Node(FormatNode):
    """See the module."""

    format = "qcow"

    def __init__(self, file: ProtocolNode, context: OpenContext) -> None:
        # Here, for start-up's sake: it loads numpy.
        from runtime.block.format.mapped.table import PagedTable, TwoLevelTable

        self.file = file
        self.name = file.name
        self.read_only = True
        fields = self._validated(_HEADER.read(file.pread(0, _HEADER.size)), context)
        self._size: int = fields["disk_size"]
        self._bits: int = fields["cluster_bits"]
        self._cluster = 1 << self._bits
        per_table = 1 << fields["table_bits"]
        clusters = -(-self._size // self._cluster)
        self._table = TwoLevelTable(
            PagedTable(file, fields["directory"], -(-clusters // per_table), ">u8"),
            entries_per_table=per_table,
            code=">u8",
            count=clusters,
            valid=self._valid_table,
        )
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, bytes] = OrderedDict()
        self._reference: str | None = None
        if fields["backing_offset"]:
            raw = file.pread(fields["backing_offset"], fields["backing_length"])
            self._reference = raw.decode("utf-8", "surrogateescape")
            if context.backing:
                self.backing = context.references.open_image(self._reference, "backing file", format=None)

    def _validated(self, fields: dict[str, Any], context: OpenContext) -> dict[str, Any]:
        def wrong(what: str, name: str) -> ImageCorrupt:
            return _HEADER.wrong(what, name, fields[name], where=self.name)

        if context.writable:
            raise ImageUnsupported(
                "QCOW images of version 1 can't be written",
                where=self.name,
                remedy="convert it to QCOW2, or write an overlay on top of it",
            )
        if (fields["magic"], fields["version"]) != (b"QFI\xfb", 1):
            raise wrong("this is no QCOW image of version 1", "version")
        if not 9 <= fields["cluster_bits"] <= 16:
            raise wrong("clusters can't have this size", "cluster_bits")
        if not 6 <= fields["table_bits"] <= 13:
            raise wrong("tables can't have this size", "table_bits")
        if fields["encryption"]:
            raise ImageUnsupported("encrypted QCOW images of version 1 aren't known", where=self.name)
        length = self.file.length()
        tables = -(-fields["disk_size"] >> (fields["cluster_bits"] + fields["table_bits"])) + 1
        if fields["disk_size"] >> 62 or fields["directory"] + 8 * (tables - 1) > length:
            raise wrong("the directory lies behind the file's end", "disk_size")
        if fields["backing_offset"] and (
            not 0 < fields["backing_length"] <= 1023
            or fields["backing_offset"] + fields["backing_length"] > length
        ):
            raise wrong("the backing file's name can't lie there", "backing_offset")
        return fields

    def _valid_table(self, number: int, value: int) -> int:
        if value and not _HEADER.size <= value < self.file.length():
            raise ImageCorrupt(
                f"table {number} lies outside of the file",
                offset=None,
                field="directory entry",
                value=value & 0xFFFFFFFFFFFFFFFF,
                where=self.name,
            )
        return value

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
            cluster, within = divmod(offset + done, self._cluster)
            part = min(self._cluster - within, len(target) - done)
            view = target[done : done + part]
            entry = self._entry(cluster)
            if not entry:
                self.read_backing(offset + done, view)
            elif entry & _COMPRESSED:
                view[:] = self._unpack(cluster, entry)[within : within + part]
            else:
                self.file.read_into(self._place(cluster, entry) + within, view)
            done += part

    def _entry(self, cluster: int) -> int:
        with self._lock:
            return self._table.entry(cluster) & 0xFFFFFFFFFFFFFFFF

    def _place(self, cluster: int, entry: int) -> int:
        if not _HEADER.size <= entry < self.file.length():
            raise ImageCorrupt(
                f"cluster {cluster} lies outside of the file",
                offset=None,
                field="table entry",
                value=entry,
                where=self.name,
            )
        return entry

    def _unpack(self, cluster: int, entry: int) -> bytes:
        with self._lock:
            data = self._cache.get(cluster)
        if data is not None:
            return data
        shift = 63 - self._bits
        size = (entry >> shift) & (self._cluster - 1)
        offset = self._place(cluster, entry & ((1 << shift) - 1))
        try:
            data = zlib.decompressobj(-12).decompress(self.file.pread(offset, size), self._cluster)
        except zlib.error:
            data = b""
        if len(data) < self._cluster:
            raise ImageCorrupt(
                f"cluster {cluster} can't be unpacked", offset=offset, field="cluster", where=self.name
            )
        with self._lock:
            self._cache[cluster] = data
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return data

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self._size - offset if length is None else length
        self.in_range_or_raise(offset, size)
        end = offset + size
        while offset < end:
            cluster = offset // self._cluster
            with self._lock:
                empty = self._table.empty_run(cluster, -(-end // self._cluster) - cluster)
            if empty:
                stop = min(end, (cluster + empty) * self._cluster)
                yield from self.backing_extents(offset, stop - offset)
            else:
                stop = min(end, (cluster + 1) * self._cluster)
                entry = self._entry(cluster)
                if not entry:
                    yield from self.backing_extents(offset, stop - offset)
                elif entry & _COMPRESSED:
                    yield Extent(offset, stop - offset, ExtentKind.DATA, compressed=True)
                else:
                    place = self._place(cluster, entry) + offset % self._cluster
                    yield Extent(offset, stop - offset, ExtentKind.DATA, host_offset=place)
            offset = stop

    def flush(self) -> None:
        pass

    def close(self) -> None:
        if self.backing is not None:
            self.backing.close()
        self.file.close()

    def info(self) -> ImageInfo:
        from runtime.block.report import ImageInfo

        return ImageInfo(
            filename=self.name,
            format=self.format,
            virtual_size=self._size,
            actual_size=self.file.allocated(),
            cluster_size=self._cluster,
            backing_filename=self._reference,
            full_backing_filename=None if self.backing is None else self.backing.name,
        )


class Qcow1Driver(Driver):
    name = "qcow"
    writable = False
    creatable = False

    def open(self, file: ProtocolNode, context: OpenContext) -> Qcow1Node:
        return Qcow1Node(file, context)


DRIVER = Qcow1Driver()
