"""Opening and creating VHDX images."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageOption
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from runtime.block.format.vhdx.metadata import Metadata
    from runtime.block.format.vhdx.node import VhdxNode
    from runtime.block.format.vhdx.options import VhdxOptions
    from runtime.block.options import CreateOptions


class VhdxDriver(Driver):
    name = "vhdx"

    def open(self, file: ProtocolNode, context: OpenContext) -> VhdxNode:
        from runtime.block.format.vhdx.node import VhdxNode

        return VhdxNode(file, context)

    def options(self) -> type[CreateOptions]:
        from runtime.block.format.vhdx.options import VhdxOptions

        return VhdxOptions

    def create(self, file: ProtocolNode, size: int, options: CreateOptions, context: OpenContext) -> None:
        from runtime.block.format.parents import open_parent
        from runtime.block.format.vhdx.metadata import MAX_DISK, Metadata
        from runtime.block.format.vhdx.node import VhdxNode
        from runtime.block.format.vhdx.parent import make_locator

        chosen = cast("VhdxOptions", options)
        sector: int = chosen.logical_sector_size
        locator: dict[str, str] = {}
        if chosen.backing_file is not None:
            if chosen.subformat == "fixed":
                raise ImageOption("a fixed VHDX image can't have a backing file", where=file.name)
            node = cast(
                VhdxNode, open_parent("vhdx", chosen.backing_file, chosen.backing_fmt, context, file.name)
            )
            locator = make_locator(chosen.backing_file, node.header.data_write)
            sector = node.metadata.logical_sector
            node.close()
        size = -(-size // sector) * sector
        if size > MAX_DISK:
            raise ImageOption(f"a VHDX image can't have a disk of {size} bytes", where=file.name)
        metadata = Metadata(
            block_size=chosen.block_size or _block_size(size, child=bool(locator)),
            disk_size=size,
            logical_sector=sector,
            fixed=chosen.subformat == "fixed",
            has_parent=bool(locator),
            locator=locator,
        )
        _write(file, metadata, chosen)


def _block_size(size: int, *, child: bool) -> int:
    """What suits a disk of that size: small blocks for children and small disks."""
    if child:
        return 2 << 20
    for limit, blocks in ((1 << 30, 8 << 20), (100 << 30, 16 << 20), (32 << 40, 32 << 20)):
        if size <= limit:
            return blocks
    return 64 << 20


def _write(file: ProtocolNode, metadata: Metadata, chosen: VhdxOptions) -> None:
    """Header section, log, metadata, block table, and the blocks of fixed images; the identifier last."""
    from runtime.block.format.mapped.table import Coding
    from runtime.block.format.vhdx import header as vhdx
    from runtime.block.format.vhdx.metadata import pack_metadata

    mib = vhdx.MIB
    log = -(-chosen.log_size // mib) * mib
    regions = [
        vhdx.Region(vhdx.METADATA, mib + log, mib),
        vhdx.Region(vhdx.BAT, 2 * mib + log, max(mib, -(-metadata.entries * 8 // mib) * mib)),
    ]
    start = regions[1].offset + regions[1].length
    file.resize(start)
    file.pwrite(regions[0].offset, pack_metadata(metadata))
    if metadata.fixed:
        end = start + metadata.blocks * metadata.block_size
        file.resize(end, preallocation=chosen.preallocation)
        coding, size, ratio = Coding("<u8"), metadata.block_size, metadata.chunk_ratio
        for first in range(0, metadata.blocks, ratio):
            last = min(first + ratio, metadata.blocks)
            places = range((start + first * size) | 6, (start + last * size) | 6, size)
            at = first // ratio * (ratio + 1)
            file.pwrite(regions[1].offset + 8 * at, coding.encoded(coding.entries(places)))
    header = vhdx.Header(
        log_offset=mib, log_length=log, file_write=vhdx.new_guid(), data_write=vhdx.new_guid()
    )
    for number, base in enumerate(vhdx.HEADERS):
        file.pwrite(base, header.changed(sequence=number + 1).pack())
    for base in vhdx.REGION_TABLES:
        file.pwrite(base, vhdx.pack_regions(regions))
    file.pwrite(0, vhdx.IDENTIFIER + "isagen".encode("utf-16-le"))
    file.flush()


DRIVER = VhdxDriver()
