"""Every form's fixed bits against the table of encodings that RISC-V International keeps."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest

from generator.ir.decode import Illegal
from tests.isa.riscv.hart import CODE, Hart

# the table's files: rv_NAME for both widths, rv32_NAME and rv64_NAME
COMMON = "i m a f d c zicsr zifencei zba zbb zbc zbs zbkb zfh zicond zcb s system c_d d_zfhmin zfhmin"
ONLY = {32: "c c_f zbb zbkb zbs i zicntr", 64: "i m a f d c zba zbb zbkb zbs zfh zcb"}


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
            words[0] = words[0].removesuffix(".rv32").removesuffix("_rv32")
            mask = value = 0
            for word in words[1:]:
                place, _, number = word.partition("=")
                if not place.replace("..", "").isdigit():
                    continue
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
    """The listed bits, with all others 1, are that instruction; with any one of them changed they are not."""
    hart = Hart(xlen)
    hart["fs_on"] = 1
    table = listed(vectors, xlen)
    names = {form.mnemonic for form in hart.evaluator.target.forms}
    wrong = []
    compared = 0

    def decoded(word: int) -> str:
        hart.poke(CODE, word, 4)
        found = hart.evaluator.decode(hart.state)
        return "" if isinstance(found, Illegal) else found.form.mnemonic

    for name, (mask, value) in table.items():
        if name not in names:
            continue
        compared += 1
        width = 32 if value & 3 == 3 else 16
        word = value | ~mask & (1 << width) - 1
        if decoded(word) != name:
            wrong.append(f"{word:#x} is listed as {name}, decoded as {decoded(word) or 'illegal'}")
        for bit in range(2, width):
            if mask >> bit & 1 and decoded(word ^ 1 << bit) == name:
                wrong.append(f"{word ^ 1 << bit:#x} is {name} although bit {bit} differs")
    assert not wrong, "\n".join(wrong)
    assert compared > 200
    unlisted = {name for name in names - table.keys() if "." not in name}
    assert not unlisted - {"pause", "sret", "wfi", "mret"}, unlisted
