"""One instruction from text to bytes: find the forms and aliases that fit, encode them, take the shortest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runtime.assembly.aliases import AliasBook, first_word
from runtime.assembly.encoder import Encoder, Encoding, Unencodable
from runtime.assembly.expressions import may_hold
from runtime.assembly.matcher import Matcher, Written, texts_of
from runtime.assembly.tables import Form, Hole, Syntax, Text
from runtime.assembly.values import AssemblyError

MAX_ALIAS_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """One reading of an instruction; `prefixes`: variables of prefixes that are written in front of it
    (lock)."""

    form: Form
    written: Written
    prefixes: frozenset[str] = frozenset()


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
        self._named_prefixes = {prefix.variable for prefix in syntax.prefixes if prefix.reject}
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

    def read(self, line: str, depth: int = 0) -> list[list[Candidate]]:
        """What `line` may be: each reading a list of instructions, each with its candidates merged by
        position.

        The result has one entry an instruction (a macro has several); an entry lists candidates in order of
        preference.
        Raises AssemblyError if nothing matches.
        """
        word, _, rest = line.strip().partition(" ")
        if word.lower() in self._named_prefixes and rest:
            wanted = frozenset((word.lower(),))
            return [
                [Candidate(c.form, c.written, c.prefixes | wanted) for c in entry]
                for entry in self.read(rest, depth)
            ]
        direct = self._direct(line)
        readings: list[list[list[Candidate]]] = [[direct]] if direct else []
        if depth < MAX_ALIAS_DEPTH:
            for lines in self._aliases.expand(line):
                try:
                    readings.append([entry for part in lines for entry in self.read(part, depth + 1)])
                except AssemblyError:
                    continue
        if not readings:
            raise self._unknown(line)
        first = readings[0]
        if len(first) == 1:
            merged = [candidate for reading in readings if len(reading) == 1 for candidate in reading[0]]
            return [merged]
        return first

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

    def encode(
        self, candidates: list[Candidate], symbols: Mapping[str, int], pc: int, at_least: int = 0
    ) -> bytes:
        """The encoding with the fewest prefixes, then the shortest, of `at_least` bytes or more; the first
        of equals.

        Raises AssemblyError if none fits, values.Undefined for an unknown symbol.
        """
        best: Encoding | None = None
        reasons: list[str] = []
        for candidate in candidates:
            try:
                found = self.encoder.encode(
                    candidate.form, candidate.written, symbols, pc, candidate.prefixes
                )
            except Unencodable as error:
                reasons.append(str(error))
                continue
            if len(found.data) >= at_least and (best is None or _cost(found) < _cost(best)):
                best = found
        if best is None:
            raise AssemblyError(reasons[0] if reasons else "no encoding fits", remedy="change the operand")
        return best.data

    def assemble(self, line: str, pc: int = 0, symbols: Mapping[str, int] | None = None) -> bytes:
        """The bytes of one line (an instruction, alias or macro) at address `pc`."""
        out = b""
        for candidates in self.read(line):
            out += self.encode(candidates, symbols or {}, pc + len(out))
        return out


def _cost(encoding: Encoding) -> tuple[int, int]:
    return encoding.prefixes, len(encoding.data)


def show(text: Text) -> str:
    """A text as a person would write it in a manual: holes by name."""
    return "".join(
        part if isinstance(part, str) else part.prefix + part.name + part.suffix
        for part in text.parts
        if isinstance(part, str | Hole)
    )
