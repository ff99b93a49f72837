"""QCOW2 disks: opening, reading, and the order in which changes reach the file.

Crash safety. Guest data goes to new clusters, or in place to clusters of our own. Metadata changes are
collected in memory and put into the file by `commit`, in this order:

1. refcount blocks and tables that nothing points at yet, then a barrier (which also makes new data durable);
2. if refcount blocks are new: the refcount table's entries (or the header, if the table moved), then a
barrier; 3. L2 entries, L1 entries, then a barrier; 4. only now are the clusters that were unlinked given up:
refcounts fall, holes are punched, they may be reused.

So at every moment whatever the file points at is complete and has its refcount; a crash leaves leaks at
worst. Operations on whole images (snapshots, amend, resize) prepare all that is new beside the old and switch
by one write of the header's sector.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from runtime.block.driver import OpenContext
from runtime.block.errors import (
    ImageCorrupt,
    ImageError,
    ImageNotFound,
    ImageUnsupported,
    ReferenceDenied,
)
from runtime.block.format.crowding import Claims
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.codec import Codec
from runtime.block.format.qcow2.header import Header, Incompatible
from runtime.block.format.qcow2.mapping import DATA, HOLE, PACKED, ZEROES, Mapping, Run, TableSource
from runtime.block.format.qcow2.refcounts import Refcounts
from runtime.block.format.qcow2.tables import Tables
from runtime.block.format.qcow2.writer import Writer
from runtime.block.node import (
    Buffer,
    Compression,
    Extent,
    ExtentKind,
    FileRange,
    FormatNode,
    Node,
    Preallocation,
    ProtocolNode,
    Repair,
)
from runtime.block.registry import recorded_name

if TYPE_CHECKING:
    from runtime.block.format.qcow2.bitmaps import Bitmaps
    from runtime.block.format.qcow2.checksums import Checksums
    from runtime.block.format.qcow2.crypt import Cipher
    from runtime.block.format.qcow2.snapshots import Qcow2Snapshots
    from runtime.block.report import CheckReport, ImageInfo

_PACKED_CACHE_BYTES = 4 << 20
_SMALLEST = 8  # bytes that a compressed cluster has at least
_KINDS = {DATA: ExtentKind.DATA, ZEROES: ExtentKind.ZERO, PACKED: ExtentKind.DATA}


class Qcow2Node(FormatNode):
    """An open QCOW2 image."""

    format = "qcow2"

    def __init__(self, file: ProtocolNode, context: OpenContext) -> None:
        self.file = file
        self.name = file.name
        self.context = context
        self.read_only = not context.writable
        self.lock = threading.RLock()
        self.header = header = Header.parse(file, check=context.check)
        self.backing: Node | None = None
        self.data: ProtocolNode = file
        self.external = bool(header.incompatible & Incompatible.DATA_FILE)
        self.raw_external = self.external and bool(header.autoclear & h.RAW_EXTERNAL)
        self.cipher: Cipher | None = None
        self.checksums: Checksums | None = None
        self._bitmaps: Bitmaps | None = None
        self._snapshots: Qcow2Snapshots | None = None
        self._packed: dict[int, bytes] = {}
        self._begun = False
        self._sparse: bool | None = None  # much of the data file is holes
        self._closed = False
        self._failed = False
        self.build()
        try:
            self._open()
        except BaseException:
            self._release(keep_file=True)
            raise

    # --- opening ---

    def build(self) -> None:
        """Make the parts that depend on the header's geometry."""
        self.mapping = Mapping(self.header, self.name, external=self.external)
        self.codec = Codec(self.header.compression_type, self.header.cluster_size, self.name)
        self.refcounts = Refcounts(self.file, self.header)
        self.tables = Tables(self.file, self.header, self.refcounts)
        self.writer = Writer(self)

    def _open(self) -> None:
        header, context = self.header, self.context
        if header.incompatible & Incompatible.CORRUPT and not self.read_only and not context.check:
            raise ImageCorrupt(
                "the image is marked as corrupt and can't be written",
                offset=72,
                field="incompatible_features",
                value=header.incompatible,
                where=self.name,
                remedy="run `isagen image check --repair all`, or open it for reading",
            )
        self.tables.load()
        if header.nb_snapshots and not context.check:
            self.snapshots.load()
        self._open_data_file()
        if header.crypt_method:
            from runtime.block.format.qcow2.crypt import open_cipher

            self.cipher = open_cipher(header, self.file, context)
        if header.backing_file and context.backing:
            form = header.extension(h.EXT_BACKING_FORMAT)
            self.backing = context.references.open_image(
                self.backing_name or "",
                "backing file",
                format=form.decode(errors="replace") if form else None,
            )
        wanted = header.autoclear & h.CHECKSUMS or not self.read_only
        if wanted and header.extension(h.EXT_CHECKSUMS) is not None and not self.external:
            from runtime.block.format.qcow2.checksums import Checksums

            self.checksums = Checksums(self)
        if not self.read_only:
            self._open_writable()

    def _open_writable(self) -> None:
        if self.header.refcount_table_clusters and not self.context.check:
            self.refcounts.load()
        if self.context.check:
            return
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

    def guard_metadata(self) -> None:
        """Tell the allocator where metadata lies now."""
        header, size = self.header, self.header.cluster_size
        ranges = [
            (0, size),
            (header.l1_table_offset, header.l1_size * 8),
            (header.refcount_table_offset, header.refcount_table_clusters * size),
        ]
        if header.nb_snapshots:
            ranges += self.snapshots.ranges()
        self.refcounts.guard.set(ranges, self.refcounts.table, self.tables.l1)

    def _open_data_file(self) -> None:
        if not self.external:
            return
        given = self.context.options.get("data_file")
        name = self.header.extension(h.EXT_DATA_FILE)
        if isinstance(given, ProtocolNode):
            self.data = given
            return
        if given is None and name is None:
            raise ImageCorrupt(
                "the image's data is in another file that it doesn't name",
                offset=72,
                field="incompatible_features",
                value=self.header.incompatible,
                where=self.name,
                remedy="open it with data_file=...",
            )
        reference = str(given) if given is not None else (name or b"").decode(errors="surrogateescape")
        try:
            self.data = self.context.references.open_file(reference, "data file", writable=not self.read_only)
        except (ReferenceDenied, ImageNotFound) as error:
            if self.context.backing or not self.read_only:
                raise
            self.data = AbsentNode(error)  # whoever does without a backing file only wants to know

    @property
    def backing_name(self) -> str | None:
        """The backing file's name, as the image has it."""
        name = self.header.backing_file
        return name.decode(errors="surrogateescape") if name else None

    # --- reading ---

    def length(self) -> int:
        return self.header.size

    def pread(self, offset: int, length: int) -> bytes:
        with self._reading():
            host = self._plain(offset, length)
            if host >= 0:
                return self.file.pread(host, length)
            self.in_range_or_raise(offset, length)
            target = bytearray(length)
            self.read_mapped(self.tables, offset, memoryview(target))
        return bytes(target)

    def read_into(self, offset: int, target: memoryview) -> None:
        with self._reading():
            host = self._plain(offset, len(target))
            if host >= 0:
                self.file.read_into(host, target)
                return
            self.in_range_or_raise(offset, len(target))
            self.read_mapped(self.tables, offset, target)

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

    def read_mapped(self, tables: TableSource, offset: int, target: memoryview) -> None:
        """Fill `target` from guest offset `offset` as `tables` (L2 tables by L1 index) map it."""
        for run in self.mapping.runs(tables, offset, len(target)):
            start = run.offset - offset
            view = target[start : start + run.length]
            if run.kind == DATA:
                if self.checksums is not None:
                    self.checksums.verify(run.host, run.length)
                if self.cipher is None:
                    self.data.read_into(run.host, view)
                else:
                    self._read_encrypted(self.cipher, run, view)
            elif run.kind == HOLE:
                self.read_backing(run.offset, view)
            elif run.kind == ZEROES:
                view[:] = bytes(run.length)
            else:
                inside = run.offset & (self.header.cluster_size - 1)
                view[:] = self.unpacked(run.host)[inside : inside + run.length]

    def _read_encrypted(self, cipher: Cipher, run: Run, view: memoryview) -> None:
        """Whole sectors are read and decrypted; `run` may begin and end inside of some."""
        before = run.host & (h.SECTOR - 1)
        length = -(-(before + run.length) // h.SECTOR) * h.SECTOR
        raw = self.data.pread(run.host - before, length)
        plain = cipher.decrypt(run.host - before, run.offset - before, raw)
        view[:] = plain[before : before + run.length]

    def unpacked(self, descriptor: int) -> bytes:
        """The content of a compressed cluster. Raises ImageCorrupt."""
        plain = self._packed.get(descriptor)
        if plain is None:
            offset, size = self.mapping.unpack(descriptor)
            size = min(size, self.header.cluster_size + 512, self.file.length() - offset)
            if size <= 0:
                raise ImageCorrupt(
                    "a compressed cluster isn't inside of the file",
                    offset=offset,
                    field="compressed cluster descriptor",
                    value=descriptor,
                    where=self.name,
                )
            if self.checksums is not None:
                self.checksums.verify(offset, size)
            plain = self.codec.decompress(self.file.pread(offset, size), offset)
            if len(self._packed) * self.header.cluster_size >= _PACKED_CACHE_BYTES:
                self._packed.clear()
            self._packed[descriptor] = plain
        return plain

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
        return self.mapped_extents(self.tables, offset, length)

    def mapped_extents(self, tables: TableSource, offset: int, length: int) -> Iterator[Extent]:
        """`extents` as `tables` map them."""
        # The hole so far: joined, so that empty tables cost no calls of the backing node.
        start = end = offset
        claims = Claims(self.data, self.header.cluster_size, self.name)
        for run in self.mapping.runs(tables, offset, length):
            if run.kind == HOLE:
                end = run.offset + run.length
                continue
            if start < end:
                yield from self.backing_extents(start, end - start)
            start = end = run.offset + run.length
            if run.kind == DATA:
                # What lies behind the end of a file that was cut off reads as zeroes, and takes nothing.
                claims.add(run.host, max(0, min(run.length, self.data.length() - run.host)))
            elif run.kind == PACKED:
                claims.add(run.host, _SMALLEST)
            if run.kind == DATA and self.cipher is None:
                yield from self._data_extents(run)
            else:
                yield Extent(run.offset, run.length, _KINDS[run.kind], compressed=run.kind == PACKED)
        if start < end:
            yield from self.backing_extents(start, end - start)

    def _data_extents(self, run: Run) -> Iterator[Extent]:
        """Stored data, where holes of a file that is much larger than its storage read as zeroes."""
        if self._sparse is None:
            self._sparse = self.data.allocated() * 10 < self.data.length() * 9
        if self.checksums is not None:  # clusters are read through us, who verify them
            yield Extent(run.offset, run.length, ExtentKind.DATA, host_offset=run.host)
            return
        if not self._sparse:
            yield Extent(run.offset, run.length, ExtentKind.DATA, host_offset=run.host, file=self.data)
            return
        for part in self.data.extents(run.host, run.length):
            kind = ExtentKind.ZERO if part.reads_zero else ExtentKind.DATA
            at = run.offset + part.offset - run.host
            yield Extent(at, part.length, kind, host_offset=part.offset, file=self.data)

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

    def begin_write(self) -> None:
        """Before the first change: give up what we can't keep true, and say that we are at it."""
        if self._begun:
            return
        if self._failed:
            raise ImageError(
                "an earlier operation failed half way", where=self.name, remedy="open the image again"
            )
        header = self.header
        before = header.autoclear
        header.autoclear &= h.BITMAPS | h.RAW_EXTERNAL
        if before != header.autoclear:
            self.write_header()
            self.file.flush()
        if header.autoclear & h.BITMAPS:
            self.bitmaps.begin()
        self._begun = True

    def note_dirty(self, offset: int, length: int) -> None:
        """Tell the bitmaps that record what the guest changes."""
        if self._bitmaps is not None:
            self._bitmaps.note(offset, length)

    def write_header(self) -> None:
        """Write the header with its extensions. All fields, and with usual names all of it, are in one
        sector.
        """
        self.file.pwrite(0, self.header.encode())

    def commit(self) -> None:
        """Make everything durable, in the order that the module's text gives."""
        refcounts, tables = self.refcounts, self.tables
        refcounts.write_blocks()
        tables.write_new()
        if self.external:
            self.data.flush()
        self.file.flush()
        if refcounts.table_dirty:
            refcounts.write_table()
            self.file.flush()
            if refcounts.table_moved:
                self.write_header()
                self.file.flush()
                refcounts.table_moved = False
        if tables.links_dirty:
            tables.write_links()
            self.file.flush()
        if refcounts.deferred:
            self.forget_packed()
            size = self.header.cluster_size
            for start, count in refcounts.apply_deferred():
                self.file.punch(start * size, count * size)

    def forget_packed(self) -> None:
        """Compressed clusters may be freed now, and their places taken by others."""
        self._packed.clear()
        self.writer.forget_packed()

    def commit_if_pressed(self) -> None:
        if self.refcounts.pressed or self.tables.pressed:
            self.commit()

    def settle(self) -> None:
        """Before an operation on the whole image: everything in the file, nothing deferred."""
        self.begin_write()
        self.commit()
        self.refcounts.write_blocks()
        self.file.flush()

    @contextlib.contextmanager
    def switching(self) -> Iterator[None]:
        """Change the whole image: what is done inside lies beside the old state until the header is written.

        Inside, refcounts change at once, and new values of the header's fields go into `header`. When it
        raises, the image is as it was.
        """
        self.settle()
        before = self.header.copy()
        self.refcounts.begin_shadow()
        try:
            yield
            self.refcounts.finish_shadow()
            self.file.flush()
        except BaseException:
            vars(self.header).update(vars(before))
            self.refcounts.load()
            self.tables.load()
            raise
        try:
            self.write_header()
            self.file.flush()
            self.refcounts.table_moved = False
            self.refcounts.rescan()
            self.tables.load()
            if self._snapshots is not None:
                self._snapshots.load()
        except BaseException:
            self.fail()
            raise
        self.forget_packed()
        self.guard_metadata()

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
            self._release()

    def finish(self) -> None:
        """Everything in the file, and the image marked as clean."""
        self.commit()
        if self._bitmaps is not None:
            self._bitmaps.store()
        self.refcounts.write_blocks()
        self.file.flush()
        if self.checksums is not None:
            self.checksums.store()

    def _release(self, *, keep_file: bool = False) -> None:
        for node in (self.backing, self.data if self.data is not self.file else None):
            if node is not None:
                node.close()
        if not keep_file:
            self.file.close()

    def fail(self) -> None:
        """Memory and file disagree: write nothing more. The file is as it was at the last barrier."""
        self._failed = True
        self.read_only = True

    # --- the rest, by subject ---

    @property
    def snapshots(self) -> Qcow2Snapshots:
        if self._snapshots is None:
            from runtime.block.format.qcow2.snapshots import Qcow2Snapshots

            self._snapshots = Qcow2Snapshots(self)
        return self._snapshots

    @property
    def bitmaps(self) -> Bitmaps:
        """The persistent dirty bitmaps."""
        if self._bitmaps is None:
            from runtime.block.format.qcow2.bitmaps import Bitmaps

            self._bitmaps = Bitmaps(self)
        return self._bitmaps

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
        self.writable_or_raise()
        name = b"" if reference is None else reference.encode(errors="surrogateescape")
        if len(name) > h.MAX_BACKING_NAME:
            raise ImageUnsupported(
                f"a backing file's name may have {h.MAX_BACKING_NAME} bytes", where=self.name
            )
        if name and self.raw_external:
            raise ImageUnsupported("an image with a raw data file can't have a backing file", where=self.name)
        with self.lock:
            self.settle()
            before = self.header.copy()
            self.header.backing_file = name
            form = recorded_name(format).encode() if name and format else None
            self.header.set_extension(h.EXT_BACKING_FORMAT, form)
            try:
                self.write_header()
            except ImageUnsupported:
                self.header.backing_file, self.header.extensions = before.backing_file, before.extensions
                raise
            self.file.flush()

    def make_empty(self) -> None:
        from runtime.block.format.qcow2.resize import make_empty

        self.writable_or_raise()
        with self.lock:
            make_empty(self)

    def info(self) -> ImageInfo:
        from runtime.block.format.qcow2.describe import describe

        with self.lock:
            return describe(self)


class AbsentNode(ProtocolNode):
    """A file that can't be opened; whoever needs it is told why."""

    def __init__(self, reason: ImageError) -> None:
        self._reason = reason

    def length(self) -> int:
        return 0

    def pread(self, offset: int, length: int) -> bytes:
        raise self._reason

    def pwrite(self, offset: int, data: Buffer) -> None:
        raise self._reason

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


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
