"""``UcContext``: saved registers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
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
    changed: dict[int, int] = field(default_factory=dict)
    """Those that were written since."""

    @property
    def size(self) -> int:
        return len(self.state)

    def reg_read(self, reg_id: int, aux: Any = None) -> int:
        """A register's value then."""
        return self.registers.get(reg_id, 0)

    def reg_read_batch(self, reg_ids: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.registers.get(number, 0) for number in reg_ids)

    def reg_write(self, reg_id: int, value: int) -> None:
        """Change a register: `Uc.context_restore` brings it back so."""
        self.registers[reg_id] = self.changed[reg_id] = value

    def reg_write_batch(self, reg_data: Iterable[tuple[int, int]]) -> None:
        for number, value in reg_data:
            self.reg_write(number, value)


Callback = Callable[..., Any]
