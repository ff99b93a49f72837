"""Guest address spaces: RAM in host memory, devices, permissions; and the table by which native code finds
them.

Guest addresses are virtual in user mode and physical in system mode. Every host access by way of a space
stays inside the guest's own memory: ranges are checked against the regions, page by page.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakSet

from runtime.errors import IsagenError
from runtime.memory import regions
from runtime.memory.regions import (
    DEVICE,
    DEVICE_WRITES,
    ENTRY_SIZE,
    EXECUTE,
    HEAD_SIZE,
    PAGE_CODE,
    PAGE_DIRTY,
    PAGE_SIZE,
    READ,
    WRITE,
)

_PAGEMAP: Final = struct.Struct("=Q")
_PRESENT, _OF_FILE = 3 << 62, 1 << 61
"""Bits of an entry of ``pagemap``: in memory or swapped out; a page of a file."""
ADDRESSES: Final = 1 << 64
ALL: Final = READ | WRITE | EXECUTE


_DIRTY: Final = re.compile(rb"[\x02\x03]")
"""Flags with `PAGE_DIRTY`."""


class AddressError(IsagenError):
    """A range of guest addresses that can't be used so. `address` is the first bad one."""

    def __init__(self, what: str, address: int, remedy: str = "") -> None:
        super().__init__(what, where=f"guest address {address:#x}", remedy=remedy)
        self.address = address


def _marked(flags: bytes | bytearray, bit: int) -> bool:
    """Whether a page has one of its flags set to `bit` (`PAGE_CODE`, `PAGE_DIRTY`)."""
    return any(bytes([flag]) in flags for flag in range(4) if flag & bit)


class CodeListener(Protocol):
    """A CPU, which has to forget code when its bytes change."""

    def forget_code(self, host: int, size: int) -> None:
        """The host wrote, or is about to take away, `size` bytes at the host address `host`."""
        ...


