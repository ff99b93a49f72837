"""List, create, apply or delete the snapshots inside an image."""

from __future__ import annotations

import argparse

from isagen.image import options, show
from isagen.image.info_ import snapshot_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_format(parser)
    options.add_json(parser)
    options.add_quiet(parser)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("-l", "--list", action="store_true", help="list them (if nothing is said)")
    action.add_argument("-c", "--create", metavar="NAME", help="keep the disk as it is now")
    action.add_argument(
        "-a", "--apply", metavar="NAME", help="make the disk what it was; later changes are lost"
    )
    action.add_argument("-d", "--delete", metavar="NAME", help="forget a snapshot")
    parser.add_argument("file")
    options.add_access(parser)


def run(arguments: argparse.Namespace) -> int:
    changes = bool(arguments.create or arguments.apply or arguments.delete)
    with options.open_image(arguments, arguments.file, arguments.format, writable=changes) as image:
        snapshots = image.snapshots
        if arguments.create:
            snapshots.create(arguments.create)
        elif arguments.apply:
            snapshots.apply(arguments.apply)
        elif arguments.delete:
            snapshots.delete(arguments.delete)
        entries = snapshots.entries()
    if options.wants_json(arguments):
        show.print_json([entry.as_json() for entry in entries])
    elif not changes and not arguments.quiet and entries:
        print("\n".join(["Snapshot list:", *snapshot_lines(entries)]))
    return 0
