"""Floating-point flags that only gather: when need a template not know whether its operation was exact?

Most templates do two things with the flags of their operation: they add some function of them to a register
of gathered flags (IEEE 754-2019, 7.1: status flags stay until they are lowered), and leave where one is to
trap. If inexact adds nothing that isn't there already and doesn't make the template leave, then an exact
result may as well be called inexact, and the operation's error need not be computed. `Gathers` finds in a
template's text what is done with the flags; a node's slots then say what inexact adds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from runtime.cpu.translator.template import Template

_NAME: Final = re.compile(r"%\x01\w+")
_FLAGS: Final = re.compile(r"(%\x01\w+) = load i64, ptr %fp\.flags$")
_BINARY: Final = re.compile(r"(and|or|xor|shl|lshr|add)(?: disjoint| nuw| nsw)* i64 (\S+), (\S+)$")
_COMPARE: Final = re.compile(r"icmp(?: samesign)? (eq|ne) i64 (\S+), (\S+)$")
_SELECT: Final = re.compile(r"select i1 (\S+), i64 (\S+), i64 (\S+)$")
_STORE: Final = re.compile(r"store i64 (\S+), ptr %g(\d+),")
_LOAD: Final = re.compile(r"load i64, ptr %g(\d+),")
_BRANCH: Final = re.compile(r"br i1 (\S+), label %(\S+), label %(\S+)$")
_HOLE: Final = re.compile(r"\x02n(\d+)\x03$")
_MASK: Final = (1 << 64) - 1


class NotPure(Exception):
    """Something is done with the flags that this module doesn't understand."""


class Gathers:
    """A template that gathers its one operation's flags in a register, at `place`. Raises NotPure."""

    def __init__(self, template: Template) -> None:
        lines = template.text.split("\n")
        self._made = {name: text for name, _, text in (line.partition(" = ") for line in lines) if text}
        found = [match[1] for line in lines if (match := _FLAGS.match(line))]
        if len(found) != 1 or template.text.count("\x07") != 1:
            raise NotPure
        self._flags = found[0]
        self._leaving = {
            line.rstrip(":") for line, following in pairwise(lines)
            if line.endswith(":") and following == "\x02end leave\x03"
        }  # fmt: skip
        self._added = ""
        """What is added to the register."""
        self._goes_on: list[tuple[str, bool]] = []
        """Conditions of branches, and with which value they don't leave."""
        self.place = -1
        tainted = {self._flags}
        for line in lines:
            name, equals, text = line.partition(" = ")
            used = set(_NAME.findall(text if equals else line)) & tainted
            if used:
                tainted |= self._follow(name, text, used) if equals else self._end(line)
        stores = [match for line in lines if (match := _STORE.match(line)) and int(match[2]) == self.place]
        if len(stores) != 1:
            raise NotPure

    def _follow(self, name: str, text: str, used: set[str]) -> set[str]:
        """What a value that is made from the flags adds to those that are."""
        binary = _BINARY.match(text)
        if binary is not None and binary[1] == "or":
            for value, other in ((binary[2], binary[3]), (binary[3], binary[2])):
                loaded = _LOAD.match(self._made.get(other, ""))
                if loaded is not None and value in used and self.place < 0:
                    self.place, self._added, self._sum = int(loaded[1]), value, name
                    return {name}
        if binary is None and _COMPARE.match(text) is None and _SELECT.match(text) is None:
            raise NotPure
        if hasattr(self, "_sum") and self._sum in used:
            raise NotPure
        return {name}

    def _end(self, line: str) -> set[str]:
        """A line that makes no value of the flags, but uses it."""
        store, branch = _STORE.match(line), _BRANCH.match(line)
        if store is not None and store[1] == getattr(self, "_sum", "") and int(store[2]) == self.place:
            return set()
        if branch is None or (branch[2] in self._leaving) == (branch[3] in self._leaving):
            raise NotPure
        self._goes_on.append((branch[1], branch[3] in self._leaving))
        return set()

    def _value(self, text: str, flags: int, slots: Mapping[int, int], depth: int = 0) -> int:
        """A value, unsigned, where the operation's flags are `flags`."""
        if text == self._flags:
            return flags
        hole = _HOLE.match(text)
        if hole is not None:
            return slots[int(hole[1])] & _MASK
        if text.lstrip("-").isdigit():
            return int(text) & _MASK
        made = self._made.get(text, "")
        if depth > 20:
            raise NotPure
        if match := _BINARY.match(made):
            a, b = (self._value(match[n], flags, slots, depth + 1) for n in (2, 3))
            if match[1] in ("shl", "lshr") and b > 63:
                raise NotPure
            results = {"and": a & b, "or": a | b, "xor": a ^ b, "add": a + b & _MASK}
            if match[1] in results:
                return results[match[1]]
            return a << b & _MASK if match[1] == "shl" else a >> b
        if match := _COMPARE.match(made):
            a, b = (self._value(match[n], flags, slots, depth + 1) for n in (2, 3))
            return int((a == b) == (match[1] == "eq"))
        if match := _SELECT.match(made):
            chosen = 2 if self._value(match[1], flags, slots, depth + 1) else 3
            return self._value(match[chosen], flags, slots, depth + 1)
        raise NotPure

    def added(self, slots: Mapping[int, int]) -> int | None:
        """The bits that inexact adds to the register, with a node's slots; None where it makes a difference
        of another kind.
        """
        if self.place in slots.values():  # a slot might name the register
            return None
        try:
            for condition, value in self._goes_on:
                if any(self._value(condition, flags, slots) != value for flags in (0, 1)):
                    return None
            if self._value(self._added, 0, slots):
                return None
            return self._value(self._added, 1, slots)
        except NotPure:
            return None


def gathers(template: Template) -> Gathers | None:
    """What a template does with its operation's flags, if it is that simple."""
    try:
        return Gathers(template)
    except NotPure:
        return None
