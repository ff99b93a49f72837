"""Partition tables: MBR with logical partitions, and GPT. Everything read is checked against the disk's size.

Sources: UEFI specification 2.10, section 5 (GPT and MBR); logical partitions as DOS and Linux chain them.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from typing import NamedTuple

from runtime.block.errors import ImageCorrupt
from runtime.block.node import Node
from runtime.records import record

SECTORS = (512, 4096)
_MBR_ENTRY = struct.Struct("<B3xB3xII")
_GPT_FIELDS = struct.Struct("<8sIII4xQQQQ16sQIII")
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
_EXTENDED = (0x05, 0x0F, 0x85)
_PROTECTIVE = 0xEE
_MAXIMUM_LOGICAL = 128
_MAXIMUM_ENTRIES = 1024

_MBR_NAMES = {
    0x01: "FAT12",
    0x04: "FAT16",
    0x06: "FAT16",
    0x07: "NTFS/exFAT",
    0x0B: "FAT32",
    0x0C: "FAT32",
    0x0E: "FAT16",
    0x82: "Linux swap",
    0x83: "Linux",
    0x8E: "Linux LVM",
    0xEF: "EFI system",
    0xFD: "Linux RAID",
}
_GPT_NAMES = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "Linux root (ARM64)",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7": "Windows data",
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
}


@record(frozen=True)
class Partition:
    """A partition: its number as Linux counts, offset and length in bytes, type and name as text."""

    number: int
    offset: int
    length: int
    type: str
    name: str = ""
    bootable: bool = False


def partitions(disk: Node) -> list[Partition]:
    """The partitions of `disk`; none if it has no table. Raises `ImageCorrupt` for a table that can't be."""
    for sector in SECTORS:
        found = _read_gpt(disk, sector)
        if found is not None:
            return found
    return _read_mbr(disk)


def _read_mbr(disk: Node) -> list[Partition]:
    entries = _mbr_entries(disk, 0)
    if entries is None or _looks_like_file_system(disk.pread(0, 512)):
        return []
    result = []
    extended: list[tuple[int, int]] = []
    for number, (status, kind, start, count) in enumerate(entries, 1):
        if kind == 0 or count == 0:
            continue
        _check(disk, 446 + 16 * (number - 1), f"partition {number}", start * 512, count * 512)
        if kind in _EXTENDED:
            extended.append((start, count))
        elif kind != _PROTECTIVE:
            name = _MBR_NAMES.get(kind, f"type {kind:#04x}")
            result.append(Partition(number, start * 512, count * 512, name, bootable=status == 0x80))
    for start, count in extended:
        result += _logical(disk, start, count, 5 + sum(partition.number > 4 for partition in result))
    return result


def _logical(disk: Node, base: int, size: int, number: int) -> list[Partition]:
    """The chain of logical partitions in the extended one at sector `base`."""
    result: list[Partition] = []
    at = base
    seen: set[int] = set()
    while len(result) < _MAXIMUM_LOGICAL:
        if at in seen or not base <= at < base + size:
            raise ImageCorrupt(
                "the chain of logical partitions leaves its place or comes back",
                offset=at * 512,
                field="extended boot record",
                where=disk.name,
            )
        seen.add(at)
        entries = _mbr_entries(disk, at * 512)
        if entries is None:
            return result
        status, kind, start, count = entries[0]
        if kind and count:
            offset = (at + start) * 512
            _check(disk, at * 512 + 446, f"partition {number}", offset, count * 512)
            name = _MBR_NAMES.get(kind, f"type {kind:#04x}")
            result.append(Partition(number, offset, count * 512, name, bootable=status == 0x80))
            number += 1
        _, following, start, count = entries[1]
        if following not in _EXTENDED or not count:
            return result
        at = base + start
    return result


def _mbr_entries(disk: Node, offset: int) -> list[tuple[int, int, int, int]] | None:
    """Status, type, first sector and count of the four entries; None without a signature."""
    if offset + 512 > disk.length():
        return None
    sector = disk.pread(offset, 512)
    if sector[510:] != b"\x55\xaa":
        return None
    entries = [_MBR_ENTRY.unpack_from(sector, 446 + 16 * index) for index in range(4)]
    # A boot sector of a file system has the same signature, and code where the entries would be.
    return entries if all(entry[0] in (0, 0x80) for entry in entries) else None


