"""Tables of places in a file: flat ones, and ones of two levels. Pages are read when asked for; changes wait.

Changes stay in memory until `write_back`, so that the node decides when they reach the file: after the data
that they point to. Memory is bounded by what is dirty plus a cache of clean pages, whatever size a header
claims.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Entries = NDArray[np.int64]

_PAGE = 1 << 16  # bytes
_CLEAN_PAGES = 128
_SECTOR = 512
_MANY = 64  # entries that are compared at once


class Coding:
    """How entries lie in the file: `code` is "<u4", ">u4" or "<u8". Those of 64 bits are taken as signed
    ones.
    """

    def __init__(self, code: str) -> None:
        self.width = int(code[2:])
        self._type = {4: "I", 8: "q"}[self.width]
        self._swap = (code[0] == "<") is not (sys.byteorder == "little")

    def decoded(self, data: bytes) -> array[int]:
        entries = array(self._type)
        entries.frombytes(data)
        if self._swap:
            entries.byteswap()
        return entries

    def encoded(self, entries: array[int]) -> bytes:
        if self._swap:
            entries = entries[:]
            entries.byteswap()
        return entries.tobytes()

    def entries(self, values: Iterable[int]) -> array[int]:
        return array(self._type, values)

    def zeroes(self, count: int) -> array[int]:
        return array(self._type, bytes(self.width * count))


def _run(entries: array[int], at: int, count: int, step: int) -> int:
    """How many of `count` entries from `at` on go up by `step`."""
    stop = min(at + count, len(entries))
    expected = entries[at] + step
    start, at = at, at + 1
    if not step:
        while at < stop and entries[at] == expected:
            at += 1
            if at - start == _MANY:
                at = _same(entries, start, at, stop)
        return at - start
    while at < stop and entries[at] == expected:
        at += 1
        expected += step
    return at - start


def _same(entries: array[int], start: int, at: int, stop: int) -> int:
    """The end of a row of equal entries from `start` on, which is known to go up to `at`; some at its end may
    be missing.
    """
    step = at - start
    while at < stop and step >= _MANY:
        step = min(step, stop - at, at - start)
        if entries[at : at + step] == entries[start : start + step]:
            at += step
            step *= 2
        else:
            step //= 2
    return at


def _set_run(entries: array[int], at: int, count: int, value: int, step: int) -> None:
    """Let entries be `value`, `value` + `step`, ..."""
    if count == 1:
        entries[at] = value
    elif step:
        entries[at : at + count] = array(entries.typecode, range(value, value + count * step, step))
    else:
        entries[at : at + count] = array(entries.typecode, [value]) * count


class Table(ABC):
    """`count` numbers of the file.

    What every request needs works on entries and runs of them in plain Python, which spares start-up time;
    `read` gives numpy arrays to what goes over whole tables.
    """

    count: int

    @abstractmethod
    def read(self, first: int, count: int) -> Entries:
        """A copy of `count` entries from number `first`."""

    @abstractmethod
    def entry(self, index: int) -> int:
        """One entry."""

    @abstractmethod
    def run(self, first: int, count: int, step: int) -> int:
        """How many of `count` entries from number `first` on (at least) go up by `step` from each to the
        next. Ends at the end of a page at the latest.
        """

    def empty_run(self, first: int, count: int) -> int:
        """How many of `count` entries from `first` on are known to be 0 without looking at each."""
        return 0

    @abstractmethod
    def write(self, first: int, value: int, count: int = 1, step: int = 0) -> None:
        """Change entries in memory: `value`, `value` + `step`, and so on."""

    @property
    @abstractmethod
    def dirty_bytes(self) -> int:
        """How much waits to be written, bytes."""

    @abstractmethod
    def write_back(self) -> None:
        """Write all changes to the file. What they point to must be durable before."""


class PagedTable(Table):
    """A flat table at `offset` of `file`, of entries coded as `code` says (see `Coding`)."""

    def __init__(self, file: ProtocolNode, offset: int, count: int, code: str) -> None:
        self.file = file
        self.offset = offset
        self.count = count
        self._coding = Coding(code)
        self._page_entries = _PAGE // self._coding.width
        self._pages: OrderedDict[int, array[int]] = OrderedDict()
        self._dirty: dict[int, set[int]] = {}  # page: its sectors that differ from the file

    def _page(self, number: int) -> array[int]:
        page = self._pages.get(number)
        if page is None:
            first = number * self._page_entries
            count = min(self._page_entries, self.count - first)
            width = self._coding.width
            page = self._coding.decoded(self.file.pread(self.offset + first * width, count * width))
            if len(self._pages) - len(self._dirty) >= _CLEAN_PAGES:
                self._evict()
            self._pages[number] = page
        else:
            self._pages.move_to_end(number)
        return page

    def _evict(self) -> None:
        for number in [n for n in self._pages if n not in self._dirty][: _CLEAN_PAGES // 4]:
            del self._pages[number]

    def read(self, first: int, count: int) -> Entries:
        import numpy as np

        result = np.empty(count, np.int64)
        done = 0
        while done < count:
            number, at = divmod(first + done, self._page_entries)
            step = min(count - done, self._page_entries - at)
            result[done : done + step] = self._page(number)[at : at + step]
            done += step
        return result

    def entry(self, index: int) -> int:
        number, at = divmod(index, self._page_entries)
        page = self._pages.get(number)
        return (self._page(number) if page is None else page)[at]

    def run(self, first: int, count: int, step: int) -> int:
        number, at = divmod(first, self._page_entries)
        return _run(self._page(number), at, count, step)

    def pieces(self) -> Iterator[array[int]]:
        """All entries, in order and in pieces; entries in holes of the file are left out."""
        width = self._coding.width
        for part in self.file.extents(self.offset, self.count * width):
            if not part.reads_zero:
                for at in range(part.offset // width * width, part.end, _PAGE):
                    yield self._coding.decoded(
                        self.file.pread(at, min(_PAGE, part.end - at) // width * width)
                    )

    def highest(self, limit: int) -> int:
        """The highest entry below `limit`; -1 if there is none. Where the file has holes, entries are 0."""
        result = -1
        width = self._coding.width
        for part in self.file.extents(self.offset, self.count * width):
            if part.reads_zero:
                result = max(result, 0 if limit > 0 else -1)
                continue
            first = (part.offset - self.offset) // width // self._page_entries
            last = (part.end - self.offset - 1) // width // self._page_entries
            for number in range(first, last + 1):
                page = self._page(number)
                if _run(page, 0, len(page), 0) == len(page):
                    result = max(result, page[0] if page[0] < limit else -1)
                elif max(page) >= limit:
                    result = max(result, max((entry for entry in page if entry < limit), default=-1))
                else:
                    result = max(result, max(page))
        for number in self._dirty:
            result = max(result, max((entry for entry in self._page(number) if entry < limit), default=-1))
        return result

    def write(self, first: int, value: int, count: int = 1, step: int = 0) -> None:
        done, width = 0, self._coding.width
        while done < count:
            number, at = divmod(first + done, self._page_entries)
            part = min(count - done, self._page_entries - at)
            _set_run(self._page(number), at, part, value + done * step, step)
            sectors = range(at * width // _SECTOR, ((at + part) * width - 1) // _SECTOR + 1)
            self._dirty.setdefault(number, set()).update(sectors)
            done += part

    @property
    def dirty_bytes(self) -> int:
        return len(self._dirty) * _PAGE

    def changes(self, align: int = _SECTOR) -> Iterator[tuple[int, bytes]]:
        """(offset in the file, bytes) of what changed, in pieces whose offsets in the table are multiples of
        `align`.
        """
        for number in sorted(self._dirty):
            raw = self._coding.encoded(self._pages[number])
            units = sorted({sector * _SECTOR // align for sector in self._dirty[number]})
            begin = 0
            while begin < len(units):
                end = begin + 1
                while end < len(units) and units[end] == units[end - 1] + 1:
                    end += 1
                piece = raw[units[begin] * align : (units[end - 1] + 1) * align]
                start = number * self._page_entries * self._coding.width + units[begin] * align
                yield self.offset + start, piece
                begin = end

    def write_back(self) -> None:
        for offset, piece in self.changes():
            self.file.pwrite(offset, piece)
        self.forget_changes()

    def forget_changes(self) -> None:
        """The changes have reached the file in some other way."""
        self._dirty.clear()


class TwoLevelTable(Table):
    """A directory of tables. A directory entry of 0 means a table of nothing but zeroes.

    `unit` is what directory entries count in, bytes; `valid(number, entry)` may refuse an entry, or (with
    `mapped`) say what it stands for. New tables are placed by `place(bytes) -> offset in the file`. Long
    tables are kept in memory in pieces.
    """

    def __init__(
        self,
        directory: PagedTable,
        *,
        entries_per_table: int,
        code: str,
        count: int,
        unit: int = 1,
        place: Callable[[int], int] | None = None,
        valid: Callable[[int, int], int] | None = None,
        mapped: bool = False,
        spare: PagedTable | None = None,
    ) -> None:
        self.directory = directory
        self._mapped = mapped
        self.spare = spare  # a redundant directory, which points to copies of the tables
        self.count = count
        self._coding = Coding(code)
        self._per_table = entries_per_table
        self._bytes = entries_per_table * self._coding.width
        piece = _PAGE // self._coding.width
        self._per_piece = piece if entries_per_table % piece == 0 else entries_per_table
        self._in_table = entries_per_table // self._per_piece
        self._piece_bytes = self._per_piece * self._coding.width
        self._unit = unit
        self._place = place
        self._valid = valid
        self._pieces: OrderedDict[int, array[int]] = OrderedDict()
        self._dirty: set[int] = set()  # pieces
        self._new: set[int] = set()  # tables that the directory doesn't know yet
        self._capacity = max(8, (8 << 20) // self._piece_bytes)

    def table_offset(self, number: int, directory: PagedTable | None = None) -> int | None:
        """Where table `number` lies in the file; None if it doesn't exist."""
        value = (directory or self.directory).entry(number)
        if self._valid is not None:
            value = self._valid(number, value)
        return value * self._unit or None

    def _piece(self, number: int) -> array[int] | None:
        piece = self._pieces.get(number)
        if piece is not None:
            self._pieces.move_to_end(number)
            return piece
        table, part = divmod(number, self._in_table)
        offset = self.table_offset(table)
        if offset is None:
            return None
        data = self.directory.file.pread(offset + part * self._piece_bytes, self._piece_bytes)
        return self._keep(number, self._coding.decoded(data))

    def _keep(self, number: int, piece: array[int]) -> array[int]:
        if len(self._pieces) - len(self._dirty) >= self._capacity:
            for old in [n for n in self._pieces if n not in self._dirty][: self._capacity // 4 + 1]:
                del self._pieces[old]
        self._pieces[number] = piece
        return piece

    def read(self, first: int, count: int) -> Entries:
        import numpy as np

        result = np.empty(count, np.int64)
        done = 0
        while done < count:
            number, at = divmod(first + done, self._per_piece)
            step = min(count - done, self._per_piece - at)
            piece = self._piece(number)
            result[done : done + step] = 0 if piece is None else piece[at : at + step]
            done += step
        return result

    def run(self, first: int, count: int, step: int) -> int:
        number, at = divmod(first, self._per_piece)
        piece = self._piece(number)
        if piece is None:
            return 1 if step else min(count, self._per_piece - at)
        return _run(piece, at, count, step)

    def empty_run(self, first: int, count: int) -> int:
        stop = first + count
        table, last = first // self._per_table, -(-stop // self._per_table)
        while table < last:
            if self.directory.entry(table) == 0 and table not in self._new:
                empty = self.directory.run(table, last - table, 0)
                table = min((n for n in self._new if table < n < table + empty), default=table + empty)
                continue
            holes = self._hole_tables(table, last - table)
            if not holes:
                return max(0, min(stop, table * self._per_table) - first)
            table += holes
        return count

    def _hole_tables(self, table: int, count: int) -> int:
        """How many tables from number `table` on lie in a row in a hole of the file: nobody has written to
        them.
        """
        if table in self._new or self._mapped:
            return 0
        count = self.directory.run(table, count, self._bytes // self._unit)
        file = self.directory.file
        start = self.directory.entry(table) * self._unit
        if start + count * self._bytes > file.length():
            return 0
        hole = next(file.extents(start, count * self._bytes))
        if not hole.reads_zero:
            return 0
        count = hole.length // self._bytes
        changed = [number // self._in_table for number in self._dirty]
        return min([count, *(number - table for number in changed if table <= number < table + count)])

    def entry(self, index: int) -> int:
        number, at = divmod(index, self._per_piece)
        piece = self._pieces.get(number)
        if piece is None:
            piece = self._piece(number)
        return 0 if piece is None else piece[at]

    def write(self, first: int, value: int, count: int = 1, step: int = 0) -> None:
        done = 0
        while done < count:
            number, at = divmod(first + done, self._per_piece)
            part = min(count - done, self._per_piece - at)
            piece = self._piece(number)
            if piece is None:
                piece = self._keep(number, self._coding.zeroes(self._per_piece))
                table = number // self._in_table
                if self.table_offset(table) is None:
                    self._new.add(table)
            _set_run(piece, at, part, value + done * step, step)
            self._dirty.add(number)
            done += part

    def changed_tables(self) -> list[int]:
        """The numbers of the tables that differ from the file, for nodes that write them in their own way."""
        return sorted({number // self._in_table for number in self._dirty})

    def content(self, number: int) -> bytes | None:
        """Table `number`, of one piece, as bytes; None if it doesn't exist."""
        assert self._in_table == 1
        table = self._piece(number)
        return None if table is None else self._coding.encoded(table)

    @property
    def dirty_bytes(self) -> int:
        return len(self._dirty) * self._piece_bytes

    def write_back(self) -> None:
        """Tables first; where a table is new, it is made durable before the directory gets to know it."""
        file = self.directory.file
        for table in sorted(self._new):
            for directory in (self.directory, self.spare):
                if directory is not None:
                    assert self._place is not None
                    offset = self._place(self._bytes)
                    file.write_zeroes(offset, self._bytes)
                    self._write_pieces(table, offset)
                    directory.write(table, offset // self._unit)
        known = [table for table in self.changed_tables() if table not in self._new]
        for directory in (self.directory, self.spare):
            for table in known:
                place = None if directory is None else self.table_offset(table, directory)
                if place is not None:
                    self._write_pieces(table, place)
        if self._new:
            file.flush()
            self.directory.write_back()
            if self.spare is not None:
                self.spare.write_back()
        self._dirty.clear()
        self._new.clear()

    def _write_pieces(self, table: int, offset: int) -> None:
        """What has changed of a table that lies at `offset`."""
        for part in range(self._in_table):
            number = table * self._in_table + part
            if number in self._dirty:
                data = self._coding.encoded(self._pieces[number])
                self.directory.file.pwrite(offset + part * self._piece_bytes, data)
