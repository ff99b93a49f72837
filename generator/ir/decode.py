"""A slow, straightforward decoder: reads the pictures one piece at a time and tries every form that may fit.

The generated decoder is compared with it. It follows docs/language.md literally:

* prefixes: rows are tried in order on each byte; a `last` row counts only directly before the opcode;
* a form with mandatory prefixes demands their variables, and that no mandatory variable listed later in the
  spec is set (so F2 and F3 beat 66); NP demands that none is set;
* an operand takes its first case that matches, `when` and nested operands included;
* units that a case appends follow the unit in which the operand's last bit lies;
* where several forms match, `before` decides; the checks make sure that it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Final, Literal, NamedTuple

from generator.ir.arithmetic import mask
from generator.ir.compiled import value as evaluate
from generator.ir.effects import all_expressions, subexpressions
from generator.ir.nodes import Context, Expr
from generator.ir.state import GuestFault, Memory
from generator.model.target import (
    ContextVariable,
    Form,
    InstructionSet,
    Operand,
    OperandCase,
    Piece,
    PrefixRow,
    Target,
    Variant,
)

LONGEST: Final = 15
"""The longest instruction of a stream with prefixes, in bytes (x86: Intel SDM volume 2, 2.3.11)."""


@dataclass(frozen=True)
class Decoded:
    """An instruction: its form, the variant that its operands' cases choose, raw fields by path, and its
    length.
    """

    form: Form
    variant: Variant
    fields: Mapping[str, int]
    contexts: Mapping[str, int]  # prefix variables, and the contexts that decoding or the behaviour names
    choices: Mapping[str, int]  # operand path -> case
    pc: int
    length: int  # bytes, prefixes included

    @property
    def next_pc(self) -> int:
        """The address behind the instruction, without regard to the address width."""
        return self.pc + self.length


@dataclass(frozen=True)
class Illegal:
    """No form matches at `pc`; `data` are the bytes that were looked at."""

    pc: int
    data: bytes


class AmbiguousEncodingError(Exception):
    """Several forms match and no `before` orders them: the overlap check should have said so."""


FEATURE_PREFIX = "has_"
"""``has(Zba)`` is the decode context ``has_Zba``."""

AHEAD: Final = 3
"""Units of a stream that choose which forms are tried: an opcode and what extends it."""

RegisterReader = Callable[[str, int | None, int], int]


def no_registers(register: str, index: int | None, width: int) -> int:
    """A register reader for decoding without a state."""
    raise KeyError(f"register {register} read without a state")


_Names = tuple[dict[str, ContextVariable], frozenset[str]]
_KNOWN_NAMES: dict[int, tuple[Target, _Names]] = {}  # by identity, which holding the target keeps its own


def _names(target: Target) -> _Names:
    """The target's contexts by name, and its prefix variables."""
    known = _KNOWN_NAMES.get(id(target))
    if known is None:
        contexts = {variable.name: variable for variable in target.contexts}
        prefixes = {name for row in target.prefixes for name in (row.variable, *(f[0] for f in row.fields))}
        known = _KNOWN_NAMES[id(target)] = target, (contexts, frozenset(prefixes))
    return known[1]


@dataclass
class Scope:
    """Leaves of decode-time expressions: fields so far, prefix variables and contexts (computed when first
    named).
    """

    target: Target
    pc: int
    given: Mapping[str, int]  # contexts whose values the caller knows
    registers: RegisterReader
    features: frozenset[str] = frozenset()
    prefix: dict[str, int] = field(default_factory=dict)
    fields: dict[str, int] = field(default_factory=dict)
    locals: dict[str, int] = field(default_factory=dict)
    derived: dict[str, int] = field(default_factory=dict)
    next_pc: int = 0

    def context(self, name: str) -> int:
        for values in (self.prefix, self.given, self.derived):
            if name in values:
                return values[name]
        contexts, prefixes = _names(self.target)
        variable = contexts.get(name)
        if variable is not None:
            source = variable.value if variable.value is not None else variable.rest
            value = 0 if source is None else evaluate(source, self)
            self.derived[name] = value & mask(variable.width)
            return self.derived[name]
        if name in prefixes:
            return 0
        if name.startswith(FEATURE_PREFIX):
            return int(name.removeprefix(FEATURE_PREFIX) in self.features)
        raise KeyError(f"context {name}")

    def read(self, register: str, index: int | None, width: int) -> int:
        return self.registers(register, index, width)

    def holds(self, condition: Expr | None) -> bool:
        """Whether a condition holds; no condition always does."""
        return condition is None or evaluate(condition, self) == 1


