"""The header of QED images (little endian; QEMU documentation, docs/interop/qed_spec)."""

from __future__ import annotations

from typing import Any, ClassVar

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.layout import Layout
from runtime.records import asdict, record, replace

MAGIC = b"QED\0"
HAS_BACKING, NEED_CHECK, BACKING_IS_RAW = 1, 2, 4
_KNOWN = HAS_BACKING | NEED_CHECK | BACKING_IS_RAW
MAX_NAME = 1023

LAYOUT = Layout(
    "<",
    64,
    magic=(0, "4s"),
    cluster_size=(4, "I"),
    table_size=(8, "I"),
    header_size=(12, "I"),
    features=(16, "Q"),
    compatible=(24, "Q"),
    autoclear=(32, "Q"),
    directory=(40, "Q"),
    disk_size=(48, "Q"),
    backing_offset=(56, "I"),
    backing_length=(60, "I"),
)


@record(frozen=True)
class Header:
    """Sizes in bytes, but `table_size` and `header_size` in clusters."""

    cluster_size: int
    table_size: int
    directory: int
    disk_size: int
    header_size: int = 1
    features: int = 0
    compatible: int = 0
    autoclear: int = 0
    backing_offset: int = 0
    backing_length: int = 0
    magic: bytes = MAGIC

    layout: ClassVar[Layout] = LAYOUT

    @classmethod
    def parse(cls, data: bytes, where: str, file_length: int) -> Header:
        """Raises ImageCorrupt, ImageUnsupported."""
        if len(data) < LAYOUT.size:
            raise ImageCorrupt("the file is too short for a QED header", offset=0, field="magic", where=where)
        header = cls(**LAYOUT.read(data))

        def wrong(what: str, name: str) -> ImageCorrupt:
            return LAYOUT.wrong(what, name, getattr(header, name), where=where)

        if header.magic != MAGIC:
            raise wrong("this is no QED image", "magic")
        if header.features & ~_KNOWN:
            raise ImageUnsupported(
                f"the image needs features that aren't known: {header.features & ~_KNOWN:#x}", where=where
            )
        size = header.cluster_size
        if not 1 << 12 <= size <= 1 << 26 or size & (size - 1):
            raise wrong("clusters can't have this size", "cluster_size")
        if header.table_size not in (1, 2, 4, 8, 16):
            raise wrong("tables can't have this size", "table_size")
        if not 1 <= header.header_size <= file_length // size + 1:
            raise wrong("the header can't have this size", "header_size")
        if header.disk_size > header.max_size or header.disk_size % 512:
            raise wrong("a disk can't have this size", "disk_size")
        if (
            header.directory % size
            or header.directory < header.header_size * size
            or header.directory >= file_length
        ):
            raise wrong("the directory can't lie there", "directory")
        if header.features & HAS_BACKING:
            end = header.backing_offset + header.backing_length
            if not 0 < header.backing_length <= MAX_NAME or end > header.header_size * size:
                raise wrong("the backing file's name can't lie there", "backing_length")
        return header

    @property
    def table_bytes(self) -> int:
        return self.table_size * self.cluster_size

    @property
    def table_entries(self) -> int:
        return self.table_bytes // 8

    @property
    def max_size(self) -> int:
        """The largest disk that the tables can hold, bytes."""
        return min(self.table_entries**2 * self.cluster_size, (1 << 63) - 512)

    def pack(self) -> bytes:
        """The 64 bytes."""
        return bytes(LAYOUT.write(asdict(self)))

    def changed(self, **fields: Any) -> Header:
        """A copy with other fields."""
        return replace(self, **fields)
