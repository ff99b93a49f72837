"""The slow paths of memory accesses: regions, translation, the TLB's contents, devices, accesses across
pages.

Nothing here touches host memory outside the regions' own, whatever the guest's addresses are: a host address
only ever comes from a region that contains the guest address, and an access across a page's end is put
together byte by byte.
"""

# Comparisons with several constants compile to less than `in` a tuple does.
# ruff: noqa: SIM109

from __future__ import annotations

from typing import Final

from runtime.cpu import block, symbols
from runtime.cpu.exits import Reason
from runtime.cpu.native.pages import code_written
from runtime.cpu.native.raw import (
    load8,
    load64,
    set_bits8,
    store8,
    store16,
    store32,
    store64,
    swap8,
    swap16,
    swap32,
    swap64,
    swap128,
)
from runtime.cpu.native.registry import access_fault, cold, translate
from runtime.cpu.primitives import shr, ule, ult
from runtime.memory import regions

FAILED: Final = 0
"""`resolve` and what uses it: not possible; `REASON` and what belongs to it are set."""
AT_DEVICE: Final = 1
"""`resolve`: the address is a device's; `PHYSICAL` is set."""

PHYSICAL: Final = block.PRIVATE
"""The physical address that was resolved last."""
PAGE_FLAGS: Final = block.PRIVATE + 8
"""Host address of its page's flag byte, or 0: known to hold no code."""
TRANSLATING: Final = block.PRIVATE + 16
"""1 + access while `translate` runs, else 0; and for which address."""
TRANSLATED: Final = block.PRIVATE + 24
PARTIAL: Final = block.PRIVATE + 32
"""Whether what was resolved last holds for 4 bytes, not for the page: memory protection divides it."""

RANGE_PAGES: Final = 1024
"""Most pages of a range for writes: all of them are looked at."""

REASON_AGAIN: Final = int(Reason.AGAIN)
REASON_FAULT: Final = int(Reason.FAULT)
REASON_MMIO: Final = int(Reason.MMIO)
REASON_WATCH: Final = int(Reason.WATCH)
PAGE: Final = regions.PAGE_SIZE
ALL_BUT_63: Final = (1 << 63) - 1


@cold
def region_of(s, address):  # type: ignore[no-untyped-def]
    """Host address of the entry of the region that contains `address`, or 0."""
    table = load64(s + block.REGIONS)
    first = load64(table + regions.ENTRIES)
    low = 0
    high = load64(table + regions.COUNT)
    count = high
    while low < high:
        middle = (low + high) >> 1
        if ult(load64(first + middle * regions.ENTRY_SIZE + regions.LAST), address):
            low = middle + 1
        else:
            high = middle
    entry = first + low * regions.ENTRY_SIZE
    if low < count and ule(load64(entry + regions.START), address):
        return entry
    return 0


@cold
def refuse(s, address, access):  # type: ignore[no-untyped-def]
    """No mapping allows the access: the target's trap, or an exit. Returns FAILED."""
    if load64(s + TRANSLATING) != 0:  # the translation's own access failed: that counts as the original one
        address = load64(s + TRANSLATED)
        access = load64(s + TRANSLATING) - 1
    store64(s + block.FAULT_ADDRESS, address)
    store64(s + block.FAULT_ACCESS, access)
    if access == 2:
        store64(s + block.FAULT_SIZE, 0)
        store64(s + block.FAULT_VALUE, 0)
    if (
        load64(s + block.MODE) & block.MODE_SYSTEM != 0
        and access_fault(s, address, access) == symbols.STATUS_RAISED
    ):
        return FAILED
    store64(s + block.REASON, REASON_FAULT)
    return FAILED


