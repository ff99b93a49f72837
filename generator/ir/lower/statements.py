"""Statements: syntax to IR."""

from __future__ import annotations

from collections.abc import Sequence

from generator.ir import build
from generator.ir.lower import builtins, lazy
from generator.ir.lower.calls import CallLowering
from generator.ir.lower.constants import Constants
from generator.ir.lower.draft import Draft
from generator.ir.lower.expressions import ExpressionLowering
from generator.ir.lower.place_lowering import PlaceLowering
from generator.ir.lower.places import ConcatPlace
from generator.ir.lower.report import Mistake, Poisoned, did_you_mean, plural
from generator.ir.lower.scope import Broken, Mutable, Scope, Values
from generator.ir.lower.widths import WidthFinder
from generator.ir.nodes import (
    DYNAMIC,
    Assign,
    Atomic,
    Block,
    Const,
    Expr,
    ForRange,
    ForSet,
    Goto,
    If,
    Local,
    Raise,
    Return,
    Skip,
    kind_of,
)
from generator.language import syntax as s

MAX_LOOP = 4096


class StatementLowering:
    """Blocks and statements."""

    def __init__(
        self,
        draft: Draft,
        constants: Constants,
        widths: WidthFinder,
        expressions: ExpressionLowering,
        places: PlaceLowering,
        calls: CallLowering,
    ) -> None:
        self.draft = draft
        self.constants = constants
        self.widths = widths
        self.expressions = expressions
        self.places = places
        self.calls = calls

    def lower_all(self, statements: Sequence[s.Stmt], scope: Scope) -> None:
        """Statements in order. Mistakes are reported one by one, except in functions that are inlined."""
        for statement in statements:
            try:
                self.lower(statement, scope)
            except (Mistake, Poisoned) as problem:
                if self.draft.function is not None:
                    raise  # the call is what fails
                if isinstance(problem, Mistake):
                    self.draft.spec.report.add(problem)
                self.draft.failed = True
                if isinstance(statement, s.LetStmt):
                    for name in statement.names:
                        scope.names[name.name] = Broken()
                elif isinstance(statement, s.VarStmt):
                    scope.names[statement.name.name] = Broken()

    def lower(self, node: s.Stmt, scope: Scope) -> None:
        """One statement. Raises Mistake, or Poisoned if something that it names was mistaken."""
        match node:
            case s.AssignStmt():
                self._assign(node, scope)
            case s.LetStmt():
                self._let(node, scope)
            case s.IfStmt():
                self._if(node, scope)
            case s.ExprStmt(call=call):
                self.calls.call(call, scope, None)
            case s.VarStmt():
                self._var(node, scope)
            case s.GotoStmt():
                self._goto(node, scope)
            case s.RaiseStmt():
                self._raise(node, scope)
            case s.MatchStmt():
                self._branches(self.statement_arms(node, scope), scope, node)
            case s.SkipStmt(condition=condition):
                self._only_in_instructions(node, "skip")
                value = build.TRUE if condition is None else self.expressions.condition(condition, scope)
                self.draft.emit(Skip(value), node.at)
            case s.ForRangeStmt():
                self._for_range(node, scope)
            case s.ForSetStmt():
                self._for_set(node, scope)
            case s.AtomicStmt():
                self._atomic(node, scope)
            case s.ReturnStmt():
                if not self.draft.shared or self.draft.function is not None:
                    raise Mistake(node.at, "`return` stands in functions only", "use `if` ... `else`")
                self.draft.emit(Return(self.calls.return_values(node, scope)), node.at)

    def _atomic(self, node: s.AtomicStmt, scope: Scope) -> None:
        when = build.TRUE if node.when is None else self.expressions.condition(node.when, scope)
        if kind_of(when) == DYNAMIC:
            assert node.when is not None
            raise Mistake(node.when.at, "`atomic when` is decided when the instruction is decoded")
        if when == build.FALSE:
            self.lower_all(node.body.body, scope.inner())
            return
        body = self._block(node.body, scope)
        together = Atomic(body)
        self.draft.emit(together if when == build.TRUE else If(when, (together,), body), node.at)

    def _block(self, block: s.BlockStmt, scope: Scope) -> Block:
        with self.draft.block() as out:
            self.lower_all(block.body, scope.inner())
        return tuple(out)

    def _only_in_instructions(self, node: s.Stmt, what: str) -> None:
        if self.draft.shared:
            raise Mistake(
                node.at,
                f"`{what}` stands in instructions only",
                "in a shared function, write the register: pc = ..." if what == "goto" else "",
            )

    # --- names -------------------------------------------------------------------------------

    def _let(self, node: s.LetStmt, scope: Scope) -> None:
        wants = self.widths.type_widths(node.type, scope) if node.type is not None else None
        if wants is not None and len(wants) != len(node.names):
            raise Mistake(node.at, f"{plural(len(node.names), 'name')} for {plural(len(wants), 'value')}")
        self.draft.hint = node.names[0].name
        try:
            if node.is_tuple:
                values = self.expressions.values(node.value, scope, wants)
            else:
                values = (self._let_value(node, scope, wants[0] if wants else None),)
        finally:
            self.draft.hint = ""
        if len(values) != len(node.names):
            raise Mistake(node.at, f"{plural(len(node.names), 'name')} for {plural(len(values), 'value')}")
        for name, value in zip(node.names, values, strict=True):
            scope.names[name.name] = Values((self.draft.settle(value, name.name, node.at),))

    def _let_value(self, node: s.LetStmt, scope: Scope, want: int | None) -> Expr:
        if want is None:
            widths = self.widths.all_of(node.value, scope)
            if len(widths) > 1:
                raise Mistake(node.at, f"{plural(len(widths), 'value')} for one name", "let (a, b) = ...")
            if widths == ():
                raise Mistake(node.value.at, "this has no value")
            want = widths[0]
        if want is None and (digits := self.constants.digits(node.value, scope)) is not None:
            want = digits
        return self.expressions.expr(node.value, scope, want)

    def _var(self, node: s.VarStmt, scope: Scope) -> None:
        width = (
            self.widths.type_width(node.type, scope)
            if node.type is not None
            else self.widths.of(node.value, scope)
        )
        value = self.expressions.expr(node.value, scope, width)
        local = self.draft.fresh(node.name.name, value.width)
        self.draft.mutable.add(local.name)
        self.draft.emit(Assign(local, value), node.at)
        scope.names[node.name.name] = Mutable(local)

    # --- assignments -------------------------------------------------------------------------

    def _assign(self, node: s.AssignStmt, scope: Scope) -> None:
        if isinstance(node.target, s.TupleOf):
            self._assign_tuple(node, node.target, scope)
        elif node.op:
            place = self.places.settle_place(self.places.place(node.target, scope).for_update(), node.at)
            old = place.read(self.draft, node.at)
            value = self.expressions.expr(node.value, scope, place.width)
            place.write(self.draft, build.binary(builtins.ARITHMETIC[node.op], old, value), node.at)
        else:
            width = self.widths.of(node.target, scope)
            if width is None:
                raise Mistake(node.target.at, "a constant cannot be assigned")
            value = self.expressions.expr(node.value, scope, width)
            place = self.places.place(node.target, scope)
            if isinstance(place, ConcatPlace):
                value = self.draft.settle(value, "whole", node.at)
            place.write(self.draft, value, node.at)

    def _assign_tuple(self, node: s.AssignStmt, target: s.TupleOf, scope: Scope) -> None:
        if node.op:
            raise Mistake(node.at, f"`{node.op}=` does not go with a tuple", "assign the places one by one")
        wants = tuple(self.widths.of(t, scope) for t in target.items)
        values = self.expressions.values(node.value, scope, wants)
        if len(values) != len(target.items):
            raise Mistake(node.at, f"{plural(len(values), 'value')} for {plural(len(target.items), 'place')}")
        # All right sides first: a write must not change a value that comes later.
        settled = [
            self.draft.settle(v, _name_of(t), node.at) for v, t in zip(values, target.items, strict=True)
        ]
        places = [self.places.place(t, scope) for t in target.items]
        for place, value in zip(places, settled, strict=True):
            place.write(self.draft, value, node.at)

    # --- decisions ---------------------------------------------------------------------------

    def _if(self, node: s.IfStmt, scope: Scope) -> None:
        condition = self.expressions.condition(node.condition, scope)
        if isinstance(condition, Const):
            chosen = node.then if condition.value else node.otherwise
            if chosen is not None:
                self.lower_all(chosen.body, scope.inner())
            return
        then = self._block(node.then, scope)
        otherwise = self._block(node.otherwise, scope) if node.otherwise is not None else ()
        self._emit_if(condition, then, otherwise, node)

    def _emit_if(self, condition: Expr, then: Block, otherwise: Block, node: s.Stmt) -> None:
        if then or otherwise:
            self.draft.emit(If(condition, then, otherwise), node.at)

    def statement_arms(self, node: s.MatchStmt, scope: Scope) -> list[tuple[Expr | None, s.BlockStmt]]:
        """Each arm with its condition; None where it is certain."""
        value = self.constants.value(node.subject, scope)
        if value is not None and self.widths.of(node.subject, scope) is None:
            for arm in node.arms:
                for pattern in arm.patterns:
                    if pattern is None or self.constants.value(pattern, scope) == value:
                        return [(None, arm.body)]
            return [(None, s.BlockStmt(node.at, ()))]
        subject = self.draft.settle(self.expressions.sized(node.subject, scope), "subject", node.subject.at)
        arms = self.expressions.arm_conditions(
            node.at, [(a.patterns, a.at) for a in node.arms], subject, scope, must_cover=False
        )
        return [(condition, node.arms[number].body) for number, condition in arms]

    def _branches(self, arms: list[tuple[Expr | None, s.BlockStmt]], scope: Scope, node: s.Stmt) -> None:
        if not arms:
            return
        condition, body = arms[0]
        if condition is None or condition == build.TRUE:
            self.lower_all(body.body, scope.inner())
        elif condition == build.FALSE:
            self._branches(arms[1:], scope, node)
        else:
            then = self._block(body, scope)
            with self.draft.block() as otherwise:
                self._branches(arms[1:], scope, node)
            self._emit_if(condition, then, tuple(otherwise), node)

    # --- loops -------------------------------------------------------------------------------

    def _for_range(self, node: s.ForRangeStmt, scope: Scope) -> None:
        width = self.widths.type_width(node.type, scope)
        first = self.widths.require_const(node.first, scope, "a loop's bound")
        last = self.widths.require_const(node.last, scope, "a loop's bound")
        for value, at in ((first, node.first.at), (last, node.last.at)):
            if not 0 <= value < 1 << width:
                raise Mistake(
                    at, f"{value} does not fit in {plural(width, 'bit')}", "give the counter more bits"
                )
        if abs(last - first) >= MAX_LOOP:
            raise Mistake(node.at, f"a loop of more than {MAX_LOOP} rounds")
        local = self.draft.fresh(node.name.name, width)
        inner = scope.inner()
        inner.names[node.name.name] = Values((local,))
        self.draft.emit(ForRange(local, first, last, self._block(node.body, inner)), node.at)

    def _for_set(self, node: s.ForSetStmt, scope: Scope) -> None:
        width = self.widths.type_width(node.type, scope)
        mask = self.expressions.sized(node.mask, scope)
        if mask.width - 1 >= 1 << width:
            raise Mistake(
                node.type.at, f"{plural(width, 'bit')} do not number the bits of a mask of {mask.width}"
            )
        local = self.draft.fresh(node.name.name, width)
        inner = scope.inner()
        inner.names[node.name.name] = Values((local,))
        mask = self.draft.settle(mask, "mask", node.mask.at)
        self.draft.emit(ForSet(local, mask, self._block(node.body, inner)), node.at)

    # --- leaving -----------------------------------------------------------------------------

    def _goto(self, node: s.GotoStmt, scope: Scope) -> None:
        self._only_in_instructions(node, "goto")
        target = self.expressions.expr(node.target, scope, self.draft.spec.pc_width)
        annul = None
        if node.annul is not None:
            annul = self.expressions.condition(node.annul, scope)
            if annul == build.FALSE:
                annul = None
        self.draft.emit(Goto(target, node.delay, annul), node.at)

    def _raise(self, node: s.RaiseStmt, scope: Scope) -> None:
        trap = self.draft.spec.traps.get(node.trap.name)
        if trap is None:
            if node.trap.name in self.draft.spec.family.traps:
                raise Poisoned
            raise Mistake(
                node.trap.at,
                f"there is no trap `{node.trap.name}`",
                did_you_mean(node.trap.name, self.draft.spec.traps),
            )
        if len(node.args) != len(trap.parameters):
            raise Mistake(
                node.at,
                f"trap `{trap.name}` takes {plural(len(trap.parameters), 'argument')}, not {len(node.args)}",
            )
        arguments: list[Expr] = []
        code = trap.code
        for argument, (name, width) in zip(node.args, trap.parameters, strict=True):
            value = self.expressions.expr(argument, scope, width)
            arguments.append(value)
            code = lazy.substitute(code, Local(width, name), value)
        self.draft.emit(Raise(trap.name, code, tuple(arguments)), node.at)


def _name_of(node: s.Expr) -> str:
    return node.name if isinstance(node, s.Name) else "value"
