"""Host arithmetic in front of the integer core, where result and flags are provably the same: numba code.

Only rounding to nearest even is tried, the host's default mode. In each function the guards leave numbers for
which the host's result is finite and normal (or, for sums, exact), so neither overflow nor underflow can be
raised, and no NaN is chosen by the host. What remains to be found is the inexact flag:

- sum: the rounding error of x + y in one format is itself a number of the format, and TwoSum (Knuth, TAOCP 2,
  4.2.2, theorem B) computes it exactly; the guard on the result's exponent keeps its steps from overflowing.
- binary64 product, quotient, root: the exact residual of the significands is below 2**54 in magnitude, so it
  is zero if it is zero modulo 2**64.
- binary32: a product of two 24-bit significands is exact in binary64.

Everything else goes to the core. An exponent field of at least 2 in the result rules out tininess both before
and after rounding, since the unrounded result can be at most one unit below the rounded one.
"""

from __future__ import annotations

from runtime.softfloat.arithmetic import (
    add_signed,
    divide,
    fused_multiply_add,
    fused_sum,
    multiply,
    square_root,
)
from runtime.softfloat.convert import convert, from_integer, largest_integer, smallest_integer, to_integer
from runtime.softfloat.encoding import compiled, is_subnormal, low_bits
from runtime.softfloat.intrinsics import (
    f32_add,
    f32_divide,
    f32_square_root,
    f32_subtract,
    f64_add,
    f64_divide,
    f64_multiply,
    f64_square_root,
    f64_subtract,
    from_int64,
    multiply_low,
    narrow,
    shift_right,
    to_int64,
    unsigned_less,
    widen,
)
from runtime.softfloat.policy import DENORMAL_OPERAND, FLUSH_INPUTS, FLUSH_OUTPUTS, INEXACT, RNE, RTZ

_HIDDEN = 1 << 52
_FRACTION = _HIDDEN - 1
_SIGN = -1 << 63
_LIMIT = 1 << 62
_DENORMALS_MATTER = FLUSH_INPUTS | FLUSH_OUTPUTS | DENORMAL_OPERAND


@compiled
def _exponent_64(a: int) -> int:
    return (a >> 52) & 2047


@compiled
def _exponent_32(a: int) -> int:
    return (a >> 23) & 255


@compiled
def _significand(a: int) -> int:
    return (a & _FRACTION) | _HIDDEN


@compiled
def _normal_64(a: int) -> bool:
    return unsigned_less(_exponent_64(a) - 1, 2046)


@compiled
def _two_or_more_64(a: int) -> bool:
    """Exponent field 2 to 2046: normal, and not the rounding of a tiny number."""
    return unsigned_less(_exponent_64(a) - 2, 2045)


@compiled
def _two_or_more_32(a: int) -> bool:
    return unsigned_less(_exponent_32(a) - 2, 253)


@compiled
def _no_denormal(policy: int, width: int, a: int, b: int) -> bool:
    """Whether the policy treats these operands as plain numbers."""
    return policy & _DENORMALS_MATTER == 0 or not (is_subnormal(width, a) or is_subnormal(width, b))


@compiled
def add_signed_64(policy: int, a: int, b: int, rm: int, negate: int) -> tuple[int, int]:
    """a + b or a - b in binary64."""
    if rm == RNE:
        y = b ^ (_SIGN if negate else 0)
        total = f64_add(a, y)
        # A subnormal sum is exact; it matters only if it is to be flushed.
        plain = policy & _DENORMALS_MATTER == 0 or not is_subnormal(64, total)
        if _exponent_64(total) < 2046 and plain and _no_denormal(policy, 64, a, b):
            second = f64_subtract(total, a)
            error = f64_add(f64_subtract(a, f64_subtract(total, second)), f64_subtract(y, second))
            return total, INEXACT if error << 1 != 0 else 0
    return add_signed(policy, 64, a, b, rm, negate)


@compiled
def add_signed_32(policy: int, a: int, b: int, rm: int, negate: int) -> tuple[int, int]:
    """a + b or a - b in binary32."""
    if rm == RNE:
        y = b ^ (negate << 31)
        total = f32_add(a, y)
        plain = policy & _DENORMALS_MATTER == 0 or not is_subnormal(32, total)
        if _exponent_32(total) < 254 and plain and _no_denormal(policy, 32, a, b):
            second = f32_subtract(total, a)
            error = f32_add(f32_subtract(a, f32_subtract(total, second)), f32_subtract(y, second))
            return total, INEXACT if error & 0x7FFFFFFF != 0 else 0
    return add_signed(policy, 32, a, b, rm, negate)


