"""Opening and creating VDI images."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageOption
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from pydantic import BaseModel

    from runtime.block.format.vdi.node import VdiNode
    from runtime.block.format.vdi.options import VdiOptions


class VdiDriver(Driver):
    name = "vdi"

    def open(self, file: ProtocolNode, context: OpenContext) -> VdiNode:
        from runtime.block.format.vdi.node import VdiNode

        return VdiNode(file, context)

    def options(self) -> type[BaseModel]:
        from runtime.block.format.vdi.options import VdiOptions

        return VdiOptions

    def create(self, file: ProtocolNode, size: int, options: BaseModel, context: OpenContext) -> None:
        import numpy as np

        from runtime.block.format.vdi import header as vdi
        from runtime.block.format.vdi.node import VdiNode, create_header
        from runtime.block.format.vdi.parent import comment_of, open_parent

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
            node = cast(VdiNode, open_parent(chosen.backing_file, chosen.backing_fmt, context, file.name))
            parent = node.header
            node.close()
        kind = vdi.FIXED if fixed else vdi.DIFFERENCING if parent is not None else vdi.DYNAMIC
        header = create_header(size, kind, parent)
        if chosen.backing_file is not None:
            header = header.changed(comment=comment_of(chosen.backing_file))
        if fixed:
            entries = np.arange(header.blocks, dtype="<u4")
            end = header.data_offset + header.blocks * header.block_size
            file.resize(header.data_offset)
            file.resize(
                end, preallocation="off" if chosen.preallocation == "metadata" else chosen.preallocation
            )
        else:
            entries = np.full(header.blocks, vdi.FREE, "<u4")
            file.resize(header.data_offset)
        file.pwrite(header.map_offset, entries.tobytes())
        file.pwrite(0, header.pack())
        file.flush()


DRIVER = VdiDriver()
