"""The QCOW2 header and its extensions (QEMU, docs/interop/qcow2.txt, "Header", "Header extensions").

All numbers are big-endian. The header's fields, the extensions and the backing file's name share the first
cluster. `Header.parse` believes nothing: every field is checked before anything of its size is allocated.
"""

from __future__ import annotations

import struct
from enum import IntFlag

from runtime.block.errors import ImageCorrupt, ImageUnsupported
from runtime.block.node import ProtocolNode
from runtime.records import field, record, replace

MAGIC = b"QFI\xfb"
MIN_CLUSTER_BITS, MAX_CLUSTER_BITS = 9, 21
MAX_L1_BYTES = 32 << 20
MAX_REFTABLE_BYTES = 8 << 20
MAX_SNAPSHOTS = 65536
MAX_SNAPSHOT_TABLE_BYTES = 64 << 20
MAX_BACKING_NAME = 1023
MAX_EXTENSIONS = 256
SECTOR = 512  # what a disk writes at once, or not at all

OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00  # bits 9-55 of L1 entries and of standard L2 entries
COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1


class Incompatible(IntFlag):
    DIRTY = 1
    CORRUPT = 2
    DATA_FILE = 4
    COMPRESSION = 8
    EXTENDED_L2 = 16


KNOWN_INCOMPATIBLE = 31
LAZY_REFCOUNTS = 1  # compatible
BITMAPS = 1  # autoclear
RAW_EXTERNAL = 2  # autoclear
CHECKSUMS = 1 << 62  # autoclear: ours (`checksums`)

EXT_END = 0
EXT_BACKING_FORMAT = 0xE2792ACA
EXT_FEATURE_NAMES = 0x6803F857
EXT_BITMAPS = 0x23852875
EXT_CRYPTO = 0x0537BE77
EXT_DATA_FILE = 0x44415441
EXT_CHECKSUMS = 0x49534753  # "ISGS": ours

CRYPT_NONE, CRYPT_AES, CRYPT_LUKS = 0, 1, 2
COMPRESSION_ZLIB, COMPRESSION_ZSTD = 0, 1

_V2 = struct.Struct(">4sIQIIQIIQQIIQ")  # 72 bytes
_V3 = struct.Struct(">QQQII")  # 32 bytes more

_FEATURES = [
    (0, 0, b"dirty bit"),
    (0, 1, b"corrupt bit"),
    (0, 2, b"external data file"),
    (0, 3, b"compression type"),
    (0, 4, b"extended L2 entries"),
    (1, 0, b"lazy refcounts"),
    (2, 0, b"bitmaps"),
    (2, 1, b"raw external data"),
    (2, 62, b"isagen checksums"),
]
# What must change in one write together with the header's fields comes first, inside of the first 512 bytes.
_ORDER = {EXT_BACKING_FORMAT: 0, EXT_DATA_FILE: 1, EXT_CRYPTO: 2, EXT_BITMAPS: 3, EXT_CHECKSUMS: 4}


