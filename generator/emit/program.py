"""Programs of the decoder's small machine: operations, labels, registers, decode-time expressions.

The machine is described in `runtime.cpu.tables`, which the generator may not import: its numbers come as a
`Machine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from generator.ir.decode import FEATURE_PREFIX
from generator.ir.nodes import (
    Binary,
    Const,
    Context,
    Expr,
    Field,
    Local,
    NextPc,
    Pc,
    ReadReg,
    Select,
    Slice,
    Unary,
)

ROUTINE_FIRST: Final = 2048
"""Programs use registers below this; routines this and up, then come what they take and give."""
ROUTINE_STATIC: Final = 3072

Op = Enum(
    "Op",
    """
    FAIL DONE ILLEGAL JUMP JUMP_ZERO JUMP_NONZERO IMMEDIATE CONSTANT MOVE ADD SUB MUL AND OR XOR SHL
    LSHR ASHR ROTL ROTR UDIV SDIV UREM SREM EQ NE ULT ULE SLT SLE CONCAT SEXT SLICE DEPOSIT CLZ CTZ
    POPCOUNT BITREVERSE BYTESWAP REGISTER WORD MATCH UNITS UNLESS SEEK TELL FEATURE NEXT_PC EMIT
    SLOT16 SLOT32 SLOT64 TARGET SKIP LOOKUP HAS CALL RETURN
    """,
)
"""What the machine can do, by the names of `runtime.cpu.tables.Op`, which tells what each does."""


@dataclass(frozen=True)
class Machine:
    """The machine's numbers, which `runtime.cpu.tables` states, and who builds a target hands in.

    Raises ValueError where an operation lacks its number.
    """

    operations: Mapping[str, int]
    """Of each operation, by its name."""
    header: Mapping[str, int]
    """Byte offsets of the table file's 8-byte header fields, by name."""
    header_size: int
    magic: int
    registers: int
    """How many it has."""
    pc: int
    next_pc: int
    condition: int
    first: int
    """Its registers with a meaning, and the first without one."""

    def __post_init__(self) -> None:
        lacking = [op.name for op in Op if op.name not in self.operations]
        if lacking:
            raise ValueError(f"the decoder's machine has no {', '.join(lacking)}")


class DecoderError(Exception):
    """A target that the decoder's tables can't express; the message names the form and what is too much."""


@dataclass(eq=False)
class Label:
    """A place in a program, known once it is placed."""

    position: int | None = None
    uses: list[int] = field(default_factory=list)


class Words:
    """The table file's words, growing; jumps are patched when their label is placed."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.words: list[int] = []

    @property
    def here(self) -> int:
        """The position of the next word."""
        return len(self.words)

    def emit(self, op: Op, d: int = 0, a: int = 0, w: int = 0, b: int = 0) -> None:
        """An instruction of the machine. Raises DecoderError for what its fields have no room for."""
        count = self.machine.registers
        if not (0 <= d < count and 0 <= a < count and 0 <= w < 256 and -(1 << 23) <= b < 1 << 23):
            raise DecoderError(f"{op.name} d={d} a={a} w={w} b={b} doesn't fit")
        number = self.machine.operations[op.name]
        self.words.append(number | d << 8 | a << 20 | w << 32 | (b & 0xFFFFFF) << 40)

    def raw(self, value: int) -> None:
        """A word of data, modulo 2**64."""
        self.words.append(value & (1 << 64) - 1)

    def jump(self, op: Op, label: Label, a: int = 0) -> None:
        """A JUMP, JUMP_ZERO, JUMP_NONZERO or UNLESS to `label`."""
        if label.position is None:
            label.uses.append(self.here)
        self.emit(op, a=a, b=label.position or 0)

    def place(self, label: Label) -> None:
        """`label` is here."""
        label.position = self.here
        for use in label.uses:
            self.words[use] |= (self.here & 0xFFFFFF) << 40
        label.uses.clear()


_BINARY: Final[Mapping[str, Op]] = {
    "add": Op.ADD, "sub": Op.SUB, "mul": Op.MUL, "and": Op.AND, "or": Op.OR, "xor": Op.XOR,
    "udiv": Op.UDIV, "sdiv": Op.SDIV, "urem": Op.UREM, "srem": Op.SREM,
    "shl": Op.SHL, "lshr": Op.LSHR, "ashr": Op.ASHR, "rotl": Op.ROTL, "rotr": Op.ROTR,
    "eq": Op.EQ, "ne": Op.NE, "ult": Op.ULT, "ule": Op.ULE, "slt": Op.SLT, "sle": Op.SLE,
}  # fmt: skip
_UNARY: Final[Mapping[str, Op]] = {
    "clz": Op.CLZ, "ctz": Op.CTZ, "popcount": Op.POPCOUNT, "bitreverse": Op.BITREVERSE, "byteswap":
    Op.BYTESWAP,
}  # fmt: skip

_FROM_LOW_BITS: Final = frozenset(("add", "sub", "mul", "and", "or", "xor"))


def low_bits(expr: Expr, width: int) -> Expr | None:
    """The low `width` bits of a wider expression without computing the rest; None if that isn't possible."""
    if expr.width == width:
        return expr
    match expr:
        case Const(value=value):
            return Const(width, value & ((1 << width) - 1))
        case Binary(op=op, left=left, right=right) if op in _FROM_LOW_BITS:
            first, second = low_bits(left, width), low_bits(right, width)
            return None if first is None or second is None else Binary(width, op, first, second)
        case Binary(op="shl", left=left, right=right):
            first = low_bits(left, width)
            return None if first is None else Binary(width, "shl", first, right)
        case Binary(op="concat", left=left, right=right):
            if width <= right.width:
                return low_bits(right, width)
            top = low_bits(left, width - right.width)
            return None if top is None else Binary(width, "concat", top, right)
        case Unary(op="not" | "neg", operand=operand):
            inner = low_bits(operand, width)
            return None if inner is None else Unary(width, expr.op, inner)
        case Unary(op="zext" | "sext", operand=operand):
            if operand.width >= width:
                return low_bits(operand, width)
            return Unary(width, expr.op, operand)
        case Select(condition=condition, then=then, otherwise=otherwise):
            first, second = low_bits(then, width), low_bits(otherwise, width)
            return None if first is None or second is None else Select(width, condition, first, second)
        case _:
            return Slice(width, expr, 0) if expr.width <= 64 else None


