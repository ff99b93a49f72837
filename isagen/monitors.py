"""The monitors of a machine as the command line has them: options, and servers beside a running machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from isagen.generated import load_syntax
from isagen.version import __version__

if TYPE_CHECKING:
    from machines.debugger import Debugger
    from machines.monitor.control import Control, Disassemble
    from machines.virt import Virt
    from runtime.monitor.address import Address
    from runtime.monitor.lines import LineServer
    from runtime.monitor.qmp.server import QmpServer

PACKAGE = f"isagen {__version__}"
BANNER = f"{PACKAGE} monitor - 'help' lists the commands"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("control")
    group.add_argument(
        "--qmp",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="serve QMP (QEMU's protocol, and isagen monitor's) at unix:PATH or tcp:HOST:PORT[,wait]",
    )
    group.add_argument(
        "--monitor",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="serve the monitor for people there (on a terminal Ctrl-A c leads to it)",
    )
    group.add_argument(
        "--gdb",
        metavar="ADDRESS",
        help="serve gdb at a TCP port or ADDRESS; it stops the machine when it connects (with -S the machine "
        "waits for it), and can go backwards",
    )
    group.add_argument("-S", "--paused", action="store_true", help="start when a monitor says cont")
    group.add_argument("--name", default="", help="the machine's name")
    group.add_argument(
        "--states",
        metavar="FOLDER",
        type=Path,
        help="where savevm keeps states if there is no disk to keep them in",
    )
    group.add_argument("--restore", metavar="FILE", type=Path, help="go on from a snapshot in a file")
    group.add_argument(
        "--loadvm", metavar="NAME", help="go on from a state that savevm kept in the disks' images"
    )
    group.add_argument("--snapshot-to", metavar="FILE", type=Path, help="write a snapshot when the run ends")


def go_back(control: Control, arguments: argparse.Namespace) -> None:
    """Start from the snapshot or state that the options name. Raises IsagenError."""
    if arguments.restore is not None:
        from runtime.state.snapshot import Snapshot

        control.machine.restore(Snapshot.load(arguments.restore))
    if arguments.loadvm is not None:
        control.load_state(arguments.loadvm)


def control_of(board: Virt, *, name: str = "", folder: Path | None = None) -> Control:
    """The control of a board's machine."""
    from machines.monitor.control import Control
    from machines.monitor.drive import Drive

    drives = tuple(
        Drive(f"virtio{number}", drive.path, disk, drive.snapshot)
        for number, (drive, disk) in enumerate(zip(board.settings.drive, board.disks, strict=True))
    )
    return Control(
        board.machine,
        name=name,
        memory_size=board.settings.memory,
        drives=drives,
        folder=folder,
        keyboard=board.peripherals.keyboard,
        balloon=board.peripherals.balloon,
        disassemble=lazy_disassembler(board.package.name),
    )


def lazy_disassembler(target: str) -> Disassemble:
    """Disassembles for `target`; its tables are read when they are needed."""
    loaded: list[Any] = []

    def disassemble(data: bytes, address: int) -> tuple[int, str]:
        if not loaded:
            from runtime.assembly.disassembler import Disassembler

            loaded.append(Disassembler(load_syntax(target)))
        decoded = loaded[0].decode(data, address)
        return (0, "") if decoded is None else (decoded.length, loaded[0].format(decoded))

    return disassemble


def version() -> tuple[int, int, int, str]:
    """What QMP's greeting says."""
    numbers = [int(part) if part.isdigit() else 0 for part in __version__.split(".")[:3]]
    major, minor, micro = [*numbers, 0, 0, 0][:3]
    return major, minor, micro, PACKAGE


class Monitors:
    """The servers that the options ask for, as a context manager."""

    def __init__(self, board: Virt, control: Control, arguments: argparse.Namespace) -> None:
        self._board = board
        self.control = control
        self.debugger: Debugger | None = None
        self._arguments = arguments
        self._servers: list[QmpServer | LineServer] = []
        self.status = 0
        """What the guest said when it ended, for debuggers."""

    def __enter__(self) -> Monitors:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        from machines.machine import RunState
        from runtime.monitor.address import parse

        machine, arguments = self.control.machine, self._arguments
        if arguments.paused:
            machine.state = RunState.PRELAUNCH
        waiting = []
        for text in arguments.qmp:
            from machines.monitor.qmp import commands
            from runtime.monitor.qmp.server import QmpServer

            address = parse(text)
            qmp = QmpServer(address, commands(self.control, version()), machine.selector, version())
            self._servers.append(qmp)
            machine.observers.append(qmp.event)
            self._say("QMP", qmp, address.port == 0)
            waiting += [qmp] if address.wait else []
        for text in arguments.monitor:
            from runtime.monitor.lines import LineServer

            lines = LineServer(parse(text), self.new_session, machine.selector, BANNER)
            self._servers.append(lines)
            self._say("the monitor", lines, parse(text).port == 0)
        if arguments.gdb is not None:
            self._open_debugger(parse(arguments.gdb))
        for server in waiting:
            server.listener.wait(lambda: machine.ending)

    def _open_debugger(self, address: Address) -> None:
        from machines.debugger import Debugger
        from machines.history import attach

        board = self._board
        blockers = board.unrecorded()
        if blockers:
            sys.stderr.write(f"isagen: gdb can't go backwards: {', '.join(blockers)} can't be repeated yet\n")
        board.machine.characters |= {"serial": board.serial, **board.peripherals.ports}
        history = None if blockers else attach(board.machine, board.wrap_disks)
        self.debugger = Debugger(board.machine, address, self.new_session(), history)
        if address.path is None and address.port == 0:
            sys.stderr.write(f"isagen: gdb: target remote localhost:{self.debugger.server.port}\n")
            sys.stderr.flush()

    @staticmethod
    def _say(what: str, server: QmpServer | LineServer, chosen: bool) -> None:
        """Where a server listens, if the system chose the port."""
        if chosen and server.listener.port:
            sys.stderr.write(f"isagen: {what} is at {server.listener}\n")
            sys.stderr.flush()

    def new_session(self) -> Callable[[str], str]:
        """What executes lines of one more person's."""
        from machines.monitor.human import HumanMonitor

        return HumanMonitor(self.control).execute

    def close(self) -> None:
        """End all servers."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self.debugger is not None:
            self.debugger.close(self.status)
            self.debugger = None
