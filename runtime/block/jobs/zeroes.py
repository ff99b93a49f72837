"""Finding zeroes in data, quickly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache


@lru_cache(maxsize=8)
def zeroes(size: int) -> bytes:
    """`size` zero bytes, always the same object."""
    return bytes(size)


def is_zero(data: bytes | bytearray) -> bool:
    """Whether `data` has only zero bytes."""
    return data.startswith(zeroes(len(data)))


def runs(data: bytes, unit: int) -> Iterator[tuple[int, int, bool]]:
    """`data` as (offset, length, only zeroes), seen in steps of `unit`; neighbours differ."""
    size = len(data)
    zero = zeroes(unit)
    starts_zero = data.startswith
    start, state = 0, starts_zero(zero) if size >= unit else is_zero(data)
    for at in range(unit, size, unit):
        current = starts_zero(zero, at) if at + unit <= size else starts_zero(zeroes(size - at), at)
        if current is not state:
            yield start, at - start, state
            start, state = at, current
    if size:
        yield start, size - start, state
