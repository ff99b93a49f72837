"""Check 6: no line of assembly means two instructions; and texts as patterns, which other checks use.

That one instruction has several encodings for a line is meant so (the assembler takes the shortest, the first
of equals). Two instructions that are written alike, with operands of the same classes, are a mistake. What
classes share only for some operands is found by conformance, which assembles what it disassembled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from generator.checks.encodings import conjunction
from generator.checks.overlap import compatible
from generator.checks.report import Reporter
from generator.checks.solve import Atom, GaveUpError, Solver
from generator.errors import Diagnostic
from generator.ir.effects import subexpressions
from generator.ir.nodes import Field
from generator.model.target import Alias, Form, Hole, Operand, Span, Target, Text

SAMPLES = 3
MOST_PATTERNS = 64
"""Patterns that one text is flattened to at most (operands with many cases multiply)."""

NUMBER_FORMATS = frozenset(("hex", "d", "u", "+"))
"""A hole's formats for numbers; any other names a register file, bank or enum."""


@dataclass(frozen=True)
class Names:
    """Any of these words."""

    choices: tuple[str, ...]


@dataclass(frozen=True)
class Number:
    """A number; with `signed`, one whose sign is always written (" + 8")."""

    signed: bool = False


@dataclass(frozen=True)
class Maybe:
    """A part that may be left out."""

    inside: tuple[Element, ...]


Element: TypeAlias = str | Names | Number | Maybe


@dataclass(frozen=True)
class Pattern:
    """One flattened text of a form or alias."""

    elements: tuple[Element, ...]

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Matches the lines that this text may be; spaces count only between words."""
        return re.compile("".join(_regex(e) for e in self.elements) + r"\Z", re.IGNORECASE)

    def matches(self, line: str) -> bool:
        """Whether `line` may be this text."""
        return self.regex.match(squeeze(line.strip())) is not None

    def samples(self) -> Iterator[str]:
        """Lines of this text."""
        seen = set()
        for which in range(SAMPLES):
            line = "".join(_sample(e, which) for e in self.elements)
            if line not in seen:
                seen.add(line)
                yield line

    @property
    def first_word(self) -> str:
        """The literal letters before the first space or hole, in lower case."""
        first = self.elements[0] if self.elements else ""
        return first.split(" ")[0].lower() if isinstance(first, str) else ""


def squeeze(text: str) -> str:
    """A line, or part of one, with spaces only where they separate words."""
    text = re.sub(r"\s+", " ", text)
    return re.sub(r" ?([^\w.%$@ ]) ?", r"\1", text)


def _regex(element: Element) -> str:
    match element:
        case str():
            return re.escape(squeeze(element))
        case Names(choices=choices):
            return "(?:" + "|".join(re.escape(c) for c in sorted(choices, key=len, reverse=True)) + ")"
        case Number():
            return r"[-+]?(?:0[xX][0-9a-fA-F]+|\d+)"
        case Maybe(inside=inside):
            return "(?:" + "".join(_regex(e) for e in inside) + ")?"


def _sample(element: Element, which: int) -> str:
    match element:
        case str():
            return element
        case Names(choices=choices):
            return choices[(len(choices) - 1) * which // (SAMPLES - 1)]
        case Number(signed=signed):
            return " + 8" if signed else "8"
        case Maybe():
            return ""


class Patterns:
    """Flattens the texts of a target."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._names: dict[str, tuple[str, ...]] = {}
        for register in target.registers:
            if register.count is not None:
                names = register.names or tuple(f"{register.name}{i}" for i in range(register.count))
                self._names[register.name] = names
        for bank in target.banks:
            rows = [
                row.name + (str(n - row.first) if row.last > row.first else "")
                for row in bank.rows
                for n in range(row.first, row.last + 1)
            ]
            self._names[bank.name] = tuple(rows)
        for enum in target.enums:
            self._names[enum.name] = tuple(row.text for row in enum.rows)

    def of_form(self, form: Form, dialect: str = "") -> list[Pattern]:
        """All patterns of a form in a dialect (its own text, else the usual one)."""
        text = for_dialect(form.texts, dialect)
        if text is None:
            return []
        operands = {operand.path: operand for operand in form.operands}
        return [Pattern(_join(p)) for p in self._text(text, operands, "", dialect)]

    def _text(
        self, text: Text, operands: Mapping[str, Operand], path: str, dialect: str
    ) -> list[tuple[Element, ...]]:
        result: list[tuple[Element, ...]] = [()]
        for part in text.parts:
            choices = [(part,)] if isinstance(part, str) else self._hole(part, operands, path, dialect)
            result = [(*head, *tail) for head in result for tail in choices][:MOST_PATTERNS]
        return result

    def _hole(
        self, hole: Hole, operands: Mapping[str, Operand], path: str, dialect: str
    ) -> list[tuple[Element, ...]]:
        full = path if hole.name == "@" else hole.name if not path else f"{path}.{hole.name}"
        operand = operands.get(full) or operands.get(hole.name)
        choices: list[tuple[Element, ...]]
        if hole.format in self._names and hole.format not in NUMBER_FORMATS:
            choices = [(Names(self._names[hole.format]),)]
        elif operand is not None and hole.name != "@" and not hole.format:
            choices = self._operand(operand, dialect)
        else:
            choices = [(Number(hole.format == "+"),)]
        if hole.prefix or hole.suffix:
            choices = [(hole.prefix, *choice, hole.suffix) for choice in choices]
        if hole.default is not None:
            choices = [(Maybe(choice),) for choice in choices]
        return choices

    def _operand(self, operand: Operand, dialect: str) -> list[tuple[Element, ...]]:
        found: list[tuple[Element, ...]] = []
        for case in operand.cases:
            text = for_dialect(case.texts, dialect)
            if text is not None:
                inner = {o.path: o for o in case.operands}
                if (
                    not any(isinstance(p, Hole) and p.name == "@" for p in text.parts)
                    or not case.register_file
                ):
                    found += self._text(text, inner, operand.path, dialect)
                    continue
            if case.register_file in self._names:
                found.append((Names(self._names[case.register_file]),))
            elif len(case.operands) == 1:
                found += self._operand(case.operands[0], dialect)
            else:
                found.append((Number(),))
        return list(dict.fromkeys(found))[:MOST_PATTERNS]


