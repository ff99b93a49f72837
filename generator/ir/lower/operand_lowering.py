"""Operands in behaviours: their values and the places that they are."""

from __future__ import annotations

from generator.ir import build
from generator.ir.lower.draft import Draft
from generator.ir.lower.places import Place, ValuePlace
from generator.ir.lower.recursion import Recursion, Widths
from generator.ir.lower.report import Mistake, plural
from generator.ir.lower.scope import Operand, OperandCase
from generator.ir.lower.widths import WidthFinder
from generator.ir.nodes import Expr, Local
from generator.language import syntax as s


class OperandLowering:
    """Operands by the case that was chosen for each, or by the fields that the decoder fills."""

    def __init__(self, draft: Draft, widths: WidthFinder, recursion: Recursion) -> None:
        self.draft = draft
        self.widths = widths
        self.recursion = recursion

    def read(self, operand: Operand, node: s.Name) -> tuple[Expr, ...]:
        """The values of `operand`, which `node` names."""
        widths = self.widths.operand_widths(operand, node)
        prefix = operand.path + "."
        key = (
            self.draft.choices.get(operand.path),
            *(c for c in self.draft.choices.items() if c[0].startswith(prefix)),
        )
        known = operand.known_values.get(key)
        if known is not None:
            return known
        before = len(self.draft.out)
        values = self._operand_values(operand, widths)
        if (
            len(self.draft.out) == before
            and operand.declared is not None
            and all(not isinstance(v, Local) for v in values)
        ):
            operand.known_values[key] = values
        return values

    def _operand_values(self, operand: Operand, widths: Widths) -> tuple[Expr, ...]:
        number = self.draft.choices.get(operand.path)
        if number is None and operand.kind == "linear":
            return self._linear_values(operand, widths)
        if number is None and operand.kind == "decode":
            return self._decode_values(operand, widths)
        return self.case_values(operand, operand.cases[number or 0], widths)

    def _linear_values(self, operand: Operand, widths: Widths) -> tuple[Expr, ...]:
        """The address over the linear form's fields; the further values are decode-time."""
        values = self._decode_values(operand, widths)
        assert operand.linear is not None
        return (operand.linear.value(operand.path, values[0].width), *values[1:])

    def _decode_values(self, operand: Operand, widths: Widths) -> tuple[Expr, ...]:
        """Decode-time values: a choice by the cases' conditions, which the decoder resolves."""
        results = self.case_values(operand, operand.cases[-1], widths)
        for case in reversed(operand.cases[:-1]):
            values = self.case_values(operand, case, widths)
            results = tuple(build.select(case.condition, v, r) for v, r in zip(values, results, strict=True))
        return results

    def case_values(self, operand: Operand, case: OperandCase, widths: Widths | None) -> tuple[Expr, ...]:
        """The values of one case."""
        value = case.item.value
        if value is None:
            raise Mistake(case.item.at, f"this case of `{operand.item.name}` has no value", "add `=> ...`")
        if not isinstance(value, s.BlockStmt):
            return self.recursion.values(value, case.scope, widths)
        if operand.declared is None:
            raise Mistake(
                operand.item.at,
                f"the operand class `{operand.item.name}` does not say its type",
                f"operand {operand.item.name} (...) : bits(32)",
            )
        outer = self.draft.result_widths
        self.draft.result_widths = operand.declared
        try:
            result, is_open = self.recursion.run(list(value.body), case.scope.inner())
        finally:
            self.draft.result_widths = outer
        if result is None or is_open:
            raise Mistake(
                case.item.at, "this case does not return a value on every path", "end it with `return`"
            )
        return result

    def place(self, operand: Operand, node: s.Name) -> Place:
        """The place that `operand` is, which `node` names; a `ValuePlace` if the decoder computes it."""
        number = self.draft.choices.get(operand.path)
        if number is None and operand.kind in ("linear", "decode"):
            values = self.read(operand, node)
            if len(values) != 1:
                raise Mistake(node.at, f"{plural(len(values), 'value')} where one has to stand")
            return ValuePlace(values[0], f"`{node.name}`")
        self.widths.operand_widths(operand, node)
        return self.case_place(operand, operand.cases[number or 0])

    def case_place(self, operand: Operand, case: OperandCase) -> Place:
        """The place that a case's value is."""
        value = case.item.value
        want = operand.declared[0] if operand.declared is not None and len(operand.declared) == 1 else None
        if value is None or isinstance(value, (s.BlockStmt, s.TupleOf)):
            values = self.case_values(operand, case, operand.declared)
            return ValuePlace(values[0], f"an operand of class `{operand.item.name}`")
        place = self.recursion.place(value, case.scope, want)
        if want is not None and place.width != want:
            raise Mistake(
                value.at, f"this has {plural(place.width, 'bit')}, and `{operand.item.name}` has {want}"
            )
        return place
