"""The reference by itself: worked examples, Python's own arithmetic, the manuals' tables of NaNs."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from fractions import Fraction
from random import Random

import pytest

from runtime.softfloat import policy as p
from runtime.softfloat import reference
from runtime.softfloat.symbols import SYMBOLS
from tests.runtime.softfloat.operands import encoding


def bits(x: float) -> int:
    """binary64's encoding."""
    return int(struct.unpack("<Q", struct.pack("<d", x))[0])


def number(a: int) -> float:
    """The number that a binary64 encoding stands for."""
    return float(struct.unpack("<d", struct.pack("<Q", a))[0])


ONE = bits(1.0)
QUIET, QUIET_2 = 0x7FF8_0000_0000_0ABC, 0xFFF8_0000_0000_0DEF
SIGNALING, SIGNALING_2 = 0x7FF0_0000_0000_0111, 0xFFF0_0000_0000_0222
MADE_QUIET = 1 << 51


def test_imports_neither_numba_nor_numpy() -> None:
    program = (
        "import sys, runtime.softfloat.reference as r; r.call('sf_f64_add', 0, 0, 0, 0); "
        "print([m for m in ('numba', 'numpy', 'llvmlite') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.strip() == "[]"


def test_agrees_with_python_floats() -> None:
    rng = Random(7)
    for _ in range(4000):
        a, b = encoding(rng, 64), encoding(rng, 64)
        x, y = number(a), number(b)
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        assert reference.add(p.X86, 64, a, b, p.RNE)[0] == bits(x + y)
        assert reference.mul(p.X86, 64, a, b, p.RNE)[0] == bits(x * y)
        if y:
            assert reference.div(p.X86, 64, a, b, p.RNE)[0] == bits(x / y)
        if x >= 0:
            assert reference.sqrt(p.X86, 64, a, p.RNE)[0] == bits(math.sqrt(x))


@pytest.mark.parametrize("width", [16, 32])
def test_exact_results_are_flagless_and_inexact_ones_bracketed(width: int) -> None:
    """Down and up enclose the exact quotient as fractions say, one unit apart."""
    rng = Random(width)
    form = reference.FORMATS[width]
    checked = 0
    for _ in range(3000):
        a, b = encoding(rng, width) & ~form.sign_bit, encoding(rng, width) & ~form.sign_bit
        if not 0 < a < form.infinity or not 0 < b < form.infinity:
            continue
        exact = Fraction(value(width, a)) / Fraction(value(width, b))
        low, flags = reference.div(p.RISCV, width, a, b, p.RDN)
        high, _ = reference.div(p.RISCV, width, a, b, p.RUP)
        assert low < form.infinity
        assert Fraction(value(width, low)) <= exact
        if high < form.infinity:
            assert exact <= Fraction(value(width, high))
        assert high - low == (1 if flags & p.INEXACT else 0)
        assert reference.div(p.RISCV, width, a, b, p.RTO)[0] in (
            (low,) if low == high or low & 1 else (high, low)
        )
        checked += 1
    assert checked > 1000


def value(width: int, a: int) -> float:
    """A finite encoding of 16 or 32 bits as a float, by the struct module."""
    code = {16: "<He", 32: "<If"}[width]
    return float(struct.unpack("<" + code[2], struct.pack("<" + code[1], a))[0])


@pytest.mark.parametrize(
    ("policy", "operands", "expected"),
    [
        (p.RISCV, (QUIET, SIGNALING), (0x7FF8 << 48, p.INVALID)),
        (p.RISCV, (ONE, QUIET_2), (0x7FF8 << 48, 0)),
        # Intel SDM volume 1, table 4-7: the first source operand.
        (p.X86, (QUIET, SIGNALING), (QUIET, p.INVALID)),
        (p.X86, (SIGNALING, QUIET), (SIGNALING | MADE_QUIET, p.INVALID)),
        (p.X86, (ONE, QUIET_2), (QUIET_2, 0)),
        # Arm ARM, FPProcessNaNs: signalling before quiet, then the first.
        (p.ARM, (QUIET, SIGNALING), (SIGNALING | MADE_QUIET, p.INVALID)),
        (p.ARM, (QUIET, QUIET_2), (QUIET, 0)),
        # Power ISA: FRA before FRB.
        (p.PPC, (QUIET, SIGNALING_2), (QUIET, p.INVALID)),
        (p.PPC, (ONE, SIGNALING_2), (SIGNALING_2 | MADE_QUIET, p.INVALID)),
        # SPARC V9, B.2.2: rs2 before rs1, but signalling before quiet.
        (p.SPARC, (QUIET, QUIET_2), (QUIET_2, 0)),
        (p.SPARC, (SIGNALING, QUIET_2), (SIGNALING | MADE_QUIET, p.INVALID)),
        (p.SPARC, (QUIET, SIGNALING_2), (SIGNALING_2 | MADE_QUIET, p.INVALID)),
        (p.SPARC, (SIGNALING, SIGNALING_2), (SIGNALING_2 | MADE_QUIET, p.INVALID)),
    ],
)
def test_operand_nans(policy: int, operands: tuple[int, int], expected: tuple[int, int]) -> None:
    for operation in (reference.add, reference.sub, reference.mul, reference.div):
        assert operation(policy, 64, *operands, p.RNE) == expected


@pytest.mark.parametrize(
    ("family", "default"),
    [
        ("riscv", 0x7FC00000),
        ("x86", 0xFFC00000),
        ("arm", 0x7FC00000),
        ("ppc", 0x7FC00000),
        ("sparc", 0x7FFFFFFF),
    ],
)
def test_default_nan(family: str, default: int) -> None:
    assert reference.div(p.POLICIES[family], 32, 0, 0, p.RNE) == (default, p.INVALID)


@pytest.mark.parametrize(
    ("family", "nan", "negative_nan", "too_large", "too_small"),
    [
        ("riscv", 0x7FFFFFFF, 0x7FFFFFFF, 0x7FFFFFFF, 0x80000000),
        ("x86", 0x80000000, 0x80000000, 0x80000000, 0x80000000),
        ("arm", 0, 0, 0x7FFFFFFF, 0x80000000),
        ("ppc", 0x80000000, 0x80000000, 0x7FFFFFFF, 0x80000000),
        ("sparc", 0x7FFFFFFF, 0x80000000, 0x7FFFFFFF, 0x80000000),
    ],
)
def test_integers_out_of_range(
    family: str, nan: int, negative_nan: int, too_large: int, too_small: int
) -> None:
    for a, expected in (
        (QUIET, nan),
        (QUIET_2, negative_nan),
        (bits(2.0**31), too_large),
        (bits(-1e300), too_small),
    ):
        result = reference.to_integer(p.POLICIES[family], 64, a, p.RTZ, 32, 1)
        assert result == (expected, p.INVALID)


def test_infinity_times_zero_plus_nan() -> None:
    infinity = 0x7FF << 52
    results = {
        family: reference.fma(policy, 64, infinity, 0, QUIET, 0) for family, policy in p.POLICIES.items()
    }
    assert results == {
        "riscv": (0x7FF8 << 48, p.INVALID),
        "x86": (QUIET, 0),
        "arm": (0x7FF8 << 48, p.INVALID),
        "ppc": (QUIET, p.INVALID),
        "sparc": (QUIET, p.INVALID),
    }


def test_tininess() -> None:
    """A product just below the smallest normal number, rounded up to it, is tiny only before rounding."""
    a, b = (
        0x000F_FFFF_FFFF_FFFF,
        bits(1.0) + 1,
    )  # 1 - 2**-52 times 1 + 2**-52, in units of the smallest normal
    assert reference.mul(p.RISCV, 64, a, b, p.RUP) == (1 << 52, p.INEXACT)
    assert reference.mul(p.ARM, 64, a, b, p.RUP) == (1 << 52, p.INEXACT | p.UNDERFLOW)


@pytest.mark.parametrize(
    "call",
    [
        lambda: reference.add(p.RISCV, 80, 0, 0, p.RNE),
        lambda: reference.add(p.RISCV, 32, 1 << 32, 0, p.RNE),
        lambda: reference.add(p.RISCV, 32, -1, 0, p.RNE),
        lambda: reference.div(p.RISCV, 32, 0x3F800000, 0x40400000, 7),
        lambda: reference.from_integer(p.RISCV, 32, 1 << 32, p.RNE, 32, 0),
        lambda: reference.convert(p.RISCV, 32, 0, p.RNE, 8),
    ],
)
def test_bad_arguments(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"format|encoding|pattern|rounding mode"):
        call()


def test_every_symbol_has_an_operation() -> None:
    rng = Random(3)
    for name, symbol in SYMBOLS.items():
        values = [0 if operand in ("x", "rm") else encoding(rng, symbol.width) for operand in symbol.operands]
        result, flags = reference.call(name, p.RISCV, *values)
        assert 0 <= result < 1 << symbol.result_width
        assert 0 <= flags < 64
