"""Beginning and ceasing to keep checksums, and writing them at a clean close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.block.errors import ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.checksums import ITEM, POINTER, Checksums, crc
from runtime.block.format.qcow2.refcounts import swapped

if TYPE_CHECKING:
    from runtime.block.format.qcow2.core import Core


def store(core: Core, sums: Checksums) -> None:
    """Write the sums, those of changed clusters anew, and say that they are true."""
    size = core.header.cluster_size
    per_page = size // ITEM
    needed = max(sums.count, sums.changed.end())
    pages = -(-needed // per_page)
    offset = sums.offset
    if pages > -(-sums.count // per_page):
        # A place for all, which won't be counted as used.
        start, _ = core.refcounts.allocate(max(1, pages), exact=True)
        core.commit()
        core.refcounts.add(start, max(1, pages), -1)
        offset = start * size
    changed = iter(sums.changed)
    cluster = next(changed, -1)
    for number in range(pages):
        page = sums.page(number)[:]
        end = (number + 1) * per_page
        while 0 <= cluster < end:
            page[cluster % per_page] = crc(core.file.pread(cluster * size, size))
            cluster = next(changed, -1)
        core.file.pwrite(offset + number * size, swapped(page))
    core.refcounts.write_blocks()
    core.file.flush()
    sums.offset, sums.count = offset, pages * per_page
    core.header.set_extension(h.EXT_CHECKSUMS, POINTER.pack(sums.offset, sums.count))
    core.header.autoclear |= h.CHECKSUMS
    core.write_header()
    core.file.flush()


def enable(core: Core) -> None:
    """Keep checksums from now on; all data is read for those that are there already (at the close). Raises
    ImageUnsupported for images that can't have them.
    """
    if core.external:
        raise ImageUnsupported("checksums of a data file aren't kept", where=core.name)
    if core.header.version < 3:
        raise ImageUnsupported("version 2 can't have checksums", where=core.name, remedy="compat=1.1")
    from runtime.block.format.qcow2.checker import Checker

    core.settle()
    core.refcounts.reserved = []
    core.header.set_extension(h.EXT_CHECKSUMS, POINTER.pack(0, 0))
    core.write_header()
    core.checksums = Checksums(core.file, core.header)
    for cluster in Checker(core).data_clusters():
        core.checksums.changed.add(cluster, 1)


def disable(core: Core) -> None:
    """Forget the checksums."""
    core.settle()
    core.checksums = None
    core.refcounts.reserved = []
    core.header.autoclear &= ~h.CHECKSUMS
    core.header.set_extension(h.EXT_CHECKSUMS, None)
    core.write_header()
    core.file.flush()
