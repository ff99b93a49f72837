"""What a virtual machine consists of, whatever program it comes from: the board description.

Importers make it, exporters and the machine itself read it. As a file it is TOML or JSON; paths of disks are
relative to that file.
"""

from __future__ import annotations

import json
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from runtime.errors import IsagenError

MAXIMUM_FILE = 1 << 20

Mac = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")]
"""Six bytes in lower-case hexadecimal, with colons."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Bus(StrEnum):
    """What a storage controller speaks."""

    IDE = "ide"
    SATA = "sata"
    SCSI = "scsi"
    SAS = "sas"
    NVME = "nvme"
    USB = "usb"
    FLOPPY = "floppy"
    VIRTIO = "virtio"


class Medium(StrEnum):
    DISK = "disk"
    CDROM = "cdrom"
    FLOPPY = "floppy"


class Firmware(StrEnum):
    BIOS = "bios"
    EFI = "efi"


class Attachment(StrEnum):
    """Where the cable of a network card goes."""

    NONE = "none"
    NAT = "nat"
    BRIDGED = "bridged"
    HOST_ONLY = "host-only"
    INTERNAL = "internal"


class Controller(_Model):
    """A storage controller. `model` is the chip in QEMU's and VirtualBox's usual lower-case names."""

    name: str
    bus: Bus
    model: str = ""
    number: int = 0  # among those of its bus


class Disk(_Model):
    """A drive at `port` (and `unit`, for buses with two drives a port) of the controller called `controller`.

    `file` is empty for a drive without a medium; `size` is the disk's size in bytes.
    """

    controller: str
    port: int = Field(default=0, ge=0, le=65535)
    unit: int = Field(default=0, ge=0, le=255)
    medium: Medium = Medium.DISK
    file: str = ""
    format: str = ""
    size: int | None = Field(default=None, ge=0)
    read_only: bool = False


class Network(_Model):
    """A network card. `mac` is None where the source leaves the address to chance."""

    model: str = ""
    mac: Mac | None = None
    attachment: Attachment = Attachment.NAT
    network: str = ""  # the host's interface or the network's name
    connected: bool = True


class MachineDescription(_Model):
    """A machine. `memory` is in bytes."""

    name: str = Field(min_length=1, max_length=256)
    description: str = ""
    architecture: str = "x86_64"
    os_type: str = ""  # as the source names it
    firmware: Firmware = Firmware.BIOS
    cpus: int = Field(default=1, ge=1, le=4096)
    memory: int = Field(default=512 << 20, ge=1 << 20, le=1 << 52)
    uuid: str = ""
    controllers: tuple[Controller, ...] = ()
    disks: tuple[Disk, ...] = ()
    networks: tuple[Network, ...] = ()
    notes: tuple[str, ...] = ()  # what the source says and isn't carried over

    def controller(self, name: str) -> Controller:
        """The controller of that name. Raises `IsagenError`."""
        for controller in self.controllers:
            if controller.name == name:
                return controller
        raise IsagenError(f"the machine has no controller {name!r}", where=self.name)


def dump(machine: MachineDescription, path: Path) -> None:
    """Write the description, as JSON if the file's extension says so, else as TOML."""
    values: dict[str, Any] = machine.model_dump(mode="json", exclude_defaults=True)
    if path.suffix == ".json":
        text = json.dumps(values, indent=2) + "\n"
    else:
        import tomli_w

        text = tomli_w.dumps(_without_none(values))
    path.write_text(text)


def _without_none(value: Any) -> Any:
    """TOML has no null."""
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def load(path: Path) -> MachineDescription:
    """Read a description. Raises `IsagenError` naming the field."""
    if path.stat().st_size > MAXIMUM_FILE:
        raise IsagenError("this is too large for a machine's description", where=str(path))
    text = path.read_text()
    try:
        values = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return MachineDescription.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise IsagenError(f"{field}: {first['msg']}", where=str(path)) from None
    except ValueError as error:
        raise IsagenError(f"the file can't be read: {error}", where=str(path)) from None
