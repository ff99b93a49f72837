"""Encodings: our assembler and disassembler against LLVM's and GNU's, both ways, operands at their extremes.

What is compared are bytes, so that notation matters only where it isn't understood:

* ours: the text of an encoding assembles to that encoding;
* outward: a peer assembles our text to that encoding;
* inward: our assembler turns a peer's text of the encoding into that encoding.

Other bytes are accepted if they disassemble to the same text: the same instruction encoded another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from random import Random
from typing import Final

from conformance.cases import CaseMaker, Word
from conformance.conditions import Case, absent_names, holds, leading_prefixes
from conformance.families import family_of
from conformance.known import Known, matching
from conformance.notation import AssemblerPeer, DisassemblerPeer, Notation, notations_of
from conformance.results import NO_ENCODING, Failure, Row
from conformance.setup import Setup
from conformance.tasks import Options, Task, command_for
from conformance.vectors.effects import MODE_REGISTERS, Effects
from runtime.assembly.assembler import Assembler
from runtime.assembly.disassembler import Disassembler
from runtime.assembly.values import Undefined
from runtime.errors import IsagenError

PLAIN: Final = "plain"
"""What the lists call a target's usual dialect, where it has others."""
WORDS: Final = 48
"""Encodings of a form."""


def items(setup: Setup, options: Options) -> list[str]:
    """The names of the target's forms that `options` asks for."""
    patterns = options.forms.split(",")
    return [
        form.name
        for form in setup.model.forms
        if any(fnmatchcase(form.name, pattern) for pattern in patterns)
    ]


@dataclass
class Sample:
    """An encoding, its form's row, our text for it, whether its ignored bits are random, whether peers are
    asked, and the disassembler whose features it has.
    """

    row: Row
    number: int
    code: bytes
    contexts: dict[str, int]
    text: str
    known: list[Known]
    ignored: bool
    for_peers: bool
    disassembler: Disassembler


def run(task: Task) -> list[Row]:
    """A row for each form of the task, in all dialects."""
    rows = [Row("encodings", task.setup.name, name) for name in task.items]
    for notation in notations_of(task.setup.family, task.setup.target):
        EncodingRun(task, notation).run(rows)
    return rows


@lru_cache(maxsize=4)
def maker_for(setup: Setup, features: tuple[str, ...] | None = None) -> CaseMaker:
    """The maker of encodings, once a process."""
    return CaseMaker(setup, family_of(setup.family, setup.target), features)


@lru_cache(maxsize=4)
def disassembler_for(setup: Setup, dialect: str, features: frozenset[str] | None = None) -> Disassembler:
    """Our disassembler, once a process."""
    return Disassembler(setup.syntax, dialect, features)


@lru_cache(maxsize=16)
def assembler_for(
    setup: Setup, dialect: str, contexts: tuple[tuple[str, int], ...], features: frozenset[str] | None
) -> Assembler:
    """Our assembler for a mode, once a process."""
    return Assembler(setup.syntax, dialect, contexts=dict(contexts), features=features)


