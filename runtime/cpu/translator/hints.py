"""Which regions a program had when it ran before, so that they need not be looked for again.

A hint says only where to look: the region is formed anew from the code that is there, and what is kept under
its description's hash is used. So a hint that fits no longer costs a little time, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final, NamedTuple

MAXIMUM: Final = 500
"""Hints that are kept of a program."""
_LARGEST: Final = 1 << 64


class Hint(NamedTuple):
    """Guest addresses that a region was formed from."""

    head: int
    seen: tuple[int, ...]
    """Instructions that samples met."""
    dynamic: tuple[int, ...]
    """Targets of computed jumps."""


def encoded(hints: Iterable[Hint]) -> bytes:
    """Hints as `decoded` reads them."""
    return json.dumps(list(hints)[:MAXIMUM], separators=(",", ":")).encode()


def decoded(data: bytes) -> list[Hint]:
    """The hints in a file's content; none if it is anything else."""
    try:
        rows = json.loads(data)
        return [
            Hint(_address(head), tuple(map(_address, seen)), tuple(map(_address, dynamic)))
            for head, seen, dynamic in rows[:MAXIMUM]
        ]
    except (ValueError, TypeError, KeyError):
        return []


def _address(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < _LARGEST:
        raise ValueError(value)
    return value
