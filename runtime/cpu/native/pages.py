"""Pages of decoded code and spaces: finding, dropping, forgetting. See `runtime.cpu.cache` for the
structures.
"""

from __future__ import annotations

from typing import Final

from runtime.cpu import block, cache, tables
from runtime.cpu.native.raw import (
    clear_bits8,
    load8,
    load32,
    load64,
    observe64,
    publish64,
    set_bits8,
    store16,
    store32,
    store64,
    swap64,
    zero_bytes,
)
from runtime.cpu.native.registry import cold
from runtime.cpu.primitives import shr, ult
from runtime.memory import regions

PAGE: Final = regions.PAGE_SIZE


@cold
def bucket_of(c, host):  # type: ignore[no-untyped-def]
    """Host address of the chain's head for a host page."""
    number = (shr(host, 12) ^ shr(host, 24)) & (cache.BUCKET_COUNT - 1)
    return load64(c + cache.BUCKETS) + 4 * number


@cold
def page_number(c, entry):  # type: ignore[no-untyped-def]
    """The number of a page entry."""
    return (entry - load64(c + cache.PAGES)) >> cache.PAGE_ENTRY_SHIFT


@cold
def mark_stale(c, entry):  # type: ignore[no-untyped-def]
    """Turn the records of a page into stale ones and empty its map."""
    records = load64(c + cache.RECORDS)
    place = load64(entry + cache.PAGE_MAP)
    end = place + load64(c + cache.MAP_SIZE)
    while place < end:
        # Most of a map is empty: eight bytes at a time.
        if load64(place) != 0:
            half = 0
            while half < 2:
                number = load32(place + 4 * half)
                if number != 0:
                    record = records + 8 * number
                    while True:
                        store16(record, block.OP_STALE)
                        meta = record + block.META_DISTANCE
                        record += 8 * load8(meta + 6)
                        if load8(record + block.META_DISTANCE + 7) & cache.META_FOLLOWS == 0:
                            break
                half += 1
            store64(place, 0)
        place += 8
    store64(entry + cache.PAGE_ACROSS, 0)
    store64(c + cache.DROPS, load64(c + cache.DROPS) + 1)
    return 0


@cold
def drop_records(c, host):  # type: ignore[no-untyped-def]
    """Forget all code decoded from a host page, and code before it that runs on into it. The last of the
    entries that were; 0: there were none.
    """
    pages = load64(c + cache.PAGES)
    number = load32(bucket_of(c, host))
    dropped = 0
    while number != 0:
        entry = pages + number * cache.PAGE_ENTRY_SIZE
        if load64(entry + cache.PAGE_HOST) == host:
            mark_stale(c, entry)
            tail = load64(entry + cache.PAGE_TAIL)
            if tail != 0:
                mark_stale(c, pages + tail * cache.PAGE_ENTRY_SIZE)
                store64(entry + cache.PAGE_TAIL, 0)
            dropped = entry
        number = load64(entry + cache.PAGE_NEXT)
    return dropped


@cold
def drop_host_page(s, host):  # type: ignore[no-untyped-def]
    """`drop_records`, and from now on nobody looks at writes to the page. Whether there were any."""
    entry = drop_records(load64(s + block.CACHE), host)
    if entry == 0:
        return 0
    clear_bits8(load64(entry + cache.PAGE_FLAGS), regions.PAGE_CODE)
    return 1


@cold
def code_written(s, host, size):  # type: ignore[no-untyped-def]
    """Bytes of a page that code was decoded from have changed: drop the page if an instruction may lie there.
    Tells the other CPUs.
    """
    hit = is_code(s, host, size)
    if hit != 0:
        drop_host_page(s, host & -PAGE)
        tell(s, host & -PAGE, PAGE)
    else:
        tell(s, host, size)
    return hit


@cold
def is_code(s, host, size):  # type: ignore[no-untyped-def]
    """Whether an instruction that was decoded may lie in bytes of a page."""
    c = load64(s + block.CACHE)
    t = load64(s + block.TABLES)
    pages = load64(c + cache.PAGES)
    page = host & -PAGE
    offset = host & (PAGE - 1)
    unit = load64(t + tables.H_UNIT)
    before = load64(t + tables.H_MAX_LENGTH) - 1
    first = (offset - before) & -unit
    if first < 0:
        first = 0
    number = load32(bucket_of(c, page))
    hit = 0
    while number != 0:
        entry = pages + number * cache.PAGE_ENTRY_SIZE
        if load64(entry + cache.PAGE_HOST) == page:
            if load64(entry + cache.PAGE_TAIL) != 0 and offset <= before:
                hit = 1
            place = load64(entry + cache.PAGE_MAP)
            at = first
            while at < offset + size:
                if load32(place + 4 * shr(at, load64(t + tables.H_UNIT_SHIFT))) != 0:
                    hit = 1
                at += unit
        number = load64(entry + cache.PAGE_NEXT)
    return hit


