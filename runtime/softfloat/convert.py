"""Conversions between formats and integers, rounding to an integral value: numba code on int64 only.

Integers are bit patterns of 8 to 64 bits, zero-extended (a 64-bit one is the int64 itself).
"""

from __future__ import annotations

from runtime.softfloat.encoding import (
    FINITE,
    INFINITE,
    ZERO,
    compiled,
    default_nan,
    flush,
    fraction_width,
    infinity,
    is_nan,
    low_bits,
    normalize,
    propagate,
    round_pack,
    round_up,
    sign_of,
    unpack,
    with_denormal,
)
from runtime.softfloat.intrinsics import shift_right, unsigned_less
from runtime.softfloat.policy import (
    DENORMAL_OPERAND,
    FLUSH_INPUTS,
    FLUSH_OUTPUTS,
    INEXACT,
    INT_INDEFINITE,
    INT_NAN_MAX,
    INT_NAN_MIN,
    INT_NAN_ZERO,
    INT_RULE_MASK,
    INVALID,
    NAN_DEFAULT,
    NAN_RULE_MASK,
    RTO,
)

_ALL_ONES = -1


@compiled
def _integer_part(rm: int, sign: int, exponent: int, significand: int) -> tuple[int, int]:
    """(the magnitude rounded to an integer, 1 if inexact), for exponent <= 61."""
    cut = 62 - exponent
    if cut > 63:
        cut = 63
        significand = 1
    kept = shift_right(significand, cut)
    rest = significand & low_bits(cut)
    if rest == 0:
        return kept, 0
    if rm == RTO:
        return kept | 1, 1
    return kept + round_up(rm, sign, kept & 1, rest, 1 << (cut - 1)), 1


@compiled
def smallest_integer(bits: int, signed: int) -> int:
    """The smallest integer's pattern."""
    return 1 << (bits - 1) if signed else 0


@compiled
def largest_integer(bits: int, signed: int) -> int:
    """The largest integer."""
    return shift_right(_ALL_ONES, 64 - bits + (1 if signed else 0))


@compiled
def _out_of_range(policy: int, bits: int, signed: int, has_nan: bool, sign: int) -> int:
    rule = policy & INT_RULE_MASK
    if rule == INT_INDEFINITE:
        return smallest_integer(bits, signed) if signed else largest_integer(bits, signed)
    if has_nan:
        if rule == INT_NAN_ZERO:
            return 0
        if rule == INT_NAN_MAX:
            sign = 0
        elif rule == INT_NAN_MIN:
            sign = 1
    return smallest_integer(bits, signed) if sign else largest_integer(bits, signed)


@compiled
def to_integer(policy: int, width: int, a: int, rm: int, bits: int, signed: int) -> tuple[int, int]:
    """The integer as a pattern of `bits` bits (8 to 64); out of range is INVALID, not INEXACT."""
    flags = 0
    if policy & FLUSH_INPUTS:  # x86 reports no denormal operand here, so only flushing matters
        a, flags = flush(policy, width, a)
    kind, sign, exponent, significand = unpack(width, a)
    if kind == ZERO:
        return 0, flags
    if kind != FINITE or exponent > 63:
        return _out_of_range(policy, bits, signed, is_nan(width, a), sign), flags | INVALID
    inexact = 0
    if exponent >= 62:
        magnitude = significand << (exponent - 62)
    else:
        magnitude, inexact = _integer_part(rm, sign, exponent, significand)
    limit = smallest_integer(bits, signed) if sign else largest_integer(bits, signed)
    if unsigned_less(limit, magnitude):
        return _out_of_range(policy, bits, signed, False, sign), flags | INVALID
    if sign:
        magnitude = -magnitude & largest_integer(bits, 0)
    return magnitude, flags | (INEXACT if inexact else 0)


@compiled
def from_integer(policy: int, width: int, x: int, rm: int, bits: int, signed: int) -> tuple[int, int]:
    """The floating-point number nearest the integer in the low `bits` bits of x."""
    x = x & largest_integer(bits, 0)
    sign = shift_right(x, bits - 1) & 1 if signed else 0
    if sign:
        x = -x & largest_integer(bits, 0)
    if x == 0:
        return 0, 0
    if x < 0:  # 2**63 or more: give the highest bit its place, keeping the lowest as sticky
        return round_pack(policy, width, rm, sign, 63, shift_right(x, 1) | (x & 1))
    exponent, significand = normalize(62, x)
    return round_pack(policy, width, rm, sign, exponent, significand)


@compiled
def round_to_integral(policy: int, width: int, a: int, rm: int, exact: int) -> tuple[int, int]:
    """The nearest integral value in the same format; INEXACT is raised only if `exact` is 1."""
    flags = 0
    if policy & FLUSH_INPUTS:  # x86 reports no denormal operand here, so only flushing matters
        a, flags = flush(policy, width, a)
    if is_nan(width, a):
        return propagate(policy, width, a, 0, 0)
    kind, sign, exponent, significand = unpack(width, a)
    if kind != FINITE or exponent >= fraction_width(width):
        return a, flags
    magnitude, inexact = _integer_part(rm, sign, exponent, significand)
    if inexact and exact:
        flags |= INEXACT
    if magnitude == 0:
        return sign << (width - 1), flags
    exponent, significand = normalize(62, magnitude)
    result, _ = round_pack(policy, width, rm, sign, exponent, significand)
    return result, flags


@compiled
def _convert_nan(policy: int, width: int, to_width: int, a: int) -> tuple[int, int]:
    """The NaN in the other format, quiet: its sign and upper fraction bits, or the default NaN."""
    quiet, flags = propagate(policy, width, a, 0, 0)
    if policy & NAN_RULE_MASK == NAN_DEFAULT:
        return default_nan(policy, to_width), flags
    fraction_bits = fraction_width(width)
    to_fraction_bits = fraction_width(to_width)
    fraction = quiet & low_bits(fraction_bits)
    if to_fraction_bits >= fraction_bits:
        fraction <<= to_fraction_bits - fraction_bits
    else:
        fraction >>= fraction_bits - to_fraction_bits
    return infinity(to_width, sign_of(width, a)) | fraction, flags


@compiled
def convert(policy: int, width: int, a: int, rm: int, to_width: int) -> tuple[int, int]:
    """The number in another format.

    Flushing and the report of denormal operands leave binary16 alone, on either side (Intel SDM, VCVTPH2PS
    and VCVTPS2PH; Arm ARM, FPUnpackCV and FPRoundCV).
    """
    if width == 16:
        policy &= ~(FLUSH_INPUTS | DENORMAL_OPERAND)
    if to_width == 16:
        policy &= ~FLUSH_OUTPUTS
    a, denormal = flush(policy, width, a)
    kind, sign, exponent, significand = unpack(width, a)
    if kind == ZERO:
        return sign << (to_width - 1), denormal
    if kind == INFINITE:
        return infinity(to_width, sign), 0
    if kind != FINITE:
        return _convert_nan(policy, width, to_width, a)
    result, flags = round_pack(policy, to_width, rm, sign, exponent, significand)
    return result, with_denormal(policy, False, flags, denormal)
