"""Headers of VMDK extents (little endian).

Hosted sparse extents: VMware, Virtual Disk Format 5.0, "Hosted Sparse Extent Header". ESX server sparse
extents (COWD): the same, "ESX Server Sparse Extents". SESparse: as VMware's vSphere writes them since 2012
(no public text).
"""

from __future__ import annotations

from typing import Any, ClassVar

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.layout import Layout
from runtime.records import asdict, names_of, record, replace

SECTOR = 512
SPARSE_MAGIC, COWD_MAGIC = b"KDMV", b"COWD"
SESPARSE_MAGIC, SESPARSE_VOLATILE = 0xCAFEBABE, 0xCAFECAFE
AT_END = (1 << 64) - 1  # grain directory: where the footer says

NEWLINES, REDUNDANT, ZEROED_GRAINS = 1, 2, 4  # flags
COMPRESSED, MARKERS = 1 << 16, 1 << 17
DEFLATE = 1

MAX_GRAIN = 1 << 18  # sectors: 128 MiB
MAX_COMPRESSED_GRAIN = 1 << 13  # sectors: 4 MiB are unpacked at once

SPARSE = Layout(
    "<",
    SECTOR,
    magic=(0, "4s"),
    version=(4, "I"),
    flags=(8, "I"),
    capacity=(12, "Q"),
    grain_size=(20, "Q"),
    descriptor_offset=(28, "Q"),
    descriptor_size=(36, "Q"),
    table_entries=(44, "I"),
    spare_directory=(48, "Q"),
    directory=(56, "Q"),
    overhead=(64, "Q"),
    unclean=(72, "B"),
    newline_test=(73, "4s"),
    compression=(77, "H"),
)

COWD = Layout(
    "<",
    2048,
    magic=(0, "4s"),
    version=(4, "I"),
    flags=(8, "I"),
    capacity=(12, "I"),
    grain_size=(16, "I"),
    directory=(20, "I"),
    directory_entries=(24, "I"),
    free_sector=(28, "I"),
)

SESPARSE = Layout(
    "<",
    SECTOR,
    magic=(0, "Q"),
    version=(8, "Q"),
    capacity=(16, "Q"),
    grain_size=(24, "Q"),
    table_size=(32, "Q"),
    flags=(40, "Q"),
    volatile_offset=(80, "Q"),
    volatile_size=(88, "Q"),
    journal_header_offset=(96, "Q"),
    journal_header_size=(104, "Q"),
    journal_offset=(112, "Q"),
    journal_size=(120, "Q"),
    directory=(128, "Q"),
    directory_size=(136, "Q"),
    tables=(144, "Q"),
    tables_size=(152, "Q"),
    free_bitmap=(160, "Q"),
    free_bitmap_size=(168, "Q"),
    back_map=(176, "Q"),
    back_map_size=(184, "Q"),
    grains=(192, "Q"),
    grains_size=(200, "Q"),
)
SESPARSE_VERSION = 0x0000000200000001


