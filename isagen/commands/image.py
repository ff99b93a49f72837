"""Disk images: create, convert, check, look inside, serve, move whole machines.

Options and exit statuses are qemu-img's where it has them.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from isagen.help import HelpFormatter

SUBCOMMANDS = {
    "create": "make an empty image",
    "info": "tell what an image is",
    "check": "look for inconsistencies, and repair them",
    "convert": "copy a disk into an image of another format",
    "compare": "compare what two images hold",
    "map": "show which parts of a disk are stored, and where",
    "resize": "change a disk's size",
    "snapshot": "list, create, apply or delete snapshots",
    "commit": "write an overlay's content into the image below",
    "rebase": "give an image another backing file",
    "amend": "change options of an existing image",
    "bench": "measure reads or writes",
    "serve": "serve images over NBD",
    "ls": "list a folder inside an image",
    "cat": "print a file inside an image",
    "put": "write a file into an image",
    "import": "import a machine of VirtualBox, VMware and others, with its disks",
    "export": "export a machine as an OVA",
}
# What a failure of the command itself ends with; 1 for the others.
_FAILED = {"compare": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "isagen image COMMAND ..."
    listing = "\n".join(f"  {name:<10} {summary}" for name, summary in SUBCOMMANDS.items())
    parser.epilog = f"commands:\n{listing}\n\n'isagen image COMMAND --help' tells more about a command."
    parser.add_argument("subcommand", choices=SUBCOMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    from runtime.errors import IsagenError

    name: str = arguments.subcommand
    failed = _FAILED.get(name, 1)
    module = importlib.import_module(f"isagen.image.{name}_")
    parser = argparse.ArgumentParser(
        prog=f"isagen image {name}",
        description=module.__doc__,
        formatter_class=HelpFormatter,
    )
    module.add_arguments(parser)
    prepare = getattr(module, "prepare", None)
    words = arguments.words if prepare is None else prepare(arguments.words)
    try:
        parsed = parser.parse_intermixed_args(words)
    except SystemExit as stop:
        return failed if stop.code else 0
    try:
        if getattr(parsed, "image_opts", False) or getattr(parsed, "target_image_opts", False):
            from isagen.image.described import resolve

            resolve(parsed)
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
