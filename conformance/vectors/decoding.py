"""Decode rows: bytes and the text that other tools print for them.

A row passes if our assembler turns its text into its bytes, or into bytes that we print alike or that do the
same. Rows with bytes that we don't decode are counted as not described.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from conformance.known import matching
from conformance.results import Failure, Row
from conformance.tasks import Task, command_for
from conformance.vectors import reader
from conformance.vectors.effects import Effects
from conformance.vectors.excuses import excuse
from runtime.assembly.assembler import Assembler
from runtime.assembly.disassembler import Disassembler, Line
from runtime.assembly.values import Undefined
from runtime.errors import IsagenError

MODES: Mapping[str, Mapping[str, dict[str, int]]] = {
    "riscv64": {"rv64": {"fp": 1}},
    "riscv32": {"rv32": {"fp": 1}},
    "aarch64": {"a64": {}},
    "arm": {"a32": {"thumb": 0}, "t32": {"thumb": 1}},
    "ppc": {"32be": {}},
    "ppc64": {"64be": {}},
    "ppc64le": {"64le": {}},
    "sparc": {"v8": {}},
    "sparc64": {"v9": {}},
    "x86_64": {"64": {"mode": 64}, "amd64": {"mode": 64}},
    "i386": {"32": {"mode": 32}, "16": {"mode": 16}},
    "i8086": {"16": {"mode": 16}},
}
"""The rows' modes that are a target's, with the decode contexts they mean."""
ELSEWHERE: Mapping[str, str] = {"32": "16", "16": "32"}
"""x86: in which mode a row may have been recorded that says another one."""
FEATURES: Mapping[str, frozenset[str]] = {"i8086": frozenset(("I186", "I286", "FPU"))}
"""What the CPUs have whose rows a target reads; else all."""

DIALECTS = {"gas-att": "att", "llvm-att": "att", "iced-gas": "att", "capstone-att": "att"}
FOREIGN = frozenset(("iced-masm", "iced-nasm"))
"""Notations that our assembler doesn't read."""

_SPACE = re.compile(r"\s+")
_NUMBER = re.compile(r"(?:0x[0-9a-f]+|\d+)$")
_REMARK = re.compile(r"\s+(?:(?:# |// |! |; |@ )|[0-9a-f]+: R_).*$")


def plain(text: str) -> str:
    """A text without remarks and tabs."""
    return _REMARK.sub("", text).replace("\t", " ")


def tidy(text: str) -> str:
    """A text without remarks, tabs and differences of space."""
    return _SPACE.sub(" ", plain(text)).replace(", ", ",").strip().lower()


Contexts: TypeAlias = tuple[tuple[str, int], ...]
"""Decode contexts by name."""

_ATT = re.compile(r"%[a-z]|\$")
_NAMES = "eq ne cs/hs cc/lo mi pl vs vc hi ls ge lt gt le"
CONDITIONS: Mapping[str, int] = {
    name: number for number, names in enumerate(_NAMES.split()) for name in names.split("/")
}
"""Arm's conditions (DDI 0406, A8.3)."""
_CONDITION = re.compile(rf"\w+?({'|'.join(CONDITIONS)})(?:\.[nw])?\b")
_A64_TARGET = re.compile(r"^((?:b|bl|b\.\w+|cbn?z|tbn?z|adrp?) .*?)#(-?[0-9][0-9a-fx]*)$")
_A64_CONDITION = {"hs": "cs", "lo": "cc"}


MASKS = {"x86_64": (1 << 64) - 1, "i386": (1 << 32) - 1, "i8086": 0xFFFF}
_X86_TARGET = re.compile(r"((?:j\w+|callq?|jmpq?|loop\w*)) (-?\d+)$")
_X86_ABSOLUTE = re.compile(r"(?<![%\w])(?:ds:|([cefgs]s:))(0x[0-9a-f]+)", re.IGNORECASE)
_X86_POINTER = re.compile(r"(?<!word )(?<!byte )\bptr \[")
_A32_TARGET = re.compile(r"^(b|bl|blx|b[a-z]{2}|bl[a-z]{2}|cbn?z \w+,)(\.[nw])? #(-?[0-9]+)$")


