"""Opening and creating VMDKs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from runtime.block.driver import Driver, OpenContext
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from runtime.block.format.vmdk.node import VmdkNode
    from runtime.block.format.vmdk.options import VmdkOptions
    from runtime.block.options import CreateOptions


class VmdkDriver(Driver):
    name = "vmdk"

    def open(self, file: ProtocolNode, context: OpenContext) -> VmdkNode:
        from runtime.block.format.vmdk.node import VmdkNode

        return VmdkNode(file, context)

    def options(self) -> type[CreateOptions]:
        from runtime.block.format.vmdk.options import VmdkOptions

        return VmdkOptions

    def create(self, file: ProtocolNode, size: int, options: CreateOptions, context: OpenContext) -> None:
        from runtime.block.format.vmdk.create import create_vmdk

        chosen = cast("VmdkOptions", options)
        create_vmdk(file, size, chosen, context, _parent_of(file, chosen, context))


def _parent_of(file: ProtocolNode, options: VmdkOptions, context: OpenContext) -> tuple[str, int] | None:
    if options.backing_file is None:
        return None
    from runtime.block.format.parents import open_parent
    from runtime.block.format.vmdk.node import VmdkNode

    with cast(
        VmdkNode, open_parent("vmdk", options.backing_file, options.backing_fmt, context, file.name)
    ) as parent:
        return options.backing_file, parent.descriptor.content_id()


DRIVER = VmdkDriver()
