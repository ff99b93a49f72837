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
"""All functions of the compiled library, by name."""
