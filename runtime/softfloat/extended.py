"""The x87's double extended-precision format: encoding, rounding and arithmetic, as numba code on int64 only.

An operand is (low, high): the 64-bit significand with its explicit integer bit, and sign and biased exponent
in 16 bits (SDM volume 1, 4.2.2 and figure 4-5). A finite nonzero number is held as (sign, exponent, high,
low): 128 bits whose highest is a one and whose lowest is sticky; the value is (high, low) / 2**127 *
2**exponent.

Functions take `control` (`policy.PRECISION_SHIFT` and around it) and return (low, word): `word` holds the
flags in bits 0 to 6, further answers from bit 8 on, and the result's upper 16 bits from bit 32 on.
"""

# ruff: noqa: SIM109 - no tuples are searched in compiled code

from __future__ import annotations

from runtime.softfloat.encoding import (
    FINITE,
    INFINITE,
    QUIET_NAN,
    SIGNALING_NAN,
    ZERO,
    compiled,
    default_nan,
    low_bits,
    round_pack,
)
from runtime.softfloat.encoding import infinity as narrow_infinity
from runtime.softfloat.encoding import unpack as unpack_narrow
from runtime.softfloat.intrinsics import (
    add_128,
    f64_square_root,
    leading_zeros,
    multiply_high,
    multiply_low,
    shift_left_128,
    shift_right,
    shift_right_sticky_128,
    subtract_128,
    unsigned_divide,
    unsigned_less,
    wrapping_add,
    wrapping_subtract,
)
from runtime.softfloat.policy import (
    DENORMAL_INPUT,
    DIVIDE_BY_ZERO,
    INEXACT,
    INVALID,
    OVERFLOW,
    OVERFLOW_UNMASKED,
    PRECISION_SHIFT,
    RDN,
    RMM,
    RNE,
    ROUNDED_UP,
    RTO,
    RTZ,
    RUP,
    UNDERFLOW,
    UNDERFLOW_UNMASKED,
    X86,
)

UNSUPPORTED = 5
"""Of `encoding`'s kinds: an unnormal, a pseudo-infinity or a pseudo-NaN (SDM volume 1, 8.2.2)."""

BIAS = 16383
SPECIAL = 0x7FFF
"""The exponent field of infinities and NaNs."""
TOP = -1 << 63
"""The integer bit."""
QUIET = 1 << 62
FULL = 3 << PRECISION_SHIFT
"""The control of operations that ignore the precision control."""
_WRAP = 24576
MORE_SHIFT = 8
_HIGH_SHIFT = 32


@compiled
def answer(low: int, sign: int, field: int, flags: int) -> tuple[int, int]:
    """(low, word) of a result."""
    return low, flags | ((sign << 15 | field) << _HIGH_SHIFT)


@compiled
def with_flags(result: tuple[int, int], flags: int) -> tuple[int, int]:
    """A result with further flags."""
    return result[0], result[1] | flags


@compiled
def indefinite(flags: int) -> tuple[int, int]:
    """The "QNaN floating-point indefinite" (SDM volume 1, 4.8.3.7)."""
    return answer(TOP | QUIET, 1, SPECIAL, flags)


@compiled
def unpack(low: int, high: int) -> tuple[int, int, int, int]:
    """(kind, sign, exponent, significand, its highest bit set); the last two are FINITE's only."""
    sign = (high >> 15) & 1
    field = high & SPECIAL
    if field == 0:
        if low == 0:
            return ZERO, sign, 0, 0
        shift = leading_zeros(low)
        return FINITE, sign, 1 - BIAS - shift, low << shift
    if low >= 0:
        return UNSUPPORTED, sign, 0, 0
    if field == SPECIAL:
        if low == TOP:
            return INFINITE, sign, 0, 0
        return (QUIET_NAN if low & QUIET else SIGNALING_NAN), sign, 0, 0
    return FINITE, sign, field - BIAS, low


