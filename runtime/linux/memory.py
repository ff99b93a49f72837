"""The guest's address space as Linux manages it: areas with permissions, gaps for ``mmap``, and ``brk``."""

from __future__ import annotations

import errno
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from runtime.linux.errors import SystemCallError
from runtime.linux.ports import READ, WRITE, AccessFault, Memory

CHUNK = 1 << 20
"""Largest piece moved between guest and host at once, in bytes."""

DEFAULT_LIMIT = 16 << 30
"""Bytes that a guest may map with some permission."""

STRING_LIMIT = 1 << 20
"""Longest zero-terminated string taken from a guest, in bytes."""


class Area(NamedTuple):
    """Pages `start` to `end` (exclusive) with the same permissions.

    `offset` is that of `start` in the file `name`. Areas that never had a permission aren't `backed` by
    pages.
    """

    start: int
    end: int
    permissions: int
    name: str = ""
    offset: int = 0
    shared: bool = False
    backed: bool = True
    writable: bool = True
    """Whether it may be made writable: not where a file is shared that isn't open for writing."""


def _goes_on(first: Area, second: Area) -> bool:
    """Whether two areas are one: side by side, alike, and with the file's offsets going on."""
    if first.end != second.start or (first.name and first.offset + first.end - first.start != second.offset):
        return False
    return first._replace(start=second.start, end=second.end, offset=second.offset) == second


