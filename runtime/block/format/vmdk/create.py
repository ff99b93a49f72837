"""New VMDKs: their extents and descriptors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runtime.block.driver import OpenContext
from runtime.block.errors import ImageOption, ImageUnsupported
from runtime.block.format.mapped.table import Coding
from runtime.block.format.vmdk import header as vmdk
from runtime.block.format.vmdk.descriptor import ExtentLine, render
from runtime.block.format.vmdk.header import SECTOR, SparseHeader
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from runtime.block.format.vmdk.options import VmdkOptions

SPLIT_SECTORS = 2047 << 11  # 2047 MiB: what VMware puts into one extent of a split disk
FLAT_TYPES = ("monolithicFlat", "twoGbMaxExtentFlat", "vmfs")
_DESCRIPTOR_SECTORS = 20
_MAX_SECTORS = 0xFFFFFFFF  # sectors of 32 bits in grain tables: 2 TiB of data in one extent


def extent_name(descriptor: str, number: int, *, flat: bool) -> str:
    """The name of a split disk's extent, as VMware has it: disk-s001.vmdk, disk-f001.vmdk."""
    return f"{Path(descriptor).stem}-{'f' if flat else 's'}{number:03}.vmdk"


def new_sparse(file: ProtocolNode, sectors: int, *, zeroed_grains: bool, descriptor: str = "") -> None:
    """An empty sparse extent in an empty file. All tables exist from the start, as holes of the file."""
    grain = 128
    header = SparseHeader(capacity=sectors, grain_size=grain)
    table = 4 * header.table_entries // SECTOR
    directory = -(-4 * header.tables // SECTOR)
    start = 1 + (_DESCRIPTOR_SECTORS if descriptor else 0)
    second = start + directory + header.tables * table
    end = second + directory + header.tables * table
    header = header.changed(
        version=2 if zeroed_grains else 1,
        flags=header.flags | (vmdk.ZEROED_GRAINS if zeroed_grains else 0),
        descriptor_offset=1 if descriptor else 0,
        descriptor_size=_DESCRIPTOR_SECTORS if descriptor else 0,
        spare_directory=start,
        directory=second,
        overhead=-(-end // grain) * grain,
    )
    if header.overhead > _MAX_SECTORS:
        raise ImageOption(f"a sparse VMDK extent can't have {sectors} sectors", where=file.name)
    file.resize(header.overhead * SECTOR)
    coding = Coding("<u4")
    for place in (start, second):
        first = place + directory
        entries = coding.entries(range(first, first + table * header.tables, table))
        file.pwrite(place * SECTOR, coding.encoded(entries))
    if descriptor:
        file.pwrite(SECTOR, _embedded(descriptor, file.name))
    file.pwrite(0, header.pack())
    file.flush()


def new_stream(file: ProtocolNode, sectors: int, descriptor: str) -> None:
    """An empty compressed extent: header, descriptor, directory, footer."""
    from runtime.block.format.vmdk.stream import write_trailer

    header = SparseHeader(
        capacity=sectors,
        version=3,
        flags=vmdk.NEWLINES | vmdk.COMPRESSED | vmdk.MARKERS,
        descriptor_offset=1,
        descriptor_size=_DESCRIPTOR_SECTORS,
        directory=vmdk.AT_END,
        overhead=128,
        compression=vmdk.DEFLATE,
    )
    file.pwrite(0, header.pack() + _embedded(descriptor, file.name))
    write_trailer(file, header.overhead * SECTOR, header, bytes(4 * header.tables))
    file.flush()


def _embedded(descriptor: str, where: str) -> bytes:
    raw = descriptor.encode()
    if len(raw) >= _DESCRIPTOR_SECTORS * SECTOR:
        raise ImageOption("names in the descriptor are too long", where=where)
    return raw.ljust(_DESCRIPTOR_SECTORS * SECTOR, b"\0")


def create_vmdk(
    file: ProtocolNode,
    size: int,
    options: VmdkOptions,
    context: OpenContext,
    parent: tuple[str, int] | None = None,
) -> None:
    """A new image of `size` bytes in the empty `file`, with further files beside it where the subformat has
    them. `parent`: the name and the content's identity of the image below.
    """
    kind = options.subformat
    sectors = -(-size // SECTOR)
    if parent is not None and kind not in ("monolithicSparse", "twoGbMaxExtentSparse"):
        raise ImageOption(f"a {kind} VMDK can't have a backing file", where=file.name)
    own_name = Path(file.name).name

    def describe(lines: list[ExtentLine]) -> str:
        return render(
            kind,
            lines,
            parent=parent,
            adapter=options.adapter_type,
            hardware=options.hwversion or ("6" if options.compat6 else "4"),
            tools=options.toolsversion or "2147483647",  # any
        )

    if kind == "monolithicSparse":
        lines = [ExtentLine("RW", sectors, "SPARSE", own_name)]
        new_sparse(file, sectors, zeroed_grains=options.zeroed_grain, descriptor=describe(lines))
        return
    if kind == "streamOptimized":
        new_stream(file, sectors, describe([ExtentLine("RW", sectors, "SPARSE", own_name)]))
        return
    if context.path is None:
        raise ImageUnsupported(f"a {kind} VMDK has several files and needs a name", where=file.name)
    flat = kind in FLAT_TYPES
    split = kind.startswith("twoGbMaxExtent")
    lines = []
    for number, start in enumerate(range(0, max(sectors, 1), SPLIT_SECTORS if split else max(sectors, 1)), 1):
        part = min(SPLIT_SECTORS, sectors - start) if split else sectors
        name = extent_name(file.name, number, flat=flat) if split else f"{Path(file.name).stem}-flat.vmdk"
        with context.references.create_file(name) as extent:
            if flat:
                extent.resize(part * SECTOR, preallocation=options.preallocation)
                extent.flush()
            else:
                new_sparse(extent, part, zeroed_grains=options.zeroed_grain)
        lines.append(
            ExtentLine("RW", part, ("VMFS" if kind == "vmfs" else "FLAT") if flat else "SPARSE", name)
        )
    file.pwrite(0, describe(lines).encode())
    file.flush()
