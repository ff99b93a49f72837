"""One instruction from text to bytes: find the forms and aliases that fit, encode them, take the shortest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from runtime.assembly.aliases import AliasBook, Expansion, first_word
from runtime.assembly.encoder import Encoder, Encoding, Unencodable
from runtime.assembly.expressions import may_hold
from runtime.assembly.matcher import Matcher, Written, texts_of
from runtime.assembly.tables import Form, Hole, Prefix, Syntax, Text
from runtime.assembly.values import AssemblyError, Undefined, evaluate, parse

MAX_ALIAS_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """One reading of an instruction; `prefixes`: variables of prefixes written in front of it that
    it must allow (lock); `leading`: other prefixes there."""

    form: Form
    written: Written
    prefixes: frozenset[str] = frozenset()
    leading: tuple[Prefix, ...] = ()


@dataclass(slots=True)
class Macro:
    """Lines that a statement may stand for; `parts`: what they are, once that was asked for."""

    expansion: Expansion
    depth: int
    parts: list[Statement] | None = None


@dataclass(slots=True)
class Statement:
    """What a source line may be: single instructions, and macros for where none of these fits; or a prefix
    alone, whose instruction is on the next line."""

    line: str
    candidates: list[Candidate]
    macros: list[Macro] = field(default_factory=list)
    alone: Prefix | None = None


class Assembler:
    """Assembles single instructions of one target.

    `contexts`: decode contexts' values; `features`: names that are present (None: all); `dialect`: see the
    specs.
    """

    def __init__(
        self,
        syntax: Syntax,
        dialect: str = "",
        contexts: Mapping[str, int] | None = None,
        features: frozenset[str] | None = None,
    ) -> None:
        self.syntax = syntax
        self.encoder = Encoder(syntax, contexts, features)
        self._matcher = Matcher(syntax, dialect)
        self._aliases = AliasBook(syntax, dialect)
        self._prefix_words: dict[str, Prefix] = {}
        for prefix in self.encoder.prefixes:
            for word in (*prefix.words, *([prefix.variable] if prefix.reject else [])):
                self._prefix_words.setdefault(word, prefix)
        self._exact: dict[str, list[tuple[Form, Text]]] = {}
        self._prefixed: list[tuple[str, Form, Text]] = []
        active = {s.name for s in syntax.sets if may_hold(s.when, self.encoder.contexts)}
        for form in syntax.forms:
            if form.set_name not in active or (features is not None and not features.issuperset(form.needs)):
                continue
            for text in texts_of(form.texts, dialect):
                head = text.parts[0] if text.parts else ""
                if isinstance(head, str) and (" " in head or len(text.parts) == 1):
                    self._exact.setdefault(first_word(text), []).append((form, text))
                else:
                    self._prefixed.append((first_word(text), form, text))

    def read(self, line: str, depth: int = 0) -> Statement:
        """What `line` may be. Raises AssemblyError if nothing matches."""
        word, _, rest = line.strip().partition(" ")
        prefix = self._prefix_words.get(word.lower())
        if prefix is not None and not rest.strip():
            return Statement(line, [], alone=prefix)
        statement = Statement(line, self._direct(line))
        if prefix is not None and not statement.candidates:
            return Statement(line, self._behind(prefix, rest, depth))
        for expansion in self._aliases.expand(line) if depth < MAX_ALIAS_DEPTH else ():
            if len(expansion.lines) > 1 or expansion.unless is not None:
                statement.macros.append(Macro(expansion, depth + 1))
                continue
            try:
                other = self.read(expansion.lines[0], depth + 1)
            except AssemblyError:
                continue
            statement.candidates += other.candidates
            statement.macros += other.macros
        if not statement.candidates and not statement.macros:
            raise self._unknown(line)
        return statement

    def _behind(self, prefix: Prefix, rest: str, depth: int) -> list[Candidate]:
        """What `rest` may be behind the word for a prefix."""
        inner = self.read(rest, depth).candidates
        if not inner:
            raise AssemblyError(f"no instruction that takes a prefix: {rest.strip()}")
        if prefix.reject:
            wanted = frozenset((prefix.variable,))
            return [replace(c, prefixes=c.prefixes | wanted) for c in inner]
        return [replace(c, leading=(prefix, *c.leading)) for c in inner]

    def _direct(self, line: str) -> list[Candidate]:
        word = line.split()[0].lower()
        choices = list(self._exact.get(word, ()))
        choices += [(form, text) for prefix, form, text in self._prefixed if word.startswith(prefix)]
        found: list[Candidate] = []
        for form, text in choices:
            operands = {name: operand for name, operand, _ in form.operands}
            found += [Candidate(form, written) for written in self._matcher.match(text, operands, line)]
        return found

    def _unknown(self, line: str) -> AssemblyError:
        word = line.split()[0].lower()
        texts = [text for _, text in self._exact.get(word, ())]
        if texts:
            return AssemblyError(f"these operands do not fit {word}", remedy=f"write it as: {show(texts[0])}")
        from difflib import get_close_matches

        close = get_close_matches(word, self._exact, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "see the target's manual (isagen doc)"
        return AssemblyError(f"unknown instruction {word!r}", remedy=hint)

    def encode(self, statement: Statement, symbols: Mapping[str, int], pc: int, at_least: int = 0) -> bytes:
        """The single instruction with the fewest prefixes, then the shortest, of `at_least` bytes or more,
        the first of equals; else the first macro that fits.

        Raises AssemblyError if none fits, values.Undefined for an unknown symbol.
        """
        if statement.alone is not None:
            return bytes([statement.alone.pattern])
        best: Encoding | None = None
        reasons: list[AssemblyError] = []
        undefined: Undefined | None = None
        for candidate in statement.candidates:
            most = None if best is None or best.literal else best.prefixes  # with more it isn't taken
            try:
                found = self.encoder.encode(
                    candidate.form,
                    candidate.written,
                    symbols,
                    pc,
                    candidate.prefixes,
                    most,
                    candidate.leading,
                )
            except Unencodable as error:
                reasons.append(AssemblyError(str(error), remedy="change the operand"))
                continue
            except Undefined as error:  # what one reading takes for a symbol may be a register in another
                undefined = error
                continue
            if len(found.data) >= at_least and (best is None or _cost(found) < _cost(best)):
                best = found
        if best is not None:
            return best.data
        for macro in statement.macros if undefined is None else ():
            try:
                data = self._expand(macro, symbols, pc)
            except AssemblyError as error:
                reasons.append(error)
                continue
            if data is not None and len(data) >= at_least:
                return data
        if undefined is not None:
            raise undefined
        raise reasons[0] if reasons else AssemblyError("no encoding fits", remedy="change the operand")

    def _expand(self, macro: Macro, symbols: Mapping[str, int], pc: int) -> bytes | None:
        """The instructions of a macro; None where it isn't meant."""
        if macro.expansion.unless is not None and _number(macro.expansion.unless, symbols, pc):
            return None
        out = b""
        for part in self._parts(macro):
            out += self.encode(part, symbols, pc + len(out))
        return out

    def _parts(self, macro: Macro) -> list[Statement]:
        if macro.parts is None:
            macro.parts = [self.read(line, macro.depth) for line in macro.expansion.lines]
        return macro.parts

    def least(self, statement: Statement) -> int:
        """The fewest bytes that a statement takes, whatever its symbols are."""
        if statement.alone is not None:
            return 1
        sizes = [candidate.form.bits // 8 for candidate in statement.candidates]
        sizes += [sum(map(self.least, self._parts(macro))) for macro in statement.macros if not sizes]
        return min(sizes)

    def assemble(self, line: str, pc: int = 0, symbols: Mapping[str, int] | None = None) -> bytes:
        """The bytes of one line (an instruction, alias or macro) at address `pc`."""
        return self.encode(self.read(line), symbols or {}, pc)


def _number(text: str, symbols: Mapping[str, int], pc: int) -> int:
    """The value of an expression. Raises AssemblyError where it is none."""
    parsed = parse(text, 0)
    if parsed is None or text[parsed[1] :].strip():
        raise AssemblyError(f"not an expression: {text}", remedy="write a number or a symbol")
    return evaluate(parsed[0], symbols, pc)


def _cost(encoding: Encoding) -> tuple[bool, int, int]:
    return encoding.literal, encoding.prefixes, len(encoding.data)


def show(text: Text) -> str:
    """A text as a person would write it in a manual: holes by name."""
    return "".join(
        part if isinstance(part, str) else part.prefix + part.name + part.suffix
        for part in text.parts
        if isinstance(part, str | Hole)
    )
