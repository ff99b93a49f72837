"""Opening and creating QED images."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageOption
from runtime.block.node import FormatNode, ProtocolNode

if TYPE_CHECKING:
    from runtime.block.format.qed.node import QedNode
    from runtime.block.format.qed.options import QedOptions
    from runtime.block.options import CreateOptions


class QedDriver(Driver):
    name = "qed"

    def open(self, file: ProtocolNode, context: OpenContext) -> QedNode:
        from runtime.block.format.qed.node import QedNode

        return QedNode(file, context)

    def options(self) -> type[CreateOptions]:
        from runtime.block.format.qed.options import QedOptions

        return QedOptions

    def create(self, file: ProtocolNode, size: int, options: CreateOptions, context: OpenContext) -> None:
        from runtime.block.format.qed.header import Header
        from runtime.block.format.qed.node import with_backing

        chosen = cast("QedOptions", options)
        size = -(-size // 512) * 512
        header = Header(
            cluster_size=chosen.cluster_size,
            table_size=chosen.table_size,
            directory=chosen.cluster_size,
            disk_size=size,
        )
        if size > header.max_size:
            raise ImageOption(
                f"a QED image with these tables can't have a disk of {size} bytes",
                where=file.name,
                remedy=f"larger clusters or tables; these hold {header.max_size} bytes",
            )
        form = chosen.backing_fmt
        if chosen.backing_file is not None and form is None:
            # Only "raw" can be recorded, and must be: the guest of a raw disk could fake another format.
            with context.references.open_image(chosen.backing_file, "backing file", format=None) as node:
                form = cast(FormatNode, node).format
        header, name = with_backing(header, chosen.backing_file, form, file.name)
        file.resize(header.directory + header.table_bytes)
        file.pwrite(0, header.pack() + name)
        file.flush()


DRIVER = QedDriver()
