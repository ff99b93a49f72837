"""Opening and creating VDI images."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, cast

from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageOption
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from runtime.block.format.vdi.node import VdiNode
    from runtime.block.format.vdi.options import VdiOptions
    from runtime.block.options import CreateOptions


class VdiDriver(Driver):
    name = "vdi"

    def open(self, file: ProtocolNode, context: OpenContext) -> VdiNode:
        from runtime.block.format.vdi.node import VdiNode

        return VdiNode(file, context)

    def options(self) -> type[CreateOptions]:
        from runtime.block.format.vdi.options import VdiOptions

        return VdiOptions

    def create(self, file: ProtocolNode, size: int, options: CreateOptions, context: OpenContext) -> None:
        from runtime.block.format.mapped.table import Coding
        from runtime.block.format.parents import open_parent
        from runtime.block.format.vdi import header as vdi
        from runtime.block.format.vdi.node import VdiNode, create_header
        from runtime.block.format.vdi.parent import comment_of

        chosen = cast("VdiOptions", options)
        size = -(-size // 512) * 512
        if size > vdi.MAX_BLOCKS * vdi.BLOCK_SIZE:
            raise ImageOption(f"a VDI image can't have a disk of {size} bytes", where=file.name)
        fixed = (
            chosen.static
            or chosen.subformat == "fixed"
            or chosen.preallocation in ("falloc", "full", "metadata")
        )
        parent = None
        if chosen.backing_file is not None:
            if fixed:
                raise ImageOption("a fixed VDI image can't have a backing file", where=file.name)
            node = cast(
                VdiNode, open_parent("vdi", chosen.backing_file, chosen.backing_fmt, context, file.name)
            )
            parent = node.header
            node.close()
        kind = vdi.FIXED if fixed else vdi.DIFFERENCING if parent is not None else vdi.DYNAMIC
        header = create_header(size, kind, parent)
        if chosen.backing_file is not None:
            header = header.changed(comment=comment_of(chosen.backing_file))
        if fixed:
            end = header.data_offset + header.blocks * header.block_size
            file.resize(header.data_offset)
            file.resize(
                end, preallocation="off" if chosen.preallocation == "metadata" else chosen.preallocation
            )
        else:
            file.resize(header.data_offset)
        coding = Coding("<u4")
        for first in range(0, header.blocks, 1 << 18):
            count = min(1 << 18, header.blocks - first)
            entries = range(first, first + count) if fixed else itertools.repeat(vdi.FREE, count)
            file.pwrite(header.map_offset + 4 * first, coding.encoded(coding.entries(entries)))
        file.pwrite(0, header.pack())
        file.flush()


DRIVER = VdiDriver()
