"""Check 9: each `example` line: its bytes are the instruction that its text names; with an assembler,
exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from generator.checks.report import Reporter
from generator.checks.solve import Atom, GaveUpError, Solver
from generator.checks.syntax import Pattern, Patterns, squeeze
from generator.errors import Diagnostic
from generator.ir.decode import AmbiguousEncodingError, Decoded, Decoder, Illegal
from generator.ir.state import GuestFault, SparseMemory, reset_state
from generator.model.target import Alias, Example, Hole, Target

Assemble: TypeAlias = Callable[[str, str], bytes]
"""Dialect and line to bytes. Raises ValueError with the reason for a line that isn't an instruction."""

BASE = 0x1000


def check(
    target: Target, solver: Solver, report: Reporter, assemble: Assemble | None = None
) -> Iterator[Diagnostic]:
    """A diagnostic for each example that is wrong."""
    patterns = Patterns(target)
    decoder = Decoder(target)
    contexts = _contexts(target, solver)
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
        found = _decode(target, decoder, example.bytes_, contexts)
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


def _contexts(target: Target, solver: Solver) -> list[Mapping[str, int]]:
    """Contexts to decode in: as after reset, and with each set active."""
    result: list[Mapping[str, int]] = [{}]
    for group in target.sets:
        if group.when is None:
            continue
        try:
            solution = solver.solve(Atom(group.when, {}))
        except GaveUpError:
            continue
        if solution is not None:
            result.append(solution.variables)
    for context in target.contexts:
        result += [{context.name: value} for value in context.domain]
    return result


def _decode(
    target: Target, decoder: Decoder, data: bytes, contexts: list[Mapping[str, int]]
) -> list[Decoded] | None:
    """The instructions that `data` is, in the first context in which it is some."""
    memory = SparseMemory(target.pc_width)
    memory.map(BASE, len(data))
    memory.poke(BASE, data)
    state = reset_state(target, memory)
    features = frozenset(feature.name for feature in target.features)

    def read(name: str, index: int | None, width: int) -> int:
        value = state.registers.get(name, 0) if index is None else state.files[name][index]
        return value & (1 << width) - 1

    for given in contexts:
        found: list[Decoded] = []
        pc = BASE
        while pc < BASE + len(data):
            try:
                decoded = decoder.decode(memory, pc, given, features, read)
            except (GuestFault, AmbiguousEncodingError):
                break
            if isinstance(decoded, Illegal):
                break
            found.append(decoded)
            pc = decoded.next_pc
        else:
            if found:
                return found
    return None


def _named(example: Example, found: list[Decoded], patterns: Patterns, aliases: tuple[Alias, ...]) -> bool:
    """Whether the text may be the one instruction found, or an alias of what was found."""
    if len(found) == 1:
        for pattern in patterns.of_form(found[0].form, example.dialect):
            if pattern.matches(example.text):
                return True
    words = [{_first_word(p) for p in patterns.of_form(d.form, example.dialect)} for d in found]
    line = squeeze(example.text.strip()).lower()
    for alias in aliases:
        if not _starts_as(alias, line) or len(alias.expansion) != len(found):
            continue
        targets = [_word(text.parts) for text in alias.expansion]
        if all(target in known for target, known in zip(targets, words, strict=True)):
            return True
    return False


def _first_word(pattern: Pattern) -> str:
    return pattern.first_word


def _word(parts: tuple[str | Hole, ...]) -> str:
    first = parts[0] if parts else ""
    return first.split(" ")[0].lower() if isinstance(first, str) else ""


def _starts_as(alias: Alias, line: str) -> bool:
    return bool(line) and line.split(" ")[0] == _word(alias.text.parts)
