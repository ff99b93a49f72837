"""Places: what can stand left of `=`. Reading a place is an expression, writing it emits statements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from generator.ir import build
from generator.ir.lower import lazy
from generator.ir.lower.entities import ContextEntity, StateElement
from generator.ir.lower.expressions import ExpressionPart
from generator.ir.lower.report import Mistake, Poisoned
from generator.ir.lower.scope import Bound, Broken, Column, Mutable, Number, RawField, Scope, Values
from generator.ir.nodes import (
    DECODE,
    Assign,
    Const,
    Expr,
    If,
    Load,
    Local,
    ReadReg,
    Store,
    Unary,
    WriteReg,
    kind_of,
)
from generator.language import syntax as s
from generator.language.source import Pos

MEMORY_WIDTHS = (8, 16, 32, 64, 128)


class Place(ABC):
    """Something that has `width` bits and can be read; most can be written too."""

    width: int

    @abstractmethod
    def read(self, body: PlacePart, at: Pos) -> Expr: ...

    @abstractmethod
    def write(self, body: PlacePart, value: Expr, at: Pos) -> None: ...

    def for_update(self) -> Place:
        """This place, about to be read and then written."""
        return self

    @property
    def in_memory(self) -> bool:
        return False


@dataclass
class RegisterPlace(Place):
    element: StateElement
    index: Expr | None

    def __post_init__(self) -> None:
        self.width = self.element.model.width

    def read(self, body: PlacePart, at: Pos) -> Expr:
        return ReadReg(self.width, self.element.model.name, self.index)

    def write(self, body: PlacePart, value: Expr, at: Pos) -> None:
        body.emit(WriteReg(self.element.model.name, self.index, value), at)


@dataclass
class LazyPlace(Place):
    """A one-bit register that is stored as its definition's argument."""

    element: StateElement
    definition: Expr
    argument: Local

    def __post_init__(self) -> None:
        self.width = 1

    def read(self, body: PlacePart, at: Pos) -> Expr:
        stored = ReadReg(self.argument.width, self.element.model.name, None)
        return lazy.substitute(self.definition, self.argument, stored)

    def write(self, body: PlacePart, value: Expr, at: Pos) -> None:
        stored = lazy.argument_for(self.definition, self.argument, value)
        if stored is None:
            raise Mistake(
                at, f"the definition of `{self.element.model.name}` never has one of its two values"
            )
        body.emit(WriteReg(self.element.model.name, None, stored), at)


@dataclass
class LocalPlace(Place):
    local: Local

    def __post_init__(self) -> None:
        self.width = self.local.width

    def read(self, body: PlacePart, at: Pos) -> Expr:
        return self.local

    def write(self, body: PlacePart, value: Expr, at: Pos) -> None:
        body.emit(Assign(self.local, value), at)


@dataclass
class ValuePlace(Place):
    """A value that is no place: it can only be read."""

    value: Expr
    why: str

    def __post_init__(self) -> None:
        self.width = self.value.width

    def read(self, body: PlacePart, at: Pos) -> Expr:
        return self.value

    def write(self, body: PlacePart, value: Expr, at: Pos) -> None:
        raise Mistake(at, f"{self.why} cannot be assigned")


@dataclass
class SlicePlace(Place):
    """Bits `low` and up of another place; writing them keeps the others."""

    base: Place
    low: int
    width: int

    def read(self, body: PlacePart, at: Pos) -> Expr:
        return build.slice_(self.base.read(body, at), self.low, self.width)

    def write(self, body: PlacePart, value: Expr, at: Pos) -> None:
        if self.width == self.base.width:
            self.base.write(body, value, at)
            return
        base = self.base.for_update()
        old = base.read(body, at)
        above = self.low + self.width
        merged = value
        if self.low:
            merged = build.concat(merged, build.slice_(old, 0, self.low))
        if above < base.width:
            merged = build.concat(build.slice_(old, above, base.width - above), merged)
        base.write(body, merged, at)

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

    def read(self, body: PlacePart, at: Pos) -> Expr:
        return build.slice_(build.binary("lshr", self.base.read(body, at), self.low), 0, self.width)

    def write(self, body: PlacePart, value: Expr, at: Pos) -> None:
        base = self.base.for_update()
        whole = base.width
        kept = build.not_(build.binary("shl", build.const(whole, (1 << self.width) - 1), self.low))
        moved = build.binary("shl", build.zext(value, whole), self.low)
        base.write(body, build.or_(build.and_(base.read(body, at), kept), moved), at)

    @property
    def in_memory(self) -> bool:
        return self.base.in_memory


