"""Statements: syntax to IR."""

from __future__ import annotations

from collections.abc import Sequence

from generator.ir import build
from generator.ir.lower import builtins, lazy
from generator.ir.lower.calls import CallPart, never_ends
from generator.ir.lower.places import ConcatPlace
from generator.ir.lower.report import Mistake, Poisoned, did_you_mean, plural
from generator.ir.lower.scope import Broken, Mutable, Scope, Values
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
    Stmt,
    kind_of,
)
from generator.language import syntax as s

MAX_LOOP = 4096


class StatementPart(CallPart):
    """Blocks and statements."""

    def body(self, block: s.BlockStmt, scope: Scope) -> None:
        """A whole body: mistakes are reported statement by statement."""
        self.statements(block.body, scope)

    def statements(self, statements: Sequence[s.Stmt], scope: Scope) -> None:
        for statement in statements:
            try:
                self.statement(statement, scope)
            except (Mistake, Poisoned) as problem:
                if self._function is not None:
                    raise  # the call is what fails
                if isinstance(problem, Mistake):
                    self.spec.report.add(problem)
                self.failed = True
                if isinstance(statement, s.LetStmt):
                    for name in statement.names:
                        scope.names[name.name] = Broken()
                elif isinstance(statement, s.VarStmt):
                    scope.names[statement.name.name] = Broken()

    failed = False

    def statement(self, node: s.Stmt, scope: Scope) -> None:
        match node:
            case s.AssignStmt():
                self._assign(node, scope)
            case s.LetStmt():
                self._let(node, scope)
            case s.IfStmt():
                self._if(node, scope)
            case s.ExprStmt(call=call):
                self.call(call, scope, None)
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
                value = build.TRUE if condition is None else self.condition(condition, scope)
                self.emit(Skip(value), node.at)
            case s.ForRangeStmt():
                self._for_range(node, scope)
            case s.ForSetStmt():
                self._for_set(node, scope)
            case s.AtomicStmt():
                self._atomic(node, scope)
            case s.ReturnStmt():
                if not self.shared or self._function is not None:
                    raise Mistake(node.at, "`return` stands in functions only", "use `if` ... `else`")
                self.emit(Return(self.return_values(node, scope)), node.at)

    def _atomic(self, node: s.AtomicStmt, scope: Scope) -> None:
        when = build.TRUE if node.when is None else self.condition(node.when, scope)
        if kind_of(when) == DYNAMIC:
            assert node.when is not None
            raise Mistake(node.when.at, "`atomic when` is decided when the instruction is decoded")
        if when == build.FALSE:
            self.statements(node.body.body, scope.inner())
            return
        body = self._block(node.body, scope)
        together = Atomic(body)
        self.emit(together if when == build.TRUE else If(when, (together,), body), node.at)

    def _block(self, block: s.BlockStmt, scope: Scope) -> Block:
        with self.block() as out:
            self.statements(block.body, scope.inner())
        return tuple(out)

    def _only_in_instructions(self, node: s.Stmt, what: str) -> None:
        if self.shared:
            raise Mistake(
                node.at,
                f"`{what}` stands in instructions only",
                "in a shared function, write the register: pc = ..." if what == "goto" else "",
            )

    # --- names -------------------------------------------------------------------------------

    def _let(self, node: s.LetStmt, scope: Scope) -> None:
        wants = self.type_widths(node.type, scope) if node.type is not None else None
        if wants is not None and len(wants) != len(node.names):
            raise Mistake(node.at, f"{plural(len(node.names), 'name')} for {plural(len(wants), 'value')}")
        self.hint = node.names[0].name
        try:
            if node.is_tuple:
                values = self.values(node.value, scope, wants)
            else:
                values = (self._let_value(node, scope, wants[0] if wants else None),)
        finally:
            self.hint = ""
        if len(values) != len(node.names):
            raise Mistake(node.at, f"{plural(len(node.names), 'name')} for {plural(len(values), 'value')}")
        for name, value in zip(node.names, values, strict=True):
            scope.names[name.name] = Values((self.settle(value, name.name, node.at),))

    def _let_value(self, node: s.LetStmt, scope: Scope, want: int | None) -> Expr:
        if want is None:
            widths = self.widths(node.value, scope)
            if len(widths) > 1:
                raise Mistake(node.at, f"{plural(len(widths), 'value')} for one name", "let (a, b) = ...")
            if widths == ():
                raise Mistake(node.value.at, "this has no value")
            want = widths[0]
        if want is None and (digits := self.digits(node.value, scope)) is not None:
            want = digits
        return self.expr(node.value, scope, want)

    def _var(self, node: s.VarStmt, scope: Scope) -> None:
        width = self.type_width(node.type, scope) if node.type is not None else self.width(node.value, scope)
        value = self.expr(node.value, scope, width)
        local = self.fresh(node.name.name, value.width)
        self.mutable.add(local.name)
        self.emit(Assign(local, value), node.at)
        scope.names[node.name.name] = Mutable(local)

    # --- assignments -------------------------------------------------------------------------

    def _assign(self, node: s.AssignStmt, scope: Scope) -> None:
        if isinstance(node.target, s.TupleOf):
            self._assign_tuple(node, node.target, scope)
        elif node.op:
            place = self.settle_place(self.place(node.target, scope).for_update(), node.at)
            old = place.read(self, node.at)
            value = self.expr(node.value, scope, place.width)
            place.write(self, build.binary(builtins.ARITHMETIC[node.op], old, value), node.at)
        else:
            width = self.width(node.target, scope)
            if width is None:
                raise Mistake(node.target.at, "a constant cannot be assigned")
            value = self.expr(node.value, scope, width)
            place = self.place(node.target, scope)
            if isinstance(place, ConcatPlace):
                value = self.settle(value, "whole", node.at)
            place.write(self, value, node.at)

    def _assign_tuple(self, node: s.AssignStmt, target: s.TupleOf, scope: Scope) -> None:
        if node.op:
            raise Mistake(node.at, f"`{node.op}=` does not go with a tuple", "assign the places one by one")
        wants = tuple(self.width(t, scope) for t in target.items)
        values = self.values(node.value, scope, wants)
        if len(values) != len(target.items):
            raise Mistake(node.at, f"{plural(len(values), 'value')} for {plural(len(target.items), 'place')}")
        # All right sides first: a write must not change a value that comes later.
        settled = [self.settle(v, _name_of(t), node.at) for v, t in zip(values, target.items, strict=True)]
        places = [self.place(t, scope) for t in target.items]
        for place, value in zip(places, settled, strict=True):
            place.write(self, value, node.at)

    # --- decisions ---------------------------------------------------------------------------

    def _if(self, node: s.IfStmt, scope: Scope) -> None:
        condition = self.condition(node.condition, scope)
        if isinstance(condition, Const):
            chosen = node.then if condition.value else node.otherwise
            if chosen is not None:
                self.statements(chosen.body, scope.inner())
            return
        then = self._block(node.then, scope)
        otherwise = self._block(node.otherwise, scope) if node.otherwise is not None else ()
        self._emit_if(condition, then, otherwise, node)

    def _emit_if(self, condition: Expr, then: Block, otherwise: Block, node: s.Stmt) -> None:
        if then or otherwise:
            self.emit(If(condition, then, otherwise), node.at)

    def statement_arms(self, node: s.MatchStmt, scope: Scope) -> list[tuple[Expr | None, s.BlockStmt]]:
        """Each arm with its condition; None where it is certain."""
        value = self.const(node.subject, scope)
        if value is not None and self.width(node.subject, scope) is None:
            for arm in node.arms:
                for pattern in arm.patterns:
                    if pattern is None or self.const(pattern, scope) == value:
                        return [(None, arm.body)]
            return [(None, s.BlockStmt(node.at, ()))]
        subject = self.settle(self.sized(node.subject, scope), "subject", node.subject.at)
        arms = self.arm_conditions(
            node.at, [(a.patterns, a.at) for a in node.arms], subject, scope, must_cover=False
        )
        return [(condition, node.arms[number].body) for number, condition in arms]

    def _branches(self, arms: list[tuple[Expr | None, s.BlockStmt]], scope: Scope, node: s.Stmt) -> None:
        if not arms:
            return
        condition, body = arms[0]
        if condition is None or condition == build.TRUE:
            self.statements(body.body, scope.inner())
        elif condition == build.FALSE:
            self._branches(arms[1:], scope, node)
        else:
            then = self._block(body, scope)
            with self.block() as otherwise:
                self._branches(arms[1:], scope, node)
            self._emit_if(condition, then, tuple(otherwise), node)

    # --- loops -------------------------------------------------------------------------------

    def _for_range(self, node: s.ForRangeStmt, scope: Scope) -> None:
        width = self.type_width(node.type, scope)
        first = self.require_const(node.first, scope, "a loop's bound")
        last = self.require_const(node.last, scope, "a loop's bound")
        for value, at in ((first, node.first.at), (last, node.last.at)):
            if not 0 <= value < 1 << width:
                raise Mistake(
                    at, f"{value} does not fit in {plural(width, 'bit')}", "give the counter more bits"
                )
        if abs(last - first) >= MAX_LOOP:
            raise Mistake(node.at, f"a loop of more than {MAX_LOOP} rounds")
        local = self.fresh(node.name.name, width)
        inner = scope.inner()
        inner.names[node.name.name] = Values((local,))
        self.emit(ForRange(local, first, last, self._block(node.body, inner)), node.at)

    def _for_set(self, node: s.ForSetStmt, scope: Scope) -> None:
        width = self.type_width(node.type, scope)
        mask = self.sized(node.mask, scope)
        if mask.width - 1 >= 1 << width:
            raise Mistake(
                node.type.at, f"{plural(width, 'bit')} do not number the bits of a mask of {mask.width}"
            )
        local = self.fresh(node.name.name, width)
        inner = scope.inner()
        inner.names[node.name.name] = Values((local,))
        mask = self.settle(mask, "mask", node.mask.at)
        self.emit(ForSet(local, mask, self._block(node.body, inner)), node.at)

    # --- leaving -----------------------------------------------------------------------------

    def _goto(self, node: s.GotoStmt, scope: Scope) -> None:
        self._only_in_instructions(node, "goto")
        target = self.expr(node.target, scope, self.spec.pc_width)
        annul = None
        if node.annul is not None:
            annul = self.condition(node.annul, scope)
            if annul == build.FALSE:
                annul = None
        self.emit(Goto(target, node.delay, annul), node.at)

    def _raise(self, node: s.RaiseStmt, scope: Scope) -> None:
        trap = self.spec.traps.get(node.trap.name)
        if trap is None:
            if node.trap.name in self.spec.family.traps:
                raise Poisoned
            raise Mistake(
                node.trap.at,
                f"there is no trap `{node.trap.name}`",
                did_you_mean(node.trap.name, self.spec.traps),
            )
        if len(node.args) != len(trap.parameters):
            raise Mistake(
                node.at,
                f"trap `{trap.name}` takes {plural(len(trap.parameters), 'argument')}, not {len(node.args)}",
            )
        arguments: list[Expr] = []
        code = trap.code
        for argument, (name, width) in zip(node.args, trap.parameters, strict=True):
            value = self.expr(argument, scope, width)
            arguments.append(value)
            code = lazy.substitute(code, Local(width, name), value)
        self.emit(Raise(trap.name, code, tuple(arguments)), node.at)


def _name_of(node: s.Expr) -> str:
    return node.name if isinstance(node, s.Name) else "value"


def always_leaves(block: Sequence[Stmt]) -> bool:
    """Whether every path through `block` returns or traps."""
    return any(never_ends(statement) for statement in block)
