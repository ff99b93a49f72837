"""QCOW2 disks as the rest of the runtime sees them: requests, each under the image's lock, that the parts of
this package carry out, with short cuts for those that stay inside of plain clusters.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.core import Core
from runtime.block.format.qcow2.header import Incompatible
from runtime.block.format.qcow2.reader import Reader
from runtime.block.format.qcow2.writer import Writer
from runtime.block.node import (
    Buffer,
    Compression,
    Extent,
    FileRange,
    Node,
    Preallocation,
    ProtocolNode,
    Repair,
)

if TYPE_CHECKING:
    from runtime.block.format.qcow2.bitmaps import Bitmaps
    from runtime.block.format.qcow2.snapshots import Qcow2Snapshots
    from runtime.block.report import CheckReport, ImageInfo


class Qcow2Node(Core):
    """An open QCOW2 image."""

    def __init__(self, file: ProtocolNode, context: OpenContext) -> None:
        super().__init__(file, context)
        self.reader = Reader(self)
        self.writer = Writer(self)
        self._closed = False
        try:
            if not self.read_only and not context.check:
                self._open_writable()
        except BaseException:
            self.release(keep_file=True)
            raise

    def _open_writable(self) -> None:
        """Mend an image that wasn't closed, and find out where its metadata lies."""
        if self.header.incompatible & Incompatible.DIRTY:
            from runtime.block.format.qcow2.checker import Checker

            report = Checker(self).run("all")
            if report.corruptions or report.check_errors:
                raise ImageCorrupt(
                    "the image wasn't closed properly and can't be mended",
                    offset=72,
                    field="incompatible_features",
                    value=self.header.incompatible,
                    where=self.name,
                )
        self.guard_metadata()

    # --- reading ---

    def pread(self, offset: int, length: int) -> bytes:
        with self._reading():
            host = self._plain(offset, length)
            if host >= 0:
                return self.file.pread(host, length)
            self.in_range_or_raise(offset, length)
            target = bytearray(length)
            self.reader.read(self.tables, offset, memoryview(target))
        return bytes(target)

    def read_into(self, offset: int, target: memoryview) -> None:
        with self._reading():
            host = self._plain(offset, len(target))
            if host >= 0:
                self.file.read_into(host, target)
                return
            self.in_range_or_raise(offset, len(target))
            self.reader.read(self.tables, offset, target)

    def _plain(self, offset: int, length: int) -> int:
        """Where in the file a request inside of one plain cluster lies; -1 if it isn't as simple as that."""
        mapping = self.mapping
        inside = offset & (mapping.cluster_size - 1)
        if (
            inside + length > mapping.cluster_size
            or not 0 <= offset <= self.header.size - length
            or length <= 0
            or self._special
        ):
            return -1
        index = offset >> mapping.l1_shift
        table = self.tables.cache.get(index) or self.tables.get(index)
        if table is None:
            return -1
        # COPIED or not, but no flag, and a place in the file
        host = table.entries[(offset >> mapping.cluster_bits) & mapping.l2_mask] & ~h.COPIED
        if not host or host & (mapping.cluster_size - 1) or host >> 56:
            return -1
        return host + inside

    @property
    def _special(self) -> bool:
        """Whether data is more than the bytes of clusters in the image file."""
        return self.mapping.extended or self.external or self.cipher is not None or self.checksums is not None

    def _reading(self) -> contextlib.AbstractContextManager[object]:
        # Nothing changes in an image that is open for reading.
        return contextlib.nullcontext() if self.context.writable is False else self.lock

    def pread_many(self, requests: Sequence[tuple[int, int]]) -> list[bytes]:
        if self._special:
            return [self.pread(offset, length) for offset, length in requests]
        with self._reading():
            return self._pread_many(requests)

    def _pread_many(self, requests: Sequence[tuple[int, int]]) -> list[bytes]:
        """Requests inside of plain clusters are looked up here and read together; the rest one by one."""
        mapping = self.mapping
        bits, shift, l2_mask = mapping.cluster_bits, mapping.l1_shift, mapping.l2_mask
        inside_mask = mapping.cluster_size - 1
        size, cache, get = self.header.size, self.tables.cache, self.tables.get
        plain: list[tuple[int, int]] = []
        add = plain.append
        others: list[int] = []
        for number, (offset, length) in enumerate(requests):
            inside = offset & inside_mask
            if 0 < length <= inside_mask + 1 - inside and 0 <= offset <= size - length:
                index = offset >> shift
                table = cache.get(index) or get(index)
                if table is not None:
                    # COPIED or not, but no flag, and a place in the file
                    host = table.entries[(offset >> bits) & l2_mask] & 0x7FFF_FFFF_FFFF_FFFF
                    if host and not host & inside_mask and not host >> 56:
                        add((host + inside, length))
                        continue
            others.append(number)
        if not others:
            return self.file.pread_many(plain)
        rest = iter(self.file.pread_many(plain))
        missing = set(others)
        return [
            self.pread(*request) if number in missing else next(rest)
            for number, request in enumerate(requests)
        ]

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        length = self.length() - offset if length is None else length
        self.in_range_or_raise(offset, length)
        return self.reader.extents(self.tables, offset, length)

    # --- writing ---

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.pwrite_many(((offset, data),))

    def pwrite_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        self.writable_or_raise()
        with self.lock:
            for offset, data in requests:
                view = memoryview(data).cast("B")
                length = len(view)
                host = self._plain(offset, length) if self._begun and self._bitmaps is None else -1
                if host >= 0 and self._own(offset) and not self.refcounts.guard.overlaps(host, length):
                    self.file.pwrite(host, data)
                    continue
                self.in_range_or_raise(offset, length)
                self.writer.write(offset, view)

    def pwrite_range(self, offset: int, data: FileRange) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, len(data))
        with self.lock:
            self.writer.write(offset, data)

    def _own(self, offset: int) -> bool:
        """Whether a plain cluster may be written in place."""
        mapping = self.mapping
        if not self.tables.l1[offset >> mapping.l1_shift] & h.COPIED:
            return False  # the table belongs to a snapshot, too
        table = self.tables.cache[offset >> mapping.l1_shift]
        return bool(table.entries[(offset >> mapping.cluster_bits) & mapping.l2_mask] & h.COPIED)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)
        with self.lock:
            self.writer.write_zeroes(offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)
        with self.lock:
            self.writer.discard(offset, length)

    @property
    def compression(self) -> Compression:
        """Compressing clusters; not for images with encryption or a data file."""
        if self.external or self.cipher is not None:
            what = "with a data file" if self.external else "with encryption"
            raise ImageUnsupported(f"images {what} can't hold compressed clusters", where=self.name)
        return Qcow2Compression(self)

    def flush(self) -> None:
        if self.read_only:
            return
        with self.lock:
            if self._begun:
                self.commit()
            else:
                self.file.flush()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if self._begun and not self._failed:
                with self.lock:
                    self.finish()
        finally:
            self.release()

    def finish(self) -> None:
        """Everything in the file, and the image marked as clean."""
        self.commit()
        if self._bitmaps is not None:
            self.bitmaps.store()
        self.refcounts.write_blocks()
        self.file.flush()
        if self.checksums is not None:
            from runtime.block.format.qcow2.checksumming import store

            store(self, self.checksums)

    # --- the rest, by subject ---

    @property
    def snapshots(self) -> Qcow2Snapshots:
        from runtime.block.format.qcow2.snapshots import Qcow2Snapshots

        return Qcow2Snapshots(self)

    @property
    def bitmaps(self) -> Bitmaps:
        """The persistent dirty bitmaps."""
        from runtime.block.format.qcow2.bitmaps import Bitmaps

        return Bitmaps(self)

    def copy_bitmaps(self, source: Node, *, skip_broken: bool = False) -> None:
        self.writable_or_raise()
        if not isinstance(source, Qcow2Node):
            raise ImageUnsupported("only QCOW2 images have dirty bitmaps", where=source.name)
        with self.lock:
            self.bitmaps.copy_from(source.bitmaps, skip_broken=skip_broken)

    def check(self, repair: Repair | None = None) -> CheckReport:
        from runtime.block.format.qcow2.checker import Checker

        if repair:
            self.writable_or_raise()
        with self.lock:
            if self._begun and not self._failed:
                self.settle()
            return Checker(self).run(repair)

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        from runtime.block.format.qcow2.resize import resize

        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        with self.lock:
            resize(self, length, preallocation)

    def amend(self, options: dict[str, object]) -> None:
        from runtime.block.format.qcow2.amend import amend

        self.writable_or_raise()
        with self.lock:
            amend(self, options)

    def set_backing(self, reference: str | None, format: str | None) -> None:
        """See FormatNode. The backing node stays what is read from until the image is opened again."""
        from runtime.block.format.qcow2.amend import set_backing

        self.writable_or_raise()
        with self.lock:
            set_backing(self, reference, format)

    def make_empty(self) -> None:
        from runtime.block.format.qcow2.resize import make_empty

        self.writable_or_raise()
        with self.lock:
            make_empty(self)

    def info(self) -> ImageInfo:
        from runtime.block.format.qcow2.describe import describe

        with self.lock:
            return describe(self)


class Qcow2Compression(Compression):
    """See `runtime.block.node.Compression`."""

    def __init__(self, node: Qcow2Node) -> None:
        self.node = node
        self.cluster_size = node.header.cluster_size

    def compress(self, data: Buffer) -> bytes | None:
        missing = self.cluster_size - memoryview(data).nbytes
        return self.node.codec.compress(bytes(data) + bytes(missing) if missing else data)

    def write(self, clusters: Sequence[tuple[int, bytes]]) -> None:
        node = self.node
        node.writable_or_raise()
        with node.lock:
            node.begin_write()
            for offset, _ in clusters:
                node.in_range_or_raise(offset, 1)
                node.note_dirty(offset, self.cluster_size)
            node.writer.store_packed(list(clusters))
            node.commit_if_pressed()
