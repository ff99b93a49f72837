"""The platform-level interrupt controller: interrupt sources to contexts, by priority.

RISC-V PLIC specification 1.0.0: priorities at 0, pending bits at 0x1000, enable bits at 0x2000 (0x80 a
context), threshold and claim/complete at 0x200000 (0x1000 a context). Sources are levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from runtime.devices.device import Device, Line, State

PRIORITY: Final = 0x000000
PENDING: Final = 0x001000
ENABLE: Final = 0x002000
ENABLE_STRIDE: Final = 0x80
CONTEXT: Final = 0x200000
CONTEXT_STRIDE: Final = 0x1000
THRESHOLD, CLAIM = 0, 4
HIGHEST_PRIORITY: Final = 7


class PlicState(State):
    priority: list[int]
    pending: int
    serviced: int
    enable: list[int]
    threshold: list[int]


class Plic(Device[PlicState]):
    """`sources` sources (number 0 is none), and a line to drive for each context."""

    size: ClassVar = 0x600000
    state_type = PlicState

    def __init__(self, sources: int, contexts: Sequence[Line]) -> None:
        self.sources = sources
        self._contexts = contexts
        self._levels = 0
        self._set(self._initial())

    def _initial(self) -> PlicState:
        contexts = len(self._contexts)
        return PlicState(
            priority=[0] * (self.sources + 1),
            pending=0,
            serviced=0,
            enable=[0] * contexts,
            threshold=[0] * contexts,
        )

    def source(self, number: int) -> Line:
        """The line of an interrupt source."""
        return Line(lambda level: self._changed(number, level))

    def _changed(self, number: int, level: bool) -> None:
        bit = 1 << number
        self._levels = self._levels | bit if level else self._levels & ~bit
        self._gateways()
        self._drive()

    def _gateways(self) -> None:
        """Levels become requests, unless one of that source is in service (chapter 4)."""
        self._pending |= self._levels & ~self._serviced

    def _best(self, context: int) -> int:
        """The source to claim: the highest priority, then the lowest number; 0 if there is none."""
        candidates = self._pending & self._enable[context]
        best, priority = 0, self._threshold[context]
        while candidates:
            number = (candidates & -candidates).bit_length() - 1
            candidates &= candidates - 1
            if self._priority[number] > priority:
                best, priority = number, self._priority[number]
        return best

    def _drive(self) -> None:
        for number, line in enumerate(self._contexts):
            line.set(self._best(number) != 0)

    def read(self, offset: int, size: int) -> int:
        word = self._word(offset & ~3)
        if size == 8:
            word |= self._word((offset & ~3) + 4) << 32
        return word >> 8 * (offset & 3)

    def _word(self, offset: int) -> int:
        if offset < PENDING:
            number = (offset - PRIORITY) // 4
            return self._priority[number] if number <= self.sources else 0
        if offset < ENABLE:
            return self._pending >> 8 * (offset - PENDING) & 0xFFFFFFFF
        if offset < CONTEXT:
            context, place = divmod(offset - ENABLE, ENABLE_STRIDE)
            return self._enable[context] >> 8 * place & 0xFFFFFFFF if context < len(self._contexts) else 0
        context, place = divmod(offset - CONTEXT, CONTEXT_STRIDE)
        if context >= len(self._contexts):
            return 0
        if place == THRESHOLD:
            return self._threshold[context]
        return self._claim(context) if place == CLAIM else 0

    def _claim(self, context: int) -> int:
        number = self._best(context)
        if number:
            self._pending &= ~(1 << number)
            self._serviced |= 1 << number
            self._drive()
        return number

    def write(self, offset: int, size: int, value: int) -> None:
        if size < 4 or offset & 3:
            return  # registers are 32 bits wide
        self._set_word(offset, value & 0xFFFFFFFF)
        if size == 8:
            self._set_word(offset + 4, value >> 32)

    def _set_word(self, offset: int, value: int) -> None:
        if offset < PENDING:
            number = (offset - PRIORITY) // 4
            if 1 <= number <= self.sources:
                self._priority[number] = value & HIGHEST_PRIORITY
        elif offset < ENABLE:
            return  # pending bits are read-only
        elif offset < CONTEXT:
            context, place = divmod(offset - ENABLE, ENABLE_STRIDE)
            if context < len(self._contexts):
                there = (2 << self.sources) - 2
                mask = 0xFFFFFFFF << 8 * place
                self._enable[context] = (self._enable[context] & ~mask | value << 8 * place) & there
        else:
            context, place = divmod(offset - CONTEXT, CONTEXT_STRIDE)
            if context >= len(self._contexts):
                return
            if place == THRESHOLD:
                self._threshold[context] = value & HIGHEST_PRIORITY
            elif place == CLAIM and value <= self.sources and self._enable[context] >> value & 1:
                self._serviced &= ~(1 << value)
                self._gateways()
        self._drive()

    def reset(self) -> None:
        self.restore(self._initial())

    def save(self) -> PlicState:
        return PlicState(
            priority=list(self._priority),
            pending=self._pending,
            serviced=self._serviced,
            enable=list(self._enable),
            threshold=list(self._threshold),
        )

    def _set(self, state: PlicState) -> None:
        self._priority = list(state.priority)
        self._pending = state.pending
        self._serviced = state.serviced
        self._enable = list(state.enable)
        self._threshold = list(state.threshold)

    def restore(self, state: PlicState) -> None:
        self._set(state)
        self._gateways()
        self._drive()
