"""Taking IEEE 754 encodings apart, choosing NaNs, and the one function that rounds: numba code on int64 only.

A finite nonzero number is held as (sign, exponent, significand): the significand's highest one is bit 62, the
lowest bit is *sticky* (set if anything below was nonzero), and the value is significand / 2**62 *
2**exponent. `width` is 16, 32 or 64; a wider interchange format needs wider significands, so these functions,
but not their callers, know it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

from runtime.softfloat.intrinsics import leading_zeros, shift_right
from runtime.softfloat.policy import (
    DENORMAL_INPUT,
    DENORMAL_OPERAND,
    DIVIDE_BY_ZERO,
    FLUSH_INPUT_FLAGGED,
    FLUSH_INPUTS,
    FLUSH_OUTPUT_INEXACT,
    FLUSH_OUTPUTS,
    INEXACT,
    INVALID,
    NAN_ALL_ONES,
    NAN_DEFAULT,
    NAN_FIRST,
    NAN_FIRST_ACB,
    NAN_LAST_SIGNALING,
    NAN_NEGATIVE,
    NAN_RULE_MASK,
    NAN_SIGNALING_FIRST,
    OVERFLOW,
    RDN,
    RMM,
    RNE,
    RTO,
    RTZ,
    RUP,
    TININESS_BEFORE_ROUNDING,
    UNDERFLOW,
)

# What a decoded operand is.
ZERO, FINITE, INFINITE, QUIET_NAN, SIGNALING_NAN = 0, 1, 2, 3, 4

TOP = 1 << 62
"""The weight of a significand's highest bit."""

_Function = TypeVar("_Function", bound=Callable[..., Any])

FUNCTIONS: list[Any] = []
"""numba's dispatchers of all functions, callees before their callers; `library` compiles them."""


def compiled(function: _Function) -> _Function:
    """Decorator of the library's functions; annotations (int, bool, tuple of int) are the signature."""
    dispatcher = njit(function)
    FUNCTIONS.append(dispatcher)
    return cast(_Function, dispatcher)


@compiled
def low_bits(count: int) -> int:
    """The mask of the low 0 to 63 bits, without an overflow at 63."""
    return ~(-1 << count)


@compiled
def fraction_width(width: int) -> int:
    """Bits of the fraction field: 10, 23 or 52."""
    if width == 64:
        return 52
    if width == 32:
        return 23
    return 10


@compiled
def exponent_bias(width: int) -> int:
    """The exponent bias: 15, 127 or 1023; twice it plus 1 is the exponent field of infinities and NaNs."""
    return (1 << (width - 2 - fraction_width(width))) - 1


@compiled
def sign_of(width: int, a: int) -> int:
    """The sign bit, 0 or 1."""
    return shift_right(a, width - 1) & 1


@compiled
def magnitude_of(width: int, a: int) -> int:
    """The encoding without its sign."""
    return a & low_bits(width - 1)


@compiled
def infinity(width: int, sign: int) -> int:
    """The infinity of that sign."""
    return (sign << (width - 1)) | ((2 * exponent_bias(width) + 1) << fraction_width(width))


@compiled
def is_nan(width: int, a: int) -> bool:
    """Whether the encoding is a NaN."""
    return magnitude_of(width, a) > infinity(width, 0)


@compiled
def is_signaling(width: int, a: int) -> bool:
    """Whether the encoding is a signalling NaN (the fraction's first bit is clear)."""
    return is_nan(width, a) and (a >> (fraction_width(width) - 1)) & 1 == 0


@compiled
def is_subnormal(width: int, a: int) -> bool:
    """Whether the encoding is a nonzero number below the normal ones."""
    magnitude = magnitude_of(width, a)
    return magnitude != 0 and magnitude < 1 << fraction_width(width)


@compiled
def unpack(width: int, a: int) -> tuple[int, int, int, int]:
    """(kind, sign, exponent, significand); the last two mean something for FINITE only."""
    fraction_bits = fraction_width(width)
    bias = exponent_bias(width)
    sign = sign_of(width, a)
    field = (a >> fraction_bits) & (2 * bias + 1)
    fraction = a & low_bits(fraction_bits)
    if field == 2 * bias + 1:
        if fraction == 0:
            return INFINITE, sign, 0, 0
        if fraction >> (fraction_bits - 1):
            return QUIET_NAN, sign, 0, 0
        return SIGNALING_NAN, sign, 0, 0
    if field == 0:
        if fraction == 0:
            return ZERO, sign, 0, 0
        shift = leading_zeros(fraction) - 1
        return FINITE, sign, 63 - shift - fraction_bits - bias, fraction << shift
    return FINITE, sign, field - bias, ((1 << fraction_bits) | fraction) << (62 - fraction_bits)


@compiled
def normalize(exponent: int, significand: int) -> tuple[int, int]:
    """(exponent, significand) with the highest one of a positive significand moved up to bit 62."""
    shift = leading_zeros(significand) - 1
    return exponent - shift, significand << shift


@compiled
def shift_right_sticky(x: int, count: int) -> int:
    """x >> count for x >= 0 and any count >= 0, the lowest bit set if a one was shifted out."""
    if count == 0:
        return x
    if count > 63:
        return 1 if x != 0 else 0
    shifted = shift_right(x, count)
    return shifted | (1 if (shifted << count) != x else 0)


