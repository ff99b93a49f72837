"""Writing ELF executables: sections with addresses and contents, and symbols (System V gABI, chapters 4
and 5).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from runtime.elf import constants as c


@dataclass(frozen=True, slots=True)
class OutputSection:
    """A section to write: `flags` are `SHF_*`; `data` None means `size` zero bytes that take no room in
    the file.
    """

    name: str
    flags: int
    address: int
    size: int
    data: bytes | None


class StringTable:
    """A section of zero-terminated strings."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._known = {"": 0}

    def add(self, text: str) -> int:
        """The offset of `text`."""
        if text not in self._known:
            self._known[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self._known[text]


def write_executable(
    sections: Sequence[OutputSection],
    *,
    bits: int,
    little_endian: bool,
    machine: int,
    entry: int,
    flags: int = 0,
    symbols: Mapping[str, int] | None = None,
    global_symbols: AbstractSet[str] = frozenset(),
    page: int = 0x1000,
) -> bytes:
    """An executable (ET_EXEC) with a segment for each allocated section, and a symbol table.

    File offsets and addresses agree modulo `page`, so that systems can map the segments.
    """
    order = "<" if little_endian else ">"
    wide = bits == 64
    header_size, segment_size, row_size = (64, 56, 64) if wide else (52, 32, 40)
    loaded = [s for s in sections if s.flags & c.SHF_ALLOC and s.size]
    body = bytearray(header_size + segment_size * len(loaded))
    offsets: list[int] = []
    for section in sections:
        step = page if section.flags & c.SHF_ALLOC else 8
        body += bytes((section.address - len(body)) % step)
        offsets.append(len(body))
        if section.data is not None:
            body += section.data

    names = StringTable()
    strings = StringTable()
    table = bytearray(24 if wide else 16)
    local_count = 1
    listed = sorted((symbols or {}).items(), key=lambda item: (item[0] in global_symbols, item[1], item[0]))
    for name, value in listed:
        binding = c.STB_GLOBAL if name in global_symbols else c.STB_LOCAL
        local_count += binding == c.STB_LOCAL
        index = next(
            (
                n
                for n, s in enumerate(sections, 1)
                if s.flags & c.SHF_ALLOC and s.address <= value <= s.address + s.size
            ),
            c.SHN_ABS,
        )
        info = binding << 4 | c.STT_NOTYPE
        value &= (1 << bits) - 1
        if wide:
            table += struct.pack(order + "IBBHQQ", strings.add(name), info, 0, index, value, 0)
        else:
            table += struct.pack(order + "IIIBBH", strings.add(name), value, 0, info, 0, index)

    rows: list[tuple[int, ...]] = [(0,) * 10]
    for section, offset in zip(sections, offsets, strict=True):
        kind = c.SHT_NOBITS if section.data is None else c.SHT_PROGBITS
        rows.append(
            (names.add(section.name), kind, section.flags, section.address, offset, section.size, 0, 0, 1, 0)
        )
    strings_index = len(sections) + 2
    for name, kind, data, link, info, entry_size in (
        (".symtab", c.SHT_SYMTAB, table, strings_index, local_count, 24 if wide else 16),
        (".strtab", c.SHT_STRTAB, strings.data, 0, 0, 0),
        (".shstrtab", c.SHT_STRTAB, names.data, 0, 0, 0),
    ):
        label = names.add(name)
        body += bytes(-len(body) % 8)
        rows.append((label, kind, 0, 0, len(body), len(data), link, info, 8, entry_size))
        body += data
    body += bytes(-len(body) % 8)
    rows_at = len(body)
    for row in rows:
        body += struct.pack(order + ("IIQQQQIIQQ" if wide else "IIIIIIIIII"), *row)

    for number, section in enumerate(loaded):
        offset = offsets[sections.index(section)]
        in_file = 0 if section.data is None else section.size
        permissions = (
            c.PF_R
            | (c.PF_W if section.flags & c.SHF_WRITE else 0)
            | (c.PF_X if section.flags & c.SHF_EXECINSTR else 0)
        )
        place = header_size + segment_size * number
        if wide:
            values = (
                c.PT_LOAD,
                permissions,
                offset,
                section.address,
                section.address,
                in_file,
                section.size,
                page,
            )
        else:
            values = (
                c.PT_LOAD,
                offset,
                section.address,
                section.address,
                in_file,
                section.size,
                permissions,
                page,
            )
        struct.pack_into(order + ("IIQQQQQQ" if wide else "IIIIIIII"), body, place, *values)

    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if little_endian else 2, 1]) + bytes(9)
    layout = order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    header = struct.pack(
        layout, c.ET_EXEC, machine, 1, entry, header_size, rows_at, flags,
        header_size, segment_size, len(loaded), row_size, len(rows), len(rows) - 1,
    )  # fmt: skip
    body[: len(ident) + len(header)] = ident + header
    return bytes(body)
