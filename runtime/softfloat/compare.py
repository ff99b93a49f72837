"""Comparison, minimum and maximum, classification: numba code on int64 only."""

from __future__ import annotations

from runtime.softfloat.encoding import (
    compiled,
    flush,
    fraction_width,
    infinity,
    is_nan,
    is_signaling,
    magnitude_of,
    propagate,
    sign_of,
    with_denormal,
)
from runtime.softfloat.policy import INVALID

LESS, EQUAL, GREATER, UNORDERED = 0, 1, 2, 3

# What `extremum` makes of NaN operands.
NUMBER, NUMBER_2008, PROPAGATING = 0, 1, 2


@compiled
def _order(width: int, a: int, b: int) -> int:
    """LESS, EQUAL or GREATER of two operands that are not NaNs; zeros are equal."""
    key_a = magnitude_of(width, a)
    key_b = magnitude_of(width, b)
    if sign_of(width, a):
        key_a = -key_a
    if sign_of(width, b):
        key_b = -key_b
    if key_a < key_b:
        return LESS
    return EQUAL if key_a == key_b else GREATER


@compiled
def relation(policy: int, width: int, a: int, b: int, signaling: int) -> tuple[int, int]:
    """LESS, EQUAL, GREATER or UNORDERED; with `signaling` 1, a quiet NaN is invalid too."""
    a, denormal_a = flush(policy, width, a)
    b, denormal_b = flush(policy, width, b)
    denormal = denormal_a | denormal_b
    if is_nan(width, a) or is_nan(width, b):
        flagged = signaling != 0 or is_signaling(width, a) or is_signaling(width, b)
        return UNORDERED, with_denormal(policy, True, INVALID if flagged else 0, denormal)
    return _order(width, a, b), with_denormal(policy, False, 0, denormal)


@compiled
def compare(policy: int, width: int, a: int, b: int, signaling: int, wanted: int) -> tuple[int, int]:
    """1 if the relation is among the set `wanted` (bit n for relation n), else 0."""
    found, flags = relation(policy, width, a, b, signaling)
    return (wanted >> found) & 1, flags


@compiled
def extremum(policy: int, width: int, a: int, b: int, maximum: int, nans: int) -> tuple[int, int]:
    """The smaller (or larger, if `maximum` is 1) operand; -0 is below +0.

    `nans`: NUMBER ignores any NaN beside a number; NUMBER_2008 ignores a quiet one only; PROPAGATING none.
    """
    a, denormal_a = flush(policy, width, a)
    b, denormal_b = flush(policy, width, b)
    denormal = denormal_a | denormal_b
    nan_a = is_nan(width, a)
    nan_b = is_nan(width, b)
    if nan_a or nan_b:
        result, flags = propagate(policy, width, a, b, 0)
        ignored = nans == NUMBER or (nans == NUMBER_2008 and flags == 0)
        if ignored and not (nan_a and nan_b):
            result = b if nan_a else a
        return result, with_denormal(policy, True, flags, denormal)
    order = _order(width, a, b)
    if order == EQUAL:
        # Only zeros can differ here: the minimum is negative if any operand is, the maximum if both are.
        result = a & b if maximum else a | b
    else:
        result = a if (order == GREATER) == (maximum != 0) else b
    return result, with_denormal(policy, False, 0, denormal)


@compiled
def classify(policy: int, width: int, a: int) -> tuple[int, int]:
    """One bit of ten, as RISC-V: -inf, -normal, -subnormal, -0, +0, .. +inf, signalling, quiet NaN."""
    magnitude = magnitude_of(width, a)
    top = infinity(width, 0)
    if magnitude > top:
        return (1 << 8 if is_signaling(width, a) else 1 << 9), 0
    index = 3  # zero
    if magnitude == top:
        index = 0
    elif magnitude >= 1 << fraction_width(width):
        index = 1
    elif magnitude != 0:
        index = 2
    return (1 << index if sign_of(width, a) else 128 >> index), 0
