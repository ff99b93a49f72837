"""Why a decode row may differ from what we print without either being wrong, by family.

Each gives what such a row is counted as, or None. What remains is a failure, or in ``data/vectors.tsv``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Excuse = Callable[[str, str, str], str | None]
"""Recorded text, our text, and what went wrong, to the count's name."""

_FLOAT_REGISTER = re.compile(r"\bf(?:[ats]\d|t1\d|s1\d)")
NAMED_HINTS = frozenset(("c.nop", "c.slli64", "c.srli64", "c.srai64"))
"""Names of hints (unprivileged manual, "C", table of HINT instructions); we print what they are."""


def riscv(recorded: str, ours: str, problem: str) -> str | None:
    """Encodings that several extensions share, and system registers that aren't described."""
    mnemonic = recorded.split()[0]
    if mnemonic.startswith("csr") and ours.startswith("csr"):
        return "system register not described"
    if "unknown instruction" in problem and mnemonic.startswith(
        ("cm.", "prefetch.", "c.ntl.", "ntl.", "lpad", "mop.", ".")
    ):
        return "shared with an extension not described"  # Zcmp and Zcmt, Zicbop, Zihintntl, Zicfilp, Zimop
    if ours.startswith("f") and not _FLOAT_REGISTER.search(recorded) and _FLOAT_REGISTER.search(ours):
        return "shared with an extension not described"  # Zfinx: the same encodings over integer registers
    if mnemonic in NAMED_HINTS and "assemble" in problem:
        return "a hint that others name"
    if ours.startswith("c.") and not mnemonic.startswith("c."):
        return "compressed, recorded as its expansion"
    return None


EXCUSES: Mapping[str, Excuse] = {"riscv": riscv}


def excuse(family: str, recorded: str, ours: str, problem: str) -> str | None:
    """What a row is counted as instead of failed, or None."""
    known = EXCUSES.get(family)
    return known(recorded, ours, problem) if known is not None else None
