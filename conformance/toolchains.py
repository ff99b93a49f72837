"""Independent assemblers and disassemblers, run on many instructions at once: LLVM's llvm-mc and GNU objdump.

An assembler's answer for a line is its bytes, or None where it rejects the line; a disassembler's is the
text, or None.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Final

from runtime.errors import IsagenError

LLVM_VERSIONS: Final = ("-21", "-20", "-19", "", "-18", "-17", "-16", "-15", "-14")
"""Lists of differences are for LLVM 19; older ones know less."""
TIMEOUT: Final = 120
"""Seconds after which a peer that doesn't answer is given up."""

_ENCODING = re.compile(r"encoding: \[([^\]]*)\]")
_PLACE = re.compile(r"^<stdin>:(\d+):\d+: error", re.MULTILINE)
_INVALID = re.compile(r"^<stdin>:(\d+):\d+: (?:error|warning: invalid)", re.MULTILINE)
"""A disassembler's refusal; of encodings that are UNPREDICTABLE it warns, but prints them."""
_OBJDUMP = re.compile(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]+ )+)\s*(?:\t(.*))?$")
_REMARK = re.compile(r"\s*(?:# .*|// .*|! .*|@ .*|<[^>]*>)$")


@lru_cache(maxsize=1)
def llvm_mc() -> str | None:
    """The newest llvm-mc there is."""
    return next((path for v in LLVM_VERSIONS if (path := shutil.which(f"llvm-mc{v}"))), None)


@dataclass(frozen=True)
class Llvm:
    """llvm-mc for a triple; `options` go on its command line, `directives` before the lines. `sentinel`: an
    instruction that is never asked for, its code and text, where others may be printed on several lines.
    """

    triple: str
    options: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    sentinel: tuple[bytes, str] | None = None
    spacing: ClassVar[int] = 0
    """Every instruction stands at address 0."""

    @property
    def name(self) -> str:
        return "LLVM"

    def available(self) -> bool:
        """Whether llvm-mc is installed."""
        return llvm_mc() is not None

    def _run(self, arguments: Sequence[str], text: str) -> tuple[str, str]:
        program = llvm_mc()
        if program is None:
            raise IsagenError("llvm-mc isn't installed", remedy="apt install llvm")
        command = [program, f"--triple={self.triple}", *self.options, *arguments]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        return done.stdout, done.stderr

    def assemble(self, lines: Sequence[str]) -> list[bytes | None]:
        """The encoding of each line, assembled at address 0."""
        source = [*self.directives, *lines]
        out, errors = self._run(["--show-encoding"], "\n".join(source) + "\n")
        rejected = {int(number) - 1 - len(self.directives) for number in _PLACE.findall(errors) if number}
        found: list[bytes | None] = []
        encodings = iter(_ENCODING.findall(out))
        for number, line in enumerate(lines):
            if number in rejected or line.lstrip().startswith("."):
                found.append(None)
                continue
            text = next(encodings, "")
            try:
                found.append(bytes(int(byte, 0) for byte in text.split(",")) if text else None)
            except ValueError:
                found.append(None)  # it left something to the linker
        return found

    def disassemble(self, words: Sequence[bytes]) -> list[str | None]:
        """The text of each instruction."""
        lines = [",".join(f"{byte:#04x}" for byte in word) + "\n" for word in words]
        step = 1
        if self.sentinel is not None:
            end = ",".join(f"{byte:#04x}" for byte in self.sentinel[0])
            lines, step = [f"[{line[:-1]}]\n[{end}]\n" for line in lines], 2
        out, errors = self._run(["--disassemble"], "".join(lines))
        rejected = {(int(number) - 1) // step for number in _INVALID.findall(errors)}
        printed = [line.strip() for line in out.splitlines()]
        texts = (" ".join(_REMARK.sub("", line).split()) for line in printed if line and line[0] != ".")
        if self.sentinel is not None:
            return self._between_sentinels(list(texts), len(words), rejected)
        found = [None if number in rejected else next(texts, None) for number in range(len(words))]
        return found if next(texts, None) is None else [None] * len(words)

    def _between_sentinels(
        self, texts: Sequence[str], count: int, rejected: Collection[int]
    ) -> list[str | None]:
        assert self.sentinel is not None
        groups: list[list[str]] = [[]]
        for text in texts:
            if text == self.sentinel[1]:
                groups.append([])
            else:
                groups[-1].append(text)
        if len(groups) != count + 1:
            raise IsagenError(f"llvm-mc prints {len(groups) - 1} texts for {count} instructions")
        return [
            " ".join(group) if group and number not in rejected else None
            for number, group in enumerate(groups[:-1])
        ]


@dataclass(frozen=True)
class Objdump:
    """GNU objdump for a machine (as ``-m`` takes it). `padding`: a unit that is an instruction, to
    stand between those asked for.
    """

    machine: str
    options: tuple[str, ...] = ()
    big_endian: bool = False
    padding: bytes = b"\0"
    spacing: ClassVar[int] = 64

    @property
    def name(self) -> str:
        return "objdump"

    def available(self) -> bool:
        """Whether an objdump that knows the machine is installed."""
        program = shutil.which("objdump")
        return program is not None and _knows(program, self.machine)

    def disassemble(self, words: Sequence[bytes]) -> list[str | None]:
        """The text of each instruction; number n stands at address n * `spacing`."""
        data = b"".join(word.ljust(self.spacing, self.padding) for word in words)
        with tempfile.NamedTemporaryFile(suffix=".bin") as file:
            Path(file.name).write_bytes(data)
            order = "big" if self.big_endian else "little"
            command = ["objdump", "-D", "-z", "-b", "binary", "-m", self.machine, f"--endian={order}"]
            command += [*self.options, file.name]
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        texts: list[str | None] = [None] * len(words)
        for line in done.stdout.splitlines():
            match = _OBJDUMP.match(line)
            if match is None or int(match[1], 16) % self.spacing:
                continue
            number = int(match[1], 16) // self.spacing
            length = len(match[2].replace(" ", "")) // 2
            text = " ".join(_REMARK.sub("", match[3] or "").split())
            if (
                length >= min(len(words[number]), 7)
                and text
                and not text.startswith((".", "0x", "(bad)", "<"))
            ):
                texts[number] = text
        return texts


@lru_cache(maxsize=8)
def _knows(program: str, machine: str) -> bool:
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        Path(file.name).write_bytes(bytes(8))
        command = [program, "-D", "-b", "binary", "-m", machine, file.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    return done.returncode == 0
