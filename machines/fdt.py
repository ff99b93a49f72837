"""Flattened device trees (Devicetree Specification 0.4, chapter 5): written and read."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from runtime.errors import IsagenError

MAGIC: Final = 0xD00DFEED
VERSION, LAST_COMPATIBLE = 17, 16
BEGIN_NODE, END_NODE, PROP, NOP, END = 1, 2, 3, 4, 9
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

    def child(self, name: str) -> Node | None:
        """The child of that name, if there is one."""
        return next((child for child in self.children if child.name == name), None)

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


def flatten(root: Node, boot_cpu: int = 0, reserved: Sequence[tuple[int, int]] = ()) -> bytes:
    """The tree as a blob; `reserved`: memory to be left alone, as (address, size)."""
    writer = _Writer()
    writer.node(root)
    writer.word(END)
    reservations = b"".join(struct.pack(">QQ", *entry) for entry in (*reserved, (0, 0)))
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


# --- reading ------------------------------------------------------------------------------------------------

DEEPEST: Final = 64
"""Most levels of nodes."""


class TreeError(IsagenError):
    """A blob that is no device tree, or a damaged one."""


@dataclass
class Tree:
    """A device tree as it was read: the root, and the memory that it reserves, as (address, size)."""

    root: Node
    reservations: list[tuple[int, int]] = field(default_factory=list)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        if len(data) < HEADER.size:
            raise TreeError("no device tree: it is too short")
        magic, total, structure, strings, reservations, version, compatible, _, _, _ = HEADER.unpack_from(
            data
        )
        if magic != MAGIC:
            raise TreeError("no device tree: the magic number isn't there")
        if compatible > VERSION or version < LAST_COMPATIBLE:
            raise TreeError(f"a device tree of version {version} can't be read")
        if total > len(data):
            raise TreeError(f"a damaged device tree: {total} bytes are announced, {len(data)} are there")
        self.at, self.strings, self.reservations = structure, strings, reservations

    def word(self) -> int:
        if self.at + 4 > len(self.data):
            raise TreeError("a damaged device tree: it ends early")
        (value,) = struct.unpack_from(">I", self.data, self.at)
        self.at += 4
        return int(value)

    def string(self, start: int) -> str:
        end = self.data.find(b"\0", start)
        if start > len(self.data) or end < 0:
            raise TreeError("a damaged device tree: a name doesn't end")
        return self.data[start:end].decode(errors="replace")

    def token(self) -> int:
        while (token := self.word()) == NOP:
            pass
        return token

    def node(self, depth: int) -> Node:
        """A node, behind its BEGIN_NODE."""
        if depth > DEEPEST:
            raise TreeError(f"a device tree of more than {DEEPEST} levels")
        name = self.string(self.at)
        self.at = self._aligned(self.data.find(b"\0", self.at) + 1)
        node = Node(name)
        while (token := self.token()) != END_NODE:
            if token == BEGIN_NODE:
                node.children.append(self.node(depth + 1))
            elif token == PROP:
                size, place = self.word(), self.word()
                if self.at + size > len(self.data):
                    raise TreeError("a damaged device tree: a property is longer than the tree")
                node.properties[self.string(self.strings + place)] = self.data[self.at : self.at + size]
                self.at = self._aligned(self.at + size)
            else:
                raise TreeError(f"a damaged device tree: token {token:#x}")
        return node

    @staticmethod
    def _aligned(offset: int) -> int:
        return -(-offset // 4) * 4

    def reserved(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for at in range(self.reservations, len(self.data) - 15, 16):
            entry = struct.unpack_from(">QQ", self.data, at)
            if entry == (0, 0):
                return found
            found.append((entry[0], entry[1]))
        raise TreeError("a damaged device tree: the list of reserved memory doesn't end")


def parse(data: bytes) -> Tree:
    """Read a blob. Raises TreeError for one that is none or damaged."""
    reader = _Reader(data)
    if reader.token() != BEGIN_NODE:
        raise TreeError("a damaged device tree: it has no root")
    return Tree(reader.node(0), reader.reserved())
