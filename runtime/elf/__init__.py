"""Reading ELF files (System V gABI, chapters 4 and 5): 32- and 64-bit, either byte order."""

from __future__ import annotations

from runtime.elf.reader import (
    ElfError,
    ElfFile,
    Section,
    Segment,
    Symbol,
    open_elf,
    parse_elf,
)

__all__ = ["ElfError", "ElfFile", "Section", "Segment", "Symbol", "open_elf", "parse_elf"]