def inward(target: str, mode: str, text: str, pc: int, size: int) -> str:
    """A recorded text as our assembler reads it: A64 targets without a number sign, A32 and T32 ones
    absolute; x86 targets as addresses, absolute addresses in brackets. `size`: the instruction's bytes.
    """
    if target == "arm" and (found := _A32_TARGET.match(text)):
        ahead = 8 if mode == "a32" else 4
        base = pc & ~3 if found[1] == "blx" else pc
        return f"{found[1]}{found[2] or ''} {hex(base + ahead + int(found[3]) & 0xFFFF_FFFF)}"
    if target == "aarch64":
        text = re.sub(r"\b(hs|lo)$", lambda found: _A64_CONDITION[found[1]], text)
        return _A64_TARGET.sub(r"\1\2", text)
    if target in ("x86_64", "i386", "i8086"):
        found = _X86_TARGET.match(text)
        if found:  # relative to the next instruction
            return f"{found[1]} {hex(pc + size + int(found[2]) & MASKS[target])}"
        text = _X86_POINTER.sub("[", text.replace("OWORD PTR", "XMMWORD PTR"))
        return _X86_ABSOLUTE.sub(r"\1[\2]", text)
    return text


def elsewhere(line: Line, text: str) -> bool:
    """Whether a recorded branch differs in its target alone."""
    jumps = line.form is not None and any(o.number == "address" for _, o, _ in line.form.operands)
    return jumps and _NUMBER.sub("", tidy(line.text)) == _NUMBER.sub("", tidy(text))


@dataclass(frozen=True)
class Reading:
    """What our tools make of a row: our line for its bytes, and what is wrong with its text ("": nothing)."""

    line: Line
    problem: str


