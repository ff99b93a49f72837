"""The header section of VHDX images: identifier, two headers, two region tables ([MS-VHDX] 2.2; little
endian).
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar

import google_crc32c

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format import guid
from runtime.block.format.layout import Layout
from runtime.block.node import ProtocolNode
from runtime.records import asdict, record, replace

MIB = 1 << 20
IDENTIFIER = b"vhdxfile"
HEADERS = (64 << 10, 128 << 10)
REGION_TABLES = (192 << 10, 256 << 10)
REGION_TABLE_SIZE = 64 << 10
NO_GUID = bytes(16)
BAT = guid.guid("2DC27766-F623-4200-9D64-115E9BFD4A08")
METADATA = guid.guid("8B7CA206-4790-4B9A-B8FE-575F050F886E")
MAX_LOG = 32 << 20

HEADER = Layout(
    "<",
    4096,
    signature=(0, "4s"),
    checksum=(4, "I"),
    sequence=(8, "Q"),
    file_write=(16, "16s"),
    data_write=(32, "16s"),
    log=(48, "16s"),
    log_version=(64, "H"),
    version=(66, "H"),
    log_length=(68, "I"),
    log_offset=(72, "Q"),
)
_REGION_HEAD = struct.Struct("<4sIII")
_REGION = struct.Struct("<16sQII")


def crc32c(data: bytes | bytearray) -> int:
    """The checksum that all structures of VHDX have."""
    value: int = google_crc32c.value(bytes(data))
    return value


def checked(record: bytes, at: int = 4) -> bool:
    """Whether the CRC-32C at offset `at` of the record is right (with the field itself taken as zero)."""
    stored = int.from_bytes(record[at : at + 4], "little")
    return crc32c(record[:at] + bytes(4) + record[at + 4 :]) == stored


def sealed(record: bytearray, at: int = 4) -> bytes:
    """The record with its CRC-32C at offset `at`."""
    record[at : at + 4] = bytes(4)
    record[at : at + 4] = crc32c(record).to_bytes(4, "little")
    return bytes(record)


def new_guid() -> bytes:
    """A random GUID."""
    return guid.new_guid()


def show_guid(value: bytes) -> str:
    """As VHDX's parent locators have it: in braces."""
    return "{" + guid.show_guid(value) + "}"


@record(frozen=True)
class Header:
    """One of the two headers: the one with the higher sequence number counts."""

    log_offset: int
    log_length: int
    sequence: int = 0
    file_write: bytes = NO_GUID
    data_write: bytes = NO_GUID
    log: bytes = NO_GUID  # NO_GUID: nothing to replay
    log_version: int = 0
    version: int = 1
    signature: bytes = b"head"
    checksum: int = 0

    layout: ClassVar[Layout] = HEADER

    @classmethod
    def parse(cls, data: bytes) -> Header | None:
        """The header; None if it isn't a valid one."""
        if data[:4] != b"head" or not checked(data):
            return None
        return cls(**HEADER.read(data))

    def validate(self, where: str, base: int, file_length: int) -> None:
        """Raises ImageCorrupt, ImageUnsupported."""

        def wrong(what: str, name: str) -> ImageCorrupt:
            return HEADER.wrong(what, name, getattr(self, name), where=where, base=base)

        if self.version != 1:
            raise ImageUnsupported(f"VHDX version {self.version} isn't known", where=where)
        if self.log_version != 0:
            raise ImageUnsupported(f"version {self.log_version} of the VHDX log isn't known", where=where)
        if self.log_length % MIB:
            raise wrong("the log can't have this length", "log_length")
        if self.log_offset % MIB or self.log_offset < MIB:
            raise wrong("the log can't lie there", "log_offset")
        if self.log_offset + self.log_length > file_length:
            raise wrong("the log lies behind the file's end", "log_length")
        if self.log != NO_GUID:
            if not self.log_length:
                raise wrong("there is something to replay, and no log", "log_length")
            if self.log_length > MAX_LOG:
                raise ImageUnsupported(f"a log of {self.log_length} bytes can't be replayed", where=where)

    def pack(self) -> bytes:
        """The 4096 bytes."""
        return sealed(HEADER.write(asdict(self)))

    def changed(self, **fields: Any) -> Header:
        """A copy with other fields."""
        return replace(self, **fields)


