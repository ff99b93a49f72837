"""Differential state tests: each form on random and corner operands, evaluator = built engine = Unicorn
= the host's processor.

A case is one instruction and a start state. Case n of a form is `STARTS` start states for one encoding, and
depends on the seed, the target, the form and n only.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from random import Random
from typing import Final

from conformance.cases import CaseMaker, Start, Word, memory_pattern
from conformance.conditions import Case, absent_names, holds, leading_prefixes
from conformance.corners import DATA
from conformance.families import family_of
from conformance.known import Known, matching
from conformance.oracles.engine import EngineMachine
from conformance.oracles.evaluated import Evaluated
from conformance.oracles.native import NativeMachine
from conformance.oracles.outcome import UNKNOWN, Ending
from conformance.oracles.peer import PeerMachine
from conformance.oracles.unicorn import UnicornMachine
from conformance.results import NEVER_ENCODED, NO_ENCODING, Failure, Row
from conformance.setup import Setup
from conformance.shrink import described, shrink
from conformance.tasks import Options, Task, command_for
from generator.ir.state import State
from generator.model.target import Form

STARTS: Final = 10
"""Start states for one encoding."""

FAULT_RETRIES: Final = 3
"""A start state that makes the instruction fault is mostly replaced, this many times: completed accesses tell
more.
"""


def items(setup: Setup, options: Options) -> list[str]:
    """The names of the target's forms that `options` asks for: by their names, or those of their
    instructions.
    """
    patterns = options.forms.split(",")
    return [
        form.name
        for form in setup.model.forms
        if any(fnmatchcase(name, pattern) for name in (form.name, form.instruction) for pattern in patterns)
    ]


@dataclass
class Bench:
    """The machines of one target, made once a process."""

    maker: CaseMaker
    evaluated: Evaluated
    engine: EngineMachine
    peers: tuple[PeerMachine, ...]
    ignored: frozenset[str]


@lru_cache(maxsize=4)
def bench_for(setup: Setup, peers: bool, features: tuple[str, ...] | None = None) -> Bench:
    """The machines of a target. Without peers the comparison is between our own. `features`: see
    `CaseMaker`.
    """
    family = family_of(setup.family, setup.target)
    maker = CaseMaker(setup, family, features)
    machines: list[PeerMachine] = []
    if peers and family.peers is not None:
        with suppress(ImportError):
            machines += [UnicornMachine(maker, peer) for peer in family.peers()]
    if peers and family.hosts is not None:
        with suppress(OSError):
            machines += [NativeMachine(maker, peer) for peer in family.hosts(list(maker.features))]
    engine = EngineMachine(setup.package, maker.features)
    gc.freeze()  # the model's many objects stay: no collection need look at them
    return Bench(maker, Evaluated(maker), engine, tuple(machines), family.never)


def run(task: Task) -> list[Row]:
    """A row for each form of the task. A form that no encoding is found for with all features may be
    one of the oldest CPUs'.
    """
    rows = []
    for name in task.items:
        bench = bench_for(task.setup, task.options.peers)
        row = FormRun(task, bench, bench.maker.form(name)).run()
        if row.unencodable:
            plain = bench_for(task.setup, False, ())
            row = FormRun(task, plain, plain.maker.form(name)).run()
        if row.unencodable and not matching("forms", task.setup.target, name):
            row.fail(Failure("encodings", name, (NO_ENCODING,), ""))
        rows.append(row)
    return rows


class FormRun:
    """The cases of one form."""

    def __init__(self, task: Task, bench: Bench, form: Form) -> None:
        self.task, self.bench, self.form = task, bench, form
        self.row = Row("states", task.setup.name, form.name)
        self.absent = absent_names(bench.maker.model, form)
        own = task.setup.is_own(form)
        self.peers = [m for m in bench.peers if not own and not m.peer.missing & set(form.needs)]
        self.known = {
            name: matching(name, task.setup.target, form.name, form.needs, form.instruction)
            for name in {machine.known for machine in self.peers}
        }
        self.variants: set[int] = set()

    def run(self) -> Row:
        options = self.task.options
        numbers = range(-(-options.cases // STARTS)) if options.case is None else [options.case]
        for number in numbers:
            if not self.case(number):
                break
        for machine, entries in self.known.items():
            for known in entries:
                self.row.notes.append(f"{machine} {known.kind}: {known.reason}")
        missed = len(self.form.variants) - len(self.variants)
        if missed and options.case is None:
            self.row.count("variants not reached", missed)
        return self.row

    def case(self, number: int) -> bool:
        """Run case `number`. False if the form has no encoding that can be found."""
        bench, row = self.bench, self.row
        random = Random(f"{self.task.options.seed}/{row.target}/{self.form.name}/{number}")
        word = bench.maker.word(self.form, random)
        if word is None:
            row.count(NEVER_ENCODED)
            return False
        self.variants.add(self.form.variants.index(word.decoded.variant))
        pattern = memory_pattern(random)
        bench.engine.put_code(word.decoded.pc, word.code)
        peers = [] if bench.maker.family.unpredictable(word.decoded) else self.peers_for(word)
        for peer in peers:
            peer.put_code(word.decoded.pc, word.code)
        for _ in range(STARTS):
            start, ending, state, memory = self.draw(word, pattern, random)
            row.cases += 1
            row.count(ending.kind)
            found = self.engine_differences(start, pattern, ending, state, memory)
            if found:
                self.report("engine", number, word, start, pattern, self._engine_check)
            for peer in peers:
                if not (peer.can_tell(start) and peer.reaches(ending)):
                    continue
                known = self.known_of(peer, word, start)
                if is_lacking(known, start, ending):
                    continue
                row.count(f"with {peer.name}")
                undefined = bench.evaluated.undefined(word, start)
                if self.peer_differences(peer, start, pattern, ending, state, memory, undefined, known):
                    self.report(peer.name, number, word, start, pattern, self._peer_check(peer))
        return True

    def known_of(self, peer: PeerMachine, word: Word, start: Start) -> list[Known]:
        """What is known of a peer in this case."""
        listed = self.known[peer.known]
        if not listed:
            return []
        maker = self.bench.maker
        decoded = maker.decoded(word, start.state(maker.memory))
        assert decoded is not None
        prefixes = leading_prefixes(maker.model, word.code)
        case = Case(self.absent, prefixes, decoded, start.registers, start.files)
        return [known for known in listed if holds(known.condition, case)]

    def peers_for(self, word: Word) -> list[PeerMachine]:
        """The peers that run the mode of `word`."""
        modes = {**self.bench.maker.base_registers, **word.registers}
        return [
            machine
            for machine in self.peers
            if all(modes[name] == value for name, value in machine.peer.when)
        ]

    def draw(self, word: Word, pattern: bytes, random: Random) -> tuple[Start, Ending, State, bytes]:
        """A start state, and what the evaluator makes of it."""
        for attempt in range(FAULT_RETRIES + 1):
            start = self.bench.maker.start(word, pattern, random)
            ending, state, memory = self.bench.evaluated.run(word, start, pattern)
            if ending.kind != "fault" or attempt == FAULT_RETRIES or random.random() < 0.25:
                break
        return start, ending, state, memory

    def engine_differences(
        self, start: Start, pattern: bytes, ending: Ending, state: State, memory: bytes
    ) -> list[str]:
        """How the engine disagrees with the evaluator; empty if it doesn't."""
        got, found, got_memory = self.bench.engine.run(start, pattern)
        lines = []
        if got.kind != ending.kind:
            lines.append(f"evaluator: {ending}; engine: {got}")
        elif ending.kind in ("trap", "fault"):
            same = (got.name, got.code, got.arguments[: len(ending.arguments)])
            if same != (ending.name, ending.code, ending.arguments):
                lines.append(f"evaluator: {ending}; engine: {got}")
        differences = self.bench.engine.differences(state, found, self.bench.ignored)
        lines += [f"{name}: evaluator {a:#x}, engine {b:#x}" for name, (a, b) in differences.items()]
        return lines + memory_differences(memory, got_memory, "engine")

    def peer_differences(
        self,
        peer: PeerMachine,
        start: Start,
        pattern: bytes,
        ending: Ending,
        state: State,
        memory: bytes,
        undefined: list[str],
        known: list[Known],
    ) -> list[str]:
        """How a peer disagrees with the evaluator, apart from what the list of its faults says."""
        got, found, pc, got_memory = peer.run(start, pattern)
        kind = "illegal" if ending.kind == "trap" and ending.name in peer.peer.illegal else ending.kind
        excused = {name for k in known if k.kind == "differs" for name in k.argument.split(",")}
        lines = []
        if kind != got.kind and peer.reaches(ending) and (kind, got.kind) not in peer.confuses:
            if kind in excused or got.kind in excused:
                return []
            lines.append(f"evaluator: {ending}; {peer.name}: {got}")
        number = peer.peer.numbers.get(ending.name, ending.code & (1 << peer.peer.code_bits) - 1)
        if kind == got.kind == "trap" and got.code not in (number, UNKNOWN) and "code" not in excused:
            lines.append(f"evaluator: {ending}; {peer.name}: {got}")
        if kind != "completed" or lines:
            return lines
        boxed = [int(k.argument) for k in known if k.kind == "boxed"]
        narrow = {name: width for width in boxed for name in self.bench.maker.family.float_files}
        differences = peer.differences(state, found, pc, [*undefined, *excused], narrow)
        lines += [f"{name}: evaluator {a:#x}, {peer.name} {b:#x}" for name, (a, b) in differences.items()]
        return lines if "memory" in excused else lines + memory_differences(memory, got_memory, peer.name)

    def _engine_check(self, word: Word, start: Start, pattern: bytes) -> list[str]:
        ending, state, memory = self.bench.evaluated.run(word, start, pattern)
        return self.engine_differences(start, pattern, ending, state, memory)

    def _peer_check(self, peer: PeerMachine) -> Callable[[Word, Start, bytes], list[str]]:
        def check(word: Word, start: Start, pattern: bytes) -> list[str]:
            ending, state, memory = self.bench.evaluated.run(word, start, pattern)
            undefined = self.bench.evaluated.undefined(word, start)
            known = self.known_of(peer, word, start)
            if is_lacking(known, start, ending):
                return []
            return self.peer_differences(peer, start, pattern, ending, state, memory, undefined, known)

        return check

    def report(
        self,
        between: str,
        number: int,
        word: Word,
        start: Start,
        pattern: bytes,
        check: Callable[[Word, Start, bytes], list[str]],
    ) -> None:
        """Count a failure; shrink and describe it if it is one of the first."""
        if not self.row.wants_failures:
            self.row.failed += 1
            return
        maker = self.bench.maker
        base = Start(start.code, start.pc, {**maker.base_registers, **word.registers}, maker.base_files)

        def fails(candidate: Start, contents: bytes) -> bool:
            same = maker.decoded(word, candidate.state(maker.memory)) is not None
            return same and bool(check(word, candidate, contents))

        small, memory = shrink(start, base, pattern, fails)
        lines = check(word, small, memory) or check(word, start, pattern)
        if memory == bytes(len(memory)):
            lines.append("memory: zeros")
        command = command_for(self.task, self.form.name, number)
        details = (described(small, base), *lines[:12])
        self.row.fail(Failure(f"evaluator and {between}", self.text(word), details, command))

    def text(self, word: Word) -> str:
        """The instruction as the disassembler prints it, and its bytes."""
        from runtime.assembly.disassembler import Disassembler

        contexts = self.bench.maker.contexts(word)
        line = Disassembler(self.task.setup.syntax).line(word.code, word.decoded.pc, contexts=contexts)
        return f"{line.text} ({word.code.hex(' ')})"


def is_lacking(known: list[Known], start: Start, ending: Ending) -> bool:
    """Whether a peer can't tell anything of a case."""
    return any(
        (k.kind == "lacks" and k.argument in ("", ending.name))
        or (k.kind == "boxed" and str(start.floats) != k.argument)
        for k in known
    )


def memory_differences(expected: bytes, found: bytes, who: str) -> list[str]:
    """The first bytes that differ."""
    if expected == found:
        return []
    places = [i for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b][:4]
    return [f"byte at {DATA + i:#x}: evaluator {expected[i]:#04x}, {who} {found[i]:#04x}" for i in places]
