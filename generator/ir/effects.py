"""What a behaviour does, derived from its IR: registers read and written, memory, traps, jumps.

Nothing is annotated in specs, so everything that needs to know asks here: executors (which exits an
instruction needs), the checks, the manual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from generator.ir import nodes
from generator.ir.nodes import DYNAMIC, Block, Expr, Stmt, kind_of
from generator.model.target import Function, Target


class Jump(Enum):
    """How an instruction may leave the sequence."""

    NONE = 0
    STATIC = 1
    """To an address known when it is decoded."""
    DYNAMIC = 2


@dataclass(frozen=True, slots=True)
class Effects:
    """The effects of a body, those of the shared functions that it calls included."""

    reads: frozenset[str] = frozenset()
    """Registers and files read."""
    writes: frozenset[str] = frozenset()
    loads: bool = False
    stores: bool = False
    physical: bool = False
    """Some access is to physical memory."""
    traps: frozenset[str] = frozenset()
    """Traps that it raises itself (memory accesses may raise others)."""
    calls: frozenset[str] = frozenset()
    """Shared functions, called directly or through others."""
    builtins: frozenset[str] = frozenset()
    """Floating-point built-ins."""
    jumps: frozenset[Jump] = field(default_factory=frozenset)
    skips: bool = False
    """May skip the next instruction (delay slots)."""
    ends_block: bool = False
    """May write an input of a decode context or of address translation: what follows must be decoded afresh.
    """

    @property
    def may_leave(self) -> bool:
        """Whether it may stop in the middle: by a trap, or by an access to memory that faults."""
        return bool(self.traps) or self.loads or self.stores

    def __or__(self, other: Effects) -> Effects:
        return Effects(
            reads=self.reads | other.reads,
            writes=self.writes | other.writes,
            loads=self.loads or other.loads,
            stores=self.stores or other.stores,
            physical=self.physical or other.physical,
            traps=self.traps | other.traps,
            calls=self.calls | other.calls,
            builtins=self.builtins | other.builtins,
            jumps=self.jumps | other.jumps,
            skips=self.skips or other.skips,
            ends_block=self.ends_block or other.ends_block,
        )


# --- walking ------------------------------------------------------------------------------------------------


def parts(expr: Expr) -> tuple[Expr, ...]:
    """The expressions that `expr` is directly made of."""
    match expr:
        case nodes.Unary(operand=operand) | nodes.Slice(operand=operand):
            return (operand,)
        case nodes.Binary(left=left, right=right):
            return (left, right)
        case nodes.Select(condition=condition, then=then, otherwise=otherwise):
            return (condition, then, otherwise)
        case nodes.ReadReg(index=index) if index is not None:
            return (index,)
    return ()


def expressions(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions that `stmt` itself evaluates (not those of the blocks inside it)."""
    match stmt:
        case nodes.Let(value=value) | nodes.Assign(value=value):
            return (value,)
        case nodes.WriteReg(index=index, value=value):
            return (value,) if index is None else (index, value)
        case nodes.Load(address=address, little=little):
            return (address, little)
        case nodes.Store(address=address, value=value, little=little):
            return (address, value, little)
        case nodes.If(condition=condition) | nodes.Skip(condition=condition):
            return (condition,)
        case nodes.ForSet(mask=mask):
            return (mask,)
        case nodes.Goto(target=target, annul=annul):
            return (target,) if annul is None else (target, annul)
        case nodes.Raise(code=code, arguments=arguments):
            return (code, *arguments)
        case nodes.CallStmt(arguments=arguments):
            return arguments
        case nodes.Return(values=values):
            return values
    return ()


def blocks(stmt: Stmt) -> tuple[Block, ...]:
    """The blocks inside `stmt`."""
    match stmt:
        case nodes.If(then=then, otherwise=otherwise):
            return (then, otherwise)
        case nodes.ForRange(body=body) | nodes.ForSet(body=body) | nodes.Atomic(body=body):
            return (body,)
    return ()


def statements(block: Block) -> Iterator[Stmt]:
    """All statements of `block`, those inside others included, in order."""
    for stmt in block:
        yield stmt
        for inner in blocks(stmt):
            yield from statements(inner)


def subexpressions(expr: Expr) -> Iterator[Expr]:
    """`expr` and everything in it."""
    pending = [expr]
    while pending:
        expr = pending.pop()
        yield expr
        pending.extend(parts(expr))


def all_expressions(block: Block) -> Iterator[Expr]:
    """Every expression in `block`, with everything in it."""
    for stmt in statements(block):
        for expr in expressions(stmt):
            yield from subexpressions(expr)


DELAY = "npc"
"""The context that makes delay slots; jumps set it, nothing writes it."""
WAITING = "waiting"
"""A register of this name, once 1, makes the engine stop behind the instruction until an interrupt is due."""
TRANSLATIONS = "translations"
"""Any write to a register of this name drops all cached translations."""
FEATURES = "features"
"""A register of this name reads as the features that are switched on, one bit each."""
RETIRED = "instret"
"""A register of this name reads as the number of instructions executed before this one."""


# --- effects ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sensitive:
    """Registers whose values decoding depends on: for each, the bits that matter."""

    decoding: Mapping[str, int]
    """Inputs of decode contexts, of the choice of instruction sets, of byte order, and of
    `pending_interrupt`.
    """
    translation: Mapping[str, int]
    """Inputs of `translate`."""

    def bits(self, register: str) -> int:
        """All bits of `register` that matter."""
        return self.decoding.get(register, 0) | self.translation.get(register, 0)


