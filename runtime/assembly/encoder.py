"""From operands to bytes: solve the values for the fields, check them, write the units."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from runtime.assembly.binding import gather, scatter
from runtime.assembly.expressions import Tree, evaluate, invert, may_hold, names
from runtime.assembly.matcher import Chosen, Written
from runtime.assembly.tables import Appended, Case, Form, Operand, Prefix, Syntax, allows, presence
from runtime.assembly.values import Operation, Undefined, Value
from runtime.assembly.values import evaluate as calculate

ENUMERATED_BITS = 14
MAX_HEAD = 8
"""Bytes that prefixes and appended units may add to a form's own, where its length is searched for."""


_Demands: TypeAlias = dict[str, list[tuple[Tree, bool]]]
"""Conditions on one prefix's variable each, by that variable, and whether they have to hold."""


class Unencodable(Exception):
    """These operands do not fit this form; the message says which and why."""


def combinations(kinds: Mapping[str, Sequence[Prefix | None]]) -> list[tuple[Prefix, ...]]:
    """One of each kind (None: no prefix), in all combinations of up to three prefixes, the shorter ones
    first.
    """
    rows = itertools.product(*kinds.values())
    found = [tuple(prefix for prefix in row if prefix is not None) for row in rows]
    return sorted((row for row in found if len(row) <= 3), key=len)


@dataclass(frozen=True, slots=True)
class Encoding:
    """The bytes of an instruction, and how many of them are prefixes that only the operands' sizes and
    registers ask for. `literal`: a prefix that is written in front changes what the operands say."""

    data: bytes
    prefixes: int
    literal: bool = False