@cold
def physical_of(s, address, access):  # type: ignore[no-untyped-def]
    """Translate: 1 and `PHYSICAL`, or 0 and the trap."""
    physical = address
    store64(s + PARTIAL, 0)
    if load64(s + block.MODE) & block.MODE_SYSTEM != 0:
        store64(s + TRANSLATING, access + 1)
        store64(s + TRANSLATED, address)
        status = translate(s, address, access)
        store64(s + TRANSLATING, 0)
        if status == symbols.STATUS_RAISED:
            return 0
        if status == symbols.STATUS_DONE:
            physical = load64(s + block.RESULTS)
            store64(s + PARTIAL, shr(physical, 63))
            physical &= ALL_BUT_63
    store64(s + PHYSICAL, physical)
    return 1


@cold
def host_of(s, physical, address, access):  # type: ignore[no-untyped-def]
    """A physical address's host address, AT_DEVICE, or FAILED (for `address`); sets `PAGE_FLAGS`."""
    region = region_of(s, physical)
    if region == 0:
        return refuse(s, address, access)
    kind = load64(region + regions.KIND)
    if shr(kind, access) & 1 == 0:
        return refuse(s, address, access)
    if kind & regions.DEVICE != 0:
        if access == 2:
            return refuse(s, address, access)
        return AT_DEVICE
    if access == 1 and kind & regions.DEVICE_WRITES != 0:
        return AT_DEVICE
    distance = physical - load64(region + regions.START)
    store64(s + PAGE_FLAGS, load64(region + regions.FLAGS) + shr(distance, 12))
    return load64(region + regions.HOST) + distance


@cold
def watched(s, address, size, accesses):  # type: ignore[no-untyped-def]
    """Whether one of the accesses (1 reads, 2 writes) to a byte of the range is watched."""
    place = load64(s + block.WATCHES)
    end = place + load64(s + block.WATCH_COUNT) * block.WATCH_ENTRY_SIZE
    last = address + size - 1
    if ult(last, address):
        last = -1
    while place < end:
        if (
            load64(place + 16) & accesses != 0
            and ule(load64(place), last)
            and ule(address, load64(place + 8))
        ):
            return 1
        place += block.WATCH_ENTRY_SIZE
    return 0


@cold
def mark_dirty(flags):  # type: ignore[no-untyped-def]
    """Note in a page's flag byte that it may have been written; what the byte was."""
    state = load8(flags)
    if state & regions.PAGE_DIRTY == 0:
        set_bits8(flags, regions.PAGE_DIRTY)
    return state


@cold
def fill_range(s, entry, address, access):  # type: ignore[no-untyped-def]
    """User mode: note what lies around an address in one piece, and may be accessed without looking it up.

    Writes must go by pages that hold code; all others of the range count as written. 0: memory that may be
    written, but not read: regions take it for granted that what can be written can be read.
    """
    region = region_of(s, address)
    if load64(region + regions.KIND) & regions.READ == 0:
        return 0
    low = load64(region + regions.START)
    last = load64(region + regions.LAST)
    if load64(s + block.WATCH_COUNT) != 0:
        low = address & -PAGE
        last = low + PAGE - 1
    elif access == 1:
        flags = load64(region + regions.FLAGS)
        start = shr(low, 12)
        here = shr(address, 12)
        first = here & -RANGE_PAGES
        if ult(first, start):
            first = start
        end = (here & -RANGE_PAGES) + RANGE_PAGES
        if ult(shr(last, 12) + 1, end):
            end = shr(last, 12) + 1
        page = here
        while ult(first, page) and load8(flags + page - 1 - start) & regions.PAGE_CODE == 0:
            page -= 1
            mark_dirty(flags + page - start)
        low = page << 12
        page = here + 1
        while ult(page, end) and load8(flags + page - start) & regions.PAGE_CODE == 0:
            mark_dirty(flags + page - start)
            page += 1
        last = (page << 12) - 1
    store64(entry + block.TLB_RANGES, low)
    store64(entry + block.TLB_RANGES + 8, last - low - 14)
    return 1


