"""The CPU block's header: no two fields lie at one place."""

from itertools import pairwise

from runtime.cpu import block

NO_PLACES = {
    "TRAP_ARGUMENT_COUNT",
    "RESULT_COUNT",
    "MODE_SYSTEM",
    "TLB_ENTRIES",
    "TLB_ENTRY_SIZE",
    "TLB_OFFSET_MASK",
    "TLB_WRITE",
    "TLB_RANGES",
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
