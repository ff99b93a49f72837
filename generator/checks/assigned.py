"""Check 4: what is left over: locals without a value, functions without a result, fields that nothing uses.

Widths and literals are lowering's business (`generator.ir.lower`).
"""

from __future__ import annotations

from collections.abc import Iterator

from generator.checks.report import Reporter
from generator.checks.walk import Path, Plain, Walk, bound
from generator.errors import Diagnostic
from generator.ir.effects import expressions, statements, subexpressions
from generator.ir.nodes import Block, Expr, Field, ForRange, ForSet, Local
from generator.model.target import Form, Hole, Operand, Target, Text

State = frozenset[str]


def check(target: Target, report: Reporter) -> Iterator[Diagnostic]:
    """Diagnostics for shared functions, then for instructions."""
    for function in target.functions:
        missing, ends = _follow(function.body, frozenset(p.name for p in function.parameters))
        if missing:
            yield report.make(
                function.span,
                f"`{function.name}` uses `{missing[0]}`, which has no value on some path",
                remedy="give it a value on every path",
            )
        if ends and function.results:
            yield report.make(
                function.span,
                f"`{function.name}` ends without a result on some path",
                label="no `return`",
                remedy="end every path with `return`",
            )
    seen: set[object] = set()
    for form in target.forms:
        if form.span in seen:
            continue
        for variant in form.variants:
            missing, _ = _follow(variant.body, frozenset())
            if missing:
                seen.add(form.span)
                yield report.make(
                    form.span,
                    f"`{form.name}` uses `{missing[0]}`, which has no value on some path",
                    remedy="give it a value on every path",
                )
                break
    yield from _unused(target, report)
    yield from _unsaid(target, report)


def _follow(body: Block, start: State) -> tuple[list[str], bool]:
    """Locals that are read without a value, and whether a path reaches the end."""
    missing: list[str] = []
    loops = {s.local.name for s in statements(body) if isinstance(s, ForRange | ForSet)}

    def look(exprs: tuple[Expr, ...], state: State) -> None:
        for expr in exprs:
            for node in subexpressions(expr):
                if isinstance(node, Local) and node.name not in state and node.name not in loops:
                    missing.append(node.name)

    def step(statement: Plain, path: Path[State]) -> State:
        look(expressions(statement), path.state)
        return path.state | {local.name for local in bound(statement)}

    def condition(expr: Expr, path: Path[State]) -> State:
        look((expr,), path.state)
        return path.state

    ends = Walk(step, lambda a, b: a & b, condition).run(body, start)
    return missing, bool(ends)


def _unused(target: Target, report: Reporter) -> Iterator[Diagnostic]:
    """Fields that an instruction's picture places, but that neither its text nor anything else looks at."""
    unused: dict[tuple[object, str], Form] = {}
    used: set[tuple[object, str]] = set()
    for form in target.forms:
        names = {piece.name for piece in form.picture if piece.kind == "field"}
        mentioned = _mentioned(form) | {operand.path for operand in form.operands if _silent(operand)}
        for name in sorted(names):
            key: tuple[object, str] = (form.span, name)
            if any(m == name or m.startswith(f"{name}.") for m in mentioned):
                used.add(key)
            else:
                unused.setdefault(key, form)
    for key, form in unused.items():
        name = key[1]
        if key not in used:
            yield report.make(
                form.span,
                f"`{form.name}` never uses its field `{name}`",
                label=f"`{name}` is in the picture, but neither in the text nor in the behaviour",
                remedy="use it, or write `-` for each of its bits",
            )


def _unsaid(target: Target, report: Reporter) -> Iterator[Diagnostic]:
    """Fields that the behaviour uses, but that a text doesn't name and no condition fixes."""
    seen: set[tuple[object, str]] = set()
    for form in target.forms:
        fixed: set[str] = set()
        if form.when is not None:
            fixed = {node.name for node in subexpressions(form.when) if isinstance(node, Field)}
        said = [_holes(text) | fixed for text in form.texts]
        for name in sorted({piece.name for piece in form.picture if piece.kind == "field"}):
            told = all(any(s == name or s.startswith(f"{name}.") for s in names) for names in said)
            if told or (form.span, name) in seen:
                continue
            seen.add((form.span, name))
            if any(m == name or m.startswith(f"{name}.") for m in _mentioned(form)):
                yield report.make(
                    form.span,
                    f"the text of `{form.name}` leaves out its field `{name}`",
                    label=f"the assembler couldn't know `{name}`",
                    remedy=f"write {{{name}}} in the text, or fixed bits in the picture",
                )


def _said(form: Form) -> set[str]:
    """The names in a form's texts."""
    return {name for text in form.texts for name in _holes(text)}


def _holes(text: Text) -> set[str]:
    return {part.name for part in text.parts if isinstance(part, Hole)}


def _mentioned(form: Form) -> set[str]:
    found = _said(form)
    exprs: list[Expr] = [e for e in (form.when,) if e is not None]
    exprs += [e for _, e in (*form.allow, *form.undefined) if e is not None]
    for variant in form.variants:
        exprs += [e for e in (variant.guard, variant.condition) if e is not None]
        for statement in statements(variant.body):
            exprs += expressions(statement)
    for operand in form.operands:
        exprs += _linear(operand)
    for expr in exprs:
        found |= {node.name for node in subexpressions(expr) if isinstance(node, Field)}
    return found


def _silent(operand: Operand) -> bool:
    """Whether an operand has neither texts nor values: it only says which bits are allowed."""
    return all(
        case.value is None
        and not case.register_file
        and case.texts
        and not any(part for text in case.texts for part in text.parts)
        for case in operand.cases
    )


def _linear(operand: Operand) -> list[Expr]:
    if operand.linear is None:
        return []
    cases = operand.linear.cases
    return [e for case in cases for e in (case.when, case.base, case.index, case.scale, case.offset)]
