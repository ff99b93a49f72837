"""The goldfish real-time clock: nanoseconds since 1970, with an alarm (Android's goldfish virtual hardware
guide, "Goldfish RTC"). 32-bit registers; TIME_LOW latches TIME_HIGH.
"""

from __future__ import annotations

from typing import ClassVar, Final

from runtime.clock import Clock
from runtime.devices.device import Device, Line, State

TIME_LOW: Final = 0x00
TIME_HIGH: Final = 0x04
ALARM_LOW: Final = 0x08
ALARM_HIGH: Final = 0x0C
IRQ_ENABLED: Final = 0x10
CLEAR_ALARM: Final = 0x14
ALARM_STATUS: Final = 0x18
CLEAR_INTERRUPT: Final = 0x1C
MASK64: Final = (1 << 64) - 1


class GoldfishRtcState(State):
    offset: int
    """Nanoseconds between the machine's clock and 1970."""
    alarm: int = 0
    alarm_set: bool = False
    irq_enabled: bool = False
    pending: bool = False
    time_high: int = 0


class GoldfishRtc(Device[GoldfishRtcState]):
    """`epoch`: nanoseconds since 1970 when the machine's clock shows 0."""

    size: ClassVar = 0x1000
    state_type = GoldfishRtcState

    def __init__(self, clock: Clock, epoch: int, line: Line) -> None:
        self._clock = clock
        self._epoch = epoch
        self._line = line
        self._timer = clock.timer(self._expire)
        self._state = GoldfishRtcState(offset=epoch)

    def _now(self) -> int:
        return self._clock.now() + self._state.offset & MASK64

    def _expire(self) -> None:
        self._state.alarm_set = False
        self._state.pending = True
        self._update()

    def _update(self) -> None:
        self._line.set(self._state.pending and self._state.irq_enabled)

    def _arm(self) -> None:
        if self._state.alarm_set:
            self._timer.set(self._state.alarm - self._state.offset)
        else:
            self._timer.cancel()

    def read(self, offset: int, size: int) -> int:
        state = self._state
        if offset == TIME_LOW:
            now = self._now()
            state.time_high = now >> 32
            return now & 0xFFFFFFFF
        return {
            TIME_HIGH: state.time_high,
            ALARM_LOW: state.alarm & 0xFFFFFFFF,
            ALARM_HIGH: state.alarm >> 32,
            IRQ_ENABLED: int(state.irq_enabled),
            ALARM_STATUS: int(state.alarm_set),
        }.get(offset, 0)

    def write(self, offset: int, size: int, value: int) -> None:
        state = self._state
        value &= 0xFFFFFFFF
        if offset == TIME_LOW:
            state.offset = (self._now() & ~0xFFFFFFFF | value) - self._clock.now()
        elif offset == TIME_HIGH:
            state.offset = (self._now() & 0xFFFFFFFF | value << 32) - self._clock.now()
        elif offset == ALARM_LOW:
            state.alarm = state.alarm & ~0xFFFFFFFF | value
            state.alarm_set = True
        elif offset == ALARM_HIGH:
            state.alarm = state.alarm & 0xFFFFFFFF | value << 32
        elif offset == IRQ_ENABLED:
            state.irq_enabled = bool(value & 1)
        elif offset == CLEAR_ALARM:
            state.alarm_set = False
        elif offset == CLEAR_INTERRUPT:
            state.pending = False
        self._arm()
        self._update()

    def reset(self) -> None:
        self.restore(GoldfishRtcState(offset=self._state.offset))

    def save(self) -> GoldfishRtcState:
        return self._state.model_copy()

    def restore(self, state: GoldfishRtcState) -> None:
        self._state = state.model_copy()
        self._arm()
        self._update()
