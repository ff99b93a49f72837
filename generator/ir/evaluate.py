"""The slow, obviously correct evaluator of the IR: one instruction at a time, on Python integers.

It is the yardstick of conformance: the interpreter and the translator are compared with it. It does what
`generator.ir.nodes` says and nothing else: statements run in program order, effects happen at once, a trap
leaves the state as it is at that moment.

Floating-point built-ins come from the caller (`Builtins`), since the reference implementation belongs to the
runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from generator.ir.arithmetic import mask
from generator.ir.compiled import value as evaluate
from generator.ir.decode import FEATURE_PREFIX, Decoded, Decoder, Illegal
from generator.ir.nodes import (
    Assign,
    Atomic,
    Block,
    CallStmt,
    Expr,
    ForRange,
    ForSet,
    Goto,
    If,
    Let,
    Load,
    Raise,
    Return,
    Skip,
    Stmt,
    Store,
    WriteReg,
)
from generator.ir.state import (
    ACCESS_CODES,
    Access,
    GuestFault,
    Memory,
    State,
    closed_features,
    reset_state,
    stored_width,
)
from generator.model.target import Function, Register, Target

Builtin: TypeAlias = Callable[[str, tuple[int, ...]], tuple[int, ...]]
"""A built-in: the target's floating-point policy by name and the arguments, to the results (value, flags)."""

Builtins: TypeAlias = Mapping[str, Builtin]

RETIRED = "instret"
"""The register that counts the instructions executed."""

PAGE = 4096
"""Bytes that `translate` translates as a whole: accesses are split at multiples of it."""

HERE = 1 << 63
"""In what `translate` gives: it holds for 4 bytes, not for the page; all of an access are asked for."""


@dataclass(frozen=True)
class Completed:
    """The instruction ran to its end; the state's pc is that of the next one."""


@dataclass(frozen=True)
class Trapped:
    """A `raise`: the trap's name, its code and arguments. pc is still this instruction's."""

    trap: str
    code: int
    arguments: tuple[int, ...]


@dataclass(frozen=True)
class Faulted:
    """A memory access that the memory refused (without the spec's `translate`, or behind it)."""

    address: int
    access: Access


@dataclass(frozen=True)
class NotAnInstruction:
    """No form matches the bytes at pc."""

    data: bytes


Outcome: TypeAlias = Completed | Trapped | Faulted | NotAnInstruction


class _Trap(Exception):
    def __init__(self, trapped: Trapped) -> None:
        super().__init__(trapped.trap)
        self.trapped = trapped


class _Jumped(Exception):
    """A `goto` ended the body."""


class _Return(Exception):
    def __init__(self, values: tuple[int, ...]) -> None:
        super().__init__()
        self.values = values


@dataclass
class _Frame:
    """One body in execution: the leaves of its expressions, and where it wants to go on."""

    machine: Evaluator
    state: State
    fields: Mapping[str, int]
    contexts: Mapping[str, int]
    pc: int
    next_pc: int
    locals: dict[str, int] = field(default_factory=dict)
    goto: Goto | None = None
    goto_target: int = 0
    goto_annul: bool = False
    skip: bool = False
    stepped: set[str] = field(default_factory=set)  # stepped contexts that the body wrote

    def context(self, name: str) -> int:
        if name in self.contexts:
            return self.contexts[name]
        return self.machine.context(self.state, name)

    def read(self, register: str, index: int | None, width: int) -> int:
        return self.machine.read(self.state, register, index, width)


