"""VirtualBox's .vbox: XML with a registry of media, and the machine that refers to them by UUID."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from machines.appliance.errors import ApplianceError
from machines.appliance.xml import (
    attribute,
    child,
    children,
    descend,
    local,
    mac_address,
    number,
    parse,
    text,
)
from machines.description import (
    Attachment,
    Bus,
    Controller,
    Disk,
    Firmware,
    MachineDescription,
    Medium,
    Network,
)

_CONTROLLERS = {
    "PIIX3": Bus.IDE,
    "PIIX4": Bus.IDE,
    "ICH6": Bus.IDE,
    "AHCI": Bus.SATA,
    "LsiLogic": Bus.SCSI,
    "BusLogic": Bus.SCSI,
    "LsiLogicSas": Bus.SAS,
    "I82078": Bus.FLOPPY,
    "USB": Bus.USB,
    "NVMe": Bus.NVME,
    "VirtioSCSI": Bus.VIRTIO,
}
_CARDS = {
    "Am79C970A": "pcnet",
    "Am79C973": "pcnet",
    "Am79C960": "ne2k",
    "82540EM": "e1000",
    "82543GC": "e1000",
    "82545EM": "e1000",
    "virtio": "virtio",
}
_ATTACHMENTS = {
    "NAT": Attachment.NAT,
    "NATNetwork": Attachment.NAT,
    "BridgedInterface": Attachment.BRIDGED,
    "HostOnlyInterface": Attachment.HOST_ONLY,
    "HostOnlyNetwork": Attachment.HOST_ONLY,
    "InternalNetwork": Attachment.INTERNAL,
}
_MEDIA = {"HardDisk": Medium.DISK, "DVD": Medium.CDROM, "Floppy": Medium.FLOPPY}
_FORMATS = {"vdi": "vdi", "vmdk": "vmdk", "vhd": "vhd", "hdd": "parallels", "qcow": "qcow", "raw": "raw"}
_DEPTH = 64


@dataclass(frozen=True)
class RegisteredMedium:
    """A file of the registry; `parent` is the UUID of the image below."""

    file: str
    format: str
    parent: str = ""


def parse_file(data: bytes, path: Path) -> MachineDescription:
    """The machine that the .vbox file at `path` describes. Raises `ApplianceError`."""
    where = str(path)
    root = parse(data, where)
    machine = child(root, "Machine")
    if local(root.tag) != "VirtualBox" or machine is None:
        raise ApplianceError("this is no description of a VirtualBox machine", where=where)
    return machine_of(machine, registry(root, where), where, path.stem)


def registry(root: Element, where: str) -> dict[str, RegisteredMedium]:
    """The media by UUID, of the machine and of the program."""
    result: dict[str, RegisteredMedium] = {}
    for holder in (root, child(root, "Machine"), child(root, "Global")):
        media = child(holder, "MediaRegistry")
        for kind, name in (("HardDisks", "HardDisk"), ("DVDImages", "Image"), ("FloppyImages", "Image")):
            _register(child(media, kind), name, "", result, where, 0)
    return result


def _register(
    holder: Element | None,
    name: str,
    parent: str,
    result: dict[str, RegisteredMedium],
    where: str,
    depth: int,
) -> None:
    """Note the media in `holder`; differencing images are nested in their parents."""
    if depth > _DEPTH:
        raise ApplianceError(f"images are nested more than {_DEPTH} deep", where=where)
    for medium in children(holder, name):
        uuid = attribute(medium, "uuid").strip("{}").lower()
        format = _FORMATS.get(attribute(medium, "format").lower(), "" if name == "HardDisk" else "raw")
        result[uuid] = RegisteredMedium(attribute(medium, "location"), format, parent)
        _register(medium, name, uuid, result, where, depth + 1)


def machine_of(
    machine: Element, media: dict[str, RegisteredMedium], where: str, default_name: str
) -> MachineDescription:
    """The machine of a <Machine> element (of a .vbox, or inside an OVF that VirtualBox wrote)."""
    hardware = child(machine, "Hardware")
    if hardware is None:
        raise ApplianceError("the machine has no hardware", where=where)
    notes: list[str] = []
    controllers: list[Controller] = []
    disks: list[Disk] = []
    storage = child(hardware, "StorageControllers")
    if storage is None:
        storage = child(machine, "StorageControllers")
    for element in children(storage, "StorageController"):
        kind = attribute(element, "type")
        if kind not in _CONTROLLERS:
            notes.append(f"storage controllers of type {kind[:40]!r} aren't known")
            continue
        bus = _CONTROLLERS[kind]
        count = sum(controller.bus is bus for controller in controllers)
        name = attribute(element, "name") or f"{bus}{count}"
        controllers.append(Controller(name=name, bus=bus, model=kind.lower(), number=count))
        disks += _drives(element, name, media, where)
    if child(machine, "Snapshot") is not None:
        notes.append("the tree of snapshots isn't carried over; the current state is")
    guest = attribute(machine, "OSType")
    return MachineDescription(
        name=attribute(machine, "name") or default_name,
        description=text(machine, "Description"),
        architecture=_architecture(guest),
        os_type=guest,
        firmware=_firmware(hardware),
        cpus=number(attribute(child(hardware, "CPU"), "count", "1"), "CPU count", where, least=1, most=4096),
        memory=number(
            attribute(child(hardware, "Memory"), "RAMSize", "128"), "RAMSize", where, least=4, most=1 << 32
        )
        << 20,
        uuid=attribute(machine, "uuid").strip("{}").lower(),
        controllers=tuple(controllers),
        disks=tuple(disks),
        networks=tuple(networks(hardware, where)),
        notes=tuple(notes),
    )


def _firmware(hardware: Element) -> Firmware:
    kind = attribute(child(hardware, "Firmware"), "type") or attribute(
        descend(hardware, "BIOS", "Firmware"), "type"
    )
    return Firmware.EFI if kind.upper().startswith("EFI") else Firmware.BIOS


def _drives(controller: Element, name: str, media: dict[str, RegisteredMedium], where: str) -> Iterator[Disk]:
    for device in children(controller, "AttachedDevice"):
        kind = _MEDIA.get(attribute(device, "type"))
        if kind is None:
            continue
        uuid = attribute(child(device, "Image"), "uuid").strip("{}").lower()
        medium = media.get(uuid)
        if uuid and medium is None:
            raise ApplianceError(f"the medium {uuid[:40]} isn't in the registry", where=where)
        yield Disk(
            controller=name,
            port=number(attribute(device, "port", "0"), "port", where, most=65535),
            unit=number(attribute(device, "device", "0"), "device", where, most=255),
            medium=kind,
            file=medium.file if medium else "",
            format=medium.format if medium else "",
            read_only=kind is Medium.CDROM,
        )


def networks(hardware: Element, where: str) -> Iterator[Network]:
    """The enabled network cards."""
    for adapter in children(child(hardware, "Network"), "Adapter"):
        if attribute(adapter, "enabled", "false").lower() not in ("true", "1"):
            continue
        mode, network = Attachment.NONE, ""
        for element in adapter:
            if local(element.tag) in _ATTACHMENTS:
                mode, network = _ATTACHMENTS[local(element.tag)], attribute(element, "name")
        yield Network(
            model=_CARDS.get(attribute(adapter, "type", "Am79C970A"), attribute(adapter, "type")),
            mac=mac_address(attribute(adapter, "MACAddress"), where),
            attachment=mode,
            network=network,
            connected=attribute(adapter, "cable", "true").lower() in ("true", "1"),
        )


def _architecture(guest: str) -> str:
    if guest.endswith("_arm64"):
        return "aarch64"
    return "x86_64" if guest.endswith("_64") else "i386"
