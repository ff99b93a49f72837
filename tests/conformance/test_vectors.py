"""Recorded results: right, wrong and undescribed rows are told apart (with rows of our own making)."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from conformance.results import Row
from conformance.setup import Setup
from conformance.suites import vectors as suite
from conformance.tasks import Options, Task
from runtime.errors import IsagenError

STATES = [
    {"id": "right", "asm": "add a0, a1, a2", "bytes": "3385c500", "in": {"a1": "0x2", "a2": "0x3"},
     "out": {"a0": "0x5"}},
    {"id": "wrong", "asm": "add a0, a1, a2", "bytes": "3385c500", "in": {"a1": "0x2", "a2": "0x3"},
     "out": {"a0": "0x6"}},
    {"id": "flags", "asm": "fdiv.s fa0, fa1, fa2", "bytes": "5385c518",
     "in": {"fa1": "0xffffffff3f800000", "fa2": "0xffffffff00000000"}, "out": {"fcsr": "0x8"}},
    {"id": "vector", "asm": "vadd.vv v1, v2, v3", "bytes": "d7802102", "in": {}, "out": {"a0": "0x0"}},
    {"id": "stored", "asm": "sb a1, 3(a0)", "bytes": "a301b500", "in": {"a0": "&area_mid", "a1": "0x1ff"},
     "notes": ["[3] ff"]},
]  # fmt: skip
DECODED = [
    {"id": "right", "mode": "rv64", "bytes": "3385c500", "asm": "add a0, a1, a2"},
    {"id": "spaced", "mode": "rv64", "bytes": "13858500", "asm": "addi\ta0,a1,8   # eight"},
    {"id": "otherwise", "mode": "rv64", "bytes": "13850500", "asm": "addi a0, a1, 0"},
    {"id": "wrong", "mode": "rv64", "bytes": "3385c500", "asm": "add a0, a1, a3"},
    {"id": "narrow", "mode": "rv32", "bytes": "3385c500", "asm": "add a0, a1, a2"},
    {"id": "vector", "mode": "rv64", "bytes": "d7802102", "asm": "vadd.vv v1, v2, v3"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "riscv").mkdir()
    for name, rows in (("state-valgrind", STATES), ("decode", DECODED)):
        with lzma.open(tmp_path / "riscv" / f"{name}.jsonl.xz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return tmp_path


def run(setup: Setup, folder: Path) -> dict[str, Row]:
    options = Options(vectors=str(folder))
    names = suite.items(setup, options)
    return {row.name: row for row in suite.run(Task("vectors", setup, options, tuple(names)))}


def test_rows_are_told_apart(setup_of: Callable[[str], Setup], folder: Path) -> None:
    rows = run(setup_of("riscv64"), folder)
    states, decoded = rows["riscv/state-valgrind:0"], rows["riscv/decode:0"]
    assert (states.cases, states.failed, states.counts) == (4, 1, {"not described": 1})
    assert states.failures[0].text.startswith("wrong")
    assert any("recorded 0x6, evaluator 0x5" in line for line in states.failures[0].details)
    assert any("recorded 0x6, engine 0x5" in line for line in states.failures[0].details)
    assert (decoded.cases, decoded.failed, decoded.counts) == (4, 1, {"other mode": 1, "not described": 1})
    assert decoded.failures[0].text.startswith("wrong")


def test_the_open_rows_pass(setup_of: Callable[[str], Setup], vectors: Path) -> None:
    rows = run(setup_of("riscv64"), vectors)
    assert not [(row.name, failure) for row in rows.values() for failure in row.failures]
    assert rows["riscv/state-valgrind:0"].cases > 800
    assert rows["riscv/decode:0"].cases > 800


def test_absent_and_damaged_folders(setup_of: Callable[[str], Setup], tmp_path: Path) -> None:
    setup = setup_of("riscv64")
    with pytest.raises(IsagenError, match="no vectors"):
        suite.items(setup, Options(vectors=str(tmp_path)))
    (tmp_path / "riscv").mkdir()
    (tmp_path / "riscv" / "decode.jsonl.xz").write_bytes(b"no xz at all")
    with pytest.raises(IsagenError, match="can't be read"):
        suite.items(setup, Options(vectors=str(tmp_path)))
