"""State and decode context: registers, enums, traps, contexts, prefixes; and the names that behaviours look
up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from generator.ir import build
from generator.ir.lower.body import Body
from generator.ir.lower.entities import (
    Ambiguous,
    ContextEntity,
    Elaboration,
    EnumEntity,
    EnumMember,
    SharedFunction,
    Special,
    StateElement,
    Window,
)
from generator.ir.lower.report import Mistake, Poisoned, did_you_mean, plural
from generator.ir.lower.scope import Number, Scope, Values
from generator.ir.nodes import DECODE, Binary, Context, Expr, Local, ReadReg, Select, Slice, Unary, kind_of
from generator.language import syntax as s
from generator.language.source import Pos
from generator.model.target import (
    BitField,
    ContextVariable,
    Enum,
    EnumRow,
    LazyFlag,
    PrefixRow,
    Register,
    RegisterWindow,
    Span,
    Trap,
)

MAX_COUNT = 4096
_NAME_RANGE = re.compile(r"((?:\S*[^\s\d-])?)(\d+)-((?:\S*[^\s\d-])?)(\d+)")


def span_of(at: Pos) -> Span:
    place = at.location
    return Span(file=place.file, line=place.line, column=place.column, length=place.length)


def elaborate_state(spec: Elaboration) -> None:
    """Fill `spec` with everything that behaviours can name. Mistakes are reported; broken names are
    remembered.
    """
    family, report = spec.family, spec.report
    spec.entities["next_pc"] = Special("next_pc")
    spec.entities["opcode_bits"] = Special("opcode_bits")
    for name, value in spec.params.items():
        spec.entities[name] = Number(value)
    for enum in family.enums.values():
        with report.recover(enum.at):
            _enum(spec, enum)
    for register in family.registers.values():
        spec.broken.add(register.name)
        with report.recover(register.at):
            spec.entities[register.name] = _register(spec, register)
            spec.broken.discard(register.name)
    for context in family.contexts.values():
        spec.broken.add(context.name)
        with report.recover(context.at):
            _context(spec, context)
            spec.broken.discard(context.name)
    for prefix in family.prefixes:
        for row in prefix.rows:
            with report.recover(row.at):
                _prefix_variables(spec, row)
    for view in family.views.values():
        spec.entities[view.name] = view
    for fn in family.functions.values():
        spec.broken.add(fn.name)
        with report.recover(fn.at):
            spec.entities[fn.name] = _shared(spec, fn) if fn.shared else fn
            spec.broken.discard(fn.name)
    for parts in family.banks.values():
        with report.recover(parts[0].at):
            _bank(spec, parts[0])
    pc = spec.entities.get("pc")
    if isinstance(pc, StateElement) and pc.model.count is None:
        spec.pc_width = pc.width
    elif "pc" not in spec.broken:
        report.add(
            Mistake(family.isa.at, "the family has no program counter", "declare it: reg pc : bits(32)")
        )
        spec.pc_width = 64
    # Expressions need all names, so they come second.
    for register in family.registers.values():
        element = spec.entities.get(register.name)
        if isinstance(element, StateElement):
            with report.recover(register.at):
                _finish_register(spec, register, element)
    for trap in family.traps.values():
        with report.recover(trap.at):
            spec.traps[trap.name] = _trap(spec, trap, len(spec.traps))
    if family.little is not None:
        with report.recover(family.little.at):
            little = Body(spec, pure=True).expressions.condition(family.little.when, Scope())
            if kind_of(little) > DECODE:
                raise Mistake(
                    family.little.when.at,
                    "the byte order is decided when an instruction is decoded",
                    "derive a context from the state: context name : bits(1) = ...",
                )
            spec.little = little
    for context in family.contexts.values():
        entity = spec.entities.get(context.name)
        if isinstance(entity, ContextEntity):
            with report.recover(context.at):
                _finish_context(spec, context, entity)
    _check_cycles(spec)


def _enum(spec: Elaboration, item: s.EnumItem) -> None:
    body = Body(spec, pure=True)
    width = body.widths.type_width(item.type, Scope())
    entity = EnumEntity(item.name, width, {})
    value = -1
    for row in item.rows:
        value = (
            body.widths.require_const(row.value, Scope(), "an enum's value")
            if row.value is not None
            else value + 1
        )
        if not 0 <= value < 1 << width:
            raise Mistake(row.at, f"{value} does not fit in {plural(width, 'bit')}")
        if row.name in entity.members:
            raise Mistake(row.at, f"`{row.name}` stands twice in enum `{item.name}`")
        member = EnumMember(item.name, width, value)
        entity.members[row.name] = member
        other = spec.entities.get(row.name)
        if other is None:
            spec.entities[row.name] = member
        elif isinstance(other, EnumMember):
            spec.entities[row.name] = Ambiguous((other.enum, item.name))
        elif isinstance(other, Ambiguous):
            spec.entities[row.name] = Ambiguous((*other.enums, item.name))
    spec.enums[item.name] = entity


def enum_model(spec: Elaboration, item: s.EnumItem) -> Enum | None:
    entity = spec.enums.get(item.name)
    if entity is None:
        return None
    rows = tuple(
        EnumRow(
            name=r.name, value=entity.members[r.name].value, text=r.text if r.text is not None else r.name
        )
        for r in item.rows
        if r.name in entity.members
    )
    accept: tuple[tuple[str, int], ...] = ()
    if item.accept is not None:
        with spec.report.recover(item.accept.at):
            accept = accepted_names(item.accept, [row.text for row in rows], 1 << entity.width)
    return Enum(name=item.name, width=entity.width, rows=rows, accept=accept)


# --- registers ----------------------------------------------------------------------------------------------


def _register(spec: Elaboration, item: s.RegItem) -> StateElement:
    body, scope = Body(spec, pure=True), Scope()
    width = body.widths.type_width(item.type, scope)
    if width > 128:
        raise Mistake(item.type.at, f"a register of {width} bits", "registers have up to 128 bits")
    count = None
    if item.count is not None:
        count = body.widths.require_const(item.count, scope, "the number of registers")
        if not 1 <= count <= MAX_COUNT:
            raise Mistake(item.count.at, f"a file of {count} registers", f"1 to {MAX_COUNT}")
    if item.zero is not None and (count is None or item.zero >= count):
        raise Mistake(item.at, f"`{item.name}` has no entry {item.zero} that could be zero")
    window = None
    stored = count
    if item.window is not None:
        if count is None:
            raise Mistake(item.at, "only a file can have windows", f"regs {item.name}[24] ... window ...")
        pointer, stride, windows = item.window
        stored = stride * windows
        if not 1 <= stored <= MAX_COUNT or count > stored:
            raise Mistake(
                item.at,
                f"{windows} windows with a stride of {stride} are {stored} registers, and one window "
                f"has {count}",
            )
        window = Window(pointer, stride, stored, count)
    names = _entry_names(item, count or 0) if item.names is not None else ()
    accept: tuple[tuple[str, int], ...] = ()
    if item.accept is not None:
        taken = names or tuple(f"{item.name}{n}" for n in range(count or 0))
        accept = accepted_names(item.accept, taken, count or 0)
    lazy = None
    visible = width
    if item.lazy is not None:
        if width != 1 or count is not None:
            raise Mistake(item.at, "only a register of 1 bit is lazy")
        width = body.widths.type_width(item.lazy.type, scope)
        lazy = LazyFlag(argument=Local(width, item.lazy.name), definition=Local(width, item.lazy.name))
    model = Register(
        name=item.name,
        width=width,
        count=stored,
        zero=item.zero,
        names=names,
        accept=accept,
        fields=tuple(_bit_field(body, f, width) for f in item.fields),
        lazy=lazy,
        hidden=item.hidden,
        window=RegisterWindow(pointer=window.pointer, stride=window.stride, visible=window.visible)
        if window
        else None,
        span=span_of(item.at),
    )
    return StateElement(model, visible, item, window)


def _entry_names(item: s.RegItem, count: int) -> tuple[str, ...]:
    assert item.names is not None
    return entry_names(item.names, item.name, count, item.at)


def entry_names(text: str, file: str, count: int, at: Pos) -> tuple[str, ...]:
    """`zero ra t0-t2`: names of a file's entries; `-` is an entry without a name of its own."""
    names: list[str] = []
    for word in text.split():
        names += [f"{file}{len(names)}"] if word == "-" else _name_range(word, at)
    if len(names) != count:
        raise Mistake(at, f"{plural(len(names), 'name')} for {count} registers")
    doubles = {n for n in names if names.count(n) > 1}
    if doubles:
        raise Mistake(at, f"the name `{sorted(doubles)[0]}` stands twice")
    return tuple(names)


