"""From a target's forms to executors: decisions explored, decode-time values moved into records, equal bodies
shared.

For each variant of each form, every feasible path of decisions is reduced (`generator.ir.simplify`). In the
residual body, each maximal decode-time expression becomes a number slot, each decode-time index of a register
file a register slot, each decode-time jump target a target slot, numbered in order of first use. Bodies that
are equal up to the names of locals and the sizes of slots share one executor.

A constant index of a register file (the stack pointer of a compressed instruction) becomes a slot only where
that makes the body equal to one of a form with an index of its own.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from generator.emit.layout import FIRST_EXECUTOR
from generator.ir import build, nodes
from generator.ir.arithmetic import lane_op
from generator.ir.decisions import Facts
from generator.ir.effects import Analysis, Effects, Sensitive, statements, subexpressions
from generator.ir.executor import (
    NOTHING,
    STORAGE_BYTES,
    Executor,
    Leaf,
    Node,
    NumberValue,
    Plan,
    RegisterValue,
    SkipValue,
    Slot,
    SlotKind,
    SlotValue,
    Storage,
    TargetValue,
    Tree,
    VariantPlan,
)
from generator.ir.nodes import DECODE, DYNAMIC, Block, Const, Expr, Field, Local, Stmt, kind_of
from generator.ir.simplify import Reducer, without_dead
from generator.model.target import Form, Register, Target

BUDGETS: dict[str, int] = {"riscv": 600, "x86": 6000}
DEFAULT_BUDGET = 1200
"""Most executors that a target of a family may need."""

MAXIMUM_RECORD = 256
MAXIMUM_PATHS = 4096
"""Most paths through one variant."""


class TooManyExecutorsError(Exception):
    """A target needs more executors than its family's budget allows; the message names the worst
    instructions.
    """


# --- residual bodies ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Residue:
    """A body with slots, and what fills them; `storages` are the least sizes that hold the values."""

    body: Block
    kinds: tuple[tuple[SlotKind, int], ...]  # with widths
    storages: tuple[Storage, ...]
    values: tuple[SlotValue, ...]
    locals: tuple[str, ...]
    pc: int | None
    next_pc: int | None


class _Slots:
    """Replaces decode-time expressions of one reduced body by slots. `general`: constant indices of files,
    too.
    """

    def __init__(
        self,
        registers: Mapping[str, Register],
        sensitive: Sensitive,
        effects: Effects,
        pc_width: int,
        *,
        general: bool,
    ) -> None:
        self._registers = registers
        self._sensitive = sensitive
        self._effects = effects
        self._pc_width = pc_width
        self._general = general
        self._numbers: dict[object, int] = {}
        self._kinds: list[tuple[SlotKind, int]] = []
        self._storages: list[Storage] = []
        self._values: list[SlotValue] = []
        self._locals: dict[Local, Local] = {}

    def residue(self, body: Block) -> _Residue:
        """The body with slots."""
        block = self._block(body)
        pc = next_pc = None
        if "pc" in self._called_reads:
            pc = int(self._number(nodes.Pc(self._pc_width)).name)
        if self._effects.ends_block:
            next_pc = int(self._number(nodes.NextPc(self._pc_width)).name)
        return _Residue(
            body=block,
            kinds=tuple(self._kinds),
            storages=tuple(self._storages),
            values=tuple(self._values),
            locals=tuple(local.name for local in self._locals),
            pc=pc,
            next_pc=next_pc,
        )

    @property
    def _called_reads(self) -> frozenset[str]:
        return self._effects.reads if self._effects.calls else frozenset()

    def _number(self, expr: Expr) -> Field:
        return self._slot(NumberValue(expr), "number", expr.width, storage_for(expr))

    def _slot(self, value: SlotValue, kind: SlotKind, width: int, storage: Storage) -> Field:
        key: object = value
        if isinstance(value, RegisterValue) and self._registers[value.register].zero is None:
            key = (value.register, value.index)
        if key not in self._numbers:
            self._numbers[key] = len(self._values)
            self._kinds.append((kind, width))
            self._storages.append(storage)
            self._values.append(value)
        return Field(width, str(self._numbers[key]))

    def skip(self) -> Field:
        """The slot for the size of the record behind a guard's."""
        return self._slot(SkipValue(), "skip", 16, "i16")

    # --- expressions ----------------------------------------------------------------------------------------

    def _expr(self, expr: Expr) -> Expr:
        kind = kind_of(expr)
        if kind == nodes.CONSTANT:
            return expr
        if kind == DECODE and expr.width <= 64 and not _lanewise(expr):
            if isinstance(expr, nodes.Unary) and expr.op == "zext" and _saves(expr.operand):
                return replace(expr, operand=self._number(expr.operand))
            return self._number(expr)
        match expr:
            case Local():
                return self._local(expr)
            case nodes.ReadReg(width=width, register=name, index=index):
                if index is None:
                    return expr
                name, index = self._index(name, index, write=False)
                return nodes.ReadReg(width, name, index)
            case nodes.Unary(operand=operand):
                return replace(expr, operand=self._expr(operand))
            case nodes.Slice(operand=operand):
                return replace(expr, operand=self._expr(operand))
            case nodes.Binary(left=left, right=right):
                left = self._expr(left)
                return replace(expr, left=left, right=self._expr(right))
            case nodes.Select(condition=condition, then=then, otherwise=otherwise):
                condition, then = self._expr(condition), self._expr(then)
                return replace(expr, condition=condition, then=then, otherwise=self._expr(otherwise))
        raise TypeError(f"{expr.width}-bit value is not known when the instruction runs: {expr}")

    def _index(self, name: str, index: Expr, *, write: bool) -> tuple[str, Expr]:
        """The register and index of an access: a slot where the index is decode-time."""
        if kind_of(index) == DYNAMIC or (write and self._sensitive.bits(name)):
            return name, self._expr(index)
        if isinstance(index, Const) and not self._general:
            return name, index
        return "", self._slot(RegisterValue(name, index, write), "register", 16, "u16")

    def _local(self, local: Local) -> Local:
        """Locals are numbered in order of first use: names don't keep equal bodies apart."""
        if local not in self._locals:
            self._locals[local] = Local(local.width, f"v{len(self._locals)}")
        return self._locals[local]

    # --- statements -----------------------------------------------------------------------------------------

    def _block(self, block: Block) -> Block:
        return tuple(self._stmt(stmt) for stmt in block)

    def _stmt(self, stmt: Stmt) -> Stmt:
        match stmt:
            case nodes.Let(local=local, value=value) | nodes.Assign(local=local, value=value):
                value = self._expr(value)
                return replace(stmt, local=self._local(local), value=value)
            case nodes.WriteReg(register=name, index=index, value=value):
                value = self._expr(value)
                if index is not None:
                    name, index = self._index(name, index, write=True)
                return nodes.WriteReg(name, index, value)
            case nodes.Load(local=local, address=address):
                address = self._expr(address)
                return replace(stmt, local=self._local(local), address=address)
            case nodes.Store(address=address, value=value):
                address = self._expr(address)
                return replace(stmt, address=address, value=self._expr(value))
            case nodes.If(condition=condition, then=then, otherwise=otherwise):
                condition, then = self._expr(condition), self._block(then)
                return nodes.If(condition, then, self._block(otherwise))
            case nodes.ForRange(local=local, body=body):
                return replace(stmt, local=self._local(local), body=self._block(body))
            case nodes.ForSet(local=local, mask=mask, body=body):
                mask = self._expr(mask)
                return replace(stmt, local=self._local(local), mask=mask, body=self._block(body))
            case nodes.Atomic(body=body):
                return nodes.Atomic(self._block(body))
            case nodes.Goto(target=target, annul=annul):
                target = self._target(target)
                return replace(stmt, target=target, annul=None if annul is None else self._expr(annul))
            case nodes.Skip(condition=condition):
                return nodes.Skip(self._expr(condition))
            case nodes.Raise(code=code, arguments=arguments):
                code = self._expr(code)
                return replace(stmt, code=code, arguments=tuple(self._expr(value) for value in arguments))
            case nodes.CallStmt(results=results, arguments=arguments):
                arguments = tuple(self._expr(value) for value in arguments)
                return replace(
                    stmt, results=tuple(self._local(local) for local in results), arguments=arguments
                )
        raise TypeError(f"not a statement of an instruction: {stmt}")

    def _target(self, target: Expr) -> Expr:
        if kind_of(target) == DYNAMIC:
            return self._expr(target)
        if self._effects.ends_block:  # goes through the run loop, which wants the address
            return self._slot(NumberValue(target), "number", target.width, "i64")
        return self._slot(TargetValue(target), "target", target.width, "i64")


