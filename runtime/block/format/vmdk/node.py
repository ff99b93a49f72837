"""An open VMDK: extents in a row, a descriptor that lists them, maybe a parent."""

from __future__ import annotations

import bisect
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from runtime.block.driver import OpenContext
from runtime.block.errors import (
    ImageChainError,
    ImageCorrupt,
    ImageReadOnly,
    ImageUnsupported,
)
from runtime.block.format.parents import open_parent
from runtime.block.format.vmdk import descriptor as text
from runtime.block.format.vmdk import header as vmdk
from runtime.block.format.vmdk.create import FLAT_TYPES, SPLIT_SECTORS, extent_name, new_sparse
from runtime.block.format.vmdk.descriptor import Descriptor, ExtentLine, new_content_id
from runtime.block.format.vmdk.extent import FlatExtent, open_sparse
from runtime.block.format.vmdk.header import SECTOR, SparseHeader
from runtime.block.format.vmdk.stream import StreamExtent
from runtime.block.format.window import Window, ZeroNode
from runtime.block.node import (
    Buffer,
    Compression,
    Extent,
    FormatNode,
    Node,
    Preallocation,
    ProtocolNode,
    Repair,
)
from runtime.block.report import CheckReport, ImageInfo, may_stop
from runtime.records import record, replace

_TEXT_KINDS = (*text.SPARSE_KINDS, *text.FLAT_KINDS, *text.RAW_DEVICE_KINDS, "ZERO")


@record
class Part:
    """One extent in its place."""

    start: int  # in the disk, bytes
    line: ExtentLine
    node: Node

    @property
    def end(self) -> int:
        return self.start + self.node.length()


