"""Places: what can stand left of `=`. Reading a place is an expression, writing it emits statements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from generator.ir import build
from generator.ir.lower import lazy
from generator.ir.lower.draft import Draft
from generator.ir.lower.entities import StateElement
from generator.ir.lower.report import Mistake
from generator.ir.nodes import DECODE, Assign, Expr, If, Load, Local, ReadReg, Store, WriteReg, kind_of
from generator.language.source import Pos


class Place(ABC):
    """Something that has `width` bits and can be read; most can be written too."""

    width: int

    @abstractmethod
    def read(self, draft: Draft, at: Pos) -> Expr:
        """The value at this point of the body."""

    @abstractmethod
    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        """Emits the assignment of `value`, as wide as the place. Raises Mistake if it can only be read."""

    def for_update(self) -> Place:
        """This place, about to be read and then written."""
        return self

    @property
    def in_memory(self) -> bool:
        """Whether reading it is a memory access."""
        return False


@dataclass
class RegisterPlace(Place):
    element: StateElement
    index: Expr | None

    def __post_init__(self) -> None:
        self.width = self.element.model.width

    def read(self, draft: Draft, at: Pos) -> Expr:
        return ReadReg(self.width, self.element.model.name, self.index)

    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        draft.emit(WriteReg(self.element.model.name, self.index, value), at)


@dataclass
class LazyPlace(Place):
    """A one-bit register that is stored as its definition's argument."""

    element: StateElement
    definition: Expr
    argument: Local

    def __post_init__(self) -> None:
        self.width = 1

    def read(self, draft: Draft, at: Pos) -> Expr:
        stored = ReadReg(self.argument.width, self.element.model.name, None)
        return lazy.substitute(self.definition, self.argument, stored)

    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        stored = lazy.argument_for(self.definition, self.argument, value)
        if stored is None:
            raise Mistake(
                at, f"the definition of `{self.element.model.name}` never has one of its two values"
            )
        draft.emit(WriteReg(self.element.model.name, None, stored), at)


@dataclass
class LocalPlace(Place):
    local: Local

    def __post_init__(self) -> None:
        self.width = self.local.width

    def read(self, draft: Draft, at: Pos) -> Expr:
        return self.local

    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        draft.emit(Assign(self.local, value), at)


@dataclass
class ValuePlace(Place):
    """A value that is no place: it can only be read."""

    value: Expr
    why: str

    def __post_init__(self) -> None:
        self.width = self.value.width

    def read(self, draft: Draft, at: Pos) -> Expr:
        return self.value

    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        raise Mistake(at, f"{self.why} cannot be assigned")


@dataclass
class SlicePlace(Place):
    """Bits `low` and up of another place; writing them keeps the others."""

    base: Place
    low: int
    width: int

    def read(self, draft: Draft, at: Pos) -> Expr:
        return build.slice_(self.base.read(draft, at), self.low, self.width)

    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        if self.width == self.base.width:
            self.base.write(draft, value, at)
            return
        base = self.base.for_update()
        old = base.read(draft, at)
        above = self.low + self.width
        merged = value
        if self.low:
            merged = build.concat(merged, build.slice_(old, 0, self.low))
        if above < base.width:
            merged = build.concat(build.slice_(old, above, base.width - above), merged)
        base.write(draft, merged, at)

    def for_update(self) -> Place:
        return SlicePlace(self.base.for_update(), self.low, self.width)

    @property
    def in_memory(self) -> bool:
        return self.base.in_memory


@dataclass
class MovingSlicePlace(Place):
    """`width` bits from a bit on that is known only later."""

    base: Place
    low: Expr
    width: int

    def read(self, draft: Draft, at: Pos) -> Expr:
        return build.slice_(build.binary("lshr", self.base.read(draft, at), self.low), 0, self.width)

    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        base = self.base.for_update()
        whole = base.width
        kept = build.not_(build.binary("shl", build.const(whole, (1 << self.width) - 1), self.low))
        moved = build.binary("shl", build.zext(value, whole), self.low)
        base.write(draft, build.or_(build.and_(base.read(draft, at), kept), moved), at)

    @property
    def in_memory(self) -> bool:
        return self.base.in_memory


