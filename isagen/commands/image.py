"""Disk images: create, convert, check, look inside, serve, move whole machines.

Options and exit statuses are qemu-img's where it has them; ``isagen image COMMAND --help`` tells more.
"""

from __future__ import annotations

import argparse
import importlib
import sys

SUBCOMMANDS = (
    "create",
    "info",
    "check",
    "convert",
    "compare",
    "map",
    "resize",
    "snapshot",
    "commit",
    "rebase",
    "amend",
    "bench",
    "serve",
    "ls",
    "cat",
    "put",
    "import",
    "export",
)
# What a failure of the command itself ends with; 1 for the others.
_FAILED = {"compare": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "isagen image COMMAND ..."
    parser.add_argument("subcommand", choices=SUBCOMMANDS, metavar="COMMAND", help=", ".join(SUBCOMMANDS))
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    from runtime.errors import IsagenError

    name: str = arguments.subcommand
    failed = _FAILED.get(name, 1)
    module = importlib.import_module(f"isagen.image.{name}_")
    parser = argparse.ArgumentParser(
        prog=f"isagen image {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    prepare = getattr(module, "prepare", None)
    words = arguments.words if prepare is None else prepare(arguments.words)
    try:
        parsed = parser.parse_intermixed_args(words)
    except SystemExit as stop:
        return failed if stop.code else 0
    try:
        status: int = module.run(parsed)
        return status
    except IsagenError as error:
        sys.stderr.write(f"isagen image {name}: {error}\n")
        return failed
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        place = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"isagen image {name}: {place}{error.strerror or error}\n")
        return failed
