"""What a user says about a machine: a pydantic model, which a TOML file or the command line fills."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from runtime.errors import IsagenError

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
    """A device tree instead of the board's own. Command line and initrd aren't put into it."""
    drive: tuple[Drive, ...] = Field(default=(), max_length=6)
    clock: Literal["host", "counted"] = "host"
    seed: int | None = Field(default=None, ge=0)
    """Random numbers that the guest gets come from it; with the counted clock runs are then identical."""
    epoch: int | None = Field(default=None, ge=0)
    """Seconds since 1970 at the start; the host's time if None (with a seed: 0)."""


def load_settings(path: Path) -> Settings:
    """The machine that a TOML file describes; its paths are relative to the file. Raises IsagenError."""
    try:
        data = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise IsagenError(f"no TOML: {error}", where=str(path)) from error
    settings = settings_from(data, str(path))
    folder = path.parent
    places = {
        name: folder / value
        for name in ("bios", "kernel", "initrd", "dtb")
        if isinstance(value := getattr(settings, name), Path)
    }
    drives = tuple(drive.model_copy(update={"path": folder / drive.path}) for drive in settings.drive)
    return settings.model_copy(update={**places, "drive": drives})


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
