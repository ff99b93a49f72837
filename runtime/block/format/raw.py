"""Raw disks: the file's bytes are the disk's. Holes of the file are holes of the disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageError
from runtime.block.node import Buffer, Extent, FileRange, FormatNode, Preallocation, ProtocolNode, Repair
from runtime.block.registry import HEAD, probe_bytes

if TYPE_CHECKING:
    from runtime.block.options import CreateOptions
    from runtime.block.report import CheckReport, ImageInfo


class RawNode(FormatNode):
    """A raw disk in `file`. `guarded`: its format was guessed, and may not look like another one later."""

    format = "raw"

    def __init__(self, file: ProtocolNode, *, writable: bool, guarded: bool = False) -> None:
        self.file = file
        self.name = file.name
        self.read_only = not writable
        self._guarded = guarded

    def length(self) -> int:
        return self.file.length()

    def pread(self, offset: int, length: int) -> bytes:
        self.in_range_or_raise(offset, length)
        return self.file.pread(offset, length)

    def read_into(self, offset: int, target: memoryview) -> None:
        self.in_range_or_raise(offset, len(target))
        self.file.read_into(offset, target)

    def pread_many(self, requests: Sequence[tuple[int, int]]) -> list[bytes]:
        for offset, length in requests:
            self.in_range_or_raise(offset, length)
        return self.file.pread_many(requests)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()
        view = memoryview(data).cast("B")
        self.in_range_or_raise(offset, len(view))
        if self._guarded and offset < HEAD:
            self._guard(offset, view)
        self.file.pwrite(offset, view)

    def pwrite_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        for offset, data in requests:
            self.pwrite(offset, data)

    def pwrite_range(self, offset: int, data: FileRange) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, len(data))
        if self._guarded and offset < HEAD:
            super().pwrite_range(offset, data)
        else:
            self.file.pwrite_range(offset, data)

    def _guard(self, offset: int, view: memoryview) -> None:
        head = bytearray(self.file.pread(0, HEAD))
        part = min(HEAD - offset, len(view))
        head[offset : offset + part] = view[:part]
        guess = probe_bytes(bytes(head), b"")
        if guess.name != "raw":
            raise ImageError(
                f"refused to write a {guess.name} signature into a disk whose raw format was only guessed",
                where=self.name,
                remedy="open it with format='raw' (--format raw) if the disk shall hold that",
            )

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)
        self.file.write_zeroes(offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)
        self.file.discard(offset, length)

    def flush(self) -> None:
        self.file.flush()

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        self.writable_or_raise()
        self.shrink_or_raise(length, shrink)
        self.file.resize(length, shrink=shrink, preallocation=preallocation)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self.length() - offset if length is None else length
        self.in_range_or_raise(offset, size)
        yield from self.file.extents(offset, size)

    def check(self, repair: Repair | None = None) -> CheckReport:
        """Nothing can be wrong with a raw disk's structure: it has none."""
        from runtime.block.report import CheckReport

        return CheckReport(filename=self.name, format="raw", image_end_offset=self.length())

    def info(self) -> ImageInfo:
        from runtime.block.report import ImageInfo

        return ImageInfo(
            filename=self.name, format="raw", virtual_size=self.length(), actual_size=self.file.allocated()
        )

    def close(self) -> None:
        self.file.close()


class RawDriver(Driver):
    name = "raw"

    def open(self, file: ProtocolNode, context: OpenContext) -> RawNode:
        return RawNode(file, writable=context.writable, guarded=context.probed and context.writable)

    def options(self) -> type[CreateOptions]:
        from runtime.block.format.raw_options import RawOptions

        return RawOptions

    def create(self, file: ProtocolNode, size: int, options: CreateOptions, context: OpenContext) -> None:
        file.resize(size, preallocation=getattr(options, "preallocation", "off"))
        file.flush()


DRIVER = RawDriver()