def _name_range(word: str, at: Pos) -> list[str]:
    """`t0-t2` is three names, any other word one."""
    match = _NAME_RANGE.fullmatch(word)
    if match is None:
        return [word]
    prefix, first, other, last = match.groups()
    if prefix != other or int(last) < int(first) or int(last) - int(first) >= MAX_COUNT:
        raise Mistake(at, f"`{word}` is no range of names", "t0-t2")
    return [f"{prefix}{n}" for n in range(int(first), int(last) + 1)]


def accepted_names(text: s.TextNode, taken: Sequence[str], count: int) -> tuple[tuple[str, int], ...]:
    """`x0-x31 fp=8`: further names of entries, each for the number behind the one before, or for its own."""
    found: dict[str, int] = {}
    number = -1
    for word in text.text.split():
        name, equals, own = word.partition("=")
        if equals and not own.isdigit():
            raise Mistake(text.at, f"`{word}` gives a name no number", "fp=8")
        number = int(own) - 1 if equals else number
        for each in _name_range(name, text.at):
            number += 1
            if number >= count:
                raise Mistake(text.at, f"`{each}` would be number {number} of {count}")
            if each in found or each in taken:
                raise Mistake(text.at, f"the name `{each}` stands twice")
            found[each] = number
    return tuple(found.items())


