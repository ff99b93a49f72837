"""Hostile guests in processes of their own: they may end as they like, but not take the host along."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.cpu.engine import TargetPackage

CHECKOUT = Path(__file__).resolve().parents[3]


def fuzz(folder: Path, first: int, count: int) -> None:
    """Run guests `first` to ``first + count - 1`` of the target in `folder`; fails where the process dies or
    hangs.
    """
    command = [sys.executable, "-m", "tests.runtime.cpu.fuzz", str(folder), str(first), str(count)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stderr[-2000:]}"
    assert done.stdout.startswith(str(count))


def test_the_toy(toy: TargetPackage) -> None:
    fuzz(toy.directory, 0, 500)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["riscv64", "sparc", "x86_64"])
def test_real_targets(built: Callable[[str], Path], name: str) -> None:
    fuzz(built(name), 0, 1500)
