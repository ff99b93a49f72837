"""Check 5: nothing is written before an access or `raise` that may still trap, unless `restartable`.

A trapped instruction is executed again (or reported with the state before it), so what it wrote must be
written again to the same effect. Walks every body in program order; shared functions count by what they may
write and whether they may trap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from generator.checks.encodings import Encodings
from generator.checks.report import Reporter
from generator.checks.solve import GaveUpError, Solver
from generator.checks.walk import Path, Plain, Walk
from generator.errors import Diagnostic
from generator.ir.effects import statements
from generator.ir.nodes import (
    Block,
    CallStmt,
    Expr,
    Goto,
    Load,
    Raise,
    Skip,
    Stmt,
    Store,
    Unary,
    WriteReg,
)
from generator.ir.show import show
from generator.model.target import Form, Target, Variant


@dataclass(frozen=True)
class Summary:
    """What a shared function may do, those that it calls included."""

    writes: bool = False
    traps: bool = False


def summaries(target: Target) -> dict[str, Summary]:
    """A summary of every shared function."""
    result = {function.name: Summary() for function in target.functions}
    changed = True
    while changed:
        changed = False
        for function in target.functions:
            new = Summary(
                any(writes(s, result) for s in statements(function.body)),
                any(may_trap(s, result) for s in statements(function.body)),
            )
            if new != result[function.name]:
                result[function.name] = new
                changed = True
    return result


def writes(statement: Stmt, known: dict[str, Summary]) -> bool:
    """Whether a statement itself writes state or memory."""
    if isinstance(statement, CallStmt):
        return not statement.builtin and known[statement.function].writes
    return isinstance(statement, WriteReg | Store)


def may_trap(statement: Stmt, known: dict[str, Summary]) -> bool:
    """Whether a statement itself may end the instruction with a trap."""
    if isinstance(statement, CallStmt):
        return not statement.builtin and known[statement.function].traps
    return isinstance(statement, Load | Store | Raise)


def what(statement: Stmt) -> str:
    """A statement for people: ``x[rd.n]``, ``the store to mem(32)[...]``, ``raise illegal``."""
    match statement:
        case WriteReg(register=register, index=None):
            return f"`{register}`"
        case WriteReg(register=register, index=index):
            return f"`{register}[{'' if index is None else show(index)}]`"
        case Store(address=address, value=value):
            return f"the store to `mem({value.width})[{show(address)}]`"
        case Load(local=local, address=address):
            return f"the load of `mem({local.width})[{show(address)}]`"
        case Raise(trap=trap):
            return f"`raise {trap}`"
        case Goto():
            return "a `goto`"
        case CallStmt(function=function):
            return f"the call of `{function}`"
    return type(statement).__name__.lower()


State = frozenset[Stmt]


def check(target: Target, encodings: Encodings, solver: Solver, report: Reporter) -> Iterator[Diagnostic]:
    """A diagnostic for each instruction or shared function that may trap when it has already written."""
    known = summaries(target)
    yield from _behind_goto(target, known, encodings, solver, report)
    seen: set[object] = set()
    for function in target.functions:
        if function.restartable:
            continue
        for written, event, _ in _violations(function.body, known)[:1]:
            yield report.about(
                function.span,
                f"`{function.name}` writes {what(written)} before {what(event)}, which may still trap",
                ((written, "written too early"), (event, "may trap")),
                "write state last, or mark the function `restartable` if what it wrote is harmless then",
            )
    for form in target.forms:
        if form.restartable or form.span in seen:
            continue
        for variant in form.variants:
            found = _violations(variant.body, known)
            real = next((v for v in found if _possible(v[2], form, variant, encodings, solver)), None)
            if real is None:
                continue
            written, event, _ = real
            seen.add(form.span)
            yield report.about(
                form.span,
                f"`{form.name}` writes {what(written)} before {what(event)}, which may still trap",
                ((written, "written too early"), (event, "may trap")),
                "write state last, or mark the instruction `restartable` if repeating it is harmless",
            )
            break


Violation = tuple[Stmt, Stmt, frozenset[tuple[Expr, bool]]]


def _violations(body: Block, known: dict[str, Summary]) -> list[Violation]:
    """(what was written, what may trap behind it, what the path assumes)."""
    found: list[Violation] = []

    def step(statement: Plain, path: Path[State]) -> State:
        if path.state and may_trap(statement, known):
            found.append((_first(path.state), statement, path.assumed))
        return path.state | {statement} if writes(statement, known) else path.state

    def condition(_: Expr, path: Path[State]) -> State:
        return path.state

    Walk(step, lambda a, b: a | b, condition).run(body, frozenset())
    return found


def _behind_goto(
    target: Target, known: dict[str, Summary], encodings: Encodings, solver: Solver, report: Reporter
) -> Iterator[Diagnostic]:
    """Effects behind a `goto`, which ends the instruction as `raise` does."""
    seen: set[object] = set()
    for form in target.forms:
        for variant in form.variants:
            for late, assumed in _late(variant.body, known):
                if form.span in seen or not _possible(assumed, form, variant, encodings, solver):
                    continue
                seen.add(form.span)
                yield report.about(
                    form.span,
                    f"`{form.name}` has {what(late)} behind a `goto`, where nothing runs",
                    ((late, "never done there"),),
                    "write state before the `goto`, or put the rest into an `else`",
                )


def _late(body: Block, known: dict[str, Summary]) -> list[tuple[Stmt, frozenset[tuple[Expr, bool]]]]:
    """Effects on paths that have passed a `goto`."""
    found: list[tuple[Stmt, frozenset[tuple[Expr, bool]]]] = []

    def step(statement: Plain, path: Path[bool]) -> bool:
        effect = writes(statement, known) or may_trap(statement, known) or isinstance(statement, Goto | Skip)
        if path.state and effect:
            found.append((statement, path.assumed))
        return path.state or isinstance(statement, Goto)

    Walk(step, lambda a, b: a or b, lambda _, path: path.state).run(body, False)
    return found


def _first(written: State) -> Stmt:
    return min(written, key=what)


def _possible(
    assumed: frozenset[tuple[Expr, bool]], form: Form, variant: Variant, encodings: Encodings, solver: Solver
) -> bool:
    """Whether some encoding of the form takes the path."""
    conditions: list[Expr] = [c if value else Unary(1, "not", c) for c, value in assumed]
    try:
        return solver.solve(encodings.matches_variant(form, variant, conditions)) is not None
    except GaveUpError:
        return True
