"""Expressions: syntax to typed IR. `want` is the width that the surroundings ask for (None: the expression's
own).
"""

from __future__ import annotations

from generator.ir import build
from generator.ir.lower import builtins
from generator.ir.lower.constants import Constants
from generator.ir.lower.draft import Draft
from generator.ir.lower.entities import Ambiguous, ContextEntity, EnumMember, Special, StateElement
from generator.ir.lower.flow import is_pure
from generator.ir.lower.lanes import LaneLowering
from generator.ir.lower.operand_lowering import OperandLowering
from generator.ir.lower.recursion import Recursion, Widths
from generator.ir.lower.report import Mistake, Poisoned, plural
from generator.ir.lower.scope import Bound, Broken, Column, Mutable, Number, RawField, Scope, Values
from generator.ir.lower.widths import WidthFinder
from generator.ir.nodes import DECODE, Const, Context, Expr, Field, NextPc, Pc, ReadReg, kind_of
from generator.language import syntax as s
from generator.language.source import Pos


class ExpressionLowering:
    """Values of expressions."""

    def __init__(
        self,
        draft: Draft,
        constants: Constants,
        widths: WidthFinder,
        lanes: LaneLowering,
        operands: OperandLowering,
        recursion: Recursion,
    ) -> None:
        self.draft = draft
        self.constants = constants
        self.widths = widths
        self.lanes = lanes
        self.operands = operands
        self.recursion = recursion

    def expr(self, node: s.Expr, scope: Scope, want: int | None = None) -> Expr:
        """`node`'s value, `want` bits wide. Raises Mistake."""
        result = self._expr(node, scope, want)
        if want is not None and result.width != want:
            raise Mistake(
                node.at,
                f"this has {plural(result.width, 'bit')}, but {want} {'is' if want == 1 else 'are'} "
                "wanted here",
                _resizing(result.width, want),
            )
        return result

    def condition(self, node: s.Expr, scope: Scope) -> Expr:
        """A 1-bit value."""
        value = self.constants.value(node, scope)
        if value is not None and self.widths.of(node, scope) in (None, 1):
            if value not in (0, 1):
                raise Mistake(node.at, f"a condition is 1 bit, and this is {value}", "compare it: ... != 0")
            return Const(1, value)
        result = self._expr(node, scope, 1)
        if result.width != 1:
            raise Mistake(
                node.at, f"a condition is 1 bit, and this has {result.width}", "compare it: ... != 0"
            )
        return result

    def values(self, node: s.Expr, scope: Scope, wants: Widths | None = None) -> tuple[Expr, ...]:
        """All values of a tuple, call, ... ; one for other expressions."""
        match node:
            case s.TupleOf(items=items):
                self._count(node, len(items), wants)
                return tuple(
                    self.expr(i, scope, w) for i, w in zip(items, wants or (None,) * len(items), strict=True)
                )
            case s.Call():
                results = self.recursion.call(node, scope, wants)
            case s.Name():
                found = self.draft.look_up(node.name, scope, node.at)
                if isinstance(found, Column):
                    with self.draft.column(found, node.at) as cell:
                        return self.values(cell, scope, wants)
                if isinstance(found, Values):
                    results = found.items
                elif isinstance(found, Bound):
                    results = self.operands.read(found.operand, node)
                else:
                    results = (self.expr(node, scope, wants[0] if wants else None),)
            case s.Ternary():
                chosen = self.constants.value(node.condition, scope)
                if chosen is not None:
                    return self.values(node.then if chosen else node.otherwise, scope, wants)
                return self._alternatives(
                    node.at,
                    [(self.condition(node.condition, scope), node.then), (None, node.otherwise)],
                    scope,
                    self._wants(node, scope, wants),
                )
            case s.MatchOf():
                return self._match(node, scope, wants)
            case s.Lanes():
                results = self.lanes.values(node, scope, wants)
            case _:
                results = (self.expr(node, scope, wants[0] if wants and len(wants) == 1 else None),)
        self._count(node, len(results), wants)
        for result, want in zip(results, wants or (), strict=False):
            if want is not None and result.width != want:
                raise Mistake(
                    node.at,
                    f"a value here has {plural(result.width, 'bit')}, but {want} are wanted",
                    _resizing(result.width, want),
                )
        return results

    @staticmethod
    def _count(node: s.Expr, count: int, wants: Widths | None) -> None:
        if wants is not None and len(wants) != count:
            raise Mistake(
                node.at,
                f"{plural(count, 'value')} where {len(wants)} {'is' if len(wants) == 1 else 'are'} wanted",
            )

    def _wants(self, node: s.Expr, scope: Scope, wants: Widths | None) -> Widths:
        if wants is not None and None not in wants:
            return wants
        found = self.widths.all_of(node, scope)
        if wants is None:
            return found
        if len(wants) != len(found):
            self._count(node, len(found), wants)
        return tuple(w if w is not None else f for w, f in zip(wants, found, strict=True))

    # --- by kind -----------------------------------------------------------------------------

    def _expr(self, node: s.Expr, scope: Scope, want: int | None) -> Expr:
        match node:
            case s.Name():
                return self._name(node, scope, want)
            case s.Number(value=value):
                return self.literal(value, want, node.at)
            case s.BinaryOp():
                return self._binary(node, scope, want)
            case s.SliceOf():
                return self._slice(node, scope)
            case s.Member(name=name) if name.isdigit():
                values = self.values(node.base, scope)
                return values[self.widths.part_number(node, len(values))]
            case s.Index() | s.Member():
                return self._read_place(node, scope)
            case s.Call():
                return self._single(
                    self.recursion.call(node, scope, (want,) if want is not None else None), node
                )
            case s.Ternary() | s.MatchOf() | s.Lanes():
                return self._single(self.values(node, scope, (want,)), node)
            case s.UnaryOp():
                return self._unary(node, scope, want)
            case s.Mem():
                return self._read_place(node, scope)
            case s.SliceFrom():
                return self._slice_from(node, scope)
            case s.TupleOf():
                raise Mistake(node.at, "a tuple where one value has to stand")
            case s.Str():
                raise Mistake(node.at, "a text is not a value")

    @staticmethod
    def _single(values: tuple[Expr, ...], node: s.Expr) -> Expr:
        if len(values) != 1:
            raise Mistake(
                node.at,
                f"{len(values)} values where one has to stand" if values else "this has no value",
                "bind them: let (a, b) = ..." if values else "",
            )
        return values[0]

    def literal(self, value: int, want: int | None, at: Pos) -> Const:
        """A number without a width of its own. Raises Mistake where none is wanted, or it does not fit."""
        if want is None:
            raise Mistake(at, "how wide is this number?", "say it: let x : bits(8) = ..., or zext(..., 8)")
        if value >= 1 << want or value < -(1 << (want - 1)):
            if value.bit_length() > 256:
                raise Mistake(at, f"this number does not fit in {plural(want, 'bit')}")
            raise Mistake(
                at,
                f"{value:#x} does not fit in {plural(want, 'bit')}"
                if value >= 0
                else f"{value} does not fit in {plural(want, 'bit')}",
            )
        return build.const(want, value)

    def _name(self, node: s.Name, scope: Scope, want: int | None) -> Expr:
        found = self.draft.look_up(node.name, scope, node.at)
        match found:
            case Values(items=items):
                return self._single(items, node)
            case Number(value=value):
                return self.literal(value, want, node.at)
            case Column():
                with self.draft.column(found, node.at) as cell:
                    return self.expr(cell, scope, want)
            case RawField(value=value):
                return value
            case Mutable(local=local):
                return local
            case Bound(operand=operand):
                return self._single(self.operands.read(operand, node), node)
            case Broken():
                raise Poisoned
            case ContextEntity():
                return self.context_value(found, node.at)
            case EnumMember(width=width, value=value):
                return Const(width, value)
            case Ambiguous(enums=enums):
                raise Mistake(
                    node.at,
                    f"`{node.name}` is a member of several enums",
                    f"say which: {enums[0]}.{node.name}",
                )
            case StateElement():
                return self._register(node, found, scope)
            case s.ViewItem():
                return self._read_place(node, scope)
            case Special(name=name):
                return self._next_pc(node.at) if name == "next_pc" else self._opcode_bits(node.at)
            case _:
                raise Mistake(node.at, f"`{node.name}` is a function", f"call it: {node.name}(...)")

    def _register(self, node: s.Name, found: StateElement, scope: Scope) -> Expr:
        if node.name == "pc" and not self.draft.shared:
            return Pc(found.width)
        return self._read_place(node, scope)

    def _read_place(self, node: s.Expr, scope: Scope) -> Expr:
        return self.recursion.place(node, scope).read(self.draft, node.at)

    def context_value(self, entity: ContextEntity, at: Pos) -> Expr:
        """A context: decode-time in instructions; in shared functions what it derives from, or its stored
        value.
        """
        if not self.draft.shared:
            return Context(entity.width, entity.name)
        if entity.stepped:
            return ReadReg(entity.width, entity.name, None)
        if entity.item is not None and entity.item.value is not None:
            with self.draft.deeper(at, entity.name):
                return self.expr(entity.item.value, Scope(), entity.width)
        if entity.model is not None and entity.model.value is not None:
            return entity.model.value
        raise Mistake(
            at,
            f"`{entity.name}` is known only when an instruction is decoded",
            "give its value to the shared function as an argument",
        )

    def _next_pc(self, at: Pos) -> Expr:
        if self.draft.shared:
            raise Mistake(at, "`next_pc` is known only in instructions")
        return NextPc(self.draft.spec.pc_width)

    def _opcode_bits(self, at: Pos) -> Expr:
        if not self.draft.opcode_width:
            raise Mistake(at, "`opcode_bits` is known only in instructions whose encodings are one number")
        return Field(self.draft.opcode_width, "opcode_bits")

    def _unary(self, node: s.UnaryOp, scope: Scope, want: int | None) -> Expr:
        if node.op == "!":
            return build.not_(self.condition(node.operand, scope))
        width = self.widths.of(node.operand, scope)
        if width is None:
            value = self.constants.value(node, scope)
            if value is not None:
                return self.literal(value, want, node.at)
        operand = self.expr(node.operand, scope, width if width is not None else want)
        return build.unary("not" if node.op == "~" else "neg", operand)

    def _binary(self, node: s.BinaryOp, scope: Scope, want: int | None) -> Expr:
        op = node.op
        if op == "@":
            return build.concat(self._part(node.left, scope), self._part(node.right, scope))
        if op in ("&&", "||"):
            return self._logic(node, scope)
        if op in builtins.COMPARISONS:
            return self._compare(node, scope)
        if op in builtins.SHIFTS:
            return self._shift(node, scope, want)
        left = self.widths.of(node.left, scope)
        width = left if left is not None else self.widths.of(node.right, scope)
        if width is None:
            value = self.constants.value(node, scope)
            if value is not None:
                return self.literal(value, want, node.at)
            width = want
        if width is None:
            raise Mistake(
                node.at, "how wide is this?", "name a width: zext(x, 64), or let x : bits(64) = ..."
            )
        if op not in builtins.ARITHMETIC:
            raise Mistake(node.at, f"`{op}` is for constants", f"say the sign: {op}u or {op}s")
        right_width = self.widths.of(node.right, scope) if left is not None else width
        if right_width is not None and right_width != width:
            raise Mistake(
                node.at,
                f"`{op}` of {plural(width, 'bit')} and {plural(right_width, 'bit')}",
                _resizing(min(width, right_width), max(width, right_width)),
            )
        return build.binary(
            builtins.ARITHMETIC[op], self.expr(node.left, scope, width), self.expr(node.right, scope, width)
        )

    def _part(self, node: s.Expr, scope: Scope) -> Expr:
        digits = self.constants.digits(node, scope)
        if digits is not None:
            return self.expr(node, scope, digits)
        return self.expr(node, scope, self.widths.part_width(node, scope))

    def _logic(self, node: s.BinaryOp, scope: Scope) -> Expr:
        decisive = node.op == "||"
        left = self.condition(node.left, scope)
        if isinstance(left, Const) and bool(left.value) == decisive:
            return left
        right_const = self.constants.value(node.right, scope)
        if right_const is not None and bool(right_const) == decisive:
            return Const(1, int(decisive))
        right = self.condition(node.right, scope)
        return build.or_(left, right) if decisive else build.and_(left, right)

    def _compare(self, node: s.BinaryOp, scope: Scope) -> Expr:
        value = self.constants.value(node, scope)
        if value is not None:
            return Const(1, value)
        left_width = self.widths.of(node.left, scope)
        right_width = self.widths.of(node.right, scope)
        width = left_width if left_width is not None else right_width
        if width is None:
            raise Mistake(node.at, "how wide are the two sides?", "name a width: zext(x, 64)")
        if left_width is not None and right_width is not None and left_width != right_width:
            raise Mistake(
                node.at,
                f"`{node.op}` of {plural(left_width, 'bit')} and {plural(right_width, 'bit')}",
                _resizing(min(left_width, right_width), max(left_width, right_width)),
            )
        left, right = self.expr(node.left, scope, width), self.expr(node.right, scope, width)
        op, swapped = builtins.COMPARISONS[node.op]
        return build.binary(op, right, left) if swapped else build.binary(op, left, right)

    def _shift(self, node: s.BinaryOp, scope: Scope, want: int | None) -> Expr:
        left_width = self.widths.of(node.left, scope)
        if left_width is None:
            value = self.constants.value(node, scope)
            if value is not None:
                return self.literal(value, want, node.at)
        left = self.expr(node.left, scope, left_width if left_width is not None else want)
        meant = isinstance(
            node.left, s.Call
        )  # zext(x, xlen) << 32 is for the targets where that is something
        shift = node.right.value if isinstance(node.right, s.Number) and node.op in ("<<", ">>u") else 0
        if shift >= left.width and not meant:
            raise Mistake(
                node.at,
                f"a shift of {plural(left.width, 'bit')} by {shift} leaves nothing of them",
                f"make it wider first: zext(x, {left.width + shift}) or sext(x, {left.width + shift})",
            )
        return build.binary(builtins.SHIFTS[node.op], left, self.amount(node.right, scope, left.width))

    def amount(self, node: s.Expr, scope: Scope, width: int) -> Expr:
        """A shift amount: a constant has as many bits as it needs, a widthless expression `width`."""
        own = self.widths.of(node, scope)
        if own is None:
            value = self.constants.value(node, scope)
            if value is not None:
                if value < 0:
                    raise Mistake(node.at, f"a shift by {value}")
                return Const(max(1, value.bit_length()), value)
        return self.expr(node, scope, own if own is not None else width)

    # --- bits --------------------------------------------------------------------------------

    def bit_range(self, node: s.SliceOf, width: int, scope: Scope) -> tuple[int, int]:
        """The slice's lowest bit and width, numbered from the least significant bit."""
        first = self.widths.require_const(node.first, scope, "a slice's bound")
        last = self.widths.require_const(node.last, scope, "a slice's bound")
        high, low = (width - 1 - first, width - 1 - last) if node.at.source.msb0 else (first, last)
        if high < low:
            raise Mistake(node.at, f"the slice {first}:{last} is upside down", f"write {last}:{first}")
        if low < 0 or high >= width:
            raise Mistake(node.at, f"the slice {first}:{last} leaves a value of {plural(width, 'bit')}")
        return low, high - low + 1

    def _slice(self, node: s.SliceOf, scope: Scope) -> Expr:
        base = self.sized(node.base, scope)
        low, width = self.bit_range(node, base.width, scope)
        return build.slice_(base, low, width)

    def sized(self, node: s.Expr, scope: Scope) -> Expr:
        """A value that must know its width by itself."""
        width = self.widths.of(node, scope)
        if width is None:
            width = self.constants.digits(node, scope)
        if width is None:
            raise Mistake(node.at, "how wide is this?", "name a width: zext(x, 64)")
        return self.expr(node, scope, width)

    def _slice_from(self, node: s.SliceFrom, scope: Scope) -> Expr:
        base = self.sized(node.base, scope)
        width = self.widths.require_width(node.width, scope)
        start = self.slice_start(node, base.width, width, scope)
        if isinstance(start, int):
            return build.slice_(base, start, width)
        return build.slice_(build.binary("lshr", base, start), 0, width)

    def slice_start(self, node: s.SliceFrom, base_width: int, width: int, scope: Scope) -> int | Expr:
        """The lowest bit of `base[start +: width]`: a number, or an expression."""
        if width > base_width:
            raise Mistake(node.at, f"{plural(width, 'bit')} of a value of {base_width}")
        msb0 = node.at.source.msb0
        value = self.constants.value(node.start, scope)
        if value is not None:
            low = base_width - value - width if msb0 else value
            if low < 0 or low + width > base_width:
                raise Mistake(node.at, f"{plural(width, 'bit')} from {value} leave a value of {base_width}")
            return low
        start = self.bit_number(node.start, base_width, scope)
        if not msb0:
            return start
        bits = max(start.width, base_width.bit_length())
        return build.binary("sub", Const(bits, base_width - width), build.zext(start, bits))

    def bit_number(self, node: s.Expr, base_width: int, scope: Scope) -> Expr:
        """The number of a bit; one without a width gets what `base_width` bits need."""
        own = self.widths.of(node, scope)
        return self.expr(node, scope, own if own is not None else max(1, (base_width - 1).bit_length()))

    def bit_position(self, node: s.Index, base_width: int, scope: Scope) -> int | Expr:
        """The bit that `base[index]` names: a number, or an expression."""
        msb0 = node.at.source.msb0
        value = self.constants.value(node.index, scope)
        if value is not None:
            if not 0 <= value < base_width:
                raise Mistake(node.at, f"there is no bit {value} in a value of {plural(base_width, 'bit')}")
            return base_width - 1 - value if msb0 else value
        index = self.bit_number(node.index, base_width, scope)
        if not msb0:
            return index
        bits = max(index.width, base_width.bit_length())
        return build.binary("sub", Const(bits, base_width - 1), build.zext(index, bits))

    # --- alternatives ------------------------------------------------------------------------

    def _match(self, node: s.MatchOf, scope: Scope, wants: Widths | None) -> tuple[Expr, ...]:
        value = self.constants.value(node.subject, scope)
        if value is not None:
            arm = self.constants.chosen_arm(node, value, scope)
            if arm is not None:
                return self.values(arm, scope, wants)
        subject = self.draft.settle(self.sized(node.subject, scope), "subject", node.subject.at)
        arms: list[tuple[Expr | None, s.Expr]] = []
        for patterns, condition in self.arm_conditions(
            node.at, [(a.patterns, a.at) for a in node.arms], subject, scope
        ):
            arms.append((condition, node.arms[patterns].value))
        if isinstance(subject, Const):
            chosen = next(v for c, v in arms if c is None or c == build.TRUE)
            return self.values(chosen, scope, wants)
        return self._alternatives(node.at, arms, scope, self._wants(node, scope, wants))

    def arm_conditions(
        self,
        at: Pos,
        arms: list[tuple[tuple[s.Expr | None, ...], Pos]],
        subject: Expr,
        scope: Scope,
        must_cover: bool = True,
    ) -> list[tuple[int, Expr | None]]:
        """(arm, its condition) for all arms that can be chosen; the last has None where the arms cover
        everything.
        """
        seen: dict[int, Pos] = {}
        result: list[tuple[int, Expr | None]] = []
        for number, (patterns, arm_at) in enumerate(arms):
            condition: Expr = build.FALSE
            for pattern in patterns:
                if pattern is None:
                    if number != len(arms) - 1:
                        raise Mistake(arm_at, "`else` is not the last arm", "put it last")
                    result.append((number, None))
                    return result
                lowered = self.expr(pattern, scope, subject.width)
                if not isinstance(lowered, Const):
                    raise Mistake(pattern.at, "a pattern is not a constant", "use `if` or `? :`")
                if lowered.value in seen:
                    raise Mistake(
                        pattern.at,
                        f"{lowered.value} has an arm already",
                        related=((seen[lowered.value], "first arm"),),
                    )
                seen[lowered.value] = pattern.at
                condition = build.or_(condition, build.eq(subject, lowered))
            result.append((number, condition))
        if len(seen) == 1 << subject.width:
            result[-1] = (result[-1][0], None)
        elif must_cover:
            raise Mistake(
                at,
                f"this `match` leaves out {(1 << subject.width) - len(seen)} of {1 << subject.width} values",
                "add an `else` arm",
            )
        return result

    def _alternatives(
        self, at: Pos, arms: list[tuple[Expr | None, s.Expr]], scope: Scope, wants: Widths
    ) -> tuple[Expr, ...]:
        """The values of the first arm whose condition holds."""
        condition, node = arms[0]
        if condition is None or condition == build.TRUE:
            return self.values(node, scope, wants)
        if condition == build.FALSE:
            return self._alternatives(at, arms[1:], scope, wants)
        with self.draft.block() as then_block:
            then = self.values(node, scope, wants)
        with self.draft.block() as other_block:
            otherwise = self._alternatives(at, arms[1:], scope, wants)
        for block, place in ((then_block, node), (other_block, arms[1][1])):
            if kind_of(condition) > DECODE and not is_pure(block):
                raise Mistake(
                    place.at,
                    "a memory access, call or assignment in a part that only sometimes runs",
                    "use `if`",
                )
        return self.draft.join(condition, (then_block, then), (other_block, otherwise), at)


def _resizing(have: int, want: int) -> str:
    if have < want:
        return f"extend it: zext(x, {want}) or sext(x, {want})"
    return f"cut it: x[{want - 1}:0] or low(x, {want})"
