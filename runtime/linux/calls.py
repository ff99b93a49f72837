"""The table of system calls. A handler is registered by its Linux name; numbers are the architectures'
business.

A handler takes the process and as many argument words as it has parameters (unsigned, as the registers hold
them), and returns the result, negative only for what is legitimately negative. It fails by
`SystemCallError`, by an `OSError` of the host or by an `AccessFault` (EFAULT). Where it may have to wait it
returns a generator (`runtime.linux.waiting`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from runtime.linux.waiting import Steps

Handler = Callable[..., int | Steps]
AnyHandler = TypeVar("AnyHandler", bound=Callable[..., int | Steps])

HANDLERS: dict[str, tuple[Handler, int]] = {}
"""Handlers and their numbers of arguments, by name: of the modules that are imported."""


def system_call(*names: str) -> Callable[[AnyHandler], AnyHandler]:
    """Register the decorated function as the handler of the calls `names`."""

    def register(handler: AnyHandler) -> AnyHandler:
        count = handler.__code__.co_argcount - 1
        for name in names:
            assert name not in HANDLERS, name
            HANDLERS[name] = (handler, count)
        return handler

    return register


def signed(value: int, bits: int = 32) -> int:
    """The low `bits` of `value` as a signed number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
