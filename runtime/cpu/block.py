"""The CPU block: one block of bytes that native code and Python share. This is its fixed part, alike for all
targets.

A block is ``[header, HEADER_SIZE bytes][registers: generator.emit.layout]``; native code gets the header's
host address, called S everywhere. Everything is in host byte order; header fields are 8 bytes wide and
aligned. Addresses in the guest are zero-extended to 64 bits.

How the parts meet
------------------
*Threaded code* is the target's executors, one `isagen_threaded(S, record, next, budget) -> budget` for all of
them; the
*cold code* (`runtime.cpu.native`) holds the run loop, the decoder, the slow memory paths. The run loop enters
threaded code at a record; threaded code leaves by writing `REASON` (see `runtime.cpu.exits.Reason`: what must
be set for each) and returning what is left of the budget.

Every instruction's executor takes one from the budget before it does anything and leaves with `Reason.BUDGET`
when nothing is left, so that a budget of n executes exactly n instructions; an instruction that leaves with
TRAP, FAULT or MMIO has not been executed: it gives its one back.

Records lie in the record arena, 8-byte aligned, at most 256 bytes, in the order of the instructions ("a
run"); a record starts with its executor's number (u16). ``META_DISTANCE`` bytes behind each record lies 8
bytes of metadata: u32 page number, u16 offset in the page, u8 size in units of 8 bytes, u8 flags; with it the
pc of a record is found. The first numbers belong to the engine (`ENGINE_OPERATIONS`); a target's executors
start at `FIRST_EXECUTOR`.
"""

from __future__ import annotations

from typing import Final

# --- what executors and the run loop exchange ---------------------------------------------------------------

PC: Final = 0
"""The address of the next instruction. Threaded code writes it only where an exit's reason says so."""
NEXT_PC: Final = 8
"""Targets with delay slots: the address of the instruction behind that (npc). Others ignore it."""
BUDGET: Final = 16
"""Instructions that may still be executed (signed). `isagen_run` reads it, and writes what is left."""
REASON: Final = 24
"""Why threaded code, then `isagen_run`, returned: a `Reason`."""
EXIT_RECORD: Final = 32
"""The record that threaded code left at."""
EXIT_NEXT: Final = 40
"""Targets with delay slots: the record of the instruction behind it."""
TRAP_NUMBER: Final = 48
TRAP_CODE: Final = 56
TRAP_ARGUMENTS: Final = 64
"""The trap's position in the target's list, its code, and up to `TRAP_ARGUMENT_COUNT` arguments of 8 bytes
each.
"""
TRAP_ARGUMENT_COUNT: Final = 4
FAULT_ADDRESS: Final = 96
FAULT_ACCESS: Final = 104
"""An access that no mapping allows: the first byte's guest address, and 0 read, 1 write, 2 execute."""
RESULTS: Final = 112
"""Where a shared function leaves its results: up to `RESULT_COUNT` of 8 bytes (a wide result takes two, low
first).
"""
RESULT_COUNT: Final = 8
BOUNCE: Final = 176
"""64 bytes in which the slow memory paths put together accesses that are not contiguous in host memory."""
MMIO_ADDRESS: Final = 240
MMIO_SIZE: Final = 248
MMIO_WRITE: Final = 256
MMIO_VALUE: Final = 264
"""An access to a device: physical address, bytes (1..8), 1 for a write, the value written (8 bytes; guest
byte order as in memory, read as a little-endian number)."""
MMIO_ANSWERS: Final = 272
MMIO_ANSWERED: Final = 280
MMIO_CURSOR: Final = 288
"""Host address of the answers of the accesses that the current instruction already made (8 bytes each), how
many there are, and how many of them this attempt has used."""

# --- configuration: written by Python, read by native code --------------------------------------------------

