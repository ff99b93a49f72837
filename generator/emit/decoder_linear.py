"""Routines of the decoder that compute the parts of an address: base, index, scale and offset.

An operand whose cases are all addresses of one shape (`LinearForm`) may have dozens of cases. Their
conditions share most of their parts, so a decision tree over these parts finds the case; forms that have the
operand call the same routine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from generator.emit.program import (
    ROUTINE_FIRST,
    ROUTINE_STATIC,
    Environment,
    Label,
    Numbering,
    Op,
    Program,
    Words,
)
from generator.ir.effects import subexpressions
from generator.ir.nodes import Binary, Const, Expr, Field, Unary
from generator.model.target import LinearCase, LinearForm

LINEAR: Final = ("base", "index", "scale", "offset")


@dataclass(frozen=True, slots=True)
class InRegister:
    """A field that was put into a register."""

    register: int

    def __call__(self, program: Program, name: str) -> int:
        del program, name
        return self.register


@dataclass(frozen=True, slots=True)
class Routine:
    """A routine: its position, the registers that it takes fields in and leaves the parts in."""

    position: int
    fields: Mapping[str, int]
    parts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known on a path: conditions by number; of values by number, what they equal or not."""

    numbering: Numbering
    conditions: Mapping[int, bool] = field(default_factory=dict)
    equal: Mapping[int, int] = field(default_factory=dict)
    unequal: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def with_(self, atom: Expr, holds: bool) -> Facts:
        """The facts where `atom` is true or false."""
        conditions = {**self.conditions, self.numbering.of(atom): holds}
        match atom:
            case Binary(op="eq", left=left, right=Const(value=value)):
                number = self.numbering.of(left)
                if holds:
                    return replace(self, conditions=conditions, equal={**self.equal, number: value})
                others = self.unequal.get(number, frozenset()) | {value}
                return replace(self, conditions=conditions, unequal={**self.unequal, number: others})
        return replace(self, conditions=conditions)

    def atom(self, expr: Expr) -> bool | None:
        """Whether a condition without parts is known to hold."""
        known = self.conditions.get(self.numbering.of(expr))
        if known is not None:
            return known
        match expr:
            case Binary(op="eq", left=left, right=Const(value=value)):
                number = self.numbering.of(left)
                if number in self.equal:
                    return self.equal[number] == value
                if value in self.unequal.get(number, ()):
                    return False
        return None

    def simplified(self, expr: Expr) -> bool | Expr:
        """`expr`, a condition, as far as it isn't known: true, false, or the first part that has to be looked
        at.
        """
        match expr:
            case Const(value=value):
                return bool(value)
            case Unary(op="not", width=1, operand=operand):
                inner = self.simplified(operand)
                return inner if not isinstance(inner, bool) else not inner
            case Binary(op="ne", left=left, right=right):
                return self.simplified(Unary(1, "not", Binary(1, "eq", left, right)))
            case Binary(op="and" | "or", width=1, left=left, right=right):
                deciding = expr.op == "or"
                first, second = self.simplified(left), self.simplified(right)
                if first is deciding or second is deciding:
                    return deciding
                if not isinstance(first, bool):
                    return first
                return second
            case _:
                known = self.atom(expr)
                return expr if known is None else known


@dataclass
class Routines:
    """The routines of a target's decoder."""

    made: dict[int, tuple[LinearForm, Routine]] = field(default_factory=dict)
    names: dict[int, tuple[LinearForm, frozenset[str]]] = field(default_factory=dict)
    free: int = ROUTINE_STATIC

    def fields_of(self, linear: LinearForm) -> frozenset[str]:
        """Names of the fields that the parts depend on."""
        if id(linear) not in self.names:
            exprs = [
                e
                for case in linear.cases
                for e in (case.when, case.base, case.index, case.scale, case.offset)
            ]
            found = {e.name for expr in exprs for e in subexpressions(expr) if isinstance(e, Field)}
            self.names[id(linear)] = linear, frozenset(found)
        return self.names[id(linear)][1]

    def get(self, words: Words, environment: Environment, linear: LinearForm) -> Routine:
        """The routine for `linear`; written, and jumped over, where it is needed first."""
        if id(linear) not in self.made:
            self.made[id(linear)] = linear, self._write(words, environment, linear)
        return self.made[id(linear)][1]

    def _write(self, words: Words, environment: Environment, linear: LinearForm) -> Routine:
        names = sorted(self.fields_of(linear))
        fields = {name: self.free + n for n, name in enumerate(names)}
        parts = {part: self.free + len(names) + n for n, part in enumerate(LINEAR)}
        self.free += len(names) + len(LINEAR)
        over = Label()
        words.jump(Op.JUMP, over)
        routine = Routine(words.here, fields, parts)
        program = Program(words, environment, ROUTINE_FIRST + 1, "address of an operand")
        program.fields = {name: InRegister(register) for name, register in fields.items()}
        self._decide(program, list(linear.cases), Facts(environment.numbering), parts)
        words.place(over)
        return routine

    def _decide(
        self, program: Program, cases: list[LinearCase], facts: Facts, parts: Mapping[str, int]
    ) -> None:
        """Find the first case whose condition holds; compute its parts and return."""
        left = []
        unknown: Expr | None = None
        for case in cases:
            state = facts.simplified(case.when)
            if state is False:
                continue
            left.append(case)
            if state is True:
                break
            if unknown is None and not isinstance(state, bool):
                unknown = state
        if not left:
            program.words.emit(Op.FAIL)
            return
        if unknown is None or facts.simplified(left[0].when) is True:
            for part in LINEAR:
                program.words.emit(Op.MOVE, d=parts[part], a=program.value(getattr(left[0], part)))
            program.words.emit(Op.RETURN)
            return
        otherwise = Label()
        program.words.jump(Op.JUMP_ZERO, otherwise, a=program.value(unknown))
        saved = program.branch()
        self._decide(program, left, facts.with_(unknown, True), parts)
        program.words.place(otherwise)
        program.back(saved)
        self._decide(program, left, facts.with_(unknown, False), parts)
        program.back(saved)
