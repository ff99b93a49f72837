"""Changing options of existing images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.block.errors import ImageCorrupt, ImageOption, ImageUnsupported
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.bitmaps import Bitmaps
from runtime.block.format.qcow2.checker import Checker
from runtime.block.format.qcow2.core import Core
from runtime.block.format.qcow2.header import COMPRESSED, ZERO, Header, Incompatible
from runtime.block.format.qcow2.mapping import ZEROES
from runtime.block.format.qcow2.resize import resize
from runtime.block.format.qcow2.tables import read_table
from runtime.block.format.qcow2.writer import Writer
from runtime.block.options import parse_size
from runtime.block.registry import recorded_name
from runtime.records import replace

if TYPE_CHECKING:
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


def amend(core: Core, options: dict[str, object]) -> None:
    """Change what `options` names (names as for creating; besides them `size`). Raises ImageOption."""
    given = {name.replace("-", "_").replace(".", "_"): value for name, value in options.items()}
    size = given.pop("size", None)
    keys = {name.removeprefix("encrypt_"): given.pop(name) for name in _KEYS & set(given)}
    if keys:
        from runtime.block.format.qcow2.keys import amend_keys

        amend_keys(core, keys)
        if not given and size is None:
            return
    model = _validated(core, given)
    for name in sorted(set(given) & _FIXED):
        if getattr(model, name) != _current(core, name):
            raise ImageUnsupported(
                f"{name} can't be changed in an existing image", where=core.name, remedy="convert the image"
            )
    core.settle()
    version = model.version if "compat" in given else core.header.version
    bits = model.refcount_bits if "refcount_bits" in given else core.header.refcount_bits
    if version > core.header.version:
        _upgrade(core)
    if bits != core.header.refcount_bits:
        if version < 3 and bits != 16:
            raise ImageOption("version 2 images have refcounts of 16 bits", where=core.name)
        change_refcount_bits(core, bits)
    if "lazy_refcounts" in given:
        _set_lazy(core, model.lazy_refcounts)
    if "data_file" in given or "data_file_raw" in given:
        _set_data_file(core, given, model)
    if "backing_file" in given or "backing_fmt" in given:
        reference = model.backing_file if "backing_file" in given else core.backing_name
        set_backing(core, reference or None, model.backing_fmt)
    if "checksums" in given and model.checksums != (core.checksums is not None):
        from runtime.block.format.qcow2 import checksumming

        (checksumming.enable if model.checksums else checksumming.disable)(core)
    if size is not None:
        wanted = parse_size(size)
        if not isinstance(wanted, int):
            raise ImageOption(f"{size!r} is no size", where=core.name)
        core.shrink_or_raise(wanted, False)
        resize(core, wanted)
    if version < core.header.version:
        _downgrade(core)


def _validated(core: Core, given: dict[str, object]) -> Qcow2Options:
    from runtime.block.creation import filled_in
    from runtime.block.format.qcow2.options import Qcow2Options

    everything = dict(given)
    if "data_file_raw" in given and "data_file" not in given and core.external:
        everything["data_file"] = "data"  # it has one
    if "backing_fmt" in given and "backing_file" not in given:
        everything["backing_file"] = core.backing_name
    if given.get("backing_file") == "":
        everything["backing_file"] = None
        everything.pop("backing_fmt", None)
    model = filled_in(Qcow2Options, everything, core.format)
    assert isinstance(model, Qcow2Options)
    return model


def _current(core: Core, name: str) -> object:
    header = core.header
    return {
        "cluster_size": header.cluster_size,
        "compression_type": "zstd" if header.compression_type else "zlib",
        "extended_l2": header.extended_l2,
        "encrypt_format": (None, "aes", "luks")[header.crypt_method],
    }.get(name)


def _write_whole(core: Core, before: Header) -> None:
    """Write the changed header, or have the old one back."""
    try:
        core.header.encode()
    except ImageUnsupported:
        vars(core.header).update(vars(before))
        raise
    try:
        core.write_header()
        core.file.flush()
    except BaseException:
        core.fail()
        raise


def _upgrade(core: Core) -> None:
    """Version 2 to 3: snapshots must say how large their disks are."""
    before = core.header.copy()
    size = core.header.size
    if core.header.nb_snapshots:
        from runtime.block.format.qcow2.snapshots import Qcow2Snapshots

        items = [replace(item, disk_size=item.disk_size or size) for item in core.snapshot_table.items]
        with core.switching():
            Qcow2Snapshots(core).store(items)
    core.header.version = 3
    _write_whole(core, before)


def _downgrade(core: Core) -> None:
    """Version 3 to 2: whatever version 2 doesn't know must go first."""
    header = core.header
    newer = {
        "an external data file": Incompatible.DATA_FILE,
        "zstd compression": Incompatible.COMPRESSION,
        "extended L2 entries": Incompatible.EXTENDED_L2,
    }
    for what, bit in newer.items():
        if header.incompatible & bit:
            raise ImageUnsupported(f"an image with {what} can't become version 2", where=core.name)
    if header.refcount_bits != 16:
        raise ImageUnsupported(
            "version 2 has refcounts of 16 bits", where=core.name, remedy="amend refcount_bits=16 first"
        )
    for item in core.snapshot_table.items if header.nb_snapshots else ():
        if item.disk_size not in (0, header.size):
            raise ImageUnsupported(
                f"snapshot {item.name!r} has a disk of another size, which version 2 can't say",
                where=core.name,
            )
        if _has_zero_flags(core, item.l1_offset, item.l1_size):
            raise ImageUnsupported(
                f"snapshot {item.name!r} has zero clusters, which version 2 can't say",
                where=core.name,
                remedy="delete the snapshot, or convert the image",
            )
    if header.autoclear & h.BITMAPS:
        bitmaps = Bitmaps(core)
        for bitmap in bitmaps.entries():
            bitmaps.remove(bitmap.name)
    if core.checksums is not None:
        from runtime.block.format.qcow2.checksumming import disable

        disable(core)
    _expand_zeroes(core)
    before = header.copy()
    core.settle()
    header.version = 2
    header.incompatible = header.compatible = header.autoclear = 0
    _write_whole(core, before)


