"""Footer and header of VHD images (big endian; Microsoft, Virtual Hard Disk Image Format Specification 1.0).
"""

from __future__ import annotations

import time
from typing import ClassVar

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.guid import new_uuid
from runtime.block.format.layout import Layout
from runtime.records import asdict, record, replace

SECTOR = 512
COOKIE, HEADER_COOKIE = b"conectix", b"cxsparse"
VERSION = 0x00010000
FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
NOWHERE = (1 << 64) - 1
FREE = 0xFFFFFFFF  # BAT entry of a block that isn't stored
BLOCK_SIZE = 2 << 20
MAX_SIZE = 0xFF000000 * SECTOR  # 2040 GiB: what sector numbers of 32 bits leave for blocks

_EPOCH = 946684800  # 2000-01-01 00:00 UTC
_CHS_MAX = 65535 * 16 * 255
#: Programs whose disks have the size that the geometry gives; all others mean `current_size`.
_BY_GEOMETRY = (b"vpc ", b"vs  ", b"qemu")

FOOTER = Layout(
    ">",
    SECTOR,
    cookie=(0, "8s"),
    features=(8, "I"),
    version=(12, "I"),
    data_offset=(16, "Q"),
    timestamp=(24, "I"),
    creator=(28, "4s"),
    creator_version=(32, "I"),
    creator_os=(36, "4s"),
    original_size=(40, "Q"),
    current_size=(48, "Q"),
    geometry=(56, "HBB"),
    disk_type=(60, "I"),
    checksum=(64, "I"),
    uuid=(68, "16s"),
    saved_state=(84, "B"),
)

HEADER = Layout(
    ">",
    1024,
    cookie=(0, "8s"),
    data_offset=(8, "Q"),
    table_offset=(16, "Q"),
    version=(24, "I"),
    max_entries=(28, "I"),
    block_size=(32, "I"),
    checksum=(36, "I"),
    parent_uuid=(40, "16s"),
    parent_timestamp=(56, "I"),
    parent_name=(64, "512s"),
    locators=(576, "192s"),
)


def checksum(record: bytes | bytearray, at: int) -> int:
    """The complement of the sum of all bytes but those of the checksum itself, at offset `at`."""
    return ~(sum(record) - sum(record[at : at + 4])) & 0xFFFFFFFF


def timestamp(seconds: float | None = None) -> int:
    """Seconds since 2000 of a time (default: now) in seconds since 1970."""
    return max(0, int(time.time() if seconds is None else seconds) - _EPOCH) & 0xFFFFFFFF


