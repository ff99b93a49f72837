"""Calls: built-ins, inlined functions, shared functions."""

from __future__ import annotations

from generator.ir import build
from generator.ir.lower import builtins
from generator.ir.lower.entities import SharedFunction
from generator.ir.lower.places import PlacePart
from generator.ir.lower.report import Mistake, Poisoned, did_you_mean, plural
from generator.ir.lower.scope import Broken, Column, Number, Scope, Values
from generator.ir.lower.widths import Widths
from generator.ir.nodes import CallStmt, Const, Context, Expr, If, Local, Raise, ReadReg, Return, Slice, Stmt
from generator.language import syntax as s
from generator.language.source import Pos


class CallPart(PlacePart):
    """Function calls."""

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
            entity = self.spec.entities.get(name.name)
            if isinstance(entity, (s.FnItem, SharedFunction, s.ViewItem)):
                return entity
            if entity is not None:
                raise Mistake(node.callee.at, f"`{name.name}` is not a function", "leave the parentheses out")
            if name.name in builtins.NAMES:
                return name.name
            if name.name in self.spec.broken:
                raise Poisoned
            known = [
                k
                for k, e in self.spec.entities.items()
                if isinstance(e, (s.FnItem, SharedFunction, s.ViewItem))
            ]
            raise Mistake(
                name.at,
                f"there is no function `{name.name}`",
                did_you_mean(name.name, [*known, *builtins.NAMES]),
            )

    # --- widths ------------------------------------------------------------------------------

    def call_widths(self, node: s.Call, scope: Scope) -> Widths:
        callee = self.callee(node, scope)
        if isinstance(callee, s.ViewItem):
            return (self.view_width(callee, node.callee, scope),)
        if isinstance(callee, SharedFunction):
            return callee.results
        if isinstance(callee, s.FnItem):
            if callee.result is None:
                return ()
            own = self._generics(callee, node, scope, None, partial=True)
            if own is None:
                return (None,) * len(callee.result.widths)
            return self.type_widths(callee.result, own)
        if callee in builtins.EXTENSIONS:
            return (self.require_width(node.args[1], scope),) if len(node.args) == 2 else (None,)
        if callee in builtins.UNARY:
            return (1,) if callee == "parity" else (self.width(self._argument(node, 0), scope),)
        if callee == "ones":
            return (self.require_width(self._argument(node, 0), scope),)
        if callee == "has":
            return (1,)
        if callee == "pick":
            first = self.width(self._argument(node, 1), scope)
            return (first if first is not None else self.width(self._argument(node, 2), scope),)
        function = builtins.FLOAT.get(callee) or builtins.EXTENDED[callee]
        widths = [self.require_width(self._argument(node, i), scope) for i in range(function.widths)]
        return self._float_results(function, widths)

    def _float_results(self, function: builtins.FloatFunction, widths: list[int]) -> tuple[int, ...]:
        """The widths of a floating-point built-in's results."""
        policy = self.spec.family.isa.values.get("float", "")
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

    def _arity(self, node: s.Call, *allowed: int) -> None:
        if len(node.args) not in allowed:
            wanted = " or ".join(str(n) for n in allowed)
            raise Mistake(
                node.at,
                f"`{node.callee.name}` takes {wanted} argument{'s' if allowed != (1,) else ''}, "
                f"not {len(node.args)}",
            )

    # --- lowering ----------------------------------------------------------------------------

    def call(self, node: s.Call, scope: Scope, wants: tuple[int | None, ...] | None) -> tuple[Expr, ...]:
        callee = self.callee(node, scope)
        if isinstance(callee, s.ViewItem):
            return (self.view_place(callee, node.callee, node.args, scope, node.at).read(self, node.at),)
        if isinstance(callee, SharedFunction):
            return self._call_shared(callee, node, scope)
        if isinstance(callee, s.FnItem):
            return self._inline(callee, node, scope, wants)
        if callee in builtins.FLOAT:
            return self._float(callee, node, scope)
        if callee in builtins.EXTENDED:
            return self._float80(callee, node, scope)
        return (self._builtin(callee, node, scope, wants[0] if wants else None),)

    def _builtin(self, name: str, node: s.Call, scope: Scope, want: int | None) -> Expr:
        if name in builtins.EXTENSIONS:
            return self._extension(name, node, scope, want)
        if name in builtins.UNARY:
            self._arity(node, 1)
            width = self.width(node.args[0], scope)
            operand = self.expr(node.args[0], scope, width if width is not None else want)
            if name == "parity":
                return build.slice_(build.unary("popcount", operand), 0, 1)
            if name == "byteswap" and operand.width % 8:
                raise Mistake(
                    node.at, f"byteswap of {plural(operand.width, 'bit')}", "the width is a multiple of 8"
                )
            return build.unary(name, operand)
        if name == "ones":
            self._arity(node, 1)
            width = self.require_width(node.args[0], scope)
            return build.const(width, -1)
        if name == "has":
            return self._has(node)
        self._arity(node, 3)  # pick
        condition = self.condition(node.args[0], scope)
        width = want
        for alternative in node.args[1:]:
            width = width if width is not None else self.width(alternative, scope)
        return build.select(
            condition,
            self.expr(node.args[1], scope, width),
            self.expr(node.args[2], scope, width),
            strict=True,
        )

    def _extension(self, name: str, node: s.Call, scope: Scope, want: int | None) -> Expr:
        self._arity(node, 1, 2)
        width = self.require_width(node.args[1], scope) if len(node.args) == 2 else want
        if width is None:
            raise Mistake(node.at, f"`{name}` to how many bits?", f"name them: {name}(x, 64)")
        argument = node.args[0]
        own = self.width(argument, scope)
        if own is None:
            own = self.digits(argument, scope) if name == "sext" else None
        if own is None:
            value = self.const(argument, scope)
            if value is not None:
                return self.literal(value, width, argument.at)
            own = width
        operand = self.expr(argument, scope, own)
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
        self._arity(node, 1)
        argument = node.args[0]
        if not isinstance(argument, s.Name):
            raise Mistake(argument.at, "a feature's name has to stand here", "has(Zba)")
        return self.feature(argument.name, argument.at)

    def feature(self, name: str, at: Pos) -> Expr:
        """Whether the machine has a feature: decode-time in instructions, read from the state in shared
        functions.
        """
        numbers = {n: i for i, n in enumerate(self.spec.family.features)}
        if name not in numbers:
            raise Mistake(
                at,
                f"there is no feature `{name}`",
                did_you_mean(name, numbers, f"declare it: feature {name}"),
            )
        self.spec.used_features[name] = numbers[name]
        if self.shared:
            return Slice(1, ReadReg(64, "features", None), numbers[name])
        return Context(1, f"has_{name}")

    def _float(self, name: str, node: s.Call, scope: Scope) -> tuple[Expr, ...]:
        function = builtins.FLOAT[name]
        count = function.widths + len(function.arguments)
        self._arity(node, count, count + 1)
        widths = [self.require_width(a, scope) for a in node.args[: function.widths]]
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
                self.expr(argument, scope, widths[int(width_)] if isinstance(width_, str) else width_)
            )
        mode = node.args[count] if len(node.args) > count else None
        arguments.append(
            Const(builtins.MODE_BITS, 0) if mode is None else self.expr(mode, scope, builtins.MODE_BITS)
        )
        results = self._float_results(function, widths)
        return self._emit_float(name, arguments, results, node)

    def _emit_float(
        self, name: str, arguments: list[Expr], results: tuple[int, ...], node: s.Call
    ) -> tuple[Expr, ...]:
        names = (self.hint or "value", "flags", "more")
        locals_ = tuple(self.fresh(n, w) for n, w in zip(names, results, strict=False))
        self.emit(CallStmt(locals_, name, tuple(arguments), True), node.at)
        return locals_

    def _float80(self, name: str, node: s.Call, scope: Scope) -> tuple[Expr, ...]:
        function = builtins.EXTENDED[name]
        self._arity(node, len(function.arguments))
        arguments = [
            self.expr(argument, scope, int(width))
            for width, argument in zip(function.arguments, node.args, strict=True)
        ]
        return self._emit_float(name, arguments, self._float_results(function, []), node)

    def _call_shared(self, callee: SharedFunction, node: s.Call, scope: Scope) -> tuple[Expr, ...]:
        self._arity(node, len(callee.parameters))
        arguments = tuple(
            self.expr(argument, scope, parameter.width)
            for argument, parameter in zip(node.args, callee.parameters, strict=True)
        )
        hint = self.hint or callee.name
        results = tuple(self.fresh(hint, w) for w in callee.results)
        self.emit(CallStmt(results, callee.name, arguments, False), node.at)
        return results

    # --- inlined functions -------------------------------------------------------------------

    def _generics(
        self,
        fn: s.FnItem,
        node: s.Call,
        scope: Scope,
        wants: tuple[int | None, ...] | None,
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
                own.names[name] = Number(self.require_const(value, scope, "a generic width"))
            return own
        self._arity(node, len(fn.params))
        missing = dict.fromkeys(fn.generics)
        for parameter, argument in zip(fn.params, node.args, strict=True):
            self._infer(
                parameter.type.widths, (self.width(argument, scope),) if missing else (), missing, own
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

    def _inline(
        self, fn: s.FnItem, node: s.Call, scope: Scope, wants: tuple[int | None, ...] | None
    ) -> tuple[Expr, ...]:
        self._arity(node, len(fn.params))
        own = self._generics(fn, node, scope, wants)
        assert own is not None
        simple = self._is_simple(fn)
        inner = own.inner()
        for parameter, argument in zip(fn.params, node.args, strict=True):
            value = self.expr(argument, scope, self.type_width(parameter.type, own))
            if not (simple and isinstance(value, (ReadReg, Local))) or isinstance(value, Local):
                value = self.settle(value, parameter.name, argument.at)
            inner.names[parameter.name] = Values((value,))
        widths = self.type_widths(fn.result, own) if fn.result is not None else ()
        outer_widths, outer_function, hint = self.result_widths, self._function, self.hint
        with self.deeper(node.at, fn.name):
            self.result_widths, self._function, self.hint = widths, fn, ""
            try:
                result, open_end = self.run(list(fn.body.body), inner)
            except Mistake as mistake:
                if not mistake.related and node.at.source is not None:
                    mistake.related = ((node.at, "called here"),)
                raise
            finally:
                self.result_widths, self._function, self.hint = outer_widths, outer_function, hint
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

    _function: s.FnItem | None = None

    def _is_simple(self, fn: s.FnItem) -> bool:
        """Whether `fn` is one expression without memory accesses and calls of anything but such functions."""
        known = self.spec.simple_functions
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
                entity = self.spec.entities.get(callee.name)
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

    # --- statements that may return ----------------------------------------------------------

    def run(self, statements: list[s.Stmt], scope: Scope) -> tuple[tuple[Expr, ...] | None, bool]:
        """Lower a function's statements in place: its results (None: no path returns), and whether a path
        gets to the
        end without returning or trapping."""
        for number, statement in enumerate(statements):
            if isinstance(statement, s.ReturnStmt):
                return self.return_values(statement, scope), False
            if not _returns(statement):
                before = len(self.out)
                self.statement(statement, scope)
                if any(never_ends(x) for x in self.out[before:]):
                    return None, False
                continue
            return self._run_branches(statement, statements[number + 1 :], scope)
        return ((), True) if not self.result_widths else (None, True)

    def return_values(self, statement: s.ReturnStmt, scope: Scope) -> tuple[Expr, ...]:
        widths = self.result_widths
        if statement.value is None:
            if widths:
                raise Mistake(
                    statement.at, f"`return` without the {plural(len(widths), 'value')} of the function"
                )
            return ()
        if not widths:
            if isinstance(statement.value, s.Call) and self.call_widths(statement.value, scope) == ():
                self.call(statement.value, scope, ())
                return ()
            raise Mistake(statement.at, "this function has no result", "say it: fn f(...) -> bits(...)")
        return self.values(statement.value, scope, widths)

    def _run_branches(
        self, statement: s.Stmt, rest: list[s.Stmt], scope: Scope
    ) -> tuple[tuple[Expr, ...] | None, bool]:
        """An `if` or `match` some of whose branches return: each goes on with the statements behind."""
        if isinstance(statement, s.IfStmt):
            condition = self.condition(statement.condition, scope)
            then = list(statement.then.body)
            otherwise = list(statement.otherwise.body) if statement.otherwise is not None else []
            return self._fork([(condition, then), (None, otherwise)], rest, scope, statement.at)
        if isinstance(statement, s.MatchStmt):
            arms = self.statement_arms(statement, scope)
            branches = [(c, list(body.body)) for c, body in arms]
            if branches[-1][0] is not None:
                branches.append((None, []))
            return self._fork(branches, rest, scope, statement.at)
        raise Mistake(statement.at, "`return` from inside a loop", "only a `shared fn` may do that")

    def _fork(
        self, branches: list[tuple[Expr | None, list[s.Stmt]]], rest: list[s.Stmt], scope: Scope, at: Pos
    ) -> tuple[tuple[Expr, ...] | None, bool]:
        condition, body = branches[0]
        if condition is None or condition == build.TRUE:
            return self.run([*body, *rest], scope.inner())
        if condition == build.FALSE:
            return self._fork(branches[1:], rest, scope, at)
        with self.block() as then_block:
            then, then_open = self.run([*body, *rest], scope.inner())
        with self.block() as other_block:
            otherwise, other_open = self._fork(branches[1:], rest, scope, at)
        is_open = then_open or other_open
        if then is None or otherwise is None:
            # One branch traps (or both do): its statements stand in an `if`, the other's go on.
            first: tuple[Stmt, ...] = tuple(then_block) if then is None else ()
            second: tuple[Stmt, ...] = tuple(other_block) if otherwise is None else ()
            if first:
                self.emit(If(condition, first, second), at)
            elif second:
                self.emit(If(build.not_(condition), second, ()), at)
            if then is not None:
                self.out.extend(then_block)
            elif otherwise is not None:
                self.out.extend(other_block)
            return (then if then is not None else otherwise), is_open
        return self.join(condition, (then_block, then), (other_block, otherwise), at), is_open

    # --- in the statements' part -------------------------------------------------------------

    def statement(self, node: s.Stmt, scope: Scope) -> None:
        raise NotImplementedError

    def statement_arms(self, node: s.MatchStmt, scope: Scope) -> list[tuple[Expr | None, s.BlockStmt]]:
        raise NotImplementedError


def _returns(statement: s.Stmt) -> bool:
    """Whether a `return` stands in `statement`."""
    match statement:
        case s.ReturnStmt():
            return True
        case s.IfStmt(then=then, otherwise=otherwise):
            return any(map(_returns, then.body)) or (
                otherwise is not None and any(map(_returns, otherwise.body))
            )
        case s.MatchStmt(arms=arms):
            return any(_returns(x) for arm in arms for x in arm.body.body)
        case s.ForRangeStmt(body=body) | s.ForSetStmt(body=body) | s.AtomicStmt(body=body):
            return any(map(_returns, body.body))
        case _:
            return False


def never_ends(statement: Stmt) -> bool:
    """Whether nothing behind `statement` runs."""
    match statement:
        case Raise() | Return():
            return True
        case If(then=then, otherwise=otherwise):
            return any(map(never_ends, then)) and any(map(never_ends, otherwise))
        case _:
            return False