@compiled
def multiply_64(policy: int, a: int, b: int, rm: int) -> tuple[int, int]:
    """a * b in binary64."""
    if rm == RNE and _normal_64(a) and _normal_64(b):
        product = f64_multiply(a, b)
        if _two_or_more_64(product):
            # The significands' product is (result << scale) exactly, or differs by less than 2**53.
            scale = _exponent_64(product) - _exponent_64(a) - _exponent_64(b) + 1075
            lost = multiply_low(_significand(a), _significand(b)) & low_bits(scale)
            return product, INEXACT if lost != 0 else 0
    return multiply(policy, 64, a, b, rm)


@compiled
def multiply_32(policy: int, a: int, b: int, rm: int) -> tuple[int, int]:
    """a * b in binary32."""
    if rm == RNE and _no_denormal(policy, 32, a, b):
        exact = f64_multiply(widen(a), widen(b))
        product = narrow(exact)
        if _two_or_more_32(product):
            return product, INEXACT if widen(product) != exact else 0
    return multiply(policy, 32, a, b, rm)


@compiled
def divide_64(policy: int, a: int, b: int, rm: int) -> tuple[int, int]:
    """a / b in binary64."""
    if rm == RNE and _normal_64(a) and _normal_64(b):
        quotient = f64_divide(a, b)
        if _two_or_more_64(quotient):
            scale = _exponent_64(a) - _exponent_64(b) - _exponent_64(quotient) + 1075
            exact = _significand(a) << scale == multiply_low(_significand(quotient), _significand(b))
            return quotient, 0 if exact else INEXACT
    return divide(policy, 64, a, b, rm)


@compiled
def divide_32(policy: int, a: int, b: int, rm: int) -> tuple[int, int]:
    """a / b in binary32."""
    if rm == RNE and _no_denormal(policy, 32, a, b):
        quotient = f32_divide(a, b)
        if _two_or_more_32(quotient):
            return quotient, 0 if f64_multiply(widen(quotient), widen(b)) == widen(a) else INEXACT
    return divide(policy, 32, a, b, rm)


@compiled
def square_root_64(policy: int, a: int, rm: int) -> tuple[int, int]:
    """The square root in binary64; the root of a normal number is far from overflow and underflow."""
    if rm == RNE and _normal_64(a) and a > 0:
        root = f64_square_root(a)
        scale = 52 + (1 - (_exponent_64(a) & 1))
        exact = _significand(a) << scale == multiply_low(_significand(root), _significand(root))
        return root, 0 if exact else INEXACT
    return square_root(policy, 64, a, rm)


@compiled
def square_root_32(policy: int, a: int, rm: int) -> tuple[int, int]:
    """The square root in binary32."""
    if rm == RNE and 0x00800000 <= a < 0x7F800000:
        root = f32_square_root(a)
        return root, 0 if f64_multiply(widen(root), widen(root)) == widen(a) else INEXACT
    return square_root(policy, 32, a, rm)


@compiled
def fused_multiply_add_64(policy: int, a: int, b: int, c: int, rm: int) -> tuple[int, int]:
    """a * b + c in binary64, in integers: not every host has the fused operation."""
    if rm == RNE and _normal_64(a) and _normal_64(b) and _normal_64(c):
        sign, field, significand = fused_sum(
            shift_right(a ^ b, 63),
            _exponent_64(a) + _exponent_64(b) - 1023,
            _significand(a) << 10,
            _significand(b) << 10,
            shift_right(c, 63),
            _exponent_64(c),
            _significand(c) << 10,
        )
        if significand != 0 and unsigned_less(field - 2, 2044):
            kept = significand >> 10
            rest = significand & 1023
            # What is added carries out of ten bits if rest is above half of 1024, or half and the last place
            # is odd.
            kept += (rest + 511 + (kept & 1)) >> 10
            return (sign << 63) | (((field - 1) << 52) + kept), INEXACT if rest != 0 else 0
    return fused_multiply_add(policy, 64, a, b, c, rm)


