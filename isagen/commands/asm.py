"""Assemble a source file into a static executable, or into raw bytes.

Without a file the lines come from standard input. The executable's segments are the sections; the first
begins at --base.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from isagen.generated import load_syntax
from isagen.options import number
from runtime.errors import IsagenError

if TYPE_CHECKING:
    from runtime.assembly.program import Image
    from runtime.assembly.tables import Syntax

INTERMIXED = True
"""The source file may stand behind the options."""

# ELF header flags that say which calling convention a program follows, where systems look at them.
_ELF_FLAGS = {40: 0x0500_0000}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", help="a built target, such as riscv64")
    parser.add_argument("source", nargs="?", default="-", help="the source file (default: standard input)")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to write (default: a listing is printed)"
    )
    parser.add_argument("--base", type=number, default=0x10000, metavar="ADDRESS", help="default: 0x10000")
    parser.add_argument("--raw", action="store_true", help="write bytes from the first section on, not ELF")
    parser.add_argument(
        "--syntax", default="", metavar="DIALECT", help="the dialect of the source (x86: att)"
    )


def run(arguments: argparse.Namespace) -> int:
    from runtime.assembly.assembler import Assembler
    from runtime.assembly.program import Program

    syntax = load_syntax(arguments.target)
    if arguments.source == "-":
        name, source = "<stdin>", sys.stdin.buffer.read()
    else:
        name, source = arguments.source, Path(arguments.source).read_bytes()
    try:
        text = source.decode()
    except UnicodeDecodeError as error:
        raise IsagenError("it isn't a text in UTF-8", where=f"{name}: byte {error.start}") from None
    image = Program(Assembler(syntax, arguments.syntax), base=arguments.base).assemble(text, name)
    if arguments.output is None:
        print_listing(image, syntax, arguments.syntax)
        return 0
    data = image.flat() if arguments.raw else executable(image, syntax)
    output = Path(arguments.output)
    output.write_bytes(data)
    if not arguments.raw:
        output.chmod(0o755)
    return 0


def executable(image: Image, syntax: Syntax) -> bytes:
    """The image as an ELF executable."""
    from runtime.elf import constants as c
    from runtime.elf.writer import OutputSection, write_executable

    bits = {"a": c.SHF_ALLOC, "w": c.SHF_WRITE, "x": c.SHF_EXECINSTR}
    sections = [
        OutputSection(
            s.name,
            sum(bits[letter] for letter in s.flags),
            s.address,
            s.size,
            bytes(s.data) if s.contents else None,
        )
        for s in image.sections
    ]
    return write_executable(
        sections,
        bits=syntax.elf_class,
        little_endian=not syntax.big_endian,
        machine=syntax.elf_machine,
        entry=image.entry,
        flags=_ELF_FLAGS.get(syntax.elf_machine, 0),
        symbols=image.symbols,
        global_symbols=image.global_symbols,
    )


def print_listing(image: Image, syntax: Syntax, dialect: str) -> None:
    """Address, bytes and text of what was assembled."""
    from isagen.listing import lines

    for section in image.sections:
        if "x" in section.flags:
            labels = {value: name for name, value in image.symbols.items()}
            for line in lines(syntax, bytes(section.data), section.address, labels, dialect):
                print(line)
        elif section.contents:
            print(f"{section.name}:")
            for offset in range(0, section.size, 16):
                print(f"{section.address + offset:8x}:  {section.data[offset : offset + 16].hex(' ')}")
