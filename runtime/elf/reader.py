"""A bounds-checked reader of ELF files.

Every offset and size is checked against the file's real size before anything is read, so that memory used is
bounded by what the file holds. A malformed file gives one `ElfError` that names the field and its offset in
the file.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

from runtime.elf import constants as c
from runtime.errors import IsagenError

MAX_SEGMENTS = 4096
"""More program headers than this are refused (linkers write about ten)."""


class ElfError(IsagenError):
    """A file that isn't ELF, or a malformed one; `where` says file, field and offset."""


class Source(Protocol):
    """The bytes of a file."""

    name: str
    size: int

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`; the caller has checked that they lie inside."""
        ...


class BytesSource:
    """A file held in memory."""

    def __init__(self, data: bytes, name: str = "ELF image") -> None:
        self.name = name
        self.size = len(data)
        self._data = data

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._data[offset : offset + size])


class FileSource:
    """A file on disk, read piece by piece through its own descriptor. `name`: to call it so in messages."""

    def __init__(self, path: str | os.PathLike[str], name: str | None = None) -> None:
        self._descriptor = -1
        self.name = os.fspath(path) if name is None else name
        # O_NONBLOCK: opening a FIFO must not hang.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise ElfError("not a regular file", where=self.name)
        self.size = status.st_size

    def read(self, offset: int, size: int) -> bytes:
        parts = []
        while size:
            part = os.pread(self._descriptor, min(size, 1 << 20), offset)
            if not part:
                raise ElfError("the file became shorter while it was read", where=self.name)
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def duplicate(self) -> int:
        """Another descriptor of the file, the caller's."""
        return os.dup(self._descriptor)

    def close(self) -> None:
        """Give the descriptor back; also done when nobody holds the source any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


class Segment(NamedTuple):
    """A program header: `file_size` bytes at `offset` of the file belong at `address`, `memory_size` bytes
    in all.
    """

    type: int
    flags: int
    offset: int
    address: int
    physical: int
    file_size: int
    memory_size: int
    alignment: int

    @property
    def end(self) -> int:
        return self.address + self.memory_size


class Section(NamedTuple):
    """A section header."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    entry_size: int


class Symbol(NamedTuple):
    """A symbol: its value (an address in executables), its size in bytes (0: unknown)."""

    name: str
    value: int
    size: int
    type: int
    binding: int
    section: int


class ElfFile:
    """An ELF file's headers; contents are read on demand."""

    def __init__(
        self,
        source: Source,
        bits: int,
        little_endian: bool,
        type: int,
        machine: int,
        flags: int,
        entry: int,
        segments: tuple[Segment, ...],
        header_offset: int,
        header_size: int,
        _sections_at: tuple[int, int, int, int],
    ) -> None:
        self.source = source
        self.bits = bits
        self.little_endian = little_endian
        self.type = type
        self.machine = machine
        self.flags = flags
        self.entry = entry
        self.segments = segments
        self.header_offset = header_offset
        self.header_size = header_size
        self._sections_at = _sections_at

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def order(self) -> str:
        """The byte order as `struct` writes it."""
        return "<" if self.little_endian else ">"

    @property
    def machine_name(self) -> str:
        return c.MACHINE_NAMES.get(self.machine, f"machine {self.machine}")

    def fail(self, what: str, place: str, offset: int) -> ElfError:
        return ElfError(what, where=f"{self.name}: {place} at offset {offset:#x}")

    def read(self, offset: int, size: int, place: str) -> bytes:
        """`size` bytes of the file at `offset`; `ElfError` naming `place` if they don't lie inside."""
        if offset < 0 or size < 0 or offset + size > self.source.size:
            raise self.fail(f"it has {size} bytes, but the file ends at {self.source.size:#x}", place, offset)
        return self.source.read(offset, size)

    def segment_data(self, segment: Segment) -> bytes:
        """The part of a segment that the file holds."""
        return self.read(segment.offset, segment.file_size, f"segment for address {segment.address:#x}")

    @cached_property
    def interpreter(self) -> str | None:
        """The path of the dynamic linker that the program asks for."""
        for segment in self.segments:
            if segment.type == c.PT_INTERP:
                if not 2 <= segment.file_size <= 4096:
                    raise self.fail(
                        f"an interpreter's path of {segment.file_size} bytes", "PT_INTERP", segment.offset
                    )
                return os.fsdecode(self.segment_data(segment).split(b"\0")[0])
        return None

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """The section headers (none in a stripped-down file)."""
        offset, count, entry_size, names_index = self._sections_at
        if offset == 0:
            return ()
        layout = "IIQQQQIIQQ" if self.bits == 64 else "IIIIIIIIII"
        size = struct.calcsize(self.order + layout)
        if entry_size != size:
            raise self.fail(f"e_shentsize is {entry_size}, not {size}", "section headers", offset)
        unpack = struct.Struct(self.order + layout).unpack
        first = unpack(self.read(offset, size, "section header 0"))
        if count == 0:
            count = first[5]
        if names_index == c.SHN_XINDEX:
            names_index = first[6]
        data = self.read(offset, count * size, f"{count} section headers")
        rows = [unpack(data[i : i + size]) for i in range(0, len(data), size)]
        names = b""
        if names_index and names_index < len(rows):
            row = rows[names_index]
            names = self.read(row[4], row[5], "section names")
        return tuple(
            Section(text_at(names, row[0]), row[1], row[2], row[3], row[4], row[5], row[6], row[7], row[9])
            for row in rows
        )

    def symbols(self) -> Iterator[Symbol]:
        """The symbols of the symbol table; of the dynamic symbol table where there is no other."""
        tables = [s for s in self.sections if s.type == c.SHT_SYMTAB] or [
            s for s in self.sections if s.type == c.SHT_DYNSYM
        ]
        size = 24 if self.bits == 64 else 16
        layout = struct.Struct(self.order + ("IBBHQQ" if self.bits == 64 else "IIIBBH"))
        for table in tables:
            if table.entry_size not in (0, size):
                raise self.fail(f"symbols of {table.entry_size} bytes, not {size}", table.name, table.offset)
            if table.link >= len(self.sections):
                raise self.fail(f"sh_link {table.link} is no section", table.name, table.offset)
            strings = self.sections[table.link]
            names = self.read(strings.offset, strings.size, "symbol names")
            data = self.read(table.offset, table.size // size * size, "symbol table")
            for row in layout.iter_unpack(data):
                if self.bits == 64:
                    name, info, _, section, value, length = row
                else:
                    name, value, length, info, _, section = row
                yield Symbol(text_at(names, name), value, length, info & 15, info >> 4, section)

    @cached_property
    def symbol_values(self) -> dict[str, int]:
        """Values of the defined symbols, by name; a global one wins over a local one of the same name."""
        values: dict[str, int] = {}
        strong: set[str] = set()
        for symbol in self.symbols():
            if symbol.section == c.SHN_UNDEF or not symbol.name or symbol.name in strong:
                continue
            values[symbol.name] = symbol.value
            if symbol.binding != c.STB_LOCAL:
                strong.add(symbol.name)
        return values


def text_at(table: bytes, offset: int) -> str:
    """The zero-terminated string at `offset` of a string table; empty where the offset lies outside."""
    if offset >= len(table):
        return ""
    end = table.find(b"\0", offset)
    return table[offset : end if end >= 0 else len(table)].decode("utf-8", "backslashreplace")


def open_elf(path: str | os.PathLike[str]) -> ElfFile:
    """Read the headers of the ELF file at `path`.

    Raises `ElfError` for what isn't a well-formed ELF file, `OSError` for what can't be opened.
    """
    if Path(path).is_dir():
        raise ElfError("it is a directory, not a program", where=os.fspath(path))
    return parse(FileSource(path))


def parse_elf(data: bytes, name: str = "ELF image") -> ElfFile:
    """Read the headers of an ELF file in memory. Raises `ElfError`."""
    return parse(BytesSource(data, name))


def parse(source: Source) -> ElfFile:
    if source.size < 20 or source.read(0, 4) != b"\x7fELF":
        raise ElfError("not an ELF file", where=source.name)
    ident = source.read(0, 16)
    if ident[4] not in (1, 2):
        raise ElfError(
            f"class {ident[4]}, which is neither 32-bit (1) nor 64-bit (2)",
            where=f"{source.name}: EI_CLASS at offset 0x4",
        )
    if ident[5] not in (1, 2):
        raise ElfError(
            f"data encoding {ident[5]}, which is neither little-endian (1) nor big-endian (2)",
            where=f"{source.name}: EI_DATA at offset 0x5",
        )
    bits = 64 if ident[4] == 2 else 32
    order = "<" if ident[5] == 1 else ">"
    layout = struct.Struct(order + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH"))
    if source.size < 16 + layout.size:
        raise ElfError(
            f"the file has {source.size} bytes, fewer than an ELF header", where=f"{source.name}: header"
        )
    (kind, machine, version, entry, segments_at, sections_at, flags, header_size, segment_size, segment_count,
     section_size, section_count, names_index) = layout.unpack(source.read(16, layout.size))  # fmt: skip
    elf = ElfFile(
        source=source,
        bits=bits,
        little_endian=order == "<",
        type=kind,
        machine=machine,
        flags=flags,
        entry=entry,
        segments=(),
        header_offset=segments_at,
        header_size=segment_size,
        _sections_at=(sections_at, section_count, section_size, names_index),
    )
    if version != 1:
        raise elf.fail(f"version {version}, not 1", "e_version", 0x14)
    if header_size < 16 + layout.size:
        raise elf.fail(f"{header_size} bytes, fewer than the header has", "e_ehsize", 4 + layout.size)
    if segment_count == c.PN_XNUM and sections_at:
        segment_count = elf.sections[0].info if elf.sections else 0
    elf.segments = read_segments(elf, segments_at, segment_count, segment_size)
    return elf


def read_segments(elf: ElfFile, offset: int, count: int, entry_size: int) -> tuple[Segment, ...]:
    if count == 0 or offset == 0:
        return ()
    layout = struct.Struct(elf.order + ("IIQQQQQQ" if elf.bits == 64 else "IIIIIIII"))
    if entry_size != layout.size:
        raise elf.fail(f"e_phentsize is {entry_size}, not {layout.size}", "program headers", offset)
    if count > MAX_SEGMENTS:
        raise elf.fail(f"{count} program headers, more than {MAX_SEGMENTS}", "program headers", offset)
    data = elf.read(offset, count * entry_size, f"{count} program headers")
    segments = []
    limit = 1 << elf.bits
    for number, row in enumerate(layout.iter_unpack(data)):
        if elf.bits == 64:
            kind, flags, start, address, physical, file_size, memory_size, alignment = row
        else:
            kind, start, address, physical, file_size, memory_size, flags, alignment = row
        segment = Segment(kind, flags, start, address, physical, file_size, memory_size, alignment)
        place, at = f"program header {number}", offset + number * entry_size
        if kind in (c.PT_LOAD, c.PT_INTERP, c.PT_TLS) and file_size and start + file_size > elf.source.size:
            raise elf.fail(
                f"p_offset {start:#x} + p_filesz {file_size:#x} lies beyond the file's end "
                f"({elf.source.size:#x})",
                place,
                at,
            )
        if kind == c.PT_LOAD:
            if file_size > memory_size:
                raise elf.fail(f"p_filesz {file_size:#x} is more than p_memsz {memory_size:#x}", place, at)
            if address + memory_size > limit:
                raise elf.fail(
                    f"p_vaddr {address:#x} + p_memsz {memory_size:#x} is beyond the address space", place, at
                )
            if alignment & (alignment - 1):
                raise elf.fail(f"p_align {alignment:#x} is not a power of two", place, at)
            if alignment > 1 and (address - start) % alignment:
                raise elf.fail(
                    f"p_vaddr {address:#x} and p_offset {start:#x} differ modulo p_align {alignment:#x}",
                    place,
                    at,
                )
        segments.append(segment)
    return tuple(segments)
