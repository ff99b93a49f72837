"""A machine that runs: harts, memory, devices, one clock; and the loop that drives them.

Harts take turns in one thread, a slice of instructions each. With the counted clock everything that a guest
can see follows from the settings, and two runs are alike to the instruction.
"""

from __future__ import annotations

import selectors
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

from machines.hart import INSTRUCTIONS_PER_TICK, Hart
from runtime.clock import NANOSECONDS, Clock, CountedClock, HostClock
from runtime.cpu.exits import Exit, Reason
from runtime.devices.bus import Bus
from runtime.devices.device import Device
from runtime.errors import IsagenError
from runtime.memory.space import ALL, AddressSpace, Ram
from runtime.state.snapshot import MachineState, Snapshot, SnapshotError

TIMEBASE: Final = 10_000_000
"""Ticks of the harts' time in a second."""
TICK: Final = NANOSECONDS // TIMEBASE
SLICE: Final = 1 << 19
"""Most instructions between two looks at timers and inputs."""
SHARED_SLICE: Final = 1 << 14
"""The same where several harts take turns."""
PATIENCE: Final = 0.5
"""Longest wait for inputs, in seconds: signals are looked at in between."""


class Ending(Enum):
    """Why `Machine.run` returned."""

    OFF = "off"
    """The guest switched the machine off; `Outcome.status` is what it said."""
    RESET = "reset"
    """The guest reset the machine, and `restarts` is off."""
    LIMIT = "limit"
    """The limit of instructions."""
    ASLEEP = "asleep"
    """All harts wait, and neither a timer nor an input can wake them; only where there is a limit."""
    STOPPED = "stopped"
    """`Machine.stop` was called."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    ending: Ending
    status: int = 0


class Ticks:
    """The timebase: `mtime` counts ticks of the clock, and can be set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.offset = 0
        self.running: Hart | None = None
        """The hart that executes now: its time is a little ahead of the clock's."""

    def ticks(self) -> int:
        """See `runtime.devices.aclint.Counter`."""
        now = self._clock.now() // TICK + self.offset
        return max(now, self.running.time) if self.running is not None else now

    def set_ticks(self, value: int) -> None:
        """See `runtime.devices.aclint.Counter`."""
        self.offset += value - self.ticks()
        if self.running is not None:
            self.running.set_time(value)

    def deadline(self, ticks: int) -> int:
        """See `runtime.devices.aclint.Counter`."""
        return max(0, ticks - self.offset) * TICK


class Mapping(NamedTuple):
    """A RAM, and where it lies."""

    start: int
    ram: Ram
    permissions: int


def _sizes(state: MachineState) -> dict[str, int]:
    return {name: image.size for name, image in sorted(state.memory.items())}


