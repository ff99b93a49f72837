"""Constants and widths of expressions, found without lowering them."""

from __future__ import annotations

from generator.ir.lower import builtins
from generator.ir.lower.base import Base
from generator.ir.lower.entities import (
    Ambiguous,
    ContextEntity,
    EnumMember,
    SharedFunction,
    Special,
    StateElement,
)
from generator.ir.lower.report import Mistake, Poisoned, did_you_mean
from generator.ir.lower.scope import Bound, Broken, Column, Mutable, Number, RawField, Scope, Values
from generator.ir.nodes import Const
from generator.language import syntax as s

MAX_WIDTH = 4096
MAX_LITERAL_BITS = 8192

Widths = tuple["int | None", ...]


def function_name(node: s.Expr, scope: Scope, body: Base) -> str | None:
    """The function that a name, or the column it stands for, names; None if it is none."""
    if not isinstance(node, s.Name) or node.generics:
        return None
    found = scope.find(node.name)
    if isinstance(found, Column):
        with body.column(found, node.at) as cell:
            return function_name(cell, scope, body)
    if found is not None:
        return None
    entity = body.spec.entities.get(node.name)
    if isinstance(entity, (s.FnItem, SharedFunction)) or (entity is None and node.name in builtins.NAMES):
        return node.name
    return None


