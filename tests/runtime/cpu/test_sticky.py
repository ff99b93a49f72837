"""What templates do with floating-point flags: read off their texts, believed only where that is simple."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.cpu.translator.sticky import gathers
from runtime.cpu.translator.template import Template, load_templates

CALL = "\x07sf_f64_add\x04%\x01r\x04\x01fp1\x04i64 0\x06"
FLAGS = "%\x01f = load i64, ptr %fp.flags"
GATHER = ("%\x01o = load i64, ptr %g80, align 8", "%\x01s = or i64 %\x01o, %\x01f")
STORE = "store i64 %\x01s, ptr %g80, align 8"
NEXT = "\x02end next\x03"
TRAP = (
    "%\x01m = and i64 %\x01f, \x02n2\x03",
    "%\x01z = icmp eq i64 %\x01m, 0",
    "br i1 %\x01z, label %\x01go, label %\x01trap",
    "\x01go:",
    NEXT,
    "\x01trap:",
    "\x02end leave\x03",
)


def template(*lines: str) -> Template:
    return Template(
        8, 16, "\n".join(lines), ((2, "i16"),), (), (), (80,), (80,), ("leave", "next"), (), False, 0, 0,
        ("sf_f64_add",),
    )  # fmt: skip


def test_flags_that_gather() -> None:
    found = gathers(template(CALL, FLAGS, *GATHER, STORE, NEXT))
    assert found is not None and found.place == 80
    assert found.added({2: 0}) == 1
    assert found.added({2: 80}) is None  # a slot names the register itself


def test_what_is_added_is_computed() -> None:
    shifted = ("%\x01a = shl i64 %\x01f, 5", "%\x01b = and i64 %\x01a, \x02n2\x03")
    gather = (GATHER[0], "%\x01s = or i64 %\x01b, %\x01o")
    found = gathers(template(CALL, FLAGS, *shifted, *gather, STORE, NEXT))
    assert found is not None
    assert (found.added({2: -1}), found.added({2: 31})) == (32, 0)


def test_traps() -> None:
    """Inexact may be assumed where it leads to no trap; overflow's trap (4) doesn't matter for that."""
    found = gathers(template(CALL, FLAGS, *GATHER, STORE, *TRAP))
    assert found is not None
    assert (found.added({2: 4}), found.added({2: 1})) == (1, None)


@pytest.mark.parametrize(
    "lines",
    [
        (CALL, FLAGS, "store i64 %\x01f, ptr %g80, align 8", NEXT),  # not gathered
        (CALL, FLAGS, *GATHER, STORE, "store i64 %\x01f, ptr %g88, align 8", NEXT),  # and kept elsewhere
        (CALL, FLAGS, *GATHER, STORE, "store i64 0, ptr %g80, align 8", NEXT),  # and lowered again
        (CALL, FLAGS, *GATHER, "store i64 %\x01s, ptr %g88, align 8", NEXT),  # another register
        (CALL, FLAGS, "%\x01x = mul i64 %\x01f, 3", *GATHER, STORE, NEXT),  # something else is made of them
        (CALL, CALL, FLAGS, *GATHER, STORE, NEXT),  # whose?
        (CALL, NEXT),
    ],
)
def test_anything_else_is_not_believed(lines: tuple[str, ...]) -> None:
    assert gathers(template(*lines)) is None


def test_templates_of_a_target(built: Callable[[str], Path]) -> None:
    """RISC-V's arithmetic gathers in fflags, whose bit 0 is inexact (Unprivileged Specification, 20.2)."""
    templates = load_templates(built("riscv64"))
    every = [templates.get(op) for op in range(templates.first, templates.first + 400)]
    names = ("f64_add", "f64_mul", "f64_fma", "f32_div", "f32_sqrt", "f64_to_i64")
    for name in names:
        using = [each for each in every if each is not None and f"sf_{name}" in each.calls]
        assert using
        for each in using:
            found = gathers(each)
            assert found is not None and found.added({at: 0 for at, _ in each.slots}) == 1
