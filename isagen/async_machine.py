"""Machines for asyncio: the machine runs in a thread of its own, and what is awaited happens between two
slices of its instructions.

    async with AsyncMachine("virt", kernel="Image", append="console=ttyS0") as vm:
        await vm.expect("login:", timeout=30)
        await vm.send("root\\n")
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from isagen.machine import Machine

if TYPE_CHECKING:
    from machines.machine import Outcome
    from runtime.state.snapshot import Snapshot

T = TypeVar("T")


class AsyncMachine:
    """Takes what `Machine` takes. With `paused` it doesn't run before `resume`. Everything may be cancelled.

    `machine` is the `Machine` itself: to be used in functions that `call` runs, or when this has ended.
    """

    def __init__(self, board: str | Path = "virt", *, paused: bool = False, **settings: Any) -> None:
        self._board = board
        self._settings = settings
        self._paused = paused
        self._seen = 0
        self._waiters: set[asyncio.Event] = set()
        self._queues: set[asyncio.Queue[tuple[str, dict[str, Any]] | None]] = set()

    async def __aenter__(self) -> AsyncMachine:
        self._loop = asyncio.get_running_loop()
        self.machine = await asyncio.to_thread(lambda: Machine(self._board, **self._settings))
        inner = self.machine.board.machine
        if self._paused:
            inner.pause()
        output = self.machine.board.serial.output

        def forward(data: bytes) -> None:
            output(data)
            self._loop.call_soon_threadsafe(self._wake)

        self.machine.board.serial.output = forward
        inner.observers.append(self._observe)
        self._ended: asyncio.Future[Outcome] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="isagen machine", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.machine.board.machine.stop()
        await asyncio.shield(asyncio.to_thread(self._thread.join))
        self.machine.close()

    def _run(self) -> None:
        """The machine's thread."""
        outcome, raised = None, None
        try:
            outcome = self.machine.run()
        except BaseException as error:
            raised = error
        self._loop.call_soon_threadsafe(self._end, outcome, raised)

    def _end(self, outcome: Outcome | None, raised: BaseException | None) -> None:
        if not self._ended.done():
            if raised is not None:
                self._ended.set_exception(raised)
                self._ended.exception()  # those who wait are told; nobody has to
            elif outcome is not None:
                self._ended.set_result(outcome)
        self._wake()
        for queue in self._queues:
            queue.put_nowait(None)

    def _wake(self) -> None:
        for waiter in self._waiters:
            waiter.set()

    def _observe(self, event: str, data: dict[str, Any]) -> None:
        def put() -> None:
            for queue in self._queues:
                queue.put_nowait((event, data))

        self._loop.call_soon_threadsafe(put)

    # --- what a user awaits -----------------------------------------------------------------------------

    async def call(self, function: Callable[[Machine], T]) -> T:
        """What `function` returns, called in the machine's thread between two slices."""
        if self._ended.done():
            return function(self.machine)
        future: asyncio.Future[T] = self._loop.create_future()

        def answer(result: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        def work() -> None:
            result, raised = None, None
            try:
                result = function(self.machine)
            except Exception as error:
                raised = error
            self._loop.call_soon_threadsafe(answer, result, raised)

        self.machine.board.machine.post(work)
        both: list[asyncio.Future[Any]] = [future, self._ended]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return future.result() if future.done() else function(self.machine)

    @property
    def text(self) -> str:
        """All that the guest sent to its serial port."""
        return self.machine.console.text

    async def send(self, text: str | bytes) -> None:
        """Type something at the serial port. Raises IsagenError where the guest doesn't read."""
        await self.call(lambda machine: machine.console.send(text))

    async def expect(self, pattern: str, *, timeout: float | None = 60.0) -> re.Match[str]:
        """Wait until the guest has sent something that `pattern` finds behind what an earlier call found.
        Raises TimeoutError after `timeout` seconds, and EOFError where the machine ends before.
        """
        wanted = re.compile(pattern)
        waiter = asyncio.Event()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    waiter.clear()
                    ended = self._ended.done()
                    if found := wanted.search(self.text, self._seen):
                        self._seen = found.end()
                        return found
                    if ended:
                        self._ended.result()
                        raise EOFError(f"{pattern!r} didn't appear before the machine ended")
                    await waiter.wait()
        finally:
            self._waiters.discard(waiter)

    async def pause(self) -> None:
        """Stand still."""
        await self.call(lambda machine: machine.board.machine.pause())

    async def resume(self) -> None:
        """Go on."""
        await self.call(lambda machine: machine.board.machine.resume())

    async def snapshot(self) -> Snapshot:
        """See `Machine.snapshot`."""
        return await self.call(lambda machine: machine.snapshot())

    async def restore(self, snapshot: Snapshot) -> None:
        """See `Machine.restore`."""
        await self.call(lambda machine: machine.restore(snapshot))

    async def monitor(self, line: str) -> str:
        """See `Machine.monitor`."""
        return await self.call(lambda machine: machine.monitor(line))

    async def events(self) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Events by QMP's names (STOP, RESUME, RESET, SHUTDOWN, ...), with data, until the machine ends."""
        queue: asyncio.Queue[tuple[str, dict[str, Any]] | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while not (self._ended.done() and queue.empty()):
                event = await queue.get()
                if event is None:
                    return
                yield event
        finally:
            self._queues.discard(queue)

    async def wait(self) -> Outcome:
        """How the machine ended. Raises what ended it otherwise."""
        return await asyncio.shield(self._ended)
