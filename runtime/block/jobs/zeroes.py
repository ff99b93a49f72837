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


def runs(data: bytes | bytearray, unit: int, size: int | None = None) -> Iterator[tuple[int, int, bool]]:
    """The first `size` bytes of `data` (all) as (offset, length, only zeroes), seen in steps of `unit`;
    neighbours differ.
    """
    size = len(data) if size is None else size
    zero = zeroes(unit)
    starts_zero = data.startswith
    start, state = 0, starts_zero(zero if size >= unit else zeroes(size))
    for at in range(unit, size, unit):
        current = starts_zero(zero if at + unit <= size else zeroes(size - at), at)
        if current is not state:
            yield start, at - start, state
            start, state = at, current
    if size:
        yield start, size - start, state