def for_dialect(texts: Sequence[Text], dialect: str) -> Text | None:
    """The text that is printed in `dialect`: its own, else the usual one."""
    printed = [text for text in texts if not text.use]
    usual = next((text for text in printed if not text.dialect), None)
    return next((text for text in printed if text.dialect == dialect), usual)


def _join(elements: Sequence[Element]) -> tuple[Element, ...]:
    """Neighbouring literals made one."""
    result: list[Element] = []
    for element in elements:
        if isinstance(element, str) and result and isinstance(result[-1], str):
            result[-1] += element
        elif element != "":
            result.append(element)
    return tuple(result)


def dialects(target: Target) -> list[str]:
    """The dialects that texts name; "" is the usual one."""
    return sorted({text.dialect for form in target.forms for text in form.texts} | {""})


def check(target: Target, solver: Solver, report: Reporter) -> Iterator[Diagnostic]:
    """A diagnostic for each pair of instructions that are written alike, and for each alias written twice."""
    patterns = Patterns(target)
    for dialect in dialects(target):
        yield from _forms(target, patterns, dialect, solver, report)
    yield from _aliases(target, report)
    yield from _expansions(target, report)


def _signature(form: Form, dialect: str) -> tuple[object, ...] | None:
    """A form's text, with each hole's class and widths instead of its name."""
    text = for_dialect(form.texts, dialect)
    if text is None:
        return None
    operands = {operand.path: operand for operand in form.operands}
    widths = dict(form.fields)
    result: list[object] = []
    for part in text.parts:
        if isinstance(part, str):
            result.append(squeeze(part))
            continue
        operand = operands.get(part.name)
        how = part.format, part.default, part.prefix, part.suffix
        if operand is None:
            result.append((widths.get(part.name), how))
        else:
            result.append((operand.operand_class, operand.generics, operand.width, how))
    return tuple(result)


def _forms(
    target: Target, patterns: Patterns, dialect: str, solver: Solver, report: Reporter
) -> Iterator[Diagnostic]:
    groups: dict[object, list[Form]] = {}
    for form in target.forms:
        signature = _signature(form, dialect)
        if signature is not None:
            groups.setdefault((form.set_name, signature), []).append(form)
    seen: set[frozenset[Span]] = set()
    for forms in groups.values():
        for number, first in enumerate(forms):
            for second in forms[number + 1 :]:
                key = frozenset((first.span, second.span))
                if key in seen or not _rivals(target, first, second, solver):
                    continue
                seen.add(key)
                lines = (line for p in patterns.of_form(first, dialect) for line in p.samples())
                yield report.make(
                    second.span,
                    f"`{next(lines, first.name)}` may be `{first.name}` or `{second.name}`",
                    label="second instruction",
                    related=((first.span, "first instruction"),),
                    remedy="give one of them another text",
                )


