"""The files of a backing chain."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from runtime.block.node import FormatNode, Node
from runtime.block.protocol.file import FileNode


class Layer(NamedTuple):
    """One image of a chain."""

    path: Path
    format: str


def layers(node: Node | None) -> list[Layer]:
    """The images from `node` down that lie in host files."""
    result = []
    while isinstance(node, FormatNode):
        if not isinstance(node.file, FileNode):
            break
        result.append(Layer(node.file.path, node.format))
        node = node.backing
    return result


def depth_of(node: Node | None, below: FormatNode) -> int | None:
    """The depth at which the same file as `below`'s lies in the chain of `node`."""
    depth = 0
    while isinstance(node, FormatNode):
        mine, other = node.file, below.file
        if isinstance(mine, FileNode) and isinstance(other, FileNode) and mine.identity == other.identity:
            return depth
        node = node.backing
        depth += 1
    return None
