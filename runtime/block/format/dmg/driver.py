"""Opening DMG files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.block.driver import Driver, OpenContext
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from runtime.block.format.dmg.node import DmgNode


class DmgDriver(Driver):
    name = "dmg"
    writable = False
    creatable = False

    def open(self, file: ProtocolNode, context: OpenContext) -> DmgNode:
        from runtime.block.format.dmg.node import DmgNode

        return DmgNode(file, context)


DRIVER = DmgDriver()
