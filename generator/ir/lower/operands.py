"""Operand classes in use: cases, fields, values, and which cases need behaviours of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from generator.ir import build
from generator.ir.effects import statements
from generator.ir.lower.body import Body
from generator.ir.lower.entities import Elaboration, StateElement
from generator.ir.lower.linear import LinearAddress, LinearAddresses, linear_alternatives
from generator.ir.lower.pictures import Layout, PlacedField, lay_out
from generator.ir.lower.report import Mistake, did_you_mean, plural
from generator.ir.lower.scope import Binding, Bound, Number, RawField, Scope
from generator.ir.nodes import CONSTANT, DECODE, Const, Expr, Field, Load, Stmt, kind_of
from generator.language import syntax as s
from generator.language.source import Pos

MAX_ALTERNATIVES = 256  # of a linear form, and of the choices among an instruction's operands


@dataclass
class CaseUse:
    """One case of an operand in use."""

    number: int
    item: s.CaseNode
    scope: Scope
    layout: Layout
    fixed: list[Expr] = field(default_factory=list)
    when: Expr | None = None
    nested: list[OperandUse] = field(default_factory=list)

    @property
    def condition(self) -> Expr:
        """Fixed bits and `when`, over raw fields and contexts."""
        conditions = [*self.fixed, *([self.when] if self.when is not None else [])]
        return build.conjunction(conditions) or build.TRUE


@dataclass
class Probe:
    """A case's values, lowered alone: what kind they are."""

    values: tuple[Expr, ...]
    statements: tuple[Stmt, ...]
    in_memory: bool
    written: tuple[Stmt, ...] | None  # what assigning a value to it does; None: it cannot be assigned

    @property
    def is_decode(self) -> bool:
        return not self.statements and all(kind_of(v) <= DECODE for v in self.values)


