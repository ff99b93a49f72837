"""The x87's transcendental instructions (SDM volume 1, 8.3.6 to 8.3.10), as numba code on int64 only.

Each result has an error of less than 2**-45 units in its last place before it is rounded: in effect it is the
number nearest the exact one (the manual, 8.3.10, promises one unit). Angles are reduced by the manual's value
of pi, which has 66 bits (8.3.8), as processors do it.

Numbers come as in `extended`, and on the way as (exponent, high, low), 128 bits with the highest set, or as
signed fixed-point numbers (high, low) with `FIXED_BITS` = 126 fraction bits. Small results keep their
relative precision: they are a factor that holds the magnitude times a fixed-point series near 1.
"""

from __future__ import annotations

from fractions import Fraction
from math import factorial, isqrt
from typing import Final

from runtime.softfloat.encoding import FINITE, INFINITE, ZERO, compiled, low_bits
from runtime.softfloat.extended import (
    BIAS,
    FULL,
    MORE_SHIFT,
    SPECIAL,
    TOP,
    answer,
    denormal,
    indefinite,
    is_number,
    propagated,
    quotient,
    round_extended,
    unpack,
    with_flags,
)
from runtime.softfloat.intrinsics import (
    FIXED_BITS,
    add_128,
    f64_divide,
    fixed_multiply,
    leading_zeros,
    multiply_high,
    multiply_high_128,
    multiply_low,
    polynomial,
    shift_left_128,
    shift_right,
    shift_right_sticky_128,
    subtract_128,
    unsigned_less,
    wrapping_add,
)
from runtime.softfloat.policy import DIVIDE_BY_ZERO, INEXACT, INVALID

# --- constants, computed with integers ----------------------------------------------------------------------

_DIGITS: Final = 200


def _inverse_tangent(x: Fraction) -> int:
    """arctan(x) * 2**_DIGITS for 0 <= x <= 1, by Euler's series."""
    square = x * x / (1 + x * x)
    term = int(x / (1 + x * x) * (1 << _DIGITS))
    total, n = 0, 1
    while term:
        total += term
        term = int(term * square * 2 * n / (2 * n + 1))
        n += 1
    return total


