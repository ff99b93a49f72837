"""The ELF writer: what it writes, our reader and readelf read back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.elf import parse_elf
from runtime.elf.writer import OutputSection, write_executable

SECTIONS = [
    OutputSection(".text", 2 | 4, 0x10000, 6, b"\x01\x02\x03\x04\x05\x06"),
    OutputSection(".data", 2 | 1, 0x11008, 3, b"abc"),
    OutputSection(".bss", 2 | 1, 0x12000, 100, None),
    OutputSection(".comment", 0, 0, 2, b"hi"),
]


def written(bits: int, little: bool) -> bytes:
    return write_executable(
        SECTIONS,
        bits=bits,
        little_endian=little,
        machine=243,
        entry=0x10002,
        symbols={"_start": 0x10002, "local": 0x11009, "number": 5},
        global_symbols=frozenset({"_start"}),
    )


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("little", [True, False])
def test_read_back(bits: int, little: bool) -> None:
    elf = parse_elf(written(bits, little))
    assert (elf.bits, elf.little_endian, elf.entry, elf.machine) == (bits, little, 0x10002, 243)
    text, data, bss = elf.segments
    assert elf.segment_data(text) == b"\x01\x02\x03\x04\x05\x06" and text.flags == 5
    assert elf.segment_data(data) == b"abc" and data.flags == 6 and data.address == 0x11008
    assert (bss.file_size, bss.memory_size) == (0, 100)
    assert all(s.offset % 0x1000 == s.address % 0x1000 for s in elf.segments)
    symbols = {s.name: (s.value, s.binding, s.section) for s in elf.symbols() if s.name}
    assert symbols == {"_start": (0x10002, 1, 1), "local": (0x11009, 0, 2), "number": (5, 0, 0xFFF1)}


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("little", [True, False])
def test_readelf_finds_nothing_wrong(
    bits: int, little: bool, tmp_path: Path, require_tool: Callable[..., str]
) -> None:
    file = tmp_path / "program"
    file.write_bytes(written(bits, little))
    done = subprocess.run([require_tool("readelf"), "-aW", file], capture_output=True, text=True, check=True)
    assert "Warning" not in done.stderr + done.stdout
    assert "Error" not in done.stderr
    assert "_start" in done.stdout
