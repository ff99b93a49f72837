"""The clock, the interrupt controllers, the serial port and the small devices of `virt`, by their manuals."""

from __future__ import annotations

from runtime.clock import CountedClock
from runtime.devices.aclint import MTIME, MTIMECMP, Aclint
from runtime.devices.bus import Bus
from runtime.devices.character import Character
from runtime.devices.device import Line
from runtime.devices.goldfish_rtc import (
    ALARM_HIGH,
    ALARM_LOW,
    ALARM_STATUS,
    CLEAR_INTERRUPT,
    IRQ_ENABLED,
    TIME_HIGH,
    TIME_LOW,
    GoldfishRtc,
)
from runtime.devices.plic import Plic
from runtime.devices.sifive_test import SifiveTest
from runtime.devices.uart16550 import FIFO, IER, IIR, LCR, LSR, MCR, MSR, RBR, SCR, Uart16550


class Ticks:
    def __init__(self, clock: CountedClock) -> None:
        self.clock = clock

    def ticks(self) -> int:
        return self.clock.now() // 100

    def set_ticks(self, value: int) -> None:
        self.clock.set_now(value * 100)

    def deadline(self, ticks: int) -> int:
        return ticks * 100


# --- the clock ----------------------------------------------------------------------------------------------


def test_timers_go_off_in_the_order_of_their_times():
    clock = CountedClock()
    seen = []
    late, early, never = (
        clock.timer(lambda name=name: seen.append(name)) for name in ("late", "early", "never")
    )
    late.set(200)
    early.set(100)
    never.set(150)
    never.cancel()
    assert clock.next_deadline() == 100
    clock.advance(99)
    clock.run_due()
    assert seen == []
    clock.advance(200)
    clock.run_due()
    assert seen == ["early", "late"]
    assert clock.next_deadline() is None


def test_a_timer_that_is_set_again_goes_off_once():
    clock = CountedClock()
    seen = []
    timer = clock.timer(lambda: seen.append(clock.now()))
    timer.set(100)
    timer.set(300)
    clock.advance(150)
    clock.run_due()
    assert seen == []
    clock.advance(300)
    clock.run_due()
    assert seen == [300]


# --- ACLINT -------------------------------------------------------------------------------------------------


def aclint(harts=2):
    clock = CountedClock()
    software, timer = [Line() for _ in range(harts)], [Line() for _ in range(harts)]
    return clock, software, timer, Aclint(clock, Ticks(clock), software, timer)


def test_msip_is_a_bit_a_hart():
    _, software, _, device = aclint()
    device.write(4, 4, 0xFFFFFFFF)
    assert [line.level for line in software] == [False, True]
    assert device.read(4, 4) == 1
    assert device.read(0, 8) == 1 << 32
    device.write(4, 4, 0)
    assert not software[1].level


def test_the_timer_compares_unsigned_and_can_be_written_by_halves():
    clock, _, timer, device = aclint()
    device.write(MTIMECMP + 8, 4, 50)
    device.write(MTIMECMP + 12, 4, 0)
    assert device.read(MTIMECMP + 8, 8) == 50
    clock.advance(4999)
    clock.run_due()
    assert not timer[1].level
    clock.advance(5000)
    clock.run_due()
    assert timer[1].level and not timer[0].level
    assert device.read(MTIME, 8) == 50
    device.write(MTIMECMP + 8, 8, (1 << 64) - 1)
    assert not timer[1].level


def test_setting_mtime_moves_all_timers():
    _, _, timer, device = aclint()
    device.write(MTIMECMP, 8, 1000)
    device.write(MTIME, 8, 1000)
    assert timer[0].level
    device.write(MTIME, 8, 0)
    assert not timer[0].level


# --- PLIC ---------------------------------------------------------------------------------------------------

PENDING, ENABLE, CLAIM = 0x1000, 0x2000, 0x200004


def plic():
    lines = [Line(), Line()]
    device = Plic(31, lines)
    for number in (3, 5, 7):
        device.write(4 * number, 4, 1)
    device.write(ENABLE + 0x80, 4, 1 << 3 | 1 << 5 | 1 << 7)
    return lines, device


def test_a_claimed_source_is_pending_again_only_after_completion():
    lines, device = plic()
    source = device.source(5)
    source.set(True)
    assert [line.level for line in lines] == [False, True]
    assert device.read(PENDING, 4) == 1 << 5
    assert device.read(CLAIM + 0x1000, 4) == 5
    assert not lines[1].level and device.read(PENDING, 4) == 0
    assert device.read(CLAIM + 0x1000, 4) == 0
    device.write(CLAIM + 0x1000, 4, 5)  # still high
    assert lines[1].level
    assert device.read(CLAIM + 0x1000, 4) == 5
    source.set(False)
    device.write(CLAIM + 0x1000, 4, 5)
    assert not lines[1].level


def test_priority_then_number_then_threshold():
    lines, device = plic()
    device.write(4 * 7, 4, 2)
    for number in (3, 5, 7):
        device.source(number).set(True)
    assert [device.read(CLAIM + 0x1000, 4) for _ in range(4)] == [7, 3, 5, 0]
    for number in (3, 5, 7):
        device.write(CLAIM + 0x1000, 4, number)
    device.write(0x201000, 4, 1)
    assert device.read(CLAIM + 0x1000, 4) == 7
    assert not lines[1].level


