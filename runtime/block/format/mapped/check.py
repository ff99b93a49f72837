"""Checks of block tables: entries outside of the data, blocks used twice, lost storage. And their repair."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from runtime.block.errors import ImageCorrupt
from runtime.block.node import Repair
from runtime.block.report import MOST_CORRUPTIONS, MOST_TOLD, CheckReport, CheckStopped, Problem

if TYPE_CHECKING:
    import numpy as np

    from runtime.block.format.mapped.node import Interval, MappedNode
    from runtime.block.format.mapped.table import Entries

_BATCH = 1 << 16  # blocks
_READ = 1 << 16  # bytes: pieces up to this size are looked at, for holes consist of whole pages


def merged(intervals: list[Interval]) -> list[Interval]:
    """The same places as sorted intervals that neither touch nor overlap."""
    result: list[Interval] = []
    for low, high in sorted(intervals):
        if result and low <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], high))
        elif high > low:
            result.append((low, high))
    return result


class BlockCheck:
    """The check of one node. `metadata`: what else the file holds, as (begin, end); blocks may not overlap
    it.

    `align`: what places must be a multiple of, seen from the start of the data.
    """

    def __init__(
        self, node: MappedNode, repair: Repair | None, metadata: list[Interval], *, align: int = 512
    ) -> None:
        import numpy as np

        self.node = node
        self.repair = repair
        self.report = CheckReport(filename=node.name, format=node.format, stops=repair is None)
        self._limit = node.file.length()  # before repairs make it longer
        self._metadata = merged(metadata)
        self._low = np.array([low for low, _ in self._metadata], np.int64)
        self._high = np.array([high for _, high in self._metadata], np.int64)
        self._align = align

    def blocks(self) -> Entries:
        """Check all entries. Gives the sorted places of the good blocks' storage (with what precedes their
        data).
        """
        import numpy as np

        node, report = self.node, self.report
        total = node.blocks()
        stored = 0
        room = -(-max(0, node.file.length() - node.data_start()) // node.stride())
        fragments = shared = 0
        last = -1
        parts: list[Entries] = []
        for first, count in node.block_ranges(_BATCH):
            places = node.places(first, count)
            good = self._in_bounds(first, places)
            places[~good & (places >= 0)] = -1
            here = places[places >= 0]
            if len(here):
                fragments += int(np.count_nonzero(np.diff(here) != node.stride())) + (
                    last >= 0 and here[0] != last + node.stride()
                )
                last = int(here[-1])
                if (here[1:] <= here[:-1]).any():
                    shared += len(here) - len(np.unique(here))
                if shared >= MOST_CORRUPTIONS:
                    self._too_much_shared(shared)
                stored += len(here)
                parts.append(here - node.gap)
                if stored > room:
                    self._too_many(stored, room)
        report.total_clusters = total
        report.allocated_clusters = stored
        report.fragmented_clusters = fragments
        starts = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        parts.clear()
        starts.sort()
        if any(
            (np.diff(starts[at : at + _BATCH + 1]) < node.stride()).any() for at in range(0, stored, _BATCH)
        ):
            starts = self._overlaps(starts)
            if self.repair == "all":
                starts = self._starts()  # with those of the copies
        end = int(starts[-1]) + node.stride() if len(starts) else 0
        report.image_end_offset = max([end, *(stop for _, stop in self._metadata)])
        return starts

    def _starts(self) -> Entries:
        """The sorted places of all blocks' storage, as the table has them by now."""
        import numpy as np

        node = self.node
        every = [node.places(first, count) for first, count in node.block_ranges(_BATCH)]
        starts = np.concatenate([places[places >= 0] - node.gap for places in every])
        starts.sort()
        return starts

    def _too_many(self, stored: int, room: int) -> None:
        """More blocks than the file has room for: most share their storage. Counting all would take memory
        without bound.
        """
        what = f"the table has more blocks than the {room} that the file has room for"
        if self.repair:
            raise self._hopeless(what)
        self.report.note("corruption", what, offset=self.node.entry_offset(0), count=stored - room)
        self.report.problems.append(Problem("corruption", "the rest wasn't checked"))
        raise CheckStopped(self.report)

    def _too_much_shared(self, count: int) -> None:
        """Blocks share their storage so often that each says nothing more: to find all takes memory, to copy
        it for each takes hours.
        """
        if self.repair:
            raise self._hopeless(f"{count} blocks and maybe more share the storage of others")
        self.report.note("corruption", "blocks share their storage", count=count)

    def _hopeless(self, what: str) -> ImageCorrupt:
        """The error with which a repair gives up."""
        return ImageCorrupt(
            what,
            offset=self.node.entry_offset(0),
            field="block table entry",
            where=self.node.name,
            remedy="the data that it holds can only be guessed: restore the image from a copy",
        )

    def _in_bounds(self, first: int, places: Entries) -> np.ndarray:
        import numpy as np

        node = self.node
        begin = places - node.gap
        bad = (places >= 0) & (
            (begin < node.data_start())
            | (places >= self._limit)
            | (begin % self._align != node.data_start() % self._align)
        )
        if len(self._low):
            next_one = np.searchsorted(self._high, begin, "right")
            low = np.append(self._low, np.iinfo(np.int64).max)[next_one]
            bad |= (places >= 0) & (low < begin + node.stride())
        wrong = np.flatnonzero(bad)
        fixed = self.repair == "all"
        if fixed and len(wrong):
            # In rows: damage often goes over millions of entries.
            cuts = (np.flatnonzero(np.diff(wrong) != 1) + 1).tolist()
            for begin_at, end_at in pairwise([0, *cuts, len(wrong)]):
                node.drop(first + int(wrong[begin_at]), end_at - begin_at)
        told = max(0, MOST_TOLD - len(self.report.problems)) if self.repair else len(wrong)
        for at in wrong[:told].tolist():
            self.report.note(
                "corruption",
                f"block {first + at} lies at byte {int(places[at])}, where no block can be"
                + (": it's gone now" if fixed else ""),
                offset=node.entry_offset(first + at),
                fixed=fixed,
            )
        if told < len(wrong):
            self.report.note("corruption", "", fixed=fixed, count=len(wrong) - told)
        good: np.ndarray = ~bad
        return good

    def _overlaps(self, starts: Entries) -> Entries:
        """Blocks that share storage: the first keeps it; repaired, others get a copy."""
        import numpy as np

        node = self.node
        unique = np.unique(starts)
        seen = self._cut(unique)  # places that no block keeps, or that one has already
        twice = starts[1:][np.diff(starts) == 0]
        shared = np.union1d(twice, np.array(sorted(seen), np.int64))
        if self.repair and len(twice) + len(seen) >= MOST_CORRUPTIONS:
            self._too_much_shared(len(twice) + len(seen))
        for first in range(0, node.blocks(), _BATCH):
            places = node.places(first, min(_BATCH, node.blocks() - first)) - node.gap
            for at in np.flatnonzero(np.isin(places, shared)).tolist():
                place = int(places[at])
                if place not in seen:
                    seen.add(place)
                    continue
                fixed = self.repair == "all"
                if fixed:
                    node.rebind(first + at, place + node.gap)
                self.report.note(
                    "corruption",
                    f"block {first + at} shares its storage at byte {place} with another block"
                    + (": it has a copy now" if fixed else ""),
                    offset=node.entry_offset(first + at),
                    fixed=fixed,
                )
        return unique

    def _cut(self, places: Entries) -> set[int]:
        """Those of ascending places that begin inside of the storage of one before, which stays."""
        import numpy as np

        stride = self.node.stride()
        if not (np.diff(places) < stride).any():
            return set()
        cut: set[int] = set()
        end = 0
        for place in places.tolist():
            if place < end:
                cut.add(place)
            else:
                end = place + stride
        return cut

    def leaks(self, starts: Entries, file_end: int) -> None:
        """Storage between metadata and blocks up to `file_end` that holds data and that nothing uses."""
        import numpy as np

        node = self.node
        stride = node.stride()
        ends = starts + stride
        edges_begin = np.concatenate([starts, self._low])
        edges_end = np.concatenate([ends, self._high])
        order = np.argsort(edges_begin, kind="stable")
        edges_begin, edges_end = edges_begin[order], np.maximum.accumulate(edges_end[order])
        gaps_begin = np.concatenate([np.zeros(1, np.int64), edges_end])
        gaps_end = np.concatenate(
            [edges_begin, np.array([max(file_end, int(edges_end[-1]) if len(edges_end) else 0)], np.int64)]
        )
        fixed = self.repair is not None
        for at in np.flatnonzero(gaps_end > gaps_begin).tolist():
            begin, end = max(int(gaps_begin[at]), node.data_start()), min(int(gaps_end[at]), file_end)
            if end <= begin:
                continue
            lost = self._stored(begin, end)
            if not lost:
                continue
            if fixed:
                node.file.punch(begin, end - begin)
            self.report.note(
                "leak",
                f"{lost} bytes at offset {begin} belong to nothing" + (": given back now" if fixed else ""),
                offset=begin,
                fixed=fixed,
                count=max(1, lost // node.block_size),
            )

    def _stored(self, begin: int, end: int) -> int:
        """How many bytes of the range the file holds data for. Short pieces may be zeroes beside data."""
        file = self.node.file
        lost = 0
        for part in file.extents(begin, end - begin):
            if not part.reads_zero and (part.length > _READ or any(file.pread(part.offset, part.length))):
                lost += part.length
        return lost