@dataclass
class ConcatPlace(Place):
    """Places side by side, the first on top."""

    parts: list[Place]

    def __post_init__(self) -> None:
        self.width = sum(p.width for p in self.parts)

    def read(self, draft: Draft, at: Pos) -> Expr:
        value = self.parts[0].read(draft, at)
        for part in self.parts[1:]:
            value = build.concat(value, part.read(draft, at))
        return value

    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        value = draft.settle(value, "whole", at)
        low = self.width
        for part in self.parts:
            low -= part.width
            part.write(draft, build.slice_(value, low, part.width), at)

    @property
    def in_memory(self) -> bool:
        return any(p.in_memory for p in self.parts)


@dataclass
class ExtendedPlace(Place):
    """The low bits of a place; writing them clears (or signs) the rest: `write zext`, `write sext`."""

    base: Place
    width: int
    extension: str

    def read(self, draft: Draft, at: Pos) -> Expr:
        return build.slice_(self.base.read(draft, at), 0, self.width)

    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        self.base.write(draft, build.unary(self.extension, value, self.base.width), at)


@dataclass
class ChoicePlace(Place):
    """One of two places."""

    condition: Expr
    then: Place
    otherwise: Place

    def __post_init__(self) -> None:
        self.width = self.then.width

    def read(self, draft: Draft, at: Pos) -> Expr:
        with draft.block() as then_block:
            then = self.then.read(draft, at)
        with draft.block() as other_block:
            otherwise = self.otherwise.read(draft, at)
        if (then_block or other_block) and kind_of(self.condition) > DECODE:
            raise Mistake(at, "a memory access in a part that only sometimes runs", "use `if`")
        return draft.join(self.condition, (then_block, (then,)), (other_block, (otherwise,)), at)[0]

    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        value = draft.settle(value, "value", at)
        with draft.block() as then_block:
            self.then.write(draft, value, at)
        with draft.block() as other_block:
            self.otherwise.write(draft, value, at)
        draft.emit(If(self.condition, tuple(then_block), tuple(other_block)), at)

    @property
    def in_memory(self) -> bool:
        return self.then.in_memory or self.otherwise.in_memory


@dataclass
class MemoryPlace(Place):
    """`mem(width)[address]`. Reading it is a `Load` event, at that point of the program."""

    width: int
    space: str
    address: Expr
    little: Expr
    name: str = "loaded"
    update: bool = False

    def read(self, draft: Draft, at: Pos) -> Expr:
        local = draft.fresh(self.name, self.width)
        draft.emit(Load(local, self.address, self.space, self.little, self.update), at)
        return local

    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        draft.emit(Store(self.address, value, self.space, self.little), at)

    def for_update(self) -> Place:
        return MemoryPlace(self.width, self.space, self.address, self.little, self.name, True)

    @property
    def in_memory(self) -> bool:
        return True


@dataclass
class SteppedPlace(Place):
    """A stepped context in an instruction: read when decoded, written as state."""

    element: StateElement
    value: Expr

    def __post_init__(self) -> None:
        self.width = self.value.width

    def read(self, draft: Draft, at: Pos) -> Expr:
        return self.value

    def write(self, draft: Draft, value: Expr, at: Pos) -> None:
        draft.emit(WriteReg(self.element.model.name, None, value), at)


def element_place(element: StateElement, index: Expr | None) -> Place:
    """A register, or the entry `index` of a file."""
    if element.model.lazy is not None:
        return LazyPlace(element, element.model.lazy.definition, element.model.lazy.argument)
    return RegisterPlace(element, index)


def bits_place(base: Place, start: int | Expr, width: int) -> Place:
    """`width` bits of `base` from `start` on, a number or an expression."""
    if isinstance(start, int):
        return SlicePlace(base, start, width)
    return MovingSlicePlace(base, start, width)
