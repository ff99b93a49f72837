"""What of a disk is stored where."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.block.node import Extent, Node


def joined(node: Node, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
    """The node's extents; neighbours of one state, stored one behind the other, are one."""
    held: Extent | None = None
    for extent in node.extents(offset, length):
        if held is not None and _continues(held, extent):
            held = held._replace(length=held.length + extent.length)
        else:
            if held is not None:
                yield held
            held = extent
    if held is not None:
        yield held


def _continues(held: Extent, extent: Extent) -> bool:
    same = (held.kind, held.depth, held.compressed) == (extent.kind, extent.depth, extent.compressed)
    if not same or (held.host_offset is None) != (extent.host_offset is None):
        return False
    return held.host_offset is None or held.host_offset + held.length == extent.host_offset
