"""Writes that are forgotten at the end: a disk over one that isn't changed."""

from __future__ import annotations

import os
import tempfile
from typing import Final

from runtime.block.node import Buffer, Node

CLUSTER: Final = 64 << 10
"""Bytes that are copied at a time."""


class EphemeralNode(Node):
    """What is written lies in a temporary file without a name, as sparse as it may be; the rest is read from
    `below`, which is closed with this node.
    """

    def __init__(self, below: Node) -> None:
        self.name = below.name
        self.read_only = False
        self._below = below
        self._size = below.length()
        self._file = tempfile.TemporaryFile(prefix="isagen-disk-")  # noqa: SIM115 - closed by close
        self._ours = bytearray(-(-self._size // CLUSTER))
        """For each cluster: 1, it lies in the file."""

    def length(self) -> int:
        return self._size

    def pread(self, offset: int, length: int) -> bytes:
        self.in_range_or_raise(offset, length)
        parts = []
        end = offset + length
        while offset < end:
            number = offset // CLUSTER
            ours = self._ours[number]
            stop = offset
            while stop < end and self._ours[stop // CLUSTER] == ours:
                stop = min(end, (stop // CLUSTER + 1) * CLUSTER)
            parts.append(
                self._kept(offset, stop - offset) if ours else self._below.pread(offset, stop - offset)
            )
            offset = stop
        return b"".join(parts)

    def _kept(self, offset: int, length: int) -> bytes:
        """Bytes of the temporary file; behind its end there are zeros."""
        return os.pread(self._file.fileno(), length, offset).ljust(length, b"\0")

    def pwrite(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self.in_range_or_raise(offset, len(view))
        end = offset + len(view)
        for edge in {offset // CLUSTER, (end - 1) // CLUSTER} if view else ():
            start, stop = edge * CLUSTER, min((edge + 1) * CLUSTER, self._size)
            if not self._ours[edge] and (start < offset or stop > end):
                self._store(start, memoryview(self._below.pread(start, stop - start)))
        self._store(offset, view)
        first, last = offset // CLUSTER, -(-end // CLUSTER)
        self._ours[first:last] = b"\1" * (last - first)

    def _store(self, offset: int, view: memoryview) -> None:
        while view:
            done = os.pwrite(self._file.fileno(), view, offset)
            offset += done
            view = view[done:]

    def take_over(self, other: EphemeralNode) -> None:
        """Hold what was written to another one over the same disk."""
        for number, ours in enumerate(other._ours):
            if ours:
                start = number * CLUSTER
                self.pwrite(start, other._kept(start, min(CLUSTER, self._size - start)))

    def flush(self) -> None:
        """Nothing has to last."""

    def close(self) -> None:
        self._file.close()
        self._below.close()
