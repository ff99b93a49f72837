"""What a suite finds: one row for each form (or program, or kind of vector), with its failures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

KEPT_FAILURES: Final = 3
"""Failures of a row that are told in full; all are counted."""


NEVER_ENCODED: Final = "never encoded"
"""The count of forms that no encoding was found for."""
NO_ENCODING: Final = "no encoding found that decodes as this form"


@dataclass(frozen=True)
class Failure:
    """One disagreement: between what, on which instruction, how exactly, and the command that shows
    it again.
    """

    between: str
    text: str
    details: tuple[str, ...]
    command: str


@dataclass
class Row:
    """The result for one item of a suite.

    `cases` were compared; `counts` are what else was counted (cases a peer can't tell, rows not described,
    ...); `failed` cases disagreed, of which the first are in `failures`.
    """

    suite: str
    target: str
    name: str
    cases: int = 0
    failed: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        """Add to a count."""
        self.counts[what] = self.counts.get(what, 0) + number

    def fail(self, failure: Failure) -> None:
        """Count a failure, and keep it if it is one of the first."""
        self.failed += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(failure)

    @property
    def unencodable(self) -> bool:
        """Whether no encoding was found."""
        return NEVER_ENCODED in self.counts

    @property
    def wants_failures(self) -> bool:
        """Whether a further failure would be kept."""
        return len(self.failures) < KEPT_FAILURES

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Summary:
    """A suite on a target, added up."""

    suite: str
    target: str
    items: int
    cases: int
    failed: int
    failed_items: int
    counts: Mapping[str, int]


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """One summary for each suite and target, in order of appearance."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.suite, row.target), []).append(row)
    result = []
    for (suite, target), members in groups.items():
        counts: dict[str, int] = {}
        for row in members:
            for name, number in row.counts.items():
                counts[name] = counts.get(name, 0) + number
        result.append(
            Summary(
                suite,
                target,
                len(members),
                sum(row.cases for row in members),
                sum(row.failed for row in members),
                sum(1 for row in members if row.failed),
                counts,
            )
        )
    return result
