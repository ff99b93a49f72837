"""The assembler's and disassembler's tables: ``generated/<target>/syntax.py``.

The tables' classes are described in `runtime.assembly.tables`; this module writes them as Python source and
must not
import them (the generator knows nothing of the runtime).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from generator.ir.nodes import Binary, Const, Context, Expr, Field, NextPc, Pc, ReadReg, Select, Slice, Unary
from generator.model.target import ContextVariable, Form, Operand, OperandCase, Piece, Target, Text

Gather = tuple[tuple[int, int, int], ...]


class NotDecodeTime(Exception):
    """An expression of the syntax depends on run-time state."""


@dataclass(slots=True)
class SyntaxTables:
    """What the template prints: declarations are Python expressions that build the tables' objects."""

    target: Target
    operands: list[tuple[str, str]] = field(default_factory=list)  # name and expression, inner ones first
    forms: list[tuple[str, str]] = field(default_factory=list)  # comment and expression
    aliases: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    contexts: list[str] = field(default_factory=list)
    symbols: list[tuple[str, dict[int, str]]] = field(default_factory=list)
    synonyms: list[tuple[str, dict[str, int]]] = field(default_factory=list)
    defaults: list[tuple[str, int]] = field(default_factory=list)


def syntax_tables(target: Target) -> SyntaxTables:
    """All tables of `target`, as source text."""
    return _Builder(target).build()


