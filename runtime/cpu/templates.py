"""Templates for the translator: what each executor does, as LLVM text with holes. Build time only.

An executor is lowered once (`runtime.cpu.lowering`), the same text that threaded code is made of. Here the
parts of primitives that touch records, registers and guest memory stay calls
(`runtime.cpu.primitives.PART_PREFIX`), the rest is optimised, and the calls then become holes:

* slots of the record are constants, known when a region is formed;
* registers are variables of the region (`alloca`), which LLVM keeps in the host's registers;
* accesses to guest memory are for the region to write out, since they depend on the mode;
* how the executor ends (`runtime.cpu.primitives`: NEXT, TAKEN, ...) are labels of the region.

`runtime.cpu.translator.template` describes the result's format and reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from runtime.cpu import block
from runtime.cpu.primitives import (
    DISPATCH,
    DISPATCH_NEXT,
    JUMP,
    JUMP_ANNULLED,
    LEAVE,
    NEXT,
    PART_PREFIX,
    SKIP,
    TAKEN,
    TAKEN_ANNULLED,
    header,
)
from runtime.cpu.threading import Shape

PREFIX: Final = "template_"
_EXIT: Final = "exit."
_PURE: Final = "nounwind willreturn speculatable memory(none)"
_READS: Final = "nounwind willreturn memory(inaccessiblemem: read)"
_WRITES: Final = "nounwind willreturn memory(inaccessiblemem: readwrite)"
_CHECKS: Final = "nounwind memory(inaccessiblemem: readwrite)"

# --- LLVM text of an executor with its ends -----------------------------------------------------------------


def _declarations() -> str:
    """The parts of primitives, with what LLVM may assume of them. A failed access never returns from its
    call: the region leaves.
    """
    lines = [f"declare i64 @{PART_PREFIX}i{bits}(i64, i64) {_PURE}" for bits in (16, 32, 64)]
    wide = "[2 x i64]"
    for name, kind in {"register": "i64", "wide_register": wide}.items():
        lines.append(f"declare {kind} @{PART_PREFIX}{name}(i64, i64, i64) {_READS}")
        lines.append(f"declare void @{PART_PREFIX}set_{name}(i64, i64, i64, {kind}) {_WRITES}")
    for name, kind in {"state": "i64", "wide_state": wide}.items():
        lines.append(f"declare {kind} @{PART_PREFIX}{name}(i64, i64) {_READS}")
        lines.append(f"declare void @{PART_PREFIX}set_{name}(i64, i64, {kind}) {_WRITES}")
    lines.append(f"declare i64 @{PART_PREFIX}float_flags(i64) {_READS}")
    # What a trap is about is found again by the interpreter, which executes the instruction anew.
    lines.append(f"declare void @{PART_PREFIX}trap(i64, i64, i64) {_PURE}")
    lines.append(f"declare void @{PART_PREFIX}trap_argument(i64, i64, i64) {_PURE}")
    for name in ("readable", "writable"):
        lines.append(f"declare range(i64 1, 0) i64 @{PART_PREFIX}{name}(i64, i64, i64, i64) {_CHECKS}")
    for bits in (8, 16, 32, 64, 128):
        for order in ("", "_big") if bits > 8 else ("",):
            kind = wide if bits == 128 else "i64"
            name = f"@{PART_PREFIX}write{bits}{order}"
            lines.append(f"declare range(i64 1, 2) i64 {name}(i64, i64, i64, {kind}) nounwind")
            name = name.replace("write", "exchange")
            lines.append(f"declare range(i64 1, 2) i64 {name}(i64, i64, i64, {kind}, {kind}) nounwind")
    for name in ("copy_ahead", "fill_ahead"):
        lines.append(f"declare i64 @{PART_PREFIX}{name}({', '.join(['i64'] * 8)}) nounwind")
    for name in ("next", "leave", "skip", "other"):
        lines.append(f"declare void @{_EXIT}{name}() noreturn nounwind")
    for name in ("taken", "taken_annulled", "jump", "jump_annulled"):
        lines.append(f"declare void @{_EXIT}{name}(i64) noreturn nounwind")
    return "\n".join(lines) + "\n"


def _wrapper(shape: Shape) -> str:
    """A function that runs the executor and ends in a call that stands for how it ends."""
    ends: list[tuple[int, str]] = [(LEAVE, "call void @exit.leave()")]
    pc = f"""%place = add i64 %cpu, {header(block.PC)}
  %pointer = inttoptr i64 %place to ptr
  %pc = load i64, ptr %pointer
  """
    if shape.jumps:
        ends.append((JUMP, pc + "call void @exit.jump(i64 %pc)"))
        if shape.annuls:
            annulled = pc.replace("%place", "%place2").replace("%pointer", "%pointer2").replace("%pc", "%pc2")
            ends.append((JUMP_ANNULLED, annulled + "call void @exit.jump_annulled(i64 %pc2)"))
    if shape.skips:
        ends.append((SKIP, "call void @exit.skip()"))
    for position in range(len(shape.targets)):
        ends.append((TAKEN + position, f"call void @exit.taken(i64 {position})"))
        if shape.annuls:
            ends.append((TAKEN_ANNULLED + position, f"call void @exit.taken_annulled(i64 {position})"))
    ends += [(DISPATCH, "call void @exit.other()"), (DISPATCH_NEXT, "call void @exit.other()")]
    cases = " ".join(f"i64 {status}, label %end{status}" for status, _ in ends)
    blocks = "".join(f"end{status}:\n  {text}\n  unreachable\n" for status, text in ends)
    return f"""
