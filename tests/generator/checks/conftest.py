"""Spec texts to targets, and the shipped targets, each loaded once."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from generator.language.source import Source
from generator.load import load_sources, load_target
from generator.model.target import Target

SPECS = Path(__file__).resolve().parents[3] / "isa"

HEAD = """isa toy le unit 32
target toy { } elf 243 class 32
regs x[32] : bits(32) zero 0
reg  pc : bits(32)
operand rd, rs1, rs2 (n: 5) = x[n]
"""


def _toy(text: str, head: str = HEAD) -> Target:
    return load_sources([Source("toy.isa", head + text)], "toy")


@pytest.fixture(scope="session")
def toy() -> Callable[..., Target]:
    """``toy(text)``: a target with registers x[32] and operands rd, rs1, rs2, plus `text`."""
    return _toy


@cache
def _shipped(family: str, name: str) -> Target:
    return load_target(SPECS, family, name)


@pytest.fixture(scope="session")
def shipped() -> Callable[[str, str], Target]:
    """``shipped(family, name)``: a target of the shipped specs."""
    return _shipped


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests with an argument `target_name` run for every shipped target."""
    if "target_name" in metafunc.fixturenames:
        # By their text, so that a wrong spec fails its tests and not the collection of all.
        names = [
            (path.parent.name, name)
            for path in sorted(SPECS.glob("*/*.isa"))
            for name in re.findall(r"^target (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        ]
        metafunc.parametrize("target_name", names, ids=[name for _, name in names])
