"""The decode tables of a target: from forms, operands' cases and decision trees to one binary file.

The runtime's decoder (`runtime.cpu.native.decode`) walks them; the file's form is described in
`runtime.cpu.tables`. What they mean is what `generator.ir.decode` does, one piece at a time; tests compare
the two.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from generator.emit import decoder_tree
from generator.emit.decoder_form import FormCompiler, Shared
from generator.emit.layout import Layout
from generator.emit.program import DecoderError, Environment, Machine, Op, Program, Words
from generator.ir import nodes
from generator.ir.decode import FEATURE_PREFIX, LONGEST, before_relation
from generator.ir.effects import sensitive, subexpressions
from generator.ir.executor import Plan
from generator.ir.nodes import Const, Context, Expr, ReadReg
from generator.model.target import ContextVariable, Form, Operand, Target, Trap

PREFIX_ROW_WORDS: Final = 11
PREFIX_FIELDS: Final = 4
KEY_WORDS: Final = 120
CONTEXT_WORDS: Final = 96
STEP_WORDS: Final = 4
STEP_BITS: Final = 11
MAXIMUM_LENGTH: Final = 32
WAITING: Final = "waiting"
NPC: Final = "npc"
"""The context that makes delay slots: ``context npc ... next npc + 4 rest pc + 4``."""
ILLEGAL: Final = ("illegal", "undefined_instruction", "invalid_opcode")
"""Names of the trap that an illegal instruction raises, as the families' manuals call it: the first that
there is. Its parameter, if it has one, is the instruction's bits.
"""


@dataclass(frozen=True, slots=True)
class Tables:
    """A target's decode tables."""

    data: bytes
    programs: int
    """Encodings with a program."""
    depth: int
    """Most tree nodes that an instruction passes."""
    widest_leaf: int
    """Most programs that are tried in turn."""


def compile_tables(target: Target, layout: Layout, plan: Plan, machine: Machine) -> Tables:
    """The decode tables for `target` and the decoder `machine`. Raises DecoderError for what they can't
    express.
    """
    return _Compiler(target, layout, plan, machine).compile()


def delay_distance(target: Target) -> int:
    """Bytes from an instruction to the one behind it in targets with delay slots (npc at rest is pc + this),
    else 0.
    """
    context = next((c for c in target.contexts if c.name == NPC), None)
    if context is None or context.rest is None:
        return 0
    match context.rest:
        case nodes.Binary(op="add", left=nodes.Pc(), right=Const(value=value)):
            return value
    raise DecoderError(f"{target.name}: context `{NPC}` must rest at pc plus a constant")


def key_registers(target: Target) -> list[tuple[str, int, int]]:
    """Inputs of address translation that select a TLB: register, lowest bit, width.

    Files aren't among them (they are large): writing one drops all translations, and so does writing a
    register that doesn't fit any more.
    """
    files = {register.name for register in target.registers if register.count is not None}
    found = []
    for name, mask in sorted(sensitive(target).translation.items()):
        if name in files or name == "translations" or not mask:
            continue
        low = (mask & -mask).bit_length() - 1
        span = mask.bit_length() - low
        if mask == ((1 << span) - 1) << low and low + span <= 64:
            found.append((name, low, span))
            continue
        for bit in range(min(mask.bit_length(), 64)):
            if mask >> bit & 1:
                found.append((name, bit, 1))
    return _merge(found)


