"""Values worth trying: corners of integers, floating-point numbers and encoded fields; pointers into the
cases' memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Final, TypeVar

PAGE: Final = 4096
DATA: Final = 0x4000
"""Two readable and writable pages, within reach of 16-bit absolute addresses."""
DATA_SIZE: Final = 2 * PAGE
READ_ONLY: Final = DATA + DATA_SIZE
"""Pages that are only readable; nothing is mapped behind them. (Areas are multiples of 8 KiB, V9's page.)"""
MEMORY_SIZE: Final = DATA_SIZE + 2 * PAGE
CODE: Final = 0xA000
"""Two executable pages, within reach of 16-bit code, that hold the instruction; nothing is mapped around
them.
"""
CODE_SIZE: Final = 2 * PAGE
LONGEST: Final = 16
"""Bytes that an instruction may have, and more than any has."""


Value = TypeVar("Value")


def pick(random: Random, values: Sequence[Value]) -> Value:
    """One of `values`; quicker than `Random.choice`, and as good for a few hundred of them."""
    return values[int(random.random() * len(values))]


def below(random: Random, count: int) -> int:
    """A number from 0 to `count` - 1, a few thousand at most."""
    return int(random.random() * count)


@lru_cache(maxsize=64)
def integers(width: int) -> tuple[int, ...]:
    """Corner values of `width` bits."""
    top = (1 << width) - 1
    values = {0, 1, 2, 3, 7, 8, top, top - 1, top >> 1, (top >> 1) + 1, top // 3, top // 3 * 2}
    for bit in (4, 5, 7, 8, 12, 15, 16, 31, 32, 33, 52, 63, 64):
        if bit < width:
            values |= {1 << bit, (1 << bit) - 1, (1 << bit) + 1, top ^ (1 << bit) - 1, top ^ (1 << bit)}
    return tuple(sorted(value & top for value in values))


_FORMATS: Final = {16: (5, 10), 32: (8, 23), 64: (11, 52)}


@lru_cache(maxsize=8)
def floats(width: int) -> tuple[int, ...]:
    """Corner values of the IEEE format of `width` bits, both signs: zeros, denormals, normals, infinities,
    NaNs.
    """
    exponent_bits, fraction_bits = _FORMATS[width]
    one = ((1 << exponent_bits - 1) - 1) << fraction_bits
    infinity = ((1 << exponent_bits) - 1) << fraction_bits
    fraction = (1 << fraction_bits) - 1
    smallest = 1 << fraction_bits
    positive = {0, 1, fraction, smallest, smallest + 1, infinity - 1, infinity, infinity | 1}
    positive |= {
        infinity | 1 << fraction_bits - 1,
        infinity | fraction,
        one,
        one + 1,
        one - 1,
        one | fraction,
    }
    positive |= {one + smallest, one - smallest, one + (smallest >> 1), one + 3 * (smallest >> 1)}
    for power in (7, 8, 15, 16, 31, 32, 52, 53, 63, 64):
        number = one + (power << fraction_bits)
        if number < infinity:
            positive |= {number, number - 1, number + 1}
    sign = 1 << width - 1
    return tuple(sorted(positive | {value | sign for value in positive}))


def random_integer(random: Random, width: int) -> int:
    """A corner, a small number, or any number of `width` bits."""
    choice = random.random()
    if choice < 0.45:
        return pick(random, integers(width))
    if choice < 0.6:
        return below(random, min(64, 1 << width))
    if choice < 0.7 and width > 32:
        value = random.getrandbits(32)
        return value | (((1 << width - 32) - 1) << 32 if value >> 31 else 0)
    return random.getrandbits(width)


@lru_cache(maxsize=8)
def _fitting(width: int) -> tuple[int, ...]:
    return tuple(w for w in _FORMATS if w <= width)


def random_float(random: Random, width: int, only: int) -> int:
    """A floating-point register's contents: a corner or any number of a format it holds, NaN-boxed if
    narrower.

    `only`: the format's width; 0: any.
    """
    size = only or (width if random.random() < 0.45 and width in _FORMATS else pick(random, _fitting(width)))
    value = pick(random, floats(size)) if random.random() < 0.6 else random.getrandbits(size)
    if size < width:
        value |= ((1 << width) - 1) ^ ((1 << size) - 1)
    return value


def random_vector(random: Random, width: int) -> int:
    """A vector register's contents: lanes of one width, integers or floating-point numbers, or a small
    number.
    """
    choice = random.random()
    if choice < 0.1:
        return random_integer(random, width)
    lane = pick(random, (32, 64)) if choice < 0.6 else pick(random, (8, 16, 32, 64))
    value = 0
    for position in range(0, width, lane):
        part = random_float(random, lane, lane) if choice < 0.6 else random_integer(random, lane)
        value |= part << position
    return value


def random_pointer(random: Random) -> int:
    """An address in the cases' memory: mostly aligned in its middle, or near the borders of its pages."""
    choice = random.random()
    if choice < 0.55:
        return DATA + below(random, DATA_SIZE // 16) * 16
    if choice < 0.7:
        return DATA + below(random, DATA_SIZE)
    if choice < 0.85:
        return DATA + PAGE + below(random, 32) - 16
    border = pick(random, (DATA, READ_ONLY, DATA + MEMORY_SIZE))
    return border + below(random, 32) - 16


def random_field(random: Random, width: int) -> int:
    """An encoded field: extremes as often as anything between."""
    choice = random.random()
    if choice < 0.3 or width < 3:
        return random.getrandbits(width)
    if choice < 0.7:
        return pick(random, integers(width))
    if choice < 0.85 and width > 15:
        return random_pointer(random) & ((1 << width) - 1)
    return below(random, min(1 << width, 32))