FEATURES: Final = 304
"""256 bits: feature i of the target's list is switched on."""
MODE: Final = 336
"""Bits: `MODE_SYSTEM`, ..."""
MODE_SYSTEM: Final = 1
"""Translate addresses and deliver traps with the spec's functions; else user mode: addresses are as they are.
"""
MODE_PARALLEL: Final = 2
"""Other CPUs over the same memory run at the same time, in threads of their own."""
ADDRESS_MASK: Final = 344
"""Guest addresses wrap around here: 2**32 - 1 or 2**64 - 1."""
EXIT_TRAPS: Final = 352
"""256 bits: trap i leaves the run loop instead of being delivered by the spec's `take_trap`."""
REGIONS: Final = 384
"""Host address of the address space's table of regions (`runtime.memory.regions`)."""
TABLES: Final = 392
"""Host address of the target's decode tables (`generator.emit.decoder`)."""
CACHE: Final = 400
"""Host address of this CPU's code cache (`runtime.cpu.cache`)."""
STOP: Final = 408
"""Another thread asks the run loop to return (`Reason.INTERRUPTED`); looked at whenever threaded code was
left.
"""

# --- the software TLB ---------------------------------------------------------------------------------------

TLB: Final = 416
"""Host address of the TLB set in use: `TLB_ENTRIES` entries for reads, then as many for writes.

An entry is (u64 tag, i64 addend); that of an address is at ``TLB + tlb_offset(address)``. An access of `size`
bytes hits where ``tag == (address + size - 1) & -4096`` (with address + size - 1 taken modulo 2**64):
misaligned accesses inside a page hit, and accesses that cross into the next page can't, because that page has
another entry (see `TLB_FOLD_MASK`). The host address is then ``address + addend``. An empty entry's tag is 1,
which no masked address equals. Threaded code may keep `TLB` in a register: it only changes while the run loop
has control.
"""
TLB_ENTRIES: Final = 1024
TLB_ENTRY_SIZE: Final = 16
TLB_OFFSET_MASK: Final = (TLB_ENTRIES - 1) * TLB_ENTRY_SIZE
TLB_FOLD_SHIFT: Final = 18
TLB_FOLD_MASK: Final = 31 * TLB_ENTRY_SIZE
"""Bits of the address above the entry's number are folded into it: programs put stack and data a power of two
apart. Few enough that a page and the next one never share an entry: either the bits above stay, and the
number itself changes, or all ten bits of it change, of which nothing is folded into the upper five.
"""
TLB_WRITE: Final = TLB_ENTRIES * TLB_ENTRY_SIZE
"""Distance from a read entry to the write entry of the same address."""
TLB_RANGES: Final = 2 * TLB_WRITE
"""Distance from an entry to (u64 first guest address, u64 length): addresses around it whose bytes lie behind
each other in host memory and are accessible in the same way; length is 0 without `RANGES`, else 15 less than
it is, so that an access of up to 16 bytes is inside if it begins below the length."""
TLB_SITES: Final = 2 * TLB_RANGES
"""Distance from a set's start to its *sites*: what translated code found in the TLB last, by the register
that an address was made from (`tlb_site`), so that it need not look there each time. Forgotten with the TLB's
entries.

A site is (u64 first guest address, u64 length, u64 addend) as above in user mode; in system mode the first is
a page's, and the length not used. An empty one holds `NO_PAGE`, and length 0.
"""
TLB_SITE_COUNT: Final = 64
TLB_SITE_SIZE: Final = 32
TLB_SITE_LENGTH: Final = 8
TLB_SITE_ADDEND: Final = 16
NO_PAGE: Final = 2048
"""Equal to no page's address, whatever its lowest four bits."""
TLB_SET_SIZE: Final = TLB_SITES + TLB_SITE_COUNT * TLB_SITE_SIZE
TLB_EMPTY: Final = 1


def tlb_offset(address: int) -> int:
    """Where the TLB entry of an address (64 bits, unsigned) lies, from the TLB's start."""
    return ((address >> 8) & TLB_OFFSET_MASK) ^ ((address >> TLB_FOLD_SHIFT) & TLB_FOLD_MASK)


def tlb_site(register: int, *, write: bool) -> int:
    """Where the site of addresses made from the register at an offset lies, from the TLB's start. Those for
    writes are the odd ones. Registers may share one.
    """
    number = register // 8 % (TLB_SITE_COUNT // 2)
    return TLB_SITES + (2 * number + write) * TLB_SITE_SIZE


