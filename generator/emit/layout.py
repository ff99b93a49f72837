"""Where a target's registers lie in the CPU block.

Offsets count from the end of the block's fixed header (budget, exit reason, caches: `runtime.cpu.block`), so
they need no constant of the runtime. Every register, or entry of a file, has 8 bytes (16 for widths of 65 to
128 bits) in the host's byte order, zero-extended. The program counter is in the header.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from generator.model.target import Register, StateField, Target

FIRST_EXECUTOR = 8
"""Records with smaller op numbers are the engine's own (`runtime.cpu.block`: stub, link, stale, ...)."""

DELAY = "npc"
"""The context that makes delay slots; it is in the block's header."""

MAXIMUM_SIZE = 1 << 16
"""Records hold byte offsets as unsigned 16-bit numbers."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The placement of one target's state: byte offsets from the end of the block's header."""

    fields: tuple[StateField, ...]
    sink: int
    """Where writes to zero registers go: 16 bytes that nobody reads."""
    size: int
    """Bytes in all, a multiple of 64."""

    def field(self, register: str) -> StateField:
        """The field of the register named `register`; KeyError if there is none."""
        for field in self.fields:
            if field.register_name == register:
                return field
        raise KeyError(register)

    def digest(self) -> str:
        """A hash of the layout: blocks of two engines are interchangeable if theirs are equal."""
        rows = [(f.register_name, f.offset, f.stride, f.count) for f in self.fields]
        return hashlib.sha256(json.dumps([rows, self.sink, self.size]).encode()).hexdigest()


def stored_width(register: Register) -> int:
    """The width of what is stored: for a lazy flag, its definition's argument."""
    return register.lazy.argument.width if register.lazy is not None else register.width


def place(target: Target) -> Layout:
    """Lay out the registers of `target`, in the order of the spec.

    A file of n entries has n + 1: the last one always reads 0 and stands for "no register" in addresses; a
    file's zero register is an ordinary entry that nothing writes. Files come first: their offsets go into
    records. Decode contexts that instructions step have a place too: where execution stops, their values are
    written there.
    """
    fields: list[StateField] = []
    offset = 0
    for register in sorted(target.registers, key=lambda register: register.count is None):
        if register.name == "pc":
            continue
        stride = 8 if stored_width(register) <= 64 else 16
        offset = -(-offset // stride) * stride
        count = 1 if register.count is None else register.count
        fields.append(StateField(register_name=register.name, offset=offset, stride=stride, count=count))
        offset += stride * (count if register.count is None else count + 1)
    named = {field.register_name for field in fields}
    for context in target.contexts:
        if context.next is not None and context.name not in named | {DELAY}:
            fields.append(StateField(register_name=context.name, offset=offset, stride=8, count=1))
            offset += 8
    sink = -(-offset // 16) * 16
    size = -(-(sink + 16) // 64) * 64
    if size > MAXIMUM_SIZE:
        raise ValueError(f"{target.name}: the registers need {size} bytes; records reach {MAXIMUM_SIZE}")
    return Layout(tuple(fields), sink, size)
