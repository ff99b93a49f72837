"""From a guest address to a decoded record: pages, runs of instructions, breakpoints, one-off records."""

from __future__ import annotations

from typing import Final

from runtime.cpu import block, cache, tables
from runtime.cpu.exits import Reason
from runtime.cpu.native.decode import (
    decode_instruction,
    execute,
    known_record,
    load_unit,
    map_place,
    start_record,
)
from runtime.cpu.native.memory import FAILED, PAGE_FLAGS, PARTIAL, refuse, resolve
from runtime.cpu.native.pages import drop_host_page, mark_code, page_entry, page_number
from runtime.cpu.native.raw import load8, load16, load32, load64, store8, store16, store32, store64
from runtime.cpu.native.registry import cold
from runtime.cpu.primitives import shr, ult
from runtime.memory import regions

PAGE: Final = regions.PAGE_SIZE
REASON_TRAP: Final = int(Reason.TRAP)

LONGEST_BLOCK: Final = 4096
NONE: Final = 0
"""No record: `REASON` (TRAP, FAULT) and what belongs to it are set."""


@cold
def jump_entry(s, pc):  # type: ignore[no-untyped-def]
    """Host address of the jump cache's entry for `pc`."""
    number = (pc ^ shr(pc, 11)) & (block.JUMP_CACHE_ENTRIES - 1)
    return load64(s + block.JUMP_CACHE) + 16 * number


@cold
def page_for(s, c, pc):  # type: ignore[no-untyped-def]
    """The page entry for the guest page of `pc`, or NONE where nothing can be fetched."""
    guest = pc & -PAGE
    space = load64(c + cache.SPACES) + load64(c + cache.SPACE) * cache.SPACE_SIZE
    place = load64(space + cache.SPACE_CODE_TLB) + 16 * (shr(pc, 12) & (cache.CODE_TLB_ENTRIES - 1))
    if load64(place) == guest and load64(place + 8) != 0:
        store64(s + PARTIAL, 0)
        return load64(place + 8)
    host = resolve(s, pc, 2)
    partial = load64(s + PARTIAL)
    if host == 0:
        return NONE
    entry = page_entry(s, c, host & -PAGE, guest, load64(s + PAGE_FLAGS))
    across = load64(entry + cache.PAGE_ACROSS)
    if across != 0:
        # An instruction runs on into the next page: is it still the same one?
        behind = resolve(s, (guest + PAGE) & load64(s + block.ADDRESS_MASK), 2)
        if behind != across:
            drop_host_page(s, load64(entry + cache.PAGE_HOST))
    store64(s + PARTIAL, partial)
    if partial == 0:
        store64(place, guest)
        store64(place + 8, entry)
    return entry


@cold
def at_breakpoint(s, pc):  # type: ignore[no-untyped-def]
    """Whether a breakpoint is at `pc`."""
    low = 0
    high = load64(s + block.BREAKPOINT_COUNT)
    table = load64(s + block.BREAKPOINTS)
    while low < high:
        middle = (low + high) >> 1
        here = load64(table + 8 * middle)
        if here == pc:
            return 1
        if ult(here, pc):
            low = middle + 1
        else:
            high = middle
    return 0


