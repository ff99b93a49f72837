"""What a spec is checked for behind lowering, in the order of the groups in docs/language.md.

Lowering itself reports group 1 and the widths of group 4. Group 10 (all tiers agree) and the exact half of
group 6 (what is disassembled assembles to the same) need a built target: they are conformance's. `corners`
makes encodings for tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from generator.checks import aliasing, assigned, calls, cost, examples, order, overlap, reachable, syntax
from generator.checks.encodings import Encodings
from generator.checks.examples import Assemble
from generator.checks.report import Reporter
from generator.checks.solve import Solver
from generator.errors import Diagnostic
from generator.ir.places import Places
from generator.model.target import Target

MOST: Final = 1000
"""After so many diagnostics a spec isn't looked at any further."""


def run_checks(
    target: Target,
    sources: Mapping[str, str],
    assemble: Assemble | None = None,
    places: Places | None = None,
) -> list[Diagnostic]:
    """All diagnostics, group by group; those of severity "note" inform, the others are errors.

    `sources`: the spec files' texts by the names that the target's spans use. `assemble` (dialect, line ->
    bytes; raises ValueError) makes the check of `example` lines exact; without it their bytes are decoded and
    compared by name. With `places` (from `load_sources`) messages about behaviours point at statements.
    """
    return list(islice(_run(target, Reporter(sources, places), assemble), MOST))


def errors(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    """Those that must not be built with."""
    return [d for d in diagnostics if d.severity == "error"]


def _run(target: Target, report: Reporter, assemble: Assemble | None) -> Iterator[Diagnostic]:
    encodings, solver = Encodings(target), Solver(target)
    yield from overlap.check(target, encodings, solver, report)
    yield from reachable.check(target, encodings, report)
    yield from assigned.check(target, report)
    yield from calls.check(target, report)
    yield from order.check(target, encodings, solver, report)
    yield from syntax.check(target, solver, report)
    yield from aliasing.check(target, encodings, solver, report)
    yield from cost.check(target, encodings, report)
    yield from examples.check(target, encodings, solver, report, assemble)
