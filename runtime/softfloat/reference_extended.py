"""The x87's operations on Python integers: slow, and written to be obviously correct; the oracle of
`extended` and `transcendental`, with which it shares nothing but constants.

Encodings are ints of 80 bits (SDM volume 1, 4.2.2), `control` is that of `policy`. Each operation returns
(result, flags, more): flags of 7 bits, more of 4 (of remainders: the quotient's low three bits, or 8 for an
incomplete one; of angles: 8 where they are too large). Irrational results are computed to `_DIGITS` bits.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import isqrt
from typing import Final

from runtime.softfloat import policy as p
from runtime.softfloat import reference
from runtime.softfloat.reference import EQUAL, GREATER, LESS, UNORDERED, Rational
from runtime.softfloat.symbols import EXTENDED

Outcome = tuple[int, int, int]
"""(result, flags, more)."""

_SIGN: Final = 1 << 79
_INTEGER: Final = 1 << 63
_QUIET: Final = 1 << 62
_SPECIAL: Final = 0x7FFF
_BIAS: Final = 16383
_INFINITY: Final = _SPECIAL << 64 | _INTEGER
_INDEFINITE: Final = _SIGN | _INFINITY | _QUIET
_ONE: Final = _BIAS << 64 | _INTEGER
_WRAP: Final = 24576
_DIGITS: Final = 320
"""Bits of the fixed-point numbers below; a result that needs more than 160 to be rounded is not known."""


class _Operand:
    """An encoding, taken apart."""

    def __init__(self, encoding: int) -> None:
        if not 0 <= encoding < 1 << 80:
            raise ValueError(f"{encoding:#x} is not an encoding of 80 bits")
        self.encoding = encoding
        self.negative = bool(encoding & _SIGN)
        self.field = encoding >> 64 & _SPECIAL
        self.significand = encoding & (1 << 64) - 1
        integer_bit = bool(self.significand & _INTEGER)
        self.supported = self.field == 0 or integer_bit
        self.infinite = self.field == _SPECIAL and self.significand == _INTEGER
        self.nan = self.field == _SPECIAL and integer_bit and not self.infinite
        self.signaling = self.nan and not self.significand & _QUIET
        self.zero = self.field == 0 and self.significand == 0
        self.denormal = self.field == 0 and self.significand != 0
        self.number = self.supported and not self.nan

    @property
    def value(self) -> Rational:
        """The exact value of a finite number."""
        sign = -1 if self.negative else 1
        return Rational(sign * self.significand, 1, max(self.field, 1) - _BIAS - 63)

    @property
    def fraction(self) -> Fraction:
        """The same."""
        value = self.value
        return Fraction(value.numerator) * Fraction(2) ** value.exponent


def _sign(negative: bool) -> int:
    return _SIGN if negative else 0


def _round(control: int, x: Rational, *, full: bool = False) -> Outcome:
    """A nonzero number, rounded; `full`: to 64 bits whatever the control says."""
    rm, precision = control & 7, {0: 24, 2: 53}.get(control >> p.PRECISION_SHIFT & 3, 64)
    if full:
        precision = 64
    negative = x.numerator < 0
    exponent = reference._floor_log2(x)
    flags = 0

    def digits(quantum: int) -> tuple[int, int]:
        """The significand in units of 2**quantum, and INEXACT and ROUNDED_UP."""
        whole, rest, unit = reference._scaled(x, quantum)
        near = reference._nearby_integer(rm, negative, whole, rest, unit)
        return near, (p.INEXACT if rest else 0) | (p.ROUNDED_UP if near > whole and rm != p.RTO else 0)

    unbounded, unbounded_flags = digits(exponent - precision + 1)
    tiny = exponent + (unbounded >> precision) < 1 - _BIAS
    if tiny and not control & p.UNDERFLOW_UNMASKED:
        significand, flags = digits(1 - _BIAS - precision + 1)
        significand <<= 64 - precision
        field = significand >> 63
        if flags & p.INEXACT:
            flags |= p.UNDERFLOW
        return _sign(negative) | field << 64 | significand, flags, 0
    flags = unbounded_flags
    significand = unbounded << 64 - precision
    field = exponent + _BIAS
    if significand >> 64:
        significand, field = significand >> 1, field + 1
    if tiny:
        field += _WRAP
        flags |= p.UNDERFLOW
        if field <= 0:
            return _sign(negative), p.UNDERFLOW | p.INEXACT, 0
    if field >= _SPECIAL:
        if control & p.OVERFLOW_UNMASKED and field - _WRAP < _SPECIAL:
            return _sign(negative) | field - _WRAP << 64 | significand, flags | p.OVERFLOW, 0
        if rm in (p.RTZ, p.RTO) or (rm == p.RDN and not negative) or (rm == p.RUP and negative):
            largest = (1 << 64) - (1 << 64 - precision)
            return _sign(negative) | (_SPECIAL - 1) << 64 | largest, p.OVERFLOW | p.INEXACT, 0
        return _sign(negative) | _INFINITY, p.OVERFLOW | p.INEXACT | p.ROUNDED_UP, 0
    return _sign(negative) | field << 64 | significand, flags, 0


def _nan(*operands: _Operand) -> Outcome:
    """The result where an operand is a NaN or unsupported (SDM volume 1, table 4-7)."""
    if not all(x.supported for x in operands):
        return _INDEFINITE, p.INVALID, 0
    nans = [x for x in operands if x.nan]
    flags = p.INVALID if any(x.signaling for x in nans) else 0
    if len(nans) == 2 and nans[0].signaling != nans[1].signaling:
        nans = [x for x in nans if not x.signaling]
    chosen = max(nans, key=lambda x: (x.significand, not x.negative))
    return chosen.encoding | _QUIET, flags, 0


def _operate(core: Callable[..., Outcome], *encodings: int) -> Outcome:
    """NaNs and denormal operands around `core(*operands)`."""
    operands = [_Operand(encoding) for encoding in encodings]
    if not all(x.number for x in operands):
        return _nan(*operands)
    result, flags, more = core(*operands)
    if any(x.denormal for x in operands) and not flags & (p.INVALID | p.DIVIDE_BY_ZERO):
        flags |= p.DENORMAL_INPUT
    return result, flags, more


_INVALID: Final[Outcome] = (_INDEFINITE, p.INVALID, 0)


def _infinity(negative: bool) -> Outcome:
    return _sign(negative) | _INFINITY, 0, 0


def _zero(negative: bool) -> Outcome:
    return _sign(negative), 0, 0


def add(a: int, b: int, control: int, negate: int) -> Outcome:
    """a + b, or a - b."""

    def core(x: _Operand, y: _Operand) -> Outcome:
        negative = y.negative != bool(negate)
        if x.infinite or y.infinite:
            if x.infinite and y.infinite and x.negative != negative:
                return _INVALID
            return _infinity(x.negative if x.infinite else negative)
        other = -y.value if negate else y.value
        total = x.value.plus(other)
        if total.numerator:
            return _round(control, total)
        same = x.zero and y.zero and x.negative == negative
        return _zero(x.negative if same else control & 7 == p.RDN)

    return _operate(core, a, b)


def mul(a: int, b: int, control: int) -> Outcome:
    """a * b."""

    def core(x: _Operand, y: _Operand) -> Outcome:
        negative = x.negative != y.negative
        if x.infinite or y.infinite:
            return _INVALID if x.zero or y.zero else _infinity(negative)
        if x.zero or y.zero:
            return _zero(negative)
        return _round(control, x.value.times(y.value))

    return _operate(core, a, b)


def div(a: int, b: int, control: int) -> Outcome:
    """a / b."""

    def core(x: _Operand, y: _Operand) -> Outcome:
        negative = x.negative != y.negative
        if x.infinite:
            return _INVALID if y.infinite else _infinity(negative)
        if y.zero:
            return _INVALID if x.zero else (_sign(negative) | _INFINITY, p.DIVIDE_BY_ZERO, 0)
        if y.infinite or x.zero:
            return _zero(negative)
        magnitude = _Operand(a & ~_SIGN).value.over(_Operand(b & ~_SIGN).value)
        return _round(control, -magnitude if negative else magnitude)

    return _operate(core, a, b)


def sqrt(a: int, control: int) -> Outcome:
    """The square root of a."""

    def core(x: _Operand) -> Outcome:
        if x.zero:
            return x.encoding, 0, 0
        if x.negative:
            return _INVALID
        if x.infinite:
            return _infinity(False)
        value = x.value
        shift = 140 + value.exponent % 2
        n = value.numerator << shift
        root = isqrt(n)
        return _round(control, Rational(2 * root + (root * root != n), 1, (value.exponent - shift) // 2 - 1))

    return _operate(core, a)


def relation(a: int, b: int, signaling: int) -> Outcome:
    """LESS, EQUAL, GREATER or UNORDERED."""
    x, y = _Operand(a), _Operand(b)
    if not (x.number and y.number):
        quiet = not signaling and all(o.supported and not o.signaling for o in (x, y))
        return UNORDERED, 0 if quiet else p.INVALID, 0
    flags = p.DENORMAL_INPUT if x.denormal or y.denormal else 0

    def key(o: _Operand) -> Fraction:
        if o.infinite:
            return Fraction(-(1 << 20000) if o.negative else 1 << 20000)
        return o.fraction

    left, right = key(x), key(y)
    return (LESS if left < right else EQUAL if left == right else GREATER), flags, 0


def _integer(control: int, x: _Operand) -> tuple[int, int]:
    whole, rest, unit = reference._scaled(x.value, 0)
    near = reference._nearby_integer(control & 7, x.negative, whole, rest, unit)
    flags = (p.INEXACT if rest else 0) | (p.ROUNDED_UP if near > whole and control & 7 != p.RTO else 0)
    return (-near if x.negative else near), flags


def to_integer(a: int, control: int, bits: int) -> Outcome:
    """The signed integer of `bits` bits."""
    x = _Operand(a)
    if not x.number or x.infinite:
        return 1 << bits - 1, p.INVALID, 0
    value, flags = _integer(control, x)
    if not -(1 << bits - 1) <= value < 1 << bits - 1:
        return 1 << bits - 1, p.INVALID, 0
    return value & (1 << bits) - 1, flags, 0


def from_integer(x: int, control: int) -> Outcome:
    """The number that a signed integer of 64 bits is."""
    value = x - (1 << 64) if x >> 63 else x
    return _round(0, Rational(value, 1, 0), full=True) if value else (0, 0, 0)


def integral(a: int, control: int) -> Outcome:
    """FRNDINT."""

    def core(x: _Operand) -> Outcome:
        if x.infinite or x.zero:
            return x.encoding, 0, 0
        value, flags = _integer(control, x)
        if value == 0:
            return _sign(x.negative), flags, 0
        return _round(0, Rational(value, 1, 0), full=True)[0], flags, 0

    return _operate(core, a)


def to_narrow(a: int, control: int, width: int) -> Outcome:
    """FST of 32 or 64 bits."""
    x = _Operand(a)
    form = reference.FORMATS[width]
    sign = form.sign_bit if x.negative else 0
    if not x.supported:
        return form.sign_bit | form.infinity | form.quiet_bit, p.INVALID, 0
    if x.nan:
        fraction = (x.significand & _INTEGER - 1 | _QUIET) >> 63 - form.fraction_bits
        return sign | form.infinity | fraction, p.INVALID if x.signaling else 0, 0
    if x.infinite:
        return sign | form.infinity, 0, 0
    if x.zero:
        return sign, 0, 0
    result, flags = reference._rounded(p.X86, form, control & 7, x.value)
    if flags & p.INEXACT:
        cut, _ = reference._rounded(p.X86, form, p.RTZ, x.value)
        flags |= p.ROUNDED_UP if cut != result else 0
    elif control & p.UNDERFLOW_UNMASKED and reference._floor_log2(x.value) < form.min_exponent:
        flags |= p.UNDERFLOW
    return result, flags, 0


def from_narrow(a: int, control: int, width: int) -> Outcome:
    """FLD of 32 or 64 bits."""
    form = reference.FORMATS[width]
    negative = bool(a & form.sign_bit)
    if reference._is_nan(form, a):
        fraction = (a & (1 << form.fraction_bits) - 1) << 63 - form.fraction_bits
        signaling = reference._is_signaling(form, a)
        if control & 1:
            return _sign(negative) | _INFINITY | fraction, 0, 0
        return _sign(negative) | _INFINITY | _QUIET | fraction, p.INVALID if signaling else 0, 0
    if reference._is_infinite(form, a):
        return _infinity(negative)
    if reference._is_zero(form, a):
        return _zero(negative)
    result, _, _ = _round(0, reference._value(form, a), full=True)
    return result, p.DENORMAL_INPUT if reference._is_subnormal(form, a) else 0, 0


def scale(a: int, b: int, control: int) -> Outcome:
    """FSCALE."""

    def core(x: _Operand, y: _Operand) -> Outcome:
        if y.infinite:
            if (x.zero and not y.negative) or (x.infinite and y.negative):
                return _INVALID
            return _zero(x.negative) if y.negative else _infinity(x.negative)
        if x.zero or x.infinite:
            return x.encoding, 0, 0
        distance = int(y.fraction)
        distance = max(-(1 << 17), min(1 << 17, distance))
        return _round(control, Rational(x.value.numerator, 1, x.value.exponent + distance), full=True)

    return _operate(core, a, b)


def remainder(a: int, b: int, control: int, nearest: int) -> Outcome:
    """FPREM, FPREM1."""

    def core(x: _Operand, y: _Operand) -> Outcome:
        if x.infinite or y.zero:
            return _INVALID
        if x.zero:
            return x.encoding, 0, 0
        if y.infinite:
            return _round(control, x.value, full=True)
        distance = reference._floor_log2(x.value) - reference._floor_log2(y.value)
        left, right = abs(x.fraction), abs(y.fraction)
        if distance > 63:
            unit = right * Fraction(2) ** (distance - 32 - distance % 32)
            rest, more = left % unit, 8
        else:
            quotient, rest = divmod(left, right)
            if nearest and (2 * rest > right or (2 * rest == right and quotient % 2)):
                quotient, rest = quotient + 1, rest - right
            more = int(quotient) & 7
        if rest == 0:
            return _sign(x.negative), 0, more
        if x.negative:
            rest = -rest
        result, flags, _ = _round(control, Rational(rest.numerator, rest.denominator, 0), full=True)
        return result, flags, more

    return _operate(core, a, b)


# --- irrational results: fixed-point numbers of _DIGITS fraction bits ---------------------------------------


def _fixed(x: Fraction) -> int:
    return (x.numerator << _DIGITS) // x.denominator


def _product(x: int, y: int) -> int:
    return x * y >> _DIGITS


def _ln2() -> int:
    return sum(2 * (1 << _DIGITS) // ((2 * n + 1) * 3 ** (2 * n + 1)) for n in range(_DIGITS // 3 + 8))


def _arctan(x: int) -> int:
    """arctan of a number from 0 to 1, halved until the series is short."""
    for _ in range(4):
        root = isqrt((1 << 2 * _DIGITS) + x * x)
        x = (x << _DIGITS) // ((1 << _DIGITS) + root)
    square, power, total, n = _product(x, x), x, 0, 0
    while power:
        total += (-1) ** n * power // (2 * n + 1)
        power, n = _product(power, square), n + 1
    return total << 4


def _log(x: Fraction) -> int:
    """The natural logarithm of a number near 1."""
    z = _fixed((x - 1) / (x + 1))
    square, power, total, n = _product(z, z), z, 0, 0
    while abs(power) > 1:
        total += 2 * power // (2 * n + 1)
        power, n = _product(power, square), n + 1
    return total


_LN2: Final = _ln2()
_PI: Final = 4 * _arctan(1 << _DIGITS)
_PI_66: Final = Fraction(0xC90FDAA22168C234C, 1 << 66)
"""The pi of the reduction of angles (SDM volume 1, 8.3.8)."""


def _irrational(control: int, fixed: int, shift: int = 0) -> Outcome:
    """fixed / 2**(_DIGITS + shift), which is not exact."""
    result, flags, more = _round(control, Rational(2 * fixed + 1, 1, -_DIGITS - shift - 1), full=True)
    return result, flags | p.INEXACT, more


def _normal(x: Fraction) -> tuple[Fraction, int]:
    """(y, n) with x = y / 2**n and |y| in [1/2, 2): small numbers keep their digits."""
    n = abs(x).denominator.bit_length() - abs(x).numerator.bit_length()
    return x * Fraction(2) ** n, n


def exponential(a: int, control: int) -> Outcome:
    """F2XM1."""

    def core(x: _Operand) -> Outcome:
        if x.infinite:
            return (_SIGN | _ONE if x.negative else _INFINITY), 0, 0
        if x.zero:
            return x.encoding, 0, 0
        value = x.fraction
        if abs(value) >= 1:
            return (_SIGN | _ONE - (1 << 64) if value == -1 else x.encoding), 0, 0
        # (2**x - 1) / x, which is near 1, times x with its exponent apart
        t = _product(_fixed(value), _LN2)
        total, term, n = 0, 1 << _DIGITS, 1
        while abs(term) > 1:
            total += term
            n += 1
            term = _product(term, t) // n
        normal, shift = _normal(value)
        return _irrational(control, _product(_product(_fixed(normal), _LN2), total), shift)

    return _operate(core, a)


def _times_log2(control: int, y: Fraction, x: Fraction, minus_one: Fraction) -> Outcome:
    """y * log2(x); `minus_one` is x - 1."""
    whole = reference._floor_log2(Rational(x.numerator, x.denominator, 0))
    mantissa = x / Fraction(2) ** whole
    if mantissa * mantissa > 2:
        whole, mantissa = whole + 1, mantissa / 2
    if mantissa == 1:
        product = y * whole
        return _round(control, Rational(product.numerator, product.denominator, 0), full=True)
    normal, shift = _normal(y)
    if whole == 0 and abs(minus_one) < Fraction(1, 4):
        # 2 z (1 + z*z/3 + ...) / ln 2 with z's exponent apart
        z, z_shift = _normal(minus_one / (x + 1))
        square = _fixed((minus_one / (x + 1)) ** 2)
        power, series, n = 1 << _DIGITS, 0, 0
        while power:
            series += power // (2 * n + 1)
            power, n = _product(power, square), n + 1
        log2 = (_product(_fixed(z), 2 * series) << _DIGITS) // _LN2
        return _irrational(control, _product(log2, _fixed(normal)), shift + z_shift)
    log2 = (whole << _DIGITS) + (_log(mantissa) << _DIGITS) // _LN2
    return _irrational(control, _product(log2, _fixed(normal)), shift)


def logarithm(a: int, b: int, control: int) -> Outcome:
    """FYL2X: b * log2(a)."""

    def core(x: _Operand, y: _Operand) -> Outcome:
        if x.negative and not x.zero:
            return _INVALID
        if x.zero:
            if y.zero:
                return _INVALID
            return _sign(not y.negative) | _INFINITY, 0 if y.infinite else p.DIVIDE_BY_ZERO, 0
        if x.infinite:
            return _INVALID if y.zero else _infinity(y.negative)
        below = x.fraction < 1
        if y.infinite:
            return _INVALID if x.fraction == 1 else _infinity(y.negative != below)
        if y.zero or x.fraction == 1:
            return _zero(y.negative != below)
        return _times_log2(control, y.fraction, x.fraction, x.fraction - 1)

    return _operate(core, a, b)


def logarithm_of_successor(a: int, b: int, control: int) -> Outcome:
    """FYL2XP1: b * log2(a + 1)."""

    def core(x: _Operand, y: _Operand) -> Outcome:
        if x.negative and (x.infinite or x.fraction <= -1):
            if x.infinite or x.fraction < -1 or y.zero:
                return _INVALID
            return _sign(not y.negative) | _INFINITY, 0 if y.infinite else p.DIVIDE_BY_ZERO, 0
        if x.infinite:
            return _INVALID if y.zero else _infinity(y.negative)
        negative = x.negative != y.negative
        if y.infinite:
            return _INVALID if x.zero else _infinity(negative)
        if x.zero or y.zero:
            return _zero(negative)
        if x.fraction >= 1 << 64 and x.fraction.numerator & x.fraction.numerator - 1 == 0:
            # beside a power of two: not exact, by less than counts
            product = y.fraction * x.fraction.numerator.bit_length() - y.fraction
            product += product / (1 << 200)
            return _round(control, Rational(product.numerator, product.denominator, 0), full=True)
        return _times_log2(control, y.fraction, x.fraction + 1, x.fraction)

    return _operate(core, a, b)


def arctangent(a: int, b: int, control: int) -> Outcome:
    """FPATAN: the angle of the point (a, b)."""

    def core(x: _Operand, y: _Operand) -> Outcome:
        if y.zero or (x.infinite and not y.infinite):
            if not x.negative:
                return _zero(y.negative)
            angle = _PI
        elif x.zero or (y.infinite and not x.infinite):
            angle = _PI >> 1
        elif x.infinite:
            angle = 3 * _PI // 4 if x.negative else _PI // 4
        else:
            ratio = abs(y.fraction) / abs(x.fraction)
            if ratio < Fraction(1, 1 << 60) and not x.negative:
                # ratio * (1 - ratio**2 / 3 + ...): a little less than the quotient
                normal, shift = _normal(ratio)
                digits = ((normal.numerator << _DIGITS) - 1) // normal.denominator
                return _irrational(control, -digits - 1 if y.negative else digits, shift)
            angle = _arctan(_fixed(ratio)) if ratio <= 1 else (_PI >> 1) - _arctan(_fixed(1 / ratio))
            if x.negative:
                angle = _PI - angle
        return _irrational(control, -angle if y.negative else angle)

    return _operate(core, a, b)


def _sine(x: int) -> int:
    square, term, total, n = _product(x, x), x, 0, 1
    while abs(term) > 1:
        total += term
        term, n = -_product(term, square) // ((n + 1) * (n + 2)), n + 2
    return total


def _cosine(x: int) -> int:
    square, term, total, n = _product(x, x), 1 << _DIGITS, 0, 0
    while abs(term) > 1:
        total += term
        term, n = -_product(term, square) // ((n + 1) * (n + 2)), n + 2
    return total


def trigonometric(a: int, control: int, function: int) -> Outcome:
    """FSIN (0), FCOS (1), FPTAN (2)."""

    def core(x: _Operand) -> Outcome:
        if x.infinite:
            return _INVALID
        if x.zero:
            return (_ONE if function == 1 else x.encoding), 0, 0
        value = abs(x.fraction)
        if value >= 1 << 63:
            return x.encoding, 0, 8
        negative = x.negative and function != 1
        if value < Fraction(1, 1 << 60):
            if function == 1:
                return _irrational(control, (1 << _DIGITS) - 2)
            normal, shift = _normal(value)
            digits = _fixed(normal) + (0 if function == 2 else -1)
            return _irrational(control, -digits - 1 if negative else digits, shift)
        quadrant = round(value / (_PI_66 / 2))
        rest = _fixed(value - quadrant * _PI_66 / 2)
        sine, cosine = _sine(rest), _cosine(rest)
        for _ in range(quadrant % 4):
            sine, cosine = cosine, -sine
        if function == 2:
            result = (sine << _DIGITS) // cosine
        else:
            result = cosine if function == 1 else sine
        return _irrational(control, -result if negative else result)

    return _operate(core, a)


OPERATIONS: Final[dict[str, Callable[..., Outcome]]] = {
    "x_add": add,
    "x_mul": mul,
    "x_div": div,
    "x_sqrt": sqrt,
    "x_relation": relation,
    "x_to_integer": to_integer,
    "x_from_integer": from_integer,
    "x_integral": integral,
    "x_to_narrow": to_narrow,
    "x_from_narrow": from_narrow,
    "x_scale": scale,
    "x_remainder": remainder,
    "x_exponential": exponential,
    "x_logarithm": logarithm,
    "x_logarithm_of_successor": logarithm_of_successor,
    "x_arctangent": arctangent,
    "x_trigonometric": trigonometric,
}
"""Operations by the names in `symbols.Symbol.operation`."""


def call(name: str, *operands: int) -> Outcome:
    """What the compiled function of that name (of `symbols.EXTENDED`) answers; numbers have 80 bits."""
    symbol = EXTENDED[name]
    return OPERATIONS[symbol.operation](*operands, *symbol.constants)
