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
    if not size:
        return
    first_bytes = data[0:size:unit]
    count = len(first_bytes)
    zero = zeroes(unit)
    start = 0  # of the data that wasn't yielded yet
    number = first_bytes.find(0)
    while number >= 0:
        # Only units that begin with a zero can be zero. How many are, from this one on?
        begin = number * unit
        while number < count and data.startswith(
            zero if (number + 1) * unit <= size else zeroes(size - number * unit), number * unit
        ):
            number += 1
        end = min(number * unit, size)
        if end > begin:
            if begin > start:
                yield start, begin - start, False
            yield begin, end - begin, True
            start = end
        number = first_bytes.find(0, number if end > begin else number + 1)
    if start < size:
        yield start, size - start, False
