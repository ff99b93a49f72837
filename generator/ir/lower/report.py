"""Mistakes while lowering: raised where found, gathered per item, reported once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from generator.errors import Diagnostic
from generator.ir.places import Places
from generator.language.source import Pos


class Mistake(Exception):
    """One mistake in a spec, at `at`. The nearest recovery point turns it into a diagnostic and goes on."""

    def __init__(
        self,
        at: Pos,
        message: str,
        remedy: str = "",
        label: str = "",
        related: tuple[tuple[Pos, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.at, self.message, self.remedy, self.label, self.related = at, message, remedy, label, related


class Poisoned(Exception):
    """Something depends on a thing whose own mistake has been reported already."""


class Report:
    """Gathers diagnostics. `context` (row, axis values, ...) is added to those made inside `within`."""

    def __init__(self, places: Places | None = None) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.places = places
        self._context: list[str] = []
        self._seen: set[tuple[str, int, int, str]] = set()

    @contextmanager
    def within(self, *context: str) -> Iterator[None]:
        count = len(self._context)
        self._context.extend(c for c in context if c)
        try:
            yield
        finally:
            del self._context[count:]

    @contextmanager
    def recover(self, at: Pos) -> Iterator[None]:
        """Report a mistake inside and go on behind. `at` is where endless nesting is reported."""
        try:
            yield
        except Mistake as mistake:
            self.add(mistake)
        except Poisoned:
            pass
        except RecursionError:
            self.add(Mistake(at, "this is nested too deeply", "split it with `let`s or functions"))

    def add(self, mistake: Mistake) -> None:
        """The same mistake in several rows or axis values is reported for the first."""
        place = mistake.at.location
        key = (place.file, place.line, place.column, mistake.message)
        if key in self._seen:
            return
        self._seen.add(key)
        related = tuple((p.location, label) for p, label in mistake.related)
        self.diagnostics.append(
            Diagnostic(place, mistake.message, mistake.label, related, tuple(self._context), mistake.remedy)
        )


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """A remedy that names the nearest known name."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else otherwise


def plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