@compiled
def fused_multiply_add_32(policy: int, a: int, b: int, c: int, rm: int) -> tuple[int, int]:
    """a * b + c in binary32: an exact binary64 product, the sum rounded to odd, so that rounding again is
    harmless.

    Boldo, Melquiond: "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd",
    2008.
    """
    if rm == RNE and _no_denormal(policy, 32, a, b) and _no_denormal(policy, 32, c, c):
        product = f64_multiply(widen(a), widen(b))
        addend = widen(c)
        total = f64_add(product, addend)
        second = f64_subtract(total, product)
        error = f64_add(f64_subtract(product, f64_subtract(total, second)), f64_subtract(addend, second))
        inexact = error << 1 != 0
        if inexact and total & 1 == 0:
            # The exact sum lies between `total` and its neighbour on the side of the error; that one is odd.
            total += 1 if (error ^ total) >= 0 else -1
        result = narrow(total)
        if _two_or_more_32(result):
            return result, INEXACT if inexact or widen(result) != total else 0
    return fused_multiply_add(policy, 32, a, b, c, rm)


@compiled
def convert_32(policy: int, a: int, rm: int, to_width: int) -> tuple[int, int]:
    """binary32 to another format; a normal number is exact in binary64, in any rounding mode."""
    if to_width == 64 and unsigned_less(_exponent_32(a) - 1, 254):
        return ((a >> 31) << 63) | (((a & 0x7FFFFFFF) << 29) + ((1023 - 127) << 52)), 0
    return convert(policy, 32, a, rm, to_width)


@compiled
def convert_64(policy: int, a: int, rm: int, to_width: int) -> tuple[int, int]:
    """binary64 to another format."""
    if to_width == 32 and rm == RNE:
        result = narrow(a)
        if _two_or_more_32(result):
            return result, INEXACT if widen(result) != a else 0
    return convert(policy, 64, a, rm, to_width)


@compiled
def to_integer_64(policy: int, a: int, rm: int, bits: int, signed: int) -> tuple[int, int]:
    """binary64 to an integer; the host truncates, and converting what it gives back is exact."""
    if rm == RTZ and _exponent_64(a) < 1023 + 62 and _no_denormal(policy, 64, a, a):
        integer = to_int64(a)
        low = smallest_integer(bits, signed) | (-1 << (bits - 1) if signed else 0)
        # Of unsigned 64-bit integers, those below 2**63 suffice here.
        high = low_bits(bits - 1 if signed or bits == 64 else bits)
        if low <= integer <= high:
            inexact = from_int64(integer) << 1 != a << 1
            return integer & largest_integer(bits, 0), INEXACT if inexact else 0
    return to_integer(policy, 64, a, rm, bits, signed)


@compiled
def to_integer_32(policy: int, a: int, rm: int, bits: int, signed: int) -> tuple[int, int]:
    """binary32 to an integer."""
    if rm == RTZ and unsigned_less(_exponent_32(a) - 1, 126 + 62):
        return to_integer_64(policy, widen(a), rm, bits, signed)
    return to_integer(policy, 32, a, rm, bits, signed)


@compiled
def _low_integer(x: int, bits: int, signed: int) -> int:
    """The value of the low `bits` bits; an unsigned one of 64 bits may come out negative."""
    x = x << (64 - bits)
    return x >> (64 - bits) if signed else shift_right(x, 64 - bits)


@compiled
def from_integer_64(policy: int, x: int, rm: int, bits: int, signed: int) -> tuple[int, int]:
    """An integer to binary64; converting a whole number below 2**63 back is exact."""
    integer = _low_integer(x, bits, signed)
    if -_LIMIT <= integer < _LIMIT and (signed != 0 or integer >= 0):
        result = from_int64(integer)
        if to_int64(result) == integer:
            return result, 0
        if rm == RNE:
            return result, INEXACT
    return from_integer(policy, 64, x, rm, bits, signed)


@compiled
def from_integer_32(policy: int, x: int, rm: int, bits: int, signed: int) -> tuple[int, int]:
    """An integer to binary32: exact in binary64 below 2**53, so rounded once."""
    integer = _low_integer(x, bits, signed)
    if rm == RNE and -(1 << 53) <= integer <= 1 << 53 and (signed != 0 or integer >= 0):
        exact = from_int64(integer)
        result = narrow(exact)
        return result, INEXACT if widen(result) != exact else 0
    return from_integer(policy, 32, x, rm, bits, signed)
