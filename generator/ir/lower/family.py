"""A family's declarations by name, for one choice of parameters: the first step of lowering."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from generator.ir.lower.report import Mistake, Report, did_you_mean
from generator.language import syntax as s
from generator.language.source import Source

Declared = TypeVar("Declared", bound=s.Node)


@dataclass
class Instruction:
    """An `insn` and the sections that it stands in: its set, the features that the file's `needs` asks for,
    and what the file's `first` has every behaviour begin with.
    """

    item: s.InsnItem
    set_name: str
    needs: tuple[s.Ident, ...]
    first: s.BlockStmt | None


@dataclass
class Family:
    """All items of a family. Names that behaviours see share one space; operand classes and enums another."""

    isa: s.IsaItem
    targets: dict[str, s.TargetItem] = field(default_factory=dict)
    params: dict[str, s.ParamItem] = field(default_factory=dict)
    features: dict[str, s.FeatureItem] = field(default_factory=dict)
    cpus: dict[str, s.CpuItem] = field(default_factory=dict)
    sets: dict[str, s.SetItem] = field(default_factory=dict)
    little: s.LittleItem | None = None
    enums: dict[str, s.EnumItem] = field(default_factory=dict)
    traps: dict[str, s.TrapItem] = field(default_factory=dict)
    registers: dict[str, s.RegItem] = field(default_factory=dict)
    views: dict[str, s.ViewItem] = field(default_factory=dict)
    banks: dict[str, list[s.BankItem]] = field(default_factory=dict)
    contexts: dict[str, s.ContextItem] = field(default_factory=dict)
    prefixes: list[s.PrefixItem] = field(default_factory=list)
    operands: dict[str, s.OperandItem] = field(default_factory=dict)
    functions: dict[str, s.FnItem] = field(default_factory=dict)
    rows: dict[str, s.RowsItem] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    aliases: list[s.AliasItem] = field(default_factory=list)
    examples: list[s.ExampleItem] = field(default_factory=list)
    debug: list[s.DebugItem] = field(default_factory=list)

    @property
    def msb0(self) -> bool:
        return "msb0" in self.isa.flags


def header(files: Sequence[tuple[Source, list[s.Item]]], report: Report) -> s.IsaItem | None:
    """The family's one `isa` line. Sets the files' bit numbering from it."""
    found: list[s.IsaItem] = [i for _, items in files for i in items if isinstance(i, s.IsaItem)]
    for extra in found[1:]:
        report.add(
            Mistake(
                extra.at, "a second `isa` line", "a family has one header", related=((found[0].at, "first"),)
            )
        )
    if found:
        for source, _ in files:
            source.msb0 = "msb0" in found[0].flags
    return found[0] if found else None


def parameters_and_targets(
    files: Iterable[tuple[Source, list[s.Item]]], family: Family, report: Report
) -> None:
    """Collect what must be known before anything else is looked at."""
    for _, items in files:
        for item in items:
            if isinstance(item, s.ParamItem):
                _declare(family.params, item.name, item, report)
            elif isinstance(item, s.TargetItem):
                _declare(family.targets, item.name, item, report)


def collect(files: Iterable[tuple[Source, list[s.Item]]], family: Family, report: Report) -> None:
    """Sort the items (of which those that the target's parameters exclude are gone) into `family`."""
    scope: dict[str, s.Node] = dict(family.params)
    classes: dict[str, s.Node] = {}
    for _, items in files:
        set_name = family.isa.name
        needs: tuple[s.Ident, ...] = ()
        first: s.BlockStmt | None = None
        for item in items:
            match item:
                case s.FeatureItem():
                    _declare(family.features, item.name, item, report)
                case s.CpuItem():
                    _declare(family.cpus, item.name, item, report)
                case s.SetItem():
                    if item.flags or item.values or item.when is not None or item.name not in family.sets:
                        known = family.sets.get(item.name)
                        if known is not None and not (known.flags or known.values or known.when):
                            del family.sets[item.name]  # that one only went on with this set
                        _declare(family.sets, item.name, item, report)
                    set_name = item.name
                case s.SectionItem():
                    needs = item.needs
                case s.FirstItem():
                    first = item.body
                case s.LittleItem():
                    if family.little is not None:
                        report.add(
                            Mistake(
                                item.at,
                                "a second `little when`",
                                "a family has one",
                                related=((family.little.at, "first"),),
                            )
                        )
                    family.little = item
                case s.EnumItem():
                    _declare(classes, item.name, item, report)
                    family.enums.setdefault(item.name, item)
                case s.TrapItem():
                    _declare(family.traps, item.name, item, report)
                case s.RegItem():
                    if not isinstance(
                        scope.get(item.name), s.ContextItem
                    ):  # a stepped context may declare its storage
                        _declare(scope, item.name, item, report)
                    family.registers.setdefault(item.name, item)
                case s.ViewItem():
                    _declare(scope, item.name, item, report)
                    family.views.setdefault(item.name, item)
                case s.BankItem():
                    if item.name not in family.banks:
                        for name in (item.name, f"{item.name}_read", f"{item.name}_write"):
                            _declare(scope, name, item, report)
                    family.banks.setdefault(item.name, []).append(item)
                case s.ContextItem():
                    if not isinstance(scope.get(item.name), s.RegItem):
                        _declare(scope, item.name, item, report)
                    family.contexts.setdefault(item.name, item)
                case s.PrefixItem():
                    family.prefixes.append(item)
                case s.OperandItem():
                    _declare(classes, item.name, item, report)
                    family.operands.setdefault(item.name, item)
                case s.FnItem():
                    _declare(scope, item.name, item, report)
                    family.functions.setdefault(item.name, item)
                case s.RowsItem():
                    _declare(family.rows, item.name, item, report)
                case s.InsnItem():
                    family.instructions.append(Instruction(item, set_name, needs, first))
                case s.AliasItem():
                    family.aliases.append(item)
                case s.ExampleItem():
                    family.examples.append(item)
                case s.DebugItem():
                    family.debug.append(item)
                case _:
                    pass
    for instruction in family.instructions:
        for need in (*instruction.needs, *instruction.item.needs):
            _known(need, family.features, "feature", report)
    for cpu in family.cpus.values():
        for had in cpu.features:
            _known(had, family.features, "feature", report)
    for feature in family.features.values():
        for other in (*feature.requires, *feature.excludes, *feature.implies):
            _known(other, family.features, "feature", report)


def _known(name: s.Ident, table: dict[str, Declared], kind: str, report: Report) -> None:
    if name.name not in table:
        report.add(
            Mistake(
                name.at,
                f"there is no {kind} `{name.name}`",
                did_you_mean(name.name, table, f"declare it: {kind} {name.name}"),
            )
        )


def _declare(table: dict[str, Declared], name: str, item: Declared, report: Report) -> None:
    first = table.setdefault(name, item)
    if first is not item:
        report.add(
            Mistake(
                item.at,
                f"`{name}` is declared twice",
                "rename one of them",
                related=((first.at, "first declaration"),),
            )
        )
