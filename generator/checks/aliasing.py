"""Check 7: no source is read behind a write of what may be the same register; no memory operand twice.

``rd = a; z = rs1 == 0`` reads the new value where rd is rs1, and the old one elsewhere: the two are different
operands, so the spec cannot have meant both. A memory operand that is named twice is read twice: a device
would notice, and another CPU may write in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from generator.checks.encodings import Encodings
from generator.checks.report import Reporter
from generator.checks.solve import GaveUpError, Solver
from generator.checks.walk import Assumptions, Path, Plain, Walk, bound
from generator.errors import Diagnostic
from generator.ir.effects import expressions, statements, subexpressions
from generator.ir.nodes import (
    Binary,
    Const,
    Expr,
    ForRange,
    ForSet,
    Load,
    Local,
    ReadReg,
    Stmt,
    Unary,
    WriteReg,
)
from generator.ir.show import show
from generator.model.target import Form, Target, Variant


@dataclass(frozen=True)
class _Memory:
    """What a path has done: entries of files written, and memory read at which address."""

    written: frozenset[WriteReg] = frozenset()
    loads: frozenset[tuple[Expr, int, str]] = frozenset()

    def join(self, other: _Memory) -> _Memory:
        return _Memory(self.written | other.written, self.loads & other.loads)


@dataclass(frozen=True)
class _Alias:
    register: str
    written: Expr
    read: Expr
    assumed: Assumptions
    writer: Stmt
    reader: Stmt | None  # None: a condition


def check(target: Target, encodings: Encodings, solver: Solver, report: Reporter) -> Iterator[Diagnostic]:
    """A diagnostic for each instruction that reads a source too late or a memory operand twice."""
    zeros = {register.name: register.zero for register in target.registers}
    late: set[object] = set()
    twice: set[object] = set()
    for form in target.forms:
        for variant in form.variants:
            aliases, repeated = _follow(variant)
            for alias in _distinct(aliases) if form.span not in late else ():
                if not _may_alias(alias, zeros.get(alias.register), form, variant, encodings, solver):
                    continue
                late.add(form.span)
                source, destination = (f"{alias.register}[{show(e)}]" for e in (alias.read, alias.written))
                yield report.about(
                    form.span,
                    f"`{form.name}` reads `{source}` behind a write of `{destination}`, maybe the same one",
                    ((alias.reader, "read too late"), (alias.writer, "written")),
                    "bind the source with `let` before the write",
                )
                break
            if repeated and form.span not in twice:
                twice.add(form.span)
                yield report.about(
                    form.span,
                    f"`{form.name}` reads the memory operand at `{show(repeated[0].address)}` twice",
                    ((repeated[0], "read again"),),
                    "bind it with `let` and use that",
                )


def _distinct(aliases: list[_Alias]) -> Iterator[_Alias]:
    """Those whose entries may be the same, each pair once: solving is what takes time."""
    seen: set[object] = set()
    for alias in aliases:
        pair = alias.register, alias.written, alias.read, alias.assumed
        if pair not in seen and not (isinstance(alias.written, Const) and isinstance(alias.read, Const)):
            seen.add(pair)
            yield alias


def _follow(variant: Variant) -> tuple[list[_Alias], list[Load]]:
    aliases: list[_Alias] = []
    repeated: list[Load] = []
    counters = [s.local for s in statements(variant.body) if isinstance(s, ForRange | ForSet)]

    def read(
        exprs: tuple[Expr, ...],
        path: Path[_Memory],
        reader: Stmt | None = None,
        merges: tuple[str, Expr] | None = None,
    ) -> None:
        for expr in exprs:
            for node in subexpressions(expr):
                if (
                    not isinstance(node, ReadReg)
                    or node.index is None
                    or (node.register, node.index) == merges
                ):
                    continue
                for writer in path.state.written:
                    index = writer.index
                    if index is not None and writer.register == node.register and index != node.index:
                        aliases.append(
                            _Alias(writer.register, index, node.index, path.assumed, writer, reader)
                        )

    def step(statement: Plain, path: Path[_Memory]) -> _Memory:
        state = path.state
        merges = None
        if isinstance(statement, WriteReg) and statement.index is not None:
            # Writing part of an entry reads the rest of it, and must see what was written before.
            merges = (statement.register, statement.index)
        read(expressions(statement), path, statement, merges)
        for local in bound(statement):
            state = replace(state, loads=frozenset(x for x in state.loads if not _uses(x[0], local)))
        match statement:
            case WriteReg(register=register, index=index):
                if index is not None:
                    state = replace(state, written=state.written | {statement})
                state = replace(state, loads=frozenset(x for x in state.loads if not _reads(x[0], register)))
            case Load(local=local, address=address, space=space):
                key = (address, local.width, space)
                if key in state.loads:
                    repeated.append(statement)
                if not any(_uses(address, counter) for counter in counters):
                    state = replace(state, loads=state.loads | {key})
        return state

    def condition(expr: Expr, path: Path[_Memory]) -> _Memory:
        read((expr,), path)
        return path.state

    Walk(step, _Memory.join, condition).run(variant.body, _Memory())
    return aliases, repeated


def _reads(expr: Expr, register: str) -> bool:
    return any(isinstance(node, ReadReg) and node.register == register for node in subexpressions(expr))


def _uses(expr: Expr, local: Local) -> bool:
    return any(isinstance(node, Local) and node.name == local.name for node in subexpressions(expr))


def _may_alias(
    alias: _Alias, zero: int | None, form: Form, variant: Variant, encodings: Encodings, solver: Solver
) -> bool:
    """Whether some encoding makes the two entries the same (and not the zero register)."""
    width = max(alias.read.width, alias.written.width)
    read, written = _widen(alias.read, width), _widen(alias.written, width)
    conditions: list[Expr] = [Binary(1, "eq", read, written)]
    if zero is not None:
        conditions.append(Binary(1, "ne", written, Const(width, zero)))
    conditions += [c if value else Unary(1, "not", c) for c, value in alias.assumed]
    try:
        return solver.solve(encodings.matches_variant(form, variant, conditions)) is not None
    except GaveUpError:
        return True


def _widen(expr: Expr, width: int) -> Expr:
    return expr if expr.width == width else Unary(width, "zext", expr)
