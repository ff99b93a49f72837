"""Single SPARC instructions under qemu-user, many in one program.

Each case loads eight registers, Y and the condition codes from a table, executes one word and what stands in
its delay slot, and stores them again; a block of memory belongs to each. A branch goes `TAKEN` bytes behind
the word. V8's codes are set by an addition and read by branches: user mode has no instruction for either.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BASE, TABLE = 0x10_0000, 0x800_0000
STRIDE, FIRST = 512, 256
SETUP = 4 * (2 + 4 + 8 + 2)  # bytes of a case before the word
TAKEN = 16
MEMORY = 64
INPUTS = OUTPUTS = 12
NAMES = ("g1", "g2", "g3", "g4", "o0", "o1", "l0", "l1")
# V8: NZVC and two numbers whose sum sets it. N and Z together, and others, cannot be had.
ADDENDS = {
    0b0000: (1, 1),
    0b0001: (5, 0xFFFF_FFFF),
    0b0011: (0x8000_0000, 0x8000_0001),
    0b0100: (0, 0),
    0b0101: (1, 0xFFFF_FFFF),
    0b0111: (0x8000_0000, 0x8000_0000),
    0b1000: (0xFFFF_FFFB, 1),
    0b1001: (0xFFFF_FFFF, 0xFFFF_FFFF),
    0b1010: (0x7FFF_FFFF, 1),
}


@dataclass
class Case:
    """A word and the state before it, or after it. `codes`: NZVC, V9: xcc on top of icc.

    `path`: 1 the delay slot ran, 2 the branch was taken. `o7` is 0 before.
    """

    word: int
    registers: list[int]
    y: int
    codes: int
    memory: bytes
    path: int = 0
    o7: int = 0

    def compare(self, other: Case) -> list[str]:
        """What differs, for people."""
        pairs = [*zip(NAMES, self.registers, other.registers, strict=True)]
        pairs += [(name, getattr(self, name), getattr(other, name)) for name in ("y", "codes", "path", "o7")]
        found = [f"%{name} {a:#x}, the peer {b:#x}" for name, a, b in pairs if a != b]
        if self.memory != other.memory:
            found.append(f"memory {self.memory.hex()}, the peer {other.memory.hex()}")
        return found


def word_address(number: int) -> int:
    """Where case `number`'s word lies."""
    return BASE + FIRST + number * STRIDE + SETUP


def memory_address(number: int, size: int) -> int:
    """Where case `number`'s memory lies; `size` bytes a register."""
    return TABLE + number * (INPUTS * size + MEMORY) + INPUTS * size


def _program(size: int, words: Sequence[int]) -> str:
    load, store, trap = ("ld", "st", "ta 0x10") if size == 4 else ("ldx", "stx", "ta 0x6d")
    lines = [".register %g2, #scratch", ".register %g3, #scratch"] if size == 8 else []
    lines += [".text", ".globl _start", "_start:"]
    for symbol, register in (("input", "%i4"), ("output", "%i5")):
        lines += [f"sethi %hi({symbol}), {register}", f"or {register}, %lo({symbol}), {register}"]
    lines += ["ba case0", "nop"]
    for number, word in enumerate(words):
        lines += [f".org {FIRST + number * STRIDE}", f"case{number}:"]
        lines += [f"{load} [%i4 + {8 * size}], %g1", "wr %g1, 0, %y", f"{load} [%i4 + {9 * size}], %g1"]
        if size == 4:
            lines += [f"{load} [%i4 + {10 * size}], %g2", "addcc %g1, %g2, %g0", "nop"]
        else:
            lines += ["wr %g1, 0, %ccr", "nop", "nop"]
        lines += [f"{load} [%i4 + {place * size}], %{name}" for place, name in enumerate(NAMES)]
        lines += [
            "mov 0, %l7",
            "mov 0, %o7",
            f".word {word:#x}",
            "or %l7, 1, %l7",
            "ba 1f",
            "nop",
            "or %l7, 2, %l7",
        ]
        lines += ["1:", *(f"{store} %{name}, [%i5 + {place * size}]" for place, name in enumerate(NAMES))]
        lines += ["rd %y, %g1", f"{store} %g1, [%i5 + {8 * size}]"]
        if size == 4:
            lines += ["mov 0, %g1"]
            for name, bit in (("neg", 8), ("e", 4), ("vs", 2), ("cs", 1)):
                lines += [f"b{name},a 2f", f"or %g1, {bit}, %g1", "2:"]
        else:
            lines += ["rd %ccr, %g1"]
        lines += [f"{store} %g1, [%i5 + {9 * size}]", f"{store} %l7, [%i5 + {10 * size}]"]
        lines += [f"{store} %o7, [%i5 + {11 * size}]", f"add %i4, {INPUTS * size + MEMORY}, %i4"]
        lines += [f"add %i5, {OUTPUTS * size}, %i5", f"ba case{number + 1}", "nop"]
    lines.append(f"case{len(words)}:")
    for symbol, length in (("output", OUTPUTS * size), ("input", INPUTS * size + MEMORY)):
        total = len(words) * length
        lines += ["mov 4, %g1", "mov 1, %o0", f"sethi %hi({symbol}), %o1", f"or %o1, %lo({symbol}), %o1"]
        lines += [f"sethi %hi({total}), %o2", f"or %o2, %lo({total}), %o2", trap]
    lines += ["mov 1, %g1", "mov 0, %o0", trap, ".data", ".balign 16", 'input: .incbin "input.bin"']
    lines += [".balign 16", f"output: .space {len(words) * OUTPUTS * size}"]
    return "\n".join(lines) + "\n"


def run(target: str, cases: Sequence[Case], tools: dict[str, str], folder: Path) -> list[Case]:
    """The states after the cases. `tools`: paths of as, ld and qemu."""
    size, letter = (4, "I") if target == "sparc" else (8, "Q")
    table = b""
    for case in cases:
        codes = ADDENDS[case.codes] if size == 4 else (case.codes, 0)
        table += struct.pack(f">{INPUTS}{letter}", *case.registers, case.y, *codes, 0) + case.memory
    (folder / "input.bin").write_bytes(table)
    (folder / "a.s").write_text(_program(size, [case.word for case in cases]))
    options = ["-32", "-Av8"] if size == 4 else ["-64", "-Av9a"]
    subprocess.run([tools["as"], *options, "a.s", "-o", "a.o"], cwd=folder, check=True)
    model = "elf32_sparc" if size == 4 else "elf64_sparc"
    places = [f"-Ttext={BASE:#x}", f"-Tdata={TABLE:#x}"]
    subprocess.run([tools["ld"], "-m", model, *places, "a.o", "-o", "a"], cwd=folder, check=True)
    done = subprocess.run([tools["qemu"], "./a"], cwd=folder, capture_output=True, timeout=120, check=True)
    results = []
    for number, case in enumerate(cases):
        values = struct.unpack_from(f">{OUTPUTS}{letter}", done.stdout, number * OUTPUTS * size)
        at = len(cases) * OUTPUTS * size + memory_address(number, size) - TABLE
        y, codes, path, o7 = values[8:]
        results.append(Case(case.word, list(values[:8]), y, codes, done.stdout[at : at + MEMORY], path, o7))
    return results
