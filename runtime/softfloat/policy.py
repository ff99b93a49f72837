"""Constants of the floating-point interface: flags, rounding modes and one policy word an instruction set.

IEEE 754-2019 leaves some choices to an implementation (the NaN that is delivered, when tininess is detected,
what an out-of-range conversion to an integer gives). A *policy* is an int that holds one instruction set's
choices as bit fields; every operation takes it as its first argument. A specification may change fields with
the mode bits of its control register, e.g. ``ARM | FLUSH_INPUTS | FLUSH_OUTPUTS`` or ``with_nan_rule(ARM,
NAN_DEFAULT)``.
"""

from __future__ import annotations

from typing import Final

# Exception flags, as the operations return them (RISC-V's order, fflags; unprivileged manual, "Floating-Point
# Control and Status Register"), with one more bit for denormal operands.
INEXACT: Final = 1
UNDERFLOW: Final = 2
OVERFLOW: Final = 4
DIVIDE_BY_ZERO: Final = 8
INVALID: Final = 16
DENORMAL_INPUT: Final = 32
"""x86: a denormal operand was used (MXCSR.DE). ARM: a denormal operand was flushed to zero (FPSR.IDC)."""
ROUNDED_UP: Final = 64
"""Of the x87's operations: the magnitude was rounded up (the status word's C1; SDM volume 1, 8.1.3.3)."""

# Rounding modes; 0 to 4 are RISC-V's encoding of `rm`.
RNE: Final = 0
"""To nearest, ties to even."""
RTZ: Final = 1
"""Towards zero."""
RDN: Final = 2
"""Towards minus infinity."""
RUP: Final = 3
"""Towards plus infinity."""
RMM: Final = 4
"""To nearest, ties away from zero."""
RTO: Final = 5
"""To odd: an inexact result gets an odd last digit; overflow gives the largest finite number."""

ROUNDING_MODES: Final = (RNE, RTZ, RDN, RUP, RMM, RTO)

# Field: which NaN an operation delivers (bits 0 to 2).
NAN_RULE_MASK: Final = 7
NAN_DEFAULT: Final = 0
"""Always the default NaN (RISC-V; ARM with FPCR.DN set)."""
NAN_FIRST: Final = 1
"""The first NaN among a, b, c, made quiet (x86 SSE). The fused operation computes a * b + c."""
NAN_SIGNALING_FIRST: Final = 2
"""The first signalling NaN, else the first quiet one; the fused operation looks at c, a, b (ARM)."""
NAN_FIRST_ACB: Final = 3
"""The first NaN among a, b; the fused operation looks at a, c, b (PowerPC: FRA, FRB, FRC)."""
NAN_LAST_SIGNALING: Final = 4
"""The last signalling NaN, else the last quiet one, seen from c over b to a (SPARC)."""

# Fields: the default NaN.
NAN_NEGATIVE: Final = 1 << 3
"""The default NaN has its sign bit set (x86's "real indefinite")."""
NAN_ALL_ONES: Final = 1 << 4
"""The default NaN's whole fraction is ones (SPARC), not only its first bit."""

TININESS_BEFORE_ROUNDING: Final = 1 << 5
"""Underflow looks at the exact result; without this bit, at the one rounded with an unbounded exponent."""

# Field: what an invalid conversion to an integer gives (bits 6 to 8).
INT_RULE_MASK: Final = 7 << 6
INT_NAN_MAX: Final = 0 << 6
"""Saturate; NaN gives the largest integer (RISC-V)."""
INT_INDEFINITE: Final = 1 << 6
"""Always the "integer indefinite": signed 10..0, unsigned 1..1 (x86)."""
INT_NAN_ZERO: Final = 2 << 6
"""Saturate; NaN gives zero (ARM)."""
INT_NAN_MIN: Final = 3 << 6
"""Saturate; NaN gives the smallest integer, so zero for unsigned (PowerPC)."""
INT_NAN_SIGN: Final = 4 << 6
"""Saturate; NaN gives the smallest or the largest integer by its sign bit (SPARC)."""

# Field: the fused operation on infinity, zero and a quiet NaN as addend (bits 9 to 10).
INF_ZERO_RULE_MASK: Final = 3 << 9
INF_ZERO_DEFAULT: Final = 0 << 9
"""Invalid, the default NaN."""
INF_ZERO_PROPAGATE: Final = 1 << 9
"""Invalid, the addend's NaN."""
INF_ZERO_QUIET: Final = 2 << 9
"""Not invalid, the addend's NaN."""