@dataclass
class ConcatPlace(Place):
    """Places side by side, the first on top."""

    parts: list[Place]

    def __post_init__(self) -> None:
        self.width = sum(p.width for p in self.parts)

    def read(self, body: PlacePart, at: Pos) -> Expr:
        value = self.parts[0].read(body, at)
        for part in self.parts[1:]:
            value = build.concat(value, part.read(body, at))
        return value

    def write(self, body: PlacePart, value: Expr, at: Pos) -> None:
        value = body.settle(value, "whole", at)
        low = self.width
        for part in self.parts:
            low -= part.width
            part.write(body, build.slice_(value, low, part.width), at)

    @property
    def in_memory(self) -> bool:
        return any(p.in_memory for p in self.parts)


@dataclass
class ExtendedPlace(Place):
    """The low bits of a place; writing them clears (or signs) the rest: `write zext`, `write sext`."""

    base: Place
    width: int
    extension: str

    def read(self, body: PlacePart, at: Pos) -> Expr:
        return build.slice_(self.base.read(body, at), 0, self.width)

    def write(self, body: PlacePart, value: Expr, at: Pos) -> None:
        self.base.write(body, build.unary(self.extension, value, self.base.width), at)


@dataclass
class ChoicePlace(Place):
    """One of two places."""

    condition: Expr
    then: Place
    otherwise: Place

    def __post_init__(self) -> None:
        self.width = self.then.width

    def read(self, body: PlacePart, at: Pos) -> Expr:
        with body.block() as then_block:
            then = self.then.read(body, at)
        with body.block() as other_block:
            otherwise = self.otherwise.read(body, at)
        if (then_block or other_block) and kind_of(self.condition) > DECODE:
            raise Mistake(at, "a memory access in a part that only sometimes runs", "use `if`")
        return body.join(self.condition, (then_block, (then,)), (other_block, (otherwise,)), at)[0]

    def write(self, body: PlacePart, value: Expr, at: Pos) -> None:
        value = body.settle(value, "value", at)
        with body.block() as then_block:
            self.then.write(body, value, at)
        with body.block() as other_block:
            self.otherwise.write(body, value, at)
        body.emit(If(self.condition, tuple(then_block), tuple(other_block)), at)

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

    def read(self, body: PlacePart, at: Pos) -> Expr:
        local = body.fresh(self.name, self.width)
        body.emit(Load(local, self.address, self.space, self.little, self.update), at)
        return local

    def write(self, body: PlacePart, value: Expr, at: Pos) -> None:
        body.emit(Store(self.address, value, self.space, self.little), at)

    def for_update(self) -> Place:
        return MemoryPlace(self.width, self.space, self.address, self.little, self.name, True)

    @property
    def in_memory(self) -> bool:
        return True


