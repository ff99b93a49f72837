"""Export a machine as an OVA, which VirtualBox, VMware and others import.

The machine is a description that 'isagen image import' wrote (.toml, .json), or disks: then --memory,
--cpus and the other options say the rest.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from isagen.image import options, show
from runtime.block.errors import ImageExists, ImageOption

if TYPE_CHECKING:
    from machines.description import MachineDescription
    from runtime.block.jobs.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="file", help="a description, or disks; last, the OVA to write"
    )
    parser.add_argument("--name", help="of the machine (default: the OVA's)")
    parser.add_argument("--memory", type=options.size, default=1 << 30, metavar="SIZE", help="default: 1G")
    parser.add_argument("--cpus", type=int, default=1, metavar="N")
    parser.add_argument(
        "--bus", choices=("sata", "ide", "scsi", "nvme"), default="sata", help="of the disks (sata)"
    )
    parser.add_argument(
        "--mac", action="append", default=[], metavar="MAC", help="a network card with this address"
    )
    parser.add_argument("--efi", action="store_true", help="EFI firmware instead of a BIOS")
    parser.add_argument(
        "--os-type", default="", metavar="NAME", help="the guest, as the other program names it"
    )
    parser.add_argument(
        "--digest", choices=("sha1", "sha256", "sha512"), default="sha256", help="of the manifest"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the OVA if there is one")
    options.add_progress(parser)
    options.add_quiet(parser)


def run(arguments: argparse.Namespace) -> int:
    from machines.appliance.exporter import export_machine
    from machines.description import load

    if len(arguments.files) < 2:
        raise ImageOption("a machine and the OVA to write are needed")
    *sources, last = arguments.files
    target = Path(last)
    if target.exists() and not arguments.overwrite:
        raise ImageExists("the file exists already", where=last, remedy="--overwrite replaces it")
    if len(sources) == 1 and Path(sources[0]).suffix in (".toml", ".json"):
        machine, base = load(Path(sources[0])), Path(sources[0]).parent
    else:
        machine, base = _described(arguments, sources, target.stem), Path()
    with ExitStack() as stack:

        def progress(title: str) -> Progress:
            stack.close()
            return stack.enter_context(show.progress(arguments, title))

        export_machine(machine, base, target, hash_name=arguments.digest, progress=progress)
    if not arguments.quiet:
        print(f"{target}: {machine.name}, {show.human_size(target.stat().st_size)}")
    return 0


def _described(arguments: argparse.Namespace, disks: list[str], name: str) -> MachineDescription:
    """A machine of plain disks."""
    from pydantic import ValidationError

    from machines.description import Bus, Controller, Disk, Firmware, MachineDescription, Network

    try:
        return MachineDescription(
            name=arguments.name or name,
            os_type=arguments.os_type,
            firmware=Firmware.EFI if arguments.efi else Firmware.BIOS,
            cpus=arguments.cpus,
            memory=arguments.memory,
            controllers=(Controller(name="disks", bus=Bus(arguments.bus)),),
            disks=tuple(Disk(controller="disks", port=port, file=file) for port, file in enumerate(disks)),
            networks=tuple(Network(model="e1000", mac=mac.lower()) for mac in arguments.mac),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ImageOption(f"{first['loc'][0]}: {first['msg']}") from None