# Fields: denormal numbers.
FLUSH_INPUTS: Final = 1 << 11
"""Denormal operands count as zeros of their sign (x86 MXCSR.DAZ, ARM FPCR.FZ and FZ16)."""
FLUSH_OUTPUTS: Final = 1 << 12
"""Tiny results become zeros of their sign (x86 MXCSR.FTZ, ARM FPCR.FZ and FZ16)."""
FLUSH_INPUT_FLAGGED: Final = 1 << 13
"""A flushed operand that is wider than binary16 raises DENORMAL_INPUT (ARM FPSR.IDC)."""
FLUSH_OUTPUT_INEXACT: Final = 1 << 14
"""A flushed result raises INEXACT besides UNDERFLOW (x86)."""
DENORMAL_OPERAND: Final = 1 << 15
"""A denormal operand that is not flushed raises DENORMAL_INPUT, unless an operand is a NaN or the operation
is invalid or a division by zero (x86 MXCSR.DE)."""

RISCV: Final = NAN_DEFAULT | INT_NAN_MAX | INF_ZERO_DEFAULT
"""RISC-V unprivileged manual, "F" chapter: "NaN Generation and Propagation" (canonical NaN), "Subnormal
Arithmetic" (tininess after rounding), the table of float-to-integer domains, fused multiply-add (infinity
times zero is invalid even with a quiet NaN addend)."""

X86: Final = (
    NAN_FIRST | NAN_NEGATIVE | INT_INDEFINITE | INF_ZERO_QUIET | FLUSH_OUTPUT_INEXACT | DENORMAL_OPERAND
)
"""SSE to AVX. Intel SDM volume 1: 4.8.3.5 and table 4-7 (NaN operands), 4.8.3.7 (QNaN floating-point
indefinite), 4.9.1.2 (denormal operand), 4.9.1.5 (underflow: tiny after rounding), 4.9.2 (priority of
exceptions), table 4-1 and 11.5.2.1 (integer indefinite), 10.2.3.3 and 10.2.3.4 (flush-to-zero,
denormals-are-zeros), 14.5 (FMA). The x87 picks the NaN with the larger significand and is not described by
this constant."""

ARM: Final = (
    NAN_SIGNALING_FIRST | TININESS_BEFORE_ROUNDING | INT_NAN_ZERO | INF_ZERO_DEFAULT | FLUSH_INPUT_FLAGGED
)
"""Arm ARM (DDI 0487) A1.5 and the shared pseudocode: FPProcessNaNs, FPProcessNaNs3, FPMulAdd, FPDefaultNaN,
FPRound (tininess before rounding), FPToFixed, FPUnpackBase (input denormals)."""

PPC: Final = NAN_FIRST_ACB | TININESS_BEFORE_ROUNDING | INT_NAN_MIN | INF_ZERO_PROPAGATE
"""Power ISA, Book I: 4.3.2 "Floating-Point Data" (the order FRA, FRB, FRC), 4.4.1 (invalid operation, VXIMZ),
4.4.4 (underflow: tiny before rounding), 4.6.7 (conversions: NaN gives 0x8000..., 0 unsigned)."""

SPARC: Final = (
    NAN_LAST_SIGNALING | NAN_ALL_ONES | TININESS_BEFORE_ROUNDING | INT_NAN_SIGN | INF_ZERO_PROPAGATE
)
"""SPARC V9 manual B.2.2 and its table (operand NaNs, the default NaN), B.5 (integer overflow); SPARC JPS1 and
the UltraSPARC manuals, impl. dep. #55 (tininess before rounding)."""

# The x87's control of an operation (SDM volume 1, 8.1.5): the rounding mode in bits 0 to 2, and
PRECISION_SHIFT: Final = 3
"""The control word's PC field: 0 rounds to 24 bits, 2 to 53, 3 to 64."""
OVERFLOW_UNMASKED: Final = 1 << 5
"""An overflowing result is delivered with its exponent less 24576 (8.5.4)."""
UNDERFLOW_UNMASKED: Final = 1 << 6
"""A tiny result is delivered with its exponent plus 24576, not as a denormal number (8.5.5)."""

POLICIES: Final = {"riscv": RISCV, "x86": X86, "arm": ARM, "ppc": PPC, "sparc": SPARC}
"""The policies by the family's name in `isa/`."""


def with_nan_rule(policy: int, rule: int) -> int:
    """The policy with another NaN rule, e.g. ``with_nan_rule(ARM, NAN_DEFAULT)`` for FPCR.DN."""
    return policy & ~NAN_RULE_MASK | rule
