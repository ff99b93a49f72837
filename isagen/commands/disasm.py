"""Disassemble an executable's code, or raw bytes.

Takes an ELF file (its target is detected), a raw file (--raw TARGET) or bytes in hexadecimal (--hex TARGET).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from isagen import colors
from isagen.generated import folder_of, is_built, load_syntax
from isagen.listing import lines
from isagen.options import number
from runtime.errors import IsagenError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", nargs="+", help="a file; with --hex: bytes, in memory order")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--raw", metavar="TARGET", help="the file is raw code of this target")
    kind.add_argument("--hex", metavar="TARGET", help="the arguments are code of this target in hexadecimal")
    kind.add_argument(
        "--target", metavar="TARGET", help="of an ELF file (default: by the file), such as riscv64_madd"
    )
    parser.add_argument("--base", type=number, metavar="ADDRESS", default=0, help="address of raw code")
    parser.add_argument(
        "--symbol", action="append", default=[], metavar="NAME", help="only this function of an ELF file"
    )
    parser.add_argument(
        "--color", choices=colors.CHOICES, default="auto", help="colours (default: on a terminal)"
    )
    parser.add_argument("--syntax", default="", metavar="DIALECT", help="the dialect to print (x86: att)")


def run(arguments: argparse.Namespace) -> int:
    painted = colors.wanted(arguments.color)
    if arguments.symbol and (arguments.hex or arguments.raw):
        raise IsagenError("--symbol is for ELF files")
    if arguments.hex:
        text = "".join(arguments.input).replace(",", "")
        try:
            data = bytes.fromhex(text)
        except ValueError:
            raise IsagenError(f"{text!r} isn't a sequence of bytes in hexadecimal") from None
        show(arguments.hex, data, arguments.base, {}, arguments.syntax, painted)
        return 0
    for name in arguments.input:
        if arguments.raw:
            show(arguments.raw, Path(name).read_bytes(), arguments.base, {}, arguments.syntax, painted)
        else:
            show_elf(name, arguments.target, arguments.syntax, arguments.symbol, painted)
    return 0


def show(target: str, data: bytes, address: int, labels: dict[int, str], dialect: str, painted: bool) -> None:
    for line in lines(load_syntax(target), data, address, labels, dialect):
        sys.stdout.write((colors.paint(line) if painted else line) + "\n")


def show_elf(name: str, target: str | None, dialect: str, wanted: list[str], painted: bool) -> None:
    """The executable sections, or segments where there are no sections; or only the functions `wanted`.

    `target`: None for the file's own.
    """
    from runtime.elf import constants as c
    from runtime.elf import open_elf
    from runtime.linux.abi import for_elf

    elf = open_elf(name)
    if target is None:
        targets = for_elf(elf).targets
        target = next((t for t in targets if is_built(t)), targets[0])
    folder_of(target)
    if load_syntax(target).elf_machine != elf.machine:
        raise IsagenError(f"the file isn't for {target}", where=name, remedy="leave --target out")
    symbols = [
        symbol
        for symbol in elf.symbols()
        if symbol.section != c.SHN_UNDEF
        and symbol.type <= c.STT_FUNC
        and symbol.name
        and symbol.name[0] != "$"
    ]
    labels = {symbol.value: symbol.name for symbol in symbols}
    parts = [
        (section.name, section.address, section.offset, section.size)
        for section in elf.sections
        if section.flags & c.SHF_EXECINSTR and section.type != c.SHT_NOBITS
    ] or [
        ("segment", segment.address, segment.offset, segment.file_size)
        for segment in elf.segments
        if segment.type == c.PT_LOAD and segment.flags & c.PF_X
    ]
    if not wanted:
        for title, address, offset, size in parts:
            print(f"{title}:")
            show(target, elf.read(offset, size, title), address, labels, dialect, painted)
        return
    starts = sorted(labels)
    for function in wanted:
        found = [symbol for symbol in symbols if symbol.name == function]
        if not found:
            raise IsagenError(f"there is no symbol {function!r}", where=name)
        begin = found[0].value
        for title, address, offset, size in parts:
            if address <= begin < address + size:
                behind = min((start for start in starts if start > begin), default=address + size)
                length = min(found[0].size or behind - begin, address + size - begin)
                code = elf.read(offset + begin - address, length, title)
                show(target, code, begin, labels, dialect, painted)
                break
        else:
            raise IsagenError(f"{function!r} isn't in code", where=name)
