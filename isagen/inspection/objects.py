"""What lies where in a running program: the files that are mapped, their symbols, their source lines."""

from __future__ import annotations

import bisect
import os
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from runtime.elf import ElfFile, parse_elf
from runtime.elf import constants as c
from runtime.errors import IsagenError

if TYPE_CHECKING:
    from runtime.linux.process import Process

MAX_LINES = 1 << 22
"""Rows of a file's line table that are taken."""


class Function(NamedTuple):
    """A function of a file: addresses as they are in memory."""

    start: int
    size: int
    name: str


class Row(NamedTuple):
    """From `address` on (in memory), code of this line; `file` is "" where it belongs to none."""

    address: int
    file: str
    line: int


class MappedFile:
    """An ELF file whose addresses lie `bias` higher in memory."""

    def __init__(self, name: str, data: bytes, bias: int) -> None:
        self.name = name
        self.bias = bias
        self.elf: ElfFile = parse_elf(data, name)
        self._data = data

    @cached_property
    def functions(self) -> list[Function]:
        """Functions, and other labels in code where there are no functions, by address."""
        kinds = (c.STT_FUNC, c.STT_NOTYPE)
        best: dict[int, tuple[int, int, str]] = {}
        for symbol in self.elf.symbols():
            if symbol.section == c.SHN_UNDEF or symbol.type not in kinds or not symbol.name:
                continue
            if symbol.name[0] in "$." or symbol.section >= c.SHN_LORESERVE:
                continue
            if symbol.type == c.STT_NOTYPE and not self._is_code(symbol.value):
                continue
            # A function rather than a label, a global name rather than a local one.
            rank = (symbol.type == c.STT_FUNC) * 2 + (symbol.binding != c.STB_LOCAL)
            if symbol.value not in best or best[symbol.value][0] < rank:
                best[symbol.value] = (rank, symbol.size, symbol.name)
        return [
            Function(address + self.bias, size, name) for address, (_, size, name) in sorted(best.items())
        ]

    def _is_code(self, address: int) -> bool:
        return any(
            segment.flags & c.PF_X and segment.address <= address < segment.address + segment.memory_size
            for segment in self.elf.segments
            if segment.type == c.PT_LOAD
        )

    @cached_property
    def _starts(self) -> list[int]:
        return [function.start for function in self.functions]

    def function_at(self, address: int) -> Function | None:
        """The function that holds an address, or the last label before it in its stretch of labels without
        size.
        """
        index = bisect.bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        found = self.functions[index]
        return found if not found.size or address < found.start + found.size else None

    @cached_property
    def dwarf(self) -> Any:
        """pyelftools' DWARFInfo, or None."""
        import io

        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile

        try:
            file = ELFFile(io.BytesIO(self._data))
            return file.get_dwarf_info() if file.has_dwarf_info(strict=False) else None
        except (ELFError, ValueError, KeyError, AssertionError, UnicodeDecodeError):
            return None

    @cached_property
    def rows(self) -> list[Row]:
        """The line table, by address. Empty where the file has none (or a damaged one)."""
        dwarf = self.dwarf
        found: list[Row] = []
        if dwarf is None:
            return found
        try:
            for unit in dwarf.iter_CUs():
                program = dwarf.line_program_for_CU(unit)
                if program is not None:
                    self._take(found, unit, program)
                if len(found) > MAX_LINES:
                    break
        except Exception:  # whatever damaged debugging data does to pyelftools
            found.clear()
        found.sort(key=lambda row: (row.address, not row.file))
        unique: list[Row] = []
        for row in found:
            if unique and unique[-1].address == row.address:
                if not row.file:
                    continue
                unique[-1] = row
            else:
                unique.append(row)
        return unique

    def _take(self, found: list[Row], unit: Any, program: Any) -> None:
        names = _file_names(unit, program)
        for entry in program.get_entries():
            state = entry.state
            if state is None:
                continue
            address = state.address + self.bias
            if state.end_sequence:
                found.append(Row(address, "", 0))
            else:
                found.append(Row(address, names.get(state.file, "?"), state.line))

    @cached_property
    def _row_addresses(self) -> list[int]:
        return [row.address for row in self.rows]

    def line_at(self, address: int) -> Row | None:
        """The source line that an address belongs to."""
        index = bisect.bisect_right(self._row_addresses, address) - 1
        if index < 0 or not self.rows[index].file or not self.rows[index].line:
            return None
        return self.rows[index]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _file_names(unit: Any, program: Any) -> dict[int, str]:
    """Whole paths by the numbers that a line program uses for files (DWARF 5, 6.2.4: from 0; before: from
    1).
    """
    top = unit.get_top_DIE()
    directory = _text(top.attributes["DW_AT_comp_dir"].value) if "DW_AT_comp_dir" in top.attributes else ""
    header = program.header
    modern = header["version"] >= 5
    folders = [_text(folder) for folder in header["include_directory"]]
    if not modern:
        folders.insert(0, directory)
    names = {}
    for position, entry in enumerate(header["file_entry"]):
        folder = folders[entry.dir_index] if entry.dir_index < len(folders) else ""
        path = os.path.join(directory, folder, _text(entry.name))  # noqa: PTH118 - a guest's path
        names[position if modern else position + 1] = os.path.normpath(path)
    return names


class MappedFiles:
    """The files mapped by a process, opened when something in them is asked for."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._known: dict[tuple[str, int], MappedFile | None] = {}

    def at(self, address: int) -> MappedFile | None:
        """The file that code at an address comes from."""
        area = self.process.memory.find(address)
        if area is None or not area.name or area.name.startswith("["):
            return None
        start = area.start - area.offset
        key = (area.name, start)
        if key not in self._known:
            self._known[key] = self._open(area.name, area.start, area.offset)
        return self._known[key]

    def _open(self, name: str, start: int, offset: int) -> MappedFile | None:
        try:
            with self._file(name) as file:
                found = MappedFile(name, file.read(), 0)
        except (OSError, IsagenError):
            return None
        page = self.process.memory.page_size
        for segment in found.elf.segments:
            if segment.type == c.PT_LOAD and segment.offset // page * page <= offset < (
                segment.offset + max(segment.file_size, 1)
            ):
                found.bias = start - offset - (segment.address - segment.offset)
                break
        return found

    def _file(self, name: str) -> IO[bytes]:
        descriptor = self.process.namespace.open(None, os.fsencode(name), os.O_RDONLY, 0)
        return os.fdopen(descriptor, "rb")

    def function_at(self, address: int) -> Function | None:
        file = self.at(address)
        return None if file is None else file.function_at(address)

    def line_at(self, address: int) -> Row | None:
        file = self.at(address)
        return None if file is None else file.line_at(address)

    def name_at(self, address: int) -> str:
        """The function at an address, or the file in brackets."""
        file = self.at(address)
        if file is None:
            return "[unknown]"
        function = file.function_at(address)
        return function.name if function else f"[{os.path.basename(file.name)}]"  # noqa: PTH119

    def label(self, address: int) -> str | None:
        """``name+0x10`` for an address in code with a name."""
        function = self.function_at(address)
        if function is None:
            return None
        distance = address - function.start
        return function.name + (f"+{distance:#x}" if distance else "")
