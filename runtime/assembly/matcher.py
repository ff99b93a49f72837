"""From text to operands: match a source line against the texts of the forms.

A match leaves numbers as expressions, since labels are not known yet; `encoder` solves them for the fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from runtime.assembly.tables import NUMBER_FORMATS, Case, Hole, Operand, Syntax, Text, texts_for
from runtime.assembly.values import Number, Operation, Symbol, Value, parse

MAX_NESTING = 12
SIGNS = {"d": "signed", "+": "signed", "u": "unsigned"}
"""Formats of fields that hold signed numbers (255 is no 8-bit one), or unsigned ones (-1 is none)."""


@dataclass(slots=True)
class Chosen:
    """An operand as written: the case, the numbers in its holes, nested operands, and its own value or
    register."""

    operand: Operand
    case: Case
    numbers: dict[str, Value] = field(default_factory=dict)
    nested: dict[str, Chosen] = field(default_factory=dict)
    value: Value | None = None
    register: int | None = None


@dataclass(slots=True)
class Written:
    """What a line says: numbers and operands by the names of the holes."""

    numbers: dict[str, Value] = field(default_factory=dict)
    operands: dict[str, Chosen] = field(default_factory=dict)


class Matcher:
    """Matches texts of one target in one dialect."""

    def __init__(self, syntax: Syntax, dialect: str = "") -> None:
        self.dialect = dialect
        self.symbols = {
            name: syntax.synonyms.get(name, {}) | {text.lower(): number for number, text in table.items()}
            for name, table in syntax.symbols.items()
        }
        self._numbered = syntax.numbered
        self._reserved = {text for name in _operand_tables(syntax) for text in self.symbols.get(name, ())}
        self._reserved |= _words(syntax)
        self._texts: dict[int, list[Text]] = {}
        self._line = ""
        self._seen: dict[tuple[int, str, int], list[tuple[Chosen, int]]] = {}

    def match(self, text: Text, operands: dict[str, Operand], line: str) -> Iterator[Written]:
        """Every way to read the whole of `line` as `text`.

        Forms share operands: what these may be at a place of the line is found out once for all of them.
        """
        if line != self._line:
            self._line, self._seen = line, {}
        for written, end in self._parts(text.parts, 0, operands, line, 0, None, 0):
            if not line[end:].strip():
                yield written

    def _parts(
        self,
        parts: tuple[str | Hole, ...],
        index: int,
        operands: dict[str, Operand],
        line: str,
        position: int,
        own: tuple[Operand, Case] | None,
        depth: int,
    ) -> Iterator[tuple[Written, int]]:
        if index == len(parts):
            yield Written(), position
            return
        part = parts[index]
        if isinstance(part, str):
            end = _literal(part, line, position)
            if end is not None:
                yield from self._parts(parts, index + 1, operands, line, end, own, depth)
            return
        for step, end in self._hole(part, operands, line, position, own, depth):
            for rest, final in self._parts(parts, index + 1, operands, line, end, own, depth):
                yield Written({**step.numbers, **rest.numbers}, {**step.operands, **rest.operands}), final

    def _hole(
        self,
        hole: Hole,
        operands: dict[str, Operand],
        line: str,
        position: int,
        own: tuple[Operand, Case] | None,
        depth: int,
    ) -> Iterator[tuple[Written, int]]:
        start = _literal(hole.prefix, line, position)
        if start is not None:
            for written, end in self._body(hole, operands, line, start, own, depth):
                final = _literal(hole.suffix, line, end)
                if final is not None:
                    yield written, final
        if hole.default is not None:
            number = Number(hole.default)
            operand = operands.get(hole.name)
            if operand is None:
                yield Written({hole.name: number}), position
            else:
                for case in operand.cases:
                    yield Written({}, {hole.name: Chosen(operand, case, value=number)}), position

    def _body(
        self,
        hole: Hole,
        operands: dict[str, Operand],
        line: str,
        position: int,
        own: tuple[Operand, Case] | None,
        depth: int,
    ) -> Iterator[tuple[Written, int]]:
        operand = operands.get(hole.name)
        if operand is not None:
            for chosen, end in self._shared(operand, hole.format, line, position, depth + 1):
                yield Written({}, {hole.name: chosen}), end
            return
        for value, end in self._number(hole.format, line, position):
            kind = SIGNS.get(hole.format) if hole.name != "@" else None
            yield Written({hole.name: Operation(kind, (value,)) if kind else value}), end

    def _number(self, form: str, line: str, position: int) -> Iterator[tuple[Value, int]]:
        if form.endswith("*"):
            yield from _set(self.symbols[form[:-1]], line, position)
            return
        if form.endswith("|"):
            yield from _alternatives(self.symbols[form[:-1]], line, position)
            return
        table = None if form in NUMBER_FORMATS else self.symbols.get(form)
        word, end = _word(line, position)
        if table is not None:
            # a mnemonic's parts stand close together: the word may go on with the next part
            start = end - len(word)
            for length in range(len(word), 0, -1):
                if word[:length].lower() in table:
                    yield Number(table[word[:length].lower()]), start + length
            at = _blanks(line, position)
            for name in sorted(table, key=len, reverse=True):  # names that are no words, such as 4*cr1+eq
                if not name.isalnum() and line[at : at + len(name)].lower() == name:
                    yield Number(table[name]), at + len(name)
        if table is not None and form not in self._numbered:
            return
        if form == "+" and line[_blanks(line, position) :][:1] not in ("+", "-"):
            return
        parsed = parse(line, position)
        if parsed is not None and not self._names_register(parsed[0]):
            yield parsed

    def _names_register(self, value: Value) -> bool:
        """Whether a register's name stands where a number would: then this is not how the line reads."""
        if isinstance(value, Operation):
            return any(self._names_register(operand) for operand in value.operands)
        return isinstance(value, Symbol) and value.name.lower() in self._reserved

    def _shared(
        self, operand: Operand, form: str, line: str, position: int, depth: int
    ) -> list[tuple[Chosen, int]]:
        """All that `_operand` yields, from `_seen` if another form asked for it."""
        key = id(operand), form, position
        found = self._seen.get(key)
        if found is None:
            found = self._seen[key] = list(self._operand(operand, form, line, position, depth))
        return found

    def _texts_of(self, case: Case) -> list[Text]:
        found = self._texts.get(id(case))
        if found is None:
            found = self._texts[id(case)] = texts_of(case.texts, self.dialect)
        return found

    def _operand(
        self, operand: Operand, form: str, line: str, position: int, depth: int
    ) -> Iterator[tuple[Chosen, int]]:
        if depth > MAX_NESTING:
            return
        for case in operand.cases:
            texts = self._texts_of(case)
            if texts:
                # the first is what is printed; all are accepted
                inner = {name: nested for name, nested, _ in case.operands}
                for text in texts:
                    for written, end in self._parts(
                        text.parts, 0, inner, line, position, (operand, case), depth
                    ):
                        yield self._chosen(operand, case, written), end
            elif case.register_file:
                word, end = _word(line, position)
                number = self.symbols.get(case.register_file, {}).get(word.lower())
                if number is not None:
                    yield Chosen(operand, case, register=number), end
            elif case.value is None and len(case.operands) == 1 and not case.fields:
                name, nested, _ = case.operands[0]
                for chosen, end in self._shared(nested, form, line, position, depth + 1):
                    yield Chosen(operand, case, nested={name: chosen}), end
            else:
                for value, end in self._number(form, line, position):
                    if case.value is not None:
                        yield Chosen(operand, case, value=value), end
                    elif len(case.fields) == 1:
                        yield Chosen(operand, case, numbers={case.fields[0][0]: value}), end

    @staticmethod
    def _chosen(operand: Operand, case: Case, written: Written) -> Chosen:
        numbers = dict(written.numbers)
        return Chosen(operand, case, value=numbers.pop("@", None), numbers=numbers, nested=written.operands)


