"""All modules that hold handlers of system calls. Importing this registers them."""

from __future__ import annotations

from runtime.linux import (
    descriptor_calls,
    directories,
    epoll,
    events,
    files,
    identity,
    limits,
    memory_calls,
    polling,
    privileged,
    processes,
    signal_calls,
    sockets,
    status,
    terminals,
    threads,
    time,
    timer_calls,
)

SUBJECTS = (
    *(descriptor_calls, directories, epoll, events, files, identity, limits, memory_calls, polling),
    *(privileged, processes, signal_calls, sockets, status, terminals, threads, time, timer_calls),
)


def load() -> None:
    """Make sure that the handlers are registered (`runtime.linux.calls.HANDLERS`)."""
    assert SUBJECTS
