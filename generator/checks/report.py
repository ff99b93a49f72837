"""From the target model's spans to diagnostics with the source line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from generator.errors import Diagnostic, Location
from generator.ir.nodes import Stmt
from generator.ir.places import Places
from generator.model.target import Span


class Reporter:
    """Makes diagnostics; `sources` are the spec files' texts by the names that spans use."""

    def __init__(self, sources: Mapping[str, str], places: Places | None = None) -> None:
        self._places = places
        self._lines = {name: text.split("\n") for name, text in sources.items()}

    def header(self) -> Span:
        """The family's `isa` line, which notes about all of it point at."""
        for name, lines in self._lines.items():
            for number, line in enumerate(lines, 1):
                if line.startswith("isa "):
                    return Span(file=name, line=number, column=1, length=len(line.split("#")[0].rstrip()))
        return Span(file="", line=1, column=1)

    def location(self, span: Span) -> Location:
        """The place with its line's text (empty if the file isn't known)."""
        lines = self._lines.get(span.file, [])
        text = lines[span.line - 1].rstrip("\r") if 0 < span.line <= len(lines) else ""
        return Location(span.file, span.line, span.column, span.length, text)

    def make(
        self,
        span: Span,
        message: str,
        *,
        label: str = "",
        related: tuple[tuple[Span, str], ...] = (),
        context: tuple[str, ...] = (),
        remedy: str = "",
        severity: str = "error",
    ) -> Diagnostic:
        """A diagnostic at `span`."""
        places = tuple((self.location(place), text) for place, text in related)
        return Diagnostic(self.location(span), message, label, places, context, remedy, severity)

    def about(
        self, instruction: Span, message: str, found: Sequence[tuple[Stmt | None, str]], remedy: str
    ) -> Diagnostic:
        """A diagnostic at the first statement of `found` whose place is known, each with its label.

        The other statements and the instruction are related places; the instruction is the place where none
        is known.
        """
        places: dict[Span, str] = {}
        for statement, label in found:
            span = self._places.find(statement) if self._places and statement is not None else None
            if span is not None and span not in places:
                places[span] = label
        places.setdefault(instruction, "" if places else found[0][1])
        (first, label), *others = places.items()
        return self.make(first, message, label=label, related=tuple(others), remedy=remedy)