def _bit_field(body: Body, item: s.FieldDef, width: int) -> BitField:
    first = body.widths.require_const(item.first, Scope(), "a field's bit")
    last = first if item.last is None else body.widths.require_const(item.last, Scope(), "a field's bit")
    high, low = (width - 1 - first, width - 1 - last) if item.at.source.msb0 else (first, last)
    if high < low:
        raise Mistake(item.at, f"the field {first}:{last} is upside down", f"write {last}:{first}")
    if low < 0 or high >= width:
        raise Mistake(item.at, f"the field `{item.name}` leaves a register of {plural(width, 'bit')}")
    return BitField(name=item.name, high=high, low=low)


def _finish_register(spec: Elaboration, item: s.RegItem, element: StateElement) -> None:
    body = Body(spec, pure=True)
    changes: dict[str, object] = {}
    if item.lazy is not None and element.model.lazy is not None:
        argument = element.model.lazy.argument
        scope = Scope(names={item.lazy.name: Values((argument,))})
        definition = body.expressions.condition(item.lazy.definition, scope)
        changes["lazy"] = LazyFlag(argument=argument, definition=definition)
    if item.reset is not None:
        value = body.expr(item.reset, Scope(), element.model.width)
        if not hasattr(value, "value"):
            raise Mistake(item.reset.at, "the value after reset must be a constant")
        changes["reset"] = value.value
    if changes:
        element.model = element.model.model_copy(update=changes)


# --- traps --------------------------------------------------------------------------------------------------


def _trap(spec: Elaboration, item: s.TrapItem, number: int) -> Trap:
    body, scope = Body(spec, pure=True), Scope()
    parameters: list[tuple[str, int]] = []
    for parameter in item.params:
        width = body.widths.type_width(parameter.type, scope)
        if width > 64:
            raise Mistake(parameter.at, f"a trap's argument of {width} bits", "at most 64")
        parameters.append((parameter.name, width))
        scope.names[parameter.name] = Values((Local(width, parameter.name),))
    width = body.widths.of(item.code, scope) or 64
    if width > 64:
        raise Mistake(item.code.at, f"a trap's code of {width} bits", "at most 64")
    code = build.zext(body.expr(item.code, scope, width), 64)
    return Trap(
        name=item.name,
        parameters=tuple(parameters),
        code=code,
        text=item.text,
        number=number,
        span=span_of(item.at),
    )


# --- contexts and prefixes ----------------------------------------------------------------------------------


