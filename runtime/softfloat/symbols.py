"""The compiled library's functions, as data for whoever generates calls to them. Imports no numba.

All functions have the C interface ``int64_t NAME(int64_t policy, int64_t operands..., int64_t *flags)``: bit
patterns and integers are zero-extended, the rounding mode (where there is one) is an operand, and the
operation's exception flags are stored (not merged) through the last argument. Other bits in an operand, or a
rounding mode that `policy` doesn't list, give an unspecified result; the caller has to have rejected them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

WIDTHS: Final = (16, 32, 64)
"""Widths of the formats, in bits."""


class Symbol(NamedTuple):
    """A compiled function: ``OPERATIONS[operation](policy, width, *operands, *constants)`` of `reference`."""

    name: str
    operation: str
    """Name of the operation in `reference.OPERATIONS`."""
    width: int
    """Width in bits of the operands' format (of the result's, for `from_integer`)."""
    arguments: tuple[str, ...]
    """All arguments in order: "policy", the operands ("rm" last where rounding matters), "flags"."""
    constants: tuple[int, ...]
    """What the operation takes after its operands."""
    result_width: int
    """Significant bits of the result; the bits above are zero."""

    @property
    def operands(self) -> tuple[str, ...]:
        """The arguments between "policy" and "flags"."""
        return self.arguments[1:-1]


# Sets of relations (bit 0 less, 1 equal, 2 greater, 3 unordered) for the operation "compare".
_PREDICATES: Final = {"eq": 2, "lt": 1, "le": 3}

_ARITHMETIC: Final = {
    "add": ("a", "b", "rm"),
    "sub": ("a", "b", "rm"),
    "mul": ("a", "b", "rm"),
    "div": ("a", "b", "rm"),
    "sqrt": ("a", "rm"),
    "fma": ("a", "b", "c", "rm"),
}

# Name -> (1 for the larger operand, treatment of NaNs: 0 any ignored, 1 quiet ones ignored, 2 delivered).
_EXTREMA: Final = {
    "minimum_number": (0, 0),
    "maximum_number": (1, 0),
    "min_num_2008": (0, 1),
    "max_num_2008": (1, 1),
    "minimum": (0, 2),
    "maximum": (1, 2),
}


def _symbols() -> Iterator[Symbol]:
    def symbol(
        suffix: str, operation: str, operands: tuple[str, ...], constants: tuple[int, ...], result_width: int
    ) -> Symbol:
        arguments = ("policy", *operands, "flags")
        return Symbol(f"sf_f{width}_{suffix}", operation, width, arguments, constants, result_width)

    for width in WIDTHS:
        for name, operands in _ARITHMETIC.items():
            yield symbol(name, name, operands, (), width)
        for signaling, kind in enumerate(("quiet", "signaling")):
            for name, wanted in _PREDICATES.items():
                yield symbol(f"{name}_{kind}", "compare", ("a", "b"), (signaling, wanted), 1)
            yield symbol(f"relation_{kind}", "relation", ("a", "b"), (signaling,), 2)
        for name, choice in _EXTREMA.items():
            yield symbol(name, "extremum", ("a", "b"), choice, width)
        yield symbol("classify", "classify", ("a",), (), 10)
        yield symbol("round_to_integral", "round_to_integral", ("a", "rm"), (0,), width)
        yield symbol("round_to_integral_exact", "round_to_integral", ("a", "rm"), (1,), width)
        for signed, letter in enumerate("ui"):
            for bits in (8, 16, 32, 64):
                yield symbol(f"to_{letter}{bits}", "to_integer", ("a", "rm"), (bits, signed), bits)
            for bits in (32, 64):
                yield symbol(f"from_{letter}{bits}", "from_integer", ("x", "rm"), (bits, signed), width)
        for to_width in WIDTHS:
            if to_width != width:
                yield symbol(f"to_f{to_width}", "convert", ("a", "rm"), (to_width,), to_width)


SYMBOLS: Final[dict[str, Symbol]] = {symbol.name: symbol for symbol in _symbols()}
"""The functions for interchange formats, by name."""

# The x87's: operands, constants, significant bits of the result. A `control` says how to round (`policy`).
_EXTENDED: Final[dict[str, tuple[str, tuple[str, ...], tuple[int, ...], int]]] = {
    "add": ("x_add", ("a", "b", "control"), (0,), 80),
    "sub": ("x_add", ("a", "b", "control"), (1,), 80),
    "mul": ("x_mul", ("a", "b", "control"), (), 80),
    "div": ("x_div", ("a", "b", "control"), (), 80),
    "sqrt": ("x_sqrt", ("a", "control"), (), 80),
    "relation_quiet": ("x_relation", ("a", "b"), (0,), 2),
    "relation_signaling": ("x_relation", ("a", "b"), (1,), 2),
    "round_to_integral_exact": ("x_integral", ("a", "control"), (), 80),
    "to_i16": ("x_to_integer", ("a", "control"), (16,), 16),
    "to_i32": ("x_to_integer", ("a", "control"), (32,), 32),
    "to_i64": ("x_to_integer", ("a", "control"), (64,), 64),
    "from_i64": ("x_from_integer", ("x", "control"), (), 80),
    "to_f32": ("x_to_narrow", ("a", "control"), (32,), 32),
    "to_f64": ("x_to_narrow", ("a", "control"), (64,), 64),
    "scale": ("x_scale", ("a", "b", "control"), (), 80),
    "remainder": ("x_remainder", ("a", "b", "control"), (0,), 80),
    "remainder_nearest": ("x_remainder", ("a", "b", "control"), (1,), 80),
    "exponential": ("x_exponential", ("a", "control"), (), 80),
    "logarithm": ("x_logarithm", ("a", "b", "control"), (), 80),
    "logarithm_of_successor": ("x_logarithm_of_successor", ("a", "b", "control"), (), 80),
    "arctangent": ("x_arctangent", ("a", "b", "control"), (), 80),
    "sine": ("x_trigonometric", ("a", "control"), (0,), 80),
    "cosine": ("x_trigonometric", ("a", "control"), (1,), 80),
    "tangent": ("x_trigonometric", ("a", "control"), (2,), 80),
}


def _extended() -> Iterator[Symbol]:
    def symbol(
        name: str, operation: str, operands: tuple[str, ...], constants: tuple[int, ...], result: int
    ) -> Symbol:
        halves = [half for name in operands for half in ((name, f"{name}_high") if name in "ab" else (name,))]
        return Symbol(name, operation, 80, ("policy", *halves, "flags"), constants, result)

    for suffix, row in _EXTENDED.items():
        yield symbol(f"sf_f80_{suffix}", *row)
    for width in (32, 64):
        name = f"sf_f{width}_to_f80"
        yield Symbol(name, "x_from_narrow", 80, ("policy", "x", "control", "flags"), (width,), 80)


EXTENDED: Final[dict[str, Symbol]] = {symbol.name: symbol for symbol in _extended()}
"""The functions for the x87's 80 bits (`extended`), by name. A number is two arguments: its significand, and
its sign and exponent, 16 bits. The stored flags hold those of `policy` in bits 0 to 6, further answers in
bits 8 to 11, and a result's upper 16 bits in bits 32 to 47.
"""

FUNCTIONS: Final[dict[str, Symbol]] = {**SYMBOLS, **EXTENDED}
"""All functions of the compiled library, by name."""
