"""What a system call that can't go on at once waits for.

Its handler is a generator: it yields a `Wait`, and is resumed when that is over; what it returns is the
call's result. A signal that interrupts the wait is thrown in as `Interrupted`; a handler that has something
to return (bytes written so far) catches it.
"""

from __future__ import annotations

import select
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

READABLE, WRITABLE = select.POLLIN, select.POLLOUT
FAILURES = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Interrupted(Exception):
    """A signal interrupts the wait."""


@dataclass(slots=True, eq=False)
class Wait:
    """Over when a descriptor is ready, the deadline has passed, or somebody has set `woken`."""

    descriptors: Mapping[int, int] = field(default_factory=dict)
    """Host descriptors, and the events of poll(2) that matter."""
    deadline: int | None = None
    """Nanoseconds of CLOCK_MONOTONIC."""
    restart: bool = True
    """Whether the call starts anew behind a handler with SA_RESTART; else it fails with EINTR."""
    interruptible: bool = True
    children: bool = False
    """Over also when a child changes its state."""
    woken: bool = False
    ready: dict[int, int] = field(default_factory=dict)
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
