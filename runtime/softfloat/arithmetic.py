"""Addition, multiplication, division, square root and fused multiply-add: numba code on int64 only.

Every function takes (policy, width, operands..., rm) and returns (encoding, flags).
"""

from __future__ import annotations

from runtime.softfloat.encoding import (
    FINITE,
    INFINITE,
    ZERO,
    compiled,
    flush,
    infinity,
    invalid,
    is_nan,
    is_signaling,
    normalize,
    propagate,
    round_pack,
    shift_right_sticky,
    signed_zero,
    unpack,
    with_denormal,
)
from runtime.softfloat.intrinsics import (
    add_128,
    f64_divide,
    f64_square_root,
    leading_zeros,
    multiply_high,
    multiply_low,
    shift_left_128,
    shift_right_sticky_128,
    subtract_128,
    wrapping_subtract,
)
from runtime.softfloat.policy import (
    DIVIDE_BY_ZERO,
    INF_ZERO_PROPAGATE,
    INF_ZERO_QUIET,
    INF_ZERO_RULE_MASK,
    INVALID,
)

_ONE = 1023 << 52  # binary64 1.0
_FRACTION = (1 << 52) - 1


@compiled
def _sum(
    policy: int, width: int, rm: int, sign_a: int, exp_a: int, sig_a: int, sign_b: int, exp_b: int, sig_b: int
) -> tuple[int, int]:
    """The sum of two finite nonzero numbers."""
    if exp_a < exp_b:
        sign_a, sign_b = sign_b, sign_a
        exp_a, exp_b = exp_b, exp_a
        sig_a, sig_b = sig_b, sig_a
    # One bit of headroom for the carry; operands have at most 53 bits, so these shifts lose nothing.
    aligned = shift_right_sticky(sig_b >> 1, exp_a - exp_b)
    if sign_a == sign_b:
        total = (sig_a >> 1) + aligned
    else:
        total = (sig_a >> 1) - aligned
        if total == 0:
            return signed_zero(width, rm), 0
        if total < 0:
            sign_a ^= 1
            total = -total
    exponent, significand = normalize(exp_a + 1, total)
    return round_pack(policy, width, rm, sign_a, exponent, significand)


@compiled
def _add(policy: int, width: int, a: int, b: int, rm: int) -> tuple[int, int]:
    """The sum of operands that are not NaNs."""
    kind_a, sign_a, exp_a, sig_a = unpack(width, a)
    kind_b, sign_b, exp_b, sig_b = unpack(width, b)
    if kind_a == FINITE and kind_b == FINITE:
        return _sum(policy, width, rm, sign_a, exp_a, sig_a, sign_b, exp_b, sig_b)
    if kind_a == INFINITE or kind_b == INFINITE:
        if kind_a == kind_b and sign_a != sign_b:
            return invalid(policy, width)
        return (a if kind_a == INFINITE else b), 0
    if kind_a == FINITE:
        return round_pack(policy, width, rm, sign_a, exp_a, sig_a)
    if kind_b == FINITE:
        return round_pack(policy, width, rm, sign_b, exp_b, sig_b)
    return (a if sign_a == sign_b else signed_zero(width, rm)), 0


@compiled
def add_signed(policy: int, width: int, a: int, b: int, rm: int, negate: int) -> tuple[int, int]:
    """a + b, or a - b if `negate` is 1; a NaN's sign is not negated."""
    a, denormal_a = flush(policy, width, a)
    b, denormal_b = flush(policy, width, b)
    if is_nan(width, a) or is_nan(width, b):
        result, flags = propagate(policy, width, a, b, 0)
        return result, with_denormal(policy, True, flags, denormal_a | denormal_b)
    result, flags = _add(policy, width, a, b ^ (negate << (width - 1)), rm)
    return result, with_denormal(policy, False, flags, denormal_a | denormal_b)


@compiled
def _multiply(policy: int, width: int, a: int, b: int, rm: int) -> tuple[int, int]:
    kind_a, sign_a, exp_a, sig_a = unpack(width, a)
    kind_b, sign_b, exp_b, sig_b = unpack(width, b)
    sign = sign_a ^ sign_b
    if kind_a == FINITE and kind_b == FINITE:
        # The product of two significands is below 2**126, so its upper half has 61 or 62 bits: enough to
        # round.
        high = multiply_high(sig_a, sig_b) | (1 if multiply_low(sig_a, sig_b) != 0 else 0)
        exponent, significand = normalize(exp_a + exp_b + 2, high)
        return round_pack(policy, width, rm, sign, exponent, significand)
    if kind_a == INFINITE or kind_b == INFINITE:
        if kind_a == ZERO or kind_b == ZERO:
            return invalid(policy, width)
        return infinity(width, sign), 0
    return sign << (width - 1), 0


