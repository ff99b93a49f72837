"""Floating point in regions: the host's arithmetic where result and flags are provably the library's.

Each fast path is LLVM text with a guard; where that fails, the library's function is called
(`runtime.softfloat`). Only rounding to nearest even is tried, the host's mode. Guards leave results that are
finite and (but for sums) far from underflow, so that no flag but inexact can be due, and no NaN is chosen by
the host. Inexact is found from the exact error of the operation, itself a number of the format:

* sum: TwoSum (Knuth, TAOCP 2, 4.2.2, theorem B);
* product, quotient, root: one fused operation gives the residual exactly, if it doesn't underflow (Boldo,
  Daumas: "Representable correcting terms for possibly underflowing floating point operations", 2003);
* fused operation: ErrFma (Boldo, Muller: "Exact and approximated error of the FMA", 2011);
* binary32: binary64 holds products and conversions exactly.

An operand that is denormal matters for some policies (flags, flushing); then the library decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from runtime.softfloat.policy import DENORMAL_OPERAND, FLUSH_INPUTS, FLUSH_OUTPUTS, RNE, RTZ
from runtime.softfloat.symbols import FUNCTIONS, Symbol

MATTER: Final = FLUSH_INPUTS | FLUSH_OUTPUTS | DENORMAL_OPERAND
SAFE: Final = 128
"""Binary64 results with a smaller exponent field are left to the library: their residual might underflow."""
LARGE: Final = 1920
"""The same for fused operations with a larger one: intermediate sums might overflow."""
_EXPONENT: Final = {32: (23, 255), 64: (52, 2047)}
_FLOAT: Final = {32: "float", 64: "double"}


class Fast:
    """Writes one fast path: lines, the guards' conditions, at the end result and flags."""

    def __init__(self, prefix: str, width: int, arguments: dict[str, str]) -> None:
        self.n = prefix
        self.width = width
        self.kind = _FLOAT[width]
        self.arguments = arguments
        self.lines: list[str] = []
        self.conditions: list[str] = []
        self.behind: list[str] = []
        """What is computed only where the guard holds."""
        self.measure: list[str] = []
        """What is computed only to know whether the result is exact."""
        self._into = self.lines
        self._count = 0

    # --- pieces -------------------------------------------------------------------------------------------

    def value(self, text: str) -> str:
        """A new local."""
        name = f"{self.n}{self._count}v"
        self._count += 1
        self._into.append(f"{name} = {text}")
        return name

    def guarded(self) -> None:
        """From here on what is written is computed where the guard holds."""
        self._into = self.behind

    def measured(self) -> None:
        """From here on what is written only says whether the result is exact."""
        self._into = self.measure

    def require(self, condition: str) -> None:
        """The guard holds only with this condition (a text that gives an i1)."""
        self.conditions.append(self.value(condition))

    def rounding(self, mode: int = RNE) -> None:
        if self.arguments["rm"] != str(mode):
            self.require(f"icmp eq i64 {self.arguments['rm']}, {mode}")

    def number(self, bits: str, width: int | None = None) -> str:
        """The floating-point number with a bit pattern."""
        width = width or self.width
        if width == 64:
            return self.value(f"bitcast i64 {bits} to double")
        return self.value(f"bitcast i32 {self.value(f'trunc i64 {bits} to i32')} to float")

    def bits(self, number: str, width: int | None = None) -> str:
        """A number's bit pattern, 64 bits."""
        if (width or self.width) == 64:
            return self.value(f"bitcast double {number} to i64")
        return self.value(f"zext i32 {self.value(f'bitcast float {number} to i32')} to i64")

    def exponent_in(self, bits: str, low: int, high: int, width: int | None = None) -> None:
        """Require an exponent field from `low` to `high`."""
        shift, mask = _EXPONENT[width or self.width]
        field = self.value(f"and i64 {self.value(f'lshr i64 {bits}, {shift}')}, {mask}")
        less = self.value(f"sub i64 {field}, {low}") if low else field
        self.require(f"icmp ult i64 {less}, {high - low + 1}")

    def no_denormal(self, *patterns: str, width: int | None = None) -> None:
        """Require numbers that aren't denormal, if the policy looks at that."""
        policy = self.arguments["policy"]
        if policy.lstrip("-").isdigit() and not int(policy) & MATTER:
            return
        shift, mask = _EXPONENT[width or self.width]
        matters = self.value(f"icmp eq i64 {self.value(f'and i64 {policy}, {MATTER}')}, 0")
        for bits in patterns:
            field = self.value(f"and i64 {bits}, {mask << shift}")
            rest = self.value(f"and i64 {bits}, {(1 << shift) - 1}")
            normal = self.value(f"icmp ne i64 {field}, 0")
            zero = self.value(f"icmp eq i64 {rest}, 0")
            plain = self.value(f"or i1 {normal}, {zero}")
            self.require(f"or i1 {plain}, {matters}")

    def flag(self, condition: str) -> str:
        return self.value(f"zext i1 {self.value(condition)} to i64")

    def widened(self, number: str) -> str:
        return self.value(f"fpext float {number} to double")

    def two_sum(self, x: str, y: str) -> tuple[str, str]:
        """The sum, and its exact error."""
        total = self.value(f"fadd {self.kind} {x}, {y}")
        return total, self.error_of_sum(total, x, y)

    def error_of_sum(self, total: str, x: str, y: str) -> str:
        kind = self.kind
        second = self.value(f"fsub {kind} {total}, {x}")
        first = self.value(f"fsub {kind} {total}, {second}")
        lost = self.value(f"fsub {kind} {x}, {first}")
        return self.value(f"fadd {kind} {lost}, {self.value(f'fsub {kind} {y}, {second}')}")

    def fused(self, x: str, y: str, z: str) -> str:
        return self.value(f"call double @llvm.fma.f64(double {x}, double {y}, double {z})")

    def negative(self, x: str) -> str:
        return self.value(f"fneg {self.kind} {x}")


