"""Opening and creating Parallels images."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageOption
from runtime.block.node import FormatNode, ProtocolNode

if TYPE_CHECKING:
    from runtime.block.format.parallels.options import ParallelsOptions
    from runtime.block.options import CreateOptions


class ParallelsDriver(Driver):
    name = "parallels"

    def open(self, file: ProtocolNode, context: OpenContext) -> FormatNode:
        from runtime.block.format.parallels.bundle import BundleNode
        from runtime.block.format.parallels.node import ParallelsNode

        if file.pread(0, 64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            return BundleNode(file, context)
        return ParallelsNode(file, writable=context.writable, check=context.check)

    def options(self) -> type[CreateOptions]:
        from runtime.block.format.parallels.options import ParallelsOptions

        return ParallelsOptions

    def create(self, file: ProtocolNode, size: int, options: CreateOptions, context: OpenContext) -> None:
        from runtime.block.format.parallels.header import LAYOUT, MAX_ENTRIES, SECTOR, Header

        chosen = cast("ParallelsOptions", options)
        sectors, cluster = -(-size // SECTOR), chosen.cluster_size // SECTOR
        entries = -(-sectors // cluster)
        if entries > MAX_ENTRIES:
            raise ImageOption(
                f"a Parallels image can't have a disk of {size} bytes",
                where=file.name,
                remedy="larger clusters",
            )
        start = -(-(LAYOUT.size + 4 * entries) // chosen.cluster_size) * chosen.cluster_size
        header = Header(
            sectors=sectors,
            entries=entries,
            data_offset=start // SECTOR,
            cluster_sectors=cluster,
            cylinders=min(sectors // (16 * 32), 0xFFFFFFFF),
        )
        file.resize(start)
        file.pwrite(0, header.pack())
        file.flush()


DRIVER = ParallelsDriver()