define void @{PREFIX}{shape.symbol}(i64 %cpu, i64 %record, i64 %tlb) nounwind {{
begin:
  %status = call i64 @do_{shape.symbol}(i64 %cpu, i64 %record, i64 %tlb)
  switch i64 %status, label %end{NEXT} [ {cases} ]
end{NEXT}:
  call void @exit.next()
  unreachable
{blocks}}}
"""


def module_text(shapes: Iterable[Shape]) -> tuple[str, str]:
    """LLVM text that goes before and behind the executors' (`do_NAME`), to be optimised together."""
    return _declarations(), "\n".join(_wrapper(shape) for shape in shapes)


# --- from optimised text to templates -----------------------------------------------------------------------

_FUNCTION = re.compile(rf"^define [^@\n]*@{PREFIX}(\w+)\([^\n]*\n(.*?)^}}$", re.MULTILINE | re.DOTALL)
_METADATA = re.compile(r",? ![\w.]+ ![\w.]+")
_TAIL = re.compile(r"\b(?:tail|notail) call\b")
_LOCAL = re.compile(r'%("[^"]*"|[-\w.$]+)')
_CALL = re.compile(
    r"^(?:(%\S+) = )?call (?:[a-z()0-9_]+(?:\([^)]*\))? )*?"
    r"(void|i\d+|\[2 x i64\]) @([\w.]+)\((.*)\)(?: #\d+)?$"
)
_LABEL = re.compile(r'^("[^"]*"|[-\w.$]+):')
_SUM = re.compile(
    r'^%("[^"]*"|[-\w.$]+) = (?:add|sub|or|and|zext|trunc)[a-z ]* i\d+ %?([-\w.$"]+)(?:, | to )%?([-\w.$"]+)$'
)
_PLUS = re.compile(r'^%("[^"]*"|[-\w.$]+) = add (?:nuw |nsw )*i64 (%?[-\w.$"]+), (%?[-\w.$"]+)$')
_KEPT: Final = ("cpu", "record", "tlb")


class _Untranslatable(Exception):
    """The executor does what regions leave to the interpreter."""


