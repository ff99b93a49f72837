"""Single PowerPC instructions under qemu-user, many in one program.

Each case loads r3 to r10, XER, CR, CTR and LR from a table, executes one word, and stores them again; a block
of memory belongs to each. A branch is taken to `TAKEN` bytes behind the word.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BASE, TABLE = 0x10_0000, 0x800_0000
STRIDE, FIRST = 384, 256
SETUP = 4 * (8 + 8 + 1)  # bytes of a case before the word
TAKEN = 12
MEMORY = 64
SPECIAL = (
    ("xer", "mtxer 3", "mfxer 3"),
    ("cr", "mtcr 3", "mfcr 3"),
    ("ctr", "mtctr 3", "mfctr 3"),
    ("lr", "mtlr 3", "mflr 3"),
)
WORD = {"ppc": "I", "ppc64": "Q", "ppc64le": "Q"}
LINKER = {"ppc": "elf32ppclinux", "ppc64": "elf64ppc", "ppc64le": "elf64lppc"}


@dataclass
class Case:
    """A word and the state before it, or the state after it (`taken`: whether it branched)."""

    word: int
    registers: list[int]
    special: dict[str, int]
    memory: bytes
    taken: int = 0

    def compare(self, other: Case) -> list[str]:
        """What differs, for people."""
        pairs = [
            (f"r{3 + n}", a, b) for n, (a, b) in enumerate(zip(self.registers, other.registers, strict=True))
        ]
        pairs += [(name, self.special[name], other.special[name]) for name in self.special]
        pairs += [("taken", self.taken, other.taken)]
        found = [f"{name} {a:#x}, the peer {b:#x}" for name, a, b in pairs if a != b]
        if self.memory != other.memory:
            found.append(f"memory {self.memory.hex()}, the peer {other.memory.hex()}")
        return found


def word_address(number: int) -> int:
    """Where case `number`'s word lies."""
    return BASE + FIRST + number * STRIDE + SETUP


def memory_address(number: int, target: str) -> int:
    """Where case `number`'s memory lies."""
    size = struct.calcsize(WORD[target])
    return TABLE + number * (12 * size + MEMORY) + 12 * size


def _program(target: str, words: Sequence[int]) -> str:
    size = struct.calcsize(WORD[target])
    load, store = ("lwz", "stw") if size == 4 else ("ld", "std")
    lines = [".abiversion 2"] if size == 8 else []
    lines += [".text", ".globl _start", "_start:"]
    lines += ["lis 31,input@ha", "addi 31,31,input@l", "lis 30,output@ha", "addi 30,30,output@l", "b case0"]
    for number, word in enumerate(words):
        lines += [f".org {FIRST + number * STRIDE}", f"case{number}:"]
        for place, (_, write, _) in enumerate(SPECIAL):
            lines += [f"{load} 3,{(8 + place) * size}(31)", write]
        lines += [f"{load} {3 + n},{n * size}(31)" for n in range(8)]
        lines += ["li 29,0", f".long {word:#x}", "b 1f", "nop", "li 29,1", "1:"]
        lines += [f"{store} {3 + n},{n * size}(30)" for n in range(8)]
        for place, (_, _, read) in enumerate(SPECIAL):
            lines += [read, f"{store} 3,{(8 + place) * size}(30)"]
        lines += [f"{store} 29,{12 * size}(30)"]
        lines += [f"addi 31,31,{12 * size + MEMORY}", f"addi 30,30,{13 * size}", f"b case{number + 1}"]
    lines.append(f"case{len(words)}:")
    for symbol, length in (("output", len(words) * 13 * size), ("input", len(words) * (12 * size + MEMORY))):
        lines += ["li 0,4", "li 3,1", f"lis 4,{symbol}@ha", f"addi 4,4,{symbol}@l"]
        lines += [f"lis 5,{length >> 16}", f"ori 5,5,{length & 0xFFFF}", "sc"]
    lines += ["li 0,1", "li 3,0", "sc", ".data", 'input: .incbin "input.bin"']
    lines += [".balign 16", f"output: .space {len(words) * 13 * size}"]
    return "\n".join(lines) + "\n"


def run(target: str, cases: Sequence[Case], tools: dict[str, str], folder: Path) -> list[Case]:
    """The states after the cases. `tools`: paths of as, ld and qemu."""
    order = "<" if target.endswith("le") else ">"
    letter = WORD[target]
    size = struct.calcsize(letter)
    table = b"".join(
        struct.pack(f"{order}12{letter}", *case.registers, *(case.special[name] for name, _, _ in SPECIAL))
        + case.memory
        for case in cases
    )
    (folder / "input.bin").write_bytes(table)
    (folder / "a.s").write_text(_program(target, [case.word for case in cases]))
    options = ["-a32"] if size == 4 else ["-a64"]
    options += ["-mlittle"] if order == "<" else []
    subprocess.run([tools["as"], *options, "-many", "a.s", "-o", "a.o"], cwd=folder, check=True)
    places = [f"-Ttext={BASE:#x}", f"-Tdata={TABLE:#x}"]
    subprocess.run([tools["ld"], "-m", LINKER[target], *places, "a.o", "-o", "a"], cwd=folder, check=True)
    cpu = ["-cpu", "POWER8"] if size == 8 else []
    done = subprocess.run(
        [tools["qemu"], *cpu, "./a"], cwd=folder, capture_output=True, timeout=120, check=True
    )
    results = []
    for number, case in enumerate(cases):
        values = struct.unpack_from(f"{order}13{letter}", done.stdout, number * 13 * size)
        at = len(cases) * 13 * size + number * (12 * size + MEMORY) + 12 * size
        special = {name: value for (name, _, _), value in zip(SPECIAL, values[8:12], strict=True)}
        results.append(Case(case.word, list(values[:8]), special, done.stdout[at : at + MEMORY], values[12]))
    return results
