"""``UcContext``: saved registers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class UcContext:
    """Registers as they were when ``Uc.context_save`` was called. May be pickled."""

    arch: int
    mode: int
    state: bytes
    pc: int
    next_pc: int
    registers: dict[int, int]
    """Values by Unicorn's numbers, for reading."""

    @property
    def size(self) -> int:
        return len(self.state)

    def reg_read(self, reg_id: int, aux: Any = None) -> int:
        """A register's value then."""
        return self.registers.get(reg_id, 0)

    def reg_read_batch(self, reg_ids: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.registers.get(number, 0) for number in reg_ids)


Callback = Callable[..., Any]