@cold
def range_of(table, count, size, pc):  # type: ignore[no-untyped-def]
    """The entry of a sorted table of ranges (u64 first, u64 last, ...) that contains `pc`, or 0."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) >> 1
        if ult(load64(table + size * middle + 8), pc):
            low = middle + 1
        else:
            high = middle
    entry = table + size * low
    if low < count and not ult(pc, load64(entry)):
        return entry
    return 0


@cold
def prefix_record(c, t, r, op):  # type: ignore[no-untyped-def]
    """A record of the engine's own in front of an instruction's."""
    fixed = load64(t + tables.H_RECORD_SIZE)
    record = start_record(c, r, op, fixed if fixed != 0 else block.PREFIX_SIZE)
    store64(r + 8 * tables.R_FLAGS, cache.META_FOLLOWS)
    return record


@cold
def add_prefixes(s, c, t, r, pc):  # type: ignore[no-untyped-def]
    """Count and hook the instruction at `pc` if that is asked for; the hook's record, or 0."""
    store64(r + 8 * tables.R_PC, pc)
    store64(r + 8 * tables.R_SKIP, 0)
    count = load64(s + block.COUNTER_COUNT)
    if count != 0:
        counter = range_of(load64(s + block.COUNTERS), count, block.COUNTER_ENTRY_SIZE, pc)
        if counter != 0:
            record = prefix_record(c, t, r, block.OP_COUNT)
            number = shr(pc - load64(counter), load64(t + tables.H_UNIT_SHIFT))
            store64(record + block.COUNT_ADDRESS, load64(counter + 16) + 8 * number)
    count = load64(s + block.HOOK_COUNT)
    if count == 0 or range_of(load64(s + block.HOOKS), count, 16, pc) == 0:
        return 0
    return prefix_record(c, t, r, block.OP_HOOK)


@cold
def past_prefixes(record):  # type: ignore[no-untyped-def]
    """The record of the instruction itself."""
    while load16(record) == block.OP_HOOK or load16(record) == block.OP_COUNT:
        record += 8 * load8(record + block.META_DISTANCE + 6)
    return record


@cold
def mark_jump(record):  # type: ignore[no-untyped-def]
    """A basic block ends with this record's instruction."""
    place = record + block.META_DISTANCE + 7
    store8(place, load8(place) | cache.META_JUMPS)
    return 0


@cold
def end_record(c, r, op, pc, value):  # type: ignore[no-untyped-def]
    """A stub or a link; its address."""
    t = load64(r + 8 * tables.R_TABLES)
    fixed = load64(t + tables.H_RECORD_SIZE)
    # Delay slots: what lies behind a stub or link by address means "in sequence", so nothing may lie there.
    size = 2 * fixed if fixed != 0 else block.END_SIZE
    store64(r + 8 * tables.R_FLAGS, cache.META_END)
    store64(r + 8 * tables.R_SKIP, 0)
    record = start_record(c, r, op, size)
    store64(record + block.END_PC, pc)
    store64(record + block.STUB_PATCH, value)
    return record


@cold
def patchable(s, r, pc):  # type: ignore[no-untyped-def]
    """Whether a pointer from the page at hand to `pc` stays right as long as both pages' code does."""
    if load64(r + 8 * tables.R_PRIVATE) != 0:
        return 0
    if load64(s + block.MODE) & block.MODE_SYSTEM == 0:
        return 1
    return 1 if pc & -PAGE == load64(load64(r + 8 * tables.R_PAGE) + cache.PAGE_GUEST) else 0


@cold
def copy_across(s, r):  # type: ignore[no-untyped-def]
    """Put the bytes at the page's end and those behind it together; the second page's host address, or 0."""
    t = load64(r + 8 * tables.R_TABLES)
    longest = load64(t + tables.H_MAX_LENGTH)
    available = PAGE - (load64(r + 8 * tables.R_PC) & (PAGE - 1))
    behind = (load64(load64(r + 8 * tables.R_PAGE) + cache.PAGE_GUEST) + PAGE) & load64(
        s + block.ADDRESS_MASK
    )
    second = resolve(s, behind, 2)
    if second == 0:
        return 0
    copy = load64(s + block.SCRATCH) + cache.SCRATCH_BYTES
    first = load64(r + 8 * tables.R_BUFFER)
    i = 0
    while i < longest:
        store8(copy + i, load8(first + i) if i < available else load8(second + i - available))
        i += 1
    store64(r + 8 * tables.R_BUFFER, copy)
    store64(r + 8 * tables.R_LIMIT, longest)
    return second