class PlacePart(ExpressionPart):
    """Names, indices, slices, memory, views and operands as places."""

    hint = ""  # the name that a load's local should get

    def read_place(self, node: s.Expr, scope: Scope) -> Expr:
        return self.place(node, scope).read(self, node.at)

    def place(self, node: s.Expr, scope: Scope, want: int | None = None) -> Place:
        """The place that `node` is, or a `ValuePlace`. `want` helps a value that has no width of its own."""
        match node:
            case s.Name():
                return self._name_place(node, scope, want)
            case s.Index():
                return self._index_place(node, scope)
            case s.Member(name=name) if name.isdigit():
                return ValuePlace(self.expr(node, scope), "a tuple's part")
            case s.Member():
                return self._member_place(node, scope)
            case s.SliceOf():
                base = self._sized_place(node.base, scope)
                low, width = self.bit_range(node, base.width, scope)
                return SlicePlace(base, low, width)
            case s.SliceFrom():
                base = self._sized_place(node.base, scope)
                width = self.require_width(node.width, scope)
                start = self.slice_start(node, base.width, width, scope)
                return _bits_place(base, start, width)
            case s.Mem():
                return self._memory_place(node, scope)
            case s.BinaryOp(op="@", left=left, right=right):
                parts: list[Place] = []
                for part in (left, right):
                    inner = self._sized_place(part, scope)
                    parts.extend(inner.parts if isinstance(inner, ConcatPlace) else [inner])
                return ConcatPlace(parts)
            case s.Ternary(condition=condition, then=then, otherwise=otherwise):
                chosen = self.condition(condition, scope)
                if isinstance(chosen, Const):
                    return self.place(then if chosen.value else otherwise, scope, want)
                each = want if want is not None else self.width(node, scope)
                places = self.place(then, scope, each), self.place(otherwise, scope, each)
                if places[0].width != places[1].width:
                    raise Mistake(
                        node.at, f"the alternatives have {places[0].width} and {places[1].width} bits"
                    )
                return ChoicePlace(chosen, *places)
            case s.Call(callee=callee, args=args):
                view = self.spec.entities.get(callee.name)
                if isinstance(view, s.ViewItem) and scope.find(callee.name) is None:
                    return self.view_place(view, callee, args, scope, node.at)
        return ValuePlace(self.expr(node, scope, want), "a value")

    def _sized_place(self, node: s.Expr, scope: Scope) -> Place:
        digits = self.digits(node, scope)
        width = digits if digits is not None else self.width(node, scope)
        if width is None:
            raise Mistake(node.at, "how wide is this?", "name a width: zext(x, 64)")
        return self.place(node, scope, width)

    def _name_place(self, node: s.Name, scope: Scope, want: int | None) -> Place:
        found = self.look_up(node.name, scope, node.at)
        match found:
            case StateElement():
                if found.model.count is not None:
                    raise Mistake(
                        node.at, f"`{node.name}` is a register file", f"name an entry: {node.name}[...]"
                    )
                if node.name == "pc" and not self.shared:
                    return ValuePlace(self.expr(node, scope), "`pc`")
                return self.element_place(found, None)
            case ContextEntity(stepped=True):
                element = StateElement(self.spec.stepped[node.name], found.width, node)
                if self.shared:
                    return RegisterPlace(element, None)
                return _SteppedPlace(element, self.context_value(found, node.at))
            case ContextEntity():
                return ValuePlace(self.context_value(found, node.at), f"`{node.name}` is derived: it")
            case Mutable(local=local):
                return LocalPlace(local)
            case s.ViewItem():
                return self.view_place(found, node, (), scope, node.at)
            case Bound(operand=operand):
                return self.operand_place(operand, node)
            case Column():
                with self.column(found, node.at) as cell:
                    return self.place(cell, scope, want)
            case Broken():
                raise Poisoned
            case Number() | RawField() | Values():
                return ValuePlace(self.expr(node, scope, want), f"`{node.name}`")
            case _:
                return ValuePlace(self.expr(node, scope, want), f"`{node.name}`")

    def element_place(self, element: StateElement, index: Expr | None) -> Place:
        if element.model.lazy is not None:
            return LazyPlace(element, element.model.lazy.definition, element.model.lazy.argument)
        return RegisterPlace(element, index)

    def _index_place(self, node: s.Index, scope: Scope) -> Place:
        if isinstance(node.base, s.Name):
            found = self.look_up(node.base.name, scope, node.base.at)
            if isinstance(found, StateElement) and found.model.count is not None:
                return RegisterPlace(found, self.entry(found, node, scope))
            if isinstance(found, s.ViewItem) and found.index is not None:
                return self.view_place(found, node.base, (node.index,), scope, node.at)
        base = self._sized_place(node.base, scope)
        return _bits_place(base, self.bit_position(node, base.width, scope), 1)

    def entry(self, element: StateElement, node: s.Index, scope: Scope) -> Expr:
        """The number of the file's entry: of the physical file where it is windowed."""
        count = element.count or 1
        need = max(1, (count - 1).bit_length())
        value = self.const(node.index, scope)
        own = self.width(node.index, scope)
        if value is not None and own is None:
            if not 0 <= value < count:
                raise Mistake(
                    node.index.at, f"`{element.model.name}` has the entries 0 to {count - 1}, not {value}"
                )
            index: Expr = Const(need, value)
        else:
            index = self.expr(node.index, scope, own if own is not None else need)
            if index.width > need:
                inner = index.operand if isinstance(index, Unary) and index.op == "zext" else index
                if inner.width > need and not _below(inner, count):
                    raise Mistake(
                        node.index.at,
                        f"an index of {inner.width} bits into `{element.model.name}`, which has "
                        f"{count} entries",
                        f"cut it to {need} bits: low(x, {need})",
                    )
                index = build.slice_(index, 0, need)
        if element.window is None:
            if isinstance(index, Unary) and index.op == "zext":
                index = index.operand
            return index
        window = element.window
        pointer = self.spec.entities.get(window.pointer)
        if not isinstance(pointer, StateElement):
            raise Mistake(node.at, f"there is no register `{window.pointer}` that says which window")
        bits = (window.total - 1).bit_length()
        start = build.binary(
            "mul",
            build.resize(ReadReg(pointer.model.width, window.pointer, None), bits),
            build.const(bits, window.stride),
        )
        physical = build.binary("add", start, build.resize(index, bits))
        if window.total & (window.total - 1):
            wide = bits + 1
            physical = build.binary(
                "urem",
                build.binary("add", build.zext(start, wide), build.resize(index, wide)),
                build.const(wide, window.total),
            )
            physical = build.slice_(physical, 0, bits)
        return physical

    def _member_place(self, node: s.Member, scope: Scope) -> Place:
        if isinstance(node.base, s.Name) and not node.base.generics:
            found = scope.find(node.base.name)
            if isinstance(found, Bound):
                if node.name == "mem" and node.name not in found.operand.fields:
                    return ValuePlace(found.operand.memory_condition(node.at), f"`{node.base.name}.mem`")
                return ValuePlace(
                    self.operand_field(node, found).value, f"the field `{node.base.name}.{node.name}`"
                )
            entity = self.spec.entities.get(node.base.name) if found is None else None
            enum = self.spec.enums.get(node.base.name)
            if found is None and enum is not None and (entity is None or node.name in enum.members):
                member = self.enum_member(node, enum.name)
                return ValuePlace(Const(member.width, member.value), "an enum's member")
        self.member_widths(node, scope)  # says what is wrong
        base = self.place(node.base, scope)
        element = self.element_of(node.base, scope)
        assert element is not None
        field = next(f for f in element.model.fields if f.name == node.name)
        return SlicePlace(base, field.low, field.high - field.low + 1)

    # --- memory ------------------------------------------------------------------------------

    def _memory_place(self, node: s.Mem, scope: Scope) -> Place:
        if not 1 <= len(node.args) <= 2:
            raise Mistake(
                node.at, "an access takes a width and, if need be, a byte order", "mem(32), mem(32, be)"
            )
        width = self.require_width(node.args[0], scope)
        if width not in MEMORY_WIDTHS:
            raise Mistake(node.args[0].at, f"memory is accessed by 8, 16, 32, 64 or 128 bits, not by {width}")
        little = self._byte_order(node, scope)
        own = self.width(node.address, scope)
        address = self.expr(node.address, scope, own if own is not None else self.spec.pc_width)
        if address.width > 64:
            raise Mistake(node.address.at, f"an address of {address.width} bits", "at most 64")
        return MemoryPlace(
            width, "phys" if node.space == "phys" else "data", address, little, self.hint or "loaded"
        )

    def _byte_order(self, node: s.Mem, scope: Scope) -> Expr:
        if len(node.args) == 1:
            if self.spec.little is None or self.shared:
                return self._shared_byte_order(node.at)
            return self.spec.little
        order = node.args[1]
        if isinstance(order, s.Name):
            found = scope.find(order.name)
            if isinstance(found, Column):
                order = found.expression
        if isinstance(order, s.Name) and order.name in ("le", "be"):
            return Const(1, int(order.name == "le"))
        lowered = self.condition(order, scope)
        if kind_of(lowered) > DECODE:
            raise Mistake(
                order.at,
                "the byte order is decided when the instruction is decoded",
                "`le`, `be`, or a condition over contexts",
            )
        return lowered

    def _shared_byte_order(self, at: Pos) -> Expr:
        little = self.spec.family.little
        if little is None:
            return Const(1, int(self.spec.little_endian))
        value = self.condition(little.when, Scope())
        if kind_of(value) <= DECODE:
            return value
        raise Mistake(at, "in a shared function the byte order has to be said", "mem(32, le) or mem(32, be)")

    def settle_place(self, place: Place, at: Pos) -> Place:
        """`place` with its address computed once."""
        match place:
            case MemoryPlace():
                address = self.settle(place.address, "address", at)
                return MemoryPlace(place.width, place.space, address, place.little, place.name, place.update)
            case SlicePlace(base=base, low=low, width=width):
                return SlicePlace(self.settle_place(base, at), low, width)
            case MovingSlicePlace(base=base, low=start, width=width):
                return MovingSlicePlace(self.settle_place(base, at), self.settle(start, "bit", at), width)
            case RegisterPlace(element=element, index=index) if index is not None:
                return RegisterPlace(element, self.settle(index, "entry", at))
            case ConcatPlace(parts=parts):
                return ConcatPlace([self.settle_place(p, at) for p in parts])
            case ExtendedPlace(base=base, width=width, extension=extension):
                return ExtendedPlace(self.settle_place(base, at), width, extension)
            case ChoicePlace(condition=condition, then=then, otherwise=otherwise) if not place.in_memory:
                return ChoicePlace(
                    self.settle(condition, "choice", at),
                    self.settle_place(then, at),
                    self.settle_place(otherwise, at),
                )
            case _:
                return place

    # --- views -------------------------------------------------------------------------------

    def view_scope(self, view: s.ViewItem, node: s.Name, scope: Scope) -> Scope:
        """The view's own names: its generic widths."""
        if len(node.generics) != len(view.generics):
            want = f"<{', '.join(view.generics)}>" if view.generics else "none"
            raise Mistake(
                node.at,
                f"`{view.name}` takes {len(view.generics)} widths, not {len(node.generics)}",
                f"its generic widths: {want}",
            )
        own = Scope()
        for name, value in zip(view.generics, node.generics, strict=True):
            own.names[name] = Number(self.require_const(value, scope, "a generic width"))
        return own

    def view_width(self, view: s.ViewItem, node: s.Name, scope: Scope) -> int:
        return self.type_width(view.type, self.view_scope(view, node, scope))

    def view_place(
        self, view: s.ViewItem, node: s.Name, args: tuple[s.Expr, ...], scope: Scope, at: Pos
    ) -> Place:
        own = self.view_scope(view, node, scope)
        if len(args) != (0 if view.index is None else 1):
            raise Mistake(
                at,
                f"`{view.name}` takes {'no index' if view.index is None else 'one index'}",
                f"{view.name}[...]" if view.index is not None else view.name,
            )
        if view.index is not None:
            width = self.type_width(view.index.type, own)
            own.names[view.index.name] = Values((self.expr(args[0], scope, width),))
        total = self.type_width(view.type, own)
        with self.deeper(at, view.name):
            return self._view_cases(view, list(view.cases), own, total, at)

    def _view_cases(
        self, view: s.ViewItem, cases: list[s.ViewCase], own: Scope, width: int, at: Pos
    ) -> Place:
        if not cases:
            raise Mistake(
                view.at, f"no case of the view `{view.name}` is left", "end it with a case without `when`"
            )
        case = cases[0]
        condition = build.TRUE if case.when is None else self.condition(case.when, own)
        if condition == build.FALSE:
            return self._view_cases(view, cases[1:], own, width, at)
        place = self.place(case.value, own, width)
        if case.write is not None:
            place = self._extended(place, case)
        if place.width != width:
            raise Mistake(
                case.value.at,
                f"this case has {place.width} bits, and the view `{view.name}` has {width}",
                "take a slice of the place: p[w-1:0]",
            )
        if condition == build.TRUE or len(cases) == 1:
            return place
        return ChoicePlace(condition, place, self._view_cases(view, cases[1:], own, width, at))

    @staticmethod
    def _extended(place: Place, case: s.ViewCase) -> Place:
        if case.write not in ("zext", "sext"):
            raise Mistake(
                case.at, f"`write {case.write}`", "`write zext` or `write sext`: what the rest becomes"
            )
        if isinstance(place, SlicePlace) and place.low == 0:
            return ExtendedPlace(place.base, place.width, case.write)
        if isinstance(place, SlicePlace):
            raise Mistake(case.value.at, "`write zext` needs a slice that begins at the lowest bit")
        return place  # the whole register: there is no rest

    # --- in other parts ----------------------------------------------------------------------

    def operand_place(self, operand: object, node: s.Name) -> Place:
        raise NotImplementedError


@dataclass
class _SteppedPlace(Place):
    """A stepped context in an instruction: read when decoded, written as state."""

    element: StateElement
    value: Expr

    def __post_init__(self) -> None:
        self.width = self.value.width

    def read(self, body: PlacePart, at: Pos) -> Expr:
        return self.value

    def write(self, body: PlacePart, value: Expr, at: Pos) -> None:
        body.emit(WriteReg(self.element.model.name, None, value), at)


def _bits_place(base: Place, start: int | Expr, width: int) -> Place:
    if isinstance(start, int):
        return SlicePlace(base, start, width)
    return MovingSlicePlace(base, start, width)


def _below(index: Expr, count: int) -> bool:
    """Whether an index is surely less than a file's count."""
    return isinstance(index, Const) and index.value < count