class VmdkNode(FormatNode):
    """`embedded` is the header of the extent that holds the descriptor too, if it is one of these."""

    format = "vmdk"
    notes_content_below = True

    def __init__(self, file: ProtocolNode, context: OpenContext) -> None:
        self.file = file
        self.name = file.name
        self.read_only = not context.writable
        self.parts: list[Part] = []
        self.embedded: SparseHeader | None = None
        self._context = context
        self._lock = threading.RLock()
        self._closed = False
        self._touched = False
        self._room = 0  # bytes for the descriptor where it lies; 0: a file of its own
        self._base = 0
        try:
            self._open()
        except BaseException:
            # The file stays the caller's.
            for part in self.parts:
                if part.node is not self._own_extent():
                    part.node.close()
            if self.backing is not None:
                self.backing.close()
            raise
        self._starts = [part.start for part in self.parts]
        self._size = self.parts[-1].end if self.parts else 0

    # Opening

    def _open(self) -> None:
        head = self.file.pread(0, 8)
        binary = head[:4] in (vmdk.SPARSE_MAGIC, vmdk.COWD_MAGIC) or (
            int.from_bytes(head, "little") == vmdk.SESPARSE_MAGIC
        )
        if binary:
            self._open_single(head[:4])
        else:
            self._open_many()

    def _open_single(self, magic: bytes) -> None:
        if magic == vmdk.SPARSE_MAGIC:
            header = SparseHeader.parse(self.file.pread(0, SECTOR), self.name, self.file.length())
            if header.descriptor_offset and header.descriptor_size:
                self._base = header.descriptor_offset * SECTOR
                self._room = header.descriptor_size * SECTOR
                raw = self.file.pread(self._base, self._room)
                self.descriptor = Descriptor.parse(raw, where=self.name, base=self._base)
                self._open_parent()
        if not self._room:
            self.descriptor = Descriptor("", where=self.name)
        extent, self.embedded = open_sparse(
            self.file, writable=not self.read_only, backing=self._below(0, None)
        )
        lines = self.descriptor.extents
        name = lines[0].name if lines else Path(self.name).name
        line = ExtentLine("RW", extent.length() // SECTOR, "SPARSE", name)
        self.parts = [Part(0, line, extent)]
        stream = self._stream()
        if stream is not None and stream.broken is not None and not self._context.check:
            raise stream.broken

    def _open_many(self) -> None:
        length = self.file.length()
        if length > text.MAX_BYTES:
            raise ImageCorrupt(
                "a descriptor can't be that long", offset=0, field="descriptor", value=length, where=self.name
            )
        self.descriptor = Descriptor.parse(self.file.pread(0, length), where=self.name)
        if not self.descriptor.extents:
            raise ImageCorrupt("the descriptor lists no extents", offset=0, field="extents", where=self.name)
        self._open_parent()
        start = 0
        for line in self.descriptor.extents:
            node = self._open_extent(line, start)
            self.parts.append(Part(start, line, node))
            start += line.sectors * SECTOR

    def _open_extent(self, line: ExtentLine, start: int) -> Node:
        length = line.sectors * SECTOR
        if line.kind == "ZERO":
            return ZeroNode(length)
        if line.kind in text.RAW_DEVICE_KINDS:
            raise ImageUnsupported(f"extents of the kind {line.kind} are devices", where=self.name)
        if line.kind not in _TEXT_KINDS:
            raise ImageUnsupported(f"extents of the kind {line.kind} aren't known", where=self.name)
        writable = not self.read_only and line.access == "RW"
        file = self._context.references.open_file(line.name, "extent", writable=writable)
        try:
            if line.kind in text.FLAT_KINDS:
                if (line.offset + line.sectors) * SECTOR > -(-file.length() // SECTOR) * SECTOR:
                    raise ImageCorrupt(
                        f"the file of {line.name!r} is shorter than {line.offset + line.sectors} sectors",
                        offset=file.length(),
                        field="extent",
                        where=self.name,
                    )
                return FlatExtent(file, line.offset * SECTOR, length, writable=writable)
            node, _ = open_sparse(file, writable=writable, backing=self._below(start, length))
            if node.length() < length:
                raise ImageCorrupt(
                    f"extent {line.name!r} has {line.sectors} sectors, but its header says less",
                    offset=vmdk.SPARSE.offset("capacity"),
                    field="capacity",
                    value=node.length() // SECTOR,
                    where=file.name,
                )
            return node if node.length() == length else Window(node, 0, length)
        except BaseException:
            file.close()
            raise

    def _open_parent(self) -> None:
        if not self._context.backing:
            return
        name = self.descriptor.parent
        if name is None:
            return
        if not name:
            raise ImageCorrupt(
                "the parent isn't named", offset=self._base, field="parentFileNameHint", where=self.name
            )
        parent = cast(VmdkNode, open_parent("vmdk", name, None, self._context, self.name))
        self.backing = parent
        wanted = self.descriptor.content_id("parentCID")
        found = parent.descriptor.content_id()
        if found != wanted and not self._context.check:
            raise ImageChainError(
                f"the parent has changed since this delta was made: its CID is {found:08x}, not {wanted:08x}",
                where=self.name,
                remedy="if you know that its data still fits: `isagen image rebase -u -b PARENT IMAGE`",
            )

    def _below(self, start: int, length: int | None) -> Node | None:
        """The parent's part for an extent at byte `start`."""
        parent = self.backing
        if parent is None:
            return None
        there = max(0, parent.length() - start)
        return Window(parent, start, there if length is None else min(there, length))

    def _own_extent(self) -> Node | None:
        """The extent that lies in the descriptor's own file."""
        return self.parts[0].node if self.parts and self.embedded_in_file else None

    @property
    def embedded_in_file(self) -> bool:
        """Descriptor (if any) and the only extent share one file."""
        return bool(self.parts) and getattr(self.parts[0].node, "file", None) is self.file

    def _stream(self) -> StreamExtent | None:
        node = self.parts[0].node if len(self.parts) == 1 else None
        return node if isinstance(node, StreamExtent) else None

    # Requests

    def length(self) -> int:
        return self._size

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[Part, int, int, int]]:
        """(part, offset in it, offset in the request, length)."""
        end, at = offset + length, offset
        number = bisect.bisect_right(self._starts, offset) - 1
        while at < end:
            part = self.parts[number]
            stop = min(end, part.end)
            if stop > at:
                yield part, at - part.start, at - offset, stop - at
            at = max(at, stop)
            number += 1

    def pread(self, offset: int, length: int) -> bytes:
        self.in_range_or_raise(offset, length)
        if len(self.parts) == 1:
            return self.parts[0].node.pread(offset, length)
        return b"".join(part.node.pread(at, size) for part, at, _, size in self._pieces(offset, length))

    def read_into(self, offset: int, target: memoryview) -> None:
        self.in_range_or_raise(offset, len(target))
        for part, at, done, size in self._pieces(offset, len(target)):
            part.node.read_into(at, target[done : done + size])

    def pwrite(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._before_write(offset, len(view))
        for part, at, done, size in self._pieces(offset, len(view)):
            part.node.pwrite(at, view[done : done + size])

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._before_write(offset, length)
        for part, at, _, size in self._pieces(offset, length):
            part.node.write_zeroes(at, size, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        self._before_write(offset, length)
        for part, at, _, size in self._pieces(offset, length):
            part.node.discard(at, size)

    def _before_write(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)
        for part, _, _, _ in self._pieces(offset, length):
            if part.line.access != "RW":
                raise ImageReadOnly(f"extent {part.line.name!r} is {part.line.access}", where=self.name)
        self._touch()

    def _touch(self) -> None:
        """The first write of a session gives the content another CID, so that deltas notice."""
        if self._touched:
            return
        with self._lock:
            self._touched = True
            at = self.descriptor.content_id_at()
            stream = self._stream()
            if at is None or (stream is not None and stream.broken is None):
                return
            digits = f"{new_content_id():08x}"
            self.file.pwrite(self._base + at, digits.encode())
            self.descriptor = self.descriptor.changed(CID=digits)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self._size - offset if length is None else length
        self.in_range_or_raise(offset, size)
        for part, at, _, piece in self._pieces(offset, size):
            for extent in part.node.extents(at, piece):
                yield extent._replace(offset=extent.offset + part.start)

    @property
    def compression(self) -> Compression | None:
        stream = self._stream()
        return None if stream is None else stream.compression

    def flush(self) -> None:
        if self.read_only:
            return
        for part in self.parts:
            part.node.flush()
        if not self.embedded_in_file:
            self.file.flush()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with contextlib.ExitStack() as stack:
                if self.backing is not None:
                    stack.callback(self.backing.close)
                stack.callback(self.file.close)
                for part in reversed(self.parts):
                    stack.callback(part.node.close)

    # Changing the disk

    def _store_descriptor(self, descriptor: Descriptor) -> None:
        """Where the old one is, in one write. A shorter text is followed by what its place needs."""
        raw = descriptor.text.encode()
        if self.embedded_in_file:
            if not self._room:
                return
            if len(raw) >= self._room:
                raise ImageUnsupported("the descriptor doesn't fit into its place any more", where=self.name)
            self.file.pwrite(self._base, raw.ljust(self._room, b"\0"))
        else:
            before = self.file.length()
            self.file.pwrite(0, raw.ljust(before, b"\n"))
        self.file.flush()
        self.descriptor = descriptor

    def _relisted(self, lines: list[ExtentLine]) -> Descriptor:
        """The descriptor for these extents, with the geometry that follows."""
        adapter = self.descriptor.values.get("ddb.adaptertype", "ide")
        cylinders, _, _ = text.geometry_of(sum(line.sectors for line in lines), adapter)
        found = self.descriptor.with_extents(lines)
        if "ddb.geometry.cylinders" in found.values:
            found = found.changed(ddb__geometry__cylinders=f'"{cylinders}"')
        return found

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        """Growing: storage first, then the descriptor that tells of it. Shrinking: the other way round."""
        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        if self._stream() is not None:
            raise ImageUnsupported("a streamOptimized image is written once: convert it", where=self.name)
        sectors = -(-length // SECTOR)
        with self._lock:
            self._touch()
            if sectors * SECTOR < self._size:
                self._shrink(sectors)
            elif sectors * SECTOR > self._size:
                self._grow(sectors, preallocation)
            self._starts = [part.start for part in self.parts]
            self._size = self.parts[-1].end if self.parts else 0

    def _shrink(self, sectors: int) -> None:
        kept: list[Part] = []
        dropped: list[Part] = []
        for part in self.parts:
            room = sectors - part.start // SECTOR
            if room <= 0 and kept:
                dropped.append(part)
                continue
            size = max(0, min(part.line.sectors, room))
            kept.append(Part(part.start, replace(part.line, sectors=size), part.node))
        descriptor = self._relisted([part.line for part in kept])
        self.flush()
        if not self.embedded_in_file:
            self._store_descriptor(descriptor)
        for part in kept:
            if part.node.length() > part.line.sectors * SECTOR:
                part.node.resize(part.line.sectors * SECTOR, shrink=True)
        if self.embedded_in_file:
            self._store_descriptor(descriptor)
        self.parts = kept
        for part in dropped:
            part.node.close()
            if part.line.name:
                path = getattr(getattr(part.node, "file", None), "path", None)
                if isinstance(path, Path):
                    path.unlink(missing_ok=True)

    def _grow(self, sectors: int, preallocation: Preallocation) -> None:
        last = self.parts[-1]
        split = self.descriptor.create_type.startswith("twoGbMaxExtent")
        limit = SPLIT_SECTORS if split else sectors
        wanted = min(max(limit, last.line.sectors), sectors - last.start // SECTOR)
        last.node.resize(wanted * SECTOR, preallocation=preallocation)
        parts = [*self.parts[:-1], Part(last.start, replace(last.line, sectors=wanted), last.node)]
        added: list[Part] = []
        try:
            while parts[-1].end < sectors * SECTOR:
                start = parts[-1].end
                size = min(SPLIT_SECTORS, sectors - start // SECTOR)
                part = self._new_extent(len(parts) + 1, start, size, preallocation)
                parts.append(part)
                added.append(part)
            self.flush()
            self._store_descriptor(self._relisted([part.line for part in parts]))
        except BaseException:
            for part in added:
                part.node.close()
            raise
        self.parts = parts

    def _new_extent(self, number: int, start: int, sectors: int, preallocation: Preallocation) -> Part:
        flat = self.descriptor.create_type in FLAT_TYPES
        name = extent_name(self.file.name, number, flat=flat)
        line = ExtentLine("RW", sectors, "FLAT" if flat else "SPARSE", name)
        file = self._context.references.create_file(name)
        try:
            if flat:
                file.resize(sectors * SECTOR, preallocation=preallocation)
                return Part(start, line, FlatExtent(file, 0, sectors * SECTOR, writable=True))
            new_sparse(file, sectors, zeroed_grains=False)
            node, _ = open_sparse(file, writable=True, backing=self._below(start, sectors * SECTOR))
        except BaseException:
            file.close()
            raise
        return Part(start, line, node)

    def set_backing(self, reference: str | None, format: str | None) -> None:
        self.writable_or_raise()
        if not self.descriptor.text:
            raise ImageUnsupported("this VMDK has no descriptor", where=self.name)
        parent = (
            None
            if reference is None
            else cast(VmdkNode, open_parent("vmdk", reference, format, self._context, self.name))
        )
        hint = None if reference is None else f'"{reference}"'
        content_id = text.NO_PARENT if parent is None else parent.descriptor.content_id()
        with self._lock:
            self.flush()
            self._store_descriptor(
                self.descriptor.changed(parentCID=f"{content_id:08x}", parentFileNameHint=hint)
            )
            old, self.backing = self.backing, parent
            for part in self.parts:
                if isinstance(part.node, FormatNode):
                    part.node.backing = self._below(part.start, part.node.length())
            if old is not None:
                old.close()

    def make_empty(self) -> None:
        self.writable_or_raise()
        self._touch()
        for part in self.parts:
            if not isinstance(part.node, FormatNode):
                raise ImageUnsupported("only sparse VMDK images can be emptied", where=self.name)
            part.node.make_empty()

    # About the image

    def files(self) -> list[ProtocolNode]:
        found = [self.file]
        for part in self.parts:
            node = part.node.node if isinstance(part.node, Window) else part.node
            if isinstance(node, FormatNode) and node.file is not self.file:
                found.append(node.file)
        return found

    @may_stop
    def check(self, repair: Repair | None = None) -> CheckReport:
        report = CheckReport(filename=self.name, format=self.format)
        if repair:
            self.writable_or_raise()
        for part in self.parts:
            if not isinstance(part.node, FormatNode) or isinstance(part.node, FlatExtent):
                continue
            try:
                found = part.node.check(repair)
            except ImageCorrupt as error:  # a directory that can't be followed
                report.note("corruption", error.what, offset=error.offset)
                continue
            many = len(self.parts) > 1
            for problem in found.problems:
                problem.text = f"{part.line.name}: {problem.text}" if many else problem.text
            _add(report, found)
        self._check_descriptor(report, repair)
        return report

    def _check_descriptor(self, report: CheckReport, repair: Repair | None) -> None:
        lines = self.descriptor.extents
        if not self.embedded_in_file or len(lines) != 1 or not self.parts:
            return
        actual = self.parts[0].node.length() // SECTOR
        if lines[0].sectors != actual:
            if repair:
                self._store_descriptor(self._relisted([replace(lines[0], sectors=actual)]))
            # The header decides: a crash while resizing leaves an old descriptor behind.
            report.note(
                "leak",
                f"the descriptor says {lines[0].sectors} sectors, the header {actual}",
                offset=self._base,
                fixed=repair is not None,
            )

    def _about(self, part: Part) -> dict[str, object]:
        """An extent, as QEMU tells of it."""
        about: dict[str, object] = {
            "filename": part.line.name,
            "format": "" if self.embedded_in_file else part.line.kind,
            "virtual-size": part.node.length(),
        }
        if isinstance(part.node, FormatNode) and part.node.info().cluster_size:
            about["cluster-size"] = part.node.info().cluster_size
        if isinstance(part.node, StreamExtent):
            about["compressed"] = True
        return about

    def info(self) -> ImageInfo:
        first = self.parts[0].node if self.parts else None
        grain = first.info().cluster_size if isinstance(first, FormatNode) else None
        reference = self.descriptor.parent if self.descriptor.text else None
        files = [p for p in self.parts if isinstance(p.node, FormatNode) and p.node.file is not self.file]
        return ImageInfo(
            filename=self.name,
            format=self.format,
            virtual_size=self._size,
            actual_size=self.file.allocated()
            + sum(cast(FormatNode, part.node).file.allocated() for part in files),
            cluster_size=grain,
            compressed=True if self._stream() is not None else None,
            backing_filename=reference or None,
            full_backing_filename=None if self.backing is None else self.backing.name,
            backing_filename_format=None if reference is None else "vmdk",
            format_specific={
                "type": "vmdk",
                "data": {
                    "create-type": self.descriptor.create_type,
                    "cid": self.descriptor.content_id(),
                    "parent-cid": self.descriptor.content_id("parentCID"),
                    "extents": [self._about(part) for part in self.parts],
                },
            },
        )


def _add(total: CheckReport, part: CheckReport) -> None:
    for name in ("check_errors", "corruptions", "leaks", "corruptions_fixed", "leaks_fixed"):
        setattr(total, name, getattr(total, name) + getattr(part, name))
    for name in ("total_clusters", "allocated_clusters", "fragmented_clusters", "compressed_clusters"):
        more = getattr(part, name)
        if more is not None:
            setattr(total, name, (getattr(total, name) or 0) + more)
    if part.image_end_offset is not None:
        total.image_end_offset = part.image_end_offset
    total.problems += part.problems[: max(0, 1000 - len(total.problems))]
