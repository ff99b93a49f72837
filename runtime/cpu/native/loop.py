"""The run loop: enters threaded code, and deals with what it leaves for. See `runtime.cpu.exits`."""

# Comparisons with several constants compile to less than `in` a tuple does.
# ruff: noqa: SIM109

from __future__ import annotations

from typing import Final

from runtime.cpu import block, cache, symbols, tables
from runtime.cpu.exits import Reason
from runtime.cpu.native.decode import execute
from runtime.cpu.native.lookup import (
    end_record,
    find,
    find_private,
    locate,
    past_prefixes,
    set_steps,
    step_contexts,
)
from runtime.cpu.native.pages import clear_space, flush, forget_translations, hear
from runtime.cpu.native.raw import invoke, load8, load16, load32, load64, store16, store64
from runtime.cpu.native.registry import cold, pending_interrupt, take_trap, threaded
from runtime.cpu.primitives import FORGET_TRANSLATIONS, STEPPED, TRANSLATION_CHANGED, shr
from runtime.memory import regions

PAGE: Final = regions.PAGE_SIZE
STUB, LOOKUP, LOOKUP_NEXT = int(Reason.STUB), int(Reason.LOOKUP), int(Reason.LOOKUP_NEXT)
STALE, DISPATCH, TRAP = int(Reason.STALE), int(Reason.DISPATCH), int(Reason.TRAP)
SKIPPED, AGAIN = int(Reason.SKIPPED), int(Reason.AGAIN)
MAX_NESTED: Final = 4
"""Traps in the delivery of a trap after which it is given up."""
BUDGET, FAULT, MMIO = int(Reason.BUDGET), int(Reason.FAULT), int(Reason.MMIO)
WAITING, INTERRUPTED = int(Reason.WAITING), int(Reason.INTERRUPTED)
HOOK = int(Reason.HOOK)


@cold
def context_number(c, t, words):  # type: ignore[no-untyped-def]
    """The number of the derived contexts' values at `words`; -1 if there is no room for more."""
    size = load64(t + tables.H_KEY_CONTEXTS)
    contexts = load64(c + cache.CONTEXTS)
    count = load64(c + cache.CONTEXT_COUNT)
    number = 0
    while number < count:
        known = contexts + number * (8 * cache.CONTEXT_WORDS)
        same = 1
        i = 0
        while i < size:
            if load64(known + 8 * i) != load64(words + 8 * i):
                same = 0
            i += 1
        if same != 0:
            return number
        number += 1
    if count >= cache.CONTEXT_CAPACITY:
        return -1
    i = 0
    while i < size:
        store64(contexts + count * (8 * cache.CONTEXT_WORDS) + 8 * i, load64(words + 8 * i))
        i += 1
    store64(c + cache.CONTEXT_COUNT, count + 1)
    return count


@cold
def use_space(s, c, number):  # type: ignore[no-untyped-def]
    """Make a space the present one."""
    space = load64(c + cache.SPACES) + number * cache.SPACE_SIZE
    store64(space + cache.SPACE_USED, 1)
    store64(c + cache.SPACE, number)
    store64(s + block.TLB, load64(space + cache.SPACE_TLB))
    store64(s + block.JUMP_CACHE, load64(space + cache.SPACE_JUMPS))
    store64(s + block.CONTEXT_KEY, load64(space + cache.SPACE_CONTEXT))
    return 0


@cold
def select_space(s, c, t):  # type: ignore[no-untyped-def]
    """Find the space for the state's decode context and translation inputs, or make one."""
    r = load64(s + block.SCRATCH)
    size = load64(t + tables.H_KEY_WORDS)
    if size != 0:
        execute(s, c, t, r, load64(t + tables.H_KEY_PROGRAM))
    words = r + 8 * tables.R_FIRST
    spaces = load64(c + cache.SPACES)
    count = load64(c + cache.SPACE_COUNT)
    here = load64(c + cache.SPACE)
    k = -1
    while k < count:
        number = here if k < 0 else k
        if number >= 0:
            key = spaces + number * cache.SPACE_SIZE + cache.SPACE_KEY
            same = 1
            i = 0
            while i < size:
                if load64(key + 8 * i) != load64(words + 8 * i):
                    same = 0
                    break
                i += 1
            if same != 0:
                if number != here:
                    use_space(s, c, number)
                return number
        k += 1
    context = context_number(c, t, words)
    if context < 0:
        flush(s)
        store64(c + cache.CONTEXT_COUNT, 0)
        store64(c + cache.SPACE_COUNT, 0)
        count = 0
        context = context_number(c, t, words)
    if count < cache.SPACE_CAPACITY:
        number = count
        store64(c + cache.SPACE_COUNT, count + 1)
    else:
        number = load64(c + cache.SPACE_VICTIM)
        store64(c + cache.SPACE_VICTIM, (number + 1) & (cache.SPACE_CAPACITY - 1))
    space = spaces + number * cache.SPACE_SIZE
    clear_space(space)
    store64(space + cache.SPACE_CONTEXT, context)
    i = 0
    while i < size:
        store64(space + cache.SPACE_KEY + 8 * i, load64(words + 8 * i))
        i += 1
    use_space(s, c, number)
    return number


