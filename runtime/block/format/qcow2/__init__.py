"""QCOW2, versions 2 and 3 (QEMU, docs/interop/qcow2.txt)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.block.driver import Driver, OpenContext
from runtime.block.format.qcow2.node import Qcow2Node
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from runtime.block.options import CreateOptions


class Qcow2Driver(Driver):
    name = "qcow2"

    def open(self, file: ProtocolNode, context: OpenContext) -> Qcow2Node:
        return Qcow2Node(file, context)

    def options(self) -> type[CreateOptions]:
        from runtime.block.format.qcow2.options import Qcow2Options

        return Qcow2Options

    def create(self, file: ProtocolNode, size: int, options: CreateOptions, context: OpenContext) -> None:
        from runtime.block.format.qcow2.create import create
        from runtime.block.format.qcow2.options import Qcow2Options

        assert isinstance(options, Qcow2Options)
        create(file, size, options, context)


DRIVER = Qcow2Driver()
