"""A machine's past: checkpoints and a record of what came from outside, so that any place of it can be
reached again. It makes no difference to the guest that it is kept.

A checkpoint is the state of harts and devices, and the pages that changed until the next one, as they were.
`_mirror` holds memory as it was at the newest checkpoint. To reach a place, the checkpoint before it is
restored and the run repeated from there, which takes exactly as many instructions as it did.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from machines.hart import Hart
from machines.machine import Ending, Goal, Machine
from runtime.cpu.exits import Exit, Reason
from runtime.devices.virtio.block import Disk
from runtime.errors import IsagenError
from runtime.memory.regions import PAGE_SIZE
from runtime.memory.space import Ram
from runtime.state.journal import Journal
from runtime.state.snapshot import MachineState

T = TypeVar("T")

DISTANCE: Final = 4_000_000
"""Instructions between two checkpoints."""
SMALLEST: Final = 0.02
"""Seconds between them, at least."""
LIMIT: Final = 1 << 30
"""Most bytes of old pages and records; then the past gets coarser, and at last shorter."""
FEWEST: Final = 8
"""Checkpoints that are kept before the oldest is forgotten."""
STEP: Final = 4_000_000
"""Instructions between two looks at whether the user interrupts."""

PIECE: Final = 1 << 20
ZEROS: Final = bytes(PIECE)

Page = tuple[str, int]
"""A RAM's name and the number of a page."""
Watch = Callable[[Exit], "tuple[Any, int] | None"]


class Hit(NamedTuple):
    """Where a way back ended: in front of an instruction of this hart, or behind one that hit a watchpoint.
    `watch`: which, and its address.
    """

    hart: int
    watch: tuple[Any, int] | None = None
    interrupted: bool = False


@dataclass(slots=True)
class Checkpoint:
    """`before`: pages that changed until the next checkpoint, as they are here. `barrier`: somebody changed
    the machine here, so that no repeated run gets here from before.
    """

    state: MachineState
    entry: int
    barrier: bool = False
    before: dict[Page, bytes] = field(default_factory=dict)


class RecordedDisk:
    """A disk of which a repeated run reads what the first one read, and that it doesn't write."""

    def __init__(self, disk: Disk, machine: Machine) -> None:
        self._disk = disk
        self._outside = machine.outside

    def length(self) -> int:
        return self._disk.length()

    @property
    def read_only(self) -> bool:
        return self._disk.read_only

    def pread(self, offset: int, size: int, /) -> bytes:
        return self._outside("disk read", lambda: bytes(self._disk.pread(offset, size)))

    def read_into(self, offset: int, target: memoryview, /) -> None:
        target[:] = self.pread(offset, len(target))

    def pwrite(self, offset: int, data: bytes | bytearray | memoryview, /) -> None:
        self._do(lambda: self._disk.pwrite(offset, data))

    def write_zeroes(self, offset: int, length: int, /, *, unmap: bool) -> None:
        self._do(lambda: self._disk.write_zeroes(offset, length, unmap=unmap))

    def discard(self, offset: int, length: int, /) -> None:
        self._do(lambda: self._disk.discard(offset, length))

    def flush(self) -> None:
        self._do(self._disk.flush)

    def _do(self, work: Callable[[], object]) -> None:
        def once() -> None:
            work()

        self._outside("disk", once)