@cold
def attend(s, c, t):  # type: ignore[no-untyped-def]
    """What decoding and translation depend on may have changed: find the space, forget translations that are
    wrong.
    """
    attention = load64(s + block.ATTENTION)
    store64(s + block.ATTENTION, 0)
    before = load64(c + cache.SPACE)
    after = select_space(s, c, t)
    # An input of translation that isn't in the space's key changed.
    if attention & FORGET_TRANSLATIONS != 0 or (attention & TRANSLATION_CHANGED != 0 and before == after):
        forget_translations(s)
    return 0


@cold
def pc_of(c, record):  # type: ignore[no-untyped-def]
    """The pc of the instruction that a record belongs to; of stubs and links, where they lead."""
    meta = record + block.META_DISTANCE
    if load8(meta + 7) & cache.META_END != 0:
        return load64(record + block.END_PC)
    page = load32(meta) & cache.META_PAGE_MASK
    return load64(load64(c + cache.PAGES) + page * cache.PAGE_ENTRY_SIZE + cache.PAGE_GUEST) + load16(
        meta + 4
    )


@cold
def step_of(record):  # type: ignore[no-untyped-def]
    """The number of the stepped contexts' values before a record."""
    return shr(load32(record + block.META_DISTANCE), cache.META_STEP_SHIFT)


@cold
def settle_steps(s, c, t, reason):  # type: ignore[no-untyped-def]
    """Bring the stepped contexts in the state up to date after threaded code was left."""
    number = step_of(load64(s + block.EXIT_RECORD))
    if reason == DISPATCH:
        # Behind the instruction: its own write of a context stands, or the rest behind its jump; else the
        # next value.
        r = load64(s + block.SCRATCH)
        stepped = load64(t + tables.H_STEPPED)
        known = load64(s + block.ATTENTION)
        values = load64(c + cache.STEPS) + 8 * number * cache.STEP_WORDS
        place = r + 8 * (tables.R_FIRST + load64(t + tables.H_KEY_CONTEXTS))
        execute(s, c, t, r, load64(t + tables.H_REST_PROGRAM))
        i = 0
        while i < stepped:
            store64(place + 8 * i, load64(place + 8 * (stepped + i) if number == 0 else values + 8 * i))
            i += 1
        step_contexts(s, c, t, r)
        offsets = t + 8 * load64(t + tables.H_STEP_OFFSETS)
        i = 0
        while i < stepped:
            if known & (STEPPED << i) == 0:
                store64(s + block.HEADER_SIZE + load64(offsets + 8 * i), load64(place + 8 * i))
            i += 1
    elif reason == LOOKUP:
        set_steps(s, c, t, 0)
    else:
        set_steps(s, c, t, number)
    return 0


@cold
def note_dynamic(c, pc):  # type: ignore[no-untyped-def]
    """Remember where a computed jump led to, or one into another page that isn't patched."""
    number = (pc ^ shr(pc, 11)) & (cache.DYNAMIC_ENTRIES - 1)
    store64(load64(c + cache.DYNAMIC) + 8 * number, pc)
    return 0


