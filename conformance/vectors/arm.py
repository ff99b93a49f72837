"""A64 state rows (valgrind's integer tests): registers by the order in which the source names them."""

from __future__ import annotations

import re

from conformance.vectors.machine import Place, VectorMachine
from conformance.vectors.reader import Row
from conformance.vectors.states import Case, StateFormat

CODE = 0x10000
_VALUE = re.compile(r"(rd|rm|rn|ra|cin|nzcv) ([0-9a-f]+)")
_REGISTER = re.compile(r"\b([xw])(\d+)\b")
FLAGS = (("n", 31), ("z", 30), ("c", 29), ("v", 28))


class A64(StateFormat):
    """`res` tells rd, the inputs rm, rn, ra in source order, the carry in (cin), and the flags
    after (nzcv).
    """

    def machine(self) -> VectorMachine:
        return VectorMachine(self.setup, CODE, 0x10000)

    def case(self, row: Row) -> Case | str:
        if "bytes" not in row:
            return "no bytes"
        values = {name: int(text, 16) for name, text in _VALUE.findall(row.get("res", ""))}
        if not row["src"].endswith("/integer") or "rd" not in values or ";" in row["asm"]:
            return "other tests"
        numbers = [int(number) for _, number in _REGISTER.findall(row["asm"])]
        if not numbers or "sp" in row["asm"] or "[" in row["asm"]:
            return "hidden inputs"
        registers = {Place("c"): values.get("cin", 0)}
        inputs = [values[name] for name in ("rm", "rn", "ra") if name in values]
        for number, value in zip(numbers[1:], inputs, strict=False):
            registers[Place("x", number)] = value
        final = {Place("x", numbers[0]): (values["rd"], -1)}
        final.update(
            {Place(name): (values["nzcv"] >> bit & 1, -1) for name, bit in FLAGS if "nzcv" in values}
        )
        return Case(CODE, bytes.fromhex(row["bytes"]), registers, {}, final)