@record
class Header:
    """The fields, in bytes and counts as the specification has them. `extensions` keeps unknown ones."""

    version: int = 3
    cluster_bits: int = 16
    size: int = 0
    crypt_method: int = CRYPT_NONE
    l1_size: int = 0  # entries
    l1_table_offset: int = 0
    refcount_table_offset: int = 0
    refcount_table_clusters: int = 0
    nb_snapshots: int = 0
    snapshots_offset: int = 0
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    compression_type: int = COMPRESSION_ZLIB
    tail: bytes = b""  # fields behind those that we know
    backing_file: bytes = b""
    extensions: list[tuple[int, bytes]] = field(default_factory=list)

    # --- derived ---

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def extended_l2(self) -> bool:
        return bool(self.incompatible & Incompatible.EXTENDED_L2)

    @property
    def l2_bits(self) -> int:
        """log2 of the number of clusters that one L2 table maps."""
        return self.cluster_bits - (4 if self.extended_l2 else 3)

    @property
    def refcount_bits(self) -> int:
        return 1 << self.refcount_order

    def l1_entries_for(self, size: int) -> int:
        """How many L1 entries a disk of `size` bytes needs."""
        shift = self.cluster_bits + self.l2_bits
        return (size + (1 << shift) - 1) >> shift

    def extension(self, kind: int) -> bytes | None:
        return next((data for have, data in self.extensions if have == kind), None)

    def set_extension(self, kind: int, data: bytes | None) -> None:
        """Put that extension in, replace it, or (None) take it out."""
        self.extensions = [(have, value) for have, value in self.extensions if have != kind]
        if data is not None:
            self.extensions.append((kind, data))

    def copy(self) -> Header:
        return replace(self, extensions=list(self.extensions))

    # --- bytes ---

    def encode(self) -> bytes:
        """The header, its extensions and the backing name. ImageUnsupported if they need over a cluster."""
        length = 72 if self.version == 2 else 112 + len(self.tail)
        kept = sorted(
            (item for item in self.extensions if item[0] != EXT_FEATURE_NAMES),
            key=lambda item: _ORDER.get(item[0], 9),
        )
        body = _pack_extensions(kept)
        if self.version >= 3:
            fields = (self.incompatible, self.compatible, self.autoclear)
            used = [entry for entry in _FEATURES if fields[entry[0]] >> entry[1] & 1]
            names = b"".join(struct.pack(">BB46s", *entry) for entry in used)
            longer = _pack_extensions([*kept, (EXT_FEATURE_NAMES, names)])
            if used and length + len(longer) + len(self.backing_file) <= SECTOR:
                body = longer  # the names are a courtesy; the header's writes shall be atomic
        backing_offset = length + len(body) if self.backing_file else 0
        total = length + len(body) + len(self.backing_file)
        if total > self.cluster_size:
            raise ImageUnsupported(
                f"the header needs {total} bytes, and a cluster has {self.cluster_size}",
                remedy="use larger clusters or a shorter backing file name",
            )
        fixed = _V2.pack(
            MAGIC,
            self.version,
            backing_offset,
            len(self.backing_file),
            self.cluster_bits,
            self.size,
            self.crypt_method,
            self.l1_size,
            self.l1_table_offset,
            self.refcount_table_offset,
            self.refcount_table_clusters,
            self.nb_snapshots,
            self.snapshots_offset,
        )
        if self.version >= 3:
            fixed += _V3.pack(self.incompatible, self.compatible, self.autoclear, self.refcount_order, length)
            fixed += bytes([self.compression_type]) + bytes(7) + self.tail
        return fixed + body + self.backing_file

    @classmethod
    def parse(cls, file: ProtocolNode, *, check: bool = False) -> Header:
        """The header of `file`; `check` leaves what a check can mend. Raises ImageCorrupt, ImageUnsupported.
        """
        size = file.length()
        where = file.name
        fixed = file.pread(0, 112)

        def corrupt(what: str, offset: int, name: str, value: object) -> ImageCorrupt:
            return ImageCorrupt(what, offset=offset, field=name, value=value, where=where)

        if fixed[:4] != MAGIC:
            raise corrupt("this isn't a QCOW2 image", 0, "magic", fixed[:4])
        if size < 72:
            raise corrupt("the file is shorter than a header", 0, "file length", size)
        header = cls()
        (
            _,
            header.version,
            backing_offset,
            backing_size,
            header.cluster_bits,
            header.size,
            header.crypt_method,
            header.l1_size,
            header.l1_table_offset,
            header.refcount_table_offset,
            header.refcount_table_clusters,
            header.nb_snapshots,
            header.snapshots_offset,
        ) = _V2.unpack_from(fixed)
        if header.version not in (2, 3):
            raise ImageUnsupported(f"QCOW2 version {header.version} (at offset 0x4) is unknown", where=where)
        if not MIN_CLUSTER_BITS <= header.cluster_bits <= MAX_CLUSTER_BITS:
            raise corrupt(
                "the cluster size is not 512 bytes to 2 MiB", 20, "cluster_bits", header.cluster_bits
            )
        length = 72
        if header.version >= 3:
            (header.incompatible, header.compatible, header.autoclear, header.refcount_order, length) = (
                _V3.unpack_from(fixed, 72)
            )
            if length < 104:
                raise corrupt("the header is too short", 100, "header_length", length)
            if length > header.cluster_size:
                raise corrupt("the header exceeds the first cluster", 100, "header_length", length)
            if length % 8:
                raise corrupt("the header's length isn't a multiple of 8", 100, "header_length", length)
            if size < length:
                raise corrupt("the file is shorter than its header", 100, "header_length", length)
            if header.refcount_order > 6:
                raise corrupt("refcounts have 1 to 64 bits", 96, "refcount_order", header.refcount_order)
            if length > 104:
                header.compression_type = fixed[104]
            if length > 112:
                header.tail = file.pread(112, length - 112)
        header._check_features(where)
        header._check_tables(size, where, check)
        if backing_offset:
            if backing_size > MAX_BACKING_NAME:
                raise corrupt("the backing file's name is too long", 16, "backing_file_size", backing_size)
            if backing_offset < length or backing_offset + backing_size > header.cluster_size:
                raise corrupt(
                    "the backing file's name isn't in the first cluster behind the header",
                    8,
                    "backing_file_offset",
                    backing_offset,
                )
            header.backing_file = file.pread(backing_offset, backing_size)
        header._read_extensions(file, length, backing_offset or header.cluster_size)
        return header

    def _check_features(self, where: str) -> None:
        unknown = self.incompatible & ~KNOWN_INCOMPATIBLE
        if unknown:
            bits = ", ".join(str(bit) for bit in range(64) if unknown >> bit & 1)
            raise ImageUnsupported(
                f"the image uses unknown incompatible features: bits {bits} of the field at offset 0x48",
                where=where,
            )
        if self.crypt_method > 2:
            raise ImageUnsupported(
                f"encryption method {self.crypt_method} (crypt_method at offset 0x20) is unknown", where=where
            )
        if self.extended_l2 and self.cluster_bits < 14:
            raise ImageCorrupt(
                "extended L2 entries need clusters of 16 KiB or more",
                offset=20,
                field="cluster_bits",
                value=self.cluster_bits,
                where=where,
            )
        if self.compression_type > 1:
            raise ImageUnsupported(
                f"compression type {self.compression_type} (compression_type at offset 0x68) is unknown",
                where=where,
            )
        if bool(self.incompatible & Incompatible.COMPRESSION) != bool(self.compression_type):
            raise ImageCorrupt(
                "the compression type and its feature bit contradict each other",
                offset=104,
                field="compression_type",
                value=self.compression_type,
                where=where,
            )

    def _check_tables(self, file_size: int, where: str, check: bool) -> None:
        cluster = self.cluster_size
        room = file_size + cluster - 1  # the last cluster may be cut short

        def corrupt(what: str, offset: int, name: str) -> ImageCorrupt:
            return ImageCorrupt(what, offset=offset, field=name, value=getattr(self, name), where=where)

        if self.size > (1 << 63) - 1:
            raise corrupt("the disk is too big", 24, "size")
        if self.l1_size > MAX_L1_BYTES // 8:
            raise corrupt("the L1 table is too large", 36, "l1_size")
        if self.l1_entries_for(self.size) > MAX_L1_BYTES // 8:
            raise corrupt("the disk is too big for its cluster size", 24, "size")
        if self.l1_size < self.l1_entries_for(self.size):
            raise corrupt("the L1 table is too small for the disk", 36, "l1_size")
        if self.l1_table_offset % cluster or self.l1_table_offset >= 1 << 56:
            raise corrupt("the L1 table isn't at a cluster", 40, "l1_table_offset")
        if self.l1_size and (self.l1_table_offset == 0 or self.l1_table_offset + self.l1_size * 8 > room):
            raise corrupt("the L1 table isn't inside of the file", 40, "l1_table_offset")
        if self.refcount_table_clusters > MAX_REFTABLE_BYTES >> self.cluster_bits:
            raise corrupt("the refcount table is too large", 56, "refcount_table_clusters")
        if self.refcount_table_offset % cluster or self.refcount_table_offset >= 1 << 56:
            raise corrupt("the refcount table isn't at a cluster", 48, "refcount_table_offset")
        if not check:
            if self.refcount_table_clusters == 0:
                raise corrupt("there is no refcount table", 56, "refcount_table_clusters")
            end = self.refcount_table_offset + (self.refcount_table_clusters << self.cluster_bits)
            if self.refcount_table_offset == 0 or end > room:
                raise corrupt("the refcount table isn't inside of the file", 48, "refcount_table_offset")
        if self.nb_snapshots > MAX_SNAPSHOTS:
            raise corrupt("there are too many snapshots", 60, "nb_snapshots")
        if self.nb_snapshots:
            if self.snapshots_offset % cluster or self.snapshots_offset == 0:
                raise corrupt("the snapshot table isn't at a cluster", 64, "snapshots_offset")
            if self.snapshots_offset + 40 * self.nb_snapshots > file_size:
                raise corrupt("the snapshot table isn't inside of the file", 64, "snapshots_offset")

    def _read_extensions(self, file: ProtocolNode, start: int, end: int) -> None:
        end = min(end, self.cluster_size, file.length())
        at = start
        while at + 8 <= end:
            kind, length = struct.unpack(">II", file.pread(at, 8))
            if kind == EXT_END:
                return
            if length > end - at - 8:
                raise ImageCorrupt(
                    "a header extension exceeds the header",
                    offset=at + 4,
                    field=f"length of extension {kind:#010x}",
                    value=length,
                    where=file.name,
                )
            if len(self.extensions) >= MAX_EXTENSIONS:
                raise ImageCorrupt(
                    "there are too many header extensions",
                    offset=at,
                    field="extension type",
                    value=kind,
                    where=file.name,
                )
            self.extensions.append((kind, file.pread(at + 8, length)))
            at += 8 + length + (-length % 8)


def _pack_extensions(items: list[tuple[int, bytes]]) -> bytes:
    parts = [struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8) for kind, data in items]
    return b"".join(parts) + bytes(8)