@cold
def settle(s, c, t, reason):  # type: ignore[no-untyped-def]
    """Make the state's program counters exact after threaded code was left."""
    delay = load64(t + tables.H_DELAY)
    mask = load64(t + tables.H_PC_MASK)
    if load64(t + tables.H_STEPPED) != 0:
        settle_steps(s, c, t, reason)
    if reason == LOOKUP or reason == LOOKUP_NEXT:
        note_dynamic(c, load64(s + block.PC))
    if reason == LOOKUP or (reason == DISPATCH and delay == 0):
        store64(s + block.NEXT_PC, (load64(s + block.PC) + delay) & mask)
        return 0
    record = load64(s + block.EXIT_RECORD)
    if reason == LOOKUP_NEXT:
        store64(s + block.NEXT_PC, load64(s + block.PC))
        store64(s + block.PC, pc_of(c, record))
        return 0
    pc = pc_of(c, record)
    if reason == SKIPPED:
        store64(s + block.PC, (pc + delay) & mask)
        store64(s + block.NEXT_PC, (pc + 2 * delay) & mask)
        return 0
    store64(s + block.PC, pc)
    if delay != 0:
        behind = load64(s + block.EXIT_NEXT)
        if behind == record + load64(t + tables.H_RECORD_SIZE):
            store64(s + block.NEXT_PC, (pc + delay) & mask)
        else:
            store64(s + block.NEXT_PC, pc_of(c, behind))
    return 0


@cold
def at_rest(s, c, t):  # type: ignore[no-untyped-def]
    """Whether the state's stepped contexts are at rest."""
    stepped = load64(t + tables.H_STEPPED)
    if stepped == 0:
        return 1
    r = load64(s + block.SCRATCH)
    execute(s, c, t, r, load64(t + tables.H_REST_PROGRAM))
    values = r + 8 * (tables.R_FIRST + load64(t + tables.H_KEY_CONTEXTS) + stepped)
    offsets = t + 8 * load64(t + tables.H_STEP_OFFSETS)
    i = 0
    while i < stepped:
        if load64(s + block.HEADER_SIZE + load64(offsets + 8 * i)) != load64(values + 8 * i):
            return 0
        i += 1
    return 1


@cold
def apply_patch(stub, record):  # type: ignore[no-untyped-def]
    """Lead what led to a stub to the record instead."""
    patch = load64(stub + block.STUB_PATCH)
    if patch == block.PATCH_SELF:
        store64(stub + block.LINK_RECORD, record)
        store16(stub, block.OP_LINK)
    elif patch != 0:
        store64(patch, record)
    return 0


@cold
def take_interrupts(s, c, t):  # type: ignore[no-untyped-def]
    """System mode: take an interrupt that is due. 0, or 1: that failed, with a trap."""
    if load64(s + block.MODE) & block.MODE_SYSTEM == 0:
        return 0
    status = pending_interrupt(s)
    if status == symbols.STATUS_RAISED:
        return 1
    if status == symbols.STATUS_DONE and load64(s + block.RESULTS) != 0:
        here = load64(s + block.PC) + load64(t + tables.H_DELAY)
        store64(s + block.NEXT_PC, here & load64(t + tables.H_PC_MASK))
    if load64(s + block.ATTENTION) != 0:
        attend(s, c, t)
    return 0


@cold
def deliver_trap(s, c, t):  # type: ignore[no-untyped-def]
    """Let the spec enter the trap's handler: 1; 0: the trap is the caller's to deal with.

    Where the way to the handler traps, the spec is told of that trap, too: it goes to a handler of last
    resort.
    """
    if load64(s + block.MODE) & block.MODE_SYSTEM == 0:
        return 0
    status = symbols.STATUS_RAISED
    tries = 0
    while status == symbols.STATUS_RAISED:
        number = load64(s + block.TRAP_NUMBER)
        exits = shr(load64(s + block.EXIT_TRAPS + 8 * ((number >> 6) & 3)), number & 63) & 1
        if exits != 0 or tries == MAX_NESTED:
            return 0
        tries += 1
        status = take_trap(s, number, load64(s + block.TRAP_CODE), load64(s + block.TRAP_ARGUMENTS))
    if status != symbols.STATUS_DONE:
        return 0
    here = load64(s + block.PC) + load64(t + tables.H_DELAY)
    store64(s + block.NEXT_PC, here & load64(t + tables.H_PC_MASK))
    attend(s, c, t)
    return 1


@cold
def note_count(s, executed, allowed):  # type: ignore[no-untyped-def]
    """Let the guest count right: `executed` instructions in this run so far, `allowed` are left to threaded
    code.
    """
    store64(s + block.BUDGET, allowed)
    store64(s + block.ENTRY_BUDGET, executed + allowed)
    return 0