@cold
def fetch_across(s, c, t, r):  # type: ignore[no-untyped-def]
    """Decode an instruction that may run on into the next page. As `decode_instruction`; NONE: nothing can be
    fetched there.
    """
    page = load64(r + 8 * tables.R_PAGE)
    available = PAGE - (load64(r + 8 * tables.R_PC) & (PAGE - 1))
    second = copy_across(s, r)
    if second == 0:
        return NONE
    second_flags = load64(s + PAGE_FLAGS)
    status = decode_instruction(s, c, t, r)
    if status > 0 and load64(r + 8 * tables.R_PRIVATE) == 0:
        length = (load64(r + 8 * tables.R_NEXT_PC) - load64(r + 8 * tables.R_PC)) & (PAGE - 1)
        if length > available:
            behind = (load64(page + cache.PAGE_GUEST) + PAGE) & load64(s + block.ADDRESS_MASK)
            other = page_entry(s, c, second, behind, second_flags)
            number = page_number(c, page)
            tail = load64(other + cache.PAGE_TAIL)
            if tail != 0 and tail != number:
                drop_host_page(s, second)
            store64(other + cache.PAGE_TAIL, number)
            store64(page + cache.PAGE_ACROSS, second)
            mark_code(s, c, other)
            mark_code(s, c, page)
    return status if status != 0 else -2


@cold
def raise_illegal(s, t, r):  # type: ignore[no-untyped-def]
    """Note the target's illegal-instruction trap for the bytes that were looked at. Returns NONE."""
    store64(s + block.TRAP_NUMBER, load64(t + tables.H_ILLEGAL_TRAP))
    kind = load64(t + tables.H_ILLEGAL_ARGUMENT)
    unit = load64(r + 8 * tables.R_UNIT)
    size = load64(r + 8 * tables.R_SEEN)
    if load64(r + 8 * tables.R_LENGTH) > size:
        size = load64(r + 8 * tables.R_LENGTH)
    if size > 8:
        size = 8
    if size > load64(r + 8 * tables.R_LIMIT) and copy_across(s, r) == 0:
        size = load64(r + 8 * tables.R_LIMIT)
    bits = 0
    i = 0
    while (i + 1) * unit <= size:
        piece = load_unit(t, load64(r + 8 * tables.R_BUFFER) + i * unit, unit)
        bits |= piece << (8 * unit * i)
        i += 1
    code = load64(t + tables.H_ILLEGAL_CODE)
    store64(s + block.TRAP_CODE, bits if kind == 2 else code)
    i = 0
    while i < block.TRAP_ARGUMENT_COUNT:
        store64(s + block.TRAP_ARGUMENTS + 8 * i, bits if i == 0 and kind != 0 else 0)
        i += 1
    store64(s + block.REASON, REASON_TRAP)
    return NONE


@cold
def set_contexts(s, c, t, r, private):  # type: ignore[no-untyped-def]
    """Give the decoder the contexts' values; stepped ones at rest, or for one-off records as they are in the
    state.
    """
    key = load64(c + cache.SPACES) + load64(c + cache.SPACE) * cache.SPACE_SIZE + cache.SPACE_KEY
    count = load64(t + tables.H_KEY_CONTEXTS)
    first = r + 8 * tables.R_FIRST
    i = 0
    while i < count:
        store64(first + 8 * i, load64(key + 8 * i))
        i += 1
    stepped = load64(t + tables.H_STEPPED)
    if stepped == 0:
        return 0
    execute(s, c, t, r, load64(t + tables.H_REST_PROGRAM))
    place = first + 8 * count
    offsets = t + 8 * load64(t + tables.H_STEP_OFFSETS)
    i = 0
    while i < stepped:
        value = load64(place + 8 * (stepped + i))
        if private != 0:
            register = s + block.HEADER_SIZE + load64(offsets + 8 * i)
            value = load64(register)
        store64(place + 8 * i, value)
        i += 1
    return 0


