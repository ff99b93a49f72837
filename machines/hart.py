"""A RISC-V hart on an accelerator: what the platform drives, and its time.

`time` counts ticks of the timebase. Between two looks of the platform it moves with the instructions, one
tick for `INSTRUCTIONS_PER_TICK` or, if the hart is faster than the clock, for a power of two more; each time
the hart is started it is brought up to the clock's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from runtime.accel.contract import Accelerator, Vcpu
from runtime.cpu.package import TargetPackage
from runtime.memory.space import AddressSpace
from runtime.state.snapshot import CpuState

SOFTWARE, TIMER, SUPERVISOR_EXTERNAL, MACHINE_EXTERNAL = 3, 7, 9, 11
"""Bits of `mip` that the platform drives (volume II, 3.1.9)."""
TICK_SHIFT: Final = 5
INSTRUCTIONS_PER_TICK: Final = 1 << TICK_SHIFT
SLOWEST_SHIFT: Final = 12
"""2**12 instructions a tick: 40 thousand million a second, faster than any host gets."""
MASK64: Final = (1 << 64) - 1


class Hart:
    """One hart. `waiting`: it executed `wfi`, and nothing has happened since that it waits for."""

    def __init__(
        self,
        accelerator: Accelerator,
        package: TargetPackage,
        memory: AddressSpace,
        number: int,
        features: Iterable[str] | None,
    ) -> None:
        self.cpu: Vcpu = accelerator.vcpu(package, memory, features)
        self.number = number
        self.waiting = False
        self.spent = 0
        """Instructions executed and traps delivered."""
        self._lines = 0
        self._parallel = False
        self._taken = 0
        """The lines' levels that the CPU knows of."""
        self._news = threading.Event()

    def reset(self, pc: int) -> None:
        """Start over at `pc`. Lines keep their levels; time and counters go on."""
        executed = self.cpu.get("instret")
        self.cpu.reset()
        self.cpu.set("instret", executed)
        self.cpu.set("mhartid", self.number)
        self.cpu.set("time_shift", TICK_SHIFT)
        self.cpu.pc = pc
        self.waiting = False
        self.cpu.set("interrupt_lines", self._lines)

    def drive(self, bit: int, level: bool) -> None:
        """An interrupt line changes."""
        self._lines = self._lines | 1 << bit if level else self._lines & ~(1 << bit)
        if self._parallel:
            self.nudge()
            return
        self.cpu.set("interrupt_lines", self._lines)
        if level:
            self.waiting = False

    # --- in a thread of its own (`machines.parallel`) ---------------------------------------------------

    def begin_parallel(self) -> None:
        """From now on lines are driven by other threads than the hart's."""
        self._parallel = self.cpu.parallel = True
        self._taken = self._lines
        self._news.clear()

    def end_parallel(self) -> None:
        """The hart's thread stands still."""
        self.take_lines()
        self._parallel = self.cpu.parallel = False

    def nudge(self) -> None:
        """From any thread: have the hart's thread look around soon."""
        self.cpu.interrupt()
        self._news.set()

    def take_lines(self) -> None:
        """The hart's thread: let the CPU know of the lines."""
        lines = self._lines
        if lines != self._taken:
            self.cpu.set("interrupt_lines", lines)
            if lines & ~self._taken:
                self.waiting = False
            self._taken = lines

    @property
    def has_news(self) -> bool:
        """Whether lines have other levels than the CPU knows."""
        return self._lines != self._taken

    def sleep(self) -> None:
        """The hart's thread: wait until somebody nudges it."""
        self._news.wait()
        self._news.clear()

    @property
    def lines(self) -> int:
        """The levels of all lines."""
        return self._lines

    def save(self) -> CpuState:
        """The hart, for a snapshot."""
        retired, executed = self.cpu.save_counters()
        return CpuState(
            registers=bytes(self.cpu.state),
            pc=self.cpu.pc,
            next_pc=self.cpu.next_pc,
            retired=retired,
            executed=executed,
            spent=self.spent,
            waiting=self.waiting,
            lines=self._lines,
        )

    def restore(self, state: CpuState) -> None:
        """Take over what `save` returned."""
        counters = state.retired, state.executed
        self.cpu.load_state(state.registers, state.pc, state.next_pc, counters)
        self._lines = state.lines
        self.spent = state.spent
        self.waiting = state.waiting

    @property
    def time(self) -> int:
        """What `rdtime` would read."""
        return self.cpu.get("mtime") + (self.cpu.get("instret") >> self._shift) & MASK64

    def set_time(self, ticks: int) -> None:
        """It is `ticks` now."""
        self.cpu.set("mtime", ticks - (self.cpu.get("instret") >> self._shift) & MASK64)

    @property
    def _shift(self) -> int:
        return self.cpu.get("time_shift")

    @property
    def instructions_per_tick(self) -> int:
        """So many move the hart's time by one tick."""
        return 1 << self._shift

    def follow(self, ticks: int, slice_: int) -> None:
        """The hart is about to execute up to `slice_` instructions, and it is `ticks` by the host's clock.

        Its time never goes back. Where it is ahead of the clock, it goes slower from here on: else it would
        run away from the clock, by which timers go off. Follows from the hart's registers alone, so that a
        run that is repeated does the same.
        """
        time, shift = self.time, self._shift
        if ticks < time:
            faster = min(shift + 1, SLOWEST_SHIFT)
        else:
            faster = max(shift - 1, TICK_SHIFT) if ticks - time > slice_ >> shift else shift
            time = ticks
        if faster != shift:
            self.cpu.set("time_shift", faster)
        elif time == self.time:
            return
        self.set_time(time)
