"""Finds every diagnosis that the generator's source can make, as a pattern of its message."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GENERATOR = Path(__file__).resolve().parents[2] / "generator"
MAKERS = {"Mistake": 1, "Diagnostic": 1, "make": 1, "mistake": 1}
"""Callables whose argument at this position (or by name, `message`) is a diagnosis's message."""


HOLE = "(?:.|\n)*?"
"""What stands in a pattern for a value."""


@dataclass(frozen=True)
class Kind:
    """One message in the source: where it is made, and what it looks like."""

    place: str
    pattern: str

    @property
    def plain(self) -> str:
        """The pattern's fixed text."""
        return re.sub(r"\\(.)", r"\1", self.pattern.replace(HOLE, "..."))

    def found_in(self, text: str) -> bool:
        return re.search(self.pattern, text) is not None


def kinds() -> list[Kind]:
    """All of them."""
    found = []
    for path in sorted(GENERATOR.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                for message in _messages(node):
                    for pattern in _patterns(message):
                        place = f"{path.relative_to(GENERATOR.parent)}:{node.lineno}"
                        found.append(Kind(place, pattern))
    return found


def _messages(call: ast.Call) -> Iterator[ast.expr]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name not in MAKERS or any(_is_note(keyword) for keyword in call.keywords):
        return
    if len(call.args) > MAKERS[name] and not any(
        isinstance(a, ast.Starred) for a in call.args[: MAKERS[name] + 1]
    ):
        yield call.args[MAKERS[name]]
    for keyword in call.keywords:
        if keyword.arg == "message":
            yield keyword.value


def _is_note(keyword: ast.keyword) -> bool:
    return (
        keyword.arg == "severity"
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value == "note"
    )


def _patterns(message: ast.expr) -> Iterator[str]:
    """Regexes for the texts that the expression may give; none for a plain variable."""
    match message:
        case ast.Constant(value=str(text)):
            yield re.escape(text)
        case ast.IfExp(body=body, orelse=orelse):
            yield from _patterns(body)
            yield from _patterns(orelse)
        case ast.JoinedStr(values=values):
            parts = [re.escape(v.value) if isinstance(v, ast.Constant) else HOLE for v in values]
            yield "".join(parts)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            for first in _patterns(left):
                for second in list(_patterns(right)) or [HOLE]:
                    yield first + second