@cold
def step_number(s, c, t, r):  # type: ignore[no-untyped-def]
    """The number of the stepped contexts' present values: 0 if all are at rest."""
    stepped = load64(t + tables.H_STEPPED)
    if stepped == 0:
        return 0
    place = r + 8 * (tables.R_FIRST + load64(t + tables.H_KEY_CONTEXTS))
    execute(s, c, t, r, load64(t + tables.H_REST_PROGRAM))
    resting = 1
    i = 0
    while i < stepped:
        if load64(place + 8 * i) != load64(place + 8 * (stepped + i)):
            resting = 0
        i += 1
    if resting != 0:
        return 0
    steps = load64(c + cache.STEPS)
    count = load64(c + cache.STEP_COUNT)
    number = 1
    while number < count:
        same = 1
        i = 0
        while i < stepped:
            if load64(steps + 8 * (number * cache.STEP_WORDS + i)) != load64(place + 8 * i):
                same = 0
            i += 1
        if same != 0:
            return number
        number += 1
    if count >= cache.STEP_CAPACITY:
        return 0  # can't happen for contexts of up to 11 bits together; the builder checks that
    i = 0
    while i < stepped:
        store64(steps + 8 * (count * cache.STEP_WORDS + i), load64(place + 8 * i))
        i += 1
    store64(c + cache.STEP_COUNT, count + 1)
    return count


@cold
def step_contexts(s, c, t, r):  # type: ignore[no-untyped-def]
    """The stepped contexts' values behind an instruction."""
    stepped = load64(t + tables.H_STEPPED)
    if stepped != 0:
        place = r + 8 * (tables.R_FIRST + load64(t + tables.H_KEY_CONTEXTS))
        execute(s, c, t, r, load64(t + tables.H_STEP_PROGRAM))
        i = 0
        while i < stepped:
            store64(place + 8 * i, load64(place + 8 * (stepped + i)))
            i += 1
    return 0


@cold
def set_steps(s, c, t, number):  # type: ignore[no-untyped-def]
    """Write the stepped contexts' values of a number into the state."""
    stepped = load64(t + tables.H_STEPPED)
    offsets = t + 8 * load64(t + tables.H_STEP_OFFSETS)
    if number == 0:
        r = load64(s + block.SCRATCH)
        execute(s, c, t, r, load64(t + tables.H_REST_PROGRAM))
        values = r + 8 * (tables.R_FIRST + load64(t + tables.H_KEY_CONTEXTS) + stepped)
    else:
        values = load64(c + cache.STEPS) + 8 * number * cache.STEP_WORDS
    i = 0
    while i < stepped:
        store64(s + block.HEADER_SIZE + load64(offsets + 8 * i), load64(values + 8 * i))
        i += 1
    return 0


@cold
def decode_at(s, c, t, r, host, pc):  # type: ignore[no-untyped-def]
    """Decode the instruction at `pc` in the page at hand. As `decode_instruction`, or MORE at its end."""
    longest = load64(t + tables.H_MAX_LENGTH)
    available = PAGE - (pc & (PAGE - 1))
    store64(r + 8 * tables.R_PC, pc)
    store64(r + 8 * tables.R_BUFFER, host + (pc & (PAGE - 1)))
    store64(r + 8 * tables.R_LIMIT, available if available < longest else longest)
    status = decode_instruction(s, c, t, r)
    if status == -1 and available >= longest:
        return -2
    return status


@cold
def settle_targets(s, c, r):  # type: ignore[no-untyped-def]
    """Give the jumps of a run the records that they lead to: decoded ones, or stubs."""
    pending = load64(c + cache.PENDING)
    i = 0
    while i < load64(c + cache.PENDING_COUNT):
        place = load64(pending + 16 * i)
        pc = load64(pending + 16 * i + 8)
        record = known_record(c, r, pc)
        if record == 0:
            record = end_record(c, r, block.OP_STUB, pc, place if patchable(s, r, pc) != 0 else 0)
        store64(place, record)
        i += 1
    store64(c + cache.PENDING_COUNT, 0)
    return 0


