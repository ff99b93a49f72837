"""Why the engine stopped: `Reason` inside native code, `Exit` for the callers of `Cpu.run`."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Reason(IntEnum):
    """What `block.REASON` holds when threaded code returns, and what else is set then.

    The first group never reaches Python: the run loop deals with it and enters threaded code again.
    """

    # --- inside native code only
    STUB = 1
    """`EXIT_RECORD` (and `EXIT_NEXT`): a stub. Nothing counted for it."""
    LOOKUP = 2
    """`PC`: the target of a dynamic jump that the jump cache doesn't know. The jump is executed and counted;
    `EXIT_RECORD` is its record. (With delay slots: it takes place at once.)"""
    LOOKUP_NEXT = 3
    """Delay slots: the jump is executed; `EXIT_RECORD` is the slot's record, `PC` the target, which has no
    record yet.
    """
    STALE = 4
    """`EXIT_RECORD` (and `EXIT_NEXT`): a record of a page that was dropped. Nothing counted."""
    DISPATCH = 5
    """The instruction is executed and counted; it wrote something that decoding, translation or interrupts
    depend on. `PC` is set (delay slots: instead `EXIT_RECORD` and `EXIT_NEXT`: what follows)."""
    TRAP = 6
    """`EXIT_RECORD` (and `EXIT_NEXT`): the instruction wasn't executed; `TRAP_NUMBER`, `TRAP_CODE`,
    `TRAP_ARGUMENTS`. Also for Python, when the run loop is told not to deliver it; then `PC` is set."""

    SKIPPED = 7
    """Delay slots: the instruction is executed and skips the next one, of which `EXIT_RECORD` is a stub or
    link.
    """

    AGAIN = 8
    """`EXIT_RECORD` (and `EXIT_NEXT`): another CPU was faster in writing what the instruction read. It wasn't
    executed, and is to be.
    """

    # --- threaded code to the run loop, and on to Python with `PC` (and `NEXT_PC`) set
    BUDGET = 16
    """`EXIT_RECORD` (and `EXIT_NEXT`): the next instruction; the budget is spent."""
    FAULT = 17
    """A memory access that nothing allows. `EXIT_RECORD` (and `EXIT_NEXT`); `FAULT_ADDRESS`, `FAULT_ACCESS`.
    Not executed.
    """
    MMIO = 18
    """A device access. `EXIT_RECORD` (and `EXIT_NEXT`); `MMIO_*`. The instruction is repeated with the
    answer.
    """
    BREAKPOINT = 19
    """`EXIT_RECORD` (and `EXIT_NEXT`): the instruction at the breakpoint, not executed."""
    HOOK = 20
    """`EXIT_RECORD` (and `EXIT_NEXT`): the record in front of a hooked instruction. Nothing executed. To
    Python where the run loop has no function to call, or where that returned 0."""
    WATCH = 21
    """An access to watched memory that is possible: as MMIO, but `MMIO_ADDRESS` is the guest's address, the
    size up to 16 bytes, and the answer's value doesn't matter."""

    # --- from the run loop to Python only
    WAITING = 31
    """The register named `waiting` is 1 behind an instruction, and `pending_interrupt` left it so: nothing to
    do until an interrupt is due. Clear it, or let `pending_interrupt` clear it when the CPU is run again."""
    INTERRUPTED = 32
    """`STOP` was set by another thread."""


class Exit(NamedTuple):
    """Why `Cpu.run` returned. The CPU's state is exact: `pc` is the next instruction to execute, or to
    repeat.

    `reason` is one of BUDGET, TRAP, FAULT, MMIO, BREAKPOINT, HOOK, WATCH, WAITING, INTERRUPTED. Only the
    fields named with it have a meaning.
    """

    reason: Reason
    pc: int
    trap: int = 0
    """TRAP: position in the target's list of traps (`Cpu.package.traps`)."""
    code: int = 0
    """TRAP: the trap's code."""
    arguments: tuple[int, ...] = ()
    """TRAP: its arguments, unsigned 64-bit."""
    address: int = 0
    """FAULT, MMIO, WATCH: guest address (MMIO: physical)."""
    access: int = 0
    """FAULT: 0 read, 1 write, 2 execute."""
    size: int = 0
    """MMIO, WATCH, FAULT: 1, 2, 4 or 8 bytes; WATCH: or 16; FAULT: 0: unknown."""
    write: bool = False
    """MMIO, WATCH: the guest writes."""
    value: int = 0
    """MMIO, WATCH, FAULT: what the guest writes, its bytes in memory order read as a little-endian number
    (FAULT: at most 8; 0 where it isn't known yet)."""
