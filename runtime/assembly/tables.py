"""What ``generated/<target>/syntax.py`` holds: every form's encoding and text, as data.

Bits are numbered from the least significant. A *head* is the part of an encoding that stands before any
appended unit:
one number, read in the target's byte order (in a stream: its units in memory order, the first on top).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.assembly.expressions import Environment, Tree, may_hold

Gather = tuple[tuple[int, int, int], ...]
"""Where a field's bits lie in a word: (lowest bit in the word, width, lowest bit in the field), any number
of times."""

NUMBER_FORMATS = frozenset(("hex", "d", "u", "+"))
"""A hole's formats for numbers; any other names a register file, bank or enum."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A place for an operand or a field in a text; see `docs/language.md`, Operands."""

    name: str
    format: str = ""
    default: int | None = None
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """Assembler text: literals and holes. `dialect` "" is the usual one; `use` "accept": never printed."""

    parts: tuple[str | Hole, ...]
    dialect: str = ""
    use: str = ""


def texts_for(texts: tuple[Text, ...], dialect: str, use: str = "") -> list[Text]:
    """The texts of one use in `dialect`: its own, else the usual ones."""
    of_use = [text for text in texts if text.use == use]
    return [t for t in of_use if t.dialect == dialect] or [t for t in of_use if not t.dialect]


@dataclass(frozen=True, slots=True)
class Appended:
    """Units behind the head: `width` bits holding a field's bits (`gather` is empty for a whole field) or a
    constant."""

    width: int
    value: int = 0
    mask: int = 0
    fields: tuple[tuple[str, Gather], ...] = ()
    tail_of: str = ""  # an operand whose appended units stand here


@dataclass(frozen=True, slots=True)
class Case:
    """One way to encode an operand: `mask` and `pattern` over the operand's bits, then fields and nested
    operands."""

    mask: int = 0
    pattern: int = 0
    fields: tuple[tuple[str, Gather], ...] = ()
    operands: tuple[tuple[str, Operand, Gather], ...] = ()
    appended: tuple[Appended, ...] = ()
    when: Tree | None = None
    texts: tuple[Text, ...] = ()
    value: Tree | None = None
    register_file: str = ""
    register_index: Tree | None = None


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand class as it stands in a form: `width` bits of encoding; cases are tried in order.

    `number`: how its value prints: "signed", "unsigned", or "address" (it depends on pc).
    """

    name: str
    width: int
    value_width: int
    cases: tuple[Case, ...]
    number: str = "unsigned"


@dataclass(frozen=True, slots=True)
class Form:
    """One encoding of one instruction: `bits` of head with `mask` and `pattern`; `ones`: ignored bits
    that are written as 1.

    `allow`: variables of prefixes that are illegal with other forms, and the condition under which this one
    takes them.
    """

    name: str
    mnemonic: str
    set_name: str
    bits: int
    mask: int
    pattern: int
    ones: int = 0
    fields: tuple[tuple[str, Gather], ...] = ()
    operands: tuple[tuple[str, Operand, Gather], ...] = ()
    appended: tuple[Appended, ...] = ()
    when: Tree | None = None
    texts: tuple[Text, ...] = ()
    needs: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    no_prefix: bool = False
    mandatory_prefixes: tuple[int, ...] = ()
    allow: tuple[tuple[str, Tree | None], ...] = ()
    widths: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix byte: `pattern` under `mask`; it sets `variable` to `value` and takes `fields` from the
    byte. `words`: what may be written for it in front of an instruction."""

    mask: int
    pattern: int
    variable: str
    value: int
    fields: tuple[tuple[str, int, int], ...] = ()  # name, width, lowest bit
    last: bool = False
    mandatory: bool = False
    reject: bool = False
    when: Tree | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InstructionSet:
    """Encodings that are tried together; `unit` in bits; `when` over contexts."""

    name: str
    unit: int
    stream: bool
    when: Tree | None


@dataclass(frozen=True, slots=True)
class Alias:
    """Another way to write `expansion` (several texts: a macro), where the expression `unless` is 0.

    `use`: "accept" for the assembler's only, "print" for the disassembler's only, "" for both.
    """

    text: Text
    expansion: tuple[Text, ...]
    use: str = ""
    unless: Text | None = None


def allows(form: Form, variable: str, environment: Environment) -> bool:
    """Whether `form`, its fields and operands in `environment`, takes the prefix that sets `variable`."""
    return any(name == variable and may_hold(when, environment) for name, when in form.allow)


def presence(syntax: Syntax, features: frozenset[str] | None) -> dict[str, int]:
    """What ``has(...)`` is for each feature, under the names that conditions have for it (None: all are
    present).
    """
    return {f"has_{name}": int(features is None or name in features) for name in syntax.known_features}


@dataclass(frozen=True, slots=True)
class Syntax:
    """A target's whole syntax.

    `contexts`: decode-time variables in the order of evaluation: name, width, expression (None: given by the
    caller, `defaults` has its usual value). `symbols`: texts of register files, banks and enums: number ->
    name; `synonyms`: other texts that the assembler takes for a number of these tables; `numbered`: the
    tables whose entries may be written as numbers too (banks). `features`: the target's own;
    `known_features`: all that it may have.
    """

    target: str
    big_endian: bool
    pc_width: int
    elf_machine: int
    elf_class: int
    sets: tuple[InstructionSet, ...]
    forms: tuple[Form, ...]
    aliases: tuple[Alias, ...] = ()
    prefixes: tuple[Prefix, ...] = ()
    contexts: tuple[tuple[str, int, Tree | None], ...] = ()
    defaults: dict[str, int] = field(default_factory=dict)
    symbols: dict[str, dict[int, str]] = field(default_factory=dict)
    synonyms: dict[str, dict[str, int]] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    known_features: tuple[str, ...] = ()
    numbered: frozenset[str] = frozenset()