def read_bits(exprs: Iterable[Expr], widths: Mapping[str, int]) -> dict[str, int]:
    """For each register read in `exprs` (whole trees): the bits that are looked at."""
    bits: dict[str, int] = {}

    def note(expr: Expr) -> None:
        match expr:
            case nodes.Slice(width=width, operand=nodes.ReadReg(register=register, index=index), low=low):
                bits[register] = bits.get(register, 0) | ((1 << width) - 1) << low
                if index is not None:
                    note(index)
                return
            case nodes.ReadReg(register=register):
                bits[register] = bits.get(register, 0) | (1 << widths.get(register, 64)) - 1
        for part in parts(expr):
            note(part)

    for expr in exprs:
        note(expr)
    return bits


def called(block: Block, functions: Mapping[str, Function], *, for_results: bool = False) -> frozenset[str]:
    """The shared functions that `block` calls, directly or not; `for_results`: those that return values."""
    found: set[str] = set()
    pending = [block]
    while pending:
        for stmt in statements(pending.pop()):
            if not isinstance(stmt, nodes.CallStmt) or stmt.builtin or (for_results and not stmt.results):
                continue
            if stmt.function not in found:
                found.add(stmt.function)
                pending.append(functions[stmt.function].body)
    return frozenset(found)


def sensitive(target: Target) -> Sensitive:
    """What decoding and translation depend on in `target`."""
    functions = {function.name: function for function in target.functions}
    widths = {register.name: register.width for register in target.registers}

    def inputs(*roots: str, deciding: bool = False) -> dict[str, int]:
        names = {name for name in roots if name in functions}
        for name in tuple(names):
            names |= called(functions[name].body, functions, for_results=deciding)
        exprs = [
            expr
            for name in sorted(names)
            for stmt in statements(functions[name].body)
            for expr in expressions(stmt)
        ]
        return read_bits(exprs, widths)

    decode_time = [context.value for context in target.contexts if context.value is not None]
    decode_time += [group.when for group in target.sets if group.when is not None]
    if target.little_when is not None:
        decode_time.append(target.little_when)
    decoding = read_bits(decode_time, widths)
    # Whether an interrupt is due; what takes it returns nothing, and may read any register.
    for register, mask in inputs("pending_interrupt", deciding=True).items():
        decoding[register] = decoding.get(register, 0) | mask
    translation = inputs("translate")
    for context in target.contexts:
        if (
            context.next is not None and context.name != DELAY
        ):  # what an instruction writes, the next one sees
            decoding[context.name] = (1 << context.width) - 1
    if WAITING in widths:
        decoding[WAITING] = 1
    if TRANSLATIONS in widths:
        translation[TRANSLATIONS] = (1 << widths[TRANSLATIONS]) - 1
    for found in (decoding, translation):
        found.pop("pc", None)
    return Sensitive(decoding, translation)


class Analysis:
    """Effects of the bodies of one target; those of shared functions are worked out once."""

    def __init__(self, target: Target) -> None:
        self.sensitive = sensitive(target)
        self._functions = {function.name: function for function in target.functions}
        self._known: dict[str, Effects] = {}

    def function(self, name: str) -> Effects:
        """The effects of a shared function, those of what it calls included."""
        if name not in self._known:
            self._known[name] = Effects()  # a function that calls itself adds nothing
            self._known[name] = self.body(self._functions[name].body)
        return self._known[name]

    def body(self, block: Block) -> Effects:
        """The effects of `block`, that of a form's variant, an executor's or a function's."""
        total = Effects()
        for stmt in statements(block):
            total = total | self._statement(stmt)
        return total

    def _statement(self, stmt: Stmt) -> Effects:
        reads = frozenset(
            inner.register
            for expr in expressions(stmt)
            for inner in subexpressions(expr)
            if isinstance(inner, nodes.ReadReg)
        )
        effects = _RULES.get(type(stmt), _nothing)(stmt)
        if isinstance(stmt, nodes.WriteReg):
            effects = effects | Effects(ends_block=bool(self.sensitive.bits(stmt.register)))
        if isinstance(stmt, nodes.CallStmt):
            if stmt.builtin:
                effects = Effects(builtins=frozenset((stmt.function,)))
            else:
                effects = self.function(stmt.function) | Effects(calls=frozenset((stmt.function,)))
        return effects | Effects(reads=reads)


def _nothing(stmt: Stmt) -> Effects:
    return Effects()


def _write(stmt: nodes.WriteReg) -> Effects:
    return Effects(writes=frozenset((stmt.register,)))


def _load(stmt: nodes.Load) -> Effects:
    return Effects(loads=True, physical=stmt.space == "phys")


def _store(stmt: nodes.Store) -> Effects:
    return Effects(stores=True, physical=stmt.space == "phys")


def _goto(stmt: nodes.Goto) -> Effects:
    # In executors a decode-time target is a slot, which counts as decode-time too.
    static = kind_of(stmt.target) != DYNAMIC
    return Effects(jumps=frozenset((Jump.STATIC if static else Jump.DYNAMIC,)))


def _raise(stmt: nodes.Raise) -> Effects:
    return Effects(traps=frozenset((stmt.trap,)))


def _skip(stmt: nodes.Skip) -> Effects:
    return Effects(skips=True)


_RULES: dict[type, Callable[..., Effects]] = {
    nodes.WriteReg: _write,
    nodes.Load: _load,
    nodes.Store: _store,
    nodes.Goto: _goto,
    nodes.Raise: _raise,
    nodes.Skip: _skip,
}