@cold
def resolve(s, address, access):  # type: ignore[no-untyped-def]
    """The host address of a guest address, AT_DEVICE or FAILED. `access`: 0 read, 1 write, 2 execute. Fills
    the TLB.
    """
    fold = shr(address, block.TLB_FOLD_SHIFT) & block.TLB_FOLD_MASK
    entry = load64(s + block.TLB) + ((shr(address, 8) & block.TLB_OFFSET_MASK) ^ fold)
    if access == 1:
        entry += block.TLB_WRITE
    if access != 2 and load64(entry) == address & -PAGE:
        store64(s + PAGE_FLAGS, 0)
        store64(s + PARTIAL, 0)
        return address + load64(entry + 8)
    if physical_of(s, address, access) == 0:
        return FAILED
    physical = load64(s + PHYSICAL)
    host = host_of(s, physical, address, access)
    if host == FAILED or host == AT_DEVICE:
        return host
    if access == 2:
        return host
    flags = load64(s + PAGE_FLAGS)
    if access == 1 and mark_dirty(flags) & regions.PAGE_CODE != 0:
        return host  # writes to code must come here
    if load64(s + PARTIAL) != 0:
        return host
    # The bytes of pages that can be written may also be read by way of the TLB's entry for writes.
    if load64(s + block.WATCH_COUNT) != 0 and watched(s, address & -PAGE, PAGE, 3) != 0:
        return host
    if load64(s + block.RANGES) != 0 and fill_range(s, entry, address, access) == 0:
        return host
    store64(entry, address & -PAGE)
    store64(entry + 8, host - address)
    return host


@cold
def resolve_all(s, address, size, access):  # type: ignore[no-untyped-def]
    """`resolve` for `size` bytes inside one page; where answers hold for 4 bytes, all these are asked for."""
    host = resolve(s, address, access)
    if host == FAILED or load64(s + PARTIAL) == 0:
        return host
    physical = load64(s + PHYSICAL)
    flags = load64(s + PAGE_FLAGS)
    further = (address & -4) + 4
    while ult(further, address + size):
        if resolve(s, further, access) == FAILED:
            return FAILED
        further += 4
    store64(s + PHYSICAL, physical)
    store64(s + PAGE_FLAGS, flags)
    return host


@cold
def device_fits(s, size, access, address):  # type: ignore[no-untyped-def]
    """Whether a device can answer an access of `size` bytes at `PHYSICAL`; else 0, refused."""
    physical = load64(s + PHYSICAL)
    region = region_of(s, physical)
    if size > 8 or ult(load64(region + regions.LAST) - physical, size - 1):
        return refuse(s, address, access)
    return 1


@cold
def ask(s, reason, address, size, write, value):  # type: ignore[no-untyped-def]
    """Ask Python for an access, or take the answer that was already given. 0: leave; else 1, `BOUNCE` set."""
    cursor = load64(s + block.MMIO_CURSOR)
    if cursor < load64(s + block.MMIO_ANSWERED):
        store64(s + block.MMIO_CURSOR, cursor + 1)
        store64(s + block.BOUNCE, load64(load64(s + block.MMIO_ANSWERS) + 8 * cursor))
        return 1
    store64(s + block.MMIO_ADDRESS, address)
    store64(s + block.MMIO_SIZE, size)
    store64(s + block.MMIO_WRITE, write)
    store64(s + block.MMIO_VALUE, value)
    store64(s + block.REASON, reason)
    return FAILED


@cold
def device_access(s, size, write, value):  # type: ignore[no-untyped-def]
    """Ask for a device access at `PHYSICAL`."""
    return ask(s, REASON_MMIO, load64(s + PHYSICAL), size, write, value)


@cold
def may_read(s, address, size):  # type: ignore[no-untyped-def]
    """Report a possible read where memory is watched. 0: leave."""
    if load64(s + block.WATCH_COUNT) == 0 or watched(s, address, size, 1) == 0:
        return 1
    return ask(s, REASON_WATCH, address, size, 0, 0)


@cold
def may_write(s, address, size, low, high):  # type: ignore[no-untyped-def]
    """Report a possible write where memory is watched. 0: leave."""
    if load64(s + block.WATCH_COUNT) == 0 or watched(s, address, size, 2) == 0:
        return 1
    store64(s + block.MMIO_VALUE_HIGH, high)
    return ask(s, REASON_WATCH, address, size, 1, low)


