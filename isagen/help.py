"""How `--help` is laid out."""

from __future__ import annotations

import argparse
import os
import sys
from functools import cache


@cache
def columns() -> int:
    """The terminal's width in characters (`shutil` knows it too, and takes long to load)."""
    try:
        return int(os.environ["COLUMNS"]) or 80
    except (KeyError, ValueError):
        pass
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 80


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they are written. argparse makes one of these for each argument of a parser."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns() - 2)