@compiled
def round_up(rm: int, sign: int, last: int, rest: int, half: int) -> int:
    """1 if a magnitude with this last bit and this rest cut off must be incremented; not for RTO."""
    if rm == RNE:
        return 1 if rest > half or (rest == half and last != 0) else 0
    if rm == RMM:
        return 1 if rest >= half else 0
    if rm == RDN:
        return 1 if rest != 0 and sign != 0 else 0
    if rm == RUP:
        return 1 if rest != 0 and sign == 0 else 0
    return 0


@compiled
def round_pack(
    policy: int, width: int, rm: int, sign: int, exponent: int, significand: int
) -> tuple[int, int]:
    """The rounded encoding of a finite nonzero number, and its flags."""
    fraction_bits = fraction_width(width)
    bias = exponent_bias(width)
    largest = infinity(width, 0) - 1
    sign_bit = sign << (width - 1)
    field = exponent + bias
    cut = 62 - fraction_bits
    flags = 0
    tiny = False
    if field <= 0:
        tiny = True
        if field == 0 and policy & TININESS_BEFORE_ROUNDING == 0:
            # With an unbounded exponent this could round up to the smallest normal number.
            kept = significand >> cut
            rest = significand & low_bits(cut)
            if kept == (2 << fraction_bits) - 1:
                tiny = round_up(rm, sign, kept & 1, rest, 1 << (cut - 1)) == 0
        if tiny and policy & FLUSH_OUTPUTS:
            return sign_bit, UNDERFLOW | (INEXACT if policy & FLUSH_OUTPUT_INEXACT else 0)
        cut += 1 - field
        if cut > 63:  # below half of the smallest subnormal: keep only "not zero"
            cut = 63
            significand = 1
        field = 1
    kept = shift_right(significand, cut)
    rest = significand & low_bits(cut)
    if rest != 0:
        flags = INEXACT | (UNDERFLOW if tiny else 0)
        if rm == RTO:
            kept |= 1
        else:
            kept += round_up(rm, sign, kept & 1, rest, 1 << (cut - 1))
    if field <= 2 * bias:
        # The leading bit of a normal number, or a carry out of the fraction, increments the exponent field.
        magnitude = ((field - 1) << fraction_bits) + kept
        if magnitude <= largest:
            return sign_bit | magnitude, flags
    to_infinity = rm != RTZ and rm != RTO
    if rm == RDN:
        to_infinity = sign != 0
    elif rm == RUP:
        to_infinity = sign == 0
    return sign_bit | (largest + (1 if to_infinity else 0)), OVERFLOW | INEXACT


@compiled
def signed_zero(width: int, rm: int) -> int:
    """The zero that is the sum of two numbers that cancel."""
    return 1 << (width - 1) if rm == RDN else 0


@compiled
def default_nan(policy: int, width: int) -> int:
    """The policy's default NaN."""
    fraction_bits = fraction_width(width)
    result = infinity(width, 1 if policy & NAN_NEGATIVE else 0)
    if policy & NAN_ALL_ONES:
        return result | low_bits(fraction_bits)
    return result | (1 << (fraction_bits - 1))


@compiled
def propagate(policy: int, width: int, a: int, b: int, c: int) -> tuple[int, int]:
    """The NaN that an operation with a NaN operand delivers, and its flags; absent operands are 0."""
    rule = policy & NAN_RULE_MASK
    x, y, z = a, b, c
    if rule == NAN_SIGNALING_FIRST:
        x, y, z = c, a, b
    elif rule == NAN_FIRST_ACB:
        y, z = c, b
    elif rule == NAN_LAST_SIGNALING:
        x, z = c, a
    signaling = is_signaling(width, a) or is_signaling(width, b) or is_signaling(width, c)
    flags = INVALID if signaling else 0
    if rule == NAN_DEFAULT:
        return default_nan(policy, width), flags
    chosen = z
    if signaling and rule != NAN_FIRST and rule != NAN_FIRST_ACB:
        if is_signaling(width, x):
            chosen = x
        elif is_signaling(width, y):
            chosen = y
    elif is_nan(width, x):
        chosen = x
    elif is_nan(width, y):
        chosen = y
    return chosen | (1 << (fraction_width(width) - 1)), flags


@compiled
def invalid(policy: int, width: int) -> tuple[int, int]:
    """The result of an invalid operation on operands that are not NaNs."""
    return default_nan(policy, width), INVALID


@compiled
def flush(policy: int, width: int, a: int) -> tuple[int, int]:
    """The operand with denormals-are-zero applied, and DENORMAL_INPUT where its use is to be reported."""
    if policy & (FLUSH_INPUTS | DENORMAL_OPERAND) == 0 or not is_subnormal(width, a):
        return a, 0
    if policy & FLUSH_INPUTS:
        flagged = policy & FLUSH_INPUT_FLAGGED != 0 and width > 16
        return a & (1 << (width - 1)), DENORMAL_INPUT if flagged else 0
    return a, DENORMAL_INPUT


@compiled
def with_denormal(policy: int, has_nan: bool, flags: int, denormal: int) -> int:
    """The flags joined with `flush`'s, unless a NaN, an invalid operation or a division by 0 wins."""
    if (
        policy & DENORMAL_OPERAND
        and policy & FLUSH_INPUTS == 0
        and (has_nan or flags & (INVALID | DIVIDE_BY_ZERO))
    ):
        return flags
    return flags | denormal
