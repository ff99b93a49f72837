"""Random executions of a target's forms: its executors against the evaluator, without encodings.

Fields, contexts, registers and memory are random, with a liking for edges; the evaluator says what must
happen.
"""

from __future__ import annotations

import ctypes
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm

from conformance.builtins import BUILTINS
from generator.emit.layout import stored_width
from generator.ir import nodes
from generator.ir.decisions import compiled
from generator.ir.decode import Decoded
from generator.ir.effects import all_expressions, statements, subexpressions
from generator.ir.evaluate import Completed, Evaluator, Faulted, Outcome, Trapped
from generator.ir.executor import NOTHING, Leaf, TargetValue
from generator.ir.nodes import Context, Expr, Field
from generator.ir.state import SparseMemory, State
from generator.model.target import Form, Operand, Target, Variant
from runtime.cpu import block
from runtime.cpu.exits import Reason
from runtime.softfloat import reference
from runtime.softfloat.symbols import SYMBOLS
from tests.generator.executors.harness import PAGE, Compiled, leaf_of

MAPPED = 0x4000
PC = 0x2000
LENGTH = 4
BODY = 256
"""Where the body's record starts in the arena; the guard's is at 0."""
LANDED = 2048
TRIES = 400


@dataclass
class Case:
    """One execution: what the instruction's decode-time leaves are."""

    form: Form
    variant: Variant
    position: int
    leaves: dict[Field | Context, int]

    @property
    def fields(self) -> dict[str, int]:
        """Raw fields by path."""
        return {leaf.name: value for leaf, value in self.leaves.items() if isinstance(leaf, Field)}

    @property
    def contexts(self) -> dict[str, int]:
        """Contexts by name."""
        return {leaf.name: value for leaf, value in self.leaves.items() if isinstance(leaf, Context)}