class _Builder:
    def __init__(self, target: Target) -> None:
        self.target = target
        self.tables = SyntaxTables(target)
        self._names: dict[str, str] = {}
        self._seen: dict[int, str] = {}  # by identity: lowering shares operands among forms
        self._taken: set[str] = set()
        self._sets = {item.name: item for item in target.sets}
        self._shaping = {
            name
            for expr in (
                *(item.when for item in target.sets),
                *(row.when for row in target.prefixes),
                *(context.value for context in target.contexts),
                *_values(target),
            )
            for name in _context_names(expr)
        }

    def build(self) -> SyntaxTables:
        target, tables = self.target, self.tables
        tables.forms = [(f"{form.span.file}:{form.span.line}", self._form(form)) for form in target.forms]
        for alias in target.aliases:
            expansion = _tuple(_text(text) for text in alias.expansion)
            use = f", use={alias.use!r}" if alias.use else ""
            unless = f", unless={_text(alias.unless)}" if alias.unless is not None else ""
            tables.aliases.append(f"Alias({_text(alias.text)}, {expansion}{use}{unless})")
        for row in target.prefixes:
            tables.prefixes.append(
                f"Prefix({row.mask:#04x}, {row.pattern:#04x}, {row.variable!r}, {row.value}, {row.fields!r}, "
                f"last={row.last}, mandatory={row.mandatory}, reject={row.policy == 'reject'}, "
                f"when={_tree(row.when)}, words={row.words!r})"
            )
        for item in target.sets:
            tables.sets.append(
                f"InstructionSet({item.name!r}, {item.unit}, {item.stream}, {_tree(item.when)})"
            )
        for context in target.contexts:
            tables.contexts.append(f"({context.name!r}, {context.width}, {self._context(context.value)})")
            usual = self._usual(context)
            if usual is not None:
                tables.defaults.append((context.name, usual))
        tables.symbols = list(self._symbols())
        accepted = [(item.name, item.accept) for item in target.registers]
        accepted += [(item.name, item.accept) for item in target.enums]
        tables.synonyms = [(name, dict(others)) for name, others in accepted if others]
        return tables

    @staticmethod
    def _context(value: Expr | None) -> str:
        try:
            return _tree(value)
        except NotDecodeTime:
            return "None"  # derived from state: the caller says what it is

    def _usual(self, context: ContextVariable) -> int | None:
        """What a mode is when nobody says otherwise: its `rest`, or what it is after a reset."""
        if isinstance(context.rest, Const):
            return context.rest.value
        # modes that shape encodings have their reset value; others (is the FPU on?) must not hide an
        # instruction
        if isinstance(context.value, ReadReg) and context.name in self._shaping:
            return next(r.reset for r in self.target.registers if r.name == context.value.register)
        return None

    def _symbols(self) -> Iterator[tuple[str, dict[int, str]]]:
        for register in self.target.registers:
            if register.count is not None:
                names = register.names or tuple(f"{register.name}{n}" for n in range(register.count))
                yield register.name, dict(enumerate(names))
        for bank in self.target.banks:
            table: dict[int, str] = {}
            for row in bank.rows:
                for number in range(row.first, row.last + 1):
                    suffix = str(number - row.first) if row.last > row.first else ""
                    table[number] = row.name + suffix
            yield bank.name, table
        for enum in self.target.enums:
            yield enum.name, {row.value: row.text for row in enum.rows}

    # --- forms
    # -------------------------------------------------------------------------------------------------------

    def _form(self, form: Form) -> str:
        instruction_set = self._sets[form.set_name]
        operands = {operand.path: operand for operand in form.operands}
        little_stream = instruction_set.stream and not self.target.big_endian
        head, rest = _split(
            form.picture, operands, instruction_set.unit, instruction_set.stream, little_stream
        )
        bits = sum(piece.width for piece in head)
        mask, pattern, gathers = _layout(head)
        ones = _should_be(head)
        fields = [(name, gathers.get(name, ())) for name, _ in form.fields if name in gathers]
        bound = _tuple(
            f"({operand.path!r}, {self._operand(operand)}, {gathers.get(operand.path, ())!r})"
            for operand in form.operands
        )
        placed = {piece.name for piece in form.picture if piece.kind == "field"}
        rest += [
            _Rest(0, tail_of=operand.path)  # bound by `with`: its units come last
            for operand in form.operands
            if operand.path not in placed and _has_tail(operand)
        ]
        allowed = [f"({name!r}, {_tree(condition)})" for name, condition in form.allow]
        parts = [
            f"{form.name!r}, {form.mnemonic!r}, {form.set_name!r}, {bits}, {mask:#x}, {pattern:#x}",
            f"ones={ones:#x}" if ones else "",
            f"fields={tuple(fields)!r}" if fields else "",
            f"operands={bound}" if form.operands else "",
            f"appended={_tuple(map(_appended, rest))}" if rest else "",
            f"when={_tree(form.when)}" if form.when is not None else "",
            f"texts={_tuple(map(_text, form.texts))}",
            f"needs={form.needs!r}" if form.needs else "",
            f"before={form.before!r}" if form.before else "",
            "no_prefix=True" if form.no_prefix else "",
            f"mandatory_prefixes={form.mandatory_prefixes!r}" if form.mandatory_prefixes else "",
            f"allow={_tuple(allowed)}" if allowed else "",
            f"widths={form.fields!r}" if form.fields else "",
        ]
        return f"Form({', '.join(part for part in parts if part)})"

    def _operand(self, operand: Operand) -> str:
        """The name of the constant that holds this operand class, declared on first use."""
        if id(operand) not in self._seen:
            self._seen[id(operand)] = self._declare(operand)
        return self._seen[id(operand)]

    def _declare(self, operand: Operand) -> str:
        cases = _tuple(self._case(operand, case) for case in operand.cases)
        kinds = {_number_kind(case.value) for case in operand.cases if case.value is not None}
        kind = next((k for k in ("address", "signed") if k in kinds), "unsigned")
        number = f", number={kind!r}" if kind != "unsigned" else ""
        expression = (
            f"Operand({operand.operand_class!r}, {operand.width}, {operand.value_width}, {cases}{number})"
        )
        if expression not in self._names:
            name = base = f"{operand.operand_class}_operand"
            count = 2
            while name in self._taken:
                name, count = f"{base}_{count}", count + 1
            self._taken.add(name)
            self._names[expression] = name
            self.tables.operands.append((name, expression))
        return self._names[expression]

    def _case(self, operand: Operand, case: OperandCase) -> str:
        prefix = operand.path + "."
        mask, pattern, gathers = _layout(case.picture)
        gathers = {_relative(name, prefix): pieces for name, pieces in gathers.items()}
        nested = {_relative(inner.path, prefix): inner for inner in case.operands}
        for path, width, low in operand.fields:
            gathers.setdefault(_relative(path, prefix), ((low, width, 0),))
        little = not self.target.big_endian
        _, rest = _split(
            case.appended, {_relative(p, prefix): i for p, i in nested.items()}, 8, True, little, whole=True
        )
        rest = [_renamed(piece, prefix) for piece in rest]
        inner_parts = _tuple(
            f"({name!r}, {self._operand(inner)}, {gathers.get(name, ())!r})" for name, inner in nested.items()
        )
        fields = tuple((name, pieces) for name, pieces in gathers.items() if name not in nested)
        mine = [_appended(piece) for piece in rest]
        appended_names = {name for piece in rest for name, _ in piece.fields}
        # a nested operand's own units stand before the case's
        ordered: list[str] = []
        for name, inner in nested.items():
            if name not in appended_names and _has_tail(inner):
                ordered.append(f"Appended(0, tail_of={name!r})")
        ordered += mine
        parts = [
            f"{mask:#x}, {pattern:#x}" if mask else "",
            f"fields={fields!r}" if fields else "",
            f"operands={inner_parts}" if nested else "",
            f"appended={_tuple(ordered)}" if ordered else "",
            f"when={_relative_tree(case.when, prefix)}" if case.when is not None else "",
            f"texts={_tuple(map(_text, case.texts))}" if case.texts else "",
            f"value={_relative_tree(case.value, prefix)}" if case.value is not None else "",
            f"register_file={case.register_file!r}" if case.register_file else "",
            f"register_index={_relative_tree(case.register_index, prefix)}"
            if case.register_index is not None
            else "",
        ]
        return f"Case({', '.join(part for part in parts if part)})"


