"""The lowering of one body: all parts together."""

from __future__ import annotations

from collections.abc import Mapping

from generator.ir.lower.calls import CallLowering
from generator.ir.lower.constants import Constants
from generator.ir.lower.draft import Draft
from generator.ir.lower.entities import Elaboration
from generator.ir.lower.expressions import ExpressionLowering
from generator.ir.lower.lanes import LaneLowering
from generator.ir.lower.operand_lowering import OperandLowering
from generator.ir.lower.place_lowering import PlaceLowering
from generator.ir.lower.places import Place
from generator.ir.lower.recursion import Widths
from generator.ir.lower.returns import ReturnLowering
from generator.ir.lower.scope import Scope
from generator.ir.lower.signatures import Signatures
from generator.ir.lower.statements import StatementLowering
from generator.ir.lower.widths import WidthFinder
from generator.ir.nodes import Expr
from generator.language import syntax as s


class Body:
    """Lowers one body: an instruction's, a shared function's, or a lone expression; see `draft.Draft`.

    Each part knows those before it; what syntax needs of later ones goes through this, their `Recursion`.
    """

    def __init__(
        self,
        spec: Elaboration,
        *,
        shared: bool = False,
        pure: bool = False,
        choices: Mapping[str, int] | None = None,
        opcode_width: int = 0,
    ) -> None:
        draft = Draft(spec, shared=shared, pure=pure, choices=choices, opcode_width=opcode_width)
        constants = Constants(draft)
        widths = WidthFinder(draft, constants, self)
        lanes = LaneLowering(draft, widths, self)
        operands = OperandLowering(draft, widths, self)
        signatures = Signatures(draft, widths)
        expressions = ExpressionLowering(draft, constants, widths, lanes, operands, self)
        places = PlaceLowering(draft, constants, widths, operands, expressions)
        calls = CallLowering(draft, constants, widths, signatures, expressions, places, self)
        statements = StatementLowering(draft, constants, widths, expressions, places, calls)
        self.draft = draft
        self.constants = constants
        self.widths = widths
        self.operands = operands
        self.signatures = signatures
        self.expressions = expressions
        self.places = places
        self.calls = calls
        self.statements = statements
        self.returns = ReturnLowering(draft, expressions, calls, statements)

    # --- the recursion -----------------------------------------------------------------------

    def call_widths(self, node: s.Call, scope: Scope) -> Widths:
        return self.signatures.call_widths(node, scope)

    def expr(self, node: s.Expr, scope: Scope, want: int | None = None) -> Expr:
        return self.expressions.expr(node, scope, want)

    def values(self, node: s.Expr, scope: Scope, wants: Widths | None = None) -> tuple[Expr, ...]:
        return self.expressions.values(node, scope, wants)

    def place(self, node: s.Expr, scope: Scope, want: int | None = None) -> Place:
        return self.places.place(node, scope, want)

    def call(self, node: s.Call, scope: Scope, wants: Widths | None) -> tuple[Expr, ...]:
        return self.calls.call(node, scope, wants)

    def run(self, statements: list[s.Stmt], scope: Scope) -> tuple[tuple[Expr, ...] | None, bool]:
        return self.returns.run(statements, scope)
