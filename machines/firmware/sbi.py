"""The embedded SBI: its source for a width and a number of harts."""

from __future__ import annotations

import re
from importlib.resources import files

AREA = """\
        li      t0, PRESENT
        li      t1, HARTS
        bgeu    {hart}, t1, no_hart
        srl     t0, t0, {hart}
        andi    t0, t0, 1
        beqz    t0, no_hart
        la      t1, areas
        slli    t2, {hart}, AREA_SHIFT
        add     t1, t1, t2"""
"""`call_area REGISTER`: the area of a hart in t1; leaves with an error for a hart that isn't there."""


def source(width: int, harts: int) -> str:
    """``sbi.s`` for registers of `width` bits, and `harts` harts."""
    text = files("machines.firmware").joinpath("sbi.s").read_text()
    letter, word = ("d", 8) if width == 64 else ("w", 4)
    high = "srli    {register}, a0, 32" if width == 64 else "mv      {register}, a1"
    text = re.sub(r"\b([ls])x\b", rf"\1{letter}", text)
    text = re.sub(r"\b(\d+)\*WORD\b", lambda found: str(int(found[1]) * word), text)
    text = re.sub(r"\bHIGH    (\w+)", lambda found: high.format(register=found[1]), text)
    text = re.sub(r" +call_area (\w+)", lambda found: AREA.format(hart=found[1]), text)
    return f"PRESENT = {(1 << harts) - 1}\n" + text