@cold
def tell(s, host, size):  # type: ignore[no-untyped-def]
    """Note for the other CPUs over the same memory, if there are any: see `regions.CODE_NEWS`."""
    news = load64(load64(s + block.REGIONS) + regions.CODE_NEWS)
    if news == 0:
        return 0
    while swap64(news + regions.NEWS_LOCK, 0, 1) == 0:
        pass
    count = load64(news)
    place = news + regions.NEWS_HEAD_SIZE + regions.NEWS_ENTRY_SIZE * (count & (regions.NEWS_ENTRIES - 1))
    store64(place, host)
    store64(place + 8, size)
    store64(place + 16, s)
    publish64(news, count + 1)
    publish64(news + regions.NEWS_LOCK, 0)
    return 0


@cold
def hear(s):  # type: ignore[no-untyped-def]
    """Act on what other CPUs told. Flags of pages stay: the teller may have decoded code there again."""
    news = load64(load64(s + block.REGIONS) + regions.CODE_NEWS)
    if news == 0:
        return 0
    seen = load64(s + block.CODE_NEWS_SEEN)
    count = observe64(news)
    if count == seen:
        return 0
    while seen < count:
        place = news + regions.NEWS_HEAD_SIZE + regions.NEWS_ENTRY_SIZE * (seen & (regions.NEWS_ENTRIES - 1))
        host = load64(place)
        size = load64(place + 8)
        teller = load64(place + 16)
        # Others may write on meanwhile: what is overwritten by now can't be trusted.
        if observe64(news) - seen >= regions.NEWS_ENTRIES:
            store64(s + block.CODE_NEWS_SEEN, observe64(news))
            flush(s)
            return 0
        if teller != s:
            heard(s, host, size)
        seen += 1
    store64(s + block.CODE_NEWS_SEEN, count)
    return 0


@cold
def heard(s, host, size):  # type: ignore[no-untyped-def]
    """Act on an entry of the news."""
    c = load64(s + block.CACHE)
    page = host & -PAGE
    if size == 0:
        if forget_writes(c, page) != 0 and load64(s + block.MODE) & block.MODE_PARALLEL != 0:
            # What this CPU has written in the meantime nobody looked at.
            drop_records(c, page)
            tell(s, page, PAGE)
    elif size == PAGE or is_code(s, host, size) != 0:
        drop_records(c, page)
    return 0


@cold
def mark_code(s, c, entry):  # type: ignore[no-untyped-def]
    """Code is going to be decoded from the page: from now on writes to it have to miss the TLB."""
    flags = load64(entry + cache.PAGE_FLAGS)
    if load8(flags) & regions.PAGE_CODE != 0:
        return 0
    set_bits8(flags, regions.PAGE_CODE)
    host = load64(entry + cache.PAGE_HOST)
    forget_writes(c, host)
    tell(s, host, 0)
    return 0


@cold
def forget_writes(c, host):  # type: ignore[no-untyped-def]
    """Take a host page out of the TLBs for writes: whether it was there."""
    found = 0
    spaces = load64(c + cache.SPACES)
    number = 0
    while number < load64(c + cache.SPACE_COUNT):
        tlb = load64(spaces + number * cache.SPACE_SIZE + cache.SPACE_TLB) + block.TLB_WRITE
        i = 0
        while i < block.TLB_ENTRIES:
            place = tlb + i * block.TLB_ENTRY_SIZE
            tag = load64(place)
            if tag != block.TLB_EMPTY:
                guest = host - load64(place + 8)
                ahead = guest - load64(place + block.TLB_RANGES)
                if tag == guest or ult(ahead, load64(place + block.TLB_RANGES + 8)):
                    store64(place, block.TLB_EMPTY)
                    found = 1
            i += 1
        found |= forget_sites(tlb - block.TLB_WRITE, host)
        number += 1
    return found


@cold
def forget_sites(tlb, host):  # type: ignore[no-untyped-def]
    """The same for a set's sites for writes."""
    found = 0
    place = tlb + block.TLB_SITES + block.TLB_SITE_SIZE
    end = tlb + block.TLB_SET_SIZE
    while place < end:
        first = load64(place)
        guest = host - load64(place + block.TLB_SITE_ADDEND)
        if first != block.NO_PAGE and (
            first == guest or ult(guest - first, load64(place + block.TLB_SITE_LENGTH))
        ):
            empty_site(place)
            found = 1
        place += 2 * block.TLB_SITE_SIZE
    return found


