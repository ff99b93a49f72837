"""Instructions with known results (what valgrind's RISC-V tests printed on a machine), where the data is."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

from tests.isa.riscv.hart import CODE, Hart

AREA = 0x8010_0000
MISTAKEN = {"c.addi4spn a5, sp, 4"}  # the row tells a0, which the instruction does not write


def test_valgrind_rows(vectors: Path) -> None:
    hart = Hart(64)
    names = {name: i for i, name in enumerate(hart.evaluator.registers["x"].names)}
    floats = {name: i for i, name in enumerate(hart.evaluator.registers["f"].names)}
    wrong, compared = [], 0
    with lzma.open(vectors / "riscv" / "state-valgrind.jsonl.xz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        inputs = {k: AREA if v == "&area_mid" else v for k, v in row.get("in", {}).items()}
        if row["asm"] in MISTAKEN:
            continue
        outputs = row.get("out", {})
        numeric = all(isinstance(v, int) or v.startswith("0x") for v in (*inputs.values(), *outputs.values()))
        notes = row.get("notes", [])
        if "bytes" not in row or not numeric or any("target" in n or "branch" in n for n in notes):
            continue  # addresses within valgrind's test program
        mnemonic = row["asm"].split()[0]
        if AREA in inputs.values() and not mnemonic.removeprefix("c.").startswith(("s", "fs")):
            continue  # loads what the row does not tell
        hart.state = hart.evaluator.reset(hart.memory)
        hart.memory.bytes.clear()
        hart["fs_on"], hart.state.pc = 1, CODE
        for name, text in inputs.items():
            value = text if isinstance(text, int) else int(text, 16)
            if name == "fcsr":
                hart["fflags"], hart["frm"] = value & 31, value >> 5 & 7
            elif name in floats:
                hart.state.files["f"][floats[name]] = value
            elif name != "zero":
                hart.state.files["x"][names[name]] = value
        if mnemonic.startswith("sc") and notes:  # it stored: after a load-reserved
            hart["reserved"], hart["reservation"] = 1, AREA
        hart.memory.poke(CODE, bytes.fromhex(row["bytes"]))
        outcome = hart.step()
        got = {
            name: hart["frm"] << 5 | hart["fflags"]
            if name == "fcsr"
            else hart.state.files["f"][floats[name]]
            if name in floats
            else hart.state.files["x"][names[name]]
            for name in outputs
        }
        expected = {name: int(text, 16) for name, text in outputs.items()}
        for note in notes:
            if note.startswith("["):
                offset, _, contents = note[1:].partition("]")
                for i, byte in enumerate(contents.split()):
                    if byte != "..":
                        where = AREA + int(offset) + i
                        expected[hex(where)] = int(byte, 16)
                        got[hex(where)] = hart.memory.bytes.get(where, 0)
        compared += 1
        if outcome is not None or got != expected:
            wrong.append(f"{row['id']} {row['asm']} {row.get('in')}: {outcome} {got}, not {expected}")
    assert not wrong, f"{len(wrong)} of {compared}\n" + "\n".join(wrong[:20])
    assert compared > 800