def test_the_plic_ignores_what_is_not_there():
    _, device = plic()
    for offset in (0, 4 * 32, PENDING, ENABLE + 0x80 * 9, 0x200000 + 0x1000 * 9 + 4, 0x5FFFFC):
        device.write(offset, 4, 0xFFFFFFFF)
        assert device.read(offset, 4) == 0
    device.write(ENABLE, 4, 0xFFFFFFFF)
    assert device.read(ENABLE, 4) == 0xFFFFFFFE  # source 0 is none


# --- the serial port ----------------------------------------------------------------------------------------


def uart():
    sent = bytearray()
    backend, line = Character(sent.extend), Line()
    return backend, line, sent, Uart16550(backend, line)


def test_sending_and_the_empty_interrupt():
    _, line, sent, device = uart()
    device.write(RBR, 1, ord("A"))
    assert sent == b"A" and device.read(LSR, 1) == 0x60 and not line.level
    device.write(IER, 1, 2)
    assert line.level and device.read(IIR, 1) == 2
    assert not line.level and device.read(IIR, 1) == 1  # reading it clears it
    device.write(RBR, 1, ord("B"))
    assert line.level


def test_receiving_through_the_fifo():
    backend, line, _, device = uart()
    device.write(IIR, 1, 0xC1)  # FIFOs on, trigger level 14
    device.write(IER, 1, 1)
    backend.feed(bytes(range(20)))
    assert line.level and device.read(IIR, 1) == 0xC4
    assert [device.read(RBR, 1) for _ in range(20)] == list(range(20))
    assert device.read(LSR, 1) & 1 == 0 and not line.level
    backend.feed(b"x")
    assert device.read(IIR, 1) == 0xCC  # below the trigger level: time-out


def test_without_fifo_one_byte_waits():
    backend, _, _, device = uart()
    backend.feed(b"ab")
    assert backend.available == 1
    assert device.read(RBR, 1) == ord("a") and device.read(RBR, 1) == ord("b")


def test_loopback_and_modem_lines():
    _, _, sent, device = uart()
    assert device.read(MSR, 1) == 0xB0
    device.write(MCR, 1, 0x1F)
    assert device.read(MSR, 1) & 0xF0 == 0xF0
    device.write(IIR, 1, 1)
    for byte in range(FIFO + 1):
        device.write(RBR, 1, byte)
    assert sent == b""
    assert device.read(LSR, 1) & 3 == 3 and device.read(LSR, 1) & 3 == 1  # overrun, told once
    device.write(MCR, 1, 0x10)
    assert device.read(MSR, 1) == 0x0F  # all four changed; RI fell


def test_divisor_and_scratch():
    _, _, sent, device = uart()
    device.write(LCR, 1, 0x83)
    device.write(RBR, 1, 0x34)
    device.write(IER, 1, 0x12)
    assert (device.read(RBR, 1), device.read(IER, 1)) == (0x34, 0x12)
    device.write(LCR, 1, 3)
    assert device.read(IER, 1) == 0 and sent == b""
    device.write(SCR, 1, 0xA5)
    assert device.read(SCR, 1) == 0xA5


def test_a_saved_uart_goes_on():
    backend, _, _, device = uart()
    device.write(IIR, 1, 1)
    device.write(IER, 1, 1)
    backend.feed(b"hey")
    other_line = Line()
    other = Uart16550(Character(), other_line)
    other.restore(type(device.save()).model_validate_json(device.save().model_dump_json()))
    assert other_line.level
    assert bytes(other.read(RBR, 1) for _ in range(3)) == b"hey"


# --- the rest -----------------------------------------------------------------------------------------------


def test_goldfish_time_and_alarm():
    clock, line = CountedClock(), Line()
    device = GoldfishRtc(clock, 5 << 32, line)
    clock.advance(7)
    assert device.read(TIME_LOW, 4) == 7 and device.read(TIME_HIGH, 4) == 5
    device.write(IRQ_ENABLED, 4, 1)
    device.write(ALARM_HIGH, 4, 5)
    device.write(ALARM_LOW, 4, 1000)
    assert device.read(ALARM_STATUS, 4) == 1
    clock.advance(1000)
    clock.run_due()
    assert line.level and device.read(ALARM_STATUS, 4) == 0
    device.write(CLEAR_INTERRUPT, 4, 1)
    assert not line.level


def test_the_finisher():
    calls = []
    device = SifiveTest(lambda status: calls.append(status), lambda: calls.append("reset"))
    for value in (0x5555, 0x3333 | 7 << 16, 0x3333, 0x7777, 0x1234):
        device.write(0, 4, value)
    assert calls == [0, 7, 1, "reset"]


def test_devices_bear_any_access():
    """Every offset and size: no exception, and values that fit."""
    _, _, _, clint = aclint()
    _, interrupts = plic()
    _, _, _, serial = uart()
    rtc = GoldfishRtc(CountedClock(), 0, Line())
    bus = Bus()
    for place, device in enumerate((clint, interrupts, serial, rtc)):
        bus.place(place << 24, device)
        offsets = {*range(0, 64), device.size - 1, device.size - 8, *range(0, device.size, device.size // 97)}
        for offset in offsets:
            for size in (1, 2, 4, 8):
                bus.write((place << 24) + offset, size, (1 << 8 * size) - 1)
                assert 0 <= bus.read((place << 24) + offset, size) < 1 << 8 * size
