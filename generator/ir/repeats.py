"""Instructions that repeat themselves over memory, found in the executors' behaviour.

An executor *repeats a copy or a fill* if all that it does is: store at an address what it has loaded from
another one, or a value that stays the same; move the registers that these addresses are made of on by a step;
count a register down; and, while that isn't 0, go on at an instruction which, as the engine finds out at run
time, is the same one. Turns of such a loop differ in nothing but these registers, so that as many as stay
inside a page (of the guest's memory, and of what the registers reach) can be executed at once: `Repeat` says
how. That holds for any target; x86's REP MOVS and REP STOS are of this kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from generator.ir import build, nodes
from generator.ir.effects import subexpressions
from generator.ir.executor import Executor, Leaf, Node, Plan, RegisterValue, Tree
from generator.ir.nodes import Block, Const, Expr, If, Local, ReadReg, WriteReg

AHEAD = Local(64, "ahead")
"""How many turns were executed at once."""
PAGE_BITS = 12
"""Of an address: where it lies in its page."""

Place = tuple[str, Expr | None]
"""A register: its name, and its number in a file."""
Files = Mapping[int, frozenset[str]]
"""By a register slot's number: the files of which it may name an entry."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """How an executor's further turns are executed at once. All expressions are over the registers as they
    are behind a turn, and 64 bits wide.
    """

    again: If
    """The statement that repeats the instruction while its condition holds: the body's last."""
    target: int
    """The number of the slot with the record that it goes on at."""
    size: int
    """Bytes of an element: 1, 2, 4 or 8."""
    destination: Expr
    """Where the next turn stores."""
    source: Expr | None
    """A copy: where the next turn loads from."""
    value: Expr | None
    """A fill: what is stored, little-endian."""
    step: Expr
    """The signed distance between two turns' addresses. Only steps of one element can be taken at once."""
    turns: Expr
    """How many turns are left."""
    pointers: tuple[Expr, ...]
    """Registers' values, to which addresses are at a constant distance while none leaves its page."""
    advance: tuple[WriteReg, ...]
    """What `AHEAD` turns do to the registers."""


def repeats(plan: Plan) -> Mapping[int, Repeat]:
    """The executors that repeat a copy or a fill, by their numbers."""
    files = _files(plan)
    found = {e.number: _Finder(e, files.get(e.number, {})).find() for e in plan.executors}
    return {number: repeat for number, repeat in found.items() if repeat is not None}


def _files(plan: Plan) -> Mapping[int, Files]:
    """Of which files the executors' register slots name entries."""
    found: dict[int, dict[int, frozenset[str]]] = {}
    for variant in plan.variants:
        for leaf in _leaves(variant.body):
            slots = found.setdefault(leaf.executor, {})
            for number, value in enumerate(leaf.values):
                if isinstance(value, RegisterValue):
                    slots[number] = slots.get(number, frozenset()) | {value.register}
    return found


def _leaves(tree: Tree) -> Iterator[Leaf]:
    match tree:
        case Leaf():
            yield tree
        case Node(then=then, otherwise=otherwise):
            yield from _leaves(then)
            yield from _leaves(otherwise)


class _Other(Exception):
    """The executor does something else."""


@dataclass(frozen=True, slots=True)
class _Counter:
    """A register that each turn adds to."""

    write: WriteReg
    read: ReadReg
    width: int
    """So many of its low bits count; the others stay, or become 0."""
    distance: Expr

    @property
    def low(self) -> Expr:
        """What counts, now."""
        return build.slice_(self.read, 0, self.width)

    def advanced(self) -> WriteReg:
        """What `AHEAD` turns write."""
        distance = build.binary("mul", build.slice_(AHEAD, 0, self.width), self.distance)
        value = build.binary("add", self.low, distance)
        if isinstance(self.write.value, nodes.Unary):
            value = build.zext(value, self.write.value.width)
        elif self.width < self.read.width:
            value = build.concat(build.slice_(self.read, self.width, self.read.width - self.width), value)
        return WriteReg(self.write.register, self.write.index, value)


