"""Exporting a machine as an OVA: descriptor, manifest and streamOptimized disks in a tar archive.

The order of the files is the one that DMTF DSP0243 asks for, so that a reader needs to see the archive
only once.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from machines.appliance import manifest
from machines.appliance.errors import ApplianceError
from machines.description import Attachment, Bus, Controller, Disk, Firmware, MachineDescription, Medium
from runtime.block.image import Image
from runtime.block.jobs.convert import Request, convert, identity_of
from runtime.block.jobs.progress import Progress, silent
from runtime.block.protocol.file import FileNode

_OVF = "http://schemas.dmtf.org/ovf/envelope/1"
_RASD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
_VSSD = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"
_VMW = "http://www.vmware.com/schema/ovf"
_STREAM_OPTIMIZED = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
_RESOURCES = {Bus.IDE: 5, Bus.SCSI: 6, Bus.SAS: 6, Bus.VIRTIO: 6, Bus.SATA: 20, Bus.NVME: 20, Bus.USB: 23}
_MODELS = {
    Bus.SCSI: "lsilogic",
    Bus.SAS: "lsilogicsas",
    Bus.VIRTIO: "VirtIOSCSI",
    Bus.IDE: "PIIX4",
    Bus.SATA: "AHCI",
    Bus.NVME: "vmware.nvme.controller",
    Bus.USB: "usb",
}
_CARDS = {"e1000": "E1000", "e1000e": "E1000e", "vmxnet3": "VmxNet3", "pcnet": "PCNet32", "vlance": "PCNet32"}
_LARGEST_USTAR = 8 << 30


@dataclass(frozen=True)
class _Exported:
    """A disk in the archive: file name, bytes of the file, bytes of the disk."""

    name: str
    path: Path
    size: int
    capacity: int


def export_machine(
    machine: MachineDescription,
    base: Path,
    target: Path,
    *,
    hash_name: str = "sha256",
    progress: Callable[[str], Progress] = lambda title: silent,
) -> None:
    """Write `machine`, whose disks are named as seen from the folder `base`, into the OVA `target`.

    The target appears when it is complete. Raises `ApplianceError` and what disks raise.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            disks = _convert_disks(machine, base, Path(scratch), target.stem, progress)
            descriptor = _descriptor(machine, disks)
            _write(partial, target.stem, descriptor, disks, hash_name)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _convert_disks(
    machine: MachineDescription,
    base: Path,
    scratch: Path,
    stem: str,
    progress: Callable[[str], Progress],
) -> dict[int, _Exported]:
    """The disks by their index in the machine."""
    result = {}
    for index, disk in enumerate(machine.disks):
        if not disk.file:
            continue
        source = base / disk.file
        plain = disk.medium is not Medium.DISK
        name = f"{stem}-disk{index}.{'iso' if plain else 'vmdk'}"
        with Image.open(source, disk.format or None, allow=source.parent) as image:
            request = Request(
                image.node,
                identity_of(str(source), image.node),
                str(scratch / name),
                "raw" if plain else "vmdk",
                {} if plain else {"subformat": "streamOptimized"},
            )
            convert(request, progress=progress(name))
            size = (scratch / name).stat().st_size
            result[index] = _Exported(name, scratch / name, size, image.size)
    return result


def _write(path: Path, stem: str, descriptor: bytes, disks: dict[int, _Exported], hash_name: str) -> None:
    lines = [_line(hash_name, f"{stem}.ovf", hashlib.new(hash_name, descriptor).hexdigest())]
    for disk in disks.values():
        with FileNode(disk.path) as node:
            lines.append(_line(hash_name, disk.name, manifest.digest(node, hash_name)))
    large = any(disk.size >= _LARGEST_USTAR for disk in disks.values())
    # The standard asks for USTAR, which has no place for larger sizes: there, as other programs do.
    format = tarfile.GNU_FORMAT if large else tarfile.USTAR_FORMAT
    with tarfile.open(path, "w", format=format) as archive:
        for name, data in ((f"{stem}.ovf", descriptor), (f"{stem}.mf", "".join(lines).encode())):
            archive.addfile(_member(name, len(data)), io.BytesIO(data))
        for disk in disks.values():
            with disk.path.open("rb") as file:
                archive.addfile(_member(disk.name, disk.size), file)
            disk.path.unlink()
    with path.open("rb") as written:
        os.fsync(written.fileno())


def _line(hash_name: str, name: str, digest: str) -> str:
    return f"{hash_name.upper()}({name})= {digest}\n"


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member


