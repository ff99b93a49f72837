"""Reading the folder's files."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from runtime.errors import IsagenError

Row = dict[str, Any]
CHUNK: Final = 4000
"""Rows that are one item of the suite."""
SUFFIX: Final = ".jsonl.xz"


def rows(path: Path) -> Iterator[Row]:
    """The rows of a file. Raises `IsagenError` where it is damaged."""
    try:
        with lzma.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise IsagenError("a line isn't an object", where=f"{path.name}:{number}")
                yield row
    except (lzma.LZMAError, EOFError, ValueError, OSError) as error:
        raise IsagenError(f"the vectors can't be read: {error}", where=str(path)) from error


@lru_cache(maxsize=64)
def count(path: Path) -> int:
    """The number of rows."""
    return sum(1 for _ in rows(path))


def chunk(path: Path, number: int) -> list[Row]:
    """The rows of the file's chunk `number`."""
    first = number * CHUNK
    return [row for at, row in enumerate(rows(path)) if first <= at < first + CHUNK]