class EncodingRun:
    """The encodings of a task's forms, and what everybody makes of them in one notation. Forms that no
    encoding is found for with all features may be the oldest CPUs': those have none (`plain`), and no peers.
    """

    def __init__(self, task: Task, notation: Notation) -> None:
        self.task = task
        self.notation = notation
        self.disassembler = disassembler_for(task.setup, notation.dialect)
        self.plain = disassembler_for(task.setup, notation.dialect, frozenset())

    def run(self, rows: Sequence[Row]) -> None:
        samples = [sample for row in rows for sample in self.samples(row)]
        for sample in samples:
            self.check_ours(sample)
        samples = [sample for sample in samples if sample.for_peers]
        if self.task.options.peers:
            for assembler in self.notation.assemblers:
                self.outward(assembler, samples)
            for disassembler in self.notation.disassemblers:
                self.inward(disassembler, samples)

    def samples(self, row: Row) -> list[Sample]:
        """Encodings of a form. One that our disassembler doesn't take for that form is a failure."""
        maker = maker_for(self.task.setup)
        disassembler = self.disassembler
        form = maker.form(row.name)
        listed = matching("encodings", self.task.setup.target, form.name, form.needs, form.instruction)
        options = self.task.options
        found: list[Sample] = []
        numbers = range(min(WORDS, options.cases)) if options.case is None else [options.case]
        seen: set[bytes] = set()
        for number in numbers:
            maker.words.ignored_bits = number % 6 == 5  # peers may demand zeros there
            word = maker.word(form, Random(f"{options.seed}/{row.target}/{row.name}/{number}"))
            if word is None and disassembler is not self.plain:
                maker, disassembler = maker_for(self.task.setup, ()), self.plain
                word = maker.word(form, Random(f"{options.seed}/{row.target}/{row.name}/{number}"))
            if word is None:
                if not matching("forms", self.task.setup.target, form.name):
                    row.fail(Failure("encodings", form.name, (NO_ENCODING,), ""))
                break
            if word.code in seen:
                continue
            seen.add(word.code)
            row.cases += 1
            contexts = maker.contexts(word)
            known = [line for line in listed if self.concerns(line, maker, word)]
            unpredictable = maker.family.unpredictable(word.decoded)
            right_mode = all(contexts[name] == value for name, value in self.notation.contexts)
            open_to_peers = (
                right_mode
                and not (maker.words.ignored_bits or unpredictable)
                and not self.task.setup.is_own(form)
                and disassembler is not self.plain
            )
            line = disassembler.line(word.code, 0, contexts=contexts)
            if line.form is None or line.form.name != form.name or line.length != len(word.code):
                self.fail(
                    row, number, "decoder and disassembler", word.code, f"disassembled as {line.text!r}"
                )
                continue
            ignored = maker.words.ignored_bits
            found.append(
                Sample(
                    row, number, word.code, contexts, line.text, known, ignored, open_to_peers, disassembler
                )
            )
        return found

    def concerns(self, known: Known, maker: CaseMaker, word: Word) -> bool:
        """Whether a line of the list is about this encoding in this dialect."""
        if known.argument not in ("", self.notation.dialect or PLAIN):
            return False
        form, decoded = word.decoded.form, word.decoded
        prefixes = leading_prefixes(maker.model, word.code)
        case = Case(absent_names(maker.model, form), prefixes, decoded, {}, {})
        return holds(known.condition, case)

    def fail(self, row: Row, number: int, between: str, code: bytes, *details: str) -> None:
        """Count a failure."""
        row.fail(Failure(between, code.hex(" "), details, command_for(self.task, row.name, number)))

    def assembler(self, sample: Sample) -> Assembler:
        """Our assembler for a sample's mode and features."""
        features = frozenset[str]() if sample.disassembler is self.plain else None
        contexts = tuple(sorted(sample.contexts.items()))
        return assembler_for(self.task.setup, self.notation.dialect, contexts, features)

    def assemble(self, sample: Sample, text: str, pc: int = 0) -> bytes | IsagenError:
        """What our assembler makes of a text."""
        try:
            return self.assembler(sample).assemble(text, pc)
        except IsagenError as error:
            return error
        except Undefined as error:
            return IsagenError(f"it takes {error} for a symbol")

    def same(self, sample: Sample, other: bytes, pc: int = 0) -> bool:
        """Whether other bytes, at address `pc`, are the same instruction."""
        if other == sample.code:
            return True
        line = sample.disassembler.line(other, pc, contexts=sample.contexts)
        if line.length != len(other):
            return False
        canonical = self.notation.canonical
        return canonical(line.text, sample.contexts) == canonical(sample.text, sample.contexts)

    def does_the_same(self, sample: Sample, other: bytes) -> bool:
        """Whether an encoding with ignored bits does what one without does that has a name of its own
        (RISC-V's PAUSE is a FENCE).
        """
        if not sample.ignored:
            return False
        modes = {name: value for name, value in sample.contexts.items() if name in MODE_REGISTERS}
        return Effects(self.task.setup, modes).same(other, sample.code, 0)

    def check_ours(self, sample: Sample) -> None:
        """Our text assembles to its encoding."""
        got, pc = self.assemble(sample, sample.text), 0
        while isinstance(got, IsagenError) and pc < len(sample.code) - 1:
            # a branch as far as can be has its end elsewhere without a needless prefix: assemble it further
            pc += 1
            shorter = self.assemble(sample, sample.text, pc)
            if not isinstance(shorter, IsagenError) and pc + len(shorter) == len(sample.code):
                got = shorter
        if isinstance(got, IsagenError):
            self.fail(
                sample.row, sample.number, "disassembler and assembler", sample.code, sample.text, str(got)
            )
        elif got != sample.code and (self.same(sample, got, pc) or self.does_the_same(sample, got)):
            sample.for_peers = (
                False  # it has ignored bits, or a needless prefix: peers may print that otherwise
            )
            sample.row.count("not canonical")
        elif got != sample.code:
            self.fail(
                sample.row,
                sample.number,
                "disassembler and assembler",
                sample.code,
                sample.text,
                f"assembled: {got.hex(' ')}",
            )

    def outward(self, peer: AssemblerPeer, samples: Sequence[Sample]) -> None:
        """A peer assembles our texts."""
        if not peer.tool.available():
            return
        chosen = [s for s in samples if suits(s, peer, "assembler") and peer.fits(s.code)]
        if not chosen:
            return
        texts = [(s, peer.outward(s.text, s.code)) for s in chosen]
        asked = [(sample, text) for sample, text in texts if text is not None]
        answers = peer.tool.assemble([text for _, text in asked])
        for (sample, _), answer in zip(asked, answers, strict=True):
            between = f"our disassembler and {peer.tool.name}'s assembler"
            if answer is None:
                self.fail(sample.row, sample.number, between, sample.code, sample.text, "rejected")
            elif not self.same(sample, answer):
                self.fail(
                    sample.row,
                    sample.number,
                    between,
                    sample.code,
                    sample.text,
                    f"assembled: {answer.hex(' ')}",
                )
            else:
                sample.row.count(f"{peer.tool.name} assembles")

    def inward(self, peer: DisassemblerPeer, samples: Sequence[Sample]) -> None:
        """We assemble a peer's texts."""
        if not peer.tool.available():
            return
        chosen = [s for s in samples if suits(s, peer, "disassembler") and peer.fits(s.code)]
        answers = peer.tool.disassemble([s.code for s in chosen]) if chosen else []
        for number, (sample, answer) in enumerate(zip(chosen, answers, strict=True)):
            between = f"{peer.tool.name}'s disassembler and our assembler"
            if answer is None:
                self.fail(sample.row, sample.number, between, sample.code, sample.text, "rejected")
                continue
            text = peer.inward(answer, sample.code)
            pc = number * peer.tool.spacing
            got = self.assemble(sample, text, pc)
            if isinstance(got, IsagenError):
                self.fail(sample.row, sample.number, between, sample.code, sample.text, f"{text!r}: {got}")
            elif not self.same(sample, got):
                self.fail(
                    sample.row,
                    sample.number,
                    between,
                    sample.code,
                    sample.text,
                    f"{text!r} assembled: {got.hex(' ')}",
                )
            else:
                sample.row.count(f"{peer.tool.name} disassembles")


def suits(sample: Sample, peer: AssemblerPeer | DisassemblerPeer, role: str) -> bool:
    """Whether a peer is for the sample's mode, and no list excuses it."""
    in_mode = all(sample.contexts.get(name, 0) == value for name, value in peer.contexts)
    return in_mode and not excused(sample, peer.tool.name, role)


def excused(sample: Sample, tool: str, role: str) -> bool:
    """Whether a list says that the peer doesn't know the form, or writes it otherwise."""
    return any(k.kind in (tool, f"{tool} {role}") for k in sample.known)
