"""Encodings as formulas: where pictures' bits lie in an instruction word, and which words a form matches.

The **word** is one number with the first unit in memory at the bottom: unit number i
is the bits from ``i * unit`` on, read in the target's byte order. That is the picture itself for sets whose
pictures are one number, and it makes encodings of different lengths comparable: they share their low bits.
Prefixes are not part of it; they are variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from generator.checks.solve import FALSE, TRUE, All, Any, Atom, Cube, Formula, Not, Segments
from generator.ir.arithmetic import mask
from generator.ir.decode import FEATURE_PREFIX, field_widths, picture_width
from generator.ir.effects import subexpressions
from generator.ir.nodes import Binary, Const, Context, Expr, Field
from generator.model.target import Form, InstructionSet, Operand, OperandCase, Piece, Target, Variant

Fields = Mapping[str, Segments]


@dataclass(frozen=True)
class Prefix:
    """The fixed bits of a form up to the first place where its operands decide what follows."""

    mask: int
    value: int


def conjunction(parts: Iterable[Formula]) -> Formula:
    """All parts, with the cubes among them merged into one."""
    bits = value = 0
    others: list[Formula] = []
    todo = list(reversed(list(parts)))
    while todo:
        part = todo.pop()
        if isinstance(part, All):
            todo += reversed(part.parts)
        elif isinstance(part, Cube):
            if (value ^ part.value) & bits & part.mask:
                return FALSE
            bits |= part.mask
            value |= part.value
        elif part is FALSE:
            return FALSE
        else:
            others.append(part)
    if bits:
        others.insert(0, Cube(bits, value))
    return others[0] if len(others) == 1 else All(tuple(others))


def disjunction(parts: Iterable[Formula]) -> Formula:
    """Some part; TRUE where one part always holds."""
    kept = [part for part in parts if part is not FALSE]
    if any(isinstance(part, All) and not part.parts for part in kept):
        return TRUE
    return kept[0] if len(kept) == 1 else Any(tuple(kept))


def part_of(segments: Segments, low: int, width: int) -> Segments:
    """Where bits ``low .. low + width - 1`` of a field lie."""
    result = []
    for field_low, word_low, count in segments:
        first, end = max(low, field_low), min(low + width, field_low + count)
        if first < end:
            result.append((first - low, word_low + first - field_low, end - first))
    return tuple(result)


def shifted(segments: Segments, low: int) -> Segments:
    """The segments of a piece that holds its field's bits from `low` on."""
    return tuple((field_low + low, word_low, width) for field_low, word_low, width in segments)


def cube_of(segments: Segments, width: int, value: int) -> Cube:
    """The condition that a field of `width` bits at `segments` has `value`."""
    bits = wanted = 0
    for field_low, word_low, count in segments:
        bits |= mask(count) << word_low
        wanted |= (value >> field_low & mask(count)) << word_low
    return Cube(bits, wanted)


