"""The table of system calls. A handler is registered by its Linux name; numbers are the architectures'
business.

A handler takes the process and as many argument words as it has parameters (unsigned, as the registers hold
them), and returns the result, negative only for what is legitimately negative. It fails by
`SystemCallError`, by an `OSError` of the host or by an `AccessFault` (EFAULT).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from runtime.linux.process import Process

Handler = Callable[..., int]
AnyHandler = TypeVar("AnyHandler", bound=Callable[..., int])

HANDLERS: dict[str, tuple[Handler, int]] = {}
"""Handlers and their numbers of arguments, by name."""

SUBJECTS = ("memory_calls", "files", "descriptors", "directories", "time", "identity", "signals", "lifecycle")
"""The modules that hold handlers."""


def system_call(*names: str) -> Callable[[AnyHandler], AnyHandler]:
    """Register the decorated function as the handler of the calls `names`."""

    def register(handler: AnyHandler) -> AnyHandler:
        count = handler.__code__.co_argcount - 1
        for name in names:
            assert name not in HANDLERS, name
            HANDLERS[name] = (handler, count)
        return handler

    return register


def load_handlers() -> dict[str, tuple[Handler, int]]:
    """Import all subjects, and return the table."""
    for subject in SUBJECTS:
        import_module(f"runtime.linux.{subject}")
    return HANDLERS


def signed(value: int, bits: int = 32) -> int:
    """The low `bits` of `value` as a signed number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


__all__ = ["HANDLERS", "Handler", "Process", "load_handlers", "signed", "system_call"]
