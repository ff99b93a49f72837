"""Reviewable lists, in `conformance/data/*.tsv`, of what peers lack or get wrong, each with the manual's
section.

Columns: targets (patterns, separated by spaces), item (patterns of form names, ``@Feature`` for all forms
that need it, or ``insn`` and patterns for all forms of these instructions), kind, argument, reason; a list
whose lines depend on the case has its condition (`conformance.conditions`) before the reason. Lines that
begin with ``#`` are comments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Final

from runtime.errors import IsagenError

CONDITIONAL: Final = frozenset(("unicorn", "native", "encodings"))
"""Lists with a column for conditions."""

FOLDER = Path(__file__).resolve().parent / "data"


@dataclass(frozen=True)
class Known:
    """One line of a list."""

    targets: str
    item: str
    kind: str
    argument: str
    condition: str
    reason: str

    def covers(self, target: str, item: str, features: Sequence[str] = (), instruction: str = "") -> bool:
        """Whether it is about the form `item` of `instruction`, which needs `features`."""
        if not any(fnmatchcase(target, pattern) for pattern in self.targets.split()):
            return False
        patterns = self.item.split()
        if patterns[0] == "insn":
            return any(fnmatchcase(instruction, pattern) for pattern in patterns[1:])
        return any(
            pattern[1:] in features if pattern[0] == "@" else fnmatchcase(item, pattern)
            for pattern in patterns
        )


@lru_cache(maxsize=32)
def load(name: str) -> tuple[Known, ...]:
    """The list of that name; empty if there is none. Raises `IsagenError` for lines that aren't of
    that form.
    """
    path = FOLDER / f"{name}.tsv"
    if not path.is_file():
        return ()
    found = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        columns = line.split("\t")
        conditional = name in CONDITIONAL
        belong = len(fields(Known)) - (0 if conditional else 1)
        if len(columns) != belong:
            condition = ", condition" if conditional else ""
            raise IsagenError(
                f"{len(columns)} columns where {belong} belong",
                where=f"{path.name}:{number}",
                remedy=f"separate targets, item, kind, argument{condition} and reason by single tabs",
            )
        if not conditional:
            columns.insert(4, "")
        found.append(Known(*columns))
    return tuple(found)


def matching(
    name: str, target: str, item: str, features: Sequence[str] = (), instruction: str = ""
) -> list[Known]:
    """The lines of list `name` about an item."""
    return [known for known in load(name) if known.covers(target, item, features, instruction)]