@compiled
def denormal(low: int, high: int) -> int:
    """DENORMAL_INPUT for a denormal or pseudo-denormal operand."""
    return DENORMAL_INPUT if high & SPECIAL == 0 and low != 0 else 0


@compiled
def rounds_up(rm: int, sign: int, last: int, rest: int) -> bool:
    """Whether a magnitude with this last bit is incremented; `rest` is cut off, in units of 2**-64."""
    if rm == RNE:
        return rest < 0 and (rest != TOP or last != 0)
    if rm == RMM:
        return rest < 0
    if rm == RDN:
        return rest != 0 and sign != 0
    if rm == RUP:
        return rest != 0 and sign == 0
    return False


@compiled
def round_extended(control: int, sign: int, exponent: int, high: int, low: int) -> tuple[int, int]:
    """The rounded encoding of a finite nonzero number (SDM volume 1, 4.8.4, 8.1.5.2, 8.5.4 to 8.5.6)."""
    rm = control & 7
    precision = (control >> PRECISION_SHIFT) & 3
    cut = 0
    if precision == 0:
        cut = 40
    elif precision == 2:
        cut = 11
    field = exponent + BIAS
    tiny = False
    if field <= 0:
        # Tiny unless it rounds up to the smallest normal number with an unbounded exponent.
        rest = low
        if cut:
            rest = (high << (64 - cut)) | shift_right(low, cut) | (1 if low & low_bits(cut) != 0 else 0)
        all_ones = shift_right(high, cut) == low_bits(63 - cut) * 2 + 1
        tiny = field < 0 or not all_ones or not rounds_up(rm, sign, 1, rest)
        if tiny and control & UNDERFLOW_UNMASKED:
            field += _WRAP
            if field <= 0:
                return answer(0, sign, 0, UNDERFLOW | INEXACT)
        else:
            high, low = shift_right_sticky_128(high, low, 1 - field if field > -126 else 127)
            field = 0
    rest = low
    if cut:
        rest = (high << (64 - cut)) | shift_right(low, cut) | (1 if low & low_bits(cut) != 0 else 0)
        high = high & ~low_bits(cut)
    flags = UNDERFLOW if tiny and (rest != 0 or control & UNDERFLOW_UNMASKED) else 0
    if rest != 0:
        flags |= INEXACT
        if rm == RTO:
            high |= 1 << cut
        elif rounds_up(rm, sign, (high >> cut) & 1, rest):
            flags |= ROUNDED_UP
            high = wrapping_add(high, 1 << cut)
            if high == 0:
                high = TOP
                field += 1
    if field == 0 and high < 0:
        field = 1
    if field >= SPECIAL:
        if control & OVERFLOW_UNMASKED and field - _WRAP < SPECIAL:
            return answer(high, sign, field - _WRAP, flags | OVERFLOW)
        if rm == RTZ or rm == RTO or (rm == RDN and sign == 0) or (rm == RUP and sign != 0):
            return answer(-1 << cut, sign, SPECIAL - 1, OVERFLOW | INEXACT)
        return answer(TOP, sign, SPECIAL, OVERFLOW | INEXACT | ROUNDED_UP)
    return answer(high, sign, field, flags)


@compiled
def propagated(a: int, a_high: int, b: int, b_high: int) -> tuple[int, int]:
    """What an operation gives that has a NaN or an unsupported operand (SDM volume 1, table 4-7): of two NaNs
    the one with the larger significand, of equal ones the positive. An operation with one operand names it
    twice.
    """
    kind_a, sign_a, _, _ = unpack(a, a_high)
    kind_b, sign_b, _, _ = unpack(b, b_high)
    if kind_a == UNSUPPORTED or kind_b == UNSUPPORTED:
        return indefinite(INVALID)
    nan_a = kind_a == QUIET_NAN or kind_a == SIGNALING_NAN
    nan_b = kind_b == QUIET_NAN or kind_b == SIGNALING_NAN
    flags = INVALID if kind_a == SIGNALING_NAN or kind_b == SIGNALING_NAN else 0
    second = not nan_a
    if nan_a and nan_b:
        if kind_a == SIGNALING_NAN and kind_b == QUIET_NAN:
            second = True
        elif kind_a == QUIET_NAN and kind_b == SIGNALING_NAN:
            second = False
        elif a == b:
            second = sign_b < sign_a
        else:
            second = unsigned_less(a, b)
    if second:
        return answer(b | QUIET, sign_b, SPECIAL, flags)
    return answer(a | QUIET, sign_a, SPECIAL, flags)


