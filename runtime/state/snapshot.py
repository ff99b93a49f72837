"""A machine's whole state as a value, and as a file.

A snapshot is a model (`MachineState`: clock, CPUs, devices) and images of the RAMs, in files, so that
restoring maps them copy-on-write and takes no longer for more memory.

As bytes: `MAGIC`, the header's length and CRC-32, the header (JSON), then the RAMs, each from a multiple of
`ALIGNMENT` on. Chunks of zeros are holes; the header has a CRC-32 for every other chunk.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from isal.isal_zlib import crc32
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from runtime.errors import IsagenError
from runtime.memory.space import Ram

MAGIC: Final = b"isagen machine 2\n"
FAMILY: Final = b"isagen machine "
LENGTHS: Final = struct.Struct("<QI")
LARGEST_HEADER: Final = 64 << 20
ALIGNMENT: Final = 1 << 20
CHUNK: Final = 1 << 20
ZEROS: Final = bytes(CHUNK)

Put = Callable[[int, bytes | memoryview], object]
"""``put(offset, data)`` writes."""
Get = Callable[[int, int], bytes | memoryview]
"""``get(offset, size)`` reads; fewer bytes where there are no more."""


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


@dataclass(config=ConfigDict(extra="forbid"), slots=True)
class Round:
    """How far a round of the machine's harts is: it began at `start` (nanoseconds of the clock) and gives
    each hart `size` instructions; `hart` is the position of the one that runs, and `used` what it has of its
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


class Build(Model):
    """What made the machine: a state fits only the same. `spec` and `code` are digests."""

    target: str
    spec: str
    """Of how registers lie in a CPU's state."""
    code: str
    """Of all that the target was built from."""


class MachineState(Model):
    """All but the RAMs' contents. `board` and `build` say which machines can take it over."""

    board: dict[str, Any]
    build: Build
    clock: int
    ticks: int
    spent: int
    round: Round | None = None
    random: tuple[int, tuple[int, ...], float | None] | None = None
    """The generator of random numbers for the guest, where it was seeded (`random.Random.getstate`)."""
    cpus: list[CpuState]
    devices: dict[str, Any]
    memory: dict[str, RamImage] = Field(default_factory=dict)


class Snapshot:
    """A state and the RAMs' contents; it doesn't change, and may be restored any number of times.

    `images`: a file and an offset in it for each RAM; the files are closed with the snapshot.
    """

    def __init__(self, state: MachineState, images: Mapping[str, tuple[int, int]]) -> None:
        self.state = state
        self._images = dict(images)

    def __del__(self) -> None:
        for file in {file for file, _ in self._images.values()}:
            with contextlib.suppress(OSError):
                os.close(file)

    @classmethod
    def take(cls, state: MachineState, memory: Mapping[str, Ram]) -> Snapshot:
        """Copy the RAMs. `state.memory` is filled in."""
        snapshot = cls(state, {})
        for name, ram in memory.items():
            file = _memory_file(name, ram.size)
            snapshot._images[name] = file, 0
            chunks = {}
            for number, data in _chunks_of(ram):
                if data != ZEROS[: len(data)]:
                    os.pwrite(file, data, number * CHUNK)
                    chunks[number] = crc32(data)
            state.memory[name] = RamImage(size=ram.size, chunks=chunks)
        return snapshot

    def ram(self, name: str) -> Ram:
        """A fresh copy-on-write mapping of a RAM's contents."""
        file, offset = self._images[name]
        return Ram(self.state.memory[name].size, copy_of=file, offset=offset)

    # --- as bytes ---------------------------------------------------------------------------------------

    def write(self, put: Put) -> int:
        """Write the snapshot by way of `put`, all but the holes; how many bytes it takes with them."""
        header = self.state.model_dump_json().encode()
        start = len(MAGIC) + LENGTHS.size + len(header)
        put(0, MAGIC + LENGTHS.pack(len(header), crc32(header)) + header)
        for name, image in sorted(self.state.memory.items()):
            start = _aligned(start)
            file, offset = self._images[name]
            for number in sorted(image.chunks):
                size = min(CHUNK, image.size - number * CHUNK)
                put(start + number * CHUNK, os.pread(file, size, offset + number * CHUNK))
            start += image.size
        return start

    @classmethod
    def read(cls, get: Get, where: str = "") -> Snapshot:
        """Read one by way of `get`; the RAMs are copied. Raises SnapshotError."""
        state, start = _header(get, where)
        snapshot = cls(state, {})
        for name, image, offset in _places(state, start):
            file = _memory_file(name, image.size)
            snapshot._images[name] = file, 0
            for number, data in _checked_chunks(get, image, offset, where):
                os.pwrite(file, data, number * CHUNK)
        return snapshot

    # --- files ------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file; an old one of that name stays until the new one is whole."""
        whole = Path(path)
        part = whole.with_name(whole.name + ".part")
        try:
            with part.open("wb") as file:

                def put(offset: int, data: bytes | memoryview) -> None:
                    file.seek(offset)
                    file.write(data)

                file.truncate(self.write(put))
                file.flush()
                os.fsync(file.fileno())
            part.replace(whole)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Snapshot:
        """Read a file. Its memory is mapped, not copied: it has to stay as it is while the snapshot and what
        was restored from it are in use (a file of that name that `save` writes is another one).

        Raises SnapshotError for one that is damaged or none, and OSError.
        """
        where = os.fspath(path)
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            state, start = _header(lambda offset, size: os.pread(file, size, offset), where)
            places = list(_places(state, start))
            end = max((offset + image.size for _, image, offset in places), default=start)
            if os.fstat(file).st_size < end:
                raise SnapshotError("a damaged snapshot: it ends early", where=where)
            view = memoryview(mmap.mmap(file, end, access=mmap.ACCESS_READ))
            for _, image, offset in places:
                for _ in _checked_chunks(lambda at, size: view[at : at + size], image, offset, where):
                    pass
        except BaseException:
            os.close(file)
            raise
        return cls(state, {name: (file, offset) for name, _, offset in places})