def storage_for(expr: Expr) -> Storage:
    """The least storage from which sign extension and a cut to its width give the value of `expr` back."""
    if expr.width <= 16:  # whatever it is, a cut gives it back
        return "i16"
    if expr.width == 32:
        low, high = _bounds(expr)
        return "i16" if low >= -(1 << 15) and high < 1 << 15 else "i32"
    low, high = _bounds(expr)
    if low >= -(1 << 15) and high < 1 << 15:
        return "i16"
    return "i32" if low >= -(1 << 31) and high < 1 << 31 else "i64"


def _lanewise(expr: Expr) -> bool:
    """Whether an operator works lane by lane: what decodes has none of those."""
    return any(
        isinstance(part, nodes.Unary | nodes.Binary) and lane_op(part.op)[1] for part in subexpressions(expr)
    )


def _saves(operand: Expr) -> bool:
    """Whether storing a number before its zero-extension takes less of the record."""
    extended = build.zext(operand, 64)
    return storage_for(extended) == "i64" and storage_for(operand) != "i64"


def _bounds(expr: Expr) -> tuple[int, int]:
    """Bounds of an integer equal to `expr` modulo ``2**expr.width`` (negative for sign-extended fields)."""
    half = 1 << (expr.width - 1)
    whole = (0, 2 * half - 1)
    match expr:
        case Const(value=value):
            return (value - 2 * half,) * 2 if value >= half > 1 else (value, value)
        case nodes.Unary(op="zext", operand=operand):
            low, high = _bounds(operand)
            size = 1 << operand.width
            return (low, high) if low >= 0 and high < size else (0, size - 1)
        case nodes.Unary(op="sext", operand=operand):
            return -(1 << (operand.width - 1)), (1 << (operand.width - 1)) - 1
        case nodes.Binary(op="shl", left=left, right=Const(value=distance)):
            low, high = _bounds(left)
            return low << distance, high << distance
        case nodes.Binary(op="add", left=left, right=right):
            first, second = _bounds(left), _bounds(right)
            return first[0] + second[0], first[1] + second[1]
        case nodes.Binary(op="sub", left=left, right=right):
            first, second = _bounds(left), _bounds(right)
            return first[0] - second[1], first[1] - second[0]
        case nodes.Binary(op="and", right=Const(value=value)):
            return 0, value
        case nodes.Binary(op="concat", left=left, right=right):
            low, high = _bounds(left)
            return low << right.width, (high << right.width) + (1 << right.width) - 1
        case nodes.Select(then=then, otherwise=otherwise):
            first, second = _bounds(then), _bounds(otherwise)
            return min(first[0], second[0]), max(first[1], second[1])
        case _:
            return whole


