"""Every form's fixed bits against the table of encodings that RISC-V International keeps."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from generator.model.target import Form
from tests.isa.riscv.hart import target

# the table's files: rv_NAME for both widths, rv32_NAME and rv64_NAME
COMMON = "i m a f d c zicsr zifencei zba zbb zbc zbs zbkb zfh zicond zcb s system c_d d_zfhmin zfhmin"
ONLY = {32: "c c_f zbb zbkb zbs i zicntr", 64: "i m a f d c zba zbb zbkb zbs zfh zcb"}
# written there as a form of its own, here an alias of a more general one
ALIASES = {"c.nop", "fmv.x.s", "fmv.s.x"}


def fixed_bits(form: Form) -> tuple[int, int, int]:
    """Mask, value and width of what the picture fixes."""
    mask = value = width = 0
    for piece in form.picture:
        mask, value, width = mask << piece.width, value << piece.width, width + piece.width
        if piece.kind == "fixed":
            mask |= (1 << piece.width) - 1
            value |= piece.value
    return mask, value, width


def listed(vectors: Path, xlen: int) -> dict[str, tuple[int, int]]:
    """Mnemonic -> mask and value, for the extensions of our targets."""
    files = {f"rv_{name}" for name in COMMON.split()} | {f"rv{xlen}_{name}" for name in ONLY[xlen].split()}
    found: dict[str, tuple[int, int]] = {}
    with lzma.open(vectors / "riscv" / "opcodes-table.jsonl.xz", "rt") as lines:
        for line in lines:
            row = json.loads(line)
            words = row["row"].split()
            pseudo = words[0] == "$pseudo_op"
            if row["ext"] not in files or words[0] == "$import":
                continue
            words = words[2:] if pseudo else words
            mask = value = 0
            for word in words[1:]:
                if "=" not in word:
                    continue
                place, _, number = word.partition("=")
                high, _, low = place.partition("..")
                low = low or high
                ones = (1 << int(high) - int(low) + 1) - 1
                mask |= ones << int(low)
                value |= int(number, 0) << int(low)
            if not pseudo or words[0] not in found:
                found[words[0]] = (mask, value)
    return found


@pytest.mark.parametrize("xlen", [32, 64])
def test_fixed_bits(vectors: Path, xlen: int) -> None:
    table = listed(vectors, xlen)
    compared = 0
    wrong = []
    for form in target(f"riscv{xlen}").forms:
        name = form.mnemonic.replace("{aqrl}", "")
        if name not in table or name in ALIASES:
            continue
        mask, value, width = fixed_bits(form)
        assert width == (16 if value & 3 != 3 else 32), form.name
        if (mask, value) != table[name]:
            wrong.append(f"{form.name}: {mask:#x}/{value:#x}, listed {table[name][0]:#x}/{table[name][1]:#x}")
        compared += 1
    assert not wrong, "\n".join(wrong)
    assert compared > 250
