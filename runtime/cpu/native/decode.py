"""The decoder: walks a target's tables (`runtime.cpu.tables`) over an instruction, writes records."""

# Comparisons with several constants compile to less than `in` a tuple does.
# ruff: noqa: SIM109

from __future__ import annotations

from typing import Final

from runtime.cpu import block, cache, tables
from runtime.cpu.native.pages import page_number
from runtime.cpu.native.raw import load8, load16, load32, load64, store8, store16, store32, store64
from runtime.cpu.native.registry import cold
from runtime.cpu.primitives import (
    bitreverse,
    byteswap,
    clz,
    ctz,
    popcount,
    sar,
    sdiv,
    sext,
    shl,
    shr,
    srem,
    udiv,
    ule,
    ult,
    urem,
)
from runtime.cpu.tables import Op
from runtime.memory import regions

PAGE: Final = regions.PAGE_SIZE

NO_MATCH: Final = 0
MORE: Final = -1
"""More bytes would be needed than may be read."""
ILLEGAL: Final = -2
"""Not a legal instruction, whatever other programs say. Results above 0: 1 + `DONE`'s w."""

FAIL, DONE, ILLEGAL_OP, JUMP, JUMP_ZERO, JUMP_NONZERO = (
    int(Op.FAIL), int(Op.DONE), int(Op.ILLEGAL), int(Op.JUMP), int(Op.JUMP_ZERO), int(Op.JUMP_NONZERO),
)  # fmt: skip
IMMEDIATE, CONSTANT, MOVE = int(Op.IMMEDIATE), int(Op.CONSTANT), int(Op.MOVE)
ADD, SUB, MUL, AND, OR, XOR = (int(Op.ADD), int(Op.SUB), int(Op.MUL), int(Op.AND), int(Op.OR), int(Op.XOR))
SHL, LSHR, ASHR, ROTL, ROTR = int(Op.SHL), int(Op.LSHR), int(Op.ASHR), int(Op.ROTL), int(Op.ROTR)
UDIV, SDIV, UREM, SREM = int(Op.UDIV), int(Op.SDIV), int(Op.UREM), int(Op.SREM)
EQ, NE, ULT, ULE, SLT, SLE = int(Op.EQ), int(Op.NE), int(Op.ULT), int(Op.ULE), int(Op.SLT), int(Op.SLE)
CONCAT, SEXT, SLICE, DEPOSIT = int(Op.CONCAT), int(Op.SEXT), int(Op.SLICE), int(Op.DEPOSIT)
CLZ, CTZ, POPCOUNT, BITREVERSE, BYTESWAP = (
    int(Op.CLZ), int(Op.CTZ), int(Op.POPCOUNT), int(Op.BITREVERSE), int(Op.BYTESWAP),
)  # fmt: skip
REGISTER, WORD, MATCH, UNITS, UNLESS, SEEK, TELL = (
    int(Op.REGISTER), int(Op.WORD), int(Op.MATCH), int(Op.UNITS), int(Op.UNLESS), int(Op.SEEK), int(Op.TELL),
)  # fmt: skip
FEATURE, NEXT_PC, EMIT = int(Op.FEATURE), int(Op.NEXT_PC), int(Op.EMIT)
SLOT16, SLOT32, SLOT64, TARGET, SKIP, LOOKUP, HAS = (
    int(Op.SLOT16), int(Op.SLOT32), int(Op.SLOT64), int(Op.TARGET), int(Op.SKIP), int(Op.LOOKUP), int(Op.HAS),
)  # fmt: skip

