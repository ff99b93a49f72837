"""Is there an instruction word, with contexts and features, for which a formula over encodings holds?

Formulas are over one bit string, the **word** (an instruction's bits; how pictures lie in it is
`checks.encodings`' business), and over free variables (contexts, prefix variables, registers that contexts
are derived from). `solve` narrows one unknown bit after the other and evaluates with what is known, so that
it needs few steps where few bits matter. It either finds an assignment, or there is none, or it gives up
after `BUDGET` steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

from generator.checks.ternary import Known, evaluate_known, exactly, unknown
from generator.ir.arithmetic import mask
from generator.ir.effects import subexpressions
from generator.ir.nodes import Binary, Const, Context, Expr, Field, ReadReg, Select, Slice, Unary
from generator.model.target import Target

BUDGET = 20_000
"""Steps (assignments tried) after which `solve` gives up."""

REVIEW = 16
"""Steps between two looks at the parts of a formula that are costly to evaluate."""

Segments: TypeAlias = tuple[tuple[int, int, int], ...]
"""Where a field's bits lie: (lowest bit in the field, lowest bit in the word, width)."""


@dataclass(frozen=True, slots=True)
class Cube:
    """The word's bits in `mask` are those of `value`."""

    mask: int
    value: int


@dataclass(frozen=True, slots=True, eq=False)
class Atom:
    """A condition (1 bit) whose fields lie in the word as `fields` says. Compared by identity."""

    condition: Expr
    fields: Mapping[str, Segments]


@dataclass(frozen=True, slots=True, eq=False)
class All:
    """Every part holds."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Any:
    """Some part holds."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Not:
    """The part doesn't hold."""

    part: Formula


Formula: TypeAlias = Cube | Atom | All | Any | Not
TRUE: Formula = All(())
FALSE: Formula = Any(())


@dataclass(frozen=True)
class Solution:
    """A word (its bits that don't matter are 0) and the values of the variables that matter."""

    word: int
    known: int  # bits of the word that matter
    variables: Mapping[str, int]  # by the name shown to people


class GaveUpError(Exception):
    """`solve` used up its budget."""


@dataclass
class _State:
    word_known: int
    word: int
    variables: dict[Expr, Known]

    def copy(self) -> _State:
        return _State(self.word_known, self.word, dict(self.variables))


