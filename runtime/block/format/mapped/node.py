"""A disk of equal blocks that a table finds in the file: reading, writing, zeroing, extents, the order of
writes.

A driver's node says what its table's entries mean (`_decode`, `_encode`) and writes its own fields when its
hooks are called. What is common is here:

* New blocks are placed behind all others. Their data is written at once, the table only changes in memory.
* `flush` makes the data durable first, then writes sector bitmaps, then the table (`_commit`). So a crash
  at any moment leaves lost blocks at worst, and never a table entry that points to data which isn't there.
* Zeroing and discarding an allocated block punches a hole into the file and leaves the block where it is,
  so that no other block can ever be damaged by it.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

from runtime.block.errors import ImageCorrupt
from runtime.block.format.crowding import Claims
from runtime.block.format.mapped.bitmap import SectorBitmaps
from runtime.block.format.mapped.table import Table
from runtime.block.node import (
    Buffer,
    Extent,
    ExtentKind,
    FileRange,
    FormatNode,
    Node,
    Preallocation,
    ProtocolNode,
    in_memory,
)

if TYPE_CHECKING:
    from runtime.block.format.mapped.table import Entries

Interval = tuple[int, int]  # begin and end in the file, bytes

ABSENT = -1  # not in this image: read from the backing node
ZERO = -2  # not in this image, and zero whatever the backing node has
HOLLOW = -3  # the block is here, but not these sectors: read from the backing node

_BATCH = 1 << 10  # pieces of the disk that are looked up at once
_LOOKUP = 1 << 15  # blocks looked up at once
_SKIP = 1 << 10  # blocks: longer ranges may be skipped where no table is
_COPY = 1 << 20  # bytes copied at once
_DIRTY_LIMIT = 16 << 20  # bytes of changed tables after which they're written


class Piece(NamedTuple):
    """Part of a request: `host` is where it lies in the file, or ABSENT or ZERO. `state` adds HOLLOW."""

    offset: int
    length: int
    host: int
    state: int  # 0: data


class MappedNode(FormatNode):
    """See the module. Subclasses set the attributes below in their `__init__` and call `super().__init__`
    first.
    """

    block_size: int  # bytes of the disk in one block
    entry_step: int  # what the entries of blocks that lie one behind the other differ by
    gap: int = 0  # bytes that come before each block's data in the file (VHD's bitmap)
    table: Table
    bitmaps: SectorBitmaps | None = None  # of differencing images
    can_mark_zero: bool = False  # the table can say "zero" of a block that isn't stored

    def __init__(
        self, file: ProtocolNode, name: str, size: int, *, writable: bool, backing: Node | None
    ) -> None:
        self.file = file
        self.name = name
        self.read_only = not writable
        self.backing = backing
        self._size = size
        self._lock = threading.RLock()
        self._closed = False
        self._touched = False  # `_before_first_write` has run
        self._data_start = 0  # blocks can't lie before this offset
        self._end = 0  # where the next new block goes
        self._file_length = file.length()  # bytes behind this are zero; what lies before may be anything
        self._unsynced = False

    # What a driver says

    @abstractmethod
    def _decode(self, raw: int) -> int:
        """Where the data of a block with this table entry lies in the file; ABSENT, ZERO."""

    @abstractmethod
    def _decode_all(self, raw: Entries) -> Entries:
        """`_decode` of many entries."""

    @abstractmethod
    def _encode(self, place: int) -> int:
        """The table entry for a block that is there from now on (or ZERO or ABSENT)."""

    def _index(self, block: int) -> int:
        """Which entry of the table is the block's. Formats whose entries aren't in a row also have `_row`,
        `_raw` and `_bind`.
        """
        return block

    def _row(self, block: int) -> int:
        """How many entries from the block's on are in a row."""
        return self.table.count - block

    def _raw(self, first: int, count: int) -> Entries:
        """The table's entries of these blocks."""
        return self.table.read(first, count)

    def _bind(self, first: int, count: int, place: int) -> None:
        """Note in the table that these blocks lie one behind the other from `place` on (or ZERO or
        ABSENT).
        """
        step = self.entry_step if place >= 0 else 0
        self.table.write(self._index(first), self._encode(place), count, step)

    def _before_first_write(self) -> None:
        """Called once, before anything in the image changes."""

    def _before_block(self) -> bytes:
        """The `gap` bytes before a new block's data."""
        return b""

    def _behind_blocks(self) -> bytes:
        """What follows the last block in the file, until the next one takes its place."""
        return b""

    def _commit_table(self) -> None:
        """Write the table back. Data (and bitmaps) are durable already."""
        self.table.write_back()

    def _commit_drops(self) -> None:
        """Write the table back, which points to nothing new: there is no data to wait for."""
        self._commit_table()

    def _mark_clean(self) -> None:
        """Called by `close` after the last flush, if anything was written."""

    # Requests

    def length(self) -> int:
        return self._size

    def pread(self, offset: int, length: int) -> bytes:
        self.in_range_or_raise(offset, length)
        with self._lock:
            place = self._in_block(offset, length)
            if place >= 0:
                return self.file.pread(place, length)
            target = bytearray(length)
            self._read(offset, memoryview(target))
        return bytes(target)

    def read_into(self, offset: int, target: memoryview) -> None:
        self.in_range_or_raise(offset, len(target))
        with self._lock:
            place = self._in_block(offset, len(target))
            if place >= 0:
                self.file.read_into(place, target)
            else:
                self._read(offset, target)

    def _in_block(self, offset: int, length: int) -> int:
        """Where a request lies in the file, if it's inside of one block that is there; negative if not. Most
        requests of guests are like that.
        """
        block, within = divmod(offset, self.block_size)
        if self.bitmaps is not None or not 0 < length <= self.block_size - within:
            return -1
        place = self._place_of(block)
        return place + within if place >= 0 else place

    def _read(self, offset: int, target: memoryview) -> None:
        for piece in self._pieces(offset, len(target)):
            view = target[piece.offset - offset : piece.offset - offset + piece.length]
            if piece.state == 0:
                self.file.read_into(piece.host, view)
            elif piece.state == ZERO:
                view[:] = bytes(len(view))
            else:
                self.read_backing(piece.offset, view)

    def pwrite(self, offset: int, data: Buffer) -> None:
        self._write(offset, memoryview(data).cast("B"))

    def pwrite_range(self, offset: int, data: FileRange) -> None:
        self._write(offset, data)

    def _write(self, offset: int, data: memoryview | FileRange) -> None:
        self._writable_range(offset, len(data))
        with self._lock:
            self._start_writing()
            place = self._in_block(offset, len(data))
            if place >= 0:
                self._put(place, data)
                return
            for piece in list(self._pieces(offset, len(data))):
                part = data[piece.offset - offset : piece.offset - offset + piece.length]
                if piece.state == 0:
                    self._put(piece.host, part)
                elif piece.state == HOLLOW:
                    self._fill_sectors(piece.offset, in_memory(part))
                else:
                    self._write_new(piece.state, piece.offset, part)
            self._bound_memory()

    def _put(self, place: int, data: memoryview | FileRange) -> None:
        """Write the disk's bytes at their place in the file."""
        if isinstance(data, FileRange):
            self.file.pwrite_range(place, data)
        else:
            self.file.pwrite(place, data)

    def write_zeroes(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._writable_range(offset, length)
        with self._lock:
            self._start_writing()
            for piece in list(self._pieces(offset, length)):
                if piece.state == 0:
                    self.file.write_zeroes(piece.host, piece.length, unmap=unmap)
                elif piece.state == ABSENT and self.backing is not None:
                    self._zero_absent(piece.offset, piece.length)
                elif piece.state == HOLLOW:
                    self._zero_pieces(piece.offset, piece.length)
            self._bound_memory()

    def _zero_absent(self, offset: int, length: int) -> None:
        """Hide what the backing node has in a range of blocks that aren't in this image."""
        block = self.block_size
        first, stop = -(-offset // block), (offset + length) // block
        if offset + length == self._size:
            stop = -(-self._size // block)
        if not self.can_mark_zero or first >= stop:
            self._zero_pieces(offset, length)
            return
        if offset < first * block:
            self._zero_pieces(offset, first * block - offset)
        self._bind(first, stop - first, ZERO)
        if stop * block < offset + length:
            self._zero_pieces(stop * block, offset + length - stop * block)

    def _zero_pieces(self, offset: int, length: int) -> None:
        step = min(self.block_size, 1 << 20)
        zeroes = memoryview(bytes(min(step, length)))
        for at in range(offset, offset + length, step):
            part = min(step, offset + length - at)
            for piece in list(self._pieces(at, part)):
                if piece.state == 0:
                    self.file.pwrite(piece.host, zeroes[: piece.length])
                elif piece.state == HOLLOW:
                    self._fill_sectors(piece.offset, zeroes[: piece.length])
                else:
                    self._write_new(piece.state, piece.offset, zeroes[: piece.length])

    def discard(self, offset: int, length: int) -> None:
        """Gives the storage of allocated parts back; they read as zeroes from then on."""
        self._writable_range(offset, length)
        with self._lock:
            self._start_writing()
            for piece in list(self._pieces(offset, length)):
                if piece.state == 0:
                    self.file.punch(piece.host, piece.length)

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        length = self._size - offset if length is None else length
        self.in_range_or_raise(offset, length)
        end = offset + length
        claims = Claims(self.file, self.block_size, self.name)
        while offset < end:
            with self._lock:
                pieces = list(islice(self._pieces(offset, end - offset), _BATCH))
            offset = pieces[-1].offset + pieces[-1].length
            for piece in pieces:
                if piece.state == 0:
                    claims.add(piece.host, piece.length)
                    yield from self._data_extents(piece)
                elif piece.state == ZERO:
                    yield Extent(piece.offset, piece.length, ExtentKind.ZERO)
                else:
                    yield from self.backing_extents(piece.offset, piece.length)

    def _data_extents(self, piece: Piece) -> Iterator[Extent]:
        """Stored data, where holes of the file read as zeroes."""
        for part in self.file.extents(piece.host, piece.length):
            kind = ExtentKind.ZERO if part.reads_zero else ExtentKind.DATA
            yield Extent(
                piece.offset + part.offset - piece.host, part.length, kind, 0, part.offset, file=part.file
            )

    def flush(self) -> None:
        if self.read_only:
            return
        with self._lock:
            self._commit()
            if self._unsynced:
                self.file.flush()
                self._unsynced = False

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if not self.read_only:
                    self.flush()
                    if self._touched:
                        self._mark_clean()
            finally:
                self._close_files()

    def _close_files(self) -> None:
        try:
            self.file.close()
        finally:
            if self.backing is not None:
                self.backing.close()

    # For `check.BlockCheck`

    def blocks(self) -> int:
        """How many blocks the disk has."""
        return -(-self._size // self.block_size)

    def block_ranges(self, step: int) -> Iterator[tuple[int, int]]:
        """(first, count) of ranges of at most `step` blocks. Blocks that can't be in the image are left out.
        """
        first, total = 0, self.blocks()
        while first < total:
            first += self._absent(first, total - first)
            count = min(step, total - first)
            if count > 0:
                yield first, count
            first += count

    def _absent(self, first: int, count: int) -> int:
        """How many blocks from one on are known not to be in the image, without looking at each."""
        done = 0
        while done < count:
            empty = self.table.empty_run(self._index(first + done), count - done)
            if not empty and self._decode(self.table.entry(self._index(first + done))) < 0:
                row = min(count - done, self._row(first + done))
                empty = self.table.run(self._index(first + done), row, 0)
                if empty < min(row, _SKIP):
                    break  # not worth a range of its own
            if not empty:
                break
            done += empty
        return done

    def stride(self) -> int:
        """What one block takes in the file, bytes."""
        return self.gap + self.block_size

    def data_start(self) -> int:
        """No block's storage begins before this offset."""
        return self._data_start

    def places(self, first: int, count: int) -> Entries:
        """Where these blocks are, as the table has it: nothing is validated."""
        return self._decode_all(self._raw(first, count))

    def entry_offset(self, block: int) -> int | None:
        """Where the table's entry of a block lies in the file."""
        return None

    def drop(self, first: int, count: int) -> None:
        """Repair entries: these blocks are no more in this image."""
        with self._lock:
            self._start_writing()
            if self.bitmaps is not None:
                for block in range(first, first + count):
                    self.bitmaps.forget(block)
            self._bind(first, count, ABSENT)
            if self.table.dirty_bytes > _DIRTY_LIMIT:
                self._commit_drops()

    def rebind(self, block: int, source: int) -> None:
        """Repair an entry: the block gets its own copy of the data at `source`."""
        with self._lock:
            self._start_writing()
            start = block * self.block_size
            length = min(self.block_size, self._size - start)
            merged = self.pread(start, length) if self.bitmaps is not None else None
            if self.bitmaps is not None:
                self.bitmaps.forget(block)
            self._bind(block, 1, ABSENT)
            for at in range(0, length, _COPY):
                part = min(_COPY, length - at)
                data = merged[at : at + part] if merged is not None else self.file.pread(source + at, part)
                if at:
                    self.pwrite(start + at, data)
                else:
                    self._write_blocks(ZERO, start, memoryview(data))

    # Inside

    def _writable_range(self, offset: int, length: int) -> None:
        self.writable_or_raise()
        self.in_range_or_raise(offset, length)

    def _start_writing(self) -> None:
        if not self._touched:
            self._before_first_write()
            self._touched = True
        self._unsynced = True

    def _place_of(self, block: int) -> int:
        """Where one block is. Raises ImageCorrupt."""
        raw = self.table.entry(self._index(block))
        place = self._decode(raw)
        if place >= 0 and not self._data_start <= place - self.gap < self._limit() - self.gap:
            raise self._misplaced(block, place, raw)
        return place

    def _run(self, first: int, count: int) -> tuple[int, int]:
        """Where a block is, and how many of `count` from it on are in the same state, one behind the other
        if they're stored. Raises ImageCorrupt.
        """
        place = self._place_of(first)
        if count == 1 or (place >= 0 and (self.gap or self.bitmaps is not None)):
            return place, 1
        index = self._index(first)
        step = self.entry_step if place >= 0 else 0
        run = self.table.run(index, min(count, self._row(first)), step)
        if place >= 0 and run > 1:
            last = self.table.entry(index + run - 1)
            end = self._decode(last)
            if end != place + (run - 1) * self.block_size:
                return place, 1  # entries that look like a row and mean something else
            if end >= self._limit():
                inside = -(-(self._limit() - place) // self.block_size)
                raise self._misplaced(
                    first + inside, place + inside * self.block_size, self.table.entry(index + inside)
                )
        return place, run

    def _misplaced(self, block: int, place: int, raw: int) -> ImageCorrupt:
        return ImageCorrupt(
            f"block {block} of the disk lies outside of the image's data, at byte {place}",
            offset=self.entry_offset(block),
            field="block table entry",
            value=raw & 0xFFFFFFFFFFFFFFFF,
            where=self.name,
        )

    def _pieces(self, offset: int, length: int) -> Iterator[Piece]:
        """The range in parts of one state each; data parts are contiguous in the file."""
        block = self.block_size
        end = offset + length
        while offset < end:
            first, within = divmod(offset, block)
            count = -(-end // block) - first
            if count > _SKIP:
                empty = self.table.empty_run(self._index(first), count)
                if empty > _SKIP:
                    stop = min(end, (first + empty) * block)
                    yield Piece(offset, stop - offset, ABSENT, ABSENT)
                    offset = stop
                    continue
            place, run = self._run(first, count)
            count = run
            stop = min(end, (first + count) * block)
            if place < 0:
                yield Piece(offset, stop - offset, place, place)
            elif self.bitmaps is None:
                yield Piece(offset, stop - offset, place + within, 0)
            else:
                yield from self._sector_pieces(first, place, offset, stop - offset)
            offset = stop

    def _sector_pieces(self, block: int, place: int, offset: int, length: int) -> Iterator[Piece]:
        assert self.bitmaps is not None
        start = block * self.block_size
        for begin, end, present in self.bitmaps.runs(block, place, offset - start, length):
            yield Piece(start + begin, end - begin, place + begin, 0 if present else HOLLOW)

    def _fill_sectors(self, offset: int, data: memoryview) -> None:
        """Write to sectors of an allocated block which the backing node has had until now."""
        assert self.bitmaps is not None
        sector = self.bitmaps.sector
        begin = offset - offset % sector
        end = min(-(-(offset + len(data)) // sector) * sector, self._size)
        if begin != offset or end != offset + len(data):
            whole = bytearray(end - begin)
            self.read_backing(begin, memoryview(whole))
            whole[offset - begin : offset - begin + len(data)] = data
            data = memoryview(whole)
        block = begin // self.block_size
        place = self._place_of(block)
        start = begin - block * self.block_size
        self.file.pwrite(place + start, data)
        self.bitmaps.mark(block, place, start // sector, -(-(start + len(data)) // sector))

    def _write_new(self, state: int, offset: int, data: memoryview | FileRange) -> None:
        """Write to blocks (one state throughout) that aren't in the file yet."""
        block = self.block_size
        if self.bitmaps is None and not self.gap:
            self._write_blocks(state, offset, data)
            return
        done = 0
        while done < len(data):
            part = min(len(data) - done, block - (offset + done) % block)
            if self.bitmaps is not None and state == ABSENT:
                self._write_hollow_block(offset + done, in_memory(data[done : done + part]))
            else:
                self._write_blocks(state, offset + done, data[done : done + part])
            done += part

    def _write_blocks(self, state: int, offset: int, data: memoryview | FileRange) -> None:
        """New contiguous blocks that hold all of their sectors."""
        block = self.block_size
        first, stop = offset // block, -(-(offset + len(data)) // block)
        count = stop - first
        start, end = self._space(self.gap + count * block)
        place = start + self.gap
        head = offset - first * block
        tail = stop * block - offset - len(data)
        dirty_from = max(0, self._file_length - start)  # this much of the space may hold old bytes
        before, behind = self._before_block(), self._behind_blocks()
        try:
            for at, length in ((0, head), (head + len(data), tail)):
                if not length:
                    continue
                if state == ABSENT and self.backing is not None:
                    self._fill(place + at, first * block + at, length)
                elif dirty_from > self.gap + at:
                    self.file.write_zeroes(place + at, length)
            if (before or behind) and isinstance(data, memoryview) and not head and not tail:
                self.file.pwrite_vector(start, [before, data, behind])
            else:
                if before:
                    self.file.pwrite(start, before)
                self._put(place + head, data)
                if behind:
                    self.file.pwrite(end, behind)
        except BaseException:
            # Who knows what has been written there?
            self._file_length = max(self._file_length, end + len(behind))
            raise
        self._end = end
        if behind:
            self._file_length = max(self._file_length, end + len(behind))
        if self.bitmaps is not None:
            self.bitmaps.create(first, place, filled=True)
        self._bind(first, count, place)

    def _fill(self, place: int, offset: int, length: int) -> None:
        """Write what the backing node has at `offset` of the disk to `place` in the file."""
        filling = memoryview(bytearray(min(length, _COPY)))
        for at in range(0, length, _COPY):
            part = filling[: min(_COPY, length - at)]
            self.read_backing(offset + at, part)
            self.file.pwrite(place + at, part)

    def _write_hollow_block(self, offset: int, data: memoryview) -> None:
        """A new block that holds only the sectors written; the others are still the backing node's."""
        assert self.bitmaps is not None
        block = offset // self.block_size
        start, end = self._space(self.gap + self.block_size)
        place = start + self.gap
        if self._file_length > start:
            self.file.write_zeroes(start, end - start)
        self._file_length = max(self._file_length, end)
        self._end = end
        self.bitmaps.create(block, place, filled=False)
        self._bind(block, 1, place)
        self._fill_sectors(offset, data)

    def _space(self, length: int) -> tuple[int, int]:
        """Where the next `length` bytes go, and where they end."""
        return self._end, self._end + length

    def _bound_memory(self) -> None:
        waiting = self.table.dirty_bytes + (self.bitmaps.dirty_bytes if self.bitmaps is not None else 0)
        if waiting > _DIRTY_LIMIT:
            self._commit()

    def _commit(self) -> None:
        """Data to the disk, then bitmaps, then the table."""
        if not self.table.dirty_bytes and (self.bitmaps is None or not self.bitmaps.dirty_bytes):
            return
        self._finish_data()
        self.file.flush()
        if self.bitmaps is not None and self.bitmaps.dirty_bytes:
            self.bitmaps.write_back(self.file)
            if self.table.dirty_bytes:
                self.file.flush()
        if self.table.dirty_bytes:
            self._commit_table()
        self._unsynced = True

    def _finish_data(self) -> None:
        """Whatever the end of the file needs before new blocks get known: by default whole blocks."""
        if not self.file.fixed_length and self.file.length() < self._end:
            self.file.resize(self._end)

    def _limit(self) -> int:
        return max(self._end, self._file_length)

    def make_empty(self) -> None:
        """Forgets all blocks."""
        self.writable_or_raise()
        with self._lock:
            self._start_writing()
            self._drop_blocks(0)

    def _drop_blocks(self, first: int) -> None:
        """Forget the blocks from `first` on: in the table first, then, once that's durable, their storage
        too.
        """
        import numpy as np

        self.flush()
        stride, freed = self.stride(), []
        for start, step in self.block_ranges(_LOOKUP):
            at, count = max(first, start), start + step - max(first, start)
            if count <= 0:
                continue
            places = self.places(at, count)
            if (places != ABSENT).any():
                freed.append(places[places >= 0] - self.gap)
                self._bind(at, count, ABSENT)
            if self.bitmaps is not None:
                for block in range(at, at + count):
                    self.bitmaps.forget(block)
            self._bound_memory()
        self._commit()
        self.file.flush()
        starts = np.sort(np.concatenate(freed)) if freed else np.zeros(0, np.int64)
        edges = [0, *(np.flatnonzero(np.diff(starts) != stride) + 1).tolist(), len(starts)]
        for low, high in pairwise(edges):
            if high > low:
                self.file.punch(int(starts[low]), (high - low) * stride)

    def _grow_content(self, old: int, new: int, preallocation: Preallocation) -> None:
        """After a disk has grown: its new bytes must be zero, whatever the last block and the backing node
        hold.
        """
        block = self.block_size
        edge = min(new, -(-old // block) * block)
        below = 0 if self.backing is None else min(new, self.backing.length())
        if edge > old or below > old:
            self.write_zeroes(old, max(edge, below) - old)
        if preallocation != "off":
            self._preallocate(-(-old // block), self.blocks(), preallocation)

    def _preallocate(self, first: int, stop: int, preallocation: Preallocation) -> None:
        """Give blocks that aren't in the image (and zero) their places; "metadata" leaves them holes of the
        file.
        """
        for at in range(first, stop):
            if self._place_of(at) >= 0:
                continue
            start, end = self._space(self.stride())
            if self._file_length > start:
                self.file.write_zeroes(start, end - start)
            if self.gap:
                self.file.pwrite(start, self._before_block())
            if preallocation == "falloc":
                self.file.allocate(start + self.gap, self.block_size)
            elif preallocation == "full":
                zeroes = bytes(min(_COPY, self.block_size))
                for offset in range(0, self.block_size, len(zeroes)):
                    self.file.pwrite(start + self.gap + offset, zeroes)
            self._end = end
            self._bind(at, 1, start + self.gap)
            self._bound_memory()