class DecodeRows:
    """The decode rows of a target."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.target = task.setup.target
        self.syntax = task.setup.syntax
        self.modes = MODES.get(self.target, {})
        self._names = {name for name, _, _ in self.syntax.contexts}

    @lru_cache(maxsize=64)  # noqa: B019 - as many as there are modes, conditions and dialects
    def _assembler(self, dialect: str, contexts: Contexts) -> Assembler:
        return Assembler(self.syntax, dialect, contexts=self._known(contexts))

    @lru_cache(maxsize=4)  # noqa: B019
    def _disassembler(self, dialect: str) -> Disassembler:
        return Disassembler(self.syntax, dialect, features=FEATURES.get(self.target))

    @lru_cache(maxsize=64)  # noqa: B019
    def _effects(self, contexts: Contexts) -> Effects:
        return Effects(self.task.setup, self._known(contexts))

    def _known(self, contexts: Contexts) -> dict[str, int]:
        return {name: value for name, value in contexts if name in self._names}

    def read(self, code: bytes, text: str, pc: int, mode: str, dialect: str, contexts: Contexts) -> Reading:
        """Compare a row with what our tools make of it in a mode."""
        disassembler = self._disassembler(dialect)
        line = disassembler.line(code, pc, contexts=dict(contexts))
        if line.form is None or tidy(line.text) == tidy(text):
            return Reading(line, "")
        readable = inward(self.target, mode, plain(text), pc, len(code))
        try:
            got = self._assembler(dialect, contexts).assemble(readable, pc)
        except (IsagenError, Undefined) as error:
            got, reason = b"", f"it doesn't assemble: {error}"
        if line.length != len(code):
            return Reading(
                line, "" if got == code[: line.length] else f"{line.length} bytes, not {len(code)}"
            )
        if not got:
            return Reading(line, reason)
        other = disassembler.line(got, pc, contexts=dict(contexts))
        if got == code or other.text == line.text or self._effects(contexts).same(got, code, pc):
            return Reading(line, "")
        return Reading(line, f"it assembles to {got.hex()}: {other.text}")

    def check(self, row: Row, data: reader.Row) -> None:
        """Check one row of the file, and count it in `row`."""
        mode = data.get("mode", "")
        if mode not in self.modes or "asm" not in data:
            row.count("other mode")
            return
        if data.get("syntax") in FOREIGN:
            row.count("other notation")
            return
        code, text = bytes.fromhex(data["bytes"]), data["asm"]
        dialect = DIALECTS.get(data.get("syntax", ""), "")
        if self.task.setup.family == "x86" and _ATT.search(text):
            dialect = "att"
        pc = int(data.get("addr", "0"), 0)
        contexts = tuple(self.modes[mode].items())
        reading = self.read(code, text, pc, mode, dialect, contexts)
        line = reading.line
        if line.form is None:
            row.count("not described")
            return
        if reading.problem and "it" in self._names and mode == "t32":
            reading = self.in_block(code, text, pc, contexts) or reading
        if reading.problem and self.task.setup.family == "x86" and mode in ELSEWHERE:
            there = tuple(self.modes.get(ELSEWHERE[mode], {}).items())
            if there and not self.read(code, text, pc, mode, dialect, there).problem:
                row.count("recorded in another mode")
                return
        reason = self.excuse(data, reading) if reading.problem else None
        if reason is not None:
            row.count(reason)
            return
        row.cases += 1
        if not reading.problem:
            return
        expected = matching("vectors", self.target, data["id"], line.form.needs)
        if expected:
            row.count("expected")
            row.notes.append(f"{data['id']}: {expected[0].reason}")
            return
        details = (f"recorded: {text}", f"ours: {line.text}", reading.problem)
        row.fail(Failure("recorded text", f"{data['id']} {data['bytes']}", details, repeat(self.task, row)))

    def in_block(self, code: bytes, text: str, pc: int, contexts: Contexts) -> Reading | None:
        """The row read as an instruction of the IT block that its condition tells of, if that is right."""
        match = _CONDITION.match(plain(text))
        if match is None:
            return None
        state = CONDITIONS[match[1]] << 4 | 0b1000
        reading = self.read(code, text, pc, "t32", "", (*contexts, ("it", state)))
        return None if reading.problem else reading

    def excuse(self, data: reader.Row, reading: Reading) -> str | None:
        """What a row with a problem is counted as, if neither it nor we need to be wrong."""
        text, line = data["asm"], reading.line
        reason = excuse(self.task.setup.family, text, line.text, reading.problem)
        if reason is None and "-chip-check" in data.get("opts", ""):
            return "of another CPU"
        if reason is None and self.turned(data):
            return "bytes in another order"
        if reason is None and "addr" not in data and elsewhere(line, text):
            return "a target relative to an address that isn't told"
        return reason

    def turned(self, data: reader.Row) -> bool:
        """Whether the bytes were recorded in another order: a word of a big-endian target from its last byte
        on (GNU's rows); or an A32 word among T32's rows or the other way round, of which only T32's begin
        with a half of E800 or above (DDI 0406, A6.1).

        So read they are the text, or something that nobody here describes whose text we can't read either.
        """
        code, mode = bytes.fromhex(data["bytes"]), data["mode"]
        if len(code) != 4:
            return False
        if mode in ("a32", "t32"):
            if (code[1] >= 0xE8) == (mode == "t32"):
                return False
            mode = "a32" if mode == "t32" else "t32"
        elif self.syntax.big_endian and data.get("src") == "gas":
            code = code[::-1]
        else:
            return False
        contexts = tuple(self.modes[mode].items())
        try:
            return self._assembler("", contexts).assemble(plain(data["asm"])) == code
        except (IsagenError, Undefined):
            return self._disassembler("").line(code, 0, contexts=dict(contexts)).form is None


def repeat(task: Task, row: Row) -> str:
    """The command that repeats an item of the vectors suite."""
    return command_for(task, row.name, None, "--vectors", task.options.vectors)