CURSOR, LIMIT, BUFFER = 8 * tables.R_CURSOR, 8 * tables.R_LIMIT, 8 * tables.R_BUFFER
WANT, SEEN, UNIT, START = 8 * tables.R_MORE, 8 * tables.R_SEEN, 8 * tables.R_UNIT, 8 * tables.R_START
CONDITION, RECORD, SKIPS, PAGE_ENTRY = (
    8 * tables.R_CONDITION, 8 * tables.R_RECORD, 8 * tables.R_SKIP, 8 * tables.R_PAGE,
)  # fmt: skip
FLAGS, STEP, PRIVATE = 8 * tables.R_FLAGS, 8 * tables.R_STEP, 8 * tables.R_PRIVATE
CALL, RETURN, RETURN_TO = int(Op.CALL), int(Op.RETURN), 8 * tables.R_RETURN
PC, NEXT = 8 * tables.R_PC, 8 * tables.R_NEXT_PC


@cold
def cut(value, width):  # type: ignore[no-untyped-def]
    """The low `width` bits, 1 to 64."""
    return shr(shl(value, 64 - width), 64 - width)


@cold
def compute(op, x, y, w):  # type: ignore[no-untyped-def]
    """The result of an operation on two numbers of w bits, before it is cut."""
    if op == ADD:
        return x + y
    if op == SUB:
        return x - y
    if op == AND:
        return x & y
    if op == OR:
        return x | y
    if op == XOR:
        return x ^ y
    if op == SHL:
        return shl(x, y)
    if op == LSHR:
        return shr(x, y)
    if op == EQ:
        return 1 if x == y else 0
    if op == NE:
        return 1 if x != y else 0
    if op == ULT:
        return 1 if ult(x, y) else 0
    if op == ULE:
        return 1 if ule(x, y) else 0
    if op == CONCAT:
        return shl(x, w) | y
    if op == MUL:
        return x * y
    if op == UDIV:
        return udiv(x, y)
    if op == UREM:
        return urem(x, y)
    if op == ROTL or op == ROTR:
        amount = urem(y, w)
        if op == ROTR:
            amount = w - amount
        return shl(x, amount) | shr(x, w - amount)
    signed = sext(x, w)
    if op == ASHR:
        return sar(signed, y if ult(y, 63) else 63)
    other = sext(y, w)
    if op == SLT:
        return 1 if signed < other else 0
    if op == SLE:
        return 1 if signed <= other else 0
    if op == SDIV:
        return sdiv(signed, other)
    return srem(signed, other)


@cold
def compute_unary(op, x, w):  # type: ignore[no-untyped-def]
    """Counts and reversals of w bits."""
    if op == CLZ:
        return clz(x) - (64 - w)
    if op == CTZ:
        return w if x == 0 else ctz(x)
    if op == POPCOUNT:
        return popcount(x)
    if op == BITREVERSE:
        return shr(bitreverse(x), 64 - w)
    return shr(byteswap(x), 64 - w)


@cold
def load_unit(t, address, unit):  # type: ignore[no-untyped-def]
    """A unit of 1, 2 or 4 bytes in the target's byte order."""
    if unit == 1:
        return load8(address)
    big = load64(t + tables.H_BIG)
    if unit == 2:
        value = load16(address)
        if big != 0:
            value = shr(byteswap(value), 48)
        return value
    value = load32(address)
    if big != 0:
        value = shr(byteswap(value), 32)
    return value


@cold
def read_units(t, r, count, little):  # type: ignore[no-untyped-def]
    """`count` units at the cursor as a number, which ends up in `CONDITION`; 0 if they lie beyond the limit.

    `little`: the first unit is the lowest; else the highest.
    """
    unit = load64(r + UNIT)
    cursor = load64(r + CURSOR)
    end = cursor + count * unit
    if end > load64(r + LIMIT):
        store64(r + WANT, 1)
        return 0
    if end > load64(r + SEEN):
        store64(r + SEEN, end)
    address = load64(r + BUFFER) + cursor
    value = 0
    i = 0
    while i < count:
        piece = load_unit(t, address + i * unit, unit)
        if little != 0:
            value |= shl(piece, 8 * unit * i)
        else:
            value = shl(value, 8 * unit) | piece
        i += 1
    store64(r + CURSOR, end)
    store64(r + CONDITION, value)
    return 1


