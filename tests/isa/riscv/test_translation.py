"""Paging and memory protection against volume II of the manual, version 20240411 (3.7, 10.3 to 10.6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.isa.riscv.hart import CODE, Hart

USER, SUPERVISOR, MACHINE = 0, 1, 3
V, R, W, X, U, G, A, D = (1 << n for n in range(8))
TABLES = CODE + 0x10_0000
PAGE = CODE + 0x20_0000
HERE = 1 << 63

# xlen, satp's mode, levels, bits of an index
MODES = [(32, 1, 2, 10), (64, 8, 3, 9), (64, 9, 4, 9), (64, 10, 5, 9)]
NAMES = ["sv32", "sv39", "sv48", "sv57"]


class Paged:
    """A supervisor with one page table a level; `map` puts a leaf at a level, tables above it."""

    def __init__(self, hart: Hart, mode: int, levels: int, bits: int) -> None:
        self.hart, xlen = hart, hart.xlen
        self.levels, self.bits, self.size = levels, bits, xlen // 8
        self.hart["satp"] = mode << (31 if xlen == 32 else 60) | TABLES >> 12
        self.hart["priv"] = SUPERVISOR

    def entry(self, level: int, va: int) -> int:
        table = TABLES + (self.levels - 1 - level) * 0x1000
        return table + (va >> 12 + self.bits * level & (1 << self.bits) - 1) * self.size

    def map(self, va: int, pa: int, flags: int, level: int = 0) -> None:
        for upper in range(level + 1, self.levels):
            below = TABLES + (self.levels - upper) * 0x1000
            self.hart.poke(self.entry(upper, va), below >> 12 << 10 | V, self.size)
        self.hart.poke(self.entry(level, va), pa >> 12 << 10 | flags, self.size)


@pytest.fixture(params=MODES, ids=NAMES)
def paged(request: pytest.FixtureRequest, make_hart: Callable[..., Hart]) -> Paged:
    xlen, *rest = request.param
    return Paged(make_hart(xlen), *rest)


FULL = V | R | W | X | A | D
FAULTS = {"read": "load_page", "write": "store_page", "fetch": "fetch_page"}


def test_pages_and_superpages(paged: Paged) -> None:
    va = 0x1234_5678
    for level in range(paged.levels):
        size = 1 << 12 + paged.bits * level
        base = PAGE & -size
        paged.map(va, base, FULL, level)
        for access in FAULTS:
            assert paged.hart.translate(va, access) == base | va & size - 1
        if level:
            paged.map(va, base + 0x1000, FULL, level)  # a misaligned superpage
            assert paged.hart.translate(va, "read") == ("load_page", va)


@pytest.mark.parametrize(
    ("flags", "user", "supervisor", "with_sum", "with_mxr"),
    [
        (V | R | A | D, "", "r", "r", "r"),
        (V | R | W | A | D, "", "rw", "rw", "rw"),
        (V | X | A | D, "", "x", "x", "rx"),
        (V | R | W | X | A | D, "", "rwx", "rwx", "rwx"),
        (V | R | W | X | U | A | D, "rwx", "", "rw", ""),
        (V | X | U | A | D, "x", "", "", ""),
        (V | R | W | X | A, "", "rx", "rx", "rx"),  # not dirty
        (V | R | W | X | D, "", "", "", ""),  # not accessed
        (V | W | A | D, "", "", "", ""),  # reserved
        (V | W | X | A | D, "", "", "", ""),  # reserved
        (R | W | X | A | D, "", "", "", ""),  # not valid
        (V | U | A | D, "", "", "", ""),  # a pointer at the last level
    ],
)
def test_permissions(
    paged: Paged, flags: int, user: str, supervisor: str, with_sum: str, with_mxr: str
) -> None:
    va = 0x4000
    paged.map(va, PAGE, flags)
    hart = paged.hart
    for priv, mstatus, allowed in [
        (USER, 0, user), (SUPERVISOR, 0, supervisor), (SUPERVISOR, 1 << 18, with_sum),
        (SUPERVISOR, 1 << 19, with_mxr),
    ]:  # fmt: skip
        hart["priv"], hart["mstatus"] = priv, mstatus
        for access, fault in FAULTS.items():
            letter = {"read": "r", "write": "w", "fetch": "x"}[access]
            expected = PAGE if letter in allowed else (fault, va)
            assert hart.translate(va, access) == expected, (priv, hex(mstatus), access)


def test_pointers_with_reserved_bits(paged: Paged) -> None:
    va = 0x4000
    paged.map(va, PAGE, FULL)
    where = paged.entry(1, va)
    pointer = int.from_bytes(paged.hart.memory.read(where, paged.size), "little")
    for bit in (U, A, D):
        paged.hart.poke(where, pointer | bit, paged.size)
        assert paged.hart.translate(va, "read") == ("load_page", va)
    paged.hart.poke(where, pointer | G | 3 << 8, paged.size)  # G and RSW are fine
    assert paged.hart.translate(va, "read") == PAGE


def test_reserved_high_bits(paged: Paged) -> None:
    if paged.levels == 2:
        return
    for bit in range(54, 64):
        paged.map(0x4000, PAGE, FULL | 1 << bit)
        assert paged.hart.translate(0x4000, "write") == ("store_page", 0x4000)


def test_canonical_addresses(paged: Paged) -> None:
    if paged.levels == 2:
        return
    top = 12 + 9 * paged.levels
    high = (1 << 64) - 0x1000
    paged.map(high, PAGE, FULL)
    assert paged.hart.translate(high, "read") == PAGE
    for bad in (high & (1 << top) - 1, high ^ 1 << 63, high ^ 1 << top, 1 << top):
        assert paged.hart.translate(bad, "fetch") == ("fetch_page", bad)


def test_modify_privilege(paged: Paged) -> None:
    hart = paged.hart
    paged.map(0x4000, PAGE, FULL)
    hart["priv"], hart["mstatus"] = MACHINE, 0
    assert hart.translate(0x4000, "read") == 0x4000
    hart["mstatus"] = 1 << 17 | SUPERVISOR << 11
    assert hart.translate(0x4000, "read") == PAGE
    assert hart.translate(0x4000, "fetch") == 0x4000
    hart["mstatus"] = 1 << 17 | USER << 11
    assert hart.translate(0x4000, "write") == ("store_page", 0x4000)


def test_atomics_fault_as_stores(paged: Paged) -> None:
    paged.hart["mtvec"] = CODE
    paged.map(CODE + 0x1000, CODE + 0x1000, V | R | X | A)
    paged.hart.state.files["x"][11] = CODE + 0x1800
    paged.hart.state.pc = CODE + 0x1000
    assert paged.hart.step(0x00C5A52F) == ("store_page", CODE + 0x1800)  # amoadd.w a0, a2, (a1)
    assert paged.hart["mcause"] == 15


def test_tables_without_memory_or_permission(paged: Paged) -> None:
    hart = paged.hart
    paged.map(0x4000, PAGE, FULL)
    hart.state.files["pmpaddr"][0] = TABLES >> 2
    hart.state.files["pmpcfg"][0] = 0x10  # NA4 without permissions: the first 4 bytes of the root
    assert hart.translate(0x4000, "write") == ("store_access", 0x4000)


# --- memory protection -------------------------------------------------------------------------------------

OFF, TOR, NA4, NAPOT = 0, 1 << 3, 2 << 3, 3 << 3
LOCK = 1 << 7
PR, PW, PX = 1, 2, 4


def protect(hart: Hart, *entries: tuple[int, int]) -> None:
    """Entries (address register, configuration) from 0 on; all others off."""
    for i in range(16):
        address, cfg = entries[i] if i < len(entries) else (0, 0)
        hart.state.files["pmpaddr"][i], hart.state.files["pmpcfg"][i] = address, cfg


def test_nothing_matches(hart: Hart) -> None:
    protect(hart)
    assert hart.translate(CODE, "write") == CODE  # machine mode
    hart["priv"] = USER
    assert hart.translate(CODE, "write") == ("store_access", CODE)
    assert hart.translate(CODE, "fetch") == ("fetch_access", CODE)


def test_ranges(hart: Hart) -> None:
    hart["priv"] = USER
    start = CODE + 0x1000
    cases = [
        ([(start >> 2, NA4 | PR)], start, start + 4),
        ([(start >> 2 | 0, NAPOT | PR)], start, start + 8),
        ([(start >> 2 | 0x1FF, NAPOT | PR)], start, start + 0x1000),
        ([(start >> 2, OFF), (start + 0x804 >> 2, TOR | PR)], start, start + 0x804),
        ([(start + 4 >> 2, TOR | PR)], 0, start + 4),
    ]
    for entries, first, end in cases:
        protect(hart, *entries)
        for address in (first, end - 1):
            result = hart.translate(address, "read")
            assert isinstance(result, int), (entries, hex(address))
            assert result & ~HERE == address
            assert hart.translate(address, "write") == ("store_access", address)
        for address in (first - 1, end):
            if address > 0:
                assert hart.translate(address, "read") == ("load_access", address)


def test_whole_pages_are_told_from_parts(hart: Hart) -> None:
    hart["priv"] = USER
    start = CODE + 0x1000
    protect(hart, (start >> 2 | 0x1FF, NAPOT | PR))
    assert hart.translate(start + 8, "read") == start + 8
    protect(hart, (start >> 2, NA4), (start >> 2 | 0x1FF, NAPOT | PR))
    assert hart.translate(start + 8, "read") == start + 8 | HERE
    assert hart.translate(start, "read") == ("load_access", start)


def test_first_match_decides(hart: Hart) -> None:
    hart["priv"] = SUPERVISOR
    everything = (1 << (54 if hart.xlen == 64 else 32)) - 1
    protect(hart, (CODE >> 2, NA4 | PX), (everything, NAPOT | PR | PW))
    assert hart.translate(CODE, "read") == ("load_access", CODE)
    assert hart.translate(CODE, "fetch") == CODE | HERE
    assert hart.translate(CODE + 4, "write") == CODE + 4 | HERE
    assert hart.translate(0, "write") == 0


def test_locked_entries(hart: Hart) -> None:
    protect(hart, (CODE >> 2, OFF), (CODE + 0x1000 >> 2, TOR | LOCK | PR), (0x55, 0))
    assert hart.translate(CODE, "write") == ("store_access", CODE)  # binds machine mode too
    assert hart.translate(CODE, "read") == CODE
    for number in (0x3B0, 0x3B1):  # its own address, and the one below that bounds it
        before = hart.csr(number)
        hart.set_csr(number, 0)
        assert hart.csr(number) == before
    hart.set_csr(0x3B2, 0x77)
    assert hart.csr(0x3B2) == 0x77
    hart.set_csr(0x3A0, 0x001F0000)
    assert hart.csr(0x3A0) == 0x001F0000 | (TOR | LOCK | PR) << 8


def test_configuration_values(hart: Hart) -> None:
    protect(hart)
    hart.set_csr(0x3A0, 0x62_7A_02_01)
    assert hart.csr(0x3A0) == 0x00_18_00_01  # W without R is reserved; bits 5 and 6 are 0
    hart.set_csr(0x3B5, ~0 & (1 << hart.xlen) - 1)
    assert hart.csr(0x3B5) == (1 << (54 if hart.xlen == 64 else 32)) - 1


def test_odd_configuration_registers(make_hart: Callable[..., Hart]) -> None:
    word = 0x3A102573  # csrr a0, pmpcfg1
    assert make_hart(32).step(word) is None
    assert make_hart(64).step(word) == ("illegal", word)


def test_accesses_across_a_boundary(hart: Hart) -> None:
    hart["priv"] = USER
    hart["mtvec"] = CODE
    hart.state.pc = CODE + 0x1000
    boundary = CODE + 0x2004
    everything = (1 << (54 if hart.xlen == 64 else 32)) - 1
    protect(hart, (boundary >> 2, NA4 | PX), (everything, NAPOT | PR | PW | PX))
    hart.state.files["x"][11] = boundary - 2
    assert hart.step(0x00059503) is None  # lh a0, 0(a1)
    hart.state.pc = CODE + 0x1000
    assert hart.step(0x0005A503) == ("load_access", boundary)  # lw a0, 0(a1): the part that failed
    hart["priv"], hart.state.pc = USER, CODE + 0x1000
    hart["fs_on"] = 1
    assert hart.step(0x0005B507) == ("load_access", boundary)  # fld fa0, 0(a1): the middle part
    hart["priv"], hart.state.pc = USER, CODE + 0x1000
    assert hart.step(0x00A5A023) == ("store_access", boundary)  # sw a0, 0(a1)


def test_fetches_across_a_boundary(hart: Hart) -> None:
    boundary = CODE + 0x2004
    everything = (1 << (54 if hart.xlen == 64 else 32)) - 1
    protect(hart, (boundary >> 2, NA4 | PR), (everything, NAPOT | PR | PW | PX))
    for address, word, expected in [
        (boundary - 4, 0x00150513, None),
        (boundary - 2, 0x0505, None),  # c.addi: two bytes
        (boundary - 2, 0x00150513, ("fetch_access", boundary)),
        (boundary, 0x00150513, ("fetch_access", boundary)),
        (boundary + 4, 0x00150513, None),
    ]:
        hart["priv"] = USER
        hart.state.pc = address
        assert hart.step(word) == expected, hex(address)
