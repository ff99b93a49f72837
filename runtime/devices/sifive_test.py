"""SiFive's test finisher: a 32-bit register by which a guest ends or restarts its machine (Linux's binding
``sifive,test0``; 0x5555 ends, 0x3333 with a code above ends with failure, 0x7777 resets).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from runtime.devices.device import Device, State

FAIL, PASS, RESET = 0x3333, 0x5555, 0x7777
CODE_SHIFT: Final = 16


class SifiveTestState(State):
    pass


class SifiveTest(Device[SifiveTestState]):
    """`power_off(status)` and `restart()` are called in the middle of a store: they only take note."""

    size: ClassVar = 0x1000
    state_type = SifiveTestState

    def __init__(self, power_off: Callable[[int], None], restart: Callable[[], None]) -> None:
        self._power_off = power_off
        self._restart = restart

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        if offset != 0 or size < 2:
            return
        command, code = value & 0xFFFF, value >> CODE_SHIFT & 0xFFFF
        if command == PASS:
            self._power_off(0)
        elif command == FAIL:
            self._power_off(code or 1)
        elif command == RESET:
            self._restart()

    def reset(self) -> None:
        pass

    def save(self) -> SifiveTestState:
        return SifiveTestState()

    def restore(self, state: SifiveTestState) -> None:
        pass