@cold
def load_from(s, host, size, address):  # type: ignore[no-untyped-def]
    """What `load_slow` returns for an access inside one page that `resolve` or `host_of` answered."""
    if host != AT_DEVICE:
        return host
    if device_fits(s, size, 0, address) == 0 or device_access(s, size, 0, 0) == 0:
        return FAILED
    return s + block.BOUNCE


@cold
def load_slow(s, address, size):  # type: ignore[no-untyped-def]
    """See `symbols.LOAD_SLOW`."""
    store64(s + block.FAULT_SIZE, size)
    store64(s + block.FAULT_VALUE, 0)
    mask = load64(s + block.ADDRESS_MASK)
    address = address & mask
    head = PAGE - (address & (PAGE - 1))
    if size <= head:
        host = resolve_all(s, address, size, 0)
        if host == FAILED or may_read(s, address, size) == 0:
            return FAILED
        return load_from(s, host, size, address)
    first = resolve_all(s, address, head, 0)
    if first == FAILED:
        return FAILED
    behind = (address + head) & mask
    second = resolve_all(s, behind, size - head, 0)
    if second == FAILED:
        return FAILED
    if first == AT_DEVICE:
        return refuse(s, address, 0)
    if second == AT_DEVICE:
        return refuse(s, behind, 0)
    if may_read(s, address, size) == 0:
        return FAILED
    i = 0
    while i < head:
        store8(s + block.BOUNCE + i, load8(first + i))
        i += 1
    i = 0
    while i < size - head:
        store8(s + block.BOUNCE + head + i, load8(second + i))
        i += 1
    return s + block.BOUNCE


@cold
def store_bytes(s, flags, host, size, low, high):  # type: ignore[no-untyped-def]
    """Write up to 16 bytes, and forget code that they belonged to. `flags`: the page's flag byte or 0."""
    if size == 8:
        store64(host, low)
    elif size == 4:
        store32(host, low)
    elif size == 2:
        store16(host, low)
    elif size == 1:
        store8(host, low)
    elif size == 16:
        store64(host, low)
        store64(host + 8, high)
    else:
        i = 0
        while i < size:
            store8(host + i, low)
            low = shr(low, 8) | (high << 56)
            high = shr(high, 8)
            i += 1
    # Behind the write: CPUs that decode again when they are told must see what was written.
    if flags != 0 and load8(flags) & regions.PAGE_CODE != 0:
        code_written(s, host, size)
    return 1


@cold
def store_slow(s, address, size, low, high):  # type: ignore[no-untyped-def]
    """See `symbols.STORE_SLOW`."""
    store64(s + block.FAULT_SIZE, size)
    store64(s + block.FAULT_VALUE, low)
    mask = load64(s + block.ADDRESS_MASK)
    address = address & mask
    head = PAGE - (address & (PAGE - 1))
    first = resolve_all(s, address, size if size <= head else head, 1)
    if first == FAILED:
        return FAILED
    if size <= head:
        flags = load64(s + PAGE_FLAGS)
        if may_write(s, address, size, low, high) == 0:
            return FAILED
        if first == AT_DEVICE:
            if device_fits(s, size, 1, address) == 0:
                return FAILED
            return device_access(s, size, 1, low)
        return store_bytes(s, flags, first, size, low, high)
    first_flags = load64(s + PAGE_FLAGS)
    behind = (address + head) & mask
    second = resolve_all(s, behind, size - head, 1)
    if second == FAILED:
        return FAILED
    if first == AT_DEVICE:
        return refuse(s, address, 1)
    if second == AT_DEVICE:
        return refuse(s, behind, 1)
    second_flags = load64(s + PAGE_FLAGS)
    if may_write(s, address, size, low, high) == 0:
        return FAILED
    # Bytes behind the head, as a number of their own.
    if head < 8:
        tail_low = shr(low, 8 * head) | (high << (64 - 8 * head))
        tail_high = shr(high, 8 * head)
    else:
        tail_low = shr(high, 8 * (head - 8))
        tail_high = 0
    store_bytes(s, first_flags, first, head, low, high)
    return store_bytes(s, second_flags, second, size - head, tail_low, tail_high)


