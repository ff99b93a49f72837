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


class Table(ABC):
    """`count` numbers, as the file has them (in the host's byte order)."""

    count: int

    @abstractmethod
    def read(self, first: int, count: int) -> Entries:
        """A copy of `count` entries from number `first`."""

    @abstractmethod
    def entry(self, index: int) -> int:
        """One entry."""

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
        return int((self._page(number) if page is None else page)[at])

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
    """A directory of tables. A directory entry of 0 (or one that `unset` tells) means a table of nothing but
    `empty`.

    `unit` is what directory entries count in, bytes. New tables are placed by `place(bytes) -> offset in
    the file`.
    """

    def __init__(
        self,
        directory: PagedTable,
        *,
        entries_per_table: int,
        code: str,
        count: int,
        unit: int = 1,
        empty: int = 0,
        place: Callable[[int], int] | None = None,
        valid: Callable[[int, int], int] | None = None,
        spare: PagedTable | None = None,
    ) -> None:
        self.directory = directory
        self.spare = spare  # a redundant directory, which points to copies of the tables
        self.count = count
        self._per_table = entries_per_table
        self._type = np.dtype(code)
        self._bytes = entries_per_table * self._type.itemsize
        self._unit = unit
        self._empty = empty
        self._place = place
        self._valid = valid
        self._tables: OrderedDict[int, Raw] = OrderedDict()
        self._absent: set[int] = set()
        self._dirty: set[int] = set()
        self._new: set[int] = set()
        self._capacity = max(8, (8 << 20) // self._bytes)

    def table_offset(self, number: int, directory: PagedTable | None = None) -> int | None:
        """Where table `number` lies in the file; None if it doesn't exist."""
        value = (directory or self.directory).entry(number)
        if self._valid is not None:
            value = self._valid(number, value)
        return value * self._unit or None

    def _table(self, number: int) -> Raw | None:
        table = self._tables.get(number)
        if table is not None:
            self._tables.move_to_end(number)
            return table
        offset = self.table_offset(number)
        if offset is None:
            return None
        raw = bytearray(self.directory.file.pread(offset, self._bytes))
        return self._keep(number, np.frombuffer(raw, self._type))

    def _keep(self, number: int, table: Raw) -> Raw:
        if len(self._tables) - len(self._dirty) >= self._capacity:
            for old in [n for n in self._tables if n not in self._dirty][: self._capacity // 4 + 1]:
                del self._tables[old]
        self._tables[number] = table
        return table

    def read(self, first: int, count: int) -> Entries:
        result = np.empty(count, np.int64)
        done = 0
        while done < count:
            number, at = divmod(first + done, self._per_table)
            step = min(count - done, self._per_table - at)
            table = self._table(number)
            result[done : done + step] = self._empty if table is None else table[at : at + step]
            done += step
        return result

    def entry(self, index: int) -> int:
        number, at = divmod(index, self._per_table)
        table = self._tables.get(number)
        if table is None:
            table = self._table(number)
        return self._empty if table is None else int(table[at])

    def absent_run(self, first: int, count: int) -> int:
        """How many of `count` entries from `first` on lie in tables that don't exist."""
        done = 0
        while done < count:
            number, at = divmod(first + done, self._per_table)
            if number in self._tables or self.table_offset(number) is not None:
                break
            done += min(count - done, self._per_table - at)
        return done

    def write(self, first: int, values: Entries) -> None:
        done, count = 0, len(values)
        while done < count:
            number, at = divmod(first + done, self._per_table)
            step = min(count - done, self._per_table - at)
            table = self._table(number)
            if table is None:
                table = self._keep(number, np.full(self._per_table, self._empty, self._type))
                self._new.add(number)
            table[at : at + step] = values[done : done + step]
            self._dirty.add(number)
            done += step

    def changed_tables(self) -> list[int]:
        """The numbers of the tables that differ from the file, for nodes that write them in their own way."""
        return sorted(self._dirty)

    def content(self, number: int) -> bytes | None:
        """Table `number` as bytes; None if it doesn't exist."""
        table = self._table(number)
        return None if table is None else table.tobytes()

    @property
    def dirty_bytes(self) -> int:
        return len(self._dirty) * self._bytes

    def write_back(self) -> None:
        """Tables first; where a table is new, it is made durable before the directory gets to know it."""
        file = self.directory.file
        for number in sorted(self._new):
            assert self._place is not None
            offset = self._place(self._bytes)
            file.pwrite(offset, self._tables[number].tobytes())
            self.directory.write(number, np.array([offset // self._unit], np.int64))
            if self.spare is not None:
                copy = self._place(self._bytes)
                file.pwrite(copy, self._tables[number].tobytes())
                self.spare.write(number, np.array([copy // self._unit], np.int64))
        for directory in (self.directory, self.spare):
            for number in sorted(self._dirty - self._new):
                offset_or_none = None if directory is None else self.table_offset(number, directory)
                if offset_or_none is not None:
                    file.pwrite(offset_or_none, self._tables[number].tobytes())
        if self._new:
            file.flush()
            self.directory.write_back()
            if self.spare is not None:
                self.spare.write_back()
        self._dirty.clear()
        self._new.clear()