@cold
def empty_site(place):  # type: ignore[no-untyped-def]
    """Empty a site."""
    store64(place, block.NO_PAGE)
    store64(place + block.TLB_SITE_LENGTH, 0)
    return 0


@cold
def page_entry(s, c, host, guest, flags):  # type: ignore[no-untyped-def]
    """The entry for a host page at a guest page in the present context; made if there is none."""
    pages = load64(c + cache.PAGES)
    context = load64(s + block.CONTEXT_KEY)
    bucket = bucket_of(c, host)
    number = load32(bucket)
    while number != 0:
        entry = pages + number * cache.PAGE_ENTRY_SIZE
        if (
            load64(entry + cache.PAGE_HOST) == host
            and load64(entry + cache.PAGE_GUEST) == guest
            and load64(entry + cache.PAGE_CONTEXT) == context
        ):
            store64(entry + cache.PAGE_FLAGS, flags)  # host memory may be another mapping's by now
            return entry
        number = load64(entry + cache.PAGE_NEXT)
    number = load64(c + cache.PAGE_COUNT)
    store64(c + cache.PAGE_COUNT, number + 1)
    entry = pages + number * cache.PAGE_ENTRY_SIZE
    store64(entry + cache.PAGE_GUEST, guest)
    store64(entry + cache.PAGE_HOST, host)
    store64(entry + cache.PAGE_MAP, load64(c + cache.MAPS) + number * load64(c + cache.MAP_SIZE))
    store64(entry + cache.PAGE_NEXT, load32(bucket))
    store64(entry + cache.PAGE_CONTEXT, context)
    store64(entry + cache.PAGE_FLAGS, flags)
    store64(entry + cache.PAGE_ACROSS, 0)
    store64(entry + cache.PAGE_TAIL, 0)
    store32(bucket, number)
    return entry


@cold
def clear_space(space):  # type: ignore[no-untyped-def]
    """Empty a space's TLBs and jump cache."""
    tlb = load64(space + cache.SPACE_TLB)
    i = 0
    while i < 2 * block.TLB_ENTRIES:
        store64(tlb + i * block.TLB_ENTRY_SIZE, block.TLB_EMPTY)
        i += 1
    i = 0
    while i < block.TLB_SITE_COUNT:
        empty_site(tlb + block.TLB_SITES + i * block.TLB_SITE_SIZE)
        i += 1
    zero_bytes(load64(space + cache.SPACE_CODE_TLB), cache.CODE_TLB_SIZE)
    jumps = load64(space + cache.SPACE_JUMPS)
    zero_bytes(jumps, cache.JUMP_CACHE_SIZE)
    store64(jumps, 1)
    return 0


@cold
def forget_translations(s):  # type: ignore[no-untyped-def]
    """Empty all spaces' TLBs and jump caches; decoded code stays and is checked when it's found again."""
    c = load64(s + block.CACHE)
    spaces = load64(c + cache.SPACES)
    here = load64(c + cache.SPACE)
    number = 0
    while number < load64(c + cache.SPACE_COUNT):
        space = spaces + number * cache.SPACE_SIZE
        if number == here or load64(space + cache.SPACE_USED) != 0:
            clear_space(space)
        # the present space fills again at once, without being chosen anew
        store64(space + cache.SPACE_USED, number == here)
        number += 1
    return 0


@cold
def flush(s):  # type: ignore[no-untyped-def]
    """See `symbols.FLUSH`."""
    c = load64(s + block.CACHE)
    pages = load64(c + cache.PAGES)
    size = load64(c + cache.MAP_SIZE)
    number = 1
    while number < load64(c + cache.PAGE_COUNT):
        entry = pages + number * cache.PAGE_ENTRY_SIZE
        if load64(load64(s + block.REGIONS) + regions.CODE_NEWS) == 0:  # else others may have code there
            flags = load64(entry + cache.PAGE_FLAGS)
            clear_bits8(flags, regions.PAGE_CODE)
        zero_bytes(load64(entry + cache.PAGE_MAP), size)
        number += 1
    zero_bytes(load64(c + cache.BUCKETS), 4 * cache.BUCKET_COUNT)
    store64(c + cache.PAGE_COUNT, 1)
    store64(c + cache.RECORDS_NEXT, load64(c + cache.RECORDS) + cache.SCRATCH_SIZE)
    store64(c + cache.FLUSHES, load64(c + cache.FLUSHES) + 1)
    forget_translations(s)
    return 0


@cold
def drop_code(s, host, size):  # type: ignore[no-untyped-def]
    """See `symbols.DROP_CODE`."""
    page = host & -PAGE
    dropped = 0
    while page < host + size:
        dropped += drop_host_page(s, page)
        page += PAGE
    return dropped