class Ram:
    """Host memory for a guest: whole pages of zeros, paid for when touched.

    `shared`: in a memory file (memfd), so that other processes and copy-on-write mappings can share it.
    `copy_of`: with the contents of this file from `offset` on (a multiple of the host's page size), which
    isn't changed: pages are copied when written.
    `huge`: in the host's huge pages where it has some: most of it is going to be used.
    """

    def __init__(
        self,
        size: int,
        *,
        shared: bool = False,
        copy_of: int | None = None,
        offset: int = 0,
        huge: bool = False,
    ) -> None:
        if size <= 0 or size % PAGE_SIZE:
            raise AddressError(f"RAM of {size} bytes", 0, f"take a multiple of {PAGE_SIZE}")
        self.size = size
        self.file: int | None = None
        self._copied = copy_of is not None
        self._origin: int | None = None
        self._offset = offset
        try:
            if copy_of is not None:
                self._origin = os.dup(copy_of)
            if shared:
                self.file = os.memfd_create("guest-ram", os.MFD_CLOEXEC)
                os.ftruncate(self.file, size)
                self.memory = mmap.mmap(self.file, size)
            elif copy_of is not None:
                self.memory = mmap.mmap(copy_of, size, flags=mmap.MAP_PRIVATE, offset=offset)
            else:
                flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
                self.memory = mmap.mmap(-1, size, flags=flags)
                if huge and hasattr(mmap, "MADV_HUGEPAGE"):
                    with contextlib.suppress(OSError):  # the host's kernel may have none
                        self.memory.madvise(mmap.MADV_HUGEPAGE)
        except (OSError, ValueError, OverflowError) as error:
            self.close()
            raise IsagenError(
                f"the host has no {size} bytes for guest memory", remedy="give the guest less memory"
            ) from error
        self._view = (ctypes.c_char * 1).from_buffer(self.memory)
        self.host = ctypes.addressof(self._view)

    def close(self) -> None:
        """Give the memory file back; the mapping goes with the object."""
        for file in (self.file, self._origin):
            if file is not None:
                os.close(file)
        self.file = self._origin = None

    def __del__(self) -> None:
        self.close()

    def used(self, size: int) -> Iterator[int]:
        """Numbers of the pieces of `size` bytes that may hold something else than zeros, as far as the host
        can tell without reading them.
        """
        if self.file is not None:
            yield from self._data_in(self.file, 0, size)
        elif self._origin is not None:
            yield from sorted(self._own_pages(size).union(self._data_in(self._origin, self._offset, size)))
        else:
            yield from range(-(-self.size // size))

    def _data_in(self, file: int, offset: int, size: int) -> Iterator[int]:
        """Pieces of a part of a file that aren't holes."""
        at = 0
        while at < self.size:
            try:
                start = os.lseek(file, offset + at, os.SEEK_DATA) - offset
            except OSError:
                return  # only holes are left
            if start >= self.size:
                return
            number = start // size
            yield number
            at = (number + 1) * size

    def _own_pages(self, size: int) -> set[int]:
        """Pieces of a copy with pages of its own, written since it was made (Linux: proc_pid_pagemap(5))."""
        host_page = mmap.PAGESIZE
        try:
            with open("/proc/self/pagemap", "rb", buffering=0) as table:  # noqa: PTH123 - at every start
                table.seek(self.host // host_page * 8)
                entries = table.read(self.size // host_page * 8)
        except OSError:
            entries = b""
        if len(entries) != self.size // host_page * 8:
            return set(range(-(-self.size // size)))
        per_piece = size // host_page
        return {
            number // per_piece
            for number, (entry,) in enumerate(_PAGEMAP.iter_unpack(entries))
            if entry & _PRESENT and not entry & _OF_FILE
        }

    def release(self, offset: int, size: int) -> None:
        """Give the host its pages back; the guest would read zeros."""
        if self._copied:
            self.memory[offset : offset + size] = bytes(size)  # giving them back would bring the copied ones
        elif self.file is None and hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED, offset, size)
        elif self.file is not None and hasattr(mmap, "MADV_REMOVE"):
            self.memory.madvise(mmap.MADV_REMOVE, offset, size)


class ForeignRam(Ram):
    """Host memory that isn't ours as a guest's RAM: `size` bytes at the host address `host`, both multiples
    of 4096. It has to stay there as long as this exists.
    """

    def __init__(self, host: int, size: int) -> None:
        if host % PAGE_SIZE or size <= 0 or size % PAGE_SIZE:
            raise AddressError(f"{size} bytes at the host address {host:#x} aren't whole pages", 0)
        self.size = size
        self.file = self._origin = None
        self.host = host
        memory: Any = memoryview((ctypes.c_char * size).from_address(host)).cast("B")
        self.memory = memory  # it takes and gives slices, as a mapping does

    def release(self, offset: int, size: int) -> None:
        """The memory stays as it is."""


class _Flags:
    """A flag byte for each page of a `Ram`. `executable`: code may have been decoded from it; then native
    code may hold the flags' address, and they are kept as long as the space.
    """

    def __init__(self, pages: int) -> None:
        self.executable = False
        self.bytes = bytearray(pages)
        self._view = (ctypes.c_char * pages).from_buffer(self.bytes)
        self.host = ctypes.addressof(self._view)


class Region(NamedTuple):
    """Guest addresses from `start` on: part of a RAM from `offset` on, or a device (`ram` is None)."""

    start: int
    size: int
    permissions: int
    ram: Ram | None = None
    offset: int = 0

    @property
    def end(self) -> int:
        """The first address behind."""
        return self.start + self.size


def _joined(regions: list[Region]) -> list[Region]:
    """Sorted regions, with those in one that go on in the same RAM with the same permissions."""
    joined: list[Region] = []
    for region in regions:
        last = joined[-1] if joined else None
        if (
            last is not None
            and region.ram is not None
            and region.ram is last.ram
            and region.start == last.end
            and region.offset == last.offset + last.size
            and region.permissions == last.permissions
        ):
            joined[-1] = last._replace(size=last.size + region.size)
        else:
            joined.append(region)
    return joined


class AddressSpace:
    """Regions that don't overlap; a later mapping replaces what it covers.

    Changes, and writes to code, only while no attached CPU runs.
    """

    def __init__(self) -> None:
        self._regions: list[Region] = []
        self._starts: list[int] = []
        self._flags: dict[int, _Flags] = {}
        self._code_flags: list[_Flags] = []
        self._listeners: WeakSet[CodeListener] = WeakSet()
        self._head = bytearray(HEAD_SIZE)
        self._head_view = (ctypes.c_char * HEAD_SIZE).from_buffer(self._head)
        self.table = ctypes.addressof(self._head_view)
        """Host address of the table (`runtime.memory.regions`)."""
        self._entries: ctypes.Array[ctypes.c_char] | None = None
        self._news: ctypes.Array[ctypes.c_char] | None = None
        self._generation = 0
        self._publish()

    # --- mapping ----------------------------------------------------------------------------------------

    def map(self, start: int, size: int, permissions: int = ALL) -> None:
        """Map fresh pages of zeros. `start` and `size` are multiples of 4096. Raises AddressError."""
        self._check(start, size)
        self.map_ram(start, Ram(size), permissions=permissions)

    def map_ram(
        self, start: int, ram: Ram, *, offset: int = 0, size: int | None = None, permissions: int = ALL
    ) -> None:
        """Map `size` bytes (all that are left by default) of `ram` from `offset` on. `permissions` may have
        `DEVICE_WRITES`, too: the guest reads RAM, and its writes leave the engine with `Reason.MMIO`. Raises
        AddressError.
        """
        size = ram.size - offset if size is None else size
        self._check(start, size)
        if offset % PAGE_SIZE or offset < 0 or offset + size > ram.size:
            raise AddressError(f"the RAM has no {size} bytes at offset {offset:#x}", start)
        if id(ram) not in self._flags:
            self._flags[id(ram)] = _Flags(ram.size // PAGE_SIZE)
        self._replace(
            start, start + size, [Region(start, size, permissions & (ALL | DEVICE_WRITES), ram, offset)]
        )

    def map_device(self, start: int, size: int, permissions: int = READ | WRITE) -> None:
        """Accesses from `start` on leave the engine with `Reason.MMIO`. Raises AddressError."""
        if size <= 0 or start < 0 or start + size > ADDRESSES:
            raise AddressError(f"a device of {size} bytes", start)
        first, last = start // PAGE_SIZE, (start + size - 1) // PAGE_SIZE
        whole = start % PAGE_SIZE == 0 and size % PAGE_SIZE == 0
        for region in self._overlapping(first * PAGE_SIZE, (last + 1) * PAGE_SIZE):
            if region.ram is not None and not whole:
                raise AddressError("a device on part of a page of RAM", start, "place it on pages of its own")
        self._replace(start, start + size, [Region(start, size, permissions & (READ | WRITE))])

    def unmap(self, start: int, size: int) -> None:
        """Remove what is mapped in the range."""
        self._check(start, size)
        self._replace(start, start + size, [])

    def remove(self, region: Region) -> None:
        """Remove a region, whole pages or not."""
        self._replace(region.start, region.end, [])

    def protect(self, start: int, size: int, permissions: int) -> None:
        """Change the permissions of what is mapped in the range."""
        self._check(start, size)
        end = start + size
        self._replace(
            start,
            end,
            [r._replace(permissions=permissions & ALL) for r in self._cut(start, end)],
            release=False,
        )

    def _check(self, start: int, size: int) -> None:
        if size <= 0 or start < 0 or start % PAGE_SIZE or size % PAGE_SIZE or start + size > ADDRESSES:
            raise AddressError(f"a range of {size} bytes isn't whole pages", start)

    def _overlapping(self, start: int, end: int) -> list[Region]:
        first = max(0, bisect_right(self._starts, start) - 1)
        found = []
        for region in self._regions[first:]:
            if region.start >= end:
                break
            if region.end > start:
                found.append(region)
        return found

    def _cut(self, start: int, end: int) -> list[Region]:
        """The parts of regions that lie in the range."""
        parts = []
        for region in self._overlapping(start, end):
            low, high = max(start, region.start), min(end, region.end)
            parts.append(
                region._replace(start=low, size=high - low, offset=region.offset + low - region.start)
            )
        return parts

    def _replace(self, start: int, end: int, new: list[Region], *, release: bool = True) -> None:
        """Put `new` in place of everything in the range."""
        going = self._cut(start, end)
        for part in going:
            self._forget(part)
        kept = []
        for region in self._overlapping(start, end):
            if region.start < start:
                kept.append(region._replace(size=start - region.start))
            if region.end > end:
                distance = end - region.start
                kept.append(
                    region._replace(start=end, size=region.end - end, offset=region.offset + distance)
                )
        old = {id(region) for region in self._overlapping(start, end)}
        self._regions = _joined(
            sorted(
                [region for region in self._regions if id(region) not in old] + kept + new,
                key=lambda r: r.start,
            )
        )
        self._starts = [region.start for region in self._regions]
        if release:
            self._release(going)
        self._publish()

    def _release(self, gone: list[Region]) -> None:
        """Forget RAM that isn't mapped any more, and give pages of private RAM back."""
        used: dict[int, list[Region]] = {}
        for region in self._regions:
            if region.ram is not None:
                used.setdefault(id(region.ram), []).append(region)
        for part in gone:
            if part.ram is None:
                continue
            others = used.get(id(part.ram))
            if others is None:
                flags = self._flags.pop(id(part.ram), None)
                if flags is not None and flags.executable:
                    self._code_flags.append(flags)
            elif part.ram.file is None and all(
                o.offset + o.size <= part.offset or part.offset + part.size <= o.offset for o in others
            ):
                part.ram.release(part.offset, part.size)
                self._mark_dirty(part.ram, part.offset, part.size)

    # --- what was written ---------------------------------------------------------------------------------

    def _mark_dirty(self, ram: Ram, offset: int, size: int) -> None:
        flags = self._flags[id(ram)].bytes
        for page in range(offset // PAGE_SIZE, (offset + size - 1) // PAGE_SIZE + 1):
            flags[page] |= PAGE_DIRTY

    def take_dirty(self) -> dict[Ram, list[int]]:
        """The pages of each mapped RAM (numbers from its start) that may have been written since the last
        call.
        """
        found: dict[Ram, list[int]] = {}
        for region in self._regions:
            if region.ram is None or region.ram in found:
                continue
            flags = self._flags[id(region.ram)].bytes
            found[region.ram] = pages = [match.start() for match in _DIRTY.finditer(flags)]
            for page in pages:
                flags[page] &= ~PAGE_DIRTY
        if any(found.values()):
            self._publish()  # CPUs have to ask before they write these pages again
        return found

    # --- code -------------------------------------------------------------------------------------------

    def attach(self, listener: CodeListener) -> None:
        """`listener` (held weakly) is told of changed code from now on."""
        self._listeners.add(listener)
        if len(self._listeners) > 1 and self._news is None:
            size = regions.NEWS_HEAD_SIZE + regions.NEWS_ENTRIES * regions.NEWS_ENTRY_SIZE
            self._news = (ctypes.c_char * size)()
            struct.pack_into("=Q", self._head, regions.CODE_NEWS, ctypes.addressof(self._news))

    def _forget(self, part: Region) -> None:
        """Tell the CPUs that the code of a part changes, if there is any."""
        if part.ram is not None:
            self._forget_code(part.ram, part.offset, part.size)

    def _forget_code(self, ram: Ram, offset: int, size: int) -> None:
        if id(ram) not in self._flags or not self._flags[id(ram)].executable:
            return
        flags = self._flags[id(ram)].bytes
        if _marked(flags[offset // PAGE_SIZE : (offset + size - 1) // PAGE_SIZE + 1], PAGE_CODE):
            for listener in self._listeners:
                listener.forget_code(ram.host + offset, size)

    def _about_to_write(self, ram: Ram, offset: int, size: int) -> None:
        """The host writes these bytes (at least one) now."""
        self._forget_code(ram, offset, size)
        self._mark_dirty(ram, offset, size)

    # --- contents ---------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Region]:
        return iter(self._regions)

    def find(self, address: int) -> Region | None:
        """The region that holds `address`."""
        index = bisect_right(self._starts, address) - 1
        if index >= 0 and address < self._regions[index].end:
            return self._regions[index]
        return None

    def _pieces(self, address: int, size: int) -> Iterator[Region]:
        """RAM that covers the range, in order. Raises AddressError where there is none."""
        end = address + size
        while address < end:
            region = self.find(address)
            if region is None or region.ram is None:
                raise AddressError("no memory is mapped here", address)
            distance = address - region.start
            length = min(end, region.end) - address
            yield region._replace(start=address, size=length, offset=region.offset + distance)
            address += length

    def _piece(self, address: int, size: int) -> tuple[Ram, int] | None:
        """The RAM that holds the whole range, and the offset there; None: several hold it, or none."""
        region = self.find(address)
        if region is None or region.ram is None or address + size > region.end:
            return None
        return region.ram, region.offset + address - region.start

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes, whatever the permissions. Raises AddressError where no RAM is mapped."""
        if piece := self._piece(address, size):
            ram, offset = piece
            return bytes(ram.memory[offset : offset + size])
        parts = []
        for part in self._pieces(address, size):
            assert part.ram is not None
            parts.append(bytes(part.ram.memory[part.offset : part.offset + part.size]))
        return b"".join(parts)

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Write `data`, whatever the permissions; nothing where a part isn't RAM (AddressError)."""
        view = memoryview(data).cast("B")
        size = len(view)
        if size and (piece := self._piece(address, size)):
            ram, offset = piece
            self._about_to_write(ram, offset, size)
            ram.memory[offset : offset + size] = view
            return
        done = 0
        for part in list(self._pieces(address, size)):
            assert part.ram is not None
            self._about_to_write(part.ram, part.offset, part.size)
            part.ram.memory[part.offset : part.offset + part.size] = view[done : done + part.size]
            done += part.size

    def views(self, address: int, size: int, *, writable: bool = False) -> list[memoryview]:
        """The range itself, in as many pieces as there are RAMs, to be used at once: `writable` ones count as
        written now. Raises AddressError where no RAM is mapped.
        """
        views = []
        for part in list(self._pieces(address, size)):
            assert part.ram is not None
            if writable:
                self._about_to_write(part.ram, part.offset, part.size)
            view = memoryview(part.ram.memory)[part.offset : part.offset + part.size]
            views.append(view if writable else view.toreadonly())
        return views

    def discard(self, address: int, size: int) -> None:
        """Give whole pages back to the host; they read as zeros then. Raises AddressError where a part isn't
        RAM.
        """
        self._check(address, size)
        for part in list(self._pieces(address, size)):
            assert part.ram is not None
            self._about_to_write(part.ram, part.offset, part.size)
            part.ram.release(part.offset, part.size)

    def write_ram(self, ram: Ram, offset: int, data: bytes) -> None:
        """Write to a mapped RAM, wherever it is mapped."""
        self._forget(Region(0, len(data), 0, ram, offset))
        ram.memory[offset : offset + len(data)] = data
        if id(ram) in self._flags:
            self._mark_dirty(ram, offset, len(data))

    # --- the table --------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Write the table that native code reads. No CPU runs meanwhile."""
        size = ENTRY_SIZE * max(1, len(self._regions))
        entries = (ctypes.c_char * size)()
        for number, region in enumerate(self._regions):
            kind, host, flags = region.permissions | DEVICE, 0, 0
            if region.ram is not None:
                kind = region.permissions
                host = region.ram.host + region.offset
                of_ram = self._flags[id(region.ram)]
                of_ram.executable |= bool(kind & EXECUTE)
                flags = of_ram.host + region.offset // PAGE_SIZE
            struct.pack_into(
                "=QQQQQ", entries, number * ENTRY_SIZE, *(region.start, region.end - 1, host, kind, flags)
            )
        self._entries = entries
        self._generation += 1
        for offset, value in {
            regions.GENERATION: self._generation,
            regions.COUNT: len(self._regions),
            regions.ENTRIES: ctypes.addressof(entries),
        }.items():
            struct.pack_into("=q", self._head, offset, value)
