"""A machine's whole state as a value, and as a file.

A snapshot is a model (`MachineState`: clock, CPUs, devices) and images of the RAMs, in memory files, so that
restoring maps them copy-on-write and takes no longer for more memory.

The file: `MAGIC`, the header's length and CRC-32, the header (JSON), then the RAMs, each from a multiple of
`ALIGNMENT` on. Chunks of zeros are holes; the header has a CRC-32 for every other chunk.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.errors import IsagenError
from runtime.memory.space import Ram

MAGIC: Final = b"isagen machine 1\n"
LENGTHS: Final = struct.Struct("<QI")
LARGEST_HEADER: Final = 64 << 20
ALIGNMENT: Final = 1 << 20
CHUNK: Final = 1 << 20
ZEROS: Final = bytes(CHUNK)


class SnapshotError(IsagenError):
    """A snapshot that can't be used, or a file that is none."""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class CpuState(Model):
    """A CPU: its registers as they lie in its block, and what the engine keeps beside them."""

    registers: bytes
    pc: int
    next_pc: int
    retired: int
    executed: int
    spent: int = 0
    waiting: bool = False
    lines: int = 0


class Round(Model):
    """How far a round of the machine's harts is: it began at `start` (nanoseconds of the clock) and gives each
    hart `size` instructions; `hart` is the position of the one that runs, and `used` what it has of its
    slice; `longest` is the longest slice before.
    """

    start: int
    size: int
    hart: int = 0
    used: int = 0
    longest: int = 0


class RamImage(Model):
    """A RAM: its size, and the CRC-32 of each chunk that isn't all zeros, by number."""

    size: int = Field(gt=0, le=1 << 40)
    chunks: dict[int, int]


class MachineState(Model):
    """All but the RAMs' contents. `board` and `layout` say which machines can take it over."""

    board: dict[str, Any]
    target: str
    layout: str
    clock: int
    ticks: int
    spent: int
    round: Round | None = None
    cpus: list[CpuState]
    devices: dict[str, Any]
    memory: dict[str, RamImage] = Field(default_factory=dict)


class Snapshot:
    """A state and the RAMs' contents; it doesn't change, and may be restored any number of times."""

    def __init__(self, state: MachineState, files: Mapping[str, int]) -> None:
        self.state = state
        self._files = dict(files)

    def __del__(self) -> None:
        for file in self._files.values():
            with contextlib.suppress(OSError):
                os.close(file)

    @classmethod
    def take(cls, state: MachineState, memory: Mapping[str, Ram]) -> Snapshot:
        """Copy the RAMs. `state.memory` is filled in."""
        files = {}
        for name, ram in memory.items():
            file = files[name] = os.memfd_create(f"snapshot-{name}", os.MFD_CLOEXEC)
            os.ftruncate(file, ram.size)
            chunks = {}
            for number, data in _chunks_of(ram):
                if data != ZEROS[: len(data)]:
                    os.pwrite(file, data, number * CHUNK)
                    chunks[number] = zlib.crc32(data)
            state.memory[name] = RamImage(size=ram.size, chunks=chunks)
        return cls(state, files)

    def ram(self, name: str) -> Ram:
        """A fresh copy-on-write mapping of a RAM's contents."""
        return Ram(self.state.memory[name].size, copy_of=self._files[name])

    # --- files ------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file; an old one of that name stays until the new one is whole."""
        header = self.state.model_dump_json().encode()
        whole = Path(path)
        part = whole.with_name(whole.name + ".part")
        with part.open("wb") as file:
            file.write(MAGIC + LENGTHS.pack(len(header), zlib.crc32(header)) + header)
            start = file.tell()
            for name, image in sorted(self.state.memory.items()):
                start = _aligned(start)
                for number in sorted(image.chunks):
                    size = min(CHUNK, image.size - number * CHUNK)
                    data = os.pread(self._files[name], size, number * CHUNK)
                    file.seek(start + number * CHUNK)
                    file.write(data)
                start += image.size
            file.truncate(start)
            file.flush()
            os.fsync(file.fileno())
        part.replace(whole)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshot:
        """Read a file. Raises SnapshotError for one that is damaged or none, and OSError."""
        where = os.fspath(path)
        files: dict[str, int] = {}
        with Path(path).open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise SnapshotError("no snapshot of a machine, or one of another version", where=where)
            lengths = file.read(LENGTHS.size)
            if len(lengths) < LENGTHS.size:
                raise SnapshotError("a damaged snapshot: it ends early", where=where)
            length, checksum = LENGTHS.unpack(lengths)
            header = file.read(length) if length <= LARGEST_HEADER else b""
            if len(header) != length or zlib.crc32(header) != checksum:
                raise SnapshotError("a damaged snapshot: its header's checksum is wrong", where=where)
            try:
                state = MachineState.model_validate_json(header)
            except ValidationError as error:
                what = "a snapshot of another version: " + str(error.errors()[0]["msg"])
                raise SnapshotError(what, where=where) from error
            try:
                start = file.tell()
                for name, image in sorted(state.memory.items()):
                    start = _aligned(start)
                    copy = files[name] = os.memfd_create(f"snapshot-{name}", os.MFD_CLOEXEC)
                    os.ftruncate(copy, image.size)
                    for number, data in _saved_chunks(file.fileno(), start, image):
                        if zlib.crc32(data) != image.chunks[number]:
                            at = start + number * CHUNK
                            what = f"a damaged snapshot: the checksum of memory at offset {at:#x} is wrong"
                            raise SnapshotError(what, where=where)
                        os.pwrite(copy, data, number * CHUNK)
                    start += image.size
            except BaseException:
                for opened in files.values():
                    os.close(opened)
                raise
        return cls(state, files)


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _saved_chunks(file: int, start: int, image: RamImage) -> Iterator[tuple[int, bytes]]:
    for number in sorted(image.chunks):
        if not 0 <= number * CHUNK < image.size:
            yield number, b""  # no checksum fits
            return
        size = min(CHUNK, image.size - number * CHUNK)
        yield number, os.pread(file, size, start + number * CHUNK)


def _chunks_of(ram: Ram) -> Iterator[tuple[int, bytes]]:
    """The chunks that may hold something, with their numbers. Holes of a memory file aren't touched."""
    end = 0
    while end < ram.size:
        start = end
        if ram.file is not None:
            try:
                start = os.lseek(ram.file, end, os.SEEK_DATA) // CHUNK * CHUNK
            except OSError:
                return  # only holes are left
        end = min(start + CHUNK, ram.size)
        yield start // CHUNK, ram.memory[start:end]
