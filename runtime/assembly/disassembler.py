"""From bytes to text: decode by the syntax tables, choose an alias, print.

This decoder serves people (disassembly, traces, debuggers); the engine has its own, compiled from the same
spec.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from runtime.assembly.aliases import AliasBook
from runtime.assembly.binding import Bound, Decoded, gather
from runtime.assembly.expressions import evaluate, may_hold
from runtime.assembly.tables import (
    NUMBER_FORMATS,
    Appended,
    Form,
    Hole,
    InstructionSet,
    Operand,
    Syntax,
    Text,
    allows,
    presence,
    texts_for,
)

MAX_LENGTH = 15
"""Bytes of an instruction with prefixes (SDM volume 2, 2.3.11): the rest of the prefixes before a longer one
is no instruction.
"""
Symbolizer = Callable[[int], str | None]


@dataclass(frozen=True, slots=True)
class Line:
    """A disassembled instruction. `text` is ".byte ..." with `form` None where nothing decodes; `length` in
    bytes."""

    address: int
    length: int
    text: str
    form: Form | None


class _Stream:
    """Reads units of an instruction in order; IndexError where the bytes end."""

    def __init__(self, data: bytes, start: int, big_endian: bool) -> None:
        self.data, self.position, self.order = data, start, "big" if big_endian else "little"

    def take(self, octets: int) -> bytes:
        chunk = self.data[self.position : self.position + octets]
        if len(chunk) < octets:
            raise IndexError
        self.position += octets
        return chunk


def head_word(data: bytes, unit: int, stream: bool, big_endian: bool) -> int:
    """`data` as a head: in a stream its units in memory order, the first on top; else one number."""
    order = "big" if big_endian else "little"
    if not stream:
        return int.from_bytes(data, order)  # type: ignore[arg-type]
    step, word = unit // 8, 0
    for at in range(0, len(data), step):
        word = word << unit | int.from_bytes(data[at : at + step], order)  # type: ignore[arg-type]
    return word


class Disassembler:
    """Disassembles one target's code. `features`: names that are present (None: all). `dialect`: see the
    specs."""

    def __init__(self, syntax: Syntax, dialect: str = "", features: frozenset[str] | None = None) -> None:
        self.syntax, self.dialect = syntax, dialect
        self._present = presence(syntax, features)
        self.aliases = AliasBook(syntax, dialect)
        self._index: dict[str, dict[int, dict[int, dict[int, list[Form]]]]] = {}
        rank = {form.name: number for number, form in enumerate(syntax.forms)}
        for form in syntax.forms:
            if features is not None and not features.issuperset(form.needs):
                continue
            by_bits = self._index.setdefault(form.set_name, {})
            by_mask = by_bits.setdefault(form.bits, {})
            by_mask.setdefault(form.mask, defaultdict(list))[form.pattern].append(form)
        self._rank = rank
        mandatory = [prefix for prefix in syntax.prefixes if prefix.mandatory]
        self._mandatory = tuple(dict.fromkeys(prefix.variable for prefix in mandatory))
        self._demanded = {
            octets: {p.variable: p.value for o in octets for p in mandatory if o & p.mask == p.pattern}
            for octets in {form.mandatory_prefixes for form in syntax.forms}
        }

    # --- decoding
    # ----------------------------------------------------------------------------------------------------

    def decode(self, data: bytes, address: int, contexts: Mapping[str, int] | None = None) -> Decoded | None:
        """The instruction at the start of `data`, which lies at `address`; None if no form matches."""
        environment = {**self.syntax.defaults, **self._present, **(contexts or {}), "pc": address}
        if self.syntax.prefixes:
            data = data[:MAX_LENGTH]
        stream = _Stream(data, 0, self.syntax.big_endian)
        self._prefixes(stream, environment)
        for name, width, tree in self.syntax.contexts:
            if tree is not None and name not in (contexts or {}):
                with suppress(KeyError):  # it follows from one that only a running CPU has
                    environment[name] = evaluate(tree, environment) & ((1 << width) - 1)
        for instruction_set in self.syntax.sets:
            if may_hold(instruction_set.when, environment):
                decoded = self._decode_in(instruction_set, stream, environment)
                if decoded is not None:
                    return decoded
        return None

    def _prefixes(self, stream: _Stream, environment: dict[str, int]) -> None:
        for prefix in self.syntax.prefixes:
            environment.setdefault(prefix.variable, 0)
            for name, _, _ in prefix.fields:
                environment.setdefault(name, 0)
        pending: dict[str, int] = {}
        while self.syntax.prefixes and stream.position < len(stream.data):
            byte = stream.data[stream.position]
            found = next(
                (
                    p
                    for p in self.syntax.prefixes
                    if byte & p.mask == p.pattern and may_hold(p.when, environment)
                ),
                None,
            )
            if found is None:
                break
            prefix = found
            stream.position += 1
            values = {prefix.variable: prefix.value} | {
                name: byte >> low & ((1 << width) - 1) for name, width, low in prefix.fields
            }
            # a prefix that counts only directly before the opcode is forgotten when another one follows
            pending = values if prefix.last else {}
            if not prefix.last:
                environment.update(values)
        environment.update(pending)

    def _decode_in(
        self,
        instruction_set: InstructionSet,
        stream: _Stream,
        environment: dict[str, int],
    ) -> Decoded | None:
        start = stream.position
        candidates: list[tuple[Form, int]] = []
        for bits, by_mask in self._index.get(instruction_set.name, {}).items():
            chunk = stream.data[start : start + bits // 8]
            if len(chunk) < bits // 8:
                continue
            word = head_word(chunk, instruction_set.unit, instruction_set.stream, self.syntax.big_endian)
            for mask, by_pattern in by_mask.items():
                for form in by_pattern.get(word & mask, ()):
                    candidates.append((form, word))
        chosen: Decoded | None = None
        for form, word in sorted(
            candidates, key=lambda c: (-len(c[0].mandatory_prefixes), self._rank[c[0].name])
        ):
            if not self._mandatory_fit(form, environment):
                continue
            stream.position = start + form.bits // 8
            try:
                decoded = self._bind(form, word, stream, dict(environment))
            except IndexError:
                continue
            if decoded is None:
                continue
            if chosen is None or chosen.form.mnemonic in form.before:
                chosen = decoded
        return chosen

    def _mandatory_fit(self, form: Form, environment: Mapping[str, int]) -> bool:
        """Whether the prefixes that are there are those that the form's picture demands: its own, and none of
        those that the spec lists behind it.
        """
        if form.no_prefix:
            return not any(environment[name] for name in self._mandatory)
        if not form.mandatory_prefixes:
            return True
        demanded = self._demanded[form.mandatory_prefixes]
        first = min(self._mandatory.index(name) for name in demanded)
        return all(environment[name] == demanded.get(name, 0) for name in self._mandatory[first:])

    def _bind(self, form: Form, word: int, stream: _Stream, environment: dict[str, int]) -> Decoded | None:
        environment["@bits"] = word
        for name, pieces in form.fields:
            environment[name] = gather(word, pieces)
        raw = {name: gather(word, pieces) for name, _, pieces in form.operands}
        bound: dict[str, Bound] = {}
        for name, operand, _ in form.operands:
            if not _read_later(form.appended, name):
                found = self._bind_operand(operand, raw[name], environment)
                if found is None:
                    return None
                bound[name] = found
        for item in form.appended:
            if item.tail_of:
                self._read_tails(bound[item.tail_of], stream, environment)
                continue
            for name, value in self._read_appended(item, stream):
                if name in raw:
                    raw[name] |= value
                else:
                    environment[name] = environment.get(name, 0) | value
        for name, operand, _ in form.operands:
            if name not in bound:
                found = self._bind_operand(operand, raw[name], environment)
                if found is None:
                    return None
                bound[name] = found
        length = stream.position
        environment["next_pc"] = environment["pc"] + length & ((1 << self.syntax.pc_width) - 1)
        for name, item_bound in bound.items():
            environment.update({f"{name}.{field}": value for field, value in item_bound.fields.items()})
        if not may_hold(form.when, environment):
            return None
        if any(
            p.reject and environment.get(p.variable) == p.value and not allows(form, p.variable, environment)
            for p in self.syntax.prefixes
        ):
            return None
        return Decoded(form, length, environment, bound)

    def _bind_operand(self, operand: Operand, raw: int, environment: Mapping[str, int]) -> Bound | None:
        for case in operand.cases:
            if raw & case.mask != case.pattern:
                continue
            fields = {name: gather(raw, pieces) for name, pieces in case.fields}
            nested: dict[str, Bound] = {}
            for name, inner, pieces in case.operands:
                if _read_later(case.appended, name):
                    continue
                found = self._bind_operand(inner, gather(raw, pieces), environment)
                if found is None:
                    break
                nested[name] = found
                fields.update({f"{name}.{field}": value for field, value in found.fields.items()})
            else:
                # a condition on units that are still to come holds for now: the form's own `when` decides
                if may_hold(case.when, {**environment, **fields}):
                    return Bound(operand, case, fields, nested)
        return None

    def _read_tails(self, bound: Bound, stream: _Stream, environment: Mapping[str, int]) -> None:
        """Read the units that the operand's case, and those nested in it, append to the stream."""
        late: dict[str, int] = {}
        for item in bound.case.appended:
            if item.tail_of:
                self._read_tails(bound.nested[item.tail_of], stream, environment)
                continue
            for name, value in self._read_appended(item, stream):
                late[name] = late.get(name, 0) | value
        for name, inner, _ in bound.case.operands:
            if name in late:
                rebound = self._bind_operand(inner, late[name], {**environment, **bound.fields})
                if rebound is None:
                    raise IndexError
                bound.nested[name] = rebound
                self._read_tails(rebound, stream, environment)
            bound.fields.update(
                {f"{name}.{field}": value for field, value in bound.nested[name].fields.items()}
            )
        for name, value in late.items():
            if name not in bound.nested:
                bound.fields[name] = value

    def _read_appended(self, item: Appended, stream: _Stream) -> list[tuple[str, int]]:
        data = stream.take(item.width // 8)
        word = int.from_bytes(data, stream.order)  # type: ignore[arg-type]
        if (word ^ item.value) & item.mask:
            raise IndexError
        return [(name, gather(word, pieces)) for name, pieces in item.fields]

    # --- printing
    # ----------------------------------------------------------------------------------------------------

    def format(self, decoded: Decoded, symbolize: Symbolizer | None = None) -> str:
        """The instruction as text, by the first alias that fits it, else its own."""
        printed = texts_for(decoded.form.texts, self.dialect)
        if not printed:
            return decoded.form.mnemonic
        widths = {f"#{name}": width for name, width in decoded.form.widths}
        environment = {**decoded.environment, **widths}
        plain, *others = (
            partial(self._render, wanted, environment, decoded.operands, None, None)
            for wanted in (printed[0], *texts_for(decoded.form.texts, self.dialect, "accept"))
        )
        prefixes = "".join(f"{name} " for name in self._written_prefixes(decoded))
        alias = prefixes + self.aliases.shorten(plain(), lambda: (other() for other in others))
        if symbolize is None:
            return alias
        for bound in decoded.operands.values():
            value = bound.value(decoded.environment) if bound.operand.number == "address" else None
            symbol = symbolize(value) if value is not None else None
            if symbol:
                return f"{alias} <{symbol}>"
        return alias

    def _written_prefixes(self, decoded: Decoded) -> list[str]:
        """Prefixes that stand as words before the mnemonic: those that the form allows by name (lock)."""
        named = dict.fromkeys(prefix.variable for prefix in self.syntax.prefixes if prefix.reject)
        allowed = {name for name, _ in decoded.form.allow}
        return [name for name in named if name in allowed and decoded.environment.get(name)]

    def line(
        self,
        data: bytes,
        address: int,
        contexts: Mapping[str, int] | None = None,
        symbolize: Symbolizer | None = None,
    ) -> Line:
        """Disassemble the instruction at the start of `data`; undecodable bytes come as one unit of data."""
        decoded = self.decode(data, address, contexts)
        if decoded is not None:
            return Line(address, decoded.length, self.format(decoded, symbolize), decoded.form)
        unit = min(s.unit for s in self.syntax.sets) // 8
        chunk = data[:unit]
        number = int.from_bytes(chunk, "big" if self.syntax.big_endian else "little")
        name = {1: ".byte", 2: ".half", 4: ".word"}.get(len(chunk), ".byte")
        return Line(address, max(1, len(chunk)), f"{name} {number:#x}", None)

    def _render(
        self,
        text: Text,
        environment: Mapping[str, int],
        operands: Mapping[str, Bound],
        own: Bound | None,
        outer: Mapping[str, int] | None,
    ) -> str:
        return "".join(
            part if isinstance(part, str) else self._hole(part, environment, operands, own)
            for part in text.parts
        )

    def _hole(
        self, hole: Hole, environment: Mapping[str, int], operands: Mapping[str, Bound], own: Bound | None
    ) -> str:
        bound = operands.get(hole.name)
        if hole.name == "@" and own is not None:
            value = own.value(environment)
            assert value is not None
            body = self._number(value, own.operand.value_width, hole.format, own.operand.number)
        elif bound is not None:
            value = bound.value(environment)
            if value is None:
                value = next(iter(bound.fields.values()), 0) if len(bound.fields) == 1 else None
            body = self._operand(bound, environment, hole.format)
        else:
            value = environment[hole.name]
            width = environment.get(f"#{hole.name}", 64)
            body = self._number(value, width, hole.format, "unsigned")
        if hole.default is not None and value == hole.default:
            return ""
        return hole.prefix + body + hole.suffix

    def _operand(self, bound: Bound, environment: Mapping[str, int], form: str) -> str:
        appended = [field for item in bound.case.appended for field in item.fields]
        widths = {f"#{name}": _width(pieces) for name, pieces in (*bound.case.fields, *appended)}
        inner = {**environment, **bound.fields, **widths}
        printed = texts_for(bound.case.texts, self.dialect)
        if printed:
            return self._render(printed[0], inner, bound.nested, bound, environment)
        register = bound.register(environment)
        if register is not None:
            symbols = self.syntax.symbols.get(bound.case.register_file, {})
            return symbols.get(register, f"{bound.case.register_file}{register}")
        value = bound.value(environment)
        if value is not None:
            return self._number(value, bound.operand.value_width, form, bound.operand.number)
        if len(bound.nested) == 1 and not bound.case.fields:
            return self._operand(next(iter(bound.nested.values())), inner, form)
        if len(bound.fields) == 1:
            return self._number(next(iter(bound.fields.values())), bound.operand.width, form, "unsigned")
        return f"?{bound.operand.name}"

    def _number(self, value: int, width: int, form: str, kind: str) -> str:
        if form.endswith(("*", "|")):
            table = self.syntax.symbols[form[:-1]]
            names = [table[number] for number in range(width) if value >> number & 1]
            return "{" + ", ".join(names) + "}" if form[-1] == "*" else " | ".join(names)
        symbols = None if form in NUMBER_FORMATS else self.syntax.symbols.get(form)
        if symbols is not None:
            return symbols.get(value, f"{value:#x}" if value > 9 else str(value))
        if form == "hex" or (not form and kind == "address"):
            return f"{value:#x}"
        if form == "+":
            number = value - (1 << width) if value >> (width - 1) & 1 else value
            return f" {'-' if number < 0 else '+'} {abs(number)}"
        if (form == "d" or (not form and kind == "signed")) and value >> (width - 1) & 1:
            return str(value - (1 << width))
        return str(value)


def _width(pieces: tuple[tuple[int, int, int], ...]) -> int:
    return max((low + width for _, width, low in pieces), default=1)


def _read_later(appended: tuple[Appended, ...], name: str) -> bool:
    return any(field == name for item in appended for field, _ in item.fields)
