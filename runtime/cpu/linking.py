"""Object files to an image (`runtime.cpu.image`): a small linker for what LLVM makes of our modules.

It knows what such code needs on x86-64 (System V ABI, AMD64 supplement, 4.4 "Relocation"): relative
references of 32 bits and tables of absolute addresses. `link` raises `LinkError` for all else, and on other
hosts: LLVM's own loader takes the object files there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from runtime.cpu.image import HEADER, MAGIC, PAGE

_ELF64_LITTLE: Final = b"\x7fELF\x02\x01\x01"
_RELOCATABLE: Final = 1
_X86_64: Final = 62
_SYMBOLS, _RELOCATIONS, _NO_BITS = 2, 4, 8
_WRITE, _ALLOCATED = 1, 2
_ABSOLUTE64, _RELATIVE32, _CALL32 = 1, 2, 4
_LOCAL: Final = 0
_UNDEFINED, _ABSOLUTE_SECTION, _COMMON = 0, 0xFFF1, 0xFFF2
_FRAMES: Final = ".eh_frame"
"""What unwinders read: nothing unwinds our code."""
_CONSTANT: Final = ".data.rel.ro"
"""The only section that is written, once, when it is relocated."""
_TRAMPOLINE: Final = 16


class LinkError(Exception):
    """An object file holds what this linker doesn't know."""


@dataclass(slots=True)
class _Section:
    name: str
    data: bytes
    size: int
    alignment: int
    relocations: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Place in the section, kind, symbol's index, addend."""
    offset: int = 0
    """In the image."""

    @property
    def relocated(self) -> bool:
        """Whether addresses of this process have to be written into it."""
        return any(kind == _ABSOLUTE64 for _, kind, _, _ in self.relocations)


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: str
    binding: int
    section: int
    value: int


@dataclass(slots=True)
class _Object:
    sections: dict[int, _Section]
    symbols: list[_Symbol]


def _text(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()


def _read(data: bytes) -> _Object:
    """An ELF relocatable file's sections and symbols."""
    if len(data) < 64 or not data.startswith(_ELF64_LITTLE):
        raise LinkError("not an ELF object file")
    kind, machine = struct.unpack_from("<HH", data, 16)
    if (kind, machine) != (_RELOCATABLE, _X86_64):
        raise LinkError("not a relocatable file for x86-64")
    (start,) = struct.unpack_from("<Q", data, 40)
    size, count, names_at = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, start + size * n) for n in range(count)]

    def content(number: int) -> bytes:
        _, _, _, _, offset, length, *_ = headers[number]
        return data[offset : offset + length]

    names = content(names_at)
    sections: dict[int, _Section] = {}
    for number, (name_at, kind, flags, _, _, length, _, _, alignment, _) in enumerate(headers):
        name = _text(names, name_at)
        if not flags & _ALLOCATED or name == _FRAMES or not length:
            continue
        if flags & _WRITE and not name.startswith(_CONSTANT):
            raise LinkError(f"section {name} can be written")
        bits = bytes(length) if kind == _NO_BITS else content(number)
        sections[number] = _Section(name, bits, length, max(alignment, 1))
    symbols: list[_Symbol] = []
    for number, (_, kind, _, _, _, _, link, info, _, _) in enumerate(headers):
        if kind == _SYMBOLS:
            texts = content(link)
            for name_at, mark, _, section, value, _ in struct.iter_unpack("<IBBHQQ", content(number)):
                symbols.append(_Symbol(_text(texts, name_at), mark >> 4, section, value))
        elif kind == _RELOCATIONS and info in sections:
            for place, what, addend in struct.iter_unpack("<QQq", content(number)):
                sections[info].relocations.append((place, what & 0xFFFFFFFF, what >> 32, addend))
    return _Object(sections, symbols)


