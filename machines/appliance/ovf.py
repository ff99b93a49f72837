"""The Open Virtualization Format's descriptor (DMTF DSP0243, versions 1 and 2): reading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from machines.appliance import vbox
from machines.appliance.errors import ApplianceError
from machines.appliance.xml import attribute, child, children, local, mac_address, number, parse, text
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

# CIM_ResourceAllocationSettingData.ResourceType (DMTF DSP0243, annex; CIM schema)
_PROCESSOR, _MEMORY, _ETHERNET, _FLOPPY, _CD, _DVD, _DISK = 3, 4, 10, 14, 15, 16, 17
_CONTROLLERS = {5: Bus.IDE, 6: Bus.SCSI, 20: Bus.SATA, 23: Bus.USB}
_MODELS = {
    "virtioscsi": Bus.VIRTIO,
    "lsilogicsas": Bus.SAS,
    "vmware.nvme.controller": Bus.NVME,
    "nvme": Bus.NVME,
}
_BOOKKEEPING = {1, 24, 35, 31}  # other, graphics, sound and logical disks: not carried over
_UNITS = re.compile(r"^\s*byte\s*(?:\*\s*2\s*\^\s*(\d{1,2}))?\s*$", re.IGNORECASE)
_OLD_UNITS = {
    "": 0,
    "bytes": 0,
    "kilobytes": 10,
    "kb": 10,
    "megabytes": 20,
    "mb": 20,
    "gigabytes": 30,
    "gb": 30,
}


@dataclass(frozen=True)
class FileReference:
    """A file that the descriptor names. `href` is as written; `size` in bytes, if said."""

    href: str
    size: int | None
    compression: str
    chunked: bool


@dataclass(frozen=True)
class Envelope:
    """What a descriptor says: its files, and the machines, whose disks name files by `href`."""

    files: tuple[FileReference, ...]
    machines: tuple[MachineDescription, ...]


def parse_envelope(data: bytes, where: str) -> Envelope:
    """Read a descriptor. Raises `ApplianceError`."""
    return _Reader(parse(data, where), where).envelope()


class _Reader:
    def __init__(self, root: Element, where: str) -> None:
        self._root = root
        self._where = where
        if local(root.tag) != "Envelope":
            raise ApplianceError("this is no OVF descriptor", where=where)
        self._files = {
            attribute(element, "id"): self._reference(element)
            for element in children(child(root, "References"), "File")
        }
        self._disks = {
            attribute(element, "diskId"): element
            for section in (*children(root, "DiskSection"), *children(root, "Section"))
            for element in children(section, "Disk")
        }

    def envelope(self) -> Envelope:
        systems = list(children(self._root, "VirtualSystem")) + list(children(self._root, "Content"))
        for collection in children(self._root, "VirtualSystemCollection"):
            systems += children(collection, "VirtualSystem")
        if not systems:
            raise ApplianceError("the descriptor has no machine", where=self._where)
        return Envelope(tuple(self._files.values()), tuple(self._machine(system) for system in systems))

    def _reference(self, element: Element) -> FileReference:
        size = attribute(element, "size")
        return FileReference(
            attribute(element, "href"),
            number(size, "a file's size", self._where) if size else None,
            attribute(element, "compression"),
            bool(attribute(element, "chunkSize")),
        )

    def _machine(self, system: Element) -> MachineDescription:
        hardware = next(
            (
                section
                for section in system
                if local(section.tag) == "VirtualHardwareSection"
                or attribute(section, "type").endswith("VirtualHardwareSection_Type")
            ),
            None,
        )
        if hardware is None:
            raise ApplianceError("the machine has no hardware section", where=self._where)
        items = [_Item(element) for element in hardware if local(element.tag).endswith("Item")]
        notes: list[str] = []
        cpus, memory = 1, 512 << 20
        for item in items:
            if item.kind == _PROCESSOR:
                cpus = number(
                    item.get("VirtualQuantity") or "1", "the processors", self._where, least=1, most=4096
                )
            elif item.kind == _MEMORY:
                amount = number(item.get("VirtualQuantity"), "the memory", self._where, least=1, most=1 << 52)
                memory = amount << self._shift(item.get("AllocationUnits") or "byte * 2^20")
            elif item.kind not in _KNOWN and item.kind not in _BOOKKEEPING:
                notes.append(
                    f"not carried over: {item.get('ElementName')[:80] or f'resource type {item.kind}'}"
                )
        controllers = list(self._controllers(items))
        names = {item.get("InstanceID"): name.name for item, name in controllers}
        settings = child(system, "Machine")  # what VirtualBox adds
        guest = child(system, "OperatingSystemSection")
        os_type = attribute(guest, "osType") or text(guest, "OSType") or text(guest, "Description")
        return MachineDescription(
            name=text(system, "Name") or attribute(system, "id") or "machine",
            description=text(child(system, "AnnotationSection"), "Annotation"),
            architecture=_architecture(os_type, attribute(guest, "id")),
            os_type=os_type,
            firmware=_firmware(hardware, settings),
            cpus=cpus,
            memory=memory,
            uuid=attribute(settings, "uuid").strip("{}").lower(),
            controllers=tuple(controller for _, controller in controllers),
            disks=tuple(self._drives(items, names)),
            networks=tuple(self._networks(items, settings)),
            notes=tuple(notes),
        )

    def _shift(self, unit: str) -> int:
        """How far a number in these units is to be shifted to give bytes."""
        match = _UNITS.match(unit)
        shift = int(match[1] or 0) if match else _OLD_UNITS.get(unit.strip().lower(), -1)
        if not 0 <= shift <= 50:
            raise ApplianceError(f"the unit {unit[:40]!r} isn't known", where=self._where)
        return shift

    def _controllers(self, items: list[_Item]) -> Iterator[tuple[_Item, Controller]]:
        counts: dict[Bus, int] = {}
        taken: set[str] = set()
        for item in items:
            if item.kind not in _CONTROLLERS:
                continue
            model = item.get("ResourceSubType").lower()
            bus = _MODELS.get(model, _CONTROLLERS[item.kind])
            if bus is Bus.USB and not any(other.get("Parent") == item.get("InstanceID") for other in items):
                continue
            count = counts[bus] = counts.get(bus, -1) + 1
            name = f"{bus}{count}"
            taken.add(name)
            yield item, Controller(name=name, bus=bus, model=model, number=count)
        if any(item.kind == _FLOPPY for item in items):
            yield _NO_ITEM, Controller(name="floppy", bus=Bus.FLOPPY, model="i82078")

    def _drives(self, items: list[_Item], names: dict[str, str]) -> Iterator[Disk]:
        for item in items:
            if item.kind not in (_FLOPPY, _CD, _DVD, _DISK):
                continue
            medium = {_DISK: Medium.DISK, _FLOPPY: Medium.FLOPPY}.get(item.kind, Medium.CDROM)
            parent = item.get("Parent")
            if medium is not Medium.FLOPPY and parent not in names:
                raise ApplianceError(
                    f"the drive {item.get('ElementName')[:80]!r} is at no controller", where=self._where
                )
            file, size = self._medium(item.get("HostResource"))
            if medium is Medium.DISK and not file:
                raise ApplianceError(
                    f"the disk {item.get('ElementName')[:80]!r} has no file", where=self._where
                )
            yield Disk(
                controller="floppy" if medium is Medium.FLOPPY else names[parent],
                port=number(item.get("AddressOnParent") or "0", "an address", self._where, most=65535),
                medium=medium,
                file=file,
                format="" if medium is Medium.DISK else "raw",
                size=size,
                read_only=medium is Medium.CDROM,
            )

    def _medium(self, resource: str) -> tuple[str, int | None]:
        """The file and the size that a host resource stands for."""
        kind, _, name = resource.removeprefix("ovf:").removeprefix("/").partition("/")
        if kind == "disk":
            disk = self._disks.get(name)
            if disk is None:
                raise ApplianceError(f"there is no disk {name[:80]!r}", where=self._where)
            file = self._files.get(attribute(disk, "fileRef"))
            if attribute(disk, "parentRef"):
                raise ApplianceError("disks with parents can't be imported", where=self._where)
            capacity = number(attribute(disk, "capacity") or "0", "a disk's capacity", self._where)
            size = capacity << self._shift(attribute(disk, "capacityAllocationUnits") or "byte")
            return (file.href if file else ""), size
        if kind == "file":
            file = self._files.get(name)
            if file is None:
                raise ApplianceError(f"there is no file {name[:80]!r}", where=self._where)
            return file.href, None
        return "", None

    def _networks(self, items: list[_Item], settings: Element | None) -> Iterator[Network]:
        # VirtualBox writes addresses only into its own part.
        own = (
            list(vbox.networks(hardware, self._where))
            if (hardware := child(settings, "Hardware")) is not None
            else []
        )
        cards = [item for item in items if item.kind == _ETHERNET]
        for index, item in enumerate(cards):
            extra = own[index] if len(own) == len(cards) else None
            connection = item.get("Connection")
            yield Network(
                model=item.get("ResourceSubType").lower() or (extra.model if extra else ""),
                mac=mac_address(item.get("Address"), self._where) or (extra.mac if extra else None),
                attachment=extra.attachment if extra else _attachment(connection),
                network=connection,
                connected=item.get("AutomaticAllocation").lower() != "false",
            )


class _Item:
    """An <Item>: its children by name."""

    def __init__(self, element: Element | None) -> None:
        self._values = {} if element is None else {local(e.tag): (e.text or "").strip() for e in element}
        kind = self._values.get("ResourceType", "")
        self.kind = int(kind) if kind.isascii() and kind.isdigit() and len(kind) < 6 else -1

    def get(self, name: str) -> str:
        return self._values.get(name, "")


_NO_ITEM = _Item(None)
_KNOWN = {_PROCESSOR, _MEMORY, _ETHERNET, _FLOPPY, _CD, _DVD, _DISK, *_CONTROLLERS}


def _attachment(connection: str) -> Attachment:
    name = connection.lower()
    if not name:
        return Attachment.NONE
    if "bridged" in name:
        return Attachment.BRIDGED
    if "host" in name and "only" in name:
        return Attachment.HOST_ONLY
    return Attachment.NAT if "nat" in name.split() or name == "nat" else Attachment.INTERNAL


def _firmware(hardware: Element, settings: Element | None) -> Firmware:
    for config in children(hardware, "Config"):
        if attribute(config, "key") == "firmware" and attribute(config, "value").lower() == "efi":
            return Firmware.EFI
    inner = child(settings, "Hardware")
    kind = attribute(child(inner, "Firmware"), "type")
    return Firmware.EFI if kind.upper().startswith("EFI") else Firmware.BIOS


def _architecture(os_type: str, number_text: str) -> str:
    """By the operating system's name; CIM numbers above 100 come in pairs of which the second has 64 bits."""
    name = os_type.lower()
    if "arm64" in name or "aarch64" in name:
        return "aarch64"
    if "64" in name:
        return "x86_64"
    return "x86_64" if not name and number_text in ("", "0", "1", "102", "101") else "i386"
