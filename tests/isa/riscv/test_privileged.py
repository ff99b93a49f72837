"""Privileged behaviour against volume II of the manual, version 20240411 (sections in the tests)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.isa.riscv.hart import CODE, Hart

USER, SUPERVISOR, MACHINE = 0, 1, 3
MSTATUS, MISA, MEDELEG, MIDELEG, MIE, MTVEC = 0x300, 0x301, 0x302, 0x303, 0x304, 0x305
MEPC, MCAUSE, MTVAL, MIP, SSTATUS, SIE, SIP, SATP = 0x341, 0x342, 0x343, 0x344, 0x100, 0x104, 0x144, 0x180
FCSR, CYCLE, MINSTRET, MCOUNTINHIBIT, MCOUNTEREN, SCOUNTEREN = 0x003, 0xC00, 0xB02, 0x320, 0x306, 0x106
ECALL, EBREAK, MRET, SRET, WFI, SFENCE = 0x73, 0x100073, 0x30200073, 0x10200073, 0x10500073, 0x12000073


def csrrw(csr: int, rd: int = 0, rs1: int = 0) -> int:
    return csr << 20 | rs1 << 15 | 1 << 12 | rd << 7 | 0x73


def csrrs(csr: int, rd: int = 0, rs1: int = 0) -> int:
    return csr << 20 | rs1 << 15 | 2 << 12 | rd << 7 | 0x73


def status(hart: Hart, **fields: int) -> None:
    """Set fields of mstatus."""
    places = {"sie": 1, "mie": 3, "spie": 5, "mpie": 7, "spp": 8, "mpp": 11, "mprv": 17, "sum": 18, "mxr": 19,
              "tvm": 20, "tw": 21, "tsr": 22}  # fmt: skip
    for name, value in fields.items():
        width = 3 if name == "mpp" else 1
        hart["mstatus"] = hart["mstatus"] & ~(width << places[name]) | value << places[name]


# --- traps (3.1.6 to 3.1.16) -------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "cause"), [(USER, 8), (SUPERVISOR, 9), (MACHINE, 11)])
def test_environment_call_goes_to_machine(hart: Hart, mode: int, cause: int) -> None:
    hart["mtvec"] = CODE + 0x101  # vectored: exceptions still go to the base
    hart["priv"] = mode
    status(hart, mie=1)
    hart.step(ECALL)
    assert (hart.state.pc, hart["mepc"], hart["mcause"], hart["mtval"]) == (CODE + 0x100, CODE, cause, 0)
    assert hart["priv"] == MACHINE
    assert hart.csr(MSTATUS) & 0x1888 == 0x80 | mode << 11  # MIE 0, MPIE 1, MPP


def test_delegation(hart: Hart) -> None:
    hart.set_csr(MEDELEG, ~0)
    assert hart.csr(MEDELEG) == 0xB3FF
    hart["stvec"] = CODE + 0x200
    hart["mtvec"] = CODE + 0x300
    hart["priv"] = USER
    status(hart, sie=1)
    hart.step(EBREAK)
    assert (hart.state.pc, hart["sepc"], hart["scause"], hart["stval"]) == (CODE + 0x200, CODE, 3, CODE)
    assert hart["priv"] == SUPERVISOR
    assert hart.csr(SSTATUS) & 0x122 == 0x20  # SIE 0, SPIE 1, SPP user
    hart["priv"] = MACHINE  # never to a less privileged mode
    hart.state.pc = CODE
    hart.step(EBREAK)
    assert (hart.state.pc, hart["mcause"]) == (CODE + 0x300, 3)


def test_illegal_instructions_report_their_bits(hart: Hart) -> None:
    assert hart.step(0xFFFF_FFFF) == ("illegal", 0xFFFF_FFFF)
    hart.state.pc = CODE
    assert hart.step(0x0000) == ("illegal", 0)
    for word in (csrrs(0x5C0, 10), csrrw(CYCLE, 0, 0), csrrw(0xF14, 0, 0), csrrs(0x7B0, 10)):
        hart.state.pc = CODE
        assert hart.step(word) == ("illegal", word)
    hart["priv"] = USER
    for word in (csrrs(MSTATUS, 10), csrrs(SSTATUS, 10), MRET, SRET, WFI, SFENCE):
        hart["priv"], hart.state.pc = USER, CODE
        assert hart.step(word) == ("illegal", word)


def test_reading_what_cannot_be_written(hart: Hart) -> None:
    assert hart.step(csrrs(0xF14, 10)) is None  # csrrs with x0 does not write
    assert hart.step(csrrs(0xF14, 10, 11)) == ("illegal", csrrs(0xF14, 10, 11))  # even if x11 is 0


def test_mret(hart: Hart) -> None:
    status(hart, mpie=1, mpp=SUPERVISOR, mprv=1)
    hart["mepc"] = CODE + 0x40
    hart.step(MRET)
    assert (hart.state.pc, hart["priv"]) == (CODE + 0x40, SUPERVISOR)
    assert hart["mstatus"] == 0x88  # MIE and MPIE; MPP user, MPRV 0


def test_sret(hart: Hart) -> None:
    hart["priv"] = SUPERVISOR
    status(hart, spie=1, spp=1, mprv=1)
    hart["sepc"] = CODE + 0x40
    hart.step(SRET)
    assert (hart.state.pc, hart["priv"], hart["mstatus"]) == (CODE + 0x40, SUPERVISOR, 0x22)


@pytest.mark.parametrize(
    ("field", "words"), [("tsr", (SRET,)), ("tw", (WFI,)), ("tvm", (SFENCE, csrrs(SATP, 10)))]
)
def test_supervisor_traps(hart: Hart, field: str, words: tuple[int, ...]) -> None:
    for word in words:
        hart["priv"], hart.state.pc, hart["mstatus"], hart["waiting"] = SUPERVISOR, CODE, 0, 0
        assert hart.step(word) is None
        hart["priv"], hart.state.pc = SUPERVISOR, CODE
        hart["waiting"] = 0
        status(hart, **{field: 1})
        assert hart.step(word) == ("illegal", word)
        hart["priv"], hart.state.pc = MACHINE, CODE
        assert hart.step(word) is None


def test_misaligned_jumps_trap_without_c(make_hart: Callable[..., Hart]) -> None:
    for xlen in (32, 64):
        hart = make_hart(xlen, features=["I", "Zicsr", "U"])
        hart["mtvec"] = CODE + 0x100
        hart.state.files["x"][1] = 7
        assert hart.step(0x002000EF) == ("fetch_misaligned", CODE + 2)  # jal ra, .+2
        assert (hart["mepc"], hart.state.files["x"][1]) == (CODE, 7)
        hart.state.pc = CODE
        assert hart.step(0x00000163) == ("fetch_misaligned", CODE + 2)  # beq zero, zero, .+2
        hart.state.pc = CODE
        assert hart.step(0x00001163) is None  # bne: not taken
        hart.state.files["x"][1] = CODE + 3
        assert hart.step(0x00008067) == ("fetch_misaligned", CODE + 2)  # jalr clears bit 0 first
        hart.set_csr(MEPC, CODE + 0xFF)
        assert hart.csr(MEPC) == CODE + 0xFC


# --- interrupts (3.1.9) ------------------------------------------------------------------------------------


def interrupt(hart: Hart) -> int | None:
    """The cause of the interrupt that is taken now."""
    before = hart["priv"]
    (taken,) = hart.evaluator.call(hart.state, "pending_interrupt", ())  # type: ignore[misc]
    if not taken:
        assert hart["priv"] == before
        return None
    cause = hart["scause"] if hart["priv"] == SUPERVISOR else hart["mcause"]
    assert cause >> hart.xlen - 1 == 1
    return cause & 0xFF


def test_interrupt_priorities(hart: Hart) -> None:
    hart["mtvec"] = CODE + 0x101
    hart.set_csr(MIE, ~0)
    hart["interrupt_lines"] = 0xAAA
    assert hart.csr(MIE) == hart.csr(MIP) == 0xAAA
    for code in (11, 3, 7, 9, 1, 5):
        hart["priv"] = MACHINE
        assert interrupt(hart) is None  # MIE is 0
        status(hart, mie=1)
        hart.state.pc = CODE
        assert interrupt(hart) == code
        assert (hart.state.pc, hart["mepc"]) == (CODE + 0x100 + 4 * code, CODE)
        hart["interrupt_lines"] &= ~(1 << code)


def test_delegated_interrupts(hart: Hart) -> None:
    hart.set_csr(MIDELEG, ~0)
    assert hart.csr(MIDELEG) == 0x222
    hart.set_csr(MIE, ~0)
    hart["interrupt_lines"] = 0x222
    status(hart, mie=1, sie=1)
    assert interrupt(hart) is None  # machine mode masks what is delegated
    hart["priv"] = SUPERVISOR
    assert interrupt(hart) == 9
    assert hart["priv"] == SUPERVISOR
    assert interrupt(hart) is None  # SIE is 0 now
    hart["priv"] = USER
    assert interrupt(hart) == 9
    hart["interrupt_lines"] = 0x2A2  # MTI comes first, whatever MIE says
    hart["priv"] = SUPERVISOR
    status(hart, mie=0)
    assert (interrupt(hart), hart["priv"]) == (7, MACHINE)


def test_supervisor_views(hart: Hart) -> None:
    hart.set_csr(MIDELEG, 0x202)
    hart.set_csr(SIE, ~0)
    assert (hart.csr(MIE), hart.csr(SIE)) == (0x202, 0x202)
    hart.set_csr(SIP, ~0)
    assert hart.csr(MIP) == 0x002  # of sip only SSIP can be written
    hart["interrupt_lines"] = 0x220
    assert hart.csr(SIP) == 0x202
    hart.set_csr(MIP, ~0)
    assert hart["mip"] == 0x222


def test_setting_bits_of_mip_ignores_the_line(hart: Hart) -> None:
    hart["interrupt_lines"] = 0x200
    hart.state.files["x"][11] = 0x2
    hart.step(csrrs(MIP, 10, 11))
    assert hart.state.files["x"][10] == 0x200
    assert hart["mip"] == 0x2


def test_wfi_waits_for_an_enabled_interrupt(hart: Hart) -> None:
    hart.step(WFI)
    assert hart["waiting"] == 1
    assert interrupt(hart) is None
    assert hart["waiting"] == 1
    hart["interrupt_lines"] = 0x80
    hart.set_csr(MIE, 0x80)
    assert interrupt(hart) is None  # MIE is 0: not taken, but the wait ends
    assert (hart["waiting"], hart.state.pc) == (0, CODE + 4)


# --- registers' legal values -------------------------------------------------------------------------------


def test_misa(hart: Hart) -> None:
    letters = sum(1 << ord(letter) - ord("A") for letter in "ABCDFIMSU")
    assert hart.csr(MISA) == (1 if hart.xlen == 32 else 2) << hart.xlen - 2 | letters
    hart.set_csr(MISA, 0)
    assert hart.csr(MISA) & 0x3FFFFFF == letters


def test_mstatus_fields(hart: Hart) -> None:
    fixed = 0 if hart.xlen == 32 else 0xA_0000_0000
    hart.set_csr(MSTATUS, ~0)
    assert hart.csr(MSTATUS) == 0x7E79AA | fixed | 1 << hart.xlen - 1  # all but UBE, VS, XS
    assert hart.csr(SSTATUS) == 0xC6122 | fixed & 0x3_0000_0000 | 1 << hart.xlen - 1
    hart.set_csr(MSTATUS, 2 << 11)  # no hypervisor: the reserved mode becomes user
    assert hart.csr(MSTATUS) == fixed
    hart.set_csr(SSTATUS, ~0)
    assert hart.csr(MSTATUS) & 0x7FFFFFFF == 0xC6122


def test_machine_only(make_hart: Callable[..., Hart]) -> None:
    hart = make_hart(64, features=["I", "Zicsr"])
    hart.set_csr(MSTATUS, ~0)
    assert hart.csr(MSTATUS) == 0x1888
    assert hart.csr(MISA) == 2 << 62 | 1 << 8
    for number in (MEDELEG, MIDELEG, SSTATUS, SATP, MCOUNTEREN, FCSR):
        hart.state.pc = CODE
        assert hart.step(csrrs(number, 10)) == ("illegal", csrrs(number, 10))
    hart["mstatus"], hart.state.pc = hart.evaluator.registers["mstatus"].reset, CODE
    assert hart.step(MRET) is None  # to where it is: there is no other mode
    assert (hart["priv"], hart.csr(MSTATUS)) == (MACHINE, 0x1880)


def test_vectors_and_addresses(hart: Hart) -> None:
    hart.set_csr(MTVEC, 0x80000103)
    assert hart.csr(MTVEC) == 0x80000101
    hart.set_csr(MEPC, 0x80000103)
    assert hart.csr(MEPC) == 0x80000102


def test_satp_modes(make_hart: Callable[..., Hart]) -> None:
    hart = make_hart(64, features=["I", "Sv48"])
    for mode, kept in [(8, True), (9, True), (10, False), (1, False), (15, False), (0, True)]:
        hart["satp"] = 0x1234
        hart.set_csr(SATP, mode << 60 | 0xFFFF << 44 | 5)
        assert hart.csr(SATP) == (mode << 60 | 0xFFFF << 44 | 5 if kept else 0x1234)
    bare = make_hart(32, features=["I", "S"])
    bare.set_csr(SATP, 1 << 31 | 5)
    assert bare.csr(SATP) == 0


def test_counters(hart: Hart) -> None:
    hart["instret"] = 100
    hart.set_csr(MINSTRET, 5)
    hart["instret"] = 101  # the next instruction reads what was written
    assert hart.csr(MINSTRET) == 5
    hart["instret"] = 111
    assert hart.csr(MINSTRET) == 15
    hart.set_csr(MCOUNTINHIBIT, ~0)
    assert hart.csr(MCOUNTINHIBIT) == 5
    hart["instret"] = 200
    assert hart.csr(MINSTRET) == 15
    hart.set_csr(MCOUNTINHIBIT, 0)
    hart["instret"] = 210
    assert hart.csr(MINSTRET) == 25
    if hart.xlen == 32:
        hart.set_csr(0xB82, 7)
        hart["instret"] = 211
        assert (hart.csr(0xB82), hart.csr(MINSTRET)) == (7, 25)


def test_time_goes_on(hart: Hart) -> None:
    hart["mtime"] = (1 << 32) - 1
    hart["instret"] = 8
    assert hart.csr(0xC01) == (7 if hart.xlen == 32 else (1 << 32) + 7)
    if hart.xlen == 32:
        assert hart.csr(0xC81) == 1


def test_absent_entries_and_triggers_read_zero(hart: Hart) -> None:
    for number in (0x3A4, 0x3AE, 0x3C0, 0x3EF, 0x7A0, 0x7A1, 0x7A3):
        hart.set_csr(number, ~0)
        assert hart.csr(number) == 0
    assert hart.csr(0x7A4) == 1  # Sdtrig: no trigger


def test_counters_of_lower_modes(hart: Hart) -> None:
    read = csrrs(0xC02, 10)
    for mode, machine, supervisor, allowed in [
        (SUPERVISOR, 0, 0, False), (SUPERVISOR, 4, 0, True), (USER, 4, 0, False),
        (USER, 0, 4, False), (USER, 4, 4, True),
    ]:  # fmt: skip
        hart.set_csr(MCOUNTEREN, machine)
        hart.set_csr(SCOUNTEREN, supervisor)
        hart["priv"], hart.state.pc = mode, CODE
        assert (hart.step(read) is None) == allowed


# --- floating-point state (3.1.6.6) ------------------------------------------------------------------------


def test_floating_point_off(hart: Hart) -> None:
    for word in (0x00003507, csrrs(FCSR, 10), 0xE0000553, 0xA0052553):  # fld, frcsr, fmv.x.w, feq.s
        hart.state.pc = CODE
        assert hart.step(word) == ("illegal", word)
    hart.state.pc = CODE
    hart.poke(CODE, 0x2108, 4)  # c.fld
    assert hart.step() == ("illegal", 0x2108)


def test_floating_point_dirty(hart: Hart) -> None:
    clean = 2 << 13
    hart.set_csr(MSTATUS, clean)
    assert hart.csr(MSTATUS) & 0x6000 == clean
    hart.step(0xE0000553)  # fmv.x.w a0, ft0 writes no floating-point state
    assert hart.csr(MSTATUS) & 0x6000 == clean
    hart.step(0xF0000053)  # fmv.w.x ft0, zero
    assert hart.csr(MSTATUS) & 0x6000 == 0x6000
    assert hart.csr(MSTATUS) >> hart.xlen - 1 == 1
    assert hart.state.files["f"][0] == 0xFFFF_FFFF_0000_0000
    hart.set_csr(MSTATUS, clean)
    hart.step(csrrw(FCSR, 0, 0))
    assert hart.csr(MSTATUS) & 0x6000 == 0x6000


def test_reserved_rounding_modes(hart: Hart) -> None:
    hart.set_csr(MSTATUS, 0x6000)
    for rm in (5, 6):
        hart.state.pc = CODE
        word = 0x00000053 | rm << 12  # fadd.s
        assert hart.step(word) == ("illegal", word)
    for rm in (5, 6, 7):
        hart["frm"], hart.state.pc = rm, CODE
        assert hart.step(0x00007053) == ("illegal", 0x00007053)