# --- paths --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Path:
    """One way through the decisions of a body, and the residues it ends in."""

    decisions: list[tuple[Expr, bool]]
    effects: Effects
    specific: _Residue | None  # None: nothing to execute
    general: _Residue | None


class _Explorer:
    """Finds all feasible paths through a body."""

    def __init__(self, target: Target, analysis: Analysis) -> None:
        self._registers = {register.name: register for register in target.registers}
        self._domains = {context.name: context.domain for context in target.contexts}
        self._analysis = analysis
        self._pc_width = target.pc_width

    def paths(self, body: Block, conditions: Iterable[Expr | None], *, guard: bool) -> Iterator[_Path]:
        """All paths of `body` where `conditions` hold; `guard`: it ends in the `Skip` of a guard."""
        given = [condition for condition in conditions if condition is not None]
        pending: list[list[bool]] = [[]]
        count = 0
        while pending:
            prefix = pending.pop()
            facts = Facts(given, self._domains)
            taken: list[tuple[Expr, bool]] = []
            open_at: list[int] = []

            def decide(
                condition: Expr,
                facts: Facts = facts,
                taken: list[tuple[Expr, bool]] = taken,
                open_at: list[int] = open_at,
                prefix: list[bool] = prefix,
            ) -> bool:
                flip = isinstance(condition, nodes.Unary) and condition.op == "not"
                if flip:
                    condition = build.not_(condition)
                settled = facts.settled(condition)
                if settled is None:
                    position = len(taken)
                    settled = prefix[position] if position < len(prefix) else True
                    if position >= len(prefix):
                        open_at.append(position)
                    taken.append((condition, settled))
                    facts.add(condition if settled else build.not_(condition))
                return settled != flip

            reduced = without_dead(Reducer(self._registers, decide).block(body))
            for position in open_at:
                pending.append([choice for _, choice in taken[:position]] + [False])
            count += 1
            if count > MAXIMUM_PATHS:
                raise TooManyExecutorsError(f"more than {MAXIMUM_PATHS} combinations of decisions")
            yield self._path(reduced, taken, guard)

    def _path(self, reduced: Block, taken: list[tuple[Expr, bool]], guard: bool) -> _Path:
        effects = self._analysis.body(reduced)
        if guard and not reduced:
            return _Path(taken, effects, None, None)
        residues = []
        for general in (False, True):
            slots = _Slots(
                self._registers,
                self._analysis.sensitive,
                effects,
                self._pc_width,
                general=general,
            )
            if guard:
                slots.skip()
            residues.append(slots.residue(reduced))
        return _Path(taken, effects, residues[0], residues[1])