@cold
def decode_run(s, c, entry, pc, private):  # type: ignore[no-untyped-def]
    """Decode from `pc` on, until the page, the run or the straight code ends; the first record, or NONE.

    `private`: only the first instruction (and what its stepped contexts reach), whatever breakpoint is there,
    into records for one use.
    """
    t = load64(s + block.TABLES)
    r = load64(s + block.SCRATCH)
    guest = load64(entry + cache.PAGE_GUEST)
    host = load64(entry + cache.PAGE_HOST)
    records = load64(c + cache.RECORDS)
    mark_code(s, c, entry)
    store64(r + 8 * tables.R_TABLES, t)
    store64(r + 8 * tables.R_PAGE, entry)
    store64(r + 8 * tables.R_PRIVATE, private)
    store64(r + 8 * tables.R_STEP, 0)
    store64(c + cache.PENDING_COUNT, 0)
    set_contexts(s, c, t, r, private)
    first = 0
    count = 0
    left = cache.RUN_LENGTH if private == 0 else cache.PRIVATE_LENGTH
    step = step_number(s, c, t, r)
    in_slot = 0
    while left > 0 and pc & -PAGE == guest:
        place = map_place(t, entry, pc)
        if private == 0:
            if load32(place) != 0:
                break
            if at_breakpoint(s, pc) != 0:
                if count == 0:
                    store64(r + 8 * tables.R_PC, pc)
                    store64(r + 8 * tables.R_FLAGS, 0)
                    store64(r + 8 * tables.R_SKIP, 0)
                    fixed = load64(t + tables.H_RECORD_SIZE)
                    first = start_record(c, r, block.OP_BREAK, fixed if fixed != 0 else block.END_SIZE)
                    store32(place, (first - records) >> 3)
                    # Delay slots: an instruction before may skip this one.
                    behind = (pc + load64(t + tables.H_DELAY)) & load64(t + tables.H_PC_MASK)
                    end_record(c, r, block.OP_STUB, behind, 0)
                    return first
                break
        where = cache.SCRATCH_NEXT if private != 0 else cache.RECORDS_NEXT
        record = load64(c + where)
        store64(r + 8 * tables.R_STEP, step)
        store64(r + 8 * tables.R_FLAGS, cache.META_FOLLOWS if private != 0 else 0)
        jumps = load64(c + cache.TARGETS)
        hook = add_prefixes(s, c, t, r, pc)
        status = decode_at(s, c, t, r, host, pc)
        if status <= 0:
            if count > 0:
                store64(c + where, record)
                break
            if status == -1:
                status = fetch_across(s, c, t, r)
                if status == NONE:
                    return NONE
            if status <= 0:
                return raise_illegal(s, t, r)
        if private == 0:
            store32(place, (record - records) >> 3)
        if count == 0:
            first = record
        count += 1
        left -= 1
        store64(c + cache.DECODED, load64(c + cache.DECODED) + 1)
        jumps = 1 if status >= 2 or load64(c + cache.TARGETS) != jumps else 0
        if hook != 0:
            store16(hook + block.HOOK_LENGTH, load64(r + 8 * tables.R_NEXT_PC) - pc)
        if (in_slot if load64(t + tables.H_DELAY) != 0 else jumps) != 0:
            mark_jump(record)
            if hook != 0:
                mark_jump(hook)
        in_slot = jumps
        pc = load64(r + 8 * tables.R_NEXT_PC)
        step_contexts(s, c, t, r)
        step = step_number(s, c, t, r)
        if status == 2:
            left = 0
        elif status == 3 and left > 1:
            left = 1
        elif private != 0 and step == 0:
            left = 0
    store64(r + 8 * tables.R_STEP, step)
    store64(r + 8 * tables.R_PC, pc)
    known = known_record(c, r, pc) if private == 0 else 0
    if known != 0:
        end_record(c, r, block.OP_LINK, pc, known)
    else:
        end_record(c, r, block.OP_STUB, pc, block.PATCH_SELF if patchable(s, r, pc) != 0 else 0)
    store64(r + 8 * tables.R_STEP, 0)
    settle_targets(s, c, r)
    if private != 0:
        set_steps(s, c, t, 0)  # while code runs, the state's copy is at rest; its records know better
    return first


