"""Boot a whole machine: firmware, a kernel, disks, and a serial console on this terminal.

BOARD is virt (64-bit RISC-V), virt32 (32-bit RISC-V), or a TOML file that describes a machine. Ctrl-A x
ends it, Ctrl-A c leads to the monitor and back, Ctrl-A h helps.

The exit status is what the guest says when it powers off; 124 if --limit ended it.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isagen import monitors
from isagen.options import number
from runtime.errors import IsagenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from machines.machine import Machine
    from machines.settings import Settings
    from machines.virt import Virt

LIMIT_REACHED = 124
SCALARS = ("memory", "smp", "isa", "bios", "kernel", "initrd", "append", "dtb", "clock", "seed", "epoch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", metavar="BOARD", nargs="?", help="virt, virt32, or a TOML file")
    parser.add_argument("-m", "--memory", metavar="SIZE", help="RAM, such as 512M (default: 128M)")
    parser.add_argument("--smp", type=number, metavar="N", help="harts, 1 to 8 (default: 1)")
    parser.add_argument("--isa", metavar="STRING", help="which extensions are there, such as rv64gc_zba")
    parser.add_argument(
        "--bios", metavar="FILE", help="firmware; default: OpenSBI if installed, else sbi, our own; or none"
    )
    parser.add_argument(
        "--kernel", metavar="FILE", help="Linux's Image, packed by gzip or not, or an ELF file"
    )
    parser.add_argument("--initrd", metavar="FILE", help="initial RAM disk")
    parser.add_argument("--append", metavar="WORDS", help="the kernel's command line")
    parser.add_argument("--dtb", metavar="FILE", help="a device tree instead of the board's own")
    parser.add_argument(
        "--drive",
        action="append",
        default=[],
        metavar="IMAGE[,OPTION...]",
        help="a disk; options: format=NAME, ro, snapshot (forget writes), serial=TEXT, queues=N",
    )
    parser.add_argument("--clock", choices=("host", "counted"), help="counted: time follows instructions")
    parser.add_argument("--seed", type=number, metavar="N", help="the guest's random numbers come from it")
    parser.add_argument("--epoch", type=number, metavar="SECONDS", help="the date at the start, since 1970")
    parser.add_argument(
        "--tier",
        choices=("auto", "interpreter", "translator"),
        default="auto",
        help="how code runs: interpreted, or also translated where it is hot (auto: translated)",
    )
    parser.add_argument("--no-reboot", action="store_true", help="end when the guest resets")
    parser.add_argument("--limit", type=number, metavar="N", help="stop after N instructions")
    parser.add_argument("--count", action="store_true", help="print the number of instructions at the end")
    monitors.add_arguments(parser)
    parser.add_argument("--dump-dtb", metavar="FILE", help="write the board's device tree, and end")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of machines, and end")


def run(arguments: argparse.Namespace) -> int:
    from machines.settings import Settings

    if arguments.schema:
        import json

        print(json.dumps(Settings.model_json_schema(), indent=2))
        return 0
    if arguments.board is None:
        raise IsagenError("no board", remedy="name virt, virt32, or a TOML file")
    settings = settings_of(arguments)
    from isagen.machine import build, open_disk

    with ExitStack() as stack:
        disks = tuple(open_disk(drive, stack) for drive in settings.drive)
        board = build(settings, disks)
        stack.callback(board.machine.close)
        if arguments.dump_dtb is not None:
            Path(arguments.dump_dtb).write_bytes(board.device_tree(None))
            return 0
        return boot(board, arguments)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The file's settings, if BOARD is a file, with the options laid over them."""
    from isagen.machine import described

    given: dict[str, Any] = {
        name: value for name in SCALARS if (value := getattr(arguments, name)) is not None
    }
    if arguments.drive:
        given["drive"] = [drive_of(text) for text in arguments.drive]
    return described(arguments.board, given)


def drive_of(text: str) -> dict[str, Any]:
    """``disk.qcow2,ro,serial=A1`` as the settings of a drive."""
    path, *options = text.split(",")
    drive: dict[str, Any] = {"path": path}
    for option in options:
        name, equals, value = option.partition("=")
        drive[{"ro": "read_only"}.get(name, name)] = value if equals else True
    return drive


def boot(board: Virt, arguments: argparse.Namespace) -> int:
    """Run on this terminal until the guest or the user ends it."""
    from isagen.terminal import Terminal
    from isagen.termination import Termination
    from machines.machine import Ending

    machine = board.machine
    machine.restarts = not arguments.no_reboot
    control = monitors.control_of(board, name=arguments.name, folder=arguments.states)
    monitors.go_back(control, arguments)
    if arguments.tier != "interpreter":
        for hart in machine.harts:
            hart.cpu.translate()
    with (
        Termination(machine) as termination,
        monitors.Monitors(control, arguments) as servers,
        Terminal(board.serial, control.quit, servers.new_session) as terminal,
    ):

        def ready() -> None:
            if not terminal.ready():
                machine.selector.unregister(terminal.input)

        if not register(machine, terminal.input, ready):
            feed_all(board, terminal.input)
        outcome = machine.run(arguments.limit)
        if arguments.snapshot_to is not None:
            machine.snapshot().save(arguments.snapshot_to)
    if arguments.count:
        sys.stderr.write(f"isagen: {machine.executed} instructions\n")
    if termination.signal:
        return 128 + termination.signal
    if outcome.ending is Ending.LIMIT:
        return LIMIT_REACHED
    return outcome.status & 0xFF


def register(machine: Machine, file: int, ready: Callable[[], None]) -> bool:
    """Have `ready` called when there is input. False: the file can't be waited for (it is a plain file)."""
    import selectors

    try:
        machine.selector.register(file, selectors.EVENT_READ, ready)
    except PermissionError:
        return False
    return True


def feed_all(board: Virt, file: int) -> None:
    """A plain file's bytes are there at once."""
    while board.serial.room and (data := os.read(file, board.serial.room)):
        board.serial.feed(data)
