"""A CPU's code cache: decoded records, and the maps by which native code finds them. Layout and allocation.

Native code (`runtime.cpu.native`) fills it. All fields are 8 bytes, host byte order; memory starts as zeros
and is only paid for when touched.

* **record arena**: records, then at `META_DISTANCE` their metadata, at `REGION_DISTANCE` what the translator
  adds. The first `SCRATCH_SIZE` bytes are for records that
  are used once (a step over a breakpoint, stubs for delay slots' targets).
* **pages**: an entry for each (host page, guest page, decode context) from which code was decoded, chained by
host page.
  Its map holds, for each unit of the page, the place of the record of the instruction that starts there, or
  0.
* **spaces**: what addresses and bytes mean at a time: the decode context and the inputs of address
translation. Each has
  its own TLB, code TLB (guest page to page entry) and jump cache.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from typing import Final

from runtime.cpu import block

# --- control fields (`block.CACHE` points here) -------------------------------------------------------------

RECORDS: Final = 0
RECORDS_NEXT: Final = 8
RECORDS_END: Final = 16
SCRATCH_NEXT: Final = 24
PAGES: Final = 32
PAGE_COUNT: Final = 40
"""Entries in use; entry 0 is never used, so that 0 can mean none."""
BUCKETS: Final = 48
MAPS: Final = 56
MAP_SIZE: Final = 64
SPACES: Final = 72
SPACE_COUNT: Final = 80
SPACE: Final = 88
"""Number of the space in use, or -1."""
SPACE_VICTIM: Final = 96
CONTEXTS: Final = 104
CONTEXT_COUNT: Final = 112
STEPS: Final = 120
STEP_COUNT: Final = 128
"""Values of stepped contexts (`STEP_WORDS` each) that occurred; number 0 is never used: it stands for "all at
rest".
"""
FLUSHES: Final = 136
DECODED: Final = 144
LOOKUPS: Final = 152
DROPS: Final = 160
ENTRIES: Final = 168
"""Statistics: whole flushes, instructions decoded, lookups beyond the jump cache, pages dropped, entries to
threaded code.
"""
PENDING: Final = 184
PENDING_COUNT: Final = 192
"""Jump targets of the run being decoded that need stubs: (patch address, pc) each."""
TARGETS: Final = 200
"""Number of direct jump targets decoded since the cache was made."""
DYNAMIC: Final = 216
"""Host address of `DYNAMIC_ENTRIES` guest addresses (u64) that computed jumps, and jumps that aren't patched,
led to and that the jump cache did not know, in the jump cache's places. For the translator."""
DYNAMIC_ENTRIES: Final = block.JUMP_CACHE_ENTRIES
CONTROL_SIZE: Final = 512

# --- a page entry -------------------------------------------------------------------------------------------

PAGE_GUEST: Final = 0
PAGE_HOST: Final = 8
PAGE_MAP: Final = 16
PAGE_NEXT: Final = 24
PAGE_CONTEXT: Final = 32
PAGE_FLAGS: Final = 40
"""Host address of the host page's flag byte (`runtime.memory.regions`)."""
PAGE_ACROSS: Final = 48
"""Host page of the following guest page, if an instruction here runs on into it; else 0."""
PAGE_TAIL: Final = 56
"""Number of the entry of the preceding guest page, if an instruction there runs on into this one; else 0."""
PAGE_ENTRY_SHIFT: Final = 6
PAGE_ENTRY_SIZE: Final = 1 << PAGE_ENTRY_SHIFT

PAGE_CAPACITY: Final = 1 << 14
BUCKET_COUNT: Final = 1 << 12
CONTEXT_WORDS: Final = 96
CONTEXT_CAPACITY: Final = 256
STEP_WORDS: Final = 4
STEP_CAPACITY: Final = 1 << 11
PENDING_CAPACITY: Final = 512
SCRATCH_SIZE: Final = 1 << 14
RECORDS_RESERVE: Final = 1 << 19
"""When less than this is left, everything is flushed before more is decoded."""
RUN_LENGTH: Final = 64
"""Instructions that are decoded in one go, ..."""
PRIVATE_LENGTH: Final = 16
"""... and in records for one use."""

# --- a space ------------------------------------------------------------------------------------------------

SPACE_TLB: Final = 0
SPACE_CODE_TLB: Final = 8
SPACE_JUMPS: Final = 16
SPACE_CONTEXT: Final = 24
SPACE_USED: Final = 32
"""1: it is, or was since it was emptied, the present space; else the TLBs and the jump cache hold nothing."""
SPACE_KEY: Final = 64
KEY_WORDS: Final = 120
SPACE_SIZE: Final = 1024
SPACE_CAPACITY: Final = 16

CODE_TLB_ENTRIES: Final = 256
JUMP_CACHE_SIZE: Final = block.JUMP_CACHE_ENTRIES * 16
CODE_TLB_SIZE: Final = CODE_TLB_ENTRIES * 16
SPACE_MEMORY: Final = block.TLB_SET_SIZE + CODE_TLB_SIZE + JUMP_CACHE_SIZE

