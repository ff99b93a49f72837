"""Whole source files: labels, sections, data directives; instructions grow until every operand fits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.assembly.assembler import Assembler, Statement
from runtime.assembly.values import AssemblyError, Number, Operation, Undefined, Value, parse
from runtime.assembly.values import evaluate as calculate

MAX_PASSES = 32
MAX_IMAGE = 1 << 28
_LABEL = re.compile(r"\s*([A-Za-z_.$][\w.$]*|\d+)\s*:(?!:)")
_LOCAL = re.compile(r'"(?:\\.|[^"\\])*"|(?<![\w.$%])(\d+)([bf])(?![\w.$])')
_ASSIGNMENT = re.compile(r"\s*([A-Za-z_.$][\w.$]*)\s*=(?!=)(.*)")
_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "0": "\0",
    "\\": "\\",
    '"': '"',
    "a": "\a",
    "b": "\b",
    "e": "\x1b",
}
_DATA = {".byte": 1, ".half": 2, ".short": 2, ".2byte": 2, ".hword": 2, ".word": 4, ".long": 4, ".int": 4}
_DATA |= {".4byte": 4, ".dword": 8, ".quad": 8, ".8byte": 8, ".xword": 8}
_IGNORED = {
    ".type",
    ".size",
    ".file",
    ".ident",
    ".option",
    ".attribute",
    ".local",
    ".p2alignl",
    ".cfi_startproc",
}
_IGNORED |= {
    ".cfi_endproc",
    ".syntax",
    ".cpu",
    ".arch",
    ".fpu",
    ".machine",
    ".register",
    ".intel_syntax",
    ".att_syntax",
}


@dataclass(slots=True)
class Section:
    """A part of the image: `flags` of "awx"; `data` is empty and `size` counts for one without contents
    (.bss)."""

    name: str
    flags: str
    contents: bool = True
    address: int = 0
    size: int = 0
    data: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class Image:
    """An assembled program: sections with addresses, symbols, the entry's address and which symbols are
    global."""

    sections: tuple[Section, ...]
    symbols: dict[str, int]
    entry: int
    global_symbols: frozenset[str]

    def flat(self) -> bytes:
        """The sections with contents, from the lowest address on, zeros between them."""
        sections = sorted((s for s in self.sections if s.contents), key=lambda s: s.address)
        data = bytearray()
        for section in sections:
            data += bytes(section.address - sections[0].address - len(data)) + section.data
        return bytes(data)


@dataclass(slots=True)
class _Item:
    """A statement with a place: `size` may grow from pass to pass."""

    where: str
    section: Section
    kind: str  # instruction, data, space, align, label, set
    statement: Statement | None = None
    values: list[Value] = field(default_factory=list)
    unit: int = 1
    text: bytes = b""
    name: str = ""
    size: int = 0


class Program:
    """Assembles a source text into an `Image`. `base`: the first section's address; later ones start on new
    pages."""

    def __init__(self, assembler: Assembler, base: int = 0x10000, page: int = 0x1000) -> None:
        self._assembler, self._base, self._page = assembler, base, page
        syntax = assembler.syntax
        used = {c for f in syntax.forms for t in f.texts for p in t.parts if isinstance(p, str) for c in p}
        used |= {
            c
            for f in syntax.forms
            for _, operand, _ in f.operands
            for case in operand.cases
            for t in case.texts
            for p in t.parts
            if isinstance(p, str)
            for c in p
        }
        self._comments = {c for c in "#!@" if c not in used}
        self._order = "big" if syntax.big_endian else "little"
        self._sections: dict[str, Section] = {}
        self._items: list[_Item] = []
        self._globals: set[str] = set()
        self._local_counts: dict[str, int] = {}
        self._current = self._section(".text", "ax")

    def assemble(self, source: str, name: str = "<input>") -> Image:
        """The image of `source`. Raises AssemblyError with file and line."""
        for number, line in enumerate(_without_block_comments(source).split("\n"), 1):
            for statement in self._statements(line):
                try:
                    self._statement(statement, f"{name}:{number}")
                except AssemblyError as error:
                    raise (
                        error
                        if error.where
                        else AssemblyError(error.what, where=f"{name}:{number}", remedy=error.remedy)
                    ) from error
        symbols = self._lay_out()
        self._emit(symbols)
        visible = {k: v for k, v in symbols.items() if not k.startswith(("%", ".L"))}
        return Image(
            tuple(s for s in self._sections.values() if s.size),
            visible,
            symbols.get("_start", self._base),
            frozenset(self._globals),
        )

    # --- reading
    # -----------------------------------------------------------------------------------------------------

    def _statements(self, line: str) -> list[str]:
        """The statements of a line: comments dropped, split at semicolons outside strings."""
        out, current, quote, at = [], "", "", 0
        while at < len(line):
            character = line[at]
            if quote:
                current += character
                if character == "\\":
                    current += line[at + 1 : at + 2]
                    at += 1
                elif character == quote:
                    quote = ""
            elif character == '"' or (character == "'" and re.match(r"'(\\.|[^'\\])'", line[at:])):
                quote, current = character, current + character
            elif character in self._comments or line.startswith("//", at):
                break
            elif character == ";":
                out.append(current)
                current = ""
            else:
                current += character
            at += 1
        out.append(current)
        return [statement.strip() for statement in out if statement.strip()]

    def _statement(self, statement: str, where: str) -> None:
        while match := _LABEL.match(statement):
            self._add(_Item(where, self._current, "label", name=self._label(match.group(1), where)))
            statement = statement[match.end() :].strip()
        if not statement:
            return
        statement = self._localised(statement)
        if match := _ASSIGNMENT.match(statement):
            self._set(match.group(1), match.group(2), where)
        elif statement.startswith("."):
            word, _, rest = statement.partition(" ")
            parts = statement.split(None, 1)
            self._directive(parts[0].lower(), parts[1].strip() if len(parts) > 1 else "", where)
            del word, rest
        else:
            self._add(_Item(where, self._current, "instruction", statement=self._assembler.read(statement)))

    def _label(self, name: str, where: str) -> str:
        if name.isdigit():
            count = self._local_counts.get(name, 0) + 1
            self._local_counts[name] = count
            return _local(name, count)
        if any(item.kind == "label" and item.name == name for item in self._items):
            raise AssemblyError(f"label {name} is defined twice", where=where, remedy="rename one of them")
        return name

    def _localised(self, text: str) -> str:
        """`text` with local labels (1b, 2f) as the names of those that they mean here."""

        def name(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[0]
            return _local(match[1], self._local_counts.get(match[1], 0) + (match[2] == "f"))

        return _LOCAL.sub(name, text)

    def _add(self, item: _Item) -> None:
        if item.kind in ("instruction", "data") and not item.section.contents:
            raise AssemblyError(
                f"contents in {item.section.name}", where=item.where, remedy="use .space there"
            )
        self._items.append(item)

    def _section(self, name: str, flags: str, contents: bool = True) -> Section:
        return self._sections.setdefault(name, Section(name, flags, contents))

    def _directive(self, word: str, rest: str, where: str) -> None:
        if word in (".text", ".data", ".bss", ".rodata"):
            self._switch(word, "")
        elif word in (".section", ".pushsection"):
            parts = [part.strip() for part in rest.split(",")]
            self._switch(parts[0].strip('"'), parts[1].strip('"') if len(parts) > 1 else "")
        elif word in _DATA:
            values = [self._value(part, where) for part in rest.split(",")]
            self._add(
                _Item(
                    where,
                    self._current,
                    "data",
                    values=values,
                    unit=_DATA[word],
                    size=_DATA[word] * len(values),
                )
            )
        elif word in (".ascii", ".asciz", ".string"):
            text = b"".join(
                _string(part, where) + (b"" if word == ".ascii" else b"\0") for part in _strings(rest, where)
            )
            self._add(_Item(where, self._current, "data", text=text, size=len(text)))
        elif word in (".space", ".zero", ".skip"):
            self._add(
                _Item(where, self._current, "space", values=[self._value(p, where) for p in rest.split(",")])
            )
        elif word in (".align", ".p2align", ".balign"):
            amount = self._constant(rest.split(",")[0], where)
            alignment = amount if word == ".balign" else 1 << min(max(amount, 0), 16)
            if alignment < 1 or alignment & (alignment - 1) or alignment > 1 << 16:
                raise AssemblyError(
                    f"alignment {alignment}", where=where, remedy="use a power of two up to 65536"
                )
            self._add(_Item(where, self._current, "align", unit=alignment))
        elif word in (".globl", ".global"):
            self._globals.update(part.strip() for part in rest.split(","))
        elif word in (".equ", ".set"):
            name, _, expression = rest.partition(",")
            self._set(name.strip(), expression, where)
        elif word not in _IGNORED:
            raise AssemblyError(
                f"unknown directive {word}", where=where, remedy="see docs/assembler.md for those that work"
            )

    def _switch(self, name: str, flags: str) -> None:
        known = {".text": "ax", ".rodata": "a", ".bss": "aw"}
        default = next((f for prefix, f in known.items() if name.startswith(prefix)), "aw")
        self._current = self._section(name, flags or default, not name.startswith(".bss"))

    def _value(self, text: str, where: str) -> Value:
        parsed = parse(text, 0)
        if parsed is None or text[parsed[1] :].strip():
            raise AssemblyError(
                f"not an expression: {text.strip()!r}", where=where, remedy="numbers, symbols and operators"
            )
        return parsed[0]

    def _constant(self, text: str, where: str) -> int:
        try:
            return calculate(self._value(text, where), self._constants(), 0)
        except Undefined as error:
            raise AssemblyError(
                f"{error} has no value here", where=where, remedy="define it with .equ above this line"
            ) from error

    def _constants(self) -> dict[str, int]:
        return {
            i.name: i.values[0].value
            for i in self._items
            if i.kind == "set" and isinstance(i.values[0], Number)
        }

    def _set(self, name: str, expression: str, where: str) -> None:
        self._items.append(
            _Item(where, self._current, "set", name=name, values=[self._value(expression, where)])
        )

    # --- layout
    # ------------------------------------------------------------------------------------------------------

    def _lay_out(self) -> dict[str, int]:
        """Addresses of all symbols, once no statement's size changes any more."""
        symbols: dict[str, int] = {}
        for _ in range(MAX_PASSES):
            before, grown = dict(symbols), False
            address = self._base
            for section in self._sections.values():
                address = -(-address // self._page) * self._page if section is not self._first() else address
                section.address, section.size = address, 0
                for item in self._items:
                    if item.section is section:
                        grown |= self._place(item, symbols)
                address += section.size
                if address - self._base > MAX_IMAGE:
                    raise AssemblyError(
                        "the image is larger than 256 MiB", remedy="make .space or .align smaller"
                    )
            if symbols == before and not grown:
                return symbols
        raise AssemblyError(
            "sizes and addresses do not settle", remedy="break the circle among .set, .space and labels"
        )

    def _first(self) -> Section:
        return next(iter(self._sections.values()))

    def _place(self, item: _Item, symbols: dict[str, int]) -> bool:
        """Give `item` its place; True if its size changed."""
        section, old = item.section, item.size
        here = section.address + section.size
        if item.kind == "label":
            symbols[item.name] = here
        elif item.kind == "set":
            self._try(item, symbols, here, lambda number: symbols.__setitem__(item.name, number))
        elif item.kind == "align":
            item.size = -here % item.unit
        elif item.kind == "space":
            self._try(item, symbols, here, lambda number: setattr(item, "size", _length(number, item.where)))
        elif item.kind == "instruction":
            try:
                item.size = len(self._encode(item, symbols, here, item.size))
            except Undefined:
                assert item.statement is not None
                item.size = item.size or self._assembler.least(item.statement)
            self._note_pcrel(item, symbols, here)
        section.size += item.size
        return item.size != old

    def _try(self, item: _Item, symbols: dict[str, int], here: int, use) -> None:  # type: ignore[no-untyped-def]
        try:
            use(calculate(item.values[0], symbols, here))
        except Undefined:
            return

    def _note_pcrel(self, item: _Item, symbols: dict[str, int], here: int) -> None:
        """Remember what %pcrel_hi at this address means, for a %pcrel_lo that names its label (RISC-V
        psABI)."""
        assert item.statement is not None
        for candidate in item.statement.candidates:
            for chosen in candidate.written.operands.values():
                value = chosen.value or next(iter(chosen.numbers.values()), None)
                if isinstance(value, Operation) and value.operator == "%pcrel_hi":
                    try:
                        symbols[f"%pcrel@{here}"] = calculate(value.operands[0], symbols, here) - here
                    except Undefined:
                        return

    def _encode(self, item: _Item, symbols: Mapping[str, int], here: int, at_least: int) -> bytes:
        assert item.statement is not None
        try:
            return self._assembler.encode(item.statement, symbols, here, at_least)
        except AssemblyError as error:
            raise AssemblyError(error.what, where=item.where, remedy=error.remedy) from error

    def _emit(self, symbols: Mapping[str, int]) -> None:
        for item in self._items:
            section = item.section
            if item.kind in ("label", "set") or not section.contents:
                continue
            here = section.address + len(section.data)
            try:
                section.data += self._bytes(item, symbols, here)
            except Undefined as error:
                raise AssemblyError(
                    f"undefined symbol {error}", where=item.where, remedy="define it, or fix its name"
                ) from error

    def _bytes(self, item: _Item, symbols: Mapping[str, int], here: int) -> bytes:
        if item.kind == "instruction":
            return self._encode(item, symbols, here, item.size)
        if item.kind == "space":
            fill = calculate(item.values[1], symbols, here) if len(item.values) > 1 else 0
            return bytes([fill & 0xFF]) * item.size
        if item.kind == "align":
            return self._padding(item.size) if "x" in item.section.flags else bytes(item.size)
        if item.text:
            return item.text
        mask = (1 << 8 * item.unit) - 1
        return b"".join(
            (calculate(value, symbols, here) & mask).to_bytes(item.unit, self._order)  # type: ignore[arg-type]
            for value in item.values
        )

    def _padding(self, size: int) -> bytes:
        """`size` bytes of no-operations where the target has one of a fitting size, else zeros."""
        try:
            nop = self._assembler.assemble("nop")
        except AssemblyError:
            return bytes(size)
        return bytes(size % len(nop)) + nop * (size // len(nop))


def _local(number: str, occurrence: int) -> str:
    """The name of an occurrence of a local label."""
    return f".L{number}${occurrence}"


def _length(number: int, where: str) -> int:
    if not 0 <= number <= MAX_IMAGE:
        raise AssemblyError(f"a space of {number} bytes", where=where, remedy="use 0 to 256 MiB")
    return number


def _without_block_comments(source: str) -> str:
    return re.sub(
        r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/',
        lambda m: m.group(0) if m.group(0).startswith('"') else "\n" * m.group(0).count("\n"),
        source,
        flags=re.DOTALL,
    )


def _strings(rest: str, where: str) -> list[str]:
    found = re.findall(r'"(?:\\.|[^"\\])*"', rest)
    if not found or re.sub(r'"(?:\\.|[^"\\])*"', "", rest).replace(",", "").strip():
        raise AssemblyError(f"not a string: {rest}", where=where, remedy='write "text"')
    return found


def _string(literal: str, where: str) -> bytes:
    def escape(match: re.Match[str]) -> str:
        body = match.group(1)
        if body[0] == "x":
            return chr(int(body[1:], 16) & 0xFF)
        if body[0] in "01234567":
            return chr(int(body, 8) & 0xFF)
        if body not in _ESCAPES:
            raise AssemblyError(
                f"unknown escape \\{body}", where=where, remedy='use \\n \\t \\r \\0 \\\\ \\" \\xNN'
            )
        return _ESCAPES[body]

    text = re.sub(r"\\(x[0-9a-fA-F]{1,2}|[0-7]{1,3}|.)", escape, literal[1:-1])
    return b"".join(
        bytes([ord(c)]) if ord(c) < 256 and c in text and ord(c) < 128 else c.encode() for c in text
    )
