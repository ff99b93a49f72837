"""The metadata region of VHDX images ([MS-VHDX] 2.6)."""

from __future__ import annotations

import struct

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.guid import guid, show_guid
from runtime.block.format.vhdx.header import MIB, Region, new_guid
from runtime.block.node import ProtocolNode
from runtime.records import field, record

TABLE_SIZE = 64 << 10
_HEAD = struct.Struct("<8sHH")
_ENTRY = struct.Struct("<16sIIII")
_MAX_ITEMS = 2047
_IS_USER, _IS_VIRTUAL_DISK, _IS_REQUIRED = 1, 2, 4
_LEAVE_ALLOCATED, _HAS_PARENT = 1, 2

_FILE_PARAMETERS = guid("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
_DISK_SIZE = guid("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
_PAGE_83 = guid("BECA12AB-B2E6-4523-93EF-C309E000C746")
_LOGICAL_SECTOR = guid("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
_PHYSICAL_SECTOR = guid("CDA348C7-445D-4471-9CC9-E9885251C556")
_PARENT_LOCATOR = guid("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
_LOCATOR_TYPE = guid("B04AEFB7-D19E-4A81-B789-25B8E9445913")
_KNOWN = (_FILE_PARAMETERS, _DISK_SIZE, _PAGE_83, _LOGICAL_SECTOR, _PHYSICAL_SECTOR, _PARENT_LOCATOR)
_MAX_LOCATOR = 1 << 18  # bytes
MAX_DISK = 64 << 40
_CHUNK_SECTORS = 1 << 23


@record
class Metadata:
    """What the items say. `locator` has the parent's names (keys as in 2.6.2.6.3)."""

    block_size: int
    disk_size: int
    logical_sector: int = 512
    physical_sector: int = 4096
    fixed: bool = False
    has_parent: bool = False
    page_83: bytes = field(default_factory=new_guid)
    locator: dict[str, str] = field(default_factory=dict)
    size_offset: int = 0  # of the disk's size in the file

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks for each sector bitmap block."""
        return _CHUNK_SECTORS * self.logical_sector // self.block_size

    @property
    def blocks(self) -> int:
        """Payload blocks of the disk."""
        return -(-self.disk_size // self.block_size)

    @property
    def entries(self) -> int:
        """Entries that the block table needs."""
        blocks = self.blocks
        if self.has_parent:
            return -(-blocks // self.chunk_ratio) * (self.chunk_ratio + 1)
        return blocks + (blocks - 1) // self.chunk_ratio if blocks else 0


def read_metadata(file: ProtocolNode, region: Region) -> Metadata:
    """All items, validated. Raises ImageCorrupt, ImageUnsupported."""
    return _Reader(file, region).read()


class _Reader:
    def __init__(self, file: ProtocolNode, region: Region) -> None:
        self._file = file
        self._region = region
        self._items: dict[bytes, tuple[int, int]] = {}

    def _wrong(self, what: str, offset: int, name: str, value: object = None) -> ImageCorrupt:
        return ImageCorrupt(what, offset=offset, field=name, value=value, where=self._file.name)

    def read(self) -> Metadata:
        self._read_table()
        size, flags = self._number(_FILE_PARAMETERS, "File Parameters", "<II")
        where = self._items[_FILE_PARAMETERS][0]
        if not MIB <= size <= 256 * MIB or size & (size - 1):
            raise self._wrong("blocks can't have this size", where, "BlockSize", size)
        (disk,) = self._number(_DISK_SIZE, "Virtual Disk Size", "<Q")
        (logical,) = self._number(_LOGICAL_SECTOR, "Logical Sector Size", "<I")
        (physical,) = self._number(_PHYSICAL_SECTOR, "Physical Sector Size", "<I")
        for name, item, value in (
            ("LogicalSectorSize", _LOGICAL_SECTOR, logical),
            ("PhysicalSectorSize", _PHYSICAL_SECTOR, physical),
        ):
            if value not in (512, 4096):
                raise self._wrong("sectors have 512 or 4096 bytes", self._items[item][0], name, value)
        at = self._items[_DISK_SIZE][0]
        if disk > MAX_DISK or disk % logical:
            raise self._wrong("a disk can't have this size", at, "VirtualDiskSize", disk)
        page_83 = self._bytes(_PAGE_83, "Page 83 Data", 16)
        child = bool(flags & _HAS_PARENT)
        return Metadata(
            block_size=size,
            disk_size=disk,
            logical_sector=logical,
            physical_sector=physical,
            fixed=bool(flags & _LEAVE_ALLOCATED) and not child,
            has_parent=child,
            page_83=page_83,
            locator=self._locator() if child else {},
            size_offset=at,
        )

    def _read_table(self) -> None:
        base = self._region.offset
        table = self._file.pread(base, TABLE_SIZE)
        signature, _, count = _HEAD.unpack_from(table, 0)
        if signature != b"metadata":
            raise self._wrong("there is no metadata table", base, "Signature", signature)
        if count > _MAX_ITEMS:
            raise self._wrong("there are too many metadata items", base + 10, "EntryCount", count)
        for number in range(count):
            at = 32 + number * _ENTRY.size
            item, offset, length, flags, _ = _ENTRY.unpack_from(table, at)
            if flags & _IS_USER or item not in _KNOWN:
                if flags & _IS_REQUIRED and not flags & _IS_USER:
                    raise ImageUnsupported(
                        f"the image needs a metadata item that isn't known: {show_guid(item)}",
                        where=self._file.name,
                    )
                continue
            if item in self._items:
                raise self._wrong("a metadata item is there twice", base + at, "ItemId")
            if offset < TABLE_SIZE or offset + length > self._region.length:
                raise self._wrong(
                    "a metadata item lies outside of its region", base + at + 16, "Offset", offset
                )
            self._items[item] = (base + offset, length)

    def _bytes(self, item: bytes, name: str, length: int) -> bytes:
        if item not in self._items:
            raise self._wrong(f"there is no metadata item {name}", self._region.offset, "ItemId")
        at, there = self._items[item]
        if there < length:
            raise self._wrong(f"the metadata item {name} is too short", at, "Length", there)
        return self._file.pread(at, length)

    def _number(self, item: bytes, name: str, code: str) -> tuple[int, ...]:
        layout = struct.Struct(code)
        return layout.unpack(self._bytes(item, name, layout.size))

    def _locator(self) -> dict[str, str]:
        self._bytes(_PARENT_LOCATOR, "Parent Locator", 20)
        at, length = self._items[_PARENT_LOCATOR]
        if length > _MAX_LOCATOR:
            raise self._wrong("the parent locator is too long", at, "Length", length)
        data = self._file.pread(at, length)
        if data[:16] != _LOCATOR_TYPE:
            raise ImageUnsupported("the parent is named in a way that isn't known", where=self._file.name)
        (count,) = struct.unpack_from("<H", data, 18)
        found: dict[str, str] = {}
        for number in range(count):
            entry = 20 + number * 12
            if entry + 12 > length:
                raise self._wrong("the parent locator is too short", at + 18, "KeyValueCount", count)
            key, value, key_length, value_length = struct.unpack_from("<IIHH", data, entry)
            if key + key_length > length or value + value_length > length:
                raise self._wrong("the parent locator is damaged", at + entry, "KeyOffset", key)
            found[data[key : key + key_length].decode("utf-16-le", "replace")] = data[
                value : value + value_length
            ].decode("utf-16-le", "replace")
        return found


def pack_metadata(metadata: Metadata) -> bytes:
    """The used bytes of a metadata region, a multiple of 4096. The locator comes last."""
    flags = (_LEAVE_ALLOCATED if metadata.fixed else 0) | (_HAS_PARENT if metadata.has_parent else 0)
    items = [
        (_FILE_PARAMETERS, struct.pack("<II", metadata.block_size, flags), _IS_REQUIRED),
        (_DISK_SIZE, struct.pack("<Q", metadata.disk_size), _IS_VIRTUAL_DISK | _IS_REQUIRED),
        (_PAGE_83, metadata.page_83, _IS_VIRTUAL_DISK | _IS_REQUIRED),
        (_LOGICAL_SECTOR, struct.pack("<I", metadata.logical_sector), _IS_VIRTUAL_DISK | _IS_REQUIRED),
        (_PHYSICAL_SECTOR, struct.pack("<I", metadata.physical_sector), _IS_VIRTUAL_DISK | _IS_REQUIRED),
    ]
    if metadata.has_parent:
        items.append((_PARENT_LOCATOR, _pack_locator(metadata.locator), _IS_REQUIRED))
    table = bytearray(TABLE_SIZE)
    _HEAD.pack_into(table, 0, b"metadata", 0, len(items))
    body = bytearray()
    for number, (item, data, bits) in enumerate(items):
        _ENTRY.pack_into(table, 32 + number * _ENTRY.size, item, TABLE_SIZE + len(body), len(data), bits, 0)
        body += data + bytes(-len(data) % 8)
    return bytes(table + body + bytes(-len(body) % 4096))


def _pack_locator(locator: dict[str, str]) -> bytes:
    texts = bytearray()
    entries = bytearray()
    start = 20 + 12 * len(locator)
    for key, value in locator.items():
        raw_key, raw_value = key.encode("utf-16-le"), value.encode("utf-16-le")
        at = start + len(texts)
        entries += struct.pack("<IIHH", at, at + len(raw_key), len(raw_key), len(raw_value))
        texts += raw_key + raw_value
    return _LOCATOR_TYPE + struct.pack("<HH", 0, len(locator)) + bytes(entries + texts)
