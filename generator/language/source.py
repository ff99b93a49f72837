"""Spec files as text, and places in them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from generator.errors import Location


class Source:
    """One spec file: its name (as messages show it) and text. Finds lines for offsets."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.msb0 = False  # this file's bit numbering: set from the family's header
        self._starts = [0]
        find = text.find
        at = find("\n")
        while at >= 0:
            self._starts.append(at + 1)
            at = find("\n", at + 1)

    def line_column(self, offset: int) -> tuple[int, int]:
        """1-based line and column of a character offset."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def location(self, start: int, end: int) -> Location:
        """The place from `start` to `end` (cut at the line's end)."""
        start = max(0, min(start, len(self.text)))
        line, column = self.line_column(start)
        line_end = self.text.find("\n", self._starts[line - 1])
        text = self.text[self._starts[line - 1] : line_end if line_end >= 0 else len(self.text)].rstrip("\r")
        return Location(
            self.name, line, column, max(1, min(end, self._starts[line - 1] + len(text)) - start), text
        )


@dataclass(frozen=True, slots=True)
class Pos:
    """Characters `start` to `end` of a source."""

    source: Source
    start: int
    end: int

    @property
    def location(self) -> Location:
        return self.source.location(self.start, self.end)
