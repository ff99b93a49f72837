"""What a user says about a machine: a pydantic model, which a TOML or YAML file or the command line fills."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from runtime.devices.backends.address import Address
from runtime.devices.backends.serial import FORMS, socket_form
from runtime.devices.virtio.console import MOST_PORTS
from runtime.errors import IsagenError

YAML_SUFFIXES: Final = (".yaml", ".yml")
SUFFIXES: Final = (".toml", *YAML_SUFFIXES)
"""Those of files that describe machines."""
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def bytes_of(value: Any) -> Any:
    """``256M`` as a number of bytes; a number stays."""
    if not isinstance(value, str):
        return value
    text = value.strip().lower().removesuffix("ib").removesuffix("b")
    number, unit = text.rstrip("kmgt"), text[len(text.rstrip("kmgt")) :]
    if not number.isdigit() or unit not in UNITS:
        raise ValueError(f"{value!r} is no size: take a number with K, M, G or T")
    return int(number) * UNITS[unit]


Size = Annotated[int, BeforeValidator(bytes_of)]
MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)
TERMINAL: Final = ("stdio", "mon:stdio")


def _address(text: str) -> str:
    Address.parse(text)
    return text


def _port(text: str) -> str:
    """Where a port leads to, by `runtime.devices.backends.serial.connector`."""
    kind, _, rest = text.partition(":")
    if text in ("none", "pty") or (kind == "file" and rest):
        return text
    if kind not in ("unix", "tcp"):
        raise ValueError(f"{text!r} is nothing to connect a port to: take {FORMS}")
    socket_form(text)
    return text


def _serial(text: str) -> str:
    if text in TERMINAL:
        return text
    try:
        return _port(text)
    except ValueError as error:
        raise ValueError(str(error).replace("take none", "take stdio, none")) from error


def _mac(text: str) -> str:
    if not MAC.fullmatch(text):
        raise ValueError(f"{text!r} is no MAC address such as 52:54:00:12:34:56")
    if int(text[:2], 16) & 1:
        raise ValueError(f"{text} is a group's address: the first number of a card's is even")
    return text.lower()


SocketAddress = Annotated[str, AfterValidator(_address)]
PortPlace = Annotated[str, AfterValidator(_port)]
SerialPlace = Annotated[str, AfterValidator(_serial)]
MacAddress = Annotated[str, AfterValidator(_mac)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Drive(Model):
    """A disk image on a virtio-blk device."""

    path: Path
    format: str | None = None
    """None: the image says so itself; a raw disk has to be named (`raw`)."""
    read_only: bool = False
    snapshot: bool = False
    """Writes are kept in memory and forgotten at the end."""
    serial: str = Field(default="", max_length=20)
    queues: int = Field(default=1, ge=1, le=8)


class Net(Model):
    """A network card: on a stream socket to another machine (ours or QEMU's), else on itself."""

    listen: SocketAddress | None = None
    """Where a peer may connect: unix:PATH or tcp:HOST:PORT."""
    connect: SocketAddress | None = None
    """Where a peer listens."""
    mac: MacAddress | None = None
    """52:54:00:12:34:56, and so on, if None."""
    mtu: int | None = Field(default=None, ge=68, le=65535)

    @model_validator(mode="after")
    def _one_way(self) -> Net:
        if self.listen is not None and self.connect is not None:
            raise ValueError("listen and connect exclude each other")
        return self


class Share(Model):
    """A folder of the host that the guest mounts by its tag (9P)."""

    path: Path
    tag: str = Field(default="share", min_length=1, max_length=31)
    read_only: bool = False


class Console(Model):
    """A port of the virtio console."""

    to: PortPlace = "none"
    """none (Python reaches it), pty, file:PATH, unix:PATH or tcp:HOST:PORT."""
    name: str = Field(default="", max_length=64)
    """What the guest finds below /sys/class/virtio-ports; without a name it is a terminal, hvc0."""


class FlashImage(Model):
    """The contents of a bank of flash memory."""

    path: Path
    read_only: bool = False


class FwCfgFile(Model):
    """A file that firmware and guest read from fw_cfg."""

    name: str = Field(min_length=1, max_length=55)
    file: Path | None = None
    string: str | None = None

    @model_validator(mode="after")
    def _one_content(self) -> FwCfgFile:
        if (self.file is None) == (self.string is None):
            raise ValueError("take either file or string")
        return self


class Settings(Model):
    """A machine. Everything has a default but the board."""

    board: Literal["virt", "virt32"]
    memory: Size = Field(default=128 << 20, ge=16 << 20, le=16 << 30)
    """Bytes of RAM; whole MiB."""
    smp: int = Field(default=1, ge=1, le=8)
    """Harts."""
    isa: str | None = None
    """Extensions, such as rv64gc_zba; the board's choice if None."""
    bios: Literal["default", "sbi", "none"] | Path = "default"
    """Firmware: OpenSBI if it is installed, else (or with `sbi`) our own; `none`; or a file."""
    kernel: Path | None = None
    initrd: Path | None = None
    append: str = ""
    """The kernel's command line."""
    dtb: Path | None = None
    """A device tree instead of the board's own; command line, initrd and memory are put into it."""
    drive: tuple[Drive, ...] = Field(default=(), max_length=6)
    net: tuple[Net, ...] = Field(default=(), max_length=6)
    share: tuple[Share, ...] = Field(default=(), max_length=6)
    serial: SerialPlace = "stdio"
    """The serial port: stdio (the terminal that the machine is started from), or as a console's `to`."""
    console: tuple[Console, ...] = Field(default=(), max_length=MOST_PORTS)
    """Ports of a virtio console."""
    device: tuple[Literal["keyboard", "tablet", "balloon"], ...] = Field(default=(), max_length=6)
    """Further virtio devices."""
    flash: tuple[FlashImage, ...] = Field(default=(), max_length=2)
    """Images of the flash memory's banks. Code in the first one is started in place of a kernel."""
    fw_cfg: tuple[FwCfgFile, ...] = Field(default=(), max_length=64)
    accel: Literal["auto", "engine", "kvm"] = "auto"
    """What executes instructions (`runtime.accel`)."""
    clock: Literal["host", "counted"] = "host"
    threads: Literal["turns", "host"] = "turns"
    """How several harts run: they take turns, or each has a thread of the host."""
    seed: int | None = Field(default=None, ge=0)
    """Random numbers that the guest gets come from it; with the counted clock runs are then identical."""
    epoch: int | None = Field(default=None, ge=0)
    """Seconds since 1970 at the start; the host's time if None (with a seed: 0)."""


def load_settings(path: Path) -> Settings:
    """The machine that a TOML or YAML file describes; paths of files are relative to it. Raises
    IsagenError.
    """
    settings = settings_from(_parsed(path), str(path))
    folder = path.parent

    def placed(part: Model, *names: str) -> Any:
        values = {name: getattr(part, name) for name in names}
        return part.model_copy(update={n: folder / v for n, v in values.items() if isinstance(v, Path)})

    files = {"drive": ("path",), "share": ("path",), "flash": ("path",), "fw_cfg": ("file",)}
    parts = {
        name: tuple(placed(part, *fields) for part in getattr(settings, name))
        for name, fields in files.items()
        if name in settings.model_fields_set
    }
    whole: Settings = placed(settings, "bios", "kernel", "initrd", "dtb")
    return whole.model_copy(update=parts)


def _parsed(path: Path) -> dict[str, Any]:
    """A file's contents, by its suffix."""
    form = "YAML" if path.suffix in YAML_SUFFIXES else "TOML"
    try:
        text = path.read_text()
        data = _yaml(text) if form == "YAML" else tomllib.loads(text)
    except OSError as error:
        what = f"can't be read: {(error.strerror or str(error)).lower()}"
        raise IsagenError(what, where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise IsagenError(f"no {form}: {error}", where=str(path)) from error
    if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
        raise IsagenError("no machine: names and values are expected", where=str(path))
    return data


def _yaml(text: str) -> Any:
    """A YAML document. Raises ValueError where the text is none."""
    import yaml  # type: ignore[import-untyped,unused-ignore]

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def settings_from(data: dict[str, Any], where: str = "") -> Settings:
    """Validated settings. Raises IsagenError that names each wrong value."""
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        ]
        raise IsagenError("; ".join(lines), where=where, remedy="see `isagen boot --schema`") from error