def _descriptor(machine: MachineDescription, disks: dict[int, _Exported]) -> bytes:
    for prefix, space in (("ovf", _OVF), ("rasd", _RASD), ("vssd", _VSSD), ("vmw", _VMW)):
        ElementTree.register_namespace(prefix, space)
    root = Element(_name("Envelope"))
    references = _add(root, "References")
    for index, disk in disks.items():
        _add(references, "File", href=disk.name, id=f"file{index}", size=str(disk.size))
    section = _add(root, "DiskSection")
    _text(section, "Info", "The machine's disks")
    for index, disk in disks.items():
        if machine.disks[index].medium is Medium.DISK:
            _add(
                section,
                "Disk",
                capacity=str(disk.capacity),
                capacityAllocationUnits="byte",
                diskId=f"disk{index}",
                fileRef=f"file{index}",
                format=_STREAM_OPTIMIZED,
            )
    section = _add(root, "NetworkSection")
    _text(section, "Info", "The networks that the machine is connected to")
    for name in dict.fromkeys(
        _connection(network.network, network.attachment) for network in machine.networks
    ):
        _add(section, "Network", name=name)
    system = _add(root, "VirtualSystem", id=machine.name)
    _text(system, "Info", "A virtual machine")
    _text(system, "Name", machine.name)
    if machine.description:
        annotation = _add(system, "AnnotationSection")
        _text(annotation, "Info", "What the machine is for")
        _text(annotation, "Annotation", machine.description)
    guest = _add(system, "OperatingSystemSection", id="102" if machine.architecture == "x86_64" else "1")
    if machine.os_type:
        guest.set(f"{{{_VMW}}}osType", machine.os_type)
    _text(guest, "Info", "The guest's operating system")
    if machine.os_type:
        _text(guest, "Description", machine.os_type)
    _hardware(system, machine, disks)
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data


def _hardware(system: Element, machine: MachineDescription, disks: dict[int, _Exported]) -> None:
    hardware = _add(system, "VirtualHardwareSection")
    _text(hardware, "Info", "The machine's devices")
    settings = _add(hardware, "System")
    _field(settings, _VSSD, "ElementName", "Virtual Hardware Family")
    _field(settings, _VSSD, "InstanceID", "0")
    _field(settings, _VSSD, "VirtualSystemIdentifier", machine.name)
    _field(settings, _VSSD, "VirtualSystemType", "vmx-10")
    items = _Items(hardware)
    items.add(
        ElementName=f"{machine.cpus} processors",
        ResourceType="3",
        AllocationUnits="hertz * 10^6",
        VirtualQuantity=str(machine.cpus),
    )
    items.add(
        ElementName="Memory",
        ResourceType="4",
        AllocationUnits="byte * 2^20",
        VirtualQuantity=str(machine.memory >> 20),
    )
    parents = {}
    for controller in machine.controllers:
        if controller.bus is not Bus.FLOPPY:
            parents[controller.name] = items.add(
                ElementName=controller.name,
                Address=str(controller.number),
                ResourceSubType=_model(controller),
                ResourceType=str(_RESOURCES[controller.bus]),
            )
    for index, disk in enumerate(machine.disks):
        _drive(items, disk, parents, index, disks.get(index))
    for number, network in enumerate(machine.networks):
        address = {"Address": network.mac} if network.mac else {}
        items.add(
            ElementName=f"Network card {number}",
            ResourceType="10",
            ResourceSubType=_CARDS.get(network.model, network.model or "E1000"),
            Connection=_connection(network.network, network.attachment),
            AutomaticAllocation="true" if network.connected else "false",
            **address,
        )
    if machine.firmware is Firmware.EFI:
        config = Element(f"{{{_VMW}}}Config")
        config.set(_name("required"), "false")
        config.set(f"{{{_VMW}}}key", "firmware")
        config.set(f"{{{_VMW}}}value", "efi")
        hardware.append(config)


def _drive(
    items: _Items, disk: Disk, parents: dict[str, str], index: int, exported: _Exported | None
) -> None:
    kinds = {Medium.DISK: "17", Medium.CDROM: "15", Medium.FLOPPY: "14"}
    fields = {
        "ElementName": f"{disk.medium} {index}",
        "ResourceType": kinds[disk.medium],
        "AddressOnParent": str(disk.port * 2 + disk.unit if disk.unit else disk.port),
    }
    if disk.medium is not Medium.FLOPPY:
        if disk.controller not in parents:
            raise ApplianceError(
                f"the disk {disk.file!r} is at no controller", remedy="name one in the description"
            )
        fields["Parent"] = parents[disk.controller]
    if exported is not None:
        fields["HostResource"] = f"ovf:/{'disk/disk' if disk.medium is Medium.DISK else 'file/file'}{index}"
    items.add(**fields)


class _Items:
    """Appends <Item> elements, numbered."""

    def __init__(self, hardware: Element) -> None:
        self._hardware = hardware
        self._count = 0

    def add(self, **fields: str) -> str:
        """The new item's InstanceID. The schema wants its children in alphabetical order."""
        self._count += 1
        item = _add(self._hardware, "Item")
        for name, value in sorted({**fields, "InstanceID": str(self._count)}.items()):
            _field(item, _RASD, name, value)
        return str(self._count)


def _model(controller: Controller) -> str:
    known = {
        "lsilogic": "lsilogic",
        "buslogic": "buslogic",
        "pvscsi": "VirtualSCSI",
        "virtualscsi": "VirtualSCSI",
    }
    if controller.bus is Bus.SCSI and controller.model in known:
        return known[controller.model]
    return _MODELS[controller.bus]


def _connection(network: str, attachment: Attachment) -> str:
    return network or {Attachment.NAT: "NAT", Attachment.BRIDGED: "bridged"}.get(attachment, attachment.value)


def _name(name: str) -> str:
    return f"{{{_OVF}}}{name}"


def _add(parent: Element, name: str, /, **attributes: str) -> Element:
    element = ElementTree.SubElement(parent, _name(name))
    for key, value in attributes.items():
        element.set(_name(key), value)
    return element


def _text(parent: Element, name: str, text: str) -> None:
    _add(parent, name).text = text


def _field(parent: Element, space: str, name: str, text: str) -> None:
    ElementTree.SubElement(parent, f"{{{space}}}{name}").text = text