def _looks_like_file_system(sector: bytes) -> bool:
    """Whether a sector is the first one of a FAT or NTFS volume, which has the table's signature too."""
    return sector[3:11] in (b"NTFS    ", b"EXFAT   ") or (
        sector[0] in (0xEB, 0xE9)
        and (
            sector[54:59] in (b"FAT12", b"FAT16") or sector[82:87] == b"FAT32" or sector[54:62] == b"FAT     "
        )
    )


def _read_gpt(disk: Node, sector: int) -> list[Partition] | None:
    """The partitions of a GPT; None if there is none. The backup is used where the first copy is damaged."""
    last = disk.length() // sector - 1
    headers = [_gpt_header(disk, 1, sector)]
    if last > 1 and _is_protected(disk):
        headers.append(_gpt_header(disk, last, sector))
    found = [header for header in headers if header is not None]
    if not found:
        return None
    for header in found:
        table = _gpt_table(disk, header, sector)
        if table is not None:
            return _gpt_partitions(disk, header, table, sector)
    raise _corrupt(disk, "the GPT's table is damaged", found[0].table * sector, "checksum", found[0].checksum)


def _gpt_table(disk: Node, header: _Header, sector: int) -> bytes | None:
    """The table of a header, None if it is damaged."""
    if not 1 <= header.entries <= _MAXIMUM_ENTRIES:
        raise _corrupt(disk, "the GPT can't have so many entries", sector + 80, "entries", header.entries)
    if not 128 <= header.size <= 4096 or header.size & (header.size - 1):
        raise _corrupt(disk, "the GPT's entries can't have this size", sector + 84, "entry size", header.size)
    _check(disk, sector + 72, "the GPT's table", header.table * sector, header.entries * header.size)
    table = disk.pread(header.table * sector, header.entries * header.size)
    return table if zlib.crc32(table) == header.checksum else None


def _gpt_partitions(disk: Node, header: _Header, table: bytes, sector: int) -> list[Partition]:
    result = []
    for index in range(header.entries):
        kind, _, first, final, flags, raw = _GPT_ENTRY.unpack_from(table, index * header.size)
        if kind == bytes(16):
            continue
        place = header.table * sector + index * header.size
        if final < first:
            raise _corrupt(disk, "a partition ends before it begins", place + 40, "last LBA", final)
        offset, length = first * sector, (final - first + 1) * sector
        _check(disk, place, f"partition {index + 1}", offset, length)
        text = str(uuid.UUID(bytes_le=kind))
        name = raw.decode("utf-16-le", "replace").partition("\0")[0]
        # Bit 2 of the attributes: legacy BIOS bootable (table 5-8).
        result.append(Partition(index + 1, offset, length, _GPT_NAMES.get(text, text), name, bool(flags & 4)))
    return result


class _Header(NamedTuple):
    """What a GPT header says of its table: first sector, entries, bytes of each, CRC-32."""

    table: int
    entries: int
    size: int
    checksum: int


def _gpt_header(disk: Node, number: int, sector: int) -> _Header | None:
    """The header in sector `number`, None if there is none that is whole."""
    if (number + 1) * sector > disk.length():
        return None
    data = disk.pread(number * sector, sector)
    signature, _, size, checksum, own, _, _, _, _, table, count, entry_size, table_checksum = (
        _GPT_FIELDS.unpack_from(data)
    )
    if signature != b"EFI PART" or own != number or not 92 <= size <= sector:
        return None
    if zlib.crc32(data[:16] + bytes(4) + data[20:size]) != checksum:
        return None
    return _Header(table, count, entry_size, table_checksum)


def _is_protected(disk: Node) -> bool:
    """Whether the MBR says that there is a GPT."""
    entries = _mbr_entries(disk, 0)
    return entries is not None and any(entry[1] == _PROTECTIVE for entry in entries)


def _check(disk: Node, place: int, what: str, offset: int, length: int) -> None:
    if offset + length > disk.length():
        raise _corrupt(disk, f"{what} lies outside of the disk", place, "extent", offset)


def _corrupt(disk: Node, what: str, place: int, field: str, value: int) -> ImageCorrupt:
    return ImageCorrupt(what, offset=place, field=field, value=value, where=disk.name)
