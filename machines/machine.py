"""A machine that runs: harts, memory, devices, one clock; and the loop that drives them.

Harts take turns in one thread: a round gives each of them a slice of instructions. A run may end anywhere in
a round, and the next one goes on there, so that it makes no difference to the guest how a run is cut into
pieces. With the counted clock everything that a guest can see follows from the settings, and two runs are
alike to the instruction.
"""

from __future__ import annotations

import contextlib
import os
import random
import selectors
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, NamedTuple, TypeVar

from machines.hart import INSTRUCTIONS_PER_TICK, Hart
from machines.inputs import PATIENCE, Fed, Poll
from machines.parallel import Team
from machines.timebase import TICK, Ticks
from runtime.clock import NANOSECONDS, Clock, CountedClock, HostClock
from runtime.cpu.exits import Exit, Reason
from runtime.devices.bus import Bus
from runtime.devices.character import Character
from runtime.devices.device import Device
from runtime.errors import IsagenError
from runtime.memory.space import ALL, AddressSpace, Ram
from runtime.state.journal import Journal
from runtime.state.snapshot import Build, MachineState, Round, Snapshot, SnapshotError

T = TypeVar("T")

SLICE: Final = 1 << 20
"""Most instructions between two looks at timers and inputs."""
SHARED_SLICE: Final = 1 << 14
"""The same where several harts take turns."""
ACCESSES: Final = 512
"""Device accesses in a slice between two looks at inputs."""


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


