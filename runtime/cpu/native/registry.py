"""The cold code's functions by symbol, and how they call each other. Build time only: imports numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from runtime.cpu import symbols
from runtime.cpu.primitives import external

FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {}
"""The Python function of each symbol. All take and return 64-bit integers."""


def cold(function: Callable[..., Any]) -> Any:
    """Register a function of the cold code under ``isagen_<name>``; what is left in its place is what callers
    call.
    """
    symbol = f"isagen_{function.__name__}"
    if symbol in FUNCTIONS:
        raise ValueError(f"{symbol} is defined twice")
    FUNCTIONS[symbol] = function
    return external(symbol, function.__code__.co_argcount)


threaded = external(symbols.THREADED, symbols.IMPORTS[symbols.THREADED])
translate = external(symbols.TRANSLATE, symbols.IMPORTS[symbols.TRANSLATE])
take_trap = external(symbols.TAKE_TRAP, symbols.IMPORTS[symbols.TAKE_TRAP])
pending_interrupt = external(symbols.PENDING_INTERRUPT, symbols.IMPORTS[symbols.PENDING_INTERRUPT])
access_fault = external(symbols.ACCESS_FAULT, symbols.IMPORTS[symbols.ACCESS_FAULT])
