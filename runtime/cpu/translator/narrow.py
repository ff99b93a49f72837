"""Numbers of 32 bits in registers of 64: which registers hold them, and what makes LLVM compute with 32 bits.

Guests keep numbers of 32 bits extended in wider registers. What is done to them there, such as a rotation
made of two shifts, is longer in 64 bits, and LLVM can't know that the upper halves say nothing: all of a
register is stored where the region is left. Hence two things:

* extensions are written as such (`with_extensions`), not as shifts or masks, which LLVM can't see through;
* where the number that an instruction puts together of others (`JOINS`) is known to be the extension of its
  lower half, it is extended anew (`store`): then only its lower half is of interest to LLVM.

`facts` finds what registers hold, from where the region is entered on; `Narrow` says what a template makes
of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import count, islice, product
from typing import Final, NamedTuple, TypeAlias

from runtime.cpu.translator.template import Template

SIGNED: Final = 1
"""Fact: a register holds the sign extension of its lower 32 bits."""
UNSIGNED: Final = 2
"""Fact: a register holds the zero extension of its lower 32 bits."""
BOTH: Final = SIGNED | UNSIGNED
JOINS: Final = ("and", "or", "xor", "select")
MOST_WAYS: Final = 4
"""Ways to show a fact that are kept."""

Need: TypeAlias = "tuple[int, str, int]"
"""A fact, and what it has to hold for: ``slot`` (the register in one), ``number`` (the one in a slot) or
``register``; the slot's byte in the record or the register's offset.
"""
Ways: TypeAlias = "tuple[frozenset[Need], ...]"
"""A fact holds if all of one of these do."""

_ALWAYS: Final[Ways] = (frozenset(),)
_LINE: Final = re.compile(r"%\x01(\w+) = (\w+)(.*)")
_STORE: Final = re.compile(r"store i64 (\S+), ptr %g(\d+|\x02r\d+\x03), align 8", re.ASCII)
_HOLE: Final = re.compile(r"\x02[nr](\d+)\x03")
_SHIFTED: Final = re.compile(r"%\x01(\w+) = shl [a-z ]*i64 (\S+), 32$", re.MULTILINE)
_SIGNED: Final = re.compile(r"%\x01(\w+) = ashr (?:exact )?i64 %\x01(\w+), 32$", re.MULTILINE)
_MASKED: Final = re.compile(r"%\x01(\w+) = and i64 (\S+), 4294967295$", re.MULTILINE)


def with_extensions(text: str) -> str:
    """A template's text with the extensions of 32 bits written as such."""
    shifted = dict(_SHIFTED.findall(text))

    def extension(name: str, value: str, how: str) -> str:
        low = f"%\x01{name}low"
        return f"{low} = trunc i64 {value} to i32\n%\x01{name} = {how} i32 {low} to i64"

    def signed(match: re.Match[str]) -> str:
        name, source = match.groups()
        return extension(name, shifted[source], "sext") if source in shifted else match[0]

    text = _SIGNED.sub(signed, text)
    return _MASKED.sub(lambda match: extension(match[1], match[2], "zext"), text)


def stores_marked(text: str, wanted: Sequence[int], mark: Callable[[int], str]) -> str:
    """A template's text with marks in place of some of its stores."""
    numbers = count()

    def marked(match: re.Match[str]) -> str:
        number = next(numbers)
        return mark(number) if number in wanted else match[0]

    return _STORE.sub(marked, text)


def store(text: str, number: int, fact: int) -> str:
    """The text of a template's store, of a number that `fact` holds for."""
    line = next(islice(_STORE.finditer(text), number, None))
    if not fact:
        return line[0]
    value, how = line[1], "zext" if fact & UNSIGNED else "sext"
    low, whole = f"{value}.low{number}", f"{value}.whole{number}"
    extended = [f"{low} = trunc i64 {value} to i32", f"{whole} = {how} i32 {low} to i64"]
    return "\n".join([*extended, line[0].replace(value, whole, 1)])


class Written(NamedTuple):
    """What a template stores in a register."""

    place: tuple[str, int]
    """``slot`` or ``register``, and the number."""
    signed: Ways
    unsigned: Ways
    joined: bool
    """Whether it is worth while to say what the number is."""


class Narrow(NamedTuple):
    """What is known of the numbers that a template stores, in the order of its stores."""

    stores: tuple[Written, ...]
    certain: bool
    """Whether all of them happen wherever the template ends."""

    def held(self, known: Mapping[int, int], slots: Mapping[int, int]) -> list[int]:
        """The facts about each stored number; `known`: about registers before, by their offsets."""

        def holds(ways: Ways) -> bool:
            return any(all(_holds(need, known, slots) for need in way) for way in ways)

        return [SIGNED * holds(w.signed) | UNSIGNED * holds(w.unsigned) for w in self.stores]

    def wanted(self) -> list[int]:
        """The stores of numbers that are worth extending anew if they may be extensions."""
        return [n for n, w in enumerate(self.stores) if w.joined and (w.signed or w.unsigned)]

    def places(self, slots: Mapping[int, int]) -> list[int]:
        """The register of each store."""
        return [slots[w.place[1]] if w.place[0] == "slot" else w.place[1] for w in self.stores]


def _holds(need: Need, known: Mapping[int, int], slots: Mapping[int, int]) -> bool:
    fact, kind, number = need
    if kind == "number":
        return bool(_facts_of(slots[number]) & fact)
    return bool(known.get(slots[number] if kind == "slot" else number, 0) & fact)


