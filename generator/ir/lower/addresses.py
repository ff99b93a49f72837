"""Stores to what an `atomic` has read before get that load's address, so that both are seen to be one place.

An operand in memory that is read and then written (``dst = dst + 1``) computes its address twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from generator.ir.nodes import (
    Assign,
    Binary,
    Block,
    CallStmt,
    Expr,
    If,
    Let,
    Load,
    Local,
    ReadReg,
    Select,
    Slice,
    Stmt,
    Store,
    Unary,
    WriteReg,
)

Definition = Expr | tuple[CallStmt, int]
"""What a name is bound to: a value, or a result of a call."""


def with_shared_addresses(block: Sequence[Stmt]) -> Block:
    """`block`, an atomic's body, whose stores use the address of a load of the same place."""
    return _Places().shared(block)


@dataclass
class _Places:
    """What is known at a place of the body."""

    definitions: dict[str, Definition] = field(default_factory=dict)
    loads: list[Load] = field(default_factory=list)
    """Those whose address would come out the same if it were computed anew."""

    def shared(self, block: Sequence[Stmt]) -> Block:
        return tuple(self._statement(statement) for statement in block)

    def _statement(self, statement: Stmt) -> Stmt:
        match statement:
            case Let(local=local, value=value):
                self.definitions[local.name] = value
            case Load():
                self.loads.append(statement)
            case Store():
                known = (load for load in reversed(self.loads) if self._is_place_of(load, statement))
                same = next(known, None)
                return statement if same is None else replace(statement, address=same.address)
            case WriteReg(register=name) | Assign(local=Local(name=name)):
                self.loads = [load for load in self.loads if name not in set(self._names(load.address))]
            case CallStmt(results=results):
                for number, local in enumerate(results):
                    self.definitions[local.name] = (statement, number)
                if not statement.builtin:  # it may write anything, but addresses' functions only check
                    self.loads = [load for load in self.loads if not self._reads_registers(load.address)]
            case If(condition=condition, then=then, otherwise=otherwise):
                sides = [_Places(dict(self.definitions), list(self.loads)) for _ in range(2)]
                then, otherwise = sides[0].shared(then), sides[1].shared(otherwise)
                self.loads = [load for load in self.loads if all(load in side.loads for side in sides)]
                return If(condition, then, otherwise)
            case _:
                self.loads = []
        return statement

    def _is_place_of(self, load: Load, store: Store) -> bool:
        return (
            load.space == store.space
            and load.little == store.little
            and load.local.width == store.value.width
            and self._equal(load.address, store.address)
        )

    def _equal(self, one: Expr, other: Expr) -> bool:
        """Whether both are the same computation, whatever names its parts have."""
        left, right = self._meaning(one), self._meaning(other)
        if left == right:
            return True
        if isinstance(left, tuple) or isinstance(right, tuple):
            return False
        parts, others = _parts(left), _parts(right)
        if not parts or len(parts) != len(others) or _without_parts(left) != _without_parts(right):
            return False
        return all(self._equal(part, another) for part, another in zip(parts, others, strict=True))

    def _meaning(self, expr: Expr) -> Definition:
        while isinstance(expr, Local):
            definition = self.definitions.get(expr.name)
            if definition is None:
                return expr
            if isinstance(definition, tuple):
                return definition
            expr = definition
        return expr

    def _names(self, expr: Expr) -> Iterator[str]:
        """The registers and names that a value is computed from."""
        if isinstance(expr, Local):
            yield expr.name
        meaning = self._meaning(expr)
        if isinstance(meaning, tuple):
            for argument in meaning[0].arguments:
                yield from self._names(argument)
            return
        if isinstance(meaning, ReadReg):
            yield meaning.register
        for part in _parts(meaning):
            yield from self._names(part)

    def _reads_registers(self, expr: Expr) -> bool:
        meaning = self._meaning(expr)
        if isinstance(meaning, tuple):
            return True
        return isinstance(meaning, ReadReg) or any(self._reads_registers(part) for part in _parts(meaning))


def _parts(expr: Expr) -> tuple[Expr, ...]:
    match expr:
        case Unary(operand=operand) | Slice(operand=operand):
            return (operand,)
        case Binary(left=left, right=right):
            return (left, right)
        case Select(condition=condition, then=then, otherwise=otherwise):
            return (condition, then, otherwise)
        case ReadReg(index=index) if index is not None:
            return (index,)
    return ()


def _without_parts(expr: Expr) -> tuple[object, ...]:
    """What an expression is besides its parts."""
    match expr:
        case Unary(width=width, op=op) | Binary(width=width, op=op):
            return type(expr), width, op
        case Slice(width=width, low=low):
            return type(expr), width, low
        case Select(width=width, strict=strict):
            return type(expr), width, strict
        case ReadReg(width=width, register=register):
            return type(expr), width, register
    return (expr,)
