"""Flattened device trees (Devicetree Specification 0.4, chapter 5): written from a tree of nodes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

MAGIC: Final = 0xD00DFEED
VERSION, LAST_COMPATIBLE = 17, 16
BEGIN_NODE, END_NODE, PROP, END = 1, 2, 3, 9
HEADER: Final = struct.Struct(">10I")

Value = bytes | str | int | Sequence[str] | Sequence[int] | None
"""Bytes as they are, strings ended by NUL, numbers as 32-bit cells; None: an empty property."""


def cells(value: int, count: int = 2) -> list[int]:
    """A number of `count` cells, the most significant one first."""
    return [value >> 32 * n & 0xFFFFFFFF for n in reversed(range(count))]


def encoded(value: Value) -> bytes:
    """A property's value."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode() + b"\0"
    if isinstance(value, int):
        return struct.pack(">I", value)
    return b"".join(encoded(item) for item in value)


@dataclass
class Node:
    """A node: its name (with the unit address), its properties and its children, in order."""

    name: str
    properties: dict[str, Value] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)

    def add(self, name: str, properties: dict[str, Value] | None = None) -> Node:
        """A new child."""
        child = Node(name, dict(properties or {}))
        self.children.append(child)
        return child


class _Writer:
    def __init__(self) -> None:
        self.structure = bytearray()
        self.strings = bytearray()
        self._places: dict[str, int] = {}

    def word(self, value: int) -> None:
        self.structure += struct.pack(">I", value)

    def pad(self) -> None:
        self.structure += bytes(-len(self.structure) % 4)

    def name(self, name: str) -> int:
        if name not in self._places:
            self._places[name] = len(self.strings)
            self.strings += name.encode() + b"\0"
        return self._places[name]

    def node(self, node: Node) -> None:
        self.word(BEGIN_NODE)
        self.structure += node.name.encode() + b"\0"
        self.pad()
        for name, value in node.properties.items():
            data = encoded(value)
            self.word(PROP)
            self.word(len(data))
            self.word(self.name(name))
            self.structure += data
            self.pad()
        for child in node.children:
            self.node(child)
        self.word(END_NODE)


def flatten(root: Node, boot_cpu: int = 0) -> bytes:
    """The tree as a blob, without memory reservations."""
    writer = _Writer()
    writer.node(root)
    writer.word(END)
    reservations = bytes(16)
    structure_at = HEADER.size + len(reservations)
    strings_at = structure_at + len(writer.structure)
    header = HEADER.pack(
        MAGIC,
        strings_at + len(writer.strings),
        structure_at,
        strings_at,
        HEADER.size,
        VERSION,
        LAST_COMPATIBLE,
        boot_cpu,
        len(writer.strings),
        len(writer.structure),
    )
    return header + reservations + bytes(writer.structure) + bytes(writer.strings)