def _logarithm_of_two() -> int:
    """ln(2) * 2**_DIGITS = 2 artanh(1/3) * 2**_DIGITS."""
    return sum(2 * (1 << _DIGITS) // ((2 * n + 1) * 3 ** (2 * n + 1)) for n in range(_DIGITS))


_LN2: Final = _logarithm_of_two()
_PI: Final = 4 * _inverse_tangent(Fraction(1))


def _signed(word: int) -> int:
    """64 bits as an int64."""
    return word - (1 << 64) if word >> 63 else word


def _normal(value: int) -> tuple[int, int]:
    """value / 2**_DIGITS as (high, low), the highest bit set."""
    top = value >> (value.bit_length() - 128)
    return _signed(top >> 64), _signed(top & (1 << 64) - 1)


def _fixed_point(value: int) -> tuple[int, int]:
    """value / 2**_DIGITS as a fixed-point number."""
    scaled = value >> (_DIGITS - FIXED_BITS)
    return _signed(scaled >> 64), _signed(scaled & (1 << 64) - 1)


_LN2_HIGH, _LN2_LOW = _normal(_LN2)  # times 2**-1
_LOG2E_HIGH, _LOG2E_LOW = _normal((1 << 2 * _DIGITS) // _LN2)  # times 2**0
_PI_HIGH, _PI_LOW = _normal(_PI)  # times 2**1
_ROOT_HALF: Final = _signed(isqrt(1 << 127))  # the root of 1/2, times 2**64
_ATAN = [_fixed_point(_inverse_tangent(Fraction(n, 8))) for n in range(9)]
(_ATAN1, _ATAN1_LOW), (_ATAN2, _ATAN2_LOW), (_ATAN3, _ATAN3_LOW), (_ATAN4, _ATAN4_LOW) = _ATAN[1:5]
(_ATAN5, _ATAN5_LOW), (_ATAN6, _ATAN6_LOW), (_ATAN7, _ATAN7_LOW), (_ATAN8, _ATAN8_LOW) = _ATAN[5:]
_HALF_PI_66: Final = 0xC90FDAA22168C234C >> 2
"""The manual's pi / 2, times 2**65."""
_HALF_PI_HIGH, _HALF_PI_LOW = _HALF_PI_66 >> 64, _signed(_HALF_PI_66 & (1 << 64) - 1)
_ONE: Final = 1 << 62
"""The upper word of 1 as a fixed-point number."""

_power_series = polynomial([Fraction(1, factorial(n + 1)) for n in range(30)])
"""(e**t - 1) / t for |t| <= ln 2."""
_artanh_series = polynomial([Fraction(1, 2 * n + 1) for n in range(24)])
"""artanh(z) / z over z**2, for |z| <= 3 - 2 * sqrt(2)."""
_arctan_series = polynomial([Fraction((-1) ** n, 2 * n + 1) for n in range(16)])
"""arctan(u) / u over u**2, for |u| <= 1 / 15."""
_sine_series = polynomial([Fraction((-1) ** n, factorial(2 * n + 1)) for n in range(16)])
"""sin(r) / r over r**2, for |r| <= pi / 4."""
_cosine_series = polynomial([Fraction((-1) ** n, factorial(2 * n)) for n in range(17)])
"""cos(r) over r**2, for |r| <= pi / 4."""

# --- numbers of 128 bits ------------------------------------------------------------------------------------


@compiled
def _normalize(exponent: int, high: int, low: int) -> tuple[int, int, int]:
    """(exponent, high, low) with the highest bit of a number that isn't zero set."""
    shift = leading_zeros(high) if high != 0 else 64 + leading_zeros(low)
    high, low = shift_left_128(high, low, shift)
    return exponent - shift, high, low


@compiled
def _times(exp_a: int, a: int, a_low: int, exp_b: int, b: int, b_low: int) -> tuple[int, int, int]:
    """The product of two numbers."""
    high, low = multiply_high_128(a, a_low, b, b_low)
    return _normalize(exp_a + exp_b + 1, high, low)


@compiled
def _to_fixed(exponent: int, high: int, low: int) -> tuple[int, int]:
    """A number below 2 as a fixed-point number."""
    shift = 1 - exponent
    return shift_right_sticky_128(high, low, shift if shift < 127 else 127)


@compiled
def _negated(sign: int, high: int, low: int) -> tuple[int, int]:
    """A fixed-point number with its sign."""
    if sign:
        return subtract_128(0, 0, high, low)
    return high, low


@compiled
def _reciprocal(high: int, low: int) -> tuple[int, int]:
    """1 / x for a fixed-point x in (1/2, 2), as one: three of Newton's steps from the host's quotient."""
    shift = leading_zeros(high)
    normal = high << shift
    start = f64_divide(1023 << 52, (1023 << 52) | (shift_right(normal, 11) & low_bits(52)))
    # In (1/2, 1], for x as if in [1, 2).
    guess = _ONE
    if start != 1023 << 52:
        guess = ((start & low_bits(52)) | (1 << 52)) << 9
    guess_low = 0
    if shift == 2:  # x in [1/2, 1)
        guess = guess << 1 if guess != _ONE else low_bits(63)
    for _ in range(3):
        product, product_low = fixed_multiply(high, low, guess, guess_low)
        error, error_low = subtract_128(_ONE, 0, product, product_low)
        step, step_low = fixed_multiply(guess, guess_low, error, error_low)
        guess, guess_low = add_128(guess, guess_low, step, step_low)
    return guess, guess_low


@compiled
def _rounded(control: int, sign: int, exponent: int, high: int, low: int, flags: int) -> tuple[int, int]:
    """The answer for an irrational number."""
    return with_flags(round_extended(control | FULL, sign, exponent, high, low | 1), flags | INEXACT)


# --- 2**x - 1 -----------------------------------------------------------------------------------------------


@compiled
def exponential(policy: int, a: int, a_high: int, control: int) -> tuple[int, int]:
    """F2XM1: 2**a - 1 for -1 <= a <= 1. Beyond, where the manual leaves it undefined, a itself."""
    kind, sign, exponent, significand = unpack(a, a_high)
    if not is_number(kind):
        return propagated(a, a_high, a, a_high)
    if kind == INFINITE:
        if sign:
            return answer(TOP, 1, BIAS, 0)
        return answer(TOP, 0, SPECIAL, 0)
    if kind == ZERO:
        return answer(0, sign, 0, 0)
    if exponent >= 0:
        if exponent == 0 and significand == TOP and sign:
            return answer(TOP, 1, BIAS - 1, 0)
        return answer(significand, sign, exponent + BIAS, 0)
    exp_t, t, t_low = _times(exponent, significand, 0, -1, _LN2_HIGH, _LN2_LOW)
    fixed, fixed_low = _to_fixed(exp_t, t, t_low)
    fixed, fixed_low = _negated(sign, fixed, fixed_low)
    series, series_low = _power_series(fixed, fixed_low)
    exp_s, series, series_low = _normalize(1, series, series_low)
    exp_r, high, low = _times(exp_t, t, t_low, exp_s, series, series_low)
    return _rounded(control, sign, exp_r, high, low, denormal(a, a_high))


# --- logarithms ---------------------------------------------------------------------------------------------


@compiled
def _artanh_log2e(exponent: int, d: int, d_low: int, sum_high: int, sum_low: int) -> tuple[int, int, int]:
    """log2((1 + z) / (1 - z)) with z = d / s for a number d and a fixed-point s, as a number."""
    inverse, inverse_low = _reciprocal(sum_high, sum_low)
    exp_i, inverse, inverse_low = _normalize(1, inverse, inverse_low)
    exp_z, z, z_low = _times(exponent, d, d_low, exp_i, inverse, inverse_low)
    fixed, fixed_low = _to_fixed(exp_z, z, z_low)
    square, square_low = fixed_multiply(fixed, fixed_low, fixed, fixed_low)
    series, series_low = _artanh_series(square, square_low)
    exp_s, series, series_low = _normalize(1, series, series_low)
    exp_r, high, low = _times(exp_z, z, z_low, exp_s, series, series_low)
    return _times(exp_r + 1, high, low, 0, _LOG2E_HIGH, _LOG2E_LOW)


@compiled
def _log2(exponent: int, high: int, low: int) -> tuple[int, int, int, int]:
    """(sign, exponent, high, low) of the logarithm of a number that isn't a power of two."""
    # m in [sqrt(1/2), sqrt(2)), and whole so that the number is m * 2**whole
    whole = exponent
    above = unsigned_less(high, _ROOT_HALF)
    sign = 0
    fixed, fixed_low = shift_right_sticky_128(high, low, 1)
    if above:
        difference, difference_low = subtract_128(fixed, fixed_low, _ONE, 0)
        exp_d = 1
    else:
        whole += 1
        fixed, fixed_low = shift_right_sticky_128(high, low, 2)
        difference, difference_low = subtract_128(0, 0, high, low)  # (1 - m) * 2**128
        exp_d = -1
        sign = 1
    # half of m + 1
    total, total_low = add_128(fixed, fixed_low, _ONE, 0)
    total, total_low = shift_right_sticky_128(total, total_low, 1)
    exp_d, difference, difference_low = _normalize(exp_d, difference, difference_low)
    exp_r, result, result_low = _artanh_log2e(exp_d - 1, difference, difference_low, total, total_low)
    if whole == 0:
        return sign, exp_r, result, result_low
    # whole + the fraction, which is at most 1/2: |whole| is below 2**15, so 16 bits before the point
    sum_sign = 1 if whole < 0 else 0
    magnitude = -whole if whole < 0 else whole
    fraction, fraction_low = shift_right_sticky_128(result, result_low, 16 - exp_r if exp_r > -111 else 127)
    if sum_sign == sign:
        result, result_low = add_128(magnitude << 47, 0, fraction, fraction_low)
    else:
        result, result_low = subtract_128(magnitude << 47, 0, fraction, fraction_low)
    exp_r, result, result_low = _normalize(16, result, result_low)
    return sum_sign, exp_r, result, result_low


@compiled
def logarithm(policy: int, a: int, a_high: int, b: int, b_high: int, control: int) -> tuple[int, int]:
    """FYL2X: b * log2(a) (SDM volume 2, table 3-56)."""
    kind_a, sign_a, exp_a, sig_a = unpack(a, a_high)
    kind_b, sign_b, exp_b, sig_b = unpack(b, b_high)
    if not is_number(kind_a) or not is_number(kind_b):
        return propagated(a, a_high, b, b_high)
    if sign_a and kind_a != ZERO:
        return indefinite(INVALID)
    flags = denormal(a, a_high) | denormal(b, b_high)
    if kind_a == ZERO:
        if kind_b == ZERO:
            return indefinite(INVALID)
        if kind_b == INFINITE:
            return answer(TOP, sign_b ^ 1, SPECIAL, flags)
        return answer(TOP, sign_b ^ 1, SPECIAL, DIVIDE_BY_ZERO)
    if kind_a == INFINITE:
        if kind_b == ZERO:
            return indefinite(INVALID)
        return answer(TOP, sign_b, SPECIAL, flags)
    is_one = exp_a == 0 and sig_a == TOP
    below_one = 1 if exp_a < 0 else 0
    if kind_b == INFINITE:
        if is_one:
            return indefinite(INVALID)
        return answer(TOP, sign_b ^ below_one, SPECIAL, flags)
    if is_one or kind_b == ZERO:
        return answer(0, sign_b ^ below_one, 0, flags)
    if sig_a == TOP:  # a power of two: the product is a rational number
        magnitude = -exp_a if exp_a < 0 else exp_a
        shift = leading_zeros(magnitude)
        high = multiply_high(sig_b, magnitude << shift)
        low = multiply_low(sig_b, magnitude << shift)
        exponent, high, low = _normalize(exp_b + 63 - shift + 1, high, low)
        return with_flags(round_extended(control | FULL, sign_b ^ below_one, exponent, high, low), flags)
    sign, exponent, high, low = _log2(exp_a, sig_a, 0)
    exponent, high, low = _times(exponent, high, low, exp_b, sig_b, 0)
    return _rounded(control, sign ^ sign_b, exponent, high, low, flags)


@compiled
def logarithm_of_successor(
    policy: int, a: int, a_high: int, b: int, b_high: int, control: int
) -> tuple[int, int]:
    """FYL2XP1: b * log2(a + 1) (SDM volume 2, table 3-57); also beyond the range that the manual defines."""
    kind_a, sign_a, exp_a, sig_a = unpack(a, a_high)
    kind_b, sign_b, exp_b, sig_b = unpack(b, b_high)
    if not is_number(kind_a) or not is_number(kind_b):
        return propagated(a, a_high, b, b_high)
    flags = denormal(a, a_high) | denormal(b, b_high)
    if sign_a and kind_a != ZERO and (kind_a == INFINITE or exp_a >= 0):
        if kind_a == FINITE and exp_a == 0 and sig_a == TOP:
            if kind_b == ZERO:
                return indefinite(INVALID)
            return answer(TOP, sign_b ^ 1, SPECIAL, flags if kind_b == INFINITE else DIVIDE_BY_ZERO)
        return indefinite(INVALID)
    if kind_a == INFINITE:
        if kind_b == ZERO:
            return indefinite(INVALID)
        return answer(TOP, sign_b, SPECIAL, flags)
    if kind_a == ZERO:
        if kind_b == INFINITE:
            return indefinite(INVALID)
        return answer(0, sign_a ^ sign_b, 0, flags)
    if kind_b == INFINITE:
        return answer(TOP, sign_a ^ sign_b, SPECIAL, flags)
    if kind_b == ZERO:
        return answer(0, sign_a ^ sign_b, 0, flags)
    sign = sign_a
    if exp_a < -2:  # |a| < 1/4: z = a/2 / (1 + a/2), which needs no sum that cancels
        half, half_low = _to_fixed(exp_a - 1, sig_a, 0)
        half, half_low = _negated(sign_a, half, half_low)
        total, total_low = add_128(_ONE, 0, half, half_low)
        exponent, high, low = _artanh_log2e(exp_a - 1, sig_a, 0, total, total_low)
    elif exp_a > 63:  # a itself but for what is far behind the last digit
        sign, exponent, high, low = _log2(exp_a, sig_a, 1 << 63 if exp_a == 64 else 1)
    else:
        shift = exp_a + 1 if exp_a > 0 else 1
        one_high, one_low = shift_right_sticky_128(TOP, 0, shift)
        other_high, other_low = shift_right_sticky_128(sig_a, 0, shift - exp_a)
        if sign_a:
            high, low = subtract_128(one_high, one_low, other_high, other_low)
        else:
            high, low = add_128(one_high, one_low, other_high, other_low)
        exponent, high, low = _normalize(shift, high, low)
        if high == TOP and low == 0:
            magnitude = -exponent if exponent < 0 else exponent
            shift = leading_zeros(magnitude)
            high = multiply_high(sig_b, magnitude << shift)
            low = multiply_low(sig_b, magnitude << shift)
            exponent, high, low = _normalize(exp_b + 63 - shift + 1, high, low)
            return with_flags(round_extended(control | FULL, sign_a ^ sign_b, exponent, high, low), flags)
        sign, exponent, high, low = _log2(exponent, high, low)
    exponent, high, low = _times(exponent, high, low, exp_b, sig_b, 0)
    return _rounded(control, sign ^ sign_b, exponent, high, low, flags)


# --- arctangent ---------------------------------------------------------------------------------------------


@compiled
def _arctan_of_step(step: int) -> tuple[int, int]:
    """arctan(step / 8), fixed-point."""
    if step == 1:
        return _ATAN1, _ATAN1_LOW
    if step == 2:
        return _ATAN2, _ATAN2_LOW
    if step == 3:
        return _ATAN3, _ATAN3_LOW
    if step == 4:
        return _ATAN4, _ATAN4_LOW
    if step == 5:
        return _ATAN5, _ATAN5_LOW
    if step == 6:
        return _ATAN6, _ATAN6_LOW
    if step == 7:
        return _ATAN7, _ATAN7_LOW
    return _ATAN8, _ATAN8_LOW


@compiled
def _arctan(distance: int, y: int, x: int) -> tuple[int, int, int]:
    """arctan(y / x) of significands, y's exponent being `distance` above x's, for a quotient of at most 1."""
    if distance < -56:  # a little less than the quotient
        high, low, below_one = quotient(y, x)
        high, low = subtract_128(high, low, 0, 1)
        return _normalize(distance - below_one, high, low)
    # y / x = step / 8 + ..., to the nearest eighth: u = (8y - step x) / (8x + step y)
    shifted_y, shifted_y_low = shift_right_sticky_128(y, 0, -distance)
    eighths = 0
    if distance > -6:
        ratio = f64_divide(
            ((1023 + distance) << 52) | (shift_right(y, 11) & low_bits(52)),
            (1023 << 52) | (shift_right(x, 11) & low_bits(52)),
        )
        field = shift_right(ratio, 52)
        digits = (ratio & low_bits(52)) | (1 << 52)
        eighths = shift_right(digits, 1023 + 52 - 4 - field) if field > 1023 - 12 else 0
        eighths = (eighths + 1) >> 1
    if eighths == 0:
        # z = y / x directly
        fixed_x = shift_right(x, 1)
        inverse, inverse_low = _reciprocal(fixed_x, x << 63)
        exp_i, inverse, inverse_low = _normalize(1, inverse, inverse_low)
        exp_u, u, u_low = _times(distance, y, 0, exp_i, inverse, inverse_low)
        negative = 0
    else:
        # both at 4 bits of headroom: numbers in units of 2**-123 of x's weight
        y8, y8_low = shift_right_sticky_128(shifted_y, shifted_y_low, 2)  # 8 y / 32
        x8, x8_low = shift_right_sticky_128(x, 0, 2)
        ys, ys_low = shift_right_sticky_128(shifted_y, shifted_y_low, 5)  # y / 32
        xs, xs_low = shift_right_sticky_128(x, 0, 5)
        step_x = multiply_low(xs, eighths)
        step_x = wrapping_add(step_x, multiply_high(xs_low, eighths))
        step_x_low = multiply_low(xs_low, eighths)
        step_y = multiply_low(ys, eighths)
        step_y = wrapping_add(step_y, multiply_high(ys_low, eighths))
        step_y_low = multiply_low(ys_low, eighths)
        top, top_low = subtract_128(y8, y8_low, step_x, step_x_low)
        bottom, bottom_low = add_128(x8, x8_low, step_y, step_y_low)
        negative = 0
        if top < 0:
            negative = 1
            top, top_low = subtract_128(0, 0, top, top_low)
        if top | top_low == 0:
            angle, angle_low = _arctan_of_step(eighths)
            return _normalize(1, angle, angle_low)
        exp_t, top, top_low = _normalize(0, top, top_low)
        exp_b, bottom, bottom_low = _normalize(0, bottom, bottom_low)
        fixed, fixed_low = shift_right_sticky_128(bottom, bottom_low, 1)
        inverse, inverse_low = _reciprocal(fixed, fixed_low)
        exp_i, inverse, inverse_low = _normalize(1, inverse, inverse_low)
        exp_u, u, u_low = _times(exp_t - exp_b, top, top_low, exp_i, inverse, inverse_low)
    fixed, fixed_low = _to_fixed(exp_u, u, u_low)
    square, square_low = fixed_multiply(fixed, fixed_low, fixed, fixed_low)
    series, series_low = _arctan_series(square, square_low)
    exp_s, series, series_low = _normalize(1, series, series_low)
    exp_r, high, low = _times(exp_u, u, u_low, exp_s, series, series_low)
    if eighths == 0:
        return exp_r, high, low
    angle, angle_low = _arctan_of_step(eighths)
    high, low = _to_fixed(exp_r, high, low)
    if negative:
        angle, angle_low = subtract_128(angle, angle_low, high, low)
    else:
        angle, angle_low = add_128(angle, angle_low, high, low)
    return _normalize(1, angle, angle_low)


@compiled
def _less_angle(exponent: int, high: int, low: int, pi_exponent: int) -> tuple[int, int, int]:
    """pi * 2**(pi_exponent - 1) minus a smaller positive number."""
    distance = pi_exponent - exponent
    high, low = shift_right_sticky_128(high, low, distance if distance < 127 else 127)
    high, low = subtract_128(_PI_HIGH, _PI_LOW, high, low)
    return _normalize(pi_exponent, high, low)


@compiled
def arctangent(policy: int, a: int, a_high: int, b: int, b_high: int, control: int) -> tuple[int, int]:
    """FPATAN: the angle of the point (a, b), from -pi to pi (SDM volume 2, table 3-32)."""
    kind_x, sign_x, exp_x, sig_x = unpack(a, a_high)
    kind_y, sign_y, exp_y, sig_y = unpack(b, b_high)
    if not is_number(kind_x) or not is_number(kind_y):
        return propagated(a, a_high, b, b_high)
    flags = denormal(a, a_high) | denormal(b, b_high)
    if kind_y == ZERO or (kind_x == INFINITE and kind_y != INFINITE):
        if sign_x:
            return _rounded(control, sign_y, 1, _PI_HIGH, _PI_LOW, flags)
        return answer(0, sign_y, 0, flags)
    if kind_x == ZERO or (kind_y == INFINITE and kind_x != INFINITE):
        return _rounded(control, sign_y, 0, _PI_HIGH, _PI_LOW, flags)
    if kind_x == INFINITE:  # both are
        exponent, high, low = -1, _PI_HIGH, _PI_LOW
    else:
        distance = exp_y - exp_x
        if distance > 0 or (distance == 0 and unsigned_less(sig_x, sig_y)):
            exponent, high, low = _arctan(-distance, sig_x, sig_y)
            # pi / 2 minus that, or plus it for a negative x
            if sign_x:
                distance = 2 - exponent if exponent > -125 else 127
                shifted, shifted_low = shift_right_sticky_128(high, low, distance)
                half_pi, half_pi_low = shift_right_sticky_128(_PI_HIGH, _PI_LOW, 2)
                high, low = add_128(half_pi, half_pi_low, shifted, shifted_low)
                exponent, high, low = _normalize(2, high, low)
            else:
                exponent, high, low = _less_angle(exponent, high, low, 0)
            return _rounded(control, sign_y, exponent, high, low, flags)
        if sign_x == 0 and distance == 0 and sig_x == sig_y:
            exponent, high, low = -1, _PI_HIGH, _PI_LOW
        else:
            exponent, high, low = _arctan(distance, sig_y, sig_x)
    if sign_x:
        exponent, high, low = _less_angle(exponent, high, low, 1)
    return _rounded(control, sign_y, exponent, high, low, flags)


# --- sine, cosine, tangent ----------------------------------------------------------------------------------


@compiled
def _reduced(exponent: int, significand: int) -> tuple[int, int, int, int, int]:
    """(quadrant, sign, exponent, high, low) of a positive angle below 2**63: it is quadrant * pi / 2 plus the
    number, which is at most pi / 4 in magnitude, and exact.
    """
    if exponent < -1 or (exponent == -1 and not unsigned_less(_PI_HIGH, significand)):
        return 0, 0, exponent, significand, 0
    # The rest in units of 2**-65, below pi / 2 after each step; before the first one it is below 2 * pi / 2.
    rest_high, rest_low = shift_left_128(0, significand, 2 if exponent >= 0 else 1)
    steps = exponent if exponent >= 0 else 0
    quadrant = 0
    for step in range(steps + 1):
        quadrant = (quadrant << 1) & 3
        less_high, less_low = subtract_128(rest_high, rest_low, _HALF_PI_HIGH, _HALF_PI_LOW)
        if less_high >= 0:
            rest_high, rest_low = less_high, less_low
            quadrant |= 1
        if step < steps:
            rest_high, rest_low = shift_left_128(rest_high, rest_low, 1)
    other_high, other_low = subtract_128(_HALF_PI_HIGH, _HALF_PI_LOW, rest_high, rest_low)
    difference, _ = subtract_128(other_high, other_low, rest_high, rest_low)
    sign = 0
    if difference < 0:  # the next multiple is nearer
        rest_high, rest_low = other_high, other_low
        sign = 1
        quadrant = (quadrant + 1) & 3
    if rest_high | rest_low == 0:
        return quadrant, 0, 0, 0, 0
    exponent, high, low = _normalize(127 - 65, rest_high, rest_low)
    return quadrant, sign, exponent, high, low


@compiled
def _sine_of(exponent: int, high: int, low: int) -> tuple[int, int, int]:
    """sin(r) of a number up to pi / 4."""
    if high == 0:
        return 0, 0, 0
    fixed, fixed_low = _to_fixed(exponent, high, low)
    square, square_low = fixed_multiply(fixed, fixed_low, fixed, fixed_low)
    series, series_low = _sine_series(square, square_low)
    if series == _ONE and series_low == 0:  # a little less
        series, series_low = low_bits(62), -1
    exp_s, series, series_low = _normalize(1, series, series_low)
    return _times(exponent, high, low, exp_s, series, series_low)


@compiled
def _cosine_of(exponent: int, high: int, low: int) -> tuple[int, int, int]:
    """cos(r) of a number up to pi / 4."""
    if high == 0:
        return 0, TOP, 0
    fixed, fixed_low = _to_fixed(exponent, high, low)
    square, square_low = fixed_multiply(fixed, fixed_low, fixed, fixed_low)
    series, series_low = _cosine_series(square, square_low)
    if series == _ONE and series_low == 0:
        series, series_low = low_bits(62), -1
    return _normalize(1, series, series_low)


@compiled
def trigonometric(policy: int, a: int, a_high: int, control: int, function: int) -> tuple[int, int]:
    """FSIN (`function` 0), FCOS (1), FPTAN (2). Bit 3 of the further answers: |a| is 2**63 or more, and it is
    left alone (C2).
    """
    kind, sign, exponent, significand = unpack(a, a_high)
    if not is_number(kind):
        return propagated(a, a_high, a, a_high)
    if kind == INFINITE:
        return indefinite(INVALID)
    if kind == ZERO:
        if function == 1:
            return answer(TOP, 0, BIAS, 0)
        return answer(0, sign, 0, 0)
    if exponent >= 63:
        return answer(a, sign, a_high & SPECIAL, 8 << MORE_SHIFT)
    flags = denormal(a, a_high)
    quadrant, rest_sign, exponent, high, low = _reduced(exponent, significand)
    if function == 1:
        quadrant = (quadrant + 1) & 3
        sign = 0
    if function == 2:
        if exponent < -56 and quadrant & 1 == 0:  # a little more than the angle
            return _rounded(control, sign ^ rest_sign, exponent, high, low, flags)
        exp_s, sine, sine_low = _sine_of(exponent, high, low)
        exp_c, cosine, cosine_low = _cosine_of(exponent, high, low)
        sign ^= rest_sign
        if quadrant & 1:
            sign ^= 1
            exp_s, exp_c = exp_c, exp_s
            sine, cosine = cosine, sine
            sine_low, cosine_low = cosine_low, sine_low
        fixed, fixed_low = shift_right_sticky_128(cosine, cosine_low, 1)
        inverse, inverse_low = _reciprocal(fixed, fixed_low)
        exp_i, inverse, inverse_low = _normalize(1, inverse, inverse_low)
        exponent, high, low = _times(exp_s - exp_c, sine, sine_low, exp_i, inverse, inverse_low)
        return _rounded(control, sign, exponent, high, low, flags)
    if quadrant & 1:
        exponent, high, low = _cosine_of(exponent, high, low)
    else:
        exponent, high, low = _sine_of(exponent, high, low)
        sign ^= rest_sign
    if quadrant & 2:
        sign ^= 1
    return _rounded(control, sign, exponent, high, low, flags)
