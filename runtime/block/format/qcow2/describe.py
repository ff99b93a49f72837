"""What `isagen image info` says about a QCOW2 image. Names are those of `qemu-img info --output json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.header import Incompatible
from runtime.block.report import ImageInfo

if TYPE_CHECKING:
    from runtime.block.format.qcow2.core import Core


def describe(core: Core) -> ImageInfo:
    header = core.header
    data: dict[str, Any] = {
        "compat": "0.10" if header.version == 2 else "1.1",
        "refcount-bits": header.refcount_bits,
        "compression-type": "zstd" if header.compression_type else "zlib",
    }
    if header.version >= 3:
        data["lazy-refcounts"] = bool(header.compatible & h.LAZY_REFCOUNTS)
        data["corrupt"] = bool(header.incompatible & Incompatible.CORRUPT)
        data["extended-l2"] = header.extended_l2
    if core.external:
        name = header.extension(h.EXT_DATA_FILE)
        data["data-file"] = None if name is None else name.decode(errors="replace")
        data["data-file-raw"] = core.raw_external
    if header.autoclear & h.BITMAPS:
        data["bitmaps"] = [bitmap.describe() for bitmap in core.bitmap_directory.items]
    if header.crypt_method:
        data["encrypt"] = {"format": "aes" if header.crypt_method == h.CRYPT_AES else "luks"}
    if header.autoclear & h.CHECKSUMS:
        data["checksums"] = "crc32c"
    form = header.extension(h.EXT_BACKING_FORMAT)
    backing = core.backing_name
    full = None
    if backing is not None:
        path = core.context.path
        full = backing if path is None or backing.startswith("/") else str(path.parent / backing)
    return ImageInfo(
        filename=core.name,
        format="qcow2",
        virtual_size=header.size,
        actual_size=core.file.allocated() + (core.data.allocated() if core.external else 0),
        cluster_size=header.cluster_size,
        encrypted=True if header.crypt_method else None,
        dirty_flag=bool(header.incompatible & Incompatible.DIRTY),
        backing_filename=backing,
        full_backing_filename=full,
        backing_filename_format=form.decode(errors="replace") if form else None,
        snapshots=core.snapshot_table.entries() if header.nb_snapshots else None,
        format_specific={"type": "qcow2", "data": data},
    )