def _set(table: dict[str, int], line: str, position: int) -> Iterator[tuple[Value, int]]:
    """A set in braces, ``{r0, r4-r6, pc}``, as the number whose bits are its members."""
    match = re.compile(r"\s*\{([^{}]*)\}").match(line, position)
    if match is None:
        return
    mask = 0
    for item in match.group(1).split(","):
        first, _, last = (part.strip().lower() for part in item.partition("-"))
        if first not in table or (last and last not in table):
            return
        for number in range(table[first], table[last or first] + 1):
            mask |= 1 << number
    yield Number(mask), match.end()


def _alternatives(table: dict[str, int], line: str, position: int) -> Iterator[tuple[Value, int]]:
    """A set as ``#a | #b``, as the number whose bits are its members."""
    match = re.compile(r"\s*[^\s|,]+(?:\s*\|\s*[^\s|,]+)*").match(line, position)
    names = [name.strip().lower() for name in match.group().split("|")] if match else []
    if match is not None and all(name in table for name in names):
        yield Number(sum(1 << number for number in {table[name] for name in names})), match.end()


def _operand_tables(syntax: Syntax) -> set[str]:
    """The tables whose names stand among operands; those in mnemonics only (conditions) name no register."""
    found: set[str] = set(syntax.numbered)
    known: dict[int, set[str]] = {}
    for form in syntax.forms:
        operands = {name: operand for name, operand, _ in form.operands}
        for text in form.texts:
            behind = False
            for part in text.parts:
                if isinstance(part, str):
                    behind = behind or " " in part
                elif behind:
                    found.add(part.format.rstrip("*|"))
                    if part.name in operands:
                        found |= _tables_of(operands[part.name], known)
    return found