class GuestMemory:
    """A process's areas over a `Memory`, which holds their pages: at most `limit` bytes.

    `low` to `high` is where the guest may map; mappings without a wish are placed top-down below `top`.
    """

    def __init__(
        self, pages: Memory, *, page_size: int, low: int, high: int, top: int, limit: int = DEFAULT_LIMIT
    ) -> None:
        self.pages = pages
        self.page_size = page_size
        self.low = low
        self.high = high
        self.top = top
        self.limit = limit
        self.mapped = 0
        self.brk_start = 0
        self.brk = 0
        self._starts: list[int] = []
        self._areas: list[Area] = []

    # --- areas ----------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Area]:
        return iter(self._areas)

    def find(self, address: int) -> Area | None:
        """The area that holds `address`."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._areas[index].end:
            return self._areas[index]
        return None

    def overlapping(self, start: int, end: int) -> list[Area]:
        """The areas that share an address with `start` to `end`, in order."""
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._areas[first].end <= start:
            first += 1
        return self._areas[first : bisect_left(self._starts, end)]

    def is_free(self, start: int, size: int) -> bool:
        return not self.overlapping(start, start + size)

    def page_up(self, value: int) -> int:
        return -(-value // self.page_size) * self.page_size

    def page_down(self, value: int) -> int:
        return value // self.page_size * self.page_size

    def find_gap(self, size: int, below: int | None = None) -> int:
        """The start of the highest free range of `size` bytes below `below`. Raises ENOMEM."""
        end = self.top if below is None else below
        for area in reversed(self._areas):
            if area.start >= end:
                continue
            if area.end <= end - size:
                break
            end = min(end, area.start)
        if end - size < self.low:
            raise SystemCallError(errno.ENOMEM)
        return end - size

    def _cut(self, start: int, end: int) -> list[Area]:
        """Take the range out of the list of areas; returns what was in it."""
        removed = []
        kept = []
        old = self.overlapping(start, end)
        for area in old:
            if area.start < start:
                kept.append(area._replace(end=start))
            low, high = max(area.start, start), min(area.end, end)
            removed.append(area._replace(start=low, end=high, offset=area.offset + low - area.start))
            if area.end > end:
                kept.append(area._replace(start=end, offset=area.offset + end - area.start))
        if old:
            index = bisect_left(self._starts, old[0].start)
            self._areas[index : index + len(old)] = kept
            self._starts[index : index + len(old)] = [area.start for area in kept]
        self.mapped -= sum(area.end - area.start for area in removed if area.backed)
        return removed

    def _put(self, area: Area) -> None:
        """Insert into a free range, joined with neighbours that go on in the same way."""
        if area.backed:
            self.mapped += area.end - area.start
        index = bisect_left(self._starts, area.start)
        if index and _goes_on(self._areas[index - 1], area):
            index -= 1
            area = self._areas[index]._replace(end=area.end)
            del self._areas[index], self._starts[index]
        if index < len(self._areas) and _goes_on(area, self._areas[index]):
            area = area._replace(end=self._areas[index].end)
            del self._areas[index], self._starts[index]
        self._areas.insert(index, area)
        self._starts.insert(index, area.start)

    # --- operations: addresses and sizes in whole pages -----------------------------------------------

    def check_range(self, start: int, size: int) -> None:
        """Raises ENOMEM unless the range is one a guest may map."""
        if size <= 0 or start < self.low or start + size > self.high:
            raise SystemCallError(errno.ENOMEM)

    def map(
        self,
        start: int,
        size: int,
        permissions: int,
        *,
        name: str = "",
        offset: int = 0,
        shared: bool = False,
        file: int | None = None,
        writable: bool = True,
    ) -> None:
        """Map fresh zero pages, replacing what was there. Raises ENOMEM, with nothing changed.

        `file`: map the pages of this host descriptor instead, shared (OSError where that can't be).
        """
        self.check_range(start, size)
        if permissions:
            replaced = sum(
                min(a.end, start + size) - max(a.start, start)
                for a in self.overlapping(start, start + size)
                if a.backed
            )
            if self.mapped - replaced + size > self.limit:
                raise SystemCallError(errno.ENOMEM)
        self.unmap(start, size)
        if file is not None:
            self.pages.map_file(start, size, permissions, file, offset, writable)
        elif permissions:
            self.pages.map(start, size, permissions, shared=shared)
        backed = permissions != 0 or file is not None
        self._put(Area(start, start + size, permissions, name, offset, shared, backed, writable))

    def move(self, old: int, new: int, size: int) -> None:
        """Move what is mapped at `old` to `new`, replacing what was there. The ranges don't overlap."""
        self.check_range(new, size)
        self.unmap(new, size)
        for area in self._cut(old, old + size):
            if area.backed:
                self.pages.move(area.start, area.start + new - old, area.end - area.start)
            self._put(area._replace(start=area.start + new - old, end=area.end + new - old))

    def unmap(self, start: int, size: int) -> None:
        for area in self._cut(start, start + size):
            if area.backed:
                self.pages.unmap(area.start, area.end - area.start)

    def protect(self, start: int, size: int, permissions: int) -> None:
        """Change permissions. Raises ENOMEM where a part isn't mapped, with nothing changed."""
        end = start + size
        areas = self.overlapping(start, end)
        covered = sum(min(a.end, end) - max(a.start, start) for a in areas)
        if covered != size:
            raise SystemCallError(errno.ENOMEM)
        if permissions & WRITE and not all(area.writable for area in areas):
            raise SystemCallError(errno.EACCES)
        fresh = sum(min(a.end, end) - max(a.start, start) for a in areas if not a.backed)
        if permissions and self.mapped + fresh > self.limit:
            raise SystemCallError(errno.ENOMEM)
        for area in self._cut(start, end):
            length = area.end - area.start
            if area.backed:
                self.pages.protect(area.start, length, permissions)
            elif permissions:
                self.pages.map(area.start, length, permissions, shared=area.shared)
            self._put(area._replace(permissions=permissions, backed=area.backed or permissions != 0))

    # --- contents -------------------------------------------------------------------------------------

    def check(self, address: int, size: int, permission: int) -> None:
        """Raises `AccessFault` unless the guest itself may access all of the range so."""
        end = address + size
        while address < end:
            area = self.find(address)
            if area is None or not area.permissions & permission:
                raise AccessFault(address, permission)
            address = area.end

    def accessible(self, address: int, size: int, permission: int) -> int:
        """How many bytes from `address` on, at most `size`, the guest may access so."""
        end = address + size
        at = address
        while at < end:
            area = self.find(at)
            if area is None or not area.permissions & permission:
                break
            at = area.end
        return min(at, end) - address

    def read(self, address: int, size: int) -> bytes:
        """Bytes that the guest may read. The caller bounds `size`."""
        self.check(address, size, READ)
        return self.pages.read(address, size) if size else b""

    def write(self, address: int, data: bytes) -> None:
        """Write where the guest may write; nothing is written if a part can't be."""
        self.check(address, len(data), WRITE)
        if data:
            self.pages.write(address, data)

    def string(self, address: int, limit: int = STRING_LIMIT) -> bytes:
        """The zero-terminated string at `address`. Raises ENAMETOOLONG beyond `limit` bytes."""
        parts: list[bytes] = []
        length = 0
        while length <= limit:
            size = min(256, self.page_size - address % self.page_size)
            part = self.read(address, size)
            end = part.find(b"\0")
            if end >= 0:
                parts.append(part[:end])
                return b"".join(parts)
            parts.append(part)
            length += size
            address += size
        raise SystemCallError(errno.ENAMETOOLONG)

    # --- brk ------------------------------------------------------------------------------------------

    def set_brk(self, new: int) -> int:
        """Linux's ``brk``: the new end of the heap, or the old one where it can't move there."""
        if new < self.brk_start:
            return self.brk
        old_end, new_end = self.page_up(self.brk), self.page_up(new)
        if new_end > old_end:
            try:
                if not self.is_free(old_end, new_end - old_end):
                    return self.brk
                self.map(
                    old_end, new_end - old_end, READ | WRITE, name="[heap]", offset=old_end - self.brk_start
                )
            except SystemCallError:
                return self.brk
        elif new_end < old_end:
            self.unmap(new_end, old_end - new_end)
        self.brk = new
        return new
