"""Bringing programs into an emulator's memory: ELF files, bytes, assembly; and text from code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from isagen.emulator.errors import EmulatorError
from isagen.generated import load_syntax
from runtime.memory.regions import EXECUTE, PAGE_SIZE, READ, WRITE

if TYPE_CHECKING:
    from isagen.emulator.state import State


def load_bytes(state: State, address: int, data: bytes, permissions: str | int) -> None:
    """See `Emulator.load`."""
    map_missing(state, address, len(data), permissions)
    if data:
        state.write(address, data)


def map_missing(state: State, address: int, size: int, permissions: str | int) -> None:
    """Map the pages of a range that aren't mapped yet."""
    page = address // PAGE_SIZE * PAGE_SIZE
    end = -(-(address + size) // PAGE_SIZE) * PAGE_SIZE
    while page < end:
        region = state.space.find(page)
        if region is not None:
            page = -(-region.end // PAGE_SIZE) * PAGE_SIZE
            continue
        stop = min([end, *(r.start // PAGE_SIZE * PAGE_SIZE for r in state.space if r.start > page)])
        state.map(page, stop - page, permissions)
        page = stop


def load_elf(state: State, path: str | os.PathLike[str], bias: int) -> int:
    """See `Emulator.load_elf`."""
    from isagen.emulator.conventions import target_fits
    from runtime.elf import constants as c
    from runtime.elf import open_elf

    elf = open_elf(path)
    target_fits(state.cpu.package, elf)
    letters = {c.PF_R: READ, c.PF_W: WRITE, c.PF_X: EXECUTE}
    if bias % PAGE_SIZE:
        raise EmulatorError(f"a bias of {bias:#x} isn't whole pages")
    wanted: dict[int, int] = {}
    segments = [segment for segment in elf.segments if segment.type == c.PT_LOAD and segment.memory_size]
    for segment in segments:
        state.check_range(segment.address + bias, segment.memory_size)
        bits = sum(ours for theirs, ours in letters.items() if segment.flags & theirs)
        first = (segment.address + bias) // PAGE_SIZE
        for page in range(first, -(-(segment.address + bias + segment.memory_size) // PAGE_SIZE)):
            wanted[page] = wanted.get(page, 0) | bits
    for start, count, bits in runs(wanted):
        state.map(start * PAGE_SIZE, count * PAGE_SIZE, bits)
    for segment in segments:
        state.write(segment.address + bias, elf.segment_data(segment))
    state.symbols.update({name: value + bias for name, value in elf.symbol_values.items()})
    state.sizes.update({symbol.name: symbol.size for symbol in elf.symbols() if symbol.size})
    return elf.entry + bias


def runs(pages: dict[int, int]) -> list[tuple[int, int, int]]:
    """Consecutive pages of the same permissions: first page, how many, permissions."""
    found: list[tuple[int, int, int]] = []
    for page, bits in sorted(pages.items()):
        if found and found[-1][0] + found[-1][1] == page and found[-1][2] == bits:
            found[-1] = (found[-1][0], found[-1][1] + 1, bits)
        else:
            found.append((page, 1, bits))
    return found


def load_assembly(state: State, text: str, address: int, dialect: str) -> dict[str, int]:
    """See `Emulator.load_assembly`."""
    from runtime.assembly.assembler import Assembler
    from runtime.assembly.program import Program

    syntax = load_syntax(state.cpu.package.directory.name)
    image = Program(Assembler(syntax, dialect), base=address).assemble(text, "<assembly>")
    for section in image.sections:
        if section.size:
            data = bytes(section.data) if section.contents else bytes(section.size)
            load_bytes(state, section.address, data, "rwx")
    state.symbols.update(image.symbols)
    state.pc = image.entry
    return dict(image.symbols)


def assemble(state: State, text: str, address: int, dialect: str) -> bytes:
    """See `Emulator.assemble`."""
    from runtime.assembly.assembler import Assembler
    from runtime.assembly.program import Program

    syntax = load_syntax(state.cpu.package.directory.name)
    image = Program(Assembler(syntax, dialect), base=address).assemble(text, "<assembly>")
    sections = [section for section in image.sections if section.size]
    if len(sections) > 1:
        raise EmulatorError("the text has several sections", remedy="load it with `load_assembly`")
    return bytes(sections[0].data) if sections else b""
