"""Whole machines as Python objects.

from isagen import Machine

with Machine("virt", kernel="Image", initrd="initrd.cpio", append="console=ttyS0") as machine:
    machine.console.expect("login:")
    machine.console.send("root\\n")
    saved = machine.snapshot()
"""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from isagen.generated import folder_of
from machines.settings import SUFFIXES, Drive, Settings, load_settings, settings_from
from runtime.errors import IsagenError

if TYPE_CHECKING:
    from isagen.machine_device import Registers
    from machines.machine import Outcome
    from machines.monitor.control import Control
    from machines.monitor.human import HumanMonitor
    from machines.virt import Virt
    from runtime.devices.character import Character
    from runtime.devices.device import Line
    from runtime.devices.virtio.balloon import Balloon
    from runtime.devices.virtio.block import Disk
    from runtime.devices.virtio.input import Keyboard, Tablet
    from runtime.state.snapshot import Snapshot

WINDOW: Final = 4096
"""Characters behind which a text is looked for as soon as it comes; longer ones when the guest pauses."""
STEP: Final = 200_000
"""Instructions between two looks at the console."""
SHOWN: Final = 400
"""Characters of the console that a message shows."""


class ConsoleTimeout(IsagenError):
    """What `Console.expect` waited for didn't come."""


class Console:
    """The machine's serial port. `text` is all that came so far, read as UTF-8."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._text = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._seen = 0
        self._wanted: re.Pattern[str] | None = None
        self._found = False
        self._forward = machine.board.serial.output
        machine.board.serial.output = self._output

    def _output(self, data: bytes) -> None:
        self._text += self._decoder.decode(data)
        self._forward(data)
        wanted, start = self._wanted, max(self._seen, len(self._text) - WINDOW)
        if wanted is not None and not self._found and wanted.search(self._text, start):
            # At once: where a run of `expect` ends depends on the guest alone.
            self._found = True
            self._machine.stop()

    @property
    def text(self) -> str:
        """All that the guest sent."""
        return self._text

    def send(self, text: str | bytes) -> None:
        """Type something; the guest sees it when it runs. Raises IsagenError where it doesn't read."""
        data = text.encode() if isinstance(text, str) else text
        if len(data) > self._machine.board.serial.room:
            raise IsagenError(f"{len(data)} bytes are more than the guest's serial port waits for")
        self._machine.board.serial.feed(data)

    def clear(self) -> None:
        """Forget what the guest sent."""
        self._text = ""
        self._seen = 0

    def expect(
        self, pattern: str, *, limit: int | None = None, timeout: float | None = 60.0
    ) -> re.Match[str]:
        """Run until the guest has sent something that `pattern` (a regular expression) finds behind what an
        earlier call found. `limit`: instructions; `timeout`: seconds of the host. Raises ConsoleTimeout, also
        where the machine ends before.
        """
        wanted = re.compile(pattern)
        machine = self._machine
        end = None if timeout is None else time.monotonic() + timeout
        last = None if limit is None else machine.board.machine.spent + limit
        outcome = None
        self._wanted = wanted
        try:
            while True:
                text = self.text
                if found := wanted.search(text, self._seen):
                    self._seen = found.end()
                    return found
                now = machine.board.machine.spent
                late = end is not None and time.monotonic() > end
                if outcome is not None or late or (last is not None and now >= last):
                    why = f" before the machine ended ({outcome.ending.value})" if outcome is not None else ""
                    raise ConsoleTimeout(
                        f"{pattern!r} didn't appear on the console{why}", where=f"after {text[-SHOWN:]!r}"
                    )
                self._found = False
                outcome = machine.run(STEP if last is None else min(STEP, last - now))
                if outcome.ending.value == "limit" or self._found:
                    outcome = None
        finally:
            self._wanted = None