def _context(spec: Elaboration, item: s.ContextItem) -> None:
    body, scope = Body(spec, pure=True), Scope()
    width = body.widths.type_width(item.type, scope)
    if width > 64:
        raise Mistake(item.type.at, f"a context of {width} bits", "at most 64")
    stepped = item.next is not None
    if stepped == (item.value is not None):
        raise Mistake(
            item.at,
            f"the context `{item.name}` needs either `= value` or `next value`",
            "derive it from state, or step it with each instruction",
        )
    domain = tuple(body.widths.require_const(v, scope, "a value of the domain") for v in item.domain)
    for value, node in zip(domain, item.domain, strict=True):
        if not 0 <= value < 1 << width:
            raise Mistake(node.at, f"{value} does not fit in {plural(width, 'bit')}")
    if stepped:
        declared = spec.entities.get(item.name)
        if isinstance(declared, StateElement):
            if declared.width != width or declared.model.count is not None:
                raise Mistake(
                    item.at,
                    f"the register `{item.name}` and the context have different types",
                    related=((declared.item.at, "register"),),
                )
            spec.stepped[item.name] = declared.model
        else:
            spec.stepped[item.name] = Register(name=item.name, width=width, span=span_of(item.at))
    spec.entities[item.name] = ContextEntity(item.name, width, stepped, item, domain=domain)


def _finish_context(spec: Elaboration, item: s.ContextItem, entity: ContextEntity) -> None:
    def lowered(node: s.Expr | None) -> Expr | None:
        return None if node is None else Body(spec, pure=True).expr(node, Scope(), entity.width)

    for node in (item.next, item.rest):
        value = lowered(node)
        if value is not None and node is not None and kind_of(value) > DECODE:
            raise Mistake(
                node.at, "a context steps by decode-time values only", "derive it: context ... = ..."
            )
    entity.model = ContextVariable(
        name=item.name,
        width=entity.width,
        value=lowered(item.value),
        next=lowered(item.next),
        rest=lowered(item.rest),
        domain=entity.domain,
    )


def _check_cycles(spec: Elaboration) -> None:
    """Report contexts that are derived from themselves."""
    sources: dict[str, set[str]] = {}
    for name in spec.family.contexts:
        entity = spec.entities.get(name)
        if isinstance(entity, ContextEntity) and entity.model is not None and entity.model.value is not None:
            sources[name] = _contexts_in(entity.model.value)
    for name in sources:
        reached: set[str] = set()
        todo = [name]
        while todo:
            for source in sources.get(todo.pop(), ()):
                if source not in reached:
                    reached.add(source)
                    todo.append(source)
        if name in reached:
            item = spec.family.contexts[name]
            spec.report.add(
                Mistake(item.at, f"the context `{name}` is derived from itself", "derive it from registers")
            )


def _contexts_in(expr: Expr) -> set[str]:
    match expr:
        case Context(name=name):
            return {name}
        case Unary(operand=operand) | Slice(operand=operand):
            return _contexts_in(operand)
        case Binary(left=left, right=right):
            return _contexts_in(left) | _contexts_in(right)
        case Select(condition=condition, then=then, otherwise=otherwise):
            return _contexts_in(condition) | _contexts_in(then) | _contexts_in(otherwise)
        case _:
            return set()


def feature_contexts(spec: Elaboration) -> list[ContextVariable]:
    """The contexts `has_X` of the features that behaviours ask for."""
    stored = ReadReg(64, "features", None)
    return [
        ContextVariable(name=f"has_{name}", width=1, value=Slice(1, stored, number), next=None, rest=None)
        for name, number in sorted(spec.used_features.items(), key=lambda pair: pair[1])
    ]


def _prefix_value(spec: Elaboration, row: s.PrefixRowNode) -> int:
    return (
        1
        if row.value is None
        else Body(spec, pure=True).widths.require_const(row.value, Scope(), "a prefix's value")
    )


def _prefix_variables(spec: Elaboration, row: s.PrefixRowNode) -> None:
    """Declare the variables that a prefix sets; several rows may set one."""
    value = _prefix_value(spec, row)
    if value < 0 or value >= 1 << 16:
        raise Mistake(row.at, f"a prefix's value of {value}")
    widths = {row.variable: max(1, value.bit_length())}
    for element in row.picture.elements:
        if isinstance(element, s.PicField):
            if not isinstance(element.reference, s.Number) or element.slices:
                raise Mistake(element.at, "a prefix's field needs its width", f"{element.name}:1")
            widths[element.name] = element.reference.value
    for name, width in widths.items():
        known = spec.entities.get(name)
        if isinstance(known, ContextEntity) and known.item is None:
            known.width = max(known.width, width)
        elif known is None or isinstance(known, (EnumMember, Ambiguous)):
            spec.entities[name] = ContextEntity(name, width, False, None)
        else:
            raise Mistake(row.at, f"`{name}` is declared already", "rename the prefix's variable")


