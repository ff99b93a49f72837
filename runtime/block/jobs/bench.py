"""How fast an image answers requests, as ``qemu-img bench`` asks it: equal steps, wrapping at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

from runtime.block.errors import ImageOption
from runtime.block.node import Node
from runtime.records import record


@record(frozen=True)
class Workload:
    """`count` requests of `size` bytes, `depth` at a time, from `offset` on, each `step` bytes further."""

    count: int = 75_000
    depth: int = 64
    size: int = 4096
    step: int = 0
    offset: int = 0
    write: bool = False
    pattern: int = 0
    flush_interval: int = 0


def bench(node: Node, load: Workload) -> float:
    """The seconds that the workload took."""
    length = node.length()
    if load.size <= 0 or load.count < 0 or load.depth <= 0 or load.offset < 0:
        raise ImageOption("count, depth, size and offset of the requests must be positive")
    if load.offset + load.size > length:
        raise ImageOption(f"requests of {load.size} bytes don't fit into {length} bytes", where=node.name)
    offsets = _offsets(load, length)
    data = bytes([load.pattern]) * load.size
    since = 0
    start = time.perf_counter()
    for done in range(0, load.count, load.depth):
        batch = list(islice(offsets, min(load.depth, load.count - done)))
        if load.write:
            node.pwrite_many([(offset, data) for offset in batch])
            since += len(batch)
            if load.flush_interval and since >= load.flush_interval:
                node.flush()
                since = 0
        else:
            node.pread_many([(offset, load.size) for offset in batch])
    if load.write:
        node.flush()
    return time.perf_counter() - start


def _offsets(load: Workload, length: int) -> Iterator[int]:
    """Offsets without end."""
    offset, step = load.offset, load.step or load.size
    while True:
        yield offset
        offset += step
        if offset + load.size > length:
            offset %= max(length - load.size + 1, 1)