Made = tuple[str, str]
"""Result and flags, both i64."""


def _sum(f: Fast, sign: str) -> Made:
    a, b = f.arguments["a"], f.arguments["b"]
    f.rounding()
    x, y = f.number(a), f.number(b)
    if sign == "-":
        y = f.negative(y)
    total = f.value(f"fadd {f.kind} {x}, {y}")
    bits = f.bits(total)
    f.exponent_in(bits, 0, _EXPONENT[f.width][1] - 2)
    f.no_denormal(a, b, bits)
    f.measured()
    return bits, f.flag(f"fcmp une {f.kind} {f.error_of_sum(total, x, y)}, 0.0")


def _product(f: Fast) -> Made:
    a, b = f.arguments["a"], f.arguments["b"]
    f.rounding()
    x, y = f.number(a), f.number(b)
    if f.width == 32:
        exact = f.value(f"fmul double {f.widened(x)}, {f.widened(y)}")
        product = f.value(f"fptrunc double {exact} to float")
        bits = f.bits(product)
        f.exponent_in(bits, 2, 254)
        f.no_denormal(a, b)
        f.measured()
        return bits, f.flag(f"fcmp une double {f.widened(product)}, {exact}")
    product = f.value(f"fmul double {x}, {y}")
    bits = f.bits(product)
    f.exponent_in(bits, SAFE, 2046)
    f.no_denormal(a, b)
    f.measured()
    return bits, f.flag(f"fcmp une double {f.fused(x, y, f.negative(product))}, 0.0")


def _quotient(f: Fast) -> Made:
    a, b = f.arguments["a"], f.arguments["b"]
    f.rounding()
    x, y = f.number(a), f.number(b)
    quotient = f.value(f"fdiv {f.kind} {x}, {y}")
    bits = f.bits(quotient)
    f.no_denormal(a, b)
    if f.width == 32:
        f.exponent_in(bits, 2, 254)
        f.measured()
        back = f.value(f"fmul double {f.widened(quotient)}, {f.widened(y)}")
        return bits, f.flag(f"fcmp une double {back}, {f.widened(x)}")
    f.exponent_in(bits, SAFE, 2046)
    f.exponent_in(a, SAFE, 2046)
    f.exponent_in(b, 1, 2046)
    f.measured()
    return bits, f.flag(f"fcmp une double {f.fused(f.negative(quotient), y, x)}, 0.0")


def _root(f: Fast) -> Made:
    a = f.arguments["a"]
    f.rounding()
    shift, mask = _EXPONENT[f.width]
    low = 1 if f.width == 32 else SAFE
    # Without its sign bit in the way: negative numbers have larger fields.
    field = f.value(f"lshr i64 {a}, {shift}")
    less = f.value(f"sub i64 {field}, {low}")
    f.require(f"icmp ult i64 {less}, {mask - low}")
    f.guarded()
    x = f.number(a)
    root = f.value(f"call {f.kind} @llvm.sqrt.f{f.width}({f.kind} {x})")
    bits = f.bits(root)
    f.measured()
    if f.width == 32:
        wide = f.widened(root)
        square = f.value(f"fmul double {wide}, {wide}")
        return bits, f.flag(f"fcmp une double {square}, {f.widened(x)}")
    return bits, f.flag(f"fcmp une double {f.fused(f.negative(root), root, x)}, 0.0")


