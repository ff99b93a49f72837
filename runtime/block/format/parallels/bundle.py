"""Parallels bundles: DiskDescriptor.xml says which .hds files make the disk, and which snapshot is the
current one.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterator
from typing import Any

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.parallels.header import SECTOR
from runtime.block.format.parallels.node import ParallelsNode
from runtime.block.format.raw import RawNode
from runtime.block.node import Buffer, Extent, FormatNode, ProtocolNode
from runtime.block.report import ImageInfo
from runtime.records import record

MAX_BYTES = 1 << 20
_MAX_STORAGES = 1024
_MAX_CHAIN = 64
_BASE = "{5fbaabe3-6958-40ff-92a7-860e329aab41}"  # the image below all snapshots, and the top without any
_NOBODY = "{00000000-0000-0000-0000-000000000000}"


@record(frozen=True)
class Storage:
    """A part of the disk, in sectors. `images`: (type, file name), the current one first."""

    start: int
    end: int
    images: list[tuple[str, str]]


def parse_descriptor(data: bytes, where: str) -> tuple[int, list[Storage]]:
    """(the disk's sectors, its parts in order). Raises ImageCorrupt."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    def wrong(what: str, field: str, value: object = None) -> ImageCorrupt:
        return ImageCorrupt(what, offset=None, field=field, value=value, where=where)

    def number(parent: Any, name: str) -> int:
        text = (parent.findtext(name) or "").strip()
        if not text.isdigit() or len(text) > 18:
            raise wrong(f"{name} is no number", name, text[:40])
        return int(text)

    try:
        root = fromstring(data)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise wrong(f"the descriptor can't be read: {error}", "XML") from error
    if root.tag != "Parallels_disk_image":
        raise wrong("this is no Parallels descriptor", "root", str(root.tag)[:40])
    parameters = root.find("Disk_Parameters")
    if parameters is None:
        raise wrong("there are no disk parameters", "Disk_Parameters")
    sectors = number(parameters, "Disk_size")
    parents = {
        (shot.findtext("GUID") or "").strip(): (shot.findtext("ParentGUID") or _NOBODY).strip()
        for shot in root.iterfind("Snapshots/Shot")
    }
    guid = (root.findtext("Snapshots/TopGUID") or _BASE).strip()
    chain = [guid]
    while parents.get(chain[-1], _NOBODY) != _NOBODY:
        chain.append(parents[chain[-1]])
        if len(chain) > _MAX_CHAIN or len(set(chain)) != len(chain):
            raise wrong("the snapshots are too many, or go round in a circle", "ParentGUID", chain[-1][:40])
    storages: list[Storage] = []
    for found in root.iterfind("StorageData/Storage"):
        if len(storages) >= _MAX_STORAGES:
            raise wrong("there are too many parts", "Storage")
        files = {
            (image.findtext("GUID") or "").strip(): (
                (image.findtext("Type") or "").strip(),
                (image.findtext("File") or "").strip(),
            )
            for image in found.iterfind("Image")
        }
        if chain[0] not in files:
            raise wrong("a part has no image of the current snapshot", "Image", chain[0][:40])
        start, end = number(found, "Start"), number(found, "End")
        if start != (storages[-1].end if storages else 0) or end <= start:
            raise wrong("the parts of the disk aren't in a row", "Start", start)
        storages.append(Storage(start, end, [files[one] for one in chain if one in files]))
    if not storages or storages[-1].end < sectors:
        raise wrong("the parts don't make up the whole disk", "Storage")
    return sectors, storages


class BundleNode(FormatNode):
    """The disk of a bundle, read only."""

    format = "parallels"

    def __init__(self, file: ProtocolNode, context: OpenContext) -> None:
        self.file = file
        self.name = file.name
        self.read_only = True
        if file.length() > MAX_BYTES:
            raise ImageCorrupt(
                "the descriptor is too long", offset=0, field="XML", value=file.length(), where=file.name
            )
        if context.writable:
            raise ImageUnsupported(
                "Parallels bundles can't be written",
                where=file.name,
                remedy="convert it, write to an overlay, or open its .hds file",
            )
        sectors, storages = parse_descriptor(file.pread(0, file.length()), file.name)
        self._size = sectors * SECTOR
        self._starts = [storage.start * SECTOR for storage in storages]
        self._nodes: list[FormatNode] = []
        with contextlib.ExitStack() as opened:
            for storage in storages:
                node = self._open(storage, context)
                opened.callback(node.close)
                self._nodes.append(node)
            opened.pop_all()

    def _open(self, storage: Storage, context: OpenContext) -> FormatNode:
        node: FormatNode | None = None
        try:
            for kind, name in reversed(storage.images):
                file = context.references.open_file(name, "disk image", writable=False)
                try:
                    if kind == "Plain":
                        node = RawNode(file, writable=False)
                    elif kind == "Compressed":
                        node = ParallelsNode(file, writable=False, backing=node)
                    else:
                        raise ImageUnsupported(f"disk images of type {kind!r} aren't known", where=self.name)
                except BaseException:
                    file.close()
                    raise
            assert node is not None
            if node.length() < (min(storage.end * SECTOR, self._size) - storage.start * SECTOR):
                raise ImageCorrupt(
                    "a disk image is smaller than its part of the disk",
                    offset=None,
                    field="End",
                    value=storage.end,
                    where=node.name,
                )
        except BaseException:
            if node is not None:
                node.close()
            raise
        return node

    def length(self) -> int:
        return self._size

    def _parts(self, offset: int, length: int) -> Iterator[tuple[FormatNode, int, int, int]]:
        """(node, offset in it, offset in the disk, length)"""
        at, end = offset, offset + length
        number = bisect.bisect_right(self._starts, offset) - 1
        while at < end:
            start = self._starts[number]
            stop = min(end, self._starts[number + 1] if number + 1 < len(self._starts) else end)
            yield self._nodes[number], at - start, at, stop - at
            at, number = stop, number + 1

    def pread(self, offset: int, length: int) -> bytes:
        self.in_range_or_raise(offset, length)
        return b"".join(node.pread(at, size) for node, at, _, size in self._parts(offset, length))

    def pwrite(self, offset: int, data: Buffer) -> None:
        self.writable_or_raise()

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        size = self._size - offset if length is None else length
        self.in_range_or_raise(offset, size)
        for node, at, place, part in self._parts(offset, size):
            for extent in node.extents(at, part):
                yield extent._replace(offset=extent.offset - at + place, host_offset=None)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self.file.close)
            for node in self._nodes:
                stack.callback(node.close)

    def info(self) -> ImageInfo:
        return ImageInfo(
            filename=self.name,
            format=self.format,
            virtual_size=self._size,
            actual_size=sum(node.file.allocated() for node in self._nodes),
            cluster_size=self._nodes[0].info().cluster_size,
        )
