"""VMware's .vmx: lines of ``key = "value"``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from machines.appliance.errors import ApplianceError
from machines.appliance.xml import mac_address, number
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

MAXIMUM_SIZE = 1 << 20

_LINE = re.compile(r'^\s*([^\s="#]+)\s*=\s*(?:"([^"]*)"|(\S*))\s*$')
_ESCAPE = re.compile(r"\|([0-9A-Fa-f]{2})")
_CONTROLLER = re.compile(r"^(ide|sata|scsi|nvme)(\d{1,2})$")
_DRIVE = re.compile(r"^(ide|sata|scsi|nvme)(\d{1,2}):(\d{1,3})$")
_CARD = re.compile(r"^ethernet(\d{1,2})$")
_MODELS = {Bus.IDE: "piix4", Bus.SATA: "ahci", Bus.SCSI: "lsilogic", Bus.NVME: "nvme"}
_CONNECTIONS = {
    "nat": Attachment.NAT,
    "bridged": Attachment.BRIDGED,
    "hostonly": Attachment.HOST_ONLY,
    "custom": Attachment.INTERNAL,
    "pvn": Attachment.INTERNAL,
}


def parse(data: bytes, path: Path) -> MachineDescription:
    """The machine that the file at `path` describes. Raises `ApplianceError`."""
    return _Vmx(_values(data, str(path)), str(path)).machine(path.stem)


def _values(data: bytes, where: str) -> dict[str, str]:
    """Keys in lower case with their values."""
    if len(data) > MAXIMUM_SIZE:
        raise ApplianceError(f"{len(data)} bytes are too many for a .vmx file", where=where)
    encoding = re.search(rb'^\s*\.encoding\s*=\s*"([\w-]+)"', data, re.MULTILINE)
    try:
        text = data.decode(encoding[1].decode() if encoding else "utf-8", "replace")
    except LookupError:
        text = data.decode("utf-8", "replace")
    if "\0" in text:
        raise ApplianceError("this is no .vmx file: it has zero bytes", where=where)
    result = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match:
            value = match[2] if match[2] is not None else match[3]
            result[match[1].lower()] = _ESCAPE.sub(lambda code: chr(int(code[1], 16)), value)
    if not any(key in result for key in ("config.version", "virtualhw.version", "displayname", "memsize")):
        raise ApplianceError("this is no .vmx file", where=where)
    return result


class _Vmx:
    def __init__(self, values: dict[str, str], where: str) -> None:
        self._values = values
        self._where = where
        self._notes: list[str] = []

    def machine(self, default_name: str) -> MachineDescription:
        controllers = list(self._controllers())
        disks = list(self._drives(controllers))
        guest = self._get("guestos")
        return MachineDescription(
            name=self._get("displayname") or default_name,
            description=self._get("annotation"),
            architecture=_architecture(guest),
            os_type=guest,
            firmware=Firmware.EFI if self._get("firmware").lower() == "efi" else Firmware.BIOS,
            cpus=number(self._get("numvcpus") or "1", "numvcpus", self._where, least=1, most=4096),
            memory=number(self._get("memsize") or "256", "memsize", self._where, least=1, most=1 << 32) << 20,
            uuid=_uuid(self._get("uuid.bios")),
            controllers=tuple(controllers),
            disks=tuple(disks),
            networks=tuple(self._networks()),
            notes=tuple(self._notes),
        )

    def _get(self, key: str) -> str:
        return self._values.get(key, "")

    def _present(self, device: str) -> bool:
        return self._get(f"{device}.present").lower() == "true"

    def _devices(self, pattern: re.Pattern[str]) -> list[re.Match[str]]:
        """The devices that are there, in order of their numbers."""
        names = dict.fromkeys(key.rpartition(".")[0] for key in self._values)
        found = [match for name in names if (match := pattern.match(name)) and self._present(name)]
        return sorted(found, key=lambda match: [int(part) for part in match.groups() if part.isdigit()])

    def _controllers(self) -> Iterator[Controller]:
        names = {match[0] for match in self._devices(_CONTROLLER)}
        # IDE channels have no lines of their own.
        names |= {match[0].partition(":")[0] for match in self._devices(_DRIVE)}
        for name in sorted(names):
            match = _CONTROLLER.match(name)
            assert match is not None
            bus = Bus(match[1])
            model = self._get(f"{name}.virtualdev").lower() or _MODELS[bus]
            if model == "lsisas1068":
                bus = Bus.SAS
            yield Controller(name=name, bus=bus, model=model, number=int(match[2]))
        if self._present("floppy0"):
            yield Controller(name="floppy", bus=Bus.FLOPPY, model="i82078")

    def _drives(self, controllers: list[Controller]) -> Iterator[Disk]:
        for match in self._devices(_DRIVE):
            name = match[0]
            kind = self._get(f"{name}.devicetype").lower()
            cdrom = "cdrom" in kind
            file = self._get(f"{name}.filename")
            if kind == "cdrom-raw" or file.lower() == "auto detect":
                file = ""
            if "://" in file:
                raise ApplianceError(f"a disk can't be at {file[:100]!r}", where=self._where)
            yield Disk(
                controller=name.partition(":")[0],
                port=int(match[3]),
                medium=Medium.CDROM if cdrom else Medium.DISK,
                file=file,
                format="raw" if cdrom else "",
                read_only=cdrom,
            )
        if any(controller.bus is Bus.FLOPPY for controller in controllers):
            image = self._get("floppy0.filetype").lower() == "file"
            file = self._get("floppy0.filename") if image else ""
            yield Disk(controller="floppy", medium=Medium.FLOPPY, file=file, format="raw")

    def _networks(self) -> Iterator[Network]:
        for match in self._devices(_CARD):
            card = match[0]
            static = self._get(f"{card}.addresstype").lower() == "static"
            address = self._get(f"{card}.address") if static else self._get(f"{card}.generatedaddress")
            kind = self._get(f"{card}.connectiontype").lower() or "bridged"
            if kind not in _CONNECTIONS:
                self._notes.append(f"{card}: connection type {kind!r} isn't known")
            yield Network(
                model=self._get(f"{card}.virtualdev").lower() or "vlance",
                mac=mac_address(address or self._get(f"{card}.address"), self._where),
                attachment=_CONNECTIONS.get(kind, Attachment.NONE),
                network=self._get(f"{card}.networkname") or self._get(f"{card}.vnet"),
                connected=self._get(f"{card}.startconnected").lower() != "false",
            )


def _architecture(guest: str) -> str:
    name = guest.lower()
    if name.startswith("arm-") or "arm64" in name:
        return "aarch64"
    return "x86_64" if "64" in name or not name else "i386"


def _uuid(text: str) -> str:
    """VMware writes "56 4d ... 2e-94 ..."."""
    digits = re.sub(r"[^0-9a-fA-F]", "", text).lower()
    if len(digits) != 32:
        return ""
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
