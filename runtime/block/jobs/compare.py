"""Whether two disks read alike. Holes cost nothing: only what one of the two stores is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from runtime.block.jobs.pipeline import Buffers, ordered, processors
from runtime.block.jobs.progress import Progress, silent
from runtime.block.jobs.zeroes import zeroes
from runtime.block.node import Extent, ExtentKind, Node
from runtime.records import record

PIECE = 2 << 20
"""Bytes that a thread compares in one go, in steps that fit the processor's cache."""
STEP = 256 << 10


@record(frozen=True)
class Difference:
    """The first place where the disks differ: `offset` in bytes."""

    offset: int
    what: str


class _Span(NamedTuple):
    """A range in which neither disk changes its state."""

    offset: int
    length: int
    left: ExtentKind
    right: ExtentKind


def compare(
    left: Node, right: Node, *, strict: bool = False, progress: Progress = silent, workers: int | None = None
) -> Difference | None:
    """The first difference, or None. Where one disk is longer, the other is taken to go on with zeroes.

    `strict` wants the same size, and storage in the same places.
    """
    sizes = left.length(), right.length()
    total = max(sizes)
    if strict and sizes[0] != sizes[1]:
        return Difference(min(sizes), "sizes differ")
    pieces = _pieces(_spans(left, right, total))

    comparer = _Comparer(left, right)

    def look(piece: _Span) -> tuple[_Span, int | None]:
        return piece, comparer.differ(piece)

    for piece, offset in ordered(look, pieces, workers=workers or processors(), ahead=8):
        if strict and (piece.left is ExtentKind.HOLE) != (piece.right is ExtentKind.HOLE):
            return Difference(piece.offset, "one disk stores it and the other doesn't")
        if offset is not None:
            return Difference(offset, "content differs")
        progress(piece.offset + piece.length, total)
    return None


class _Comparer:
    """Compares pieces, in any number of threads."""

    def __init__(self, left: Node, right: Node) -> None:
        self._left = left
        self._right = right
        self._buffers = Buffers(STEP)

    def differ(self, piece: _Span) -> int | None:
        """The offset of the first byte that differs."""
        if piece.left is not ExtentKind.DATA and piece.right is not ExtentKind.DATA:
            return None
        mine, other = self._buffers.take(), self._buffers.take()
        try:
            for at in range(piece.offset, piece.offset + piece.length, STEP):
                size = min(STEP, piece.offset + piece.length - at)
                self._fill(self._left, piece.left, at, mine, size)
                self._fill(self._right, piece.right, at, other, size)
                if mine != other:
                    return at + _first_difference(mine, other)
        finally:
            self._buffers.give(mine)
            self._buffers.give(other)
        return None

    @staticmethod
    def _fill(node: Node, kind: ExtentKind, offset: int, buffer: bytearray, size: int) -> None:
        """The content at `offset`, zeroes behind it."""
        view = memoryview(buffer)
        if kind is ExtentKind.DATA:
            node.read_into(offset, view[:size])
        else:
            view[:size] = zeroes(size)
        if size < STEP:
            view[size:] = bytes(STEP - size)


def _first_difference(left: bytearray, right: bytearray) -> int:
    """The index of the first byte in which two strings of equal length differ, which they do."""
    low, high = 0, len(left)
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] != right[low:middle]:
            high = middle
        else:
            low = middle
    return low


def padded(node: Node, total: int) -> Iterator[Extent]:
    """The node's extents, continued by a hole up to `total`."""
    yield from node.extents()
    size = node.length()
    if size < total:
        yield Extent(size, total - size, ExtentKind.HOLE)


def _spans(left: Node, right: Node, total: int) -> Iterator[_Span]:
    if not total:
        return
    mine, other = padded(left, total), padded(right, total)
    a, b = next(mine), next(other)
    at = 0
    while at < total:
        end = min(a.end, b.end)
        if end > at:
            yield _Span(at, end - at, a.kind, b.kind)
        at = end
        if at < total:
            while a.end <= at:
                a = next(mine)
            while b.end <= at:
                b = next(other)


def _pieces(spans: Iterator[_Span]) -> Iterator[_Span]:
    """Spans of one state joined, what must be read cut into pieces."""
    held: _Span | None = None
    for span in spans:
        if held is not None and (held.left, held.right) == (span.left, span.right):
            held = held._replace(length=held.length + span.length)
        else:
            if held is not None:
                yield held
            held = span
        while ExtentKind.DATA in (held.left, held.right) and held.length > PIECE:
            yield held._replace(length=PIECE)
            held = held._replace(offset=held.offset + PIECE, length=held.length - PIECE)
    if held is not None:
        yield held
