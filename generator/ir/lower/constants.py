"""Constants: evaluated on unbounded integers, without lowering anything."""

from __future__ import annotations

from generator.ir.lower import builtins
from generator.ir.lower.draft import Draft
from generator.ir.lower.entities import EnumMember, SharedFunction
from generator.ir.lower.report import Mistake, Poisoned
from generator.ir.lower.scope import Broken, Column, Number, Scope, Values
from generator.ir.nodes import Const
from generator.language import syntax as s

MAX_LITERAL_BITS = 8192


class Constants:
    """Values of expressions over numbers, parameters, axis values and columns."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft

    def value(self, node: s.Expr, scope: Scope) -> int | None:
        """The value of an expression of numbers, parameters, axis values and columns; None if it is anything
        else.
        """
        match node:
            case s.Number(value=value):
                return value
            case s.Name():
                return self._const_name(node, scope)
            case s.UnaryOp(op=op, operand=operand):
                inner = self.value(operand, scope)
                if inner is None:
                    return None
                return -inner if op == "-" else ~inner if op == "~" else int(not inner)
            case s.BinaryOp():
                return self._const_binary(node, scope)
            case s.Ternary(condition=condition, then=then, otherwise=otherwise):
                chosen = self.value(condition, scope)
                if chosen is None:
                    return None
                return self.value(then if chosen else otherwise, scope)
            case s.MatchOf(subject=subject):
                chosen = self.value(subject, scope)
                if chosen is None:
                    return None
                chosen_arm = self.chosen_arm(node, chosen, scope)
                return None if chosen_arm is None else self.value(chosen_arm, scope)
            case _:
                return None

    def _const_name(self, node: s.Name, scope: Scope) -> int | None:
        found = scope.find(node.name)
        if found is None:
            entity = self.draft.spec.entities.get(node.name)
            if isinstance(entity, Number | EnumMember):
                return entity.value
            return None
        match found:
            case Number(value=value):
                return value
            case Column():
                with self.draft.column(found, node.at) as cell:
                    return self.value(cell, scope)
            case Values(items=(Const(value=value),)):
                return value
            case Broken():
                raise Poisoned
            case _:
                return None

    def _const_binary(self, node: s.BinaryOp, scope: Scope) -> int | None:
        if node.op in ("==", "!="):
            names = (
                _function_name(node.left, scope, self.draft),
                _function_name(node.right, scope, self.draft),
            )
            if None not in names:  # one name alone may be of a local that isn't known yet
                return int((names[0] == names[1]) == (node.op == "=="))
        left = self.value(node.left, scope)
        if node.op == "&&" and left == 0:
            return 0
        if node.op == "||" and left is not None and left != 0:
            return 1
        right = self.value(node.right, scope)
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

    def chosen_arm(self, node: s.MatchOf, value: int, scope: Scope) -> s.Expr | None:
        """The arm that a constant chooses; None if a pattern is not a constant."""
        for arm in node.arms:
            for pattern in arm.patterns:
                if pattern is None:
                    return arm.value
                number = self.value(pattern, scope)
                if number is None:
                    return None
                if number == value:
                    return arm.value
        raise Mistake(node.at, f"no arm for {value}", "add it, or an `else` arm")

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
                    with self.draft.column(found, node.at) as cell:
                        return self.digits(cell, scope)
        return None

    def condition(self, node: s.Expr, scope: Scope) -> bool | None:
        """A condition over constants; None if it is none."""
        value = self.value(node, scope)
        return None if value is None else bool(value)


def _function_name(node: s.Expr, scope: Scope, draft: Draft) -> str | None:
    """The function that a name, or the column it stands for, names; None if it is none."""
    if not isinstance(node, s.Name) or node.generics:
        return None
    found = scope.find(node.name)
    if isinstance(found, Column):
        with draft.column(found, node.at) as cell:
            return _function_name(cell, scope, draft)
    if found is not None:
        return None
    entity = draft.spec.entities.get(node.name)
    if isinstance(entity, (s.FnItem, SharedFunction)) or (entity is None and node.name in builtins.NAMES):
        return node.name
    return None
