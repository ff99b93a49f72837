"""The header of Parallels expanding images (little endian; QEMU documentation, docs/interop/parallels)."""

from __future__ import annotations

from typing import Any, ClassVar

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.layout import Layout
from runtime.records import asdict, record, replace

SECTOR = 512
MAGIC_OLD, MAGIC = b"WithoutFreeSpace", b"WithouFreSpacExt"
IN_USE = 0x746F6E59
MAX_ENTRIES = (1 << 31) // 4

LAYOUT = Layout(
    "<",
    64,
    magic=(0, "16s"),
    version=(16, "I"),
    heads=(20, "I"),
    cylinders=(24, "I"),
    cluster_sectors=(28, "I"),
    entries=(32, "I"),
    sectors=(36, "Q"),
    in_use=(44, "I"),
    data_offset=(48, "I"),
    flags=(52, "I"),
    extension=(56, "Q"),
)


@record(frozen=True)
class Header:
    """`data_offset` and `extension` are in sectors. The block table follows at byte 64."""

    sectors: int
    entries: int
    data_offset: int
    cluster_sectors: int = 2048
    heads: int = 16
    cylinders: int = 0
    version: int = 2
    in_use: int = 0
    flags: int = 0
    extension: int = 0
    magic: bytes = MAGIC

    layout: ClassVar[Layout] = LAYOUT

    @classmethod
    def parse(cls, data: bytes, where: str, file_length: int) -> Header:
        """Raises ImageCorrupt, ImageUnsupported."""
        if len(data) < LAYOUT.size:
            raise ImageCorrupt("the file is too short for a header", offset=0, field="magic", where=where)
        header = cls(**LAYOUT.read(data))

        def wrong(what: str, name: str) -> ImageCorrupt:
            return LAYOUT.wrong(what, name, getattr(header, name), where=where)

        if header.magic not in (MAGIC, MAGIC_OLD):
            raise wrong("this is no Parallels image", "magic")
        if header.version != 2:
            raise ImageUnsupported(f"version {header.version} of Parallels images isn't known", where=where)
        if header.magic == MAGIC_OLD:
            header = replace(header, sectors=header.sectors & 0xFFFFFFFF)
        size = header.cluster_sectors
        if not 1 <= size <= 1 << 19:
            raise wrong("clusters can't have this size", "cluster_sectors")
        if header.sectors > (1 << 63) // SECTOR - 1:
            raise wrong("the disk is too large", "sectors")
        if header.entries > MAX_ENTRIES or header.entries * size < header.sectors:
            raise wrong("the block table can't have this size", "entries")
        if LAYOUT.size + 4 * header.entries > file_length:
            raise wrong("the block table lies behind the file's end", "entries")
        if header.data_offset and header.data_offset * SECTOR < LAYOUT.size + 4 * header.entries:
            raise wrong("the data can't begin there", "data_offset")
        return header

    @property
    def multiplier(self) -> int:
        """Sectors that table entries count in."""
        return self.cluster_sectors if self.magic == MAGIC else 1

    @property
    def data_start(self) -> int:
        """Where the data begins, bytes."""
        return self.data_offset * SECTOR or -(-(LAYOUT.size + 4 * self.entries) // SECTOR) * SECTOR

    def pack(self) -> bytes:
        """The 64 bytes."""
        return bytes(LAYOUT.write(asdict(self)))

    def changed(self, **fields: Any) -> Header:
        """A copy with other fields."""
        return replace(self, **fields)
