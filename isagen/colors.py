"""Colours for listings on terminals: ECMA-48's SGR sequences ("Select Graphic Rendition", 8.3.117)."""

from __future__ import annotations

import os
import re
import sys
from typing import Final

CHOICES: Final = ("auto", "always", "never")
_RESET: Final = "\x1b[0m"
_DIM, _BOLD, _NUMBER, _LABEL = "\x1b[2m", "\x1b[1m", "\x1b[36m", "\x1b[33m"
_TOKEN: Final = re.compile(r"<[^>]*>|(?<![\w.$])-?(?:0x[0-9a-f]+|\d+)(?![\w.])")
_CODE: Final = re.compile(r"( *[0-9a-f]+:  )(.{22}.*?  )(\S+)(.*)")


def wanted(choice: str) -> bool:
    """Whether to colour standard output: "auto" means on a terminal, unless NO_COLOR is set
    (no-color.org).
    """
    if choice != "auto":
        return choice == "always"
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(line: str) -> str:
    """A line of a listing (`isagen.listing`) in colours."""
    match = _CODE.fullmatch(line)
    if match is None:
        return f"{_LABEL}{line}{_RESET}" if line.endswith(":") else line
    place, data, mnemonic, operands = match.groups()
    shown = _TOKEN.sub(
        lambda token: f"{_LABEL if token[0][0] == '<' else _NUMBER}{token[0]}{_RESET}", operands
    )
    return f"{_DIM}{place}{data}{_RESET}{_BOLD}{mnemonic}{_RESET}{shown}"
