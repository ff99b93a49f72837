"""A family's items to the model of one target."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from generator.ir.lower.body import Body
from generator.ir.lower.debug import debug_groups
from generator.ir.lower.entities import ContextEntity, Elaboration
from generator.ir.lower.family import Family, collect, header, parameters_and_targets
from generator.ir.lower.forms import FormLowering
from generator.ir.lower.functions import banks, shared_functions
from generator.ir.lower.operands import OperandClasses
from generator.ir.lower.report import Mistake, Report, did_you_mean
from generator.ir.lower.scope import Number, Scope
from generator.ir.lower.state import elaborate_state, enum_model, feature_contexts, prefix_rows, span_of
from generator.ir.lower.texts import TextParser
from generator.ir.nodes import CONSTANT, DECODE, Const, kind_of
from generator.language import syntax as s
from generator.language.source import Pos, Source
from generator.model.target import (
    Alias,
    CpuModel,
    Example,
    Feature,
    InstructionSet,
    Register,
    Span,
    Target,
    Text,
)

Files = Sequence[tuple[Source, list[s.Item]]]
MAX_FEATURES = 64


def target_names(files: Files, report: Report) -> list[str]:
    """The names of the family's targets, in order."""
    isa = header(files, report)
    if isa is None:
        return []
    family = Family(isa)
    parameters_and_targets(files, family, report)
    return list(family.targets)


def lower_target(files: Files, name: str, report: Report) -> Target | None:
    """The model of target `name`; None where mistakes (in `report`) leave nothing to model."""
    isa = header(files, report)
    if isa is None:
        if files and not report.diagnostics:
            report.add(Mistake(_start(files[0][0]), "the family has no header", "isa NAME le unit 32"))
        return None
    family = Family(isa)
    parameters_and_targets(files, family, report)
    item = family.targets.get(name)
    if item is None:
        report.add(
            Mistake(
                isa.at,
                f"the family `{isa.name}` has no target `{name}`",
                did_you_mean(name, family.targets, f"target {name} {{ ... }}"),
            )
        )
        return None
    params = _parameters(family, item, report)
    if params is None:
        return None
    spec = Elaboration(family, report, params)
    collect(_without_excluded(files, spec), family, report)
    if len(family.features) > MAX_FEATURES:
        report.add(Mistake(isa.at, f"{len(family.features)} features", f"at most {MAX_FEATURES}"))
    elaborate_state(spec)
    classes = OperandClasses(spec)
    sets = _sets(spec)
    prefixes = prefix_rows(spec)
    lowering = FormLowering(spec, classes, sets, prefixes)
    for instruction in family.instructions:
        lowering.lower(instruction)
    _check_before(files, family, report)
    _check_memory_questions(spec)
    bank_models, bank_functions = banks(spec)
    functions = [*shared_functions(spec), *bank_functions]
    aliases, examples = _aliases(spec, lowering.models.defaults), _examples(spec)
    cpus = _cpus(family, report)
    if report.diagnostics:
        return None
    contexts = [
        e.model
        for n in family.contexts
        if isinstance(e := spec.entities.get(n), ContextEntity) and e.model is not None
    ]
    return Target(
        name=name,
        family=isa.name,
        parameters=tuple(params.items()),
        big_endian=_fetches_big_endian(isa, item),
        little_when=spec.little,
        msb0=family.msb0,
        float_policy=isa.values.get("float", "ieee"),
        elf_machine=item.elf[0] if item.elf else 0,
        elf_class=item.elf[1] if item.elf else 0,
        gdb_architecture=item.gdb,
        features=tuple(
            Feature(
                name=f.name,
                title=f.title,
                requires=_names(f.requires),
                excludes=_names(f.excludes),
                implies=_names(f.implies),
            )
            for f in family.features.values()
        ),
        cpus=cpus,
        default_features=_names(item.features),
        pc_width=spec.pc_width,
        sets=tuple(sets),
        registers=_registers(spec, item),
        contexts=(*contexts, *feature_contexts(spec)),
        prefixes=tuple(prefixes),
        banks=tuple(bank_models),
        enums=tuple(m for e in family.enums.values() if (m := enum_model(spec, e)) is not None),
        traps=tuple(spec.traps.values()),
        functions=tuple(functions),
        forms=tuple(lowering.forms),
        aliases=tuple(aliases),
        examples=tuple(examples),
        debug=debug_groups(spec, bank_models),
        sources=tuple((source.name, hashlib.sha256(source.text.encode()).hexdigest()) for source, _ in files),
    )


def _start(source: Source) -> Pos:
    return Pos(source, 0, 1)


