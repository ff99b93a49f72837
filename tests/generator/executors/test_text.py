"""The generated modules are Python as people write it: formatted, without lint, and they say where from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from generator.emit.executors import emit_executors
from generator.emit.layout import place
from generator.ir.specialise import specialise
from generator.load import load_target

ROOT = Path(__file__).resolve().parents[3] / "isa"
LENGTH = ("--line-length", "110", "--isolated")


def generated(family: str, name: str, folder: Path) -> dict[str, str]:
    target = load_target(ROOT, family, name)
    files = emit_executors(target, specialise(target), place(target))
    for file, text in files.items():
        (folder / file).write_text(text)
    return files


@pytest.mark.parametrize(("family", "name"), [("riscv", "riscv64"), ("sparc", "sparc"), ("x86", "i8086")])
def test_generated_code_is_formatted_and_clean(family: str, name: str, tmp_path: Path) -> None:
    files = generated(family, name, tmp_path)
    for command in (
        ("format", "--check", *LENGTH),
        (
            "check",
            *LENGTH,
            "--select",
            "E,F,W,I,UP,B,C4",
            "--config",
            'lint.isort.known-first-party=["runtime"]',
        ),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", str(tmp_path)],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert set(files) == {"executors.py", "functions.py"}


def test_every_executor_names_its_instructions_and_their_place(tmp_path: Path) -> None:
    text = generated("riscv", "riscv64", tmp_path)["executors.py"]
    parts = re.split(r"^def ", text, flags=re.MULTILINE)[1:]
    assert len(parts) > 200
    for part in parts:
        lines = part.splitlines()
        assert re.fullmatch(r"\w+\(cpu: int, record: int, tlb: int\) -> int:", lines[0])
        assert re.fullmatch(r' {4}""".+\."""', lines[1])
        assert re.fullmatch(r" {4}# isa/riscv/\w+\.isa:\d+", lines[2])
    assert 'def addi(cpu: int, record: int, tlb: int) -> int:\n    """addi, c.addi' in text


def test_the_same_specs_give_the_same_text(tmp_path: Path) -> None:
    assert generated("sparc", "sparc", tmp_path) == generated("sparc", "sparc", tmp_path)
