"""The language's operators and built-in functions by name."""

from __future__ import annotations

from dataclasses import dataclass

ARITHMETIC = {
    "+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor",
    "/u": "udiv", "/s": "sdiv", "%u": "urem", "%s": "srem",
}  # fmt: skip
SHIFTS = {"<<": "shl", ">>u": "lshr", ">>s": "ashr", "<<<": "rotl", ">>>": "rotr"}
# operator -> (IR operator, whether the sides change places)
COMPARISONS = {
    "==": ("eq", False), "!=": ("ne", False),
    "<u": ("ult", False), "<=u": ("ule", False), "<s": ("slt", False), "<=s": ("sle", False),
    ">u": ("ult", True), ">=u": ("ule", True), ">s": ("slt", True), ">=s": ("sle", True),
}  # fmt: skip

EXTENSIONS = frozenset(("zext", "sext", "low"))
UNARY = frozenset(("clz", "ctz", "popcount", "bitreverse", "byteswap", "parity"))
OTHERS = frozenset(("ones", "pick", "has"))


@dataclass(frozen=True)
class FloatFunction:
    """A floating-point built-in. `widths`: how many leading arguments are constant widths; each further
    argument's width and each result's is a number, or "0"/"1": the value of that leading argument, or
    "flags": that of the policy's exception flags (`FLAG_BITS`). All take one more argument, `MODE_BITS` wide:
    how denormal numbers are treated; it may be left out."""

    widths: int
    arguments: tuple[int | str, ...]
    results: tuple[int | str, ...]


_BINARY = FloatFunction(1, ("0", "0", 3), ("0", "flags"))
_COMPARE = FloatFunction(1, ("0", "0"), (1, "flags"))
_EXTREMUM = FloatFunction(1, ("0", "0"), ("0", "flags"))
_TO_INTEGER = FloatFunction(2, ("1", 3), ("0", "flags"))

FLOAT: dict[str, FloatFunction] = {
    "fadd": _BINARY, "fsub": _BINARY, "fmul": _BINARY, "fdiv": _BINARY,
    "fsqrt": FloatFunction(1, ("0", 3), ("0", "flags")),
    "fma": FloatFunction(1, ("0", "0", "0", 3), ("0", "flags")),
    "feq": _COMPARE, "flt": _COMPARE, "fle": _COMPARE,
    "feq_q": _COMPARE, "flt_q": _COMPARE, "fle_q": _COMPARE,
    "fmin": _EXTREMUM, "fmax": _EXTREMUM,
    "fclass": FloatFunction(1, ("0",), (10,)),
    "fcvt": _TO_INTEGER, "f2s": _TO_INTEGER, "f2u": _TO_INTEGER, "s2f": _TO_INTEGER, "u2f": _TO_INTEGER,
    "froundint": FloatFunction(1, ("0", 3), ("0", "flags")),
}  # fmt: skip

FLOAT_WIDTHS = (16, 32, 64)
FLAG_BITS = {"x86": 6}
"""How many exception flags there are: x86 has one for denormal operands, too; the others have 5."""
USUAL_FLAG_BITS = 5
MODE_BITS = 2
"""1: denormal operands count as zeros; 2: tiny results become zeros (`runtime.softfloat.policy`)."""

_EXTENDED = (80, 7, 4)
EXTENDED: dict[str, FloatFunction] = {
    **{
        f"f80_{name}": FloatFunction(0, (80, 80, 7), _EXTENDED[:2])
        for name in ("add", "sub", "mul", "div", "scale")
    },
    **{
        f"f80_{name}": FloatFunction(0, (80, 80), (2, 7)) for name in ("relation_quiet", "relation_signaling")
    },
    **{f"f80_to_i{width}": FloatFunction(0, (80, 7), (width, 7)) for width in (16, 32, 64)},
    **{f"f80_to_f{width}": FloatFunction(0, (80, 7), (width, 7)) for width in (32, 64)},
    **{f"f{width}_to_f80": FloatFunction(0, (width, 7), _EXTENDED[:2]) for width in (32, 64)},
    **{
        f"f80_{name}": FloatFunction(0, (80, 80, 7), _EXTENDED) for name in ("remainder", "remainder_nearest")
    },
    **{f"f80_{name}": FloatFunction(0, (80, 7), _EXTENDED) for name in ("sine", "cosine", "tangent")},
    **{
        f"f80_{name}": FloatFunction(0, (80, 80, 7), _EXTENDED[:2])
        for name in ("logarithm", "logarithm_of_successor", "arctangent")
    },
    **{
        f"f80_{name}": FloatFunction(0, (80, 7), _EXTENDED[:2])
        for name in ("sqrt", "round_to_integral_exact", "exponential")
    },
    "f80_from_i64": FloatFunction(0, (64, 7), _EXTENDED[:2]),
}
"""The x87's: numbers of 80 bits, a control of 7 bits (rounding mode, precision, unmasked overflow and
underflow), flags of 7 (the sixth: denormal operand; the seventh: rounded up), and for some a third result.
They are the functions of `runtime.softfloat.symbols.EXTENDED`, ``sf_`` before their names.
"""
NAMES = EXTENSIONS | UNARY | OTHERS | FLOAT.keys() | EXTENDED.keys()