@compiled
def multiply(policy: int, width: int, a: int, b: int, rm: int) -> tuple[int, int]:
    """a * b."""
    a, denormal_a = flush(policy, width, a)
    b, denormal_b = flush(policy, width, b)
    if is_nan(width, a) or is_nan(width, b):
        result, flags = propagate(policy, width, a, b, 0)
        return result, with_denormal(policy, True, flags, denormal_a | denormal_b)
    result, flags = _multiply(policy, width, a, b, rm)
    return result, with_denormal(policy, False, flags, denormal_a | denormal_b)


@compiled
def _divide(policy: int, width: int, a: int, b: int, rm: int) -> tuple[int, int]:
    kind_a, sign_a, exp_a, sig_a = unpack(width, a)
    kind_b, sign_b, exp_b, sig_b = unpack(width, b)
    sign = sign_a ^ sign_b
    if kind_a == FINITE and kind_b == FINITE:
        # The host divides the significands as numbers in [1, 2), correctly rounded to 53 bits. The remainder
        # is less than half a unit of that quotient, so it is exact modulo 2**64, and its sign is all that
        # rounding to 53 bits or fewer still needs: a quotient can't lie half-way between two 54-bit
        # neighbours.
        dividend = sig_a >> 10
        divisor = sig_b >> 10
        quotient = f64_divide(_ONE | (dividend & _FRACTION), _ONE | (divisor & _FRACTION))
        below_one = 1 if quotient < _ONE else 0
        digits = (quotient & _FRACTION) | (_FRACTION + 1)
        remainder = wrapping_subtract(dividend << (52 + below_one), multiply_low(digits, divisor))
        sticky = 1 if remainder > 0 else (-1 if remainder < 0 else 0)
        exponent, significand = normalize(exp_a - exp_b - below_one, (digits << 10) + sticky)
        return round_pack(policy, width, rm, sign, exponent, significand)
    if kind_a == INFINITE:
        if kind_b == INFINITE:
            return invalid(policy, width)
        return infinity(width, sign), 0
    if kind_b == ZERO:
        if kind_a == ZERO:
            return invalid(policy, width)
        return infinity(width, sign), DIVIDE_BY_ZERO
    return sign << (width - 1), 0


@compiled
def divide(policy: int, width: int, a: int, b: int, rm: int) -> tuple[int, int]:
    """a / b."""
    a, denormal_a = flush(policy, width, a)
    b, denormal_b = flush(policy, width, b)
    if is_nan(width, a) or is_nan(width, b):
        result, flags = propagate(policy, width, a, b, 0)
        return result, with_denormal(policy, True, flags, denormal_a | denormal_b)
    result, flags = _divide(policy, width, a, b, rm)
    return result, with_denormal(policy, False, flags, denormal_a | denormal_b)


@compiled
def _square_root(policy: int, width: int, a: int, rm: int) -> tuple[int, int]:
    kind, sign, exponent, significand = unpack(width, a)
    if kind == ZERO or (kind == INFINITE and sign == 0):
        return a, 0
    if sign != 0:
        return invalid(policy, width)
    # As in _divide: the host's root of a number in [1, 4), and the exact remainder's sign.
    odd = exponent & 1
    digits_a = significand >> 10
    root = f64_square_root((_ONE + (odd << 52)) | (digits_a & _FRACTION))
    digits = (root & _FRACTION) | (_FRACTION + 1)
    remainder = wrapping_subtract(digits_a << (52 + odd), multiply_low(digits, digits))
    sticky = 1 if remainder > 0 else (-1 if remainder < 0 else 0)
    return round_pack(policy, width, rm, 0, exponent >> 1, (digits << 10) + sticky)


@compiled
def square_root(policy: int, width: int, a: int, rm: int) -> tuple[int, int]:
    """The square root of a."""
    a, denormal = flush(policy, width, a)
    if is_nan(width, a):
        return propagate(policy, width, a, 0, 0)
    result, flags = _square_root(policy, width, a, rm)
    return result, with_denormal(policy, False, flags, denormal)


