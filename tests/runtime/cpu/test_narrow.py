"""What is known of numbers of 32 bits in registers of 64 (`runtime.cpu.translator.narrow`)."""

from __future__ import annotations

from runtime.cpu.translator.narrow import (
    BOTH,
    SIGNED,
    UNSIGNED,
    facts,
    narrow_of,
    store,
    with_extensions,
)
from runtime.cpu.translator.template import Template

LOADS = "%\x01b = load i64, ptr %g\x02r2\x03, align 8\n%\x01c = load i64, ptr %g\x02r4\x03, align 8\n"
STORE = "store i64 %\x01d, ptr %g\x02r6\x03, align 8\n"
OR = LOADS + "%\x01d = or i64 %\x01c, %\x01b\n" + STORE
ADD_SHORT = (
    LOADS
    + "%\x01a = add i64 %\x01c, %\x01b\n%\x01s = shl i64 %\x01a, 32\n"
    + "%\x01d = ashr exact i64 %\x01s, 32\n"
) + STORE
MASK = LOADS + "%\x01d = and i64 %\x01c, 255\n" + STORE
SLOTS = {2: 8, 4: 16, 6: 24}


def template(text: str, op: int) -> Template:
    slots = ((2, "register"), (4, "register"), (6, "register"))
    text = f"\x01a:\n{text}\x02end next\x03\n"
    return Template(op, 8, text, slots, (2, 4), (6,), (), (), ("next",), (), False, 0, 0, ())


def test_what_operations_keep() -> None:
    both = narrow_of(template(OR, 1))
    assert both.wanted() == [0]
    assert both.held({8: SIGNED, 16: SIGNED}, SLOTS) == [SIGNED]
    assert both.held({8: SIGNED, 16: BOTH}, SLOTS) == [SIGNED]
    assert both.held({8: UNSIGNED, 16: BOTH}, SLOTS) == [UNSIGNED]
    assert both.held({8: UNSIGNED, 16: SIGNED}, SLOTS) == [0]
    assert both.held({8: SIGNED}, SLOTS) == [0]
    assert narrow_of(template(ADD_SHORT, 2)).held({}, SLOTS) == [SIGNED]
    assert narrow_of(template(MASK, 3)).held({}, SLOTS) == [BOTH]


def test_what_is_loaded_behind_a_store_is_not_known() -> None:
    text = STORE.replace("%\x01d", "7") + OR
    assert narrow_of(template(text, 4)).held({8: BOTH, 16: BOTH}, SLOTS) == [BOTH, 0]


def test_extensions_are_written_as_such() -> None:
    text = with_extensions(ADD_SHORT)
    assert "%\x01dlow = trunc i64 %\x01a to i32\n%\x01d = sext i32 %\x01dlow to i64\n" in text
    assert "ashr" not in text
    text = with_extensions("%\x01d = and i64 %\x01c, 4294967295\n")
    assert text == "%\x01dlow = trunc i64 %\x01c to i32\n%\x01d = zext i32 %\x01dlow to i64\n"
    assert with_extensions(MASK) == MASK


def test_a_store_extends_anew() -> None:
    assert store(OR, 0, 0) == STORE.rstrip("\n")
    assert "sext i32 %\x01d.low0 to i64" in store(OR, 0, SIGNED)
    assert "zext i32 %\x01d.low0 to i64" in store(OR, 0, UNSIGNED)


def test_facts_meet() -> None:
    """0 and 1 write register 24 and lead to 2, which puts it together with 8."""
    made, other, joins = (template(t, n) for n, t in ((5, ADD_SHORT), (6, OR), (7, OR)))
    slots = [SLOTS, SLOTS, {2: 8, 4: 24, 6: 32}]
    narrow = [narrow_of(t) for t in (made, other, joins)]
    written = [{24}, {24}, {32}]

    def held(followers: list[list[int]], entries: list[int]) -> list[int]:
        return facts(followers, entries, {8: BOTH}, narrow, slots, written)[2]

    assert held([[2], [2], []], [0]) == [SIGNED]
    assert held([[2], [2], []], [0, 1]) == [0]
    assert held([[2], [2], []], [0, 2]) == [0]
    assert held([[2], [2], [0]], [0]) == [SIGNED]
    assert held([[2], [2], [1]], [0]) == [0]
