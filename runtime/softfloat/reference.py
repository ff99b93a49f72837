"""IEEE 754 operations on Python integers: slow, and written to be obviously correct.

A finite number is the exact rational ``sign * numerator / denominator * 2**exponent``; every operation
computes its exact result and hands it to `_rounded`, the only place that rounds. The specification's
evaluator uses this module, and it is the oracle of the compiled library, with which it shares nothing but
`policy`'s constants.

Every operation is ``operation(policy, width, *operands, *constants) -> (result, flags)``; `OPERATIONS` maps
the names that `symbols.Symbol.operation` uses. Encodings are ints of `width` (16, 32 or 64) bits, `rm` is a
rounding mode of `policy`. ValueError is raised for another width or rounding mode, or an operand that doesn't
fit.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt
from typing import Final, NamedTuple

from runtime.softfloat import policy as p
from runtime.softfloat.symbols import SYMBOLS

Outcome = tuple[int, int]
"""(result, flags)."""


class Format(NamedTuple):
    """A binary interchange format (IEEE 754-2019, 3.6)."""

    width: int
    precision: int
    """Significand digits, the leading one included."""
    max_exponent: int
    """The exponent of the largest finite number, and the bias."""

    @property
    def min_exponent(self) -> int:
        """The exponent of the smallest normal number."""
        return 1 - self.max_exponent

    @property
    def fraction_bits(self) -> int:
        """Bits of the fraction field."""
        return self.precision - 1

    @property
    def sign_bit(self) -> int:
        """The encoding of -0."""
        return 1 << (self.width - 1)

    @property
    def infinity(self) -> int:
        """The encoding of +infinity."""
        return (2 * self.max_exponent + 1) << self.fraction_bits

    @property
    def quiet_bit(self) -> int:
        """The fraction bit that a quiet NaN has."""
        return 1 << (self.fraction_bits - 1)


FORMATS: Final = {16: Format(16, 11, 15), 32: Format(32, 24, 127), 64: Format(64, 53, 1023)}
"""Formats by width."""


class Rational(NamedTuple):
    """numerator / denominator * 2**exponent, exactly; the denominator is positive."""

    numerator: int
    denominator: int
    exponent: int

    def __neg__(self) -> Rational:
        return Rational(-self.numerator, self.denominator, self.exponent)

    def times(self, other: Rational) -> Rational:
        """The product."""
        return Rational(
            self.numerator * other.numerator,
            self.denominator * other.denominator,
            self.exponent + other.exponent,
        )

    def over(self, other: Rational) -> Rational:
        """The quotient; the other number must be positive."""
        return Rational(
            self.numerator * other.denominator,
            self.denominator * other.numerator,
            self.exponent - other.exponent,
        )

    def plus(self, other: Rational) -> Rational:
        """The sum of two numbers with denominator 1."""
        exponent = min(self.exponent, other.exponent)
        total = (self.numerator << (self.exponent - exponent)) + (
            other.numerator << (other.exponent - exponent)
        )
        return Rational(total, 1, exponent)


def _format(width: int) -> Format:
    try:
        return FORMATS[width]
    except KeyError:
        raise ValueError(f"no binary format has {width} bits here; use 16, 32 or 64") from None


def _check(form: Format, *encodings: int) -> None:
    for encoding in encodings:
        if not 0 <= encoding < 1 << form.width:
            raise ValueError(f"{encoding:#x} is not an encoding of {form.width} bits")


def _is_nan(form: Format, a: int) -> bool:
    return a & ~form.sign_bit > form.infinity


def _is_signaling(form: Format, a: int) -> bool:
    return _is_nan(form, a) and not a & form.quiet_bit


def _is_infinite(form: Format, a: int) -> bool:
    return a & ~form.sign_bit == form.infinity


def _is_zero(form: Format, a: int) -> bool:
    return a & ~form.sign_bit == 0


def _is_subnormal(form: Format, a: int) -> bool:
    return 0 < a & ~form.sign_bit < 1 << form.fraction_bits


def _is_negative(form: Format, a: int) -> bool:
    return bool(a & form.sign_bit)


def _value(form: Format, a: int) -> Rational:
    """The exact value of a finite encoding (IEEE 754-2019, 3.4)."""
    fraction = a & ((1 << form.fraction_bits) - 1)
    field = (a & ~form.sign_bit) >> form.fraction_bits
    if field == 0:
        numerator, exponent = fraction, form.min_exponent
    else:
        numerator, exponent = fraction + (1 << form.fraction_bits), field - form.max_exponent
    sign = -1 if _is_negative(form, a) else 1
    return Rational(sign * numerator, 1, exponent - form.fraction_bits)


def _nearby_integer(rm: int, negative: bool, whole: int, rest: int, unit: int) -> int:
    """The integer that |x| = whole + rest / unit (0 <= rest < unit) becomes (IEEE 754-2019, 4.3)."""
    if rm not in p.ROUNDING_MODES:
        raise ValueError(f"{rm} is not a rounding mode; use 0 to {p.RTO}")
    if rest == 0 or rm == p.RTZ:
        return whole
    if rm == p.RDN:
        return whole + negative
    if rm == p.RUP:
        return whole + (not negative)
    if rm == p.RTO:
        return whole | 1
    if 2 * rest != unit:
        return whole + (2 * rest > unit)
    return whole + (1 if rm == p.RMM else whole % 2)


def _scaled(x: Rational, quantum: int) -> tuple[int, int, int]:
    """(whole, rest, unit) with |x| = (whole + rest / unit) * 2**quantum."""
    shift = x.exponent - quantum
    numerator = abs(x.numerator) << max(shift, 0)
    unit = x.denominator << max(-shift, 0)
    whole, rest = divmod(numerator, unit)
    return whole, rest, unit


def _floor_log2(x: Rational) -> int:
    """The largest e with 2**e <= |x|; x is not zero."""
    guess = abs(x.numerator).bit_length() - x.denominator.bit_length() + x.exponent
    whole, _, _ = _scaled(x, guess)
    return guess if whole >= 1 else guess - 1


def _rounded(policy: int, form: Format, rm: int, x: Rational) -> Outcome:
    """The nonzero exact result x, rounded, and the flags of IEEE 754-2019, 7.4 to 7.6."""
    negative = x.numerator < 0
    sign = form.sign_bit if negative else 0
    exponent = _floor_log2(x)

    # The rounded result if exponents were unbounded: it decides overflow and one kind of tininess.
    unbounded = _nearby_integer(rm, negative, *_scaled(x, exponent - form.fraction_bits))
    unbounded_exponent = exponent + (unbounded >> form.precision)
    if unbounded_exponent > form.max_exponent:
        towards_zero = rm in (p.RTZ, p.RTO) or (rm == p.RDN and not negative) or (rm == p.RUP and negative)
        return sign | form.infinity - towards_zero, p.OVERFLOW | p.INEXACT

    if policy & p.TININESS_BEFORE_ROUNDING:
        tiny = exponent < form.min_exponent
    else:
        tiny = unbounded_exponent < form.min_exponent
    if tiny and policy & p.FLUSH_OUTPUTS:
        return sign, p.UNDERFLOW | (p.INEXACT if policy & p.FLUSH_OUTPUT_INEXACT else 0)

    quantum = max(exponent, form.min_exponent) - form.fraction_bits
    whole, rest, unit = _scaled(x, quantum)
    digits = _nearby_integer(rm, negative, whole, rest, unit)
    flags = 0
    if rest:
        flags = p.INEXACT | (p.UNDERFLOW if tiny else 0)
    if digits >> form.precision:
        digits, quantum = digits >> 1, quantum + 1
    if digits >> form.fraction_bits == 0:
        return sign | digits, flags
    field = quantum + form.fraction_bits + form.max_exponent
    return sign | field << form.fraction_bits | digits - (1 << form.fraction_bits), flags


def _default_nan(policy: int, form: Format) -> int:
    sign = form.sign_bit if policy & p.NAN_NEGATIVE else 0
    fraction = 2 * form.quiet_bit - 1 if policy & p.NAN_ALL_ONES else form.quiet_bit
    return sign | form.infinity | fraction


def _invalid(policy: int, form: Format) -> Outcome:
    return _default_nan(policy, form), p.INVALID


def _delivered_nan(policy: int, form: Format, operands: tuple[int, ...]) -> Outcome:
    """The result where at least one of one to three operands (a, b, c) is a NaN."""
    flags = p.INVALID if any(_is_signaling(form, x) for x in operands) else 0
    rule = policy & p.NAN_RULE_MASK
    if rule == p.NAN_DEFAULT:
        return _default_nan(policy, form), flags
    if rule == p.NAN_SIGNALING_FIRST:
        ordered = operands[2:] + operands[:2]
    elif rule == p.NAN_FIRST_ACB:
        ordered = operands[:1] + operands[:0:-1]
    elif rule == p.NAN_LAST_SIGNALING:
        ordered = operands[::-1]
    else:
        ordered = operands
    nans = [x for x in ordered if _is_nan(form, x)]
    if rule in (p.NAN_SIGNALING_FIRST, p.NAN_LAST_SIGNALING):
        nans = [x for x in nans if _is_signaling(form, x)] or nans
    return nans[0] | form.quiet_bit, flags


def _flushed(policy: int, form: Format, operands: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """The operands as the operation sees them, and the flag for denormal ones among them."""
    flags = 0
    seen = []
    for x in operands:
        if _is_subnormal(form, x):
            if policy & p.FLUSH_INPUTS:
                x &= form.sign_bit
                if policy & p.FLUSH_INPUT_FLAGGED and form.width > 16:
                    flags = p.DENORMAL_INPUT
            elif policy & p.DENORMAL_OPERAND:
                flags = p.DENORMAL_INPUT
        seen.append(x)
    return tuple(seen), flags


def _operate(policy: int, width: int, operands: tuple[int, ...], core: Callable[..., Outcome]) -> Outcome:
    """The frame of most operations: denormal operands, and `core(format, *operands)` between."""
    form = _format(width)
    _check(form, *operands)
    seen, denormal = _flushed(policy, form, operands)
    has_nan = any(_is_nan(form, x) for x in seen)
    result, flags = core(form, *seen)
    ends_before = has_nan or flags & (p.INVALID | p.DIVIDE_BY_ZERO)
    if ends_before and policy & p.DENORMAL_OPERAND and not policy & p.FLUSH_INPUTS:
        denormal = 0  # Intel SDM volume 1, 4.9.2: those are detected first
    return result, flags | denormal


def _arithmetic(policy: int, width: int, operands: tuple[int, ...], core: Callable[..., Outcome]) -> Outcome:
    """`_operate`, where a NaN operand gives a NaN."""

    def with_nans(form: Format, *seen: int) -> Outcome:
        if any(_is_nan(form, x) for x in seen):
            return _delivered_nan(policy, form, seen)
        return core(form, *seen)

    return _operate(policy, width, operands, with_nans)


def _signed_sum(policy: int, form: Format, rm: int, x: Rational, y: Rational, zero: int | None) -> Outcome:
    """x + y; an exact zero is `zero`, or for None what IEEE 754-2019, 6.3 says of numbers that cancel."""
    total = x.plus(y)
    if total.numerator == 0:
        if zero is None:
            zero = form.sign_bit if rm == p.RDN else 0
        return zero, 0
    return _rounded(policy, form, rm, total)


def _sum_zero(form: Format, sign_a: int, sign_b: int) -> int | None:
    """The zero that zeros with these sign bits add up to; None if their signs differ."""
    return sign_a if sign_a == sign_b else None


def _add(policy: int, form: Format, rm: int, a: int, b: int) -> Outcome:
    if _is_infinite(form, a) or _is_infinite(form, b):
        if _is_infinite(form, a) and _is_infinite(form, b) and a != b:
            return _invalid(policy, form)
        return (a if _is_infinite(form, a) else b), 0
    zero = None
    if _is_zero(form, a) and _is_zero(form, b):
        zero = _sum_zero(form, a, b)
    return _signed_sum(policy, form, rm, _value(form, a), _value(form, b), zero)


def add(policy: int, width: int, a: int, b: int, rm: int) -> Outcome:
    """a + b."""
    return _arithmetic(policy, width, (a, b), lambda form, x, y: _add(policy, form, rm, x, y))


def sub(policy: int, width: int, a: int, b: int, rm: int) -> Outcome:
    """a - b; a NaN operand keeps its sign."""
    return _arithmetic(policy, width, (a, b), lambda form, x, y: _add(policy, form, rm, x, y ^ form.sign_bit))


def mul(policy: int, width: int, a: int, b: int, rm: int) -> Outcome:
    """a * b."""

    def core(form: Format, x: int, y: int) -> Outcome:
        sign = (x ^ y) & form.sign_bit
        if _is_infinite(form, x) or _is_infinite(form, y):
            if _is_zero(form, x) or _is_zero(form, y):
                return _invalid(policy, form)
            return sign | form.infinity, 0
        if _is_zero(form, x) or _is_zero(form, y):
            return sign, 0
        return _rounded(policy, form, rm, _value(form, x).times(_value(form, y)))

    return _arithmetic(policy, width, (a, b), core)


def div(policy: int, width: int, a: int, b: int, rm: int) -> Outcome:
    """a / b."""

    def core(form: Format, x: int, y: int) -> Outcome:
        sign = (x ^ y) & form.sign_bit
        if _is_infinite(form, x):
            return _invalid(policy, form) if _is_infinite(form, y) else (sign | form.infinity, 0)
        if _is_zero(form, y):
            return _invalid(policy, form) if _is_zero(form, x) else (sign | form.infinity, p.DIVIDE_BY_ZERO)
        if _is_infinite(form, y) or _is_zero(form, x):
            return sign, 0
        magnitude = _value(form, x & ~form.sign_bit).over(_value(form, y & ~form.sign_bit))
        return _rounded(policy, form, rm, -magnitude if sign else magnitude)

    return _arithmetic(policy, width, (a, b), core)


def sqrt(policy: int, width: int, a: int, rm: int) -> Outcome:
    """The square root of a."""

    def core(form: Format, x: int) -> Outcome:
        if _is_zero(form, x):
            return x, 0
        if _is_negative(form, x):
            return _invalid(policy, form)
        if _is_infinite(form, x):
            return x, 0
        # x = n * 2**(2k) with n so large that the root's integer part r has more digits than the format. If r
        # is not the exact root, any number strictly between r and r + 1 rounds like it: take r + 1/2.
        value = _value(form, x)
        shift = 2 * form.precision + 4 + value.exponent % 2
        n = value.numerator << shift
        r = isqrt(n)
        inexact = r * r != n
        root = Rational(2 * r + inexact, 1, (value.exponent - shift) // 2 - 1)
        return _rounded(policy, form, rm, root)

    return _arithmetic(policy, width, (a,), core)


def fma(policy: int, width: int, a: int, b: int, c: int, rm: int) -> Outcome:
    """a * b + c, rounded once."""

    def core(form: Format, x: int, y: int, z: int) -> Outcome:
        infinite_product = _is_infinite(form, x) or _is_infinite(form, y)
        zero_product = _is_zero(form, x) or _is_zero(form, y)
        if any(_is_nan(form, operand) for operand in (x, y, z)):
            delivered, flags = _delivered_nan(policy, form, (x, y, z))
            product_is_invalid = (
                infinite_product and zero_product and not _is_nan(form, x) and not _is_nan(form, y)
            )
            if product_is_invalid and not flags:  # IEEE 754-2019, 7.2 c leaves this to the implementation
                rule = policy & p.INF_ZERO_RULE_MASK
                if rule == p.INF_ZERO_DEFAULT:
                    return _invalid(policy, form)
                flags = p.INVALID if rule == p.INF_ZERO_PROPAGATE else 0
            return delivered, flags
        sign = (x ^ y) & form.sign_bit
        if infinite_product:
            if zero_product or (_is_infinite(form, z) and sign != z & form.sign_bit):
                return _invalid(policy, form)
            return sign | form.infinity, 0
        if _is_infinite(form, z):
            return z, 0
        zero = None
        if zero_product and _is_zero(form, z):
            zero = _sum_zero(form, sign, z)
        return _signed_sum(policy, form, rm, _value(form, x).times(_value(form, y)), _value(form, z), zero)

    return _operate(policy, width, (a, b, c), core)


LESS: Final = 0
EQUAL: Final = 1
GREATER: Final = 2
UNORDERED: Final = 3


def _order(form: Format, a: int, b: int) -> int:
    """LESS, EQUAL or GREATER; no operand is a NaN."""

    def key(x: int) -> tuple[int, int]:
        # Infinities beyond all numbers; numbers of one format compare like their values in units of the
        # smallest.
        if _is_infinite(form, x):
            return (-1 if _is_negative(form, x) else 1), 0
        value = _value(form, x)
        return 0, value.numerator << (value.exponent - (form.min_exponent - form.fraction_bits))

    key_a, key_b = key(a), key(b)
    if key_a == key_b:
        return EQUAL
    return LESS if key_a < key_b else GREATER


def relation(policy: int, width: int, a: int, b: int, signaling: int) -> Outcome:
    """LESS, EQUAL, GREATER or UNORDERED (IEEE 754-2019, 5.11); `signaling` 1: any NaN is invalid."""

    def core(form: Format, x: int, y: int) -> Outcome:
        if _is_nan(form, x) or _is_nan(form, y):
            invalid = signaling or _is_signaling(form, x) or _is_signaling(form, y)
            return UNORDERED, p.INVALID if invalid else 0
        return _order(form, x, y), 0

    return _operate(policy, width, (a, b), core)


def compare(policy: int, width: int, a: int, b: int, signaling: int, wanted: int) -> Outcome:
    """1 if the relation is in the set `wanted` (bit n for relation n), else 0."""
    found, flags = relation(policy, width, a, b, signaling)
    return wanted >> found & 1, flags


def extremum(policy: int, width: int, a: int, b: int, maximum: int, nans: int) -> Outcome:
    """The smaller (larger, if `maximum` is 1) operand; -0 is below +0.

    `nans` 0: a number beats any NaN (minimumNumber, IEEE 754-2019, 9.6); 1: a quiet NaN only (minNum, IEEE
    754-2008, 5.3.1); 2: none (minimum, IEEE 754-2019, 9.6). A signalling NaN is invalid in any case.
    """

    def core(form: Format, x: int, y: int) -> Outcome:
        if _is_nan(form, x) or _is_nan(form, y):
            delivered, flags = _delivered_nan(policy, form, (x, y))
            if nans == 0 or (nans == 1 and not flags):
                for operand in (x, y):
                    if not _is_nan(form, operand):
                        return operand, flags
            return delivered, flags
        order = _order(form, x, y)
        if order == EQUAL:
            order = LESS if _is_negative(form, x) else GREATER
        return (x if (order == GREATER) == bool(maximum) else y), 0

    return _operate(policy, width, (a, b), core)


def classify(policy: int, width: int, a: int) -> Outcome:
    """One bit of ten: -inf, -normal, -subnormal, -0, +0, +subnormal, +normal, +inf, signalling NaN, quiet
    NaN.

    The order is RISC-V's (unprivileged manual, "Floating-Point Classify Instruction"). No flags, no flushing.
    """
    form = _format(width)
    _check(form, a)
    if _is_nan(form, a):
        return (1 << 8 if _is_signaling(form, a) else 1 << 9), 0
    if _is_infinite(form, a):
        distance = 3
    elif _is_zero(form, a):
        distance = 0
    elif _is_subnormal(form, a):
        distance = 1
    else:
        distance = 2
    return 1 << (3 - distance if _is_negative(form, a) else 4 + distance), 0


def round_to_integral(policy: int, width: int, a: int, rm: int, exact: int) -> Outcome:
    """The integral value near a, in the same format; INEXACT only if `exact` is 1 (IEEE 754-2019, 5.9).

    Denormal operands are not reported (Intel SDM, ROUNDSD: invalid and precision only).
    """

    def core(form: Format, x: int) -> Outcome:
        if _is_infinite(form, x) or _is_zero(form, x):
            return x, 0
        sign = x & form.sign_bit
        whole, rest, unit = _scaled(_value(form, x), 0)
        integer = _nearby_integer(rm, bool(sign), whole, rest, unit)
        flags = p.INEXACT if rest and exact else 0
        if integer == 0:
            return sign, flags
        # An integer of at most `precision` digits (or x itself) is a number of the format: nothing is
        # rounded.
        result, _ = _rounded(policy, form, rm, Rational(-integer if sign else integer, 1, 0))
        return result, flags

    return _arithmetic(policy & ~p.DENORMAL_OPERAND, width, (a,), core)


def to_integer(policy: int, width: int, a: int, rm: int, bits: int, signed: int) -> Outcome:
    """The integer near a as a pattern of `bits` bits; out of range is INVALID only (IEEE 754-2019, 5.8 and
    7.2).

    Denormal operands are not reported (Intel SDM, CVTSD2SI: invalid and precision only).
    """
    smallest = -(1 << (bits - 1)) if signed else 0
    largest = (1 << (bits - signed)) - 1
    rule = policy & p.INT_RULE_MASK

    def out_of_range(negative: bool) -> Outcome:
        if rule == p.INT_INDEFINITE:
            return (smallest if signed else largest), p.INVALID
        return (smallest if negative else largest), p.INVALID

    def core(form: Format, x: int) -> Outcome:
        negative = _is_negative(form, x)
        if _is_nan(form, x):
            if rule == p.INT_NAN_ZERO:
                return 0, p.INVALID
            if rule == p.INT_NAN_MAX:
                return largest, p.INVALID
            if rule == p.INT_NAN_MIN:
                return smallest, p.INVALID
            return out_of_range(negative)
        if _is_infinite(form, x):
            return out_of_range(negative)
        whole, rest, unit = _scaled(_value(form, x), 0)
        integer = _nearby_integer(rm, negative, whole, rest, unit)
        if negative:
            integer = -integer
        if not smallest <= integer <= largest:
            return out_of_range(negative)
        return integer, p.INEXACT if rest else 0

    result, flags = _operate(policy & ~p.DENORMAL_OPERAND, width, (a,), core)
    return result & ((1 << bits) - 1), flags


def from_integer(policy: int, width: int, x: int, rm: int, bits: int, signed: int) -> Outcome:
    """The number near the integer that x, a pattern of `bits` bits, stands for; zero gives +0."""
    form = _format(width)
    if not 0 <= x < 1 << bits:
        raise ValueError(f"{x:#x} is not a pattern of {bits} bits")
    if signed and x >> (bits - 1):
        x -= 1 << bits
    if x == 0:
        return 0, 0
    return _rounded(policy, form, rm, Rational(x, 1, 0))


def convert(policy: int, width: int, a: int, rm: int, to_width: int) -> Outcome:
    """The number in the format of `to_width` bits; a NaN keeps its sign and the upper bits of its fraction.

    binary16 numbers are not flushed or reported as denormal (Intel SDM, VCVTPH2PS and VCVTPS2PH; Arm ARM,
    FPUnpackCV and FPRoundCV).
    """
    to_form = _format(to_width)
    if width == 16:
        policy &= ~(p.FLUSH_INPUTS | p.DENORMAL_OPERAND)
    if to_width == 16:
        policy &= ~p.FLUSH_OUTPUTS

    def core(form: Format, x: int) -> Outcome:
        sign = to_form.sign_bit if _is_negative(form, x) else 0
        if _is_nan(form, x):
            delivered, flags = _delivered_nan(policy, form, (x,))
            if policy & p.NAN_RULE_MASK == p.NAN_DEFAULT:
                return _default_nan(policy, to_form), flags
            fraction = delivered & (2 * form.quiet_bit - 1)
            moved = (fraction << to_form.fraction_bits) >> form.fraction_bits
            return sign | to_form.infinity | moved, flags
        if _is_infinite(form, x):
            return sign | to_form.infinity, 0
        if _is_zero(form, x):
            return sign, 0
        return _rounded(policy, to_form, rm, _value(form, x))

    return _operate(policy, width, (a,), core)


OPERATIONS: Final[dict[str, Callable[..., Outcome]]] = {
    "add": add,
    "sub": sub,
    "mul": mul,
    "div": div,
    "sqrt": sqrt,
    "fma": fma,
    "relation": relation,
    "compare": compare,
    "extremum": extremum,
    "classify": classify,
    "round_to_integral": round_to_integral,
    "to_integer": to_integer,
    "from_integer": from_integer,
    "convert": convert,
}
"""Operations by the names in `symbols.Symbol.operation`."""


def call(name: str, policy: int, *operands: int) -> Outcome:
    """What the compiled function of that name (a key of `symbols.SYMBOLS`) returns and stores as flags."""
    symbol = SYMBOLS[name]
    return OPERATIONS[symbol.operation](policy, symbol.width, *operands, *symbol.constants)
