"""The language's floating-point built-ins on the runtime's reference arithmetic, for the evaluator."""

from __future__ import annotations

from generator.ir.evaluate import Builtin, Builtins
from generator.ir.lower.builtins import EXTENDED as EXTENDED_BUILTINS
from runtime.softfloat import reference, reference_extended
from runtime.softfloat.policy import FLUSH_INPUTS, FLUSH_OUTPUTS, POLICIES
from runtime.softfloat.symbols import EXTENDED


def _policy(name: str, mode: int) -> int:
    """A family's policy; `mode`: 1 denormal operands count as zeros, 2 tiny results become zeros."""
    flushed = (FLUSH_INPUTS if mode & 1 else 0) | (FLUSH_OUTPUTS if mode & 2 else 0)
    return POLICIES[name] | flushed


def _operation(name: str) -> Builtin:
    return lambda policy, args: reference.call(
        f"sf_f{args[0]}_{name}", _policy(policy, args[-1]), *args[1:-1]
    )


def _integer(letter: str, to_float: bool) -> Builtin:
    def call(policy: str, args: tuple[int, ...]) -> tuple[int, ...]:
        width, bits = (args[0], args[1]) if to_float else (args[1], args[0])
        way = "from" if to_float else "to"
        return reference.call(f"sf_f{width}_{way}_{letter}{bits}", _policy(policy, args[-1]), *args[2:-1])

    return call


def _convert(policy: str, args: tuple[int, ...]) -> tuple[int, ...]:
    return reference.call(f"sf_f{args[1]}_to_f{args[0]}", _policy(policy, args[-1]), *args[2:-1])


def _classify(policy: str, args: tuple[int, ...]) -> tuple[int, ...]:
    return reference.call(f"sf_f{args[0]}_classify", POLICIES[policy], args[1])[:1]


def _extended(symbol: str) -> Builtin:
    """A function of the x87: the results that the language's built-in has."""
    count = len(EXTENDED_BUILTINS[symbol.removeprefix("sf_")].results)
    return lambda policy, args: reference_extended.call(symbol, *args)[:count]


BUILTINS: Builtins = {
    **{symbol.removeprefix("sf_"): _extended(symbol) for symbol in EXTENDED},
    **{f"f{name}": _operation(name) for name in ("add", "sub", "mul", "div", "sqrt")},
    "fma": _operation("fma"),
    "froundint": _operation("round_to_integral_exact"),
    "fmin": _operation("minimum_number"),
    "fmax": _operation("maximum_number"),
    **{f"f{name}": _operation(f"{name}_signaling") for name in ("eq", "lt", "le")},
    **{f"f{name}_q": _operation(f"{name}_quiet") for name in ("eq", "lt", "le")},
    "fcvt": _convert,
    "fclass": _classify,
    "f2s": _integer("i", False),
    "f2u": _integer("u", False),
    "s2f": _integer("i", True),
    "u2f": _integer("u", True),
}
