"""Widths of expressions, found without lowering them."""

from __future__ import annotations

from generator.ir.lower import builtins
from generator.ir.lower.constants import Constants
from generator.ir.lower.draft import Draft
from generator.ir.lower.entities import Ambiguous, ContextEntity, EnumMember, Special, StateElement
from generator.ir.lower.recursion import Recursion, Widths
from generator.ir.lower.report import Mistake, Poisoned, did_you_mean, plural
from generator.ir.lower.scope import Bound, Broken, Column, Mutable, Number, Operand, RawField, Scope, Values
from generator.ir.nodes import Const, Local
from generator.language import syntax as s

MAX_WIDTH = 4096
MOST_LANES = 128


class WidthFinder:
    """Width inference: `of` one value, `all_of` a tuple's or call's."""

    def __init__(self, draft: Draft, constants: Constants, recursion: Recursion) -> None:
        self.draft = draft
        self.constants = constants
        self.recursion = recursion

    # --- constants ------------------------------------------------------------------------

    def require_const(self, node: s.Expr, scope: Scope, what: str) -> int:
        """A constant, or a mistake that says what must be one."""
        value = self.constants.value(node, scope)
        if value is None:
            width = self.of(node, scope)
            if width is not None:
                lowered = self.recursion.expr(node, scope)
                if isinstance(lowered, Const):
                    return lowered.value
            raise Mistake(
                node.at, f"{what} must be a constant", "numbers, parameters, axis values and columns are"
            )
        return value

    def require_width(self, node: s.Expr, scope: Scope) -> int:
        """A constant that is a width, 1 to `MAX_WIDTH`."""
        value = self.require_const(node, scope, "a width")
        if not 1 <= value <= MAX_WIDTH:
            raise Mistake(node.at, f"a width of {value} bits", f"widths are 1 to {MAX_WIDTH} bits")
        return value

    def type_widths(self, type_: s.Type, scope: Scope) -> tuple[int, ...]:
        """The widths of a type, which may be a tuple."""
        return tuple(self.require_width(w, scope) for w in type_.widths)

    def type_width(self, type_: s.Type, scope: Scope) -> int:
        """The width of a type that must not be a tuple."""
        if type_.is_tuple:
            raise Mistake(type_.at, "one value has to stand here, not a tuple")
        return self.require_width(type_.widths[0], scope)

    # --- by kind -----------------------------------------------------------------------------

    def of(self, node: s.Expr, scope: Scope) -> int | None:
        """The width of `node`'s one value; None: it takes its surroundings' width."""
        widths = self.all_of(node, scope)
        if len(widths) != 1:
            raise Mistake(
                node.at,
                f"{len(widths)} values where one has to stand" if widths else "this has no value",
                "bind them: let (a, b) = ..." if widths else "",
            )
        return widths[0]

    def all_of(self, node: s.Expr, scope: Scope) -> Widths:
        """The widths of `node`'s values; None: it takes its surroundings' width."""
        match node:
            case s.Number():
                return (None,)
            case s.Name():
                return self._name_widths(node, scope)
            case s.BinaryOp():
                return (self._binary_width(node, scope),)
            case s.UnaryOp(op=op, operand=operand):
                return (1,) if op == "!" else (self.of(operand, scope),)
            case s.Index():
                return self._index_widths(node, scope)
            case s.SliceOf():
                first = self.require_const(node.first, scope, "a slice's bound")
                last = self.require_const(node.last, scope, "a slice's bound")
                return (abs(first - last) + 1,)
            case s.SliceFrom():
                return (self.require_width(node.width, scope),)
            case s.Call():
                return self.recursion.call_widths(node, scope)
            case s.Member():
                return self.member_widths(node, scope)
            case s.Ternary(condition=condition, then=then, otherwise=otherwise):
                chosen = self.constants.value(condition, scope)
                if chosen is not None:
                    return self.all_of(then if chosen else otherwise, scope)
                return self._join([then, otherwise], scope)
            case s.MatchOf(subject=subject, arms=arms):
                value = self.constants.value(subject, scope)
                if value is not None:
                    arm = self.constants.chosen_arm(node, value, scope)
                    if arm is not None:
                        return self.all_of(arm, scope)
                return self._join([a.value for a in arms], scope)
            case s.Mem(args=args):
                return (self.require_width(args[0], scope),)
            case s.TupleOf(items=items):
                return tuple(self.of(i, scope) for i in items)
            case s.Lanes():
                return self.lane_widths(node, scope)
            case s.Str():
                raise Mistake(node.at, "a text is not a value")

    def _join(self, nodes: list[s.Expr], scope: Scope) -> Widths:
        """The first known width among alternatives, value by value."""
        result: Widths = self.all_of(nodes[0], scope)
        for node in nodes[1:]:
            if None not in result:
                break
            other = self.all_of(node, scope)
            if len(other) == len(result):
                result = tuple(a if a is not None else b for a, b in zip(result, other, strict=True))
        return result

    def _name_widths(self, node: s.Name, scope: Scope) -> Widths:
        found = self.draft.look_up(node.name, scope, node.at)
        match found:
            case Number():
                return (None,)
            case Values(items=items):
                return tuple(i.width for i in items)
            case Column():
                with self.draft.column(found, node.at) as cell:
                    return self.all_of(cell, scope)
            case Bound(operand=operand):
                return self.operand_widths(operand, node)
            case RawField(value=value):
                return (value.width,)
            case Mutable(local=local):
                return (local.width,)
            case Broken():
                raise Poisoned
            case StateElement():
                if found.model.count is not None:
                    raise Mistake(
                        node.at, f"`{node.name}` is a register file", f"name an entry: {node.name}[...]"
                    )
                return (found.width,)
            case ContextEntity() | EnumMember():
                return (found.width,)
            case Ambiguous(enums=enums):
                raise Mistake(
                    node.at,
                    f"`{node.name}` is a member of several enums",
                    f"say which: {enums[0]}.{node.name}",
                )
            case s.ViewItem():
                return (self.view_width(found, node, scope),)
            case Special(name=name):
                return (self.draft.spec.pc_width if name == "next_pc" else max(1, self.draft.opcode_width),)
            case _:
                raise Mistake(node.at, f"`{node.name}` is a function", f"call it: {node.name}(...)")

    def _binary_width(self, node: s.BinaryOp, scope: Scope) -> int | None:
        op = node.op
        if op in builtins.COMPARISONS or op in ("&&", "||"):
            return 1
        if op == "@":
            return self.part_width(node.left, scope) + self.part_width(node.right, scope)
        left = self.of(node.left, scope)
        if left is not None or op in builtins.SHIFTS:
            return left
        return self.of(node.right, scope)

    def part_width(self, node: s.Expr, scope: Scope) -> int:
        """The width of a part of a concatenation, where literals have the width of their digits."""
        digits = self.constants.digits(node, scope)
        width = digits if digits is not None else self.of(node, scope)
        if width is None:
            raise Mistake(
                node.at,
                "how wide is this part of the concatenation?",
                "write literals with all their digits (0b00, 0x0f); name the width: zext(x, 8)",
            )
        return width

    def _index_widths(self, node: s.Index, scope: Scope) -> Widths:
        if isinstance(node.base, s.Name):
            found = self.draft.look_up(node.base.name, scope, node.base.at)
            if isinstance(found, StateElement) and found.model.count is not None:
                return (found.width,)
            if isinstance(found, s.ViewItem) and found.index is not None:
                return (self.view_width(found, node.base, scope),)
        return (1,)

    def member_widths(self, node: s.Member, scope: Scope) -> Widths:
        """The width of a tuple's part, an operand's field, an enum's member or a register's field."""
        if node.name.isdigit():
            parts = self.all_of(node.base, scope)
            return (parts[self.part_number(node, len(parts))],)
        if isinstance(node.base, s.Name) and not node.base.generics:
            found = scope.find(node.base.name)
            if isinstance(found, Bound):
                if node.name == "mem" and node.name not in found.operand.fields:
                    return (1,)
                return (operand_field(node, found).value.width,)
            entity = self.draft.spec.entities.get(node.base.name) if found is None else None
            enum = self.draft.spec.enums.get(node.base.name)
            if found is None and enum is not None and (entity is None or node.name in enum.members):
                return (self.enum_member(node, enum.name).width,)
        element = self.element_of(node.base, scope)
        if element is None:
            raise Mistake(
                node.at, f"this has no part `{node.name}`", "registers with declared fields have parts"
            )
        for field in element.model.fields:
            if field.name == node.name:
                return (field.high - field.low + 1,)
        raise Mistake(
            node.at,
            f"`{element.model.name}` has no field `{node.name}`",
            did_you_mean(node.name, [f.name for f in element.model.fields]),
        )

    @staticmethod
    def part_number(node: s.Member, count: int) -> int:
        """Which part of a tuple `base.N` is."""
        number = int(node.name)
        if number >= count:
            raise Mistake(node.at, f"there is no part {number}: the tuple has {count}", "parts count from 0")
        return number

    def element_of(self, node: s.Expr, scope: Scope) -> StateElement | None:
        """The register, or file of the entry, that `node` names directly."""
        name = node.base if isinstance(node, s.Index) else node
        if isinstance(name, s.Name) and scope.find(name.name) is None:
            entity = self.draft.look_up(name.name, scope, name.at)
            if isinstance(entity, StateElement):
                return entity
        return None

    def enum_member(self, node: s.Member, enum: str) -> EnumMember:
        """The member of `enum` that `node` names. Raises Mistake if there is none."""
        members = self.draft.spec.enums[enum].members
        if node.name not in members:
            raise Mistake(node.at, f"enum `{enum}` has no `{node.name}`", did_you_mean(node.name, members))
        return members[node.name]

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
        """The width of a view with the generic widths that `node` gives."""
        return self.type_width(view.type, self.view_scope(view, node, scope))

    # --- operands ----------------------------------------------------------------------------

    def operand_widths(self, operand: Operand, node: s.Name) -> Widths:
        """The widths of the values of `operand`, which `node` names. Raises Mistake if it has none."""
        if not operand.has_value:
            raise Mistake(
                node.at,
                f"the operand `{node.name}` has no value: it is text only",
                f"its fields are {', '.join(f'{node.name}.{f}' for f in operand.fields)}",
            )
        if operand.declared is not None:
            return operand.declared
        case = operand.cases[0]
        if case.item.value is None or isinstance(case.item.value, s.BlockStmt):
            raise Mistake(
                operand.item.at,
                f"the operand class `{operand.item.name}` does not say its type",
                f"operand {operand.item.name} (...) : bits(32)",
            )
        widths = self.all_of(case.item.value, case.scope)
        if None in widths:
            raise Mistake(
                operand.item.at,
                f"how wide is the value of `{operand.item.name}`?",
                f"say its type: operand {operand.item.name} (...) : bits(32)",
            )
        return widths

    # --- lanes -------------------------------------------------------------------------------

    def lane_widths(self, node: s.Lanes, scope: Scope) -> Widths:
        """The widths of the values of a `lanes` expression."""
        count, width = self.lane_count(node, scope)
        inner = scope.inner()
        for name in node.names:
            inner.names[name.name] = Number(0) if node.type is None else Values((Local(width, name.name),))
        widths = self.all_of(node.body, inner)
        factor = count if node.fold == "@" else 1
        return tuple(None if w is None else w * factor for w in widths)

    def lane_count(self, node: s.Lanes, scope: Scope) -> tuple[int, int]:
        """How many lanes there are, and their width (0 for counted ones)."""
        if node.type is None:
            first, last = (self.require_const(value, scope, "a lane's number") for value in node.values)
            count, width = last - first + 1, 0
        else:
            if len(node.names) != len(node.values):
                raise Mistake(
                    node.at, f"{plural(len(node.names), 'name')} for {plural(len(node.values), 'value')}"
                )
            width = self.type_width(node.type, scope)
            widths = [self.of(value, scope) for value in node.values]
            whole = next((w for w in widths if w is not None), None)
            if whole is None:
                raise Mistake(node.values[0].at, "how wide is this?", "name a width: zext(x, 64)")
            for value, have in zip(node.values, widths, strict=True):
                if have is not None and (have != whole or have % width):
                    raise Mistake(
                        value.at,
                        f"{plural(have, 'bit')} are not {whole // width} lanes of {plural(width, 'bit')}",
                    )
            count = whole // width
        if not 1 <= count <= MOST_LANES:
            raise Mistake(node.at, f"{count} lanes", f"between 1 and {MOST_LANES}")
        return count, width


def operand_field(node: s.Member, bound: Bound) -> RawField:
    """The raw field that `operand.field` names."""
    operand = bound.operand
    found = operand.fields.get(node.name)
    if found is None:
        known = [*operand.fields, "mem"]
        raise Mistake(
            node.at,
            f"the operand class `{operand.item.name}` has no field `{node.name}`",
            did_you_mean(node.name, known, f"its fields: {', '.join(operand.fields) or 'none'}"),
        )
    return found
