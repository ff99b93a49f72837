"""The lowering of bodies, all parts together, with the operands that bodies name."""

from __future__ import annotations

from generator.ir import build
from generator.ir.lower.places import Place, ValuePlace
from generator.ir.lower.report import Mistake, did_you_mean, plural
from generator.ir.lower.scope import Bound, Operand, OperandCase, RawField, Scope
from generator.ir.lower.statements import StatementPart
from generator.ir.lower.widths import Widths
from generator.ir.nodes import Expr, Local
from generator.language import syntax as s


class Body(StatementPart):
    """Lowers one body; see `base.Base` for its kinds."""

    # --- operands ----------------------------------------------------------------------------

    def operand_widths(self, operand: Operand, node: s.Name) -> Widths:  # type: ignore[override]
        if not operand.has_value:
            raise Mistake(
                node.at,
                f"the operand `{node.name}` has no value: it is text only",
                f"its fields are {', '.join(f'{node.name}.{f}' for f in operand.fields)}",
            )
        if operand.declared is not None:
            return operand.declared
        case = operand.cases[0]
        if case.item.value is None or isinstance(case.item.value, s.BlockStmt):
            raise Mistake(
                operand.item.at,
                f"the operand class `{operand.item.name}` does not say its type",
                f"operand {operand.item.name} (...) : bits(32)",
            )
        widths = self.widths(case.item.value, case.scope)
        if None in widths:
            raise Mistake(
                operand.item.at,
                f"how wide is the value of `{operand.item.name}`?",
                f"say its type: operand {operand.item.name} (...) : bits(32)",
            )
        return widths

    def operand_field(self, node: s.Member, bound: Bound) -> RawField:
        operand = bound.operand
        found = operand.fields.get(node.name)
        if found is None:
            known = [*operand.fields, "mem"]
            raise Mistake(
                node.at,
                f"the operand class `{operand.item.name}` has no field `{node.name}`",
                did_you_mean(node.name, known, f"its fields: {', '.join(operand.fields) or 'none'}"),
            )
        return found

    def read_operand(
        self, node: s.Name, bound: Bound, wants: tuple[int | None, ...] | None
    ) -> tuple[Expr, ...]:
        operand = bound.operand
        widths = self.operand_widths(operand, node)
        prefix = operand.path + "."
        key = (self.choices.get(operand.path), *(c for c in self.choices.items() if c[0].startswith(prefix)))
        known = operand.known_values.get(key)
        if known is not None:
            return known
        before = len(self.out)
        values = self._operand_values(operand, widths)
        if (
            len(self.out) == before
            and operand.declared is not None
            and all(not isinstance(v, Local) for v in values)
        ):
            operand.known_values[key] = values
        return values

    def _operand_values(self, operand: Operand, widths: Widths) -> tuple[Expr, ...]:
        number = self.choices.get(operand.path)
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
            return self.values(value, case.scope, widths)
        if operand.declared is None:
            raise Mistake(
                operand.item.at,
                f"the operand class `{operand.item.name}` does not say its type",
                f"operand {operand.item.name} (...) : bits(32)",
            )
        outer = self.result_widths
        self.result_widths = operand.declared
        try:
            result, is_open = self.run(list(value.body), case.scope.inner())
        finally:
            self.result_widths = outer
        if result is None or is_open:
            raise Mistake(
                case.item.at, "this case does not return a value on every path", "end it with `return`"
            )
        return result

    def operand_place(self, operand: Operand, node: s.Name) -> Place:  # type: ignore[override]
        number = self.choices.get(operand.path)
        if number is None and operand.kind in ("linear", "decode"):
            values = self.read_operand(node, Bound(operand), None)
            if len(values) != 1:
                raise Mistake(node.at, f"{plural(len(values), 'value')} where one has to stand")
            return ValuePlace(values[0], f"`{node.name}`")
        self.operand_widths(operand, node)
        return self.case_place(operand, operand.cases[number or 0])

    def case_place(self, operand: Operand, case: OperandCase) -> Place:
        """The place that a case's value is."""
        value = case.item.value
        want = operand.declared[0] if operand.declared is not None and len(operand.declared) == 1 else None
        if value is None or isinstance(value, (s.BlockStmt, s.TupleOf)):
            values = self.case_values(operand, case, operand.declared)
            return ValuePlace(values[0], f"an operand of class `{operand.item.name}`")
        place = self.place(value, case.scope, want)
        if want is not None and place.width != want:
            raise Mistake(
                value.at, f"this has {plural(place.width, 'bit')}, and `{operand.item.name}` has {want}"
            )
        return place

    # --- helpers for the surroundings --------------------------------------------------------

    def const_condition(self, node: s.Expr, scope: Scope) -> bool | None:
        """A condition over constants; None if it is none."""
        value = self.const(node, scope)
        return None if value is None else bool(value)