# --- encodings
# -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rest:
    """Units behind the head."""

    width: int
    value: int = 0
    mask: int = 0
    fields: tuple[tuple[str, Gather], ...] = ()
    tail_of: str = ""


def _has_tail(operand: Operand) -> bool:
    return any(case.appended or any(_has_tail(inner) for inner in case.operands) for case in operand.cases)


def _split(
    picture: tuple[Piece, ...],
    operands: dict[str, Operand],
    unit: int,
    stream: bool,
    little: bool,
    whole: bool = False,
) -> tuple[list[Piece], list[_Rest]]:
    """The head of a picture, and what follows it: everything from the first appended tail or whole-unit
    field on.

    `whole`: there is no head, all of it is appended.
    """
    if not stream:
        return list(picture), []
    head: list[Piece] = []
    rest: list[_Rest] = []
    group: list[Piece] = []
    started = whole
    bits = 0

    def close() -> None:
        nonlocal group
        if group:
            mask, pattern, gathers = _layout(group)
            width = sum(piece.width for piece in group)
            rest.append(_Rest(width, pattern | _should_be(group), mask, tuple(gathers.items())))
            group = []

    for piece in picture:
        aligned = bits % unit == 0
        if (
            aligned
            and little
            and piece.kind == "field"
            and piece.low == 0
            and piece.width % unit == 0
            and piece.width >= unit
        ):
            started = True
            close()
            rest.append(_Rest(piece.width, fields=((piece.name, ((0, piece.width, 0),)),)))
        elif started:
            group.append(piece)
        else:
            head.append(piece)
        bits += piece.width
        if bits % unit == 0:
            if started:
                close()
            operand = operands.get(piece.name) if piece.kind == "field" else None
            if operand is not None and _has_tail(operand):
                started = True
                rest.append(_Rest(0, tail_of=piece.name))
    close()
    return head, rest


def _layout(pieces: Iterable[Piece]) -> tuple[int, int, dict[str, Gather]]:
    """Mask and pattern of the fixed bits, and where each field's bits lie, of pieces from the top down."""
    listed = list(pieces)
    place = sum(piece.width for piece in listed)
    mask = pattern = 0
    gathers: dict[str, Gather] = {}
    for piece in listed:
        place -= piece.width
        if piece.kind == "fixed":
            mask |= ((1 << piece.width) - 1) << place
            pattern |= piece.value << place
        elif piece.kind == "field":
            gathers[piece.name] = (*gathers.get(piece.name, ()), (place, piece.width, piece.low))
    return mask, pattern, gathers


def _should_be(pieces: Iterable[Piece]) -> int:
    """The ignored bits that are written as ones, of pieces from the top down."""
    word = 0
    for piece in pieces:
        word = word << piece.width | (piece.value if piece.kind == "ignored" else 0)
    return word


def _appended(piece: _Rest) -> str:
    if piece.tail_of:
        return f"Appended(0, tail_of={piece.tail_of!r})"
    fixed = f", {piece.value:#x}, {piece.mask:#x}" if piece.mask or piece.value else ""
    fields = f", fields={piece.fields!r}" if piece.fields else ""
    return f"Appended({piece.width}{fixed}{fields})"


