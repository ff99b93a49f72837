"""Work on pieces by several threads, results in order, with bounded memory.

Reading, writing, compressing and comparing memory release the interpreter's lock, so threads use the
processors without copies between processes.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

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


class _Task(Generic[Item, Result]):
    """An item, and what a thread made of it once `done` is released."""

    __slots__ = ("done", "error", "item", "result")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def wait(self) -> Result:
        self.done.acquire()
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]


class _Workers(Generic[Item, Result]):
    """Threads that apply a function. (concurrent.futures does the same, and loads `logging` for it, which
    takes longer than converting a small image.)
    """

    def __init__(self, function: Callable[[Item], Result], count: int) -> None:
        self._function = function
        self._count = count
        self._threads: list[threading.Thread] = []
        self._waiting: SimpleQueue[_Task[Item, Result] | None] = SimpleQueue()
        self._stopped = False

    def begin(self, item: Item) -> _Task[Item, Result]:
        task: _Task[Item, Result] = _Task(item)
        self._waiting.put(task)
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, name="isagen image", daemon=True)
            self._threads.append(thread)
            thread.start()
        return task

    def _work(self) -> None:
        while (task := self._waiting.get()) is not None and not self._stopped:
            try:
                task.result = self._function(task.item)
            except BaseException as error:
                task.error = error
            task.done.release()

    def stop(self) -> None:
        """Wait for what has begun; what hasn't never will."""
        self._stopped = True
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()


def ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int,
    ahead: int | None = None,
    here: Callable[[Item], bool] = lambda item: False,
) -> Iterator[Result]:
    """``map(function, items)`` by `workers` threads, at most `ahead` (twice as many) items in advance.

    Items are taken in the calling thread, which also does those that `here` says, when it's their turn. The
    first exception ends everything.
    """
    limit = 2 * workers if ahead is None else ahead
    pool = _Workers(function, workers)
    pending: deque[Callable[[], Result]] = deque()
    try:
        for item in items:
            pending.append(partial(function, item) if here(item) else pool.begin(item).wait)
            if len(pending) > limit:
                yield pending.popleft()()
        while pending:
            yield pending.popleft()()
    finally:
        pool.stop()