class Machine:
    """A board, built and reset. `board`: its name, or a TOML file; `settings`: those of `isagen boot`.

    Raises IsagenError for settings, images or disks that can't be used, and NotBuiltError where the target
    isn't built.
    """

    def __init__(self, board: str | Path = "virt", *, translate: bool = True, **settings: Any) -> None:
        self.settings = described(board, settings)
        self._translate = translate
        self._wires: dict[int, Line] = {}
        self._stack = ExitStack()
        try:
            disks = tuple(open_disk(drive, self._stack) for drive in self.settings.drive)
            self.board = build(self.settings, disks, translate=translate)
        except BaseException:
            self._stack.close()
            raise
        self.console = Console(self)

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close disks and end what runs beside. May be called again."""
        self.board.machine.close()
        self._stack.close()

    def run(self, limit: int | None = None) -> Outcome:
        """Run until the guest ends the machine, or `limit` instructions were executed."""
        return self.board.machine.run(limit)

    @property
    def executed(self) -> int:
        """Instructions of all harts."""
        return self.board.machine.executed

    def read(self, address: int, size: int) -> bytes:
        """Physical memory. Raises IsagenError where no RAM is."""
        return self.board.machine.memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Physical memory. Raises IsagenError where no RAM is."""
        self.board.machine.memory.write(address, data)

    def port(self, name: str) -> Character:
        """A port of the virtio console by its name: `output` is called with what the guest sends, `feed`
        hands bytes to it. Raises IsagenError for one that isn't there.
        """
        ports = self.board.peripherals.ports
        if name not in ports:
            raise IsagenError(
                f"the machine has no port {name!r}", remedy=f"it has {', '.join(ports) or 'none'}"
            )
        return ports[name]

    @property
    def keyboard(self) -> Keyboard:
        """The keyboard. Raises IsagenError where the machine has none."""
        return _there(self.board.peripherals.keyboard, "keyboard")

    @property
    def tablet(self) -> Tablet:
        """The tablet. Raises IsagenError where the machine has none."""
        return _there(self.board.peripherals.tablet, "tablet")

    @property
    def balloon(self) -> Balloon:
        """The memory balloon. Raises IsagenError where the machine has none."""
        return _there(self.board.peripherals.balloon, "balloon")

    def registers(self, hart: int = 0) -> dict[str, int]:
        """All registers of a hart by name, `pc` too."""
        cpu = self.board.machine.harts[hart].cpu
        return {"pc": cpu.pc} | {name: cpu.get(name) for name in cpu.names()}

    def snapshot(self) -> Snapshot:
        """The state as a value, without disks; `save(path)` and `Snapshot.load(path)` keep it in a file."""
        return self.board.machine.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Go back. Raises SnapshotError for a snapshot of another machine."""
        self.board.machine.restore(snapshot)

    def fork(self) -> Machine:
        """Another machine with the same settings and state. Raises IsagenError where there are disks that it
        could write, too.
        """
        from runtime.block.filter.ephemeral import EphemeralNode

        if any(not (drive.read_only or drive.snapshot) for drive in self.settings.drive):
            raise IsagenError(
                "two machines can't write one disk", remedy="attach the drives read-only, or with snapshot"
            )
        child = Machine(translate=self._translate, **dict(self.settings))
        try:
            for ours, theirs in zip(self.board.disks, child.board.disks, strict=True):
                if isinstance(ours, EphemeralNode) and isinstance(theirs, EphemeralNode):
                    theirs.take_over(ours)
            child.restore(self.snapshot())
        except BaseException:
            child.close()
            raise
        return child

    # --- control ----------------------------------------------------------------------------------------

    @cached_property
    def control(self) -> Control:
        """What monitors work on: `machines.monitor.control`."""
        from isagen.monitors import control_of

        return control_of(self.board)

    @cached_property
    def _human(self) -> HumanMonitor:
        from machines.monitor.human import HumanMonitor

        return HumanMonitor(self.control)

    def monitor(self, line: str) -> str:
        """What a command of the monitor's prints, such as ``info registers`` or ``savevm before``."""
        return self._human.execute(line)

    def stop(self) -> None:
        """End `run`. For signal handlers and other threads."""
        self.board.machine.stop()

    # --- devices ----------------------------------------------------------------------------------------

    def map_device(self, address: int, size: int, device: Registers, name: str = "") -> None:
        """Have accesses to `size` bytes from `address` on answered by `device.read` and `device.write`.
        Snapshots keep it under its name (``user`` and the address unless given). Raises IsagenError where
        another device or RAM lies.
        """
        from isagen.machine_device import UserDevice

        machine = self.board.machine
        if address < 0 or size <= 0 or address + size > 1 << 64:
            raise IsagenError(f"a device of {size} bytes at {address:#x}")
        for region in machine.memory:
            if region.start < address + size and address < region.end:
                raise IsagenError(
                    "something else lies there", where=f"address {max(address, region.start):#x}"
                )
        machine.add(name or f"user-{address:x}", address, UserDevice(device, size))

    def irq(self, source: int) -> Line:
        """The wire to an interrupt source of the board's controller: ``machine.irq(20).set(True)``. Raises
        IsagenError for a source that isn't there.
        """
        from machines.virt import SOURCES

        if not 1 <= source <= SOURCES:
            raise IsagenError(f"there is no interrupt source {source}", remedy=f"take 1 to {SOURCES}")
        if source not in self._wires:
            self._wires[source] = self.board.plic.source(source)
        return self._wires[source]


D = TypeVar("D")


def _there(device: D | None, name: str) -> D:
    if device is None:
        raise IsagenError(f"the machine has no {name}", remedy=f'build it with device=["{name}"]')
    return device


def described(board: str | Path, settings: Mapping[str, Any]) -> Settings:
    """The settings of a board or of a TOML file, with others laid over them. Raises IsagenError."""
    if str(board).endswith(SUFFIXES):
        file = load_settings(Path(board))
        return settings_from(file.model_dump(exclude_unset=True) | dict(settings))
    return settings_from({"board": str(board), **settings})


def open_disk(drive: Drive, stack: ExitStack) -> Disk:
    """The image of a drive, closed with the stack."""
    from runtime.block.filter.ephemeral import EphemeralNode
    from runtime.block.image import Image

    writable = not (drive.read_only or drive.snapshot)
    node = stack.enter_context(Image.open(drive.path, drive.format, writable=writable)).node
    return stack.enter_context(EphemeralNode(node)) if drive.snapshot else node


def build(settings: Settings, disks: tuple[Disk, ...] = (), *, translate: bool = False) -> Virt:
    """The board's machine, loaded and reset. `translate`: hot code, where the accelerator does."""
    from isagen.firmware import embedded_sbi
    from isagen.isa_string import features
    from machines.virt import TARGET, Virt
    from runtime.accel.choice import choose
    from runtime.cpu.engine import load_target

    package = load_target(folder_of(TARGET[settings.board]))
    chosen = (
        None
        if settings.isa is None
        else features(settings.isa, package.name, package.features, package.default_features)
    )
    software = f"{settings.bios} {settings.kernel} {settings.initrd}".encode()
    accelerator = choose(settings.accel, package.name, translate=translate, program=software)
    return Virt(settings, package, chosen, disks, embedded_sbi, accelerator)
