"""A bare target that tests fill with what they need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from generator.model.target import InstructionSet, Register, Span, Target

HERE = Span(file="test.isa", line=1, column=1)


def _bare_target(**parts: Any) -> Target:
    """A little-endian target with registers x[8] (x[0] is zero), f and pc, all of 32 bits."""
    values: dict[str, Any] = {
        "name": "toy",
        "family": "toy",
        "parameters": (),
        "big_endian": False,
        "little_when": None,
        "msb0": False,
        "float_policy": "riscv",
        "elf_machine": 0,
        "elf_class": 32,
        "features": (),
        "default_features": (),
        "pc_width": 32,
        "sets": (InstructionSet(name="toy", unit=32, stream=False, when=None),),
        "registers": (
            Register(name="x", width=32, count=8, zero=0, span=HERE),
            Register(name="f", width=1, span=HERE),
            Register(name="pc", width=32, span=HERE),
        ),
        "contexts": (),
        "prefixes": (),
        "banks": (),
        "enums": (),
        "traps": (),
        "functions": (),
        "forms": (),
        "aliases": (),
        "examples": (),
        "sources": (),
    }
    return Target(**{**values, **parts})


@pytest.fixture(scope="session")
def bare_target() -> Callable[..., Target]:
    """``bare_target(registers=..., contexts=...)``: see `_bare_target`."""
    return _bare_target
