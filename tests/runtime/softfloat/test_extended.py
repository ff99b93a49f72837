"""The x87's arithmetic: the compiled library gives what the reference gives, in every way of rounding."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import pytest

from runtime.softfloat import policy as p
from runtime.softfloat import reference_extended as reference
from runtime.softfloat.symbols import EXTENDED, Symbol
from tests.runtime.softfloat.operands import encoding, integer

SIGN = 1 << 79
INTEGER = 1 << 63

CONTROLS = [
    rm | precision << p.PRECISION_SHIFT | unmasked
    for rm, precision, unmasked in product(
        range(4), (0, 2, 3), (0, p.OVERFLOW_UNMASKED, p.UNDERFLOW_UNMASKED)
    )
]

SPECIALS = [
    sign | field << 64 | significand
    for sign in (0, SIGN)
    for field, significand in (
        (0, 0),
        (0, 1),
        (0, INTEGER - 1),
        (0, INTEGER),  # a pseudo-denormal
        (1, INTEGER),
        (1, INTEGER | 1),
        (16382, INTEGER),
        (16382, (1 << 64) - 1),
        (16383, INTEGER),
        (16383, INTEGER | 1),
        (16384, 0xC90FDAA22168C235),  # pi
        (16383 + 62, (1 << 64) - 1),
        (16383 + 63, INTEGER),
        (0x7FFE, (1 << 64) - 1),
        (0x7FFF, INTEGER),
        (0x7FFF, INTEGER | 1),
        (0x7FFF, INTEGER | 0x4000_0000_0000_0123),
        (0x7FFF, 1),  # a pseudo-NaN
        (0x7FFF, 0),  # a pseudo-infinity
        (16383, INTEGER - 1),  # an unnormal
    )
]


def extended(rng: Random, *, near: int = 0) -> int:
    """A random encoding; extreme exponents, those near 1 and sparse significands are frequent."""
    if rng.randrange(12) == 0:
        return rng.choice(SPECIALS)
    field = rng.choice(
        (
            rng.choice((0, 0, 1, 2, 63, 64, 0x7FFD, 0x7FFE)),
            16383 + rng.randrange(-3, 4),
            16383 + rng.randrange(-70, 70),
            16383 + rng.randrange(-70, 70),
            rng.randrange(0x7FFF),
        )
    )
    bit = rng.randrange(63)
    fraction = rng.choice(
        (
            0,
            1 << bit,
            (1 << bit) - 1,
            (INTEGER - 1) & -1 << bit,
            rng.getrandbits(63),
            rng.getrandbits(63),
            rng.getrandbits(63),
            rng.getrandbits(52) << 11,
            rng.getrandbits(23) << 40,
        )
    )
    significand = fraction if field == 0 else INTEGER | fraction
    return rng.getrandbits(1) << 79 | field << 64 | significand


def operands(rng: Random, symbol: Symbol) -> list[int]:
    """Random operands, numbers as 80 bits."""
    values: list[int] = []
    for name in symbol.operands:
        if name == "control":
            values.append(rng.choice(CONTROLS))
        elif name == "x":
            values.append(encoding(rng, symbol.constants[0]) if symbol.constants else integer(rng, 64))
        elif name in "ab":
            values.append(extended(rng))
    if len(values) > 1 and symbol.operands[2:3] == ("b",) and rng.randrange(3) == 0:
        values[1] = (values[0] ^ rng.getrandbits(1) << 79) + rng.randrange(-2, 3) & (1 << 80) - 1
        if rng.getrandbits(1):
            values[1] ^= rng.randrange(64) << 64
    return values


def check(call: Any, symbol: Symbol, values: list[int]) -> None:
    """One case; the message of a failure can be pasted into Python."""
    want = reference.OPERATIONS[symbol.operation](*values, *symbol.constants)
    passed: list[int] = []
    for name, value in zip([n for n in symbol.operands if not n.endswith("_high")], values, strict=True):
        passed += (value & (1 << 64) - 1, value >> 64) if name in "ab" else (value,)
    low, word = call(p.X86, *passed)
    got = low | (word >> 32) << 64, word & 0x7F, word >> 8 & 0xF
    if got != want:
        arguments = ", ".join(f"{value:#x}" for value in values)
        pytest.fail(f"{symbol.name}({arguments}) gives {got[0]:#x}, {got[1:]}; not {want[0]:#x}, {want[1:]}")


ALL = pytest.mark.parametrize("symbol", EXTENDED.values(), ids=EXTENDED.keys())
IRRATIONAL = ("x_exponential", "x_logarithm", "x_logarithm_of_successor", "x_arctangent", "x_trigonometric")


@ALL
def test_random(compiled: Any, scale: int, symbol: Symbol) -> None:
    rng = Random(symbol.name)
    call = compiled.call(symbol.name)
    for _ in range((600 if symbol.operation in IRRATIONAL else 4000) * scale):
        check(call, symbol, operands(rng, symbol))


@pytest.mark.parametrize("name", [name for name, symbol in EXTENDED.items() if "x" not in symbol.operands])
def test_specials(compiled: Any, name: str) -> None:
    """All special values, or pairs of them, for what takes such numbers; controls in turn."""
    symbol = EXTENDED[name]
    call = compiled.call(symbol.name)
    numbers = 2 if "b" in symbol.operands else 1
    for turn, values in enumerate(product(SPECIALS, repeat=numbers)):
        control = [CONTROLS[turn * 7 % len(CONTROLS)]] if "control" in symbol.operands else []
        check(call, symbol, [*values, *control])


def test_halfway(compiled: Any) -> None:
    """Products that end in, just below and just above half a unit, at every precision."""
    symbol = EXTENDED["sf_f80_mul"]
    call = compiled.call(symbol.name)
    for cut, low, control in product((0, 11, 40), range(1, 32), CONTROLS):
        a = 16383 << 64 | INTEGER | low << cut
        check(call, symbol, [a, 16383 << 64 | INTEGER | INTEGER >> 1, control])