def _merge(bits: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    merged: list[tuple[str, int, int]] = []
    for name, low, width in bits:
        if merged and merged[-1][0] == name and merged[-1][1] + merged[-1][2] == low:
            merged[-1] = (name, merged[-1][1], merged[-1][2] + width)
        else:
            merged.append((name, low, width))
    return merged


def contexts_in(expr: Expr | None) -> set[str]:
    """Names of the contexts in an expression."""
    return set() if expr is None else {e.name for e in subexpressions(expr) if isinstance(e, Context)}


class _Compiler:
    def __init__(self, target: Target, layout: Layout, plan: Plan, machine: Machine) -> None:
        self.target = target
        self.layout = layout
        self.plan = plan
        self.machine = machine
        self.words = Words(machine)
        prefix_variables: dict[str, None] = {}
        for row in target.prefixes:
            prefix_variables.update(dict.fromkeys((row.variable, *(name for name, _, _ in row.fields))))
        self.prefix_variables = tuple(prefix_variables)
        self.stepped = tuple(c for c in target.contexts if c.next is not None and c.name != NPC)
        # features don't change while a CPU runs: the decoder looks at them where they are asked for
        derived = [c for c in target.contexts if c.next is None and not c.name.startswith(FEATURE_PREFIX)]
        on_prefixes = self._on_prefixes(derived)
        self.derived = tuple(c for c in derived if c.name not in on_prefixes)
        self.computed = tuple(c for c in derived if c.name in on_prefixes)
        self.translation = key_registers(target)
        self._check()
        self._registers()

    def _on_prefixes(self, derived: Iterable[ContextVariable]) -> set[str]:
        """Contexts that depend on prefix variables or stepped contexts, through others too."""
        moving = set(self.prefix_variables) | {c.name for c in self.stepped}
        found: set[str] = set()
        while True:
            more = {
                c.name for c in derived if c.name not in found and contexts_in(c.value) & (moving | found)
            }
            if not more:
                return found
            found |= more

    def _check(self) -> None:
        name = self.target.name
        words = len(self.derived) + len(self.translation)
        if words > KEY_WORDS or len(self.derived) > CONTEXT_WORDS:
            raise DecoderError(
                f"{name}: {words} inputs of decoding and translation; at most {KEY_WORDS} are possible"
            )
        if len(self.stepped) > STEP_WORDS or sum(c.width for c in self.stepped) > STEP_BITS:
            raise DecoderError(f"{name}: stepped contexts have more than {STEP_BITS} bits")
        for context in (*self.derived, *self.computed):
            if context.value is None:
                raise DecoderError(f"{name}: context `{context.name}` has neither a value nor a next value")
        for context in self.computed:
            if any(isinstance(e, ReadReg) for e in subexpressions(context.value or Const(1, 0))):
                raise DecoderError(
                    f"{name}: context `{context.name}` depends on prefixes and on state; split it into two"
                )

    def _registers(self) -> None:
        """Where contexts and prefix variables are, as `runtime.cpu.tables` says."""
        contexts: dict[str, int] = {}
        register = self.machine.first
        for context in self.derived:
            contexts[context.name] = register
            register += 1
        self.first_step = register
        for context in self.stepped:
            contexts[context.name] = register
            register += 1
        register = max(
            register + len(self.stepped), self.machine.first + len(self.derived) + len(self.translation)
        )
        self.first_prefix = register
        for variable in self.prefix_variables:
            contexts[variable] = register
            register += 1
        self.first_free = register
        lazy = {
            r.name: (r.lazy.argument, r.lazy.definition) for r in self.target.registers if r.lazy is not None
        }
        computed = {c.name: c.value for c in self.computed if c.value is not None}
        features = {feature.name: number for number, feature in enumerate(self.target.features)}
        self.environment = Environment(contexts, computed, features)
        self.state_environment = Environment(contexts, computed, features, self._register_offset, lazy=lazy)

    def _register_offset(self, name: str, index: Expr | None) -> int:
        field = self.layout.field(name)
        if index is None:
            return field.offset
        if not isinstance(index, Const):
            raise DecoderError(f"{self.target.name}: a context reads an entry of `{name}` that isn't fixed")
        return field.offset + field.stride * index.value

    def compile(self) -> Tables:
        words = self.words
        words.words = [0] * (self.machine.header_size // 8)
        key = self._key_program()
        step, rest, offsets = self._step_programs()
        index, rows = self._prefixes()
        shared = Shared(self.target, self.layout, self.plan, self.environment, self.first_free)
        sets = []
        depth = widest = programs = 0
        longest = 1
        for group in self.target.sets:
            when = self._condition(group.when, f"set {group.name}")
            compiler = FormCompiler(shared, words, group)
            wins = before_relation(self.target.forms)
            forms = _in_order(
                [(n, f) for n, f in enumerate(self.target.forms) if f.set_name == group.name], wins
            )
            candidates = []
            for number, form in forms:
                candidates.append(compiler.compile(number, form))
                longest = max(longest, _length(form, group.unit))
            programs += len(candidates)
            tree = decoder_tree.build(candidates, group.unit)
            depth = max(depth, _depth(tree))
            widest = max(widest, _widest(tree))
            prefixed = int(group.stream and group.unit == 8 and bool(self.target.prefixes))
            if prefixed:
                longest = max(longest, LONGEST)
            lengths = (0, 0) if group.stream else self._lengths(candidates, group.unit)
            sets.append((when, group.unit // 8, int(group.stream), prefixed, self._tree(tree, {}), *lengths))
        longest = min(longest, LONGEST) if any(row[3] for row in sets) else longest
        if longest > MAXIMUM_LENGTH:
            raise DecoderError(
                f"{self.target.name}: instructions of {longest} bytes; at most {MAXIMUM_LENGTH}"
            )
        sets_at = words.here
        for row in sets:
            for value in row:
                words.raw(value)
        unit = min(group.unit for group in self.target.sets) // 8
        number, code, kind = self._illegal()
        waiting = next((r for r in self.target.registers if r.name == WAITING), None)
        delay = delay_distance(self.target)
        header = {
            "MAGIC": self.machine.magic,
            "SIZE": 8 * words.here,
            "UNIT": unit,
            "BIG": int(self.target.big_endian),
            "RECORD_SIZE": (self.plan.record_size or 0) if delay else 0,
            "DELAY": delay,
            "PC_MASK": (1 << self.target.pc_width) - 1,
            "MAX_LENGTH": longest,
            "KEY_PROGRAM": key,
            "KEY_CONTEXTS": len(self.derived),
            "KEY_WORDS": len(self.derived) + len(self.translation),
            "STEPPED": len(self.stepped),
            "STEP_PROGRAM": step,
            "REST_PROGRAM": rest,
            "STEP_OFFSETS": offsets,
            "PREFIX_VARIABLES": self.first_prefix | len(self.prefix_variables) << 32,
            "PREFIX_INDEX": index,
            "PREFIX_ROWS": rows,
            "PREFIX_COUNT": len(self.target.prefixes),
            "SETS": sets_at,
            "SET_COUNT": len(sets),
            "ILLEGAL_TRAP": number,
            "ILLEGAL_CODE": code,
            "ILLEGAL_ARGUMENT": kind,
            "FIRST_FREE": self.first_free,
            "TRAP_COUNT": len(self.target.traps),
            "UNIT_SHIFT": unit.bit_length() - 1,
            "WAITING": 0 if waiting is None else 1 + self.layout.field(WAITING).offset,
        }
        for name, value in header.items():
            words.words[self.machine.header[name] // 8] = value & (1 << 64) - 1
        data = struct.pack(f"<{len(words.words)}Q", *words.words)
        return Tables(data, programs, depth, widest)

    # --- contexts -------------------------------------------------------------------------------------------

    def _program(self, environment: Environment, what: str) -> Program:
        return Program(self.words, environment, self.first_free, f"{self.target.name}: {what}")

    def _key_program(self) -> int:
        start = self.words.here
        program = self._program(self.state_environment, "decode contexts")
        done: set[str] = set()
        pending = list(self.derived)
        while pending:  # a context may depend on others
            ready = [c for c in pending if not (contexts_in(c.value) - done)]
            if not ready:
                raise DecoderError(f"{self.target.name}: contexts depend on each other in a circle")
            for context in ready:
                assert context.value is not None
                source = program.value(context.value)
                self.words.emit(Op.MOVE, d=self.environment.contexts[context.name], a=source)
                done.add(context.name)
                pending.remove(context)
        for number, (name, low, width) in enumerate(self.translation):
            register = self.machine.first + len(self.derived) + number
            offset = self._register_offset(name, None)
            self.words.emit(Op.REGISTER, d=register, a=low, w=width, b=offset)
        self.words.emit(Op.DONE)
        return start

    def _step_programs(self) -> tuple[int, int, int]:
        if not self.stepped:
            return 0, 0, 0
        positions = []
        for what in ("next", "rest"):
            positions.append(self.words.here)
            program = self._program(self.environment, "stepped contexts")
            values = []
            for context in self.stepped:
                source = context.next if what == "next" else context.rest
                values.append(program.value(source if source is not None else Const(context.width, 0)))
            for number, register in enumerate(values):
                self.words.emit(Op.MOVE, d=self.first_step + len(self.stepped) + number, a=register)
            self.words.emit(Op.DONE)
        offsets = self.words.here
        for context in self.stepped:
            try:
                self.words.raw(self.layout.field(context.name).offset)
            except KeyError:
                raise DecoderError(
                    f"{self.target.name}: stepped context `{context.name}` has no place in the state"
                ) from None
        return positions[0], positions[1], offsets

    def _condition(self, when: Expr | None, what: str) -> int:
        """The position of a program that computes `when` into the condition register; 0: always."""
        if when is None:
            return 0
        start = self.words.here
        program = self._program(self.environment, what)
        self.words.emit(Op.MOVE, d=self.machine.condition, a=program.value(when))
        self.words.emit(Op.DONE)
        return start

    # --- prefixes -------------------------------------------------------------------------------------------

    def _prefixes(self) -> tuple[int, int]:
        if not self.target.prefixes:
            return 0, 0
        contexts = self.environment.contexts
        whens = [self._condition(row.when, f"prefix {row.variable}") for row in self.target.prefixes]
        index = bytearray(256)
        for number, row in reversed(list(enumerate(self.target.prefixes))):
            for byte in range(256):
                if byte & row.mask == row.pattern:
                    index[byte] = number + 1
        index_at = self.words.here
        self.words.words += struct.unpack("<32Q", index)
        rows_at = self.words.here
        for row, when in zip(self.target.prefixes, whens, strict=True):
            if len(row.fields) > PREFIX_FIELDS:
                raise DecoderError(
                    f"{self.target.name}: prefix `{row.variable}` has more than {PREFIX_FIELDS} fields"
                )
            fields = [contexts[name] | width << 16 | low << 24 for name, width, low in row.fields]
            fields += [0] * (PREFIX_FIELDS - len(fields))
            self.words.words += [
                row.mask, row.pattern, when, contexts[row.variable], row.value,
                int(row.last), len(row.fields), *fields,
            ]  # fmt: skip
        return index_at, rows_at

    # --- trees and traps ------------------------------------------------------------------------------------

    def _tree(self, tree: decoder_tree.Tree, placed: dict[int, int]) -> int:
        """Write a tree, its children first; the root's position."""
        if id(tree) in placed:
            return placed[id(tree)]
        if isinstance(tree, decoder_tree.TreeLeaf):
            if not tree.programs:
                return 0
            children = list(tree.programs)
            word = len(children) << 32
        else:
            children = [self._tree(child, placed) for child in tree.children]
            word = 1 | tree.unit << 8 | tree.shift << 16 | tree.bits << 24
        position = self.words.here
        self.words.raw(word)
        children += [0] * (len(children) % 2)
        self.words.words += [
            low | high << 32 for low, high in zip(children[::2], children[1::2], strict=True)
        ]
        placed[id(tree)] = position
        return position

    def _lengths(self, candidates: list[decoder_tree.Candidate], unit: int) -> tuple[int, int]:
        """Which bits of the first unit, fixed in all encodings, tell the length, and the table of lengths in
        bytes.
        """
        common = (1 << unit) - 1
        for candidate in candidates:
            common &= candidate.units[0][0]
        shift = (common & -common).bit_length() - 1 if common else 0
        bits = 0
        while bits < 8 and common >> shift + bits & 1:
            bits += 1
        lengths = bytearray(max(8, 1 << bits))
        longest = max((len(c.units) for c in candidates), default=1) * unit // 8
        for candidate in candidates:
            value = candidate.units[0][1] >> shift & (1 << bits) - 1
            length = len(candidate.units) * unit // 8
            lengths[value] = min(lengths[value] or length, length)
        for value in range(1 << bits):
            lengths[value] = lengths[value] or longest
        position = self.words.here
        self.words.words += struct.unpack(f"<{len(lengths) // 8}Q", lengths)
        return shift | bits << 8, position

    def _illegal(self) -> tuple[int, int, int]:
        """The trap for illegal instructions: number, code, and how the instruction's bits take part."""
        traps = {trap.name: trap for trap in self.target.traps}
        trap = next((traps[name] for name in ILLEGAL if name in traps), None)
        if trap is None:
            names = ", ".join(f"`{name}`" for name in ILLEGAL)
            raise DecoderError(
                f"{self.target.name}: illegal instructions raise the trap named one of {names}"
            )
        return trap.number, *_illegal_code(self.target, trap)


def _illegal_code(target: Target, trap: Trap) -> tuple[int, int]:
    has_bits = int(bool(trap.parameters))
    match trap.code:
        case Const(value=value):
            return value, has_bits
        case nodes.Local(name=name) if trap.parameters and name == trap.parameters[0][0]:
            return 0, 2
    raise DecoderError(
        f"{target.name}: trap `{trap.name}` must have a constant code, or its parameter as code"
    )


def _in_order(forms: list[tuple[int, Form]], wins: set[tuple[str, str]]) -> list[tuple[int, Form]]:
    """`forms` with winners of `before` in front of losers, otherwise as they are."""
    losers: Mapping[str, set[str]] = {}
    beaten: dict[str, set[str]] = {}
    for winner, loser in wins:
        beaten.setdefault(loser, set()).add(winner)
    losers = beaten
    names = {form.name for _, form in forms}
    result: list[tuple[int, Form]] = []
    done: set[str] = set()
    pending = forms
    while pending:
        later = []
        for number, form in pending:
            if (losers.get(form.name, set()) & names) - done - {form.name}:
                later.append((number, form))
            else:
                result.append((number, form))
                done.add(form.name)
        if len(later) == len(pending):
            raise DecoderError(
                f"forms are before each other in a circle: {', '.join(f.name for _, f in later[:4])}"
            )
        pending = later
    return result


def _length(form: Form, unit: int) -> int:
    """Bytes of the longest encoding of a form, without prefixes."""

    def appended(operand: Operand) -> int:
        return max(
            (
                sum(p.width for p in case.appended) + sum(map(appended, case.operands))
                for case in operand.cases
            ),
            default=0,
        )

    bits = sum(piece.width for piece in form.picture) + sum(map(appended, form.operands))
    return -(-bits // unit) * unit // 8


def _depth(tree: decoder_tree.Tree) -> int:
    return 0 if isinstance(tree, decoder_tree.TreeLeaf) else 1 + max(map(_depth, tree.children))


def _widest(tree: decoder_tree.Tree) -> int:
    return len(tree.programs) if isinstance(tree, decoder_tree.TreeLeaf) else max(map(_widest, tree.children))
