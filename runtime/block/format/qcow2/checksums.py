"""Checksums of data clusters, which other tools ignore.

A CRC-32C for each host cluster that holds data lies in an area that a header extension names: offset of the
area (64 bits), number of clusters that it covers (64 bits). The area's clusters have refcount 0 and belong to
it only while our autoclear bit is set: whoever doesn't know it clears the bit before writing, may then use
the clusters, and finds nothing odd when checking. We clear the bit, too, while we write, and set it again at
a clean close, with sums of what was changed. Entry 0 means that no sum is known.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import TYPE_CHECKING

from runtime.block.errors import ImageCorrupt
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.clusters import ClusterSet
from runtime.block.format.qcow2.header import Header
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from runtime.block.report import CheckReport

POINTER = struct.Struct(">QQ")  # to the area: offset, entries
_LITTLE = sys.byteorder == "little"
ITEM = 4  # bytes of a sum


def crc(data: bytes) -> int:
    """CRC-32C, never 0."""
    import google_crc32c

    value: int = google_crc32c.value(data)
    return value or 0xFFFF_FFFF


class Checksums:
    """The checksums in `file`, as its `header` names them. Raises ImageCorrupt if they can't be there."""

    def __init__(self, file: ProtocolNode, header: Header) -> None:
        self.file = file
        self.header = header
        self.changed = ClusterSet()
        self._verified = ClusterSet()
        self._pages: dict[int, array[int]] = {}
        self.offset, self.count = 0, 0  # of the area: bytes, entries
        pointer = header.extension(h.EXT_CHECKSUMS)
        if pointer is not None and header.autoclear & h.CHECKSUMS:
            if len(pointer) < POINTER.size:
                raise self._corrupt("checksums extension", len(pointer))
            self.offset, self.count = POINTER.unpack_from(pointer)
            size = header.cluster_size
            if self.offset % size or self.offset + self.count * ITEM > file.length():
                raise self._corrupt("offset of the checksums", self.offset)

    def _corrupt(self, name: str, value: int) -> ImageCorrupt:
        return ImageCorrupt(
            "the checksums aren't in the file", offset=None, field=name, value=value, where=self.file.name
        )

    def area(self) -> list[tuple[int, int]]:
        """What the allocator mustn't give out, as (cluster, count)."""
        size = self.header.cluster_size
        clusters = -(-self.count * ITEM // size)
        return [(self.offset // size, clusters)] if clusters else []

    def page(self, number: int) -> array[int]:
        """The sums of one cluster of the area, 0 for those behind its end."""
        page = self._pages.get(number)
        if page is None:
            per_page = self.header.cluster_size // ITEM
            page = array("I", bytes(ITEM)) * per_page
            have = min(per_page, self.count - number * per_page)
            if have > 0:
                data = self.file.pread(self.offset + number * per_page * ITEM, have * ITEM)
                part = array("I", data)
                if _LITTLE:
                    part.byteswap()
                page[:have] = part
            if len(self._pages) > 64:
                self._pages.clear()
            self._pages[number] = page
        return page

    def known(self, cluster: int) -> int:
        """The sum that a cluster should have; 0 if that isn't known."""
        if cluster in self.changed or cluster >= self.count:
            return 0
        number, inside = divmod(cluster, self.header.cluster_size // ITEM)
        return self.page(number)[inside]

    def _right(self, cluster: int) -> bool:
        wanted = self.known(cluster)
        size = self.header.cluster_size
        return not wanted or crc(self.file.pread(cluster * size, size)) == wanted

    def verify(self, host: int, length: int) -> None:
        """Raise ImageCorrupt unless the clusters of these bytes have their sums. Each is looked at once."""
        bits = self.header.cluster_bits
        for cluster in range(host >> bits, ((host + length - 1) >> bits) + 1):
            if cluster in self._verified:
                continue
            if not self._right(cluster):
                raise ImageCorrupt(
                    "a data cluster doesn't have its checksum: its content was damaged",
                    offset=cluster << bits,
                    field="data cluster",
                    where=self.file.name,
                    remedy="restore it from a backup; `isagen image check` lists all that are damaged",
                )
            self._verified.add(cluster, 1)

    def note(self, host: int, length: int) -> None:
        """These bytes of the file are changed."""
        bits = self.header.cluster_bits
        first = host >> bits
        self.changed.add(first, ((host + length - 1) >> bits) + 1 - first)

    def check(self, report: CheckReport, clusters: ClusterSet) -> None:
        """Compare all data clusters with their sums."""
        bits = self.header.cluster_bits
        for cluster in clusters:
            if not self._right(cluster):
                text = f"the content of data cluster {cluster} was damaged: it doesn't have its checksum"
                report.note("corruption", text, offset=cluster << bits)