class Encodings:
    """The formulas of a target's forms, made when they are asked for."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.sets: dict[str, InstructionSet] = {group.name: group for group in target.sets}
        self._formulas: dict[str, Formula] = {}
        self._appends: dict[int, bool] = {}
        self._choices: Mapping[str, int] | None = None  # operands' cases, while a variant is looked at
        self._mandatory = tuple(dict.fromkeys(row.variable for row in target.prefixes if row.mandatory))
        self._widths = {context.name: context.width for context in target.contexts}
        for row in target.prefixes:
            self._widths[row.variable] = row.width
            self._widths |= {name: width for name, width, _ in row.fields}

    # --- words ----------------------------------------------------------------------------------------------

    def matches(self, form: Form) -> Formula:
        """The words, prefixes and contexts that `form` matches (regardless of features and of other
        forms).
        """
        if form.name not in self._formulas:
            self._formulas[form.name] = self._form(form, ())
        return self._formulas[form.name]

    def head(self, form: Form) -> Formula:
        """What `matches` demands of fixed bits, contexts and prefixes: quick, and enough for most pairs."""
        prefix, known = self._static(form)
        active = self._active(self.sets[form.set_name])
        parts: list[Formula] = [active, Cube(prefix.mask, prefix.value), self._prefix_condition(form)]
        if form.when is not None and _names(form.when) <= known.keys():
            parts.append(Atom(form.when, known))
        return conjunction(parts)

    def matches_variant(self, form: Form, variant: Variant, conditions: Sequence[Expr]) -> Formula:
        """The words that `form` matches with `variant`'s choices of cases, and where all `conditions` hold.

        Conditions may name every field of the chosen cases, and of operands with a single case.
        """
        self._choices = dict(variant.choices)
        try:
            more = [*conditions, *([] if variant.condition is None else [variant.condition])]
            return self._form(form, more)
        finally:
            self._choices = None

    def _form(self, form: Form, conditions: Sequence[Expr]) -> Formula:
        group = self.sets[form.set_name]
        width = picture_width(form.picture)
        place = _Placing(group.unit, None if group.stream else width, not self.target.big_endian)

        _, known = self._static(form)
        wanted = [c for c in (form.when, *conditions) if c is not None]
        early = [c for c in wanted if _names(c) <= known.keys()]
        late = [c for c in wanted if c not in early]

        def end(position: int, fields: Fields) -> Formula:
            parts = [self._operand(o, fields) for o in form.operands if o.width == 0]
            return conjunction([*parts, *(Atom(c, fields) for c in late)])

        body = self._pieces(form.picture, 0, form.operands, place, 0, {}, (), end)
        active = self._active(group)
        return conjunction([active, self._prefix_condition(form), *(Atom(c, known) for c in early), body])

    def fixed_prefix(self, form: Form) -> Prefix:
        """The fixed bits of `form` that lie at the same place in all its words."""
        return self._static(form)[0]

    def _static(self, form: Form) -> tuple[Prefix, Fields]:
        """The fixed bits and the fields that lie at the same place in all words of `form`."""
        group = self.sets[form.set_name]
        width = picture_width(form.picture)
        place = _Placing(group.unit, None if group.stream else width, not self.target.big_endian)
        by_path = {operand.path: operand for operand in form.operands}
        left = field_widths(form.picture)
        bits = value = position = 0
        known: dict[str, Segments] = {}
        varies = False
        for piece in form.picture:
            segments = place(position, piece.width, piece.kind == "field")
            position += piece.width
            if piece.kind == "fixed":
                cube = cube_of(segments, piece.width, piece.value)
                bits |= cube.mask
                value |= cube.value
            elif piece.kind == "field":
                known[piece.name] = known.get(piece.name, ()) + shifted(segments, piece.low)
                left[piece.name] -= piece.width
                if left[piece.name] == 0 and piece.name in by_path:
                    known = dict(self._operand_fields(by_path[piece.name], known))
                    varies = varies or self._may_append(by_path[piece.name])
            if varies and position % group.unit == 0:
                break
        return Prefix(bits, value), {name: known[name] for name in known if not left.get(name)}

    def own_case(self, operand: Operand, number: int) -> Formula:
        """Whether case `number` fits, over the operand's own bits (lying at bit 0 of the word)."""
        own: Segments = ((0, 0, operand.width),) if operand.width else ()
        fields = self._operand_fields(operand, {operand.path: own})
        return self._case(operand, operand.cases[number], fields)[0]

    # --- sets and prefixes ----------------------------------------------------------------------------------

    def _active(self, group: InstructionSet) -> Formula:
        """That a set's encodings are tried: its `when`; without one, that no other set's holds."""
        if group.when is not None:
            return Atom(group.when, {})
        return All(tuple(Not(Atom(other.when, {})) for other in self.target.sets if other.when is not None))

    def _prefix_condition(self, form: Form) -> Formula:
        """The mandatory prefixes that `form` demands, as `generator.ir.decode` describes it."""
        demanded: dict[str, int] = {}
        for byte in form.mandatory_prefixes:
            row = next(r for r in self.target.prefixes if r.mandatory and byte & r.mask == r.pattern)
            demanded[row.variable] = row.value
        if not demanded and not form.no_prefix:
            return TRUE
        first = 0 if form.no_prefix else min(self._mandatory.index(name) for name in demanded)
        return All(tuple(self.equals(name, demanded.get(name, 0)) for name in self._mandatory[first:]))

    def equals(self, name: str, value: int) -> Formula:
        """That a context or prefix variable has this value."""
        width = self._widths[name]
        return Atom(Binary(1, "eq", Context(width, name), Const(width, value)), {})

    def present(self, features: Iterable[str]) -> Formula:
        """That the machine has these features, as far as specs ask for them with `has(...)`."""
        return All(
            tuple(self.equals(name, 1) for f in features if (name := FEATURE_PREFIX + f) in self._widths)
        )

    # --- pictures -------------------------------------------------------------------------------------------

    def _pieces(
        self,
        pieces: tuple[Piece, ...],
        index: int,
        operands: tuple[Operand, ...],
        place: _Placing,
        position: int,
        fields: Fields,
        complete: tuple[str, ...],
        then: Callable[[int, Fields], Formula],
    ) -> Formula:
        """The pieces from `index` on, at `position` bits from the start, and what `then` says behind them."""
        by_path = {operand.path: operand for operand in operands}
        parts: list[Formula] = []
        known = dict(fields)
        while index < len(pieces):
            piece = pieces[index]
            index += 1
            segments = place(position, piece.width, piece.kind == "field")
            position += piece.width
            if piece.kind == "fixed":
                parts.append(cube_of(segments, piece.width, piece.value))
            elif piece.kind == "field":
                known[piece.name] = known.get(piece.name, ()) + shifted(segments, piece.low)
                if all(later.name != piece.name for later in pieces[index:]):
                    complete += (piece.name,)
            if position % place.unit and index < len(pieces):
                continue
            appending = []
            for name in complete:
                operand = by_path.get(name)
                if operand is None:
                    continue
                known = dict(self._operand_fields(operand, known))
                if self._may_append(operand) or self._shows_fields(operand):
                    appending.append(operand)
                else:
                    parts.append(self._operand(operand, known))
            complete = ()
            if appending:
                here = index

                def resume(at: int, seen: Fields, here: int = here) -> Formula:
                    return self._pieces(pieces, here, operands, place, at, seen, (), then)

                parts.append(self._appending(tuple(appending), place, position, known, resume))
                return conjunction(parts)
        parts.append(then(position, known))
        return conjunction(parts)

    @staticmethod
    def _operand_fields(operand: Operand, fields: Fields) -> Fields:
        """`fields` with the class's own fields, given where the operand lies."""
        own = fields[operand.path]
        return {**fields, **{path: part_of(own, low, width) for path, width, low in operand.fields}}

    def _may_append(self, operand: Operand) -> bool:
        key = id(operand)
        if key not in self._appends:
            self._appends[key] = any(
                case.appended or any(self._may_append(inner) for inner in case.operands)
                for case in operand.cases
            )
        return self._appends[key]

    def _shows_fields(self, operand: Operand) -> bool:
        """Whether what follows may name the fields of the operand's case."""
        return self._choices is not None and (operand.path in self._choices or len(operand.cases) == 1)

    def _operand(self, operand: Operand, fields: Fields) -> Formula:
        """Whether some case of an operand that appends nothing fits."""
        if operand.path not in fields:
            fields = {**fields, operand.path: ()}
        fields = self._operand_fields(operand, fields)
        return disjunction(self._case(operand, case, fields)[0] for case in operand.cases)

    def _case(
        self, operand: Operand, case: OperandCase, fields: Fields
    ) -> tuple[Formula, Fields, list[Operand]]:
        """The case's own bits and `when`; the fields with its own; its nested operands that append units."""
        own = fields[operand.path]
        gathered: dict[str, Segments] = {}
        parts: list[Formula] = []
        low = operand.width
        for piece in case.picture:
            low -= piece.width
            segments = part_of(own, low, piece.width)
            if piece.kind == "fixed":
                parts.append(cube_of(segments, piece.width, piece.value))
            elif piece.kind == "field":
                gathered[piece.name] = gathered.get(piece.name, ()) + shifted(segments, piece.low)
        known = {**fields, **gathered}
        appending = []
        for inner in case.operands:
            if inner.path not in gathered:
                continue
            known = dict(self._operand_fields(inner, known))
            if self._may_append(inner) or self._shows_fields(inner):
                appending.append(inner)
            else:
                parts.append(self._operand(inner, known))
        if case.when is not None:
            parts.append(Atom(case.when, known))
        return conjunction(parts), known, appending

    def _appending(
        self,
        operands: tuple[Operand, ...],
        place: _Placing,
        position: int,
        fields: Fields,
        then: Callable[[int, Fields], Formula],
    ) -> Formula:
        """Each operand's cases with the units that they append, one operand behind the other, then `then`."""
        if not operands:
            return then(position, fields)
        operand, others = operands[0], operands[1:]

        def behind(at: int, seen: Fields) -> Formula:
            return self._appending(others, place, at, seen, then)

        choices = []
        wanted = (self._choices or {}).get(operand.path)
        for case in operand.cases if wanted is None else (operand.cases[wanted],):
            own, known, appending = self._case(operand, case, fields)
            if own is FALSE:
                continue

            def units(at: int, seen: Fields, case: OperandCase = case) -> Formula:
                later = field_widths(case.appended)
                outer = tuple(o for o in case.operands if o.path in later)
                seen = {name: where for name, where in seen.items() if name not in later}
                return self._pieces(case.appended, 0, outer, place, at, seen, (), behind)

            rest = self._appending(tuple(appending), place, position, known, units)
            choices.append(conjunction([own, rest]))
        return disjunction(choices)


def _names(expr: Expr) -> set[str]:
    """The fields that an expression names."""
    return {node.name for node in subexpressions(expr) if isinstance(node, Field)}


class _Placing:
    """Where a piece lies in the word, given its position in bits from the start of the picture."""

    def __init__(self, unit: int, total: int | None, little: bool) -> None:
        self.unit = unit
        self.total = total  # of a picture that is one number; None: a stream
        self.little = little

    def __call__(self, position: int, width: int, is_field: bool) -> Segments:
        if self.total is not None:
            return ((0, self.total - position - width, width),)
        unit = self.unit
        if is_field and self.little and unit == 8 and position % unit == 0 and width % unit == 0:
            return ((0, position, width),)
        result = []
        left = width
        while left:
            number, used = divmod(position, unit)
            count = min(left, unit - used)
            left -= count
            result.append((left, number * unit + unit - used - count, count))
            position += count
        return tuple(result)