def tree(paths: Sequence[tuple[list[tuple[Expr, bool]], Leaf]]) -> Tree:
    """The decision tree of all paths of a body. Decisions whose outcome makes no difference are left out."""
    if len(paths) == 1 and not paths[0][0]:
        return paths[0][1]
    condition = paths[0][0][0][0]
    arms = []
    for wanted in (True, False):
        arm = [(decisions[1:], leaf) for decisions, leaf in paths if decisions[0] == (condition, wanted)]
        arms.append(tree(arm))
    return arms[0] if arms[0] == arms[1] else Node(condition, arms[0], arms[1])


# --- executors ----------------------------------------------------------------------------------------------


class _Group:
    """Leaves whose general bodies are equal: candidates for one executor, or for several with constant
    indices.
    """

    def __init__(self) -> None:
        self.members: list[tuple[_Path, Form]] = []

    def shared(self) -> bool:
        """Whether the members need the general body: their specific ones differ."""
        first = self.members[0][0].specific
        assert first is not None
        return any(
            path.specific is not None
            and (path.specific.body, path.specific.kinds) != (first.body, first.kinds)
            for path, _ in self.members
        )


class Specialiser:
    """Specialises one target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._analysis = Analysis(target)
        self._explorer = _Explorer(target, self._analysis)
        self._names: set[str] = set()

    def plan(self) -> Plan:
        """All executors and decision trees; raises `TooManyExecutorsError`."""
        found: list[tuple[int, int, list[_Path] | None, list[_Path]]] = []
        groups: dict[object, _Group] = {}
        for number, form in enumerate(self._target.forms):
            for position, variant in enumerate(form.variants):
                conditions = (form.when, variant.condition)
                guards = None
                if variant.guard is not None:
                    body: Block = (nodes.Skip(build.not_(variant.guard)),)
                    guards = self._explore(form, body, conditions, guard=True)
                bodies = self._explore(form, variant.body, conditions, guard=False)
                found.append((number, position, guards, bodies))
                for guard, path in [(True, p) for p in guards or ()] + [(False, p) for p in bodies]:
                    if path.general is not None:
                        key = (guard, path.general.body, path.general.kinds)
                        groups.setdefault(key, _Group()).members.append((path, form))
        executors, leaves = self._executors(groups)
        delayed = self._delayed()
        if delayed:
            size = max((executor.size for executor in executors), default=24)
            executors = [replace(executor, size=max(size, 24)) for executor in executors]
        variants = []
        for number, position, guards, bodies in found:
            guard_tree = None if guards is None else self._tree(guards, leaves)
            variants.append(VariantPlan(number, position, guard_tree, self._tree(bodies, leaves)))
        return Plan(tuple(executors), tuple(variants), executors[0].size if delayed and executors else None)

    def _explore(
        self, form: Form, body: Block, conditions: Iterable[Expr | None], *, guard: bool
    ) -> list[_Path]:
        try:
            return list(self._explorer.paths(body, conditions, guard=guard))
        except TooManyExecutorsError as error:
            raise TooManyExecutorsError(f"{form.span.file}:{form.span.line}: {form.name}: {error}") from None

    def _delayed(self) -> bool:
        return any(
            (isinstance(stmt, nodes.Goto) and stmt.delay) or isinstance(stmt, nodes.Skip)
            for form in self._target.forms
            for variant in form.variants
            for stmt in statements(variant.body)
        )

    def _tree(self, paths: list[_Path], leaves: Mapping[int, Leaf]) -> Tree:
        return tree([(path.decisions, leaves[id(path)]) for path in paths])

    def _executors(self, groups: Mapping[object, _Group]) -> tuple[list[Executor], dict[int, Leaf]]:
        executors: list[Executor] = []
        leaves: dict[int, Leaf] = _Nothing()
        for key, group in groups.items():
            assert isinstance(key, tuple)
            general = group.shared()
            named = min((form for _, form in group.members), key=_plainness)
            chosen = [path.general if general else path.specific for path, _ in group.members]
            residues = [residue for residue in chosen if residue is not None]
            storages = [
                _join(storage) for storage in zip(*(residue.storages for residue in residues), strict=True)
            ]
            kinds = residues[0].kinds
            slots, size = pack(kinds, storages)
            number = FIRST_EXECUTOR + len(executors)
            body = residues[0].body
            effects = Effects()
            for path, _ in group.members:
                effects = effects | path.effects
            users = tuple(dict.fromkeys([named.name, *(form.name for _, form in group.members)]))
            executors.append(
                Executor(
                    number=number,
                    name=self._name(named.mnemonic, "if" if key[0] else ""),
                    slots=slots,
                    size=size,
                    body=body,
                    locals=residues[0].locals,
                    pc=residues[0].pc,
                    next_pc=residues[0].next_pc,
                    effects=effects,
                    guard=key[0],
                    users=users,
                    span=named.span,
                )
            )
            for (path, _), residue in zip(group.members, residues, strict=True):
                leaves[id(path)] = Leaf(number, residue.values)
        self._check_budget(executors)
        return executors, leaves

    def _name(self, mnemonic: str, suffix: str) -> str:
        base = re.sub(r"\W+", "_", mnemonic).strip("_").lower() or "instruction"
        if base[0].isdigit() or base == "l":  # `l` looks like 1
            base = f"op_{base}"
        if suffix:
            base = f"{base}_{suffix}"
        name, count = base, 1
        while name in self._names or keyword.iskeyword(name):
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        return name

    def _check_budget(self, executors: Sequence[Executor]) -> None:
        budget = BUDGETS.get(self._target.family, DEFAULT_BUDGET)
        if len(executors) <= budget:
            return
        count: dict[str, int] = {}
        origin = {
            form.name: f"{form.instruction} ({form.span.file}:{form.span.line})"
            for form in self._target.forms
        }
        for executor in executors:
            owner = origin[executor.users[0]]
            count[owner] = count.get(owner, 0) + 1
        worst = sorted(count.items(), key=lambda item: -item[1])[:5]
        named = ", ".join(f"{owner}: {number}" for owner, number in worst)
        raise TooManyExecutorsError(
            f"{self._target.name} needs {len(executors)} executors, more than {budget}; most for "
            f"{named}. Decide on fewer decode-time values: pick(c, a, b) chooses at run time"
        )


def _plainness(form: Form) -> tuple[int, int]:
    """The plainest of the instructions that share an executor names it: addi, not c.addi4spn."""
    return form.mnemonic.count("."), len(form.mnemonic)


class _Nothing(dict[int, Leaf]):
    """Leaves by path; a path without an executor ends in nothing."""

    def __missing__(self, key: int) -> Leaf:
        return Leaf(NOTHING, ())


def _join(storages: Sequence[Storage]) -> Storage:
    """The storage that holds all of them."""
    return max(storages, key=lambda storage: STORAGE_BYTES[storage])


def pack(kinds: Sequence[tuple[SlotKind, int]], storages: Sequence[Storage]) -> tuple[tuple[Slot, ...], int]:
    """Slots with offsets, small ones first behind the u16 operation, and the record's size in bytes."""
    offsets: dict[int, int] = {}
    offset = 2
    for position in sorted(range(len(storages)), key=lambda p: STORAGE_BYTES[storages[p]]):
        size = STORAGE_BYTES[storages[position]]
        offset = -(-offset // size) * size
        offsets[position] = offset
        offset += size
    slots = tuple(
        Slot(kind, storages[position], offsets[position], width)
        for position, (kind, width) in enumerate(kinds)
    )
    size = -(-offset // 8) * 8
    if size > MAXIMUM_RECORD:
        raise TooManyExecutorsError(f"a record of {size} bytes is needed; {MAXIMUM_RECORD} is the most")
    return slots, size


def specialise(target: Target) -> Plan:
    """The executors of `target` and the decision trees that lead to them. Raises `TooManyExecutorsError`."""
    return Specialiser(target).plan()
