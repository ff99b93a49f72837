"""Errors of the generator: what is wrong, where, and the remedy.

A spec's mistakes are `Diagnostic`s, gathered so that one run reports many; `SpecErrors` carries them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


class IsagenError(Exception):
    """Root of everything the generator raises on purpose.

    Args: what went wrong; where (a path, a name, a place; may be empty); what to do about it (may be empty).
    """

    def __init__(self, what: str, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}\n  = {self.remedy}" if self.remedy else text


@dataclass(frozen=True)
class Location:
    """A place in a spec: file, 1-based line and column, length in characters, and the line's text."""

    file: str
    line: int
    column: int
    length: int
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """One mistake. `label` stands behind the caret; `related` are further places with their labels; `context`
    says
    which row, axis value or parameter it shows up with; `remedy` what to do."""

    location: Location
    message: str
    label: str = ""
    related: tuple[tuple[Location, str], ...] = ()
    context: tuple[str, ...] = ()
    remedy: str = ""
    severity: str = field(default="error", compare=False)

    def render(self) -> str:
        """The message as people read it: `file:line:col: error: ...`, source lines, carets, remedy."""
        at = self.location
        message = self.message + (f" (with {', '.join(self.context)})" if self.context else "")
        places = [(at, "^", self.label)] + [(place, "-", label) for place, label in self.related]
        width = max(4, *(len(str(place.line)) for place, _, _ in places))
        lines = [f"{at.file}:{at.line}:{at.column}: {self.severity}: {message}"]
        for place, mark, label in places:
            if place.file != at.file:
                lines.append(f"{' ' * width} --> {place.file}:{place.line}:{place.column}")
            lines.append(f"{place.line:>{width + 1}} | {place.text}")
            indent = "".join("\t" if c == "\t" else " " for c in place.text[: place.column - 1])
            marks = mark * max(1, min(place.length, len(place.text) - place.column + 1))
            lines.append(f"{' ' * (width + 1)} | {indent}{marks}{' ' + label if label else ''}")
        if self.remedy:
            lines.append(f"{' ' * (width + 1)} = {self.remedy}")
        return "\n".join(lines)


class SpecErrors(IsagenError):
    """A spec's mistakes, all that one run found, in the order of the files."""

    SHOWN = 50

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        unique = dict.fromkeys(diagnostics)
        self.diagnostics = tuple(
            sorted(unique, key=lambda d: (d.location.file, d.location.line, d.location.column))
        )
        super().__init__(self._summary())

    def _summary(self) -> str:
        shown = [d.render() for d in self.diagnostics[: self.SHOWN]]
        if len(self.diagnostics) > self.SHOWN:
            shown.append(f"... and {len(self.diagnostics) - self.SHOWN} more")
        count = len(self.diagnostics)
        return "\n".join([*shown, f"{count} error{'s' if count != 1 else ''}"])
