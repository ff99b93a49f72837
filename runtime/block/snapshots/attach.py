"""Puts the snapshots beside an image over its node, for formats that have none of their own."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.block.node import FormatNode
from runtime.block.protocol.file import FileNode
from runtime.block.registry import find_format


def with_snapshots(node: FormatNode, *, whole: bool = True, check: bool = False) -> FormatNode:
    """The node with its snapshots, if its format keeps them beside the image, in a file that can have
    neighbours. Takes the node: it's closed when this raises.

    `whole`: the node has its backing node. `check`: opened for checking. Raises what `SnapshotNode` raises.
    """
    file = node.file
    if not isinstance(file, FileNode) or file.fixed_length or not find_format(node.format).side_snapshots:
        return node
    try:
        from runtime.block.snapshots.node import SnapshotNode

        return SnapshotNode(node, Path(os.path.realpath(file.path)), whole=whole, check=check)
    except BaseException:
        node.close()
        raise
