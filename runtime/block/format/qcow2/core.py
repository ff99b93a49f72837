"""What all parts of a QCOW2 image stand on: its files, header and tables, and the order in which changes
reach the file.

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
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageCorrupt, ImageError
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.codec import Codec
from runtime.block.format.qcow2.data_file import open_data_file
from runtime.block.format.qcow2.header import Header, Incompatible
from runtime.block.format.qcow2.mapping import Mapping
from runtime.block.format.qcow2.refcounts import Refcounts
from runtime.block.format.qcow2.tables import Tables
from runtime.block.node import FormatNode, Node, ProtocolNode

if TYPE_CHECKING:
    from runtime.block.format.qcow2.bitmap_directory import BitmapDirectory
    from runtime.block.format.qcow2.checksums import Checksums
    from runtime.block.format.qcow2.cipher import Cipher
    from runtime.block.format.qcow2.snapshot_table import SnapshotTable


class Core(FormatNode):
    """An open QCOW2 image without the requests: `Qcow2Node` adds them.

    Reader and Writer, and the modules for operations on whole images (resize, snapshots, bitmaps, checker,
    amend and others), get a Core and import each other only downwards. Whoever calls them holds `lock`.
    Opening raises ImageCorrupt, ImageUnsupported, ImageKeyError and what the files it names raise.
    """

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
        self.unpacked: dict[int, bytes] = {}  # compressed clusters, by descriptor
        self.packed_end = 0  # behind the last compressed cluster written: the next one may go on there
        self._bitmaps: BitmapDirectory | None = None
        self._snapshots: SnapshotTable | None = None
        self._begun = False
        self._failed = False
        self.build()
        try:
            self._open()
        except BaseException:
            self.release(keep_file=True)
            raise

    # --- opening ---

    def build(self) -> None:
        """Make the parts that depend on the header's geometry."""
        self.mapping = Mapping(self.header, self.name, external=self.external)
        self.codec = Codec(self.header.compression_type, self.header.cluster_size, self.name)
        self.refcounts = Refcounts(self.file, self.header)
        if self.checksums is not None:
            self.refcounts.reserved = self.checksums.area()
        self.tables = Tables(self.file, self.header, self.refcounts)
        self.forget_packed()

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
            _ = self.snapshot_table  # which is damaged, or isn't
        if self.external:
            self.data = open_data_file(header, context, self.name)
        if header.crypt_method:
            from runtime.block.format.qcow2.cipher import open_cipher

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

            self.checksums = Checksums(self.file, header)
            self.refcounts.reserved = self.checksums.area()
        if not self.read_only and header.refcount_table_clusters and not context.check:
            self.refcounts.load()

    def release(self, *, keep_file: bool = False) -> None:
        """Close the files; not the image file itself, if it stays with who opened the image."""
        for node in (self.backing, self.data if self.data is not self.file else None):
            if node is not None:
                node.close()
        if not keep_file:
            self.file.close()

    # --- what the header says ---

    @property
    def backing_name(self) -> str | None:
        """The backing file's name, as the image has it."""
        name = self.header.backing_file
        return name.decode(errors="surrogateescape") if name else None

    def length(self) -> int:
        return self.header.size

    @property
    def snapshot_table(self) -> SnapshotTable:
        """The table of internal snapshots. Raises ImageCorrupt."""
        if self._snapshots is None:
            from runtime.block.format.qcow2.snapshot_table import SnapshotTable

            self._snapshots = SnapshotTable(self.file, self.header)
        return self._snapshots

    @property
    def bitmap_directory(self) -> BitmapDirectory:
        """The persistent dirty bitmaps. Raises ImageCorrupt."""
        if self._bitmaps is None:
            from runtime.block.format.qcow2.bitmap_directory import BitmapDirectory

            self._bitmaps = BitmapDirectory(self.file, self.header)
        return self._bitmaps

    # --- changing ---

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
            self.bitmap_directory.begin()
        self._begun = True

    def note_dirty(self, offset: int, length: int) -> None:
        """Tell the bitmaps that record what the guest changes."""
        if self._bitmaps is not None:
            self._bitmaps.note(offset, length)

    def guard_metadata(self) -> None:
        """Tell the allocator where metadata lies now."""
        header, size = self.header, self.header.cluster_size
        ranges = [
            (0, size),
            (header.l1_table_offset, header.l1_size * 8),
            (header.refcount_table_offset, header.refcount_table_clusters * size),
        ]
        if header.nb_snapshots:
            ranges += self.snapshot_table.ranges()
        self.refcounts.guard.set(ranges, self.refcounts.table, self.tables.l1)

    def write_header(self) -> None:
        """Write the header with its extensions. All fields, and with usual names all of it, are in one
        sector.
        """
        self.file.pwrite(0, self.header.encode())

    def place(self, data: bytes) -> int:
        """Write `data` into new clusters that follow each other; where in the file they lie (bytes)."""
        size = self.header.cluster_size
        start, _ = self.refcounts.allocate(max(1, -(-len(data) // size)), exact=True)
        self.file.pwrite(start * size, data + bytes(-len(data) % size))
        return start * size

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
        self.unpacked.clear()
        self.packed_end = 0

    def commit_if_pressed(self) -> None:
        """Commit when memory holds much that isn't written."""
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

    def fail(self) -> None:
        """Memory and file disagree: write nothing more. The file is as it was at the last barrier."""
        self._failed = True
        self.read_only = True
