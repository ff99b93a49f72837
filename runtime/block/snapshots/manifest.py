"""snapshots.json: which snapshots an image has."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from runtime.block.errors import ImageCorrupt, ImageIOError

NAME = "snapshots.json"
_MAX_BYTES = 4 << 20
_STORE = re.compile(r"(\d{4,9})\.(qcow2|vmstate)")


class Entry(BaseModel):
    """One snapshot. Sizes in bytes, times in nanoseconds (`date_ns` since 1970, `vm_clock_ns` of the guest).
    """

    model_config = ConfigDict(extra="forbid")

    id: int = Field(ge=1, le=999_999_999)
    name: str = Field(min_length=1, max_length=1024)
    size: int = Field(ge=0, lt=1 << 63)
    date_ns: int = Field(ge=0)
    vm_state_size: int = Field(default=0, ge=0)
    vm_clock_ns: int = Field(default=0, ge=0)

    @property
    def store(self) -> str:
        return f"{self.id:04}.qcow2"

    @property
    def vm_state(self) -> str:
        return f"{self.id:04}.vmstate"


class Manifest(BaseModel):
    """The file. `stamp` is what the image's files were when we closed them last; None while we write.

    `applying`: the disk is being turned into this snapshot; whoever opens it next goes on. `foreign`: another
    program has written to the image, so that snapshots may mix old and new data.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    next_id: int = Field(default=1, ge=1)
    snapshots: list[Entry] = Field(default_factory=list, max_length=4096)  # oldest first
    applying: int | None = None
    stamp: list[tuple[int, int]] | None = None
    foreign: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        ids = [entry.id for entry in self.snapshots]
        if len(set(ids)) != len(ids) or len({entry.name for entry in self.snapshots}) != len(ids):
            raise ValueError("two snapshots share an id or a name")
        if self.applying is not None and self.applying not in ids:
            raise ValueError("the snapshot being applied doesn't exist")
        if ids and max(ids) >= self.next_id:
            raise ValueError("next_id is in use")
        return self


def load(folder: Path) -> Manifest | None:
    """The folder's manifest, None if there is none. Raises ImageCorrupt, ImageIOError."""
    path = folder / NAME
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ImageIOError("can't read", errno=error.errno or 0, where=str(path)) from error
    try:
        if len(data) > _MAX_BYTES:
            raise ValueError("it's too long")
        return Manifest.model_validate_json(data)
    except (ValidationError, ValueError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ImageCorrupt(
            f"the list of snapshots can't be read: {first}",
            offset=0,
            field=NAME,
            where=str(path),
            remedy="the disk itself is whole: move the folder away to use it without its snapshots",
        ) from error


def save(folder: Path, manifest: Manifest) -> None:
    """Replace the manifest, durably and as a whole. Raises ImageIOError."""
    temporary = folder / f"{NAME}.new"
    try:
        with temporary.open("wb") as file:
            file.write(manifest.model_dump_json(indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / NAME)
        sync_folder(folder)
    except OSError as error:
        raise ImageIOError("can't write", errno=error.errno or 0, where=str(temporary)) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def orphans(folder: Path, manifest: Manifest) -> list[Path]:
    """Files of snapshots that aren't in the manifest: a crash came before they were, or after they weren't.
    """
    known = {name for entry in manifest.snapshots for name in (entry.store, entry.vm_state)}
    return sorted(path for path in folder.iterdir() if _STORE.fullmatch(path.name) and path.name not in known)
