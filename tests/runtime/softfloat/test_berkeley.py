"""The compiled library and the reference against Berkeley SoftFloat, an independent implementation.

It judges what the host can't: binary16 arithmetic, ties away from zero, tininess before rounding. Its NaNs
are those of one processor, so of a NaN only the fact and the flags are compared; out-of-range integers
likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from random import Random
from typing import Any

import pytest

from runtime.softfloat import policy as p
from runtime.softfloat import reference
from runtime.softfloat.symbols import SYMBOLS, Symbol
from tests.runtime.softfloat.operands import operands, specials

NAMES = {"add": "add", "sub": "sub", "mul": "mul", "div": "div", "sqrt": "sqrt", "fma": "mul_add"}
PREDICATES = {
    "eq_quiet": "eq",
    "eq_signaling": "eq_signaling",
    "lt_quiet": "lt_quiet",
    "lt_signaling": "lt",
    "le_quiet": "le_quiet",
    "le_signaling": "le",
}
MODES = [p.RNE, p.RTZ, p.RDN, p.RUP, p.RMM]
POLICIES = [p.RISCV, p.RISCV | p.TININESS_BEFORE_ROUNDING]


def _is_nan(width: int, a: int) -> bool:
    form = reference.FORMATS[width]
    return a & ~form.sign_bit > form.infinity


class Berkeley:
    """Calls the peer with encodings instead of its own objects."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.floats = {16: module.Float16, 32: module.Float32, 64: module.Float64}
        self.modes = [
            module.RoundingMode.NEAR_EVEN,
            module.RoundingMode.MIN_MAG,
            module.RoundingMode.MIN,
            module.RoundingMode.MAX,
            module.RoundingMode.NEAR_MAX_MAG,
        ]
        kinds = module.ExceptionFlag
        self.flags = {
            kinds.INEXACT: p.INEXACT,
            kinds.UNDERFLOW: p.UNDERFLOW,
            kinds.OVERFLOW: p.OVERFLOW,
            kinds.INFINITE: p.DIVIDE_BY_ZERO,
            kinds.INVALID: p.INVALID,
        }

    def function(self, symbol: Symbol) -> Callable[[int, list[int], int], tuple[int, int]] | None:
        """The peer's function, or None if it has none."""
        short = symbol.name.split("_", 2)[2]
        f = f"f{symbol.width}"
        argument: Callable[[int], Any] = self._float(symbol.width)
        with_mode = False
        exact = True
        if short in NAMES:
            name = f"{f}_{NAMES[short]}"
        elif short in PREDICATES:
            name = f"{f}_{PREDICATES[short]}"
        elif short.startswith("round_to_integral"):
            name, with_mode, exact = f"{f}_round_to_int", True, short.endswith("exact")
        elif symbol.operation == "to_integer" and symbol.constants[0] >= 32:
            name, with_mode = f"{f}_to_{'i' if symbol.constants[1] else 'ui'}{symbol.constants[0]}", True
        elif symbol.operation == "from_integer":
            bits, signed = symbol.constants
            name = f"{'i' if signed else 'ui'}{bits}_to_{f}"
            kind = getattr(self.module, f"{'I' if signed else 'UI'}nt{bits}")

            def argument(x: int) -> Any:
                return kind.from_bytes(x.to_bytes(bits // 8, "big"))

        elif symbol.operation == "convert":
            name = f"{f}_to_f{symbol.constants[0]}"
        else:
            return None
        called = getattr(self.module, name)
        module = self.module

        def function(policy: int, values: list[int], rm: int) -> tuple[int, int]:
            before = policy & p.TININESS_BEFORE_ROUNDING
            module.set_tininess_mode(
                module.TininessMode.BEFORE_ROUNDING if before else module.TininessMode.AFTER_ROUNDING
            )
            module.set_rounding_mode(self.modes[rm])
            module.set_exception_flags(module.ExceptionFlag(0))
            arguments = [argument(value) for value in values]
            result = called(*arguments, self.modes[rm], exact) if with_mode else called(*arguments)
            raised = int(module.get_exception_flags())
            flags = sum(flag for kind, flag in self.flags.items() if int(kind) & raised)
            return (
                int(result) if isinstance(result, bool) else int.from_bytes(result.to_bytes(), "big")
            ), flags

        return function

    def _float(self, width: int) -> Callable[[int], Any]:
        kind = self.floats[width]
        return lambda a: kind.from_bytes(a.to_bytes(width // 8, "big"))


@pytest.fixture(scope="session")
def berkeley(require_module: Any) -> Berkeley:
    return Berkeley(require_module("softfloatpy"))


COMPARED = [
    symbol
    for symbol in SYMBOLS.values()
    if symbol.operation in NAMES
    or symbol.name.split("_", 2)[2] in PREDICATES
    or symbol.operation in ("round_to_integral", "from_integer", "convert")
    or (symbol.operation == "to_integer" and symbol.constants[0] >= 32)
]


def _cases(symbol: Symbol, count: int) -> list[list[int]]:
    """Random operands, and of the cross product of the special values up to as many."""
    rng = Random(symbol.name)
    names = [name for name in symbol.operands if name != "rm"]
    cases = [operands(rng, symbol)[: len(names)] for _ in range(count)]
    if names != ["x"]:
        pairs = [list(values) for values in product(specials(symbol.width), repeat=len(names))]
        cases += rng.sample(pairs, min(len(pairs), count))
    return cases


@pytest.mark.parametrize("symbol", COMPARED, ids=lambda symbol: symbol.name)
def test_agrees(berkeley: Berkeley, compiled: Any, scale: int, symbol: Symbol) -> None:
    peer = berkeley.function(symbol)
    assert peer is not None
    call = compiled.call(symbol.name)
    for turn, values in enumerate(_cases(symbol, 400 * scale)):
        rm = MODES[turn % 5] if "rm" in symbol.operands else p.RNE
        policy = POLICIES[turn % 2]
        want, want_flags = peer(policy, values, rm)
        arguments = [*values, rm] if "rm" in symbol.operands else values
        got, flags = reference.OPERATIONS[symbol.operation](
            policy, symbol.width, *arguments, *symbol.constants
        )
        assert (got, flags) == call(policy, *arguments)
        case = f"{symbol.name}({policy:#x}, {', '.join(map(hex, arguments))})"
        assert flags == want_flags, f"{case}: flags {flags}, the peer's {want_flags}"
        if symbol.operation == "to_integer":
            same = got == want or flags == p.INVALID
        elif symbol.operation == "compare":
            same = got == want
        else:
            width = symbol.result_width
            same = got == want or (_is_nan(width, got) and _is_nan(width, want))
        assert same, f"{case}: {got:#x}, the peer's {want:#x}"
