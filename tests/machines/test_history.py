"""A machine's past: every place of it can be reached again, exactly, with either clock."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from isagen.machine import build, open_disk
from machines.history import History, attach
from machines.machine import Ending, Machine
from machines.settings import Drive
from machines.virt import Virt
from tests.machines.boards import POWER_OFF, board

WORK = """
        li    s0, 0x80100000        # a walk over memory with loads, stores, traps, devices and the time
        bnez  a0, other
        li    t0, 0x2004000         # mtimecmp
        li    s2, 0x10000000        # serial port
        la    t1, trap
        csrw  mtvec, t1
        li    t1, 0x80
        csrs  mie, t1
        csrsi mstatus, 8
        li    s1, 0
loop:   slli  t2, s1, 5
        li    t3, 0x3fff8
        and   t2, t2, t3
        add   t2, t2, s0
        ld    t3, 0(t2)
        csrr  t4, time
        add   t3, t3, t4
        sd    t3, 0(t2)
        addi  s1, s1, 1
        andi  t5, s1, 255
        bnez  t5, loop
        lbu   t6, 5(s2)             # line status
        andi  t6, t6, 1
        beqz  t6, quiet
        lbu   t6, 0(s2)
        sb    t6, 0(s2)
        add   s3, s3, t6
quiet:  li    t5, 0x200bff8
        ld    t5, 0(t5)
        addi  t5, t5, 300
        li    t0, 0x2004000
        sd    t5, 0(t0)
        slli  t6, s1, 50
        bnez  t6, loop
        wfi
        j     loop
other:  amoadd.d t0, s0, (s0)
        j     other
        .balign 4
trap:   addi  s4, s4, 1
        li    s5, 0x200bff8
        ld    s6, 0(s5)
        li    s5, 20000
        add   s6, s6, s5
        li    s5, 0x2004000
        sd    s6, 0(s5)
        mret
"""


def fingerprint(machine: Machine) -> str:
    """All that the guest could see."""
    digest = hashlib.sha256()
    digest.update(memoryview(machine.rams["ram"].ram.memory)[: 2 << 20])
    state = machine.save_state()
    for cpu in state.cpus:
        digest.update(repr((cpu.registers, cpu.pc, cpu.spent, cpu.executed, cpu.waiting, cpu.lines)).encode())
    digest.update(repr({**state.devices, "rtc": None}).encode())
    return digest.hexdigest()


def go(machine: Machine, history: History, place: int) -> None:
    """To a place in the past."""
    number = max(n for n, c in enumerate(history._checkpoints) if c.state.spent <= place)
    history._restore(number)
    machine.fence = None
    assert history._run(place - machine.spent, history._pass)
    assert machine.spent == place


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., tuple[Virt, History]]]:
    with ExitStack() as stack:

        def start(**settings: Any) -> tuple[Virt, History]:
            made = board(tmp_path, WORK, **settings)
            stack.callback(made.machine.close)
            made.machine.characters["serial"] = made.serial
            return made, attach(made.machine, made.wrap_disks)

        yield start


@pytest.mark.parametrize(("clock", "smp"), [("counted", 1), ("counted", 2), ("host", 1), ("host", 2)])
def test_every_place_is_reached_again(
    make: Callable[..., tuple[Virt, History]], clock: str, smp: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machines.history.DISTANCE", 100_000)
    monkeypatch.setattr("machines.history.SMALLEST", 0.0)
    made, history = make(clock=clock, smp=smp, seed=3 if clock == "counted" else None)
    machine = made.machine
    machine.fence = machine.spent + 100_000
    generator = random.Random(smp)
    places: list[tuple[list[int], str]] = []
    for _ in range(40):
        if generator.random() < 0.5:
            made.serial.feed(bytes([generator.randrange(256)]))
        machine.run(generator.choice((1, 2, 777, 30_000, 60_001)))
        places.append(([hart.spent for hart in machine.harts], fingerprint(machine)))
    assert len(history._checkpoints) >= 3
    history._leave_present()
    for spent, wanted in reversed(places[:-1]):
        go(machine, history, sum(spent))
        assert [hart.spent for hart in machine.harts] == spent
        assert fingerprint(machine) == wanted
    assert history.in_past
    history.go_to_present()
    assert fingerprint(machine) == places[-1][1]
    before = machine.spent
    assert machine.run(1000).ending is Ending.LIMIT and machine.spent == before + 1000


def test_steps_back_undo_steps(make: Callable[..., tuple[Virt, History]]) -> None:
    made, history = make(clock="host", smp=2)
    machine = made.machine
    machine.run(50_000)
    seen = []
    for _ in range(30):
        machine.run(1)
        seen.append((machine.harts[0].spent, machine.harts[0].cpu.pc))
    last = dict(seen)
    hart = machine.harts[0]
    for _ in range(25):
        spent = hart.spent
        assert history.step_back(0)
        assert hart.spent == spent - 1
        assert last.get(hart.spent, hart.cpu.pc) == hart.cpu.pc


def test_the_past_becomes_coarse_before_it_becomes_short(
    make: Callable[..., tuple[Virt, History]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("machines.history.DISTANCE", 50_000)
    monkeypatch.setattr("machines.history.SMALLEST", 0.0)
    made, history = make(clock="counted", seed=1)
    machine = made.machine
    machine.fence = machine.spent + 50_000
    history._limit = 3 << 20
    machine.run(5_000_000)
    assert history._size + history._journal.size <= 4 << 20
    assert history._checkpoints[0].state.spent < machine.spent // 2
    middle = machine.spent * 3 // 4
    wanted = None
    for _ in range(2):
        history._leave_present()
        go(machine, history, middle)
        found = fingerprint(machine)
        assert wanted in (None, found)
        wanted = found
    fresh, _ = make(clock="counted", seed=1)
    fresh.machine.run(middle)
    assert fingerprint(fresh.machine) == wanted


def test_disks_are_read_as_they_were_and_not_written_twice(tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(b"a" * 4096)
    made = board(tmp_path, POWER_OFF)
    settings = made.settings.model_copy(update={"drive": (Drive(path=image, format="raw"),)})
    made.machine.close()
    with ExitStack() as stack:
        disk = open_disk(settings.drive[0], stack)
        virt = build(settings, (disk,))
        stack.callback(virt.machine.close)
        wrapped = []
        history = attach(virt.machine, lambda wrap: wrapped.append(wrap(disk)))
        (recorded,) = wrapped
        journal = history._journal
        journal.active = True
        first = recorded.pread(0, 4)
        recorded.pwrite(0, b"bbbb")
        second = recorded.pread(0, 4)
        journal.repeat_from(0)
        assert recorded.pread(0, 4) == first == b"aaaa"
        disk.pwrite(0, b"cccc")
        recorded.pwrite(0, b"bbbb")
        assert recorded.pread(0, 4) == second == b"bbbb"
        assert bytes(disk.pread(0, 4)) == b"cccc"