@compiled
def _at_most_127(count: int) -> int:
    return count if count < 127 else 127


@compiled
def fused_sum(
    sign: int, exponent: int, sig_a: int, sig_b: int, sign_c: int, exp_c: int, sig_c: int
) -> tuple[int, int, int]:
    """(sign, exponent, significand) of sig_a * sig_b + sig_c, not rounded; significand 0 if they cancel.

    `exponent` is the sum of the factors' exponents; sig_c may be 0, with any exponent up to `exponent`.
    """
    # The product, and the addend at the same scale: 128 bits whose bit 124 weighs 2**exponent.
    high = multiply_high(sig_a, sig_b)
    low = multiply_low(sig_a, sig_b)
    high_c = sig_c >> 2
    low_c = sig_c << 62
    if exp_c > exponent:
        # Of the product, at least 20 low bits are zeros: nothing is lost where the leading bits may cancel.
        high, low = shift_right_sticky_128(high, low, _at_most_127(exp_c - exponent))
        exponent = exp_c
    else:
        high_c, low_c = shift_right_sticky_128(high_c, low_c, _at_most_127(exponent - exp_c))
    if sign == sign_c:
        high, low = add_128(high, low, high_c, low_c)
    else:
        high, low = subtract_128(high, low, high_c, low_c)
        if high < 0:
            sign ^= 1
            high, low = subtract_128(0, 0, high, low)
        if high | low == 0:
            return sign, exponent, 0
    shift = leading_zeros(high) - 1
    if high == 0:
        shift = 63 + leading_zeros(low)
    high, low = shift_left_128(high, low, shift)
    return sign, exponent + 2 - shift, high | (1 if low != 0 else 0)


@compiled
def _fused(policy: int, width: int, a: int, b: int, c: int, rm: int) -> tuple[int, int]:
    kind_a, sign_a, exp_a, sig_a = unpack(width, a)
    kind_b, sign_b, exp_b, sig_b = unpack(width, b)
    kind_c, sign_c, exp_c, sig_c = unpack(width, c)
    sign = sign_a ^ sign_b
    if kind_a != FINITE or kind_b != FINITE:
        if kind_a == INFINITE or kind_b == INFINITE:
            if kind_a == ZERO or kind_b == ZERO or (kind_c == INFINITE and sign != sign_c):
                return invalid(policy, width)
            return infinity(width, sign), 0
        return _add(policy, width, sign << (width - 1), c, rm)
    if kind_c == INFINITE:
        return c, 0
    exponent = exp_a + exp_b
    if kind_c == ZERO:
        exp_c = exponent
    sign, exponent, significand = fused_sum(sign, exponent, sig_a, sig_b, sign_c, exp_c, sig_c)
    if significand == 0:
        return signed_zero(width, rm), 0
    return round_pack(policy, width, rm, sign, exponent, significand)


@compiled
def _infinity_times_zero_plus_nan(policy: int, width: int, propagated: int) -> tuple[int, int]:
    rule = policy & INF_ZERO_RULE_MASK
    if rule == INF_ZERO_PROPAGATE:
        return propagated, INVALID
    if rule == INF_ZERO_QUIET:
        return propagated, 0
    return invalid(policy, width)


@compiled
def fused_multiply_add(policy: int, width: int, a: int, b: int, c: int, rm: int) -> tuple[int, int]:
    """a * b + c, rounded once."""
    a, denormal_a = flush(policy, width, a)
    b, denormal_b = flush(policy, width, b)
    c, denormal_c = flush(policy, width, c)
    denormal = denormal_a | denormal_b | denormal_c
    if is_nan(width, a) or is_nan(width, b):
        result, flags = propagate(policy, width, a, b, c)
        return result, with_denormal(policy, True, flags, denormal)
    if is_nan(width, c):
        result, flags = propagate(policy, width, a, b, c)
        kind_a, _, _, _ = unpack(width, a)
        kind_b, _, _, _ = unpack(width, b)
        invalid_product = (kind_a == ZERO and kind_b == INFINITE) or (kind_a == INFINITE and kind_b == ZERO)
        if invalid_product and not is_signaling(width, c):
            result, flags = _infinity_times_zero_plus_nan(policy, width, result)
        return result, with_denormal(policy, True, flags, denormal)
    result, flags = _fused(policy, width, a, b, c, rm)
    return result, with_denormal(policy, False, flags, denormal)
