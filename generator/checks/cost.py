"""Check 8: what decoding costs: the depth of a tree of fixed bits, and the forms tried at its leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from generator.checks.encodings import Encodings, Prefix
from generator.checks.overlap import best_bit
from generator.checks.report import Reporter
from generator.errors import Diagnostic
from generator.model.target import Form, Target

MOST_PROBES = 64
"""Forms that may have to be tried for one word."""

MOST_DEPTH = 64
"""Bits that may have to be tested before forms are tried."""

NODE_BYTES = 8
"""Table bytes that one test of a bit, and one form to try, are counted with."""


@dataclass(frozen=True)
class Cost:
    """A binary decision tree over fixed bits: its depth, nodes, and the leaf with most forms."""

    depth: int
    nodes: int
    entries: int
    worst: tuple[Form, ...]

    @property
    def table_bytes(self) -> int:
        """An estimate: every node and every form at a leaf takes `NODE_BYTES`."""
        return NODE_BYTES * (self.nodes + self.entries)


def measure(forms: Sequence[Form], encodings: Encodings) -> Cost:
    """The cost of telling `forms` apart."""
    depth = nodes = entries = 0
    worst: tuple[Form, ...] = ()
    todo: list[tuple[list[tuple[Form, Prefix]], int, int]] = [
        ([(form, encodings.fixed_prefix(form)) for form in forms], 0, 0)
    ]
    while todo:
        items, tried, level = todo.pop()
        depth = max(depth, level)
        bit = best_bit(items, tried) if len(items) > 1 else 0
        if not bit:
            entries += len(items)
            if len(items) > len(worst):
                worst = tuple(form for form, _ in items)
            continue
        nodes += 1
        todo.append(
            ([i for i in items if not i[1].mask & bit or not i[1].value & bit], tried | bit, level + 1)
        )
        todo.append(([i for i in items if not i[1].mask & bit or i[1].value & bit], tried | bit, level + 1))
    return Cost(depth, nodes, entries, worst)


def check(target: Target, encodings: Encodings, report: Reporter) -> Iterator[Diagnostic]:
    """An error for a set that is too costly; a note on each set's cost."""
    for group in target.sets:
        forms = [form for form in target.forms if form.set_name == group.name]
        if not forms:
            continue
        cost = measure(forms, encodings)
        name = f"set `{group.name}`" if len(target.sets) > 1 else target.name
        if len(cost.worst) > MOST_PROBES:
            shown = ", ".join(f"`{form.name}`" for form in cost.worst[:4])
            yield report.make(
                cost.worst[0].span,
                f"{len(cost.worst)} forms have no fixed bits that tell them apart (at most {MOST_PROBES})",
                label=f"{shown} and others",
                remedy="put what distinguishes them into their pictures instead of `when`s",
            )
        if cost.depth > MOST_DEPTH:
            yield report.make(
                forms[0].span,
                f"decoding {name} tests up to {cost.depth} bits one after the other (at most {MOST_DEPTH})",
                remedy="split the set, or write pictures with more fixed bits",
            )
        yield report.make(
            report.header(),
            f"decoding {name}: {len(forms)} forms, depth {cost.depth}, at most {len(cost.worst)} forms"
            f" to try, about {cost.table_bytes} bytes",
            severity="note",
        )
