"""Partial evaluation of one path through a behaviour: decisions taken, decode-time values propagated.

`Reducer` walks a body in order. Locals bound to decode-time values disappear into the expressions that use
them; an `If`, `Select` or `match` on a decode-time condition asks its `decide` which way this path goes. What
remains is dynamic, except for maximal decode-time subexpressions, which `generator.ir.specialise` moves into
records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from generator.ir import build, nodes
from generator.ir.effects import blocks, expressions, statements, subexpressions
from generator.ir.nodes import DECODE, DYNAMIC, Block, Const, Expr, Local, Stmt, kind_of
from generator.model.target import Register

Decide = Callable[[Expr], bool]


class Reducer:
    """Reduces one body along one path."""

    def __init__(self, registers: Mapping[str, Register], decide: Decide) -> None:
        self._registers = registers
        self._decide = decide
        self._values: dict[Local, Expr] = {}
        self._pinned: set[Local] = set()  # assigned where it may or may not run: always kept as variables

    # --- expressions ----------------------------------------------------------------------------------------

    def expression(self, expr: Expr) -> Expr:
        """`expr` with known locals replaced, folded, and without open decisions."""
        match expr:
            case nodes.Local():
                return self._values.get(expr, expr)
            case nodes.Unary(width=width, op=op, operand=operand):
                return build.unary(op, self.expression(operand), width)
            case nodes.Slice(width=width, operand=operand, low=low):
                return build.slice_(self.expression(operand), low, width)
            case nodes.Binary(op=op, left=left, right=right):
                return build.binary(op, self.expression(left), self.expression(right))
            case nodes.Select():
                return self._select(expr)
            case nodes.ReadReg(width=width, register=name, index=index) if index is not None:
                return self._read(width, name, self.expression(index))
        return expr

    def _select(self, expr: nodes.Select) -> Expr:
        condition = self.expression(expr.condition)
        if expr.strict or kind_of(condition) == DYNAMIC:
            then, otherwise = self.expression(expr.then), self.expression(expr.otherwise)
            return build.select(condition, then, otherwise, expr.strict)
        if isinstance(condition, Const):
            return self.expression(expr.then if condition.value else expr.otherwise)
        if kind_of(expr.then) != DYNAMIC and kind_of(expr.otherwise) != DYNAMIC:
            then, otherwise = self.expression(expr.then), self.expression(expr.otherwise)
            return build.select(condition, then, otherwise)
        return self.expression(expr.then if self._decide(condition) else expr.otherwise)

    def _read(self, width: int, name: str, index: Expr) -> Expr:
        if isinstance(index, Const) and index.value == self._registers[name].zero:
            return Const(width, 0)
        return nodes.ReadReg(width, name, index)

    # --- statements -----------------------------------------------------------------------------------------

    def block(self, block: Block) -> Block:
        """The residual statements of `block`."""
        out: list[Stmt] = []
        for stmt in block:
            out += self._statement(stmt)
            if out and isinstance(out[-1], nodes.Raise | nodes.Return | nodes.Goto):
                break
        return tuple(out)

    def _statement(self, stmt: Stmt) -> list[Stmt]:
        match stmt:
            case nodes.Let(local=local, value=value) | nodes.Assign(local=local, value=value):
                return self._bind(stmt, local, self.expression(value))
            case nodes.WriteReg(register=name, index=index, value=value):
                return self._write(name, index, self.expression(value))
            case nodes.Load(address=address, little=little):
                return [replace(stmt, address=self.expression(address), little=self._order(little))]
            case nodes.Store(address=address, value=value, little=little):
                address, value = self.expression(address), self.expression(value)
                return [replace(stmt, address=address, value=value, little=self._order(little))]
            case nodes.If(condition=condition, then=then, otherwise=otherwise):
                return self._if(self.expression(condition), then, otherwise)
            case nodes.ForRange(body=body):
                before = self._materialise(body)
                return [*before, replace(stmt, body=self._inside(body))]
            case nodes.ForSet(mask=mask, body=body):
                mask = self.expression(mask)
                before = self._materialise(body)
                return [*before, replace(stmt, mask=mask, body=self._inside(body))]
            case nodes.Atomic(body=body):
                return [replace(stmt, body=self.block(body))]
            case nodes.Goto(target=target, annul=annul):
                annul = None if annul is None else self._decided(self.expression(annul))
                return [replace(stmt, target=self.expression(target), annul=annul)]
            case nodes.Skip(condition=condition):
                condition = self._decided(self.expression(condition))
                return [] if condition == build.FALSE else [nodes.Skip(condition)]
            case nodes.Raise(code=code, arguments=arguments):
                values = tuple(self.expression(argument) for argument in arguments)
                return [replace(stmt, code=self.expression(code), arguments=values)]
            case nodes.CallStmt(arguments=arguments):
                return [replace(stmt, arguments=tuple(self.expression(argument) for argument in arguments))]
            case nodes.Return(values=values):
                return [nodes.Return(tuple(self.expression(value) for value in values))]
        raise TypeError(f"unknown statement {stmt}")

    def _decided(self, condition: Expr) -> Expr:
        """A decode-time condition becomes constant, by a decision."""
        if isinstance(condition, Const) or kind_of(condition) == DYNAMIC:
            return condition
        return build.TRUE if self._decide(condition) else build.FALSE

    def _order(self, little: Expr) -> Expr:
        little = self._decided(self.expression(little))
        if not isinstance(little, Const):
            raise TypeError("the byte order of an access is not known when it is decoded")
        return little

    def _bind(self, stmt: nodes.Let | nodes.Assign, local: Local, value: Expr) -> list[Stmt]:
        if kind_of(value) != DYNAMIC and local not in self._pinned:
            self._values[local] = value
            return []
        self._values.pop(local, None)
        return [replace(stmt, value=value)]

    def _write(self, name: str, index: Expr | None, value: Expr) -> list[Stmt]:
        register = self._registers.get(name)
        if index is None:
            return [nodes.WriteReg(name, None, value)]
        index = self.expression(index)
        if isinstance(index, Const) and register is not None and index.value == register.zero:
            return []
        return [nodes.WriteReg(name, index, value)]

    def _if(self, condition: Expr, then: Block, otherwise: Block) -> list[Stmt]:
        if isinstance(condition, Const):
            return list(self.block(then if condition.value else otherwise))
        if kind_of(condition) == DECODE:
            return list(self.block(then if self._decide(condition) else otherwise))
        before = self._materialise((*then, *otherwise))
        yes, no = self._inside(then), self._inside(otherwise)
        if not yes and not no:
            return before
        if not yes:
            condition, yes, no = build.not_(condition), no, yes
        return [*before, nodes.If(condition, yes, no)]

    def _inside(self, block: Block) -> Block:
        """A block that may or may not run: what it learns about locals does not hold behind it."""
        saved = dict(self._values)
        reduced = self.block(block)
        self._values = saved
        return reduced

    def _materialise(self, block: Block) -> list[Stmt]:
        """Give run-time values to the known locals that `block` assigns."""
        out: list[Stmt] = []
        for stmt in statements(block):
            if isinstance(stmt, nodes.Assign):
                self._pinned.add(stmt.local)
                if stmt.local in self._values:
                    out.append(nodes.Assign(stmt.local, self._values.pop(stmt.local)))
        return out


# --- cleaning up --------------------------------------------------------------------------------------------


def without_dead(block: Block) -> Block:
    """`block` without bindings that nothing reads. Loads and calls stay: they may trap."""
    while True:
        used = {
            inner
            for stmt in statements(block)
            for expr in expressions(stmt)
            for inner in subexpressions(expr)
            if isinstance(inner, Local)
        }
        kept = _keep(block, used)
        if kept == block:
            return block
        block = kept


def _keep(block: Block, used: set[Local]) -> Block:
    out: list[Stmt] = []
    for stmt in block:
        match stmt:
            case nodes.Let(local=local) | nodes.Assign(local=local) if local not in used:
                continue
            case nodes.If(then=then, otherwise=otherwise):
                then, otherwise = _keep(then, used), _keep(otherwise, used)
                if not then and not otherwise:
                    continue
                out.append(replace(stmt, then=then, otherwise=otherwise))
            case nodes.Atomic(body=()):
                out.append(stmt)
            case nodes.ForRange(body=body) | nodes.ForSet(body=body) | nodes.Atomic(body=body):
                body = _keep(body, used)
                if body:
                    out.append(replace(stmt, body=body))
            case _:
                out.append(stmt)
    return tuple(out)


def contains(block: Block, kinds: type[Stmt] | tuple[type[Stmt], ...]) -> bool:
    """Whether a statement of these kinds is in `block`, at any depth."""
    return any(isinstance(stmt, kinds) or any(contains(b, kinds) for b in blocks(stmt)) for stmt in block)