class WidthPart(Base):
    """Constant evaluation on unbounded integers, and width inference (None: takes the width of its
    surroundings).
    """

    # --- constants ---------------------------------------------------------------------------

    def const(self, node: s.Expr, scope: Scope) -> int | None:
        """The value of an expression of numbers, parameters, axis values and columns; None if it is anything
        else.
        """
        match node:
            case s.Number(value=value):
                return value
            case s.Name():
                return self._const_name(node, scope)
            case s.UnaryOp(op=op, operand=operand):
                inner = self.const(operand, scope)
                if inner is None:
                    return None
                return -inner if op == "-" else ~inner if op == "~" else int(not inner)
            case s.BinaryOp():
                return self._const_binary(node, scope)
            case s.Ternary(condition=condition, then=then, otherwise=otherwise):
                chosen = self.const(condition, scope)
                if chosen is None:
                    return None
                return self.const(then if chosen else otherwise, scope)
            case s.MatchOf(subject=subject):
                chosen = self.const(subject, scope)
                if chosen is None:
                    return None
                chosen_arm = self.static_arm(node, chosen, scope)
                return None if chosen_arm is None else self.const(chosen_arm, scope)
            case _:
                return None

    def _const_name(self, node: s.Name, scope: Scope) -> int | None:
        found = scope.find(node.name)
        if found is None:
            entity = self.spec.entities.get(node.name)
            if isinstance(entity, Number | EnumMember):
                return entity.value
            return None
        match found:
            case Number(value=value):
                return value
            case Column():
                with self.column(found, node.at) as cell:
                    return self.const(cell, scope)
            case Values(items=(Const(value=value),)):
                return value
            case Broken():
                raise Poisoned
            case _:
                return None

    def _const_binary(self, node: s.BinaryOp, scope: Scope) -> int | None:
        if node.op in ("==", "!="):
            names = function_name(node.left, scope, self), function_name(node.right, scope, self)
            if None not in names:  # one name alone may be of a local that isn't known yet
                return int((names[0] == names[1]) == (node.op == "=="))
        left = self.const(node.left, scope)
        if node.op == "&&" and left == 0:
            return 0
        if node.op == "||" and left is not None and left != 0:
            return 1
        right = self.const(node.right, scope)
        if node.op == "&&" and right == 0:
            return 0
        if node.op == "||" and right is not None and right != 0:
            return 1
        if left is None or right is None:
            return None
        return self._arithmetic(node, left, right)

    @staticmethod
    def _arithmetic(node: s.BinaryOp, left: int, right: int) -> int | None:
        match node.op:
            case "+":
                value = left + right
            case "-":
                value = left - right
            case "*":
                value = left * right
            case "&":
                value = left & right
            case "|":
                value = left | right
            case "^":
                value = left ^ right
            case "/" | "/u" | "/s" | "%" | "%u" | "%s":
                if right == 0:
                    raise Mistake(node.at, "division by zero in a constant")
                value = left // right if node.op[0] == "/" else left % right
            case "<<" | ">>u" | ">>s":
                if not 0 <= right <= MAX_LITERAL_BITS:
                    raise Mistake(node.right.at, "a constant is shifted too far")
                value = left << right if node.op == "<<" else left >> right
            case "==":
                value = int(left == right)
            case "!=":
                value = int(left != right)
            case "&&":
                value = int(bool(left and right))
            case "||":
                value = int(bool(left or right))
            case "<u" | "<s":
                value = int(left < right)
            case "<=u" | "<=s":
                value = int(left <= right)
            case ">u" | ">s":
                value = int(left > right)
            case ">=u" | ">=s":
                value = int(left >= right)
            case _:
                return None
        if value.bit_length() > MAX_LITERAL_BITS:
            raise Mistake(node.at, f"a constant of more than {MAX_LITERAL_BITS} bits")
        return value

    def static_arm(self, node: s.MatchOf, value: int, scope: Scope) -> s.Expr | None:
        """The arm that a constant chooses; None if a pattern is not a constant."""
        for arm in node.arms:
            for pattern in arm.patterns:
                if pattern is None:
                    return arm.value
                number = self.const(pattern, scope)
                if number is None:
                    return None
                if number == value:
                    return arm.value
        raise Mistake(node.at, f"no arm for {value}", "add it, or an `else` arm")

    def require_const(self, node: s.Expr, scope: Scope, what: str) -> int:
        """A constant, or a mistake that says what must be one."""
        value = self.const(node, scope)
        if value is None:
            width = self.width(node, scope)
            if width is not None:
                lowered = self.expr(node, scope)
                if isinstance(lowered, Const):
                    return lowered.value
            raise Mistake(
                node.at, f"{what} must be a constant", "numbers, parameters, axis values and columns are"
            )
        return value

    def require_width(self, node: s.Expr, scope: Scope) -> int:
        value = self.require_const(node, scope, "a width")
        if not 1 <= value <= MAX_WIDTH:
            raise Mistake(node.at, f"a width of {value} bits", f"widths are 1 to {MAX_WIDTH} bits")
        return value

    def type_widths(self, type_: s.Type, scope: Scope) -> tuple[int, ...]:
        return tuple(self.require_width(w, scope) for w in type_.widths)

    def type_width(self, type_: s.Type, scope: Scope) -> int:
        """The width of a type that must not be a tuple."""
        if type_.is_tuple:
            raise Mistake(type_.at, "one value has to stand here, not a tuple")
        return self.require_width(type_.widths[0], scope)

    # --- widths ------------------------------------------------------------------------------

    def width(self, node: s.Expr, scope: Scope) -> int | None:
        widths = self.widths(node, scope)
        if len(widths) != 1:
            raise Mistake(
                node.at,
                f"{len(widths)} values where one has to stand" if widths else "this has no value",
                "bind them: let (a, b) = ..." if widths else "",
            )
        return widths[0]

    def widths(self, node: s.Expr, scope: Scope) -> Widths:
        """The widths of `node`'s values; None: it takes its surroundings' width."""
        match node:
            case s.Number():
                return (None,)
            case s.Name():
                return self._name_widths(node, scope)
            case s.BinaryOp():
                return (self._binary_width(node, scope),)
            case s.UnaryOp(op=op, operand=operand):
                return (1,) if op == "!" else (self.width(operand, scope),)
            case s.Index():
                return self._index_widths(node, scope)
            case s.SliceOf():
                first = self.require_const(node.first, scope, "a slice's bound")
                last = self.require_const(node.last, scope, "a slice's bound")
                return (abs(first - last) + 1,)
            case s.SliceFrom():
                return (self.require_width(node.width, scope),)
            case s.Call():
                return self.call_widths(node, scope)
            case s.Member():
                return self.member_widths(node, scope)
            case s.Ternary(condition=condition, then=then, otherwise=otherwise):
                chosen = self.const(condition, scope)
                if chosen is not None:
                    return self.widths(then if chosen else otherwise, scope)
                return self._join([then, otherwise], scope)
            case s.MatchOf(subject=subject, arms=arms):
                value = self.const(subject, scope)
                if value is not None:
                    arm = self.static_arm(node, value, scope)
                    if arm is not None:
                        return self.widths(arm, scope)
                return self._join([a.value for a in arms], scope)
            case s.Mem(args=args):
                return (self.require_width(args[0], scope),)
            case s.TupleOf(items=items):
                return tuple(self.width(i, scope) for i in items)
            case s.Lanes():
                return self.lane_widths(node, scope)
            case s.Str():
                raise Mistake(node.at, "a text is not a value")

    def _join(self, nodes: list[s.Expr], scope: Scope) -> Widths:
        """The first known width among alternatives, value by value."""
        result: Widths = self.widths(nodes[0], scope)
        for node in nodes[1:]:
            if None not in result:
                break
            other = self.widths(node, scope)
            if len(other) == len(result):
                result = tuple(a if a is not None else b for a, b in zip(result, other, strict=True))
        return result

    def _name_widths(self, node: s.Name, scope: Scope) -> Widths:
        found = self.look_up(node.name, scope, node.at)
        match found:
            case Number():
                return (None,)
            case Values(items=items):
                return tuple(i.width for i in items)
            case Column():
                with self.column(found, node.at) as cell:
                    return self.widths(cell, scope)
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
                return (self.spec.pc_width if name == "next_pc" else max(1, self.opcode_width),)
            case _:
                raise Mistake(node.at, f"`{node.name}` is a function", f"call it: {node.name}(...)")

    def _binary_width(self, node: s.BinaryOp, scope: Scope) -> int | None:
        op = node.op
        if op in builtins.COMPARISONS or op in ("&&", "||"):
            return 1
        if op == "@":
            return self._part_width(node.left, scope) + self._part_width(node.right, scope)
        left = self.width(node.left, scope)
        if left is not None or op in builtins.SHIFTS:
            return left
        return self.width(node.right, scope)

    def _part_width(self, node: s.Expr, scope: Scope) -> int:
        """The width of a part of a concatenation, where literals have the width of their digits."""
        digits = self.digits(node, scope)
        width = digits if digits is not None else self.width(node, scope)
        if width is None:
            raise Mistake(
                node.at,
                "how wide is this part of the concatenation?",
                "write literals with all their digits (0b00, 0x0f); name the width: zext(x, 8)",
            )
        return width

    def digits(self, node: s.Expr, scope: Scope) -> int | None:
        """The width that a literal, or the name of one, is spelt with."""
        match node:
            case s.Number(digits=digits):
                return digits
            case s.Name(name=name):
                found = scope.find(name)
                if isinstance(found, Number):
                    return found.digits
                if isinstance(found, Column):
                    with self.column(found, node.at) as cell:
                        return self.digits(cell, scope)
        return None

    def _index_widths(self, node: s.Index, scope: Scope) -> Widths:
        if isinstance(node.base, s.Name):
            found = self.look_up(node.base.name, scope, node.base.at)
            if isinstance(found, StateElement) and found.model.count is not None:
                return (found.width,)
            if isinstance(found, s.ViewItem) and found.index is not None:
                return (self.view_width(found, node.base, scope),)
        return (1,)

    def member_widths(self, node: s.Member, scope: Scope) -> Widths:
        if node.name.isdigit():
            parts = self.widths(node.base, scope)
            return (parts[self.part_number(node, len(parts))],)
        if isinstance(node.base, s.Name) and not node.base.generics:
            found = scope.find(node.base.name)
            if isinstance(found, Bound):
                if node.name == "mem" and node.name not in found.operand.fields:
                    return (1,)
                return (self.operand_field(node, found).value.width,)
            entity = self.spec.entities.get(node.base.name) if found is None else None
            enum = self.spec.enums.get(node.base.name)
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
            entity = self.look_up(name.name, scope, name.at)
            if isinstance(entity, StateElement):
                return entity
        return None

    def enum_member(self, node: s.Member, enum: str) -> EnumMember:
        members = self.spec.enums[enum].members
        if node.name not in members:
            raise Mistake(node.at, f"enum `{enum}` has no `{node.name}`", did_you_mean(node.name, members))
        return members[node.name]

    # --- in other parts ----------------------------------------------------------------------

    def lane_widths(self, node: s.Lanes, scope: Scope) -> Widths:
        raise NotImplementedError

    def operand_widths(self, operand: object, node: s.Name) -> Widths:
        raise NotImplementedError

    def operand_field(self, node: s.Member, bound: Bound) -> RawField:
        raise NotImplementedError

    def view_width(self, view: s.ViewItem, node: s.Name, scope: Scope) -> int:
        raise NotImplementedError

    def call_widths(self, node: s.Call, scope: Scope) -> Widths:
        raise NotImplementedError
