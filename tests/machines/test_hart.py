"""A hart's time against the host's clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from machines.hart import INSTRUCTIONS_PER_TICK, TICK_SHIFT, Hart

SLICE = 1 << 19


class Registers:
    """What a `Hart` needs of a CPU to tell the time."""

    def __init__(self) -> None:
        self.values = {"mtime": 0, "instret": 0, "time_shift": TICK_SHIFT}

    def get(self, name: str) -> int:
        return self.values[name]

    def set(self, name: str, value: int) -> None:
        self.values[name] = value


class OneCpu:
    name = "test"

    def vcpu(self, package: Any, memory: Any, features: Any) -> Any:
        return Registers()


def hart() -> Hart:
    nothing: Any = None
    return Hart(OneCpu(), nothing, nothing, 0, None)


def slices(one: Hart, speed: int, count: int, ticks: int = 0) -> Iterator[tuple[int, int]]:
    """Let a hart execute `speed` instructions in each tick of the clock: the clock's time and the hart's,
    behind each slice.
    """
    for _ in range(count):
        one.follow(ticks, SLICE)
        before = one.time
        one.cpu.set("instret", one.cpu.get("instret") + SLICE)
        assert one.time >= before >= ticks
        ticks += SLICE // speed
        yield ticks, one.time


@pytest.mark.parametrize("speed", [3, 31, 32, 33, 100, 400, 1000, 2000])
def test_time_keeps_to_the_clock(speed: int) -> None:
    """However fast the host is, the hart isn't ahead of the clock by more than what it took to notice."""
    one = hart()
    ahead = [time - ticks for ticks, time in slices(one, speed, 500)]
    assert max(ahead) <= 2 * SLICE // INSTRUCTIONS_PER_TICK
    assert max(ahead[250:]) <= SLICE // INSTRUCTIONS_PER_TICK // 2


def test_time_speeds_up_again() -> None:
    """A hart that was fast and becomes slow has fine steps of time again."""
    one = hart()
    ticks = [ticks for ticks, _ in slices(one, 1000, 100)][-1]
    assert one.instructions_per_tick > INSTRUCTIONS_PER_TICK
    for _ in slices(one, 20, 100, ticks):
        pass
    assert one.instructions_per_tick == INSTRUCTIONS_PER_TICK


def test_time_never_goes_back() -> None:
    """Not where the clock is behind, nor where the rate changes at an odd number of instructions."""
    one = hart()
    one.cpu.set("instret", 12345)
    one.set_time(1000)
    last = one.time
    for ticks in (0, 999, 1000, 500, 1001, 90_000, 80_000, 10_000_000):
        one.follow(ticks, SLICE)
        assert one.time == max(last, ticks)
        last = one.time
