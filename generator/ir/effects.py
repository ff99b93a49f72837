"""What a behaviour does, derived from its IR: registers read and written, memory, traps, jumps.

Nothing is annotated in specs, so everything that needs to know asks here: executors (which exits an instruction needs),
the checks, the manual.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Jump(Enum):
    """How an instruction may leave the sequence."""

    NONE = 0
    STATIC = 1
    """To an address known when it is decoded."""
    DYNAMIC = 2


@dataclass(frozen=True, slots=True)
class Effects:
    """The effects of a body, those of the shared functions that it calls included."""

    reads: frozenset[str] = frozenset()
    """Registers and files read."""
    writes: frozenset[str] = frozenset()
    loads: bool = False
    stores: bool = False
    physical: bool = False
    """Some access is to physical memory."""
    traps: frozenset[str] = frozenset()
    """Traps that it raises itself (memory accesses may raise others)."""
    calls: frozenset[str] = frozenset()
    """Shared functions, called directly or through others."""
    builtins: frozenset[str] = frozenset()
    """Floating-point built-ins."""
    jumps: frozenset[Jump] = field(default_factory=frozenset)
    skips: bool = False
    """May skip the next instruction (delay slots)."""
    ends_block: bool = False
    """May write an input of a decode context or of address translation: what follows must be decoded afresh."""

    @property
    def may_leave(self) -> bool:
        """Whether it may stop in the middle: by a trap, or by an access to memory that faults."""
        return bool(self.traps) or self.loads or self.stores

    def __or__(self, other: Effects) -> Effects:
        return Effects(
            reads=self.reads | other.reads,
            writes=self.writes | other.writes,
            loads=self.loads or other.loads,
            stores=self.stores or other.stores,
            physical=self.physical or other.physical,
            traps=self.traps | other.traps,
            calls=self.calls | other.calls,
            builtins=self.builtins | other.builtins,
            jumps=self.jumps | other.jumps,
            skips=self.skips or other.skips,
            ends_block=self.ends_block or other.ends_block,
        )