class Evaluator:
    """Decodes and executes the instructions of one target on a `State`.

    `system`: accesses go through the spec's `translate` (they are physical otherwise). `features` is closed
    under what each one implies or requires; None means the target's own.
    """

    def __init__(
        self,
        target: Target,
        builtins: Builtins | None = None,
        features: Iterable[str] | None = None,
        system: bool = False,
    ) -> None:
        self.target = target
        self.builtins: Builtins = {} if builtins is None else builtins
        chosen = target.default_features if features is None else tuple(features)
        self.features = closed_features(target, chosen)
        self.system = system
        self.decoder = Decoder(target)
        self.registers: dict[str, Register] = {r.name: r for r in target.registers}
        self.functions: dict[str, Function] = {f.name: f for f in target.functions}
        self.stepped = {c.name: c for c in target.contexts if c.next is not None}
        self._translating: tuple[int, Access] | None = None  # the access whose page tables are being walked

    def reset(self, memory: Memory) -> State:
        """The state after reset, with this machine's features."""
        return reset_state(self.target, memory, self.features)

    # --- state ----------------------------------------------------------------------------------------------

    def read(self, state: State, name: str, index: int | None, width: int) -> int:
        """A register, an entry of a file (the entry behind the last stands for "none" and is 0), or a lazy
        flag.
        """
        if index is None:
            if name in self.stepped:
                return self.context(state, name) & mask(width)
            value = state.registers[name]
            register = self.registers.get(name)
            lazy = register.lazy if register else None
            if lazy is not None and width != lazy.argument.width:
                frame = self._frame(state, {}, {}, state.pc, state.pc)
                frame.locals[lazy.argument.name] = value
                return evaluate(lazy.definition, frame)
            return value & mask(width)
        register = self.registers[name]
        entries = state.files[name]
        if index == register.zero or index == len(entries):
            return 0
        return entries[index]

    def write(self, state: State, name: str, index: int | None, value: int) -> None:
        """Write a register or an entry; a zero register's entry keeps 0."""
        register = self.registers.get(name)
        if index is None:
            if name in self.stepped:
                self._step(state, name, value)
                return
            width = self.target.pc_width if register is None else stored_width(register)
            state.registers[name] = value & mask(width)
            return
        entries = state.files[name]
        if register is None or register.zero != index:
            entries[index] = value

    def context(self, state: State, name: str) -> int:
        """A decode context's value in `state` (prefix variables are the decoder's)."""
        variable = next((c for c in self.target.contexts if c.name == name), None)
        if variable is None:
            return int(name.removeprefix(FEATURE_PREFIX) in self.features)
        if variable.next is not None:
            for stored in (state.contexts, state.registers):
                if name in stored:
                    return stored[name] & mask(variable.width)
        source = variable.value if variable.value is not None else variable.rest
        if source is None:
            return 0
        frame = self._frame(state, {}, {}, state.pc, state.pc)
        return evaluate(source, frame) & mask(variable.width)

    def _frame(
        self, state: State, fields: Mapping[str, int], contexts: Mapping[str, int], pc: int, next_pc: int
    ) -> _Frame:
        return _Frame(self, state, fields, contexts, pc, next_pc)

    # --- instructions ---------------------------------------------------------------------------------------

    def decode(self, state: State) -> Decoded | Illegal:
        """The instruction at pc. Raises `GuestFault` where its bytes can't be fetched."""
        given = {name: self.context(state, name) for name in self.stepped}
        memory: Memory = _Fetching(self, state) if self.system else state.memory
        return self.decoder.decode(
            memory,
            state.pc,
            given,
            self.features,
            lambda name, index, width: self.read(state, name, index, width),
        )

    def step(self, state: State) -> Outcome:
        """Decode and execute the instruction at pc."""
        try:
            decoded = self.decode(state)
        except GuestFault as fault:
            return Faulted(fault.address, fault.access)
        except _Trap as trap:
            return trap.trapped
        if isinstance(decoded, Illegal):
            return NotAnInstruction(decoded.data)
        return self.execute(state, decoded)

    def execute(self, state: State, decoded: Decoded) -> Outcome:
        """Run a decoded instruction. On a trap or fault the state keeps what was written before it, and its
        pc.
        """
        frame = self._frame(state, decoded.fields, decoded.contexts, decoded.pc, decoded.next_pc)
        pc = state.pc
        try:
            variant = decoded.variant
            if variant.guard is None or evaluate(variant.guard, frame):
                with suppress(_Jumped):
                    self._run(variant.body, frame)
        except _Trap as trap:
            state.pc = pc
            return trap.trapped
        except GuestFault as fault:
            state.pc = pc
            return Faulted(fault.address, fault.access)
        self._advance(state, frame)
        if RETIRED in state.registers:
            state.registers[RETIRED] = (state.registers[RETIRED] + 1) & mask(64)
        return Completed()

    def undefined(self, state: State, decoded: Decoded) -> list[str]:
        """Registers that have no defined value after `decoded` (conditions are looked at before it runs)."""
        frame = self._frame(state, decoded.fields, decoded.contexts, decoded.pc, decoded.next_pc)
        return [name for name, when in decoded.form.undefined if when is None or evaluate(when, frame)]

    def call(
        self, state: State, function: str, arguments: tuple[int, ...]
    ) -> tuple[int, ...] | Trapped | Faulted:
        """Call a `shared fn`, e.g. ``take_trap``: its results, or how it left. In it, pc is an ordinary
        register.
        """
        try:
            return self._call(function, arguments, state)
        except _Trap as trap:
            return trap.trapped
        except GuestFault as fault:
            return Faulted(fault.address, fault.access)

    def deliver(self, state: State, trapped: Trapped) -> tuple[int, ...] | Trapped | Faulted:
        """Enter the guest's handler: ``take_trap(number, code, value)``; value is the trap's first argument,
        or 0.
        """
        number = next(trap.number for trap in self.target.traps if trap.name == trapped.trap)
        value = trapped.arguments[0] if trapped.arguments else 0
        return self.call(state, "take_trap", (number, trapped.code, value))

    def _advance(self, state: State, frame: _Frame) -> None:
        """Set pc and step the contexts.

        With a context `npc` (delay slots) pc takes npc's place: a `goto ... delay` goes to npc, an `annul` or
        a plain goto drops what npc said, and `skip` jumps over the instruction at npc. The other contexts are
        at rest behind a jump that takes place at once.
        """
        width = self.target.pc_width
        if "npc" in self.stepped:
            npc = frame.context("npc")
            behind = self._next_npc(state, npc)
            if frame.goto is not None and frame.goto.delay and not frame.goto_annul:
                pc, npc_after = npc, frame.goto_target
            elif frame.goto is not None:
                pc, npc_after = frame.goto_target, self._rest_npc(state, frame.goto_target)
            elif frame.skip:
                pc, npc_after = behind, self._next_npc(state, behind)
            else:
                pc, npc_after = npc, behind
            state.pc = pc & mask(width)
            self._step(state, "npc", npc_after)
        elif frame.goto is not None:
            state.pc = frame.goto_target & mask(width)
        else:
            state.pc = frame.next_pc & mask(width)
        jumped = frame.goto is not None and (frame.goto_annul or not frame.goto.delay)
        for name, variable in self.stepped.items():
            if name == "npc" or name in frame.stepped:
                continue
            source = variable.rest if jumped else variable.next
            before = self._frame(state, frame.fields, {name: frame.context(name)}, frame.pc, frame.next_pc)
            self._step(state, name, 0 if source is None else evaluate(source, before))

    def _step(self, state: State, name: str, value: int) -> None:
        """Store a stepped context: as a register where the state has one of its name."""
        stored = state.registers if name in state.registers and name not in state.contexts else state.contexts
        stored[name] = value & mask(self.stepped[name].width)

    def _next_npc(self, state: State, npc: int) -> int:
        variable = self.stepped["npc"]
        assert variable.next is not None
        return evaluate(variable.next, self._frame(state, {}, {"npc": npc}, state.pc, state.pc)) & mask(
            variable.width
        )

    def _rest_npc(self, state: State, pc: int) -> int:
        variable = self.stepped["npc"]
        if variable.rest is None:
            return self._next_npc(state, pc)
        return evaluate(variable.rest, self._frame(state, {}, {}, pc, pc)) & mask(variable.width)

    # --- statements -----------------------------------------------------------------------------------------

    def _run(self, block: Block, frame: _Frame) -> None:
        for statement in block:
            self._statement(statement, frame)

    def _statement(self, statement: Stmt, frame: _Frame) -> None:
        match statement:
            case Let(local=local, value=value) | Assign(local=local, value=value):
                frame.locals[local.name] = evaluate(value, frame)
            case WriteReg(register=name, index=index, value=value):
                place = None if index is None else evaluate(index, frame)
                self.write(frame.state, name, place, evaluate(value, frame))
                if name in self.stepped:
                    frame.stepped.add(name)
            case Load(local=local):
                address = evaluate(statement.address, frame)
                little = evaluate(statement.little, frame) == 1
                kind: Access = "write" if statement.probe_write else "read"
                data = self._load(frame.state, address, local.width // 8, statement.space, kind)
                frame.locals[local.name] = int.from_bytes(data, "little" if little else "big")
            case Store():
                address = evaluate(statement.address, frame)
                little = evaluate(statement.little, frame) == 1
                data = evaluate(statement.value, frame).to_bytes(
                    statement.value.width // 8, "little" if little else "big"
                )
                self._store(frame.state, address, data, statement.space)
            case If(condition=condition, then=then, otherwise=otherwise):
                self._run(then if evaluate(condition, frame) else otherwise, frame)
            case ForRange(local=local, first=first, last=last, body=body):
                step = 1 if first <= last else -1
                for number in range(first, last + step, step):
                    frame.locals[local.name] = number
                    self._run(body, frame)
            case ForSet(local=local, mask=bits_set, body=body):
                members = evaluate(bits_set, frame)
                for number in range(bits_set.width):
                    if members >> number & 1:
                        frame.locals[local.name] = number
                        self._run(body, frame)
            case Goto(target=to, annul=annul):
                frame.goto = statement
                frame.goto_target = evaluate(to, frame)
                frame.goto_annul = annul is not None and evaluate(annul, frame) == 1
                raise _Jumped
            case Skip(condition=condition):
                frame.skip = evaluate(condition, frame) == 1
            case Raise(trap=trap, code=code, arguments=arguments):
                raise _Trap(Trapped(trap, evaluate(code, frame), _values(arguments, frame)))
            case CallStmt():
                self._call_statement(statement, frame)
            case Atomic(body=body):
                self._run(body, frame)
            case Return(values=values):
                raise _Return(_values(values, frame))

    def _call_statement(self, statement: CallStmt, frame: _Frame) -> None:
        arguments = _values(statement.arguments, frame)
        if statement.builtin:
            results = self.builtins[statement.function](self.target.float_policy, arguments)
        else:
            results = self._call(statement.function, arguments, frame.state, frame)
        for local, result in zip(statement.results, results, strict=True):
            assert 0 <= result <= mask(local.width), (
                f"{statement.function}: {result:#x} in {local.width} bits"
            )
            frame.locals[local.name] = result

    def _call(
        self, name: str, arguments: tuple[int, ...], state: State, caller: _Frame | None = None
    ) -> tuple[int, ...]:
        function = self.functions[name]
        if caller is None:
            frame = self._frame(state, {}, {}, state.pc, state.pc)
        else:
            frame = self._frame(state, {}, caller.contexts, caller.pc, caller.next_pc)
        for parameter, value in zip(function.parameters, arguments, strict=True):
            frame.locals[parameter.name] = value & mask(parameter.width)
        try:
            self._run(function.body, frame)
        except _Return as result:
            return result.values
        finally:
            if caller is not None:
                caller.stepped |= frame.stepped
        if function.results:
            raise AssertionError(f"{name} ends without a result")
        return ()

    # --- memory ---------------------------------------------------------------------------------------------

    def _pieces(self, state: State, address: int, size: int, access: Access, space: str) -> list[_Piece]:
        """An access page by page, translated before anything is touched."""
        if space == "phys":
            return [_Piece(address, address, size)]
        if not self.system or "translate" not in self.functions:
            address &= mask(self.target.pc_width)
            return [_Piece(address, address, size)]
        width = self.functions["translate"].parameters[0].width
        pieces = []
        while size:
            count = min(size, PAGE - address % PAGE)
            physical = self._translate(state, address & mask(width), access)
            if physical & HERE:
                for further in range((address & ~3) + 4, address + count, 4):
                    self._translate(state, further, access)
            pieces.append(_Piece(address, physical & ~HERE, count))
            address, size = (address + count) & mask(width), size - count
        return pieces

    def _translate(self, state: State, address: int, access: Access) -> int:
        outer, self._translating = self._translating, (address, access)
        try:
            return self._call("translate", (address, ACCESS_CODES[access]), state)[0]
        finally:
            self._translating = outer

    def _load(self, state: State, address: int, size: int, space: str, access: Access) -> bytes:
        """Read data; `access` "write": it must be writable, too."""
        pieces = self._pieces(state, address, size, access, space)
        if access == "write":
            self._check(state, pieces, access)
        self._check(state, pieces, "read")
        return b"".join(state.memory.read(piece.physical, piece.size, "read") for piece in pieces)

    def _store(self, state: State, address: int, data: bytes, space: str) -> None:
        pieces = self._pieces(state, address, len(data), "write", space)
        self._check(state, pieces, "write")
        position = 0
        for piece in pieces:
            state.memory.write(piece.physical, data[position : position + piece.size])
            position += piece.size

    def _check(self, state: State, pieces: list[_Piece], access: Access) -> None:
        """Raise what the spec raises where nothing answers (`access_fault`), or else `GuestFault`."""
        for piece in pieces:
            try:
                state.memory.check(piece.physical, piece.size, access)
            except GuestFault as fault:
                if not self.system or "access_fault" not in self.functions:
                    raise
                if self._translating is not None:  # a page table: the access that is being translated fails
                    address, kind = self._translating
                else:
                    address, kind = piece.virtual + (fault.address - piece.physical), access
                self._call("access_fault", (address, ACCESS_CODES[kind]), state)
                raise AssertionError("access_fault returned") from None


@dataclass(frozen=True)
class _Piece:
    """Part of an access that lies in one page."""

    virtual: int
    physical: int
    size: int


class _Fetching:
    """Memory as the decoder sees it in system mode: fetches are translated."""

    def __init__(self, machine: Evaluator, state: State) -> None:
        self.machine = machine
        self.state = state

    def read(self, address: int, size: int, access: Access) -> bytes:
        pieces = self.machine._pieces(self.state, address, size, access, "data")
        self.machine._check(self.state, pieces, access)
        return b"".join(self.state.memory.read(piece.physical, piece.size, access) for piece in pieces)

    def write(self, address: int, data: bytes) -> None:
        raise AssertionError("the decoder doesn't write")

    def check(self, address: int, size: int, access: Access) -> None:
        self.read(address, size, access)


def _values(arguments: tuple[Expr, ...], frame: _Frame) -> tuple[int, ...]:
    return tuple(evaluate(argument, frame) for argument in arguments)
