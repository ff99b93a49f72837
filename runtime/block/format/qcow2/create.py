"""Creating QCOW2 images: a minimal image first, which then grows like any other."""

from __future__ import annotations

from array import array

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageOption
from runtime.block.format.qcow2 import header as h
from runtime.block.format.qcow2.header import Header, Incompatible
from runtime.block.format.qcow2.node import Qcow2Node
from runtime.block.format.qcow2.options import Qcow2Options
from runtime.block.format.qcow2.refcounts import decode_counts, encode_counts, swapped
from runtime.block.format.qcow2.resize import resize
from runtime.block.node import ProtocolNode
from runtime.block.registry import recorded_name
from runtime.records import replace


def create(file: ProtocolNode, size: int, options: Qcow2Options, context: OpenContext) -> None:
    """Write an image of `size` bytes, rounded up to 512, into the empty `file`."""
    size = -(-size // 512) * 512
    header = Header(
        version=options.version,
        cluster_bits=options.cluster_size.bit_length() - 1,
        refcount_order=options.refcount_bits.bit_length() - 1,
        compatible=h.LAZY_REFCOUNTS if options.lazy_refcounts else 0,
        compression_type=h.COMPRESSION_ZSTD if options.compression_type == "zstd" else h.COMPRESSION_ZLIB,
    )
    if options.compression_type == "zstd":
        header.incompatible |= Incompatible.COMPRESSION
    if options.extended_l2:
        header.incompatible |= Incompatible.EXTENDED_L2
    if header.l1_entries_for(size) * 8 > h.MAX_L1_BYTES:
        most = (h.MAX_L1_BYTES // 8) << (header.cluster_bits + header.l2_bits)
        raise ImageOption(
            f"a disk of {size} bytes is too big: clusters of {header.cluster_size} bytes allow {most}",
            where=file.name,
            remedy="choose a larger cluster_size",
        )
    if options.backing_file is not None:
        header.backing_file = options.backing_file.encode(errors="surrogateescape")
        if len(header.backing_file) > h.MAX_BACKING_NAME:
            raise ImageOption(f"a backing file's name may have {h.MAX_BACKING_NAME} bytes", where=file.name)
        if options.backing_fmt is not None:
            header.set_extension(h.EXT_BACKING_FORMAT, recorded_name(options.backing_fmt).encode())
    data: ProtocolNode | None = None
    if options.data_file is not None:
        header.incompatible |= Incompatible.DATA_FILE
        header.autoclear |= h.RAW_EXTERNAL if options.data_file_raw else 0
        header.set_extension(h.EXT_DATA_FILE, options.data_file.encode(errors="surrogateescape"))
        data = context.references.create_file(options.data_file)
        data.resize(size)
    _write_minimum(file, header)
    # With check set, nothing is mended or looked for yet.
    inside = replace(
        context, writable=True, backing=False, check=False, options={"data_file": data} if data else {}
    )
    node = Qcow2Node(file, inside)
    try:
        if options.encrypt_format is not None:
            from runtime.block.format.qcow2.keys import initialise

            initialise(node, options)
        resize(node, size, options.preallocation)
        if options.checksums:
            from runtime.block.format.qcow2.checksumming import enable

            enable(node)
        node.finish()
    finally:
        if data is not None:
            data.close()


def _write_minimum(file: ProtocolNode, header: Header) -> None:
    """Header, refcount table, one refcount block: an image of no size."""
    cluster = header.cluster_size
    header.refcount_table_offset, header.refcount_table_clusters = cluster, 1
    counts = decode_counts(bytes(cluster), header.refcount_order)
    for used in range(3):
        counts[used] = 1
    # Whole clusters: a device isn't empty before.
    encoded = header.encode()
    file.pwrite(0, encoded + bytes(cluster - len(encoded)))
    file.pwrite(cluster, swapped(array("Q", [2 * cluster])) + bytes(cluster - 8))
    file.pwrite(2 * cluster, encode_counts(counts))
    file.resize(3 * cluster)