@compiled
def is_number(kind: int) -> bool:
    """Whether an operand of that kind is neither a NaN nor unsupported."""
    return kind <= INFINITE


@compiled
def _sum(
    control: int, sign_a: int, exp_a: int, sig_a: int, sign_b: int, exp_b: int, sig_b: int
) -> tuple[int, int]:
    """The sum of two finite nonzero numbers."""
    if exp_a < exp_b:
        sign_a, sign_b = sign_b, sign_a
        exp_a, exp_b = exp_b, exp_a
        sig_a, sig_b = sig_b, sig_a
    distance = exp_a - exp_b
    high = shift_right(sig_a, 1)
    low = sig_a << 63
    other_high, other_low = shift_right_sticky_128(
        shift_right(sig_b, 1), sig_b << 63, distance if distance < 127 else 127
    )
    if sign_a == sign_b:
        high, low = add_128(high, low, other_high, other_low)
    else:
        high, low = subtract_128(high, low, other_high, other_low)
        if high < 0:
            sign_a ^= 1
            high, low = subtract_128(0, 0, high, low)
        if high | low == 0:
            return answer(0, 1 if control & 7 == RDN else 0, 0, 0)
    shift = leading_zeros(high)
    if high == 0:
        shift = 64 + leading_zeros(low)
    high, low = shift_left_128(high, low, shift)
    return round_extended(control, sign_a, exp_a + 1 - shift, high, low)


@compiled
def add(policy: int, a: int, a_high: int, b: int, b_high: int, control: int, negate: int) -> tuple[int, int]:
    """a + b, or a - b if `negate` is 1; a NaN's sign is not negated."""
    kind_a, sign_a, exp_a, sig_a = unpack(a, a_high)
    kind_b, sign_b, exp_b, sig_b = unpack(b, b_high)
    if not is_number(kind_a) or not is_number(kind_b):
        return propagated(a, a_high, b, b_high)
    sign_b ^= negate
    flags = denormal(a, a_high) | denormal(b, b_high)
    if kind_a == FINITE and kind_b == FINITE:
        return with_flags(_sum(control, sign_a, exp_a, sig_a, sign_b, exp_b, sig_b), flags)
    if kind_a == INFINITE or kind_b == INFINITE:
        if kind_a == kind_b and sign_a != sign_b:
            return indefinite(INVALID)
        return answer(TOP, sign_a if kind_a == INFINITE else sign_b, SPECIAL, flags)
    if kind_a == FINITE:
        return with_flags(round_extended(control, sign_a, exp_a, sig_a, 0), flags)
    if kind_b == FINITE:
        return with_flags(round_extended(control, sign_b, exp_b, sig_b, 0), flags)
    if sign_a != sign_b:
        sign_a = 1 if control & 7 == RDN else 0
    return answer(0, sign_a, 0, 0)


@compiled
def multiply(policy: int, a: int, a_high: int, b: int, b_high: int, control: int) -> tuple[int, int]:
    """a * b."""
    kind_a, sign_a, exp_a, sig_a = unpack(a, a_high)
    kind_b, sign_b, exp_b, sig_b = unpack(b, b_high)
    if not is_number(kind_a) or not is_number(kind_b):
        return propagated(a, a_high, b, b_high)
    sign = sign_a ^ sign_b
    flags = denormal(a, a_high) | denormal(b, b_high)
    if kind_a == FINITE and kind_b == FINITE:
        high = multiply_high(sig_a, sig_b)
        low = multiply_low(sig_a, sig_b)
        exponent = exp_a + exp_b + 1
        if high >= 0:
            high, low = shift_left_128(high, low, 1)
            exponent -= 1
        return with_flags(round_extended(control, sign, exponent, high, low), flags)
    if kind_a == INFINITE or kind_b == INFINITE:
        if kind_a == ZERO or kind_b == ZERO:
            return indefinite(INVALID)
        return answer(TOP, sign, SPECIAL, flags)
    return answer(0, sign, 0, flags)