class Solver:
    """Solves formulas for one target.

    Contexts are what they are derived from, keep to their domains, and prefixes are there only where they are
    recognised; with `free`, contexts and prefix variables may have any values.
    """

    def __init__(self, target: Target, free: bool = False) -> None:
        self.definitions: dict[str, Expr] = {}
        self.domains: dict[str, tuple[int, ...]] = {}
        self._mentioned: dict[int, tuple[Formula, frozenset[str]]] = {}
        self._axioms: list[tuple[frozenset[str], Atom]] = []
        if free:
            return
        for variable in target.contexts:
            if variable.value is not None:
                self.definitions[variable.name] = variable.value
            if variable.domain:
                self.domains[variable.name] = variable.domain
        for row in target.prefixes:
            values = {r.value for r in target.prefixes if r.variable == row.variable}
            self.domains[row.variable] = (0, *sorted(values - {0}))
        self._axioms = [(frozenset(self._contexts(axiom)), Atom(axiom, {})) for axiom in _axioms(target)]

    def solve(self, formula: Formula) -> Solution | None:
        """An assignment for which `formula` holds, or None. Raises `GaveUpError`."""
        simple, others = self._parts(formula)
        start = _State(0, 0, {})
        if _contradict(simple) or not all(self._propagate(part, start) for part in simple.parts):
            return None
        steps = 0
        todo = [start]
        while todo:
            steps += 1
            if steps > BUDGET:
                raise GaveUpError
            state = todo.pop()
            # What must hold in any case is settled first: most contradictions show there, and cheaply.
            needed: list[Formula] = []
            unsettled: list[Formula] = []
            verdict = self._evaluate(simple, state, needed, needed)
            if verdict is True:
                verdict = self._evaluate(others, state, needed, unsettled)
            elif verdict is None and steps % REVIEW == 1 and self._evaluate(others, state, [], []) is False:
                continue  # whatever becomes of the simple parts
            if verdict is False:
                continue
            if verdict is True:
                names = {_name(leaf): known.value for leaf, known in state.variables.items()}
                return Solution(state.word, state.word_known, names)
            todo += self._split((needed or unsettled)[0], state)
        return None

    def _parts(self, formula: Formula) -> tuple[All, All]:
        """The cubes and atoms that must hold (with the contexts' axioms), and everything else."""
        simple: list[Formula] = []
        others: list[Formula] = []
        todo = [formula]
        while todo:
            part = todo.pop()
            if isinstance(part, All):
                todo += reversed(part.parts)
            else:
                (simple if isinstance(part, Cube | Atom) else others).append(part)
        if self._axioms:
            names = frozenset[str]().union(*(self._names(part) for part in (*simple, *others)))
            simple += [axiom for mentioned, axiom in self._axioms if mentioned & names]
        return All(tuple(simple)), All(tuple(others))

    def _names(self, formula: Formula) -> frozenset[str]:
        """The contexts and prefix variables that a formula depends on."""
        known = self._mentioned.get(id(formula))
        if known is not None and known[0] is formula:
            return known[1]
        match formula:
            case Atom(condition=condition):
                names = frozenset(self._contexts(condition))
            case All(parts=parts) | Any(parts=parts):
                names = frozenset[str]().union(*(self._names(part) for part in parts))
            case Not(part=part):
                names = self._names(part)
            case _:
                names = frozenset()
        self._mentioned[id(formula)] = formula, names
        return names

    def _contexts(self, expr: Expr) -> set[str]:
        """The contexts that an expression names, and those that they are derived from."""
        found: set[str] = set()
        todo = [expr]
        while todo:
            for node in subexpressions(todo.pop()):
                if isinstance(node, Context) and node.name not in found:
                    found.add(node.name)
                    if node.name in self.definitions:
                        todo.append(self.definitions[node.name])
        return found

    @staticmethod
    def _propagate(formula: Formula, state: _State) -> bool:
        """Take over the bits that must be as they are; False if they contradict each other."""
        match formula:
            case Cube(mask=bits, value=value):
                if (state.word ^ value) & bits & state.word_known:
                    return False
                state.word_known |= bits
                state.word |= value
        return True

    def _evaluate(
        self, formula: Formula, state: _State, needed: list[Formula], unsettled: list[Formula]
    ) -> bool | None:
        """True, False or not yet known.

        The atoms and cubes that are to blame go into `needed` if they must hold, else into `unsettled`.
        """
        match formula:
            case Cube(mask=bits, value=value):
                if (state.word ^ value) & bits & state.word_known:
                    return False
                if bits & ~state.word_known == 0:
                    return True
                needed.append(formula)
                return None
            case Atom():
                known = evaluate_known(
                    formula.condition, lambda leaf: self._leaf(leaf, formula.fields, state)
                )
                if known.certain:
                    return bool(known.value)
                needed.append(formula)
                return None
            case Not(part=part):
                verdict = self._evaluate(part, state, unsettled, unsettled)
                return None if verdict is None else not verdict
            case All(parts=parts):
                result: bool | None = True
                for part in parts:
                    verdict = self._evaluate(part, state, needed, unsettled)
                    if verdict is False:
                        return False
                    if verdict is None:
                        result = None
                return result
            case Any(parts=parts):
                open_parts = []
                for part in parts:
                    blamed: list[Formula] = []
                    verdict = self._evaluate(part, state, blamed, blamed)
                    if verdict is True:
                        return True
                    if verdict is None:
                        open_parts.append(blamed)
                if not open_parts:
                    return False
                # The last alternative that is left has to hold.
                (needed if len(open_parts) == 1 else unsettled).extend(open_parts[0])
                return None

    def _leaf(self, leaf: Expr, fields: Mapping[str, Segments], state: _State) -> Known:
        if isinstance(leaf, Field) and leaf.name in fields:
            known = value = covered = 0
            for low, word_low, width in fields[leaf.name]:
                bits = mask(width)
                known |= (state.word_known >> word_low & bits) << low
                value |= (state.word >> word_low & bits) << low
                covered |= bits << low
            known |= mask(leaf.width) & ~covered  # bits that are placed nowhere are 0
            return Known(leaf.width, known & mask(leaf.width), value & mask(leaf.width))
        if isinstance(leaf, Context) and leaf.name in self.definitions:
            return evaluate_known(self.definitions[leaf.name], lambda inner: self._leaf(inner, {}, state))
        return state.variables.get(leaf, unknown(leaf.width))

    def _split(self, blame: Formula, state: _State) -> list[_State]:
        """The state with one more thing known, in every possible way. The first that should be tried comes
        last.
        """
        if isinstance(blame, Cube):
            return self._split_word(blame.mask & ~state.word_known, state)
        assert isinstance(blame, Atom)
        for leaf, bits in self._support(blame.condition, 1, {}).items():
            if isinstance(leaf, Field) and leaf.name in blame.fields:
                missing = 0
                for low, word_low, width in blame.fields[leaf.name]:
                    missing |= (bits >> low & mask(width)) << word_low & ~state.word_known
                if missing:
                    return self._split_word(missing, state)
                continue
            known = state.variables.get(leaf, unknown(leaf.width))
            if not bits & ~known.known:
                continue
            domain = self.domains.get(leaf.name) if isinstance(leaf, Context) else None
            choices: list[Known]
            if domain is not None:
                choices = [exactly(leaf.width, value) for value in reversed(domain)]
            else:
                top = 1 << ((bits & ~known.known).bit_length() - 1)
                choices = [
                    Known(leaf.width, known.known | top, known.value | top),
                    Known(leaf.width, known.known | top, known.value),
                ]
            result = []
            for choice in choices:
                other = state.copy()
                other.variables[leaf] = choice
                result.append(other)
            return result
        raise AssertionError("a condition is uncertain although its leaves are known")

    def _split_word(self, missing: int, state: _State) -> list[_State]:
        bit = 1 << (missing.bit_length() - 1)
        one, zero = state.copy(), state.copy()
        one.word_known |= bit
        one.word |= bit
        zero.word_known |= bit
        return [one, zero]

    def _support(self, expr: Expr, bits: int, seen: dict[Expr, int]) -> dict[Expr, int]:
        """The leaves that `bits` of `expr` depend on, in order, with their bits; contexts are followed."""
        match expr:
            case Const():
                pass
            case Slice(operand=operand, low=low):
                self._support(operand, bits << low, seen)
            case Unary(op="not", operand=operand):
                self._support(operand, bits, seen)
            case Unary(operand=operand):
                self._support(operand, mask(operand.width), seen)
            case Binary(op="concat", left=left, right=right):
                self._support(left, bits >> right.width, seen)
                self._support(right, bits & mask(right.width), seen)
            case Binary(op="and" | "or" | "xor", left=left, right=right):
                self._support(left, bits, seen)
                self._support(right, bits, seen)
            case Binary(left=left, right=right):
                self._support(left, mask(left.width), seen)
                self._support(right, mask(right.width), seen)
            case Select(condition=condition, then=then, otherwise=otherwise):
                self._support(condition, 1, seen)
                self._support(then, bits, seen)
                self._support(otherwise, bits, seen)
            case Context(name=name) if name in self.definitions:
                self._support(self.definitions[name], bits, seen)
            case _:
                seen[expr] = seen.get(expr, 0) | bits
        return seen