@cold
def start_record(c, r, op, size):  # type: ignore[no-untyped-def]
    """Begin the next record: its number and metadata, and what a guard before it waits for."""
    place = cache.SCRATCH_NEXT if load64(r + PRIVATE) != 0 else cache.RECORDS_NEXT
    record = load64(c + place)
    store64(c + place, record + size)
    page = load64(r + PAGE_ENTRY)
    number = page_number(c, page)
    meta = record + block.META_DISTANCE
    store32(meta, number | (load64(r + STEP) << cache.META_STEP_SHIFT))
    store16(meta + 4, load64(r + PC) & (PAGE - 1))
    store8(meta + 6, size >> 3)
    store8(meta + 7, load64(r + FLAGS))
    store16(record, op)
    skip = load64(r + SKIPS)
    if skip != 0:
        store16(skip, size)
        store64(r + SKIPS, 0)
    store64(r + RECORD, record)
    return record


@cold
def map_place(t, page, pc):  # type: ignore[no-untyped-def]
    """Host address of the place for `pc` in a page's map."""
    return load64(page + cache.PAGE_MAP) + shl(shr(pc & (PAGE - 1), load64(t + tables.H_UNIT_SHIFT)), 2)


@cold
def known_record(c, r, pc):  # type: ignore[no-untyped-def]
    """The record of the instruction at `pc` if that is in the page at hand and decoded, else 0."""
    page = load64(r + PAGE_ENTRY)
    if pc & -PAGE != load64(page + cache.PAGE_GUEST):
        return 0
    t = load64(r + 8 * tables.R_TABLES)
    if pc & (load64(t + tables.H_UNIT) - 1) != 0:
        return 0
    number = load32(map_place(t, page, pc))
    if number == 0:
        return 0
    return load64(c + cache.RECORDS) + 8 * number


@cold
def set_target(c, r, place, pc):  # type: ignore[no-untyped-def]
    """Fill a jump's target slot, now or when the run is decoded."""
    store64(c + cache.TARGETS, load64(c + cache.TARGETS) + 1)
    known = known_record(c, r, pc)
    if known != 0:
        store64(place, known)
        return 0
    count = load64(c + cache.PENDING_COUNT)
    entry = load64(c + cache.PENDING) + 16 * count
    store64(entry, place)
    store64(entry + 8, pc)
    store64(c + cache.PENDING_COUNT, count + 1)
    return 0


