"""The decoder's program for one form: check bits, gather fields, choose operands' cases, pick an executor,
fill its record.

Follows `generator.ir.decode` step by step, with everything that is known beforehand left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from generator.emit.decoder_linear import LINEAR, InRegister, Routines
from generator.emit.decoder_tree import Candidate
from generator.emit.layout import Layout
from generator.emit.program import DecoderError, Environment, FieldSource, Label, Op, Program, Words
from generator.ir import nodes
from generator.ir.decode import field_widths
from generator.ir.effects import subexpressions
from generator.ir.executor import (
    NOTHING,
    Leaf,
    Node,
    NumberValue,
    Plan,
    RegisterValue,
    SkipValue,
    SlotValue,
    TargetValue,
    Tree,
)
from generator.ir.nodes import Block, Const, Context, Expr, Field
from generator.model.target import Form, InstructionSet, Operand, OperandCase, Piece, Target, Variant

STORAGE: Final = {"u16": Op.SLOT16, "i16": Op.SLOT16, "i32": Op.SLOT32, "i64": Op.SLOT64}
MAXIMUM_INDEX_BITS: Final = 10
FOLLOWS, ENDS, ENDS_AFTER_SLOT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Slices:
    """Where a field's bits come from: (register, lowest bit there, width, lowest bit in the field)."""

    pieces: tuple[tuple[int, int, int, int], ...]

    def __call__(self, program: Program, name: str) -> int:
        del name
        pieces = self.pieces
        if len(pieces) == 1 and pieces[0][3] == 0:
            register, low, width, _ = pieces[0]
            result = program.register()
            program.words.emit(Op.SLICE, d=result, a=register, w=width, b=low)
            return result
        result = program.register()
        lowest = next((piece for piece in pieces if piece[3] == 0), None)
        if lowest is None:
            program.words.emit(Op.IMMEDIATE, d=result)
        else:
            program.words.emit(Op.SLICE, d=result, a=lowest[0], w=lowest[2], b=lowest[1])
        for piece in pieces:
            if piece is not lowest:
                register, low, width, to = piece
                program.words.emit(Op.DEPOSIT, d=result, a=register, w=width, b=low | to << 6)
        return result

    def part(self, low: int, width: int) -> Slices:
        """Bits `low` and up of the field as a field of its own."""
        pieces = []
        for register, source, size, to in self.pieces:
            first, end = max(low, to), min(low + width, to + size)
            if first < end:
                pieces.append((register, source + first - to, end - first, first - low))
        return Slices(tuple(pieces))


@dataclass
class Shared:
    """What all programs of a target share."""

    target: Target
    layout: Layout
    plan: Plan
    environment: Environment
    first_free: int
    tables: dict[tuple[str, bool, int], int] = field(default_factory=dict)
    """Positions of tables of register offsets: file, for writing, width of the index."""
    routines: Routines = field(default_factory=Routines)
    bound: dict[int, tuple[OperandCase, frozenset[str]]] = field(default_factory=dict)
    """Cases by id, with the fields that they bind."""

    def case_fields(self, case: OperandCase) -> frozenset[str]:
        """Paths of the fields that a case binds, nested ones too."""
        if id(case) not in self.bound:
            found = {piece.name for piece in (*case.picture, *case.appended) if piece.kind == "field"}
            for operand in case.operands:
                found.add(operand.path)
                found.update(path for path, _, _ in operand.fields)
                found.update(*(self.case_fields(inner) for inner in operand.cases))
            self.bound[id(case)] = case, frozenset(found)
        return self.bound[id(case)][1]


class FormCompiler:
    """Compiles the forms of one set into `words`."""

    def __init__(self, shared: Shared, words: Words, group: InstructionSet) -> None:
        self.shared = shared
        self.words = words
        self.group = group
        self.unit = group.unit
        target = shared.target
        self.executors = {executor.number: executor for executor in shared.plan.executors}
        self.plans = {(p.form, p.variant): p for p in shared.plan.variants}
        self.features = {f.name: number for number, f in enumerate(target.features)}
        self.little = group.stream and not target.big_endian and group.unit == 8
        self.prefixed = group.stream and group.unit == 8
        self.mandatory = tuple(dict.fromkeys(row.variable for row in target.prefixes if row.mandatory))
        self.files = {r.name: r for r in target.registers if r.count is not None}

    def compile(self, number: int, form: Form) -> Candidate:
        """Write the program of form `number`."""
        return _FormProgram(self, number, form).compile()

    def offsets(self, register: str, write: bool, width: int) -> int:
        """Position of the table of a file's offsets by index."""
        key = (register, write, width)
        if key not in self.shared.tables:
            place = self.shared.layout.field(register)
            zero = self.files[register].zero
            entries = []
            for index in range(1 << width):
                entry = min(index, place.count)
                offset = place.offset + place.stride * entry
                if write and (entry == zero or entry == place.count):
                    offset = self.shared.layout.sink
                entries.append(offset)
            entries += [0] * (-len(entries) % 4)
            skip = Label()
            self.words.jump(Op.JUMP, skip)  # programs may run on past it
            self.shared.tables[key] = self.words.here
            for i in range(0, len(entries), 4):
                self.words.raw(sum(entry << (16 * k) for k, entry in enumerate(entries[i : i + 4])))
            self.words.place(skip)
        return self.shared.tables[key]


