"""Instructions to forms: rows, axes and pictures expanded, behaviours lowered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod

from generator.ir import build
from generator.ir.lower.accesses import mark_updates
from generator.ir.lower.addresses import with_shared_addresses
from generator.ir.lower.body import Body
from generator.ir.lower.entities import ContextEntity, Elaboration
from generator.ir.lower.family import Instruction
from generator.ir.lower.models import OperandModels
from generator.ir.lower.operands import MAX_ALTERNATIVES, OperandClasses, OperandUse, combine
from generator.ir.lower.pictures import Layout, lay_out
from generator.ir.lower.places import (
    ChoicePlace,
    ConcatPlace,
    ExtendedPlace,
    LazyPlace,
    MovingSlicePlace,
    Place,
    RegisterPlace,
    SlicePlace,
)
from generator.ir.lower.report import Mistake, did_you_mean, plural
from generator.ir.lower.scope import Binding, Bound, Column, Number, RawField, Scope
from generator.ir.lower.state import span_of
from generator.ir.lower.texts import TextParser, holes
from generator.ir.nodes import CONSTANT, DECODE, Binary, Const, Context, Expr, Field, kind_of
from generator.language import syntax as s
from generator.model.target import Form, InstructionSet, Piece, PrefixRow, Text, Variant

MAX_PICTURE_BITS = 512
MAX_EXPANSIONS = 4096  # of one row


@dataclass
class AxisValue:
    """One value of an axis: its names, what decode-time condition it stands for, and its part of the form's
    name.
    """

    names: dict[str, Binding] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    condition: Expr | None = None
    suffix: str = ""
    context: str = ""


@dataclass
class Expansion:
    """One row of one instruction for one value of each axis."""

    instruction: Instruction
    mnemonic: str
    row: s.Row | None
    scope: Scope
    texts: dict[str, str]
    conditions: list[Expr]
    suffixes: list[str]
    axis_context: tuple[str, ...] = ()


@dataclass
class Encoding:
    """One `bits` line of an expansion."""

    clause: s.BitsClause
    layout: Layout
    picture: list[Piece]
    scope: Scope
    operands: list[OperandUse]
    raw: list[tuple[str, int]]
    mandatory: tuple[int, ...]
    stream: bool

    @property
    def width(self) -> int:
        return sum(p.width for p in self.picture)


class FormLowering:
    """Lowers all instructions of a target."""

    def __init__(
        self,
        spec: Elaboration,
        classes: OperandClasses,
        sets: list[InstructionSet],
        prefixes: list[PrefixRow],
    ) -> None:
        self.spec = spec
        self.classes = classes
        self.models = OperandModels(spec, classes)
        self.sets = {item.name: item for item in sets}
        self.mandatory = {row.pattern for row in prefixes if row.mandatory}
        self.forms: list[Form] = []
        self._names: set[str] = set()

    def lower(self, instruction: Instruction) -> None:
        """Append the forms of one instruction. Mistakes are reported, form by form."""
        group = self.sets.get(instruction.set_name)
        if group is None:
            return  # its set does not exist for these parameters
        report = self.spec.report
        item = instruction.item
        if not item.bits:
            report.add(Mistake(item.at, f"`{item.name.name}` has no encoding", "add a `bits` line"))
            return
        for expansion in self._expansions(instruction):
            with report.within(*expansion.axis_context), report.recover(item.at):
                if not self._possible(expansion):
                    continue
                first = len(self.forms)
                for number, clause in enumerate(item.bits):
                    with report.recover(clause.at):
                        self._form(expansion, clause, number, group)
                self.forms[first:] = _share_accepted(self.forms[first:])

    # --- rows and axes -----------------------------------------------------------------------

    def _expansions(self, instruction: Instruction) -> Iterator[Expansion]:
        item, report = instruction.item, self.spec.report
        try:
            rows = self._rows(item)
        except Mistake as mistake:
            report.add(mistake)
            return
        for row in rows:
            with (
                report.within(*([f"row `{row.mnemonic.name}`"] if row is not None else [])),
                report.recover(item.at),
            ):
                base, texts = self._columns(item, row)
                axes = [list(self._axis(axis, base)) for axis in item.axes]
                if prod(map(len, axes)) > MAX_EXPANSIONS:
                    raise Mistake(item.at, f"the axes make more than {MAX_EXPANSIONS} forms")
                for values in product(*axes):
                    scope = base.inner()
                    all_texts = dict(texts)
                    for value in values:
                        scope.names.update(value.names)
                        all_texts.update(value.texts)
                    yield Expansion(
                        instruction,
                        row.mnemonic.name if row is not None else item.name.name,
                        row,
                        scope,
                        all_texts,
                        [v.condition for v in values if v.condition is not None],
                        [v.suffix for v in values if v.suffix],
                        tuple(v.context for v in values if v.context),
                    )

    def _rows(self, item: s.InsnItem) -> list[s.Row | None]:
        rows = item.rows
        if item.rows_name is not None:
            table = self.spec.family.rows.get(item.rows_name.name)
            if table is None:
                raise Mistake(
                    item.rows_name.at,
                    f"there are no rows `{item.rows_name.name}`",
                    did_you_mean(item.rows_name.name, self.spec.family.rows),
                )
            rows = table.rows
        if rows is None:
            if item.formals:
                raise Mistake(item.at, f"`{item.name.name}` has columns but no rows", "add `each { ... }`")
            return [None]
        if not item.formals:
            raise Mistake(
                item.at, f"`{item.name.name}` has rows but no columns", "insn name[op, column, ...]"
            )
        good: list[s.Row | None] = []
        for row in rows:
            if len(row.cells) != len(item.formals) - 1:
                self.spec.report.add(
                    Mistake(
                        row.at,
                        f"this row has {plural(len(row.cells) + 1, 'column')}, "
                        f"and the header {len(item.formals)}",
                        label=f"{len(row.cells) + 1} columns",
                        related=((item.formals[0].at, "the header"),),
                        remedy=f"the columns are {', '.join(f.name for f in item.formals)}",
                    )
                )
            else:
                good.append(row)
        return good

    def _columns(self, item: s.InsnItem, row: s.Row | None) -> tuple[Scope, dict[str, str]]:
        scope, texts = Scope(), {}
        if row is None:
            return scope, {item.formals[0].name: item.name.name} if item.formals else {}
        texts[item.formals[0].name] = row.mnemonic.name
        body = Body(self.spec, pure=True)
        for formal, cell in zip(item.formals[1:], row.cells, strict=True):
            if formal.name in scope.names:
                raise Mistake(formal.at, f"the column `{formal.name}` stands twice")
            scope.names[formal.name] = self._cell(cell, body)
            if isinstance(cell, s.Str):
                texts[formal.name] = cell.text
        return scope, texts

    @staticmethod
    def _cell(cell: s.Expr, body: Body) -> Binding:
        if isinstance(cell, s.Number):
            return Number(cell.value, cell.digits)
        if isinstance(cell, (s.UnaryOp, s.BinaryOp)) and not _names_something(cell):
            value = body.constants.value(cell, Scope())
            if value is not None:
                return Number(value)
        return Column(cell)

    def _axis(self, axis: s.Axis, base: Scope) -> Iterator[AxisValue]:
        body = Body(self.spec, pure=True)
        for number, node in enumerate(axis.values):
            bit: dict[str, Binding] = {}
            if axis.bit is not None:
                value = body.widths.require_const(axis.bits[number], base, "an axis' bit")
                bit[axis.bit.name] = Number(value, getattr(axis.bits[number], "digits", None))
            entity = self.spec.entities.get(node.name) if isinstance(node, s.Name) else None
            if isinstance(node, s.Str):
                yield AxisValue(
                    {**bit, axis.name.name: Column(node)}, {axis.name.name: node.text}, None, node.text, ""
                )
            elif isinstance(entity, ContextEntity):
                if not entity.domain:
                    raise Mistake(
                        node.at,
                        f"the context `{entity.name}` has no finite domain",
                        f"declare it: context {entity.name} : ... in 16, 32",
                    )
                for value in entity.domain:
                    condition = build.eq(Context(entity.width, entity.name), Const(entity.width, value))
                    yield AxisValue(
                        {**bit, axis.name.name: Number(value)},
                        {},
                        condition,
                        str(value),
                        f"{axis.name.name} = {value}",
                    )
            else:
                value = body.widths.require_const(node, base, "an axis' value")
                yield AxisValue(
                    {**bit, axis.name.name: Number(value)},
                    {},
                    None,
                    str(value),
                    f"{axis.name.name} = {value}",
                )

    def _possible(self, expansion: Expansion) -> bool:
        """Whether no `when` excludes the expansion by constants alone."""
        body = Body(self.spec, pure=True)
        return (
            all(
                body.constants.condition(when, expansion.scope) is not False
                for when in expansion.instruction.item.whens
            )
            and build.FALSE not in expansion.conditions
        )

    # --- encodings ---------------------------------------------------------------------------

    def _encoding(self, expansion: Expansion, clause: s.BitsClause, group: InstructionSet) -> Encoding:
        scope = expansion.scope.inner()
        layout = lay_out(clause.picture, expansion.scope, self.classes, Body(self.spec, pure=True), "")
        if layout.appended:
            raise Mistake(clause.at, "`+` stands in operands' cases only")
        mandatory = self._mandatory(clause.picture, layout, group)
        picture = layout.pieces[len(mandatory) :]
        width = sum(p.width for p in picture)
        if width == 0 or width % group.unit:
            remedy = (
                f"{'add' if width % group.unit > group.unit // 2 or not width else 'take away'} "
                + plural(min(width % group.unit, -width % group.unit) or group.unit, "bit")
            )
            raise Mistake(
                clause.picture.at,
                f"the picture has {plural(width, 'bit')}, which is no multiple of {group.unit}",
                remedy,
                label=" + ".join(str(p.width) for p in picture),
            )
        if width > MAX_PICTURE_BITS:
            raise Mistake(clause.picture.at, f"a picture of {width} bits", f"at most {MAX_PICTURE_BITS}")
        encoding = Encoding(clause, layout, picture, scope, [], [], mandatory, group.stream)
        for placed in layout.fields.values():
            reference = placed.reference
            if isinstance(reference, s.OperandRef) and reference.name not in self.spec.enums:
                use = self.classes.use(reference, expansion.scope, placed.name, None)
                encoding.operands.append(use)
                scope.names[placed.name] = Bound(use)
            else:
                format_ = reference.name if isinstance(reference, s.OperandRef) else ""
                scope.names[placed.name] = RawField(Field(placed.width, placed.name), placed.name, format_)
                encoding.raw.append((placed.name, placed.width))
        for name, reference in clause.withs:
            if name.name in layout.fields or any(u.path == name.name for u in encoding.operands):
                raise Mistake(name.at, f"`{name.name}` is bound already")
            use = self.classes.use(reference, expansion.scope, name.name, None)
            if use.width:
                raise Mistake(
                    reference.at,
                    f"`{use.item.name}` has {plural(use.width, 'bit')}, and `with` gives it none",
                    "place it in the picture",
                )
            encoding.operands.append(use)
            scope.names[name.name] = Bound(use)
        if not group.stream:
            for use in encoding.operands:
                if use.appends:
                    raise Mistake(
                        clause.at,
                        f"`{use.item.name}` appends units, and this set's pictures are one number each",
                        "declare the set as a `stream`",
                    )
        return encoding

    def _mandatory(self, picture: s.Picture, layout: Layout, group: InstructionSet) -> tuple[int, ...]:
        """The bytes at the start of a stream's picture that are mandatory prefixes."""
        found: list[int] = []
        if not group.stream:
            return ()
        for element in picture.elements:
            if isinstance(element, s.PicFixed) and element.is_byte and element.value in self.mandatory:
                found.append(element.value)
            elif isinstance(element, s.PicField) and layout.prefixes.get(element.name) in self.mandatory:
                found.append(layout.prefixes[element.name])
            elif isinstance(element, s.PicField) and layout.prefixes.get(element.name) == 0:
                continue
            elif not isinstance(element, s.PicNoPrefix):
                break
        return tuple(found)

    # --- forms -------------------------------------------------------------------------------

    def _form(self, expansion: Expansion, clause: s.BitsClause, number: int, group: InstructionSet) -> None:
        instruction, item = expansion.instruction, expansion.instruction.item
        encoding = self._encoding(expansion, clause, group)
        when = self._when(expansion, encoding)
        if when == build.FALSE:
            return
        variants = self._variants(expansion, encoding)
        allow = tuple(
            (name.name, self._allow_condition(clause_.when, name, encoding))
            for clause_ in item.allows
            for name in clause_.names
        )
        name = self._unique("_".join([expansion.mnemonic, *expansion.suffixes]))
        needs = dict.fromkeys(n.name for n in (*instruction.needs, *item.needs))
        self.forms.append(
            Form(
                name=name,
                mnemonic=expansion.mnemonic,
                instruction=item.name.name,
                set_name=group.name,
                needs=tuple(needs),
                picture=tuple(encoding.picture),
                no_prefix=encoding.layout.no_prefix,
                mandatory_prefixes=encoding.mandatory,
                fields=tuple(encoding.raw),
                operands=tuple(self.models.model(u) for u in encoding.operands),
                when=when,
                allow=allow,
                undefined=self._undefined(item, encoding),
                before=tuple(b.name for b in item.before),
                restartable=item.restartable,
                texts=self._texts(expansion, encoding),
                doc=item.doc,
                variants=variants,
                span=span_of(expansion.row.mnemonic.at if expansion.row is not None else item.at),
            )
        )

    def _unique(self, name: str) -> str:
        unique, count = name, 1
        while unique in self._names:
            count += 1
            unique = f"{name}_{count}"
        self._names.add(unique)
        return unique

    def _body(self, encoding: Encoding, choices: dict[str, int] | None = None, pure: bool = False) -> Body:
        return Body(
            self.spec, pure=pure, choices=choices, opcode_width=0 if encoding.stream else encoding.width
        )

    def _when(self, expansion: Expansion, encoding: Encoding) -> Expr | None:
        conditions = list(expansion.conditions)
        for node in expansion.instruction.item.whens:
            condition = self._body(encoding, pure=True).expressions.condition(node, encoding.scope)
            if kind_of(condition) > DECODE:
                raise Mistake(
                    node.at,
                    "`when` is decided when the instruction is decoded",
                    "use fields, columns, parameters and contexts; `guard` is for run-time conditions",
                )
            if condition == build.FALSE or self._outside_domains(condition):
                return build.FALSE
            if kind_of(condition) != CONSTANT:
                conditions.append(condition)
        return build.conjunction(conditions)

    def _outside_domains(self, condition: Expr) -> bool:
        """Whether a condition demands a value of a context that this target doesn't have (64-bit mode)."""
        match condition:
            case Binary(op="and", left=left, right=right) if condition.width == 1:
                return self._outside_domains(left) or self._outside_domains(right)
            case Binary(op="eq", left=Context(name=name), right=Const(value=value)):
                entity = self.spec.entities.get(name)
                return isinstance(entity, ContextEntity) and value not in (entity.domain or (value,))
        return False

    def _allow_condition(self, node: s.Expr | None, name: s.Ident, encoding: Encoding) -> Expr | None:
        entity = self.spec.entities.get(name.name)
        if not isinstance(entity, ContextEntity) or entity.item is not None:
            known = [
                n for n, e in self.spec.entities.items() if isinstance(e, ContextEntity) and e.item is None
            ]
            raise Mistake(
                name.at, f"there is no prefix variable `{name.name}`", did_you_mean(name.name, known)
            )
        if node is None:
            return None
        condition = self._body(encoding, pure=True).expressions.condition(node, encoding.scope)
        if kind_of(condition) > DECODE:
            raise Mistake(node.at, "`allow` is decided when the instruction is decoded")
        return condition

    def _undefined(self, item: s.InsnItem, encoding: Encoding) -> tuple[tuple[str, Expr | None], ...]:
        result: list[tuple[str, Expr | None]] = []
        for clause in item.undefined:
            condition = None
            if clause.when is not None:
                condition = self._body(encoding, pure=True).expressions.condition(clause.when, encoding.scope)
                if condition == build.FALSE:
                    continue
            for node in clause.places:
                place = self._body(encoding, pure=True).place(node, encoding.scope)
                names = list(dict.fromkeys(_registers(place)))
                if not names:
                    raise Mistake(node.at, "this is no register that could be undefined")
                result += [(name, None if condition == build.TRUE else condition) for name in names]
        return tuple(result)

    def _texts(self, expansion: Expansion, encoding: Encoding) -> tuple[Text, ...]:
        item = expansion.instruction.item
        scope_numbers = {
            name: str(binding.value)
            for scope in _scopes(expansion.scope)
            for name, binding in scope.names.items()
            if isinstance(binding, Number)
        }
        parser = TextParser({**scope_numbers, **expansion.texts}, self.models.defaults)
        known = [*(u.path for u in encoding.operands), *(n for n, _ in encoding.raw)]
        result: list[Text] = []
        for node in item.texts:
            with self.spec.report.recover(node.at):
                text = parser.parse(node)
                for hole in holes([text]):
                    self.models.check_hole(hole, node, known)
                result.append(_with_formats(text, encoding.scope))
        return tuple(result)

    # --- behaviours --------------------------------------------------------------------------

    def _variants(self, expansion: Expansion, encoding: Encoding) -> tuple[Variant, ...]:
        item = expansion.instruction.item
        ways = 1
        for use in encoding.operands:
            ways *= len(use.alternatives())
        if ways > MAX_ALTERNATIVES:
            raise Mistake(
                item.at,
                f"the operands' cases make {ways} behaviours of one encoding",
                f"at most {MAX_ALTERNATIVES}: unite cases, for example with `? :` over decode-time values",
            )
        variants: list[Variant] = []
        for choices, conditions in combine([u.alternatives() for u in encoding.operands]):
            condition = build.conjunction(conditions)
            if condition == build.FALSE:
                continue
            body = self._body(encoding, dict(choices))
            scope = encoding.scope.inner()
            if not item.execs:
                raise Mistake(
                    item.at,
                    f"`{item.name.name}` has no behaviour",
                    "add an `exec` line; `exec {}` does nothing",
                )
            opening = expansion.instruction.first
            if opening is not None:
                body.statements.lower_all(opening.body, encoding.scope.inner())
            for block in item.execs:
                body.statements.lower_all(block.body, scope)
            guard = None
            if item.guards:
                pure = self._body(encoding, dict(choices), pure=True)
                guard = build.conjunction(
                    [pure.expressions.condition(g, encoding.scope) for g in item.guards]
                )
            updated = with_shared_addresses(body.draft.out)
            variants.append(
                Variant(choices=choices, condition=condition, guard=guard, body=mark_updates(updated))
            )
        if not variants:
            raise Mistake(item.at, "no case of the operands is possible here", "see the cases' `when`s")
        first = variants[0]
        if all(v.body == first.body and v.guard == first.guard for v in variants[1:]):
            return (Variant(choices=(), condition=None, guard=first.guard, body=first.body),)
        return tuple(variants)


