"""Copying a disk into another: only what is stored, zeroes as zeroes, compressed by several threads.

The calling thread takes extents and writes; worker threads read, look for zeroes and compress. Memory is
bounded by the pieces in flight. Where both disks store data as they are, in files that can share blocks, they
do: only as much is read as shows that it isn't zero. (Elsewhere the kernel's copying from file to file takes
as long as reading and writing, and keeps one processor busy instead of two.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple

from runtime.block.errors import ImageIOError, ImageUnsupported
from runtime.block.jobs.pipeline import Buffers, ordered, processors
from runtime.block.jobs.progress import Progress, silent
from runtime.block.jobs.zeroes import is_zero, runs
from runtime.block.node import Compression, Extent, ExtentKind, FileRange, FormatNode, Node
from runtime.block.protocol.file import PAGE, FileNode
from runtime.records import record

PIECE = 2 << 20
"""Bytes that a thread reads at a time, unless clusters are larger."""
PACKED_PIECE = 1 << 20
"""The same where it compresses them, too."""
SPARSE = 4096
"""The shortest run of zeroes that isn't written."""
LARGEST_UNIT = 64 << 10
DIRECT_PIECE = 4 << 20
"""Bytes that files come to share at a time."""
DIRECT_UNIT = 32 << 10
"""Where zeroes matter in smaller units than this, looking at each costs more than reading all."""
PROBE = 64
"""Bytes of each unit that are looked at first: most that aren't zero begin so."""
ZERO_PIECE = 1 << 30
"""Bytes that are zeroed in one request at most."""


@record
class CopyOptions:
    """How to copy.

    `sparse` is the shortest run of zeroes, in bytes, that isn't written; 0 writes everything.
    `target_is_zero`: what isn't written reads as zeroes (a new image without a backing file).
    `base`: the target's backing node; what reads the same there isn't copied. `shared` is the depth in the
    source's chain at which that same image lies, if it does.
    `start`: everything before this offset is there already. `salvage`: what can't be read becomes zeroes.
    `bytes_per_second` bounds the speed; 0 doesn't.
    """

    compressed: bool = False
    sparse: int = SPARSE
    target_is_zero: bool = True
    base: Node | None = None
    shared: int | None = None
    start: int = 0
    salvage: bool = False
    workers: int | None = None
    bytes_per_second: int = 0


@record
class CopyResult:
    """Bytes of the disk by what happened to them."""

    copied: int = 0
    zeroed: int = 0
    skipped: int = 0
    unreadable: int = 0


class _Action(Enum):
    """What to do about a range of the source."""

    SKIP = 0  # the target reads so already
    COPY = 1
    ZERO = 2
    COMPARE = 3  # copy what the target's backing node holds otherwise


class _Piece(NamedTuple):
    """A range of the source. `file`: where its bytes lie as they are, at `host`."""

    offset: int
    length: int
    action: _Action
    file: FileNode | None = None
    host: int = 0

    @property
    def end(self) -> int:
        return self.offset + self.length

    def continues(self, other: _Piece) -> bool:
        """Whether this and the `other` behind it can be one."""
        return (
            self.action is other.action
            and self.end == other.offset
            and self.file is other.file
            and (self.file is None or self.host + self.length == other.host)
        )

    def cut(self, length: int) -> tuple[_Piece, _Piece]:
        """The first `length` bytes, and the rest."""
        rest = self._replace(
            offset=self.offset + length, length=self.length - length, host=self.host + length
        )
        return self._replace(length=length), rest


class _Read(NamedTuple):
    """What a worker made of a piece: (offset, data) to write, ranges to zero, clusters to store packed, data
    that files can share. What is to write lies in `buffer`.
    """

    end: int
    buffer: bytearray | None
    writes: list[tuple[int, memoryview]]
    zeroed: list[tuple[int, int]]
    packed: list[tuple[int, bytes]]
    direct: list[tuple[int, FileRange]]
    unreadable: int
    skipped: int

    @property
    def size(self) -> int:
        """Bytes to write."""
        plain = sum(len(data) for _, data in self.writes) + sum(len(data) for _, data in self.direct)
        return plain + sum(len(data) for _, data in self.packed)


