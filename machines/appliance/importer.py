"""Importing a machine: its description, and its disks converted into one folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from machines.appliance import manifest, ovf, vbox, vmx
from machines.appliance.archive import Archive, Files, Folder
from machines.appliance.errors import ApplianceError
from machines.description import Disk, MachineDescription, Medium, dump
from runtime.block.image import Image
from runtime.block.jobs.convert import Request, convert, identity_of
from runtime.block.jobs.copy import CopyOptions
from runtime.block.jobs.progress import Progress, silent
from runtime.block.policy import ReferencePolicy
from runtime.errors import NotYetError


@dataclass
class ImportRequest:
    """What to import and how.

    `folder` gets the description (``NAME.toml``) and the disks in `format`; `copy` False leaves disks
    where they are. `allow` names files and folders outside of the machine's own.
    """

    source: Path
    folder: Path
    format: str = "qcow2"
    options: dict[str, str] = field(default_factory=dict)
    allow: tuple[Path, ...] = ()
    check_manifest: bool = True
    copy: bool = True
    compressed: bool = False
    json: bool = False


@dataclass
class Imported:
    """A machine that was imported."""

    description: MachineDescription
    file: Path
    manifest_checked: bool


OpenDisk = Callable[[Disk], Image]


def import_machine(
    request: ImportRequest, progress: Callable[[str], Progress] = lambda title: silent
) -> list[Imported]:
    """Import all machines of the source. Raises `ApplianceError` and what disks raise."""
    suffix = request.source.suffix.lower()
    if suffix in (".ovf", ".ova"):
        return _import_ovf(request, progress)
    if suffix not in (".vbox", ".vmx"):
        raise ApplianceError(
            "this file's extension names no kind of machine",
            where=str(request.source),
            remedy=".ova, .ovf, .vbox, .vmx",
        )
    with request.source.open("rb") as file:
        data = file.read(vmx.MAXIMUM_SIZE * 16 + 1)
    reader = vbox.parse_file if suffix == ".vbox" else vmx.parse
    machine = reader(data, request.source)
    base = request.source.parent
    policy = ReferencePolicy(allowed=(base.absolute(), *(path.absolute() for path in request.allow)))

    def open_disk(disk: Disk) -> Image:
        path = policy.resolve(disk.file.replace("\\", "/"), request.source, "disk")
        return Image.open(path, disk.format or None, allow=policy)

    return [_store(request, machine, open_disk, progress, False)]


def _import_ovf(request: ImportRequest, progress: Callable[[str], Progress]) -> list[Imported]:
    files: Files = (
        Archive(request.source) if request.source.suffix.lower() == ".ova" else Folder(request.source)
    )
    try:
        envelope = ovf.parse_envelope(
            files.read(files.descriptor, 16 << 20), f"{files.where}: {files.descriptor}"
        )
        used = {disk.file for machine in envelope.machines for disk in machine.disks if disk.file}
        for reference in envelope.files:
            if reference.href in used and (
                reference.compression not in ("", "identity") or reference.chunked
            ):
                raise NotYetError(
                    f"{reference.href} is compressed or in several pieces, which isn't supported",
                    where=files.where,
                )
        checked = request.check_manifest and manifest.verify(files, sorted(used))

        def open_disk(disk: Disk) -> Image:
            # A stranger's descriptor chooses neither format nor further files.
            nothing = ReferencePolicy(neighbours=False)
            return Image.open(files.open(disk.file), disk.format or None, allow=nothing)

        return [_store(request, machine, open_disk, progress, checked) for machine in envelope.machines]
    finally:
        files.close()


def _store(
    request: ImportRequest,
    machine: MachineDescription,
    open_disk: OpenDisk,
    progress: Callable[[str], Progress],
    checked: bool,
) -> Imported:
    """Convert the disks, and write the description last: it stands for a complete machine."""
    stem = _file_name(machine.name)
    request.folder.mkdir(parents=True, exist_ok=True)
    disks = []
    for number, disk in enumerate(machine.disks):
        if not disk.file:
            disks.append(disk)
            continue
        with open_disk(disk) as image:
            disks.append(_store_disk(request, disk, image, stem, number, progress))
    description = machine.model_copy(update={"disks": tuple(disks)})
    file = request.folder / f"{stem}{'.json' if request.json else '.toml'}"
    dump(description, file)
    return Imported(description, file, checked)


def _store_disk(
    request: ImportRequest,
    disk: Disk,
    image: Image,
    stem: str,
    number: int,
    progress: Callable[[str], Progress],
) -> Disk:
    if not request.copy:
        path = Path(getattr(image.node.file, "path", image.node.file.name)).absolute()
        if ":" in path.name and not path.exists():
            raise ApplianceError("disks inside an archive must be copied", where=str(request.source))
        return disk.model_copy(update={"file": str(path), "format": image.format, "size": image.size})
    plain = disk.medium is not Medium.DISK
    format = "raw" if plain else request.format
    extension = ".iso" if disk.medium is Medium.CDROM else ".img" if format == "raw" else f".{format}"
    name = f"{stem}-disk{number}{extension}"
    target = request.folder / name
    if target.exists():
        raise ApplianceError("the file exists already", where=str(target), remedy="choose another folder")
    work = Request(
        image.node,
        identity_of(image.node.name, image.node),
        str(target),
        format,
        {} if plain else dict(request.options),
        CopyOptions(compressed=request.compressed and not plain),
    )
    convert(work, progress=progress(name))
    return disk.model_copy(update={"file": name, "format": format, "size": image.size})


def _file_name(name: str) -> str:
    """A machine's name as a file name."""
    plain = "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in name).strip(" .")
    return plain[:100] or "machine"