class Differential(Compiled):
    """One target, both ways."""

    def __init__(self, target: Target, directory: Path, seed: int = 1) -> None:
        self._floats: list[object] = []
        super().__init__(target, directory)
        self.random = random.Random(seed)
        self.evaluator = Evaluator(target, BUILTINS)
        self.domains = {c.name: c.domain for c in target.contexts if c.domain}
        self.stepped = {c.name for c in target.contexts if c.next is not None}
        self.ignored: set[str] = set()
        self.delayed = self.plan.record_size is not None
        on = self.evaluator.features
        self.features = sum(1 << n for n, f in enumerate(target.features) if f.name in on)
        self._linear = {
            f"{operand.path}.{part}": size
            for form in target.forms
            for operand in _nested(form.operands)
            if operand.linear is not None
            for part, size in (
                ("base", _count(target, operand.linear.register_file)),
                ("index", _count(target, operand.linear.register_file)),
                ("scale", 3),
            )
        }

    def _cold(self) -> list[object]:
        for text in self.files.values():
            for name, count in re.findall(r'external\("(sf_\w+)", (\d+)\)', text):
                self._floats.append(_float(name, int(count)))
        return super()._cold()

    # --- choosing --------------------------------------------------------------------------------

    def value(self, width: int) -> int:
        """A number that is often at an edge, or near the page of memory."""
        r = self.random
        top = (1 << width) - 1
        kind = r.random()
        if kind < 0.4:
            return (MAPPED + r.randrange(-8, PAGE + 8)) & top
        if kind < 0.7:
            return (
                r.choice((0, 1, top, top >> 1, (top >> 1) + 1, r.getrandbits(5), 1 << r.randrange(width)))
                & top
            )
        return r.getrandbits(width)

    def case(self, number: int) -> Case | None:
        """Random decode-time values for which a variant of form `number` is chosen; None: none found."""
        form = self.target.forms[number]
        position = self.random.randrange(len(form.variants))
        variant = form.variants[position]
        conditions = [c for c in (form.when, variant.condition) if c is not None]
        exprs = [*all_expressions(variant.body), *conditions]
        if variant.guard is not None:
            exprs.append(variant.guard)
        leaves = sorted(
            {part for expr in exprs for part in subexpressions(expr) if isinstance(part, Field | Context)},
            key=lambda leaf: leaf.name,
        )
        for _ in range(TRIES):
            values = {leaf: self._leaf(leaf) for leaf in leaves}
            if all(_holds(condition, values) for condition in conditions):
                return Case(form, variant, position, values)
        return None

    def _leaf(self, leaf: Field | Context) -> int:
        if isinstance(leaf, Context) and leaf.name in self.domains:
            return self.random.choice(self.domains[leaf.name])
        if isinstance(leaf, Context) and leaf.name.startswith("has_"):
            return 1
        if isinstance(leaf, Field) and leaf.name in self._linear:
            return self.random.randrange(self._linear[leaf.name] + 1)
        if leaf.width > 5 and self.random.random() < 0.3:
            return self.random.choice((0, 1, (1 << leaf.width) - 1, 1 << (leaf.width - 1)))
        return self.random.getrandbits(leaf.width)

    # --- both ways --------------------------------------------------------------------------------

    def state(self) -> State:
        """A random state, in the block and for the evaluator."""
        memory = SparseMemory(self.target.pc_width)
        memory.map(MAPPED, PAGE, "rw")
        data = self.random.randbytes(PAGE)
        memory.poke(MAPPED, data)
        self.memory[:PAGE] = data
        self.map(MAPPED, fast=self.random.random() < 0.5)
        state = State({}, {}, memory)
        for register in self.target.registers:
            if register.name in ("pc", "instret", "features"):
                continue
            width = stored_width(register)
            if register.count is None:
                state.registers[register.name] = self.value(width)
                self.set(register.name, state.registers[register.name])
                continue
            entries = [self.value(width) for _ in range(register.count)]
            if register.zero is not None:
                entries[register.zero] = 0
            state.files[register.name] = entries
            for index, entry in enumerate(entries):
                self.set(register.name, entry, index)
        state.registers["pc"] = PC
        state.registers["instret"] = 0
        for offset in (block.RETIRED, block.ENTRY_BUDGET, block.ATTENTION):
            self.set_header(offset, 0)
        self.set_header(block.ENTRY_BUDGET, 10)
        state.registers["features"] = self.features
        self.set_header(block.FEATURES, self.features)
        if self.delayed:
            state.contexts["npc"] = PC + 4
        return state

    def check(self, number: int) -> str | None:
        """Execute form `number` once both ways: what differs, or None."""
        case = self.case(number)
        if case is None:
            return None
        state = self.state()
        decoded = Decoded(case.form, case.variant, case.fields, case.contexts, {}, PC, LENGTH)
        before = dict(state.registers)
        outcome = self.evaluator.execute(state, decoded)
        left, reason, at, target = self._run(case)
        # Stepping contexts is the decoder's work: executors only write them.
        written = {s.register for s in statements(case.variant.body) if isinstance(s, nodes.WriteReg)}
        self.ignored = {"pc", "instret", "features"} | (self.stepped - written)
        problem = self._compare(outcome, state, reason, at, target)
        if problem is None:
            return None
        shown = {leaf.name: hex(value) for leaf, value in case.leaves.items()}
        return (
            f"{case.form.name}: {problem}; leaves {shown}; outcome {outcome}; registers {before}; left {left}"
        )

    def _run(self, case: Case) -> tuple[int, int, int, int]:
        def values(expr: Expr) -> int:
            return compiled(_placed(expr))(case.leaves)

        plan = next(
            v
            for v in self.plan.variants
            if self.target.forms[v.form] is case.form and v.variant == case.position
        )
        leaf = leaf_of(plan.body, case.leaves)
        target = 0
        for value in leaf.values:
            if isinstance(value, TargetValue):
                target = values(value.target)
        targets = _Everywhere()
        start = BODY
        end = BODY
        if leaf.executor != NOTHING:
            end = self.record(BODY, leaf, values, targets)
        self.stop(end)
        self.stop(LANDED)
        if self.delayed and self.plan.record_size is not None:
            self.stop(end + self.plan.record_size)
        if plan.guard is not None:
            guard = leaf_of(plan.guard, case.leaves)
            if guard.executor != NOTHING:
                size = self.executor(guard).size
                start = BODY - size
                self.record(start, guard, values, {-1: end - BODY})
        left, reason, at = self.run(10, start, end)
        return left, reason, at - end, target

    def _compare(self, outcome: Outcome, state: State, reason: int, at: int, target: int) -> str | None:
        match outcome:
            case Trapped(trap=trap, code=code, arguments=arguments):
                if reason != Reason.TRAP:
                    return f"{Reason(reason).name} instead of a trap"
                number = next(t.number for t in self.target.traps if t.name == trap)
                got = (self.header(block.TRAP_NUMBER), self.header(block.TRAP_CODE))
                if got != (number, code):
                    return f"trap {got} instead of {(number, code)}"
                for position, argument in enumerate(arguments):
                    found = self.header(block.TRAP_ARGUMENTS + 8 * position)
                    if found != argument:
                        return f"trap argument {position} is {found:#x}, not {argument:#x}"
            case Faulted():
                if reason != Reason.FAULT:
                    return f"{Reason(reason).name} instead of a fault"
                return None  # the state keeps what was written before
            case Completed():
                problem = self._where(state, reason, at, target)
                if problem is not None:
                    return problem
        return self._state(state)

    def _where(self, state: State, reason: int, at: int, target: int) -> str | None:
        """Compare where execution goes on."""
        expected = state.pc
        mask = (1 << self.target.pc_width) - 1
        if self.delayed:
            return None  # test_statements tells where delayed jumps go
        if reason == Reason.BREAKPOINT:
            pc = PC + LENGTH if at == 0 else target
        elif reason in (Reason.LOOKUP, Reason.DISPATCH):
            pc = self.header(block.PC)
        else:
            return f"{Reason(reason).name} instead of going on"
        return None if pc & mask == expected else f"goes on at {pc:#x}, not {expected:#x}"

    def _state(self, state: State) -> str | None:
        for register in self.target.registers:
            name = register.name
            if name in self.ignored:
                continue
            if register.count is None:
                if self.get(name) != state.registers[name]:
                    return f"{name} is {self.get(name):#x}, not {state.registers[name]:#x}"
                continue
            for index, entry in enumerate(state.files[name]):
                if self.get(name, index) != entry:
                    return f"{name}[{index}] is {self.get(name, index):#x}, not {entry:#x}"
        data = state.memory.read(MAPPED, PAGE, "read")
        if self.memory[:PAGE] != data:
            where = next(n for n in range(PAGE) if self.memory[n] != data[n : n + 1])
            return f"memory differs at {MAPPED + where:#x}"
        return None


