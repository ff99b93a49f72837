"""Aliases are text rewriting: one line for another, in both directions.

``alias "mv {rd}, {rs1}" = "addi {rd}, {rs1}, 0"``: the assembler turns the left into the right, the
disassembler the
right into the left. Holes capture operand texts; a hole on the right may hold arithmetic over them: ``{31 -
n}``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from runtime.assembly.tables import Alias, Hole, Syntax, Text
from runtime.assembly.values import AssemblyError, Undefined, evaluate, parse

_CAPTURE = r"(\{[^{}]*\}|[^,\s()\[\]{}]+|[^,{}]+?)"
_NUMBER = re.compile(r"-?(0x[0-9a-fA-F]+|[0-9]+)$")
MAX_REWRITES = 4
"""How many aliases may be put one upon the other."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A text as a regular expression: `holes` name its groups, "" where a group is arithmetic to be
    compared."""

    expression: re.Pattern[str]
    holes: tuple[str, ...]


_Suffixes = dict[str, set[str]]


def _suffixes(syntax: Syntax) -> _Suffixes:
    """Operands that print nothing but fixed words (``"" or "cc"``, a condition), by name, and these words."""
    found: _Suffixes = defaultdict(set)
    for form in syntax.forms:
        for name, operand, _ in form.operands:
            texts = [text.parts for case in operand.cases for text in case.texts]
            words = [_words_of(parts, syntax) for parts in texts]
            if words and all(w is not None for w in words):
                found[name].update(word for w in words if w is not None for word in w)
    return found


def _words_of(parts: tuple[str | Hole, ...], syntax: Syntax) -> list[str] | None:
    """All that a text can be, if it is literal or a name from a table; else None."""
    if all(isinstance(part, str) for part in parts):
        return ["".join(map(str, parts))]
    name = parts[0].format if len(parts) == 1 and isinstance(parts[0], Hole) else ""
    if name not in syntax.symbols:
        return None
    return [*syntax.symbols[name].values(), *syntax.synonyms.get(name, ())]


def _pattern(text: Text, suffixes: _Suffixes) -> _Pattern:
    expression, holes = "", []
    for number, part in enumerate(text.parts):
        if isinstance(part, str):
            expression += r"\s*,\s*".join(
                r"\s+".join(re.escape(word) for word in piece.split(" "))
                for piece in re.split(r"\s*,\s*", part)
            )
        else:
            words = suffixes.get(part.name, set()) if _in_first_word(text.parts, number) else set()
            expression += f"({'|'.join(map(re.escape, sorted(words, reverse=True)))})" if words else _CAPTURE
            holes.append(part.name)
    return _Pattern(re.compile(r"\s*" + expression + r"\s*$", re.IGNORECASE), tuple(holes))


def _in_first_word(parts: tuple[str | Hole, ...], number: int) -> bool:
    """Whether the part is glued to the mnemonic, as in "add{cc} ...": no space stands before it."""
    return number > 0 and not any(isinstance(part, str) and " " in part for part in parts[:number])


def _calculate(expression: str, values: dict[str, str]) -> int | None:
    """The arithmetic of a hole over captured numbers; None where a capture is no number."""
    parsed = parse(expression, 0)
    if parsed is None or expression[parsed[1] :].strip():
        return None
    numbers = {name: int(text, 0) for name, text in values.items() if _NUMBER.match(text)}
    try:
        return evaluate(parsed[0], numbers, 0)
    except (Undefined, AssemblyError):
        return None


def _captures(pattern: _Pattern, line: str) -> dict[str, str] | None:
    """What the holes of `pattern` hold in `line`; None if it does not match or a hole holds two things."""
    match = pattern.expression.match(line)
    if match is None:
        return None
    values: dict[str, str] = {}
    arithmetic: list[tuple[str, str]] = []
    for name, text in zip(pattern.holes, match.groups(), strict=True):
        text = text.strip()
        if not name.isidentifier():
            arithmetic.append((name, text))
        elif values.setdefault(name, text) != text:
            return None
    for expression, text in arithmetic:
        if not _NUMBER.match(text) or _calculate(expression, values) != int(text, 0):
            return None
    return values


def _fill(text: Text, values: dict[str, str]) -> str | None:
    """`text` with its holes filled; None if one has no value."""
    out = ""
    for part in text.parts:
        if isinstance(part, str):
            out += part
        elif part.name in values:
            out += values[part.name]
        else:
            number = _calculate(part.name, values)
            if number is None:
                return None
            out += str(number)
    return out


def _meant(alias: Alias, values: dict[str, str]) -> bool:
    """Whether an alias stands for a line that it fits: its condition is 0, or isn't about numbers."""
    if alias.unless is None:
        return True
    condition = _fill(alias.unless, values)
    return condition is not None and not _calculate(condition, {})


