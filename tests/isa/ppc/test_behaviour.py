"""What a peer doesn't show: modes, byte order, traps, reservations, several words."""

from __future__ import annotations

import pytest

from generator.ir.evaluate import NotAnInstruction, Trapped
from tests.isa.ppc.machine import CODE, DATA, SF_OFF, Machine

ADDC_RECORD = 0x7C632015  # addc. r3,r3,r4
ADDCO_RECORD = 0x7C632415  # addco. r3,r3,r4
LWZU = 0x84640004  # lwzu r3,4(r4)
BDNZ_BACK = 0x4200FFFC  # bdnz .-4
LT, GT, EQ = 0x8000_0000, 0x4000_0000, 0x2000_0000


def test_record_forms_look_at_the_mode() -> None:
    """CR0 and CA come from 64 bits with SF = 1, from the low 32 with SF = 0 (Book I 2.3.1, 3.3.9)."""
    for sf, expected_cr, carry in ((1, GT, 0), (0, EQ, 1)):
        machine = Machine("ppc64")
        machine["msr"] = sf << 63 | SF_OFF
        machine.r[3], machine.r[4] = 0xFFFF_FFFF, 1
        assert machine.run(ADDC_RECORD) is None
        assert machine.r[3] == 0x1_0000_0000
        assert machine["cr"] == expected_cr
        assert machine["ca"] == carry


def test_summary_overflow_reaches_cr0_at_once_and_stays() -> None:
    machine = Machine()
    machine.r[3], machine.r[4] = 0x7FFF_FFFF, 1
    assert machine.run(ADDCO_RECORD) is None
    assert (machine["so"], machine["ov"], machine["cr"]) == (1, 1, LT | 1 << 28)
    machine.r[3] = 1
    assert machine.run(ADDCO_RECORD) is None
    assert (machine["so"], machine["ov"], machine["cr"]) == (1, 0, GT | 1 << 28)


@pytest.mark.parametrize("name", ["ppc", "ppc64", "ppc64le"])
def test_update_form_writes_the_address_behind_the_access(name: str) -> None:
    machine = Machine(name)
    machine.memory.poke(DATA + 4, bytes.fromhex("01020304"))
    machine.r[4] = DATA
    assert machine.run(LWZU) is None
    assert machine.r[3] == (0x04030201 if name == "ppc64le" else 0x01020304)
    assert machine.r[4] == DATA + 4
    machine.r[4] = 0x10_0000  # not mapped: the fault leaves RA alone
    assert machine.run(LWZU) is not None
    assert machine.r[4] == 0x10_0000


def test_update_forms_without_a_base_or_into_it_are_invalid() -> None:
    assert isinstance(Machine().run(0x84600004), NotAnInstruction)  # lwzu r3,4(0)
    assert isinstance(Machine().run(0x84840004), NotAnInstruction)  # lwzu r4,4(r4)
    machine = Machine()
    assert machine.run(0x80600000 | CODE) is None  # lwz r3,CODE(0) is fine, and reads itself
    assert machine.r[3] == 0x80600000 | CODE


def test_counted_branch_in_32_bit_mode_counts_the_low_word() -> None:
    for sf, taken in ((1, True), (0, False)):
        machine = Machine("ppc64")
        machine["msr"] = sf << 63 | SF_OFF
        machine["ctr"] = 0x1_0000_0001
        assert machine.run(BDNZ_BACK) is None
        assert machine["ctr"] == 0x1_0000_0000
        assert machine.state.pc == (CODE - 4 if taken else CODE + 4)


def test_branch_to_lr_that_links_uses_the_old_lr() -> None:
    machine = Machine()
    machine["lr"] = 0x2003  # the low bits don't count
    assert machine.run(0x4E800021) is None  # blrl
    assert (machine.state.pc, machine["lr"]) == (0x2000, CODE + 4)


def test_counting_branch_to_ctr_is_invalid() -> None:
    assert isinstance(Machine().run(0x4E000420), NotAnInstruction)  # bcctr 16,0


def test_word_traps_look_at_the_low_words() -> None:
    tweq, tdeq = 0x7C832008, 0x7C832088  # r3,r4
    machine = Machine("ppc64")
    machine.r[3], machine.r[4] = 0x1_0000_0000, 0
    assert isinstance(machine.run(tweq), Trapped)
    assert machine.run(tdeq) is None


def test_trap_numbers() -> None:
    machine = Machine()
    left = machine.run(0x7FE00008)  # trap
    assert isinstance(left, Trapped) and (left.trap, left.code) == ("trap_taken", 0x700)
    left = machine.run(0x44000022)  # sc 1
    assert isinstance(left, Trapped) and (left.trap, left.code, left.arguments) == (
        "system_call",
        0xC00,
        (1,),
    )
    left = machine.run(0x7C7A02A6)  # mfspr r3,26: SRR0
    assert isinstance(left, Trapped) and left.trap == "privileged"
    left = machine.run(0x7C6502A6)  # mfspr r3,5: nothing
    assert isinstance(left, Trapped) and (left.trap, left.arguments) == ("illegal", (0x7C6502A6,))


def test_several_words() -> None:
    machine = Machine()
    machine.r[4] = DATA
    for number in range(28, 32):
        machine.r[number] = number * 0x0101_0101
    assert machine.run(0xBF840010) is None  # stmw r28,16(r4)
    stored = machine.memory.read(DATA + 16, 16)
    assert stored == b"".join(bytes([number] * 4) for number in range(28, 32))
    machine.r[28:32] = [0] * 4
    assert machine.run(0xBBA40014) is None  # lmw r29,20(r4)
    assert machine.r[28:32] == [0, 0x1D1D1D1D, 0x1E1E1E1E, 0x1F1F1F1F]
    assert isinstance(Machine().run(0xB8840000), NotAnInstruction)  # lmw r4,0(r4)
    left = Machine("ppc64le").run(0xBBA40014)
    assert isinstance(left, Trapped) and (left.trap, left.code) == ("alignment", 0x600)


def test_store_conditional() -> None:
    lwarx, stwcx = 0x7C602028, 0x7CA0212D  # r3 and r5 at r4
    machine = Machine()
    machine.r[4], machine.r[5] = DATA, 77
    assert machine.run(stwcx) is None
    assert machine["cr"] == 0
    assert machine.run(lwarx, stwcx) is None
    assert machine["cr"] == EQ
    assert machine.memory.read(DATA, 4) == (77).to_bytes(4)
    assert machine.run(stwcx) is None  # the reservation is gone
    assert machine["cr"] == 0
    machine.r[4] += 2
    left = machine.run(lwarx)
    assert isinstance(left, Trapped) and left.trap == "alignment"