@compiled
def divide_128(high: int, low: int, divisor: int) -> tuple[int, int]:
    """(quotient, remainder) of 128 bits by 64; the divisor's highest bit is set and it is above `high`.

    Knuth, The Art of Computer Programming, volume 2, 4.3.1, algorithm D, with digits of 32 bits.
    """
    upper = shift_right(divisor, 32)
    lower = divisor & low_bits(32)
    quotient = 0
    rest = high
    for turn in range(2):
        digit = shift_right(low, 32) if turn == 0 else low & low_bits(32)
        guess = unsigned_divide(rest, upper)
        left = wrapping_subtract(rest, multiply_low(guess, upper))
        while shift_right(guess, 32) != 0 or unsigned_less((left << 32) | digit, multiply_low(guess, lower)):
            guess -= 1
            left = wrapping_add(left, upper)
            if shift_right(left, 32) != 0:
                break
        rest = wrapping_subtract((rest << 32) | digit, multiply_low(guess, divisor))
        quotient = wrapping_add(quotient << 32, guess)
    return quotient, rest


@compiled
def quotient(sig_a: int, sig_b: int) -> tuple[int, int, int]:
    """(high, low, 1 if below one) of the significands' quotient: highest bit set, lowest sticky."""
    below_one = 1 if unsigned_less(sig_a, sig_b) else 0
    if below_one:
        digits, rest = divide_128(sig_a, 0, sig_b)
    else:
        digits, rest = divide_128(shift_right(sig_a, 1), sig_a << 63, sig_b)
    low = 0
    if rest != 0:  # against half of the divisor
        twice = rest << 1
        if rest < 0 or not unsigned_less(twice, sig_b):
            low = TOP | (1 if twice != sig_b or rest < 0 else 0)
        else:
            low = 1
    return digits, low, below_one


@compiled
def divide(policy: int, a: int, a_high: int, b: int, b_high: int, control: int) -> tuple[int, int]:
    """a / b."""
    kind_a, sign_a, exp_a, sig_a = unpack(a, a_high)
    kind_b, sign_b, exp_b, sig_b = unpack(b, b_high)
    if not is_number(kind_a) or not is_number(kind_b):
        return propagated(a, a_high, b, b_high)
    sign = sign_a ^ sign_b
    flags = denormal(a, a_high) | denormal(b, b_high)
    if kind_a == FINITE and kind_b == FINITE:
        high, low, below_one = quotient(sig_a, sig_b)
        return with_flags(round_extended(control, sign, exp_a - exp_b - below_one, high, low), flags)
    if kind_a == INFINITE:
        if kind_b == INFINITE:
            return indefinite(INVALID)
        return answer(TOP, sign, SPECIAL, flags)
    if kind_b == ZERO:
        if kind_a == ZERO:
            return indefinite(INVALID)
        return answer(TOP, sign, SPECIAL, DIVIDE_BY_ZERO)
    return answer(0, sign, 0, flags)


