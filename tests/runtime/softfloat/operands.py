"""Operands for the tests: every special value of a format, and random ones that favour the corners."""

from __future__ import annotations

from random import Random

from runtime.softfloat import policy as p
from runtime.softfloat.reference import FORMATS
from runtime.softfloat.symbols import Symbol

POLICIES = [
    *p.POLICIES.values(),
    p.X86 | p.FLUSH_INPUTS,
    p.X86 | p.FLUSH_OUTPUTS,
    p.X86 | p.FLUSH_INPUTS | p.FLUSH_OUTPUTS,
    p.ARM | p.FLUSH_INPUTS | p.FLUSH_OUTPUTS,
    p.with_nan_rule(p.ARM, p.NAN_DEFAULT),
]


def specials(width: int) -> list[int]:
    """Zeros, ends of the subnormal and normal ranges, ones, infinities and NaNs, with both signs."""
    form = FORMATS[width]
    one = form.max_exponent << form.fraction_bits
    smallest_normal = 1 << form.fraction_bits
    positive = [
        0,
        1,
        smallest_normal - 1,
        smallest_normal,
        smallest_normal + 1,
        one - 1,
        one,
        one + 1,
        one + form.quiet_bit,
        one + (form.fraction_bits << form.fraction_bits),
        form.infinity - 1,
        form.infinity,
        form.infinity + 1,
        form.infinity + form.quiet_bit - 1,
        form.infinity + form.quiet_bit,
        form.infinity + 2 * form.quiet_bit - 1,
    ]
    return [sign | magnitude for magnitude in positive for sign in (0, form.sign_bit)]


def encoding(rng: Random, width: int) -> int:
    """A random encoding; extreme exponents, those near 1.0 and sparse fractions are frequent."""
    form = FORMATS[width]
    top = 2 * form.max_exponent + 1
    spread = form.fraction_bits + 12
    field = rng.choice(
        (
            rng.choice((0, 0, 1, 2, top - 2, top - 1, top)),
            form.max_exponent + rng.randrange(-3, 4),
            min(top, max(0, form.max_exponent + rng.randrange(-spread, spread))),
            rng.randrange(top + 1),
            rng.randrange(top + 1),
        )
    )
    ones = 2 * form.quiet_bit - 1
    bit = rng.randrange(form.fraction_bits)
    fraction = rng.choice(
        (
            0,
            ones,
            1 << bit,
            ones & -1 << bit,
            (1 << bit) - 1,
            form.quiet_bit + rng.randrange(-1, 2),
            rng.getrandbits(form.fraction_bits),
            rng.getrandbits(form.fraction_bits),
            rng.getrandbits(form.fraction_bits),
        )
    )
    return rng.getrandbits(1) << (width - 1) | field << form.fraction_bits | fraction


def integer(rng: Random, bits: int) -> int:
    """A random pattern of `bits` bits; all magnitudes are about equally likely."""
    magnitude = rng.getrandbits(bits) >> rng.randrange(bits)
    return (magnitude if rng.getrandbits(1) else -magnitude) & ((1 << bits) - 1)


def operands(rng: Random, symbol: Symbol, rm: int | None = None) -> list[int]:
    """Random operands of one compiled function; in a quarter of the cases, related ones."""
    values = []
    for name in symbol.operands:
        if name == "rm":
            values.append(rng.choice((0, 0, 0, 1, 2, 3, 4, 5)) if rm is None else rm)
        elif name == "x":
            values.append(integer(rng, symbol.constants[0]))
        else:
            values.append(encoding(rng, symbol.width))
    if len(values) > 1 and rng.randrange(4) == 0:
        _relate(rng, symbol, values)
    return values


def _relate(rng: Random, symbol: Symbol, values: list[int]) -> None:
    """Make the last operand nearly the first one or its opposite, or near the product of the first two."""
    form = FORMATS[symbol.width]
    near = rng.randrange(-2, 3)
    if symbol.operation in ("add", "sub", "compare", "relation", "extremum"):
        same_or_opposite = values[0] ^ rng.getrandbits(1) << (form.width - 1)
        values[1] = (same_or_opposite + near) & (2 * form.sign_bit - 1)
    elif symbol.operation == "fma":
        # The product's exponent, at a distance up to where it stops to matter.
        field = (
            sum((value & ~form.sign_bit) >> form.fraction_bits for value in values[:2]) - form.max_exponent
        )
        field += rng.choice((0, 0, 1, -1, near * form.fraction_bits, near * form.precision))
        fraction = rng.choice((rng.getrandbits(form.fraction_bits), 0, 1, 2 * form.quiet_bit - 1))
        if 0 <= field <= 2 * form.max_exponent:
            sign = (values[0] ^ values[1] ^ rng.getrandbits(1) << (form.width - 1)) & form.sign_bit
            values[2] = sign | field << form.fraction_bits | fraction
