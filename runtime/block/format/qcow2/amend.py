"""Changing options of existing images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.block.errors import ImageCorrupt, ImageOption, ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.checker import Checker
from runtime.block.format.qcow2.header import COMPRESSED, ZERO, Header, Incompatible
from runtime.block.format.qcow2.mapping import ZEROES
from runtime.block.format.qcow2.tables import read_table
from runtime.block.options import parse_size

if TYPE_CHECKING:
    from runtime.block.format.qcow2.node import Qcow2Node
    from runtime.block.format.qcow2.options import Qcow2Options

_STEP = 1 << 20
_KEYS = {f"encrypt_{name}" for name in ("state", "new_secret", "old_secret", "keyslot", "iter_time")}
_FIXED = {
    "cluster_size",
    "compression_type",
    "extended_l2",
    "encrypt_format",
    "preallocation",
}


def amend(node: Qcow2Node, options: dict[str, object]) -> None:
    """Change what `options` names (names as for creating; besides them `size`). Raises ImageOption."""
    given = {name.replace("-", "_").replace(".", "_"): value for name, value in options.items()}
    size = given.pop("size", None)
    keys = {name.removeprefix("encrypt_"): given.pop(name) for name in _KEYS & set(given)}
    if keys:
        from runtime.block.format.qcow2.crypt import amend_keys

        amend_keys(node, keys)
        if not given and size is None:
            return
    model = _validated(node, given)
    for name in sorted(set(given) & _FIXED):
        if getattr(model, name) != _current(node, name):
            raise ImageUnsupported(
                f"{name} can't be changed in an existing image", where=node.name, remedy="convert the image"
            )
    node.settle()
    version = model.version if "compat" in given else node.header.version
    bits = model.refcount_bits if "refcount_bits" in given else node.header.refcount_bits
    if version > node.header.version:
        _upgrade(node)
    if bits != node.header.refcount_bits:
        if version < 3 and bits != 16:
            raise ImageOption("version 2 images have refcounts of 16 bits", where=node.name)
        change_refcount_bits(node, bits)
    if "lazy_refcounts" in given:
        _set_lazy(node, model.lazy_refcounts)
    if "data_file" in given or "data_file_raw" in given:
        _set_data_file(node, given, model)
    if "backing_file" in given or "backing_fmt" in given:
        reference = model.backing_file if "backing_file" in given else node.backing_name
        node.set_backing(reference or None, model.backing_fmt)
    if "checksums" in given and model.checksums != (node.checksums is not None):
        from runtime.block.format.qcow2 import checksums

        (checksums.enable if model.checksums else checksums.disable)(node)
    if size is not None:
        wanted = parse_size(size)
        if not isinstance(wanted, int):
            raise ImageOption(f"{size!r} is no size", where=node.name)
        node.resize(wanted)
    if version < node.header.version:
        _downgrade(node)


def _validated(node: Qcow2Node, given: dict[str, object]) -> Qcow2Options:
    from runtime.block.creation import checked_options
    from runtime.block.format.qcow2 import DRIVER
    from runtime.block.format.qcow2.options import Qcow2Options

    everything = dict(given)
    if "data_file_raw" in given and "data_file" not in given and node.external:
        everything["data_file"] = "data"  # it has one
    if "backing_fmt" in given and "backing_file" not in given:
        everything["backing_file"] = node.backing_name
    if given.get("backing_file") == "":
        everything["backing_file"] = None
        everything.pop("backing_fmt", None)
    model = checked_options(DRIVER, everything)
    assert isinstance(model, Qcow2Options)
    return model


def _current(node: Qcow2Node, name: str) -> object:
    header = node.header
    return {
        "cluster_size": header.cluster_size,
        "compression_type": "zstd" if header.compression_type else "zlib",
        "extended_l2": header.extended_l2,
        "encrypt_format": (None, "aes", "luks")[header.crypt_method],
    }.get(name)


def _write_whole(node: Qcow2Node, before: Header) -> None:
    """Write the changed header, or have the old one back."""
    try:
        node.header.encode()
    except ImageUnsupported:
        vars(node.header).update(vars(before))
        raise
    try:
        node.write_header()
        node.file.flush()
    except BaseException:
        node.fail()
        raise


def _upgrade(node: Qcow2Node) -> None:
    """Version 2 to 3: snapshots must say how large their disks are."""
    before = node.header.copy()
    size = node.header.size
    if node.header.nb_snapshots:
        items = [replace(item, disk_size=item.disk_size or size) for item in node.snapshots.items]
        with node.switching():
            node.snapshots.store(items)
    node.header.version = 3
    _write_whole(node, before)


def _downgrade(node: Qcow2Node) -> None:
    """Version 3 to 2: whatever version 2 doesn't know must go first."""
    header = node.header
    newer = {
        "an external data file": Incompatible.DATA_FILE,
        "zstd compression": Incompatible.COMPRESSION,
        "extended L2 entries": Incompatible.EXTENDED_L2,
    }
    for what, bit in newer.items():
        if header.incompatible & bit:
            raise ImageUnsupported(f"an image with {what} can't become version 2", where=node.name)
    if header.refcount_bits != 16:
        raise ImageUnsupported(
            "version 2 has refcounts of 16 bits", where=node.name, remedy="amend refcount_bits=16 first"
        )
    for item in node.snapshots.items if header.nb_snapshots else ():
        if item.disk_size not in (0, header.size):
            raise ImageUnsupported(
                f"snapshot {item.name!r} has a disk of another size, which version 2 can't say",
                where=node.name,
            )
        if _has_zero_flags(node, item.l1_offset, item.l1_size):
            raise ImageUnsupported(
                f"snapshot {item.name!r} has zero clusters, which version 2 can't say",
                where=node.name,
                remedy="delete the snapshot, or convert the image",
            )
    for bitmap in node.bitmaps.entries() if header.autoclear & h.BITMAPS else ():
        node.bitmaps.remove(bitmap.name)
    if node.checksums is not None:
        from runtime.block.format.qcow2.checksums import disable

        disable(node)
    _expand_zeroes(node)
    before = header.copy()
    node.settle()
    header.version = 2
    header.incompatible = header.compatible = header.autoclear = 0
    _write_whole(node, before)