class _Everywhere(Mapping[int, int]):
    """All jump targets land on one record."""

    def __getitem__(self, key: int) -> int:
        return LANDED

    def __iter__(self) -> Iterable[int]:  # type: ignore[override]
        return iter(())

    def __len__(self) -> int:
        return 0


def _placed(expr: Expr) -> Expr:
    """`expr` with the address put in."""
    from generator.ir import build

    match expr:
        case nodes.Pc(width=width):
            return build.const(width, PC)
        case nodes.NextPc(width=width):
            return build.const(width, PC + LENGTH)
        case nodes.Unary(op=op, width=width, operand=operand):
            return build.unary(op, _placed(operand), width)
        case nodes.Slice(width=width, operand=operand, low=low):
            return build.slice_(_placed(operand), low, width)
        case nodes.Binary(op=op, left=left, right=right):
            return build.binary(op, _placed(left), _placed(right))
        case nodes.Select(condition=condition, then=then, otherwise=otherwise):
            return build.select(_placed(condition), _placed(then), _placed(otherwise), True)
    return expr


def _holds(condition: Expr, values: Mapping[Field | Context, int]) -> bool:
    return compiled(_placed(condition))(values) == 1


def _nested(operands: Iterable[Operand]) -> Iterator[Operand]:
    """Operands, and those inside their cases."""
    for operand in operands:
        yield operand
        for case in operand.cases:
            yield from _nested(case.operands)


def _count(target: Target, register: str) -> int:
    return next(r.count or 0 for r in target.registers if r.name == register)


def _float(name: str, count: int) -> Callable[..., int]:
    """The reference arithmetic under the compiled library's name."""
    symbol = SYMBOLS[name]

    def call(*arguments: int) -> int:
        policy, operands, flags = arguments[0], arguments[1:-1], arguments[-1]
        value, raised = reference.call(symbol.name, policy, *(a & (1 << 64) - 1 for a in operands))
        ctypes.c_int64.from_address(flags).value = raised
        return value - (1 << 64) if value >> 63 else value

    callback = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * count)(call)
    llvm.add_symbol(name, ctypes.cast(callback, ctypes.c_void_p).value)
    return callback


__all__ = ["Differential", "Leaf"]
