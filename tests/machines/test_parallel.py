"""Harts in threads of the host: they run at once, and the machine stands still where it has to."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from machines.machine import Ending
from machines.virt import Virt
from runtime.errors import IsagenError
from tests.machines.boards import POWER_OFF, board

TOGETHER = """
        li    s0, 0x80100000
        li    s1, TURNS
        li    s2, 1
        li    s3, 0x2000000             # the software interrupts' registers
        csrwi mie, 8                    # msie
again:  amoswap.w.aq t0, s2, (s0)
        bnez  t0, again
        ld    t1, 64(s0)
        addi  t1, t1, 1
        sd    t1, 64(s0)
        fence rw, w
        sw    zero, 0(s0)
        addi  s4, s0, 128
        amoadd.d zero, s2, (s4)
        addi  s1, s1, -1
        bnez  s1, again
        li    t0, 256
        add   t0, t0, s0
        amoadd.d t1, s2, (t0)           # so many were ready before
        addi  t1, t1, 1
        li    t2, HARTS
        bne   t1, t2, wait
        sw    s2, 0(s3)                 # the last one wakes hart 0
wait:   bnez  a0, rest
        csrr  t0, mip
        andi  t0, t0, 8
        bnez  t0, off
        wfi
        j     wait
rest:   wfi
        j     rest
off:
""" + POWER_OFF
"""Each hart counts so many turns under a lock and, without one, by an atomic addition."""


def together(tmp_path: Path, harts: int, turns: int) -> Virt:
    code = TOGETHER.replace("TURNS", str(turns)).replace("HARTS", str(harts))
    return board(tmp_path, code, smp=harts, threads="host")


def counts(virt: Virt) -> tuple[int, int]:
    """What was counted under the lock, and without."""
    data = virt.machine.memory.read(0x80100040, 72)
    return int.from_bytes(data[:8], "little"), int.from_bytes(data[64:], "little")


@pytest.mark.parametrize("harts", [1, 2, 4])
def test_locks_additions_and_interrupts(tmp_path: Path, harts: int) -> None:
    virt = together(tmp_path, harts, 10_000)
    try:
        assert virt.machine.run().ending is Ending.OFF
        assert counts(virt) == (10_000 * harts, 10_000 * harts)
        assert virt.machine.spent == sum(hart.spent for hart in virt.machine.harts)
    finally:
        virt.machine.close()


SELF_INTERRUPTS = """
        la    t0, handler
        csrw  mtvec, t0
        li    s3, 0x2000000             # the software interrupts' registers
        li    s1, 100
        li    s2, 1
        csrwi mie, 8                    # msie
        csrsi mstatus, 8                # mie
again:  mv    s4, s5
        sw    s2, 0(s3)
wait:   beq   s4, s5, wait
        addi  s1, s1, -1
        bnez  s1, again
        li    t0, 0x80100000
        sd    s5, 64(t0)
        j     off
        .balign 4
handler:
        sw    zero, 0(s3)
        addi  s5, s5, 1
        mret
off:
""" + POWER_OFF
"""Counts the interrupts that it raises, each of which the handler takes away."""


def test_a_line_that_falls_interrupts_no_more(tmp_path: Path) -> None:
    """A hart that lets a line fall itself, by a device, knows of it before its next instruction."""
    virt = board(tmp_path, SELF_INTERRUPTS, threads="host")
    try:
        assert virt.machine.run(10_000_000).ending is Ending.OFF
        assert counts(virt)[0] == 100
    finally:
        virt.machine.close()


def test_a_limit_stops_all_and_a_snapshot_goes_on(tmp_path: Path) -> None:
    virt = together(tmp_path, 2, 20_000)
    try:
        assert virt.machine.run(200_000).ending is Ending.LIMIT
        before = counts(virt)
        assert before[0] < 40_000
        saved = virt.machine.snapshot()
        assert counts(virt) == before, "the harts stand still"
        assert virt.machine.run().ending is Ending.OFF
        virt.machine.restore(saved)
        assert counts(virt) == before
        assert virt.machine.run().ending is Ending.OFF
        assert counts(virt) == (40_000, 40_000)
    finally:
        virt.machine.close()


def test_another_thread_stops_it(tmp_path: Path) -> None:
    virt = together(tmp_path, 2, 1_000_000_000)
    machine = virt.machine
    endings: list[Ending] = []
    posted = threading.Event()
    try:
        for _ in range(2):
            before = counts(virt)
            runner = threading.Thread(target=lambda: endings.append(machine.run().ending))
            runner.start()
            while counts(virt) <= before:
                time.sleep(0.005)
            machine.post(posted.set)
            assert posted.wait(100), "what is posted is done while harts run on"
            machine.stop()
            runner.join()
            after = counts(virt)
            time.sleep(0.02)
            assert counts(virt) == after, "the harts stand still"
        assert endings == [Ending.STOPPED] * 2
    finally:
        machine.close()


def test_a_counted_clock_needs_turns(tmp_path: Path) -> None:
    with pytest.raises(IsagenError, match="don't count instructions together"):
        board(tmp_path, POWER_OFF, smp=2, threads="host", clock="counted")