@dataclass
class OperandUse:
    """An operand class with its generic names bound, at a path: an operand of one or more forms."""

    spec: Elaboration
    item: s.OperandItem
    path: str
    generics: tuple[int, ...]
    width: int
    fields: dict[str, RawField]
    field_layout: tuple[tuple[str, int, int], ...]
    declared: tuple[int, ...] | None
    cases: list[CaseUse]
    known_values: dict[tuple[object, ...], tuple[Expr, ...]] = field(
        default_factory=dict
    )  # of pure cases, by choices

    # --- kinds -------------------------------------------------------------------------------

    @cached_property
    def has_value(self) -> bool:
        return any(c.item.value is not None for c in self.cases)

    @cached_property
    def appends(self) -> bool:
        """Whether some case appends units."""
        return any(c.layout.appended or any(n.appends for n in c.nested) for c in self.cases)

    @cached_property
    def probes(self) -> list[Probe]:
        return [self._probe(c) for c in self.cases]

    def _probe(self, case: CaseUse) -> Probe:
        body = Body(self.spec)
        if case.item.value is None:
            raise Mistake(
                case.item.at, f"this case of `{self.item.name}` has no value, and others have", "add `=> ...`"
            )
        values = body.operands.case_values(self, case, self.declared)
        # A value may be made of what lies in memory: zext(mem(32)[a]).
        in_memory = any(isinstance(stmt, Load) for stmt in statements(tuple(body.draft.out)))
        written: tuple[Stmt, ...] | None = None
        if not isinstance(case.item.value, s.BlockStmt) and len(values) == 1:
            in_memory = in_memory or body.operands.case_place(self, case).in_memory
            writer = Body(self.spec)
            try:
                writer.operands.case_place(self, case).write(
                    writer.draft, writer.draft.fresh("probe", values[0].width), case.item.at
                )
                written = tuple(writer.draft.out)
            except Mistake:
                pass
        return Probe(values, tuple(body.draft.out), in_memory, written)

    @cached_property
    def kind(self) -> str:
        """none: no value; single: one case, or all mean the same (their texts differ); decode: all values
        decode-time; linear: addresses of one shape; choice: the
        cases need behaviours of their own."""
        if not self.has_value:
            return "none"
        if len(self.cases) == 1 or self._all_alike:
            return "single"
        if all(p.is_decode for p in self.probes) and all(n.all_decode for c in self.cases for n in c.nested):
            return "decode"
        if self.linear is not None:
            return "linear"
        return "choice"

    @property
    def _all_alike(self) -> bool:
        first = self.probes[0]
        return (
            not first.statements
            and all(
                not p.statements and p.values == first.values and p.written == first.written
                for p in self.probes[1:]
            )
            and all(n.all_decode for c in self.cases for n in c.nested)
        )

    @property
    def all_decode(self) -> bool:
        """Whether the value is decode-time whatever the cases."""
        if self.kind == "single":
            return self.probes[0].is_decode and all(n.all_decode for n in self.cases[0].nested)
        return self.kind in ("none", "decode")

    @cached_property
    def linear(self) -> LinearAddresses | None:
        """The addresses, where the first value of every case is an address of one shape (and the others are
        decode-time).
        """
        if not self.has_value or len(self.cases) < 2 or any(p.statements for p in self.probes):
            return None
        if any(kind_of(v) > DECODE for p in self.probes for v in p.values[1:]):
            return None
        file = ""
        found: list[LinearAddress] = []
        terms = 0
        for when, (value, *_) in self.flat_values:
            alternatives = linear_alternatives(value)
            if alternatives is None:
                return None
            for alternative in alternatives:
                for name in alternative.files:
                    if file not in ("", name):
                        return None
                    file = name
                offset = alternative.offset
                rich = alternative.index is not None or (
                    alternative.base is not None and offset != Const(value.width, 0)
                )
                terms = max(terms, 2 if rich else 1)
                condition = build.and_(when, alternative.when)
                if condition == build.FALSE:
                    continue
                found.append(
                    LinearAddress(condition, alternative.base, alternative.index, alternative.scale, offset)
                )
            if len(found) > MAX_ALTERNATIVES:
                return None
        element = self.spec.entities.get(file)
        if terms < 2 or not isinstance(element, StateElement):
            return None
        return LinearAddresses(element.model, tuple(found))

    @cached_property
    def flat_values(self) -> list[tuple[Expr, tuple[Expr, ...]]]:
        """(condition, values) for every way through this operand's cases and its nested operands' cases."""
        result: list[tuple[Expr, tuple[Expr, ...]]] = []
        for number, case in enumerate(self.cases):
            for choices, conditions in combine([n.ways() for n in case.nested]):
                body = Body(self.spec, choices=dict(choices))
                values = body.operands.case_values(self, case, self.declared)
                condition = build.conjunction([self.exclusive_condition(number), *conditions]) or build.TRUE
                result.append((condition, values))
        return result

    def ways(self) -> list[tuple[tuple[tuple[str, int], ...], list[Expr]]]:
        """Every choice among all cases, nested ones too, with its conditions."""
        result: list[tuple[tuple[tuple[str, int], ...], list[Expr]]] = []
        for number, case in enumerate(self.cases):
            for choices, conditions in combine([n.ways() for n in case.nested]):
                result.append(
                    (((self.path, number), *choices), [self.exclusive_condition(number), *conditions])
                )
        return result

    # --- conditions --------------------------------------------------------------------------

    def exclusive_condition(self, number: int) -> Expr:
        """That case `number` is the one: it matches, and none before it does."""
        case = self.cases[number]
        conditions = [case.condition]
        for earlier in self.cases[:number]:
            if not _disjoint(earlier, case):
                conditions.append(build.not_(earlier.condition))
        return build.conjunction(conditions) or build.TRUE

    def alternatives(self) -> list[tuple[tuple[tuple[str, int], ...], list[Expr]]]:
        """The choices that a behaviour needs: (path, case) and their conditions."""
        if self.kind in ("none", "decode", "linear"):
            return [((), [])]
        result: list[tuple[tuple[tuple[str, int], ...], list[Expr]]] = []
        for number, case in enumerate(self.cases if self.kind == "choice" else self.cases[:1]):
            own = ((self.path, number),) if self.kind == "choice" else ()
            conditions = [self.exclusive_condition(number)] if self.kind == "choice" else []
            for choices, inner in combine([n.alternatives() for n in case.nested]):
                result.append(((*own, *choices), [*conditions, *inner]))
        return result

    def memory_condition(self, at: Pos) -> Expr:
        """That the operand is in memory (`dst.mem`, which stands `at`)."""
        possible = self.has_value and any(probe.in_memory for probe in self.probes)
        self.spec.memory_questions.setdefault(at, {})[self.item.name] = possible
        if not possible:
            return build.FALSE
        result: Expr = build.FALSE
        for number, probe in enumerate(self.probes):
            if probe.in_memory:
                result = build.or_(result, self.exclusive_condition(number))
        return result


