"""Refcounts of host clusters and the allocator (docs/interop/qcow2.txt, "Host cluster management").

Changes are made in memory. `write_blocks` and `write_table` put them into the file in the order that
`Core.commit` prescribes. A cluster that was unlinked is only *deferred*: it keeps its refcount until
`apply_deferred`, which the commit calls when the unlinking is durable; before that nobody can get it.

Whole-image operations (snapshots) run in *shadow* mode: blocks that change move to new clusters, and one
write of the header switches to the new table. Until then the file holds the old state untouched.
"""

from __future__ import annotations

import heapq
import sys
from array import array
from collections.abc import Iterator
from typing import Union

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.qcow2.guard import Guard
from runtime.block.format.qcow2.header import MAX_REFTABLE_BYTES, Header
from runtime.block.node import ProtocolNode

_LITTLE = sys.byteorder == "little"
_CODES = {3: "B", 4: "H", 5: "I", 6: "Q"}
CACHE_BYTES = 16 << 20


def swapped(data: array[int]) -> bytes:
    """The items as big-endian bytes."""
    if _LITTLE and data.itemsize > 1:
        data = data[:]
        data.byteswap()
    return data.tobytes()


class Packed:
    """Refcounts of 1, 2 or 4 bits in bytes, low bits first."""

    def __init__(self, data: bytes | bytearray, order: int) -> None:
        self.data = bytearray(data)
        self._order = order
        self._mask = (1 << (1 << order)) - 1
        self._shift = 3 - order

    def __len__(self) -> int:
        return len(self.data) << self._shift

    def __getitem__(self, index: int) -> int:
        return self.data[index >> self._shift] >> ((index << self._order) & 7) & self._mask

    def __setitem__(self, index: int, value: int) -> None:
        shift = (index << self._order) & 7
        at = index >> self._shift
        self.data[at] = self.data[at] & ~(self._mask << shift) & 0xFF | value << shift


Counts = Union["array[int]", Packed]


def decode_counts(data: bytes, order: int) -> Counts:
    """A refcount block's values from its bytes."""
    if order < 3:
        return Packed(data, order)
    values = array(_CODES[order])
    values.frombytes(data)
    if _LITTLE and order > 3:
        values.byteswap()
    return values


def encode_counts(values: Counts) -> bytes:
    return bytes(values.data) if isinstance(values, Packed) else swapped(values)


class Block:
    """One refcount block: `values[i]` is the refcount of the i-th cluster that it describes."""

    __slots__ = ("dirty", "offset", "values")

    def __init__(self, offset: int, values: Counts, dirty: bool = False) -> None:
        self.offset = offset
        self.values = values
        self.dirty = dirty