class RunState(Enum):
    """What the machine does while `Machine.run` is called. The names are QEMU's (QMP's `RunState`)."""

    RUNNING = "running"
    PAUSED = "paused"
    PRELAUNCH = "prelaunch"
    """Not started yet."""
    DEBUG = "debug"
    """A debugger has it in hand."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    ending: Ending
    status: int = 0


class Goal(NamedTuple):
    """A place in the run: hart number `hart` has `spent` (`Hart.spent`)."""

    hart: int
    spent: int


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
        self.exits = ExitStack()
        """Closed with the machine."""
        self.selector: selectors.BaseSelector = selectors.DefaultSelector()
        """Inputs: `data` of a key is a function to call when its file is ready."""
        self.spent = 0
        """Instructions executed and traps delivered, of all harts; limits count these."""
        self.state = RunState.RUNNING
        self.observers: list[Callable[[str, dict[str, Any]], None]] = []
        """Called with each event: QMP's name (STOP, RESUME, RESET, SHUTDOWN, POWERDOWN, ...) and data."""
        self.on_stop: Callable[[Hart, Exit], None] | None = None
        """A debugger: called at breakpoints, in front of watched accesses, and at the goal
        (`Reason.BUDGET`).
        """
        self.goal: Goal | None = None
        """Where `on_stop` is called next."""
        self.held: frozenset[int] = frozenset()
        """Numbers of harts that a debugger keeps from running."""
        self.fence: int | None = None
        """`on_fence` is called when so much is `spent`."""
        self.on_fence: Callable[[], None] = lambda: None
        self.on_restore: Callable[[], None] = lambda: None
        """Called behind `restore`: the RAMs are others."""
        self.on_change: Callable[[], None] = lambda: None
        """To be called when somebody outside has changed the state of a device."""
        self.journal: Journal | None = None
        """Records what comes from outside (`machines.history`)."""
        self.alone = False
        """While a part of the run is repeated: don't look at any inputs."""
        self.characters: dict[str, Character] = {}
        """The guest's character devices, by name: what is fed to them comes from outside."""
        self._fed: list[Fed] = []
        self.random: random.Random | None = None
        """Where the guest's random numbers come from; None: from the host."""
        self.team: Team | None = None
        """Runs the harts in threads of the host, where they don't take turns (`run_in_threads`)."""
        self._round: Round | None = None
        self._ending: Outcome | None = None
        self._restart: str | None = None
        self._posted: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.selector.register(self._wake, selectors.EVENT_READ, self._run_posted)

    def close(self) -> None:
        """Give back what the machine holds of the host. May be called again."""
        if self.team is not None:
            self.team.close()
        for hart in self.harts:
            hart.cpu.close()
        self.exits.close()
        if self._wake >= 0:
            self.selector.close()
            os.close(self._wake)
            self._wake = -1

    # --- what devices, users and debuggers ask for ------------------------------------------------------

    def announce(self, event: str, **data: Any) -> None:
        """Tell the observers; of what the guest does only once, if a part of the run is repeated."""
        if self.journal is not None and self.journal.repeating and data.get("guest"):
            return
        for observer in tuple(self.observers):
            observer(event, data)

    def power_off(self, status: int = 0, *, reason: str = "guest-shutdown") -> None:
        """End, when the instruction that asks for it is done. `reason`: one of QMP's `ShutdownCause`."""
        self._ending = Outcome(Ending.OFF, status)
        self.announce("SHUTDOWN", guest=reason.startswith("guest-"), reason=reason)

    def restart(self, *, reason: str = "guest-reset") -> None:
        """Reset, when the instruction that asks for it is done. `reason`: one of QMP's `ShutdownCause`."""
        self._restart = reason

    def stop(self) -> None:
        """End `run` soon, or the next one at once. For signal handlers and other threads."""
        self._ending = Outcome(Ending.STOPPED)
        for hart in self.harts:
            hart.cpu.interrupt()
        self.wake_up()

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` called between two slices, by the thread that runs the machine. For other threads."""
        self._posted.append(call)
        self.wake_up()

    def wake_up(self) -> None:
        """Have whoever waits for inputs look around. From any thread."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def _run_posted(self) -> None:
        with contextlib.suppress(BlockingIOError):  # somebody may have read it
            os.eventfd_read(self._wake)
        while self._posted:
            self._posted.popleft()()

    def pause(self, state: RunState = RunState.PAUSED) -> None:
        """Stand still: time doesn't go on, inputs are served. `run` returns only when somebody ends it."""
        if self.state is RunState.RUNNING:
            self.state = state
            self.announce("STOP")
        else:
            self.state = state

    def resume(self) -> None:
        """Go on."""
        if self.state is not RunState.RUNNING:
            self.state = RunState.RUNNING
            self.announce("RESUME")

    @property
    def ending(self) -> bool:
        """Whether `stop` was called, or the guest has ended it."""
        return self._ending is not None

    @property
    def paused(self) -> bool:
        """Whether it stands still."""
        return self.state is not RunState.RUNNING

    def add(self, name: str, start: int, device: Device[Any]) -> None:
        """Place a device. Raises IsagenError where another one lies."""
        self.bus.place(start, device)
        self.memory.map_device(start, device.size)
        self.devices[name] = device

    def placed(self) -> list[tuple[int, str, Device[Any]]]:
        """Where devices lie: address, name, device."""
        return [
            (start, name, device)
            for name, device in self.devices.items()
            if (start := self.bus.start_of(device)) is not None
        ]

    def add_ram(self, name: str, start: int, ram: Ram, permissions: int = ALL) -> None:
        """Map a RAM, which snapshots keep under `name`."""
        self.memory.map_ram(start, ram, permissions=permissions)
        self.rams[name] = Mapping(start, ram, permissions)

    # --- snapshots --------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The whole state, between two runs. Disks have snapshots of their own."""
        rams = {name: mapping.ram for name, mapping in self.rams.items()}
        return Snapshot.take(self.save_state(), rams)

    def save_state(self) -> MachineState:
        """All but the RAMs' contents."""
        package = self.harts[0].cpu.package
        return MachineState(
            board=self.description,
            build=Build(target=package.name, spec=package.layout_digest, code=package.build_digest),
            clock=self.clock.now(),
            ticks=self.ticks.offset,
            spent=self.spent,
            round=None if self._round is None else replace(self._round),
            random=None if self.random is None else self.random.getstate(),
            cpus=[hart.save() for hart in self.harts],
            devices={name: device.save().model_dump(mode="json") for name, device in self.devices.items()},
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of this machine, or of one like it. Raises SnapshotError that says what
        differs; the machine is then as it was.
        """
        state = snapshot.state
        self.check_fit(state)
        models = self._models(state)
        for name, mapping in self.rams.items():
            self.add_ram(name, mapping.start, snapshot.ram(name), mapping.permissions)
        self._adopt(state, models)
        self.on_restore()

    def load_state(self, state: MachineState) -> None:
        """Take over what `save_state` of this machine returned; the RAMs are the caller's business."""
        self._adopt(state, self._models(state))

    def _models(self, state: MachineState) -> dict[str, Any]:
        return {
            name: device.state_type.model_validate(state.devices[name])
            for name, device in self.devices.items()
        }

    def _adopt(self, state: MachineState, models: dict[str, Any]) -> None:
        self.clock.set_now(state.clock)
        self.ticks.offset = state.ticks
        self.spent = state.spent
        if self.random is not None and state.random is not None:
            self.random.setstate(state.random)
        self._round = None if state.round is None else replace(state.round)
        # Devices first: the lines that they drive wake harts.
        for name, device in self.devices.items():
            device.restore(models[name])
        for hart, saved in zip(self.harts, state.cpus, strict=True):
            hart.restore(saved)

    def check_fit(self, state: MachineState) -> None:
        """Whether `restore` takes a state. Raises SnapshotError that says what differs."""
        package = self.harts[0].cpu.package
        differing = [
            f"{what} ({theirs} there, {ours} here)"
            for what, theirs, ours in (
                ("target", state.build.target, package.name),
                ("layout of registers", state.build.spec[:12], package.layout_digest[:12]),
                ("build of the target", state.build.code[:12], package.build_digest[:12]),
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
        reason, self._restart = self._restart, None
        for device in self.devices.values():
            device.reset()
        self.load()
        self._round = None
        if reason is not None:
            self.announce("RESET", guest=reason.startswith("guest-"), reason=reason)

    @property
    def executed(self) -> int:
        """Instructions of all harts since the machine was made."""
        return sum(hart.cpu.executed for hart in self.harts)

    def run_in_threads(self) -> None:
        """From now on each hart has a thread of the host, where nothing asks for an exact order: a debugger,
        a record of what comes from outside. Raises IsagenError with a counted clock.
        """
        if not isinstance(self.clock, HostClock):
            raise IsagenError(
                "harts in threads of the host don't count instructions together",
                remedy="take the host's clock, or let harts take turns",
            )
        self.team = Team(self)

    @property
    def halting(self) -> bool:
        """Whether harts have to stand still now."""
        return self._ending is not None or self._restart is not None or self.paused

    def run(self, limit: int | None = None) -> Outcome:
        """Run until the guest ends it, `stop` is called, or `limit` instructions were executed (a trap that
        is delivered counts as one).
        """
        last = None if limit is None else self.spent + limit
        journal = self.journal
        try:
            while self._ending is None:
                if journal is not None:
                    journal.active = True
                if self._restart is not None:
                    if not self.restarts:
                        self.announce("SHUTDOWN", guest=True, reason=self._restart)
                        self._restart = None
                        return Outcome(Ending.RESET)
                    self.reset()
                if last is not None and self.spent >= last:
                    return Outcome(Ending.LIMIT)
                if self.paused:
                    self._let_time_pass(False)
                    self._serve(PATIENCE)
                    continue
                if journal is not None and journal.repeating and not self.alone:
                    self._serve(0)  # commands and debuggers: the guest's inputs come from the record
                    if self.halting:
                        continue
                if last is not None and self.is_asleep():
                    return Outcome(Ending.ASLEEP)
                if self.fence is not None and self.spent >= self.fence:
                    if journal is not None:
                        journal.active = False
                    self.on_fence()
                    continue
                self._let_time_pass(True)
                until = last if self.fence is None else min(self.fence, last or self.fence)
                if self.team is not None and self._may_be_parallel:
                    self.team.run(until)
                else:
                    self._turn(until)
            return self._ending
        finally:
            if journal is not None:
                journal.active = False
            self._ending = None
            self._let_time_pass(False)

    @property
    def _may_be_parallel(self) -> bool:
        """Whether nothing asks for harts that take turns."""
        return self.journal is None and self.goal is None and not self.held and self._round is None

    def _let_time_pass(self, running: bool) -> None:
        if self.journal is not None and self.journal.repeating:
            return
        if isinstance(self.clock, HostClock):
            if running:
                self.clock.resume()
            else:
                self.clock.pause()

    def _turn(self, last: int | None) -> None:
        """Look at timers and inputs and begin a round, unless one is under way; then let each hart run for
        its slice.
        """
        if self._round is None:
            self.clock.run_due()
            if all(hart.waiting or hart.number in self.held for hart in self.harts):
                self._idle()
                return
            if (
                self.poll(0).halted or self.halting or self._round is not None
            ):  # (a restored machine may be in the middle of one)
                return
            now = self.clock.now()
            self._round = Round(start=now, size=self._slice(now))
        turn = self._round
        while turn.hart < len(self.harts):
            hart = self.harts[turn.hart]
            while turn.used < turn.size and not hart.waiting and hart.number not in self.held:
                left = turn.size - turn.used
                budget = left if last is None else min(left, last - self.spent)
                if budget <= 0:
                    return
                self._run_hart(hart, turn, budget)
                if self.halting or self._round is not turn:  # a state may have been restored
                    return
            turn.longest = max(turn.longest, turn.used)
            turn.hart, turn.used = turn.hart + 1, 0
        self._round = None
        if isinstance(self.clock, CountedClock):
            self.clock.advance(turn.start + turn.longest * TICK // INSTRUCTIONS_PER_TICK)

    def _slice(self, now: int) -> int:
        """Instructions until something is due."""
        size = SLICE if len(self.harts) == 1 else SHARED_SLICE
        deadline = self.clock.next_deadline()
        if deadline is None:
            return size
        rate = max(hart.instructions_per_tick for hart in self.harts)
        return max(1, min(size, -(-(deadline - now) * rate // TICK)))

    def _run_hart(self, hart: Hart, turn: Round, budget: int) -> None:
        """Part of a hart's slice: at most `budget`, less where it waits or the machine is to halt."""
        if turn.used == 0:
            ticks = turn.start // TICK + self.ticks.offset
            if isinstance(self.clock, HostClock):
                hart.follow(ticks, turn.size)
            elif ticks > hart.time:
                hart.set_time(ticks)
        cpu = hart.cpu
        finishing = False
        """Only the instruction under way is to be done."""
        accesses = 0
        self.ticks.running = hart
        try:
            while budget > 0:
                allowed = 1 if finishing else budget
                if accesses >= ACCESSES and not cpu.answered:
                    accesses = 0
                    if not self._serve_within(hart, turn):
                        break
                goal = self.goal if self.goal is not None and self.goal.hart == hart.number else None
                if goal is not None:
                    allowed = min(allowed, goal.spent - hart.spent)
                    if allowed <= 0:
                        self._reach(hart)
                        break
                stop = cpu.run(allowed)
                used = allowed - cpu.unused
                budget -= used
                turn.used += used
                hart.spent += used
                self.spent += used
                if stop.reason is Reason.MMIO:
                    self.access(hart, stop)
                    finishing = self.halting
                    accesses += 1
                elif stop.reason is Reason.WAITING:
                    hart.waiting = True
                    break
                elif stop.reason is Reason.BUDGET:
                    if goal is not None and goal.spent == hart.spent:
                        self._reach(hart)
                        break
                    if finishing:
                        break
                elif stop.reason is Reason.INTERRUPTED:
                    if not cpu.answered:
                        break
                    finishing = True
                elif self.on_stop is not None and stop.reason in (Reason.BREAKPOINT, Reason.WATCH):
                    self.on_stop(hart, stop)
                    finishing = self.halting
                    if finishing and not cpu.answered:
                        break
                else:
                    raise IsagenError(
                        f"hart {hart.number} can't go on: {stop.reason.name.lower()}",
                        where=f"pc {stop.pc:#x}",
                    )
        finally:
            self.ticks.running = None

    def _serve_within(self, hart: Hart, turn: Round) -> bool:
        """A guest that only asks devices takes long for a slice: serve inputs in it. Whether to go on."""
        if self.alone:
            return True
        self.ticks.running = None
        self._serve(0)
        self.ticks.running = hart
        return not self.halting and self._round is turn

    def _reach(self, hart: Hart) -> None:
        """The goal is reached."""
        self.goal = None
        if self.on_stop is not None:
            self.on_stop(hart, Exit(Reason.BUDGET, hart.cpu.pc))

    def access(self, hart: Hart, stop: Exit) -> None:
        """A hart's access to a device."""
        if stop.write:
            self.bus.write(stop.address, stop.size, stop.value)
            hart.cpu.answer()
        else:
            hart.cpu.answer(self.bus.read(stop.address, stop.size))

    # --- waiting ----------------------------------------------------------------------------------------

    def is_asleep(self) -> bool:
        """Whether nothing can happen any more."""
        asleep = all(hart.waiting for hart in self.harts)
        return asleep and self.clock.next_deadline() is None and not self._has_inputs

    @property
    def _has_inputs(self) -> bool:
        return len(self.selector.get_map()) > 1  # beside `_wake`

    def _idle(self) -> None:
        """All harts wait: for the next timer, or for an input."""
        deadline = self.clock.next_deadline()
        if isinstance(self.clock, CountedClock) and deadline is not None:
            if not self.poll(0).served:
                self.clock.advance(deadline)
            return
        wait = PATIENCE
        if deadline is not None:
            wait = min(wait, max(0, deadline - self.clock.now()) / NANOSECONDS)
        self.poll(wait)

    def poll(self, timeout: float) -> Poll:
        """Serve the inputs that are ready, and hand over what came from outside. While a part of the run is
        repeated, what came then.
        """
        journal = self.journal
        if journal is None:
            return Poll(self._serve(timeout), self.halting)
        if journal.repeating:
            found: tuple[Poll, tuple[Fed, ...]] = journal.value("poll", lambda: (Poll(False, False), ()))
        else:
            poll = Poll(self._serve(timeout), self.halting)
            fed, self._fed = tuple(self._fed), []
            found = journal.value("poll", lambda: (poll, fed))
        for name, data in found[1]:
            self.characters[name].deliver(data)
        return found[0]

    def is_called(self, ready: Sequence[tuple[selectors.SelectorKey, int]]) -> bool:
        """Whether inputs that are ready have to be served; that somebody only wants to be noticed is done."""
        if len(ready) == 1 and ready[0][0].fd == self._wake and not self._posted:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            return False
        return bool(ready) or bool(self._fed)

    def _serve(self, timeout: float) -> bool:
        """Call what inputs that are ready are registered with; whether there were any. That is none of the
        guest's business: nothing of it is recorded.
        """
        journal = self.journal
        active = journal is not None and journal.active
        if journal is not None:
            journal.active = False
        try:
            ready = self.selector.select(timeout)
            for key, _ in ready:
                key.data()
            return bool(ready)
        finally:
            if journal is not None:
                journal.active = active

    def outside(self, kind: str, ask: Callable[[], T]) -> T:
        """What `ask` learns from the host, or did in the run that is being repeated."""
        return ask() if self.journal is None else self.journal.value(kind, ask)

    def feed_later(self, name: str, data: bytes) -> None:
        """Hand bytes to a character device when inputs are looked at next."""
        self._fed.append((name, data))