@compiled
def square_root(policy: int, a: int, a_high: int, control: int) -> tuple[int, int]:
    """The square root of a."""
    kind, sign, exponent, significand = unpack(a, a_high)
    if not is_number(kind):
        return propagated(a, a_high, a, a_high)
    if kind == ZERO:
        return answer(0, sign, 0, 0)
    if sign:
        return indefinite(INVALID)
    if kind == INFINITE:
        return answer(TOP, 0, SPECIAL, 0)
    # The radicand as 128 bits, 2**126 at least; its root has 64.
    high = significand
    low = 0
    if exponent & 1 == 0:
        high = shift_right(significand, 1)
        low = significand << 63
    # One step of Newton's from above the root, starting from the host's root of the upper 53 bits.
    odd = exponent & 1
    start = f64_square_root(((1023 + odd) << 52) | (shift_right(significand, 11) & low_bits(52)))
    guess = wrapping_add(((start & low_bits(52)) << 11) | TOP, 1 << 12)
    if guess >= 0:
        guess = -1
    other, _ = divide_128(high, low, guess)
    root = wrapping_add(other, shift_right(wrapping_subtract(guess, other), 1))
    rest_high, rest_low = subtract_128(high, low, multiply_high(root, root), multiply_low(root, root))
    while rest_high < 0:
        root = wrapping_subtract(root, 1)
        rest_high, rest_low = add_128(rest_high, rest_low, shift_right(root, 63), (root << 1) | 1)
    rest = 0
    if rest_high != 0 or unsigned_less(root, rest_low):
        rest = TOP | 1
    elif rest_low != 0:
        rest = 1
    return with_flags(round_extended(control, 0, exponent >> 1, root, rest), denormal(a, a_high))


# --- comparison and conversion ------------------------------------------------------------------------------


@compiled
def relation(policy: int, a: int, a_high: int, b: int, b_high: int, signaling: int) -> tuple[int, int]:
    """0 less, 1 equal, 2 greater, 3 unordered, and flags; `signaling` 1: any NaN is invalid."""
    kind_a, sign_a, exp_a, sig_a = unpack(a, a_high)
    kind_b, sign_b, exp_b, sig_b = unpack(b, b_high)
    if not is_number(kind_a) or not is_number(kind_b):
        quiet_a = is_number(kind_a) or kind_a == QUIET_NAN
        quiet_b = is_number(kind_b) or kind_b == QUIET_NAN
        return 3, 0 if quiet_a and quiet_b and not signaling else INVALID
    flags = denormal(a, a_high) | denormal(b, b_high)
    if kind_a == ZERO and kind_b == ZERO:
        return 1, 0
    if kind_a == ZERO:
        return (2 if sign_b else 0), flags
    if kind_b == ZERO:
        return (0 if sign_a else 2), flags
    if sign_a != sign_b:
        return (0 if sign_a else 2), flags
    larger = 0 if sign_a else 2
    if kind_a == INFINITE or kind_b == INFINITE:
        if kind_a == kind_b:
            return 1, flags
        return (larger if kind_a == INFINITE else 2 - larger), flags
    if exp_a != exp_b:
        return (larger if exp_a > exp_b else 2 - larger), flags
    if sig_a == sig_b:
        return 1, flags
    return (2 - larger if unsigned_less(sig_a, sig_b) else larger), flags


@compiled
def _integral(rm: int, sign: int, exponent: int, significand: int) -> tuple[int, int]:
    """(the magnitude rounded to an integer, INEXACT and ROUNDED_UP), for exponent <= 63."""
    high, low = shift_right_sticky_128(significand, 0, 63 - exponent if exponent > -64 else 127)
    if low == 0:
        return high, 0
    if rm == RTO:
        return high | 1, INEXACT
    if rounds_up(rm, sign, high & 1, low):
        return wrapping_add(high, 1), INEXACT | ROUNDED_UP
    return high, INEXACT


@compiled
def to_integer(policy: int, a: int, a_high: int, control: int, bits: int) -> tuple[int, int]:
    """The signed integer as a pattern of `bits` bits; what doesn't fit is INVALID."""
    kind, sign, exponent, significand = unpack(a, a_high)
    if kind == ZERO:
        return 0, 0
    if kind != FINITE or exponent > 63:
        return 1 << (bits - 1), INVALID
    magnitude, flags = _integral(control & 7, sign, exponent, significand)
    limit = (1 << (bits - 1)) if sign else low_bits(bits - 1)
    if unsigned_less(limit, magnitude):
        return 1 << (bits - 1), INVALID
    if sign:
        magnitude = wrapping_subtract(0, magnitude)
        if bits < 64:
            magnitude &= low_bits(bits)
    return magnitude, flags


