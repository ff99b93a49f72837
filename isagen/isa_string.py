"""What ``--isa`` says: which of a target's features are on.

RISC-V: an ISA string as in the unprivileged manual's chapter "ISA Extension Naming Conventions", such as
``rv64imac_zba``: the base's width, one letter an extension (``g`` for IMAFD_Zicsr_Zifencei), then longer
names behind underscores; version numbers are ignored. The string says nothing of privileged modes: they stay
as they usually are. Any family: changes to the usual features, such as
``+Zba,-C``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from runtime.errors import IsagenError

_GENERAL = ("I", "M", "A", "F", "D", "Zicsr", "Zifencei")
_PRIVILEGED = re.compile(r"[SU]|Sv\d+")
_MODES = re.compile(r"([a-rtvwy\d]*)(?:su|s|u)((?:[zx].*)?)")
_INHERENT = frozenset({"zihintpause", "zihintntl", "zicclsm", "svade", "svbare"})
"""Names for what is always there: hints, misaligned accesses, how accessed bits work, no translation."""
_VERSION = re.compile(r"\d+p\d+$|(?<=[a-z])\d+$")


def features(text: str, target: str, known: Sequence[str], usual: Sequence[str]) -> list[str]:
    """The names of the features that are on. Raises `IsagenError` for what the target doesn't know."""
    if text[:1] in "+-":
        return changed(text, target, known, usual)
    names = {name.lower(): name for name in known}
    match = re.fullmatch(r"rv(32|64)(.*)", text.lower())
    if match is None or not target.startswith("riscv"):
        raise IsagenError(
            f"--isa {text!r} can't be understood",
            remedy="take an ISA string such as rv64gc_zba (RISC-V), or changes such as +Zba,-C",
        )
    bits, rest = match.groups()
    if not target.startswith(f"riscv{bits}"):
        raise IsagenError(f"--isa {text}: target {target} isn't RV{bits}")
    letters, *long_names = rest.split("_")
    found: list[str] = []
    # Multi-letter names may follow the letters directly: rv64imaczba.
    modes = _MODES.fullmatch(letters)
    if modes:  # privileged modes, as some tools write them: rv64imacsu, rv64imacsuzicsr
        letters = modes[1] + modes[2]
    tail = re.search(r"[zsx].*", letters)
    if tail:
        letters, long_names = letters[: tail.start()], [tail[0], *long_names]
    for letter in re.sub(r"\d+(p\d+)?", "", letters):
        found += _GENERAL if letter == "g" else [letter]
    found += [name if name in names else _VERSION.sub("", name) for name in long_names if name]
    result: dict[str, None] = {}
    for name in found:
        if name in _INHERENT:
            continue
        if name.lower() not in names:
            raise unknown(text, name, known)
        result[names[name.lower()]] = None
    if not {"I", "E"} & result.keys():
        raise IsagenError(f"--isa {text}: the base (i or g) is missing")
    result.update(dict.fromkeys(name for name in usual if _PRIVILEGED.fullmatch(name)))
    return list(result)


def changed(text: str, target: str, known: Sequence[str], usual: Sequence[str]) -> list[str]:
    names = {name.lower(): name for name in known}
    result = dict.fromkeys(usual)
    for word in text.split(","):
        name = names.get(word[1:].lower())
        if word[:1] not in ("+", "-") or name is None:
            raise unknown(text, word, known)
        if word[0] == "+":
            result[name] = None
        else:
            result.pop(name, None)
    return list(result)


def unknown(text: str, name: str, known: Sequence[str]) -> IsagenError:
    return IsagenError(f"--isa {text}: there is no feature {name!r}", remedy=f"features: {', '.join(known)}")
