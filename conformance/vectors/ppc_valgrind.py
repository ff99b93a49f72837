"""PowerPC state rows of valgrind's integer tests: lines ``addo 00000000, ffffffff => ffffffff (CR XER)``."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final

from conformance.vectors.machine import Place, VectorMachine
from conformance.vectors.ppc import CODE, places
from conformance.vectors.reader import Row
from conformance.vectors.states import Case, StateFormat
from runtime.assembly.assembler import Assembler
from runtime.assembly.values import AssemblyError

_LINE = re.compile(
    r"(?P<mnemonic>[a-z]+\.?) (?P<operands>[0-9a-f, ]+) => (?P<result>[0-9a-f]+)"
    r" \((?P<cr>[0-9a-f]{8}) (?P<xer>[0-9a-f]{8})\)$"
)
TESTS: Final = ("/jm-int", "/jm-int_other", "/jm-int-sh_algebraic")
SIGNED: Final = frozenset(("addi", "addic", "addic.", "addis", "mulli", "subfic", "cmpwi", "cmpdi"))
UNSIGNED: Final = frozenset(
    ("ori", "oris", "xori", "xoris", "andi.", "andis.", "cmplwi", "cmpldi"),
)
ROTATES: Final = frozenset(("rlwinm", "rlwnm", "rldcl", "rldcr", "rldic", "rldicl", "rldicr"))
"""Their last operands are decimal numbers."""
HIDDEN: Final = ("cr", "rlwimi", "rldimi", "srawi", "sradi", "lswx", "stswx")
"""Instructions with inputs that the lines don't tell, or tell wrongly: the destination's old value, the
condition register, the amount.
"""
CARRYING: Final = {
    "adde": (0, 0),
    "subfe": (1, 0),
    "addme": (0, 1),
    "addze": (0, 0),
    "subfme": (1, 1),
    "subfze": (1, 0),
}
"""Instructions that add the carry: whether the first source is complemented, and what is subtracted."""
RESULT, FIRST, SECOND = 17, 14, 15
"""The registers that the programs use."""


class Valgrind(StateFormat):
    """none/tests/ppc32 and ppc64. The carry that an instruction took isn't told: it is what gives the result,
    if 0 or 1 does.
    """

    def machine(self) -> VectorMachine:
        return VectorMachine(self.setup, CODE, 0x10000)

    @cached_property
    def _assembler(self) -> Assembler:
        return Assembler(self.setup.syntax)

    def case(self, row: Row) -> Case | str:
        width = 64 if self.setup.target == "ppc64" else 32
        if (row["mode"] != "32be") != (width == 64):
            return "other mode"
        match = _LINE.match(row.get("line", ""))
        if match is None or not row["src"].endswith(TESTS):
            return "other tests"
        mnemonic = match["mnemonic"]
        if mnemonic.startswith(HIDDEN):
            return "hidden inputs"
        words = match["operands"].split(", ")
        amounts = words[1:] if mnemonic.rstrip(".") in ROTATES else []
        if mnemonic.rstrip(".") in ("rlwnm", "rldcl", "rldcr"):
            amounts = words[2:]
        texts, sources = [], []
        for register, word in zip((FIRST, SECOND), words[: len(words) - len(amounts)], strict=False):
            if register == SECOND and mnemonic in SIGNED | UNSIGNED:
                value = int(word, 16)
                texts.append(str(value - 0x10000 if mnemonic in SIGNED and value >> 15 else value))
                continue
            texts.append(f"r{register}")
            sources.append(int(word, 16))
        compares = mnemonic.startswith("cmp")
        target = "cr2" if compares else f"r{RESULT}"
        try:
            code = self._assembler.assemble(f"{mnemonic} {', '.join([target, *texts, *amounts])}", CODE)
        except AssemblyError:
            return "not described"
        registers = {Place("r", n): v for n, v in zip((FIRST, SECOND), sources, strict=False)}
        result = int(match["result"], 16)
        name = mnemonic.rstrip(".").removesuffix("o")
        if name in CARRYING:
            registers[Place("ca")] = carry_taken(name, sources, result, width)
        final = told("xer", match["xer"])
        condition = told("cr", match["cr"])
        narrow = width == 64 and name in ("divw", "divwu", "mulhw", "mulhwu")  # the upper half is undefined
        if not impossible(name, sources, width):
            if not narrow:
                final |= condition
            if not compares:
                final[Place("r", RESULT)] = result, 0xFFFF_FFFF if narrow else -1
        return Case(CODE, code, registers, {}, final)


def told(name: str, text: str) -> dict[Place, tuple[int, int]]:
    """A printed register, for `Case.final`."""
    return {place: (value, -1) for place, value in (places(name, int(text, 16)) or {}).items()}


def carry_taken(name: str, sources: list[int], result: int, width: int) -> int:
    """The carry with which an instruction of `CARRYING` gives its result, or 0 if none does."""
    complemented, subtracted = CARRYING[name]
    mask = (1 << width) - 1
    total = (~sources[0] if complemented else sources[0]) + sum(sources[1:]) - subtracted
    return int(result - total & mask == 1)


def impossible(name: str, sources: list[int], width: int) -> bool:
    """Whether a division has no defined result (Power ISA Book I, 3.3.9)."""
    if not name.startswith("div"):
        return False
    bits = 32 if name.startswith("divw") else width
    dividend, divisor = (value & ((1 << bits) - 1) for value in sources)
    smallest = dividend == 1 << (bits - 1) and divisor == (1 << bits) - 1
    return divisor == 0 or (smallest and not name.endswith("u"))