def _share_accepted(forms: list[Form]) -> list[Form]:
    """The encodings of one instruction, each with those `accept` texts that tell as much of its picture as
    its usual text does.

    So `shl {dst}` means the encoding by one, not the one with a count in its picture. A text that tells too
    little for every encoding stays: `generator.checks.assigned` reports it.
    """

    def tells(form: Form, text: Text) -> bool:
        usual = next((t for t in form.texts if not t.dialect and not t.use), text)
        told = {hole.name.partition(".")[0] for hole in holes([text])}
        placed = {piece.name for piece in form.picture if piece.kind == "field"}
        return not {hole.name.partition(".")[0] for hole in holes([usual])} & placed - told

    lacking = [
        {text for text in form.texts if text.use and not tells(form, text)} for form in forms
    ]
    hopeless = set.intersection(*lacking) if lacking else set()
    return [
        form.model_copy(update={"texts": tuple(t for t in form.texts if t not in without - hopeless)})
        for form, without in zip(forms, lacking, strict=True)
    ]


def _scopes(scope: Scope) -> Iterator[Scope]:
    current: Scope | None = scope
    while current is not None:
        yield current
        current = current.outer


def _with_formats(text: Text, scope: Scope) -> Text:
    """Fields that an enum describes print as its members unless the text says otherwise."""
    parts = []
    for part in text.parts:
        if not isinstance(part, str) and not part.format:
            binding = scope.find(part.name)
            if isinstance(binding, RawField) and binding.format:
                part = part.model_copy(update={"format": binding.format})
        parts.append(part)
    return text.model_copy(update={"parts": tuple(parts)})


def _registers(place: Place) -> Iterator[str]:
    """The registers that a place consists of."""
    match place:
        case RegisterPlace(element=element) | LazyPlace(element=element):
            yield element.model.name
        case SlicePlace(base=base) | MovingSlicePlace(base=base) | ExtendedPlace(base=base):
            yield from _registers(base)
        case ConcatPlace(parts=parts):
            for part in parts:
                yield from _registers(part)
        case ChoicePlace(then=then, otherwise=otherwise):
            yield from _registers(then)
            yield from _registers(otherwise)
        case _:
            return


def _names_something(cell: s.Expr) -> bool:
    """Whether names stand in a cell's arithmetic: the behaviour's locals may hide what they are elsewhere."""
    match cell:
        case s.Number():
            return False
        case s.UnaryOp(operand=operand):
            return _names_something(operand)
        case s.BinaryOp(left=left, right=right):
            return _names_something(left) or _names_something(right)
    return True
