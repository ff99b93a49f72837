"""Programs that check themselves, and signatures, from a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.results import Row
from conformance.setup import Setup
from conformance.suites import elf
from conformance.tasks import Options, Task
from isagen.cli import main
from runtime.errors import IsagenError

SOURCE = """
    .text
    .globl _start
_start:
    li a0, {value}
    la t1, begin_signature
    sw a0, 0(t1)
    sw a0, 4(t1)
    li t2, {code}
    la t0, tohost
    sd t2, 0(t0)
stay:
    j stay
    .data
    .align 12
    .globl tohost
tohost:
    .dword 0
    .align 12
    .globl begin_signature
begin_signature:
    .word 0
    .word 0
    .globl end_signature
end_signature:
    .word 0
"""


@pytest.fixture
def folder(setup_of: Callable[[str], Setup], tmp_path: Path) -> Path:
    """good and bad check themselves; same and other have signatures; a text file and a broken file are there
    too.
    """
    setup_of("riscv64")
    for name, value, code in (("good", 7, 1), ("bad", 7, 5), ("same", 0x234, 1), ("other", 0x234, 1)):
        source = tmp_path / f"{name}.s"
        source.write_text(SOURCE.format(value=value, code=code))
        words = ["asm", "riscv64", str(source), "--base", "0x80000000", "-o", str(tmp_path / f"{name}.elf")]
        assert main(words) == 0
    (tmp_path / "same.reference_output").write_text("00000234\n00000234\n")
    (tmp_path / "other.elf.signature").write_text("00000234\n00000235\n")
    (tmp_path / "broken").write_bytes(b"\x7fELF and nothing more")
    return tmp_path


def rows_in(setup: Setup, folder: Path) -> dict[str, Row]:
    options = Options(elf=str(folder))
    names = elf.items(setup, options)
    return {row.name: row for row in elf.run(Task("elf", setup, options, tuple(names)))}


def test_programs(setup_of: Callable[[str], Setup], folder: Path) -> None:
    rows = rows_in(setup_of("riscv64"), folder)
    assert sorted(rows) == ["bad.elf", "good.elf", "other.elf", "same.elf"]
    assert {name: row.failed for name, row in rows.items()} == {
        "bad.elf": 1,
        "good.elf": 0,
        "other.elf": 1,
        "same.elf": 0,
    }
    assert "code 2" in rows["bad.elf"].failures[0].details[0]
    assert "word 1: 00000234, reference 00000235" in rows["other.elf"].failures[0].details
    assert rows["same.elf"].counts["signatures"] == 1


def test_an_empty_folder_is_an_error(setup_of: Callable[[str], Setup], tmp_path: Path) -> None:
    with pytest.raises(IsagenError, match="no ELF file"):
        elf.items(setup_of("riscv64"), Options(elf=str(tmp_path)))