def _rivals(target: Target, first: Form, second: Form, solver: Solver) -> bool:
    """Whether two forms are different instructions that one program may contain side by side."""
    if (first.instruction, first.mnemonic) == (second.instruction, second.mnemonic):
        return False
    if not compatible(target, first, second):
        return False
    conditions = [form.when for form in (first, second) if form.when is not None]
    context_only = [c for c in conditions if not any(isinstance(node, Field) for node in subexpressions(c))]
    try:
        return solver.solve(conjunction([Atom(c, {}) for c in context_only])) is not None
    except GaveUpError:
        return True


def _aliases(target: Target, report: Reporter) -> Iterator[Diagnostic]:
    """Aliases that say the same. (One text may have several meanings: the first that assembles is taken.)"""
    first: dict[object, Alias] = {}
    for alias in target.aliases:
        meaning = alias.dialect, alias.text.parts, alias.expansion, alias.unless
        other = first.setdefault(meaning, alias)
        if other is not alias:
            yield report.make(
                alias.span,
                "this alias is declared twice",
                label="second alias",
                related=((other.span, "first alias"),),
                remedy="remove one of them",
            )


def _expansions(target: Target, report: Reporter) -> Iterator[Diagnostic]:
    """Aliases for what is no instruction: a word that none begins with, or operands left out."""
    texts = [text for form in target.forms for text in form.texts]
    texts += [alias.text for alias in target.aliases if alias.use != "print"]
    known = re.compile("|".join(dict.fromkeys(_shape(text) for text in texts)), re.IGNORECASE)
    words = {_start(text) for text in texts}
    for alias in target.aliases:
        for text in alias.expansion:
            line = squeeze("".join(part if isinstance(part, str) else "1" for part in text.parts).strip())
            start = _start(text)
            # A hole may be part of the word, and empty: "shl{suffix} {a}, {b}".
            glued = not start.endswith(" ") and any(word.startswith(start) for word in words)
            if not glued and not known.fullmatch(line):
                shown = "".join(p if isinstance(p, str) else f"{{{p.name}}}" for p in text.parts)
                yield report.make(
                    alias.span,
                    f"no instruction is written `{shown}`",
                    remedy="write one of this target's, with all its operands, or say `when`",
                )
                break
        yield from _unbound(alias, report)


def _start(text: Text) -> str:
    """The literal letters that a text begins with, up to and with its first space."""
    first = text.parts[0] if text.parts and isinstance(text.parts[0], str) else ""
    word, space, _ = first.lower().partition(" ")
    return word + (space or (" " if len(text.parts) < 2 else ""))


def _unbound(alias: Alias, report: Reporter) -> Iterator[Diagnostic]:
    """Holes of one side that the other doesn't tell: the assembler reads the left, the disassembler the
    right.
    """
    left, right = _holes([alias.text]), _holes(alias.expansion)
    for side, lacking, here, there in (
        ("print", right - left, "right", "left"),
        ("accept", left - right, "left", "right"),
    ):
        if alias.use != side and lacking:
            shown = ", ".join(f"`{{{name}}}`" for name in sorted(lacking))
            yield report.make(
                alias.span,
                f"{shown} stands on the {here} alone",
                remedy=f"put it on the {there}, too, or a fixed operand in its place",
            )


def _holes(texts: Sequence[Text]) -> set[str]:
    """The names in texts' holes, arithmetic (``{%sext32(imm << 16)}``) taken apart."""
    holes = [part.name for text in texts for part in text.parts if isinstance(part, Hole)]
    return {name for hole in holes for name in re.findall(r"(?<![%\w.])[A-Za-z_][\w.]*", hole)}


def _shape(text: Text) -> str:
    """A regular expression for the squeezed lines that are `text` with anything in its holes."""
    parts = []
    for part in text.parts:
        if isinstance(part, str):
            parts.append(re.escape(squeeze(part)))
        else:
            parts.append(".*?" if part.default is None else f"(?:{re.escape(squeeze(part.prefix))}.*?)?")
    return "".join(parts)