@cold
def execute(s, c, t, r, position):  # type: ignore[no-untyped-def]
    """Run the program at a position of the table; NO_MATCH, ILLEGAL, or 1 + `DONE`'s w."""
    place = t + 8 * position
    while True:
        word = load64(place)
        place += 8
        op = word & 0xFF
        d = r + (shr(word, 5) & 0x7FF8)
        a = shr(word, 17) & 0x7FF8
        w = shr(word, 32) & 0xFF
        b = sar(word, 40)
        if op == SLICE:
            store64(d, cut(shr(load64(r + a), b), w))
        elif op >= ADD and op <= CONCAT:
            value = compute(op, load64(r + a), load64(r + 8 * b), w)
            if op < EQ:
                value = cut(value, w)
            store64(d, value)
        elif op == SEXT:
            store64(d, cut(sext(load64(r + a), b), w))
        elif op == DEPOSIT:
            store64(d, load64(d) | shl(cut(shr(load64(r + a), b & 63), w), b >> 6))
        elif op == JUMP_ZERO:
            if load64(r + a) == 0:
                place = t + 8 * b
        elif op == JUMP_NONZERO:
            if load64(r + a) != 0:
                place = t + 8 * b
        elif op == JUMP:
            place = t + 8 * b
        elif op == SLOT16:
            store16(load64(r + RECORD) + b, load64(r + a))
        elif op == LOOKUP:
            store64(d, load16(t + 8 * b + 2 * load64(r + a)))
        elif op == IMMEDIATE:
            store64(d, b)
        elif op == EMIT:
            start_record(c, r, b, 8 * w)
        elif op == SLOT32:
            store32(load64(r + RECORD) + b, load64(r + a))
        elif op == SLOT64:
            store64(load64(r + RECORD) + b, load64(r + a))
        elif op == WORD:
            store64(r + CURSOR, load64(r + START))
            if read_units(t, r, w, 1) == 0:
                return NO_MATCH
            store64(d, load64(r + CONDITION))
        elif op == MATCH:
            if load64(r + a) & load64(place) != load64(place + 8):
                return NO_MATCH
            place += 16
        elif op == FEATURE:
            if shr(load64(s + block.FEATURES + 8 * (b >> 6)), b & 63) & 1 == 0:
                return NO_MATCH
        elif op == NEXT_PC:
            store64(r + NEXT, (load64(r + PC) + load64(r + CURSOR)) & load64(t + tables.H_PC_MASK))
        elif op == DONE:
            return 1 + w
        elif op == FAIL:
            return NO_MATCH
        elif op == TARGET:
            set_target(c, r, load64(r + RECORD) + b, load64(r + a) & load64(t + tables.H_PC_MASK))
        elif op == SKIP:
            store64(r + SKIPS, load64(r + RECORD) + b)
            store64(r + FLAGS, cache.META_FOLLOWS)
        elif op == UNITS:
            if read_units(t, r, w, 1) == 0:
                return NO_MATCH
            store64(d, load64(r + CONDITION))
        elif op == UNLESS:
            if load64(r + a) & load64(place) == load64(place + 8):
                place += 16
            else:
                place = t + 8 * b
        elif op == CONSTANT:
            store64(d, load64(place))
            place += 8
        elif op == MOVE:
            store64(d, load64(r + a))
        elif op == REGISTER:
            store64(d, cut(shr(load64(s + block.HEADER_SIZE + b), a >> 3), w))
        elif op == HAS:
            store64(d, shr(load64(s + block.FEATURES + 8 * (b >> 6)), b & 63) & 1)
        elif op == CALL:
            store64(r + RETURN_TO, place)
            place = t + 8 * b
        elif op == RETURN:
            place = load64(r + RETURN_TO)
        elif op == SEEK:
            store64(r + CURSOR, load64(r + a))
        elif op == TELL:
            store64(d, load64(r + CURSOR))
        elif op >= CLZ and op <= BYTESWAP:
            store64(d, cut(compute_unary(op, load64(r + a), w), w))
        else:
            return ILLEGAL


@cold
def clear_prefix_row(r, row):  # type: ignore[no-untyped-def]
    """Undo what a prefix row set."""
    store64(r + 8 * load64(row + tables.PREFIX_VARIABLE), 0)
    i = 0
    while i < load64(row + tables.PREFIX_FIELD_COUNT):
        field = load64(row + tables.PREFIX_FIELDS + 8 * i)
        store64(r + 8 * (field & 0xFFFF), 0)
        i += 1
    return 0


@cold
def read_prefixes(s, c, t, r):  # type: ignore[no-untyped-def]
    """Consume prefix bytes; 0 if there may be more beyond the limit."""
    variables = load64(t + tables.H_PREFIX_VARIABLES)
    first = variables & 0xFFFFFFFF
    i = 0
    while i < variables >> 32:
        store64(r + 8 * (first + i), 0)
        i += 1
    index = t + 8 * load64(t + tables.H_PREFIX_INDEX)
    rows = t + 8 * load64(t + tables.H_PREFIX_ROWS)
    end = rows + load64(t + tables.H_PREFIX_COUNT) * tables.PREFIX_ROW_SIZE
    cursor = 0
    last = 0
    while cursor < 15:
        if cursor >= load64(r + LIMIT):
            store64(r + WANT, 1)
            return 0
        byte = load8(load64(r + BUFFER) + cursor)
        number = load8(index + byte)
        if number == 0:
            break
        row = rows + (number - 1) * tables.PREFIX_ROW_SIZE
        found = 0
        while row < end and found == 0:
            if byte & load64(row + tables.PREFIX_MASK) == load64(row + tables.PREFIX_PATTERN):
                found = row
                when = load64(row + tables.PREFIX_WHEN)
                if when != 0:
                    execute(s, c, t, r, when)
                    if load64(r + CONDITION) == 0:
                        found = 0
            row += tables.PREFIX_ROW_SIZE
        if found == 0:
            break
        if last != 0 and load64(last + tables.PREFIX_LAST) != 0:
            clear_prefix_row(r, last)
        store64(r + 8 * load64(found + tables.PREFIX_VARIABLE), load64(found + tables.PREFIX_VALUE))
        i = 0
        while i < load64(found + tables.PREFIX_FIELD_COUNT):
            field = load64(found + tables.PREFIX_FIELDS + 8 * i)
            value = cut(shr(byte, field >> 24), (field >> 16) & 0xFF)
            store64(r + 8 * (field & 0xFFFF), value)
            i += 1
        last = found
        cursor += 1
    store64(r + START, cursor)
    if cursor > load64(r + SEEN):
        store64(r + SEEN, cursor)
    return 1


