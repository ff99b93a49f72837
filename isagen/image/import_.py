"""Import a machine of VirtualBox (.vbox), VMware (.vmx) or any other program (.ova, .ovf).

Its disks are converted into the folder --into; beside them a description (TOML) tells processors, memory,
controllers, disks and network cards with their addresses.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from isagen.image import options, show

if TYPE_CHECKING:
    from runtime.block.jobs.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="an .ova, .ovf, .vbox or .vmx file")
    parser.add_argument("-d", "--into", default=".", metavar="FOLDER", help="where to (default: this folder)")
    parser.add_argument(
        "-O", "--output-format", default="qcow2", metavar="FORMAT", help="of the disks (qcow2)"
    )
    options.add_options(parser)
    parser.add_argument("-c", "--compress", action="store_true", help="compress the disks")
    parser.add_argument("--keep-disks", action="store_true", help="leave the disks where they are")
    parser.add_argument("--no-manifest", action="store_true", help="don't check the files' digests")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PATH",
        help="a file or folder outside of the machine's that it may name",
    )
    parser.add_argument("--json", action="store_true", help="write and print the description as JSON")
    options.add_progress(parser)
    options.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from machines.appliance.importer import ImportRequest, import_machine

    request = ImportRequest(
        Path(arguments.file),
        Path(arguments.into),
        arguments.output_format,
        options.key_values(arguments.options),
        tuple(Path(path) for path in arguments.allow),
        check_manifest=not arguments.no_manifest,
        copy=not arguments.keep_disks,
        compressed=arguments.compress,
        json=arguments.json,
    )
    with ExitStack() as stack:

        def progress(title: str) -> Progress:
            stack.close()
            return stack.enter_context(show.progress(arguments, title))

        machines = import_machine(request, progress)
    if arguments.json:
        found = [machine.description.model_dump(mode="json", exclude_none=True) for machine in machines]
        show.print_json(found)
    elif not arguments.quiet:
        for machine in machines:
            known = machine.description
            disks = sum(bool(disk.file) for disk in known.disks)
            checked = ", manifest verified" if machine.manifest_checked else ""
            print(
                f"{machine.file}: {known.name}: {known.cpus} processors, {show.human_size(known.memory)}"
                f" of memory, {disks} disks, {len(known.networks)} network cards{checked}"
            )
            for note in known.notes:
                print(f"  {note}")
    return 0
