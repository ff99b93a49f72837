"""Registers whose values are made only where a region is left: flags, most of all.

Instructions of many families set flags that nobody looks at before they are set again; but wherever a region
may be left on the way, the interpreter has to find them. What an instruction without branches writes to
registers that it always means (`Template.state_writes`) is a function of few values: what it read. A region
keeps these (`Deferral.leaves`), and makes the registers' values out of them where it is left, if it is known
there which instruction wrote last (`Reach`). Where nobody else needs them, LLVM then leaves them out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from runtime.cpu.translator.template import Template

_NAME: Final = re.compile(r"%\x01(\w+)")
_STORE: Final = re.compile(r"store i64 (\S+), ptr %g(\d+), align 8$")
_LOAD: Final = re.compile(r"load (i\d+), ")
_HOLE: Final = re.compile(r"\x02[nr](\d+)\x03")
MOST_LINES: Final = 24
"""Of LLVM's language, for one register."""
ENTRY: Final = -1
"""`Reach`: the value is what it was where the region was entered."""
MANY: Final = -2
"""`Reach`: it isn't known who wrote the register last, or it is nobody whose values are made later."""

Reach = Mapping[int, int]
"""Who wrote a register (by its offset) last: a number of the caller's, `ENTRY` or `MANY`."""


class Deferral(NamedTuple):
    """What of a template may be made later. Lines are ``%`` format strings with the holes of
    `runtime.cpu.translator.text.Formats`.
    """

    leaves: dict[str, str]
    """Values to be kept: names in the template, and their types."""
    lines: dict[str, str]
    """Name and line of each value that is made of them, in order."""
    values: dict[int, str]
    """The value of each register, by its offset: a format string."""
    needs: dict[int, frozenset[str]]
    """Names of leaves and lines that a register's value is made of."""


@lru_cache(maxsize=8192)
def deferral_of(template: Template) -> Deferral | None:
    """What of a template may be made later, None if it is nothing."""
    if template.ends != ("next",) and set(template.ends) != {"leave", "next"}:
        return None
    lines = template.text.strip("\n").split("\n")
    if not template.state_writes or lines[-1] != "\x02end next\x03":
        return None
    made: dict[str, str] = {}
    stored: dict[int, str] = {}
    for line in lines[1:-1]:
        if line.endswith(":") or line.startswith(("br ", "switch ", "\x02")) or " = phi " in line:
            return None
        name, equals, text = line.partition(" = ")
        if equals:
            made[name.removeprefix("%\x01")] = text
        elif match := _STORE.match(line):
            stored[int(match[2])] = match[1]
        elif line.startswith("store [2 x i64]"):
            return None
    found = Deferral({}, {}, {}, {})
    for place, value in stored.items():
        needs = _needs(value, made)
        if needs is None:
            continue
        found.values[place] = _format(value)
        found.needs[place] = needs
    for name, text in made.items():
        if any(name in needs for needs in found.needs.values()):
            load = _LOAD.match(text)
            if load:
                found.leaves[name] = load[1]
            else:
                found.lines[name] = f"%%%(p)s{name} = {_format(text)}"
    return found if found.values else None


def _format(text: str) -> str:
    return _HOLE.sub(r"%(s\1)s", text.replace("%", "%%")).replace("\x01", "%(p)s")


def _needs(value: str, made: Mapping[str, str]) -> frozenset[str] | None:
    """Names that a value is made of, down to what is loaded; None if it is made of something else."""
    found: set[str] = set()
    todo = _NAME.findall(value)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        if name not in made or len(found) > MOST_LINES:
            return None
        found.add(name)
        if not _LOAD.match(made[name]):
            todo += _NAME.findall(made[name])
    return frozenset(found)


def reaches(
    followers: Sequence[Sequence[int]],
    entries: Sequence[int],
    places: Sequence[int],
    writes: Callable[[int], Mapping[int, int]],
) -> tuple[list[dict[int, int]], list[dict[int, int]]]:
    """Who wrote `places` last before each node, and behind it. `writes(node)`: what the node writes, as
    `Reach`.
    """
    own = [writes(number) for number in range(len(followers))]
    before: list[dict[int, int]] = [{} for _ in followers]
    todo = list(entries)
    for number in entries:
        before[number] = dict.fromkeys(places, ENTRY)
    while todo:
        number = todo.pop()
        behind = {**before[number], **own[number]}
        for following in followers[number]:
            there = before[following]
            changed = False
            for place, writer in behind.items():
                known = there.get(place)
                if known is None:
                    there[place] = writer
                elif known not in (writer, MANY):
                    there[place] = MANY
                else:
                    continue
                changed = True
            if changed:
                todo.append(following)
    return before, [{**known, **mine} for known, mine in zip(before, own, strict=True)]