def free_runs(values: Counts, base: int) -> Iterator[tuple[int, int]]:
    """The runs (cluster, count) of refcount 0; `base` is the first cluster's number."""
    size = len(values)
    if isinstance(values, Packed):
        used = len(values.data.rstrip(b"\0")) * (size // len(values.data))
    else:
        if values.count(0) == 0:
            return
        used = -(-len(values.tobytes().rstrip(b"\0")) // values.itemsize)
    start = -1
    for index in range(used):
        if values[index] == 0:
            if start < 0:
                start = index
        elif start >= 0:
            yield base + start, index - start
            start = -1
    if start < 0:
        start = used
    if start < size:
        yield base + start, size - start


class Refcounts:
    """The refcount table, its cached blocks, free clusters and deferred frees of one image."""

    def __init__(self, file: ProtocolNode, header: Header) -> None:
        self.file = file
        self.header = header
        self.cluster_size = header.cluster_size
        self.cluster_bits = header.cluster_bits
        self.order = header.refcount_order
        self.max = (1 << (1 << self.order)) - 1
        self.per_block = (self.cluster_size * 8) >> self.order
        self.table: array[int] = array("Q")
        self.table_dirty = False  # entries of the table changed since it was written
        self.table_moved = False  # the table lies at a new place that the file's header doesn't know
        self.blocks: dict[int, Block] = {}
        self.cache_blocks = max(4, CACHE_BYTES // self.cluster_size)
        self.deferred: list[tuple[int, int, bool]] = []
        self.reserved: list[tuple[int, int]] = []  # (cluster, count) that may not be given out
        self.guard = Guard(header.cluster_bits)
        self._heap: list[tuple[int, int]] = []
        self._tail = (0, 0)
        self._scan = 0
        self._shadow: set[int] | None = None

    def load(self) -> None:
        """Read the table that the header names."""
        header = self.header
        count = (header.refcount_table_clusters << header.cluster_bits) // 8
        self.table = array("Q", bytes(8)) * count
        if count:
            self.file.read_into(header.refcount_table_offset, memoryview(self.table).cast("B"))
            if _LITTLE:
                self.table.byteswap()
        self.table_dirty = self.table_moved = False
        self.forget()

    def forget(self) -> None:
        """Drop all that is cached and not written, and look for free clusters anew."""
        self.blocks.clear()
        self.deferred.clear()
        self._shadow = None
        self.rescan()

    # --- blocks ---

    def _corrupt(self, what: str, index: int, value: int) -> ImageCorrupt:
        return ImageCorrupt(
            what,
            offset=self.header.refcount_table_offset + index * 8,
            field=f"refcount table entry {index}",
            value=value,
            where=self.file.name,
            remedy="run `isagen image check --repair all`",
        )

    def block(self, index: int) -> Block | None:
        """Block number `index`; None if there is none."""
        block = self.blocks.get(index)
        if block is not None:
            return block
        if index >= len(self.table):
            return None
        offset = self.table[index]
        if offset == 0:
            return None
        if offset & (self.cluster_size - 1):
            raise self._corrupt("a refcount block isn't at a cluster", index, offset)
        if offset >= self.file.length():
            raise self._corrupt("a refcount block isn't inside of the file", index, offset)
        self._make_room()
        block = Block(offset, decode_counts(self.file.pread(offset, self.cluster_size), self.order))
        self.blocks[index] = block
        return block

    def _make_room(self) -> None:
        if len(self.blocks) < self.cache_blocks:
            return
        if self._shadow is not None:
            self.write_blocks()  # nothing points at them yet
        clean = [index for index, block in self.blocks.items() if not block.dirty]
        for index in clean[: max(1, len(clean) // 2)]:
            del self.blocks[index]

    @property
    def pressed(self) -> bool:
        """True when so much is dirty that the node should commit."""
        return len(self.blocks) > self.cache_blocks or len(self.deferred) > 65536

    def _changing(self, index: int) -> Block:
        """Block number `index`, about to be changed."""
        block = self.block(index)
        if block is None:
            self._new_block(index)
        if self._shadow is not None and index not in self._shadow:
            cluster = self._take_raw()
            if index in self._shadow:  # taking one moved it already
                heapq.heappush(self._heap, (cluster, 1))
            else:
                self._shadow.add(index)
                block = self.block(index)
                assert block is not None
                self.defer(block.offset >> self.cluster_bits, 1)
                block.offset = self.table[index] = cluster << self.cluster_bits
                block.dirty = self.table_dirty = True
                self._set(cluster, 1)
        block = self.block(index)
        assert block is not None
        block.dirty = True
        return block

    def _set(self, cluster: int, value: int) -> None:
        index, inside = divmod(cluster, self.per_block)
        self._changing(index).values[inside] = value

    def get(self, cluster: int) -> int:
        """The refcount of a host cluster."""
        index, inside = divmod(cluster, self.per_block)
        block = self.block(index)
        return 0 if block is None else block.values[inside]

    def add(self, cluster: int, count: int, delta: int) -> None:
        """Change the refcounts of `count` clusters. Raises ImageUnsupported if one would exceed its width."""
        while count > 0:
            index, inside = divmod(cluster, self.per_block)
            part = min(count, self.per_block - inside)
            values = self._changing(index).values
            for at in range(inside, inside + part):
                value = values[at] + delta
                if value > self.max:
                    raise ImageUnsupported(
                        f"a refcount would exceed {self.max}, the most that {1 << self.order} bits hold",
                        where=self.file.name,
                        remedy="widen the refcounts: `isagen image amend -o refcount_bits=16`",
                    )
                values[at] = max(0, value)
            cluster += part
            count -= part

    # --- allocation ---

    def _usable(self, start: int, count: int) -> Iterator[tuple[int, int]]:
        """What of a run isn't reserved."""
        for low, size in self.reserved:
            if low < start + count and start < low + size:
                if low > start:
                    yield from self._usable(start, low - start)
                if low + size < start + count:
                    yield from self._usable(low + size, start + count - low - size)
                return
        yield start, count

    def _scan_block(self) -> bool:
        """Look for free clusters in the next block, made if need be. False if the table has no more."""
        index = self._scan
        if index >= len(self.table):
            return False
        block = self.block(index)
        if block is None:
            self._new_block(index)
        else:
            self._found_block(index, block.values)
        return True

    def _found_block(self, index: int, values: Counts) -> None:
        self._scan = index + 1
        for run in list(free_runs(values, index * self.per_block)):
            for start, count in self._usable(*run):
                tail_start, tail_count = self._tail
                if tail_count and tail_start + tail_count == start:
                    self._tail = (tail_start, tail_count + count)
                    continue
                if tail_count:
                    heapq.heappush(self._heap, self._tail)
                self._tail = (start, count)

    def _empty_counts(self) -> Counts:
        return decode_counts(bytes(self.cluster_size), self.order)

    def _new_block(self, index: int) -> None:
        """Make the refcount block number `index`, which isn't there yet."""
        while index >= len(self.table):
            self._grow_table(index + 1)
        if self.table[index]:
            return
        base = index * self.per_block
        cluster = self._take_known()
        if cluster is None:
            cluster = next(self._usable(base, self.per_block))[0]
        self._guarded(cluster, 1)
        self._make_room()
        self.blocks[index] = Block(cluster << self.cluster_bits, self._empty_counts(), dirty=True)
        self.table[index] = cluster << self.cluster_bits
        self.table_dirty = True
        if self._shadow is not None:
            self._shadow.add(index)
        self._set(cluster, 1)
        if index == self._scan:
            block = self.block(index)
            assert block is not None
            self._found_block(index, block.values)

    def _take_known(self) -> int | None:
        """The lowest cluster that is known to be free, without raising its refcount."""
        if self._heap:
            start, count = heapq.heappop(self._heap)
            if count > 1:
                heapq.heappush(self._heap, (start + 1, count - 1))
            return start
        start, count = self._tail
        if count:
            self._tail = (start + 1, count - 1)
            return start
        return None

    def _take_raw(self) -> int:
        while True:
            cluster = self._take_known()
            if cluster is not None:
                return cluster
            if not self._scan_block():
                self._grow_table(len(self.table) + 1)

    def allocate(self, count: int, *, exact: bool = False) -> tuple[int, int]:
        """Up to `count` consecutive free clusters, refcount 1 from now on: (first, how many).

        `exact`: all of them or an error. Raises ImageUnsupported when the table can't grow, ImageCorrupt when
        a cluster of refcount 0 turns out to hold metadata.
        """
        while True:
            found = self._find(count, exact)
            if found is not None:
                break
            if not self._scan_block():
                self._grow_table(len(self.table) + 1)
        start, got = found
        self._guarded(start, got)
        self.add(start, got, 1)
        return start, got

    def _find(self, count: int, exact: bool) -> tuple[int, int] | None:
        kept: list[tuple[int, int]] = []
        found: tuple[int, int] | None = None
        while self._heap and found is None:
            start, size = heapq.heappop(self._heap)
            if not exact or size >= count:
                got = min(size, count)
                found = (start, got)
                start, size = start + got, size - got
            if size:
                kept.append((start, size))
        for item in kept:
            heapq.heappush(self._heap, item)
        start, size = self._tail
        if found is None and size and (not exact or size >= count):
            got = min(size, count)
            self._tail = (start + got, size - got)
            found = (start, got)
        return found

    def _guarded(self, start: int, count: int) -> None:
        if self.guard.overlaps(start << self.cluster_bits, count << self.cluster_bits):
            raise ImageCorrupt(
                "a cluster that holds metadata has refcount 0",
                offset=start << self.cluster_bits,
                field="refcount",
                value=0,
                where=self.file.name,
                remedy="run `isagen image check --repair all`",
            )

    def release(self, start: int, count: int) -> None:
        """Give back what was allocated and never linked."""
        self.add(start, count, -1)
        heapq.heappush(self._heap, (start, count))

    def defer(self, cluster: int, count: int, *, punch: bool = False) -> None:
        """Lower the refcounts by one once the unlinking, which is about to be written, is durable."""
        if self.deferred:
            start, size, same = self.deferred[-1]
            if start + size == cluster and same == punch:
                self.deferred[-1] = (start, size + count, punch)
                return
        self.deferred.append((cluster, count, punch))

    def apply_deferred(self) -> list[tuple[int, int]]:
        """Lower the refcounts of what was deferred. Gives the runs to punch, which are free by now."""
        deferred, self.deferred = self.deferred, []
        punched: list[tuple[int, int]] = []
        for start, count, punch in deferred:
            run = -1
            for cluster in range(start, start + count):
                value = self.get(cluster)
                if value:
                    self._set(cluster, value - 1)
                if value == 1:
                    if run < 0:
                        run = cluster
                elif run >= 0:
                    self._freed(run, cluster - run, punch, punched)
                    run = -1
            if run >= 0:
                self._freed(run, start + count - run, punch, punched)
        return punched

    def _freed(self, start: int, count: int, punch: bool, punched: list[tuple[int, int]]) -> None:
        self.guard.forget(start, count)
        # The scan finds those of blocks that it hasn't looked at; no run may be known twice.
        known = min(start + count, self._scan * self.per_block)
        if start < known:
            for run in self._usable(start, known - start):
                heapq.heappush(self._heap, run)
        if punch:
            punched.append((start, count))

    # --- the table ---

    def _grow_table(self, entries: int) -> None:
        """Move the table to the end of what it describes, with room for at least `entries`."""
        per_cluster = self.cluster_size // 8
        old_entries = len(self.table)
        old_offset, old_clusters = self.header.refcount_table_offset, self.header.refcount_table_clusters
        clusters = -(-max(entries, old_entries + old_entries // 2) // per_cluster)
        limit = MAX_REFTABLE_BYTES >> self.cluster_bits
        clusters = min(clusters, limit)
        blocks = 1
        while True:
            if clusters + blocks > blocks * self.per_block:
                blocks += 1
            elif old_entries + blocks > clusters * per_cluster:
                clusters += 1
            else:
                break
        if clusters > limit or entries > clusters * per_cluster:
            raise ImageUnsupported(
                "the refcount table can't grow: the file is as large as its cluster size allows",
                where=self.file.name,
                remedy="convert the image to larger clusters",
            )
        self.table.extend(array("Q", bytes(8)) * (clusters * per_cluster - old_entries))
        base = old_entries * self.per_block
        for number in range(blocks):
            index = old_entries + number
            self.blocks[index] = Block((base + number) << self.cluster_bits, self._empty_counts(), dirty=True)
            self.table[index] = (base + number) << self.cluster_bits
            if self._shadow is not None:
                self._shadow.add(index)
        for cluster in range(base, base + blocks + clusters):
            index, inside = divmod(cluster, self.per_block)
            self.blocks[index].values[inside] = 1
        self.header.refcount_table_offset = (base + blocks) << self.cluster_bits
        self.header.refcount_table_clusters = clusters
        self.table_dirty = self.table_moved = True
        if old_clusters:
            self.defer(old_offset >> self.cluster_bits, old_clusters)

    @property
    def dirty(self) -> bool:
        return self.table_dirty or any(block.dirty for block in self.blocks.values())

    def write_blocks(self) -> None:
        """Write all changed blocks."""
        for _, block in sorted(self.blocks.items()):
            if block.dirty:
                self.file.pwrite(block.offset, encode_counts(block.values))
                block.dirty = False

    def write_table(self) -> None:
        """Write the table where `header` says it is (the caller writes the header if it moved)."""
        self.file.pwrite(self.header.refcount_table_offset, swapped(self.table))
        self.table_dirty = False

    # --- shadow mode ---

    def begin_shadow(self) -> None:
        """From now on changed blocks move. Everything must have been committed.

        Refcounts may fall at once: what is free by then is looked for now, and what becomes free isn't given
        out before the switch.
        """
        assert not self.dirty and not self.deferred
        while self._scan < len(self.table) and self.table[self._scan]:
            self._scan_block()
        self._shadow = set()

    def finish_shadow(self) -> None:
        """Write the new blocks and a new table; `header` says where, for the caller to write."""
        if not self.table_moved:
            old = self.header.refcount_table_offset >> self.cluster_bits
            count = self.header.refcount_table_clusters
            start, _ = self.allocate(count, exact=True)
            if self.table_moved:  # allocating made it grow, so it lies at a new place already
                self.add(start, count, -1)
            else:
                self.header.refcount_table_offset = start << self.cluster_bits
                self.table_moved = True
                self.defer(old, count)
        while self.deferred:  # lowering them may move further blocks
            self.add(*self.deferred.pop()[:2], -1)
        self.write_blocks()
        self.write_table()
        self._shadow = None

    def rescan(self) -> None:
        """Look for free clusters anew."""
        self._heap.clear()
        self._tail = (0, 0)
        self._scan = 0
