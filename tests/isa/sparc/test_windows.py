"""Register windows: overlap, overflow and underflow, spills and fills (V8 4.2, B.20; V9 5.1.4, 6.3.6)."""

from __future__ import annotations

import pytest

from generator.ir.evaluate import Faulted, Trapped
from tests.isa.sparc.machine import STACK, Machine

SAVE = 0x9DE3BF40  # save %sp, -192, %sp
RESTORE = 0x81E80000
RESTORE_SUM = 0x93EE4000 | 0x1A  # restore %i1, %i2, %o1
BIAS = {"sparc": 0, "sparc64": 2047}


def machine(name: str, kernel: bool = True) -> Machine:
    cpu = Machine(name)
    cpu["kernel_windows"] = int(kernel)
    cpu["o6"] = STACK - 0x100 - BIAS[name]
    return cpu


@pytest.mark.parametrize("name", ["sparc", "sparc64"])
def test_outs_become_ins_and_locals_are_fresh(name: str) -> None:
    cpu = machine(name)
    cpu["o1"], cpu["l3"], cpu["i2"], cpu["g4"] = 11, 13, 12, 4
    before = cpu["o6"]
    assert cpu.execute(SAVE) is None
    assert (cpu["i1"], cpu["i6"], cpu["l3"], cpu["g4"]) == (11, before, 0, 4)
    assert cpu["o6"] == before - 192
    cpu["i1"], cpu["i2"], cpu["l3"] = 20, 3, 99
    assert cpu.execute(RESTORE_SUM) is None
    # The sum comes from the old window and goes to the new one.
    assert (cpu["o1"], cpu["o2"], cpu["l3"], cpu["i2"]) == (23, 3, 13, 12)
    assert cpu["o6"] == before
    assert cpu.execute(SAVE) is None
    assert cpu["l3"] == 99  # what the window held


@pytest.mark.parametrize("name", ["sparc", "sparc64"])
@pytest.mark.parametrize("depth", [3, 7, 8, 30])
def test_spills_and_fills_keep_all_windows(name: str, depth: int) -> None:
    cpu = machine(name)
    for level in range(depth):
        cpu["l0"], cpu["i3"], cpu["o3"] = 100 + level, 200 + level, 201 + level
        assert cpu.execute(SAVE) is None
    for level in reversed(range(depth)):
        assert cpu["i3"] == 201 + level
        assert cpu.execute(RESTORE) is None
        assert (cpu["l0"], cpu["i3"]) == (100 + level, 200 + level)
    assert cpu["window_number"] == 0


def test_v8_traps_by_wim() -> None:
    cpu = machine("sparc", kernel=False)
    cpu["wim"] = 1 << 7
    left = cpu.execute(SAVE)
    assert isinstance(left, Trapped) and (left.trap, left.code) == ("window_overflow", 0x05)
    assert cpu["window_number"] == 0
    cpu["wim"] = 1 << 1
    left = cpu.execute(RESTORE)
    assert isinstance(left, Trapped) and (left.trap, left.code) == ("window_underflow", 0x06)


def test_v9_traps_by_its_counters() -> None:
    cpu = machine("sparc64", kernel=False)
    cpu["wstate"] = 0b101_011
    left = cpu.execute(RESTORE)  # canrestore is 0
    assert isinstance(left, Trapped) and (left.trap, left.code) == ("fill_normal", 0xC0 + 4 * 3)
    cpu["cansave"], cpu["canrestore"] = 0, 6
    left = cpu.execute(SAVE)
    assert isinstance(left, Trapped) and (left.trap, left.code) == ("spill_normal", 0x80 + 4 * 3)
    cpu["otherwin"] = 2
    left = cpu.execute(SAVE)
    assert isinstance(left, Trapped) and (left.trap, left.code) == ("spill_other", 0xA0 + 4 * 5)
    cpu["cansave"], cpu["canrestore"], cpu["cleanwin"] = 3, 3, 3
    left = cpu.execute(SAVE)
    assert isinstance(left, Trapped) and (left.trap, left.code) == ("clean_window", 0x24)
    assert (cpu["cansave"], cpu["canrestore"], cpu["window_number"]) == (3, 3, 0)


@pytest.mark.parametrize("name", ["sparc", "sparc64"])
def test_a_spill_to_nowhere_faults_and_can_be_repeated(name: str) -> None:
    cpu = machine(name)
    for _ in range(6):
        assert cpu.execute(SAVE) is None
    good = cpu.state.files["windows"][
        6 + 16 * 7 + 8
    ]  # the first window's %sp: the one below it has it as %fp
    cpu.state.files["windows"][6 + 16 * 7 + 8] = 0x10_0000
    left = cpu.execute(SAVE)
    assert isinstance(left, Faulted) and left.access == "write"
    assert cpu.pcs == (0, 4) and cpu["window_number"] == 2
    cpu.state.files["windows"][6 + 16 * 7 + 8] = good
    assert cpu.execute(SAVE) is None
    assert cpu["window_number"] == 1


def test_flushw_stores_all_windows_but_the_seen_one() -> None:
    cpu = machine("sparc64")
    for level in range(4):
        cpu["l0"] = 50 + level
        last = cpu["o6"]
        assert cpu.execute(SAVE) is None
    assert cpu.execute(0x81580000) is None
    assert (cpu["cansave"], cpu["canrestore"]) == (6, 0)
    assert int.from_bytes(cpu.memory.read(last + 2047, 8)) == 53
