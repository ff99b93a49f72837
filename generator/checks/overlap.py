"""Check 2: no two forms of a target match the same instruction, unless `before` says which one wins.

Pairs that share no fixed bits are found by splitting all forms on one bit after the other; only the few pairs
that are left are solved exactly, over operand cases, `when`s, contexts, prefixes and the features that both
need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from generator.checks.encodings import Encodings, Prefix, conjunction
from generator.checks.report import Reporter
from generator.checks.solve import GaveUpError, Solution, Solver
from generator.errors import Diagnostic
from generator.ir.decode import before_relation, picture_width
from generator.ir.state import FEATURES, closed_features
from generator.model.target import Form, Span, Target

SMALL = 6
"""Groups of up to so many forms are compared pair by pair."""


def check(target: Target, encodings: Encodings, solver: Solver, report: Reporter) -> Iterator[Diagnostic]:
    """A diagnostic for each pair of instructions (not of forms: axes and pictures count once) that
    overlap.
    """
    wins = before_relation(target.forms)
    yield from _circles(target, wins, report)
    seen: set[tuple[object, object]] = set()
    for first, second in candidates(target, encodings):
        key = _kind(first), _kind(second)
        if key in seen or (first.name, second.name) in wins or (second.name, first.name) in wins:
            continue
        names = _names(first, second)
        try:
            present = encodings.present(closed_features(target, (*first.needs, *second.needs)))
            heads = conjunction([encodings.head(first), encodings.head(second), present])
            if solver.solve(heads) is None:
                continue
            formula = conjunction([encodings.matches(first), encodings.matches(second), present])
            solution = solver.solve(formula)
        except GaveUpError:
            seen.add(key)
            yield report.make(
                second.span,
                f"can't tell whether {names} overlap: their conditions are too complex",
                label="second form",
                related=((first.span, "first form"),),
                remedy="simplify their `when`s, or order them with `before`",
            )
            continue
        if solution is None:
            continue
        seen.add(key)
        yield report.make(
            second.span,
            f"{names} both match {describe(target, encodings, solution, first, second)}",
            label="second form",
            related=((first.span, "first form"),),
            remedy="order them with `before`, or add a `when` that separates them",
        )


def _circles(target: Target, wins: set[tuple[str, str]], report: Reporter) -> Iterator[Diagnostic]:
    """Forms that are `before` each other, perhaps by way of others."""
    by_name = {form.name: form for form in target.forms}
    seen: set[frozenset[Span]] = set()
    for first, second in sorted(wins):
        a, b = by_name[first], by_name[second]
        key = frozenset((a.span, b.span))
        if (second, first) not in wins or key in seen:
            continue
        seen.add(key)
        yield report.make(
            a.span,
            f"{_names(a, b)} are each `before` the other",
            related=((b.span, "the other"),) if b.span != a.span else (),
            remedy="remove one `before`",
        )


def _kind(form: Form) -> tuple[str, str, Span]:
    return form.instruction, form.mnemonic, form.span


def _names(first: Form, second: Form) -> str:
    if first.mnemonic == second.mnemonic:
        return f"`{first.name}` and `{second.name}`"
    return f"`{first.mnemonic}` and `{second.mnemonic}`"


def candidates(target: Target, encodings: Encodings) -> Iterator[tuple[Form, Form]]:
    """Pairs of forms that may be tried together and whose fixed bits don't differ, each once, the earlier
    one first. They are made one by one: of a spec that is wrong there may be millions.
    """
    order = {form.name: number for number, form in enumerate(target.forms)}
    for group in _groups(target, encodings):
        items = [(form, encodings.fixed_prefix(form)) for form in group]
        met: set[tuple[int, int]] = set()
        for a, b in _split(items):
            first, second = sorted((order[a.name], order[b.name]))
            if (first, second) in met:
                continue
            met.add((first, second))
            if compatible(target, target.forms[first], target.forms[second]):
                yield target.forms[first], target.forms[second]


def _groups(target: Target, encodings: Encodings) -> Iterator[list[Form]]:
    """Forms of sets that can be active together: those without a `when`, and each set with one."""
    plain = [f for f in target.forms if encodings.sets[f.set_name].when is None]
    if plain:
        yield plain
    for group in target.sets:
        if group.when is not None:
            yield [f for f in target.forms if f.set_name == group.name]


def compatible(target: Target, first: Form, second: Form) -> bool:
    """Whether the features that both forms need may be present together."""
    if not first.needs and not second.needs:
        return True
    features = closed_features(target, (*first.needs, *second.needs))
    return consistent(target, features)


def consistent(target: Target, features: Iterable[str]) -> bool:
    """Whether no feature of a closed set excludes another one of it."""
    present = set(features)
    return not any(f.name in present and present.intersection(f.excludes) for f in target.features)


def _split(items: Sequence[tuple[Form, Prefix]], tried: int = 0) -> Iterator[tuple[Form, Form]]:
    """Pairs whose fixed bits agree; `tried` are the bits that have been split on."""
    bit = 0
    if len(items) > SMALL:
        bit = best_bit(items, tried)
    if not bit:
        for i, (first, a) in enumerate(items):
            for second, b in items[i + 1 :]:
                if not (a.value ^ b.value) & a.mask & b.mask:
                    yield first, second
        return
    zeros = [item for item in items if not item[1].mask & bit or not item[1].value & bit]
    ones = [item for item in items if not item[1].mask & bit or item[1].value & bit]
    yield from _split(zeros, tried | bit)
    yield from _split(ones, tried | bit)


def best_bit(items: Sequence[tuple[Form, Prefix]], tried: int) -> int:
    """The bit whose split leaves the smaller greater half; 0 if none makes both halves smaller."""
    union = 0
    for _, prefix in items:
        union |= prefix.mask
    best, best_size = 0, len(items)
    candidates_left = union & ~tried
    while candidates_left:
        bit = candidates_left & -candidates_left
        candidates_left ^= bit
        ones = sum(1 for _, p in items if p.mask & bit and p.value & bit)
        zeros = sum(1 for _, p in items if p.mask & bit and not p.value & bit)
        size = len(items) - min(ones, zeros)
        if size < best_size:
            best, best_size = bit, size
    return best


def describe(target: Target, encodings: Encodings, solution: Solution, *forms: Form) -> str:
    """The witness for people: the word (or a stream's bytes) and the variables that matter."""
    group = encodings.sets[forms[0].set_name]
    width = max(picture_width(form.picture) for form in forms)
    width = max(width, -(-solution.known.bit_length() // group.unit) * group.unit)
    if group.stream:
        size = group.unit // 8
        units = (solution.word >> i & (1 << group.unit) - 1 for i in range(0, width, group.unit))
        text = " ".join(f"{unit:0{2 * size}x}" for unit in units)
    else:
        text = f"{solution.word:#0{2 + -(-width // 4)}x}"
    values = [f"{name} = {value}" for name, value in sorted(solution.variables.items()) if name != FEATURES]
    return text + (f" with {', '.join(values)}" if values else "")
