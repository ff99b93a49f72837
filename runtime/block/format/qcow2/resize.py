"""Growing, shrinking and emptying."""

from __future__ import annotations

from array import array

from runtime.block.errors import ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.core import Core
from runtime.block.format.qcow2.header import OFFSET_MASK
from runtime.block.format.qcow2.reader import Reader
from runtime.block.format.qcow2.refcounts import swapped
from runtime.block.format.qcow2.writer import Writer
from runtime.block.node import Preallocation

_STEP = 1 << 20


def resize(core: Core, length: int, preallocation: Preallocation = "off") -> None:
    """Make the disk `length` bytes long, rounded up to 512."""
    header = core.header
    length = -(-length // 512) * 512
    before = header.size
    if header.l1_entries_for(length) * 8 > h.MAX_L1_BYTES:
        raise ImageUnsupported(
            f"a disk of {length} bytes is too big for clusters of {header.cluster_size} bytes",
            where=core.name,
        )
    if header.nb_snapshots and header.version < 3 and length != before:
        raise ImageUnsupported(
            "a version 2 image with snapshots can't change its size",
            where=core.name,
            remedy="upgrade it: `isagen image amend -o compat=1.1`",
        )
    if length < before and preallocation != "off":
        raise ImageUnsupported("preallocation means nothing to a disk that shrinks", where=core.name)
    core.begin_write()
    if header.autoclear & h.BITMAPS:
        core.bitmap_directory.load_all()
    if length < before:
        _shrink(core, length)
    else:
        _grow(core, length, preallocation)


def _set_size(core: Core, length: int) -> None:
    core.header.size = length
    core.write_header()
    core.file.flush()
    if core.header.autoclear & h.BITMAPS:
        from runtime.block.format.qcow2.bitmaps import Bitmaps

        Bitmaps(core).resize()


def _grow(core: Core, length: int, preallocation: Preallocation) -> None:
    header, before = core.header, core.header.size
    grow_l1(core, max(1, header.l1_entries_for(length)))
    if core.external and core.data.length() < length:
        core.data.resize(length)
    # What lies behind the old end: of the last cluster, and of a longer backing file.
    tail = min(length, -(-before // header.cluster_size) * header.cluster_size)
    _blank(core, before, tail)
    below = min(length, core.backing.length() if core.backing is not None else 0)
    if below > tail:
        stop = min(length, -(-below // header.cluster_size) * header.cluster_size)
        _zero_above(core, tail, stop)
    core.commit()
    _set_size(core, length)
    if preallocation != "off":
        _preallocate(core, before, length, preallocation)


def _blank(core: Core, start: int, end: int) -> None:
    if start < end:
        old = bytearray(end - start)
        Reader(core).read(core.tables, start, memoryview(old))
        if any(old):
            Writer(core).write(start, memoryview(bytes(end - start)))


def _zero_above(core: Core, start: int, stop: int) -> None:
    if core.header.version >= 3:
        Writer(core).map_zeroes(start, stop)
        return
    for at in range(start, stop, _STEP):
        Writer(core).write(at, memoryview(bytes(min(_STEP, stop - at))))


def grow_l1(core: Core, entries: int) -> None:
    """Let the L1 table have at least `entries`. One write of the header switches to the new one."""
    header = core.header
    if entries <= header.l1_size:
        return
    if entries * 8 > h.MAX_L1_BYTES:
        raise ImageUnsupported("the L1 table would be too large", where=core.name)
    core.commit()
    per_cluster = header.cluster_size // 8
    clusters = -(-entries // per_cluster)
    start, _ = core.refcounts.allocate(clusters, exact=True)
    offset = start << header.cluster_bits
    grown = core.tables.l1 + array("Q", bytes(8)) * (entries - len(core.tables.l1))
    data = swapped(grown)
    try:
        core.file.pwrite(offset, data + bytes(-len(data) % header.cluster_size))
        core.commit()  # the cluster's refcount and its content
    except BaseException:
        core.refcounts.release(start, clusters)
        raise
    old_offset, old_size = header.l1_table_offset, header.l1_size
    header.l1_table_offset, header.l1_size = offset, entries
    try:
        core.write_header()
        core.file.flush()
    except BaseException:
        core.fail()
        raise
    core.tables.l1 = grown
    if old_size:
        core.refcounts.defer(old_offset >> header.cluster_bits, -(-old_size // per_cluster))


def _preallocate(core: Core, start: int, end: int, how: Preallocation) -> None:
    """Give every unmapped cluster of the range its place in the file."""
    mapping, header = core.mapping, core.header
    size = header.cluster_size
    at = start // size * size
    # Clusters that read as what is below, or whose stored zeroes wouldn't decrypt to zeroes, are only
    # reserved.
    reserve = core.cipher is not None or header.backing_file
    while at < end:
        number = at >> mapping.l1_shift
        table = core.tables.for_writing(number)
        index = (at >> mapping.cluster_bits) & mapping.l2_mask
        stop = min(end, (number + 1) << mapping.l1_shift)
        count = 0
        while at + count * size < stop and not mapping.cluster(table, index + count).present:
            count += 1
        if count == 0:
            at += size
            continue
        if core.external:
            host, got = at, count
        else:
            first, got = core.refcounts.allocate(count)
            host = first << mapping.cluster_bits
        data_end = min(host + got * size, core.header.size) if core.external else host + got * size
        if core.checksums is not None:
            core.checksums.note(host, got * size)
        if how == "full" and not reserve:
            for place in range(host, data_end, _STEP):
                core.data.pwrite(place, bytes(min(_STEP, data_end - place)))
        else:
            fresh = core.data.length() <= host
            if how != "metadata":
                core.data.allocate(host, data_end - host)
            elif core.data.length() < data_end and not core.data.fixed_length:
                core.data.resize(data_end)
            if not fresh and not reserve and not core.external:
                core.data.write_zeroes(host, data_end - host)
        if reserve:
            for step in range(got):
                zero = 0 if mapping.extended else 1
                mapping.store(table, index + step, host + step * size, 0, zero, present=True)
        else:
            mapping.store_run(table, index, got, host)
        at += got * size
        core.commit_if_pressed()
    core.commit()


def _shrink(core: Core, length: int) -> None:
    header = core.header
    before = header.size
    core.commit()
    _set_size(core, length)
    size = header.cluster_size
    first = -(-length // size) * size
    Writer(core).unmap(first, -(-before // size) * size, expose=True)
    _drop_tables(core, header.l1_entries_for(length), header.l1_entries_for(before))
    core.commit()
    if core.external and not core.data.fixed_length:
        core.data.resize(length, shrink=True)
    core.refcounts.write_blocks()
    core.file.flush()
    trim(core)


def _drop_tables(core: Core, start: int, end: int) -> None:
    """Forget L2 tables that map nothing any more."""
    tables = core.tables
    for index in range(start, min(end, len(tables.l1))):
        entry = tables.l1[index]
        if entry & OFFSET_MASK:
            core.refcounts.defer((entry & OFFSET_MASK) >> core.header.cluster_bits, 1)
            tables.l1[index] = 0
            tables.l1_dirty.add(index)
            tables.cache.pop(index, None)


def trim(core: Core) -> None:
    """Cut the file behind its last used cluster."""
    if core.file.fixed_length or core.refcounts.reserved:
        return
    size = core.header.cluster_size
    last = -(-core.file.length() // size)
    while last > 1 and core.refcounts.get(last - 1) == 0:
        last -= 1
    if last * size < core.file.length():
        core.file.resize(last * size, shrink=True)


def make_empty(core: Core) -> None:
    """Forget all guest data, so that everything is read from below."""
    header = core.header
    core.begin_write()
    core.note_dirty(0, header.size)
    Writer(core).unmap(0, -(-header.size // header.cluster_size) * header.cluster_size, expose=True)
    core.commit()
    _drop_tables(core, 0, header.l1_entries_for(header.size))
    core.commit()
    core.refcounts.write_blocks()
    core.file.flush()
    trim(core)