FieldSource = Callable[["Program", str], int]
"""Emits what computes a field and returns its register."""


Known = tuple[dict[int, int], dict[str, FieldSource], int]
"""Registers of computed expressions and, by complement, constants; fields; the first free register."""


class Numbering:
    """Gives equal expressions equal numbers; looks at each object once, since hashing whole trees is slow."""

    def __init__(self) -> None:
        self._by_object: dict[int, tuple[Expr, int]] = {}
        self._by_key: dict[object, int] = {}

    def of(self, expr: Expr) -> int:
        """The number of an expression, 0 or more."""
        found = self._by_object.get(id(expr))
        if found is None:
            number = self._by_key.setdefault(self._key(expr), len(self._by_key))
            found = self._by_object[id(expr)] = (expr, number)  # holds it, so that its id stays its own
        return found[1]

    def _key(self, expr: Expr) -> object:
        match expr:
            case Unary(width=width, op=op, operand=operand):
                return op, width, self.of(operand)
            case Slice(width=width, operand=operand, low=low):
                return "slice", width, self.of(operand), low
            case Binary(width=width, op=op, left=left, right=right):
                return op, width, self.of(left), self.of(right)
            case Select(width=width, condition=condition, then=then, otherwise=otherwise):
                return "select", width, self.of(condition), self.of(then), self.of(otherwise)
            case _:
                return expr


@dataclass
class Environment:
    """Where decode-time leaves come from, alike for all programs of a target."""

    contexts: dict[str, int]
    """Registers of contexts and prefix variables that have one."""
    computed: dict[str, Expr]
    """Contexts that depend on prefix variables: computed where they are used."""
    features: Mapping[str, int] = field(default_factory=dict)
    """Features' numbers."""
    register_offset: Callable[[str, Expr | None], int] | None = None
    """Byte offset of a state register, for the key program; None where state can't be read."""
    numbering: Numbering = field(default_factory=Numbering)
    lazy: Mapping[str, tuple[Local, Expr]] = field(default_factory=dict)
    """Registers that are stored as the argument of a definition: the argument and the definition."""