def prefix_rows(spec: Elaboration) -> list[PrefixRow]:
    """The models of all prefix rows, in order."""
    rows: list[PrefixRow] = []
    for item in spec.family.prefixes:
        for row in item.rows:
            with spec.report.recover(row.at):
                rows.append(_prefix_row(spec, row))
    return rows


def _prefix_row(spec: Elaboration, row: s.PrefixRowNode) -> PrefixRow:
    mask = pattern = width = 0
    fields: list[tuple[str, int, int]] = []
    for element in row.picture.elements:
        match element:
            case s.PicFixed(width=bits, value=value):
                mask, pattern = mask << bits | (1 << bits) - 1, pattern << bits | value
            case s.PicIgnored(width=bits, value=0):
                mask, pattern = mask << bits, pattern << bits
            case s.PicField(name=name, reference=s.Number(value=bits)):
                mask, pattern = mask << bits, pattern << bits
                fields = [(n, w, low + bits) for n, w, low in fields]
                fields.append((name, bits, 0))
                width += bits
                continue
            case _:
                raise Mistake(element.at, "this has no place in a prefix")
        fields = [(n, w, low + bits) for n, w, low in fields]
        width += bits
    if width != 8:
        raise Mistake(row.picture.at, f"a prefix of {plural(width, 'bit')}", "prefixes are bytes")
    variable = spec.entities.get(row.variable)
    if not isinstance(variable, ContextEntity):
        raise Poisoned  # its name is taken, which has been reported
    when = None
    if row.when is not None:
        when = Body(spec, pure=True).expressions.condition(row.when, Scope())
        if kind_of(when) > DECODE:
            raise Mistake(
                row.when.at, "a prefix is recognised when the instruction is decoded", "use contexts"
            )
    if row.accept is not None and mask != 0xFF:
        raise Mistake(row.accept.at, "a prefix with fields has no word of its own", "leave it out")
    return PrefixRow(
        mask=mask,
        pattern=pattern,
        fields=tuple(fields),
        variable=row.variable,
        value=_prefix_value(spec, row),
        width=variable.width,
        last="last" in row.flags,
        mandatory="mandatory" in row.flags,
        policy="reject" if "reject" in row.flags else "ignore",
        when=when,
        span=span_of(row.at),
        words=() if row.accept is None else tuple(row.accept.text.split()),
    )


# --- shared functions ---------------------------------------------------------------------------------------


def _shared(spec: Elaboration, fn: s.FnItem) -> SharedFunction:
    if fn.generics:
        raise Mistake(
            fn.at, "a shared function has fixed widths", "leave out `shared`, or the generic widths"
        )
    body, scope = Body(spec, pure=True), Scope()
    parameters = tuple(Local(body.widths.type_width(p.type, scope), p.name) for p in fn.params)
    results = body.widths.type_widths(fn.result, scope) if fn.result is not None else ()
    return SharedFunction(fn.name, parameters, results, fn)


def _bank(spec: Elaboration, item: s.BankItem) -> None:
    body, scope = Body(spec, pure=True), Scope()
    index, width = body.widths.type_width(item.index.type, scope), body.widths.type_width(item.type, scope)
    if index > 32 or width > 64:
        raise Mistake(item.at, "a bank has up to 32 bits of number and 64 of value")
    number = Local(index, item.index.name)
    spec.entities[f"{item.name}_read"] = SharedFunction(f"{item.name}_read", (number,), (width,), item)
    new = Local(width, "new")
    spec.entities[f"{item.name}_write"] = SharedFunction(f"{item.name}_write", (number, new), (), item)


def known_register(spec: Elaboration, name: str, at: Pos) -> StateElement:
    """The single register called `name`."""
    element = spec.entities.get(name)
    if not isinstance(element, StateElement) or element.model.count is not None:
        raise Mistake(at, f"there is no register `{name}`", did_you_mean(name, spec.family.registers))
    return element