def geometry_of(size: int) -> tuple[int, int, int]:
    """Cylinders, heads, sectors of a disk of `size` bytes (the specification's appendix)."""
    total = min(size // SECTOR, _CHS_MAX)
    if total > 65535 * 16 * 63:
        sectors, heads = 255, 16
        return total // sectors // heads, heads, sectors
    sectors = 17
    cylinder_heads = total // sectors
    heads = max(4, (cylinder_heads + 1023) // 1024)
    if cylinder_heads >= heads * 1024 or heads > 16:
        sectors, heads = 31, 16
        cylinder_heads = total // sectors
    if cylinder_heads >= heads * 1024:
        sectors, heads = 63, 16
        cylinder_heads = total // sectors
    return cylinder_heads // heads, heads, sectors


def geometry_size(size: int) -> int:
    """The smallest size of a disk with a geometry that isn't smaller than `size`; `size` itself if there is
    none.
    """
    wanted = size
    while wanted <= _CHS_MAX * SECTOR:
        cylinders, heads, sectors = geometry_of(wanted)
        found = cylinders * heads * sectors * SECTOR
        if found >= size:
            return found
        wanted += SECTOR
    return size


@record(frozen=True)
class Footer:
    """The footer: at the end of each image, and a copy at the start of dynamic ones."""

    current_size: int  # bytes
    geometry: tuple[int, int, int]
    disk_type: int
    uuid: bytes
    data_offset: int = NOWHERE  # of the dynamic header
    timestamp: int = 0
    original_size: int = 0
    creator: bytes = b"win "
    creator_version: int = 0x000A0000
    creator_os: bytes = b"Wi2k"
    cookie: bytes = COOKIE
    features: int = 2
    version: int = VERSION
    checksum: int = 0
    saved_state: int = 0

    layout: ClassVar[Layout] = FOOTER

    @classmethod
    def parse(cls, data: bytes, where: str, base: int) -> Footer:
        """The footer at byte `base` of the file. Raises ImageCorrupt, ImageUnsupported."""
        footer = cls(**FOOTER.read(data))

        def wrong(what: str, name: str) -> ImageCorrupt:
            return FOOTER.wrong(what, name, getattr(footer, name), where=where, base=base)

        if footer.cookie != COOKIE:
            raise wrong("this is no VHD footer", "cookie")
        if footer.checksum != checksum(data, FOOTER.offset("checksum")):
            raise wrong("the footer's checksum is wrong", "checksum")
        if footer.version >> 16 != 1:
            raise ImageUnsupported(f"VHD version {footer.version >> 16} isn't known", where=where)
        if footer.disk_type not in (FIXED, DYNAMIC, DIFFERENCING):
            raise wrong("there is no such type of VHD image", "disk_type")
        if footer.size() > (1 << 63) - SECTOR:
            raise wrong("a disk can't be that large", "current_size")
        return footer

    def size(self) -> int:
        """The disk's size, bytes."""
        cylinders, heads, sectors = self.geometry
        by_geometry = cylinders * heads * sectors
        if self.creator in _BY_GEOMETRY and 0 < by_geometry < _CHS_MAX:
            return by_geometry * SECTOR
        return self.current_size // SECTOR * SECTOR

    def pack(self) -> bytes:
        """The 512 bytes, with their checksum."""
        record = FOOTER.write({**asdict(self), "checksum": 0})
        record[64:68] = checksum(record, 64).to_bytes(4, "big")
        return bytes(record)

    def resized(self, size: int) -> Footer:
        """The footer of the same disk with another size, exact whatever the geometry is.

        Some readers (libvhdi) go by the original size, so it changes too.
        """
        exact = b"win " if self.creator in _BY_GEOMETRY else self.creator
        return replace(self, original_size=size, current_size=size, geometry=geometry_of(size), creator=exact)


@record(frozen=True)
class Header:
    """The header of dynamic and differencing images."""

    table_offset: int
    max_entries: int
    block_size: int = BLOCK_SIZE
    parent_uuid: bytes = bytes(16)
    parent_timestamp: int = 0
    parent_name: bytes = b""
    locators: bytes = b""
    cookie: bytes = HEADER_COOKIE
    data_offset: int = NOWHERE
    version: int = VERSION
    checksum: int = 0

    layout: ClassVar[Layout] = HEADER

    @classmethod
    def parse(cls, data: bytes, footer: Footer, where: str, file_length: int, *, lenient: bool) -> Header:
        """The header. Raises ImageCorrupt; `lenient` lets a wrong checksum pass."""
        base = footer.data_offset
        if base > file_length or len(data) < HEADER.size:
            raise FOOTER.wrong("the header lies behind the file's end", "data_offset", base, where=where)
        header = cls(**HEADER.read(data))

        def wrong(what: str, name: str) -> ImageCorrupt:
            return HEADER.wrong(what, name, getattr(header, name), where=where, base=base)

        if header.cookie != HEADER_COOKIE:
            raise wrong("this is no header of a dynamic VHD image", "cookie")
        if header.checksum != checksum(data, HEADER.offset("checksum")) and not lenient:
            raise wrong("the header's checksum is wrong", "checksum")
        if header.version >> 16 != 1:
            raise ImageUnsupported(f"version {header.version >> 16} of VHD headers isn't known", where=where)
        size = header.block_size
        if size < 4096 or size & (size - 1) or size > 1 << 28:
            raise wrong("blocks can't have this size", "block_size")
        if header.max_entries * size < footer.size():
            raise wrong("the block table is too short for the disk", "max_entries")
        if header.table_offset % SECTOR or header.table_offset < SECTOR:
            raise wrong("the block table can't lie there", "table_offset")
        if header.table_offset + 4 * header.max_entries > file_length:
            raise wrong("the block table lies behind the file's end", "max_entries")
        return header

    def pack(self) -> bytes:
        """The 1024 bytes, with their checksum."""
        record = HEADER.write({**asdict(self), "checksum": 0})
        record[36:40] = checksum(record, 36).to_bytes(4, "big")
        return bytes(record)

    @property
    def bitmap_size(self) -> int:
        """Bytes of the sector bitmap before each block's data."""
        return -(-self.block_size // SECTOR // 8 // SECTOR) * SECTOR


def new_footer(size: int, disk_type: int) -> Footer:
    """The footer of a new image."""
    return Footer(
        current_size=size,
        original_size=size,
        geometry=geometry_of(size),
        disk_type=disk_type,
        uuid=new_uuid(),
        data_offset=NOWHERE if disk_type == FIXED else SECTOR,
        timestamp=timestamp(),
    )