@cold
def is_waiting(s, t):  # type: ignore[no-untyped-def]
    """Whether the CPU waits for an interrupt."""
    place = load64(t + tables.H_WAITING)
    return load64(s + block.HEADER_SIZE + place - 1) if place != 0 else 0


@cold
def next_record(s, c, t, record):  # type: ignore[no-untyped-def]
    """Delay slots: the record for `NEXT_PC`, where `record` is the one for `PC`."""
    delay = load64(t + tables.H_DELAY)
    fixed = load64(t + tables.H_RECORD_SIZE)
    behind = load64(s + block.NEXT_PC)
    if behind == (load64(s + block.PC) + delay) & load64(t + tables.H_PC_MASK):
        return record + fixed
    r = load64(s + block.SCRATCH)
    store64(r + 8 * tables.R_TABLES, t)
    store64(r + 8 * tables.R_PRIVATE, 1)
    store64(r + 8 * tables.R_STEP, 0)
    store64(r + 8 * tables.R_PC, behind)
    store64(r + 8 * tables.R_PAGE, load64(c + cache.PAGES))
    return end_record(c, r, block.OP_STUB, behind, 0)


@cold
def make_room(s, c):  # type: ignore[no-untyped-def]
    """Forget everything if the cache is nearly full; 1 if so. Only while no record is in use."""
    if (
        load64(c + cache.RECORDS_NEXT) < load64(c + cache.RECORDS_END)
        and load64(c + cache.PAGE_COUNT) < cache.PAGE_CAPACITY - 64
    ):
        return 0
    flush(s)
    return 1


@cold
def refresh(s, c, t):  # type: ignore[no-untyped-def]
    """Python may have changed mappings and registers."""
    table = load64(s + block.REGIONS)
    hear(s)
    if load64(table + regions.GENERATION) != load64(s + block.REGION_GENERATION):
        forget_translations(s)
        store64(s + block.REGION_GENERATION, load64(table + regions.GENERATION))
    attend(s, c, t)
    return 0


@cold
def note_executed(s, executed):  # type: ignore[no-untyped-def]
    """Add to the numbers of instructions executed."""
    store64(s + block.RETIRED, load64(s + block.RETIRED) + executed)
    store64(s + block.EXECUTED, load64(s + block.EXECUTED) + executed)
    return 0


@cold
def is_hook_due(s):  # type: ignore[no-untyped-def]
    """At a hook's record: note the instruction's size, and whether Python wants to know."""
    record = load64(s + block.EXIT_RECORD)
    pc = load64(s + block.PC)
    size = load16(record + block.HOOK_LENGTH)
    store64(s + block.HOOK_SIZE, size)
    begins = 0 if load64(s + block.HOOK_EXPECTED) == pc else 1
    store64(s + block.HOOK_BEGINS, begins)
    jumps = load8(record + block.META_DISTANCE + 7) & cache.META_JUMPS
    store64(s + block.HOOK_EXPECTED, -1 if jumps != 0 else pc + size)
    return begins if load64(s + block.HOOK_BLOCKS) != 0 else 1


@cold
def call_hook(s, c, t):  # type: ignore[no-untyped-def]
    """Call the hooks' function. 1: go on behind the hook; 2: somewhere else; 0: stop."""
    pc = load64(s + block.PC)
    result = invoke(load64(s + block.HOOK_CALL), load64(s + block.HOOK_OBJECT))
    if result == 0:
        return 0
    if load64(s + block.HOOK_RELEASE) != 0:
        invoke(load64(s + block.HOOK_RELEASE), result)
    if load64(load64(s + block.REGIONS) + regions.GENERATION) != load64(s + block.REGION_GENERATION):
        refresh(s, c, t)
    elif load64(s + block.ATTENTION) != 0:
        attend(s, c, t)
    return 1 if load64(s + block.PC) == pc else 2


@cold
def decode(s, pc):  # type: ignore[no-untyped-def]
    """See `symbols.DECODE`."""
    c = load64(s + block.CACHE)
    select_space(s, c, load64(s + block.TABLES))
    make_room(s, c)
    return find(s, c, pc)