@cold
def decode_in_set(s, c, t, r, row):  # type: ignore[no-untyped-def]
    """Try the encodings of one set."""
    unit = load64(row + tables.SET_UNIT)
    store64(r + UNIT, unit)
    store64(r + START, 0)
    if load64(row + tables.SET_PREFIXES) != 0 and read_prefixes(s, c, t, r) == 0:
        return NO_MATCH
    start = load64(r + START)
    lengths = load64(row + tables.SET_LENGTHS)
    if lengths != 0 and unit <= load64(r + LIMIT):
        where = load64(row + tables.SET_LENGTH_BITS)
        first = load_unit(t, load64(r + BUFFER), unit)
        index = shr(first, where & 0xFF) & (shl(1, where >> 8) - 1)
        store64(r + 8 * tables.R_LENGTH, load8(t + 8 * lengths + index))
    node = t + 8 * load64(row + tables.SET_ROOT)
    word = load64(node)
    while word & 0xFF != 0:
        at = start + (shr(word, 8) & 0xFF) * unit
        if at + unit > load64(r + LIMIT):
            store64(r + WANT, 1)
            return NO_MATCH
        if at + unit > load64(r + SEEN):
            store64(r + SEEN, at + unit)
        value = load_unit(t, load64(r + BUFFER) + at, unit)
        child = load32(node + 8 + 4 * cut(shr(value, shr(word, 16) & 0xFF), shr(word, 24) & 0xFF))
        if child == 0:
            return NO_MATCH
        node = t + 8 * child
        word = load64(node)
    i = 0
    while i < shr(word, 32):
        store64(r + CURSOR, start)
        status = execute(s, c, t, r, load32(node + 8 + 4 * i))
        if status != NO_MATCH:
            return status
        i += 1
    return NO_MATCH


@cold
def decode_instruction(s, c, t, r):  # type: ignore[no-untyped-def]
    """Decode the bytes in the buffer and write the instruction's records; 1 + `DONE`'s w, NO_MATCH, MORE or
    ILLEGAL.
    """
    store64(r + WANT, 0)
    store64(r + SEEN, 0)
    store64(r + SKIPS, 0)
    store64(r + 8 * tables.R_LENGTH, 0)
    sets = t + 8 * load64(t + tables.H_SETS)
    chosen = 0
    conditional = 0
    while conditional < 2:
        row = sets
        end = sets + load64(t + tables.H_SET_COUNT) * tables.SET_ROW_SIZE
        while row < end:
            when = load64(row + tables.SET_WHEN)
            wanted = 0
            if conditional == 0 and when != 0:
                execute(s, c, t, r, when)
                wanted = load64(r + CONDITION)
                chosen |= wanted
            if conditional != 0 and when == 0 and chosen == 0:
                wanted = 1
            if wanted != 0:
                status = decode_in_set(s, c, t, r, row)
                if status != NO_MATCH:
                    return status
            row += tables.SET_ROW_SIZE
        conditional += 1
    return MORE if load64(r + WANT) != 0 else NO_MATCH
