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


def ppc(recorded: str, ours: str, problem: str) -> str | None:
    """Names of special registers, and extensions that reuse primary opcodes (VLE, the SVP64 proposal)."""
    mnemonic = recorded.split()[0]
    if (
        ours.startswith(("mfspr", "mtspr", "mfvrsave", "mtvrsave", "mfpvr"))
        and "unknown instruction" in problem
    ):
        return "system register not described"
    if mnemonic.startswith(("sv", "setvl", "e_", "se_", "ps_", "qv", "ev")):
        return "shared with an extension not described"
    return None


def sparc(recorded: str, ours: str, problem: str) -> str | None:
    """V9 instructions whose extra bit V8 ignores, relocations, and displacements in words."""
    mnemonic = recorded.split()[0]
    if mnemonic in ("srax", "sllx", "srlx"):
        return "shared with an extension not described"
    if "(" in recorded and "%hi" not in recorded and "%lo(" not in recorded:
        return "relocations"
    if mnemonic.startswith("b") and recorded.split()[-1].isdigit():
        return "displacement in words"
    return None


def arm(recorded: str, ours: str, problem: str) -> str | None:
    """Preferred aliases that the slice doesn't have."""
    if "unknown instruction" in problem or recorded.split()[0] in A64_ALIASES:
        return "alias not described"
    return None


A64_ALIASES = frozenset(["asr", "lsl", "lsr", "ror", "mov", "cmp", "cmn", "tst", "neg"])


def x86(recorded: str, ours: str, problem: str) -> str | None:
    """Prefixes that are hints or change nothing, which we don't print."""
    words = recorded.split()
    if words[0] in X86_PREFIXES or words[:2][-1] in X86_PREFIXES:
        return "prefixes that change nothing"
    if "riz" in recorded or "eiz" in recorded or words[0].endswith(".s"):
        return "encodings that only GNU names"
    return None


X86_PREFIXES = frozenset(
    (
        "xacquire",
        "xrelease",
        "notrack",
        "data16",
        "addr32",
        "a32",
        "o32",
        "a16",
        "o16",
        "rex",
        "rex.W",
        "rex.w",
        "bnd",
        "ds",
        "es",
        "cs",
        "ss",
        "fs",
        "gs",
        "rep",
        "repz",
        "repnz",
    )
)

EXCUSES: Mapping[str, Excuse] = {"riscv": riscv, "ppc": ppc, "sparc": sparc, "arm": arm, "x86": x86}


def excuse(family: str, recorded: str, ours: str, problem: str) -> str | None:
    """What a row is counted as instead of failed, or None."""
    known = EXCUSES.get(family)
    return known(recorded, ours, problem) if known is not None else None
