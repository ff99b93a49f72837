"""The target model: everything a spec says about one target, elaborated.

`generator.ir.lower` fills it from the syntax trees; checks and emitters read it and nothing else. Parameters
are
substituted, rows and axes expanded, operand classes resolved; behaviours are IR (`generator.ir.nodes`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from generator.ir.nodes import Block, Expr, Local


class Model(BaseModel):
    """Base of all models here: immutable, no unknown fields, IR nodes carried as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Span(Model):
    """A place in a spec: file (relative to the spec root), 1-based line and column, length in characters."""

    file: str
    line: int
    column: int
    length: int = 1


# --- state --------------------------------------------------------------------------------------------------


class BitField(Model):
    """A named field of a register: bits `high` down to `low`, numbered from the least significant."""

    name: str
    high: int
    low: int


class LazyFlag(Model):
    """A one-bit register stored as the argument of its definition: reading it evaluates `definition` over
    `argument`.
    """

    argument: Local
    definition: Expr


class RegisterWindow(Model):
    """A windowed file: entry i of window k is entry ``(k * stride + i) mod count`` of the file, i <
    `visible`.

    Behaviours index the file itself (lowering has put that formula into them); this says how people see it.
    """

    pointer: str  # the register that holds k
    stride: int
    visible: int


class Register(Model):
    """A state element: one register, or a file of `count` registers of `width` bits.

    `width` is that of what is stored: for a lazy flag its argument's, while behaviours and people see the
    1-bit
    definition over it. A windowed file's `names` are those of the visible entries.
    """

    name: str
    width: int
    count: int | None = None  # None: a single register
    zero: int | None = None  # entry that reads 0 and ignores writes
    names: tuple[str, ...] = ()  # entries' names for people, assemblers and debuggers; empty: name + number
    accept: tuple[tuple[str, int], ...] = ()  # other names that the assembler takes for an entry
    fields: tuple[BitField, ...] = ()
    lazy: LazyFlag | None = None
    window: RegisterWindow | None = None
    reset: int = 0
    hidden: bool = False
    span: Span


class StateField(Model):
    """Where a register lies in the CPU block: `stride` bytes an entry (8, or 16 for widths of 65 to 128
    bits).
    """

    register_name: str
    offset: int
    stride: int
    count: int


class BankRow(Model):
    """One or more numbered system registers (CSR, SPR, ASR): numbers `first` to `last`, and their name."""

    first: int
    last: int
    name: str
    readable: bool
    writable: bool
    span: Span


class Bank(Model):
    """A space of numbered system registers; its behaviour is in the functions `<name>_read` and
    `<name>_write`.
    """

    name: str
    index_width: int
    width: int
    rows: tuple[BankRow, ...]


class EnumRow(Model):
    name: str
    value: int
    text: str  # as the assembler writes it


class Enum(Model):
    name: str
    width: int
    rows: tuple[EnumRow, ...]
    accept: tuple[tuple[str, int], ...] = ()  # other texts that the assembler takes for a value


class Trap(Model):
    """An exception: `parameters` are (name, width); `code` is over `Local`s named as the parameters."""

    name: str
    parameters: tuple[tuple[str, int], ...]
    code: Expr
    text: str
    number: int  # position in the target's list: what the engine reports
    span: Span


class Function(Model):
    """A `shared fn`: compiled once, called. `parameters` are locals; `results` are widths. `restartable`: it
    may write state before something in it traps.
    """

    name: str
    parameters: tuple[Local, ...]
    results: tuple[int, ...]
    body: Block
    restartable: bool = False
    span: Span


# --- decoding -----------------------------------------------------------------------------------------------


class InstructionSet(Model):
    """Encodings that are tried together: unit in bits; stream: pictures list units in memory order."""

    name: str
    unit: int
    stream: bool
    when: Expr | None  # over Context


class ContextVariable(Model):
    """A decode context: derived from state (`value`), or stepped per instruction (`next`), with its usual
    value `rest`.
    """

    name: str
    width: int
    value: Expr | None
    next: Expr | None
    rest: Expr | None
    domain: tuple[int, ...] = ()


class PrefixRow(Model):
    """One prefix byte pattern and the decode-time variable that it sets."""

    mask: int
    pattern: int
    fields: tuple[tuple[str, int, int], ...]  # variables taken from the byte: name, width, low bit
    variable: str
    value: int
    width: int
    last: bool
    mandatory: bool
    policy: Literal["reject", "ignore"]
    when: Expr | None
    span: Span
    words: tuple[str, ...] = ()  # what the assembler takes for it in front of an instruction


class Piece(Model):
    """Part of a picture, from the top (or, in stream sets, the first byte) on.

    fixed: `value` of `width` bits; ignored: `width` bits, written as `value`; field: bits `high`..`low` of
    field `name`.
    """

    kind: Literal["fixed", "ignored", "field"]
    width: int
    value: int = 0
    name: str = ""
    high: int = 0
    low: int = 0


class Text(Model):
    """Assembler text, split: literal strings and holes. `dialect` is "" for the family's usual one; `use` is
    "accept" if only the assembler takes it, else ""."""

    dialect: str
    parts: tuple[str | Hole, ...]
    use: str = ""


class Hole(Model):
    """A place for an operand or field in a text.

    `name`: what goes there ("@": the operand's own value). `format`: "" (the operand's own text, else signed
    or unsigned
    decimal as its use implies), "hex" hexadecimal, "d" signed, "u" unsigned decimal, or an enum's, bank's or
    register file's name.
    `default`: text and `prefix` are left out where the value equals it; the assembler then takes it.
    """

    name: str
    format: str = ""
    default: int | None = None
    prefix: str = ""
    suffix: str = ""


