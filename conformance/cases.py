"""Single-instruction cases: an encoding and a start state, made from a seed, the same for every machine
compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from conformance.builtins import BUILTINS
from conformance.corners import (
    CODE,
    CODE_SIZE,
    LONGEST,
    MEMORY_SIZE,
    random_float,
    random_integer,
    random_pointer,
    random_vector,
)
from conformance.families import Family
from conformance.memory import CaseMemory
from conformance.setup import Setup, all_features
from conformance.words import WordMaker
from generator.ir.decode import Decoded
from generator.ir.evaluate import Evaluator
from generator.ir.state import FEATURES, GuestFault, State, stored_width
from generator.model.target import Form, Register

WORD_TRIES: Final = 10_000
"""Candidates that are decoded before a form counts as one that no encoding was found for."""

START_TRIES: Final = 8
"""Start states that are drawn before what decoding reads is taken from where the word was found."""


@dataclass(frozen=True)
class Start:
    """A machine's state before the instruction at `pc`.

    `wild`: system registers are random too (only our own machines are compared then). `floats`: the one width
    of the numbers in all floating-point registers, or 0 where they are mixed.
    """

    code: bytes
    pc: int
    registers: dict[str, int]
    files: dict[str, list[int]]
    contexts: dict[str, int] = field(default_factory=dict)
    wild: bool = False
    floats: int = 0

    def state(self, memory: CaseMemory) -> State:
        """A fresh evaluator state over `memory`."""
        registers = dict(self.registers)
        registers["pc"] = self.pc
        files = {name: list(values) for name, values in self.files.items()}
        return State(registers, files, memory, dict(self.contexts))

    def with_register(self, name: str, index: int | None, value: int) -> Start:
        """A copy with one register changed."""
        if index is None:
            return replace(self, registers={**self.registers, name: value})
        values = list(self.files[name])
        values[index] = value
        return replace(self, files={**self.files, name: values})


Inputs = dict[tuple[str, int | None, int], int]
"""What decoding read of the state: (register, index or None, width in bits) -> value."""


@dataclass(frozen=True)
class Word:
    """An encoding of a form, and how it was decoded.

    `registers`: single registers that decoding depends on (modes), and their values. `inputs`: everything
    that decoding read of the state; a state that agrees with them decodes the same.
    """

    decoded: Decoded
    code: bytes
    registers: dict[str, int]
    inputs: Inputs
    latest: list[tuple[Inputs, Decoded | None]] = field(default_factory=list, compare=False)
    """What `CaseMaker.decoded` found with other inputs, the last time: one state is asked for often."""


class CaseMaker:
    """Makes words of a target's forms and start states for them, with `features` on (None: all)."""

    def __init__(self, setup: Setup, family: Family, features: tuple[str, ...] | None = None) -> None:
        self.setup = setup
        self.family = family
        self.model = setup.model
        self.features = all_features(self.model) if features is None else features
        self.evaluator = Evaluator(self.model, BUILTINS, self.features)
        self.memory = CaseMemory()
        self.words = WordMaker(self.model)
        base = self.evaluator.reset(self.memory)
        self.base_registers = {**base.registers, **family.fixed}
        self.base_files = base.files
        self._widths = {context.name: context.width for context in self.model.contexts}
        kept = {"pc", FEATURES}
        self._stored = {r.name: (stored_width(r), r.name in family.float_files) for r in self.model.registers}
        self._free = [r for r in self.model.registers if family.is_user(r.name) and r.name not in kept]
        self._system = [r for r in self.model.registers if self._is_system(r)]

    def _is_system(self, register: Register) -> bool:
        untouched = {FEATURES, "pc", *self.family.never, *self.family.fixed}
        return not self.family.is_user(register.name) and register.name not in untouched

    def form(self, name: str) -> Form:
        """The form of that name. Raises KeyError."""
        return next(form for form in self.model.forms if form.name == name)

    def word(self, form: Form, random: Random) -> Word | None:
        """An encoding of `form`; None if `WORD_TRIES` candidates are other instructions or none."""
        for _ in range(WORD_TRIES):
            modes = self.family.modes(self.model, random)
            data = self.words.candidate(form, random)
            pc = self.place(random)
            state = Start(data, pc, {**self.base_registers, **modes}, self.base_files).state(self.memory)
            self.memory.put_code(pc, data[:LONGEST])
            if not self._may_be(form, data[:LONGEST], state):
                continue
            inputs: Inputs = {}
            decoded = self._decode(state, inputs)
            if decoded is not None and decoded.form is form:
                word = Word(decoded, data[: decoded.length], modes, inputs)
                self.memory.put_code(pc, word.code)
                return word
        return None

    def _may_be(self, form: Form, data: bytes, state: State) -> bool:
        evaluator = self.evaluator
        stepped = {name: evaluator.context(state, name) for name in evaluator.stepped}

        def read(name: str, index: int | None, width: int) -> int:
            return evaluator.read(state, name, index, width)

        return evaluator.decoder.may_be(form, data, state.pc, stepped, evaluator.features, read)

    def _decode(self, state: State, inputs: Inputs) -> Decoded | None:
        """The instruction at pc, if there is one; what of the state that depends on goes to `inputs`."""
        evaluator = self.evaluator

        def read(name: str, index: int | None, width: int) -> int:
            value = inputs[name, index, width] = evaluator.read(state, name, index, width)
            return value

        stepped = {name: evaluator.context(state, name) for name in evaluator.stepped}
        inputs.update({(name, None, self._widths[name]): value for name, value in stepped.items()})
        try:
            decoded = evaluator.decoder.decode(state.memory, state.pc, stepped, evaluator.features, read)
        except GuestFault:
            return None
        return decoded if isinstance(decoded, Decoded) else None

    def decoded(self, word: Word, state: State) -> Decoded | None:
        """`word` as decoded in `state`, whose modes may be others than those it was found in; None if it is
        another form's there.
        """
        if self._agrees(state, word.inputs):
            return word.decoded
        if word.latest and self._agrees(state, word.latest[0][0]):
            return word.latest[0][1]
        inputs: Inputs = {}
        found = self._decode(state, inputs)
        same = found if found is not None and found.form is word.decoded.form else None
        word.latest[:] = [(inputs, same)]
        return same

    def _agrees(self, state: State, inputs: Inputs) -> bool:
        return all(self.evaluator.read(state, *place) == value for place, value in inputs.items())

    def contexts(self, word: Word) -> dict[str, int]:
        """The decode contexts that an assembler or disassembler has to be told for `word`."""
        registers = {**self.base_registers, **word.registers}
        state = Start(word.code, word.decoded.pc, registers, self.base_files).state(self.memory)
        return {name: self.evaluator.context(state, name) for name in self.family.contexts}

    def place(self, random: Random) -> int:
        """Where the instruction lies: mostly inside the first page, sometimes across the border of
        the two.
        """
        if random.random() < 0.9:
            return CODE + 0x100
        return CODE + CODE_SIZE // 2 - self.family.step

    def start(self, word: Word, pattern: bytes, random: Random) -> Start:
        """A random start state in which `word` is its form's; `pattern` is in the data area."""
        for _ in range(START_TRIES):
            start = self._draw(word, pattern, random)
            if self.decoded(word, start.state(self.memory)) is not None:
                return start
        for (name, index, _), value in word.inputs.items():
            start = start.with_register(name, index, value)
        return start

    def _draw(self, word: Word, pattern: bytes, random: Random) -> Start:
        wild = bool(self._system) and random.random() < self.family.wild
        registers = dict(self.base_registers)
        files = {name: list(values) for name, values in self.base_files.items()}
        pointers = random.choice((0.15, 0.4, 0.6, 0.9))
        floats = random.choice((0, 0, 16, 32, 64)) if self.family.float_files else 0
        for register in self._free + (self._system if wild else []):
            if register.count is None:
                registers[register.name] = self._value(register, random, pointers, floats)
            else:
                draw = self._value
                files[register.name] = entries = [
                    draw(register, random, pointers, floats) for _ in range(register.count)
                ]
                if register.zero is not None:
                    entries[register.zero] = 0
        registers.update(word.registers)
        self.family.settle(registers, files, pattern, random)
        pc = word.decoded.pc
        contexts = {"npc": self.family.next_pc(pc, random)} if "npc" in self.evaluator.stepped else {}
        return Start(word.code, pc, registers, files, contexts, wild, floats)

    def _value(self, register: Register, random: Random, pointers: float, floats: int) -> int:
        width, floating = self._stored[register.name]
        if floating:
            return random_float(random, width, floats) if width <= 64 else random_vector(random, width)
        if width >= 16 and random.random() < pointers:
            return random_pointer(random)
        return random_integer(random, width)


def memory_pattern(random: Random) -> bytes:
    """What the cases' memory holds: small numbers, extremes and random bytes."""
    out = bytearray(random.randbytes(MEMORY_SIZE))
    for offset in range(0, MEMORY_SIZE, 64):
        choice = random.random()
        if choice < 0.2:
            out[offset : offset + 64] = bytes(64)
        elif choice < 0.3:
            out[offset : offset + 64] = b"\xff" * 64
        elif choice < 0.4:
            out[offset : offset + 8] = random_integer(random, 64).to_bytes(8, "little")
    return bytes(out)