def combine(
    parts: list[list[tuple[tuple[tuple[str, int], ...], list[Expr]]]],
) -> Iterator[tuple[tuple[tuple[str, int], ...], list[Expr]]]:
    for combination in product(*parts):
        yield (
            tuple(c for choices, _ in combination for c in choices),
            [e for _, conditions in combination for e in conditions],
        )


def _disjoint(a: CaseUse, b: CaseUse) -> bool:
    """Whether the fixed bits of two cases contradict each other."""
    position_a, position_b = _fixed_bits(a.layout), _fixed_bits(b.layout)
    return (position_a[1] ^ position_b[1]) & position_a[0] & position_b[0] != 0


def _fixed_bits(layout: Layout) -> tuple[int, int]:
    """(mask, value) of a case's own picture."""
    mask = value = 0
    for piece in layout.pieces:
        mask, value = mask << piece.width, value << piece.width
        if piece.kind == "fixed":
            mask |= (1 << piece.width) - 1
            value |= piece.value
    return mask, value


class OperandClasses:
    """All operand classes and enums of a target; makes (and keeps) their uses."""

    def __init__(self, spec: Elaboration) -> None:
        self.spec = spec
        self._uses: dict[tuple[str, tuple[int, ...], str, Expr | None], OperandUse] = {}
        self._widths: dict[tuple[str, tuple[int, ...]], int] = {}
        self._under_way: set[str] = set()

    def known(self, name: str) -> bool:
        return name in self.spec.family.operands or name in self.spec.family.enums

    def generic_values(self, reference: s.OperandRef, scope: Scope) -> tuple[int, ...]:
        body = Body(self.spec, pure=True)
        return tuple(body.widths.require_const(g, scope, "a generic width") for g in reference.generics)

    def reference_width(self, reference: s.OperandRef, scope: Scope) -> int:
        enum = self.spec.enums.get(reference.name)
        if enum is not None:
            return enum.width
        item = self._item(reference)
        generics = self.generic_values(reference, scope)
        key = (reference.name, generics)
        if key not in self._widths:
            self._widths[key] = sum(w for _, w in self._field_widths(item, generics, reference.at)[1])
        return self._widths[key]

    def _item(self, reference: s.OperandRef) -> s.OperandItem:
        item = self.spec.family.operands.get(reference.name)
        if item is None:
            known = [*self.spec.family.operands, *self.spec.family.enums]
            raise Mistake(
                reference.at,
                f"there is no operand class `{reference.name}`",
                did_you_mean(reference.name, known, f"declare it: operand {reference.name} (...)"),
            )
        return item

    def _field_widths(
        self, item: s.OperandItem, generics: tuple[int, ...], at: Pos
    ) -> tuple[Scope, list[tuple[str, int]]]:
        if len(generics) != len(item.generics):
            raise Mistake(
                at,
                f"`{item.name}` takes {plural(len(item.generics), 'generic width')}, not {len(generics)}",
                f"{item.name}<{', '.join(item.generics)}>" if item.generics else item.name,
            )
        scope = Scope(names={n: Number(v) for n, v in zip(item.generics, generics, strict=True)})
        body = Body(self.spec, pure=True)
        widths = [
            (name.name, body.widths.require_const(width, scope, "a field's width"))
            for name, width in item.fields
        ]
        for (_, width), (_, node) in zip(widths, item.fields, strict=True):
            if width < 0:
                raise Mistake(node.at, f"a field of {width} bits")
        return scope, [(name, width) for name, width in widths if width]

    def use(self, reference: s.OperandRef, scope: Scope, path: str, raw: Expr | None) -> OperandUse:
        """The class at `path`. `raw`: its bits as an expression; None: they are fields of the path's own."""
        item = self._item(reference)
        generics = self.generic_values(reference, scope)
        key = (item.name, generics, path, raw)
        found = self._uses.get(key)
        if found is None:
            if path.count(".") > 8:
                raise Mistake(reference.at, f"the operand class `{item.name}` contains itself")
            found = self._uses[key] = self._make(item, generics, path, raw, reference.at)
        return found

    def natural(self, use: OperandUse) -> OperandUse:
        """The same operand with its bits as fields of its own path, as models describe it."""
        key = (use.item.name, use.generics, use.path, None)
        if key not in self._uses:
            self._uses[key] = self._make(use.item, use.generics, use.path, None, use.item.at)
        return self._uses[key]

    def _make(
        self, item: s.OperandItem, generics: tuple[int, ...], path: str, raw: Expr | None, at: Pos
    ) -> OperandUse:
        scope, widths = self._field_widths(item, generics, at)
        total = sum(w for _, w in widths)
        fields: dict[str, RawField] = {}
        layout: list[tuple[str, int, int]] = []
        low = total
        bits: Expr | None = raw
        for name, width in widths:
            low -= width
            value: Expr = Field(width, f"{path}.{name}") if raw is None else build.slice_(raw, low, width)
            if raw is None:
                bits = value if bits is None else build.concat(bits, value)
            fields[name] = RawField(value, f"{path}.{name}")
            layout.append((f"{path}.{name}", width, low))
            scope.names[name] = fields[name]
        body = Body(self.spec, pure=True)
        declared = body.widths.type_widths(item.type, scope) if item.type is not None else None
        use = OperandUse(self.spec, item, path, generics, total, fields, tuple(layout), declared, [])
        for number, case in enumerate(item.cases):
            made = self._case(item, case, number, scope, path, bits, total)
            if made is not None:
                use.cases.append(made)
        if not use.cases:
            raise Mistake(at, f"no case of `{item.name}` is possible here", "see the cases' `when`s")
        return use

    def _case(
        self,
        item: s.OperandItem,
        case: s.CaseNode,
        number: int,
        outer: Scope,
        path: str,
        bits: Expr | None,
        total: int,
    ) -> CaseUse | None:
        """The case in use; None if its `when` is false for these generic values."""
        scope = outer.inner()
        body = Body(self.spec, pure=True)
        if case.when is not None and body.constants.condition(case.when, outer) is False:
            return None
        layout = Layout()
        if case.picture is not None:
            layout = lay_out(case.picture, scope, self, body, f"{path}.")
            if layout.width != total:
                raise Mistake(
                    case.picture.at,
                    f"this case has {plural(layout.width, 'bit')}, and `{item.name}` has {total}",
                    "a case's picture covers the operand's bits; appended units stand behind `+`",
                )
        elif not item.simple and total:
            raise Mistake(case.at, f"this case has no picture, and `{item.name}` has {plural(total, 'bit')}")
        made = CaseUse(number, case, scope, layout)
        position = total
        for piece in layout.pieces:
            position -= piece.width
            if piece.kind == "fixed" and bits is not None:
                made.fixed.append(
                    build.eq(build.slice_(bits, position, piece.width), Const(piece.width, piece.value))
                )
        for placed in layout.fields.values():
            value = self._gather(placed, bits, total, path)
            scope.names[placed.name] = self._bind(placed, value, scope, path, made)
        if case.when is not None:
            made.when = body.expressions.condition(case.when, scope)
            if kind_of(made.when) > DECODE:
                raise Mistake(
                    case.when.at,
                    "a case is chosen when the instruction is decoded",
                    "use fields, contexts and constants; choose run-time values with `? :`",
                )
            if kind_of(made.when) == CONSTANT:
                if made.when == build.FALSE:
                    return None
                made.when = None
        return made

    @staticmethod
    def _gather(placed: PlacedField, bits: Expr | None, total: int, path: str) -> Expr:
        """A field's bits, in a case's picture as slices of the operand's, else as a field of its own."""
        if placed.appended or bits is None:
            return Field(placed.width, f"{path}.{placed.name}")
        result: Expr | None = None
        at = placed.width
        for high, low, end in sorted(placed.places, reverse=True):
            if high != at - 1:
                gap = Const(at - 1 - high, 0)
                result = gap if result is None else build.concat(result, gap)
            part = build.slice_(bits, total - end, high - low + 1)
            result = part if result is None else build.concat(result, part)
            at = low
        assert result is not None
        return build.concat(result, Const(at, 0)) if at else result

    def _bind(self, placed: PlacedField, value: Expr, scope: Scope, path: str, case: CaseUse) -> Binding:
        reference = placed.reference
        inner = f"{path}.{placed.name}"
        if isinstance(reference, s.OperandRef):
            if reference.name in self.spec.enums:
                return RawField(value, inner, reference.name)
            use = self.use(reference, scope, inner, None if placed.appended else value)
            case.nested.append(use)
            return Bound(use)
        return RawField(value, inner)