def _has_zero_flags(node: Qcow2Node, l1_offset: int, l1_size: int) -> bool:
    size = node.header.cluster_size
    for index, entry in enumerate(read_table(node.file, l1_offset, l1_size)):
        offset = node.tables.l2_offset(index, entry, l1_offset)
        if offset:
            items = read_table(node.file, offset, size // 8)
            if any(item & ZERO and not item & COMPRESSED for item in items):
                return True
    return False


def _expand_zeroes(node: Qcow2Node) -> None:
    """Turn zero flags into holes where nothing is below, into zeroes elsewhere."""
    size = node.header.cluster_size
    end = -(-node.header.size // size) * size
    below = node.backing.length() if node.backing is not None else 0
    at = 0
    while at < end:
        stop = min(end, at + (64 << 20))
        for run in list(node.mapping.runs(node.tables, at, stop - at)):
            if run.kind != ZEROES:
                continue
            covered = min(run.length, max(0, -(-below // size) * size - run.offset))
            for place in range(run.offset, run.offset + covered, _STEP):
                part = min(_STEP, run.offset + covered - place)
                node.writer.write(place, memoryview(bytes(part)))
            node.writer.unmap(run.offset + covered, run.offset + run.length, expose=True)
        at = stop
    node.commit()


def _set_lazy(node: Qcow2Node, lazy: bool) -> None:
    header = node.header
    before = header.copy()
    if header.version < 3:
        if lazy:
            raise ImageOption("lazy_refcounts needs compat=1.1 (version 3)", where=node.name)
        return
    node.settle()
    header.compatible = header.compatible & ~h.LAZY_REFCOUNTS | (h.LAZY_REFCOUNTS if lazy else 0)
    _write_whole(node, before)


def _set_data_file(node: Qcow2Node, given: dict[str, object], model: Qcow2Options) -> None:
    header = node.header
    before = header.copy()
    if not node.external:
        raise ImageUnsupported("the image has no data file", where=node.name, remedy="convert the image")
    if "data_file" in given:
        name = model.data_file
        header.set_extension(h.EXT_DATA_FILE, name.encode(errors="surrogateescape") if name else None)
    if "data_file_raw" in given and model.data_file_raw != node.raw_external:
        if model.data_file_raw:
            raise ImageUnsupported("data_file_raw can't be turned on afterwards", where=node.name)
        header.autoclear &= ~h.RAW_EXTERNAL
        node.raw_external = False
    _write_whole(node, before)


def change_refcount_bits(node: Qcow2Node, bits: int) -> None:
    """Write all refcounts anew, with another width."""
    checker = Checker(node)
    report = checker.run(None)
    if report.corruptions or report.check_errors:
        raise ImageCorrupt(
            "the image is damaged",
            offset=None,
            field="refcounts",
            where=node.name,
            remedy="check and repair it first",
        )
    most = checker.counter.most()
    if most > (1 << bits) - 1:
        raise ImageUnsupported(
            f"a cluster has {most} references, which {bits} bits can't hold",
            where=node.name,
            remedy="delete snapshots, or convert the image",
        )
    checker.write_refcounts(bits.bit_length() - 1)
    node.build()
    node.tables.load()
    if node.checksums is not None:
        node.checksums.reserve()
    node.refcounts.load()
    node.guard_metadata()