class Program:
    """Emits one program. Values are kept in registers and computed once on each path."""

    def __init__(self, words: Words, environment: Environment, first_free: int, what: str) -> None:
        self.words = words
        self.environment = environment
        self.what = what
        self._free = first_free
        self.known: dict[int, int] = {}
        self.fields: dict[str, FieldSource] = {}
        self.locals: dict[str, int] = {}

    def register(self) -> int:
        """A fresh register."""
        if self._free in (ROUTINE_FIRST, ROUTINE_STATIC):
            raise DecoderError(f"{self.what}: needs too many registers")
        self._free += 1
        return self._free - 1

    def branch(self) -> Known:
        """What is known, to be restored where paths meet or part: see `back`."""
        return dict(self.known), dict(self.fields), self._free

    def back(self, saved: Known) -> None:
        """Know only what was known at `branch`; registers taken since are free again."""
        self.known, self.fields, self._free = dict(saved[0]), dict(saved[1]), saved[2]

    def constant(self, value: int) -> int:
        """A register that holds a number."""
        value &= (1 << 64) - 1
        key = ~value
        if key not in self.known:
            register = self.register()
            signed = value - (1 << 64) if value >> 63 & 1 else value
            if -(1 << 23) <= signed < 1 << 23:
                self.words.emit(Op.IMMEDIATE, d=register, b=signed)
            else:
                self.words.emit(Op.CONSTANT, d=register)
                self.words.raw(value)
            self.known[key] = register
        return self.known[key]

    def value(self, expr: Expr) -> int:
        """Emit the computation of `expr`; its register."""
        if isinstance(expr, Const):
            return self.constant(expr.value)
        number = self.environment.numbering.of(expr)
        if number not in self.known:
            self.known[number] = self._compute(expr)
        return self.known[number]

    def _compute(self, expr: Expr) -> int:
        if expr.width > 64:
            raise DecoderError(
                f"{self.what}: a decode-time value of {expr.width} bits; at most 64 are possible"
            )
        match expr:
            case Pc():
                return self.words.machine.pc
            case NextPc():
                return self.words.machine.next_pc
            case Field(name=name):
                if name not in self.fields:
                    raise DecoderError(f"{self.what}: field `{name}` isn't known where it is used")
                return self.fields[name](self, name)
            case Context(name=name):
                if name in self.environment.contexts:
                    return self.environment.contexts[name]
                if name in self.environment.computed:
                    return self.value(self.environment.computed[name])
                if name.removeprefix(FEATURE_PREFIX) in self.environment.features:
                    register = self.register()
                    number = self.environment.features[name.removeprefix(FEATURE_PREFIX)]
                    self.words.emit(Op.HAS, d=register, b=number)
                    return register
                raise DecoderError(f"{self.what}: context `{name}` has no value when decoding")
            case Local(name=name) if name in self.locals:
                return self.locals[name]
            case ReadReg():
                return self._read(expr)
            case Unary():
                return self._unary(expr)
            case Slice(width=width, operand=Binary(op="concat", left=left, right=right), low=low):
                if low + width <= right.width:
                    return self.value(
                        right if low == 0 and width == right.width else Slice(width, right, low)
                    )
                if low >= right.width:
                    return self.value(left if width == left.width else Slice(width, left, low - right.width))
            case Binary():
                return self._binary(expr)
            case Select(condition=condition, then=then, otherwise=otherwise):
                return self._select(condition, then, otherwise)
            case _:
                pass
        if isinstance(expr, Slice):
            if expr.operand.width > 64 and expr.low + expr.width <= 64:
                part = low_bits(expr.operand, expr.low + expr.width)
                if part is not None:
                    return self.value(part if expr.low == 0 else Slice(expr.width, part, expr.low))
            source = self.value(expr.operand)
            register = self.register()
            self.words.emit(Op.SLICE, d=register, a=source, w=expr.width, b=expr.low)
            return register
        raise DecoderError(f"{self.what}: {type(expr).__name__} isn't known when decoding")

    def _unary(self, expr: Unary) -> int:
        source = self.value(expr.operand)
        if expr.op == "zext":
            return source
        register = self.register()
        if expr.op == "sext":
            self.words.emit(Op.SEXT, d=register, a=source, w=expr.width, b=expr.operand.width)
        elif expr.op == "not":
            ones = self.constant((1 << expr.width) - 1)
            self.words.emit(Op.XOR, d=register, a=source, w=expr.width, b=ones)
        elif expr.op == "neg":
            self.words.emit(Op.SUB, d=register, a=self.constant(0), w=expr.width, b=source)
        else:
            self.words.emit(_UNARY[expr.op], d=register, a=source, w=expr.operand.width)
        return register

    def _binary(self, expr: Binary) -> int:
        left, right = self.value(expr.left), self.value(expr.right)
        register = self.register()
        if expr.op == "concat":
            self.words.emit(Op.CONCAT, d=register, a=left, w=expr.right.width, b=right)
        else:
            self.words.emit(_BINARY[expr.op], d=register, a=left, w=expr.left.width, b=right)
        return register

    def _select(self, condition: Expr, then: Expr, otherwise: Expr) -> int:
        register = self.register()
        chosen, end = Label(), Label()
        self.words.jump(Op.JUMP_NONZERO, chosen, a=self.value(condition))
        saved = self.branch()
        self.words.emit(Op.MOVE, d=register, a=self.value(otherwise))
        self.words.jump(Op.JUMP, end)
        self.words.place(chosen)
        self.back(saved)
        self.words.emit(Op.MOVE, d=register, a=self.value(then))
        self.words.place(end)
        self.back(saved)
        return register

    def _read(self, expr: ReadReg) -> int:
        find = self.environment.register_offset
        if find is None:
            raise DecoderError(f"{self.what}: register `{expr.register}` isn't known when decoding")
        register = self.register()
        if expr.register in self.environment.lazy:
            argument, definition = self.environment.lazy[expr.register]
            if argument.width > 64:
                raise DecoderError(f"{self.what}: lazy register `{expr.register}` is too wide")
            self.words.emit(Op.REGISTER, d=register, w=argument.width, b=find(expr.register, expr.index))
            outer, self.locals = self.locals, {argument.name: register}
            saved = self.branch()
            result = self.value(definition)
            self.back(saved)
            self.locals = outer
            return result
        self.words.emit(Op.REGISTER, d=register, w=min(expr.width, 64), b=find(expr.register, expr.index))
        return register