def _tables_of(operand: Operand, known: dict[int, set[str]]) -> set[str]:
    """The tables by which an operand may be read. `known`: those of others by identity: forms share them."""
    found = known.get(id(operand))
    if found is None:
        found = known[id(operand)] = set()
        for case in operand.cases:
            found.add(case.register_file)
            holes = (part for text in case.texts for part in text.parts if isinstance(part, Hole))
            found.update(hole.format.rstrip("*|") for hole in holes)
            for _, inner, _ in case.operands:
                found |= _tables_of(inner, known)
    return found


def _words(syntax: Syntax) -> set[str]:
    """Words that operands' texts contain (rip, uxtw, lsl): they name no symbols."""
    found: set[str] = set()
    pending = [operand for form in syntax.forms for _, operand, _ in form.operands]
    seen: set[int] = set()
    while pending:
        operand = pending.pop()
        if id(operand) in seen:
            continue
        seen.add(id(operand))
        for case in operand.cases:
            pending += [inner for _, inner, _ in case.operands]
            for text in case.texts:
                for part in text.parts:
                    if isinstance(part, str):
                        found.update(re.findall(r"(?<![\w%])[a-z][\w.]*", part.lower()))
    return found


def texts_of(texts: tuple[Text, ...], dialect: str) -> list[Text]:
    """What may be written in `dialect`: what is printed there, then what is only accepted."""
    return texts_for(texts, dialect) + texts_for(texts, dialect, "accept")


def _literal(text: str, line: str, position: int) -> int | None:
    """The position behind `text` in `line`: letters in either case, blanks of any number around
    punctuation."""
    for character in text:
        if character == " ":
            skipped = _blanks(line, position)
            needed = (
                position and line[position - 1 : position].isalnum() and line[skipped : skipped + 1].isalnum()
            )
            if needed and skipped == position:
                return None
            position = skipped
            continue
        if not character.isalnum() and (character not in "._%$" or line[position - 1 : position] == ","):
            position = _blanks(line, position)
        if line[position : position + 1].lower() != character.lower():
            return None
        position += 1
    return position


def _blanks(line: str, position: int) -> int:
    while position < len(line) and line[position] in " \t":
        position += 1
    return position


def _word(line: str, position: int) -> tuple[str, int]:
    start = _blanks(line, position)
    end = start
    while end < len(line) and (line[end].isalnum() or line[end] in "._%$"):
        end += 1
    return line[start:end], end