def copy(
    source: Node,
    target: FormatNode,
    options: CopyOptions,
    *,
    progress: Progress = silent,
    checkpoint: Callable[[int], None] = lambda offset: None,
) -> CopyResult:
    """Make `target` (at least as long) read as `source`.

    `checkpoint` is called with the offset up to which everything is written, after each piece; it may flush.
    """
    return _Copier(source, target, options).run(progress, checkpoint)


class _Copier:
    def __init__(self, source: Node, target: FormatNode, options: CopyOptions) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._size = source.length()
        compression = _compression_of(target, options.compressed)
        wanted = options.compressed or (compression is not None and compression.always)
        self._compression: Compression | None = compression if wanted else None
        cluster = self._compression.cluster_size if self._compression else target.info().cluster_size
        self._cluster = cluster or SPARSE
        # Writing part of a cluster makes the format fill the rest.
        self._unit = max(min(self._cluster, LARGEST_UNIT), options.sparse or SPARSE, SPARSE)
        if self._compression:
            self._unit = self._cluster
        piece = PACKED_PIECE if self._compression else PIECE
        self._piece = max(piece // self._unit * self._unit, self._unit)
        self._direct = (
            self._compression is None
            and not options.salvage
            and (not options.sparse or self._unit >= DIRECT_UNIT)
        )
        self._buffers = Buffers(self._piece)
        self._result = CopyResult()

    def run(self, progress: Progress, checkpoint: Callable[[int], None]) -> CopyResult:
        throttle = _Throttle(self._options.bytes_per_second)
        # Compression keeps all processors busy, with some threads over that wait for data; plain copies are
        # one reader and one writer.
        workers = self._options.workers or (processors() + 2 if self._compression else 1)
        reads = ordered(
            self._read,
            self._pieces(),
            workers=workers,
            ahead=workers + 2,
            here=lambda piece: piece.file is not None,
        )
        for read in reads:
            self._write(read)
            progress(read.end, self._size)
            checkpoint(read.end)
            if self._options.bytes_per_second:
                throttle.spent(read.size)
        progress(self._size, self._size)
        return self._result

    # What is to be done, in the calling thread

    def _pieces(self) -> Iterator[_Piece]:
        """What is to be done, in order, in pieces."""
        held: _Piece | None = None
        for piece in self._ranges():
            if held is not None and held.continues(piece):
                held = held._replace(length=held.length + piece.length)
            else:
                if held is not None:
                    yield held
                held = piece
            largest = self._largest(held)
            while held.length > largest:
                part, held = held.cut(largest)
                yield part
        if held is not None:
            yield held

    def _largest(self, piece: _Piece) -> int:
        if piece.action is _Action.ZERO:
            return ZERO_PIECE
        return self._piece if piece.file is None else DIRECT_PIECE

    def _ranges(self) -> Iterator[_Piece]:
        """The source's extents with what to do about them. What is read is widened to whole units of the
        target; zeroes may be overlapped by what is read later.
        """
        start = self._options.start // self._unit * self._unit
        done = start
        for extent in self._source.extents(start, self._size - start):
            action = self._action(extent)
            low, high = extent.offset, extent.end
            if action in (_Action.COPY, _Action.COMPARE):
                low = low // self._unit * self._unit
                high = min(-(-high // self._unit) * self._unit, self._size)
            low = max(low, done)
            if low >= high:
                continue
            if action is _Action.SKIP:
                self._result.skipped += high - low
                continue
            file = extent.file
            if action is _Action.COPY and self._direct and isinstance(file, FileNode) and self._shares(file):
                yield from self._with_direct(low, high, extent, file)
            else:
                yield _Piece(low, high - low, action)
            if action is not _Action.ZERO:
                done = high

    def _shares(self, source: FileNode) -> bool:
        """Whether a file of the source can share blocks with the target's."""
        target = self._target.file
        return isinstance(target, FileNode) and target.shares_with(source)

    def _with_direct(self, low: int, high: int, extent: Extent, file: FileNode) -> Iterator[_Piece]:
        """A range to copy: what the files can share of it, and what is around that in its first and last
        unit. Nothing where the source's pages lie otherwise in its file.
        """
        start = max(low, -(-extent.offset // self._unit) * self._unit)
        stop = extent.end if extent.end == self._size else extent.end // self._unit * self._unit
        host = extent.host_offset
        if host is None or start >= stop or (host - extent.offset) % PAGE:
            yield _Piece(low, high - low, _Action.COPY)
            return
        if low < start:
            yield _Piece(low, start - low, _Action.COPY)
        yield _Piece(start, stop - start, _Action.COPY, file, host + start - extent.offset)
        if stop < high:
            yield _Piece(stop, high - stop, _Action.COPY)

    def _action(self, extent: Extent) -> _Action:
        options = self._options
        if not options.sparse:
            return _Action.COPY
        if options.base is None:
            if extent.kind is ExtentKind.DATA:
                return _Action.COPY
            return _Action.SKIP if options.target_is_zero else _Action.ZERO
        if extent.kind is not ExtentKind.DATA and _reads_zero(options.base, extent):
            return _Action.SKIP
        if options.shared is None:
            return _Action.COMPARE
        if extent.kind is ExtentKind.HOLE:
            # Behind the end of an image between: the target's base has data there that the source hides.
            return _Action.ZERO
        if extent.depth >= options.shared:
            return _Action.SKIP
        return _Action.COPY if extent.kind is ExtentKind.DATA else _Action.ZERO

    # Reading, in a worker

    def _read(self, piece: _Piece) -> _Read:
        offset, length, action = piece[:3]
        if action is _Action.ZERO:
            return _Read(piece.end, None, [], [(offset, length)], [], [], 0, 0)
        if piece.file is not None:
            return self._look(piece, piece.file)
        buffer = self._buffers.take()
        unreadable = self._load(offset, memoryview(buffer)[:length])
        read = _Read(piece.end, buffer, [], [], [], [], unreadable, 0)
        if action is _Action.COMPARE:
            return self._only_changes(read, offset, buffer, length)
        if not self._options.sparse:
            self._keep(read, offset, buffer, 0, length)
            return read
        for at, size, zero in runs(buffer, self._unit, length):
            if zero:
                read.zeroed.append((offset + at, size))
            else:
                self._keep(read, offset, buffer, at, size)
        return read

    def _look(self, piece: _Piece, file: FileNode) -> _Read:
        """What of a piece that files can share isn't zero."""
        read = _Read(piece.end, None, [], [], [], [], 0, 0)
        offset, length, host = piece.offset, piece.length, piece.host
        if not self._options.sparse:
            read.direct.append((offset, FileRange(file, host, length)))
            return read
        file.prefetch(host, length)
        unit, pread, nothing = self._unit, file.pread, bytes(PROBE)
        start, state = 0, False
        for at in range(0, length, unit):
            size = min(unit, length - at)
            probed = min(PROBE, size)
            zero = pread(host + at, probed) == nothing[:probed] and is_zero(pread(host + at, size))
            if zero is not state:
                self._note(read, piece, file, start, at, state)
                start, state = at, zero
        self._note(read, piece, file, start, length, state)
        return read

    @staticmethod
    def _note(read: _Read, piece: _Piece, file: FileNode, start: int, stop: int, zero: bool) -> None:
        if start == stop:
            return
        if zero:
            read.zeroed.append((piece.offset + start, stop - start))
        else:
            read.direct.append((piece.offset + start, FileRange(file, piece.host + start, stop - start)))

    def _only_changes(self, read: _Read, offset: int, data: bytearray, length: int) -> _Read:
        """Units that the target's backing node doesn't hold already."""
        base = self._options.base
        assert base is not None
        there = max(0, min(length, base.length() - offset))
        old = base.pread(offset, there) if there else b""
        old += bytes(length - there)
        skipped = 0
        for at in range(0, length, self._unit):
            unit = data[at : min(at + self._unit, length)]
            if unit == old[at : at + self._unit]:
                skipped += len(unit)
            elif is_zero(unit):
                read.zeroed.append((offset + at, len(unit)))
            else:
                self._keep(read, offset, data, at, len(unit))
        return read._replace(skipped=skipped)

    def _keep(self, read: _Read, offset: int, data: bytearray, at: int, size: int) -> None:
        view = memoryview(data)
        if self._compression is None:
            read.writes.append((offset + at, view[at : at + size]))
            return
        plain: tuple[int, int] | None = None
        for start in range(at, at + size, self._cluster):
            cluster = view[start : min(start + self._cluster, at + size)]
            packed = self._compression.compress(cluster)
            if packed is not None:
                read.packed.append((offset + start, packed))
            elif plain is not None and plain[1] == start:
                # One write for neighbours that don't shrink.
                plain = plain[0], start + len(cluster)
                read.writes[-1] = offset + plain[0], view[plain[0] : plain[1]]
            else:
                plain = start, start + len(cluster)
                read.writes.append((offset + start, cluster))

    def _load(self, offset: int, target: memoryview) -> int:
        """Fill `target`; gives how many bytes couldn't be read."""
        try:
            self._source.read_into(offset, target)
            return 0
        except ImageIOError:
            if not self._options.salvage:
                raise
        lost = 0
        for at in range(0, len(target), SPARSE):
            part = target[at : at + SPARSE]
            try:
                self._source.read_into(offset + at, part)
            except ImageIOError:
                part[:] = bytes(len(part))
                lost += len(part)
        return lost

    # Writing, in the calling thread

    def _write(self, read: _Read) -> None:
        target = self._target
        for start, length in read.zeroed:
            if self._options.base is not None or not self._options.target_is_zero:
                target.write_zeroes(start, length)
            self._result.zeroed += length
        if self._compression is not None and read.packed:
            self._compression.write(read.packed)
        if read.writes:
            target.pwrite_many(read.writes)
        for offset, data in read.direct:
            target.pwrite_range(offset, data)
        written = sum(len(data) for _, data in read.writes) + sum(len(data) for _, data in read.direct)
        self._result.unreadable += read.unreadable
        self._result.skipped += read.skipped
        self._result.copied += written + len(read.packed) * self._cluster
        if read.buffer is not None:
            self._buffers.give(read.buffer)


def _compression_of(target: FormatNode, needed: bool) -> Compression | None:
    """How `target` compresses, if it does. Raises ImageUnsupported if that is `needed`."""
    try:
        compression = target.compression
    except ImageUnsupported:
        if needed:
            raise
        return None
    if needed and compression is None:
        raise ImageUnsupported(f"{target.format} images can't hold compressed data", where=target.name)
    return compression


def _reads_zero(node: Node, extent: Extent) -> bool:
    """Whether `node` is known to have only zeroes where `extent` is."""
    length = min(extent.length, node.length() - extent.offset)
    return length <= 0 or all(part.reads_zero for part in node.extents(extent.offset, length))


class _Throttle:
    """Sleeps so that a rate isn't exceeded in the long run."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._start = time.monotonic()
        self._spent = 0

    def spent(self, count: int) -> None:
        if self._rate:
            self._spent += count
            due = self._start + self._spent / self._rate
            while (left := due - time.monotonic()) > 0:
                time.sleep(min(left, 0.5))
