"""Expressions as places: names, indices, slices, memory, views and operands."""

from __future__ import annotations

from generator.ir import build
from generator.ir.lower.constants import Constants
from generator.ir.lower.draft import Draft
from generator.ir.lower.entities import ContextEntity, StateElement
from generator.ir.lower.expressions import ExpressionLowering
from generator.ir.lower.operand_lowering import OperandLowering
from generator.ir.lower.places import (
    ChoicePlace,
    ConcatPlace,
    ExtendedPlace,
    LocalPlace,
    MemoryPlace,
    MovingSlicePlace,
    Place,
    RegisterPlace,
    SlicePlace,
    SteppedPlace,
    ValuePlace,
    bits_place,
    element_place,
)
from generator.ir.lower.report import Mistake, Poisoned
from generator.ir.lower.scope import Bound, Broken, Column, Mutable, Number, RawField, Scope, Values
from generator.ir.lower.widths import WidthFinder, operand_field
from generator.ir.nodes import DECODE, Const, Expr, ReadReg, Unary, kind_of
from generator.language import syntax as s
from generator.language.source import Pos

MEMORY_WIDTHS = (8, 16, 32, 64, 128)


class PlaceLowering:
    """The places that expressions are."""

    def __init__(
        self,
        draft: Draft,
        constants: Constants,
        widths: WidthFinder,
        operands: OperandLowering,
        expressions: ExpressionLowering,
    ) -> None:
        self.draft = draft
        self.constants = constants
        self.widths = widths
        self.operands = operands
        self.expressions = expressions

    def place(self, node: s.Expr, scope: Scope, want: int | None = None) -> Place:
        """The place that `node` is, or a `ValuePlace`. `want` helps a value that has no width of its own."""
        match node:
            case s.Name():
                return self._name_place(node, scope, want)
            case s.Index():
                return self._index_place(node, scope)
            case s.Member(name=name) if name.isdigit():
                return ValuePlace(self.expressions.expr(node, scope), "a tuple's part")
            case s.Member():
                return self._member_place(node, scope)
            case s.SliceOf():
                base = self._sized_place(node.base, scope)
                low, width = self.expressions.bit_range(node, base.width, scope)
                return SlicePlace(base, low, width)
            case s.SliceFrom():
                base = self._sized_place(node.base, scope)
                width = self.widths.require_width(node.width, scope)
                start = self.expressions.slice_start(node, base.width, width, scope)
                return bits_place(base, start, width)
            case s.Mem():
                return self._memory_place(node, scope)
            case s.BinaryOp(op="@", left=left, right=right):
                parts: list[Place] = []
                for part in (left, right):
                    inner = self._sized_place(part, scope)
                    parts.extend(inner.parts if isinstance(inner, ConcatPlace) else [inner])
                return ConcatPlace(parts)
            case s.Ternary(condition=condition, then=then, otherwise=otherwise):
                chosen = self.expressions.condition(condition, scope)
                if isinstance(chosen, Const):
                    return self.place(then if chosen.value else otherwise, scope, want)
                each = want if want is not None else self.widths.of(node, scope)
                places = self.place(then, scope, each), self.place(otherwise, scope, each)
                if places[0].width != places[1].width:
                    raise Mistake(
                        node.at, f"the alternatives have {places[0].width} and {places[1].width} bits"
                    )
                return ChoicePlace(chosen, *places)
            case s.Call(callee=callee, args=args):
                view = self.draft.spec.entities.get(callee.name)
                if isinstance(view, s.ViewItem) and scope.find(callee.name) is None:
                    return self.view_place(view, callee, args, scope, node.at)
        return ValuePlace(self.expressions.expr(node, scope, want), "a value")

    def _sized_place(self, node: s.Expr, scope: Scope) -> Place:
        digits = self.constants.digits(node, scope)
        width = digits if digits is not None else self.widths.of(node, scope)
        if width is None:
            raise Mistake(node.at, "how wide is this?", "name a width: zext(x, 64)")
        return self.place(node, scope, width)

    def _name_place(self, node: s.Name, scope: Scope, want: int | None) -> Place:
        found = self.draft.look_up(node.name, scope, node.at)
        match found:
            case StateElement():
                if found.model.count is not None:
                    raise Mistake(
                        node.at, f"`{node.name}` is a register file", f"name an entry: {node.name}[...]"
                    )
                if node.name == "pc" and not self.draft.shared:
                    return ValuePlace(self.expressions.expr(node, scope), "`pc`")
                return element_place(found, None)
            case ContextEntity(stepped=True):
                element = StateElement(self.draft.spec.stepped[node.name], found.width, node)
                if self.draft.shared:
                    return RegisterPlace(element, None)
                return SteppedPlace(element, self.expressions.context_value(found, node.at))
            case ContextEntity():
                return ValuePlace(
                    self.expressions.context_value(found, node.at), f"`{node.name}` is derived: it"
                )
            case Mutable(local=local):
                return LocalPlace(local)
            case s.ViewItem():
                return self.view_place(found, node, (), scope, node.at)
            case Bound(operand=operand):
                return self.operands.place(operand, node)
            case Column():
                with self.draft.column(found, node.at) as cell:
                    return self.place(cell, scope, want)
            case Broken():
                raise Poisoned
            case Number() | RawField() | Values():
                return ValuePlace(self.expressions.expr(node, scope, want), f"`{node.name}`")
            case _:
                return ValuePlace(self.expressions.expr(node, scope, want), f"`{node.name}`")

    def _index_place(self, node: s.Index, scope: Scope) -> Place:
        if isinstance(node.base, s.Name):
            found = self.draft.look_up(node.base.name, scope, node.base.at)
            if isinstance(found, StateElement) and found.model.count is not None:
                return RegisterPlace(found, self.entry(found, node, scope))
            if isinstance(found, s.ViewItem) and found.index is not None:
                return self.view_place(found, node.base, (node.index,), scope, node.at)
        base = self._sized_place(node.base, scope)
        return bits_place(base, self.expressions.bit_position(node, base.width, scope), 1)

    def entry(self, element: StateElement, node: s.Index, scope: Scope) -> Expr:
        """The number of the file's entry: of the physical file where it is windowed."""
        count = element.count or 1
        need = max(1, (count - 1).bit_length())
        value = self.constants.value(node.index, scope)
        own = self.widths.of(node.index, scope)
        if value is not None and own is None:
            if not 0 <= value < count:
                raise Mistake(
                    node.index.at, f"`{element.model.name}` has the entries 0 to {count - 1}, not {value}"
                )
            index: Expr = Const(need, value)
        else:
            index = self.expressions.expr(node.index, scope, own if own is not None else need)
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
        pointer = self.draft.spec.entities.get(window.pointer)
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
                    operand_field(node, found).value, f"the field `{node.base.name}.{node.name}`"
                )
            entity = self.draft.spec.entities.get(node.base.name) if found is None else None
            enum = self.draft.spec.enums.get(node.base.name)
            if found is None and enum is not None and (entity is None or node.name in enum.members):
                member = self.widths.enum_member(node, enum.name)
                return ValuePlace(Const(member.width, member.value), "an enum's member")
        self.widths.member_widths(node, scope)  # says what is wrong
        base = self.place(node.base, scope)
        element = self.widths.element_of(node.base, scope)
        assert element is not None
        field = next(f for f in element.model.fields if f.name == node.name)
        return SlicePlace(base, field.low, field.high - field.low + 1)

    # --- memory ------------------------------------------------------------------------------

    def _memory_place(self, node: s.Mem, scope: Scope) -> Place:
        if not 1 <= len(node.args) <= 2:
            raise Mistake(
                node.at, "an access takes a width and, if need be, a byte order", "mem(32), mem(32, be)"
            )
        width = self.widths.require_width(node.args[0], scope)
        if width not in MEMORY_WIDTHS:
            raise Mistake(node.args[0].at, f"memory is accessed by 8, 16, 32, 64 or 128 bits, not by {width}")
        little = self._byte_order(node, scope)
        own = self.widths.of(node.address, scope)
        address = self.expressions.expr(
            node.address, scope, own if own is not None else self.draft.spec.pc_width
        )
        if address.width > 64:
            raise Mistake(node.address.at, f"an address of {address.width} bits", "at most 64")
        return MemoryPlace(
            width, "phys" if node.space == "phys" else "data", address, little, self.draft.hint or "loaded"
        )

    def _byte_order(self, node: s.Mem, scope: Scope) -> Expr:
        if len(node.args) == 1:
            if self.draft.spec.little is None or self.draft.shared:
                return self._shared_byte_order(node.at)
            return self.draft.spec.little
        order = node.args[1]
        if isinstance(order, s.Name):
            found = scope.find(order.name)
            if isinstance(found, Column):
                order = found.expression
        if isinstance(order, s.Name) and order.name in ("le", "be"):
            return Const(1, int(order.name == "le"))
        lowered = self.expressions.condition(order, scope)
        if kind_of(lowered) > DECODE:
            raise Mistake(
                order.at,
                "the byte order is decided when the instruction is decoded",
                "`le`, `be`, or a condition over contexts",
            )
        return lowered

    def _shared_byte_order(self, at: Pos) -> Expr:
        little = self.draft.spec.family.little
        if little is None:
            return Const(1, int(self.draft.spec.little_endian))
        value = self.expressions.condition(little.when, Scope())
        if kind_of(value) <= DECODE:
            return value
        raise Mistake(at, "in a shared function the byte order has to be said", "mem(32, le) or mem(32, be)")

    def settle_place(self, place: Place, at: Pos) -> Place:
        """`place` with its address computed once."""
        match place:
            case MemoryPlace():
                address = self.draft.settle(place.address, "address", at)
                return MemoryPlace(place.width, place.space, address, place.little, place.name, place.update)
            case SlicePlace(base=base, low=low, width=width):
                return SlicePlace(self.settle_place(base, at), low, width)
            case MovingSlicePlace(base=base, low=start, width=width):
                return MovingSlicePlace(
                    self.settle_place(base, at), self.draft.settle(start, "bit", at), width
                )
            case RegisterPlace(element=element, index=index) if index is not None:
                return RegisterPlace(element, self.draft.settle(index, "entry", at))
            case ConcatPlace(parts=parts):
                return ConcatPlace([self.settle_place(p, at) for p in parts])
            case ExtendedPlace(base=base, width=width, extension=extension):
                return ExtendedPlace(self.settle_place(base, at), width, extension)
            case ChoicePlace(condition=condition, then=then, otherwise=otherwise) if not place.in_memory:
                return ChoicePlace(
                    self.draft.settle(condition, "choice", at),
                    self.settle_place(then, at),
                    self.settle_place(otherwise, at),
                )
            case _:
                return place

    # --- views -------------------------------------------------------------------------------

    def view_place(
        self, view: s.ViewItem, node: s.Name, args: tuple[s.Expr, ...], scope: Scope, at: Pos
    ) -> Place:
        """The place that a view is, as the conditions of its cases say. `args`: its index, if it has one."""
        own = self.widths.view_scope(view, node, scope)
        if len(args) != (0 if view.index is None else 1):
            raise Mistake(
                at,
                f"`{view.name}` takes {'no index' if view.index is None else 'one index'}",
                f"{view.name}[...]" if view.index is not None else view.name,
            )
        if view.index is not None:
            width = self.widths.type_width(view.index.type, own)
            own.names[view.index.name] = Values((self.expressions.expr(args[0], scope, width),))
        total = self.widths.type_width(view.type, own)
        with self.draft.deeper(at, view.name):
            return self._view_cases(view, list(view.cases), own, total, at)

    def _view_cases(
        self, view: s.ViewItem, cases: list[s.ViewCase], own: Scope, width: int, at: Pos
    ) -> Place:
        if not cases:
            raise Mistake(
                view.at, f"no case of the view `{view.name}` is left", "end it with a case without `when`"
            )
        case = cases[0]
        condition = build.TRUE if case.when is None else self.expressions.condition(case.when, own)
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


def _below(index: Expr, count: int) -> bool:
    """Whether an index is surely less than a file's count."""
    return isinstance(index, Const) and index.value < count
