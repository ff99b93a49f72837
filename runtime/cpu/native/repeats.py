"""Copies and fills of which many turns are executed at once (`generator.ir.repeats`).

Only where the TLB knows both pages: then nothing can fault, no device, watch or code is met. All else takes
its turns one by one, and the first of them fills the TLB.
"""

from __future__ import annotations

from typing import Final

from runtime.cpu import block
from runtime.cpu.native.raw import load8, load16, load32, load64, store8, store16, store32, store64
from runtime.cpu.native.registry import cold
from runtime.cpu.primitives import ctz, shr
from runtime.memory import regions

PAGE: Final = regions.PAGE_SIZE
BYTES: Final = 0x0101010101010101
PAIRS: Final = 0x0001000100010001
HALVES: Final = 0x0000000100000001


@cold
def known_host(s, address, write):  # type: ignore[no-untyped-def]
    """The host address of a guest address whose page the TLB knows; else 0."""
    fold = shr(address, block.TLB_FOLD_SHIFT) & block.TLB_FOLD_MASK
    entry = load64(s + block.TLB) + ((shr(address, 8) & block.TLB_OFFSET_MASK) ^ fold)
    if write != 0:
        entry += block.TLB_WRITE
    if load64(entry) != address & -PAGE:
        return 0
    return address + load64(entry + 8)


@cold
def elements_in_page(address, size, step):  # type: ignore[no-untyped-def]
    """How many elements, from one at `address` on, lie in its page; `step`: to the next one."""
    offset = address & (PAGE - 1)
    if step < 0:
        return 0 if offset + size > PAGE else shr(offset, ctz(size)) + 1
    return shr(PAGE - offset, ctz(size))


@cold
def turns_at_once(s, size, step, address, turns):  # type: ignore[no-untyped-def]
    """So many turns the budget and a page allow."""
    if step != size and step != -size:
        return 0
    budget = load64(s + block.BUDGET)
    if budget < turns or turns < 0:
        turns = budget
    room = elements_in_page(address, size, step)
    return room if room < turns else turns


@cold
def copy_elements(size, step, source, destination, count):  # type: ignore[no-untyped-def]
    """Copy one element after the other: each may be the next one's source."""
    while count > 0:
        if size == 1:
            store8(destination, load8(source))
        elif size == 2:
            store16(destination, load16(source))
        elif size == 4:
            store32(destination, load32(source))
        else:
            store64(destination, load64(source))
        source += step
        destination += step
        count -= 1
    return 0


@cold
def copy_upwards(source, destination, size):  # type: ignore[no-untyped-def]
    """Copy bytes in words of 8. None that is written is read later, but by a word that follows."""
    end = source + (size & -32)
    while source < end:
        a = load64(source)
        b = load64(source + 8)
        c = load64(source + 16)
        d = load64(source + 24)
        store64(destination, a)
        store64(destination + 8, b)
        store64(destination + 16, c)
        store64(destination + 24, d)
        source += 32
        destination += 32
    size &= 31
    while size >= 8:
        store64(destination, load64(source))
        source += 8
        destination += 8
        size -= 8
    while size > 0:
        store8(destination, load8(source))
        source += 1
        destination += 1
        size -= 1
    return 0


@cold
def copy_ahead(s, size, step, source, destination, turns):  # type: ignore[no-untyped-def]
    """See `symbols.COPY_AHEAD`."""
    turns = turns_at_once(s, size, step, destination, turns)
    room = elements_in_page(source, size, step)
    if room < turns:
        turns = room
    if turns <= 0:
        return 0
    first = known_host(s, source, 0)
    target = known_host(s, destination, 1)
    if first == 0 or target == 0:
        return 0
    distance = target - first
    if step > 0 and (distance <= 0 or distance >= 32):
        copy_upwards(first, target, turns * size)
    else:
        copy_elements(size, step, first, target, turns)
    store64(s + block.BUDGET, load64(s + block.BUDGET) - turns)
    return turns


@cold
def fill_ahead(s, size, step, value, destination, turns):  # type: ignore[no-untyped-def]
    """See `symbols.FILL_AHEAD`."""
    turns = turns_at_once(s, size, step, destination, turns)
    if turns <= 0:
        return 0
    target = known_host(s, destination, 1)
    if target == 0:
        return 0
    if step < 0:
        target += (turns - 1) * step
    if size == 1:
        value *= BYTES
    elif size == 2:
        value *= PAIRS
    elif size == 4:
        value *= HALVES
    left = turns * size
    while left >= 32:
        store64(target, value)
        store64(target + 8, value)
        store64(target + 16, value)
        store64(target + 24, value)
        target += 32
        left -= 32
    while left >= 8:
        store64(target, value)
        target += 8
        left -= 8
    while left > 0:
        store8(target, value)
        value = shr(value, 8)
        target += 1
        left -= 1
    store64(s + block.BUDGET, load64(s + block.BUDGET) - turns)
    return turns
