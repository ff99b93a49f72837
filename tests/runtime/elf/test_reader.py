"""The ELF reader: real files of each kind agree with readelf; damaged ones give one clear error."""

from __future__ import annotations

import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.elf import ElfError, open_elf, parse_elf

PYTHON = Path(sys.executable).resolve()


def tiny(bits: int, order: str, file_size: int = 4, memory_size: int = 8) -> bytes:
    """An executable with one segment of 4 bytes, written by hand from the gABI's tables."""
    code = b"\x01\x02\x03\x04"
    if bits == 64:
        header = struct.pack(order + "HHIQQQIHHHHHH", 2, 243, 1, 0x10000, 64, 0, 5, 64, 56, 1, 64, 0, 0)
        segment = struct.pack(order + "IIQQQQQQ", 1, 5, 120, 0x10078, 0, file_size, memory_size, 0x1000)
    else:
        header = struct.pack(order + "HHIIIIIHHHHHH", 2, 243, 1, 0x10000, 52, 0, 5, 52, 32, 1, 40, 0, 0)
        segment = struct.pack(order + "IIIIIIII", 1, 84, 0x10054, 0, file_size, memory_size, 5, 0x1000)
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    return ident + header + segment + code


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_classes_and_orders(bits: int, order: str) -> None:
    elf = parse_elf(tiny(bits, order))
    assert (elf.bits, elf.little_endian, elf.machine, elf.entry) == (bits, order == "<", 243, 0x10000)
    (segment,) = elf.segments
    assert (segment.address, segment.file_size, segment.memory_size, segment.flags) == (
        0x10000 + segment.offset,
        4,
        8,
        5,
    )
    assert elf.segment_data(segment) == b"\x01\x02\x03\x04"
    assert elf.sections == ()
    assert elf.interpreter is None


def test_agrees_with_readelf(require_tool: Callable[..., str]) -> None:
    readelf = require_tool("readelf")
    elf = open_elf(PYTHON)
    output = subprocess.run([readelf, "-SWl", PYTHON], capture_output=True, text=True, check=True).stdout
    loads = re.findall(r"LOAD\s+(0x\w+) (0x\w+) 0x\w+ (0x\w+) (0x\w+)", output)
    ours = [s for s in elf.segments if s.type == 1]
    assert loads
    assert [(s.offset, s.address, s.file_size, s.memory_size) for s in ours] == [
        tuple(int(number, 16) for number in row) for row in loads
    ]
    names = re.findall(r"^\s*\[ *\d+\] (\.\S+)", output, re.MULTILINE)
    assert [s.name for s in elf.sections if s.name] == names
    interpreter = re.search(r"interpreter: (\S+)\]", output)
    assert interpreter and elf.interpreter == interpreter[1]


def test_symbols(require_tool: Callable[..., str], tmp_path: Path) -> None:
    compiler = require_tool("riscv64-linux-gnu-gcc")
    source = tmp_path / "a.c"
    source.write_text("int counter = 3; static int hidden; int _start(void) { return counter + hidden++; }")
    subprocess.run([compiler, "-nostdlib", "-static", "-o", tmp_path / "a", source], check=True)
    symbols = {symbol.name: symbol for symbol in open_elf(tmp_path / "a").symbols()}
    assert symbols["counter"].size == 4 and symbols["counter"].type == 1
    assert symbols["_start"].type == 2
    assert open_elf(tmp_path / "a").symbol_values["_start"] == open_elf(tmp_path / "a").entry


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b"#!/bin/sh\n" * 20, "not an ELF file"),
        (lambda b: b[:10], "not an ELF file"),
        (lambda b: b[:60], "the file has 60 bytes, fewer than an ELF header"),
        (lambda b: b[:4] + b"\x07" + b[5:], "EI_CLASS at offset 0x4: class 7"),
        (lambda b: b[:5] + b"\x03" + b[6:], "EI_DATA at offset 0x5: data encoding 3"),
        (lambda b: b[:56] + b"\xff\x0f" + b[58:], "program headers at offset 0x40: it has 229320 bytes"),
        (lambda b: b[:54] + b"\x10\x00" + b[56:], "e_phentsize is 16, not 56"),
        (lambda b: tiny(64, "<", 4 << 40, 8 << 40), "p_offset 0x78 + p_filesz 0x40000000000 lies beyond"),
        (lambda b: tiny(64, "<", 4, 2), "p_filesz 0x4 is more than p_memsz 0x2"),
        (lambda b: tiny(64, "<", 4, 2**64 - 1), "is beyond the address space"),
        (lambda b: b[:0x70] + struct.pack("<Q", 3) + b[0x78:], "p_align 0x3 is not a power of two"),
    ],
)
def test_malformed(change: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(ElfError) as error:
        parse_elf(change(tiny(64, "<")), "prog")
    assert message in str(error.value)
    assert str(error.value).startswith("prog:")


def test_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(ElfError, match="directory"):
        open_elf(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ElfError, match="not a regular file"):
        open_elf(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        open_elf(tmp_path / "none")


def exercise(data: bytes) -> None:
    """Read everything the reader offers; only `ElfError` may come out."""
    try:
        elf = parse_elf(data)
        _ = elf.interpreter
        for segment in elf.segments:
            if segment.type == 1:
                elf.segment_data(segment)
        _ = elf.symbol_values
    except ElfError as error:
        assert str(error)  # one message, with its place


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([32, 64]), st.sampled_from(["<", ">"]))
def test_random_tails(tail: bytes, bits: int, order: str) -> None:
    head = tiny(bits, order)[:20]
    exercise(head + tail)


def test_damaged_bytes() -> None:
    """Corrupt headers of a real file a thousand ways: no other exception, no large allocation."""
    original = PYTHON.read_bytes()
    if len(original) > 1 << 22:
        original = Path("/bin/true").read_bytes()
    chance = random.Random(4)
    sections_at = struct.unpack_from("<Q", original, 40)[0]
    places = [*range(4, 64 + 56 * 12), *range(sections_at, len(original))]
    for _ in range(1000):
        data = bytearray(original)
        for _ in range(chance.randint(1, 4)):
            data[chance.choice(places)] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)])
        exercise(bytes(data))