def _axioms(target: Target) -> Iterator[Expr]:
    """What is true of contexts and prefixes in every state: domains, and where prefixes are recognised."""
    for context in target.contexts:
        if context.domain and any(
            isinstance(node, ReadReg) for node in subexpressions(context.value or Const(1, 0))
        ):
            variable = Context(context.width, context.name)
            choices = [Binary(1, "eq", variable, Const(context.width, value)) for value in context.domain]
            yield reduce(lambda a, b: Binary(1, "or", a, b), choices)
    # a variable has a value, and a field's bits are set, only behind one of the rows that do that
    recognised: dict[Expr, list[Expr | None]] = {}
    for row in target.prefixes:
        if row.value:
            absent = Binary(1, "ne", Context(row.width, row.variable), Const(row.width, row.value))
            recognised.setdefault(absent, []).append(row.when)
        for name, width, _ in row.fields:
            absent = Binary(1, "eq", Context(width, name), Const(width, 0))
            recognised.setdefault(absent, []).append(row.when)
    for never, conditions in recognised.items():
        known = [condition for condition in conditions if condition is not None]
        if len(known) == len(conditions):
            yield reduce(lambda a, b: Binary(1, "or", a, b), known, never)


def _contradict(simple: All) -> bool:
    """Whether one expression is demanded to have two values: a quick look before anything is split."""
    values: dict[Expr, int] = {}
    todo = [part.condition for part in simple.parts if isinstance(part, Atom)]
    while todo:
        match todo.pop():
            case Binary(width=1, op="and", left=left, right=right):
                todo += [left, right]
            case Binary(op="eq", left=Context() as left, right=Const(value=value)):
                if values.setdefault(left, value) != value:
                    return True
    return False


def _name(leaf: Expr) -> str:
    return str(getattr(leaf, "name", None) or getattr(leaf, "register", None) or type(leaf).__name__.lower())