def _fetches_big_endian(isa: s.IsaItem, item: s.TargetItem) -> bool:
    """The byte order of instructions: the target's own, else the family's."""
    order = item.elf[2] if item.elf is not None else ""
    return order == "be" if order else "be" in isa.flags


def _names(idents: tuple[s.Ident, ...]) -> tuple[str, ...]:
    return tuple(i.name for i in idents)


def _check_before(files: Files, family: Family, report: Report) -> None:
    """Report names behind `before` that no instruction has, for any parameters."""
    known: set[str] = set()
    for _, items in files:
        for item in items:
            if isinstance(item, s.InsnItem):
                known.add(item.name.name)
            if isinstance(item, (s.InsnItem, s.RowsItem)):
                known |= {row.mnemonic.name for row in item.rows or ()}
    for instruction in family.instructions:
        for name in instruction.item.before:
            if name.name not in known:
                report.add(
                    Mistake(name.at, f"there is no instruction `{name.name}`", did_you_mean(name.name, known))
                )


def _check_memory_questions(spec: Elaboration) -> None:
    """Report each `x.mem` that no encoding makes true. That some don't is as it should be: an operand may be
    of another class in each.
    """
    for at, classes in spec.memory_questions.items():
        if any(classes.values()):
            continue
        names = " or ".join(f"`{name}`" for name in classes)
        spec.report.add(
            Mistake(
                at,
                f"this is never so: no case of {names} is a place in memory",
                "an address is a number like any other; name the operand whose case is mem(...)[...]",
                related=tuple((spec.family.operands[name].at, "the operand class") for name in classes),
            )
        )


# --- parameters ---------------------------------------------------------------------------------------------


def _parameters(family: Family, item: s.TargetItem, report: Report) -> dict[str, int] | None:
    """The parameters' values for a target; None after mistakes."""
    body = Body(Elaboration(family, report, {}), pure=True)
    params: dict[str, int] = {}
    before = len(report.diagnostics)
    given: dict[str, tuple[s.Ident, s.Expr]] = {}
    for ident, value in item.bindings:
        if ident.name not in family.params:
            report.add(
                Mistake(
                    ident.at,
                    f"there is no parameter `{ident.name}`",
                    did_you_mean(ident.name, family.params, f"param {ident.name} in ..."),
                )
            )
        given[ident.name] = ident, value
    for param in family.params.values():
        with report.recover(param.at):
            allowed = [body.widths.require_const(v, Scope(), "a parameter's value") for v in param.values]
            if param.name in given:
                ident, node = given[param.name]
                number = body.widths.require_const(node, Scope(), "a parameter's value")
                if number not in allowed:
                    raise Mistake(
                        ident.at,
                        f"`{param.name}` is {number}, which is not one of its values",
                        f"one of {', '.join(map(str, allowed))}",
                        related=((param.at, "its values"),),
                    )
                params[param.name] = number
            elif len(set(allowed)) == 1:
                params[param.name] = allowed[0]
            else:
                raise Mistake(
                    item.at,
                    f"the target does not say what `{param.name}` is",
                    f"target {item.name} {{ {param.name} = {allowed[0]} }}",
                    related=((param.at, "the parameter"),),
                )
    return params if len(report.diagnostics) == before else None


def _without_excluded(files: Files, spec: Elaboration) -> list[tuple[Source, list[s.Item]]]:
    """The files without what an `only when` excludes for these parameters."""
    scope = Scope(names={n: Number(v) for n, v in spec.params.items()})
    body = Body(spec, pure=True)
    result: list[tuple[Source, list[s.Item]]] = []
    for source, items in files:
        kept: list[s.Item] = []
        included = True
        for item in items:
            if isinstance(item, s.OnlyItem):
                with spec.report.recover(item.at):
                    included = bool(
                        body.widths.require_const(item.when, scope, "the condition of `only when`")
                    )
            elif included or isinstance(item, (s.IsaItem, s.TargetItem, s.ParamItem)):
                kept.append(item)
        result.append((source, kept))
    return result


# --- sets, registers ----------------------------------------------------------------------------------------


def _sets(spec: Elaboration) -> list[InstructionSet]:
    """The instruction sets that exist: declared ones, and the family's own if instructions stand in none."""
    family = spec.family
    result: list[InstructionSet] = []
    used = {i.set_name for i in family.instructions}
    if family.isa.name in used and family.isa.name not in family.sets:
        with spec.report.recover(family.isa.at):
            result.append(_set(family.isa.name, family.isa, family.isa))
    for item in family.sets.values():
        with spec.report.recover(item.at):
            made = _set(item.name, item, family.isa)
            if item.when is not None:
                when = Body(spec, pure=True).expressions.condition(item.when, Scope())
                if kind_of(when) > DECODE:
                    raise Mistake(
                        item.when.at,
                        "a set is chosen when instructions are decoded",
                        "derive a context from the state: context t : bits(1) = ...",
                    )
                if isinstance(when, Const) and not when.value:
                    continue
                made = made.model_copy(update={"when": None if kind_of(when) == CONSTANT else when})
            result.append(made)
    return result