@cold
def exchange(host, size, low, high, expected_low, expected_high):  # type: ignore[no-untyped-def]
    """Write up to 16 bytes at an aligned host address if those expected are there: 1, else 0."""
    if size == 8:
        return swap64(host, expected_low, low)
    if size == 4:
        return swap32(host, expected_low, low)
    if size == 2:
        return swap16(host, expected_low, low)
    if size == 1:
        return swap8(host, expected_low, low)
    return swap128(host, expected_low, expected_high, low, high)


@cold
def exchange_slow(s, address, size, low, high, expected_low, expected_high):  # type: ignore[no-untyped-def]
    """See `symbols.EXCHANGE_SLOW`."""
    if address & (size - 1) != 0:
        return store_slow(s, address, size, low, high)
    store64(s + block.FAULT_SIZE, size)
    store64(s + block.FAULT_VALUE, low)
    address = address & load64(s + block.ADDRESS_MASK)
    host = resolve_all(s, address, size, 1)
    if host == FAILED:
        return FAILED
    flags = load64(s + PAGE_FLAGS)
    if may_write(s, address, size, low, high) == 0:
        return FAILED
    if host == AT_DEVICE:
        if device_fits(s, size, 1, address) == 0:
            return FAILED
        return device_access(s, size, 1, low)
    if exchange(host, size, low, high, expected_low, expected_high) == 0:
        store64(s + block.REASON, REASON_AGAIN)
        return FAILED
    if flags != 0 and load8(flags) & regions.PAGE_CODE != 0:
        code_written(s, host, size)
    return 1


@cold
def probe_write(s, address, size):  # type: ignore[no-untyped-def]
    """See `symbols.PROBE_WRITE`."""
    store64(s + block.FAULT_SIZE, size)
    store64(s + block.FAULT_VALUE, 0)
    mask = load64(s + block.ADDRESS_MASK)
    address = address & mask
    head = PAGE - (address & (PAGE - 1))
    first = resolve_all(s, address, size if size <= head else head, 1)
    if first == FAILED:
        return FAILED
    if size > head:
        behind = (address + head) & mask
        second = resolve_all(s, behind, size - head, 1)
        if second == FAILED:
            return FAILED
        if first == AT_DEVICE:
            return refuse(s, address, 1)
        if second == AT_DEVICE:
            return refuse(s, behind, 1)
    return 1


@cold
def load_physical(s, address, size):  # type: ignore[no-untyped-def]
    """See `symbols.LOAD_PHYSICAL`."""
    if load64(s + block.MODE) & block.MODE_SYSTEM == 0 and ult(load64(s + block.ADDRESS_MASK), address) == 0:
        return load_slow(s, address, size)
    if (address & (PAGE - 1)) + size > PAGE:
        return refuse(s, address, 0)
    store64(s + PHYSICAL, address)
    host = host_of(s, address, address, 0)
    if host == FAILED:
        return FAILED
    return load_from(s, host, size, address)


@cold
def store_physical(s, address, size, low, high):  # type: ignore[no-untyped-def]
    """See `symbols.STORE_PHYSICAL`."""
    if load64(s + block.MODE) & block.MODE_SYSTEM == 0 and ult(load64(s + block.ADDRESS_MASK), address) == 0:
        return store_slow(s, address, size, low, high)
    if (address & (PAGE - 1)) + size > PAGE:
        return refuse(s, address, 1)
    store64(s + PHYSICAL, address)
    host = host_of(s, address, address, 1)
    if host == FAILED:
        return FAILED
    if host == AT_DEVICE:
        if device_fits(s, size, 1, address) == 0:
            return FAILED
        return device_access(s, size, 1, low)
    flags = load64(s + PAGE_FLAGS)
    mark_dirty(flags)
    return store_bytes(s, flags, host, size, low, high)