class _Template:
    """Turns the text of one function into a template."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.names: dict[str, str] = {}
        self.numbers: dict[str, str] = {}  # local -> hole of a slot's number
        self.lines: list[str] = []
        self.reads: set[int] = set()
        self.writes: set[int] = set()
        self.state_reads: set[int] = set()
        self.state_writes: set[int] = set()
        self.slots: dict[int, str] = {}
        self.ends: set[str] = set()
        self.calls: set[str] = set()
        self.intrinsics: set[str] = set()
        self.accesses = 0
        self._address_name = ""
        self.block = ""
        self.renamed: dict[str, str] = {}  # label -> the label of the block's last part
        self.bases: dict[str, str] = {}  # local -> the register that its value was made from, as in `%g`
        self.sums: dict[str, tuple[str, str]] = {}  # local -> register and constant that it is the sum of
        self.straight = True  # so far everything is executed
        self.wrote = False  # a register has been written

    def name(self, raw: str) -> str:
        """The template's name of a local or label: short, with a hole for the instance's prefix."""
        if raw in _KEPT:
            return raw
        if raw not in self.names:
            self.names[raw] = f"\x01{_short(len(self.names))}"
        return self.names[raw]

    def make(self, body: str) -> dict[str, Any]:
        """The template of a function's body. Raises _Untranslatable."""
        if self.shape.counts or self.shape.dispatches:
            raise _Untranslatable
        for line in body.splitlines():
            text = _METADATA.sub("", line.split(" ; ")[0].split("  ;")[0]).strip()
            if text and not text.startswith(";"):
                self.line(_TAIL.sub("call", text))
        text = "\n".join(self.lines) + "\n"
        for label, last in self.renamed.items():
            text = _repair_phis(text, label, last)
        if "%record" in text or "%tlb" in text:
            raise _Untranslatable
        return {
            "text": text,
            "slots": sorted([at, kind] for at, kind in self.slots.items()),
            "reads": sorted(self.reads),
            "writes": sorted(self.writes),
            "state_reads": sorted(self.state_reads),
            "state_writes": sorted(self.state_writes),
            "ends": sorted(self.ends),
            "calls": sorted(self.calls),
            "intrinsics": sorted(self.intrinsics),
            "accesses": self.accesses,
        }

    def line(self, text: str) -> None:
        """Add a line of LLVM text."""
        label = _LABEL.match(text)
        if label is not None:
            self.straight = not self.block
            self.block = self.name(label.group(1).strip('"'))
            self.lines.append(f"{self.block}:")
            return
        if text == "unreachable":
            if not self.lines or not self.lines[-1].startswith("\x02end"):
                self.lines.append(text)
            return
        call = _CALL.match(text)
        if call is not None:
            self.call(*call.groups())
            return
        if " call " in f" {text}":
            raise _Untranslatable
        plus = _PLUS.match(text)
        if plus is not None:
            name, *parts = (part.strip('"') for part in plus.groups())
            for one, two in (parts, reversed(parts)):
                constant = self.numbers.get(two[1:]) if two.startswith("%") else two
                if one[1:] in self.sums and self.sums[one[1:]][1] == "0" and constant is not None:
                    self.sums[name] = self.sums[one[1:]][0], constant
        made = _SUM.match(text)
        if made is not None:
            name, *parts = (part.strip('"') for part in made.groups())
            base = next((self.bases[part] for part in parts if part in self.bases), None)
            if base is not None:
                self.bases[name] = base
        self.lines.append(self.operands(text))

    def operands(self, text: str) -> str:
        """A line with names replaced, and slots by their holes."""

        def replaced(match: re.Match[str]) -> str:
            raw = match.group(1).strip('"')
            return self.numbers.get(raw) or f"%{self.name(raw)}"

        return _LOCAL.sub(replaced, text)

    def number(self, text: str) -> int:
        """A constant argument, ``i64 5``."""
        found = re.fullmatch(r"i64 (?:noundef )?(-?\d+)", text)
        if found is None:
            raise _Untranslatable
        return int(found.group(1))

    def call(self, result: str | None, kind: str, function: str, text: str) -> None:
        """A call: of a primitive's part, an end, a function of the floating-point library, an intrinsic."""
        arguments = _split(text)
        name = result[1:].strip('"') if result else ""
        if function.startswith(_EXIT):
            self.end(function.removeprefix(_EXIT), arguments)
        elif function.startswith(PART_PREFIX):
            self.part(name, kind, function.removeprefix(PART_PREFIX), arguments)
        elif function.startswith("llvm."):
            if not function.startswith(("llvm.assume", "llvm.experimental.noalias")):
                self.intrinsics.add(function)
                made = f"call {kind} @{function}({text})"
                self.lines.append(self.operands(f"{result} = {made}" if result else made))
        elif function.startswith("sf_"):
            label = f"\x01fp{len(self.lines)}"
            self.calls.add(function)
            self.renamed[self.block] = label
            parts = (function, f"%{self.name(name)}", label, *map(self.operands, arguments))
            self.lines.append("\x07" + "\x04".join(parts) + "\x06")
            self.block = label
        else:
            raise _Untranslatable

    def end(self, kind: str, arguments: list[str]) -> None:
        if kind == "other":
            raise _Untranslatable
        if kind in ("jump", "jump_annulled"):
            self.ends.add(kind)
            self.lines.append(f"\x02end {kind} {self.operands(arguments[0]).removeprefix('i64 ')}\x03")
            return
        if arguments:
            kind = f"{kind}{self.number(arguments[0])}"
        self.ends.add(kind)
        self.lines.append(f"\x02end {kind}\x03")

    def part(self, name: str, kind: str, part: str, arguments: list[str]) -> None:
        match part:
            case "i16" | "i32" | "i64":
                at = self.number(arguments[1])
                self.slots[at] = part
                self.numbers[name] = f"\x02n{at}\x03"
            case "register" | "wide_register":
                at = self.number(arguments[2])
                self.slots[at] = "wide" if kind != "i64" else "register"
                self.reads.add(at)
                self.bases[name] = f"\x02r{at}\x03"
                if not self.wrote:
                    self.sums[name] = self.bases[name], "0"
                self.lines.append(f"%{self.name(name)} = load {kind}, ptr %g\x02r{at}\x03, align 8")
            case "set_register" | "set_wide_register":
                self.wrote = True
                at = self.number(arguments[2])
                value = self.operands(arguments[3])
                self.slots[at] = "wide" if not value.startswith("i64 ") else "register"
                self.writes.add(at)
                self.lines.append(f"store {value}, ptr %g\x02r{at}\x03, align 8")
            case "state" | "wide_state":
                offset = self.number(arguments[1])
                self.state_reads |= {offset} if kind == "i64" else {offset, offset + 8}
                self.bases[name] = str(offset)
                if not self.wrote:
                    self.sums[name] = self.bases[name], "0"
                self.lines.append(f"%{self.name(name)} = load {kind}, ptr %g{offset}, align 8")
            case "set_state" | "set_wide_state":
                self.wrote = True
                offset = self.number(arguments[1])
                value = self.operands(arguments[2])
                self.state_writes |= {offset} if value.startswith("i64 ") else {offset, offset + 8}
                self.lines.append(f"store {value}, ptr %g{offset}, align 8")
            case "trap" | "trap_argument":
                pass
            case "float_flags":
                self.lines.append(f"%{self.name(name)} = load i64, ptr %fp.flags")
            case "readable" | "writable":
                self._address_name = _local(arguments[2])
                size = self.number(arguments[3])
                self.access(part, size, self.operands(arguments[2]), f"%{self.name(name)}")
            case "copy_ahead" | "fill_ahead":
                operands = map(self.operands, arguments[3:])
                hole = "\x04".join((f"isagen_{part}", self.name(name), *operands))
                self.lines.append(f"\x0e{hole}\x0f")
            case _ if part.startswith("exchange") and "[2 x" not in arguments[3]:
                self.exchange(part.removeprefix("exchange"), arguments)
            case _ if part.startswith("write"):
                bits, _, order = part.removeprefix("write").partition("_")
                value = self.operands(arguments[3])
                where = self.operands(arguments[2])
                self._address_name = _local(arguments[2])
                self.access("write" + ("_big" if order else ""), int(bits) // 8, where, value)
            case _:
                raise _Untranslatable

    def exchange(self, part: str, arguments: list[str]) -> None:
        """Where others have written meanwhile, or the place isn't aligned, the interpreter tries (anew)."""
        digits, _, order = part.partition("_")
        bits, kind = int(digits), f"i{digits}"
        x = f"\x01ex{self.accesses}"
        address, expected, new = (self.operands(argument) for argument in arguments[2:])
        self._address_name = _local(arguments[2])
        self.lines += [
            f"%{x}m = and {address}, {bits // 8 - 1}",
            f"%{x}c = icmp eq i64 %{x}m, 0",
            f"br i1 %{x}c, label %{x}in, label %{x}no",
            f"{x}in:",
        ]
        first, self.block = self.block, f"{x}in"
        self.access("writable", bits // 8, address, f"%{x}h")
        numbers = []
        for name, value in (("e", expected), ("n", new)):
            number = value.removeprefix("i64 ")
            if bits < 64:
                self.lines.append(f"%{x}{name} = trunc i64 {number} to {kind}")
                number = f"%{x}{name}"
            if order:
                self.intrinsics.add(f"llvm.bswap.{kind}")
                self.lines.append(f"%{x}{name}s = call {kind} @llvm.bswap.{kind}({kind} {number})")
                number = f"%{x}{name}s"
            numbers.append(number)
        old, stored = numbers
        self.lines += [
            f"%{x}p = inttoptr i64 %{x}h to ptr",
            f"%{x}r = cmpxchg ptr %{x}p, {kind} {old}, {kind} {stored} seq_cst seq_cst, align {bits // 8}",
            f"%{x}o = extractvalue {{ {kind}, i1 }} %{x}r, 1",
            f"br i1 %{x}o, label %{x}on, label %{x}no, !prof !1",
            f"{x}no:",
            "\x02end leave\x03",
            f"{x}on:",
        ]
        self.ends.add("leave")
        self.block = f"{x}on"
        self.renamed[first] = self.block

    def access(self, kind: str, size: int, address: str, value: str) -> None:
        """An access to guest memory: a hole; `label` begins what follows."""
        label = f"\x01at{self.accesses}"
        self.accesses += 1
        self.renamed[self.block] = label
        base = self.bases.get(self._address_name, "")
        address = address.removeprefix("i64 ")
        # The base may hold a slot's hole, so this hole ends in another character.
        known = self.sums.get(self._address_name) if self.straight and not self.wrote else None
        hole = "\x04".join((kind, str(size), address, value, label, base, known[1] if known else ""))
        self.lines.append(f"\x05{hole}\x06")
        self.block = label


def _local(argument: str) -> str:
    """The name of the local that is passed, if one is."""
    found = _LOCAL.search(argument)
    return found.group(1).strip('"') if found else ""


def _short(number: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[number] if number < 26 else f"{letters[number % 26]}{number // 26}"


def _split(text: str) -> list[str]:
    """Arguments, without attributes; aggregates hold commas only in brackets."""
    parts: list[str] = []
    depth, start = 0, 0
    for position, char in enumerate(text):
        depth += char in "[({"
        depth -= char in "])}"
        if char == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    if text.strip():
        parts.append(text[start:].strip())
    return parts


def _repair_phis(text: str, label: str, last: str) -> str:
    """Let phis name the last part of a block that accesses cut."""
    pattern = re.compile(rf"(\[ [^\]]*, )%{re.escape(label)}( \])")
    return "\n".join(
        pattern.sub(rf"\g<1>%{last}\g<2>", line) if " = phi " in line else line for line in text.split("\n")
    )


def extract(module: str, shapes: Mapping[str, Shape]) -> dict[str, dict[str, Any]]:
    """Templates by the executor's name, from a module's optimised text; those that can't be translated are
    missing.
    """
    found = {}
    for match in _FUNCTION.finditer(module):
        name, body = match.groups()
        try:
            found[name] = _Template(shapes[name]).make(body)
        except _Untranslatable:
            continue
    return found
