"""Checking and mending QCOW2 images.

Every reference to a host cluster is counted: header, tables, snapshots, bitmaps, data. Refcounts above the
count are leaks, below it corruptions. Repairs raise and lower refcounts, set COPIED flags right, unlink
entries that lead nowhere, and write the whole refcount structure anew where it can't be used.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from itertools import chain, groupby
from typing import TYPE_CHECKING

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.crowding import LONG, crowded
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.core import Core
from runtime.block.format.qcow2.header import COMPRESSED, COPIED, OFFSET_MASK, ZERO, Incompatible
from runtime.block.format.qcow2.refcounts import Packed, decode_counts, encode_counts, swapped
from runtime.block.format.qcow2.tables import read_table
from runtime.block.report import CheckReport, CheckStopped, Problem

if TYPE_CHECKING:
    from runtime.block.format.qcow2.clusters import ClusterSet
    from runtime.block.node import Repair

_PAGE_BITS = 16
_PAGE = 1 << _PAGE_BITS
_MANY = 255
_TOLD = 1000
_FULL = 0xFFFF_FFFF  # all subclusters
_L1_RESERVED = 0x7F00_0000_0000_01FF
_L2_RESERVED = 0x3F00_0000_0000_01FE
_L2_RESERVED_EXTENDED = 0x3F00_0000_0000_01FF


def _ceil(value: int, unit: int) -> int:
    return -(-value // unit)


def _as_stored(counts: bytes | None, values: array[int] | Packed) -> bytes | None:
    """Counts, a byte each, as `values` holds them in memory; None if they don't fit."""
    if counts is None:
        return None
    if isinstance(values, Packed):
        width = 8 * len(values.data) // len(values)
        if max(counts) >= 1 << width:
            return None
        step = 8 // width
        together = 0
        for at in range(step):
            together |= int.from_bytes(counts[at::step], "little") << at * width
        return together.to_bytes(len(counts) // step, "little")
    wide = bytearray(len(counts) * values.itemsize)
    wide[0 if sys.byteorder == "little" else values.itemsize - 1 :: values.itemsize] = counts
    return bytes(wide)


def run_ends(items: array[int], size: int, *, fast: bool) -> Iterator[int]:
    """Where runs of entries end that follow each other in steps of `size`, in ascending order."""
    if fast:
        import numpy

        numbers = numpy.frombuffer(items, dtype=numpy.uint64)
        cuts = numpy.flatnonzero(numbers[1:] != numbers[:-1] + numpy.uint64(size)) + 1
        yield from cuts.tolist()
    else:
        expected = items[0]
        for index, entry in enumerate(items):
            if entry != expected:
                yield index
            expected = entry + size
    yield len(items)


class Counter:
    """How often each host cluster is referred to: a byte each, and a dictionary for the rare high numbers."""

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.many: dict[int, int] = {}
        self._plus: dict[int, bytes] = {}

    def add(self, cluster: int, count: int, times: int = 1) -> None:
        while count > 0:
            number, inside = cluster >> _PAGE_BITS, cluster & (_PAGE - 1)
            part = min(count, _PAGE - inside)
            page = self.pages.get(number)
            if page is None:
                page = self.pages[number] = bytearray(_PAGE)
            old = page[inside : inside + part]
            if times < 128 and ((part == 1 and old[0] < 128) or max(old) < 128):
                table = self._plus.get(times)
                if table is None:
                    table = self._plus[times] = bytes(min(value + times, _MANY) for value in range(256))
                page[inside : inside + part] = old.translate(table)
            else:
                for at in range(part):
                    self._set(cluster + at, self.get(cluster + at) + times)
            cluster += part
            count -= part

    def _set(self, cluster: int, value: int) -> None:
        page = self.pages.setdefault(cluster >> _PAGE_BITS, bytearray(_PAGE))
        page[cluster & (_PAGE - 1)] = min(value, _MANY)
        if value >= _MANY:
            self.many[cluster] = value
        else:
            self.many.pop(cluster, None)

    def get(self, cluster: int) -> int:
        page = self.pages.get(cluster >> _PAGE_BITS)
        value = 0 if page is None else page[cluster & (_PAGE - 1)]
        return self.many[cluster] if value == _MANY else value

    def small(self, first: int, count: int) -> bytes | None:
        """The counts of consecutive clusters of one page, a byte each; None if some are too high for that."""
        page = self.pages.get(first >> _PAGE_BITS)
        if page is None:
            return bytes(count)
        inside = first & (_PAGE - 1)
        piece = bytes(page[inside : inside + count])
        return None if _MANY in piece or len(piece) < count else piece

    def window(self, first: int, count: int) -> array[int]:
        """The counts of consecutive clusters."""
        result = array("Q")
        while count > 0:
            inside = first & (_PAGE - 1)
            part = min(count, _PAGE - inside)
            page = self.pages.get(first >> _PAGE_BITS)
            if page is None:
                result.extend(array("Q", bytes(8)) * part)
            else:
                piece = page[inside : inside + part]
                result.extend(piece)
                if _MANY in piece:
                    for at, value in enumerate(piece):
                        if value == _MANY:
                            result[len(result) - part + at] = self.many[first + at]
            first += part
            count -= part
        return result

    def empty(self, first: int, count: int) -> bool:
        """Whether no cluster of the range is referred to."""
        last = first + count - 1
        for number in range(first >> _PAGE_BITS, (last >> _PAGE_BITS) + 1):
            page = self.pages.get(number)
            if page is not None:
                base = number << _PAGE_BITS
                if any(page[max(0, first - base) : last - base + 1]):
                    return False
        return True

    def most(self) -> int:
        """The highest count."""
        return max([0, *self.many.values(), *(max(page) for page in self.pages.values())])

    def end(self) -> int:
        """Behind the last cluster that is referred to."""
        for number in sorted(self.pages, reverse=True):
            used = len(self.pages[number].rstrip(b"\0"))
            if used:
                return (number << _PAGE_BITS) + used
        return 0


class Checker:
    """One check of an image whose caches are written."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.header = core.header
        self.file = core.file
        self.size = core.header.cluster_size
        self.bits = core.header.cluster_bits
        self.file_end = -(-core.file.length() // self.size)  # clusters
        self.counter = Counter()
        self.report = CheckReport(filename=core.name, format="qcow2")
        self.rebuild = False
        self.repair: Repair | None = None
        self._mended = False  # entries of the L2 table at hand were mended
        self._large = len(core.tables.l1) >= 64  # worth loading numpy for
        self._data: ClusterSet | None = None  # filled if it's there

    def run(self, repair: Repair | None) -> CheckReport:
        """Check, mend what `repair` says, and tell."""
        self.repair = repair
        self.report.stops = repair is None
        try:
            return self._run(repair)
        except CheckStopped:
            return self.report

    def _run(self, repair: Repair | None) -> CheckReport:
        core, report = self.core, self.report
        self._load_refcounts()
        if core.checksums is not None:
            from runtime.block.format.qcow2.clusters import ClusterSet

            self._data = ClusterSet()
        try:
            self._count_all()
        except ImageCorrupt as error:
            report.note("error", str(error), offset=error.offset)
            return report
        self._check_own_clusters()
        report.total_clusters = -(-self.header.size // self.size)
        report.image_end_offset = self.counter.end() << self.bits
        missing = self._missing_blocks() if not self.rebuild else []
        self._report_missing(missing)
        if (self.rebuild or missing) and repair == "all":
            self.write_refcounts(self.header.refcount_order)
            core.refcounts.load()
        else:
            self._compare()
        if repair == "all":
            # Refcounts first: a flag without its refcount would let two users write one cluster.
            core.refcounts.write_blocks()
            self.file.flush()
        self._walk_copied(repair == "all")
        if core.checksums is not None and self._data is not None:
            core.checksums.check(report, self._data)
        if repair:
            self._finish_repair()
        return report

    # --- counting ---

    def _many(self, kind: str, fixed: bool) -> bool:
        """Whether enough problems were told: then this one is only counted."""
        if len(self.report.problems) < _TOLD:
            return False
        self.report.note(kind, "", fixed=fixed)
        return True

    def _bad(self, text: str, offset: int | None = None, *, fixed: bool = False) -> None:
        self.report.note("corruption", text, offset=offset, fixed=fixed)

    def _load_refcounts(self) -> None:
        header, refcounts = self.header, self.core.refcounts
        end = header.refcount_table_offset + (header.refcount_table_clusters << self.bits)
        if (
            not header.refcount_table_clusters
            or not header.refcount_table_offset
            or end > self.file_end << self.bits
        ):
            self._bad("the refcount table isn't there", 48, fixed=self.repair == "all")
            self.rebuild = True
            refcounts.table = array("Q")
            refcounts.forget()
            return
        refcounts.load()
        if len(refcounts.table) > LONG and crowded((refcounts.table,), self.file_end):
            self._bad(
                "the refcount table leads to more blocks than the file has", 48, fixed=self.repair == "all"
            )
            self.rebuild = True
            refcounts.table = array("Q")
            refcounts.forget()

    def _count(self, offset: int, length: int, what: str, times: int = 1) -> bool:
        """Count a reference to the clusters of these bytes. False, and a corruption, if they aren't there."""
        first = offset >> self.bits
        end = (offset + length - 1 >> self.bits) + 1
        if end > self.file_end:
            return False
        self.counter.add(first, end - first, times)
        return True

    def _count_all(self) -> None:
        header, core = self.header, self.core
        self.counter.add(0, 1)
        if header.refcount_table_clusters and not self.rebuild:
            self.counter.add(header.refcount_table_offset >> self.bits, header.refcount_table_clusters)
            index = 0
            for entry, same in groupby(core.refcounts.table):
                times = sum(1 for _ in same)
                if entry:
                    self._count_blocks(index, entry, times)
                index += times
        if header.l1_size:
            self._count_l1(core.tables.l1, header.l1_table_offset, active=True)
        if header.nb_snapshots:
            self._count_snapshots()
        for offset, length, what in self._other_ranges():
            if not self._count(offset, length, what):
                self._bad(f"{what} isn't inside of the file", offset)

    def _count_blocks(self, first: int, entry: int, times: int) -> None:
        """The refcount block of `times` equal entries from the `first` on."""
        if entry & (self.size - 1) or entry >> self.bits >= self.file_end:
            self.rebuild = True
            for index in range(first, first + times):
                self.core.refcounts.table[index] = 0
                self._bad(
                    f"refcount block {index} isn't at a cluster of the file: {entry:#x}",
                    self.header.refcount_table_offset + index * 8,
                    fixed=self.repair == "all",
                )
            return
        self.counter.add(entry >> self.bits, 1, times)

    def _check_own_clusters(self) -> None:
        """Refcounts that share a cluster with anything else can't be mended where they are."""
        if self.rebuild:
            return
        header, table = self.header, self.core.refcounts.table
        first = header.refcount_table_offset >> self.bits
        own = chain(
            ((first + number, -1) for number in range(header.refcount_table_clusters)),
            ((entry >> self.bits, index) for index, entry in enumerate(table) if entry),
        )
        for cluster, index in own:
            if self.counter.get(cluster) > 1:
                what = "the refcount table" if index < 0 else f"refcount block {index}"
                self._bad(f"{what} shares its cluster", cluster << self.bits, fixed=self.repair == "all")
                self.rebuild = True

    def _other_ranges(self) -> Iterator[tuple[int, int, str]]:
        header, core = self.header, self.core
        pointer = header.extension(h.EXT_CRYPTO)
        if header.crypt_method == h.CRYPT_LUKS and pointer is not None and len(pointer) >= 16:
            offset, length = int.from_bytes(pointer[:8], "big"), int.from_bytes(pointer[8:16], "big")
            yield offset, length, "the encryption header"
        if header.autoclear & h.BITMAPS and header.extension(h.EXT_BITMAPS) is not None:
            try:
                yield from core.bitmap_directory.ranges()
            except ImageCorrupt as error:
                self._bad(str(error), error.offset)

    def _count_snapshots(self) -> None:
        header, core = self.header, self.core
        core.snapshot_table.load()
        self._count(header.snapshots_offset, core.snapshot_table.size, "the snapshot table")
        done: dict[tuple[int, int], int] = {}
        for item in core.snapshot_table.items:
            key = (item.l1_offset, item.l1_size)
            done[key] = done.get(key, 0) + 1
        for (offset, entries), times in done.items():
            if entries:
                self._count_l1(read_table(self.file, offset, entries), offset, times=times)

    def _count_l1(self, l1: array[int], offset: int, *, active: bool = False, times: int = 1) -> None:
        self._count(offset, len(l1) * 8, "an L1 table", times)
        uses: dict[int, int] = {}
        for index, entry in enumerate(l1):
            if not entry:
                continue
            place = entry & OFFSET_MASK
            if (
                entry & _L1_RESERVED
                or place & (self.size - 1)
                or place >> self.bits >= self.file_end
                or not place
            ):
                self._bad_l1(l1, index, offset, active)
                continue
            uses[place] = uses.get(place, 0) + 1
        stored = 0
        for place, often in uses.items():
            self.counter.add(place >> self.bits, 1, often * times)
            stored += self._count_l2(place, often * times, active) * often
            if stored > self.file_end and not self.core.external:
                self._crowded(offset)

    def _crowded(self, offset: int) -> None:
        """One disk has more clusters than the file: most are shared. To tell of each would take too long."""
        what = f"the tables below lead to more data clusters than the file's {self.file_end}"
        if self.repair:
            remedy = "the data that it holds can only be guessed: restore the image from a copy"
            raise ImageCorrupt(what, offset=offset, field="L1 table", where=self.core.name, remedy=remedy)
        self._bad(what, offset)
        self.report.problems.append(Problem("corruption", "the rest wasn't checked"))
        raise CheckStopped(self.report)

    def _bad_l1(self, l1: array[int], index: int, offset: int, active: bool) -> None:
        fix = self.repair == "all"
        self._bad(f"L1 entry {index} is wrong: {l1[index]:#x}", offset + index * 8, fixed=fix)
        if fix:
            l1[index] = 0
            self.file.pwrite(offset + index * 8, bytes(8))

    def _count_l2(self, place: int, times: int, active: bool) -> int:
        """Count what an L2 table refers to; gives how many plain clusters that are."""
        core = self.core
        mapping, counter = core.mapping, self.counter
        size, bits = self.size, self.bits
        entries = read_table(self.file, place, size // 8)
        report = self.report
        allocated = compressed = fragmented = plain = 0
        last_end = 0  # of the data so far; gaps are counted within each table, as QEMU does
        items: array[int] = entries[::2] if mapping.extended else entries
        reserved = _L2_RESERVED_EXTENDED if mapping.extended else _L2_RESERVED
        index, total, stop = 0, len(items), 0
        # Subclusters have bitmaps to be looked at one by one.
        ends = iter(range(1, total + 1)) if mapping.extended else run_ends(items, size, fast=self._large)
        while index < total:
            entry = items[index]
            if mapping.extended and self._wrong_bitmap(entry, entries[2 * index + 1]):
                self._bad_l2(entries, place, index, "one with a wrong bitmap")
                index += 1
                continue
            if entry == 0:
                index += 1
                if not mapping.extended:  # skip a run of nothing at a time
                    while not any(items[index : index + 64]) and index < total:
                        index += 64
                continue
            if entry & COMPRESSED:
                first, count = mapping.packed_clusters(entry & (COMPRESSED - 1))
                if entry & COPIED or core.external or first + count > self.file_end or first == 0:
                    self._bad_l2(entries, place, index, "a wrong compressed cluster")
                else:
                    counter.add(first, count, times)
                    if self._data is not None:
                        self._data.add(first, count)
                    compressed += 1
                    allocated += 1
                    fragmented += 1
                index += 1
                continue
            host = entry & OFFSET_MASK
            if entry & reserved or host & (size - 1):
                self._bad_l2(entries, place, index, "a wrong entry")
                index += 1
                continue
            if not host or core.external:
                if host or (core.external and entry & COPIED):
                    allocated += 1
                    fragmented += bool(last_end) and last_end != host
                    last_end = host + size
                index += 1
                continue
            # A run of clusters that follow each other in the file.
            while stop <= index:
                stop = next(ends)
            if (host >> bits) + (stop - index) > self.file_end:
                self._bad_l2(entries, place, index, "a cluster behind the file's end")
                index += 1
                continue
            counter.add(host >> bits, stop - index, times)
            plain += stop - index
            if self._data is not None and not entry & ZERO:
                self._data.add(host >> bits, stop - index)
            if not entry & ZERO:
                allocated += stop - index
                if last_end and last_end != host:
                    fragmented += 1
                last_end = host + (stop - index) * size
            index = stop
        if self._mended:
            self._mended = False
            self.file.pwrite(place, swapped(entries))
        if active:
            report.allocated_clusters = (report.allocated_clusters or 0) + allocated
            report.compressed_clusters = (report.compressed_clusters or 0) + compressed
            report.fragmented_clusters = (report.fragmented_clusters or 0) + fragmented
        return plain

    def _wrong_bitmap(self, entry: int, bitmap: int) -> bool:
        """Whether subclusters are both allocated and zero, or are said to be where none can be."""
        allocated = bitmap & _FULL
        if entry & COMPRESSED:
            return bitmap != 0
        present = entry & OFFSET_MASK or (self.core.external and entry & COPIED)
        return bool(allocated & bitmap >> 32 or (allocated and not present))

    def _bad_l2(self, entries: array[int], place: int, index: int, what: str) -> None:
        """An entry that can't be: its data is lost. Repaired, it reads as zeroes."""
        fix = self.repair == "all"
        width = 2 if self.core.mapping.extended else 1
        offset = place + index * width * 8
        if not self._many("corruption", fix):
            entry = entries[index * width]
            text = f"L2 entry {index} of the table at {place:#x} is {what}: {entry:#x}"
            self._bad(text, offset, fixed=fix)
        if not fix:
            return
        if width == 2:
            entries[2 * index : 2 * index + 2] = array("Q", [0, _FULL << 32])
        else:
            entries[index] = ZERO if self.header.version >= 3 else 0
        self._mended = True

    # --- comparing ---

    def _missing_blocks(self) -> list[int]:
        """Refcount blocks that aren't there, though clusters that they would describe are referred to."""
        refcounts = self.core.refcounts
        per_block = refcounts.per_block
        missing = set()
        for number, page in self.counter.pages.items():
            base = number << _PAGE_BITS
            for index in range(base // per_block, (base + _PAGE - 1) // per_block + 1):
                there = index < len(refcounts.table) and refcounts.table[index]
                low = max(0, index * per_block - base)
                if not there and any(page[low : (index + 1) * per_block - base]):
                    missing.add(index)
        return sorted(missing)

    def _compare(self) -> None:
        refcounts = self.core.refcounts
        for index in range(len(refcounts.table)):
            if refcounts.table[index]:
                block = refcounts.block(index)
                assert block is not None
                self._compare_block(index, block.values)

    def _report_missing(self, missing: list[int]) -> None:
        per_block = self.core.refcounts.per_block
        for index in missing:
            for at, count in enumerate(self.counter.window(index * per_block, per_block)):
                if count:
                    cluster = index * per_block + at
                    text = f"cluster {cluster} has no refcount and {count} references"
                    self._bad(text, cluster << self.bits, fixed=self.repair == "all")

    def _compare_block(self, index: int, values: array[int] | Packed) -> None:
        base = index * len(values)
        stored = values.data if isinstance(values, Packed) else values.tobytes()
        # By pieces, so that wide blocks of narrow refcounts don't take much memory.
        for start in range(0, len(values), _PAGE):
            count = min(_PAGE, len(values) - start)
            expected = _as_stored(self.counter.small(base + start, count), values)
            low = start * len(stored) // len(values)
            if expected is not None and expected == stored[low : low + len(expected)]:
                continue
            counts = self.counter.window(base + start, count)
            for at in range(count):
                if values[start + at] != counts[at]:
                    self._mismatch(base + start + at, values[start + at], counts[at])

    def _mismatch(self, cluster: int, stored: int, counted: int) -> None:
        leak = stored > counted
        fix = self.repair == "all" or (leak and self.repair == "leaks")
        if fix:
            try:
                self.core.refcounts.add(cluster, 1, counted - stored)
            except ImageUnsupported as error:
                fix = False
                self._bad(str(error), cluster << self.bits)
        kind = "leak" if leak else "corruption"
        if self._many(kind, fix):
            return
        text = f"cluster {cluster} has refcount {stored} and {counted} references"
        self.report.note(kind, text, offset=cluster << self.bits, fixed=fix)

    # --- COPIED ---

    def _walk_copied(self, fix: bool) -> None:
        core, bits = self.core, self.bits
        mapping = core.mapping
        step = 2 if mapping.extended else 1
        l1, l1_offset = core.tables.l1, self.header.l1_table_offset
        done = set()
        for index, entry in enumerate(l1):
            place = entry & OFFSET_MASK
            if not place or place & (self.size - 1) or place >> bits >= self.file_end:
                continue
            copied = COPIED if core.refcounts.get(place >> bits) == 1 else 0
            if entry & COPIED != copied:
                self._bad(
                    f"L1 entry {index} has a wrong COPIED flag: {entry:#x}", l1_offset + index * 8, fixed=fix
                )
                if fix:
                    l1[index] = entry & ~COPIED | copied
                    self.file.pwrite(l1_offset + index * 8, swapped(l1[index : index + 1]))
            if not core.external and place not in done:
                done.add(place)
                self._walk_l2(place, step, fix)

    def _walk_l2(self, place: int, step: int, fix: bool) -> None:
        entries = read_table(self.file, place, self.size // 8)
        items: array[int] = entries[::step]
        low, high = len(items), 0
        start = 0
        for stop in run_ends(items, self.size, fast=self._large):
            entry = items[start]
            if entry & OFFSET_MASK and not entry & COMPRESSED:
                for at in self._wrong_copied((entry & OFFSET_MASK) >> self.bits, stop - start, entry):
                    index = start + at
                    if not self._many("corruption", fix):
                        text = f"L2 entry {index} of the table at {place:#x} has a wrong COPIED flag"
                        self._bad(f"{text}: {items[index]:#x}", place + index * step * 8, fixed=fix)
                    entries[index * step] ^= COPIED
                    low, high = min(low, index * step), max(high, index * step + 1)
            start = stop
        if fix and low < high:
            self.file.pwrite(place + low * 8, swapped(entries[low:high]))

    def _wrong_copied(self, first: int, count: int, entry: int) -> list[int]:
        """Which of `count` entries, whose clusters follow each other and whose flags are `entry`'s, are
        wrong.
        """
        refcounts = self.core.refcounts
        wrong: list[int] = []
        done = 0
        while done < count:
            index, inside = divmod(first + done, refcounts.per_block)
            part = min(count - done, refcounts.per_block - inside)
            block = refcounts.block(index)
            if block is None:
                ones = [0] * part
            elif part > 8 and not isinstance(block.values, Packed):
                single = block.values[inside : inside + part].count(1)
                if single == (part if entry & COPIED else 0):
                    done += part
                    continue
                ones = [value == 1 for value in block.values[inside : inside + part]]
            else:
                ones = [block.values[inside + at] == 1 for at in range(part)]
            wrong += [done + at for at, one in enumerate(ones) if bool(one) != bool(entry & COPIED)]
            done += part
        return wrong

    # --- mending ---

    def write_refcounts(self, order: int) -> None:
        """Write a new refcount structure behind everything that is in use, and switch to it."""
        core, header = self.core, self.header
        # What the old structure occupies isn't used by the new one: let it be free.
        fresh = Checker(core)
        fresh.rebuild = True
        fresh._count_all()  # what is wrong was reported already
        counter = self.counter = fresh.counter
        per_block, per_cluster = (self.size * 8) >> order, self.size // 8
        most = (1 << (1 << order)) - 1
        start = max(counter.end(), self.file_end)
        blocks = clusters = 0
        while True:
            end = start + blocks + clusters
            need = [
                index for index in range(_ceil(end, per_block)) if self._needed(index, start, end, per_block)
            ]
            want = _ceil(_ceil(end, per_block), per_cluster)
            if len(need) <= blocks and want <= clusters:
                break
            blocks, clusters = max(blocks, len(need)), max(clusters, want)
        if clusters << self.bits > h.MAX_REFTABLE_BYTES:
            raise ImageUnsupported("the refcount table would be too large", where=core.name)
        counter.add(start, blocks + clusters)
        table = array("Q", bytes(8)) * (clusters * per_cluster)
        place = start + clusters
        for index in need:
            values = decode_counts(bytes(self.size), order)
            for low in range(0, per_block, _PAGE):
                counts = counter.window(index * per_block + low, min(_PAGE, per_block - low))
                for at, count in enumerate(counts):
                    if count > most:
                        cluster = index * per_block + low + at
                        self._bad(f"cluster {cluster} has more references than its refcount can hold")
                        count = most
                    if count:
                        values[low + at] = count
            self.file.pwrite(place << self.bits, encode_counts(values))
            table[index] = place << self.bits
            place += 1
        self.file.pwrite(start << self.bits, swapped(table))
        if self.file.length() < end << self.bits and not self.file.fixed_length:
            self.file.resize(end << self.bits)
        self.file.flush()
        header.refcount_table_offset, header.refcount_table_clusters = start << self.bits, clusters
        header.refcount_order = order
        core.write_header()
        self.file.flush()

    def data_clusters(self) -> ClusterSet:
        """The host clusters that hold guest data, of the disk and of all snapshots."""
        from runtime.block.format.qcow2.clusters import ClusterSet

        self._data = ClusterSet()
        self._count_all()
        return self._data

    def _needed(self, index: int, start: int, end: int, per_block: int) -> bool:
        base = index * per_block
        return (base < end and start < base + per_block) or not self.counter.empty(base, per_block)

    def _finish_repair(self) -> None:
        core, report = self.core, self.report
        core.refcounts.write_blocks()
        self.file.flush()
        if core.refcounts.table_dirty:
            core.refcounts.write_table()
            self.file.flush()
            if core.refcounts.table_moved:
                core.write_header()
                core.refcounts.table_moved = False
        bits = Incompatible.DIRTY | Incompatible.CORRUPT
        if self.repair == "all" and self.header.incompatible & bits and not report.corruptions:
            self.header.incompatible &= ~bits
            core.write_header()
        self.file.flush()
        core.tables.load()
        core.refcounts.load()
        if not report.corruptions:
            core.guard_metadata()
