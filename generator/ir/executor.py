"""Executors and decision trees: what specialising a target's forms results in (`generator.ir.specialise`).

An **executor** is a behaviour without decisions. When an instruction is decoded, its form's decision tree
picks an executor and the values of the executor's **slots**; both are written into a **record**: the
executor's number (u16 at offset 0), then the slots. Running a program is running along records.

Residual bodies are ordinary IR (`generator.ir.nodes`) in which ``Field(width, "3")`` means slot number 3:

* as a value: the number in the slot, zero-extended or cut to `width`;
* as an index, in ``ReadReg(width, "", Field(16, "3"))`` and ``WriteReg("", Field(16, "3"), value)``: the
  register whose byte offset in the CPU block is in the slot;
* as the target of a `Goto`: the record to go on with (a slot of kind "target").

No `Context`, `Pc` or `NextPc` is left, and no decode-time condition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from generator.ir.effects import Effects
from generator.ir.nodes import Block, Expr
from generator.model.target import Span

SlotKind: TypeAlias = Literal["register", "number", "target", "skip"]
Storage: TypeAlias = Literal["u16", "i16", "i32", "i64"]

STORAGE_BYTES: dict[Storage, int] = {"u16": 2, "i16": 2, "i32": 4, "i64": 8}


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a record.

    register: u16, byte offset of a register in the CPU block. number: i16, i32 or i64, sign-extended when
    read, then cut to `width` bits (so the decoder stores the low bits of the value). target: i64, address of
    the record of a jump's target. skip: i16, size in bytes of the record that follows (guards).
    """

    kind: SlotKind
    storage: Storage
    offset: int
    """Bytes from the start of the record."""
    width: int
    """Of a number, in bits (up to 64); 16 for registers; the program counter's for targets."""


@dataclass(frozen=True, slots=True)
class Executor:
    """One compiled behaviour, shared by all instructions that mean the same."""

    number: int
    """Its op in records: `generator.emit.layout.FIRST_EXECUTOR` and up."""
    name: str
    """A Python identifier, unique in the target, from the plainest form that uses it."""
    slots: tuple[Slot, ...]
    size: int
    """Bytes of its record, a multiple of 8."""
    body: Block
    locals: tuple[str, ...]
    """What the first of its instructions calls the body's locals, which are named v0, v1, ..."""
    pc: int | None
    """The number slot that holds its address, where something needs that."""
    next_pc: int | None
    """The number slot that holds the address behind it, where it may end a block by going on there."""
    effects: Effects
    guard: bool
    """It decides whether the record that follows is executed: its body ends in ``Skip(condition)``."""
    users: tuple[str, ...]
    """Names of the forms that use it, the one that names it first."""
    span: Span
    """Where that one is written."""


@dataclass(frozen=True, slots=True)
class RegisterValue:
    """Fills a register slot: entry `index` (decode-time) of the file `register`.

    An `index` equal to the file's zero register means the file's zero entry (`write=False`) or the sink
    (`write=True`).
    """

    register: str
    index: Expr
    write: bool


@dataclass(frozen=True, slots=True)
class NumberValue:
    """Fills a number slot: a decode-time expression of up to 64 bits."""

    value: Expr


@dataclass(frozen=True, slots=True)
class TargetValue:
    """Fills a target slot: the program counter to go on at, decode-time."""

    target: Expr


@dataclass(frozen=True, slots=True)
class SkipValue:
    """Fills a skip slot: the size of the record behind the guard's."""


SlotValue: TypeAlias = RegisterValue | NumberValue | TargetValue | SkipValue


@dataclass(frozen=True, slots=True)
class Leaf:
    """The end of a decision: the executor's number and what goes into its slots, in order.

    A leaf with ``executor == NOTHING`` stands for an instruction that does nothing (for guards: that always
    executes).
    """

    executor: int
    values: tuple[SlotValue, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A decision on a decode-time condition (1 bit)."""

    condition: Expr
    then: Tree
    otherwise: Tree


Tree: TypeAlias = Node | Leaf


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """How one variant of a form is decoded: the guard's record, if it has one, then the body's."""

    form: int
    """Position in `Target.forms`."""
    variant: int
    """Position in its `Form.variants`."""
    guard: Tree | None
    body: Tree


@dataclass(frozen=True, slots=True)
class Plan:
    """A target's executors, in order of their numbers, and its variants' decision trees, in the order of the
    forms.
    """

    executors: tuple[Executor, ...]
    variants: tuple[VariantPlan, ...]
    record_size: int | None
    """The one size of all records, for targets with delay slots."""


NOTHING = 0
"""Not an executor's number: see `Leaf`."""
