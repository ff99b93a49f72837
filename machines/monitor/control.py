"""A machine as its monitors see it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from machines.inspection import HartView, whole
from machines.machine import Machine, RunState
from machines.monitor.drive import Drive
from machines.monitor.states import States
from runtime.devices.keys import KEYS
from runtime.errors import IsagenError

if TYPE_CHECKING:
    from runtime.devices.virtio.balloon import Balloon
    from runtime.devices.virtio.input import Keyboard

LARGEST_DUMP: Final = 1 << 40
PIECE: Final = 1 << 20

Disassemble = Callable[[bytes, int], "tuple[int, str]"]
"""The first instruction of some bytes at an address: its length (0: none), and its text."""


class Control:
    """`drives`: the disks in the order of their devices. `disassemble`: for people. `folder`: of `States`."""

    def __init__(
        self,
        machine: Machine,
        *,
        name: str = "",
        memory_size: int = 0,
        drives: tuple[Drive, ...] = (),
        folder: Path | None = None,
        keyboard: Keyboard | None = None,
        balloon: Balloon | None = None,
        disassemble: Disassemble | None = None,
    ) -> None:
        self.machine = machine
        self.name = name
        self.memory_size = memory_size
        self.drives = drives
        self.states = States(machine, drives, folder)
        self.disassemble = disassemble
        self._keyboard = keyboard
        self._balloon = balloon

    @property
    def target(self) -> str:
        """The harts' instruction set."""
        return self.machine.harts[0].cpu.package.name

    @cached_property
    def views(self) -> tuple[HartView, ...]:
        """The harts, to look into."""
        return tuple(HartView(hart) for hart in self.machine.harts)

    def view(self, number: int) -> HartView:
        """A hart. Raises IsagenError for a number that none has."""
        if not 0 <= number < len(self.views):
            raise IsagenError(f"there is no CPU {number}", remedy=f"0 to {len(self.views) - 1} are there")
        return self.views[number]

    # --- running ----------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stand still."""
        if self.machine.state is not RunState.DEBUG:
            self.machine.pause()

    def go(self) -> None:
        """Go on. Raises IsagenError while a debugger has the machine in hand."""
        if self.machine.state is RunState.DEBUG:
            raise IsagenError("a debugger has the machine in hand", remedy="continue there")
        self.machine.resume()

    def reset(self) -> None:
        """Reset, as by a button."""
        self.machine.restart(reason="host-qmp-system-reset")

    def power_down(self) -> None:
        """Press the power key, where there is a keyboard: the guest may act on it."""
        self.machine.announce("POWERDOWN")
        if self._keyboard is not None:
            self.press_keys("power")

    def quit(self) -> None:
        """End."""
        self.machine.announce("SHUTDOWN", guest=False, reason="host-qmp-quit")
        self.machine.stop()

    # --- devices ----------------------------------------------------------------------------------------

    def _change(self, work: Callable[[], None]) -> None:
        """Change a device's state from outside. Raises IsagenError while the past is repeated."""
        journal = self.machine.journal
        if journal is not None and journal.repeating:
            raise IsagenError("the machine is in its past, which stays as it was")
        work()
        self.machine.on_change()

    def press_keys(self, *names: str) -> None:
        """Press keys together and release them. Raises IsagenError."""
        keyboard = self._keyboard
        if keyboard is None:
            raise IsagenError("the machine has no keyboard", remedy="start it with --device keyboard")
        for name in names:
            if name not in KEYS:
                raise IsagenError(f"there is no key {name!r}")
        self._change(lambda: keyboard.press(*names))

    @property
    def balloon(self) -> Balloon | None:
        """The memory balloon."""
        return self._balloon

    def set_balloon(self, size: int) -> None:
        """Have the guest make do with so many bytes. Raises IsagenError."""
        balloon = self._balloon
        if balloon is None:
            raise IsagenError("the machine has no balloon", remedy="start it with --device balloon")

        def work() -> None:
            balloon.target = size

        self._change(work)

    # --- states -----------------------------------------------------------------------------------------

    def save_state(self, name: str = "") -> str:
        """See `States.save`."""
        return self.states.save(name)

    def load_state(self, name: str) -> None:
        """See `States.load`."""
        self.states.load(name)

    # --- memory -----------------------------------------------------------------------------------------

    def save_memory(self, address: int, size: int, path: str, cpu: int | None) -> None:
        """Write guest memory to a file: `cpu`'s virtual, or (None) physical. Raises IsagenError, OSError."""
        if not 0 <= address < 1 << 64 or not 0 <= size <= LARGEST_DUMP:
            raise IsagenError(f"{size} bytes from {address:#x} are no range of memory")
        view = self.view(cpu or 0)
        target = Path(path)
        part = target.with_name(target.name + ".part")
        try:
            with part.open("wb") as file:
                while size > 0:
                    length = min(size, PIECE)
                    file.write(whole(view, address, length, virtual=cpu is not None))
                    address, size = address + length, size - length
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
