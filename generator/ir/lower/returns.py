"""Statements of functions that may return anywhere, lowered where the function is called."""

from __future__ import annotations

from generator.ir import build
from generator.ir.lower.calls import CallLowering
from generator.ir.lower.draft import Draft
from generator.ir.lower.expressions import ExpressionLowering
from generator.ir.lower.flow import never_ends
from generator.ir.lower.report import Mistake
from generator.ir.lower.scope import Scope
from generator.ir.lower.statements import StatementLowering
from generator.ir.nodes import Expr, If, Stmt
from generator.language import syntax as s
from generator.language.source import Pos


class ReturnLowering:
    """A function's statements in place: branches that return go on with the statements behind them."""

    def __init__(
        self,
        draft: Draft,
        expressions: ExpressionLowering,
        calls: CallLowering,
        statements: StatementLowering,
    ) -> None:
        self.draft = draft
        self.expressions = expressions
        self.calls = calls
        self.statements = statements

    def run(self, statements: list[s.Stmt], scope: Scope) -> tuple[tuple[Expr, ...] | None, bool]:
        """Lower a function's statements in place: its results (None: no path returns), and whether a path
        gets to the end without returning or trapping.
        """
        for number, statement in enumerate(statements):
            if isinstance(statement, s.ReturnStmt):
                return self.calls.return_values(statement, scope), False
            if not _returns(statement):
                before = len(self.draft.out)
                self.statements.lower(statement, scope)
                if any(never_ends(x) for x in self.draft.out[before:]):
                    return None, False
                continue
            return self._run_branches(statement, statements[number + 1 :], scope)
        return ((), True) if not self.draft.result_widths else (None, True)

    def _run_branches(
        self, statement: s.Stmt, rest: list[s.Stmt], scope: Scope
    ) -> tuple[tuple[Expr, ...] | None, bool]:
        """An `if` or `match` some of whose branches return: each goes on with the statements behind."""
        if isinstance(statement, s.IfStmt):
            condition = self.expressions.condition(statement.condition, scope)
            then = list(statement.then.body)
            otherwise = list(statement.otherwise.body) if statement.otherwise is not None else []
            return self._fork([(condition, then), (None, otherwise)], rest, scope, statement.at)
        if isinstance(statement, s.MatchStmt):
            arms = self.statements.statement_arms(statement, scope)
            branches = [(c, list(body.body)) for c, body in arms]
            if branches[-1][0] is not None:
                branches.append((None, []))
            return self._fork(branches, rest, scope, statement.at)
        raise Mistake(statement.at, "`return` from inside a loop", "only a `shared fn` may do that")

    def _fork(
        self, branches: list[tuple[Expr | None, list[s.Stmt]]], rest: list[s.Stmt], scope: Scope, at: Pos
    ) -> tuple[tuple[Expr, ...] | None, bool]:
        condition, body = branches[0]
        if condition is None or condition == build.TRUE:
            return self.run([*body, *rest], scope.inner())
        if condition == build.FALSE:
            return self._fork(branches[1:], rest, scope, at)
        with self.draft.block() as then_block:
            then, then_open = self.run([*body, *rest], scope.inner())
        with self.draft.block() as other_block:
            otherwise, other_open = self._fork(branches[1:], rest, scope, at)
        is_open = then_open or other_open
        if then is None or otherwise is None:
            # One branch traps (or both do): its statements stand in an `if`, the other's go on.
            first: tuple[Stmt, ...] = tuple(then_block) if then is None else ()
            second: tuple[Stmt, ...] = tuple(other_block) if otherwise is None else ()
            if first:
                self.draft.emit(If(condition, first, second), at)
            elif second:
                self.draft.emit(If(build.not_(condition), second, ()), at)
            if then is not None:
                self.draft.out.extend(then_block)
            elif otherwise is not None:
                self.draft.out.extend(other_block)
            return (then if then is not None else otherwise), is_open
        return self.draft.join(condition, (then_block, then), (other_block, otherwise), at), is_open


def _returns(statement: s.Stmt) -> bool:
    """Whether a `return` stands in `statement`."""
    match statement:
        case s.ReturnStmt():
            return True
        case s.IfStmt(then=then, otherwise=otherwise):
            return any(map(_returns, then.body)) or (
                otherwise is not None and any(map(_returns, otherwise.body))
            )
        case s.MatchStmt(arms=arms):
            return any(_returns(x) for arm in arms for x in arm.body.body)
        case s.ForRangeStmt(body=body) | s.ForSetStmt(body=body) | s.AtomicStmt(body=body):
            return any(map(_returns, body.body))
        case _:
            return False