def _fused(f: Fast) -> Made:
    a, b, c = (f.arguments[name] for name in "abc")
    f.rounding()
    x, y, z = f.number(a), f.number(b), f.number(c)
    f.no_denormal(a, b, c)
    result = f.fused(x, y, z)
    product = f.value(f"fmul double {x}, {y}")
    bits = f.bits(result)
    f.exponent_in(bits, SAFE, LARGE)
    f.exponent_in(f.bits(product), SAFE, LARGE)
    f.exponent_in(c, 0, LARGE)
    f.measured()
    rest = f.fused(x, y, f.negative(product))
    alpha, alpha_rest = f.two_sum(z, rest)
    beta, beta_rest = f.two_sum(product, alpha)
    gamma = f.value(f"fadd double {f.value(f'fsub double {beta}, {result}')}, {beta_rest}")
    return bits, f.flag(f"fcmp une double {gamma}, {f.negative(alpha_rest)}")


def _relation(f: Fast, condition: str) -> Made:
    a, b = f.arguments["a"], f.arguments["b"]
    x, y = f.number(a), f.number(b)
    f.require(f"fcmp ord {f.kind} {x}, {y}")
    f.no_denormal(a, b)
    f.guarded()
    return f.flag(f"fcmp {condition} {f.kind} {x}, {y}"), "0"


def _extremum(f: Fast, condition: str) -> Made:
    a, b = f.arguments["a"], f.arguments["b"]
    x, y = f.number(a), f.number(b)
    f.require(f"fcmp one {f.kind} {x}, {y}")
    f.no_denormal(a, b)
    f.guarded()
    first = f.value(f"fcmp {condition} {f.kind} {x}, {y}")
    return f.value(f"select i1 {first}, i64 {a}, i64 {b}"), "0"


def _from_integer(f: Fast, bits: int, signed: bool) -> Made:
    a = f.arguments["x"]
    integer = f.value(f"trunc i64 {a} to i32") if bits == 32 else a
    convert = f"{'s' if signed else 'u'}itofp i{bits} {integer} to {f.kind}"
    if bits == 32 and f.width == 64:
        f.guarded()
        return f.bits(f.value(convert)), "0"
    f.rounding()
    if bits == 32:
        exact = f.value(f"{'s' if signed else 'u'}itofp i32 {integer} to double")
    else:
        # Below 2**53 in magnitude integers are exact in binary64.
        size = 62 if f.width == 64 else 53
        moved = f.value(f"add i64 {a}, {1 << size}") if signed else a
        f.require(f"icmp ule i64 {moved}, {((2 if signed else 1) << size) - 1}")
        exact = f.value(f"sitofp i64 {a} to double")
    f.guarded()
    if f.width == 64:
        number = f.bits(exact)
        f.measured()
        back = f.value(f"fptosi double {exact} to i64")
        return number, f.flag(f"icmp ne i64 {back}, {a}")
    result = f.value(f"fptrunc double {exact} to float")
    number = f.bits(result)
    f.measured()
    return number, f.flag(f"fcmp une double {f.widened(result)}, {exact}")


def _to_integer(f: Fast, bits: int, signed: bool) -> Made:
    a = f.arguments["a"]
    f.rounding(RTZ)
    f.no_denormal(a)
    x = f.number(a)
    if f.width == 32:
        x = f.widened(x)
    # Bounds that truncate to what is just in range; a 64-bit one stays below the host's.
    low = {(32, True): -(2.0**31) - 1, (64, True): -(2.0**62)}.get((bits, signed), -1.0)
    high = {(32, True): 2.0**31, (32, False): 2.0**32}.get((bits, signed), 2.0**62)
    f.require(f"fcmp ogt double {x}, {low:.1f}")
    f.require(f"fcmp olt double {x}, {high:.1f}")
    f.guarded()
    integer = f.value(f"fptosi double {x} to i64")
    number = integer if bits == 64 else f.value(f"and i64 {integer}, {(1 << bits) - 1}")
    f.measured()
    return number, f.flag(f"fcmp une double {f.value(f'sitofp i64 {integer} to double')}, {x}")


def _convert(f: Fast, to_width: int) -> Made:
    a = f.arguments["a"]
    if (f.width, to_width) == (32, 64):
        f.exponent_in(a, 1, 254)
        f.guarded()
        return f.bits(f.widened(f.number(a)), 64), "0"
    f.rounding()
    x = f.number(a)
    result = f.value(f"fptrunc double {x} to float")
    bits = f.bits(result, 32)
    f.exponent_in(bits, 2, 254, 32)
    f.measured()
    return bits, f.flag(f"fcmp une double {f.widened(result)}, {x}")


_INTEGERS: Final = {"i32": (32, True), "u32": (32, False), "i64": (64, True), "u64": (64, False)}


_NEED_FUSED: Final = ("f64_mul", "f64_div", "f64_sqrt", "f64_fma")


