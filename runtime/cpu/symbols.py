"""The names by which threaded code and cold code find each other in a target's object file.

All are C functions over 64-bit integers; `s` is the CPU block's address. Both parts are compiled into one
module, so LLVM may inline across.

Cold code, `runtime.cpu.native` (called by executors through primitives, and by Python):
"""

from __future__ import annotations

from typing import Final

RUN: Final = "isagen_run"
"""``(s) -> reason``: run from `block.PC` with `block.BUDGET`."""
LOAD_SLOW: Final = "isagen_load_slow"
"""``(s, address, size) -> host``: a read (1, 2, 4, 8 or 16 bytes) that missed the TLB. Where the bytes lie
now (they may be a copy), or 0: `REASON` (TRAP, FAULT, MMIO) and what belongs to it are set; leave without
effects."""
STORE_SLOW: Final = "isagen_store_slow"
"""``(s, address, size, low, high) -> done``: a write that missed the TLB; `low` and `high` hold the bytes in
memory order as a little-endian number. 1: written. 0: nothing written, as above."""
EXCHANGE_SLOW: Final = "isagen_exchange_slow"
"""``(s, address, size, low, high, expected low, expected high) -> done``: likewise, where memory holds what
is expected. 0 with `REASON` AGAIN: it doesn't. What isn't aligned is written in any case."""
PROBE_WRITE: Final = "isagen_probe_write"
"""``(s, address, size) -> possible``: check that a write would be possible; 0 as above. For devices: 1."""
LOAD_PHYSICAL: Final = "isagen_load_physical"
"""``(s, address, size) -> host``, as `LOAD_SLOW`, without translation and TLB. In user mode the same as
`LOAD_SLOW`.
"""
STORE_PHYSICAL: Final = "isagen_store_physical"
"""``(s, address, size, low, high) -> done``, likewise."""
DROP_CODE: Final = "isagen_drop_code"
"""``(s, host, size) -> dropped pages``: forget code decoded from these bytes (Python wrote them)."""
FLUSH: Final = "isagen_flush"
"""``(s) -> 0``: forget all decoded code and translations. Only while the CPU doesn't run."""

COPY_AHEAD: Final = "isagen_copy_ahead"
"""``(s, size, step, source, destination, turns) -> turns``: execute turns of an instruction that copies an
element of `size` bytes and moves both addresses on by `step`, at most so many, and as `BUDGET` allows, which
they are taken from. How many that were; 0 where anything unusual might happen in the next one."""
FILL_AHEAD: Final = "isagen_fill_ahead"
"""``(s, size, step, value, destination, turns) -> turns``: the same of one that stores `value`."""

DECODE: Final = "isagen_decode"
"""``(s, pc) -> record``: decode from `pc` on, as running would; 0: can't be fetched, or illegal. For tests.
"""

BLOCK_SIZE: Final = "isagen_block_size"
"""``(s) -> bytes``: at a hook: of the basic block from the instruction on, as far as it can be decoded."""

EXPORTS: Final[dict[str, int]] = {
    RUN: 1, LOAD_SLOW: 3, STORE_SLOW: 5, PROBE_WRITE: 3, LOAD_PHYSICAL: 3, STORE_PHYSICAL: 5, DROP_CODE: 3,
    FLUSH: 1, DECODE: 2, BLOCK_SIZE: 1, EXCHANGE_SLOW: 7, COPY_AHEAD: 6, FILL_AHEAD: 6,
}  # fmt: skip
"""Symbols that the cold code defines, with their number of arguments (`runtime.cpu.native.functions()` has
the code).
"""

# --- what the cold code calls: emitted with the target's executors ------------------------------------------

THREADED: Final = "isagen_threaded"
"""``(s, record, next, budget) -> budget``: execute from `record` on (`next`: delay slots; others ignore it).
"""
TRANSLATE: Final = "isagen_fn_translate"
"""``(s, virtual address, access) -> status``; `RESULTS[0]` is the physical address."""
TAKE_TRAP: Final = "isagen_fn_take_trap"
"""``(s, trap number, code, argument 0) -> status``; `PC` is the interrupted instruction's, then the
handler's.
"""
PENDING_INTERRUPT: Final = "isagen_fn_pending_interrupt"
"""``(s) -> status``; `RESULTS[0]` is 1 if it took one (and changed `PC`)."""
ACCESS_FAULT: Final = "isagen_fn_access_fault"
"""``(s, address, access) -> status``: raises the target's trap for a physical address where nothing is."""

IMPORTS: Final[dict[str, int]] = {
    THREADED: 4, TRANSLATE: 3, TAKE_TRAP: 4, PENDING_INTERRUPT: 1, ACCESS_FAULT: 3,
}  # fmt: skip
"""Symbols that the cold code needs, with their number of arguments. Where a target's spec has no such
function, the module defines it as returning `STATUS_ABSENT`."""

STATUS_DONE: Final = 0
"""A shared function returned; its results are in `block.RESULTS`."""
STATUS_RAISED: Final = 1
"""It raised: `REASON` is TRAP (or FAULT or MMIO: a memory access of its own failed), and what belongs to it
is set.
"""
STATUS_ABSENT: Final = 2
"""The spec has no such function."""


def is_exported(symbol: str) -> bool:
    """Whether Python looks for a target's symbol: cold code, shared functions, the floating-point library."""
    return symbol.startswith(("isagen_", "sf_"))
