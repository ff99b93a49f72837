"""What a machine starts with: firmware, kernels and initial RAM disks, from files into guest memory."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtime.elf import ElfFile, open_elf
from runtime.elf import constants as c
from runtime.errors import IsagenError
from runtime.memory.space import AddressError, AddressSpace

ELF_MAGIC: Final = b"\x7fELF"
GZIP_MAGIC: Final = b"\x1f\x8b"
LARGEST: Final = 512 << 20
"""Most bytes of an image, unpacked."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image in memory: its first address, the address behind it, and where it starts."""

    start: int
    end: int
    entry: int


def file_bytes(path: Path) -> bytes:
    """A file's bytes, unpacked if it is a gzip file. Raises IsagenError and OSError."""
    if path.stat().st_size > LARGEST:
        raise IsagenError(f"the image is larger than {LARGEST >> 20} MiB", where=str(path))
    data = path.read_bytes()
    if not data.startswith(GZIP_MAGIC):
        return data
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(data, LARGEST)
    except zlib.error as error:
        raise IsagenError(f"a damaged gzip file: {error}", where=str(path)) from error
    if unpacker.unconsumed_tail:
        raise IsagenError(f"unpacked, the image is larger than {LARGEST >> 20} MiB", where=str(path))
    return plain


def place(memory: AddressSpace, data: bytes, address: int, name: str) -> Loaded:
    """Raw bytes at an address. Raises IsagenError where there is no room."""
    try:
        memory.write(address, data)
    except AddressError as error:
        what = f"{len(data)} bytes at {address:#x} don't fit into the machine's memory"
        raise IsagenError(what, where=name, remedy="give the machine more memory") from error
    return Loaded(address, address + len(data), address)


def place_elf(memory: AddressSpace, elf: ElfFile) -> Loaded:
    """An ELF file's segments at their physical addresses; the entry as a physical address."""
    segments = [s for s in elf.segments if s.type == c.PT_LOAD and s.memory_size]
    if not segments:
        raise IsagenError("it has no segment to load", where=elf.name)
    entry = elf.entry
    for segment in segments:
        if segment.memory_size > LARGEST:
            raise IsagenError(f"a segment of {segment.memory_size} bytes", where=elf.name)
        data = elf.read(segment.offset, segment.file_size, "segment")
        place(memory, data + bytes(segment.memory_size - segment.file_size), segment.physical, elf.name)
        if segment.address <= elf.entry < segment.address + segment.memory_size:
            entry = segment.physical + elf.entry - segment.address
    start = min(s.physical for s in segments)
    return Loaded(start, max(s.physical + s.memory_size for s in segments), entry)


def load(memory: AddressSpace, path: Path, address: int, machine: tuple[int, int]) -> Loaded:
    """An ELF file where it wants to lie, or raw bytes (also packed by gzip) at `address`. `machine`: ELF's
    number and width of the CPU. Raises IsagenError and OSError.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != ELF_MAGIC:
        return place(memory, file_bytes(path), address, str(path))
    elf = open_elf(str(path))
    if (elf.machine, elf.bits) != machine:
        raise IsagenError(f"it is for {elf.machine_name} ({elf.bits} bits)", where=str(path))
    return place_elf(memory, elf)