def _path(symbol: Symbol, fused: bool) -> Callable[[Fast], Made] | None:
    """What writes the fast path of a function, if there is one. `fused`: the host has the fused operation."""
    _, width, name = symbol.name.split("_", 2)
    if width not in ("f32", "f64") or (not fused and f"{width}_{name}" in _NEED_FUSED):
        return None
    plain: dict[str, Callable[[Fast], Made]] = {
        "add": lambda f: _sum(f, "+"),
        "sub": lambda f: _sum(f, "-"),
        "mul": _product,
        "div": _quotient,
        "sqrt": _root,
        "eq_quiet": lambda f: _relation(f, "oeq"),
        "eq_signaling": lambda f: _relation(f, "oeq"),
        "lt_quiet": lambda f: _relation(f, "olt"),
        "lt_signaling": lambda f: _relation(f, "olt"),
        "le_quiet": lambda f: _relation(f, "ole"),
        "le_signaling": lambda f: _relation(f, "ole"),
        "minimum_number": lambda f: _extremum(f, "olt"),
        "maximum_number": lambda f: _extremum(f, "ogt"),
    }
    if name == "fma" and width == "f64":
        return _fused
    if name in plain:
        return plain[name]
    direction, _, other = name.partition("_")
    if direction == "from" and other in _INTEGERS:
        return lambda f: _from_integer(f, *_INTEGERS[other])
    if direction == "to" and other in _INTEGERS:
        return lambda f: _to_integer(f, *_INTEGERS[other])
    if direction == "to" and (width, other) in (("f32", "f64"), ("f64", "f32")):
        return lambda f: _convert(f, int(other[1:]))
    return None


ADDED: Final = "\x0e"
"""Stands in `call`'s text for the bits that inexact adds to the gathered flags."""


def call(
    name: str,
    result: str,
    arguments: Sequence[str],
    label: str,
    pointer: str,
    *,
    fused: bool,
    gathered: int | None = None,
) -> list[str]:
    """LLVM text of a call of a function of the library. `pointer` holds its address, the flags go to the
    region's variable ``%fp.flags``; what follows begins with `label`. Names are prefixed with the label.

    `gathered`: the register that flags are added to (`runtime.cpu.translator.sticky`). Where it has already
    what inexact would add, the result is called inexact without a look.
    """
    symbol = FUNCTIONS[name]
    values = dict(
        zip(symbol.arguments, (argument.removeprefix("i64 ") for argument in arguments), strict=True)
    )
    n = f"%{label}"
    made = _path(symbol, fused)
    lines: list[str] = []
    if made is not None:
        fast = Fast(f"{n}x", symbol.width, values)
        bits, flags = made(fast)
        lines += fast.lines
        if fast.conditions:
            held = fast.conditions[0]
            for number, condition in enumerate(fast.conditions[1:]):
                lines.append(f"{n}c{number} = and i1 {held}, {condition}")
                held = f"{n}c{number}"
            lines.append(f"br i1 {held}, label {n}fast, label {n}slow, !prof !1")
            lines.append(f"{label}fast:")
        lines += fast.behind
        if gathered is not None and fast.measure:
            # What comes behind begins with a block of its own, so that the result has one way there.
            lines += [
                "store i64 1, ptr %fp.flags",
                f"{n}had = load i64, ptr %g{gathered}",
                f"{n}has = and i64 {n}had, {ADDED}",
                f"{n}known = icmp eq i64 {n}has, {ADDED}",
                f"br i1 {n}known, label {n}made, label {n}measure, !prof !1",
                f"{label}measure:",
                *fast.measure,
                f"store i64 {flags}, ptr %fp.flags",
                f"br label {n}made",
            ]
        else:
            lines += [*fast.measure, f"store i64 {flags}, ptr %fp.flags", f"br label {n}made"]
        lines.append(f"{label}made:")
        if not fast.conditions:
            return [*lines, f"br label {n}", f"{label}:", f"{result} = add i64 {bits}, 0"]
        lines += [f"br label {n}", f"{label}slow:"]
    passed = ", ".join(f"i64 {value}" for value in values.values())
    lines += [
        *([] if made is not None else [f"br label {n}slow", f"{label}slow:"]),
        f"{n}s = call i64 {pointer}({passed})",
        f"{n}fp = inttoptr i64 {values['flags']} to ptr",
        f"{n}f = load i64, ptr {n}fp",
        f"store i64 {n}f, ptr %fp.flags",
        f"br label {n}",
        f"{label}:",
    ]
    if made is None:
        return [*lines, f"{result} = add i64 {n}s, 0"]
    return [*lines, f"{result} = phi i64 [ {bits}, {n}made ], [ {n}s, {n}slow ]"]