class _FormProgram:
    def __init__(self, compiler: FormCompiler, number: int, form: Form) -> None:
        self.compiler = compiler
        self.words = compiler.words
        self.number = number
        self.form = form
        self.what = f"{compiler.shared.target.name}: form `{form.name}`"
        self.program = Program(self.words, compiler.shared.environment, compiler.shared.first_free, self.what)
        self.failed = Label()
        self.units: list[list[int]] = []  # mask and value of units at fixed places, for the tree
        self.tree_open = True
        self.choices: dict[str, int] = {}  # operand path -> register with the case's number
        self.fixed_choices: dict[str, int] = {}  # operand path -> the only case there is
        self.plans = [(variant, compiler.plans[number, n]) for n, variant in enumerate(form.variants)]
        self.asked_choices = {path for variant in form.variants for path, _ in variant.choices}
        self.used = self._used_fields()
        # Fields whose bits depend on cases, and operands' cases, live in registers of their own throughout.
        self.kept: dict[str, int] = {}
        self.choice_registers: dict[str, int] = {}
        for operand in _all_operands(form.operands):
            if len(operand.cases) > 1:
                inside = self._bound_by(operand.cases) & self.used
                for path in sorted(inside - self.kept.keys()):
                    self.kept[path] = self.program.register()
            if operand.path in self.asked_choices:
                self.choice_registers[operand.path] = self.program.register()

    # --- what is used ---------------------------------------------------------------------------------------

    def _used_fields(self) -> set[str]:
        """Fields that are named outside the cases that define them."""
        exprs: list[Expr | None] = [self.form.when, *(condition for _, condition in self.form.allow)]
        for variant, plan in self.plans:
            exprs.append(variant.condition)
            for tree in (plan.guard, plan.body):
                exprs += _tree_exprs(tree)
        found: set[str] = set()
        for operand in _all_operands(self.form.operands):
            if operand.linear is not None:
                found |= self.compiler.shared.routines.fields_of(operand.linear)
        return found | {
            e.name for expr in exprs if expr is not None for e in subexpressions(expr) if isinstance(e, Field)
        }

    # --- the program ----------------------------------------------------------------------------------------

    def compile(self) -> Candidate:
        start = self.words.here
        for name in self.form.needs:
            self.words.emit(Op.FEATURE, b=self.compiler.features[name])
        self._mandatory_prefixes()
        early, late = _split_condition(self.form.when)
        for condition in early:
            self.words.jump(Op.JUMP_ZERO, self.failed, a=self.program.value(condition))
        if self.compiler.group.stream:
            self._stream_picture()
        else:
            self._number_picture()
        for operand in self.form.operands:
            if operand.width == 0:
                self._operand(operand, Slices(()), self.failed)
        self.words.emit(Op.NEXT_PC)
        for condition in late:
            self.words.jump(Op.JUMP_ZERO, self.failed, a=self.program.value(condition))
        self._rejected_prefixes()
        self._variants()
        self.words.place(self.failed)
        self.words.emit(Op.FAIL)
        return Candidate(tuple((mask, value) for mask, value in self.units), start)

    def _mandatory_prefixes(self) -> None:
        """See `generator.ir.decode.Decoder.mandatory_matches`."""
        names = self.compiler.mandatory
        if not self.compiler.prefixed or not names:
            return
        demanded: dict[str, int] = {}
        if not self.form.no_prefix:
            for byte in self.form.mandatory_prefixes:
                row = next(
                    r
                    for r in self.compiler.shared.target.prefixes
                    if r.mandatory and byte & r.mask == r.pattern
                )
                demanded[row.variable] = row.value
            if not demanded:
                return
            names = names[min(names.index(name) for name in demanded) :]
        for name in names:
            self._unless(self._prefix_variable(name), (1 << 64) - 1, demanded.get(name, 0), self.failed)

    def _prefix_variable(self, name: str) -> int:
        return self.compiler.shared.environment.contexts[name]

    def _rejected_prefixes(self) -> None:
        if not self.compiler.prefixed:
            return
        allowed = dict(self.form.allow)
        for row in self.compiler.shared.target.prefixes:
            if row.policy != "reject" or (row.variable in allowed and allowed[row.variable] is None):
                continue
            fine = Label()
            self._unless(self._prefix_variable(row.variable), (1 << 64) - 1, row.value, fine)
            saved = self.program.branch()
            condition = allowed.get(row.variable)
            if condition is not None:
                self.words.jump(Op.JUMP_NONZERO, fine, a=self.program.value(condition))
            self.words.emit(Op.ILLEGAL)
            self.words.place(fine)
            self.program.back(saved)

    def _unless(self, register: int, mask: int, value: int, label: Label) -> None:
        """Go to `label` unless the register's bits under `mask` are `value`."""
        self.words.jump(Op.UNLESS, label, a=register)
        self.words.raw(mask)
        self.words.raw(value)

    # --- pictures -------------------------------------------------------------------------------------------

    def _number_picture(self) -> None:
        """A picture that is one number: its pieces from the top bit down."""
        total = sum(piece.width for piece in self.form.picture)
        if total > 64:
            raise DecoderError(f"{self.what}: a picture of {total} bits; at most 64 are possible")
        unit = self.compiler.unit
        word = self.program.register()
        mask = value = 0
        position = total
        slices: dict[str, list[tuple[int, int, int, int]]] = {}
        for piece in self.form.picture:
            position -= piece.width
            if piece.kind == "fixed":
                mask |= ((1 << piece.width) - 1) << position
                value |= piece.value << position
            elif piece.kind == "field":
                slices.setdefault(piece.name, []).append((word, position, piece.width, piece.low))
        first = (1 << unit) - 1
        if total > unit and mask & first:
            # Before more is read: the next unit may lie on a page that can't be fetched from.
            self._match_word(word, 1, mask & first, value & first)
        self._match_word(word, total // unit, mask, value)
        self.units = [
            [mask >> low & (1 << unit) - 1, value >> low & (1 << unit) - 1] for low in range(0, total, unit)
        ]
        self._field("opcode_bits", InRegister(word))
        for name, pieces in slices.items():
            self._field(name, Slices(tuple(pieces)))
        for operand in self.form.operands:
            if operand.width:
                self._operand(operand, Slices(tuple(slices[operand.path])), self.failed)

    def _match_word(self, word: int, units: int, mask: int, value: int) -> None:
        self.words.emit(Op.WORD, d=word, w=units)
        self.words.emit(Op.MATCH, a=word)
        self.words.raw(mask)
        self.words.raw(value)

    def _field(self, name: str, source: FieldSource) -> None:
        self.program.fields[name] = source

    def _stream_picture(self) -> None:
        self._read_pieces(self.form.picture, self.form.operands, self.failed)

    def _read_pieces(self, pieces: tuple[Piece, ...], operands: tuple[Operand, ...], failed: Label) -> None:
        """Read units at the cursor; operands' cases are chosen where the unit of their last bit ends."""
        unit = self.compiler.unit
        left = field_widths(pieces)
        by_path = {operand.path: operand for operand in operands if operand.width}
        slices: dict[str, list[tuple[int, int, int, int]]] = {}
        complete: list[str] = []
        queue = list(_unit_pieces(pieces, unit, self.compiler.little))
        top = failed is self.failed and pieces is self.form.picture
        for group in queue:
            register = self.program.register()
            count = group.units
            self.words.emit(Op.UNITS, d=register, w=count)
            # A failed read fails the whole program: the bytes that it lacks might have made it match.
            mask = value = 0
            for piece, low, width, to in group.parts:
                if piece.kind == "fixed":
                    bits = (1 << width) - 1
                    mask |= bits << low
                    value |= (piece.value >> to & bits) << low
                elif piece.kind == "field":
                    slices.setdefault(piece.name, []).append((register, low, width, piece.low + to))
                    left[piece.name] -= width
                    if left[piece.name] == 0:
                        complete.append(piece.name)
            if mask:
                self._unless(register, mask, value, failed)
            if top and self.tree_open:
                self.units += [
                    [mask >> unit * k & (1 << unit) - 1, value >> unit * k & (1 << unit) - 1]
                    for k in range(count)
                ]
            for name in complete:
                self._field(name, Slices(tuple(slices[name])))
                if name in by_path:
                    if _appends(by_path[name]):
                        self.tree_open = False
                    self._operand(by_path[name], Slices(tuple(slices[name])), failed)
            complete.clear()

    # --- operands -------------------------------------------------------------------------------------------

    def _operand(self, operand: Operand, raw: Slices, failed: Label) -> None:
        """Bind an operand's fields; choose among its cases."""
        self._field(operand.path, raw)
        for path, width, low in operand.fields:
            self._field(path, raw.part(low, width))
        for number, case in enumerate(operand.cases):
            if self._always(case):
                cases = operand.cases[: number + 1]
                break
        else:
            cases = operand.cases
        if len(cases) == 1 and self._always(cases[0]):
            self.fixed_choices[operand.path] = 0
            self._case(operand, cases[0], raw, failed)
            return
        if operand.path in self.asked_choices:
            self.choices[operand.path] = self.choice_registers[operand.path]
        reads = any(case.appended or any(map(_appends, case.operands)) for case in cases[:-1])
        start = self.program.register() if reads else 0
        if reads:
            self.words.emit(Op.TELL, d=start)
        inside = self._bound_by(cases) & self.kept.keys()
        end = Label()
        saved = self.program.branch()
        outer_choices = dict(self.fixed_choices)
        for number, case in enumerate(cases):
            following = Label() if number + 1 < len(cases) else failed
            self._case(operand, case, raw, following)
            for path in sorted(self._bound_by((case,)) & self.kept.keys()):
                if path in self.kept:
                    source = self.program.value(Field(64, path)) if path in self.program.fields else None
                    if source is not None and source != self.kept[path]:
                        self.words.emit(Op.MOVE, d=self.kept[path], a=source)
            if operand.path in self.choices:
                self.words.emit(Op.IMMEDIATE, d=self.choices[operand.path], b=number)
            self.words.jump(Op.JUMP, end)
            self.program.back(saved)
            if following is not failed:
                self.words.place(following)
                if reads:
                    self.words.emit(Op.SEEK, a=start)
        self.words.place(end)
        self.fixed_choices = outer_choices
        for path in sorted(inside):
            self._field(path, InRegister(self.kept[path]))

    def _bound_by(self, cases: Iterable[OperandCase]) -> set[str]:
        """Paths of the fields that any of the cases binds."""
        shared = self.compiler.shared
        return set().union(*(shared.case_fields(case) for case in cases))

    def _always(self, case: OperandCase) -> bool:
        """Whether a case matches whatever the bits are (reading what it appends aside)."""
        fixed = any(piece.kind == "fixed" and piece.width for piece in (*case.picture, *case.appended))
        return (
            not fixed
            and case.when is None
            and all(any(map(self._always, operand.cases)) for operand in case.operands)
        )

    def _case(self, operand: Operand, case: OperandCase, raw: Slices, failed: Label) -> None:
        """Check and bind one case; what it appends is read."""
        position = sum(piece.width for piece in case.picture)
        slices: dict[str, Slices] = {}
        parts: dict[str, list[tuple[int, int, int, int]]] = {}
        for piece in case.picture:
            position -= piece.width
            if piece.kind == "fixed":
                self._check_bits(raw.part(position, piece.width), piece.value, failed)
            elif piece.kind == "field":
                for register, low, width, to in raw.part(position, piece.width).pieces:
                    parts.setdefault(piece.name, []).append((register, low, width, piece.low + to))
        for name, pieces in parts.items():
            slices[name] = Slices(tuple(pieces))
            self._field(name, slices[name])
        if case.when is not None:
            self.words.jump(Op.JUMP_ZERO, failed, a=self.program.value(case.when))
        inner = [o for o in case.operands if o.path in slices]
        outer = tuple(o for o in case.operands if o.path not in slices)
        for nested in inner:
            self._operand(nested, slices[nested.path], failed)
        self._read_pieces(case.appended, outer, failed)
        for nested in outer:
            if nested.width == 0:
                self._operand(nested, Slices(()), failed)

    def _check_bits(self, bits: Slices, value: int, failed: Label) -> None:
        for register, low, width, to in bits.pieces:
            ones = (1 << width) - 1
            self._unless(register, ones << low, (value >> to & ones) << low, failed)

    # --- behaviour ------------------------------------------------------------------------------------------

    def _variants(self) -> None:
        for position, (variant, plan) in enumerate(self.plans):
            following = Label() if position + 1 < len(self.plans) else self.failed
            saved = self.program.branch()
            if self._choose_variant(variant, following):
                self._linear(plan.guard, plan.body)
                if plan.guard is not None:
                    body = Label()
                    self._tree(plan.guard, body)
                    self.words.place(body)
                self._tree(plan.body, None, guarded=plan.guard is not None)
            self.program.back(saved)
            if following is not self.failed:
                self.words.place(following)

    def _choose_variant(self, variant: Variant, following: Label) -> bool:
        """Check that the operands' cases are the variant's; False if they can't be."""
        for path, number in variant.choices:
            if path in self.choices:
                self._unless(self.choices[path], (1 << 64) - 1, number, following)
            elif path in self.fixed_choices and self.fixed_choices[path] != number:
                return False
        if variant.condition is not None:
            self.words.jump(Op.JUMP_ZERO, following, a=self.program.value(variant.condition))
        return True

    def _linear(self, guard: Tree | None, body: Tree) -> None:
        """Compute the parts of addresses that the variant uses."""
        names = {
            e.name for expr in (*_tree_exprs(guard), *_tree_exprs(body)) for e in subexpressions(expr)
            if isinstance(e, Field)
        }  # fmt: skip
        for operand in _all_operands(self.form.operands):
            parts = [part for part in LINEAR if f"{operand.path}.{part}" in names]
            if operand.linear is None or not parts:
                continue
            registers = {part: self.program.register() for part in parts}
            routine = self.compiler.shared.routines.get(self.words, self.program.environment, operand.linear)
            saved = self.program.branch()
            for name, register in routine.fields.items():
                if name in self.program.fields:
                    source = self.program.fields[name](self.program, name)
                    self.words.emit(Op.MOVE, d=register, a=source)
            self.program.back(saved)
            self.words.emit(Op.CALL, b=routine.position)
            for part in parts:
                self.words.emit(Op.MOVE, d=registers[part], a=routine.parts[part])
                self._field(f"{operand.path}.{part}", InRegister(registers[part]))

    def _tree(self, tree: Tree, then: Label | None, *, guarded: bool = False) -> None:
        """Decide and write the record; go on at `then`, or the instruction is done."""
        if isinstance(tree, Node):
            otherwise = Label()
            self.words.jump(Op.JUMP_ZERO, otherwise, a=self.program.value(tree.condition))
            saved = self.program.branch()
            self._tree(tree.then, then, guarded=guarded)
            self.words.place(otherwise)
            self.program.back(saved)
            self._tree(tree.otherwise, then, guarded=guarded)
            self.program.back(saved)
            return
        ending = FOLLOWS
        if tree.executor != NOTHING:
            self._record(tree)
            ending = FOLLOWS if guarded else _ending(self.compiler.executors[tree.executor].body)
        elif then is None:
            raise DecoderError(f"{self.what}: an instruction without an executor")
        if then is not None:
            self.words.jump(Op.JUMP, then)
        else:
            self.words.emit(Op.DONE, w=ending)

    def _record(self, leaf: Leaf) -> None:
        executor = self.compiler.executors[leaf.executor]
        values = [self._slot_value(value) for value in leaf.values]
        size = self.compiler.shared.plan.record_size or executor.size
        self.words.emit(Op.EMIT, w=size // 8, b=executor.number)
        skip = None
        for slot, value, register in zip(executor.slots, leaf.values, values, strict=True):
            if isinstance(value, SkipValue):
                skip = slot.offset
            elif isinstance(value, TargetValue):
                self.words.emit(Op.TARGET, a=register, b=slot.offset)
            else:
                self.words.emit(STORAGE[slot.storage], a=register, b=slot.offset)
        if skip is not None:
            self.words.emit(Op.SKIP, b=skip)

    def _slot_value(self, value: SlotValue) -> int:
        match value:
            case NumberValue(value=expr) | TargetValue(target=expr):
                return self.program.value(expr)
            case RegisterValue(register=register, index=index, write=write):
                return self._register_offset(register, index, write)
            case SkipValue():
                return 0

    def _register_offset(self, register: str, index: Expr, write: bool) -> int:
        if register not in self.compiler.files:
            return self.program.constant(self.compiler.shared.layout.field(register).offset)
        if isinstance(index, Const):
            place = self.compiler.shared.layout.field(register)
            zero = self.compiler.files[register].zero
            if write and index.value in (zero, place.count):
                return self.program.constant(self.compiler.shared.layout.sink)
            return self.program.constant(place.offset + place.stride * min(index.value, place.count))
        narrow = _narrowed(index)
        if narrow.width > MAXIMUM_INDEX_BITS:
            raise DecoderError(f"{self.what}: an index of `{register}` of {narrow.width} bits")
        source = self.program.value(narrow)
        position = self.compiler.offsets(register, write, narrow.width)
        result = self.program.register()
        self.words.emit(Op.LOOKUP, d=result, a=source, b=position)
        return result


# --- helpers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Group:
    """Units read at once: parts are (piece, lowest bit in the value read, width, lowest bit in the piece)."""

    units: int
    parts: tuple[tuple[Piece, int, int, int], ...]


def _unit_pieces(pieces: tuple[Piece, ...], unit: int, little: bool) -> Iterator[_Group]:
    """Cut a stream's pieces into units. In little-endian streams of bytes, fields of whole units are read at
    once.
    """
    parts: list[tuple[Piece, int, int, int]] = []
    used = 0
    for piece in pieces:
        whole = (
            piece.kind == "field" and little and piece.width % unit == 0 and piece.width > unit and not used
        )
        if whole:
            if piece.width > 64:
                raise DecoderError(f"a field of {piece.width} bits; at most 64 are possible")
            yield _Group(piece.width // unit, ((piece, 0, piece.width, 0),))
            continue
        left = piece.width
        while left:
            count = min(left, unit - used)
            left -= count
            parts.append((piece, unit - used - count, count, left))
            used += count
            if used == unit:
                yield _Group(1, tuple(parts))
                parts, used = [], 0
    if parts:
        yield _Group(1, tuple(parts))


def _appends(operand: Operand) -> bool:
    """Whether an operand may append units."""
    return any(case.appended or any(map(_appends, case.operands)) for case in operand.cases)


def _all_operands(operands: tuple[Operand, ...]) -> Iterator[Operand]:
    for operand in operands:
        yield operand
        for case in operand.cases:
            yield from _all_operands(case.operands)


def _tree_exprs(tree: Tree | None) -> list[Expr]:
    match tree:
        case Node(condition=condition, then=then, otherwise=otherwise):
            return [condition, *_tree_exprs(then), *_tree_exprs(otherwise)]
        case Leaf(values=values):
            exprs: list[Expr] = []
            for value in values:
                match value:
                    case NumberValue(value=expr) | TargetValue(target=expr) | RegisterValue(index=expr):
                        exprs.append(expr)
                    case SkipValue():
                        pass
            return exprs
        case None:
            return []


def _split_condition(when: Expr | None) -> tuple[list[Expr], list[Expr]]:
    """The parts of a conjunction that only need contexts, and the others."""
    early: list[Expr] = []
    late: list[Expr] = []

    def split(expr: Expr) -> None:
        if isinstance(expr, nodes.Binary) and expr.op == "and" and expr.width == 1:
            split(expr.left)
            split(expr.right)
        elif all(not isinstance(e, Field | nodes.Pc | nodes.NextPc) for e in subexpressions(expr)) and any(
            isinstance(e, Context) for e in subexpressions(expr)
        ):
            early.append(expr)
        else:
            late.append(expr)

    if when is not None:
        split(when)
    return early, late


def _narrowed(index: Expr) -> Expr:
    """The index without zero bits on top."""
    while isinstance(index, nodes.Unary) and index.op == "zext":
        index = index.operand
    return index


def _ending(body: Block) -> int:
    """Whether anything follows an executor in sequence: `DONE`'s w."""
    if any(isinstance(s, nodes.Skip) for s in body):
        return FOLLOWS
    if not _leaves(body):
        return FOLLOWS
    return ENDS_AFTER_SLOT if any(_delays(body)) else ENDS


def _leaves(body: Block) -> bool:
    """Whether every path ends in a jump or a trap."""
    if not body:
        return False
    match body[-1]:
        case nodes.Goto() | nodes.Raise():
            return True
        case nodes.If(then=then, otherwise=otherwise):
            return _leaves(then) and _leaves(otherwise)
    return False


def _delays(body: Block) -> Iterator[bool]:
    for statement in body:
        match statement:
            case nodes.Goto(delay=True):
                yield True
            case nodes.If(then=then, otherwise=otherwise):
                yield from _delays(then)
                yield from _delays(otherwise)