def _memory_file(name: str, size: int) -> int:
    file = os.memfd_create(f"snapshot-{name}", os.MFD_CLOEXEC)
    os.ftruncate(file, size)
    return file


def _header(get: Get, where: str) -> tuple[MachineState, int]:
    """The model, and where the header ends."""
    magic = bytes(get(0, len(MAGIC)))
    if magic != MAGIC:
        what = "a snapshot of another version" if magic.startswith(FAMILY) else "no snapshot of a machine"
        raise SnapshotError(what, where=where)
    start = len(MAGIC) + LENGTHS.size
    lengths = bytes(get(len(MAGIC), LENGTHS.size))
    if len(lengths) < LENGTHS.size:
        raise SnapshotError("a damaged snapshot: it ends early", where=where)
    length, checksum = LENGTHS.unpack(lengths)
    header = bytes(get(start, length)) if length <= LARGEST_HEADER else b""
    if len(header) != length or crc32(header) != checksum:
        raise SnapshotError("a damaged snapshot: its header's checksum is wrong", where=where)
    try:
        return MachineState.model_validate_json(header), start + length
    except ValidationError as error:
        what = "a snapshot of another version: " + str(error.errors()[0]["msg"])
        raise SnapshotError(what, where=where) from error


def _places(state: MachineState, start: int) -> Iterator[tuple[str, RamImage, int]]:
    """Each RAM's name, image and offset."""
    for name, image in sorted(state.memory.items()):
        start = _aligned(start)
        yield name, image, start
        start += image.size


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def _checked_chunks(get: Get, image: RamImage, start: int, where: str) -> Iterator[tuple[int, Any]]:
    """The chunks that aren't zeros. Raises SnapshotError where a checksum is wrong."""
    for number in sorted(image.chunks):
        at = start + number * CHUNK
        size = min(CHUNK, image.size - number * CHUNK) if number >= 0 else 0
        data = get(at, size) if size > 0 else b""
        if len(data) != size or size <= 0 or crc32(data) != image.chunks[number]:
            what = f"a damaged snapshot: the checksum of memory at offset {at:#x} is wrong"
            raise SnapshotError(what, where=where)
        yield number, data


def _chunks_of(ram: Ram) -> Iterator[tuple[int, bytes]]:
    """The chunks that may hold something, with their numbers."""
    for number in ram.used(CHUNK):
        start = number * CHUNK
        yield number, ram.memory[start : min(start + CHUNK, ram.size)]