class Encoder:
    """Encodes the forms of one target. `contexts`: values of decode contexts (mode bits); `features`: names
    that are present (None: all).
    """

    def __init__(
        self,
        syntax: Syntax,
        contexts: Mapping[str, int] | None = None,
        features: frozenset[str] | None = None,
    ) -> None:
        self.syntax = syntax
        self.contexts = {**syntax.defaults, **presence(syntax, features), **(contexts or {})}
        for prefix in syntax.prefixes:
            self.contexts.setdefault(prefix.variable, 0)
            for name, _, _ in prefix.fields:
                self.contexts.setdefault(name, 0)
        self._order = "big" if syntax.big_endian else "little"
        self._sets = {item.name: item for item in syntax.sets}
        self._names_of: dict[str, frozenset[str]] = {}
        self._after_prefixes: dict[tuple[object, ...], dict[str, int]] = {}
        self.prefixes = [p for p in syntax.prefixes if may_hold(p.when, self.contexts)]
        self._variables = frozenset(p.variable for p in self.prefixes if not p.fields)
        self._steady = self._find_steady()
        self._variable_of: dict[Tree, str | None] = {}

    def encode(
        self,
        form: Form,
        written: Written,
        symbols: Mapping[str, int],
        pc: int,
        wanted: frozenset[str] = frozenset(),
        most: int | None = None,
        leading: Sequence[Prefix] = (),
    ) -> Encoding:
        """`form` with these operands at address `pc`; `wanted`: variables of prefixes that must be there
        (lock). `most`: how many prefixes of `Encoding.prefixes` there may be. `leading`: prefixes that are
        there, if possible as those that the operands ask for.

        Raises Unencodable where an operand does not fit, Undefined for a symbol without a value.
        """
        # next_pc depends on the length and, in streams, the length on the operands: try until it holds
        length = form.bits // 8
        if not self._relative(written):
            return self._attempt(form, written, symbols, pc, length, wanted, most, leading)
        longest = length + MAX_HEAD
        for _ in range(2 * MAX_HEAD):
            try:
                encoding = self._attempt(form, written, symbols, pc, length, wanted, most, leading)
            except Unencodable:
                if length == longest:
                    raise
                length += 1  # a target as far as can be is only reached from the right end
                continue
            if len(encoding.data) == length:
                return encoding
            length = len(encoding.data)
        raise Unencodable("its length does not settle")

    @staticmethod
    def _relative(written: Written) -> bool:
        """Whether an operand's value depends on where the instruction ends."""
        pending = list(written.operands.values())
        while pending:
            chosen = pending.pop()
            pending += chosen.nested.values()
            value = chosen.case.value
            if chosen.value is not None and value is not None and "next_pc" in names(value):
                return True
        return False

    def _attempt(
        self,
        form: Form,
        written: Written,
        symbols: Mapping[str, int],
        pc: int,
        length: int,
        wanted: frozenset[str],
        most: int | None,
        leading: Sequence[Prefix],
    ) -> Encoding:
        extra = {p.variable: p for p in reversed(self.prefixes) if p.variable in wanted}.values()
        if not wanted.issubset(name for name, _ in form.allow):
            raise Unencodable(f"{form.mnemonic} does not take {' '.join(sorted(wanted))}")
        head = bytes(p.pattern for p in extra)
        forced = {p.variable: p.value for p in extra}
        mask = (1 << self.syntax.pc_width) - 1
        last: Unencodable | None = None
        for prefix_bytes, prefix_values, missing, literal in self._choices_with(leading, form, written):
            added = len(missing) + len(prefix_bytes) - len(form.mandatory_prefixes) - len(leading)
            if most is not None and added > most:
                continue
            known = {
                **self._derived(prefix_bytes, {**forced, **prefix_values}),
                "pc": pc & mask,
                "next_pc": (pc + length) & mask,
            }
            if not may_hold(form.when, known):
                continue
            try:
                data = missing + head + prefix_bytes + self._body(form, written, symbols, known, wanted)
                return Encoding(data, max(added, 0), literal)
            except Unencodable as error:
                last = error
        raise last if last is not None else Unencodable("no prefixes allow it")

    def _derived(self, prefixes: bytes, values: Mapping[str, int]) -> dict[str, int]:
        """All contexts behind these prefixes, which set `values`."""
        key = prefixes, *values.items()
        known = self._after_prefixes.get(key)
        if known is None:
            known = {**self.contexts, **values}
            for name, width, tree in self.syntax.contexts:
                if tree is not None:
                    with suppress(KeyError):
                        known[name] = evaluate(tree, known) & ((1 << width) - 1)
            self._after_prefixes[key] = known
        return known

    def _find_steady(self) -> dict[str, int]:
        """The contexts that no prefix changes, with their values."""
        changing = {p.variable for p in self.prefixes}
        changing.update(name for p in self.prefixes for name, _, _ in p.fields)
        for name, _, tree in self.syntax.contexts:
            if tree is not None and changing & names(tree):
                changing.add(name)
        known = self._derived(b"", {})
        return {name: value for name, value in known.items() if name not in changing}

    def _demands(self, written: Written) -> _Demands:
        """What the written cases demand of single prefixes: their own conditions hold, and those of the cases
        in front of them that match all bits don't. Prefixes that can't be are so left out early.
        """
        found: _Demands = {}
        pending = list(written.operands.values())
        while pending:
            chosen = pending.pop()
            pending += chosen.nested.values()
            for case in chosen.operand.cases:
                own = case is chosen.case
                if case.when is not None and (own or not case.mask):
                    variable = self._only_variable(case.when)
                    if variable is not None:
                        found.setdefault(variable, []).append((case.when, own))
                if own:
                    break
        return found

    def _only_variable(self, when: Tree) -> str | None:
        """The prefix's variable that a condition depends on, if that is all."""
        if when not in self._variable_of:
            left = names(when) - self._steady.keys()
            single = len(left) == 1 and left <= self._variables
            self._variable_of[when] = next(iter(left)) if single else None
        return self._variable_of[when]

    def _meets(self, demands: _Demands, variable: str, value: int) -> bool:
        """Whether a prefix's variable may have that value."""
        known = {**self._steady, variable: value}
        return all(bool(evaluate(when, known)) is wanted for when, wanted in demands.get(variable, ()))

    def _prefix_choices(self, form: Form, demands: _Demands) -> Iterator[tuple[bytes, dict[str, int]]]:
        """Prefix bytes to try, the fewest first: those that the form's operands can depend on, at most one of
        each kind, alone and together."""
        mandatory = bytes(form.mandatory_prefixes)
        plain = [p for p in self.prefixes if not p.last and not p.reject and p.mask == 0xFF]
        if not self.syntax.prefixes:
            yield b"", {}
            return
        last = [p for p in self.prefixes if p.last]
        used = self._used(form)
        selectable = [p for p in plain if p.pattern not in mandatory and not p.fields and p.variable in used]
        kinds: dict[str, list[Prefix | None]] = {}
        required = {p.variable for p in plain if p.pattern in mandatory}
        for row in selectable:
            if row.variable not in kinds:
                absent = row.variable in required or self._meets(demands, row.variable, 0)
                kinds[row.variable] = [None] if absent else []
            if row.variable in required or self._meets(demands, row.variable, row.value):
                kinds[row.variable].append(row)
        for chosen in combinations(kinds):
            values = {p.variable: p.value for p in (*chosen, *(q for q in plain if q.pattern in mandatory))}
            head = bytes(p.pattern for p in chosen) + mandatory
            yield head, values
            for prefix in last:
                total = sum(width for name, width, _ in prefix.fields if name in used)
                for bits in range(1 << total):
                    fields, byte, rest = {}, prefix.pattern, bits
                    for name, width, low in prefix.fields:
                        width = width if name in used else 0
                        fields[name] = rest & ((1 << width) - 1)
                        byte |= fields[name] << low
                        rest >>= width
                    yield head + bytes([byte]), {**values, **fields, prefix.variable: prefix.value}

    def _choices_with(
        self, leading: Sequence[Prefix], form: Form, written: Written
    ) -> Iterator[tuple[bytes, dict[str, int], bytes, bool]]:
        """Prefix bytes to try, and those of `leading` that stand in front of them: first where these change
        nothing, since the operands ask for them or can't depend on them; then as GNU as writes them, where
        the instruction becomes another (`data16 mov`; the last value is True).
        """
        choices = list(self._prefix_choices(form, self._demands(written)))
        if not leading:
            yield from ((code, values, b"", False) for code, values in choices)
            return
        used = self._used(form)
        for literal in (False, True):
            for code, values in choices:
                missing = [prefix for prefix in leading if prefix.pattern not in code]
                if literal or not any(prefix.variable in used for prefix in missing):
                    yield code, values, bytes(prefix.pattern for prefix in missing), literal

    def _used(self, form: Form) -> frozenset[str]:
        """The decode-time names that `form` can depend on, through contexts too."""
        if form.name not in self._names_of:
            self._names_of[form.name] = self._find_used(form)
        return self._names_of[form.name]

    def _find_used(self, form: Form) -> frozenset[str]:
        found: set[str] = set(names(form.when)) if form.when else set()
        for _, operand, _ in form.operands:
            _collect(operand, found)
        for name, _, tree in reversed(self.syntax.contexts):
            if name in found and tree is not None:
                found |= names(tree)
        return frozenset(found)

    # --- one attempt
    # -------------------------------------------------------------------------------------------------

    def _body(
        self,
        form: Form,
        written: Written,
        symbols: Mapping[str, int],
        known: dict[str, int],
        wanted: frozenset[str],
    ) -> bytes:
        fields: dict[str, int] = {}
        widths = dict(form.widths)
        for name, value in written.numbers.items():
            fields[name] = _field(value, calculate(value, symbols, known["pc"]), widths.get(name, 64), name)
        raws: dict[str, int] = {}
        cases: dict[str, _Encoded] = {}
        for name, operand, _ in form.operands:
            chosen = written.operands.get(name)
            encoded = (
                self._operand(operand, chosen, symbols, known) if chosen else self._implied(operand, known)
            )
            cases[name] = encoded
            raws[name] = encoded.raw
            fields.update({f"{name}.{field}": number for field, number in encoded.fields.items()})
        if form.when is not None:
            self._satisfy(form.when, fields, widths, known)
        for variable in wanted:
            if not allows(form, variable, {**known, **fields}):
                raise Unencodable(f"{form.mnemonic} does not take {variable} with these operands")
        word = form.pattern | form.ones
        for name, pieces in form.fields:
            word |= scatter(fields.get(name, 0), pieces)
        for name, _, pieces in form.operands:
            word |= scatter(raws[name], pieces)
        instruction_set = self._sets[form.set_name]
        out = self._units(word, form.bits, instruction_set.unit, instruction_set.stream)
        for item in form.appended:
            out += self._appended(item, {**fields, **raws}, cases)
        return out

    def _satisfy(
        self, when: Tree, fields: dict[str, int], widths: dict[str, int], known: dict[str, int]
    ) -> None:
        """Check `when`; fields that no hole sets take the first value that makes it true."""
        free = [name for name in names(when) if name not in fields and name not in known]
        for name in free:
            fields[name] = 0
        if evaluate(when, {**known, **fields}):
            return
        for name in free:
            for value in range(1, 1 << min(widths.get(name, 1), 8)):
                if evaluate(when, {**known, **fields, name: value}):
                    fields[name] = value
                    return
        raise Unencodable("this combination of operands is not an encoding of this instruction")

    def _units(self, word: int, bits: int, unit: int, stream: bool) -> bytes:
        if not stream:
            return word.to_bytes(bits // 8, self._order)  # type: ignore[arg-type]
        return b"".join(
            (word >> (bits - at - unit) & ((1 << unit) - 1)).to_bytes(unit // 8, self._order)  # type: ignore[arg-type]
            for at in range(0, bits, unit)
        )

    def _appended(self, item: Appended, values: Mapping[str, int], cases: Mapping[str, _Encoded]) -> bytes:
        if item.tail_of:
            return cases[item.tail_of].tail
        word = item.value
        for name, pieces in item.fields:
            word |= scatter(values.get(name, 0), pieces)
        return word.to_bytes(item.width // 8, self._order)  # type: ignore[arg-type]

    def _implied(self, operand: Operand, known: dict[str, int]) -> _Encoded:
        """An operand that the text does not mention: its first case that is possible with all fields 0."""
        for case in operand.cases[:-1]:
            try:
                return self._operand(operand, Chosen(operand, case), {}, known)
            except Unencodable:
                continue
        return self._operand(operand, Chosen(operand, operand.cases[-1]), {}, known)

    def _operand(
        self, operand: Operand, chosen: Chosen, symbols: Mapping[str, int], known: dict[str, int]
    ) -> _Encoded:
        case = chosen.case
        fields: dict[str, int] = {}
        widths = {
            name: max(low + width for _, width, low in pieces) for name, pieces in case.fields if pieces
        }
        for item in case.appended:
            for name, pieces in item.fields:
                widths[name] = max(low + width for _, width, low in pieces)
        nested: dict[str, _Encoded] = {}
        for name, inner, _ in case.operands:
            inner_chosen = chosen.nested.get(name)
            nested[name] = (
                self._operand(inner, inner_chosen, symbols, known)
                if inner_chosen
                else self._implied(inner, known)
            )
            fields.update({f"{name}.{field}": number for field, number in nested[name].fields.items()})
        for name, value in chosen.numbers.items():
            fields[name] = _field(value, calculate(value, symbols, known["pc"]), widths.get(name, 64), name)
        if chosen.register is not None and case.register_index is not None:
            self._solve(case.register_index, chosen.register, operand, case, fields, known, exact=True)
        if chosen.value is not None:
            if case.value is None:
                number = calculate(chosen.value, symbols, known["pc"])
                for name in widths:
                    fields.setdefault(name, number & ((1 << widths[name]) - 1))
            else:
                self._solve(
                    case.value, calculate(chosen.value, symbols, known["pc"]), operand, case, fields, known
                )
        for name in widths:
            fields.setdefault(name, 0)
        raw = case.pattern
        for name, pieces in case.fields:
            raw |= scatter(fields.get(name, 0), pieces)
        for name, _, pieces in case.operands:
            raw |= scatter(nested[name].raw, pieces)
        # one field may be a part of another: all are what the bits say
        fields.update({name: gather(raw, pieces) for name, pieces in case.fields if pieces})
        if not may_hold(case.when, {**known, **fields}):
            raise Unencodable(f"{operand.name} can't be encoded so")
        if self._claimed(operand, case, raw, known):
            raise Unencodable(f"these bits of {operand.name} mean something else")
        tail = b""
        values = {**fields, **{name: encoded.raw for name, encoded in nested.items()}}
        for item in case.appended:
            tail += self._appended(item, values, nested)
            tail += b"".join(nested[name].tail for name, _ in item.fields if name in nested)
        return _Encoded(raw, fields, tail)

    @staticmethod
    def _claimed(operand: Operand, case: Case, raw: int, known: Mapping[str, int]) -> bool:
        """Whether a case in front of `case` matches `raw` too: then it is what a decoder sees."""
        for earlier in operand.cases:
            if earlier is case:
                return False
            if raw & earlier.mask == earlier.pattern:
                fields = {name: gather(raw, pieces) for name, pieces in earlier.fields if pieces}
                try:
                    if earlier.when is None or evaluate(earlier.when, {**known, **fields}):
                        return True
                except KeyError:
                    continue
        return False

    def _solve(
        self,
        tree: Tree,
        number: int,
        operand: Operand,
        case: Case,
        fields: dict[str, int],
        known: dict[str, int],
        exact: bool = False,
    ) -> None:
        width = tree[1]
        value = number if exact else _fit(number, width, operand.name)
        fixed = {**known, **fields}
        solution = invert(tree, value, fixed)
        if (
            solution is None
            or evaluate(tree, {**fixed, **solution}) != value
            or not _agrees(case, solution, fields)
        ):
            solution = _enumerate(operand, case, tree, value, fixed, fields)
        if solution is None:
            raise Unencodable(f"{number} can't be encoded as {operand.name}")
        fields.update(solution)


class _Encoded:
    """An operand's bits, its fields by path, and the units that it appends."""

    __slots__ = ("fields", "raw", "tail")

    def __init__(self, raw: int, fields: dict[str, int], tail: bytes) -> None:
        self.raw, self.fields, self.tail = raw, fields, tail


def _field(value: Value, number: int, width: int, name: str) -> int:
    """`number` as a field of `width` bits. Narrow signed fields take no unsigned numbers; wide ones wrap."""
    sign = value.operator if isinstance(value, Operation) else ""
    if sign == "unsigned" and number < 0:
        raise Unencodable(f"{number} does not fit into {name}, which is unsigned")
    if sign == "signed" and width < 32 and number >= 1 << (width - 1):
        raise Unencodable(f"{number} does not fit into the {width} bits of {name}, which is signed")
    return _fit(number, width, name)


def _fit(number: int, width: int, name: str) -> int:
    """`number` as `width` bits; signed and unsigned numbers of that width fit."""
    if not -(1 << (width - 1)) <= number < 1 << width:
        raise Unencodable(f"{number} does not fit into the {width} bits of {name}")
    return number & ((1 << width) - 1)


def _collect(operand: Operand, found: set[str]) -> None:
    for case in operand.cases:
        for tree in (case.when, case.value, case.register_index):
            if tree is not None:
                found |= names(tree)
        for _, inner, _ in case.operands:
            _collect(inner, found)


def _agrees(case: Case, solution: Mapping[str, int], given: Mapping[str, int]) -> bool:
    """Whether fields that were solved for have the bits of those that are given, where these are parts of
    them."""
    raw = covered = 0
    for name, pieces in case.fields:
        if name in solution:
            raw |= scatter(solution[name], pieces)
            covered |= scatter(-1, pieces)
    for name, pieces in case.fields:
        bits = scatter(-1, pieces)
        if name in given and bits & covered == bits and gather(raw, pieces) != given[name]:
            return False
    return True


def _enumerate(
    operand: Operand,
    case: Case,
    tree: Tree,
    value: int,
    known: Mapping[str, int],
    given: Mapping[str, int],
) -> dict[str, int] | None:
    """Fields with this value by trying them all: immediates like A64's bit masks, which algebra can't
    invert."""
    free = sorted(names(tree) - known.keys())
    pieces = {name: max((low + width for _, width, low in gather), default=0) for name, gather in case.fields}
    if any(name not in pieces for name in free) or sum(pieces[name] for name in free) > ENUMERATED_BITS:
        return None
    fixed = tuple(sorted((name, known[name]) for name in names(tree) & known.keys()))
    places = _inverse(tree, case.when, tuple((name, pieces[name]) for name in free), fixed).get(value, ())
    for packed in places:
        solution = {}
        for name in free:
            solution[name] = packed & ((1 << pieces[name]) - 1)
            packed >>= pieces[name]
        if _agrees(case, solution, given):
            return solution
    return None


@lru_cache(maxsize=256)
def _inverse(
    tree: Tree, when: Tree | None, free: tuple[tuple[str, int], ...], fixed: tuple[tuple[str, int], ...]
) -> dict[int, list[int]]:
    total = sum(width for _, width in free)
    table: dict[int, list[int]] = {}
    environment = dict(fixed)
    for packed in range(1 << total):
        rest = packed
        for name, width in free:
            environment[name] = rest & ((1 << width) - 1)
            rest >>= width
        try:
            if when is not None and not evaluate(when, environment):
                continue
        except KeyError:
            pass
        table.setdefault(evaluate(tree, environment), []).append(packed)
    return table


def solve_symbols(value: Value, symbols: Mapping[str, int], pc: int) -> int | None:
    """`value` as a number, or None while a symbol is unknown."""
    try:
        return calculate(value, symbols, pc)
    except Undefined:
        return None