class _Bits:
    """Reads pieces one after the other: from a number (top bit first), or from a stream of units in
    memory.
    """

    def __init__(self, fetch: Callable[[int], int], unit: int, little: bool) -> None:
        self.fetch = fetch  # number of a unit from the start -> its value
        self.unit = unit
        self.little = little  # fields of whole units are little-endian
        self.position = 0

    def take(self, width: int, is_field: bool) -> int:
        if width == self.unit and self.position % width == 0:
            self.position += width
            return self.fetch(self.position // width - 1)
        aligned = self.position % self.unit == 0 and width % self.unit == 0 and width > self.unit
        if is_field and self.little and self.unit == 8 and aligned:
            first = self.position // self.unit
            self.position += width
            return sum(self.fetch(first + i) << (8 * i) for i in range(width // 8))
        value = 0
        while width:
            unit, used = divmod(self.position, self.unit)
            count = min(width, self.unit - used)
            value = value << count | self.fetch(unit) >> (self.unit - used - count) & mask(count)
            self.position += count
            width -= count
        return value


def field_widths(pieces: tuple[Piece, ...]) -> dict[str, int]:
    """Bits of each field that are placed, counted."""
    result: dict[str, int] = {}
    for piece in pieces:
        if piece.kind == "field":
            result[piece.name] = result.get(piece.name, 0) + piece.width
    return result


def picture_width(pieces: tuple[Piece, ...]) -> int:
    """Bits of a picture."""
    return sum(piece.width for piece in pieces)


class _Step(NamedTuple):
    """A piece of a picture, and whether it is the last one of its field."""

    kind: str
    width: int
    value: int
    name: str
    low: int
    last: bool


class _CaseParts(NamedTuple):
    """What an operand's case says of the operand's own bits, and which of its operands lie there."""

    fixed: tuple[int, int]
    """The bits that are fixed, and their values."""
    fields: tuple[tuple[str, int, int, int], ...]
    """Name, lowest bit in the operand, bits, and lowest bit in the field, of each field's pieces."""
    inner: tuple[Operand, ...]
    outer: tuple[Operand, ...]


def _steps(pieces: tuple[Piece, ...]) -> tuple[_Step, ...]:
    left = field_widths(pieces)
    steps = []
    for piece in pieces:
        if piece.kind == "field":
            left[piece.name] -= piece.width
        last = piece.kind == "field" and left[piece.name] == 0
        steps.append(_Step(piece.kind, piece.width, piece.value, piece.name, piece.low, last))
    return tuple(steps)


def _case_parts(case: OperandCase) -> _CaseParts:
    bits = pattern = 0
    position = picture_width(case.picture)
    fields = []
    for piece in case.picture:
        position -= piece.width
        if piece.kind == "fixed":
            bits |= mask(piece.width) << position
            pattern |= piece.value << position
        elif piece.kind == "field":
            fields.append((piece.name, position, piece.width, piece.low))
    names = {name for name, *_ in fields}
    return _CaseParts(
        (bits, pattern),
        tuple(fields),
        tuple(o for o in case.operands if o.path in names),
        tuple(o for o in case.operands if o.path not in names),
    )


class Decoder:
    """Decodes for one target. `decode` gives the instruction at an address or `Illegal`."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._by_set = {s.name: [f for f in target.forms if f.set_name == s.name] for s in target.sets}
        self._groups = {group.name: group for group in target.sets}
        self._mandatory = tuple(dict.fromkeys(row.variable for row in target.prefixes if row.mandatory))
        self._wins = before_relation(target.forms)
        self._demanded = {
            octets: self._demands(octets) for octets in {f.mandatory_prefixes for f in target.forms}
        }
        self._fixed = {form.name: fixed_units(form, self._group(form)) for form in target.forms}
        self._fitting: dict[tuple[str, int, int], list[Form]] = {}
        self._named: dict[str, frozenset[str]] = {}
        # By identity: the target holds what they are about.
        self._step_lists: dict[int, tuple[_Step, ...]] = {}
        self._parts: dict[int, _CaseParts] = {}
        self._unchosen: dict[int, dict[str, int]] = {}

    def _group(self, form: Form) -> InstructionSet:
        return self._groups[form.set_name]

    def _candidates(self, group: InstructionSet, units: Sequence[int]) -> list[Form]:
        """The forms of a set whose fixed bits are those of the first units in memory. (Kept for two, since
        three are too many combinations.)
        """
        chosen = self._by_set[group.name]
        for number, unit in enumerate(units):
            before = chosen
            key = group.name, number, reduce(lambda a, b: a << group.unit | b, units[: number + 1])
            found = self._fitting.get(key)
            if found is None:
                found = [form for form in before if _fits(self._fixed[form.name], number, unit)]
                if number < 2:
                    self._fitting[key] = found
            chosen = found
        return chosen

    def _demands(self, octets: tuple[int, ...]) -> dict[str, int]:
        """The values of prefix variables that a picture's leading prefix bytes demand."""
        demanded: dict[str, int] = {}
        for byte in octets:
            row = next(r for r in self.target.prefixes if r.mandatory and byte & r.mask == r.pattern)
            demanded[row.variable] = row.value
        return demanded

    def _contexts(self, form: Form) -> frozenset[str]:
        """The contexts and prefix variables that a form's behaviour names."""
        if form.name not in self._named:
            found: set[str] = set()
            for variant in form.variants:
                exprs = [*all_expressions(variant.body)]
                if variant.guard is not None:
                    exprs += subexpressions(variant.guard)
                found |= {expr.name for expr in exprs if isinstance(expr, Context)}
            found |= {
                expr.name
                for _, when in form.undefined
                if when is not None
                for expr in subexpressions(when)
                if isinstance(expr, Context)
            }
            self._named[form.name] = frozenset(found)
        return self._named[form.name]

    def active_sets(self, scope: Scope) -> list[InstructionSet]:
        """The sets whose `when` holds; if there is none, those without one."""
        chosen = [s for s in self.target.sets if s.when is not None and scope.holds(s.when)]
        return chosen or [s for s in self.target.sets if s.when is None]

    def decode(
        self,
        memory: Memory,
        pc: int,
        contexts: Mapping[str, int],
        features: frozenset[str],
        registers: RegisterReader = no_registers,
    ) -> Decoded | Illegal:
        """The instruction at `pc`.

        `contexts` gives decode contexts by name; others are computed from `registers` or are at rest. Raises
        `GuestFault` where no form fits in the bytes that may be fetched and one might with more.
        """
        matches: list[Decoded] = []
        faults: list[GuestFault] = []
        cache: dict[int, int] = {}
        address_mask = mask(self.target.pc_width)

        def byte(offset: int) -> int:
            if offset not in cache:
                cache[offset] = memory.read((pc + offset) & address_mask, 1, "fetch")[0]
            return cache[offset]

        outer = Scope(self.target, pc, contexts, registers, features)
        for group in self.active_sets(outer):
            start, prefix = self._prefixes(outer, byte) if group.stream and group.unit == 8 else (0, {})
            size = group.unit // 8
            data = bytes(byte(start + i) for i in range(size))
            data += _behind(
                memory, pc + start + size, address_mask, size * (AHEAD - 1) if group.stream else 0
            )
            order: Literal["big", "little"] = "big" if self.target.big_endian else "little"
            units = [int.from_bytes(data[i : i + size], order) for i in range(0, len(data) - size + 1, size)]
            for form in self._candidates(group, units):
                if not features.issuperset(form.needs):
                    continue
                scope = Scope(self.target, pc, contexts, registers, features, prefix=dict(prefix))
                try:
                    found = self._try_form(form, group, scope, start, byte)
                except GuestFault as fault:
                    faults.append(fault)
                    continue
                if found is not None:
                    matches.append(found)
        winner = self._choose(matches)
        if winner is not None:
            # A prefix that may not stand before this instruction makes it illegal; it doesn't choose another
            # form.
            return winner if self._prefixes_allowed(winner) else Illegal(pc, _bytes(cache))
        if faults:
            raise faults[0]
        return Illegal(pc, _bytes(cache))

    def may_be(
        self,
        form: Form,
        data: bytes,
        pc: int,
        contexts: Mapping[str, int],
        features: frozenset[str],
        registers: RegisterReader = no_registers,
    ) -> bool:
        """Whether `data` at `pc` could be `form`, were there no others: a quick look before `decode`."""

        def byte(offset: int) -> int:
            if offset >= len(data):
                raise GuestFault(pc + offset, "fetch")
            return data[offset]

        outer = Scope(self.target, pc, contexts, registers, features)
        group = self._group(form)
        try:
            start, prefix = self._prefixes(outer, byte) if group.stream and group.unit == 8 else (0, {})
            scope = Scope(self.target, pc, contexts, registers, features, prefix=prefix)
            return self._try_form(form, group, scope, start, byte) is not None
        except GuestFault:
            return False

    def prefixes(self, data: bytes, contexts: Mapping[str, int]) -> tuple[int, dict[str, int]]:
        """The number of prefix bytes that `data` begins with, and the variables that they set."""
        scope = Scope(self.target, 0, contexts, lambda register, index, width: 0)
        return self._prefixes(scope, lambda offset: data[offset] if offset < len(data) else 0)

    def _prefixes(self, scope: Scope, byte: Callable[[int], int]) -> tuple[int, dict[str, int]]:
        """The number of prefix bytes and the variables that they set."""
        values: dict[str, int] = {}
        last: PrefixRow | None = None
        for offset in range(15):
            value = byte(offset)
            row = next(
                (r for r in self.target.prefixes if value & r.mask == r.pattern and scope.holds(r.when)), None
            )
            if row is None:
                return offset, values
            if last is not None and last.last:
                for name in (last.variable, *(f[0] for f in last.fields)):
                    values.pop(name, None)
            values[row.variable] = row.value
            for name, width, low in row.fields:
                values[name] = value >> low & mask(width)
            last = row
        return 15, values

    def _prefixes_allowed(self, decoded: Decoded) -> bool:
        allowed = dict(decoded.form.allow)
        scope = Scope(
            self.target,
            decoded.pc,
            decoded.contexts,
            no_registers,
            fields=dict(decoded.fields),
            next_pc=decoded.next_pc,
        )
        for row in self.target.prefixes:
            present = decoded.contexts.get(row.variable) == row.value
            if row.policy != "reject" or not present:
                continue
            if row.variable not in allowed or not scope.holds(allowed[row.variable]):
                return False
        return True

    def mandatory_matches(self, form: Form, prefix: Mapping[str, int]) -> bool:
        """Whether the prefixes that are there are those that `form`'s picture demands."""
        if form.no_prefix:
            return not any(prefix.get(name, 0) for name in self._mandatory)
        demanded = self._demanded[form.mandatory_prefixes]
        if not demanded:
            return True
        first = min(self._mandatory.index(name) for name in demanded)
        return all(prefix.get(name, 0) == demanded.get(name, 0) for name in self._mandatory[first:])

    def _try_form(
        self, form: Form, group: InstructionSet, scope: Scope, start: int, byte: Callable[[int], int]
    ) -> Decoded | None:
        if not self.mandatory_matches(form, scope.prefix):
            return None
        size = group.unit // 8

        def unit(number: int) -> int:
            data = bytes(byte(start + number * size + i) for i in range(size))
            return int.from_bytes(data, "big" if self.target.big_endian else "little")

        count = picture_width(form.picture) // group.unit
        little = group.stream and not self.target.big_endian
        # A picture that is one number has its lowest unit first in memory.
        fetch = unit if group.stream else lambda number: unit(count - 1 - number)
        bits = _Bits(fetch, group.unit, little)
        choices: dict[str, int] = {}
        if not self._read_pieces(form.picture, form.operands, bits, scope, choices):
            return None
        for operand in form.operands:
            if operand.width == 0 and not self._choose_case(operand, 0, bits, scope, choices):
                return None
        if not group.stream:
            scope.fields["opcode_bits"] = sum(unit(i) << (i * group.unit) for i in range(count))
        length = start + bits.position // 8
        if group.stream and self.target.prefixes and length > LONGEST:
            return None
        scope.next_pc = scope.pc + length
        if not scope.holds(form.when):
            return None
        self._linear_fields(form.operands, choices, scope)
        for name in self._contexts(form):
            scope.context(name)  # now: the behaviour may change what it is derived from
        variant = next((v for v in form.variants if chosen(v, choices) and scope.holds(v.condition)), None)
        if variant is None:
            return None
        return Decoded(
            form,
            variant,
            scope.fields,
            {**scope.given, **scope.derived, **scope.prefix},
            choices,
            scope.pc,
            length,
        )

    def _read_pieces(
        self,
        pieces: tuple[Piece, ...],
        operands: tuple[Operand, ...],
        bits: _Bits,
        scope: Scope,
        choices: dict[str, int],
    ) -> bool:
        """Read pieces from `bits`; each operand's case is chosen where its last piece's unit ends."""
        steps = self._step_lists.get(id(pieces))
        if steps is None:
            steps = self._step_lists[id(pieces)] = _steps(pieces)
        by_path = {operand.path: operand for operand in operands}
        values: dict[str, int] = {}
        complete: list[str] = []
        for kind, width, wanted, name, low, last in steps:
            value = bits.take(width, kind == "field")
            if kind == "fixed" and value != wanted:
                return False
            if kind == "field":
                values[name] = values.get(name, 0) | value << low
                if last:
                    complete.append(name)
            if complete and bits.position % bits.unit == 0:
                for name in complete:
                    scope.fields[name] = values[name]
                    if name in by_path and not self._choose_case(
                        by_path[name], values[name], bits, scope, choices
                    ):
                        return False
                complete.clear()
        for name in complete:  # a case's picture needn't fill units
            scope.fields[name] = values[name]
            if name in by_path and not self._choose_case(by_path[name], values[name], bits, scope, choices):
                return False
        return True

    def _choose_case(
        self, operand: Operand, raw: int, bits: _Bits, scope: Scope, choices: dict[str, int]
    ) -> bool:
        """Take the first case that matches the operand's bits `raw`; its appended units come from `bits`."""
        scope.fields[operand.path] = raw
        for path, width, low in operand.fields:
            scope.fields[path] = raw >> low & mask(width)
        for number, case in enumerate(operand.cases):
            parts = self._parts.get(id(case))
            if parts is None:
                parts = self._parts[id(case)] = _case_parts(case)
            fixed, own, inner, outer = parts
            if raw & fixed[0] != fixed[1]:
                continue
            before = bits.position, dict(scope.fields), dict(choices)
            scope.fields.update(dict.fromkeys((name for name, *_ in own), 0))
            for name, start, width, low in own:
                scope.fields[name] |= (raw >> start & mask(width)) << low
            if (
                scope.holds(case.when)
                and all(self._choose_case(o, scope.fields[o.path], bits, scope, choices) for o in inner)
                and self._read_pieces(case.appended, outer, bits, scope, choices)
            ):
                choices[operand.path] = number
                return True
            bits.position = before[0]
            scope.fields, restored = before[1], before[2]
            choices.clear()
            choices.update(restored)
        return False

    def _linear_fields(self, operands: tuple[Operand, ...], choices: Mapping[str, int], scope: Scope) -> None:
        """The fields ``.base .index .scale .offset`` of operands that are addresses of one shape."""
        for operand in operands:
            if operand.path not in choices:
                continue
            if operand.linear is not None:
                # Conditions name fields of all cases; those of cases that weren't chosen are 0.
                none = self._unchosen.get(id(operand))
                if none is None:
                    none = self._unchosen[id(operand)] = dict.fromkeys(_fields_inside(operand), 0)
                inner = replace(scope, fields={**none, **scope.fields})
                case = next(c for c in operand.linear.cases if inner.holds(c.when))
                for name in ("base", "index", "scale", "offset"):
                    scope.fields[f"{operand.path}.{name}"] = evaluate(getattr(case, name), inner)
            self._linear_fields(operand.cases[choices[operand.path]].operands, choices, scope)

    def _choose(self, matches: list[Decoded]) -> Decoded | None:
        if len(matches) < 2:
            return matches[0] if matches else None
        for match in matches:
            if all(o is match or (match.form.name, o.form.name) in self._wins for o in matches):
                return match
        names = ", ".join(f"`{match.form.name}`" for match in matches)
        raise AmbiguousEncodingError(f"{names} match at {matches[0].pc:#x}; order them with `before`")


def _fields_inside(operand: Operand) -> Iterator[str]:
    """Paths of all fields of an operand's cases."""
    for case in operand.cases:
        yield from field_widths(case.picture)
        yield from field_widths(case.appended)
        for nested in case.operands:
            yield nested.path
            yield from (path for path, _, _ in nested.fields)
            yield from _fields_inside(nested)


def chosen(variant: Variant, choices: Mapping[str, int]) -> bool:
    """Whether the operands' cases are the ones that `variant` is for."""
    return all(choices.get(path) == number for path, number in variant.choices)


def before_relation(forms: tuple[Form, ...]) -> set[tuple[str, str]]:
    """Pairs (winner, loser) of form names by `before`, which may name a form, a mnemonic or an
    instruction.
    """
    by_name: dict[str, set[str]] = {}
    for form in forms:
        for name in (form.name, form.mnemonic, form.instruction):
            by_name.setdefault(name, set()).add(form.name)
    losers: dict[str, set[str]] = {}
    for form in forms:
        named = [by_name.get(name, set()) for name in form.before]
        losers[form.name] = set().union(*named) - {form.name}
    pairs: set[tuple[str, str]] = set()
    for winner in losers:
        todo = list(losers[winner])
        while todo:
            loser = todo.pop()
            if loser != winner and (winner, loser) not in pairs:
                pairs.add((winner, loser))
                todo += losers.get(loser, ())
    return pairs


def winners(target: Target) -> dict[str, list[Form]]:
    """For each form that others of its set are `before`: those (but none that it is before itself)."""
    by_name = {form.name: form for form in target.forms}
    result: dict[str, list[Form]] = {}
    pairs = before_relation(target.forms)
    for winner, loser in sorted(pairs):
        if by_name[winner].set_name == by_name[loser].set_name and (loser, winner) not in pairs:
            result.setdefault(loser, []).append(by_name[winner])
    return result


def fixed_units(form: Form, group: InstructionSet) -> list[tuple[int, int]]:
    """Mask and value of the fixed bits in the units that come first in memory: in a stream up to `AHEAD`,
    else one (of a picture that is one number, its lowest).
    """
    bits = value = width = 0
    for piece in form.picture:
        bits, value, width = bits << piece.width, value << piece.width, width + piece.width
        if piece.kind == "fixed":
            bits |= mask(piece.width)
            value |= piece.value
    lows = range(width - group.unit, -1, -group.unit) if group.stream else (0,)
    ones = mask(group.unit)
    return [(bits >> low & ones, value >> low & ones) for low in lows][:AHEAD]


def _fits(fixed: Sequence[tuple[int, int]], number: int, unit: int) -> bool:
    return number >= len(fixed) or unit & fixed[number][0] == fixed[number][1]


def _behind(memory: Memory, address: int, address_mask: int, size: int) -> bytes:
    """Up to `size` bytes of code, as far as they may be fetched."""
    data = b""
    with suppress(GuestFault):
        for offset in range(size):
            data += memory.read((address + offset) & address_mask, 1, "fetch")
    return data


def _bytes(cache: Mapping[int, int]) -> bytes:
    return bytes(cache[i] for i in range(len(cache)))