def _renamed(piece: _Rest, prefix: str) -> _Rest:
    fields = tuple((_relative(name, prefix), gather) for name, gather in piece.fields)
    return _Rest(piece.width, piece.value, piece.mask, fields, _relative(piece.tail_of, prefix))


def _relative(path: str, prefix: str) -> str:
    return path.removeprefix(prefix)


# --- expressions and texts
# -------------------------------------------------------------------------------------------


def _tree(expr: Expr | None) -> str:
    return "None" if expr is None else repr(tree(expr))


def _relative_tree(expr: Expr | None, prefix: str) -> str:
    if expr is None:
        return "None"
    try:
        return repr(tree(expr, prefix))
    except NotDecodeTime:
        return "None"


def tree(expr: Expr, prefix: str = "") -> tuple[object, ...]:
    """`expr` as the nested tuple that `runtime.assembly.expressions` reads. Raises NotDecodeTime for dynamic
    values."""
    match expr:
        case Const(width=width, value=value):
            return ("const", width, value)
        case Field(width=width, name=name):
            return ("field", width, _relative(name, prefix))
        case Context(width=width, name=name):
            return ("field", width, name)
        case Pc(width=width):
            return ("field", width, "pc")
        case NextPc(width=width):
            return ("field", width, "next_pc")
        case Unary(width=width, op=op, operand=operand):
            return (op, width, tree(operand, prefix))
        case Slice(width=width, operand=operand, low=low):
            return ("slice", width, tree(operand, prefix), low)
        case Binary(width=width, op=op, left=left, right=right):
            return (op, width, tree(left, prefix), tree(right, prefix))
        case Select(width=width, condition=condition, then=then, otherwise=otherwise):
            return ("select", width, tree(condition, prefix), tree(then, prefix), tree(otherwise, prefix))
    raise NotDecodeTime(type(expr).__name__)


def _values(target: Target) -> Iterator[Expr]:
    """The values of all operands' cases."""
    pending = {id(operand): operand for form in target.forms for operand in form.operands}
    seen: set[int] = set()
    while pending:
        key, operand = pending.popitem()
        seen.add(key)
        for case in operand.cases:
            if case.value is not None:
                yield case.value
            pending.update({id(inner): inner for inner in case.operands if id(inner) not in seen})


def _context_names(expr: Expr | None) -> set[str]:
    match expr:
        case Context(name=name):
            return {name}
        case Unary(operand=operand) | Slice(operand=operand):
            return _context_names(operand)
        case Binary(left=left, right=right):
            return _context_names(left) | _context_names(right)
        case Select(condition=condition, then=then, otherwise=otherwise):
            return _context_names(condition) | _context_names(then) | _context_names(otherwise)
    return set()


def _number_kind(expr: Expr) -> str:
    """How a value prints: "address" if it is relative to pc, "signed" if it is sign-extended, else
    "unsigned"."""
    match expr:
        case Pc() | NextPc():
            return "address"
        case Unary(op="sext"):
            return "signed"
        case Unary(operand=operand) | Slice(operand=operand):
            return _number_kind(operand)
        case Binary(left=left, right=right):
            kinds = {_number_kind(left), _number_kind(right)}
        case Select(then=left, otherwise=right):
            kinds = {_number_kind(left), _number_kind(right)}
        case _:
            return "unsigned"
    return next((kind for kind in ("address", "signed") if kind in kinds), "unsigned")


def _text(text: Text) -> str:
    parts = []
    for part in text.parts:
        if isinstance(part, str):
            parts.append(repr(part))
            continue
        arguments = [repr(part.name)]
        arguments += [f"format={part.format!r}"] if part.format else []
        arguments += [f"default={part.default}"] if part.default is not None else []
        arguments += [f"prefix={part.prefix!r}"] if part.prefix else []
        arguments += [f"suffix={part.suffix!r}"] if part.suffix else []
        parts.append(f"Hole({', '.join(arguments)})")
    dialect = f", {text.dialect!r}" if text.dialect else ""
    use = f", use={text.use!r}" if text.use else ""
    return f"Text({_tuple(parts)}{dialect}{use})"


def _tuple(items: Iterable[str]) -> str:
    listed = list(items)
    return f"({listed[0]},)" if len(listed) == 1 else f"({', '.join(listed)})"
