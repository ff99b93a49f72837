"""Boot a whole machine: firmware, a kernel, disks, and a serial console on this terminal.

BOARD is virt (64-bit RISC-V), virt32 (32-bit RISC-V), or a TOML or YAML file that describes a machine.
Ctrl-A x ends it, Ctrl-A c leads to the monitor and back, Ctrl-A h helps.

ADDRESS is unix:PATH or tcp:HOST:PORT. PLACE, where a port leads to, is none, pty, file:PATH or an ADDRESS,
which is connected to; with ,server behind it is listened at, and with ,server,wait the guest waits for a
peer.

The exit status is what the guest says when it powers off; 124 if --limit ended it.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isagen import monitors
from isagen.options import number
from runtime.errors import IsagenError

if TYPE_CHECKING:
    from machines.settings import Settings
    from machines.virt import Virt

LIMIT_REACHED = 124
SCALARS = (
    "memory",
    "smp",
    "isa",
    "bios",
    "kernel",
    "initrd",
    "append",
    "dtb",
    "clock",
    "threads",
    "seed",
    "epoch",
    "serial",
    "accel",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("board", metavar="BOARD", nargs="?", help="virt, virt32, or a TOML or YAML file")
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
        help="a disk; options: format=NAME, ro, snapshot (forget writes), serial=TEXT, queues=N, if=pflash "
        "(as --flash); QEMU's file=IMAGE,if=virtio,readonly=on are understood, too",
    )
    parser.add_argument(
        "--share",
        action="append",
        default=[],
        metavar="PATH[:TAG][:ro]",
        help="a folder; the guest mounts it by its tag: mount -t 9p -o trans=virtio TAG /mnt (default: "
        "share)",
    )
    parser.add_argument(
        "--net",
        action="append",
        default=[],
        metavar="HOW[,OPTION...]",
        help="a network card: listen=ADDRESS or connect=ADDRESS (a stream socket to another machine, as "
        "QEMU's -netdev stream and socket), or loopback; options: mac=ADDRESS, mtu=N",
    )
    parser.add_argument(
        "--serial", metavar="PLACE", help="the serial port: stdio (the default), mon:stdio or a PLACE"
    )
    parser.add_argument(
        "--console",
        action="append",
        default=[],
        metavar="PLACE[,name=NAME]",
        help="a port of a virtio console: with a name a port, else a terminal (hvc0)",
    )
    parser.add_argument(
        "--device",
        action="append",
        default=[],
        choices=("keyboard", "tablet", "balloon"),
        help="a virtio device more",
    )
    parser.add_argument(
        "--flash",
        action="append",
        default=[],
        metavar="IMAGE[,ro]",
        help="contents of a flash bank (32 MiB; at most twice); the first one's code is started",
    )
    parser.add_argument(
        "--fw-cfg",
        action="append",
        default=[],
        metavar="NAME,file=FILE|string=TEXT",
        help="a file that firmware and guest read by QEMU's fw_cfg",
    )
    parser.add_argument("--clock", choices=("host", "counted"), help="counted: time follows instructions")
    parser.add_argument(
        "--threads",
        choices=("turns", "host"),
        help="several harts take turns in one thread (the default), or each has a thread of the host",
    )
    parser.add_argument("--seed", type=number, metavar="N", help="the guest's random numbers come from it")
    parser.add_argument("--epoch", type=number, metavar="SECONDS", help="the date at the start, since 1970")
    parser.add_argument(
        "--accel", metavar="NAME", help="what executes instructions: engine (the default, auto), or kvm"
    )
    parser.add_argument(
        "--tier",
        choices=("auto", "interpreter", "translator"),
        default="auto",
        help="how code runs: interpreted, or also translated where it is hot (auto: translated)",
    )
    parser.add_argument("--no-reboot", action="store_true", help="end when the guest resets")
    parser.add_argument("--limit", type=number, metavar="N", help="stop after N instructions")
    parser.add_argument("--count", action="store_true", help="print the number of instructions at the end")
    parser.add_argument("--stats", action="store_true", help="print at the end what the tiers did")
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
        raise IsagenError("no board", remedy="name virt, virt32, or a TOML or YAML file")
    settings = settings_of(arguments)
    from isagen.machine import build, open_disk

    with ExitStack() as stack:
        disks = tuple(open_disk(drive, stack) for drive in settings.drive)
        board = build(settings, disks, translate=arguments.tier != "interpreter")
        stack.callback(board.machine.close)
        if arguments.dump_dtb is not None:
            Path(arguments.dump_dtb).write_bytes(board.device_tree(None))
            return 0
        return boot(board, arguments)


def settings_of(arguments: argparse.Namespace) -> Settings:
    """The file's settings, if BOARD is a file, with the options laid over them."""
    from isagen.machine import described
    from isagen.machine_options import parts_of

    given: dict[str, Any] = {
        name: value for name in SCALARS if (value := getattr(arguments, name)) is not None
    }
    given |= parts_of(arguments)
    if arguments.device:
        given["device"] = arguments.device
    return described(arguments.board, given)


def boot(board: Virt, arguments: argparse.Namespace) -> int:
    """Run on this terminal until the guest or the user ends it."""
    from isagen.terminal import Terminal
    from isagen.termination import Termination
    from machines.machine import Ending
    from machines.settings import TERMINAL

    machine = board.machine
    machine.restarts = not arguments.no_reboot
    control = monitors.control_of(board, name=arguments.name, folder=arguments.states)
    monitors.go_back(control, arguments)
    for note in board.peripherals.notes:
        sys.stderr.write(f"isagen: {note}\n")
    with (
        Termination(machine) as termination,
        monitors.Monitors(board, control, arguments) as servers,
        ExitStack() as stack,
    ):
        if board.settings.serial in TERMINAL:
            terminal = Terminal(board.serial, control.quit, servers.new_session)
            stack.enter_context(terminal).serve(machine.selector)
        outcome = machine.run(arguments.limit)
        servers.status = outcome.status
        if arguments.snapshot_to is not None:
            machine.snapshot().save(arguments.snapshot_to)
    if arguments.stats:
        from isagen.commands.run import print_statistics
        from runtime.cpu.engine import Cpu

        for hart in machine.harts:
            if isinstance(hart.cpu, Cpu):
                print_statistics(hart.cpu)
    if arguments.count:
        sys.stderr.write(f"isagen: {machine.executed} instructions\n")
    if termination.signal:
        return 128 + termination.signal
    if outcome.ending is Ending.LIMIT:
        return LIMIT_REACHED
    return outcome.status & 0xFF
