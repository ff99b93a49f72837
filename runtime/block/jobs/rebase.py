"""Putting an overlay onto another backing image, without changing what the guest reads."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.block.jobs.pipeline import ordered
from runtime.block.jobs.progress import Progress, silent
from runtime.block.node import Extent, ExtentKind, FormatNode, Node

PIECE = 1 << 20
WINDOW = 1 << 30
"""Bytes of the disk whose extents are kept at a time."""


def absorb(
    overlay: FormatNode, new: Node | None, *, shared: int | None = None, progress: Progress = silent
) -> int:
    """Write into `overlay` what it reads from its backing image and wouldn't read from `new`; flush.

    `new` None stands for no backing image. `shared` is the depth in the overlay's chain at which `new` lies,
    if it does: what comes from there or below is the same. Gives the bytes written. The overlay's backing
    file isn't changed: that comes next.
    """
    size = overlay.length()
    unit = max(overlay.info().cluster_size or 4096, 4096)
    written = 0

    def look(piece: Extent) -> tuple[int, list[tuple[int, bytes]]]:
        data = overlay.pread(piece.offset, piece.length)
        there = 0 if new is None else max(0, min(piece.length, new.length() - piece.offset))
        other = new.pread(piece.offset, there) if new is not None and there else b""
        other += bytes(piece.length - there)
        if data == other:
            return piece.end, []
        # In units of clusters: writing a part would copy the rest anyway.
        return piece.end, [
            (piece.offset + at, data[at : at + unit])
            for at in range(0, len(data), unit)
            if data[at : at + unit] != other[at : at + unit]
        ]

    for end, writes in ordered(look, _from_below(overlay, new, shared, unit), workers=2):
        for offset, data in writes:
            overlay.pwrite(offset, data)
            written += len(data)
        progress(end, size)
    overlay.flush()
    progress(size, size)
    return written


def _from_below(overlay: FormatNode, new: Node | None, shared: int | None, unit: int) -> Iterator[Extent]:
    """The ranges that may read otherwise on `new`, in whole units, cut into pieces."""
    size = overlay.length()
    piece = max(PIECE // unit * unit, unit)
    done = 0
    for window in range(0, size, WINDOW):
        # Writing moves extents from below to here: look at all of a window first.
        for extent in list(_suspects(overlay, new, shared, window, min(WINDOW, size - window))):
            start = max(extent.offset // unit * unit, done)
            done = max(done, min(-(-extent.end // unit) * unit, size))
            for at in range(start, done, piece):
                yield Extent(at, min(piece, done - at), ExtentKind.DATA)


def _suspects(
    overlay: FormatNode, new: Node | None, shared: int | None, offset: int, length: int
) -> Iterator[Extent]:
    held: Extent | None = None
    for extent in overlay.extents(offset, length):
        if extent.depth == 0 and extent.kind is not ExtentKind.HOLE:
            continue
        if new is None and extent.reads_zero:
            continue
        if shared is not None and extent.depth >= shared and extent.kind is not ExtentKind.HOLE:
            continue
        if held is not None and held.end == extent.offset:
            held = held._replace(length=held.length + extent.length)
        else:
            if held is not None:
                yield held
            held = Extent(extent.offset, extent.length, ExtentKind.DATA)
    if held is not None:
        yield held
