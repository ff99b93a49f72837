"""The table of regions that native code searches: its layout. Host byte order, 8-byte fields.

`runtime.memory.space` builds it; the CPU block's `REGIONS` points to its head.
"""

from __future__ import annotations

from typing import Final

# --- the head -----------------------------------------------------------------------------------------------

GENERATION: Final = 0
"""Grows with every change of the table: CPUs then forget their translations."""
COUNT: Final = 8
ENTRIES: Final = 16
"""Host address of the entries, sorted by address, without overlaps."""
CODE_NEWS: Final = 24
"""Several CPUs over the memory: host address of what they tell each other about code; else 0.

A count (u64) and a lock (u64, 1 while one of them writes), then a ring of `NEWS_ENTRIES` entries (u64 host
address, u64 size, u64 who tells it): bytes of a page with code changed (size `PAGE_SIZE`: forget its code),
or size 0: the page has code from now on.
"""
NEWS_LOCK: Final = 8
NEWS_ENTRIES: Final = 1024
NEWS_HEAD_SIZE: Final = 16
NEWS_ENTRY_SIZE: Final = 32
HEAD_SIZE: Final = 64

# --- an entry -----------------------------------------------------------------------------------------------

START: Final = 0
LAST: Final = 8
"""First and last guest address. RAM starts and ends at page bounds."""
HOST: Final = 16
"""Host address of `START`; 0 for devices."""
KIND: Final = 24
READ, WRITE, EXECUTE, DEVICE, DEVICE_WRITES = 1, 2, 4, 8, 16
"""Bits of `KIND`: permissions (bit n: access n is allowed), and whether accesses, or only writes (a flash
memory that reads as ROM), leave with `Reason.MMIO`.
"""
FLAGS: Final = 32
"""Host address of a byte for each page: `PAGE_CODE`, `PAGE_DIRTY`."""
ENTRY_SIZE: Final = 64

PAGE_CODE: Final = 1
"""Code was decoded from the page: writes to it must be looked at."""
PAGE_DIRTY: Final = 2
"""The page may have been written."""
PAGE_SIZE: Final = 4096
