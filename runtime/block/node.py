"""The abstract block node: bytes at offsets, addressed by the byte, whatever lies below.

`ProtocolNode` is where the bytes of a file are (host file, memory, NBD, HTTP); `FormatNode` is a disk that
lies in one or more of them, maybe on a backing node. Both read and write alike, so that every function that
moves data takes any node.

Every method may be called from several threads at once. Offsets and lengths are in bytes and need no
alignment. Unless said otherwise, methods raise `ImageIOError` when the host fails, `ImageCorrupt` when the
image's own tables are wrong, `ImageReadOnly` for writes to a node opened for reading.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from runtime.block.errors import ImageRange, ImageReadOnly, ImageUnsupported

if TYPE_CHECKING:
    from runtime.block.report import CheckReport, ImageInfo, SnapshotInfo

Buffer = bytes | bytearray | memoryview
Repair = Literal["leaks", "all"]
_STEP = 1 << 20
Preallocation = Literal["off", "metadata", "falloc", "full"]


class ExtentKind(Enum):
    """What a piece of a disk reads as, and from where."""

    DATA = "data"  # bytes stored in this chain
    ZERO = "zero"  # reads as zeroes, whatever is below
    HOLE = "hole"  # stored nowhere in the chain: reads as zeroes for want of data


class Extent(NamedTuple):
    """A piece of a node with one state throughout. `FormatNode.extents` gives whole, ordered, gapless
    coverage.
    """

    offset: int  # in the node, bytes
    length: int  # bytes, > 0
    kind: ExtentKind
    depth: int = 0  # 0: stored in this image, 1: in its backing image, ...
    host_offset: int | None = None  # in the image's file; None for what isn't stored plainly
    compressed: bool = False
    #: The file that `host_offset` counts in, if its bytes there are the disk's as they are.
    file: ProtocolNode | None = None

    @property
    def end(self) -> int:
        return self.offset + self.length

    @property
    def reads_zero(self) -> bool:
        return self.kind is not ExtentKind.DATA


class FileRange:
    """Bytes of a file that are to be written elsewhere without a detour through this process. Slices are
    ranges too.
    """

    __slots__ = ("file", "length", "offset")

    def __init__(self, file: ProtocolNode, offset: int, length: int) -> None:
        self.file = file
        self.offset = offset
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, part: slice) -> FileRange:
        start, stop, _ = part.indices(self.length)
        return FileRange(self.file, self.offset + start, max(0, stop - start))

    def read(self) -> memoryview:
        """The bytes."""
        data = memoryview(bytearray(self.length))
        self.file.read_into(self.offset, data)
        return data


def in_memory(data: memoryview | FileRange) -> memoryview:
    """The bytes, wherever they are."""
    return data.read() if isinstance(data, FileRange) else data


class Node(ABC):
    """What all block nodes can do."""

    #: How messages name the node: a path, an address.
    name: str = "image"
    read_only: bool = True

    @abstractmethod
    def length(self) -> int:
        """The node's size in bytes."""

    @abstractmethod
    def pread(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`. Raises ImageRange outside of a format node."""

    @abstractmethod
    def pwrite(self, offset: int, data: Buffer) -> None:
        """Write all of `data`. It's durable after the next `flush`."""

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` (writable, bytes) from `offset`."""
        target[:] = self.pread(offset, len(target))

    def pread_many(self, requests: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of many (offset, length) requests, in their order. One call is much faster than many
        preads.
        """
        return [self.pread(offset, length) for offset, length in requests]

    def pwrite_many(self, requests: Iterable[tuple[int, Buffer]]) -> None:
        """Write many (offset, data), in their order."""
        for offset, data in requests:
            self.pwrite(offset, data)

    def pwrite_range(self, offset: int, data: FileRange) -> None:
        """Write bytes of a file. Nodes that store them as they are let the kernel copy them."""
        for at in range(0, len(data), _STEP):
            self.pwrite(offset + at, data[at : at + _STEP].read())

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Make the range read as zeroes; with `unmap` it may give its storage back."""
        zeroes = bytes(min(_STEP, length))
        for at in range(offset, offset + length, _STEP):
            part = min(_STEP, offset + length - at)
            self.pwrite(at, zeroes if part == len(zeroes) else zeroes[:part])

    def discard(self, offset: int, length: int) -> None:
        """A hint that the range's content isn't needed. It may read as before or as zeroes afterwards."""
        self.writable_or_raise()

    @abstractmethod
    def flush(self) -> None:
        """A barrier: what was written before is durable when this returns."""

    def resize(self, length: int, *, shrink: bool = False, preallocation: Preallocation = "off") -> None:
        """Change the size. New bytes read as zeroes. A smaller `length` needs `shrink`: it destroys data."""
        raise ImageUnsupported("this node can't be resized", where=self.name)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """The range (default: all) as consecutive extents without gaps; neighbours may be of one state."""
        end = self.length() if length is None else offset + length
        if end > offset:
            yield Extent(offset, end - offset, ExtentKind.DATA)

    @abstractmethod
    def close(self) -> None:
        """Flush, mark the image clean and give up files and locks. May be called again."""

    def writable_or_raise(self) -> None:
        """ImageReadOnly if the node isn't open for writing."""
        if self.read_only:
            raise ImageReadOnly(
                "the image is open for reading only", where=self.name, remedy="open it writable"
            )

    def in_range_or_raise(self, offset: int, length: int) -> None:
        """ImageRange unless [offset, offset + length) lies inside of the node."""
        size = self.length()
        if offset < 0 or length < 0 or offset + length > size:
            raise ImageRange(
                f"the range of {length} bytes at offset {offset} isn't inside of a disk of {size} bytes",
                where=self.name,
            )

    def shrink_or_raise(self, length: int, shrink: bool) -> None:
        """ImageRange if `length` would destroy data and `shrink` doesn't say so."""
        if length < 0:
            raise ImageRange(f"a disk can't have {length} bytes", where=self.name)
        if length < self.length() and not shrink:
            raise ImageRange(
                f"{length} bytes is less than the {self.length()} that the disk has: data would be lost",
                where=self.name,
                remedy="shrink the file system first, then ask for it: shrink=True (--shrink)",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ProtocolNode(Node):
    """The bytes of one file. Reads behind its end give zeroes; writes behind its end let it grow."""

    #: True if the length can't change (a block device, an NBD export).
    fixed_length: bool = False
    #: Multiple of bytes that requests should have for speed's sake; a power of two.
    block_size: int = 1
    #: False: `flush` orders nothing and leaves it to the kernel when data reaches the disk. Such a file
    #: survives the death of the process, but not that of the machine.
    durable: bool = True

    def allocated(self) -> int:
        """Bytes of storage in use."""
        return self.length()

    def pwrite_vector(self, offset: int, parts: Sequence[Buffer]) -> None:
        """Write `parts` one behind the other, in as few system calls as possible."""
        for part in parts:
            self.pwrite(offset, part)
            offset += memoryview(part).nbytes

    def punch(self, offset: int, length: int) -> None:
        """Give the range's storage back where that is possible; it reads as zeroes afterwards."""
        self.write_zeroes(offset, length)

    def allocate(self, offset: int, length: int) -> None:
        """Reserve storage for the range, growing the file; content isn't changed. Does nothing where
        impossible.
        """
        if not self.fixed_length and offset + length > self.length():
            self.resize(offset + length)


class Snapshots(ABC):
    """The internal snapshots of a format node. A snapshot is named by its id or its name; ids win."""

    @abstractmethod
    def entries(self) -> list[SnapshotInfo]:
        """All snapshots, in the image's order."""

    @abstractmethod
    def create(self, name: str, *, vm_state_size: int = 0, vm_clock_ns: int = 0) -> SnapshotInfo:
        """Keep the disk (and the `vm_state_size` bytes written as VM state) as it is now. Raises
        ImageExists.
        """

    @abstractmethod
    def apply(self, snapshot: str) -> None:
        """Make the disk what it was. Everything written since then is lost. Raises ImageNotFound."""

    @abstractmethod
    def delete(self, snapshot: str) -> None:
        """Forget it and give its storage back. Raises ImageNotFound."""

    @abstractmethod
    def open(self, snapshot: str) -> Node:
        """The disk as it was, as a read-only node that lives as long as the image is open."""

    def read_vm_state(self, offset: int, length: int, *, snapshot: str | None = None) -> bytes:
        """Part of the VM state of `snapshot` (default: what was last written or applied)."""
        raise ImageUnsupported("this format has no place for VM state")

    def write_vm_state(self, offset: int, data: Buffer) -> None:
        """Write part of the VM state that the next `create` keeps. Not beyond that: it's no part of the
        disk.
        """
        raise ImageUnsupported("this format has no place for VM state")


class Compression(ABC):
    """Compressing clusters apart from writing them, so that a caller can compress on several threads."""

    #: Bytes of the disk that are compressed together.
    cluster_size: int
    #: Whether plain writes get compressed too, so that doing it on several threads is always better.
    always: bool = False

    @abstractmethod
    def compress(self, data: Buffer) -> bytes | None:
        """A cluster's packed form; None if it wouldn't be smaller (write it plainly then). Safe for threads,
        and touches nothing of the image. A last cluster cut by the disk's end is padded with zeroes.
        """

    @abstractmethod
    def write(self, clusters: Sequence[tuple[int, bytes]]) -> None:
        """Store packed clusters, (offset in the disk, packed form), in ascending order."""


class FormatNode(Node):
    """A disk in an image format.

    A driver fills in `length`, `pread`, `pwrite`, `flush`, `close`, `extents`, `info` and whatever else its
    format can do. `in_range_or_raise` and `writable_or_raise` come first in every request.
    """

    #: The driver's name, as in `runtime.block.registry`.
    format: str
    #: The image file (for formats of several files: the one with the description).
    file: ProtocolNode
    #: Whether all of a new image reads as zeroes (not so where every sector is encrypted in place).
    starts_zeroed: bool = True
    #: Whether an overlay remembers the content of what is below it, and refuses another one (until
    #: `set_backing` names it again).
    notes_content_below: bool = False
    #: The node below, where unallocated parts are read from; shorter ones are continued by zeroes.
    backing: Node | None = None

    def files(self) -> list[ProtocolNode]:
        """All files that the image itself consists of; not those of its backing node."""
        return [self.file]

    @property
    def snapshots(self) -> Snapshots:
        """Internal snapshots. Raises ImageUnsupported for formats without them."""
        raise ImageUnsupported(f"{self.format} images have no internal snapshots", where=self.name)

    def check(self, repair: Repair | None = None) -> CheckReport:
        """Look for inconsistencies; with "leaks" free lost storage, with "all" mend whatever can be."""
        raise ImageUnsupported(f"{self.format} images can't be checked", where=self.name)

    @abstractmethod
    def info(self) -> ImageInfo:
        """What there is to know about the image without reading all of it."""

    def amend(self, options: dict[str, object]) -> None:
        """Change options of an existing image. The names are those of the driver's create options."""
        raise ImageUnsupported(f"options of {self.format} images can't be changed", where=self.name)

    @property
    def compression(self) -> Compression | None:
        """How clusters are compressed, None for formats without. Raises ImageUnsupported for images that
        can't, though others of their format can.
        """
        return None

    def write_compressed(self, offset: int, data: Buffer) -> None:
        """Write whole clusters (the last may be cut by the disk's end) compressed, where that saves space.
        Raises ImageUnsupported for formats without compression.
        """
        compression = self.compression
        if compression is None:
            raise ImageUnsupported(f"{self.format} images can't hold compressed data", where=self.name)
        self.writable_or_raise()
        view = memoryview(data).cast("B")
        self.in_range_or_raise(offset, len(view))
        size = compression.cluster_size
        if offset % size or (len(view) % size and offset + len(view) != self.length()):
            raise ImageRange("only whole clusters can be written compressed", where=self.name)
        for at in range(0, len(view), size):
            cluster = view[at : at + size]
            packed = compression.compress(cluster)
            if packed is None:
                self.pwrite(offset + at, cluster)
            else:
                compression.write([(offset + at, packed)])

    def copy_bitmaps(self, source: Node, *, skip_broken: bool = False) -> None:
        """Take over the dirty bitmaps that `source` keeps; `skip_broken`: without those that mean nothing."""
        raise ImageUnsupported(f"{self.format} images can't hold dirty bitmaps", where=self.name)

    def set_backing(self, reference: str | None, format: str | None) -> None:
        """Record another backing file, by the name that the image shall hold (data isn't changed)."""
        raise ImageUnsupported(f"{self.format} images have no backing file", where=self.name)

    def make_empty(self) -> None:
        """Forget all data of this layer, so that all is read from the backing node."""
        raise ImageUnsupported(f"{self.format} images can't be emptied", where=self.name)

    def read_backing(self, offset: int, target: memoryview) -> None:
        """Fill `target` from the backing node; zeroes behind its end and without one."""
        backing = self.backing
        there = 0 if backing is None else max(0, min(len(target), backing.length() - offset))
        if backing is not None and there:
            backing.read_into(offset, target[:there])
        if there < len(target):
            target[there:] = bytes(len(target) - there)

    def backing_extents(self, offset: int, length: int) -> Iterator[Extent]:
        """What `extents` has to say about a range that this layer doesn't hold."""
        backing = self.backing
        there = 0 if backing is None else max(0, min(length, backing.length() - offset))
        if backing is not None and there:
            for part in backing.extents(offset, there):
                yield part._replace(depth=part.depth + 1)
        if there < length:
            yield Extent(offset + there, length - there, ExtentKind.HOLE)
