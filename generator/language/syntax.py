"""The syntax tree of the .isa language: what was written, with places, before any meaning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from generator.language.source import Pos


@dataclass(eq=False, slots=True)
class Node:
    at: Pos


@dataclass(eq=False, slots=True)
class Ident(Node):
    """A declared or used name with its place."""

    name: str


# --- expressions --------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Number(Node):
    """A literal; `digits` is the width that its digits spell (0b00: 2, 0x00: 8), or None for decimals."""

    value: int
    digits: int | None


@dataclass(eq=False, slots=True)
class Str(Node):
    text: str


@dataclass(eq=False, slots=True)
class Name(Node):
    name: str
    generics: tuple[Expr, ...] = ()


@dataclass(eq=False, slots=True)
class Call(Node):
    callee: Name
    args: tuple[Expr, ...]


@dataclass(eq=False, slots=True)
class Mem(Node):
    """`mem(width, order)[address]`; `space` is mem or phys."""

    space: str
    args: tuple[Expr, ...]
    address: Expr


@dataclass(eq=False, slots=True)
class Member(Node):
    base: Expr
    name: str


@dataclass(eq=False, slots=True)
class Index(Node):
    base: Expr
    index: Expr


@dataclass(eq=False, slots=True)
class SliceOf(Node):
    base: Expr
    first: Expr
    last: Expr


@dataclass(eq=False, slots=True)
class SliceFrom(Node):
    base: Expr
    start: Expr
    width: Expr


@dataclass(eq=False, slots=True)
class UnaryOp(Node):
    op: str
    operand: Expr


@dataclass(eq=False, slots=True)
class BinaryOp(Node):
    op: str
    left: Expr
    right: Expr


@dataclass(eq=False, slots=True)
class Ternary(Node):
    condition: Expr
    then: Expr
    otherwise: Expr


@dataclass(eq=False, slots=True)
class TupleOf(Node):
    items: tuple[Expr, ...]


@dataclass(eq=False, slots=True)
class Arm(Node):
    """Patterns (None: else) and what they choose."""

    patterns: tuple[Expr | None, ...]
    value: Expr


@dataclass(eq=False, slots=True)
class MatchOf(Node):
    subject: Expr
    arms: tuple[Arm, ...]


@dataclass(eq=False, slots=True)
class Lanes(Node):
    """`lanes a, b : bits(8) in x, y => f(a, b)`: `body` for each lane of `values`, joined by `fold`.

    `fold` is an operator: `@`, or one that combines all lanes in one. `type` is None where `values` are the
    first and last of the numbers that the one name counts.
    """

    fold: str
    names: tuple[Ident, ...]
    type: Type | None
    values: tuple[Expr, ...]
    body: Expr


Expr: TypeAlias = (
    Number
    | Str
    | Name
    | Call
    | Mem
    | Member
    | Index
    | SliceOf
    | SliceFrom
    | UnaryOp
    | BinaryOp
    | Ternary
    | TupleOf
    | MatchOf
    | Lanes
)

# --- types --------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Type(Node):
    """The widths of a value: one expression for `bits(n)`, several for a tuple."""

    widths: tuple[Expr, ...]
    is_tuple: bool = False


# --- statements ---------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class LetStmt(Node):
    names: tuple[Ident, ...]
    is_tuple: bool
    type: Type | None
    value: Expr


@dataclass(eq=False, slots=True)
class VarStmt(Node):
    name: Ident
    type: Type | None
    value: Expr


@dataclass(eq=False, slots=True)
class ReturnStmt(Node):
    value: Expr | None


@dataclass(eq=False, slots=True)
class AssignStmt(Node):
    """`op` is "" for `=`, else the operator of `|= &= ^= += -=`."""

    target: Expr
    op: str
    value: Expr


@dataclass(eq=False, slots=True)
class IfStmt(Node):
    condition: Expr
    then: BlockStmt
    otherwise: BlockStmt | None


@dataclass(eq=False, slots=True)
class StmtArm(Node):
    patterns: tuple[Expr | None, ...]
    body: BlockStmt


@dataclass(eq=False, slots=True)
class MatchStmt(Node):
    subject: Expr
    arms: tuple[StmtArm, ...]


@dataclass(eq=False, slots=True)
class GotoStmt(Node):
    target: Expr
    delay: bool
    annul: Expr | None


@dataclass(eq=False, slots=True)
class SkipStmt(Node):
    condition: Expr | None


@dataclass(eq=False, slots=True)
class RaiseStmt(Node):
    trap: Ident
    args: tuple[Expr, ...]


@dataclass(eq=False, slots=True)
class ForRangeStmt(Node):
    name: Ident
    type: Type
    first: Expr
    last: Expr
    body: BlockStmt


@dataclass(eq=False, slots=True)
class ForSetStmt(Node):
    name: Ident
    type: Type
    mask: Expr
    body: BlockStmt


@dataclass(eq=False, slots=True)
class AtomicStmt(Node):
    when: Expr | None
    body: BlockStmt


@dataclass(eq=False, slots=True)
class ExprStmt(Node):
    call: Call


@dataclass(eq=False, slots=True)
class BlockStmt(Node):
    body: tuple[Stmt, ...]


Stmt: TypeAlias = (
    LetStmt
    | VarStmt
    | ReturnStmt
    | AssignStmt
    | IfStmt
    | MatchStmt
    | GotoStmt
    | SkipStmt
    | RaiseStmt
    | ForRangeStmt
    | ForSetStmt
    | AtomicStmt
    | ExprStmt
)

# --- pictures -----------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class OperandRef(Node):
    name: str
    generics: tuple[Expr, ...]


@dataclass(eq=False, slots=True)
class PicNoPrefix(Node):
    pass


@dataclass(eq=False, slots=True)
class PicFixed(Node):
    width: int
    value: int
    is_byte: bool


@dataclass(eq=False, slots=True)
class PicIgnored(Node):
    width: int
    value: int  # how they are written


@dataclass(eq=False, slots=True)
class PicAppended(Node):
    pass


@dataclass(eq=False, slots=True)
class PicField(Node):
    """`name[slices]:reference`; a slice is (first, last) as written; the reference is an operand class or a
    width.
    """

    name: str
    slices: tuple[tuple[int, int], ...]
    reference: OperandRef | Expr | None


PicElement: TypeAlias = PicNoPrefix | PicFixed | PicIgnored | PicAppended | PicField


@dataclass(eq=False, slots=True)
class Picture(Node):
    elements: tuple[PicElement, ...]


# --- items --------------------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Param(Node):
    """A parameter of a function or trap."""

    name: str
    type: Type


@dataclass(eq=False, slots=True)
class IsaItem(Node):
    name: str
    flags: tuple[str, ...]
    values: dict[str, str]


@dataclass(eq=False, slots=True)
class SetItem(Node):
    name: str
    flags: tuple[str, ...]
    values: dict[str, str]
    when: Expr | None


@dataclass(eq=False, slots=True)
class TargetItem(Node):
    name: str
    bindings: tuple[tuple[Ident, Expr], ...]
    elf: tuple[int, int, str] | None
    features: tuple[Ident, ...]
    gdb: str


@dataclass(eq=False, slots=True)
class ParamItem(Node):
    name: str
    values: tuple[Expr, ...]


@dataclass(eq=False, slots=True)
class FeatureItem(Node):
    name: str
    title: str
    requires: tuple[Ident, ...]
    excludes: tuple[Ident, ...]
    implies: tuple[Ident, ...]


@dataclass(eq=False, slots=True)
class CpuItem(Node):
    name: str
    title: str
    like: str
    features: tuple[Ident, ...]


@dataclass(eq=False, slots=True)
class SectionItem(Node):
    needs: tuple[Ident, ...]


@dataclass(eq=False, slots=True)
class FirstItem(Node):
    body: BlockStmt


@dataclass(eq=False, slots=True)
class OnlyItem(Node):
    when: Expr


@dataclass(eq=False, slots=True)
class LittleItem(Node):
    when: Expr


@dataclass(eq=False, slots=True)
class EnumRowNode(Node):
    name: str
    value: Expr | None
    text: str | None


@dataclass(eq=False, slots=True)
class EnumItem(Node):
    name: str
    type: Type
    rows: tuple[EnumRowNode, ...]
    accept: TextNode | None = None


@dataclass(eq=False, slots=True)
class TrapItem(Node):
    name: str
    params: tuple[Param, ...]
    code: Expr
    text: str


@dataclass(eq=False, slots=True)
class FieldDef(Node):
    name: str
    first: Expr
    last: Expr | None


@dataclass(eq=False, slots=True)
class LazyDef(Node):
    name: str
    type: Type
    definition: Expr


@dataclass(eq=False, slots=True)
class RegItem(Node):
    """`regs` (with a count) and `reg`: one item a name."""

    name: str
    type: Type
    count: Expr | None
    fields: tuple[FieldDef, ...] = ()
    zero: int | None = None
    names: str | None = None
    accept: TextNode | None = None
    lazy: LazyDef | None = None
    window: tuple[str, int, int] | None = None
    reset: Expr | None = None
    hidden: bool = False


@dataclass(eq=False, slots=True)
class ViewCase(Node):
    when: Expr | None
    value: Expr
    write: str | None


@dataclass(eq=False, slots=True)
class ViewItem(Node):
    name: str
    generics: tuple[str, ...]
    index: Param | None
    type: Type
    cases: tuple[ViewCase, ...]


@dataclass(eq=False, slots=True)
class BankRowNode(Node):
    first: Expr
    last: Expr | None
    name: str
    when: Expr | None
    needs: tuple[Ident, ...]
    read: Expr | BlockStmt | None
    write: BlockStmt | None


@dataclass(eq=False, slots=True)
class BankItem(Node):
    name: str
    index: Param
    type: Type
    otherwise: BlockStmt
    rows: tuple[BankRowNode, ...]


@dataclass(eq=False, slots=True)
class ContextItem(Node):
    name: str
    type: Type
    value: Expr | None
    next: Expr | None
    rest: Expr | None
    domain: tuple[Expr, ...]


@dataclass(eq=False, slots=True)
class PrefixRowNode(Node):
    picture: Picture
    variable: str
    value: Expr | None
    flags: tuple[str, ...]
    when: Expr | None
    accept: TextNode | None


@dataclass(eq=False, slots=True)
class PrefixItem(Node):
    name: str
    rows: tuple[PrefixRowNode, ...]


@dataclass(eq=False, slots=True)
class TextNode(Node):
    dialect: str
    text: str
    use: str = ""


@dataclass(eq=False, slots=True)
class CaseNode(Node):
    picture: Picture | None
    when: Expr | None
    texts: tuple[TextNode, ...]
    value: Expr | BlockStmt | None


@dataclass(eq=False, slots=True)
class OperandItem(Node):
    """One operand class; `operand a, b (...)` makes one item a name. A simple class has one case without a
    picture.
    """

    name: str
    generics: tuple[str, ...]
    fields: tuple[tuple[Ident, Expr], ...]
    type: Type | None
    cases: tuple[CaseNode, ...]
    simple: bool


@dataclass(eq=False, slots=True)
class FnItem(Node):
    name: str
    shared: bool
    generics: tuple[str, ...]
    params: tuple[Param, ...]
    result: Type | None
    body: BlockStmt  # `= e` is a block that returns e
    restartable: bool = False


@dataclass(eq=False, slots=True)
class Row(Node):
    mnemonic: Ident
    cells: tuple[Expr, ...]


@dataclass(eq=False, slots=True)
class RowsItem(Node):
    name: str
    rows: tuple[Row, ...]


@dataclass(eq=False, slots=True)
class Axis(Node):
    """`for name in values`; or `for bit:name in {bit: value, ...}` with `bits` beside the values."""

    name: Ident
    bit: Ident | None
    bits: tuple[Expr, ...]
    values: tuple[Expr, ...]


@dataclass(eq=False, slots=True)
class BitsClause(Node):
    picture: Picture
    withs: tuple[tuple[Ident, OperandRef], ...]


@dataclass(eq=False, slots=True)
class AllowClause(Node):
    names: tuple[Ident, ...]
    when: Expr | None


@dataclass(eq=False, slots=True)
class UndefinedClause(Node):
    places: tuple[Expr, ...]
    when: Expr | None


@dataclass(eq=False, slots=True)
class InsnItem(Node):
    name: Ident
    formals: tuple[Ident, ...]
    axes: tuple[Axis, ...]
    bits: tuple[BitsClause, ...] = ()
    texts: tuple[TextNode, ...] = ()
    whens: tuple[Expr, ...] = ()
    needs: tuple[Ident, ...] = ()
    guards: tuple[Expr, ...] = ()
    allows: tuple[AllowClause, ...] = ()
    undefined: tuple[UndefinedClause, ...] = ()
    before: tuple[Ident, ...] = ()
    restartable: bool = False
    doc: str = ""
    execs: tuple[BlockStmt, ...] = ()
    rows: tuple[Row, ...] | None = None
    rows_name: Ident | None = None


@dataclass(eq=False, slots=True)
class AliasItem(Node):
    use: str
    dialect: str
    text: TextNode
    expansion: TextNode
    when: Expr | None
    unless: TextNode | None = None


@dataclass(eq=False, slots=True)
class ExampleItem(Node):
    dialect: str
    text: TextNode
    bytes_: bytes
    when: Expr | None


@dataclass(eq=False, slots=True)
class DebugRow(Node):
    name: Ident
    names: TextNode | None
    is_float: bool


@dataclass(eq=False, slots=True)
class DebugItem(Node):
    group: TextNode
    rows: tuple[DebugRow, ...]


Item: TypeAlias = (
    IsaItem
    | SetItem
    | TargetItem
    | ParamItem
    | FeatureItem
    | CpuItem
    | SectionItem
    | FirstItem
    | OnlyItem
    | LittleItem
    | EnumItem
    | TrapItem
    | RegItem
    | ViewItem
    | BankItem
    | ContextItem
    | PrefixItem
    | OperandItem
    | FnItem
    | RowsItem
    | InsnItem
    | AliasItem
    | ExampleItem
    | DebugItem
)


@dataclass(eq=False, slots=True)
class FileTree:
    """One parsed file."""

    source: object
    items: list[Item] = field(default_factory=list)