@cold
def fetch_checked(s, c, entry, pc):  # type: ignore[no-untyped-def]
    """Records for one use of the instruction at `pc`, where leave to fetch holds for 4 bytes each."""
    record = decode_run(s, c, entry, pc, 1)
    if record != 0:
        following = load64(load64(s + block.SCRATCH) + 8 * tables.R_NEXT_PC)
        further = (pc & -4) + 4
        while ult(further, following):
            if resolve(s, further & load64(s + block.ADDRESS_MASK), 2) == FAILED:
                return NONE
            further += 4
    return record


@cold
def locate(s, c, pc, jumps):  # type: ignore[no-untyped-def]
    """As `find`, but the jump cache isn't asked; its entry at `jumps` is filled. 0: none, for jumps that are
    patched.
    """
    store64(c + cache.LOOKUPS, load64(c + cache.LOOKUPS) + 1)
    t = load64(s + block.TABLES)
    unit = load64(t + tables.H_UNIT)
    if pc & (unit - 1) != 0:
        return refuse(s, pc, 2)
    entry = page_for(s, c, pc)
    if entry == 0:
        return NONE
    if load64(s + PARTIAL) != 0:
        return fetch_checked(s, c, entry, pc)
    number = load32(map_place(t, entry, pc))
    if number != 0:
        record = load64(c + cache.RECORDS) + 8 * number
    else:
        record = decode_run(s, c, entry, pc, 0)
        if record == 0:
            return NONE
    if jumps != 0:
        store64(jumps, pc)
        store64(jumps + 8, record)
    return record


@cold
def find(s, c, pc):  # type: ignore[no-untyped-def]
    """The record of the instruction at `pc`, decoded if need be; NONE: it can't be fetched, or is illegal."""
    jumps = jump_entry(s, pc)
    if load64(jumps) == pc:
        record = load64(jumps + 8)
        if load16(record) != block.OP_STALE:
            return record
    return locate(s, c, pc, jumps)


@cold
def find_private(s, c, pc):  # type: ignore[no-untyped-def]
    """Records for one use of the instruction at `pc`: past a breakpoint, or in a stepped context."""
    if pc & (load64(load64(s + block.TABLES) + tables.H_UNIT) - 1) != 0:
        return refuse(s, pc, 2)
    entry = page_for(s, c, pc)
    if entry == 0:
        return NONE
    return fetch_checked(s, c, entry, pc) if load64(s + PARTIAL) != 0 else decode_run(s, c, entry, pc, 1)


@cold
def block_size(s):  # type: ignore[no-untyped-def]
    """See `symbols.BLOCK_SIZE`."""
    c = load64(s + block.CACHE)
    start = load64(s + block.PC)
    pc = start
    record = load64(s + block.EXIT_RECORD)
    count = 0
    while count < LONGEST_BLOCK:
        op = load16(record)
        if op == block.OP_LINK:
            record = load64(record + block.LINK_RECORD)
        elif op == block.OP_STUB:
            pc = load64(record + block.END_PC)
            record = find(s, c, pc)
            if record == 0 or load16(record) < block.OP_HOOK:
                return pc - start
        elif op < block.OP_HOOK:
            return pc - start
        meta = record + block.META_DISTANCE
        jumps = load8(meta + 7) & cache.META_JUMPS
        while True:
            record += 8 * load8(record + block.META_DISTANCE + 6)
            if load8(record + block.META_DISTANCE + 7) & cache.META_FOLLOWS == 0:
                break
        meta = record + block.META_DISTANCE
        if load8(meta + 7) & cache.META_END != 0:
            pc = load64(record + block.END_PC)
        else:
            number = load32(meta) & cache.META_PAGE_MASK
            entry = load64(c + cache.PAGES) + number * cache.PAGE_ENTRY_SIZE
            pc = load64(entry + cache.PAGE_GUEST) + load16(meta + 4)
        if jumps != 0:
            return pc - start
        count += 1
    return pc - start
