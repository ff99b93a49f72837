"""The header of VDI images, version 1.1 (little endian; VirtualBox, VDICore.h: VDIPREHEADER,
VDIHEADER1PLUS).
"""

from __future__ import annotations

from typing import ClassVar

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format import guid
from runtime.block.format.layout import Layout
from runtime.records import asdict, record, replace

SIGNATURE = 0xBEDA107F
VERSION = 0x00010001
SIZE = 512
DYNAMIC, FIXED, UNDO, DIFFERENCING = 1, 2, 3, 4
FREE, ZERO = 0xFFFFFFFF, 0xFFFFFFFE  # block map entries: not in this image; zero
BLOCK_SIZE = 1 << 20
MAX_BLOCKS = 0x1FFFFFFF  # so that the map has less than 2 GiB

_TITLE = b"<<< isagen Virtual Disk Image >>>\n"
_NO_UUID = bytes(16)

LAYOUT = Layout(
    "<",
    SIZE,
    title=(0x00, "64s"),
    signature=(0x40, "I"),
    version=(0x44, "I"),
    header_size=(0x48, "I"),
    image_type=(0x4C, "I"),
    flags=(0x50, "I"),
    comment=(0x54, "256s"),
    map_offset=(0x154, "I"),
    data_offset=(0x158, "I"),
    geometry=(0x15C, "4I"),  # cylinders, heads, sectors, bytes in a sector
    disk_size=(0x170, "Q"),
    block_size=(0x178, "I"),
    block_extra=(0x17C, "I"),
    blocks=(0x180, "I"),
    blocks_allocated=(0x184, "I"),
    uuid=(0x188, "16s"),
    modified=(0x198, "16s"),
    parent=(0x1A8, "16s"),
    parent_modified=(0x1B8, "16s"),
    logical_geometry=(0x1C8, "4I"),
)


@record(frozen=True)
class Header:
    """`uuid` names the image, `modified` its content; `parent` and `parent_modified` are those of its
    parent.
    """

    map_offset: int  # bytes
    data_offset: int
    disk_size: int
    blocks: int
    image_type: int = DYNAMIC
    blocks_allocated: int = 0
    block_size: int = BLOCK_SIZE
    block_extra: int = 0
    uuid: bytes = _NO_UUID
    modified: bytes = _NO_UUID
    parent: bytes = _NO_UUID
    parent_modified: bytes = _NO_UUID
    title: bytes = _TITLE
    signature: int = SIGNATURE
    version: int = VERSION
    header_size: int = 400
    flags: int = 0
    comment: bytes = b""
    geometry: tuple[int, int, int, int] = (0, 0, 0, 512)
    logical_geometry: tuple[int, int, int, int] = (0, 0, 0, 512)

    layout: ClassVar[Layout] = LAYOUT

    @classmethod
    def parse(cls, data: bytes, where: str, file_length: int) -> Header:
        """The header. Raises ImageCorrupt, ImageUnsupported."""
        if len(data) < SIZE:
            raise ImageCorrupt(
                "the file is too short for a VDI header", offset=0, field="signature", where=where
            )
        header = cls(**LAYOUT.read(data))
        header._validate(where, file_length)
        return header

    def _validate(self, where: str, file_length: int) -> None:
        def wrong(what: str, name: str) -> ImageCorrupt:
            return LAYOUT.wrong(what, name, getattr(self, name), where=where)

        if self.signature != SIGNATURE:
            raise wrong("this is no VDI image", "signature")
        if self.version >> 16 != 1 or self.version < VERSION:
            raise ImageUnsupported(
                f"VDI version {self.version >> 16}.{self.version & 0xFFFF} isn't known", where=where
            )
        if self.image_type not in (DYNAMIC, FIXED, UNDO, DIFFERENCING):
            raise wrong("there is no such type of VDI image", "image_type")
        if self.block_size < 4096 or self.block_size & (self.block_size - 1) or self.block_size > 1 << 30:
            raise wrong("blocks can't have this size", "block_size")
        if self.block_extra:
            raise ImageUnsupported(f"blocks with {self.block_extra} extra bytes aren't known", where=where)
        if self.geometry[3] not in (0, 512):
            raise ImageUnsupported(
                f"sectors of {self.geometry[3]} bytes aren't known in VDI images", where=where
            )
        if self.blocks > MAX_BLOCKS:
            raise wrong("the block map is too large", "blocks")
        if self.disk_size > self.blocks * self.block_size:
            raise wrong("the disk is larger than the block map's blocks", "disk_size")
        if self.map_offset < SIZE or self.map_offset % 512:
            raise wrong("the block map can't lie there", "map_offset")
        if self.data_offset % 512 or self.data_offset < self.map_offset + 4 * self.blocks:
            raise wrong("the data can't begin there", "data_offset")
        if self.map_offset + 4 * self.blocks > file_length:
            raise wrong("the block map lies behind the file's end", "blocks")
        if self.blocks_allocated > self.blocks:
            raise wrong("there are more allocated blocks than blocks", "blocks_allocated")
        if self.is_child and self.parent == _NO_UUID:
            raise wrong("a differencing image must name its parent", "parent")

    @property
    def is_child(self) -> bool:
        """Unallocated blocks are the parent's."""
        return self.image_type in (UNDO, DIFFERENCING)

    def pack(self, old: bytes | None = None) -> bytes:
        """The 512 bytes; what isn't known in them is kept from `old`."""
        return bytes(LAYOUT.write(asdict(self), None if old is None else bytearray(old)))

    def changed(self, **fields: object) -> Header:
        """A copy with other fields."""
        return replace(self, **fields)


def new_uuid() -> bytes:
    """A random UUID in VDI's byte order."""
    return guid.new_guid()


def show_uuid(value: bytes) -> str:
    """As people write UUIDs."""
    return guid.show_guid(value)
