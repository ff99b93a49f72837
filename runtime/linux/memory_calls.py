"""System calls that change the address space."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from runtime.linux.calls import signed, system_call
from runtime.linux.errors import SystemCallError
from runtime.linux.memory import CHUNK, Area
from runtime.linux.paths import name_of
from runtime.linux.ports import EXECUTE, READ, WRITE

if TYPE_CHECKING:
    from runtime.linux.process import Process

ZERO_DEVICE = os.makedev(1, 5)
MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE, MAP_TYPE = 1, 2, 3, 0xF
MAP_FIXED, MAP_ANONYMOUS = 0x10, 0x20
MAP_FIXED_NOREPLACE = 0x100000
MREMAP_MAYMOVE, MREMAP_FIXED = 1, 2
PROTECTIONS = READ | WRITE | EXECUTE
# Other bits (PROT_SEM, PROT_GROWSDOWN, architectures' own) are ignored: there is nothing to do for them.


@system_call("brk")
def brk(p: Process, address: int) -> int:
    return p.memory.set_brk(address)


def map_pages(p: Process, wish: int, size: int, prot: int, flags: int, number: int, offset: int) -> int:
    """``mmap`` with the offset in bytes. What is mapped privately is read at once: a file that becomes
    shorter must not take pages away from under the emulator.
    """
    memory = p.memory
    page = memory.page_size
    kind = flags & MAP_TYPE
    if size == 0 or offset % page or kind not in (MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE):
        raise SystemCallError(errno.EINVAL)
    size = memory.page_up(size)
    if size > memory.high:
        raise SystemCallError(errno.ENOMEM)
    permissions = prot & PROTECTIONS
    shared = kind != MAP_PRIVATE
    file = None
    if not flags & MAP_ANONYMOUS:
        file = p.files.get(number)
        mode = fcntl.fcntl(file.host, fcntl.F_GETFL)
        if mode & os.O_PATH:
            raise SystemCallError(errno.EBADF)
        if mode & os.O_ACCMODE == os.O_WRONLY:
            raise SystemCallError(errno.EACCES)
        kind = os.fstat(file.host).st_mode
        if stat.S_ISCHR(kind) and os.fstat(file.host).st_rdev == ZERO_DEVICE:
            file = None
        elif not stat.S_ISREG(kind):
            raise SystemCallError(errno.ENODEV)
        elif shared and permissions & WRITE and mode & os.O_ACCMODE != os.O_RDWR:
            raise SystemCallError(errno.EACCES)
    if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE):
        start = wish
        if start % page:
            raise SystemCallError(errno.EINVAL)
        memory.check_range(start, size)
        if flags & MAP_FIXED_NOREPLACE and not memory.is_free(start, size):
            raise SystemCallError(errno.EEXIST)
    else:
        start = memory.page_down(wish)
        fits = start >= memory.low and start + size <= memory.top and memory.is_free(start, size)
        if not start or not fits:
            start = memory.find_gap(size)
    if file is None:
        memory.map(start, size, permissions, shared=shared)
    elif shared:
        writable = mode & os.O_ACCMODE == os.O_RDWR
        name = os.fsdecode(name_of(p, file))
        memory.map(
            start, size, permissions, name=name, offset=offset, shared=True, file=file.host, writable=writable
        )
    else:
        name = os.fsdecode(name_of(p, file))
        memory.map(start, size, permissions or READ, name=name, offset=offset)
        for done in range(0, size, CHUNK):
            data = os.pread(file.host, min(CHUNK, size - done), offset + done)
            if not data:
                break
            memory.pages.write(start + done, data)
        if not permissions:
            memory.protect(start, size, 0)
    p.cpu.changed_code(start, size)
    return start


@system_call("mmap")
def mmap(p: Process, wish: int, size: int, prot: int, flags: int, number: int, offset: int) -> int:
    if p.abi.name == "i386":  # the old call: a pointer to the six arguments
        data = p.memory.read(wish, 24)
        wish, size, prot, flags, number, offset = (p.abi.unpack(data[i : i + 4]) for i in range(0, 24, 4))
    return map_pages(p, wish, size, prot, flags, number, offset)


@system_call("mmap2")
def mmap2(p: Process, wish: int, size: int, prot: int, flags: int, number: int, pages: int) -> int:
    """The offset counts units of 4096 bytes, whatever the page size."""
    return map_pages(p, wish, size, prot, flags, number, pages * 4096)


@system_call("munmap")
def munmap(p: Process, start: int, size: int) -> int:
    memory = p.memory
    size = memory.page_up(size)
    if start % memory.page_size or size == 0 or start + size > memory.high:
        raise SystemCallError(errno.EINVAL)
    memory.unmap(start, size)
    p.cpu.changed_code(start, size)
    return 0


@system_call("mprotect")
def mprotect(p: Process, start: int, size: int, prot: int) -> int:
    memory = p.memory
    size = memory.page_up(size)
    if start % memory.page_size:
        raise SystemCallError(errno.EINVAL)
    if start + size > memory.high:
        raise SystemCallError(errno.ENOMEM)
    if size:
        memory.protect(start, size, prot & PROTECTIONS)
        p.cpu.changed_code(start, size)
    return 0


@system_call("mremap")
def mremap(p: Process, old: int, old_size: int, new_size: int, flags: int, wish: int) -> int:
    memory = p.memory
    old_size, new_size = memory.page_up(old_size), memory.page_up(new_size)
    if old % memory.page_size or not new_size or not old_size or flags & ~3:
        raise SystemCallError(errno.EINVAL)
    area = memory.find(old)
    if area is None or area.end < old + old_size:
        raise SystemCallError(errno.EFAULT)
    fixed = bool(flags & MREMAP_FIXED)
    if fixed:
        if not flags & MREMAP_MAYMOVE or wish % memory.page_size:
            raise SystemCallError(errno.EINVAL)
        if wish < old + old_size and old < wish + new_size:
            raise SystemCallError(errno.EINVAL)
    if new_size < old_size:
        memory.unmap(old + new_size, old_size - new_size)
        old_size = new_size
    grow = new_size - old_size
    tail = old + old_size
    if not fixed:
        if not grow:
            return old
        if area.end == tail and tail + grow <= memory.top and memory.is_free(tail, grow):
            extend(p, area, old, tail, grow, area.offset + tail - area.start)
            return old
        if not flags & MREMAP_MAYMOVE:
            raise SystemCallError(errno.ENOMEM)
    start = wish if fixed else memory.find_gap(new_size)
    if fixed:
        memory.check_range(start, new_size)
        memory.unmap(start, new_size)
    if grow and area.backed and memory.mapped + grow > memory.limit:
        raise SystemCallError(errno.ENOMEM)
    memory.move(old, start, old_size)
    if grow:
        extend(p, area, start, start + old_size, grow, area.offset + tail - area.start)
    p.cpu.changed_code(start, new_size)
    return start


def extend(p: Process, area: Area, old: int, start: int, size: int, offset: int) -> None:
    """Map `size` bytes at `start` that continue what `area` maps, now at `old`: more of a shared file from
    `offset` on, or zeros.
    """
    file = p.memory.pages.mapped_file(old) if area.shared else None
    p.memory.map(
        *(start, size, area.permissions),
        name=area.name,
        offset=offset,
        shared=area.shared,
        file=file,
        writable=area.writable,
    )


@system_call("madvise")
def madvise(p: Process, start: int, size: int, advice: int) -> int:
    """MADV_DONTNEED must give zero pages; other advice may be ignored."""
    memory = p.memory
    size = memory.page_up(size)
    if start % memory.page_size or start + size > memory.high:
        raise SystemCallError(errno.EINVAL)
    if signed(advice) == 4 and size:
        areas = memory.overlapping(start, start + size)
        for area in areas:
            low, high = max(area.start, start), min(area.end, start + size)
            if area.backed and not area.shared and (not area.name or area.name.startswith("[")):
                offset = area.offset + low - area.start
                memory.map(low, high - low, area.permissions, name=area.name, offset=offset)
    return 0


@system_call("msync", "mlock", "munlock", "mlockall", "munlockall")
def msync(p: Process) -> int:
    return 0