def _has_zero_flags(core: Core, l1_offset: int, l1_size: int) -> bool:
    size = core.header.cluster_size
    for index, entry in enumerate(read_table(core.file, l1_offset, l1_size)):
        offset = core.tables.l2_offset(index, entry, l1_offset)
        if offset:
            items = read_table(core.file, offset, size // 8)
            if any(item & ZERO and not item & COMPRESSED for item in items):
                return True
    return False


def _expand_zeroes(core: Core) -> None:
    """Turn zero flags into holes where nothing is below, into zeroes elsewhere."""
    size = core.header.cluster_size
    end = -(-core.header.size // size) * size
    below = core.backing.length() if core.backing is not None else 0
    writer = Writer(core)
    at = 0
    while at < end:
        stop = min(end, at + (64 << 20))
        for run in list(core.mapping.runs(core.tables, at, stop - at)):
            if run.kind != ZEROES:
                continue
            covered = min(run.length, max(0, -(-below // size) * size - run.offset))
            for place in range(run.offset, run.offset + covered, _STEP):
                part = min(_STEP, run.offset + covered - place)
                writer.write(place, memoryview(bytes(part)))
            writer.unmap(run.offset + covered, run.offset + run.length, expose=True)
        at = stop
    core.commit()


def _set_lazy(core: Core, lazy: bool) -> None:
    header = core.header
    before = header.copy()
    if header.version < 3:
        if lazy:
            raise ImageOption("lazy_refcounts needs compat=1.1 (version 3)", where=core.name)
        return
    core.settle()
    header.compatible = header.compatible & ~h.LAZY_REFCOUNTS | (h.LAZY_REFCOUNTS if lazy else 0)
    _write_whole(core, before)


def _set_data_file(core: Core, given: dict[str, object], model: Qcow2Options) -> None:
    header = core.header
    before = header.copy()
    if not core.external:
        raise ImageUnsupported("the image has no data file", where=core.name, remedy="convert the image")
    if "data_file" in given:
        name = model.data_file
        header.set_extension(h.EXT_DATA_FILE, name.encode(errors="surrogateescape") if name else None)
    if "data_file_raw" in given and model.data_file_raw != core.raw_external:
        if model.data_file_raw:
            raise ImageUnsupported("data_file_raw can't be turned on afterwards", where=core.name)
        header.autoclear &= ~h.RAW_EXTERNAL
        core.raw_external = False
    _write_whole(core, before)


def set_backing(core: Core, reference: str | None, format: str | None) -> None:
    """Record another backing file (or none), by the name that the image shall hold. Raises ImageUnsupported
    if the header has no room for it.
    """
    name = b"" if reference is None else reference.encode(errors="surrogateescape")
    if len(name) > h.MAX_BACKING_NAME:
        raise ImageUnsupported(f"a backing file's name may have {h.MAX_BACKING_NAME} bytes", where=core.name)
    if name and core.raw_external:
        raise ImageUnsupported("an image with a raw data file can't have a backing file", where=core.name)
    core.settle()
    before = core.header.copy()
    core.header.backing_file = name
    form = recorded_name(format).encode() if name and format else None
    core.header.set_extension(h.EXT_BACKING_FORMAT, form)
    try:
        core.write_header()
    except ImageUnsupported:
        core.header.backing_file, core.header.extensions = before.backing_file, before.extensions
        raise
    core.file.flush()


def change_refcount_bits(core: Core, bits: int) -> None:
    """Write all refcounts anew, with another width."""
    checker = Checker(core)
    report = checker.run(None)
    if report.corruptions or report.check_errors:
        raise ImageCorrupt(
            "the image is damaged",
            offset=None,
            field="refcounts",
            where=core.name,
            remedy="check and repair it first",
        )
    most = checker.counter.most()
    if most > (1 << bits) - 1:
        raise ImageUnsupported(
            f"a cluster has {most} references, which {bits} bits can't hold",
            where=core.name,
            remedy="delete snapshots, or convert the image",
        )
    checker.write_refcounts(bits.bit_length() - 1)
    core.build()
    core.tables.load()
    core.refcounts.load()
    core.guard_metadata()