def _placed(sections: Iterable[_Section], start: int) -> int:
    """Give sections their places from `start` on; where they end, at a page's start."""
    for section in sections:
        start = -(-start // section.alignment) * section.alignment
        section.offset = start
        start += section.size
    return -(-start // PAGE) * PAGE


class _Linker:
    def __init__(self, objects: Sequence[_Object]) -> None:
        self.objects = objects
        self.defined: dict[str, int] = {}
        """Offsets of symbols that other objects see."""
        every = [section for each in objects for section in each.sections.values()]
        relocated = [section for section in every if section.relocated]
        imports = self._imports()
        first = HEADER.size + _TRAMPOLINE * len(imports)
        self.code_size = _placed([section for section in every if not section.relocated], first)
        slots = self.code_size
        end = _placed(relocated, slots + 8 * len(imports))
        self.data_size = end - self.code_size
        self.image = bytearray(end)
        self.relocations: list[int] = []
        for each in objects:
            for symbol in each.symbols:
                if symbol.binding != _LOCAL and symbol.section in each.sections:
                    if symbol.name in self.defined:
                        raise LinkError(f"{symbol.name} is defined twice")
                    self.defined[symbol.name] = each.sections[symbol.section].offset + symbol.value
        self.exported = dict(self.defined)
        self.slots = {name: slots + 8 * number for number, name in enumerate(imports)}
        for number, name in enumerate(imports):  # jmp *slot(%rip)
            place = HEADER.size + _TRAMPOLINE * number
            self.image[place : place + 6] = b"\xff\x25" + struct.pack("<i", self.slots[name] - place - 6)
            self.defined[name] = place

    def _imports(self) -> list[str]:
        names = {s.name for each in self.objects for s in each.symbols if s.section in each.sections}
        return sorted(
            {
                symbol.name
                for each in self.objects
                for section in each.sections.values()
                for _, _, number, _ in section.relocations
                if (symbol := each.symbols[number]).section == _UNDEFINED and symbol.name not in names
            }
        )

    def _address(self, each: _Object, number: int) -> int:
        symbol = each.symbols[number]
        if symbol.section in each.sections:
            return each.sections[symbol.section].offset + symbol.value
        if symbol.section == _UNDEFINED:
            return self.defined[symbol.name]
        raise LinkError(f"{symbol.name or 'a symbol'} lies where nothing is loaded")

    def link(self) -> None:
        for each in self.objects:
            for section in each.sections.values():
                self.image[section.offset : section.offset + section.size] = section.data
                for place, kind, number, addend in section.relocations:
                    self._relocate(section.offset + place, kind, self._address(each, number) + addend)

    def _relocate(self, place: int, kind: int, value: int) -> None:
        if kind == _ABSOLUTE64:
            if place % 8:
                raise LinkError("an address that isn't aligned")
            struct.pack_into("<q", self.image, place, value)
            self.relocations.append(place)
        elif kind in (_RELATIVE32, _CALL32):
            struct.pack_into("<i", self.image, place, value - place)
        else:
            raise LinkError(f"relocation of kind {kind}")


def link(objects: Sequence[bytes], exported: Callable[[str], bool]) -> bytes:
    """The image of object files; symbols that are `exported` can be found in it. Raises LinkError."""
    try:
        linker = _Linker([_read(data) for data in objects])
        linker.link()
    except (struct.error, IndexError, KeyError, ValueError) as error:
        raise LinkError(f"a damaged object file: {error}") from error
    symbols = {name: offset for name, offset in sorted(linker.exported.items()) if exported(name)}
    names = "\n".join([*symbols, *linker.slots]).encode()
    numbers = [*sorted(linker.relocations), *symbols.values(), *linker.slots.values()]
    HEADER.pack_into(
        linker.image, 0, MAGIC, linker.code_size, linker.data_size, len(linker.relocations), len(symbols),
        len(linker.slots), len(names),
    )  # fmt: skip
    return bytes(linker.image) + struct.pack(f"<{len(numbers)}I", *numbers) + names
