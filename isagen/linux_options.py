"""The options of `isagen run` for Linux programs, and what they mean to `runtime.linux`."""

from __future__ import annotations

import argparse
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import IsagenError

if TYPE_CHECKING:
    from runtime.elf import ElfFile
    from runtime.linux.abi.base import Abi
    from runtime.linux.descriptors import Descriptor
    from runtime.linux.namespace import Namespace
    from runtime.linux.process import Prepare, Process, Settings

DENIABLE = ("net", "exec", "write")


def add(group: argparse._ArgumentGroup) -> None:
    """Add the options to the group of `isagen run`'s parser."""
    group.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="set a variable")
    group.add_argument("--unset", action="append", default=[], metavar="NAME", help="take a variable away")
    group.add_argument(
        "-L",
        "--sysroot",
        metavar="DIR",
        help="take absolute paths that exist in DIR from there (dynamic linker, libraries)",
    )
    group.add_argument(
        "--root", metavar="DIR", help="the program sees only the files in DIR, as its root directory"
    )
    group.add_argument(
        "--deny",
        action="append",
        default=[],
        metavar="KINDS",
        help="refuse kinds of calls, separated by commas: net, exec, write",
    )
    group.add_argument(
        "--processes", type=int, default=256, metavar="N", help="most processes at a time (256)"
    )
    group.add_argument(
        "--threads",
        choices=("deterministic", "host"),
        default="deterministic",
        help="threads take turns by instructions executed (default), or run on the host's threads",
    )
    group.add_argument("--strace", action="store_true", help="print the system calls, as strace does")


def namespace_of(arguments: argparse.Namespace) -> Namespace:
    """Raises IsagenError for directories that aren't there."""
    from runtime.linux.namespace import Namespace

    return Namespace(arguments.root, arguments.sysroot)


def settings_of(arguments: argparse.Namespace, prepare: Prepare) -> Settings:
    """Raises IsagenError for kinds of calls that there aren't."""
    from runtime.linux.process import Settings

    denied = {kind for words in arguments.deny for kind in words.split(",") if kind}
    unknown = sorted(denied - set(DENIABLE))
    if unknown:
        raise IsagenError(
            f"--deny {unknown[0]}: there is no such kind", remedy=f"kinds: {', '.join(DENIABLE)}"
        )
    if arguments.processes < 1:
        raise IsagenError("--processes takes at least 1")
    return Settings(
        prepare=prepare,
        disassemble=disassemble,
        denied=frozenset(denied),
        memory_limit=arguments.memory or 16 << 30,
        process_limit=arguments.processes,
        cpus=cpus_of(arguments),
    )


def cpus_of(arguments: argparse.Namespace) -> int:
    """How many threads run at a time. Raises IsagenError where something else needs them to take turns."""
    if arguments.threads != "host":
        return 1
    from isagen.inspection.session import wants_interpreter
    from runtime.linux.parallel import host_cpus

    if wants_interpreter(arguments):
        raise IsagenError(
            "traces, profiles, coverage, flame graphs and gdb need threads that take turns",
            remedy="leave out --threads host",
        )
    return host_cpus()


def disassemble(abi: Abi, data: bytes, address: int) -> tuple[int, str]:
    """Length and text of the instruction that `data` begin with."""
    from isagen.generated import is_built, load_syntax
    from runtime.assembly.disassembler import Disassembler

    target = next((name for name in abi.targets if is_built(name)), None)
    if target is None:
        return min(4, len(data)), ""
    line = Disassembler(load_syntax(target)).line(data, address)
    return line.length, line.text


def environment_of(arguments: argparse.Namespace) -> list[bytes]:
    """This process's variables with the changes that were asked for. Raises IsagenError."""
    environment = dict(os.environb)
    for setting in arguments.env:
        name, equals, value = setting.partition("=")
        if not equals:
            raise IsagenError(f"--env {setting}: it should be NAME=VALUE")
        environment[os.fsencode(name)] = os.fsencode(value)
    for name in arguments.unset:
        environment.pop(os.fsencode(name), None)
    return [name + b"=" + value for name, value in environment.items()]


def find_program(name: str, namespace: Namespace) -> ElfFile:
    """The program of that name: inside --root; as given; inside --sysroot; or from PATH
    where it has no slash. Raises IsagenError, OSError.
    """
    from runtime.elf import open_elf
    from runtime.linux.errors import SystemCallError
    from runtime.linux.program import open_program

    if namespace.root is not None or (namespace.sysroot is not None and not Path(name).exists()):
        try:
            return open_program(namespace, os.fsencode(name))
        except (OSError, SystemCallError):
            pass
    if "/" in name or Path(name).exists():
        return open_elf(name)
    import shutil

    return open_elf(shutil.which(name) or name)


def prepare_streams() -> dict[int, Descriptor]:
    """The descriptors that the guest gets: this process's. Then standard streams that are closed are opened,
    so that no file takes their numbers.
    """
    from runtime.linux.descriptors import inherited

    table = inherited()
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    return table


def set_limits(process: Process) -> None:
    """The guest's limit of descriptors is the host's; the emulator itself gets as many as it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    process.files.limit = soft if 0 < soft <= process.files.largest else process.files.limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
