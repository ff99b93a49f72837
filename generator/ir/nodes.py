"""The typed semantic IR: what an instruction does, with every width a number.

Lowering (`generator.ir.lower`) produces it from the syntax tree; the evaluator, the specialiser and every
emitter read
it. All nodes are immutable and hashable by value, so that equal behaviours compare equal: that is how
instructions come
to share executors.

There are three kinds of value, and `kind_of` tells them apart:

* **constant**: known when the target is built (`Const`);
* **decode-time**: known when an instruction is decoded (`Field`, `Context`, `Pc`, `NextPc` and what is
  computed from them);
* **dynamic**: known when the instruction runs (registers, memory, locals bound to them).

Every expression has a `width` of 1 bit or more and denotes an unsigned integer below ``2**width``; signs are
in the
operators. Nothing is undefined: shifts by the width or more give 0 (or copies of the sign), `x /u 0` is all
ones,
`x %u 0` is x, `x /s 0` is -1, `x %s 0` is x, and the most negative number divided by -1 is itself with
remainder 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

# --- expressions --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Const:
    """A number known when the target is built, ``0 <= value < 2**width``."""

    width: int
    value: int


@dataclass(frozen=True, slots=True)
class Field:
    """A raw field of the instruction word (gathered from its slices), or of a chosen operand case.

    `name` is a path: ``imm``, or ``dst.b`` for field ``b`` of the operand named ``dst``. ``opcode_bits`` is
    the whole encoding as one number (not in streams). Lowering expresses the fields of operands' cases and of
    operands nested in their bits as slices of the outermost operand's fields; only units that a case appends
    have fields of their own.
    """

    width: int
    name: str


@dataclass(frozen=True, slots=True)
class Context:
    """A decode context's value, or a prefix variable's, when the instruction was decoded.

    ``has_X`` tells whether the machine has feature X (a context over the register ``features``).
    """

    width: int
    name: str


@dataclass(frozen=True, slots=True)
class Pc:
    """The address of this instruction (decode-time)."""

    width: int


@dataclass(frozen=True, slots=True)
class NextPc:
    """The address of the instruction behind this one (decode-time)."""

    width: int


@dataclass(frozen=True, slots=True)
class Local:
    """A value bound by `Let`, `Var`, `Load` or `CallStmt` in this body. Names are unique within a body."""

    width: int
    name: str


@dataclass(frozen=True, slots=True)
class ReadReg:
    """A state element. `index` is None for a single register; else an entry of the file, decode-time or
    dynamic.

    A file's zero register reads 0. Indices at or beyond the file's count do not occur (lowering checks
    widths).
    """

    width: int
    register: str
    index: Expr | None


@dataclass(frozen=True, slots=True)
class Unary:
    """`op`: not, neg, zext, sext (to `width`), clz, ctz, popcount, bitreverse, byteswap.

    Lane by lane, for lanes of n bits in the operand: zext.n, sext.n, trunc.n (to `width` over their number).
    splat.n: the operand (n bits) in each lane.

    clz and ctz of 0 are the operand's width; clz, ctz and popcount have the operand's own width as their
    width.
    """

    width: int
    op: str
    operand: Expr


@dataclass(frozen=True, slots=True)
class Slice:
    """Bits ``low + width - 1`` down to `low` (numbered from the least significant, whatever the file's
    numbering).
    """

    width: int
    operand: Expr
    low: int


@dataclass(frozen=True, slots=True)
class Binary:
    """`op`, with the widths of `left` (l) and `right` (r):

    * add sub mul and or xor udiv sdiv urem srem: l = r = width;
    * shl lshr ashr rotl rotr: l = width, r any (an unsigned amount; rotates take it modulo the width);
    * eq ne ult ule slt sle: l = r, width 1;
    * concat: width = l + r, `left` on top;
    * lane by lane, for lanes of n bits in `left` (add.n, ...): add sub mul, shl lshr ashr (l = r: an amount a
      lane), eq ne ult ule slt sle (a bit a lane), concat (of lanes that may differ in width);
    * permute.n: the lanes of `left` (2**k of them) that the numbers of k bits in `right` choose.
    """

    width: int
    op: str
    left: Expr
    right: Expr


@dataclass(frozen=True, slots=True)
class Select:
    """`condition` (1 bit) ? `then` : `otherwise`. Both arms are pure; a decode-time condition is a decision
    (it specialises the executor) unless both arms are decode-time too.

    `strict` marks the language's `pick(c, a, b)`: never a decision; all three go on to run time.
    """

    width: int
    condition: Expr
    then: Expr
    otherwise: Expr
    strict: bool = False


Expr: TypeAlias = Const | Field | Context | Pc | NextPc | Local | ReadReg | Unary | Slice | Binary | Select

# --- statements ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Let:
    """Bind `local` to `value` once."""

    local: Local
    value: Expr


@dataclass(frozen=True, slots=True)
class Assign:
    """Declare or change a mutable local (`var`, loop accumulators, merged values of branches)."""

    local: Local
    value: Expr


@dataclass(frozen=True, slots=True)
class WriteReg:
    """Write a state element. Writes to a file's zero register are dropped. `value` has its width."""

    register: str
    index: Expr | None
    value: Expr


