"""The target descriptions, judged by gdb itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from generator.emit.registers import target_description
from generator.load import load_target

SPECS = Path(__file__).resolve().parents[3] / "isa"


@pytest.mark.parametrize(
    ("family", "target", "register", "size"),
    [("riscv", "riscv32", "fp", 4), ("riscv", "riscv64", "ft11", 8)],
)
def test_gdb_takes_the_description(
    tmp_path: Path, require_tool: Callable[..., str], family: str, target: str, register: str, size: int
) -> None:
    gdb = require_tool("gdb-multiarch")
    path = tmp_path / "target.xml"
    path.write_text(target_description(load_target(SPECS, family, target)))
    done = subprocess.run(
        [gdb, "-q", "-nx", "-batch", "-ex", f"set tdesc filename {path}", "-ex", "maint print registers"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "warning" not in done.stderr.lower()
    row = next(line.split() for line in done.stdout.splitlines() if line.split()[:1] == [register])
    assert int(row[4]) == size


@pytest.mark.parametrize(
    ("family", "target", "group"),
    [("riscv", "riscv64", "org.gnu.gdb.riscv.cpu"), ("sparc", "sparc", "org.isagen.sparc")],
)
def test_every_register_stands_once(family: str, target: str, group: str) -> None:
    root = ElementTree.fromstring(target_description(load_target(SPECS, family, target)))
    names = [reg.attrib["name"] for reg in root.iter("reg")]
    assert root.find(f"feature[@name='{group}']") is not None
    assert len(names) == len(set(names)) > 32
    assert "pc" in names
