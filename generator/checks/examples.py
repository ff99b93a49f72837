"""Check 9: the bytes of each `example` line are the instruction that its text names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from generator.checks.corners import Sample, Sampler
from generator.checks.encodings import Encodings, conjunction
from generator.checks.report import Reporter
from generator.checks.solve import Cube, GaveUpError, Solver
from generator.checks.syntax import Patterns, squeeze
from generator.errors import Diagnostic
from generator.ir.decode import Decoded
from generator.model.target import Alias, Example, Form, Hole, Target

Assemble: TypeAlias = Callable[[str, str], bytes]
"""Dialect and line to bytes. Raises ValueError with the reason for a line that isn't an instruction."""


def check(
    target: Target,
    encodings: Encodings,
    solver: Solver,
    report: Reporter,
    assemble: Assemble | None = None,
) -> Iterator[Diagnostic]:
    """A diagnostic for each example that is wrong."""
    patterns = Patterns(target)
    finder = _Finder(target, encodings, solver)
    for example in target.examples:
        shown = example.bytes_.hex(" ")
        if assemble is not None:
            try:
                data = assemble(example.dialect, example.text)
            except ValueError as error:
                yield report.make(
                    example.span, f"`{example.text}` is not assembled: {error}", remedy="correct the text"
                )
                continue
            if data != example.bytes_:
                yield report.make(
                    example.span,
                    f"`{example.text}` is {data.hex(' ')}, not {shown}",
                    remedy="correct the example or the instruction's picture",
                )
                continue
        found = finder.decode(example.bytes_)
        if found is None:
            yield report.make(
                example.span,
                f"nothing decodes {shown}",
                label="not instructions",
                remedy="correct the bytes, or add the encoding",
            )
        elif not _named(example, found, patterns, target.aliases):
            names = "; ".join(f"`{decoded.form.name}`" for decoded in found)
            yield report.make(
                example.span,
                f"{shown} is {names}, which is not written `{example.text}`",
                related=((found[0].form.span, "decoded as this"),),
                remedy="correct the bytes or the text",
            )


class _Finder:
    """Decodes bytes in whatever contexts they are instructions in."""

    def __init__(self, target: Target, encodings: Encodings, solver: Solver) -> None:
        self.target = target
        self.encodings = encodings
        self.solver = solver
        self.sampler = Sampler(target, encodings, solver)
        self.contexts: list[Mapping[str, int]] = [{}]
        self.contexts += [{c.name: value} for c in target.contexts for value in c.domain]

    def decode(self, data: bytes) -> list[Decoded] | None:
        """The instructions that `data` is, one after the other; None if it isn't some."""
        found: list[Decoded] = []
        position = 0
        while position < len(data):
            decoded = self._one(data[position:])
            if decoded is None:
                return None
            found.append(decoded)
            position += decoded.length
        return found or None

    def _one(self, data: bytes) -> Decoded | None:
        for given in self.contexts:
            decoded = self.sampler.decode(Sample(data, {}, given))
            if decoded is not None:
                return decoded
        for given in self.contexts:
            for form in self.target.forms:
                sample = self._place(form, data, given)
                decoded = self.sampler.decode(sample) if sample is not None else None
                if decoded is not None:
                    return decoded
        return None

    def _place(self, form: Form, data: bytes, given: Mapping[str, int]) -> Sample | None:
        """`data` with registers and contexts for which `form` matches it."""
        group = self.encodings.sets[form.set_name]
        start, prefixes = self.sampler.prefixes(data, given) if group.stream and group.unit == 8 else (0, {})
        size = group.unit // 8
        count = (len(data) - start) // size
        units = [data[start + i * size : start + (i + 1) * size] for i in range(count)]
        word = 0
        for i, unit in enumerate(units):
            word |= int.from_bytes(unit, "big" if self.target.big_endian else "little") << (i * group.unit)
        bits = (1 << (count * group.unit)) - 1
        fixed = self.encodings.fixed_prefix(form)
        if not count or (word ^ fixed.value) & fixed.mask & bits:
            return None
        known = [self.encodings.equals(name, value) for name, value in {**given, **prefixes}.items()]
        try:
            formula = conjunction([Cube(bits, word), self.encodings.matches(form), *known])
            solution = self.solver.solve(formula)
        except GaveUpError:
            return None
        return None if solution is None else self.sampler.placed(data, solution)


def _named(example: Example, found: list[Decoded], patterns: Patterns, aliases: tuple[Alias, ...]) -> bool:
    """Whether the text may be the one instruction found, or an alias of what was found."""
    if len(found) == 1:
        for pattern in patterns.of_form(found[0].form, example.dialect):
            if pattern.matches(example.text):
                return True
    words = [{p.first_word for p in patterns.of_form(d.form, example.dialect)} for d in found]
    line = squeeze(example.text.strip())
    for alias in aliases:
        if len(alias.expansion) != len(found) or not _may_be(alias, line):
            continue
        targets = [_word(text.parts) for text in alias.expansion]
        if all(target in known for target, known in zip(targets, words, strict=True)):
            return True
    return False


def _word(parts: tuple[str | Hole, ...]) -> str:
    first = parts[0] if parts else ""
    return first.split(" ")[0].lower() if isinstance(first, str) else ""


def _may_be(alias: Alias, line: str) -> bool:
    """Whether a squeezed line is the alias's text with anything in its holes."""
    parts = [re.escape(squeeze(part)) if isinstance(part, str) else ".*?" for part in alias.text.parts]
    return re.fullmatch("".join(parts), line, re.IGNORECASE) is not None