@compiled
def from_integer(policy: int, x: int, control: int) -> tuple[int, int]:
    """The signed 64-bit integer as a number: exact."""
    if x == 0:
        return 0, 0
    sign = shift_right(x, 63)
    magnitude = wrapping_subtract(0, x) if sign else x
    shift = leading_zeros(magnitude)
    return answer(magnitude << shift, sign, BIAS + 63 - shift, 0)


@compiled
def round_to_integral(policy: int, a: int, a_high: int, control: int) -> tuple[int, int]:
    """FRNDINT: the nearest integral value."""
    kind, sign, exponent, significand = unpack(a, a_high)
    if not is_number(kind):
        return propagated(a, a_high, a, a_high)
    if kind != FINITE or exponent >= 63:
        return answer(a, sign, a_high & SPECIAL, 0)
    magnitude, flags = _integral(control & 7, sign, exponent, significand)
    flags |= denormal(a, a_high)
    if magnitude == 0:
        return answer(0, sign, 0, flags)
    shift = leading_zeros(magnitude)
    return answer(magnitude << shift, sign, BIAS + 63 - shift, flags)


@compiled
def to_narrow(policy: int, a: int, a_high: int, control: int, width: int) -> tuple[int, int]:
    """The number in binary32 or binary64 (FST); denormal operands are not reported."""
    kind, sign, exponent, significand = unpack(a, a_high)
    if kind == ZERO:
        return sign << (width - 1), 0
    if kind == INFINITE:
        return narrow_infinity(width, sign), 0
    if kind == UNSUPPORTED:
        return default_nan(X86, width), INVALID
    if kind != FINITE:
        fraction = shift_right((a | QUIET) << 1, 12 if width == 64 else 41)
        return narrow_infinity(width, sign) | fraction, INVALID if kind == SIGNALING_NAN else 0
    rm = control & 7
    halved = shift_right(significand, 1) | (significand & 1)
    result, flags = round_pack(X86, width, rm, sign, exponent, halved)
    if flags & INEXACT:
        cut, _ = round_pack(X86, width, RTZ, sign, exponent, halved)
        if cut != result:
            flags |= ROUNDED_UP
    elif control & UNDERFLOW_UNMASKED and exponent < (-1022 if width == 64 else -126):
        flags |= UNDERFLOW
    return result, flags


@compiled
def from_narrow(policy: int, a: int, control: int, width: int) -> tuple[int, int]:
    """A binary32 or binary64 number (FLD): exact; denormal operands are reported, signalling NaNs made
    quiet, unless `control` is odd: an operation is going to see them.
    """
    kind, sign, exponent, significand = unpack_narrow(width, a)
    if kind == ZERO:
        return answer(0, sign, 0, 0)
    if kind == INFINITE:
        return answer(TOP, sign, SPECIAL, 0)
    fraction_bits = 52 if width == 64 else 23
    if kind != FINITE:
        fraction = (a & low_bits(fraction_bits)) << (63 - fraction_bits)
        if control & 1:
            return answer(TOP | fraction, sign, SPECIAL, 0)
        return answer(TOP | QUIET | fraction, sign, SPECIAL, INVALID if kind == SIGNALING_NAN else 0)
    field = shift_right(a, fraction_bits) & (0x7FF if width == 64 else 0xFF)
    return answer(significand << 1, sign, exponent + BIAS, DENORMAL_INPUT if field == 0 else 0)


# --- scaling and remainders ---------------------------------------------------------------------------------


