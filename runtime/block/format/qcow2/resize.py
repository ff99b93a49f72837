"""Growing, shrinking and emptying."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from runtime.block.errors import ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.header import OFFSET_MASK
from runtime.block.format.qcow2.refcounts import swapped
from runtime.block.node import Preallocation

if TYPE_CHECKING:
    from runtime.block.format.qcow2.node import Qcow2Node

_STEP = 1 << 20


def resize(node: Qcow2Node, length: int, preallocation: Preallocation = "off") -> None:
    """Make the disk `length` bytes long, rounded up to 512."""
    header = node.header
    length = -(-length // 512) * 512
    before = header.size
    if header.l1_entries_for(length) * 8 > h.MAX_L1_BYTES:
        raise ImageUnsupported(
            f"a disk of {length} bytes is too big for clusters of {header.cluster_size} bytes",
            where=node.name,
        )
    if header.nb_snapshots and header.version < 3 and length != before:
        raise ImageUnsupported(
            "a version 2 image with snapshots can't change its size",
            where=node.name,
            remedy="upgrade it: `isagen image amend -o compat=1.1`",
        )
    if length < before and preallocation != "off":
        raise ImageUnsupported("preallocation means nothing to a disk that shrinks", where=node.name)
    node.begin_write()
    if header.autoclear & h.BITMAPS:
        node.bitmaps.load_all()
    if length < before:
        _shrink(node, length)
    else:
        _grow(node, length, preallocation)


def _set_size(node: Qcow2Node, length: int) -> None:
    node.header.size = length
    node.write_header()
    node.file.flush()
    if node.header.autoclear & h.BITMAPS:
        node.bitmaps.resize()


def _grow(node: Qcow2Node, length: int, preallocation: Preallocation) -> None:
    header, before = node.header, node.header.size
    grow_l1(node, max(1, header.l1_entries_for(length)))
    if node.external and node.data.length() < length:
        node.data.resize(length)
    # What lies behind the old end: of the last cluster, and of a longer backing file.
    tail = min(length, -(-before // header.cluster_size) * header.cluster_size)
    _blank(node, before, tail)
    below = min(length, node.backing.length() if node.backing is not None else 0)
    if below > tail:
        stop = min(length, -(-below // header.cluster_size) * header.cluster_size)
        _zero_above(node, tail, stop)
    node.commit()
    _set_size(node, length)
    if preallocation != "off":
        _preallocate(node, before, length, preallocation)


def _blank(node: Qcow2Node, start: int, end: int) -> None:
    if start < end:
        old = bytearray(end - start)
        node.read_mapped(node.tables, start, memoryview(old))
        if any(old):
            node.writer.write(start, memoryview(bytes(end - start)))


def _zero_above(node: Qcow2Node, start: int, stop: int) -> None:
    if node.header.version >= 3:
        node.writer.map_zeroes(start, stop)
        return
    for at in range(start, stop, _STEP):
        node.writer.write(at, memoryview(bytes(min(_STEP, stop - at))))


def grow_l1(node: Qcow2Node, entries: int) -> None:
    """Let the L1 table have at least `entries`. One write of the header switches to the new one."""
    header = node.header
    if entries <= header.l1_size:
        return
    if entries * 8 > h.MAX_L1_BYTES:
        raise ImageUnsupported("the L1 table would be too large", where=node.name)
    node.commit()
    per_cluster = header.cluster_size // 8
    clusters = -(-entries // per_cluster)
    start, _ = node.refcounts.allocate(clusters, exact=True)
    offset = start << header.cluster_bits
    grown = node.tables.l1 + array("Q", bytes(8)) * (entries - len(node.tables.l1))
    data = swapped(grown)
    try:
        node.file.pwrite(offset, data + bytes(-len(data) % header.cluster_size))
        node.commit()  # the cluster's refcount and its content
    except BaseException:
        node.refcounts.release(start, clusters)
        raise
    old_offset, old_size = header.l1_table_offset, header.l1_size
    header.l1_table_offset, header.l1_size = offset, entries
    try:
        node.write_header()
        node.file.flush()
    except BaseException:
        node.fail()
        raise
    node.tables.l1 = grown
    if old_size:
        node.refcounts.defer(old_offset >> header.cluster_bits, -(-old_size // per_cluster))


def _preallocate(node: Qcow2Node, start: int, end: int, how: Preallocation) -> None:
    """Give every unmapped cluster of the range its place in the file."""
    mapping, header = node.mapping, node.header
    size = header.cluster_size
    at = start // size * size
    # Clusters that read as what is below, or whose stored zeroes wouldn't decrypt to zeroes, are only
    # reserved.
    reserve = node.cipher is not None or header.backing_file
    while at < end:
        number = at >> mapping.l1_shift
        table = node.tables.for_writing(number)
        index = (at >> mapping.cluster_bits) & mapping.l2_mask
        stop = min(end, (number + 1) << mapping.l1_shift)
        count = 0
        while at + count * size < stop and not mapping.cluster(table, index + count).present:
            count += 1
        if count == 0:
            at += size
            continue
        if node.external:
            host, got = at, count
        else:
            first, got = node.refcounts.allocate(count)
            host = first << mapping.cluster_bits
        data_end = min(host + got * size, node.header.size) if node.external else host + got * size
        if node.checksums is not None:
            node.checksums.note(host, got * size)
        if how == "full" and not reserve:
            for place in range(host, data_end, _STEP):
                node.data.pwrite(place, bytes(min(_STEP, data_end - place)))
        else:
            fresh = node.data.length() <= host
            if how != "metadata":
                node.data.allocate(host, data_end - host)
            elif node.data.length() < data_end and not node.data.fixed_length:
                node.data.resize(data_end)
            if not fresh and not reserve and not node.external:
                node.data.write_zeroes(host, data_end - host)
        if reserve:
            for step in range(got):
                zero = 0 if mapping.extended else 1
                mapping.store(table, index + step, host + step * size, 0, zero, present=True)
        else:
            mapping.store_run(table, index, got, host)
        at += got * size
        node.commit_if_pressed()
    node.commit()


def _shrink(node: Qcow2Node, length: int) -> None:
    header = node.header
    before = header.size
    node.commit()
    _set_size(node, length)
    size = header.cluster_size
    first = -(-length // size) * size
    node.writer.unmap(first, -(-before // size) * size, expose=True)
    _drop_tables(node, header.l1_entries_for(length), header.l1_entries_for(before))
    node.commit()
    if node.external and not node.data.fixed_length:
        node.data.resize(length, shrink=True)
    node.refcounts.write_blocks()
    node.file.flush()
    trim(node)


def _drop_tables(node: Qcow2Node, start: int, end: int) -> None:
    """Forget L2 tables that map nothing any more."""
    tables = node.tables
    for index in range(start, min(end, len(tables.l1))):
        entry = tables.l1[index]
        if entry & OFFSET_MASK:
            node.refcounts.defer((entry & OFFSET_MASK) >> node.header.cluster_bits, 1)
            tables.l1[index] = 0
            tables.l1_dirty.add(index)
            tables.cache.pop(index, None)


def trim(node: Qcow2Node) -> None:
    """Cut the file behind its last used cluster."""
    if node.file.fixed_length or node.refcounts.reserved:
        return
    size = node.header.cluster_size
    last = -(-node.file.length() // size)
    while last > 1 and node.refcounts.get(last - 1) == 0:
        last -= 1
    if last * size < node.file.length():
        node.file.resize(last * size, shrink=True)


def make_empty(node: Qcow2Node) -> None:
    """Forget all guest data, so that everything is read from below."""
    header = node.header
    node.begin_write()
    node.note_dirty(0, header.size)
    node.writer.unmap(0, -(-header.size // header.cluster_size) * header.cluster_size, expose=True)
    node.commit()
    _drop_tables(node, 0, header.l1_entries_for(header.size))
    node.commit()
    node.refcounts.write_blocks()
    node.file.flush()
    trim(node)
