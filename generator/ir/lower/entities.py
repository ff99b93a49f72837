"""The family's named things, elaborated for one target: what a name outside all scopes stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from generator.ir.lower.family import Family
from generator.ir.lower.report import Report
from generator.ir.lower.scope import Number
from generator.ir.nodes import Expr, Local
from generator.language import syntax as s
from generator.language.source import Pos
from generator.model.target import ContextVariable, Register, Trap


@dataclass(frozen=True, slots=True)
class Window:
    """Entries of a windowed file: entry i of the current window is entry (pointer * stride + i) mod total."""

    pointer: str
    stride: int
    total: int
    visible: int


@dataclass(slots=True)
class StateElement:
    """A register or register file. `width` is what behaviours see (1 for a lazy flag)."""

    model: Register
    width: int
    item: s.Node
    window: Window | None = None

    @property
    def count(self) -> int | None:
        return self.window.visible if self.window is not None else self.model.count


@dataclass(slots=True)
class ContextEntity:
    """A decode context, prefix variable or feature. `stepped`: it is also a state element of that name."""

    name: str
    width: int
    stepped: bool
    item: s.ContextItem | None
    model: ContextVariable | None = None
    domain: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class EnumMember:
    enum: str
    width: int
    value: int


@dataclass(slots=True)
class EnumEntity:
    name: str
    width: int
    members: dict[str, EnumMember]


@dataclass(slots=True)
class SharedFunction:
    """A `shared fn`, or a bank's access function: called, not inlined."""

    name: str
    parameters: tuple[Local, ...]
    results: tuple[int, ...]
    item: s.Node


@dataclass(frozen=True, slots=True)
class Special:
    """`next_pc` or `opcode_bits`."""

    name: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """A member's name that several enums have."""

    enums: tuple[str, ...]


Entity: TypeAlias = (
    Number
    | StateElement
    | ContextEntity
    | EnumMember
    | Ambiguous
    | Special
    | s.ViewItem
    | s.FnItem
    | SharedFunction
)


@dataclass
class Elaboration:
    """Everything that lowering a behaviour looks up, and where it puts what it finds."""

    family: Family
    report: Report
    params: Mapping[str, int]
    entities: dict[str, Entity] = field(default_factory=dict)
    enums: dict[str, EnumEntity] = field(default_factory=dict)
    stepped: dict[str, Register] = field(default_factory=dict)
    traps: dict[str, Trap] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    used_features: dict[str, int] = field(default_factory=dict)
    pc_width: int = 0
    little: Expr | None = None
    simple_functions: dict[int, bool] = field(default_factory=dict)
    memory_questions: dict[Pos, dict[str, bool]] = field(default_factory=dict)
    """Where `x.mem` stands: for each operand class that x is there, whether some case of it is in memory."""

    @property
    def little_endian(self) -> bool:
        return "be" not in self.family.isa.flags