def first_word(text: Text) -> str:
    """The literal that begins `text`, up to a space: its mnemonic, or the beginning of one."""
    head = text.parts[0] if text.parts and isinstance(text.parts[0], str) else ""
    return head.split(" ")[0].lower()


_Entries = dict[str, list[tuple[_Pattern, Alias]]]


def _under(entries: _Entries, line: str) -> Iterator[tuple[_Pattern, Alias]]:
    """Entries whose text begins as `line` does: with its mnemonic, then with ever shorter beginnings."""
    word = next(iter(line.split(None, 1)), "").lower()
    for end in range(len(word), 0, -1):
        yield from entries.get(word[:end], ())


@dataclass(frozen=True, slots=True)
class Expansion:
    """What a line may stand for: other lines (several: a macro), where the expression `unless` is 0."""

    lines: tuple[str, ...]
    unless: str | None


class AliasBook:
    """A target's aliases for one dialect, by mnemonic."""

    def __init__(self, syntax: Syntax, dialect: str = "") -> None:
        self._by_expansion: _Entries = defaultdict(list)
        self._by_name: _Entries = defaultdict(list)
        suffixes = _suffixes(syntax)
        for alias in syntax.aliases:
            if alias.text.dialect not in ("", dialect):
                continue
            if alias.use != "print":
                self._by_name[first_word(alias.text)].append((_pattern(alias.text, suffixes), alias))
            if alias.use != "accept" and len(alias.expansion) == 1:
                expansion = alias.expansion[0]
                self._by_expansion[first_word(expansion)].append((_pattern(expansion, suffixes), alias))

    def shorten(self, line: str, others: Callable[[], Iterable[str]] = tuple) -> str:
        """`line` by the first alias whose expansion it is, and that again; else `line` itself.

        `others`: further texts of the instruction, which "print" aliases may be for.
        """
        found = self._rewrite(line)
        if found is None:
            found = next((new for text in others() if (new := self._rewrite(text, ("print",)))), None)
        for _ in range(MAX_REWRITES):
            if found is None:
                break
            line, found = found, self._rewrite(found)
        return line

    def _rewrite(self, line: str, uses: tuple[str, ...] = ("", "print")) -> str | None:
        """`line` by the first alias whose expansion it is."""
        for pattern, alias in _under(self._by_expansion, line):
            if alias.use not in uses:
                continue
            values = _captures(pattern, line)
            if values is None or not _meant(alias, values):
                continue
            filled = _fill(alias.text, values)
            if filled is not None:
                return filled
        return None

    def expand(self, line: str) -> list[Expansion]:
        """What `line` may stand for."""
        found: list[Expansion] = []
        for pattern, alias in _under(self._by_name, line):
            values = _captures(pattern, line)
            if values is None:
                continue
            filled = [_fill(text, values) for text in alias.expansion]
            unless = None if alias.unless is None else _fill(alias.unless, values)
            lines = tuple(text for text in filled if text is not None)
            if len(lines) == len(filled) and (unless is None) == (alias.unless is None):
                found.append(Expansion(lines, unless))
        return found
