"""The compiled library gives what the reference gives: every function, format, mode and policy."""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

import pytest

from runtime.softfloat import policy as p
from runtime.softfloat import reference
from runtime.softfloat.symbols import SYMBOLS, WIDTHS, Symbol
from tests.runtime.softfloat.operands import POLICIES, operands, specials

UNARY = [symbol for symbol in SYMBOLS.values() if symbol.operands in (("a",), ("a", "rm"))]
BINARY = [
    symbol for symbol in SYMBOLS.values() if symbol.operands[:2] == ("a", "b") and "c" not in symbol.operands
]
FUSED = [symbol for symbol in SYMBOLS.values() if "c" in symbol.operands]


def check(call: Any, symbol: Symbol, policy: int, values: list[int]) -> None:
    """One case; the message of a failure can be pasted into Python."""
    want = reference.OPERATIONS[symbol.operation](policy, symbol.width, *values, *symbol.constants)
    got = call(policy, *values)
    if got != want:
        arguments = ", ".join(f"{value:#x}" for value in (policy, *values))
        pytest.fail(
            f"{symbol.name}({arguments}) gives {got[0]:#x}, flags {got[1]}; not {want[0]:#x} with {want[1]}"
        )


def test_results_fit_their_width(compiled: Any) -> None:
    """The result width that the table states is the real one, and a wider claim would be noticed."""
    rng = Random(1)
    seen = dict.fromkeys(SYMBOLS, 0)
    for symbol in SYMBOLS.values():
        call = compiled.call(symbol.name)
        for _ in range(400):
            seen[symbol.name] |= call(p.X86, *operands(rng, symbol))[0]
        assert seen[symbol.name] < 1 << symbol.result_width, symbol.name
    too_wide = [name for name, bits in seen.items() if not bits >> (SYMBOLS[name].result_width - 1)]
    # An unsigned integer never becomes a negative number.
    assert all("_from_u" in name for name in too_wide), too_wide


@pytest.mark.parametrize("symbol", SYMBOLS.values(), ids=SYMBOLS.keys())
def test_random(compiled: Any, scale: int, symbol: Symbol) -> None:
    rng = Random(symbol.name)
    call = compiled.call(symbol.name)
    count = 6_000 if symbol in FUSED or symbol.operation in ("add", "sub", "mul", "div", "sqrt") else 1_000
    for _ in range(count * scale):
        check(call, symbol, rng.choice(POLICIES), operands(rng, symbol))


@pytest.mark.parametrize("symbol", BINARY, ids=lambda symbol: symbol.name)
def test_pairs_of_specials(compiled: Any, symbol: Symbol) -> None:
    """The whole cross product of special values; modes and policies in turn."""
    call = compiled.call(symbol.name)
    modes = [[rm] for rm in p.ROUNDING_MODES] if "rm" in symbol.operands else [[]]
    settings = list(product(POLICIES, modes))
    turn = 0
    for a, b in product(specials(symbol.width), repeat=2):
        for _ in range(3):
            policy, rm = settings[turn % len(settings)]
            check(call, symbol, policy, [a, b, *rm])
            turn += 1


@pytest.mark.parametrize("symbol", FUSED, ids=lambda symbol: symbol.name)
def test_triples_of_specials(compiled: Any, symbol: Symbol) -> None:
    call = compiled.call(symbol.name)
    settings = list(product(POLICIES, p.ROUNDING_MODES))
    for turn, (a, b, c) in enumerate(product(specials(symbol.width), repeat=3)):
        policy, rm = settings[turn * 7 % len(settings)]
        check(call, symbol, policy, [a, b, c, rm])


@pytest.mark.parametrize("symbol", UNARY, ids=lambda symbol: symbol.name)
def test_specials(compiled: Any, symbol: Symbol) -> None:
    """Special values in every mode with every policy."""
    call = compiled.call(symbol.name)
    modes = [[rm] for rm in p.ROUNDING_MODES] if "rm" in symbol.operands else [[]]
    for a, policy, rm in product(specials(symbol.width), POLICIES, modes):
        check(call, symbol, policy, [a, *rm])


@pytest.mark.parametrize("symbol", [s for s in UNARY if s.width == 16], ids=lambda symbol: symbol.name)
def test_all_of_binary16(compiled: Any, scale: int, symbol: Symbol) -> None:
    """Every encoding, in one mode with one policy each.

    In a full run, in all modes with two policies; in a quick one, the integers' widths share the encodings.
    """
    call = compiled.call(symbol.name)
    modes = [[rm] for rm in p.ROUNDING_MODES] if "rm" in symbol.operands else [[]]
    settings = list(product(POLICIES, modes))
    in_full = list(product((p.RISCV, p.ARM | p.FLUSH_INPUTS | p.FLUSH_OUTPUTS), modes))
    first, step = 0, 1
    if scale == 1 and symbol.operation == "to_integer":
        first, step = symbol.constants[0].bit_length() - 4, 4
    for a in range(first, 1 << 16, step):
        for policy, rm in in_full if scale > 1 else [settings[a % 59 % len(settings)]]:
            check(call, symbol, policy, [a, *rm])


@pytest.mark.parametrize("width", WIDTHS)
def test_halfway_products_and_quotients(compiled: Any, width: int) -> None:
    """Results in, just below and just above the middle between two numbers, in every mode."""
    form = reference.FORMATS[width]
    one = form.max_exponent << form.fraction_bits
    mul = SYMBOLS[f"sf_f{width}_mul"]
    call = compiled.call(mul.name)
    inexact = 0
    for low in range(1, 64):
        # (1 + low * u) * (1 + quiet bit) ends in a half unit where low is odd.
        for a in (one + low, one + low + form.sign_bit):
            for rm in p.ROUNDING_MODES:
                values = [a, one + form.quiet_bit, rm]
                check(call, mul, p.RISCV, values)
                inexact += call(p.RISCV, *values)[1]
    assert inexact == 2 * 32 * len(p.ROUNDING_MODES)
