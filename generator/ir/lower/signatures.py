"""Calls seen from outside: what is called, its generic widths, the widths of its results."""

from __future__ import annotations

from generator.ir.lower import builtins
from generator.ir.lower.draft import Draft
from generator.ir.lower.entities import SharedFunction
from generator.ir.lower.recursion import Widths
from generator.ir.lower.report import Mistake, Poisoned, did_you_mean, plural
from generator.ir.lower.scope import Broken, Column, Number, Scope
from generator.ir.lower.widths import WidthFinder
from generator.language import syntax as s


class Signatures:
    """What a call calls, and how wide its results are."""

    def __init__(self, draft: Draft, widths: WidthFinder) -> None:
        self.draft = draft
        self.widths = widths

    def callee(self, node: s.Call, scope: Scope) -> str | s.FnItem | SharedFunction | s.ViewItem:
        """What a call calls: a built-in's name, or the function. A column may stand for one."""
        name = node.callee
        while True:
            found = scope.find(name.name)
            if isinstance(found, Column):
                if not isinstance(found.expression, s.Name) or found.expression is name:
                    raise Mistake(
                        node.callee.at,
                        f"`{name.name}` is not a function in this row",
                        related=((found.expression.at, "its value"),),
                    )
                name = found.expression
                if scope.find(name.name) is found:
                    raise Mistake(name.at, "this column's value names the column itself")
                continue
            if isinstance(found, Broken):
                raise Poisoned
            if found is not None:
                raise Mistake(node.callee.at, f"`{name.name}` is not a function", "leave the parentheses out")
            entity = self.draft.spec.entities.get(name.name)
            if isinstance(entity, (s.FnItem, SharedFunction, s.ViewItem)):
                return entity
            if entity is not None:
                raise Mistake(node.callee.at, f"`{name.name}` is not a function", "leave the parentheses out")
            if name.name in builtins.NAMES:
                return name.name
            if name.name in self.draft.spec.broken:
                raise Poisoned
            known = [
                k
                for k, e in self.draft.spec.entities.items()
                if isinstance(e, (s.FnItem, SharedFunction, s.ViewItem))
            ]
            raise Mistake(
                name.at,
                f"there is no function `{name.name}`",
                did_you_mean(name.name, [*known, *builtins.NAMES]),
            )

    def call_widths(self, node: s.Call, scope: Scope) -> Widths:
        """The widths of a call's results; () where it has none."""
        callee = self.callee(node, scope)
        if isinstance(callee, s.ViewItem):
            return (self.widths.view_width(callee, node.callee, scope),)
        if isinstance(callee, SharedFunction):
            return callee.results
        if isinstance(callee, s.FnItem):
            if callee.result is None:
                return ()
            own = self.generics(callee, node, scope, None, partial=True)
            if own is None:
                return (None,) * len(callee.result.widths)
            return self.widths.type_widths(callee.result, own)
        if callee in builtins.EXTENSIONS:
            return (self.widths.require_width(node.args[1], scope),) if len(node.args) == 2 else (None,)
        if callee in builtins.UNARY:
            return (1,) if callee == "parity" else (self.widths.of(self._argument(node, 0), scope),)
        if callee == "ones":
            return (self.widths.require_width(self._argument(node, 0), scope),)
        if callee == "has":
            return (1,)
        if callee == "pick":
            first = self.widths.of(self._argument(node, 1), scope)
            return (first if first is not None else self.widths.of(self._argument(node, 2), scope),)
        function = builtins.FLOAT.get(callee) or builtins.EXTENDED[callee]
        widths = [self.widths.require_width(self._argument(node, i), scope) for i in range(function.widths)]
        return self.float_results(function, widths)

    def float_results(self, function: builtins.FloatFunction, widths: list[int]) -> tuple[int, ...]:
        """The widths of a floating-point built-in's results."""
        policy = self.draft.spec.family.isa.values.get("float", "")
        flags = builtins.FLAG_BITS.get(policy, builtins.USUAL_FLAG_BITS)
        return tuple(
            r if isinstance(r, int) else flags if r == "flags" else widths[int(r)] for r in function.results
        )

    @staticmethod
    def _argument(node: s.Call, number: int) -> s.Expr:
        if number >= len(node.args):
            raise Mistake(
                node.at, f"`{node.callee.name}` needs more than {plural(len(node.args), 'argument')}"
            )
        return node.args[number]

    def generics(
        self,
        fn: s.FnItem,
        node: s.Call,
        scope: Scope,
        wants: Widths | None,
        partial: bool = False,
    ) -> Scope | None:
        """A scope with the values of `fn`'s generic names: given, or inferred from arguments and wanted
        results.
        """
        own = Scope()
        given = node.callee.generics
        if given:
            if len(given) != len(fn.generics):
                raise Mistake(
                    node.callee.at,
                    f"`{fn.name}` takes {plural(len(fn.generics), 'generic width')}, not {len(given)}",
                )
            for name, value in zip(fn.generics, given, strict=True):
                own.names[name] = Number(self.widths.require_const(value, scope, "a generic width"))
            return own
        check_arity(node, len(fn.params))
        missing = dict.fromkeys(fn.generics)
        for parameter, argument in zip(fn.params, node.args, strict=True):
            self._infer(
                parameter.type.widths, (self.widths.of(argument, scope),) if missing else (), missing, own
            )
        if fn.result is not None and wants is not None and missing:
            self._infer(fn.result.widths, wants, missing, own)
        if missing:
            if partial:
                return None
            raise Mistake(
                node.at,
                f"what is `{next(iter(missing))}` in this call of `{fn.name}`?",
                f"say it: {fn.name}<{', '.join(fn.generics)}>(...)",
            )
        return own

    @staticmethod
    def _infer(widths: tuple[s.Expr, ...], known: Widths, missing: dict[str, None], own: Scope) -> None:
        for expression, width in zip(widths, known, strict=False):
            if isinstance(expression, s.Name) and expression.name in missing and width is not None:
                own.names[expression.name] = Number(width)
                del missing[expression.name]


def check_arity(node: s.Call, *allowed: int) -> None:
    """Raises Mistake if a call has another number of arguments than the allowed ones."""
    if len(node.args) not in allowed:
        wanted = " or ".join(str(n) for n in allowed)
        raise Mistake(
            node.at,
            f"`{node.callee.name}` takes {wanted} argument{'s' if allowed != (1,) else ''}, "
            f"not {len(node.args)}",
        )
