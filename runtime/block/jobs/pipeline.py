"""Work on pieces by several threads, results in order, with bounded memory.

Reading, writing, compressing and comparing memory release the interpreter's lock, so threads use the
processors without copies between processes.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Buffers:
    """Buffers of `size` bytes that are used again: fresh memory costs more than reading into it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        try:
            return self._free.pop()
        except IndexError:
            return bytearray(self.size)

    def give(self, buffer: bytearray) -> None:
        """Let `buffer` be used again; views of it are worth nothing from now on."""
        self._free.append(buffer)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def ordered(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int | None = None
) -> Iterator[Result]:
    """``map(function, items)`` by `workers` threads, at most `ahead` (twice as many) items in advance.

    Items are taken in the calling thread. The first exception ends everything.
    """
    limit = 2 * workers if ahead is None else ahead
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="isagen image") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > limit:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