def _facts_of(number: int) -> int:
    return SIGNED * (-(1 << 31) <= number < 1 << 31) | UNSIGNED * (0 <= number < 1 << 32)


def _all(*ways: Ways) -> Ways:
    return tuple(frozenset().union(*parts) for parts in list(product(*ways))[:MOST_WAYS])


def _any(*ways: Ways) -> Ways:
    found = tuple(dict.fromkeys(way for each in ways for way in each))
    return _ALWAYS if frozenset() in found else found[:MOST_WAYS]


@lru_cache(maxsize=8192)
def narrow_of(template: Template) -> Narrow:
    """What is known of the numbers that a template stores."""
    values: dict[str, tuple[Ways, Ways]] = {}
    kinds: dict[str, str] = {}
    stores: list[Written] = []
    for line in template.text.split("\n"):
        if match := _LINE.match(line):
            name, kind, rest = match.groups()
            kinds[f"%\x01{name}"] = kind
            # What is loaded behind a store may be what was stored.
            values[f"%\x01{name}"] = ((), ()) if kind == "load" and stores else _made(kind, rest, values)
        elif match := _STORE.match(line):
            value, place = match.groups()
            hole = _HOLE.match(place)
            where = ("slot", int(hole[1])) if hole else ("register", int(place))
            stores.append(Written(where, *_value(value, values), kinds.get(value) in JOINS))
        elif line.startswith("store [2 x i64]"):
            return Narrow((), False)
    branches = re.search(r"^(?:br|switch) ", template.text, re.MULTILINE)
    return Narrow(tuple(stores), branches is None)


def _value(text: str, values: Mapping[str, tuple[Ways, Ways]]) -> tuple[Ways, Ways]:
    """The ways in which an operand is signed or unsigned."""
    if text in values:
        return values[text]
    if hole := _HOLE.fullmatch(text):
        number = int(hole[1])
        return (frozenset({(SIGNED, "number", number)}),), (frozenset({(UNSIGNED, "number", number)}),)
    if re.fullmatch(r"-?\d+", text):
        known = _facts_of(int(text))
        return _ALWAYS if known & SIGNED else (), _ALWAYS if known & UNSIGNED else ()
    return (), ()


def _made(kind: str, rest: str, values: Mapping[str, tuple[Ways, Ways]]) -> tuple[Ways, Ways]:
    """The same of an instruction's result."""
    nothing: tuple[Ways, Ways] = (), ()
    operands = [_value(word.rstrip(","), values) for word in rest.split()]
    match kind:
        case "load":
            if found := re.match(r" i64, ptr %g(\d+|\x02r\d+\x03), align 8$", rest):
                hole = _HOLE.match(found[1])
                where = ("slot", int(hole[1])) if hole else ("register", int(found[1]))
                return (frozenset({(SIGNED, *where)}),), (frozenset({(UNSIGNED, *where)}),)
        case "sext" | "zext":
            found = re.search(r" i(\d+) \S+ to i64$", rest)
            if found is None or int(found[1]) > 32:
                return nothing
            if kind == "zext" and (int(found[1]) < 32 or " nneg " in rest):
                return _ALWAYS, _ALWAYS
            return (_ALWAYS, ()) if kind == "sext" else ((), _ALWAYS)
        case "ashr":
            if re.search(r" i64 \S+ (?:3[2-9]|[45]\d|6[0-3])$", rest):
                return _ALWAYS, ()
        case "lshr":
            if re.search(r" i64 \S+ (?:3[3-9]|[45]\d|6[0-3])$", rest):
                return _ALWAYS, _ALWAYS
            if re.search(r" i64 \S+ \S+$", rest):
                return (), operands[-2][1]
        case "and" | "or" | "xor" if re.search(r" i64 \S+ \S+$", rest):
            (s1, u1), (s2, u2) = operands[-2:]
            if kind != "and":
                return _all(s1, s2), _all(u1, u2)
            return _any(_all(s1, u1), _all(s2, u2), _all(s1, s2)), _any(u1, u2)
        case "select" if re.fullmatch(r" i1 \S+ i64 \S+ i64 \S+", rest):
            (s1, u1), (s2, u2) = operands[3], operands[5]
            return _all(s1, s2), _all(u1, u2)
    return nothing


def facts(
    followers: Sequence[Sequence[int]],
    entries: Sequence[int],
    start: Mapping[int, int],
    templates: Sequence[Narrow],
    slots: Sequence[Mapping[int, int]],
    written: Sequence[set[int]],
) -> list[list[int]]:
    """For each node the facts about the numbers that it stores. `start`: about registers that hold wherever
    the region is entered; `written`: registers that nodes write, in any way.
    """
    before: list[dict[int, int] | None] = [None] * len(followers)
    held: list[list[int]] = [[] for _ in followers]
    for entry in entries:
        before[entry] = dict(start)
    todo = list(entries)
    while todo:
        number = todo.pop()
        known = before[number] or {}
        held[number] = templates[number].held(known, slots[number])
        behind = dict(known)
        stored: dict[int, int] = {}
        for place, fact in zip(templates[number].places(slots[number]), held[number], strict=True):
            stored[place] = fact & stored.get(place, BOTH)
        for place in written[number]:
            fact = stored.get(place, 0)
            if not templates[number].certain:
                fact &= known.get(place, 0)
            behind[place] = fact
        for place, fact in start.items():
            behind[place] = behind.get(place, 0) | fact
        for following in followers[number]:
            there = before[following]
            joined = behind if there is None else {p: f & behind.get(p, 0) for p, f in there.items()}
            if joined != there:
                before[following] = dict(joined)
                todo.append(following)
    return held