@cold
def run(s):  # type: ignore[no-untyped-def]
    """See `symbols.RUN`. Every turn of the loop executes an instruction, takes a trap, or finds a record."""
    c = load64(s + block.CACHE)
    t = load64(s + block.TABLES)
    pc_mask = load64(t + tables.H_PC_MASK)
    budget = load64(s + block.BUDGET)
    refresh(s, c, t)
    executed = 0
    stub = 0
    repeating = load64(s + block.MMIO_ANSWERED)
    interrupts_due = 1 if repeating == 0 else 0
    passed = load64(s + block.HOOK_PASSED) | repeating
    store64(s + block.HOOK_PASSED, 0)
    while True:
        if interrupts_due != 0:
            interrupts_due = 0
            note_count(s, executed, 0)
            pc = load64(s + block.PC)
            if take_interrupts(s, c, t) != 0 and deliver_trap(s, c, t) == 0:
                store64(s + block.REASON, TRAP)
                break
            if load64(s + block.PC) != pc:
                passed = 0
            if is_waiting(s, t) != 0:
                store64(s + block.REASON, WAITING)
                break
        if budget <= 0:
            store64(s + block.REASON, BUDGET)
            break
        if load64(s + block.STOP) != 0:
            store64(s + block.REASON, INTERRUPTED)
            break
        if make_room(s, c) != 0:
            stub = 0
        store64(c + cache.SCRATCH_NEXT, load64(c + cache.RECORDS))
        pc = load64(s + block.PC) & pc_mask
        store64(s + block.PC, pc)
        if load64(s + block.SKIP_BREAKPOINT) != 0 or at_rest(s, c, t) == 0:
            record = find_private(s, c, pc)
            store64(s + block.SKIP_BREAKPOINT, 0)
        else:
            record = find(s, c, pc) if stub == 0 else locate(s, c, pc, 0)
            if passed != 0 and record != 0 and load16(record) == block.OP_BREAK:
                record = find_private(s, c, pc)
        if record != 0:
            if stub != 0:
                apply_patch(stub, record)
                stub = 0
            if passed != 0:
                record = past_prefixes(record)
            following = 0
            if load64(t + tables.H_DELAY) != 0:
                following = next_record(s, c, t, record)
            store64(s + block.MMIO_CURSOR, 0)
            store64(c + cache.ENTRIES, load64(c + cache.ENTRIES) + 1)
            # An instruction that waited for a device is repeated alone, so that its answers serve no other.
            allowed = 1 if repeating != 0 else budget
            note_count(s, executed, allowed)
            left = threaded(s, record, following, allowed)
            budget -= allowed - left
            executed += allowed - left
            settle(s, c, t, load64(s + block.REASON))
            if repeating != 0 and left == 0:
                repeating = 0
                store64(s + block.MMIO_ANSWERED, 0)
                interrupts_due = 1
                if load64(s + block.REASON) == BUDGET:
                    passed = 0
                    continue
        stub = 0
        passed = 0
        reason = load64(s + block.REASON)
        if reason == STUB:
            stub = load64(s + block.EXIT_RECORD)
            if load64(stub + block.STUB_PATCH) == 0:
                stub = 0  # it may lie among the records for one use, which are about to be overwritten
                note_dynamic(c, load64(s + block.PC))
        elif (
            reason == LOOKUP
            or reason == LOOKUP_NEXT
            or reason == STALE
            or reason == SKIPPED
            or reason == AGAIN
        ):
            if load64(s + block.ATTENTION) != 0:
                attend(s, c, t)
                interrupts_due = 1
        elif reason == DISPATCH:
            attend(s, c, t)
            interrupts_due = 1
        elif reason == HOOK:
            if load64(s + block.ATTENTION) != 0:
                attend(s, c, t)
                interrupts_due = 1
            # Else the loop comes back here when nothing else is to be done.
            if interrupts_due == 0 and budget > 0 and load64(s + block.STOP) == 0:
                if is_hook_due(s) == 0:
                    passed = 1
                elif load64(s + block.HOOK_CALL) == 0:
                    break
                else:
                    note_executed(s, executed)
                    executed = 0
                    store64(s + block.BUDGET, budget)
                    outcome = call_hook(s, c, t)
                    if outcome == 0:
                        break
                    passed = 1 if outcome == 1 else 0
        elif reason == TRAP:
            repeating = 0
            store64(s + block.MMIO_ANSWERED, 0)
            note_count(s, executed, 0)
            if deliver_trap(s, c, t) == 0:
                break
            budget -= 1
            interrupts_due = 1
        else:
            if reason == FAULT:
                repeating = 0
                store64(s + block.MMIO_ANSWERED, 0)
            break
    store64(s + block.BUDGET, budget)
    note_executed(s, executed)
    return load64(s + block.REASON)
