"""Why a decode row may differ from what we print without either being wrong, by family.

Each gives what such a row is counted as, or None. What remains is a failure, or in ``data/vectors.tsv``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Excuse = Callable[[str, str, str], str | None]
"""Recorded text, our text, and what went wrong, to the count's name."""

_FLOAT_REGISTER = re.compile(r"\bf(?:[ats]\d|t1\d|s1\d)")
_SPACE = re.compile(r"\s+")
NAMED_HINTS = frozenset(("c.nop", "c.slli64", "c.srli64", "c.srai64"))
"""Names of hints (unprivileged manual, "C", table of HINT instructions); we print what they are."""


def squeezed(text: str) -> str:
    """A text without spaces."""
    return _SPACE.sub("", text).lower()


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
    if mnemonic[-1] in "+-" and ours.startswith("bc"):
        return "hints of older CPUs"  # the y bit, which Book I 2.4 reserves
    if ours.endswith("(0)") and "(" not in recorded:
        return "an address without its base"
    return None


def sparc(recorded: str, ours: str, problem: str) -> str | None:
    """V9 instructions whose extra bit V8 ignores, relocations, and displacements in words."""
    mnemonic = recorded.split()[0]
    if mnemonic in ("srax", "sllx", "srlx"):
        return "shared with an extension not described"
    if "(" in recorded and "%hi" not in recorded and "%lo(" not in recorded:
        return "relocations"
    if (
        mnemonic in ("wr", "rd")
        and recorded.split()[-1 if mnemonic == "wr" else 1].strip(",") in V8_REGISTERS
    ):
        return "shared with an extension not described"
    cut = len(re.split(r"[\[\]]", recorded)[-1].strip(" ,")) == 0 and "[" in recorded
    if mnemonic == "membar" or (cut and ours.split("]")[-1]):
        return "a text cut at a #"
    if mnemonic.startswith("b") and recorded.split()[-1].isdigit():
        return "displacement in words"
    return None


V8_REGISTERS = ("%psr", "%wim", "%tbr")
"""Registers whose encodings mean something else in V9."""


def arm(recorded: str, ours: str, problem: str) -> str | None:
    """Texts of which a part is lost, and lines that aren't instructions or are two of them."""
    if re.match(r"[0-9a-f]{8} ", recorded):
        return "no instruction"
    if re.match(r"it[te]* ", ours) and not recorded.startswith("it"):
        return "two instructions"
    if squeezed(recorded) == squeezed(ours.replace(".w ", " ", 1)):
        return "a text without its .w"
    return "a text without its !" if squeezed(recorded) + "!" == squeezed(ours) else None


def x86(recorded: str, ours: str, problem: str) -> str | None:
    """Prefixes that are hints or change nothing, which we don't print; extensions whose encodings do nothing,
    or something else, without them; names and operands that one tool alone has.
    """
    words = recorded.split()
    mine = ours.split()[0]
    if mine.startswith(("nop", "prefetch", "wbinvd")) and words[0] != "endbr64":
        return "shared with an extension not described"  # MPX, CET, CLDEMOTE, PREFETCHI, WBNOINVD: hints
    if words[0] in X86_UNKNOWN:
        return "shared with an extension not described"
    if "rip" not in ours and X86_WIDE.search(recorded) and not X86_WIDE.search(ours):
        return "recorded in another mode"
    if len(words) == 1 and (words[0] == mine or words[0] in ("fucompi", "fcompi")):
        return "a text without its operands"
    if words[:2] in (["call", "far"], ["jmp", "far"]) or "*1]" in recorded or "rex." in recorded:
        return "names of one disassembler"
    if words[0][:-1] == mine and mine in ("frstor", "fnsave"):
        return "names of one disassembler"  # frstors
    if "<imm:" in recorded:
        return "a target relative to an address that isn't told"
    if words[0] in X86_PREFIXES or words[:2][-1] in X86_PREFIXES:
        return "prefixes that change nothing"
    if squeezed(ours).removeprefix("rep").removeprefix("ne").removeprefix("lock") == squeezed(recorded):
        return "a prefix on a line of its own"
    if words[0] in ("loopl", "loopel", "loopnel", "movsxw", "movzxw", "lret", "pcmpestriq", "pcmpistriq"):
        return "names of one disassembler"
    if words[0] in ("movslq", "movsxd") and mine.startswith("movs"):
        return "names of one disassembler"  # 66 63: Intel's CPUs read 16 bits, AMD's 32
    if "[rip" in ours and "ds:[" in recorded:
        return "a rip-relative address without its rip"
    if words[0] in ("jmpw", "callw", "retw") and ours.split()[0][:3] == words[0][:3]:
        return "66 before a near branch, which AMD's CPUs do not ignore"
    if "riz" in recorded or "eiz" in recorded or words[0].endswith(".s"):
        return "encodings that only GNU names"
    return None


X86_UNKNOWN = frozenset(
    (
        *("umov", "paddsiw", "pmagw", "pdistib", "psubsiw", "pmvzb", "pmvnzb", "pmvlzb", "pmvgezb"),
        *("pmulhriw", "pmachriw", "rdsspd", "rdsspq"),
    )
)
"""UMOV of the 80386 and 80486, Cyrix' extended MMX, CET: encodings that mean something else now."""
X86_WIDE = re.compile(r"%?\br(?:[a-ds][xip]|[sdb][ip]|\d+|ip)\b|[xy]mm(?:1[6-9]|[23]\d)|0xf{8}")
"""What only a text of 64-bit code has."""
X86_PREFIXES = frozenset(
    (
        "xacquire",
        "xrelease",
        "notrack",
        "hint-not-taken",
        "hint-taken",
        ".byte",
        "data16",
        "data32",
        "addr16",
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