# --- metadata of a record -----------------------------------------------------------------------------------

META_PAGE_MASK: Final = (1 << 20) - 1
META_STEP_SHIFT: Final = 20
"""The upper 12 bits of the page number's word: the number of the stepped contexts' values before this
instruction.
"""
META_FOLLOWS: Final = 1
"""Flag: not in the page's map, since it belongs to the record before (guarded body) or to a context that is
not at rest.
"""
META_END: Final = 2
"""Flag: a stub or link; its pc is in the record."""
META_JUMPS: Final = 4
"""Flag of an instruction's first record, and of its hook: a basic block ends with it."""

# --- the decoder's working memory (`block.SCRATCH`) ---------------------------------------------------------

SCRATCH_REGISTERS: Final = 4096
SCRATCH_BYTES: Final = SCRATCH_REGISTERS * 8
"""Offset of a 64-byte copy of an instruction that runs on into the next page."""
SCRATCH_SPACE_KEY: Final = SCRATCH_BYTES + 64
SCRATCH_TOTAL: Final = SCRATCH_SPACE_KEY + 8 * KEY_WORDS + 512


def _anonymous(size: int) -> tuple[mmap.mmap, int]:
    """`size` bytes of zeros and their host address; paid for when touched."""
    memory = mmap.mmap(
        -1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    )
    view = (ctypes.c_char * 1).from_buffer(memory)
    address = ctypes.addressof(view)
    return memory, address


class CodeCache:
    """One CPU's code cache.

    `unit`: bytes that instructions are aligned to (1, 2 or 4).
    """

    def __init__(self, unit: int) -> None:
        map_size = 4096 // unit * 4
        sizes = {
            "records": 3 * block.META_DISTANCE,
            "maps": PAGE_CAPACITY * map_size,
            "pages": PAGE_CAPACITY * PAGE_ENTRY_SIZE,
            "buckets": BUCKET_COUNT * 4,
            "spaces": SPACE_CAPACITY * SPACE_SIZE,
            "space_memory": SPACE_CAPACITY * SPACE_MEMORY,
            "contexts": CONTEXT_CAPACITY * CONTEXT_WORDS * 8,
            "steps": STEP_CAPACITY * STEP_WORDS * 8,
            "pending": PENDING_CAPACITY * 16,
            "scratch": SCRATCH_TOTAL,
            "dynamic": DYNAMIC_ENTRIES * 8,
            "control": CONTROL_SIZE,
        }
        starts: dict[str, int] = {}
        total = 0
        for name, size in sizes.items():
            starts[name] = total
            total += -(-size // 4096) * 4096
        self._memory, base = _anonymous(total)
        self.memory = self._memory
        self.base = base
        """All of it, and the host address of its first byte; the record arena comes first."""
        self.pages = starts["pages"]
        self.dynamic = starts["dynamic"]
        """Where the page entries and the targets of computed jumps begin."""
        at = {name: base + start for name, start in starts.items()}
        self.address = at["control"]
        self.scratch = at["scratch"]
        self._control = starts["control"]
        for offset, value in {
            RECORDS: at["records"],
            RECORDS_NEXT: at["records"] + SCRATCH_SIZE,
            RECORDS_END: at["records"] + block.META_DISTANCE - RECORDS_RESERVE,
            SCRATCH_NEXT: at["records"],
            PAGES: at["pages"],
            PAGE_COUNT: 1,
            BUCKETS: at["buckets"],
            MAPS: at["maps"],
            MAP_SIZE: map_size,
            SPACES: at["spaces"],
            SPACE: -1,
            CONTEXTS: at["contexts"],
            STEPS: at["steps"],
            STEP_COUNT: 1,
            PENDING: at["pending"],
            DYNAMIC: at["dynamic"],
        }.items():
            struct.pack_into("=q", self._memory, self._control + offset, value)
        for number in range(SPACE_CAPACITY):
            tlb = at["space_memory"] + number * SPACE_MEMORY
            code_tlb = tlb + block.TLB_SET_SIZE
            struct.pack_into(
                "=qqqqq",
                self._memory,
                starts["spaces"] + number * SPACE_SIZE,
                *(tlb, code_tlb, code_tlb + CODE_TLB_SIZE, 0, 1),
            )

    def counter(self, field: int) -> int:
        """A control field."""
        value: int = struct.unpack_from("=q", self._memory, self._control + field)[0]
        return value

    def statistics(self) -> dict[str, int]:
        """Counters since the cache was made, for people and tests."""
        names = {
            "flushes": FLUSHES,
            "decoded": DECODED,
            "lookups": LOOKUPS,
            "drops": DROPS,
            "entries": ENTRIES,
        }
        return {
            name: struct.unpack_from("=q", self._memory, self._control + offset)[0]
            for name, offset in names.items()
        }
