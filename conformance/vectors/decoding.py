"""Decode rows: bytes and the text that other tools print for them.

A row passes if our assembler turns its text into its bytes, or into bytes that we print alike. Rows with
bytes that we don't decode are counted as not described.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from conformance.known import matching
from conformance.results import Failure, Row
from conformance.tasks import Task, command_for
from conformance.vectors import reader
from conformance.vectors.excuses import excuse
from runtime.assembly.assembler import Assembler
from runtime.assembly.disassembler import Disassembler
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
    "i386": {"32": {"mode": 32}},
    "i8086": {"16": {"mode": 16}},
}
"""The rows' modes that are a target's, with the decode contexts they mean."""

DIALECTS = {"gas-att": "att", "llvm-att": "att", "iced-gas": "att", "capstone-att": "att"}
FOREIGN = frozenset(("iced-masm", "iced-nasm"))
"""Notations that our assembler doesn't read."""

_SPACE = re.compile(r"\s+")
_REMARK = re.compile(r"\s+(?:# |// |! |; |@ ).*$")


def tidy(text: str) -> str:
    """A text without remarks, tabs and differences of space."""
    return _SPACE.sub(" ", _REMARK.sub("", text)).replace(", ", ",").strip().lower()


_A64_TARGET = re.compile(r"^((?:b|bl|b\.\w+|cbn?z|tbn?z|adrp?) .*?)#(-?[0-9][0-9a-fx]*)$")
_A64_CONDITION = {"hs": "cs", "lo": "cc"}


def inward(target: str, dialect: str, text: str, ours: str) -> str:
    """A recorded text as our assembler reads it: A64 targets without a number sign, AT&T mnemonics
    with a suffix.
    """
    if target == "aarch64":
        text = re.sub(r"\b(hs|lo)$", lambda found: _A64_CONDITION[found[1]], text)
        return _A64_TARGET.sub(r"\1\2", text)
    if dialect == "att":
        mnemonic, _, rest = text.partition(" ")
        wanted = ours.split()[0]
        if wanted[:-1] == mnemonic and wanted[-1] in "bwlq":
            return f"{wanted} {rest}"
    return text


class DecodeRows:
    """The decode rows of a target."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.syntax = task.setup.syntax
        self.modes = MODES.get(task.setup.target, {})
        self._tools: dict[tuple[str, str], tuple[Assembler, Disassembler]] = {}

    def tools(self, mode: str, dialect: str) -> tuple[Assembler, Disassembler]:
        """Our assembler and disassembler for a mode and dialect."""
        key = mode, dialect
        if key not in self._tools:
            contexts = {
                n: v for n, v in self.modes[mode].items() if any(c[0] == n for c in self.syntax.contexts)
            }
            self._tools[key] = (
                Assembler(self.syntax, dialect, contexts=contexts),
                Disassembler(self.syntax, dialect),
            )
        return self._tools[key]

    def check(self, row: Row, data: reader.Row) -> None:
        """Check one row of the file, and count it in `row`."""
        mode = data.get("mode", "")
        if mode not in self.modes or "asm" not in data:
            row.count("other mode")
            return
        if data.get("syntax") in FOREIGN:
            row.count("other notation")
            return
        code = bytes.fromhex(data["bytes"])
        dialect = DIALECTS.get(data.get("syntax", ""), "")
        assembler, disassembler = self.tools(mode, dialect)
        contexts = self.modes[mode]
        pc = int(data.get("addr", "0"), 0)
        line = disassembler.line(code, pc, contexts=contexts)
        if line.form is None:
            row.count("not described")
            return
        expected = matching("vectors", row.target, data["id"], line.form.needs)
        text = data["asm"]
        row.cases += 1
        if tidy(line.text) == tidy(text):
            return
        problem = ""
        if line.length != len(code):
            problem = f"{line.length} bytes, not {len(code)}"
        else:
            try:
                readable = inward(row.target, dialect, _REMARK.sub("", text).replace("\t", " "), line.text)
                got = assembler.assemble(readable, pc)
                other = disassembler.line(got, pc, contexts=contexts)
                if got != code and other.text != line.text:
                    problem = f"it assembles to {got.hex()}: {other.text}"
            except (IsagenError, Undefined) as error:
                problem = f"it doesn't assemble: {error}"
        if not problem:
            return
        reason = excuse(self.task.setup.family, text, line.text, problem)
        if reason is not None:
            row.cases -= 1
            row.count(reason)
            return
        if expected:
            row.count("expected")
            row.notes.append(f"{data['id']}: {expected[0].reason}")
            return
        details = (f"recorded: {text}", f"ours: {line.text}", problem)
        row.fail(Failure("recorded text", f"{data['id']} {data['bytes']}", details, repeat(self.task, row)))


def repeat(task: Task, row: Row) -> str:
    """The command that repeats an item of the vectors suite."""
    return command_for(task, row.name, None, "--vectors", task.options.vectors)
