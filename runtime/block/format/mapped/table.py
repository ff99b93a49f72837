"""Tables of places in a file: flat ones, and ones of two levels. Pages are read when asked for; changes wait.

Changes stay in memory until `write_back`, so that the node decides when they reach the file: after the data
that they point to. Memory is bounded by what is dirty plus a cache of clean pages, whatever size a header
claims.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from runtime.block.node import ProtocolNode

Entries = NDArray[np.int64]
Raw = NDArray[np.generic]

_PAGE = 1 << 16  # bytes
_CLEAN_PAGES = 128
_SECTOR = 512


def _signed(value: int) -> int:
    """As an int64 has it: entries read one by one are what they are in arrays."""
    return value - (1 << 64) if value >> 63 else value


class Table(ABC):
    """`count` numbers of the file. Those of 64 bits are taken as signed ones."""

    count: int

    @abstractmethod
    def read(self, first: int, count: int) -> Entries:
        """A copy of `count` entries from number `first`."""

    @abstractmethod
    def entry(self, index: int) -> int:
        """One entry."""

    def empty_run(self, first: int, count: int) -> int:
        """How many of `count` entries from `first` on are known to be 0 without looking at each."""
        return 0

    @abstractmethod
    def write(self, first: int, values: Entries) -> None:
        """Change entries in memory."""

    @property
    @abstractmethod
    def dirty_bytes(self) -> int:
        """How much waits to be written, bytes."""

    @abstractmethod
    def write_back(self) -> None:
        """Write all changes to the file. What they point to must be durable before."""


class PagedTable(Table):
    """A flat table at `offset` of `file`, of entries of the numpy type `code` (such as "<u4")."""

    def __init__(self, file: ProtocolNode, offset: int, count: int, code: str) -> None:
        self.file = file
        self.offset = offset
        self.count = count
        self._type = np.dtype(code)
        self._page_entries = _PAGE // self._type.itemsize
        self._pages: OrderedDict[int, Raw] = OrderedDict()
        self._dirty: dict[int, set[int]] = {}  # page: its sectors that differ from the file

    def _page(self, number: int) -> Raw:
        page = self._pages.get(number)
        if page is None:
            first = number * self._page_entries
            count = min(self._page_entries, self.count - first)
            width = self._type.itemsize
            raw = bytearray(self.file.pread(self.offset + first * width, count * width))
            page = np.frombuffer(raw, self._type)
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
        return _signed(int((self._page(number) if page is None else page)[at]))

    def write(self, first: int, values: Entries) -> None:
        done, count, width = 0, len(values), self._type.itemsize
        while done < count:
            number, at = divmod(first + done, self._page_entries)
            step = min(count - done, self._page_entries - at)
            self._page(number)[at : at + step] = values[done : done + step]
            sectors = range(at * width // _SECTOR, ((at + step) * width - 1) // _SECTOR + 1)
            self._dirty.setdefault(number, set()).update(sectors)
            done += step

    @property
    def dirty_bytes(self) -> int:
        return len(self._dirty) * _PAGE

    def changes(self, align: int = _SECTOR) -> Iterator[tuple[int, bytes]]:
        """(offset in the file, bytes) of what changed, in pieces whose offsets in the table are multiples of
        `align`.
        """
        width = self._type.itemsize
        for number in sorted(self._dirty):
            raw = self._pages[number].tobytes()
            units = sorted({sector * _SECTOR // align for sector in self._dirty[number]})
            begin = 0
            while begin < len(units):
                end = begin + 1
                while end < len(units) and units[end] == units[end - 1] + 1:
                    end += 1
                piece = raw[units[begin] * align : (units[end - 1] + 1) * align]
                yield self.offset + number * self._page_entries * width + units[begin] * align, piece
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
        self._type = np.dtype(code)
        self._per_table = entries_per_table
        self._bytes = entries_per_table * self._type.itemsize
        piece = _PAGE // self._type.itemsize
        self._per_piece = piece if entries_per_table % piece == 0 else entries_per_table
        self._in_table = entries_per_table // self._per_piece
        self._piece_bytes = self._per_piece * self._type.itemsize
        self._unit = unit
        self._place = place
        self._valid = valid
        self._pieces: OrderedDict[int, Raw] = OrderedDict()
        self._dirty: set[int] = set()  # pieces
        self._new: set[int] = set()  # tables that the directory doesn't know yet
        self._capacity = max(8, (8 << 20) // self._piece_bytes)

    def table_offset(self, number: int, directory: PagedTable | None = None) -> int | None:
        """Where table `number` lies in the file; None if it doesn't exist."""
        value = (directory or self.directory).entry(number)
        if self._valid is not None:
            value = self._valid(number, value)
        return value * self._unit or None

    def _piece(self, number: int) -> Raw | None:
        piece = self._pieces.get(number)
        if piece is not None:
            self._pieces.move_to_end(number)
            return piece
        table, part = divmod(number, self._in_table)
        offset = self.table_offset(table)
        if offset is None:
            return None
        raw = bytearray(self.directory.file.pread(offset + part * self._piece_bytes, self._piece_bytes))
        return self._keep(number, np.frombuffer(raw, self._type))

    def _keep(self, number: int, piece: Raw) -> Raw:
        if len(self._pieces) - len(self._dirty) >= self._capacity:
            for old in [n for n in self._pieces if n not in self._dirty][: self._capacity // 4 + 1]:
                del self._pieces[old]
        self._pieces[number] = piece
        return piece

    def read(self, first: int, count: int) -> Entries:
        result = np.empty(count, np.int64)
        done = 0
        while done < count:
            number, at = divmod(first + done, self._per_piece)
            step = min(count - done, self._per_piece - at)
            piece = self._piece(number)
            result[done : done + step] = 0 if piece is None else piece[at : at + step]
            done += step
        return result

    def empty_run(self, first: int, count: int) -> int:
        stop = first + count
        table, last = first // self._per_table, -(-stop // self._per_table)
        while table < last:
            known = self.directory.read(table, min(last - table, 1 << 14)) != 0
            for new in self._new:
                if table <= new < table + len(known):
                    known[new - table] = True
            found = np.flatnonzero(known)
            if not len(found):
                table += len(known)
                continue
            table += int(found[0])
            holes = self._hole_tables(table, min(last - table, 1 << 14))
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
        places = self.directory.read(table, count)
        apart = np.flatnonzero(np.diff(places) != self._bytes // self._unit)
        count = int(apart[0]) + 1 if len(apart) else count
        file = self.directory.file
        start = int(places[0]) * self._unit
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
        return 0 if piece is None else _signed(int(piece[at]))

    def write(self, first: int, values: Entries) -> None:
        done, count = 0, len(values)
        while done < count:
            number, at = divmod(first + done, self._per_piece)
            step = min(count - done, self._per_piece - at)
            piece = self._piece(number)
            if piece is None:
                piece = self._keep(number, np.zeros(self._per_piece, self._type))
                table = number // self._in_table
                if self.table_offset(table) is None:
                    self._new.add(table)
            piece[at : at + step] = values[done : done + step]
            self._dirty.add(number)
            done += step

    def changed_tables(self) -> list[int]:
        """The numbers of the tables that differ from the file, for nodes that write them in their own way."""
        return sorted({number // self._in_table for number in self._dirty})

    def content(self, number: int) -> bytes | None:
        """Table `number`, of one piece, as bytes; None if it doesn't exist."""
        assert self._in_table == 1
        table = self._piece(number)
        return None if table is None else table.tobytes()

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
                    directory.write(table, np.array([offset // self._unit], np.int64))
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
                self.directory.file.pwrite(offset + part * self._piece_bytes, self._pieces[number].tobytes())
