"""What a system call that can't go on at once waits for.

Its handler is a generator: it yields a `Wait`, and is resumed when that is over; what it returns is the
call's result. A signal that interrupts the wait is thrown in as `Interrupted`; a handler that has something
to return (bytes written so far) catches it.
"""

from __future__ import annotations

import select
import time
from collections.abc import Generator, Mapping

READABLE, WRITABLE = select.POLLIN, select.POLLOUT
FAILURES = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Interrupted(Exception):
    """A signal interrupts the wait."""


class Wait:
    """Over when a descriptor is ready, the deadline has passed, or somebody has set `woken`."""

    __slots__ = ("children", "deadline", "descriptors", "interruptible", "ready", "restart", "woken")

    def __init__(
        self,
        descriptors: Mapping[int, int] | None = None,
        deadline: int | None = None,
        restart: bool = True,
        interruptible: bool = True,
        children: bool = False,
        woken: bool = False,
        ready: dict[int, int] | None = None,
    ) -> None:
        self.descriptors = {} if descriptors is None else descriptors
        """Host descriptors, and the events of poll(2) that matter."""
        self.deadline = deadline
        """Nanoseconds of CLOCK_MONOTONIC."""
        self.restart = restart
        """Whether the call starts anew behind a handler with SA_RESTART; else it fails with EINTR."""
        self.interruptible = interruptible
        self.children = children
        """Over also when a child changes its state."""
        self.woken = woken
        self.ready = {} if ready is None else ready
        """The descriptors that were found ready, and their events."""

    @property
    def timed_out(self) -> bool:
        return not self.woken and not self.ready


Steps = Generator[Wait, None, int]
"""A call under way."""


def now() -> int:
    """CLOCK_MONOTONIC in nanoseconds."""
    return time.monotonic_ns()


def ready(descriptors: Mapping[int, int], milliseconds: float | None = 0) -> dict[int, int]:
    """Those of the host's descriptors that are ready, and their events; waits as poll(2) does."""
    if not descriptors and milliseconds == 0:
        return {}
    poller = select.poll()
    for descriptor, events in descriptors.items():
        poller.register(descriptor, events)
    return dict(poller.poll(milliseconds))


def is_ready(descriptor: int, events: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, events)
    return bool(poller.poll(0))
