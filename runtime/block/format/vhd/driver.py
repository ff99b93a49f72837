"""Opening and creating VHD images."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from runtime.block.driver import Driver, OpenContext
from runtime.block.errors import ImageOption
from runtime.block.node import ProtocolNode

if TYPE_CHECKING:
    from runtime.block.format.vhd.node import VhdNode
    from runtime.block.format.vhd.options import VhdOptions
    from runtime.block.options import CreateOptions


class VhdDriver(Driver):
    name = "vhd"

    def open(self, file: ProtocolNode, context: OpenContext) -> VhdNode:
        from runtime.block.format.vhd.node import open_vhd

        return open_vhd(file, context)

    def options(self) -> type[CreateOptions]:
        from runtime.block.format.vhd.options import VhdOptions

        return VhdOptions

    def create(self, file: ProtocolNode, size: int, options: CreateOptions, context: OpenContext) -> None:
        from runtime.block.format.vhd import header as vhd

        chosen = cast("VhdOptions", options)
        size = -(-size // vhd.SECTOR) * vhd.SECTOR
        if not chosen.force_size:
            size = vhd.geometry_size(size)
        if size > vhd.MAX_SIZE:
            raise ImageOption(
                f"a VHD image can't have a disk of {size} bytes",
                where=file.name,
                remedy=f"at most {vhd.MAX_SIZE} bytes; VHDX images can be larger",
            )
        if chosen.subformat == "fixed":
            if chosen.backing_file is not None:
                raise ImageOption("a fixed VHD image can't have a backing file", where=file.name)
            file.resize(size, preallocation=chosen.preallocation)
            file.pwrite(size, vhd.new_footer(size, vhd.FIXED).pack())
            file.flush()
        else:
            _create_dynamic(file, size, chosen, context)


def _create_dynamic(file: ProtocolNode, size: int, chosen: VhdOptions, context: OpenContext) -> None:
    """Footer copy, header, the parent's locator, the table, the footer."""
    from runtime.block.format.parents import open_parent
    from runtime.block.format.vhd import header as vhd
    from runtime.block.format.vhd.node import VhdNode
    from runtime.block.format.vhd.parent import describe

    child = chosen.backing_file is not None
    footer = vhd.new_footer(size, vhd.DIFFERENCING if child else vhd.DYNAMIC)
    table = vhd.SECTOR + vhd.HEADER.size
    parent: dict[str, object] = {}
    if chosen.backing_file is not None:
        node = cast(VhdNode, open_parent("vhd", chosen.backing_file, chosen.backing_fmt, context, file.name))
        name, when, locators, text = describe(chosen.backing_file, context.path, table)
        parent = {
            "parent_uuid": node.footer.uuid,
            "parent_timestamp": when,
            "parent_name": name,
            "locators": locators,
        }
        node.close()
        file.pwrite(table, text)
        table += len(text)
    entries = -(-size // chosen.block_size)
    header = vhd.Header(table, entries, chosen.block_size, **parent)  # type: ignore[arg-type]
    room = -(-4 * entries // vhd.SECTOR) * vhd.SECTOR
    file.pwrite(table, b"\xff" * room)
    file.pwrite(vhd.SECTOR, header.pack())
    file.pwrite(table + room, footer.pack())
    file.pwrite(0, footer.pack())
    file.flush()


DRIVER = VhdDriver()
