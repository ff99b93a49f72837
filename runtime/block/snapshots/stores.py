"""The chain of stores: each snapshot's QCOW2 image, reading on in the next newer one, and at last in the
disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from runtime.block.chain import Chain, open_format
from runtime.block.creation import create_image
from runtime.block.driver import OpenContext
from runtime.block.errors import ImageError, ImageNotFound
from runtime.block.format.window import Borrowed
from runtime.block.node import Extent, ExtentKind, FormatNode, Node
from runtime.block.protocol.file import FileNode
from runtime.block.registry import find_format
from runtime.block.snapshots.manifest import Entry

CLUSTER = 64 << 10


class Stores:
    """The open stores of an image, oldest first. `live` is the disk as it is now."""

    def __init__(self, folder: Path, live: FormatNode, image: Path) -> None:
        self._folder = folder
        self._live = live
        self._image = image
        self._entries: list[Entry] = []
        self._nodes: list[FormatNode] = []

    @property
    def newest(self) -> FormatNode:
        """The newest snapshot's store, open for writing if the image is."""
        return self._nodes[-1]

    def open(self, entries: list[Entry]) -> None:
        """Open the stores of these snapshots; the newest for writing. Raises ImageCorrupt, ImageNotFound."""
        self.close()
        above: Node = self._live
        nodes: list[FormatNode] = []
        with contextlib.ExitStack() as opened:
            for number, entry in enumerate(reversed(entries)):
                node = self._open(entry, writable=number == 0 and not self._live.read_only)
                opened.callback(node.close)
                node.backing = Borrowed(above)
                nodes.append(node)
                above = node
            opened.pop_all()
        self._entries = list(entries)
        self._nodes = nodes[::-1]

    def _open(self, entry: Entry, *, writable: bool) -> FormatNode:
        path = self._folder / entry.store
        try:
            file = FileNode(path, writable=writable)
        except ImageNotFound as error:
            raise ImageNotFound(
                f"the data of snapshot {entry.name!r} is missing",
                where=str(path),
                remedy="put the file back, or `isagen image check --repair all` to forget the snapshot",
            ) from error
        return open_format(file, "qcow2", writable=writable, backing=False)

    def create(self, entry: Entry) -> None:
        """An empty store of that snapshot, backed by the disk (its file is new or replaces an orphan)."""
        path = self._folder / entry.store
        with FileNode(path, writable=True, create=True, overwrite=True) as file:
            context = OpenContext(Chain(path), path, writable=True)
            create_image(find_format("qcow2").driver, file, entry.size, {"cluster_size": CLUSTER}, context)
        with open_format(FileNode(path, writable=True), "qcow2", writable=True) as node:
            self._point(node, None)

    def _point(self, node: FormatNode, newer: Entry | None) -> None:
        """Let the file of a store name the store (None: the disk) that it reads on in, for other programs."""
        if newer is None:
            node.set_backing(f"../{self._image.name}", self._live.format)
        else:
            node.set_backing(newer.store, "qcow2")
        node.flush()

    def repoint(self, entry: Entry, newer: Entry | None) -> None:
        """`_point` of a store that isn't open."""
        with self._open(entry, writable=True) as node:
            self._point(node, newer)

    def node(self, entry: Entry) -> FormatNode:
        """The store of a snapshot: reads as the disk was."""
        return self._nodes[self._entries.index(entry)]

    def since(self, entry: Entry) -> list[FormatNode]:
        """The stores of a snapshot and of all newer ones."""
        return self._nodes[self._entries.index(entry) :]

    def merge(self, entry: Entry, into: Entry) -> None:
        """Let the store `into` hold all that `entry`'s does and it doesn't. Neither need be open."""
        source = self._open(entry, writable=False)
        try:
            with self._open(into, writable=True) as target:
                target.backing = Borrowed(source)  # so that zeroes are stored as such
                for own in held(source):
                    end = min(own.end, target.length())
                    if own.offset < end:
                        for gap in missing(target, own.offset, end - own.offset):
                            copy(source, target, gap.offset, gap.length)
                target.flush()
        finally:
            source.close()

    def close(self) -> None:
        nodes, self._nodes, self._entries = self._nodes, [], []
        with contextlib.ExitStack() as stack:
            for node in reversed(nodes):
                stack.callback(node.close)

    def abandon(self) -> None:
        """Close after an error, come what may."""
        with contextlib.suppress(ImageError):
            self.close()


def held(store: FormatNode, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
    """What the store holds itself."""
    for extent in store.extents(offset, length):
        if extent.depth == 0 and extent.kind is not ExtentKind.HOLE:
            yield extent


def missing(store: FormatNode, offset: int, length: int) -> list[Extent]:
    """The parts of a range that the store doesn't hold itself."""
    return [
        extent
        for extent in store.extents(offset, length)
        if extent.depth > 0 or extent.kind is ExtentKind.HOLE
    ]


def copy(source: Node, target: Node, offset: int, length: int) -> None:
    """Copy a range; what reads as zeroes takes no space."""
    for extent in source.extents(offset, length):
        if extent.reads_zero:
            target.write_zeroes(extent.offset, extent.length)
            continue
        for at in range(extent.offset, extent.end, 1 << 20):
            target.pwrite(at, source.pread(at, min(1 << 20, extent.end - at)))
