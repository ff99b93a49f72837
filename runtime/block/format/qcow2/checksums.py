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
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.format.qcow2 import header as h

if TYPE_CHECKING:
    from runtime.block.format.qcow2.node import Qcow2Node
    from runtime.block.report import CheckReport

_POINTER = struct.Struct(">QQ")
_LITTLE = sys.byteorder == "little"
_ITEM = 4


class ClusterSet:
    """A set of cluster numbers, mostly in runs: a bit each."""

    _BITS = 15  # of the numbers in one page

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def add(self, first: int, count: int) -> None:
        for cluster in range(first, first + count):
            page = self._pages.setdefault(cluster >> self._BITS, bytearray(1 << self._BITS - 3))
            page[(cluster >> 3) & ((1 << self._BITS - 3) - 1)] |= 1 << (cluster & 7)

    def __contains__(self, cluster: int) -> bool:
        page = self._pages.get(cluster >> self._BITS)
        return page is not None and bool(
            page[(cluster >> 3) & ((1 << self._BITS - 3) - 1)] >> (cluster & 7) & 1
        )

    def __iter__(self) -> Iterator[int]:
        for number in sorted(self._pages):
            for at, byte in enumerate(self._pages[number]):
                if byte:
                    for bit in range(8):
                        if byte >> bit & 1:
                            yield (number << self._BITS) + at * 8 + bit

    def end(self) -> int:
        """Behind the highest number."""
        last = -1
        for number in sorted(self._pages)[-1:]:
            page = self._pages[number].rstrip(b"\0")
            last = (number << self._BITS) + (len(page) - 1) * 8 + page[-1].bit_length() - 1
        return last + 1


def crc(data: bytes) -> int:
    """CRC-32C, never 0."""
    import google_crc32c

    value: int = google_crc32c.value(data)
    return value or 0xFFFF_FFFF


class Checksums:
    """The checksums of `node`."""

    def __init__(self, node: Qcow2Node) -> None:
        self.node = node
        self.changed = ClusterSet()
        self._verified = ClusterSet()
        self._pages: dict[int, array[int]] = {}
        self.offset, self.count = 0, 0  # of the area: bytes, entries
        pointer = node.header.extension(h.EXT_CHECKSUMS)
        if pointer is not None and node.header.autoclear & h.CHECKSUMS:
            if len(pointer) < _POINTER.size:
                raise self._corrupt("checksums extension", len(pointer))
            self.offset, self.count = _POINTER.unpack_from(pointer)
            size = node.header.cluster_size
            if self.offset % size or self.offset + self.count * _ITEM > node.file.length():
                raise self._corrupt("offset of the checksums", self.offset)
            self.reserve()

    def _corrupt(self, name: str, value: int) -> ImageCorrupt:
        return ImageCorrupt(
            "the checksums aren't in the file", offset=None, field=name, value=value, where=self.node.name
        )

    def reserve(self) -> None:
        """Keep the allocator off the area."""
        size = self.node.header.cluster_size
        clusters = -(-self.count * _ITEM // size)
        self.node.refcounts.reserved = [(self.offset // size, clusters)] if clusters else []

    def _page(self, number: int) -> array[int]:
        """The sums of one cluster of the area, 0 for those behind its end."""
        page = self._pages.get(number)
        if page is None:
            per_page = self.node.header.cluster_size // _ITEM
            page = array("I", bytes(_ITEM)) * per_page
            have = min(per_page, self.count - number * per_page)
            if have > 0:
                data = self.node.file.pread(self.offset + number * per_page * _ITEM, have * _ITEM)
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
        number, inside = divmod(cluster, self.node.header.cluster_size // _ITEM)
        return self._page(number)[inside]

    def _right(self, cluster: int) -> bool:
        wanted = self.known(cluster)
        size = self.node.header.cluster_size
        return not wanted or crc(self.node.file.pread(cluster * size, size)) == wanted

    def verify(self, host: int, length: int) -> None:
        """Raise ImageCorrupt unless the clusters of these bytes have their sums. Each is looked at once."""
        bits = self.node.header.cluster_bits
        for cluster in range(host >> bits, ((host + length - 1) >> bits) + 1):
            if cluster in self._verified:
                continue
            if not self._right(cluster):
                raise ImageCorrupt(
                    "a data cluster doesn't have its checksum: its content was damaged",
                    offset=cluster << bits,
                    field="data cluster",
                    where=self.node.name,
                    remedy="restore it from a backup; `isagen image check` lists all that are damaged",
                )
            self._verified.add(cluster, 1)

    def note(self, host: int, length: int) -> None:
        """These bytes of the file are changed."""
        bits = self.node.header.cluster_bits
        first = host >> bits
        self.changed.add(first, ((host + length - 1) >> bits) + 1 - first)

    def check(self, report: CheckReport, clusters: ClusterSet) -> None:
        """Compare all data clusters with their sums."""
        bits = self.node.header.cluster_bits
        for cluster in clusters:
            if not self._right(cluster):
                text = f"the content of data cluster {cluster} was damaged: it doesn't have its checksum"
                report.note("corruption", text, offset=cluster << bits)

    def store(self) -> None:
        """Write the sums, those of changed clusters anew, and say that they are true."""
        node = self.node
        size = node.header.cluster_size
        per_page = size // _ITEM
        needed = max(self.count, self.changed.end())
        old = (self.offset, self.count)
        pages = -(-needed // per_page)
        if pages > -(-self.count // per_page):
            # A place for all, which won't be counted as used.
            start, _ = node.refcounts.allocate(max(1, pages), exact=True)
            node.commit()
            node.refcounts.add(start, max(1, pages), -1)
            offset = start * size
        else:
            offset = self.offset
        changed = iter(self.changed)
        cluster = next(changed, -1)
        for number in range(pages):
            page = array("I", self._page(number).tobytes())
            end = (number + 1) * per_page
            while 0 <= cluster < end:
                page[cluster % per_page] = crc(node.file.pread(cluster * size, size))
                cluster = next(changed, -1)
            if _LITTLE:
                page.byteswap()
            node.file.pwrite(offset + number * size, page.tobytes())
        node.refcounts.write_blocks()
        node.file.flush()
        assert old == (self.offset, self.count)
        self.offset, self.count = offset, pages * per_page
        node.header.set_extension(h.EXT_CHECKSUMS, _POINTER.pack(self.offset, self.count))
        node.header.autoclear |= h.CHECKSUMS
        node.write_header()
        node.file.flush()


def enable(node: Qcow2Node) -> None:
    """Keep checksums from now on; all data is read for those that are there already (at the close)."""
    if node.external:
        raise ImageUnsupported("checksums of a data file aren't kept", where=node.name)
    if node.header.version < 3:
        raise ImageUnsupported("version 2 can't have checksums", where=node.name, remedy="compat=1.1")
    from runtime.block.format.qcow2.checker import Checker

    node.settle()
    node.refcounts.reserved = []
    node.header.set_extension(h.EXT_CHECKSUMS, _POINTER.pack(0, 0))
    node.write_header()
    node.checksums = Checksums(node)
    for cluster in Checker(node).data_clusters():
        node.checksums.changed.add(cluster, 1)


def disable(node: Qcow2Node) -> None:
    """Forget the checksums."""
    node.settle()
    node.checksums = None
    node.refcounts.reserved = []
    node.header.autoclear &= ~h.CHECKSUMS
    node.header.set_extension(h.EXT_CHECKSUMS, None)
    node.write_header()
    node.file.flush()