@compiled
def scale(policy: int, a: int, a_high: int, b: int, b_high: int, control: int) -> tuple[int, int]:
    """FSCALE: a times two to the power of b, cut to an integer (SDM volume 2, table 3-32)."""
    kind_a, sign_a, exp_a, sig_a = unpack(a, a_high)
    kind_b, sign_b, exp_b, sig_b = unpack(b, b_high)
    if not is_number(kind_a) or not is_number(kind_b):
        return propagated(a, a_high, b, b_high)
    flags = denormal(a, a_high) | denormal(b, b_high)
    if kind_b == INFINITE:
        if (kind_a == ZERO and sign_b == 0) or (kind_a == INFINITE and sign_b):
            return indefinite(INVALID)
        if sign_b:
            return answer(0, sign_a, 0, flags)
        return answer(TOP, sign_a, SPECIAL, flags)
    if kind_a != FINITE:
        return answer(a, sign_a, a_high & SPECIAL, flags)
    distance = 0
    if kind_b == FINITE and exp_b >= 0:
        distance = shift_right(sig_b, 63 - exp_b) if exp_b < 17 else 1 << 17
    if sign_b:
        distance = -distance
    return with_flags(round_extended(control | FULL, sign_a, exp_a + distance, sig_a, 0), flags)


@compiled
def remainder(
    policy: int, a: int, a_high: int, b: int, b_high: int, control: int, nearest: int
) -> tuple[int, int]:
    """FPREM, or FPREM1 for `nearest` 1: the remainder of a / b. Of the further answers bits 0 to 2 are the
    quotient's low bits, bit 3 says that the reduction is incomplete (C2; SDM volume 2, "FPREM").
    """
    kind_a, sign_a, exp_a, sig_a = unpack(a, a_high)
    kind_b, _, exp_b, sig_b = unpack(b, b_high)
    if not is_number(kind_a) or not is_number(kind_b):
        return propagated(a, a_high, b, b_high)
    flags = denormal(a, a_high) | denormal(b, b_high)
    if kind_a == INFINITE or kind_b == ZERO:
        return indefinite(INVALID)
    if kind_a == ZERO:
        return answer(0, sign_a, 0, flags)
    distance = exp_a - exp_b
    if kind_b == INFINITE or distance < -1 or (distance < 0 and not nearest):
        return with_flags(round_extended(control | FULL, sign_a, exp_a, sig_a, 0), flags)
    steps = distance
    incomplete = 0
    if distance > 63:
        steps = 32 + distance % 32
        incomplete = 1
    # Long division, one bit a step; (carry, rest) is below twice the divisor.
    quotient_bits = 0
    rest = sig_a
    carry = 0
    exponent = exp_b
    if steps < 0:  # half of the divisor against the dividend: the quotient is 0 or 1
        exponent = exp_a
    else:
        for step in range(steps + 1):
            quotient_bits = (quotient_bits << 1) & 7
            if carry or not unsigned_less(rest, sig_b):
                rest = wrapping_subtract(rest, sig_b)
                quotient_bits |= 1
            if step < steps:
                carry = shift_right(rest, 63)
                rest <<= 1
        exponent = exp_a - steps
    sign = sign_a
    if nearest and not incomplete:
        if steps < 0:
            # |a| < |b|; more than half of it?
            if unsigned_less(sig_b, rest):
                rest_high, rest_low = subtract_128(sig_b, 0, shift_right(rest, 1), rest << 63)
                shift = leading_zeros(rest_high)
                rest_high, rest_low = shift_left_128(rest_high, rest_low, shift)
                result = round_extended(control | FULL, sign ^ 1, exp_b - shift, rest_high, rest_low)
                return with_flags(result, flags | 1 << MORE_SHIFT)
        else:
            twice_more = rest < 0 or unsigned_less(sig_b, rest << 1)
            equal = rest >= 0 and rest << 1 == sig_b
            if twice_more or (equal and quotient_bits & 1):
                rest = wrapping_subtract(sig_b, rest)
                sign ^= 1
                quotient_bits = (quotient_bits + 1) & 7
    more = 8 if incomplete else quotient_bits
    flags |= more << MORE_SHIFT
    if rest == 0:
        return answer(0, sign_a, 0, flags)
    shift = leading_zeros(rest)
    return with_flags(round_extended(control | FULL, sign, exponent - shift, rest << shift, 0), flags)
