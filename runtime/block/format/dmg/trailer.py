"""The trailer ("koly") of DMG files, the property list that it points to, and the block tables ("mish") in
that.

Big endian. There is no text of Apple's; the layouts are as hdiutil writes them.
"""

from __future__ import annotations

import plistlib
import struct
from typing import Any
from xml.parsers.expat import ExpatError

import numpy as np

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.layout import Layout
from runtime.block.node import ProtocolNode

SECTOR = 512
ZERO, RAW, IGNORE = 0, 1, 2
ADC, ZLIB, BZIP2, LZFSE, XZ = 0x80000004, 0x80000005, 0x80000006, 0x80000007, 0x80000008
_COMMENT, _END = 0x7FFFFFFE, 0xFFFFFFFF
MAX_PLIST = 16 << 20
MAX_CHUNK = 16 << 20  # bytes, packed or not
_MAX_CHUNKS = 1 << 20

KOLY = Layout(
    ">",
    SECTOR,
    signature=(0, "4s"),
    version=(4, "I"),
    header_size=(8, "I"),
    data_offset=(24, "Q"),
    data_length=(32, "Q"),
    resource_offset=(40, "Q"),
    resource_length=(48, "Q"),
    segment_count=(60, "I"),
    plist_offset=(216, "Q"),
    plist_length=(224, "Q"),
    sectors=(492, "Q"),
)
_MISH = struct.Struct(">4sIQQQII")
_MISH_CHUNKS = 200
CHUNK = np.dtype(
    [
        ("kind", ">u4"),
        ("comment", ">u4"),
        ("sector", ">u8"),
        ("sectors", ">u8"),
        ("offset", ">u8"),
        ("length", ">u8"),
    ]
)


def read_chunks(file: ProtocolNode) -> tuple[int, np.ndarray]:
    """(sectors of the disk, its chunks in order: records of `CHUNK` with places in the file). Raises
    ImageCorrupt.
    """
    base = file.length() - SECTOR
    koly = KOLY.read(file.pread(max(base, 0), SECTOR))

    def wrong(what: str, name: str) -> ImageCorrupt:
        return KOLY.wrong(what, name, koly[name], where=file.name, base=max(base, 0))

    if base < 0 or koly["signature"] != b"koly":
        raise wrong("there is no trailer", "signature")
    if koly["version"] != 4 or koly["header_size"] != SECTOR:
        raise ImageUnsupported(f"version {koly['version']} of DMG isn't known", where=file.name)
    if koly["segment_count"] > 1:
        raise ImageUnsupported("disk images of several segments aren't known", where=file.name)
    if not koly["plist_length"]:
        raise ImageUnsupported("the image has no property list, as before Mac OS X 10.2", where=file.name)
    if koly["plist_length"] > MAX_PLIST or koly["plist_offset"] + koly["plist_length"] > base:
        raise wrong("the property list lies outside of the file", "plist_length")
    plist = _plist(file, koly["plist_offset"], koly["plist_length"])
    tables = [_table(data, file.name) for data in plist]
    chunks = np.concatenate(tables) if tables else np.zeros(0, CHUNK)
    if len(chunks) > _MAX_CHUNKS:
        raise wrong("there are too many chunks", "plist_length")
    chunks = chunks[np.argsort(chunks["sector"], kind="stable")]
    chunks = chunks[chunks["sectors"] > 0]
    sectors = max(int(koly["sectors"]), int((chunks["sector"][-1:] + chunks["sectors"][-1:]).max(initial=0)))
    if sectors > (1 << 53):
        raise wrong("the disk is too large", "sectors")
    stored = ~np.isin(chunks["kind"], (ZERO, IGNORE))
    too_long = stored & ((chunks["sectors"] > MAX_CHUNK // SECTOR) | (chunks["length"] > MAX_CHUNK))
    outside = stored & (chunks["offset"] > base - koly["data_offset"])
    for bad, what in ((too_long, "a chunk is too long"), (outside, "a chunk lies outside of the file")):
        if bad.any():
            record = chunks[int(np.flatnonzero(bad)[0])]
            raise ImageCorrupt(
                what,
                offset=int(koly["plist_offset"]),
                field="blkx",
                value=f"sector {record['sector']}, {record['sectors']} sectors, {record['length']} bytes",
                where=file.name,
            )
    chunks["offset"] += np.uint64(koly["data_offset"])
    return sectors, chunks


def _plist(file: ProtocolNode, offset: int, length: int) -> list[bytes]:
    """The block tables in the property list."""
    try:
        plist: Any = plistlib.loads(file.pread(offset, length), fmt=plistlib.FMT_XML)
        found = [entry["Data"] for entry in plist["resource-fork"]["blkx"]]
    except (
        plistlib.InvalidFileException,
        ExpatError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise ImageCorrupt(
            f"the property list can't be read: {error}", offset=offset, field="XML", where=file.name
        ) from error
    except RecursionError:
        raise ImageCorrupt(
            "the property list is nested too deeply", offset=offset, field="XML", where=file.name
        ) from None
    if not all(isinstance(data, bytes) for data in found):
        raise ImageCorrupt("a block table is no data", offset=offset, field="blkx", where=file.name)
    return found


def _table(data: bytes, where: str) -> np.ndarray:
    """The chunks of one block table that are part of the disk."""
    if len(data) < _MISH_CHUNKS + 4 or data[:4] != b"mish":
        raise ImageCorrupt("a block table is damaged", offset=None, field="mish", value=data[:4], where=where)
    _, _, first, _, base, _, _ = _MISH.unpack_from(data, 0)
    count = int.from_bytes(data[_MISH_CHUNKS : _MISH_CHUNKS + 4], "big")
    if count * CHUNK.itemsize > len(data) - _MISH_CHUNKS - 4:
        raise ImageCorrupt(
            "a block table is shorter than its count",
            offset=None,
            field="mish count",
            value=count,
            where=where,
        )
    chunks = np.frombuffer(data, CHUNK, count, _MISH_CHUNKS + 4).copy()
    chunks = chunks[~np.isin(chunks["kind"], (_COMMENT, _END))]
    for name in ("sector", "sectors", "offset", "length"):
        if (chunks[name] > 1 << 60).any():
            raise ImageCorrupt("a number in a block table is too large", offset=None, field=name, where=where)
    if first > 1 << 60 or base > 1 << 60:
        raise ImageCorrupt("a number in a block table is too large", offset=None, field="mish", where=where)
    chunks["sector"] += np.uint64(first)
    chunks["offset"] += np.uint64(base)
    return chunks