class History:
    """Records from now on. Only for a machine whose devices learn of the outside by its journal alone.

    `interrupted` says whether the user wants a way back to end.
    """

    def __init__(self, machine: Machine, *, limit: int = LIMIT) -> None:
        self._machine = machine
        self._limit = limit
        self._checkpoints: list[Checkpoint] = []
        self._size = 0
        self._mirror: dict[str, Ram] = {}
        self._at = 0
        """RAM is as at this checkpoint, but for pages that are marked dirty."""
        self._taken = 0.0
        self.interrupted: Callable[[], bool] = lambda: False
        self.changed = False
        """Somebody changed the machine, now."""
        self._on_end: Callable[[], None] = lambda: None
        self._journal = machine.journal = Journal()
        if hasattr(machine.clock, "journal"):
            machine.clock.journal = self._journal
        for name, character in machine.characters.items():
            character.gate = self._gate(name)
        machine.on_restore = self.begin
        machine.on_fence = self._checkpoint_due
        machine.on_change = lambda: self._take(barrier=True)
        machine.observers.append(self._observe)
        self.begin()

    def _gate(self, name: str) -> Callable[[bytes], None]:
        return lambda data: self._machine.feed_later(name, data)

    def _observe(self, event: str, data: dict[str, Any]) -> None:
        """A reset by somebody outside can't be repeated."""
        if event == "RESET" and not data.get("guest", True) and not self.in_past:
            self._take(barrier=True)

    # --- recording --------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Forget the past: it begins now."""
        self._journal.record()
        self._journal.forget_before(self._journal.position)
        self._checkpoints.clear()
        self._size = 0
        self._mute(False)
        self._machine.memory.take_dirty()
        self._mirror = {}
        for name, mapping in self._machine.rams.items():
            mirror = self._mirror[name] = Ram(mapping.ram.size)
            for number in mapping.ram.used(PIECE):
                start = number * PIECE
                data = mapping.ram.memory[start : start + PIECE]
                if data != ZEROS[: len(data)]:
                    mirror.memory[start : start + len(data)] = data
        self._take(barrier=True)

    def _take(self, *, barrier: bool = False) -> None:
        """A checkpoint of the present."""
        if self._checkpoints:
            before = self._checkpoints[-1].before
            for page in self._dirty():
                old, new = self._mirrored(page), self._page(page)
                if old != new:
                    before[page] = old
                    self._size += PAGE_SIZE
                    self._set_mirror(page, new)
        state = self._machine.save_state()
        self._checkpoints.append(Checkpoint(state, self._journal.position, barrier or self.changed))
        self.changed = False
        self._at = len(self._checkpoints) - 1
        self._taken = time.monotonic()
        self._machine.fence = self._machine.spent + DISTANCE
        if self._size + self._journal.size > self._limit:
            self._thin()

    def _checkpoint_due(self) -> None:
        """The machine's `on_fence`."""
        if self.in_past:
            self._pass_checkpoint()
        elif time.monotonic() - self._taken < SMALLEST:
            self._machine.fence = self._machine.spent + DISTANCE
        else:
            self._take()

    def _thin(self) -> None:
        """Make room: make the older three quarters coarser, over and over; if that isn't enough, forget the
        oldest.
        """
        wanted = self._limit * 3 // 4
        kept = self._checkpoints
        while len(kept) > FEWEST and self._size + self._journal.size > wanted:
            kept, before = self._joined(kept), len(kept)
            if len(kept) == before:
                break
        while len(kept) > 2 and self._size + self._journal.size > wanted:
            gone = kept.pop(0)
            self._size -= PAGE_SIZE * len(gone.before)
            self._journal.forget_before(kept[0].entry)
        self._checkpoints = kept
        self._at = len(kept) - 1

    def _joined(self, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
        """Every other one of the older three quarters is joined with the one before."""
        old = len(checkpoints) * 3 // 4
        kept: list[Checkpoint] = []
        for number, checkpoint in enumerate(checkpoints):
            if number >= old or number % 2 == 0 or checkpoint.barrier:
                kept.append(checkpoint)
                continue
            into = kept[-1].before
            for page, content in checkpoint.before.items():
                if page in into:
                    self._size -= PAGE_SIZE
                else:
                    into[page] = content
        return kept

    # --- pages ------------------------------------------------------------------------------------------

    def _dirty(self) -> set[Page]:
        names = {id(mapping.ram): name for name, mapping in self._machine.rams.items()}
        return {
            (names[id(ram)], number)
            for ram, numbers in self._machine.memory.take_dirty().items()
            if id(ram) in names
            for number in numbers
        }

    def _page(self, page: Page) -> bytes:
        name, number = page
        return self._machine.rams[name].ram.memory[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]

    def _mirrored(self, page: Page) -> bytes:
        name, number = page
        return self._mirror[name].memory[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]

    def _set_mirror(self, page: Page, content: bytes) -> None:
        name, number = page
        self._mirror[name].memory[number * PAGE_SIZE : (number + 1) * PAGE_SIZE] = content

    def _content(self, page: Page, number: int) -> bytes:
        """A page as it is at a checkpoint."""
        for checkpoint in self._checkpoints[number:]:
            if page in checkpoint.before:
                return checkpoint.before[page]
        return self._mirrored(page)

    # --- places -----------------------------------------------------------------------------------------

    @property
    def in_past(self) -> bool:
        """Whether the machine is somewhere in its past."""
        return self._journal.repeating

    @property
    def at_end(self) -> bool:
        """In the past: whether the present is reached."""
        return self._machine.spent >= self._checkpoints[-1].state.spent

    def _leave_present(self) -> None:
        if not self.in_past:
            self._take()

    def _restore(self, number: int) -> None:
        """Go to a checkpoint. The machine is in its past then."""
        checkpoint = self._checkpoints[number]
        low, high = sorted((self._at, number))
        pages = self._dirty()
        for between in self._checkpoints[low:high]:
            pages |= between.before.keys()
        memory, rams = self._machine.memory, self._machine.rams
        for page in pages:
            content = self._content(page, number)
            if content != self._page(page):
                memory.write_ram(rams[page[0]].ram, page[1] * PAGE_SIZE, content)
        memory.take_dirty()
        self._at = number
        self._mute(True)
        self._journal.repeat_from(checkpoint.entry)
        self._machine.load_state(checkpoint.state)
        self._fence_ahead()

    def _fence_ahead(self) -> None:
        """Stop repeating at the next place that can't be reached so."""
        here = self._machine.spent
        ahead = [
            checkpoint.state.spent
            for checkpoint in self._checkpoints[self._at + 1 :]
            if checkpoint.barrier and checkpoint.state.spent > here
        ]
        self._machine.fence = min([*ahead, self._checkpoints[-1].state.spent])

    def _pass_checkpoint(self) -> None:
        """The fence is reached while the past is repeated."""
        here = self._machine.spent
        last = len(self._checkpoints) - 1
        if here >= self._checkpoints[last].state.spent:
            self.go_to_present()
            self._on_end()
            return
        number = max(
            number
            for number, checkpoint in enumerate(self._checkpoints)
            if checkpoint.barrier and checkpoint.state.spent <= here
        )
        self._restore(number)

    def go_to_present(self) -> None:
        """Leave the past."""
        if self.in_past:
            self._restore(len(self._checkpoints) - 1)
            self._journal.record()
            self._mute(False)
            self._machine.fence = self._machine.spent + DISTANCE

    def _mute(self, muted: bool) -> None:
        for character in self._machine.characters.values():
            character.muted = muted

    def before_going(self, on_end: Callable[[], None]) -> None:
        """The machine is about to run. `on_end` is called where the present is reached."""
        self._on_end = on_end
        if self.in_past:
            self._fence_ahead()
        elif self.changed:
            self._take()

    # --- backwards --------------------------------------------------------------------------------------

    def _run(self, limit: int, on_stop: Callable[[Hart, Exit], None]) -> bool:
        """Repeat at most `limit` instructions; False: interrupted."""
        machine = self._machine
        state, machine.state = machine.state, type(machine.state).RUNNING
        observer, machine.on_stop = machine.on_stop, on_stop
        held, machine.held = machine.held, frozenset()
        machine.alone = True
        end = machine.spent + limit
        try:
            while machine.spent < end:
                ending = machine.run(min(STEP, end - machine.spent)).ending
                if ending is not Ending.LIMIT:
                    return True  # the goal
                if self.interrupted():
                    return False
            return True
        finally:
            machine.alone = False
            machine.state, machine.on_stop, machine.held = state, observer, held

    @staticmethod
    def _pass(hart: Hart, stop: Exit) -> None:
        """Go on behind a breakpoint or a watched access."""
        if stop.reason is Reason.WATCH:
            hart.cpu.answer()

    def step_back(self, hart: int) -> bool:
        """To the place before the last instruction (or trap) of a hart; False: the past begins here."""
        self._leave_present()
        machine = self._machine
        target = machine.harts[hart].spent - 1
        here = machine.spent
        number = max(
            (
                number
                for number, checkpoint in enumerate(self._checkpoints)
                if checkpoint.state.cpus[hart].spent <= target and checkpoint.state.spent <= here
            ),
            default=-1,
        )
        if number < 0:
            self._restore(0)
            return False
        self._restore(number)

        def stopped(which: Hart, stop: Exit) -> None:
            if stop.reason is Reason.BUDGET:
                machine.stop()
            else:
                self._pass(which, stop)

        if machine.harts[hart].spent < target:
            machine.fence = None
            machine.goal = Goal(hart, target)
            self._run(here - machine.spent, stopped)
            machine.goal = None
            self._fence_ahead()
        return True

    def run_back(self, watched: Watch) -> Hit | None:
        """To the last place before this one at which a breakpoint or watchpoint is hit; None: the past begins
        here.
        """
        self._leave_present()
        machine = self._machine
        end = machine.spent
        number = max(
            number for number, checkpoint in enumerate(self._checkpoints) if checkpoint.state.spent <= end
        )
        while number >= 0:
            start = self._checkpoints[number].state.spent
            if start < end:
                place, hit = self._last_hit(number, end, watched)
                if hit is not None:
                    if not hit.interrupted:
                        self._restore(number)
                        machine.fence = None
                        self._run(place - start, self._pass)
                    self._fence_ahead()
                    return hit
            end = start
            number -= 1
        self._restore(0)
        return None

    def _last_hit(self, number: int, end: int, watched: Watch) -> tuple[int, Hit | None]:
        """The last breakpoint or watchpoint between a checkpoint and a place, and where it is hit."""
        machine = self._machine
        found: list[tuple[int, Hit | None]] = [(0, None)]

        def stopped(hart: Hart, stop: Exit) -> None:
            if machine.spent >= end:
                pass
            elif stop.reason is Reason.BREAKPOINT:
                found[0] = machine.spent, Hit(hart.number)
            elif (watch := watched(stop)) is not None:
                found[0] = machine.spent + 1, Hit(hart.number, watch)
            self._pass(hart, stop)

        self._restore(number)
        machine.fence = None
        if not self._run(end - machine.spent, stopped):
            return 0, Hit(0, interrupted=True)
        return found[0]


def attach(machine: Machine, wrap_disks: Callable[[Callable[[Disk], Disk]], None]) -> History:
    """Begin to record. `wrap_disks` puts a recorder in front of each disk. Raises IsagenError where that is
    done already.
    """
    if machine.journal is not None:
        raise IsagenError("the machine's past is recorded already")
    wrap_disks(lambda disk: RecordedDisk(disk, machine))
    return History(machine)
