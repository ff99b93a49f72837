"""Boards that start with a program of a test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from isagen.generated import is_built
from isagen.machine import build
from machines.settings import settings_from
from machines.virt import Virt


def board(tmp_path: Path, code: str, **settings: Any) -> Virt:
    """A board that starts with an assembled program as its firmware, at 0x80000000 in machine mode."""
    from isagen.cli import main

    name = settings.setdefault("board", "virt")
    target = {"virt": "riscv64", "virt32": "riscv32"}[name]
    if not is_built(target):
        main(["build", target])
    source, image = tmp_path / "firmware.s", tmp_path / "firmware.bin"
    source.write_text(code)
    words = ["--base", "0x80000000", "--raw", "-o", str(image), target, str(source)]
    assert main(["asm", *words]) == 0
    return build(settings_from({"bios": str(image), **settings}))


def text_of(board: Virt) -> bytearray:
    text = bytearray()
    board.serial.output = text.extend
    return text


POWER_OFF = """
        lui   t0, 0x100
        lui   t1, 0x5
        addi  t1, t1, 0x555
        sw    t1, 0(t0)
hang:   j     hang
"""

HELLO = (
    """
        lui   s0, 0x10000
        addi  t1, zero, 'H'
        sb    t1, 0(s0)
        addi  t1, zero, 'i'
        sb    t1, 0(s0)
"""
    + POWER_OFF
)
