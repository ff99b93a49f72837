"""Instructions with known results, where the data is: dingusppc's integer rows and Xenia's."""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.isa.ppc.machine import SF_OFF, Machine

# Xenia expects the sign in the upper word of mulhw, which the manual leaves undefined (Book I 3.3.9).
UNDEFINED = "instr_mulhw.s"


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with lzma.open(path, "rt") as lines:
        for line in lines:
            yield json.loads(line)


def test_dingusppc_integer_rows(vectors: Path) -> None:
    wrong, compared = [], 0
    for row in rows(vectors / "ppc" / "state-dingusppc.jsonl.xz"):
        if "ppcinttests" not in row["id"]:
            continue
        machine = Machine("ppc")
        for name, text in row["init"].items():
            if name.startswith("r"):
                machine.r[int(name[1:])] = int(text, 0)
            else:
                machine[name] = int(text, 0)
        left = machine.run(int(row["bytes"], 16))
        got = {name: machine.r[3] if name == "r3" else machine[name] for name in row["final"]}
        compared += 1
        if left is not None or got != {name: int(text, 0) for name, text in row["final"].items()}:
            wrong.append(f"{row['id']} {row['mnem']} {row['init']}: {left} {got}, not {row['final']}")
    assert not wrong, f"{len(wrong)} of {compared}\n" + "\n".join(wrong[:20])
    assert compared > 2500


def test_xenia_integer_rows(vectors: Path) -> None:
    """64-bit registers, but 32-bit mode: what the expected CR and CA show."""
    wrong, compared = [], 0
    for row in rows(vectors / "ppc" / "state-xenia.jsonl.xz"):
        names = {*row["init"], *row["final"]}
        if not row.get("bytes") or UNDEFINED in row["id"]:
            continue
        if any(not re.fullmatch(r"r\d+|cr", name) for name in names):
            continue
        machine = Machine("ppc64")
        machine["msr"] = SF_OFF

        def value(text: str, machine: Machine = machine) -> int:
            return int(text.rstrip("ul"), 0) & machine.mask

        for name, text in row["init"].items():
            machine.r[int(name[1:])] = value(text)
        code = bytes.fromhex(row["bytes"])
        left = machine.run(*(int.from_bytes(code[at : at + 4]) for at in range(0, len(code), 4)))
        got = {name: machine["cr"] if name == "cr" else machine.r[int(name[1:])] for name in row["final"]}
        compared += 1
        if left is not None or got != {name: value(text) for name, text in row["final"].items()}:
            wrong.append(f"{row['id']} {row['asm']} {row['init']}: {left} {got}, not {row['final']}")
    assert not wrong, f"{len(wrong)} of {compared}\n" + "\n".join(wrong[:20])
    assert compared > 480
