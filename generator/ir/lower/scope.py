"""What names stand for while behaviour is lowered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from generator.ir.lower.linear import LinearAddresses
from generator.ir.nodes import Expr, Local
from generator.language import syntax as s
from generator.language.source import Pos


@dataclass(frozen=True, slots=True)
class Number:
    """A constant without a width: a parameter, axis value or number column. `digits`: the width it was spelt
    with.
    """

    value: int
    digits: int | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """A cell of a row: an expression that is evaluated where it is named, or the name of a function."""

    expression: s.Expr


@dataclass(frozen=True, slots=True)
class Values:
    """Typed values: one, or a tuple's."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Mutable:
    """A `var`."""

    local: Local


class OperandCase(Protocol):
    """A case of an operand, as behaviours see it: its value is lowered among the case's own names."""

    @property
    def item(self) -> s.CaseNode: ...

    @property
    def scope(self) -> Scope: ...

    @property
    def condition(self) -> Expr: ...


class Operand(Protocol):
    """An operand, as behaviours see it; `operands.OperandUse` is it."""

    @property
    def item(self) -> s.OperandItem: ...

    @property
    def path(self) -> str: ...

    @property
    def fields(self) -> dict[str, RawField]: ...

    @property
    def declared(self) -> tuple[int, ...] | None: ...

    @property
    def cases(self) -> Sequence[OperandCase]: ...

    @property
    def known_values(self) -> dict[tuple[object, ...], tuple[Expr, ...]]: ...

    @property
    def has_value(self) -> bool: ...

    @property
    def kind(self) -> str: ...

    @property
    def linear(self) -> LinearAddresses | None: ...

    def memory_condition(self, at: Pos) -> Expr: ...


@dataclass(frozen=True, slots=True)
class Bound:
    """An operand of the instruction, or a nested one."""

    operand: Operand


@dataclass(frozen=True, slots=True)
class RawField:
    """A raw field. In texts it prints as its class says (`format`: an enum's name)."""

    value: Expr
    path: str
    format: str = ""


@dataclass(frozen=True, slots=True)
class Broken:
    """A name whose definition had a mistake: silently ends what depends on it."""


Binding: TypeAlias = Number | Column | Values | Mutable | Bound | RawField | Broken


@dataclass(slots=True)
class Scope:
    """Names of one block; unknown ones are looked up in `outer`, then among the family's."""

    outer: Scope | None = None
    names: dict[str, Binding] = field(default_factory=dict)
    places: dict[str, Pos] = field(default_factory=dict)

    def find(self, name: str) -> Binding | None:
        scope: Scope | None = self
        while scope is not None:
            found = scope.names.get(name)
            if found is not None:
                return found
            scope = scope.outer
        return None

    def all_names(self) -> Iterator[str]:
        scope: Scope | None = self
        while scope is not None:
            yield from scope.names
            scope = scope.outer

    def inner(self) -> Scope:
        return Scope(self)
