"""The ``isagen`` command: finds the subcommand's module, runs it, and turns errors into a line and an exit
status.

Starting up is kept cheap: a subcommand's module is imported only when it is called, and such modules import
what is heavy (numba, pydantic, rich, ...) only when they need it.

Exit statuses: 0 done; 1 it ran and something failed; 2 bad input or bad usage; 130 interrupted. ``isagen
run`` ends with the guest's own status.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from isagen.help import HelpFormatter

if TYPE_CHECKING:
    from typing import Protocol

    class CommandModule(Protocol):
        """What a module of `isagen.commands` offers."""

        def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

        def run(self, arguments: argparse.Namespace) -> int: ...


COMMANDS = {
    "build": "build targets from their specs",
    "run": "run a Linux program or a bare-metal image",
    "boot": "boot a whole machine",
    "monitor": "talk to a running machine",
    "asm": "assemble",
    "disasm": "disassemble",
    "doc": "write a family's manual as HTML",
    "image": "create, convert, check, serve disk images",
    "conformance": "test targets against evaluator and peers",
    "explain": "run a program and show what its hot code became",
    "bench": "compare speed with qemu-user and Unicorn",
}
"""What each command does; ``isagen.commands`` has a module of its name."""

GARBAGE = 100_000
"""Objects that are made before garbage is looked for: imports make many, and all of them stay."""


def overview() -> argparse.ArgumentParser:
    """The parser of ``isagen --help``."""
    commands = "\n".join(f"  {name:<12} {summary}" for name, summary in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="isagen",
        description="Instruction sets written once, as readable specs, become complete, fast emulators.",
        epilog=f"commands:\n{commands}\n\n'isagen COMMAND --help' tells more about a command.",
        formatter_class=HelpFormatter,
        usage="isagen [--help] [--version] COMMAND ...",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("command", nargs="?", metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name) and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    gc.set_threshold(GARBAGE)
    try:
        return dispatch(words)
    except KeyboardInterrupt:
        sys.stderr.write("isagen: interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader of our output went away. Keep the interpreter from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        if error.filename is None:
            raise
        sys.stderr.write(f"isagen: {error.filename}: {error.strerror}\n")
        return 2
    except Exception as error:
        if not is_own(error):
            raise
        # Mistakes in specs begin with file:line:column, as compilers print them.
        prefix = "" if hasattr(error, "diagnostics") else "isagen: "
        sys.stderr.write(f"{prefix}{error}\n")
        return 2


def program() -> int:
    """`main` for a process that ends with it."""
    status = main()
    gc.freeze()  # the system takes all memory back: looking for garbage before would take 30 ms
    return status


def is_own(error: BaseException) -> bool:
    """Whether `error` is an `IsagenError`, of the runtime or of the generator (which share no module)."""
    return any(kind.__name__ == "IsagenError" for kind in type(error).__mro__)


def dispatch(words: list[str]) -> int:
    if not words or words[0] not in COMMANDS:
        return top_level(words)
    name = words[0]
    module: CommandModule = importlib.import_module(f"isagen.commands.{name}")
    parser = argparse.ArgumentParser(
        prog=f"isagen {name}",
        description=module.__doc__,
        formatter_class=HelpFormatter,
    )
    module.add_arguments(parser)
    try:
        # an optional operand behind options is found only so; commands that pass words on to a guest can't be
        # read so
        parse = parser.parse_intermixed_args if getattr(module, "INTERMIXED", False) else parser.parse_args
        arguments = parse(words[1:])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    return module.run(arguments)


def top_level(words: list[str]) -> int:
    parser = overview()
    if not words:
        parser.print_help(sys.stderr)
        return 2
    try:
        arguments, _ = parser.parse_known_args(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    if arguments.version:
        from isagen import __version__

        print(f"isagen {__version__}")
        return 0
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    sys.stderr.write(f"isagen: no command named {arguments.command!r} (commands: {', '.join(COMMANDS)})\n")
    return 2


if __name__ == "__main__":
    sys.exit(program())
