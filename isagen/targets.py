"""Which targets there are: their names by family, read from the specs' header lines without parsing them.

This lies on the path of a build with nothing to do, so it imports nothing of the generator.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from isagen import paths
from runtime.errors import IsagenError

_TARGET = re.compile(rb"^[ \t]*target[ \t]+([A-Za-z_][A-Za-z0-9_]*)", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class TargetSource(NamedTuple):
    """A target and what it is made from.

    `extra` are files given beside the family's own (``--with``); `name` is then the target's name, ``_``,
    and the files' names, so that the plain target stays as it is.
    """

    base: str
    family: str
    extra: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        return "_".join([self.base, *(file.stem.replace("-", "_") for file in self.extra)])

    @property
    def specs(self) -> tuple[Path, ...]:
        """The spec files, the family's in alphabetical order."""
        return (*spec_files(self.family), *self.extra)


def spec_files(family: str) -> tuple[Path, ...]:
    return tuple(sorted((paths.spec_root() / family).glob("*.isa")))


def targets_of(family: str) -> tuple[str, ...]:
    """The names of a family's targets, in the order of its specs."""
    names: dict[str, None] = {}
    for file in spec_files(family):
        for match in _TARGET.finditer(file.read_bytes()):
            names[match[1].decode()] = None
    return tuple(names)


def all_targets() -> dict[str, str]:
    """All targets: name to family."""
    return {name: family for family in paths.families() for name in targets_of(family)}


def source_of(target: str, extra: Sequence[Path] = ()) -> TargetSource:
    """The target of that very name, made with `extra` spec files. Raises `IsagenError` as `select` does."""
    known = all_targets()
    if target not in known:
        raise IsagenError(f"there is no target named {target!r}", remedy=f"targets: {', '.join(known)}")
    return TargetSource(target, known[target], _usable(extra))


def select(
    words: Sequence[str], extra: Sequence[Path] = (), only: Sequence[str] | None = None
) -> list[TargetSource]:
    """The targets that `words` (families, targets, "all") name, without repetition.

    A family's name stands for all its targets, though one of them may have that name, too (arm, ppc, sparc);
    `only`, names of some of these targets, leaves out the others.

    Raises `IsagenError` for unknown names, and for extra files that don't exist or whose names make no
    target's name.
    """
    known = all_targets()
    if not known:
        raise IsagenError("there are no specs", where=str(paths.spec_root()))
    families = sorted(set(known.values()))
    chosen: dict[str, None] = {}
    for word in words:
        if word == "all":
            chosen.update(dict.fromkeys(known))
        elif word in families:
            chosen.update(dict.fromkeys(name for name, family in known.items() if family == word))
        elif word in known:
            chosen[word] = None
        else:
            raise IsagenError(
                f"there is no family or target named {word!r}",
                remedy=f"families: {', '.join(families)}; targets: {', '.join(known)}; or all",
            )
    for name in only or ():
        if name not in chosen:
            raise IsagenError(
                f"{name!r} is not a target of {' '.join(words)}", remedy=f"one of {', '.join(chosen)}"
            )
    usable = _usable(extra)
    return [TargetSource(name, known[name], usable) for name in chosen if only is None or name in only]


def build_command(target: str, extra: str = "") -> str:
    """The command that builds this target and no other; `extra` goes behind it."""
    narrowed = f"{target} --target {target}" if target in paths.families() else target
    return f"isagen build {narrowed}{extra}"


def _usable(extra: Sequence[Path]) -> tuple[Path, ...]:
    """The extra files, which exist and have names that can be part of a target's."""
    for file in extra:
        if not file.is_file():
            raise IsagenError("there is no such file", where=str(file))
        if not _NAME.fullmatch(file.stem.replace("-", "_")):
            raise IsagenError(
                f"{file.stem!r} can't be part of a target's name",
                where=str(file),
                remedy="name it with letters, digits and underscores",
            )
    return tuple(extra)
