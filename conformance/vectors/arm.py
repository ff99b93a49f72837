"""State rows of Arm (valgrind's integer tests): registers by the order in which the source names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from conformance.vectors.machine import Place, VectorMachine
from conformance.vectors.reader import Row
from conformance.vectors.states import Case, StateFormat

CODE: Final = 0x10000
FLAGS: Final = {"n": 31, "z": 30, "c": 29, "v": 28}
INPUTS: Final = ("rm", "rn", "rs", "ra")
_VALUE = re.compile(r"(rd2?|rm|rn|rs|ra|cin|carryin|c:v-in|nzcv|cpsr) (?:0x)?([0-9a-f]+)")


class Printed(StateFormat):
    """`asm`, and `res` as the programs print it: rd (and rd2), the inputs rm, rn, rs or ra in source order,
    the carry in, and the flags after (nzcv or cpsr).

    `tests`: the programs; `registers`: how the source names registers; `file`: their name in the model.
    """

    tests: ClassVar[tuple[str, ...]]
    registers: ClassVar[re.Pattern[str]]
    file: ClassVar[str]
    flags: ClassVar[Mapping[str, int]] = FLAGS
    compares: ClassVar[tuple[str, ...]] = ("cmp", "cmn", "tst", "teq", "ccm")
    """Instructions without a destination."""
    modifies: ClassVar[tuple[str, ...]] = ("bfi", "bfxil", "bfm", "movk")
    """Instructions whose destination is an input that isn't printed."""

    def machine(self) -> VectorMachine:
        return VectorMachine(self.setup, CODE, 0x10000)

    def case(self, row: Row) -> Case | str:
        if "bytes" not in row:
            return "no bytes"
        values = {name: int(text, 16) for name, text in _VALUE.findall(row.get("res", ""))}
        asm: str = row["asm"]
        if not row["src"].endswith(self.tests) or "rd" not in values or ";" in asm:
            return "other tests"
        numbers = [self.number(name) for name in self.registers.findall(asm)]
        if not numbers or None in numbers or "[" in asm or asm.startswith(self.modifies):
            return "hidden inputs"
        outputs = [name for name in ("rd", "rd2") if name in values]
        if asm.startswith(self.compares):
            outputs = []
        inputs = [values[name] for name in INPUTS if name in values]
        sources = numbers[len(outputs) :]
        if len(sources) > len(inputs):
            return "hidden inputs"
        registers = self.start(values)
        given: dict[int | None, int] = {}
        for number, value in zip(sources, inputs, strict=False):
            if given.setdefault(number, value) != value:
                return "hidden inputs"
            registers[Place(self.file, number)] = value
        final = {
            Place(self.file, number): (values[name], -1)
            for number, name in zip(numbers, outputs, strict=False)
        }
        after = values.get("nzcv", values.get("cpsr"))
        if after is not None:
            final |= {Place(name): (after >> bit & 1, -1) for name, bit in self.flags.items()}
        thumb = row["mode"].startswith("t32")
        return Case(
            CODE, bytes.fromhex(row["bytes"]), registers, {}, final, contexts={"thumb": 1} if thumb else {}
        )

    def start(self, values: Mapping[str, int]) -> dict[Place, int]:
        """The flags before."""
        return {Place("c"): values.get("cin", values.get("carryin", 0))}

    @staticmethod
    def number(name: str) -> int | None:
        """A register's number; None for one that isn't printed."""
        return int(name[1:]) if name[1:].isdigit() else None


class A64(Printed):
    """none/tests/arm64."""

    tests = ("/integer",)
    registers = re.compile(r"\b([xw]\d+|w?sp|[xw]zr)\b")
    file = "x"


class A32(Printed):
    """none/tests/arm: A32, and T32 that starts with N and Z set."""

    tests = ("/v6intARM", "/v6intThumb", "/v6media")
    registers = re.compile(r"\b(r\d+|sp|lr|pc|ip|fp|sl)\b")
    file = "r"
    flags: ClassVar[Mapping[str, int]] = {**FLAGS, "q": 27}
    modifies = ("bfi", "bfc", "movt", "umlal", "smlal", "umaal")

    alone: ClassVar[tuple[str, ...]] = ("mov", "mvn", "neg", "rsb", "sxt", "uxt", "rev", "clz", "rbit")
    """Instructions of two operands that don't read the first."""

    def case(self, row: Row) -> Case | str:
        asm: str = row["asm"]
        if asm.count(",") == 1 and not asm.startswith((*self.alone, *self.compares)):
            return "hidden inputs"  # adds r1, r2: the destination is the first source
        found = super().case(row)
        if isinstance(found, Case) and row["mode"].startswith("t32"):
            found.registers[Place("t")] = 1
        return found

    def start(self, values: Mapping[str, int]) -> dict[Place, int]:
        if "c:v-in" not in values:
            return super().start(values)
        pair = values["c:v-in"]
        return {Place("n"): 1, Place("z"): 1, Place("c"): pair >> 1, Place("v"): pair & 1}