# --- where dynamic jumps find their records -----------------------------------------------------------------

JUMP_CACHE: Final = 424
"""Host address of the jump cache in use: `JUMP_CACHE_ENTRIES` entries (u64 pc, i64 record), entry
``(pc ^ (pc >> 11)) % JUMP_CACHE_ENTRIES``. An entry whose pc is the target's hits and is valid as it is:
records of dropped pages turn into `OP_STALE`. Empty entries hold a pc that belongs to another entry (0; entry
0 holds 1), so they need no test. Changes only while the run loop has control.
"""
JUMP_CACHE_ENTRIES: Final = 2048

# --- the rest: private to the cold code ---------------------------------------------------------------------

RETIRED: Final = 432
"""Instructions executed as the guest counts them (u64; it may write the number): plus ENTRY_BUDGET - BUDGET
while `isagen_run` runs."""
BREAKPOINT_COUNT: Final = 440
BREAKPOINTS: Final = 448
"""Host address of a sorted table of pcs (u64) at which `Reason.BREAKPOINT` is due, and their number."""
SKIP_BREAKPOINT: Final = 456
"""1: execute the first instruction although a breakpoint may be on it."""
ENTRY_BUDGET: Final = 464
"""While `isagen_run` runs: `BUDGET` when threaded code was entered, plus the instructions executed before
that.
"""
CONTEXT_KEY: Final = 472
"""Number of the decode context in use (derived contexts; `runtime.cpu.native.context`)."""
SCRATCH: Final = 480
"""Host address of the decoder's working memory."""
ATTENTION: Final = 488
"""Bits that executors and shared functions set, for the run loop: 1: forget all cached translations; 2: an
input of decoding changed; 4: an input of translation changed."""
REGION_GENERATION: Final = 496
"""The generation of `REGIONS` that the TLB and the code cache were filled under."""
EXECUTED: Final = 504
"""Instructions executed since the block was made (u64), kept up to date whenever `isagen_run` returns or
calls a hook."""
PRIVATE: Final = 512
"""From here on to `HOOKS`: see `runtime.cpu.native`."""

# --- hooks, watches and counters: written by Python ---------------------------------------------------------

HOOKS: Final = 768
HOOK_COUNT: Final = 776
"""Host address and length of a sorted table of ranges (u64 first pc, u64 last pc): instructions that start
there are decoded with an `OP_HOOK` in front of them. All others cost nothing."""
HOOK_CALL: Final = 784
HOOK_OBJECT: Final = 792
HOOK_RELEASE: Final = 800
"""A C function of one argument that the run loop calls at a hook, and its argument (0: it leaves with
`Reason.HOOK` instead). It returns 0 to stop so, or what the third C function (0: none) is then called
with."""
HOOK_PASSED: Final = 808
"""1: the hooks of the instruction at `PC` were called; `isagen_run` reads and clears it."""
HOOK_BLOCKS: Final = 816
"""1: only instructions behind a jump, or the first one, are hooked."""
HOOK_EXPECTED: Final = 824
"""The pc at which no block begins since it follows the hooked instruction before; all ones: none."""
HOOK_SIZE: Final = 832
"""Bytes of the instruction at the hook."""
WATCHES: Final = 840
WATCH_COUNT: Final = 848
"""Host address and length of a table of ranges (u64 first, u64 last guest address, u64 accesses: 1 reads,
2 writes): such accesses leave with `Reason.WATCH`. Other pages cost nothing."""
WATCH_ENTRY_SIZE: Final = 24
MMIO_VALUE_HIGH: Final = 856
"""Bytes 8 to 15 of what a watched write of 16 bytes writes."""
COUNTERS: Final = 864
COUNTER_COUNT: Final = 872
"""Host address and length of a sorted table of ranges (u64 first pc, u64 last pc, u64 host address of a u64
for each unit of code): instructions that start there are counted each time that they are executed."""
COUNTER_ENTRY_SIZE: Final = 24
FAULT_SIZE: Final = 888
FAULT_VALUE: Final = 896
"""Of the access that wasn't possible, where it was a program's: bytes (0: unknown), and what it would have
written (the low 8 bytes, as in `MMIO_VALUE`)."""
HOOK_BEGINS: Final = 880
"""At a hook: 1 if a basic block begins with the instruction."""