@dataclass(frozen=True, slots=True)
class Load:
    """Bind `local` (8, 16, 32, 64 or 128 bits) to memory at `address`. May trap.

    `space`: "data" (translated), "phys" (as the page-table walker sees it).
    `little`: 1-bit expression, constant or decode-time: the access's byte order.
    `probe_write`: the access also demands write permission (first half of a read-modify-write).
    """

    local: Local
    address: Expr
    space: str
    little: Expr
    probe_write: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """Write `value` (8, 16, 32, 64 or 128 bits) to memory at `address`. May trap."""

    address: Expr
    value: Expr
    space: str
    little: Expr


@dataclass(frozen=True, slots=True)
class If:
    """Run `then` or `otherwise`. With a decode-time condition this is a decision."""

    condition: Expr
    then: Block
    otherwise: Block


@dataclass(frozen=True, slots=True)
class ForRange:
    """Run `body` with `local` = first, ..., last (inclusive; counts down if first > last; both constants)."""

    local: Local
    first: int
    last: int
    body: Block


@dataclass(frozen=True, slots=True)
class ForSet:
    """Run `body` with `local` = the number of each set bit of `mask`, from the least significant upwards."""

    local: Local
    mask: Expr
    body: Block


@dataclass(frozen=True, slots=True)
class Goto:
    """Continue at `target`. `delay`: after the instruction in the delay slot, which `annul` (1 bit) skips."""

    target: Expr
    delay: bool
    annul: Expr | None


@dataclass(frozen=True, slots=True)
class Skip:
    """Do not execute the next instruction (the delay slot's) if `condition`, 1 bit, holds."""

    condition: Expr


@dataclass(frozen=True, slots=True)
class Raise:
    """Leave the instruction with a trap: nothing behind it runs. `code` has 64 bits, `arguments` up to 64."""

    trap: str
    code: Expr
    arguments: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class CallStmt:
    """Call a `shared fn` (``builtin=False``) or a floating-point built-in (results: value, flags).

    Binds `results` in order. A shared function may read and write state, access memory and trap: its effects
    are those of its own body. Built-ins are pure; their arguments are those of the language, so the leading
    ones are widths, as 8-bit constants; the last one says how denormal numbers are treated (`MODE_BITS` in
    `generator.ir.lower.builtins`).
    """

    results: tuple[Local, ...]
    function: str
    arguments: tuple[Expr, ...]
    builtin: bool


@dataclass(frozen=True, slots=True)
class Atomic:
    """The accesses of `body` are one atomic access for other CPUs, and no other is moved across it. An empty
    one is a fence.
    """

    body: Block


@dataclass(frozen=True, slots=True)
class Return:
    """Leave a shared function with `values` (only there)."""

    values: tuple[Expr, ...]


Stmt: TypeAlias = (
    Let
    | Assign
    | WriteReg
    | Load
    | Store
    | If
    | ForRange
    | ForSet
    | Goto
    | Skip
    | Raise
    | CallStmt
    | Atomic
    | Return
)
Block: TypeAlias = tuple[Stmt, ...]

CONSTANT, DECODE, DYNAMIC = 0, 1, 2


# by identity; holding the expression keeps the identity its own
_KNOWN_KINDS: dict[int, tuple[Expr, int]] = {}
_MAX_KNOWN_KINDS = 1 << 18


def kind_of(expr: Expr) -> int:
    """CONSTANT, DECODE or DYNAMIC: the latest of the parts' kinds. Remembered, as expressions share their
    parts.
    """
    match expr:
        case Const():
            return CONSTANT
        case Field() | Context() | Pc() | NextPc():
            return DECODE
        case Local() | ReadReg():
            return DYNAMIC
        case Unary(operand=operand) | Slice(operand=operand):
            return kind_of(operand)
        case Binary() | Select():
            known = _KNOWN_KINDS.get(id(expr))
            if known is not None:
                return known[1]
            kind = max(
                map(
                    kind_of,
                    (expr.left, expr.right)
                    if isinstance(expr, Binary)
                    else (expr.condition, expr.then, expr.otherwise),
                )
            )
            if len(_KNOWN_KINDS) >= _MAX_KNOWN_KINDS:
                _KNOWN_KINDS.clear()
            _KNOWN_KINDS[id(expr)] = expr, kind
            return kind