class Machine:
    """Made by a board (`machines.virt`). `load` puts images into memory and sets the harts' registers; it is
    called at every reset.
    """

    def __init__(self, memory: AddressSpace, clock: Clock) -> None:
        self.memory = memory
        self.clock = clock
        self.ticks = Ticks(clock)
        self.bus = Bus()
        self.devices: dict[str, Device[Any]] = {}
        """By name, those that drive lines before those that listen."""
        self.harts: list[Hart] = []
        self.load: Callable[[], None] = lambda: None
        self.rams: dict[str, Mapping] = {}
        self.description: dict[str, Any] = {}
        """What a snapshot's machine has to share."""
        self.restarts = True
        self.selector = selectors.DefaultSelector()
        """Inputs: `data` of a key is a function to call when its file is ready."""
        self.spent = 0
        """Instructions executed and traps delivered, of all harts; limits count these."""
        self._ending: Outcome | None = None
        self._restart = False

    # --- what devices ask for ---------------------------------------------------------------------------

    def power_off(self, status: int = 0) -> None:
        """End, when the instruction that asks for it is done."""
        self._ending = Outcome(Ending.OFF, status)

    def restart(self) -> None:
        """Reset, when the instruction that asks for it is done."""
        self._restart = True

    def stop(self) -> None:
        """End `run` soon. For signal handlers and other threads."""
        self._ending = Outcome(Ending.STOPPED)
        for hart in self.harts:
            hart.cpu.interrupt()

    def add(self, name: str, start: int, device: Device[Any]) -> None:
        """Place a device. Raises IsagenError where another one lies."""
        self.bus.place(start, device)
        self.memory.map_device(start, device.size)
        self.devices[name] = device

    def add_ram(self, name: str, start: int, ram: Ram, permissions: int = ALL) -> None:
        """Map a RAM, which snapshots keep under `name`."""
        self.memory.map_ram(start, ram, permissions=permissions)
        self.rams[name] = Mapping(start, ram, permissions)

    # --- snapshots --------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The whole state, between two runs. Disks have snapshots of their own."""
        package = self.harts[0].cpu.package
        state = MachineState(
            board=self.description,
            target=package.name,
            layout=package.layout_digest,
            clock=self.clock.now(),
            ticks=self.ticks.offset,
            spent=self.spent,
            cpus=[hart.save() for hart in self.harts],
            devices={name: device.save().model_dump(mode="json") for name, device in self.devices.items()},
        )
        return Snapshot.take(state, {name: mapping.ram for name, mapping in self.rams.items()})

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this machine, or of one like it. Raises SnapshotError that says what
        differs; the machine is then as it was.
        """
        state = snapshot.state
        self._check_fit(state)
        models = {
            name: device.state_type.model_validate(state.devices[name])
            for name, device in self.devices.items()
        }
        for name, mapping in self.rams.items():
            self.add_ram(name, mapping.start, snapshot.ram(name), mapping.permissions)
        self.clock.set_now(state.clock)
        self.ticks.offset = state.ticks
        self.spent = state.spent
        # Devices first: the lines that they drive wake harts.
        for name, device in self.devices.items():
            device.restore(models[name])
        for hart, saved in zip(self.harts, state.cpus, strict=True):
            hart.restore(saved)

    def _check_fit(self, state: MachineState) -> None:
        package = self.harts[0].cpu.package
        differing = [
            f"{what} ({theirs} there, {ours} here)"
            for what, theirs, ours in (
                ("target", state.target, package.name),
                ("register layout", state.layout[:12], package.layout_digest[:12]),
                *((f"board.{k}", state.board.get(k), v) for k, v in self.description.items()),
                ("devices", sorted(state.devices), sorted(self.devices)),
                ("memory", _sizes(state), {name: m.ram.size for name, m in sorted(self.rams.items())}),
            )
            if theirs != ours
        ]
        if differing:
            what = "the snapshot is of another machine: " + ", ".join(differing)
            raise SnapshotError(what, remedy="restore it into a machine with the same settings and build")

    # --- running ----------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Power on: devices, memory's images and harts as at the start."""
        for device in self.devices.values():
            device.reset()
        self.load()
        self._restart = False

    @property
    def executed(self) -> int:
        """Instructions of all harts since the machine was made."""
        return sum(hart.cpu.executed for hart in self.harts)

    def run(self, limit: int | None = None) -> Outcome:
        """Run until the guest ends it, `stop` is called, or `limit` instructions were executed (a trap that
        is delivered counts as one).
        """
        self._ending = None
        last = None if limit is None else self.spent + limit
        if isinstance(self.clock, HostClock):
            self.clock.resume()
        try:
            while self._ending is None:
                if last is not None and self.spent >= last:
                    return Outcome(Ending.LIMIT)
                if last is not None and self._is_asleep():
                    return Outcome(Ending.ASLEEP)
                self._turn(last)
                if self._restart and self._ending is None:
                    if not self.restarts:
                        return Outcome(Ending.RESET)
                    self.reset()
            return self._ending
        finally:
            if isinstance(self.clock, HostClock):
                self.clock.pause()

    def _turn(self, last: int | None) -> None:
        """Look at timers and inputs, then let each hart run for a slice."""
        self.clock.run_due()
        if all(hart.waiting for hart in self.harts):
            self._idle()
            return
        self._poll(0)
        start = self.clock.now()
        size = self._slice(start)
        longest = 0
        for hart in self.harts:
            if hart.waiting:
                continue
            budget = size if last is None else min(size, last - self.spent)
            if budget <= 0:
                break
            longest = max(longest, self._run_hart(hart, budget, start // TICK + self.ticks.offset))
            if self._ending is not None or self._restart:
                break
        if isinstance(self.clock, CountedClock):
            self.clock.advance(start + longest * TICK // INSTRUCTIONS_PER_TICK)

    def _slice(self, now: int) -> int:
        """Instructions until something is due."""
        size = SLICE if len(self.harts) == 1 else SHARED_SLICE
        deadline = self.clock.next_deadline()
        if deadline is None:
            return size
        return max(1, min(size, -(-(deadline - now) * INSTRUCTIONS_PER_TICK // TICK)))

    def _run_hart(self, hart: Hart, budget: int, ticks: int) -> int:
        """A slice of a hart; how much of the budget it took."""
        if ticks > hart.time:
            hart.set_time(ticks)
        cpu = hart.cpu
        left = budget
        self.ticks.running = hart
        try:
            while left > 0:
                before = cpu.executed
                stop = cpu.run(left)
                # Out of budget, all of it is taken, by traps too.
                left -= left if stop.reason is Reason.BUDGET else cpu.executed - before
                if stop.reason is Reason.MMIO:
                    self._access(hart, stop)
                elif stop.reason is Reason.WAITING:
                    hart.waiting = True
                    break
                elif stop.reason in (Reason.BUDGET, Reason.INTERRUPTED):
                    break
                else:
                    raise IsagenError(
                        f"hart {hart.number} can't go on: {stop.reason.name.lower()}",
                        where=f"pc {stop.pc:#x}",
                    )
        finally:
            self.ticks.running = None
            self.spent += budget - left
        return budget - left

    def _access(self, hart: Hart, stop: Exit) -> None:
        if stop.write:
            self.bus.write(stop.address, stop.size, stop.value)
            hart.cpu.answer()
            if self._ending is not None or self._restart:
                hart.cpu.run(1)  # the store itself, which has been answered
                hart.cpu.interrupt()
        else:
            hart.cpu.answer(self.bus.read(stop.address, stop.size))

    # --- waiting ----------------------------------------------------------------------------------------

    def _is_asleep(self) -> bool:
        """Whether nothing can happen any more."""
        asleep = all(hart.waiting for hart in self.harts)
        return asleep and self.clock.next_deadline() is None and not self.selector.get_map()

    def _idle(self) -> None:
        """All harts wait: for the next timer, or for an input."""
        deadline = self.clock.next_deadline()
        if isinstance(self.clock, CountedClock) and deadline is not None:
            self._poll(0)
            self.clock.advance(deadline)
            return
        wait = PATIENCE
        if deadline is not None:
            wait = min(wait, max(0, deadline - self.clock.now()) / NANOSECONDS)
        self._poll(wait)

    def _poll(self, timeout: float) -> None:
        """Serve the inputs that are ready."""
        if not self.selector.get_map():
            if timeout:
                signal.sigtimedwait([], timeout)
            return
        for key, _ in self.selector.select(timeout):
            key.data()