CODE_NEWS_SEEN: Final = 992
"""How much of `regions.CODE_NEWS` this CPU has acted on."""
RANGES: Final = 1000
"""1: user mode, fill the TLB's ranges, too (for `runtime.cpu.translator`)."""
HELPERS: Final = 1008
"""Host address of the table of functions that regions call (`runtime.cpu.translator`): 8 bytes each."""
HEADER_SIZE: Final = 1024
"""Registers start here."""

# --- records ------------------------------------------------------------------------------------------------

META_DISTANCE: Final = 1 << 26
"""Bytes from a record to its metadata; also the record arena's size."""
META_SIZE: Final = 8
MAX_RECORD_SIZE: Final = 256
RECORD_ALIGNMENT: Final = 8

OP_STUB: Final = 0
"""(u16 op, pad to 8, u64 pc, i64 patch): the instruction at `pc` is not decoded yet, or lies in another page
of a system with address translation. Executor: leave with `Reason.STUB`; where `patch` is 0, try the jump
cache with `pc` first."""
OP_LINK: Final = 1
"""(u16 op, pad to 8, u64 pc, i64 record): continue at `record`. Counts nothing. (Delay slots: if its next is
the record behind it, by address, then the new next is the one behind `record`; else next stays. The same for
stubs.)"""
OP_STALE: Final = 2
"""A record of a page that was dropped: leave with `Reason.STALE`. Its other bytes are as they were."""
OP_BREAK: Final = 3
"""(u16 op): a breakpoint: leave with `Reason.BREAKPOINT`."""
OP_HOOK: Final = 4
"""(u16 op, u16 bytes of the instruction): in front of a hooked instruction's record: leave with
`Reason.HOOK`."""
OP_COUNT: Final = 5
"""(u16 op, pad to 8, u64 host address): in front of a counted instruction's record: add one there, go on."""
PREFIX_SIZE: Final = 16
"""The size of these two in targets whose records vary in size."""
HOOK_LENGTH: Final = 2
COUNT_ADDRESS: Final = 8
OP_REGION: Final = 6
"""The head of a translated region. The u64 `REGION_DISTANCE` bytes behind the record is the host address of
the entry's description (`REGION_*`); executor: go on in its code."""
FIRST_EXECUTOR: Final = 8

REGION_DISTANCE: Final = 2 * META_DISTANCE
REGION_CODE: Final = 0
"""Host address of the region's function: a step, that is, with the arguments of threaded code."""
REGION_ENTRY: Final = 8
"""Which of the region's entries this is."""
REGION_RECORDS: Final = 16
"""Host address of the region's records' addresses, 8 bytes each."""
REGION_ENTRY_SIZE: Final = 24

END_PC: Final = 8
"""Stubs and links: the pc of the instruction that they stand for."""
STUB_PATCH: Final = 16
"""Host address of the i64 that points to this stub (a jump's target slot); `PATCH_SELF`: turn the stub into a
link; 0: neither. Only the run loop patches."""
PATCH_SELF: Final = 1
LINK_RECORD: Final = 16
END_SIZE: Final = 24
"""Stubs and links take this many bytes in targets whose records vary in size; else the fixed record size, at
least this.
"""

HEADER_FIELDS: Final[dict[str, int]] = {
    name.lower(): offset
    for name, offset in {
        "PC": PC, "NEXT_PC": NEXT_PC, "BUDGET": BUDGET, "REASON": REASON, "EXECUTED": EXECUTED,
        "TRAP_NUMBER": TRAP_NUMBER, "TRAP_CODE": TRAP_CODE, "FAULT_ADDRESS": FAULT_ADDRESS,
        "FAULT_ACCESS": FAULT_ACCESS, "MMIO_ADDRESS": MMIO_ADDRESS, "MMIO_SIZE": MMIO_SIZE,
        "MMIO_WRITE": MMIO_WRITE, "MMIO_VALUE": MMIO_VALUE,
    }.items()
}  # fmt: skip
"""Fields that debuggers and tests may look at by name."""
