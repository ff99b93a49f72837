"""Emulators of a built target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from isagen import Emulator

CODE, DATA = 0x10000, 0x20000


@pytest.fixture
def emu(require_target: Callable[[str], Path]) -> Emulator:
    """A RISC-V with a page for code and two for data; `pc` and `sp` point there."""
    require_target("riscv64")
    emulator = Emulator("riscv64")
    emulator.map(CODE, 0x1000)
    emulator.map(DATA, 0x2000, "rw")
    emulator.pc = CODE
    emulator.a2 = DATA
    return emulator


@pytest.fixture
def program(emu: Emulator) -> Callable[[str], Emulator]:
    """``program(text)``: the emulator with that code at `CODE`."""

    def make(text: str) -> Emulator:
        emu.write(CODE, emu.assemble(text, CODE))
        return emu

    return make