def _set(name: str, item: s.SetItem | s.IsaItem, isa: s.IsaItem) -> InstructionSet:
    unit = int(item.values.get("unit", isa.values.get("unit", "0")))
    if unit not in (8, 16, 32):
        raise Mistake(
            item.at,
            f"the unit has {unit} bits" if unit else "the unit's size is missing",
            "unit 8, unit 16 or unit 32",
        )
    stream = "stream" in item.flags or "stream" in isa.flags
    return InstructionSet(name=name, unit=unit, stream=stream, when=None)


def _registers(spec: Elaboration, item: s.TargetItem) -> tuple[Register, ...]:
    from generator.ir.lower.entities import StateElement

    result: list[Register] = []
    for name in spec.family.registers:
        entity = spec.entities.get(name)
        if isinstance(entity, StateElement):
            result.append(entity.model)
        elif name in spec.stepped:
            result.append(spec.stepped[name])
    declared = {r.name for r in result}
    result += [r for r in spec.stepped.values() if r.name not in declared]
    if spec.used_features or any(e.name == "features" for e in result):
        numbers = {n: i for i, n in enumerate(spec.family.features)}
        reset = sum(1 << numbers[n] for n in closed(_names(item.features), spec.family))
        place = span_of(item.at)
        result.append(
            Register(
                name="features",
                width=64,
                reset=reset,
                hidden=True,
                span=Span(file=place.file, line=place.line, column=place.column),
            )
        )
    return tuple(result)


def closed(names: tuple[str, ...], family: Family) -> list[str]:
    """Features with all that they imply, in the family's order."""
    found: set[str] = set()
    todo = [n for n in names if n in family.features]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [i.name for i in family.features[name].implies if i.name in family.features]
    return [n for n in family.features if n in found]


# --- aliases, examples --------------------------------------------------------------------------------------


def _included(spec: Elaboration, node: s.Expr | None) -> bool:
    return node is None or Body(spec, pure=True).constants.condition(node, Scope()) is not False


def _aliases(spec: Elaboration, defaults: dict[str, int]) -> list[Alias]:
    result: list[Alias] = []
    parser = TextParser({}, defaults, arithmetic=True)
    for item in spec.family.aliases:
        with spec.report.recover(item.at):
            if not _included(spec, item.when):
                continue
            if item.when is not None:
                condition = Body(spec, pure=True).expressions.condition(item.when, Scope())
                if kind_of(condition) != CONSTANT:
                    raise Mistake(item.when.at, "an alias depends on parameters only", "use no contexts")
            text = parser.parse(item.text)
            expansion: list[Text] = []
            for part in item.expansion.text.split(";"):
                expansion.append(parser.parse(s.TextNode(item.expansion.at, "", part.strip())))
            result.append(
                Alias(
                    use=item.use,
                    dialect=item.dialect,
                    text=text.model_copy(update={"dialect": item.dialect}),
                    expansion=tuple(e.model_copy(update={"dialect": item.dialect}) for e in expansion),
                    unless=None if item.unless is None else parser.parse(item.unless),
                    span=span_of(item.at),
                )
            )
    return result


def _examples(spec: Elaboration) -> list[Example]:
    result: list[Example] = []
    for item in spec.family.examples:
        with spec.report.recover(item.at):
            if item.when is not None:
                when = Body(spec, pure=True).constants.condition(item.when, Scope())
                if when is None:
                    raise Mistake(item.when.at, "an example depends on parameters only")
                if not when:
                    continue
            result.append(
                Example(dialect=item.dialect, text=item.text.text, bytes_=item.bytes_, span=span_of(item.at))
            )
    return result


def _cpus(family: Family, report: Report) -> tuple[CpuModel, ...]:
    """The models, with the features of those that they are like."""
    found: dict[str, CpuModel] = {}
    for item in family.cpus.values():
        base: tuple[str, ...] = ()
        if item.like:
            if item.like not in found:
                report.add(
                    Mistake(
                        item.at,
                        f"there is no CPU `{item.like}` above this one",
                        did_you_mean(item.like, found, "declare it first"),
                    )
                )
                continue
            base = found[item.like].features
        features = tuple(dict.fromkeys((*base, *_names(item.features))))
        found[item.name] = CpuModel(name=item.name, title=item.title, features=features)
    return tuple(found.values())
