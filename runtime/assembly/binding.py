"""Fields, cases and values of one instruction, as the disassembler reads and the encoder writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.assembly.expressions import evaluate
from runtime.assembly.tables import Case, Form, Gather, Operand


@dataclass(slots=True)
class Bound:
    """An operand of a decoded instruction: the case that it is, and the fields of that case by name below
    it."""

    operand: Operand
    case: Case
    fields: dict[str, int]
    nested: dict[str, Bound]

    def value(self, surroundings: Mapping[str, int]) -> int | None:
        """The operand's value where it is known at decode time, else None. `surroundings`: contexts, pc,
        next_pc."""
        if self.case.value is None:
            return None
        return evaluate(self.case.value, {**surroundings, **self.fields})

    def register(self, surroundings: Mapping[str, int]) -> int | None:
        """The number of the register that the operand is, else None."""
        if not self.case.register_file or self.case.register_index is None:
            return None
        return evaluate(self.case.register_index, {**surroundings, **self.fields})


@dataclass(slots=True)
class Decoded:
    """One decoded instruction: `length` in bytes; `environment` has contexts, pc, next_pc and all fields by
    path."""

    form: Form
    length: int
    environment: dict[str, int]
    operands: dict[str, Bound]


def gather(word: int, pieces: Gather) -> int:
    """The field whose bits `pieces` place in `word`."""
    value = 0
    for place, width, low in pieces:
        value |= (word >> place & ((1 << width) - 1)) << low
    return value


def scatter(value: int, pieces: Gather) -> int:
    """The bits of a word that hold `value`: the inverse of `gather`."""
    word = 0
    for place, width, low in pieces:
        word |= (value >> low & ((1 << width) - 1)) << place
    return word


def covered(pieces: Gather) -> int:
    """A mask of the field's bits that `pieces` place somewhere."""
    mask = 0
    for _, width, low in pieces:
        mask |= ((1 << width) - 1) << low
    return mask
