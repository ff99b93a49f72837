"""The cold code: run loop, decoder, lookups, slow memory accesses. Build time only: imports numba.

Functions are Python over 64-bit integers, compiled through `runtime.cpu.lowering` into each target's object.
They know no target: decode tables (`runtime.cpu.tables`) tell them about it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def functions() -> dict[str, Callable[..., Any]]:
    """The Python function of each symbol of the cold code. `symbols.EXPORTS` have to stay visible."""
    from runtime.cpu.native import decode, lookup, loop, memory, pages, registry, repeats

    _ = (decode, lookup, loop, memory, pages, repeats)
    return dict(registry.FUNCTIONS)
