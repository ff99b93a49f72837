"""Check 3: every form and operand case is chosen for some encoding; what nothing decodes is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from generator.checks.encodings import Encodings, conjunction
from generator.checks.overlap import compatible, consistent
from generator.checks.report import Reporter
from generator.checks.solve import GaveUpError, Not, Solver
from generator.errors import Diagnostic
from generator.ir.decode import picture_width, winners
from generator.ir.state import closed_features
from generator.model.target import Form, InstructionSet, Operand, Span, Target

SAMPLES = 3
"""Holes that are shown, the largest ones."""

HOLE_STEPS = 100_000
"""Splits after which the count of holes is given up."""


def check(target: Target, encodings: Encodings, report: Reporter) -> Iterator[Diagnostic]:
    """Unreachable forms, forms hidden by others, unreachable cases; then notes on undecoded words.

    Contexts may have any value here: a target without 64-bit mode rightly never has what belongs to it.
    """
    solver = Solver(target, free=True)
    yield from _forms(target, encodings, solver, report)
    yield from _hidden(target, encodings, solver, report)
    yield from _cases(target, encodings, solver, report)
    yield from _holes(target, encodings, report)


def _forms(target: Target, encodings: Encodings, solver: Solver, report: Reporter) -> Iterator[Diagnostic]:
    """Instructions of which no form (of axis values, of several pictures) can be decoded."""
    blamed: dict[Span, tuple[Form, bool]] = {}
    reached: set[Span] = set()
    for form in target.forms:
        if form.span in reached:
            continue
        features = closed_features(target, form.needs)
        if not consistent(target, features):
            blamed.setdefault(form.span, (form, True))
            continue
        try:
            possible = (
                solver.solve(conjunction([encodings.matches(form), encodings.present(features)])) is not None
            )
        except GaveUpError:
            possible = True
        if possible:
            reached.add(form.span)
        else:
            blamed.setdefault(form.span, (form, False))
    for span, (form, exclusive) in blamed.items():
        if span in reached:
            continue
        if exclusive:
            yield report.make(
                span,
                f"`{form.name}` needs features that exclude each other: {', '.join(form.needs)}",
                label="never present",
                remedy="remove one of them from `needs`",
            )
        else:
            yield report.make(
                span,
                f"nothing encodes `{form.name}`: its picture and conditions contradict each other",
                label="never decoded",
                remedy="look at its `when` and at its operands' cases",
            )


def _hidden(target: Target, encodings: Encodings, solver: Solver, report: Reporter) -> Iterator[Diagnostic]:
    """Forms of which every encoding belongs to forms that are `before` them."""
    by_name = {form.name: form for form in target.forms}
    for loser, rivals in winners(target).items():
        form = by_name[loser]
        own = closed_features(target, form.needs)
        firsts = [f for f in rivals if compatible(target, f, form) and own.issuperset(f.needs)]
        if not firsts:
            continue
        parts = [encodings.matches(form), *(Not(encodings.matches(first)) for first in firsts)]
        try:
            if solver.solve(conjunction(parts)) is not None:
                continue
        except GaveUpError:
            continue
        yield report.make(
            form.span,
            f"`{form.name}` is never decoded: all its encodings belong to {_list(firsts)}",
            label="hidden",
            related=tuple((first.span, "comes before it") for first in firsts[:3]),
            remedy="turn the `before` round, or remove the form",
        )


def _list(forms: Sequence[Form]) -> str:
    names = [f"`{form.name}`" for form in forms[:4]]
    return ", ".join(names) + (" and others" if len(forms) > 4 else "")


def operands_of(operands: Sequence[Operand]) -> Iterator[Operand]:
    """All operands, nested ones included."""
    for operand in operands:
        yield operand
        for case in operand.cases:
            yield from operands_of(case.operands)


def _cases(target: Target, encodings: Encodings, solver: Solver, report: Reporter) -> Iterator[Diagnostic]:
    """Cases that no operand of the target can take.

    Classes with generic widths are left out: there a case may be for a width that this target doesn't use.
    """
    chosen: set[Span] = set()
    blamed: dict[Span, tuple[Operand, int]] = {}
    looked_at: set[int] = set()
    for form in target.forms:
        for operand in operands_of(form.operands):
            if id(operand.cases) in looked_at:
                continue
            looked_at.add(id(operand.cases))
            if len(operand.cases) == 1 or operand.generics:
                continue
            for number, case in enumerate(operand.cases):
                if case.span in chosen:
                    continue
                own = encodings.own_case(operand, number)
                earlier = [Not(encodings.own_case(operand, i)) for i in range(number)]
                try:
                    reached = solver.solve(conjunction([own, *earlier])) is not None
                except GaveUpError:
                    reached = True
                if reached:
                    chosen.add(case.span)
                else:
                    blamed.setdefault(case.span, (operand, number))
    for span, (operand, number) in blamed.items():
        if span in chosen:
            continue
        own = encodings.own_case(operand, number)
        related: tuple[tuple[Span, str], ...] = ()
        for i in range(number):
            if solver.solve(conjunction([own, Not(encodings.own_case(operand, i))])) is None:
                related = ((operand.cases[i].span, "takes all its encodings"),)
                break
        yield report.make(
            span,
            f"this case of `{operand.operand_class}` is never chosen",
            label="never chosen",
            related=related,
            remedy="put it before the case that hides it, or look at its `when`",
        )


# --- words that nothing decodes -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Holes:
    """What a set leaves undecoded: `count` of ``2**width`` words, and the largest holes as bit patterns."""

    width: int
    count: int
    samples: tuple[str, ...]


def holes(group: InstructionSet, forms: Sequence[Form], encodings: Encodings) -> Holes | None:
    """Words whose bits fit no form's fixed bits (conditions aren't looked at). None if that takes too
    long.
    """
    prefixes = [encodings.fixed_prefix(form) for form in forms]
    items = list(dict.fromkeys((p.mask, p.value) for p in prefixes))
    union = 0
    for bits, _ in items:
        union |= bits
    width = -(-union.bit_length() // group.unit) * group.unit
    if not group.stream:
        width = max(width, *(picture_width(form.picture) for form in forms))
    total = steps = 0
    found: list[tuple[int, int]] = []
    todo = [(items, 0, 0)]
    while todo:
        steps += 1
        if steps > HOLE_STEPS:
            return None
        left, known, value = todo.pop()
        free = 0
        counts: dict[int, int] = {}
        for bits, _ in left:
            missing = bits & ~known
            if not missing:
                break
            free |= missing
        else:
            if not left:
                total += 1 << (width - known.bit_count())
                found.append((known, value))
                continue
            while free:
                bit = free & -free
                free ^= bit
                counts[bit] = sum(1 for bits, _ in left if bits & bit)
            bit = max(counts, key=lambda b: (counts[b], -b))
            zeros = [item for item in left if not item[0] & bit or not item[1] & bit]
            ones = [item for item in left if not item[0] & bit or item[1] & bit]
            todo.append((ones, known | bit, value | bit))
            todo.append((zeros, known | bit, value))
    found.sort(key=lambda hole: (hole[0].bit_count(), hole[1]))
    return Holes(width, total, tuple(_pattern(group, width, *hole) for hole in found[:SAMPLES]))


def _pattern(group: InstructionSet, width: int, known: int, value: int) -> str:
    """Bits from the top (in a stream: from the first unit on), `-` where any bit will do."""
    top = "".join(
        "-" if not known >> i & 1 else "1" if value >> i & 1 else "0" for i in range(width - 1, -1, -1)
    )
    if not group.stream:
        return top
    units = [top[i : i + group.unit] for i in range(0, width, group.unit)]
    while len(units) > 1 and set(units[0]) == {"-"}:
        units.pop(0)
    return " ".join(reversed(units))


def _holes(target: Target, encodings: Encodings, report: Reporter) -> Iterator[Diagnostic]:
    for group in target.sets:
        forms = [form for form in target.forms if form.set_name == group.name]
        if not forms:
            continue
        result = holes(group, forms, encodings)
        if result is None or not result.count:
            continue
        share = 100 * result.count / (1 << result.width)
        words = f"{result.count} of 2**{result.width} words{_in_set(group)}"
        yield report.make(
            report.header(),
            f"{target.name}: {words} match no picture ({share:.3g} %)",
            label="e.g. " + ", ".join(result.samples),
            severity="note",
        )


def _in_set(group: InstructionSet) -> str:
    return f" of set `{group.name}`" if group.name else ""
