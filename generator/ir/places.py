"""Where statements of behaviours are written.

IR nodes are compared by value and carry no places, so that equal behaviours are equal. Lowering notes the
place of each statement object here, for messages.
"""

from __future__ import annotations

from generator.ir.nodes import Stmt
from generator.language.source import Pos
from generator.model.target import Span


class Places:
    """Places of statements, by identity (which is why they are kept alive)."""

    def __init__(self) -> None:
        self._noted: dict[int, tuple[Stmt, Pos]] = {}

    def note(self, statement: Stmt, at: Pos) -> None:
        """`statement` is written at `at`; the first note counts."""
        self._noted.setdefault(id(statement), (statement, at))

    def find(self, statement: Stmt) -> Span | None:
        """Its place; None for a statement that was made later on."""
        noted = self._noted.get(id(statement))
        if noted is None:
            return None
        at = noted[1].location
        return Span(file=at.file, line=at.line, column=at.column, length=at.length)
