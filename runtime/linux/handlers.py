"""All modules that hold handlers of system calls. Importing this registers those that every program needs."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from runtime.linux import (
    descriptor_calls,
    directories,
    files,
    identity,
    limits,
    memory_calls,
    processes,
    signal_calls,
    status,
    terminals,
    threads,
    time,
)

USUAL: Final = (
    *(descriptor_calls, directories, files, identity, limits, memory_calls, processes, signal_calls, status),
    *(terminals, threads, time),
)
OTHERS: Final = ("epoll", "events", "polling", "privileged", "sockets", "timer_calls")
"""What short programs do without: imported when a call is made that isn't known yet."""


def load_usual() -> None:
    """Make sure that the usual handlers are registered (`runtime.linux.calls.HANDLERS`)."""
    assert USUAL


def load_all() -> None:
    """Register all handlers."""
    for name in OTHERS:
        import_module(f"runtime.linux.{name}")