@record(frozen=True)
class SparseHeader:
    """The header of a hosted sparse extent. Offsets and sizes are in sectors."""

    capacity: int
    grain_size: int = 128
    version: int = 1
    flags: int = NEWLINES | REDUNDANT
    descriptor_offset: int = 0
    descriptor_size: int = 0
    table_entries: int = 512
    spare_directory: int = 0
    directory: int = 0
    overhead: int = 0
    unclean: int = 0
    newline_test: bytes = b"\n \r\n"
    compression: int = 0
    magic: bytes = SPARSE_MAGIC

    layout: ClassVar[Layout] = SPARSE

    @classmethod
    def parse(cls, data: bytes, where: str, file_length: int, base: int = 0) -> SparseHeader:
        """The header at byte `base`. Raises ImageCorrupt, ImageUnsupported."""
        if len(data) < SECTOR:
            raise ImageCorrupt(
                "the file is too short for a VMDK extent", offset=base, field="magic", where=where
            )
        header = cls(**SPARSE.read(data))

        def wrong(what: str, name: str) -> ImageCorrupt:
            return SPARSE.wrong(what, name, getattr(header, name), where=where, base=base)

        if header.magic != SPARSE_MAGIC:
            raise wrong("this is no sparse VMDK extent", "magic")
        if header.version not in (1, 2, 3):
            raise ImageUnsupported(f"version {header.version} of VMDK extents isn't known", where=where)
        if header.flags & NEWLINES and header.newline_test != b"\n \r\n":
            raise wrong("the file was damaged by a transfer that changed line ends", "newline_test")
        grain = header.grain_size
        limit = MAX_COMPRESSED_GRAIN if header.flags & COMPRESSED else MAX_GRAIN
        if not 1 <= grain <= limit or grain & (grain - 1):
            raise wrong("grains can't have this size", "grain_size")
        if header.capacity > (1 << 63) // SECTOR - 1:
            raise wrong("the disk is too large", "capacity")
        if not 1 <= header.table_entries <= 4096:
            raise wrong("grain tables can't have this many entries", "table_entries")
        if header.compression not in (0, DEFLATE):
            raise ImageUnsupported(
                f"compression {header.compression} of VMDK extents isn't known", where=where
            )
        if header.flags & COMPRESSED and header.compression != DEFLATE:
            raise wrong("grains are compressed, but not by deflate", "compression")
        names = ["directory"]
        if header.flags & REDUNDANT and header.spare_directory:
            names.append("spare_directory")
        for name in names:
            start = getattr(header, name)
            if (name, start) != ("directory", AT_END) and (
                not start or start * SECTOR + 4 * header.tables > file_length
            ):
                raise wrong("the grain directory lies outside of the file", name)
        if header.descriptor_offset and (
            header.descriptor_size > 2048
            or (header.descriptor_offset + header.descriptor_size) * SECTOR > file_length
        ):
            raise wrong("the descriptor lies outside of the file", "descriptor_offset")
        return header

    @property
    def grains(self) -> int:
        """How many grains the extent has."""
        return -(-self.capacity // self.grain_size)

    @property
    def tables(self) -> int:
        """How many grain tables it has, so how many entries the directory."""
        return -(-self.grains // self.table_entries)

    @property
    def grain_bytes(self) -> int:
        return self.grain_size * SECTOR

    def pack(self) -> bytes:
        """The 512 bytes."""
        return bytes(SPARSE.write(asdict(self)))

    def changed(self, **fields: Any) -> SparseHeader:
        """A copy with other fields."""
        return replace(self, **fields)


def parse_cowd(data: bytes, where: str, file_length: int) -> SparseHeader:
    """A COWD header, said as a hosted one. Raises ImageCorrupt, ImageUnsupported."""
    if len(data) < COWD.size:
        raise ImageCorrupt("the file is too short for a VMDK extent", offset=0, field="magic", where=where)
    fields = COWD.read(data)

    def wrong(what: str, name: str) -> ImageCorrupt:
        return COWD.wrong(what, name, fields[name], where=where)

    if fields["version"] != 1:
        raise ImageUnsupported(f"version {fields['version']} of COWD extents isn't known", where=where)
    grain = fields["grain_size"]
    if not 1 <= grain <= MAX_GRAIN or grain & (grain - 1):
        raise wrong("grains can't have this size", "grain_size")
    header = SparseHeader(
        capacity=fields["capacity"],
        grain_size=grain,
        flags=0,
        table_entries=4096,
        directory=fields["directory"],
    )
    if header.tables > fields["directory_entries"]:
        raise wrong("the grain directory is too short for the disk", "directory_entries")
    if not header.directory or header.directory * SECTOR + 4 * header.tables > file_length:
        raise wrong("the grain directory lies outside of the file", "directory")
    return header


@record(frozen=True)
class SeSparseHeader:
    """What of the constant header of an SESparse extent is needed. In sectors."""

    capacity: int
    grain_size: int
    table_size: int
    directory: int
    directory_size: int
    tables: int
    tables_size: int
    grains: int
    grains_size: int

    @classmethod
    def parse(cls, data: bytes, where: str, file_length: int) -> SeSparseHeader:
        """Raises ImageCorrupt, ImageUnsupported."""
        fields = SESPARSE.read(data)

        def wrong(what: str, name: str) -> ImageCorrupt:
            return SESPARSE.wrong(what, name, fields[name], where=where)

        if fields["magic"] != SESPARSE_MAGIC:
            raise wrong("this is no SESparse extent", "magic")
        if fields["version"] != SESPARSE_VERSION:
            raise ImageUnsupported(f"version {fields['version']:#x} of SESparse isn't known", where=where)
        grain = fields["grain_size"]
        if not 1 <= grain <= 4096 or grain & (grain - 1):
            raise wrong("grains can't have this size", "grain_size")
        if not 1 <= fields["table_size"] <= 4096:
            raise wrong("grain tables can't have this size", "table_size")
        if fields["capacity"] > (1 << 63) // SECTOR - 1:
            raise wrong("the disk is too large", "capacity")
        for name in ("directory", "tables", "grains"):
            if not 1 <= fields[name] <= file_length // SECTOR:
                raise wrong("a part lies outside of the file", name)
        header = cls(**{name: fields[name] for name in names_of(cls)})
        needed = -(-header.capacity // grain // (header.table_size * SECTOR // 8)) * 8
        if header.directory * SECTOR + needed > file_length or header.directory_size * SECTOR < needed:
            raise wrong("the grain directory is too short for the disk", "directory_size")
        return header
