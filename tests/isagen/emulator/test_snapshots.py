"""Snapshots: values that can be restored, saved, forked."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from isagen import Emulator, EmulatorError, IsagenError, Snapshot, SystemCallTrap
from tests.isagen.emulator.conftest import CODE, DATA

Program = Callable[[str], Emulator]

SCRIBBLE = """
loop: mul a0, a0, a3
addi a0, a0, 13
srli a4, a0, 20
slli a4, a4, 51
srli a4, a4, 51
add a4, a4, a2
sb a0, 0(a4)
j loop
"""


def state_of(emu: Emulator) -> object:
    return emu.registers.as_dict(), emu.pc, emu.read(CODE, 0x1000), emu.read(DATA, 0x2000), emu.regions


def test_restoring_brings_everything_back(program: Program) -> None:
    emu = program(SCRIBBLE)
    emu.a0, emu.a3 = 1, 6364136223846793005
    choose = random.Random(1)
    known: list[tuple[Snapshot, object]] = []
    for _ in range(40):
        emu.run(count=choose.randrange(2000))
        if choose.random() < 0.5:
            known.append((emu.snapshot(), state_of(emu)))
        if choose.random() < 0.2:
            emu.write(DATA + choose.randrange(0x1000), choose.randbytes(100))
        if known and choose.random() < 0.5:
            snapshot, state = choose.choice(known)
            emu.restore(snapshot)
            assert state_of(emu) == state
    reference = Emulator("riscv64")
    for snapshot, state in known:
        reference.restore(snapshot)
        assert state_of(reference) == state


def test_a_restored_run_goes_on_the_same_way(program: Program) -> None:
    emu = program(SCRIBBLE)
    emu.a0, emu.a3 = 5, 6364136223846793005
    emu.run(count=1001)
    snapshot = emu.snapshot()
    emu.run(count=5000)
    end = state_of(emu)
    emu.restore(snapshot)
    emu.run(count=5000)
    assert state_of(emu) == end
    child = emu.fork()
    emu.restore(snapshot)
    emu.run(count=5000)
    child.restore(snapshot)
    child.run(count=5000)
    assert state_of(child) == state_of(emu) == end


def test_code_that_changed_is_restored(program: Program) -> None:
    emu = program("addi a0, a0, 1\nj .")
    emu.a0 = 0
    snapshot = emu.snapshot()
    emu.write(CODE, emu.assemble("addi a0, a0, 7"))
    emu.run(CODE, until=CODE + 4)
    emu.restore(snapshot)
    emu.run(CODE, until=CODE + 4)
    assert emu.a0 == 1


def test_mappings_are_restored(emu: Emulator) -> None:
    emu.write(DATA, b"before")
    snapshot = emu.snapshot()
    emu.unmap(DATA, 0x1000)
    emu.map(0x80000, 0x3000, "r")
    emu.protect(CODE, 0x1000, "r")
    with emu.checkpoint():
        emu.map(DATA, 0x1000)
        emu.write(DATA, b"inside")
    emu.restore(snapshot)
    assert emu.read(DATA, 6) == b"before"
    assert [(r.address, r.permissions) for r in emu.regions] == [(CODE, "rwx"), (DATA, "rw-")]


def test_a_checkpoint_rolls_back_whatever_happens(program: Program) -> None:
    emu = program("li a0, 5\necall")
    emu.a0 = 1
    with pytest.raises(SystemCallTrap), emu.checkpoint():
        emu.run()
    assert (emu.a0, emu.pc) == (1, CODE)


def test_a_fork_lives_apart(program: Program) -> None:
    emu = program("sw a0, 0(a2)\nj .")
    seen: list[Emulator] = []
    emu.on_code(lambda e, address, size: seen.append(e), address=CODE)
    emu.a0 = 1
    child = emu.fork()
    child.a0 = 2
    emu.run(until=CODE + 4)
    child.run(until=CODE + 4)
    assert (emu.read_int(DATA, 4), child.read_int(DATA, 4)) == (1, 2)
    assert seen == [emu, child]


def test_saving_and_loading(program: Program, tmp_path: Path) -> None:
    emu = program(SCRIBBLE)
    emu.a0, emu.a3 = 3, 6364136223846793005
    emu.map(0x10000000, 1 << 28, "rw")  # costs only what is touched
    emu.write(0x18000000, b"far")
    emu.run(count=3000)
    path = tmp_path / "state.snap"
    emu.snapshot().save(path)
    assert path.stat().st_size < 100_000
    other = Emulator("riscv64")
    other.restore(Snapshot.load(path))
    assert state_of(other) == state_of(emu)
    assert other.read(0x18000000, 3) == b"far"
    emu.run(count=1000)
    other.run(count=1000)
    assert state_of(other) == state_of(emu)


def test_damaged_files_are_refused(emu: Emulator, tmp_path: Path) -> None:
    path = tmp_path / "state.snap"
    emu.write(DATA, random.Random(1).randbytes(5000))
    emu.snapshot().save(path)
    data = path.read_bytes()
    choose = random.Random(2)
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        kind = choose.randrange(3)
        if kind == 0:
            del damaged[choose.randrange(len(data)) :]
        else:
            # Mostly the header, which says how long everything is.
            for _ in range(choose.randint(1, 4)):
                damaged[choose.randrange(600 if kind == 1 else len(data))] = choose.randrange(256)
        path.write_bytes(damaged)
        try:
            snapshot = Snapshot.load(path)
            emu.restore(snapshot)
        except IsagenError:
            refused += 1
    assert refused > 100
    with pytest.raises(FileNotFoundError):
        Snapshot.load(tmp_path / "nothing")


def test_a_snapshot_of_another_target(emu: Emulator, require_target: Callable[[str], Path]) -> None:
    require_target("sparc")
    with pytest.raises(EmulatorError, match="can't be restored"):
        Emulator("sparc").restore(emu.snapshot())
