"""Writing what an overlay holds into the image below it."""

from __future__ import annotations

from runtime.block.jobs.pipeline import ordered
from runtime.block.jobs.progress import Progress, silent
from runtime.block.node import Extent, ExtentKind, FormatNode, Node
from runtime.records import record

PIECE = 1 << 20


@record
class CommitResult:
    """Bytes of the disk that were written or zeroed below."""

    copied: int = 0
    zeroed: int = 0


def commit(layer: FormatNode, below: Node, *, progress: Progress = silent) -> CommitResult:
    """Write into `below` what `layer`, opened without its backing file, holds itself; flush.

    A shorter `below` grows first. `layer` isn't changed.
    """
    result = CommitResult()
    size = layer.length()
    if below.length() < size:
        below.resize(size)

    def read(piece: Extent) -> tuple[Extent, bytes]:
        return piece, layer.pread(piece.offset, piece.length) if piece.kind is ExtentKind.DATA else b""

    held = (
        piece for extent in layer.extents() if extent.kind is not ExtentKind.HOLE for piece in _cut(extent)
    )
    for piece, data in ordered(read, held, workers=2):
        if piece.kind is ExtentKind.DATA:
            below.pwrite(piece.offset, data)
            result.copied += piece.length
        else:
            below.write_zeroes(piece.offset, piece.length)
            result.zeroed += piece.length
        progress(piece.end, size)
    below.flush()
    progress(size, size)
    return result


def _cut(extent: Extent) -> list[Extent]:
    if extent.kind is not ExtentKind.DATA:
        return [extent]
    return [
        extent._replace(offset=at, length=min(PIECE, extent.end - at))
        for at in range(extent.offset, extent.end, PIECE)
    ]