class LinearCase(Model):
    """An address as base + (index << scale) + offset. `base` and `index` number entries of a register file
    (an entry equal
    to the file's count stands for "none" and reads 0); all four are decode-time expressions; `when` selects
    the case."""

    when: Expr
    base: Expr
    index: Expr
    scale: Expr
    offset: Expr


class LinearForm(Model):
    """An operand all of whose cases are addresses of one shape over `register_file`: one executor serves them
    all.

    Behaviours see the decode-time fields ``<path>.base``, ``.index``, ``.scale`` and ``.offset``.
    """

    register_file: str
    cases: tuple[LinearCase, ...]


class OperandCase(Model):
    """One way to encode an operand. Nested operands and fields are named by path: ``dst.m.b``.

    `picture` covers exactly the operand's own bits; `appended` are the units that follow in the stream (x86:
    SIB,
    displacement). `when` is over fields and contexts, without the picture's fixed bits.
    """

    picture: tuple[Piece, ...]
    appended: tuple[Piece, ...]
    operands: tuple[Operand, ...]
    when: Expr | None
    texts: tuple[Text, ...]  # empty: the value's own text
    value: Expr | None  # its value where that is a decode-time expression (labels, immediates), else None
    register_file: str  # the file whose entry it is, where it simply is a register
    register_index: Expr | None  # and the entry's number
    span: Span


class Operand(Model):
    """An operand of a form: a field of `width` bits (0: bound by `with`) with one or more cases, tried in
    order.
    """

    path: str  # dst, dst.m
    operand_class: str
    generics: tuple[int, ...] = ()  # the values of the class's generic widths
    width: int
    value_width: int  # of its first value; 0: none
    # the class's own fields: path, width, lowest bit in the operand's field
    fields: tuple[tuple[str, int, int], ...]
    cases: tuple[OperandCase, ...]
    linear: LinearForm | None = None


class Variant(Model):
    """The behaviour of a form for one choice among its operands' cases.

    `choices`: (operand path, case number) for operands whose cases differ in kind (register or memory, ...).
    Operands
    whose values are all decode-time, and those with a `linear` form, need no choice. `condition` is the
    conjunction of
    the choice's conditions over raw fields and contexts (None: always).
    """

    choices: tuple[tuple[str, int], ...]
    condition: Expr | None
    guard: Expr | None
    body: Block


class Form(Model):
    """One encoding of one instruction. `when` is over fields and contexts."""

    name: str  # unique: mnemonic, then axis values, then a number where a form has several pictures
    mnemonic: str
    instruction: str  # the `insn` it comes from
    set_name: str
    needs: tuple[str, ...]
    picture: tuple[Piece, ...]
    no_prefix: bool
    mandatory_prefixes: tuple[int, ...]  # bytes
    fields: tuple[tuple[str, int], ...]  # raw fields outside operands: name and width
    operands: tuple[Operand, ...]
    when: Expr | None
    allow: tuple[tuple[str, Expr | None], ...]
    undefined: tuple[tuple[str, Expr | None], ...]  # registers without a defined value afterwards
    before: tuple[str, ...]
    restartable: bool
    texts: tuple[Text, ...]
    doc: str
    variants: tuple[Variant, ...]
    span: Span


class Alias(Model):
    """Another way to write an instruction."""

    use: str  # "accept": only the assembler takes it, "print": only the disassembler does; "": both
    dialect: str
    text: Text
    expansion: tuple[Text, ...]  # several: a macro
    unless: Text | None = None  # an assembler's expression that has to be 0
    span: Span


class Example(Model):
    """`text` assembles to `bytes_`."""

    dialect: str
    text: str
    bytes_: bytes
    span: Span


class DebugRegister(Model):
    """A register as a debugger numbers and names it: entry `index` of a file, or (None) a single register."""

    name: str
    register_name: str
    index: int | None
    width: int
    is_float: bool


class DebugGroup(Model):
    """A group of registers with the name that debuggers know it by (gdb: a feature of the target
    description).
    """

    name: str
    registers: tuple[DebugRegister, ...]


class Feature(Model):
    name: str
    title: str
    requires: tuple[str, ...]
    excludes: tuple[str, ...]
    implies: tuple[str, ...]


class CpuModel(Model):
    """A CPU that can be bought, or is as if: the features that it has."""

    name: str
    title: str
    features: tuple[str, ...]


class Target(Model):
    """One target of a family, ready for checks and emitters."""

    name: str
    family: str
    parameters: tuple[tuple[str, int], ...]
    big_endian: bool
    little_when: Expr | None
    msb0: bool
    float_policy: str
    elf_machine: int
    elf_class: int
    gdb_architecture: str = ""
    features: tuple[Feature, ...]
    cpus: tuple[CpuModel, ...] = ()
    default_features: tuple[str, ...]
    pc_width: int
    sets: tuple[InstructionSet, ...]
    registers: tuple[Register, ...]
    contexts: tuple[ContextVariable, ...]
    prefixes: tuple[PrefixRow, ...]
    banks: tuple[Bank, ...]
    enums: tuple[Enum, ...]
    traps: tuple[Trap, ...]
    functions: tuple[Function, ...]
    forms: tuple[Form, ...]
    aliases: tuple[Alias, ...]
    examples: tuple[Example, ...]
    debug: tuple[DebugGroup, ...] = ()
    sources: tuple[tuple[str, str], ...]  # file and SHA-256 of its text
