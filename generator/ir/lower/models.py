"""Operands in use to models of the target."""

from __future__ import annotations

from generator.ir import build
from generator.ir.lower.entities import Elaboration, EnumMember, StateElement
from generator.ir.lower.operands import CaseUse, OperandClasses, OperandUse
from generator.ir.lower.report import Mistake, did_you_mean
from generator.ir.lower.state import span_of
from generator.ir.lower.texts import TextParser, holes
from generator.ir.nodes import DECODE, Binary, Const, Expr, ReadReg, kind_of
from generator.language import syntax as s
from generator.model.target import Hole, LinearCase, LinearForm, Operand, OperandCase, Text


class OperandModels:
    """Makes models of operands, each once."""

    def __init__(self, spec: Elaboration, classes: OperandClasses) -> None:
        self.spec = spec
        self.classes = classes
        self._made: dict[int, Operand] = {}
        self.defaults = {
            name: entity.value for name, entity in spec.entities.items() if isinstance(entity, EnumMember)
        }

    def model(self, use: OperandUse) -> Operand:
        found = self._made.get(id(use))
        if found is None:
            found = self._made[id(use)] = self._model(use)
        return found

    def _model(self, use: OperandUse) -> Operand:
        own = self.classes.natural(use)
        width = 0
        if use.has_value:
            width = own.declared[0] if own.declared is not None else own.probes[0].values[0].width
        return Operand(
            path=use.path,
            operand_class=use.item.name,
            generics=use.generics,
            width=use.width,
            value_width=width,
            fields=own.field_layout,
            cases=tuple(
                self._case(own, case, number, [self.model(n) for n in original.nested])
                for number, (case, original) in enumerate(zip(own.cases, use.cases, strict=True))
            ),
            linear=self._linear(use) if use.kind == "linear" else None,
        )

    def _case(self, use: OperandUse, case: CaseUse, number: int, nested: list[Operand]) -> OperandCase:
        value: Expr | None = None
        file, index = "", None
        if use.has_value:
            probe = use.probes[number]
            first = probe.values[0] if probe.values else None
            if first is not None and not probe.statements:
                if kind_of(first) <= DECODE:
                    value = first
                elif isinstance(first, ReadReg) and first.index is not None:
                    entry = self._seen(first)
                    if kind_of(entry) <= DECODE:
                        file, index = first.register, entry
        return OperandCase(
            picture=tuple(case.layout.pieces),
            appended=tuple(case.layout.appended),
            operands=tuple(nested),
            when=case.when,
            texts=self._texts(use, case),
            value=value,
            register_file=file,
            register_index=index,
            span=span_of(case.item.at),
        )

    def _seen(self, read: ReadReg) -> Expr:
        """The number by which a program names the entry: in a windowed file, within its window."""
        element = self.spec.entities.get(read.register)
        assert read.index is not None
        if (
            isinstance(element, StateElement)
            and element.window is not None
            and isinstance(read.index, Binary)
        ):
            return next(
                (side for side in (read.index.left, read.index.right) if kind_of(side) <= DECODE), read.index
            )
        return read.index

    def _texts(self, use: OperandUse, case: CaseUse) -> tuple[Text, ...]:
        parser = TextParser({}, self.defaults)
        result: list[Text] = []
        for node in case.item.texts:
            with self.spec.report.recover(node.at):
                text = parser.parse(node)
                for hole in holes([text]):
                    self.check_hole(hole, node, [*use.fields, *case.layout.fields, "@", *use.item.generics])
                result.append(text)
        return tuple(result)

    def check_hole(self, hole: Hole, node: s.TextNode, known: list[str]) -> None:
        """Mistake if a hole names nothing, or has an unknown format."""
        if hole.name.split(".")[0] not in known:
            raise Mistake(
                node.at,
                f"there is no `{hole.name}` that this text could print",
                did_you_mean(hole.name, known, f"there are: {', '.join(known)}"),
            )
        formats = ("", "hex", "d", "u", "+")
        table = hole.format.rstrip("*|")
        if hole.format in formats or table in self.spec.enums or table in self.spec.family.banks:
            return
        element = self.spec.entities.get(table)
        if isinstance(element, StateElement) and element.model.count is not None:
            return
        names = [*formats[1:], *self.spec.enums, *self.spec.family.banks]
        raise Mistake(
            node.at,
            f"`:{hole.format}` is no format",
            did_you_mean(hole.format, names, "hex, d, u, +, or the name of an enum, bank or register file"),
        )

    @staticmethod
    def _linear(use: OperandUse) -> LinearForm:
        assert use.linear is not None
        entries, scale = use.linear.entry_width, use.linear.scale_width
        none = Const(entries, use.linear.none)

        def entry(index: Expr | None) -> Expr:
            return none if index is None else build.zext(index, entries)

        cases = tuple(
            LinearCase(
                when=a.when,
                base=entry(a.base),
                index=entry(a.index),
                scale=build.zext(a.scale, scale),
                offset=a.offset,
            )
            for a in use.linear.alternatives
        )
        return LinearForm(register_file=use.linear.file.name, cases=cases)