def read_headers(file: ProtocolNode) -> tuple[Header, int, list[int]]:
    """(the current header, which of the two it is, the numbers of the bad ones). Raises ImageCorrupt."""
    found = [Header.parse(file.pread(base, HEADER.size)) for base in HEADERS]
    bad = [number for number, header in enumerate(found) if header is None]
    # Two equal numbers: some programs (disk2vhd) write one header twice.
    number = max(range(2), key=lambda n: -1 if (h := found[n]) is None else h.sequence)
    header = found[number]
    if header is None:
        raise ImageCorrupt(
            "neither of the headers is valid", offset=HEADERS[0], field="header", where=file.name
        )
    header.validate(file.name, HEADERS[number], file.length())
    return header, number, bad


@record(frozen=True)
class Region:
    """A region: where it lies, in bytes."""

    guid: bytes
    offset: int
    length: int
    required: int = 1


def parse_regions(data: bytes, where: str, base: int) -> list[Region]:
    """The regions of the table at byte `base`. Raises ImageCorrupt."""
    signature, _, count, _ = _REGION_HEAD.unpack_from(data, 0)
    if signature != b"regi" or not checked(data):
        raise ImageCorrupt("the region table is damaged", offset=base, field="region table", where=where)
    if count > (REGION_TABLE_SIZE - _REGION_HEAD.size) // _REGION.size:
        raise ImageCorrupt(
            "there are too many regions", offset=base + 8, field="EntryCount", value=count, where=where
        )
    return [
        Region(*_REGION.unpack_from(data, _REGION_HEAD.size + number * _REGION.size))
        for number in range(count)
    ]


def pack_regions(regions: list[Region]) -> bytes:
    """The 64 KiB of a region table."""
    record = bytearray(REGION_TABLE_SIZE)
    _REGION_HEAD.pack_into(record, 0, b"regi", 0, len(regions), 0)
    for number, region in enumerate(regions):
        _REGION.pack_into(
            record,
            _REGION_HEAD.size + number * _REGION.size,
            region.guid,
            region.offset,
            region.length,
            region.required,
        )
    return sealed(record)


def read_regions(file: ProtocolNode) -> tuple[dict[bytes, Region], list[int]]:
    """(regions by GUID, the numbers of the bad tables). Raises ImageCorrupt, ImageUnsupported."""
    bad: list[int] = []
    found: list[Region] | None = None
    problem: ImageCorrupt | None = None
    for number, base in enumerate(REGION_TABLES):
        try:
            regions = parse_regions(file.pread(base, REGION_TABLE_SIZE), file.name, base)
        except ImageCorrupt as error:
            bad.append(number)
            problem = problem or error
            continue
        found = regions if found is None else found
    if found is None:
        assert problem is not None
        raise problem
    result: dict[bytes, Region] = {}
    for number, region in enumerate(found):
        base = REGION_TABLES[0] + _REGION_HEAD.size + number * _REGION.size
        if region.guid not in (BAT, METADATA):
            if region.required & 1:
                raise ImageUnsupported(
                    f"the image needs a region that isn't known: {show_guid(region.guid)}", where=file.name
                )
            continue
        if region.guid in result:
            raise ImageCorrupt("two regions have the same GUID", offset=base, field="Guid", where=file.name)
        if region.offset % MIB or region.offset < MIB or region.offset + region.length > file.length():
            raise ImageCorrupt(
                "a region lies outside of the file",
                offset=base + 16,
                field="FileOffset",
                value=region.offset,
                where=file.name,
            )
        if region.length % MIB or not region.length:
            raise ImageCorrupt(
                "a region can't have this length",
                offset=base + 24,
                field="Length",
                value=region.length,
                where=file.name,
            )
        result[region.guid] = region
    for item, name in ((BAT, "block table"), (METADATA, "metadata")):
        if item not in result:
            raise ImageCorrupt(
                f"there is no region for the {name}", offset=REGION_TABLES[0], field="Guid", where=file.name
            )
    return result, bad
