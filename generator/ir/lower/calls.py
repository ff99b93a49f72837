"""Calls: built-ins, inlined functions, shared functions."""

from __future__ import annotations

from generator.ir import build
from generator.ir.lower import builtins
from generator.ir.lower.constants import Constants
from generator.ir.lower.draft import Draft
from generator.ir.lower.entities import SharedFunction
from generator.ir.lower.expressions import ExpressionLowering
from generator.ir.lower.place_lowering import PlaceLowering
from generator.ir.lower.recursion import Recursion, Widths
from generator.ir.lower.report import Mistake, did_you_mean, plural
from generator.ir.lower.scope import Scope, Values
from generator.ir.lower.signatures import Signatures, check_arity
from generator.ir.lower.widths import WidthFinder
from generator.ir.nodes import CallStmt, Const, Context, Expr, Local, ReadReg, Slice
from generator.language import syntax as s
from generator.language.source import Pos


class CallLowering:
    """Function calls, and what functions return."""

    def __init__(
        self,
        draft: Draft,
        constants: Constants,
        widths: WidthFinder,
        signatures: Signatures,
        expressions: ExpressionLowering,
        places: PlaceLowering,
        recursion: Recursion,
    ) -> None:
        self.draft = draft
        self.constants = constants
        self.widths = widths
        self.signatures = signatures
        self.expressions = expressions
        self.places = places
        self.recursion = recursion

    def call(self, node: s.Call, scope: Scope, wants: Widths | None) -> tuple[Expr, ...]:
        """The results of a call. Raises Mistake."""
        callee = self.signatures.callee(node, scope)
        if isinstance(callee, s.ViewItem):
            place = self.places.view_place(callee, node.callee, node.args, scope, node.at)
            return (place.read(self.draft, node.at),)
        if isinstance(callee, SharedFunction):
            return self._call_shared(callee, node, scope)
        if isinstance(callee, s.FnItem):
            return self._inline(callee, node, scope, wants)
        if callee in builtins.FLOAT:
            return self._float(callee, node, scope)
        if callee in builtins.EXTENDED:
            return self._float80(callee, node, scope)
        return (self._builtin(callee, node, scope, wants[0] if wants else None),)

    # --- built-ins ---------------------------------------------------------------------------

    def _builtin(self, name: str, node: s.Call, scope: Scope, want: int | None) -> Expr:
        if name in builtins.EXTENSIONS:
            return self._extension(name, node, scope, want)
        if name in builtins.UNARY:
            check_arity(node, 1)
            width = self.widths.of(node.args[0], scope)
            operand = self.expressions.expr(node.args[0], scope, width if width is not None else want)
            if name == "parity":
                return build.slice_(build.unary("popcount", operand), 0, 1)
            if name == "byteswap" and operand.width % 8:
                raise Mistake(
                    node.at, f"byteswap of {plural(operand.width, 'bit')}", "the width is a multiple of 8"
                )
            return build.unary(name, operand)
        if name == "ones":
            check_arity(node, 1)
            width = self.widths.require_width(node.args[0], scope)
            return build.const(width, -1)
        if name == "has":
            return self._has(node)
        check_arity(node, 3)  # pick
        condition = self.expressions.condition(node.args[0], scope)
        width = want
        for alternative in node.args[1:]:
            width = width if width is not None else self.widths.of(alternative, scope)
        return build.select(
            condition,
            self.expressions.expr(node.args[1], scope, width),
            self.expressions.expr(node.args[2], scope, width),
            strict=True,
        )

    def _extension(self, name: str, node: s.Call, scope: Scope, want: int | None) -> Expr:
        check_arity(node, 1, 2)
        width = self.widths.require_width(node.args[1], scope) if len(node.args) == 2 else want
        if width is None:
            raise Mistake(node.at, f"`{name}` to how many bits?", f"name them: {name}(x, 64)")
        argument = node.args[0]
        own = self.widths.of(argument, scope)
        if own is None:
            own = self.constants.digits(argument, scope) if name == "sext" else None
        if own is None:
            value = self.constants.value(argument, scope)
            if value is not None:
                return self.expressions.literal(value, width, argument.at)
            own = width
        operand = self.expressions.expr(argument, scope, own)
        if name == "low":
            if operand.width < width:
                raise Mistake(
                    node.at,
                    f"`low` of {plural(operand.width, 'bit')} gives no {width}",
                    f"zext(x, {width}) or sext(x, {width})",
                )
            return build.slice_(operand, 0, width)
        if operand.width > width:
            raise Mistake(
                node.at,
                f"`{name}` of {plural(operand.width, 'bit')} to {width}",
                f"cut it: low(x, {width}) or x[{width - 1}:0]",
            )
        return build.unary(name, operand, width)

    def _has(self, node: s.Call) -> Expr:
        check_arity(node, 1)
        argument = node.args[0]
        if not isinstance(argument, s.Name):
            raise Mistake(argument.at, "a feature's name has to stand here", "has(Zba)")
        return self.feature(argument.name, argument.at)

    def feature(self, name: str, at: Pos) -> Expr:
        """Whether the machine has a feature: decode-time in instructions, read from the state in shared
        functions.
        """
        numbers = {n: i for i, n in enumerate(self.draft.spec.family.features)}
        if name not in numbers:
            raise Mistake(
                at,
                f"there is no feature `{name}`",
                did_you_mean(name, numbers, f"declare it: feature {name}"),
            )
        self.draft.spec.used_features[name] = numbers[name]
        if self.draft.shared:
            return Slice(1, ReadReg(64, "features", None), numbers[name])
        return Context(1, f"has_{name}")

    def _float(self, name: str, node: s.Call, scope: Scope) -> tuple[Expr, ...]:
        function = builtins.FLOAT[name]
        count = function.widths + len(function.arguments)
        check_arity(node, count, count + 1)
        widths = [self.widths.require_width(a, scope) for a in node.args[: function.widths]]
        integer = {"f2s": 0, "f2u": 0, "s2f": 1, "u2f": 1}.get(name)
        for number, (width, argument) in enumerate(zip(widths, node.args, strict=False)):
            allowed = (32, 64) if number == integer else builtins.FLOAT_WIDTHS
            if width not in allowed:
                raise Mistake(
                    argument.at,
                    f"`{name}` knows no width of {width}",
                    "one of " + ", ".join(str(w) for w in allowed),
                )
        arguments: list[Expr] = [Const(8, w) for w in widths]
        for width_, argument in zip(function.arguments, node.args[function.widths : count], strict=True):
            arguments.append(
                self.expressions.expr(
                    argument, scope, widths[int(width_)] if isinstance(width_, str) else width_
                )
            )
        mode = node.args[count] if len(node.args) > count else None
        arguments.append(
            Const(builtins.MODE_BITS, 0)
            if mode is None
            else self.expressions.expr(mode, scope, builtins.MODE_BITS)
        )
        results = self.signatures.float_results(function, widths)
        return self._emit_float(name, arguments, results, node)

    def _emit_float(
        self, name: str, arguments: list[Expr], results: tuple[int, ...], node: s.Call
    ) -> tuple[Expr, ...]:
        names = (self.draft.hint or "value", "flags", "more")
        locals_ = tuple(self.draft.fresh(n, w) for n, w in zip(names, results, strict=False))
        self.draft.emit(CallStmt(locals_, name, tuple(arguments), True), node.at)
        return locals_

    def _float80(self, name: str, node: s.Call, scope: Scope) -> tuple[Expr, ...]:
        function = builtins.EXTENDED[name]
        check_arity(node, len(function.arguments))
        arguments = [
            self.expressions.expr(argument, scope, int(width))
            for width, argument in zip(function.arguments, node.args, strict=True)
        ]
        return self._emit_float(name, arguments, self.signatures.float_results(function, []), node)

    # --- functions ---------------------------------------------------------------------------

    def _call_shared(self, callee: SharedFunction, node: s.Call, scope: Scope) -> tuple[Expr, ...]:
        check_arity(node, len(callee.parameters))
        arguments = tuple(
            self.expressions.expr(argument, scope, parameter.width)
            for argument, parameter in zip(node.args, callee.parameters, strict=True)
        )
        hint = self.draft.hint or callee.name
        results = tuple(self.draft.fresh(hint, w) for w in callee.results)
        self.draft.emit(CallStmt(results, callee.name, arguments, False), node.at)
        return results

    def _inline(self, fn: s.FnItem, node: s.Call, scope: Scope, wants: Widths | None) -> tuple[Expr, ...]:
        check_arity(node, len(fn.params))
        own = self.signatures.generics(fn, node, scope, wants)
        assert own is not None
        simple = self._is_simple(fn)
        inner = own.inner()
        for parameter, argument in zip(fn.params, node.args, strict=True):
            value = self.expressions.expr(argument, scope, self.widths.type_width(parameter.type, own))
            if not (simple and isinstance(value, (ReadReg, Local))) or isinstance(value, Local):
                value = self.draft.settle(value, parameter.name, argument.at)
            inner.names[parameter.name] = Values((value,))
        widths = self.widths.type_widths(fn.result, own) if fn.result is not None else ()
        with self.draft.deeper(node.at, fn.name), self.draft.inlined(fn, widths):
            try:
                result, open_end = self.recursion.run(list(fn.body.body), inner)
            except Mistake as mistake:
                if not mistake.related and node.at.source is not None:
                    mistake.related = ((node.at, "called here"),)
                raise
        if result is None:
            if fn.result is not None and open_end:
                raise Mistake(
                    fn.at, f"`{fn.name}` does not return a value on every path", "end it with `return`"
                )
            # All paths trap: what follows never runs, but needs values to be written down.
            return tuple(build.const(w, 0) for w in widths)
        if fn.result is not None and open_end:
            raise Mistake(fn.at, f"`{fn.name}` does not return a value on every path", "end it with `return`")
        return result

    def _is_simple(self, fn: s.FnItem) -> bool:
        """Whether `fn` is one expression without memory accesses and calls of anything but such functions."""
        known = self.draft.spec.simple_functions
        if id(fn) not in known:
            known[id(fn)] = False  # while it is looked at: a function that calls itself is not simple
            body = fn.body.body
            known[id(fn)] = (
                len(body) == 1
                and isinstance(body[0], s.ReturnStmt)
                and body[0].value is not None
                and self._is_simple_expression(body[0].value)
            )
        return known[id(fn)]

    def _is_simple_expression(self, node: s.Expr) -> bool:
        match node:
            case s.Mem() | s.Lanes():
                return False
            case s.Call(callee=callee, args=args):
                entity = self.draft.spec.entities.get(callee.name)
                if (
                    isinstance(entity, SharedFunction)
                    or callee.name in builtins.FLOAT.keys() | builtins.EXTENDED.keys()
                ):
                    return False
                if isinstance(entity, s.FnItem) and not self._is_simple(entity):
                    return False
                return all(self._is_simple_expression(a) for a in args)
            case s.BinaryOp(left=left, right=right):
                return self._is_simple_expression(left) and self._is_simple_expression(right)
            case s.UnaryOp(operand=operand):
                return self._is_simple_expression(operand)
            case s.Ternary(condition=condition, then=then, otherwise=otherwise):
                return all(self._is_simple_expression(e) for e in (condition, then, otherwise))
            case s.TupleOf(items=items):
                return all(self._is_simple_expression(i) for i in items)
            case s.MatchOf(subject=subject, arms=arms):
                return self._is_simple_expression(subject) and all(
                    self._is_simple_expression(a.value) for a in arms
                )
            case s.SliceOf(base=base) | s.Member(base=base):
                return self._is_simple_expression(base)
            case s.Index(base=base, index=index):
                return self._is_simple_expression(base) and self._is_simple_expression(index)
            case s.SliceFrom(base=base, start=start):
                return self._is_simple_expression(base) and self._is_simple_expression(start)
            case _:
                return True

    def return_values(self, statement: s.ReturnStmt, scope: Scope) -> tuple[Expr, ...]:
        """What a `return` returns, as wide as the function says."""
        widths = self.draft.result_widths
        if statement.value is None:
            if widths:
                raise Mistake(
                    statement.at, f"`return` without the {plural(len(widths), 'value')} of the function"
                )
            return ()
        if not widths:
            if (
                isinstance(statement.value, s.Call)
                and self.signatures.call_widths(statement.value, scope) == ()
            ):
                self.call(statement.value, scope, ())
                return ()
            raise Mistake(statement.at, "this function has no result", "say it: fn f(...) -> bits(...)")
        return self.expressions.values(statement.value, scope, widths)