def _counter(write: WriteReg) -> _Counter:
    """A write as that of a counter; raises _Other if it isn't one."""
    match write.value:
        case nodes.Unary(op="zext", operand=total) | nodes.Binary(op="concat", right=total):
            pass
        case total:
            pass
    if not isinstance(total, nodes.Binary) or total.op != "add":
        raise _Other
    read = total.left.operand if isinstance(total.left, nodes.Slice) else total.left
    if not isinstance(read, ReadReg) or total.left != build.slice_(read, 0, total.width):
        raise _Other
    fixed = write.index is None or isinstance(write.index, Const)
    if not fixed or (read.register, read.index) != (write.register, write.index) or write.register == "pc":
        raise _Other
    if isinstance(write.value, nodes.Binary) and write.value.op == "concat":
        kept = nodes.Slice(read.width - total.width, read, total.width)
        if write.value.left != kept:
            raise _Other
    return _Counter(write, read, total.width, total.right)


class _Finder:
    """Looks at one executor."""

    def __init__(self, executor: Executor, files: Files) -> None:
        self._executor = executor
        self._files = files
        self._locals: dict[Local, Expr] = {}
        self._counters: dict[Place, _Counter] = {}
        self._pointers: dict[Place, Expr] = {}
        """Counters that addresses are made of, with their values there."""
        self._masks: list[Expr] = []

    def find(self) -> Repeat | None:
        """How it repeats itself, or None."""
        executor = self._executor
        if executor.guard or executor.effects.ends_block or executor.pc is not None:
            return None
        try:
            return self._repeat()
        except _Other:
            return None

    def _repeat(self) -> Repeat:
        guard, turn, again, target = self._parts()
        load, store = self._sorted(turn)
        count = self._count(again.condition)
        if guard is not None and again.condition not in _alternatives(guard):
            raise _Other
        destination = self._address(store.address)
        source = value = None
        if load is None:
            value = self._fixed_value(store)
        else:
            source = self._address(load.address)
        steps = {(self._counters[place].width, self._counters[place].distance) for place in self._pointers}
        if len(steps) != 1:
            raise _Other
        turns = build.zext(count.low, 64)
        for mask in self._masks:
            whole = build.eq(build.slice_(mask, 0, PAGE_BITS), build.const(PAGE_BITS, -1))
            turns = build.select(whole, turns, Const(64, 0), strict=True)
        return Repeat(
            again=again,
            target=target,
            size=store.value.width // 8,
            destination=destination,
            source=source,
            value=value,
            step=build.sext(next(iter(steps))[1], 64),
            turns=turns,
            pointers=tuple(self._pointers.values()),
            advance=tuple(counter.advanced() for counter in self._counters.values()),
        )

    # --- a turn's statements --------------------------------------------------------------------------------

    def _parts(self) -> tuple[Expr | None, Block, If, int]:
        """The condition under which anything happens, a turn's statements, the one that repeats it, and the
        number of the slot with its target.
        """
        body = self._executor.body
        guard: Expr | None = None
        match body:
            case (If(condition=guard, then=(*_, If()) as then, otherwise=()),):
                body = then
        match body:
            case (
                *turn,
                If(then=(nodes.Goto(target=nodes.Field(name=name), delay=False),), otherwise=()) as again,
            ) if self._executor.slots[int(name)].kind == "target":
                return guard, tuple(turn), again, int(name)
        raise _Other

    def _sorted(self, turn: Block) -> tuple[nodes.Load | None, nodes.Store]:
        """Its load and its store; locals, and what is written to registers behind them, are noted."""
        load: nodes.Load | None = None
        store: nodes.Store | None = None
        for statement in turn:
            match statement:
                case nodes.Let(local=local, value=value) if not self._counters:
                    self._locals[local] = self._inlined(value)
                case nodes.Load(space="data", probe_write=False) if load is None and store is None:
                    load = statement
                case nodes.Store(space="data") if store is None and not self._counters:
                    store = statement
                case WriteReg() if store is not None:
                    place = (statement.register, statement.index)
                    if place in self._counters:
                        raise _Other
                    self._counters[place] = _counter(statement)
                case _:
                    raise _Other
        if store is None or store.value.width not in (8, 16, 32, 64):
            raise _Other
        if load is not None and (store.value != load.local or store.little != load.little):
            raise _Other
        if not all(self._stays(counter.distance) for counter in self._counters.values()):
            raise _Other
        return load, store

    def _inlined(self, expr: Expr) -> Expr:
        """`expr` without locals that stand for other expressions."""
        match expr:
            case Local():
                return self._locals.get(expr, expr)
            case nodes.Unary(width=width, op=op, operand=operand):
                return nodes.Unary(width, op, self._inlined(operand))
            case nodes.Slice(width=width, operand=operand, low=low):
                return nodes.Slice(width, self._inlined(operand), low)
            case nodes.Binary(width=width, op=op, left=left, right=right):
                return nodes.Binary(width, op, self._inlined(left), self._inlined(right))
            case nodes.Select():
                condition, then, otherwise = map(self._inlined, (expr.condition, expr.then, expr.otherwise))
                return nodes.Select(expr.width, condition, then, otherwise, expr.strict)
        return expr

    # --- what they mean -------------------------------------------------------------------------------------

    def _stays(self, expr: Expr) -> bool:
        """Whether a turn leaves the value as it is."""
        changed = {register for register, _ in self._counters}
        for part in subexpressions(expr):
            match part:
                case Local():
                    return False
                case ReadReg(register="", index=nodes.Field(name=name)):
                    if not changed.isdisjoint(self._files.get(int(name), changed)):
                        return False
                case ReadReg(register=register, index=index):
                    if (register, index) in self._counters:
                        return False
                    if register in changed and not isinstance(index, Const):
                        return False
        return True

    def _count(self, condition: Expr) -> _Counter:
        """The counter that goes down to 0 while a condition holds."""
        match condition:
            case nodes.Binary(op="ne", left=left, right=Const(value=0)):
                for counter in self._counters.values():
                    if counter.low == left and counter.distance == build.const(counter.width, -1):
                        return counter
        raise _Other

    def _fixed_value(self, store: nodes.Store) -> Expr:
        value = self._inlined(store.value)
        if not self._stays(value) or (value.width > 8 and store.little != Const(1, 1)):
            raise _Other
        return build.zext(value, 64)

    def _address(self, address: Expr) -> Expr:
        """An address without locals. It is one counter, and what stays."""
        inlined = self._inlined(address)
        if inlined.width != 64 or self._linear(inlined) != 1:
            raise _Other
        return inlined

    def _linear(self, expr: Expr) -> int:
        """How many counters an address is the sum of."""
        if self._stays(expr):
            return 0
        match expr:
            case nodes.Binary(op="add", left=left, right=right):
                return self._linear(left) + self._linear(right)
            case nodes.Binary(op="and", left=left, right=right) if self._stays(right):
                self._masks.append(right)
                expr = left
        inner = expr.operand if isinstance(expr, nodes.Unary) and expr.op == "zext" else expr
        for place, counter in self._counters.items():
            if inner == counter.low and counter.width >= PAGE_BITS:
                self._pointers[place] = build.zext(inner, 64)
                return 1
        raise _Other


def _alternatives(condition: Expr) -> Iterator[Expr]:
    """Conditions each of which makes this one hold."""
    yield condition
    if isinstance(condition, nodes.Binary) and condition.op == "or":
        yield from _alternatives(condition.left)
        yield from _alternatives(condition.right)
