"""The CPU block's header: no two fields lie at one place."""

from itertools import pairwise

from runtime.cpu import block

NO_PLACES = {
    "TRAP_ARGUMENT_COUNT",
    "RESULT_COUNT",
    "MODE_SYSTEM", "MODE_PARALLEL",
    "TLB_ENTRIES",
    "TLB_ENTRY_SIZE",
    "TLB_OFFSET_MASK",
    "TLB_FOLD_SHIFT",
    "TLB_FOLD_MASK",
    "TLB_WRITE",
    "TLB_RANGES",
    "TLB_SITES", "TLB_SITE_COUNT", "TLB_SITE_SIZE", "TLB_SITE_LENGTH", "TLB_SITE_ADDEND", "NO_PAGE",
    "TLB_SET_SIZE",
    "TLB_EMPTY",
    "JUMP_CACHE_ENTRIES",
    "WATCH_ENTRY_SIZE",
    "COUNTER_ENTRY_SIZE",
}
"""Numbers among the header's fields that aren't offsets."""


def test_no_two_fields_share_a_place():
    numbers = [name for name, value in vars(block).items() if isinstance(value, int)]
    header = numbers[: numbers.index("HEADER_SIZE")]
    places = sorted((getattr(block, name), name) for name in header if name not in NO_PLACES)
    close = [(a, b) for a, b in pairwise(places) if b[0] - a[0] < 8]
    assert not close
    assert places[-1][0] < block.HEADER_SIZE


def test_neighbours_have_tlb_entries_of_their_own():
    """Else an access across a page's end could hit the next page's entry."""
    pages = {(1 << bits) - 1 + high for bits in range(53) for high in (0, 1 << 20, 1 << 40)}
    for page in pages | set(range(5000)):
        here, there = page << 12, (page + 1 << 12) % (1 << 64)
        assert block.tlb_offset(here) == block.tlb_offset(here + 4095) < block.TLB_WRITE
        assert block.tlb_offset(here) % block.TLB_ENTRY_SIZE == 0
        assert block.tlb_offset(here) != block.tlb_offset(there)


def test_powers_of_two_apart_are_other_tlb_entries():
    """As a bare program's stack and data often are."""
    for bits in range(12, 27):
        assert block.tlb_offset(0x80003000) != block.tlb_offset(0x80003000 + (1 << bits))
